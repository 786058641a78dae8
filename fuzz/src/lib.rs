//! What must hold for any bytes a stranger sends: one function for each parser that meets them first.
//!
//! A function panics when its promise is broken. `fuzz_targets/` hands it what libFuzzer makes up; the test
//! `corpora` of the program hands it the files below `corpus/`, with the stable compiler. Nothing here knows which of
//! the two is calling.

pub mod disk;

use std::path::Path;

use sonata_conf::flags::{self, FlagOverrides};
use sonata_conf::problem::ConfigError;
use sonata_conf::reload;
use sonata_conf::source::MemorySource;
use sonata_proto::connect::{self, ConnectOptions};
use sonata_proto::parse::{Operation, ParseFault, ParseLimits, Parser, Publish, Step};
use sonata_proto::proxy::{self, ProxyStep};

/// Where the network cuts the bytes, and whether the shortcut for a repeated subject is taken, changes nothing that
/// the parser says.
pub fn parser_agrees_however_the_bytes_are_cut(input: &[u8]) {
    for headers in [true, false] {
        let whole = Reading::of(input, headers, usize::MAX, false);
        for piece in [1, 2, 3, 7, 64] {
            for shortcut in [false, true] {
                let cut = Reading::of(input, headers, piece, shortcut);
                assert_eq!(cut, whole, "headers {headers}, pieces of {piece}, shortcut {shortcut}");
            }
        }
        assert_eq!(Reading::of(input, headers, usize::MAX, true), whole, "headers {headers}, shortcut");
    }
}

/// Everything a parser says about a stream of bytes.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    operations: Vec<String>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// All operations are whole, or the last one waits: bytes that are left.
    Left(usize),
    Fault(ParseFault),
}

impl Reading {
    /// The limits are small so that short inputs reach them.
    fn of(input: &[u8], headers: bool, piece: usize, shortcut: bool) -> Self {
        let limits = ParseLimits { control_line_bytes_max: 64, payload_bytes_max: Some(100), headers };
        let mut parser = Parser::new(limits);
        let mut operations = Vec::new();
        let mut line_start = Vec::new();
        let (mut start, mut end) = (0, 0);
        loop {
            let buffer = &input[start..end];
            if shortcut
                && !line_start.is_empty()
                && let Some(repeat) = parser.repeat(buffer, &line_start)
            {
                let body = repeat.verbatim.len() - 2;
                let publish = Publish {
                    subject: &line_start[4..line_start.len() - 1],
                    reply: None,
                    header_bytes: 0,
                    header_text: b"",
                    size_text: &repeat.verbatim[..body - repeat.payload_bytes - 2],
                    message: &repeat.verbatim[body - repeat.payload_bytes..body],
                    verbatim: Some(repeat.verbatim),
                };
                operations.push(format!("{:?}", Operation::Publish(publish)));
                start += repeat.consumed;
                continue;
            }
            match parser.next(buffer) {
                Ok(Step::Operation { operation, consumed }) => {
                    assert!(0 < consumed && consumed <= buffer.len(), "consumes what is not there");
                    if let Operation::Publish(publish) = &operation {
                        assert!(publish.header_bytes <= publish.message.len());
                        line_start = [b"PUB ", publish.subject, b" "].concat();
                    }
                    operations.push(format!("{operation:?}"));
                    start += consumed;
                }
                Ok(Step::Incomplete { bytes_needed }) => {
                    assert!(bytes_needed > buffer.len(), "asks for what is there already");
                    if end == input.len() {
                        return Self { operations, end: End::Left(end - start) };
                    }
                    end = input.len().min(end.saturating_add(piece));
                }
                Err(fault) => return Self { operations, end: End::Fault(fault) },
            }
        }
    }
}

/// A configuration is read, the same each time, or refused with a reason that says where; and a server that runs with
/// it may take it again.
pub fn configuration_is_read_or_refused(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let source = MemorySource::new()
        .with_file("fuzz.conf", text)
        .with_file("other.conf", "port: 4333\nname: other\n")
        .with_env("WORD", "word")
        .with_env("NUMBER", "17");
    let path = Path::new("fuzz.conf");
    let flags = FlagOverrides::with_config(path);
    match (flags::load(&flags, &source), flags::load(&flags, &source)) {
        (Ok(first), Ok(second)) => {
            // Not compared as they are: a number that is no number equals nothing.
            assert_eq!(format!("{first:?}"), format!("{second:?}"), "read twice");
            let changes = reload::compare(&first.options, &second.options).expect("the same is no change");
            assert!(changes.iter().all(|change| change.option == "tls"), "{changes:?}");
        }
        (Err(first), Err(second)) => {
            let text = first.to_string();
            assert_eq!(text, second.to_string(), "refused twice");
            assert!(!text.trim().is_empty());
            if let ConfigError::Problems(problems) = &first {
                assert!(!problems.errors.is_empty(), "{text}");
                // A value that is quoted may hold line ends of its own.
                assert!(text.ends_with('\n'));
                assert!(text.lines().count() >= problems.errors.len() + problems.warnings.len(), "{text:?}");
            }
            // What `-t` approves of is at most at odds with itself.
            if flags::test_config(path, &source).is_ok() {
                assert!(matches!(first, ConfigError::Invalid(_)), "{text}");
            }
        }
        (first, second) => panic!("{first:?} and then {second:?}"),
    }
}

/// The JSON of a `CONNECT` is applied, with the same outcome when it comes twice, or refused; and no secret of it is
/// in what a log would show.
pub fn connect_is_applied_or_refused(input: &[u8]) {
    let mut once = ConnectOptions::default();
    match once.apply(input) {
        Ok(()) => {
            let mut twice = once.clone();
            assert_eq!(twice.apply(input), Ok(()));
            assert!(twice == once, "{twice:?} is not {once:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let shown = connect::redacted(input);
    if shown == "[UNREADABLE]" {
        return;
    }
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&shown).expect("an object again");
    for (name, value) in fields {
        if ["pass", "auth_token", "sig", "jwt"].contains(&name.to_ascii_lowercase().as_str()) {
            assert_eq!(value, "[REDACTED]", "{name}");
        }
    }
}

/// Once the first bytes have decided what a connection begins with, later ones do not change it, and a stranger cannot
/// make us look at more than a few.
pub fn proxy_header_is_decided_once(input: &[u8]) {
    /// Cuts beyond this only wait for the rest of a length that is known.
    const CUTS_MAX: usize = 512;

    let decided = proxy::read(input);
    if let Ok(ProxyStep::Header { consumed, .. }) = decided {
        assert!(consumed > 0);
    }
    for cut in (0..input.len()).take(CUTS_MAX) {
        match proxy::read(&input[..cut]) {
            Ok(ProxyStep::Incomplete) => {}
            early => assert_eq!(early, decided, "cut at {cut}"),
        }
    }
    // A peer that says nothing that counts is not listened to for ever.
    if decided == Ok(ProxyStep::Incomplete) {
        assert!(input.len() < proxy::SHOWN_BYTES_MAX);
    }
}

/// A token is read or refused, whatever it says.
pub fn token_is_read_or_refused(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = sonata_jwt::token::decode_any(text);
    }
}

/// A request to the API of JetStream is read or refused; a stream's configuration that is accepted is accepted again as it is
/// shown, and is the same then.
pub fn api_request_is_read_or_refused(input: &[u8]) {
    use sonata_jetstream::api::request::{ConfigureStream, CreateConsumer, GetMessage, PullRequest, Purge};
    use sonata_jetstream::config::Limits;
    use sonata_jetstream::json::{self, Mode};
    for mode in [Mode::Strict, Mode::Lenient] {
        let _ = json::decode::<CreateConsumer>(input, mode);
        let _ = json::decode::<GetMessage>(input, mode);
        let _ = json::decode::<Purge>(input, mode);
        let Ok(said) = ConfigureStream::parse(input, mode) else { continue };
        let Ok(config) = said.config.create(&Limits::default(), false) else { continue };
        let shown = json::encode(&config);
        let again = ConfigureStream::parse(&shown, Mode::Strict).map(|said| said.config);
        let again = again.ok().and_then(|again| again.create(&Limits::default(), false).ok());
        assert_eq!(again.as_ref(), Some(&config), "{}", String::from_utf8_lossy(&shown));
    }
    let _ = PullRequest::parse(input);
}

/// A record of a stream's log is read or refused; what is read is read again as it is written.
pub fn record_is_read_or_refused(input: &[u8]) {
    use sonata_jetstream::record::Record;
    let Ok(record) = Record::decode(input) else { return };
    let mut written = Vec::new();
    record.encode(&mut written);
    assert_eq!(Record::decode(&written).as_ref(), Ok(&record));
}

/// Acknowledgements: the subject up to the first blank, and what is said behind it.
pub fn acknowledgement_is_read_or_refused(input: &[u8]) {
    use sonata_jetstream::ack::{self, Ack};
    let (subject, payload) =
        input.split_at(input.iter().position(|byte| *byte == b' ').unwrap_or(input.len()));
    let _ = (ack::parse(subject), ack::parse_flow_control(subject), ack::parse_of(subject, "A"));
    let _ = (Ack::parse(payload), Ack::parse(payload.get(1..).unwrap_or_default()));
}

/// A header block is searched and changed, whatever it is: what was set is found, and what was removed is not.
pub fn header_is_searched_and_changed(input: &[u8]) {
    use sonata_jetstream::header;
    let mut block = input.to_vec();
    let _ = (header::fields(&block).count(), header::status(&block), header::get(&block, "Nats-Msg-Id"));
    header::remove(&mut block, "Nats-Msg-Id");
    header::remove_prefix(&mut block, "Nats-Batch-");
    assert!(!header::fields(&block).any(|(name, _)| name.starts_with(b"Nats-Batch-")));
}

/// A schedule, up to the first line's end, and its time zone: its times come after one another.
pub fn schedule_is_read_or_refused(input: &[u8]) {
    use sonata_jetstream::schedule::Schedule;
    use sonata_jetstream::timestamp::Timestamp;
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let zone = input.get(end + 1..).filter(|zone| !zone.is_empty());
    let Ok(schedule) = Schedule::parse(&input[..end], zone) else { return };
    let now = Timestamp(1_767_225_600_000_000_000);
    if let Some(next) = schedule.next(now, now).filter(|_| schedule.is_repeating()) {
        assert!(schedule.next(next, next).is_none_or(|later| later > next));
    }
}

/// An archive of a stream is read to its end or refused.
pub fn archive_is_read_or_refused(input: &[u8]) {
    let mut reader = sonata_jetstream::archive::Reader::new(input, 1 << 20);
    while let Ok(Some(_)) = reader.next_entry() {}
}
