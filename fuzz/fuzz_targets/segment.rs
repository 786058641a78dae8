#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sonata_fuzz::disk::segments_serve_what_was_written_or_say_what_is_lost(input));
