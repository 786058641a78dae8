//! Files in, trees or errors out: `tests/grammar/<name>.conf` gives `<name>.out`.
//!
//! With `UPDATE_EXPECT=1` the expected files are written anew. With `SONATA_REFERENCE=<path of the original
//! server>` every file also goes through the original, which must accept the same texts and compute the
//! same digests.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process;

use common::{ENVIRONMENT, Files, conf_files, directory, expect};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use sonata_conf::grammar::{GrammarErrorKind, Map, Value, digest, parse, parse_file};
use sonata_conf::source::MemorySource;

#[test]
fn files_give_the_expected_trees_and_errors() {
    let source = Files { root: directory("grammar") };
    let mut failures = Vec::new();
    for name in conf_files(&source.root) {
        let actual = match parse_file(&name, &source) {
            Ok(map) => dump(&map),
            Err(error) => format!("{error}\n"),
        };
        expect(&source.root.join(name.with_extension("out")), &actual, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Files about which this parser and the original differ on purpose, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("block_at_end", "the original keeps the closing parenthesis at the end of a file"),
    ("error_include_self", "the original overflows its stack"),
    ("error_map_no_value", "the original moves the braces' content to the wrong key"),
    ("error_nesting", "the original has no limit"),
    ("error_too_many_values", "the original has no limit"),
    ("error_nul", "the original takes NUL for the end of a value"),
    ("error_range_suffix", "the original overflows silently"),
    ("error_suffix", "the original drops the key silently"),
    ("numbers_before_bracket", "the original does not let a bracket end a number"),
    ("error_utf8", "the original keeps bytes that are no text"),
];

#[test]
fn the_original_agrees() {
    let Some(server) = std::env::var_os("SONATA_REFERENCE") else {
        println!("skipped: SONATA_REFERENCE does not name the original server");
        return;
    };
    let source = Files { root: directory("grammar") };
    let scratch = std::env::temp_dir().join(format!("sonata-conf-{}", process::id()));
    fs::create_dir_all(&scratch).unwrap();
    copy_includes(&source.root, &scratch);
    let mut failures = Vec::new();
    let mut digests = 0;
    for name in conf_files(&source.root) {
        let stem = name.file_stem().unwrap().to_str().unwrap().to_owned();
        if let Some((_, reason)) = DIFFERENT.iter().find(|(different, _)| *different == stem) {
            println!("{stem}: {reason}");
            continue;
        }
        let text = fs::read_to_string(source.root.join(&name)).unwrap();
        let ours = parse(&text, &name, &source);
        // A key that was referred to is no unknown field, whatever its name. So after this the original
        // accepts any tree and tells its digest.
        let text = match &ours {
            Ok(map) => format!("{text}\n{}", references(map)),
            Err(_) => text,
        };
        fs::write(scratch.join(&name), &text).unwrap();
        let theirs = process::Command::new(&server)
            .args(["-t", "-c"])
            .arg(&name)
            .current_dir(&scratch)
            .env_clear()
            .envs(ENVIRONMENT.iter().copied())
            .output()
            .unwrap();
        let theirs = String::from_utf8_lossy(&theirs.stderr).into_owned();
        let semantic = theirs.starts_with(&format!("nats-server: {}:", name.display()));
        match ours.and_then(|_| parse(&text, &name, &source)) {
            Ok(map) => {
                let digest = digest(&map);
                if theirs.contains("is valid") {
                    digests += 1;
                    if !theirs.contains(&digest) {
                        failures.push(format!("{stem}: we say {digest}, they say {theirs}"));
                    }
                } else if !semantic {
                    failures.push(format!("{stem}: we accept, they say {theirs}"));
                }
            }
            Err(error) if theirs.contains("is valid") || semantic => {
                failures.push(format!("{stem}: we say {error}, they say {theirs}"));
            }
            Err(_) => {}
        }
    }
    fs::remove_dir_all(&scratch).unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(digests >= 15, "only {digests} digests were compared");
}

/// Lines that refer to every top-level key whose name is simple enough.
fn references(map: &Map) -> String {
    let mut text = String::new();
    for entry in map {
        if entry.key.chars().all(|c| c.is_alphanumeric() || c == '_') {
            writeln!(text, "debug: ${}", entry.key).unwrap();
        }
    }
    text + "debug: false\n"
}

/// Texts nobody thought of: random pieces of the language, which the original must take or refuse alike.
#[test]
fn the_original_agrees_about_random_texts() {
    const TEXTS: usize = 1000;
    let Some(server) = std::env::var_os("SONATA_REFERENCE") else {
        println!("skipped: SONATA_REFERENCE does not name the original server");
        return;
    };
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        "(\n",
        "\n)\n",
        "\n",
        "\n",
        "\r\n",
        " ",
        "\t",
        ",",
        ";",
        ":",
        "=",
        "#",
        "//",
        "/",
        "\"",
        "'",
        "\"s\"",
        "'q'",
        "\\x41",
        "\\n",
        "$a",
        "$2a$",
        "a",
        "b",
        "true",
        "off",
        "1",
        "-1",
        "10k",
        "5m",
        "30s",
        "kb",
        ".5",
        "-",
        "1kib",
        "1.5",
        "1.2.3",
        "2016-05-04T18:53:41Z",
        "a: 1\n",
        "b { c: d }\n",
        "x: [1 ]\n",
        "a {",
        "b [",
        "c = ",
        "d: ",
        "e ",
    ];
    let texts = prop::collection::vec(prop::sample::select(pieces.to_vec()), 1..12);
    let scratch = std::env::temp_dir().join(format!("sonata-random-{}", process::id()));
    fs::create_dir_all(&scratch).unwrap();
    let (source, name) = (MemorySource::new(), Path::new("x.conf"));
    let mut runner = TestRunner::default();
    let mut failures = Vec::new();
    for _ in 0..TEXTS {
        let text = texts.new_tree(&mut runner).unwrap().current().concat();
        if bracket_after_number(&text) {
            continue;
        }
        let ours = parse(&text, name, &source);
        let text = match &ours {
            Ok(map) => format!("{text}\n{}", references(map)),
            Err(_) => text,
        };
        let ours = ours.and_then(|_| parse(&text, name, &source));
        if ours.as_ref().is_err_and(|error| is_stricter(&error.kind)) {
            continue;
        }
        fs::write(scratch.join(name), &text).unwrap();
        let theirs = process::Command::new(&server)
            .args(["-t", "-c", "x.conf"])
            .current_dir(&scratch)
            .env_clear()
            .output()
            .unwrap();
        let theirs = String::from_utf8_lossy(&theirs.stderr).into_owned();
        let valid = theirs.contains("is valid");
        let accepted = valid || theirs.starts_with("nats-server: x.conf:");
        match ours {
            Ok(map) if valid && !theirs.contains(&digest(&map)) => {
                failures.push(format!("{text:?}: other digest"))
            }
            Ok(_) if !accepted => failures.push(format!("{text:?}: only we accept, they say {theirs}")),
            Err(error) if accepted => failures.push(format!("{text:?}: only they accept, we say {error}")),
            _ => {}
        }
    }
    fs::remove_dir_all(&scratch).unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Whether a bracket may end a number here, as it does not in the original.
fn bracket_after_number(text: &str) -> bool {
    text.as_bytes().windows(2).any(|pair| matches!(pair, [before, b']'] if before.is_ascii_alphanumeric()))
}

/// What the original lets pass though it then drops or moves the value: a quote that never ends, a key
/// without value in a map, and a size suffix that does not exist.
fn is_stricter(kind: &GrammarErrorKind) -> bool {
    use GrammarErrorKind::*;
    matches!(kind, UnexpectedEnd(_) | MissingValue(_) | BadNumber("unknown size suffix") | OutOfRange(_))
}

fn copy_includes(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_includes(&path, &target);
        } else if path.extension().is_none_or(|extension| extension != "conf" && extension != "out") {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_hundred_levels_are_enough() {
    let source = MemorySource::new();
    let nested = |levels: usize| format!("a: {}1 {}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse(&nested(100), Path::new(""), &source).is_ok());
    let error = parse(&nested(101), Path::new(""), &source).unwrap_err();
    assert_eq!(error.to_string(), ":1:104: too many nested values, the limit is 100");
}

#[test]
fn variables_cannot_nest_deeper_than_braces() {
    let source = MemorySource::new();
    let wrap = |name: &str, inner: &str| format!("{name}: {}{inner} {}\n", "[".repeat(60), "]".repeat(60));
    let text = wrap("a", "1") + &wrap("b", "$a");
    let error = parse(&text, Path::new("f"), &source).unwrap_err();
    assert!(error.to_string().ends_with("too many nested values, the limit is 100"), "{error}");
}

#[test]
fn includes_cannot_multiply() {
    let mut source = MemorySource::new();
    for level in 0..12 {
        let line = format!("include {}.conf\n", "abcdefghijklm".chars().nth(level + 1).unwrap());
        let name = format!("{}.conf", "abcdefghijklm".chars().nth(level).unwrap());
        source = source.with_file(name, line.repeat(3));
    }
    let source = source.with_file("m.conf", "x: 1");
    let error = parse_file(Path::new("a.conf"), &source).unwrap_err();
    assert!(error.to_string().ends_with("too many includes, the limit is 1000"), "{error}");
}

/// One line per value, with its place.
fn dump(map: &Map) -> String {
    let mut text = String::new();
    dump_map(map, 0, &mut text);
    writeln!(text, "{}", digest(map)).unwrap();
    text
}

fn dump_map(map: &Map, depth: usize, text: &mut String) {
    for entry in map {
        let used = if entry.referenced { " (referenced)" } else { "" };
        write!(text, "{:indent$}{:?} @ {}{used} = ", "", entry.key, entry.place, indent = 2 * depth).unwrap();
        dump_value(&entry.value, depth, text);
    }
}

fn dump_value(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Map(map) => {
            text.push_str("map\n");
            dump_map(map, depth + 1, text);
        }
        Value::List(items) => {
            text.push_str("list\n");
            for item in items {
                write!(text, "{:indent$}@ {} = ", "", item.place, indent = 2 * depth + 2).unwrap();
                dump_value(&item.value, depth + 1, text);
            }
        }
        Value::Bool(b) => writeln!(text, "bool {b}").unwrap(),
        Value::Integer(n) => writeln!(text, "integer {n}").unwrap(),
        Value::Float(x) => writeln!(text, "float {x}").unwrap(),
        Value::String(s) => writeln!(text, "string {s:?}").unwrap(),
        Value::Date(d) => writeln!(text, "date {d}").unwrap(),
    }
}
