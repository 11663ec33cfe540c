//! See `stagewright_properties::process`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stagewright_properties::process::check(input));
