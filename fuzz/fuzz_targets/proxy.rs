#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sonata_fuzz::proxy_header_is_decided_once(input));
