//! What a connection of the generator may receive, checked byte for byte.
//!
//! A verifier knows the next message of its publisher completely, so the common case is a comparison of a few words in
//! the read buffer. Whatever is not that message is either one of the small operations of the protocol or a fault.

use std::fmt;

use memchr::memchr;

use crate::frame::Subjects;
use crate::jetstream::fault::StreamFault;
use crate::ledger::{Ledger, LedgerFault};
use crate::payload::{self, PayloadFault};

/// Longest text kept from a line that was not expected.
const QUOTED_BYTES_MAX: usize = 200;
/// Longest line of an operation without payload; an INFO with many cluster URLs is the longest.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Checks what one connection receives.
#[derive(Debug)]
pub struct Verifier {
    expected: Option<Expected>,
    /// Messages that arrived and were right.
    pub received: u64,
    /// PINGs that are not answered yet.
    pub pings: u32,
    /// PONGs that arrived.
    pub pongs: u64,
}

#[derive(Debug)]
struct Expected {
    /// `MSG <subject> <sid> [reply ]<size>\r\n` for each subject, all equally long; never empty.
    heads: Vec<Vec<u8>>,
    blank: Vec<u8>,
    publisher: u32,
    /// The next sequence when every message is due, else the lowest that may come.
    next: u64,
    every_message: bool,
}

impl Verifier {
    /// For a connection without subscriptions: any message is a fault.
    pub fn without_messages() -> Self {
        Self { expected: None, received: 0, pings: 0, pongs: 0 }
    }

    /// For a subscription that gets every message of `publisher`, in order.
    pub fn every_message(publisher: u32, subjects: &Subjects, sid: &str, payload_bytes: usize) -> Self {
        Self::expecting(publisher, subjects, sid, payload_bytes, true)
    }

    /// For a member of a queue group: it gets some messages of `publisher`, in order.
    pub fn some_messages(publisher: u32, subjects: &Subjects, sid: &str, payload_bytes: usize) -> Self {
        Self::expecting(publisher, subjects, sid, payload_bytes, false)
    }

    fn expecting(
        publisher: u32,
        subjects: &Subjects,
        sid: &str,
        payload_bytes: usize,
        every_message: bool,
    ) -> Self {
        let heads = subjects.names().iter();
        let heads = heads.map(|subject| head(subject, sid, None, payload_bytes)).collect();
        let expected =
            Expected { heads, blank: payload::blank(payload_bytes), publisher, next: 0, every_message };
        Self { expected: Some(expected), ..Self::without_messages() }
    }

    /// From now on messages come on `subject` for `sid`, with `reply` if there is one.
    pub fn expect_head(&mut self, subject: &str, sid: &str, reply: Option<&str>) {
        if let Some(expected) = &mut self.expected {
            expected.heads = vec![head(subject, sid, reply, expected.blank.len())];
        }
    }

    /// Checks the complete operations at the front of `bytes` and returns how many bytes they have. Members of a queue
    /// group also enter what they receive in `ledger`.
    pub fn consume(&mut self, bytes: &[u8], mut ledger: Option<&mut Ledger>) -> Result<usize, Fault> {
        let mut rest = bytes;
        loop {
            if let Some(expected) = &mut self.expected {
                let (received, after) = expected.consume_messages(rest, &mut ledger)?;
                self.received += received;
                rest = after;
            }
            match self.consume_line(rest)? {
                Some(after) => rest = after,
                None => return Ok(bytes.len() - rest.len()),
            }
        }
    }

    /// One operation without payload; `None` if it is not complete or not such an operation.
    fn consume_line<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
        let Some((line, after)) = memchr(b'\n', bytes).and_then(|end| bytes.split_at_checked(end + 1)) else {
            return if bytes.len() > LINE_BYTES_MAX { Err(Fault::Unknown(quote(bytes))) } else { Ok(None) };
        };
        match line {
            b"PING\r\n" => self.pings += 1,
            b"PONG\r\n" => self.pongs += 1,
            b"+OK\r\n" => {}
            line if line.starts_with(b"INFO ") => {}
            line if line.starts_with(b"-ERR") => return Err(Fault::Refused(quote(line))),
            line if line.starts_with(b"MSG ") || line.starts_with(b"HMSG ") => {
                return match &self.expected {
                    Some(expected) => expected.explain(line).map(|()| None),
                    None => Err(Fault::NotSubscribed(quote(line))),
                };
            }
            line => return Err(Fault::Unknown(quote(line))),
        }
        Ok(Some(after))
    }
}

impl Expected {
    /// All complete messages at the front of `bytes`: their number, and what follows.
    #[inline]
    fn consume_messages<'a>(
        &mut self,
        bytes: &'a [u8],
        ledger: &mut Option<&mut Ledger>,
    ) -> Result<(u64, &'a [u8]), Fault> {
        let head_bytes = self.heads.first().map_or(0, Vec::len);
        let frame_bytes = head_bytes + self.blank.len() + 2;
        let mut received = 0;
        let mut rest = bytes;
        while let Some((frame, after)) = rest.split_at_checked(frame_bytes) {
            let (head, tail) = frame.split_at(head_bytes);
            let (payload, line_end) = tail.split_at(self.blank.len());
            let sequence = match self.every_message {
                true => self.next,
                false => payload::claimed_sequence(payload).unwrap_or(self.next),
            };
            if self.head_of(sequence) != Some(head) {
                break;
            }
            if sequence < self.next {
                return Err(PayloadFault::Sequence { expected: self.next, found: sequence }.into());
            }
            payload::check(payload, &self.blank, self.publisher, sequence)?;
            if line_end != b"\r\n" {
                return Err(Fault::LineEnd { sequence });
            }
            if let Some(ledger) = ledger {
                ledger.mark(sequence)?;
            }
            self.next = sequence + 1;
            received += 1;
            rest = after;
        }
        Ok((received, rest))
    }

    fn head_of(&self, sequence: u64) -> Option<&[u8]> {
        match self.heads.as_slice() {
            [only] => Some(only),
            heads => heads.get((sequence % heads.len() as u64) as usize).map(Vec::as_slice),
        }
    }

    /// A message line that stands where a complete message would have been consumed: right so far, or a fault.
    fn explain(&self, line: &[u8]) -> Result<(), Fault> {
        let right = match self.every_message {
            true => self.head_of(self.next) == Some(line),
            false => self.heads.iter().any(|head| head == line),
        };
        if right {
            return Ok(());
        }
        let expected = self.head_of(self.next).map(quote).unwrap_or_default();
        Err(Fault::Head { sequence: self.next, expected, found: quote(line) })
    }
}

fn head(subject: &str, sid: &str, reply: Option<&str>, payload_bytes: usize) -> Vec<u8> {
    let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
    format!("MSG {subject} {sid} {reply}{payload_bytes}\r\n").into_bytes()
}

fn quote(line: &[u8]) -> String {
    let shown = line.get(..QUOTED_BYTES_MAX).unwrap_or(line);
    String::from_utf8_lossy(shown).trim_end().to_owned()
}

/// Why what arrived is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The line before the payload differs: subject, subscription, reply or length.
    Head {
        /// The message that was due.
        sequence: u64,
        /// Its line.
        expected: String,
        /// The line that came.
        found: String,
    },
    /// The payload differs.
    Payload(PayloadFault),
    /// No CRLF after the payload.
    LineEnd {
        /// The message before it.
        sequence: u64,
    },
    /// The members of a queue group together did not get every message once.
    Ledger(LedgerFault),
    /// JetStream did something else than it was asked for.
    Stream(StreamFault),
    /// A message on a connection without subscriptions.
    NotSubscribed(String),
    /// The server sent `-ERR`.
    Refused(String),
    /// Not an operation of the protocol.
    Unknown(String),
    /// The connection ended.
    Closed,
    /// Nothing arrived for a long time though messages were due.
    Lost {
        /// Messages that were due in all.
        due: u64,
        /// Messages that arrived.
        received: u64,
    },
    /// More arrived than was sent.
    Surplus {
        /// Messages that were due in all.
        due: u64,
        /// Messages that arrived.
        received: u64,
    },
}

impl From<PayloadFault> for Fault {
    fn from(fault: PayloadFault) -> Self {
        Self::Payload(fault)
    }
}

impl From<LedgerFault> for Fault {
    fn from(fault: LedgerFault) -> Self {
        Self::Ledger(fault)
    }
}

impl From<StreamFault> for Fault {
    fn from(fault: StreamFault) -> Self {
        Self::Stream(fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head { sequence, expected, found } => {
                write!(f, "message {sequence} should begin with {expected:?}, but {found:?} came")
            }
            Self::Payload(fault) => fault.fmt(f),
            Self::LineEnd { sequence } => write!(f, "no CRLF after message {sequence}"),
            Self::Ledger(fault) => fault.fmt(f),
            Self::Stream(fault) => fault.fmt(f),
            Self::NotSubscribed(line) => write!(f, "message without a subscription: {line:?}"),
            Self::Refused(line) => write!(f, "the server says {line}"),
            Self::Unknown(line) => write!(f, "not an operation of the protocol: {line:?}"),
            Self::Closed => write!(f, "the server closed the connection"),
            Self::Lost { due, received } => {
                write!(f, "{received} of {due} messages arrived, then nothing more")
            }
            Self::Surplus { due, received } => {
                write!(f, "{received} messages arrived, but only {due} were sent")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a correct server delivers of `sequences`, on `subjects` to sid 7.
    fn delivered(subjects: &Subjects, size: usize, sequences: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut stream = Vec::new();
        for sequence in sequences {
            let names = subjects.names();
            let name = &names[(sequence % names.len() as u64) as usize];
            stream.extend_from_slice(format!("MSG {name} 7 {size}\r\n").as_bytes());
            let mut payload = payload::blank(size);
            payload::stamp(&mut payload, 1, sequence);
            stream.extend_from_slice(&payload);
            stream.extend_from_slice(b"\r\n");
        }
        stream
    }

    fn every(subjects: &Subjects, size: usize) -> Verifier {
        Verifier::every_message(1, subjects, "7", size)
    }

    #[test]
    fn accepts_what_a_correct_server_sends() {
        for subjects in [Subjects::one("a.b"), Subjects::cycle(1000, |index| format!("a.{index}.x"))] {
            for size in [16, 128, 1024, 8192, 65536] {
                let stream = delivered(&subjects, size, 0..50);
                let mut verifier = every(&subjects, size);
                assert_eq!(verifier.consume(&stream, None), Ok(stream.len()));
                assert_eq!(verifier.received, 50);
            }
        }
    }

    #[test]
    fn small_operations_may_stand_between_messages() {
        let subjects = Subjects::one("a");
        let mut stream = delivered(&subjects, 16, [0]);
        stream.extend_from_slice(b"PING\r\nINFO {\"x\":1}\r\nPONG\r\n+OK\r\n");
        stream.extend_from_slice(&delivered(&subjects, 16, [1]));
        let mut verifier = every(&subjects, 16);
        assert_eq!(verifier.consume(&stream, None), Ok(stream.len()));
        assert_eq!((verifier.received, verifier.pings, verifier.pongs), (2, 1, 1));
    }

    #[test]
    fn loss_repetition_and_reorder_are_seen() {
        let subjects = Subjects::one("a");
        for (sequences, expected, found) in
            [(vec![0, 1, 3], 2, 3), (vec![0, 1, 1], 2, 1), (vec![0, 2, 1], 1, 2), (vec![1], 0, 1)]
        {
            let stream = delivered(&subjects, 64, sequences);
            let fault = Fault::Payload(PayloadFault::Sequence { expected, found });
            assert_eq!(every(&subjects, 64).consume(&stream, None), Err(fault));
        }
    }

    #[test]
    fn a_wrong_line_is_shown() {
        let subjects = Subjects::one("a");
        let right = "MSG a 7 16";
        for found in ["MSG b 7 16", "MSG a 8 16", "MSG a 7 reply 16", "MSG a 7 15", "HMSG a 7 12 28"] {
            let mut stream = delivered(&subjects, 16, [0]);
            stream.extend_from_slice(found.as_bytes());
            stream.extend_from_slice(b"\r\n");
            let fault = Fault::Head { sequence: 1, expected: right.into(), found: found.into() };
            assert_eq!(every(&subjects, 16).consume(&stream, None), Err(fault));
        }
    }

    #[test]
    fn refusals_and_nonsense_are_faults() {
        let mut verifier = Verifier::without_messages();
        assert_eq!(
            verifier.consume(b"-ERR 'Slow Consumer'\r\n", None),
            Err(Fault::Refused("-ERR 'Slow Consumer'".into()))
        );
        assert_eq!(verifier.consume(b"HELLO\r\n", None), Err(Fault::Unknown("HELLO".into())));
        assert_eq!(
            verifier.consume(b"MSG a 1 0\r\n\r\n", None),
            Err(Fault::NotSubscribed("MSG a 1 0".into()))
        );
        assert_eq!(verifier.consume(b"PIN", None), Ok(0));
    }

    #[test]
    fn queue_members_see_parts_and_the_ledger_sees_all() {
        let subjects = Subjects::one("a");
        let mut ledger = Ledger::default();
        let mut members = [0, 1].map(|_| Verifier::some_messages(1, &subjects, "7", 32));
        members[0].consume(&delivered(&subjects, 32, [0, 2, 5]), Some(&mut ledger)).unwrap();
        members[1].consume(&delivered(&subjects, 32, [1, 3]), Some(&mut ledger)).unwrap();
        assert_eq!((ledger.arrived(), ledger.first_open()), (5, 4));
        assert_eq!(
            members[1].consume(&delivered(&subjects, 32, [5]), Some(&mut ledger)),
            Err(Fault::Ledger(LedgerFault::Repeated { sequence: 5 }))
        );
        assert_eq!(
            members[0].consume(&delivered(&subjects, 32, [4]), Some(&mut ledger)),
            Err(Fault::Payload(PayloadFault::Sequence { expected: 6, found: 4 }))
        );
    }

    #[test]
    fn a_reply_subject_can_be_expected() {
        let mut verifier = every(&Subjects::one("a"), 16);
        verifier.expect_head("service", "1", Some("_INBOX.9"));
        let mut stream = b"MSG service 1 _INBOX.9 16\r\n".to_vec();
        let mut payload = payload::blank(16);
        payload::stamp(&mut payload, 1, 0);
        stream.extend_from_slice(&payload);
        stream.extend_from_slice(b"\r\n");
        assert_eq!(verifier.consume(&stream, None), Ok(stream.len()));
    }

    proptest! {
        /// However the stream is cut into reads, the result is the same.
        #[test]
        fn reads_of_any_length_are_equal(cuts in proptest::collection::vec(1usize..400, 1..200)) {
            let subjects = Subjects::cycle(10, |index| format!("a.{index}"));
            let stream = delivered(&subjects, 100, 0..40);
            let mut verifier = every(&subjects, 100);
            let (mut start, mut end) = (0, 0);
            for cut in cuts.iter().cycle() {
                end = (end + cut).min(stream.len());
                start += verifier.consume(&stream[start..end], None).unwrap();
                if end == stream.len() {
                    break;
                }
            }
            prop_assert_eq!((start, verifier.received), (stream.len(), 40));
        }

        /// One changed, one missing or one extra byte anywhere never leaves the stream complete and right.
        #[test]
        fn no_damage_passes(at in 0usize..2000, with in 1u8.., kind in 0u8..3) {
            let subjects = Subjects::one("a.b");
            let mut stream = delivered(&subjects, 100, 0..10);
            let at = at % stream.len();
            match kind {
                0 => stream[at] ^= with,
                1 => { stream.remove(at); }
                _ => stream.insert(at, stream[at]),
            }
            let mut verifier = every(&subjects, 100);
            let clean = verifier.consume(&stream, None) == Ok(stream.len()) && verifier.received == 10;
            prop_assert!(!clean);
        }
    }
}
