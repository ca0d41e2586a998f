//! `make fuzz` runs this; [`tidegate_fuzz::signed_header`] says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::signed_header::check(data));
