#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sonata_fuzz::disk::journal_gives_back_what_was_written(input));
