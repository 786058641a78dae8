#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sonata_fuzz::disk::stream_state_is_read_or_refused(input));
