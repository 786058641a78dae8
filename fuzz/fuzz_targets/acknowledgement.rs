#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sonata_fuzz::acknowledgement_is_read_or_refused(input));
