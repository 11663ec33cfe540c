//! See `stagewright_properties::expression`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stagewright_properties::expression::check(input));
