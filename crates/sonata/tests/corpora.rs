//! The corpora of `fuzz/`, replayed without a fuzzer: what was found once stays found.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "shown beside a failure: which file")]

#[allow(unreachable_pub, reason = "public for the crate of the fuzzer, which has the same file")]
#[path = "../../../fuzz/src/lib.rs"]
mod promises;

use std::path::Path;

fn replay(target: &str, at_least: usize, promise: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // The name of the file stands above the panic that it causes.
        println!("{}", path.file_name().unwrap().display());
        promise(&std::fs::read(&path).unwrap());
        files += 1;
    }
    assert!(files >= at_least, "only {files} files in {}", folder.display());
}

#[test]
fn parse() {
    replay("parse", 20, promises::parser_agrees_however_the_bytes_are_cut);
}

#[test]
fn configuration() {
    replay("configuration", 20, promises::configuration_is_read_or_refused);
}

#[test]
fn connect() {
    replay("connect", 15, promises::connect_is_applied_or_refused);
}

#[test]
fn proxy() {
    replay("proxy", 15, promises::proxy_header_is_decided_once);
}

#[test]
fn token() {
    replay("token", 4, promises::token_is_read_or_refused);
}

#[test]
fn api() {
    replay("api", 4, promises::api_request_is_read_or_refused);
}

#[test]
fn record() {
    replay("record", 4, promises::record_is_read_or_refused);
}

#[test]
fn acknowledgement() {
    replay("acknowledgement", 4, promises::acknowledgement_is_read_or_refused);
}

#[test]
fn header() {
    replay("header", 4, promises::header_is_searched_and_changed);
}

#[test]
fn schedule() {
    replay("schedule", 4, promises::schedule_is_read_or_refused);
}

#[test]
fn archive() {
    replay("archive", 4, promises::archive_is_read_or_refused);
}

#[test]
fn journal() {
    replay("journal", 10, promises::disk::journal_gives_back_what_was_written);
}

#[test]
fn segment() {
    replay("segment", 15, promises::disk::segments_serve_what_was_written_or_say_what_is_lost);
}

#[test]
fn checkpoint() {
    replay("checkpoint", 5, promises::disk::checkpoint_serves_what_was_written);
}

#[test]
fn state() {
    replay("state", 4, promises::disk::stream_state_is_read_or_refused);
}
