//! The parser against a script: every line of `tests/parse/*.txt` that starts with `>` is input, the lines
//! below it are what the parser makes of it. `SONATA_REWRITE=1 cargo test -p sonata-proto` rewrites them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use sonata_proto::parse::{Operation, ParseFault, ParseLimits, Parser, Step};

#[test]
fn scripts_give_the_recorded_operations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parse");
    let mut scripts = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let recorded = std::fs::read_to_string(&path).unwrap();
        let mut played = String::new();
        for line in recorded.lines() {
            if line.starts_with('#') || line.is_empty() {
                writeln!(played, "{line}").unwrap();
            } else if let Some(input) = line.strip_prefix("> ") {
                writeln!(played, "{line}").unwrap();
                played.push_str(&describe(&unescape(input), usize::MAX));
                scripts += 1;
            }
        }
        if std::env::var_os("SONATA_REWRITE").is_some() {
            std::fs::write(&path, &played).unwrap();
            continue;
        }
        assert_eq!(played, recorded, "{}", path.display());
    }
    assert!(scripts > 50, "only {scripts} scripts were found");
}

/// Everything the parser says about `input`, read in pieces of `piece` bytes.
fn describe(input: &[u8], piece: usize) -> String {
    let limits = ParseLimits { control_line_bytes_max: 64, payload_bytes_max: Some(100), headers: true };
    let mut parser = Parser::new(limits);
    let mut told = String::new();
    let (mut start, mut end) = (0, 0);
    loop {
        match parser.next(&input[start..end]) {
            Ok(Step::Operation { operation, consumed }) => {
                start += consumed;
                match operation {
                    Operation::Publish(publish) => {
                        let verbatim = publish.verbatim.map(|v| v.escape_ascii().to_string());
                        writeln!(
                            told,
                            "  publish {:?} reply {:?} header {} message {:?} verbatim {verbatim:?}",
                            text(publish.subject),
                            publish.reply.map(text),
                            publish.header_bytes,
                            text(publish.message),
                        )
                    }
                    Operation::Subscribe { subject, queue, sid } => {
                        writeln!(
                            told,
                            "  subscribe {:?} queue {:?} sid {:?}",
                            text(subject),
                            queue.map(text),
                            text(sid)
                        )
                    }
                    Operation::Unsubscribe { sid, max } => {
                        writeln!(told, "  unsubscribe {:?} max {max:?}", text(sid))
                    }
                    Operation::Connect(json) => writeln!(told, "  connect {:?}", text(json)),
                    Operation::Info(json) => writeln!(told, "  info {:?}", text(json)),
                    Operation::Error(message) => writeln!(told, "  error {:?}", text(message)),
                    Operation::Ping => writeln!(told, "  ping"),
                    Operation::Pong => writeln!(told, "  pong"),
                    Operation::Ok => writeln!(told, "  ok"),
                }
                .unwrap();
            }
            Ok(Step::Incomplete { bytes_needed }) => {
                assert!(bytes_needed > end - start, "asks for what is already there");
                if end == input.len() {
                    if end > start {
                        writeln!(told, "  incomplete").unwrap();
                    }
                    return told;
                }
                end = input.len().min(end.saturating_add(piece));
            }
            Err(fault) => {
                writeln!(told, "  fault: {fault}").unwrap();
                return told;
            }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend(c.to_string().bytes());
            continue;
        }
        match rest.next().unwrap() {
            'r' => bytes.push(b'\r'),
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            'x' => bytes.push(u8::from_str_radix(&rest.by_ref().take(2).collect::<String>(), 16).unwrap()),
            other => panic!("unknown escape {other}"),
        }
    }
    bytes
}

/// Blanks behind a verb are not arguments, but they are held all the same: they were held without a bound.
#[test]
fn blanks_without_end_are_refused() {
    for verb in ["CONNECT", "SUB", "PUB", "INFO"] {
        let mut parser = Parser::new(ParseLimits { control_line_bytes_max: 64, ..ParseLimits::default() });
        let fits = format!("{verb}{}", " ".repeat(64));
        assert!(matches!(parser.next(fits.as_bytes()), Ok(Step::Incomplete { .. })), "{verb}");
        let more = format!("{fits} ");
        assert_eq!(parser.next(more.as_bytes()), Err(ParseFault::ControlLineTooLong), "{verb}");
    }
}

/// A publisher's stream was refused: the general path had looked at an incomplete line, the shortcut then took the
/// whole operation, and the next line was searched from where the old one had ended.
#[test]
fn a_repeat_after_an_incomplete_line_leaves_nothing_behind() {
    let mut parser = Parser::new(ParseLimits::default());
    assert!(matches!(parser.next(b"PUB a.b 1"), Ok(Step::Incomplete { .. })));
    let input = b"PUB a.b 10\r\n0123456789\r\nPING\r\n";
    let repeat = parser.repeat(input, b"PUB a.b ").unwrap();
    let next = parser.next(&input[repeat.consumed..]);
    assert_eq!(next, Ok(Step::Operation { operation: Operation::Ping, consumed: 6 }));
}

/// Pieces that make many near-misses of the protocol.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"PUB foo 3\r\nabc\r\n".to_vec()),
        Just(b"PUB foo ".to_vec()),
        Just(b"HPUB a b 2 5\r\nhhbbb\r\n".to_vec()),
        Just(b"SUB a q 1\r\n".to_vec()),
        Just(b"UNSUB 1 5\r\n".to_vec()),
        Just(b"CONNECT {}\r\n".to_vec()),
        Just(b"PING\r\n".to_vec()),
        Just(b"+OK\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b" \t".to_vec()),
        Just(b"12".to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Where the network cuts the bytes changes nothing that the parser says, except which of two limits a
    /// line that never ends runs into.
    #[test]
    fn split_points_do_not_matter(input in soup(), piece in 1usize..9) {
        prop_assert_eq!(describe(&input, piece), describe(&input, usize::MAX));
    }

    /// The shortcut for a repeated subject says what the general path says.
    #[test]
    fn a_repeat_is_a_publish(size in "[0-9]{0,4}", body in prop::collection::vec(any::<u8>(), 0..130), end in "\r?\n?") {
        let mut input = b"PUB a.b ".to_vec();
        input.extend(size.bytes());
        input.extend(b"\r\n");
        input.extend(&body);
        input.extend(end.bytes());
        let mut parser = Parser::new(ParseLimits { payload_bytes_max: Some(100), ..ParseLimits::default() });
        if let Some(repeat) = parser.repeat(&input, b"PUB a.b ") {
            match parser.next(&input) {
                Ok(Step::Operation { operation: Operation::Publish(publish), consumed }) => {
                    prop_assert_eq!(publish.verbatim, Some(repeat.verbatim));
                    prop_assert_eq!(publish.message.len(), repeat.payload_bytes);
                    prop_assert_eq!(consumed, repeat.consumed);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
