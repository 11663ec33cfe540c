//! See `stagewright_properties::lock`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stagewright_properties::lock::check(input));
