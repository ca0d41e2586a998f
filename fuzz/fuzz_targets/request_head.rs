//! `make fuzz` runs this; [`tidegate_fuzz::request_head`] says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::request_head::check(data));
