//! `make fuzz` runs this; [`tidegate_fuzz::request_h2`] says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::request_h2::check(data));
