//! Received bytes to operations.
//!
//! [`Parser::next`] looks at a buffer that starts at an operation and either hands out that operation,
//! borrowing from the buffer, or says how many bytes the caller must have before asking again. It keeps no
//! copy of anything: whoever owns the buffer keeps the unfinished part.
//!
//! The shape that fills the wire, `PUB <subject> <size>` with the subject of the message before it, is
//! recognised by comparing bytes with the previous line; everything else takes the general path.

use std::fmt;

use memchr::memchr;

use crate::{CRLF, MAX_CONTROL_LINE, MAX_PAYLOAD};

/// More digits than this are not a size (the reference's bound).
const SIZE_DIGITS_MAX: usize = 9;

/// The limits a parser holds its peer to.
#[derive(Debug, Clone, Copy)]
pub struct ParseLimits {
    /// Longest argument part of a line, in bytes.
    pub control_line_bytes_max: usize,
    /// Largest message, headers included, in bytes; `None` is unlimited.
    pub payload_bytes_max: Option<usize>,
    /// Whether `HPUB` is understood, that is, whether both sides negotiated headers.
    pub headers: bool,
}

impl Default for ParseLimits {
    fn default() -> Self {
        Self {
            control_line_bytes_max: MAX_CONTROL_LINE,
            payload_bytes_max: Some(MAX_PAYLOAD),
            headers: false,
        }
    }
}

/// One operation of a client. All slices borrow from the buffer that was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation<'a> {
    /// `CONNECT`, with its JSON as sent.
    Connect(&'a [u8]),
    /// `PUB` or `HPUB` with its payload.
    Publish(Publish<'a>),
    /// `SUB <subject> [queue] <sid>`.
    Subscribe {
        /// Subject or filter; not validated.
        subject: &'a [u8],
        /// Queue group, if any.
        queue: Option<&'a [u8]>,
        /// The client's name for the subscription.
        sid: &'a [u8],
    },
    /// `UNSUB <sid> [max]`.
    Unsubscribe {
        /// The client's name for the subscription.
        sid: &'a [u8],
        /// Remove after this many messages since the subscription was made; `None` is now. An unreadable
        /// number counts as now.
        max: Option<u64>,
    },
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `INFO`, which clients have no reason to send; its JSON must still be readable.
    Info(&'a [u8]),
    /// `+OK`, which is ignored.
    Ok,
    /// `-ERR`, with its text.
    Error(&'a [u8]),
}

/// A published message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Subject as sent; not validated.
    pub subject: &'a [u8],
    /// Reply subject, if any.
    pub reply: Option<&'a [u8]>,
    /// Bytes of `message` that are the header block; 0 when there is none. `header_bytes <= message.len()`.
    pub header_bytes: usize,
    /// The header size as the client wrote it; empty for `PUB`. Receivers get the client's own digits.
    pub header_text: &'a [u8],
    /// The total size as the client wrote it.
    pub size_text: &'a [u8],
    /// Header block and payload, without the closing CRLF.
    pub message: &'a [u8],
    /// Everything after the subject and one blank, up to and with the closing CRLF, when that text can be
    /// sent to a receiver as it stands (single blanks, CRLF after the line).
    pub verbatim: Option<&'a [u8]>,
}

/// What [`Parser::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole operation; the next one starts `consumed` bytes further.
    Operation {
        /// The operation.
        operation: Operation<'a>,
        /// Its length on the wire.
        consumed: usize,
    },
    /// The operation is not complete.
    Incomplete {
        /// The buffer must hold at least this many bytes before it is worth asking again.
        bytes_needed: usize,
    },
}

/// Why the bytes are not the protocol. Each fault ends the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseFault {
    /// No such operation, or a payload not followed by CRLF.
    UnknownOperation,
    /// The argument part of a line is longer than allowed.
    ControlLineTooLong,
    /// A message larger than allowed was announced: its size.
    PayloadTooLarge(usize),
    /// `HPUB` without negotiated headers.
    HeadersNotSupported,
    /// The arguments do not fit the operation: the operation and its arguments.
    Malformed(&'static str, Box<[u8]>),
}

impl fmt::Display for ParseFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOperation => f.write_str("unknown protocol operation"),
            Self::ControlLineTooLong => f.write_str("maximum control line exceeded"),
            Self::PayloadTooLarge(size) => write!(f, "maximum payload exceeded: {size} bytes"),
            Self::HeadersNotSupported => f.write_str("message headers not supported"),
            Self::Malformed(what, arguments) => {
                write!(f, "{what}: \"{}\"", arguments.escape_ascii())
            }
        }
    }
}

impl std::error::Error for ParseFault {}

/// Parses the operations of one client. See the module.
#[derive(Debug)]
pub struct Parser {
    limits: ParseLimits,
    /// How far the unfinished line was searched for its end, so that a peer who sends single bytes does
    /// not make us search the same bytes again. Counted from the start of the operation.
    searched: usize,
}

impl Parser {
    /// A parser at the start of a connection.
    pub fn new(limits: ParseLimits) -> Self {
        Self { limits, searched: 0 }
    }

    /// The limits in force.
    pub fn limits(&self) -> &ParseLimits {
        &self.limits
    }

    /// Changes the limits, from the next operation on.
    pub fn update_limits(&mut self, limits: ParseLimits) {
        self.limits = limits;
    }

    /// The operation at the start of `buffer`.
    ///
    /// # Errors
    /// A [`ParseFault`] as soon as the bytes at hand show it, complete or not.
    #[inline]
    pub fn next<'a>(&mut self, buffer: &'a [u8]) -> Result<Step<'a>, ParseFault> {
        let step = self.parse(buffer)?;
        if matches!(step, Step::Operation { .. }) {
            self.searched = 0;
        }
        Ok(step)
    }

    /// A `PUB` of the subject that `line_start` (`PUB <subject> `) names, without reply, at the start of
    /// `buffer`; `None` when `buffer` holds anything else, incomplete messages included.
    #[inline(always)]
    pub fn repeat<'a>(&mut self, buffer: &'a [u8], line_start: &[u8]) -> Option<Repeat<'a>> {
        let rest = buffer.strip_prefix(line_start)?;
        let mut size = 0usize;
        let mut digits = 0;
        for byte in rest.iter().take(SIZE_DIGITS_MAX + 1) {
            if !byte.is_ascii_digit() {
                break;
            }
            size = size * 10 + usize::from(byte - b'0');
            digits += 1;
        }
        if digits == 0
            || digits > SIZE_DIGITS_MAX
            || size > self.limits.payload_bytes_max.unwrap_or(usize::MAX)
        {
            return None;
        }
        let end = digits + 2 + size + 2;
        let verbatim = rest.get(..end)?;
        if verbatim[digits..digits + 2] != *CRLF || verbatim[end - 2..] != *CRLF {
            return None;
        }
        // What an earlier look at this operation, then incomplete, had searched is of no use to the next one.
        self.searched = 0;
        Some(Repeat { verbatim, payload_bytes: size, consumed: line_start.len() + end })
    }

    fn parse<'a>(&mut self, buffer: &'a [u8]) -> Result<Step<'a>, ParseFault> {
        let Some((verb, verb_bytes)) = verb(buffer)? else {
            return Ok(Step::Incomplete { bytes_needed: buffer.len() + 1 });
        };
        // The quirk of the lexer that is imitated here: the first byte after the blanks belongs to the
        // arguments whatever it is, a line end included.
        let blanks = match verb {
            Verb::Ping | Verb::Pong | Verb::Ok => 0,
            _ => buffer[verb_bytes..].iter().take_while(|b| is_blank(**b)).count(),
        };
        if blanks > self.limits.control_line_bytes_max {
            return Err(ParseFault::ControlLineTooLong);
        }
        if blanks == 0 && verb.needs_blank() {
            return match buffer.get(verb_bytes) {
                Some(_) => Err(ParseFault::UnknownOperation),
                None => Ok(Step::Incomplete { bytes_needed: buffer.len() + 1 }),
            };
        }
        let start = verb_bytes + blanks;
        let search_from = match verb {
            Verb::Ping | Verb::Pong | Verb::Ok => start,
            _ => start + 1,
        };
        let from = search_from.max(self.searched).min(buffer.len());
        let Some(newline) = memchr(b'\n', &buffer[from..]).map(|at| from + at) else {
            // `PING`, `PONG` and `+OK` take no arguments: what stands before the line end is dropped and
            // has no limit of its own in the reference; ours is the control line's.
            // A carriage return at the end may be the line end's own, cut from it by the network.
            let so_far = arguments(buffer.get(start..).unwrap_or_default());
            if so_far.len() > self.limits.control_line_bytes_max {
                return Err(ParseFault::ControlLineTooLong);
            }
            self.searched = buffer.len();
            return Ok(Step::Incomplete { bytes_needed: buffer.len() + 1 });
        };
        let line = newline + 1;
        let arguments = arguments(&buffer[start..newline]);
        if arguments.len() > self.limits.control_line_bytes_max {
            return Err(ParseFault::ControlLineTooLong);
        }
        let operation = match verb {
            Verb::Ping => Operation::Ping,
            Verb::Pong => Operation::Pong,
            Verb::Ok => Operation::Ok,
            Verb::Connect => Operation::Connect(arguments),
            Verb::Info => Operation::Info(arguments),
            Verb::Err => Operation::Error(arguments),
            Verb::Sub => subscribe(arguments)?,
            Verb::Unsub => unsubscribe(arguments)?,
            Verb::Pub => return self.publish(buffer, start, line, publish_arguments(arguments)?),
            Verb::Hpub => {
                if !self.limits.headers {
                    return Err(ParseFault::HeadersNotSupported);
                }
                return self.publish(buffer, start, line, header_publish_arguments(arguments)?);
            }
            // Another quirk: the lexer knows `HMSG` and, from a client, takes the line for a message
            // without subject and payload.
            Verb::Hmsg => {
                let nothing = PublishLine {
                    subject: b"",
                    reply: None,
                    header_text: b"",
                    header: 0,
                    size_text: b"0",
                    size: 0,
                };
                return self.publish(buffer, start, line, nothing);
            }
        };
        Ok(Step::Operation { operation, consumed: line })
    }

    fn publish<'a>(
        &self,
        buffer: &'a [u8],
        start: usize,
        line: usize,
        parts: PublishLine<'a>,
    ) -> Result<Step<'a>, ParseFault> {
        if parts.size > self.limits.payload_bytes_max.unwrap_or(usize::MAX) {
            return Err(ParseFault::PayloadTooLarge(parts.size));
        }
        let payload_end = line + parts.size;
        let end = payload_end + CRLF.len();
        match buffer.get(payload_end..end.min(buffer.len())) {
            Some(tail) if !CRLF.starts_with(tail) => return Err(ParseFault::UnknownOperation),
            _ => {}
        }
        if buffer.len() < end {
            return Ok(Step::Incomplete { bytes_needed: end });
        }
        // Canonical text: subject, one blank, the rest with single blanks, CRLF. Then what receivers must
        // see is a slice of what came in.
        let canonical_bytes = parts.subject.len()
            + parts.reply.map_or(0, |reply| 1 + reply.len())
            + if parts.header_text.is_empty() { 0 } else { 1 + parts.header_text.len() }
            + 1
            + parts.size_text.len()
            + CRLF.len();
        // A header block of no bytes is delivered as `MSG`, so its size must not be.
        let blank_after = |at: usize| buffer.get(at) == Some(&b' ');
        let after_subject = start + parts.subject.len();
        let after_reply = after_subject + parts.reply.map_or(0, |reply| 1 + reply.len());
        let verbatim = (start + canonical_bytes == line
            && (parts.header > 0 || parts.header_text.is_empty())
            && buffer[line - 2] == b'\r'
            && blank_after(after_subject)
            && blank_after(after_reply)
            && (parts.header == 0 || blank_after(after_reply + 1 + parts.header_text.len())))
        .then(|| &buffer[after_subject + 1..end]);
        let publish = Publish {
            subject: parts.subject,
            reply: parts.reply,
            header_bytes: parts.header,
            header_text: parts.header_text,
            size_text: parts.size_text,
            message: &buffer[line..payload_end],
            verbatim,
        };
        Ok(Step::Operation { operation: Operation::Publish(publish), consumed: end })
    }
}

/// See [`Parser::repeat`].
#[derive(Debug, PartialEq, Eq)]
pub struct Repeat<'a> {
    /// `<size> CRLF <payload> CRLF`, ready for a receiver.
    pub verbatim: &'a [u8],
    /// Size of the payload.
    pub payload_bytes: usize,
    /// Length of the operation on the wire.
    pub consumed: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Connect,
    Pub,
    Hpub,
    Hmsg,
    Sub,
    Unsub,
    Ping,
    Pong,
    Info,
    Ok,
    Err,
}

impl Verb {
    fn needs_blank(self) -> bool {
        matches!(self, Self::Pub | Self::Hpub | Self::Hmsg | Self::Sub | Self::Unsub | Self::Err)
    }
}

struct PublishLine<'a> {
    subject: &'a [u8],
    reply: Option<&'a [u8]>,
    header_text: &'a [u8],
    header: usize,
    size_text: &'a [u8],
    size: usize,
}

/// The verb at the start of `buffer` and its length; `None` when more bytes could still make one.
#[inline]
fn verb(buffer: &[u8]) -> Result<Option<(Verb, usize)>, ParseFault> {
    // What nearly every operation begins with, before the search through all of them in any case.
    match buffer {
        [b'P', b'U', b'B', ..] => return Ok(Some((Verb::Pub, 3))),
        [b'H', b'P', b'U', b'B', ..] => return Ok(Some((Verb::Hpub, 4))),
        _ => {}
    }
    any_verb(buffer)
}

fn any_verb(buffer: &[u8]) -> Result<Option<(Verb, usize)>, ParseFault> {
    const VERBS: &[(&[u8], Verb)] = &[
        (b"PUB", Verb::Pub),
        (b"HPUB", Verb::Hpub),
        (b"SUB", Verb::Sub),
        (b"UNSUB", Verb::Unsub),
        (b"PING", Verb::Ping),
        (b"PONG", Verb::Pong),
        (b"CONNECT", Verb::Connect),
        (b"INFO", Verb::Info),
        (b"+OK", Verb::Ok),
        (b"-ERR", Verb::Err),
        (b"HMSG", Verb::Hmsg),
    ];
    let mut possible = false;
    for (name, verb) in VERBS {
        let seen = buffer.len().min(name.len());
        if buffer[..seen].eq_ignore_ascii_case(&name[..seen]) {
            if seen == name.len() {
                return Ok(Some((*verb, seen)));
            }
            possible = true;
        }
    }
    if possible { Ok(None) } else { Err(ParseFault::UnknownOperation) }
}

/// A line without its line end. A carriage return anywhere makes the lexer drop the last byte, which is
/// the carriage return itself in every sane line. The first byte is exempt, see [`Parser::parse`].
fn arguments(line: &[u8]) -> &[u8] {
    match line.split_last() {
        Some((b'\r', rest)) if !rest.is_empty() => rest,
        Some((_, rest)) if line.len() > 1 && line[1..].contains(&b'\r') => rest,
        _ => line,
    }
}

fn publish_arguments(line: &[u8]) -> Result<PublishLine<'_>, ParseFault> {
    let malformed = |what| ParseFault::Malformed(what, line.into());
    refuse_line_end(line, "processPub Parse Error")?;
    let mut fields = Fields::new(line, is_blank);
    let (subject, reply, size_text) = match (fields.next(), fields.next(), fields.next(), fields.next()) {
        (Some(subject), Some(size), None, _) => (subject, None, size),
        (Some(subject), Some(reply), Some(size), None) => (subject, Some(reply), size),
        _ => return Err(malformed("processPub Parse Error")),
    };
    let size = size_number(size_text).ok_or_else(|| malformed("processPub Bad or Missing Size"))?;
    Ok(PublishLine { subject, reply, header_text: b"", header: 0, size_text, size })
}

fn header_publish_arguments(line: &[u8]) -> Result<PublishLine<'_>, ParseFault> {
    let malformed = |what| ParseFault::Malformed(what, line.into());
    refuse_line_end(line, "processHeaderPub Parse Error")?;
    let mut fields = Fields::new(line, is_blank);
    let mut next = || fields.next();
    let (subject, reply, header_text, size_text) = match (next(), next(), next(), next(), next()) {
        (Some(subject), Some(header), Some(size), None, _) => (subject, None, header, size),
        (Some(subject), Some(reply), Some(header), Some(size), None) => (subject, Some(reply), header, size),
        _ => return Err(malformed("processHeaderPub Parse Error")),
    };
    let header =
        size_number(header_text).ok_or_else(|| malformed("processHeaderPub Bad or Missing Header Size"))?;
    let size =
        size_number(size_text).ok_or_else(|| malformed("processHeaderPub Bad or Missing Total Size"))?;
    if header > size {
        return Err(malformed("processHeaderPub Header Size larger then TotalSize"));
    }
    Ok(PublishLine { subject, reply, header_text, header, size_text, size })
}

/// The lexer lets a line end be the first byte of a subject. Sent on to a receiver it would end the line
/// there and let a publisher write protocol into another's connection; here the reference is not followed
/// (`DIVERGENCE.md`).
fn refuse_line_end(line: &[u8], what: &'static str) -> Result<(), ParseFault> {
    // Only the first byte can be one: the line was searched from the second on.
    if line.first() == Some(&b'\n') { Err(ParseFault::Malformed(what, line.into())) } else { Ok(()) }
}

fn subscribe(line: &[u8]) -> Result<Operation<'_>, ParseFault> {
    let mut fields = Fields::new(line, is_blank_or_line_end);
    match (fields.next(), fields.next(), fields.next(), fields.next()) {
        (Some(subject), Some(sid), None, _) => Ok(Operation::Subscribe { subject, queue: None, sid }),
        (Some(subject), Some(queue), Some(sid), None) => {
            Ok(Operation::Subscribe { subject, queue: Some(queue), sid })
        }
        _ => Err(ParseFault::Malformed("processSub Parse Error", line.into())),
    }
}

fn unsubscribe(line: &[u8]) -> Result<Operation<'_>, ParseFault> {
    let mut fields = Fields::new(line, is_blank_or_line_end);
    match (fields.next(), fields.next(), fields.next()) {
        (Some(sid), None, _) => Ok(Operation::Unsubscribe { sid, max: None }),
        (Some(sid), Some(max), None) => Ok(Operation::Unsubscribe {
            sid,
            max: size_number(max).map(|max| max as u64).filter(|max| *max > 0),
        }),
        _ => Err(ParseFault::Malformed("processUnsub Parse Error", line.into())),
    }
}

/// One to nine decimal digits.
fn size_number(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > SIZE_DIGITS_MAX {
        return None;
    }
    text.iter().try_fold(0usize, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + usize::from(byte - b'0'))
    })
}

#[inline]
fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

#[inline]
fn is_blank_or_line_end(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The non-empty fields of a line.
struct Fields<'a, S> {
    rest: &'a [u8],
    separates: S,
}

impl<'a, S: Fn(u8) -> bool> Fields<'a, S> {
    fn new(line: &'a [u8], separates: S) -> Self {
        Self { rest: line, separates }
    }
}

impl<'a, S: Fn(u8) -> bool> Iterator for Fields<'a, S> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|b| !(self.separates)(*b))?;
        let rest = &self.rest[start..];
        let end = rest.iter().position(|b| (self.separates)(*b)).unwrap_or(rest.len());
        self.rest = &rest[end..];
        Some(&rest[..end])
    }
}
