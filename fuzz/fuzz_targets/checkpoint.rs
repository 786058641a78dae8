#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sonata_fuzz::disk::checkpoint_serves_what_was_written(input));
