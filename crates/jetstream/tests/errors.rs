//! The table of errors is the reference's: number, status and text of each row. Which of them nothing makes is a list.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use sonata_jetstream::api::ErrorCode;

#[test]
fn the_table_is_the_references() {
    let expected: Vec<&str> = include_str!("errors.txt").lines().collect();
    let ours: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| format!("{} {} {}", code.number(), code.status(), code.template()))
        .collect();
    assert_eq!(ours, expected);
}

/// A row that nothing makes has its reason in `errors_not_made.txt`, and a row that something makes is not there.
#[test]
fn what_is_never_made_is_listed() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut text = String::new();
    for folder in ["jetstream/src", "server/src"] {
        append_sources(&crates.join(folder), &mut text);
    }
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let not_made: Vec<String> = ErrorCode::ALL
        .iter()
        .filter(|code| !words.contains(format!("{code:?}").as_str()))
        .map(|code| code.number().to_string())
        .collect();
    let listed: Vec<&str> = include_str!("errors_not_made.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap().0)
        .collect();
    assert_eq!(not_made, listed);
}

/// All source texts below `folder`, but not the table itself.
fn append_sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            append_sources(&path, text);
        } else if !path.ends_with("api/error.rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}
