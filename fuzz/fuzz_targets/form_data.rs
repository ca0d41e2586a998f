//! `make fuzz` runs this; [`tidegate_fuzz::form_data`] says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::form_data::check(data));
