#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sonata_fuzz::parser_agrees_however_the_bytes_are_cut(input));
