//! Operations of a server, borrowed from the read buffer.
//!
//! Other than [`crate::verify`], which compares with a message it knows already, this takes a message apart: subjects,
//! replies and headers of JetStream are not known in advance.

use memchr::{memchr, memmem};

use super::fault::StreamFault;
use crate::verify::Fault;

/// Longest line of an operation without payload; INFO is the longest.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Largest message that is believed; a server accepts 1 MiB by default.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
const HEADER_VERSION: &[u8] = b"NATS/1.0";

/// A delivered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it was published to.
    pub subject: &'a str,
    /// Where an answer goes.
    pub reply: Option<&'a str>,
    /// With version line and blank line; empty if there is none.
    pub header: &'a [u8],
    /// The rest.
    pub payload: &'a [u8],
}

/// What a server may send.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A message.
    Message(Message<'a>),
    /// A question that wants PONG.
    Ping,
    /// An answer to our PING.
    Pong,
    /// INFO and +OK.
    Other,
}

/// The operation at the front of `bytes` and its length; `None` if it is not complete.
pub fn operation(bytes: &[u8]) -> Result<Option<(Operation<'_>, usize)>, Fault> {
    let Some(end) = memchr(b'\n', bytes) else {
        return match bytes.len() > LINE_BYTES_MAX {
            true => Err(unknown(bytes)),
            false => Ok(None),
        };
    };
    let line = bytes.get(..end).unwrap_or_default();
    let line = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).map_err(|_| unknown(bytes))?;
    let found = match line.split_once(' ') {
        Some(("MSG", rest)) => return message(bytes, end + 1, rest, false),
        Some(("HMSG", rest)) => return message(bytes, end + 1, rest, true),
        Some(("INFO", _)) => Operation::Other,
        Some(("-ERR", _)) => return Err(Fault::Refused(line.to_owned())),
        _ => match line {
            "PING" => Operation::Ping,
            "PONG" => Operation::Pong,
            "+OK" => Operation::Other,
            _ => return Err(unknown(bytes)),
        },
    };
    Ok(Some((found, end + 1)))
}

fn message<'a>(
    bytes: &'a [u8],
    start: usize,
    line: &'a str,
    with_header: bool,
) -> Result<Option<(Operation<'a>, usize)>, Fault> {
    let mut words = line.rsplit(' ');
    let mut size = || words.next().and_then(|word| word.parse::<usize>().ok());
    let total = size().filter(|total| *total <= MESSAGE_BYTES_MAX).ok_or_else(|| unknown(bytes))?;
    let header_bytes = if with_header { size().filter(|header| *header <= total) } else { Some(0) };
    let header_bytes = header_bytes.ok_or_else(|| unknown(bytes))?;
    // From the end: an optional reply, the subscription's name, the subject.
    let (last, middle, first) = (words.next(), words.next(), words.next());
    let (subject, reply) = match (first, middle, last, words.next()) {
        (None, Some(subject), Some(_), None) => (subject, None),
        (Some(subject), Some(_), Some(reply), None) => (subject, Some(reply)),
        _ => return Err(unknown(bytes)),
    };
    let Some(body) = bytes.get(start..start + total + 2) else { return Ok(None) };
    let Some(body) = body.strip_suffix(b"\r\n") else { return Err(unknown(bytes)) };
    let (header, payload) = body.split_at(header_bytes);
    Ok(Some((Operation::Message(Message { subject, reply, header, payload }), start + total + 2)))
}

fn unknown(bytes: &[u8]) -> Fault {
    let shown = bytes.get(..200).unwrap_or(bytes);
    Fault::Unknown(String::from_utf8_lossy(shown).into_owned())
}

impl<'a> Message<'a> {
    /// The status in the first line of the header, as `503` or `100 Idle Heartbeat`.
    pub fn status(&self) -> Option<&'a str> {
        let rest = self.header.strip_prefix(HEADER_VERSION)?;
        let line = rest.get(..memchr(b'\r', rest)?)?;
        std::str::from_utf8(line).ok().map(str::trim).filter(|status| !status.is_empty())
    }

    /// The value of the header `name`.
    pub fn header_value(&self, name: &str) -> Option<&'a str> {
        let start = memmem::find_iter(self.header, name.as_bytes()).find_map(|at| {
            let begins_line = at >= 2 && self.header.get(at - 2..at) == Some(b"\r\n");
            let end = at + name.len();
            (begins_line && self.header.get(end) == Some(&b':')).then_some(end + 1)
        })?;
        let rest = self.header.get(start..)?;
        std::str::from_utf8(rest.get(..memchr(b'\r', rest)?)?).ok().map(str::trim)
    }

    /// What came instead of `expected`.
    pub fn unexpected(&self, expected: impl Into<String>) -> StreamFault {
        let found = match self.status() {
            Some(status) => status.to_owned(),
            None => String::from_utf8_lossy(self.payload.get(..200).unwrap_or(self.payload)).into_owned(),
        };
        StreamFault::Answer { expected: expected.into(), found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_message(bytes: &[u8]) -> Message<'_> {
        match operation(bytes) {
            Ok(Some((Operation::Message(message), length))) if length == bytes.len() => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_are_taken_apart() {
        let plain = only_message(b"MSG a.b 1 3\r\nx\r\n\r\n");
        assert_eq!((plain.subject, plain.reply, plain.payload), ("a.b", None, b"x\r\n".as_slice()));
        let replied = only_message(b"MSG a.b 1 r.s 0\r\n\r\n");
        assert_eq!((replied.reply, replied.payload), (Some("r.s"), b"".as_slice()));
        let bytes = b"HMSG a 1 r 36 38\r\nNATS/1.0\r\nX: 1\r\nNats-Sequence: 7\r\n\r\nhi\r\n";
        let headed = only_message(bytes);
        assert_eq!((headed.status(), headed.header_value("Nats-Sequence")), (None, Some("7")));
        assert_eq!((headed.payload, headed.header_value("Sequence")), (b"hi".as_slice(), None));
    }

    #[test]
    fn statuses() {
        let message = only_message(b"HMSG a 1 31 31\r\nNATS/1.0 100 Idle Heartbeat\r\n\r\n\r\n");
        assert_eq!(message.status(), Some("100 Idle Heartbeat"));
    }

    #[test]
    fn small_operations() {
        assert_eq!(operation(b"PING\r\nP"), Ok(Some((Operation::Ping, 6))));
        assert_eq!(operation(b"PONG\r\n"), Ok(Some((Operation::Pong, 6))));
        assert_eq!(operation(b"INFO {}\r\n"), Ok(Some((Operation::Other, 9))));
        assert!(matches!(operation(b"-ERR 'no'\r\n"), Err(Fault::Refused(_))));
    }

    #[test]
    fn a_part_of_a_message_waits_for_the_rest_and_nonsense_does_not() {
        let whole = b"HMSG a.b 1 r 14 16\r\nNATS/1.0 50\r\n\r\nhi\r\n";
        for length in 0..whole.len() {
            assert!(!matches!(operation(&whole[..length]), Ok(Some(_))), "{length}");
        }
        for line in [
            "MSG a 1 x\r\n",
            "MSG a 1\r\n",
            "MSG a b c 1 5\r\n",
            "HMSG a 1 9 5\r\n",
            "HELLO\r\n",
            "MSG a 1 99999999999\r\n",
        ] {
            assert!(matches!(operation(line.as_bytes()), Err(Fault::Unknown(_))), "{line}");
        }
        assert!(matches!(operation(b"MSG a 1 2\r\nhixx"), Err(Fault::Unknown(_))));
    }
}
