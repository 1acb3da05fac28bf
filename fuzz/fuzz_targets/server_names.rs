#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ops_fuzzing::server_names(data));
