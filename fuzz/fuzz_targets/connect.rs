#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sonata_fuzz::connect_is_applied_or_refused(input));
