//! The table of errors is the reference's: number, status and text of each row.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

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
