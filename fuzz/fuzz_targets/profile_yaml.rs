#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ops_fuzzing::profile_yaml(data));
