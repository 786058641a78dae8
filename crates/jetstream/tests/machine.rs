//! Streams as machines: transcripts of what is published to them and what they say, in `machine/*.txt`.
//!
//! `SONATA_UPDATE_TRANSCRIPTS=1` writes the files anew with what was really said; read the difference then.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::fs;
use std::path::Path;

use world::World;

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine").join(name);
    let transcript = fs::read_to_string(&path).unwrap();
    let played = World::play(&transcript);
    if std::env::var_os("SONATA_UPDATE_TRANSCRIPTS").is_some() {
        fs::write(path, played).unwrap();
        return;
    }
    for (at, (expected, said)) in transcript.lines().zip(played.lines()).enumerate() {
        assert_eq!(said, expected, "{name}, line {}", at + 1);
    }
    assert_eq!(played.lines().count(), transcript.lines().count(), "{name} is longer or shorter");
}

#[test]
fn counters() {
    check("counters.txt");
}

#[test]
fn atomic_batches() {
    check("atomic_batches.txt");
}

#[test]
fn fast_batches() {
    check("fast_batches.txt");
}

#[test]
fn schedules() {
    check("schedules.txt");
}

#[test]
fn lifetimes() {
    check("lifetimes.txt");
}

#[test]
fn corner_cases() {
    check("corner_cases.txt");
}
