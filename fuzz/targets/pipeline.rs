//! See `stagewright_properties::pipeline`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stagewright_properties::pipeline::check(input));
