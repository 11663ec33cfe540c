//! See `stagewright_properties::mask`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stagewright_properties::mask::check(input));
