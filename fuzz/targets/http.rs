//! See `stagewright_properties::http`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stagewright_properties::http::check(input));
