//! Whatever the text is: no panic, an end, and the same answer each time.

use std::path::Path;

use proptest::prelude::*;
use sonata_conf::flags;
use sonata_conf::grammar::{digest, parse};
use sonata_conf::options::Options;
use sonata_conf::read::{read_file, read_map};
use sonata_conf::source::MemorySource;
use sonata_conf::table;

/// A source in which files include one another and variables refer to one another.
fn source(text: &str) -> MemorySource {
    MemorySource::new()
        .with_file("x.conf", text)
        .with_file("a", "include b\nx: 1")
        .with_file("b", "include a")
        .with_env("E", "$F")
        .with_env("F", "[1, $E ]")
        .with_env("G", "{ a: $G }")
}

/// Texts of pieces that mean something to the parser, so that they get further than noise does.
fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "\n)\n",
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
        "\\",
        "\\x41",
        "\\n",
        "$",
        "$a",
        "$E",
        "$G",
        "$2a$",
        "a",
        "b",
        "include ",
        "include a",
        "true",
        "off",
        "1",
        "-1",
        "10k",
        "1kib",
        "1.5",
        "1.2.3",
        "2016-05-04T18:53:41Z",
        "12-",
        ".",
        "é",
        "users",
        "port: ",
        "tls { ",
        "accounts { A { users: [ { user: a } ] } }\n",
        "a: 1\n",
        "\u{0}",
        "\u{2028}",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..60).prop_map(|pieces| pieces.concat())
}

/// Known keys with values of all types.
fn assignments() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = table::ROWS
        .iter()
        .map(|row| row.name)
        .chain([
            "authorization { users",
            "accounts { A { limits",
            "tls { certs",
            "authorization { permissions",
        ])
        .collect();
    let values = [
        "1",
        "-1",
        "0",
        "1.5",
        "true",
        "off",
        "text",
        "\"1s\"",
        "\"-1s\"",
        "\"h:1\"",
        "[]",
        "[a, 1 ]",
        "{}",
        "{ a: 1 }",
        "[ { user: a, password: b } ]",
        "{ user: a }",
        "{ max_conn: -9 }",
        "{ publish: [\"a\"], allow_responses: true }",
        "9223372036854775807",
        "2016-05-04T18:53:41Z",
        "[ { cert_file: a, key_file: b } ]",
    ];
    let assignment =
        (prop::sample::select(keys), prop::sample::select(values.to_vec())).prop_map(|(key, value)| {
            let closing = " }".repeat(key.matches('{').count());
            format!("{key}: {value}{closing}\n")
        });
    prop::collection::vec(assignment, 0..12).prop_map(|lines| lines.concat())
}

fn check(text: &str) {
    let source = source(text);
    let path = Path::new("x.conf");
    let first = parse(text, path, &source);
    let second = parse(text, path, &source);
    match (&first, &second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first, second);
            assert_eq!(digest(first), digest(second));
            let mut options = Options::default();
            let _ = read_map(first, path, &source, &mut options);
        }
        (Err(first), Err(second)) => assert_eq!(first.to_string(), second.to_string()),
        _ => panic!("{text:?} was read once and not again"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_pieces_are_survived(text in pieces()) {
        check(&text);
    }

    #[test]
    fn any_values_are_survived(text in assignments()) {
        let mut options = Options::default();
        let read = read_file(Path::new("x.conf"), &source(&text), &mut options);
        // What comes out compares equal with itself, however odd.
        if read.is_ok() && options.tls.is_none() {
            prop_assert_eq!(sonata_conf::reload::compare(&options, &options), Ok(vec![]));
        }
    }

    #[test]
    fn any_arguments_are_survived(arguments in prop::collection::vec("-{0,3}[a-zA-Z_=]{0,6}[0-9]{0,3}", 0..6)) {
        let _ = flags::parse(&arguments);
    }

    #[test]
    fn any_duration_is_shown_as_it_is_read(nanos in 0_u64..10_000_000_000_000_000) {
        let duration = std::time::Duration::from_nanos(nanos);
        let text = sonata_conf::duration::show(duration);
        prop_assert_eq!(sonata_conf::duration::parse(&text), Ok(Some(duration)));
    }
}
