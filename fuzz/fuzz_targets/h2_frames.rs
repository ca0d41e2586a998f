//! `make fuzz` runs this; [`tidegate_fuzz::h2_frames`] says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::h2_frames::check(data));
