//! `make fuzz` runs this; [`tidegate_fuzz::invalidation`] says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::invalidation::check(data));
