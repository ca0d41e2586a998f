//! `make fuzz` runs this; [`tidegate_fuzz::post_policy`] says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::post_policy::check(data));
