#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sonata_fuzz::header_is_searched_and_changed(input));
