//! `make fuzz` runs this; [`tidegate_fuzz::stored_form`] says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::stored_form::check(data));
