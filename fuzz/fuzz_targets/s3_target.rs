//! `make fuzz` runs this; [`tidegate_fuzz::s3_target`] says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::s3_target::check(data));
