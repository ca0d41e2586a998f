//! `make fuzz` runs this; [`tidegate_fuzz::cors`] says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::cors::check(data));
