//! Reading a snapshot from a peer: nothing in it is believed, and no size is allocated before it was checked.

use std::fmt;
use std::io::{self, BufReader, Read};

use super::entry::{ConsumerSnapshot, Entry};
use super::{CONSUMERS, MAGIC, STATE, older};
use crate::json::{self, Mode};

/// The longest name of an entry, bytes: no subject is longer than a protocol line.
const NAME_BYTES_MAX: u64 = 64 * 1024;
/// The largest state of stream or consumer, bytes. A consumer with a million pending messages needs about 80 MB.
pub(super) const STATE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Memory for an entry grows in steps of this, as its bytes really come, bytes.
const STEP: u64 = 1024 * 1024;

/// Why a snapshot could not be read.
#[derive(Debug)]
pub enum ArchiveError {
    /// The bytes could not be had, or are no S2 stream.
    Io(io::Error),
    /// It is no archive.
    NotAnArchive,
    /// The server that made it could not read the stream, and says why.
    Incomplete(String),
    /// It ends before its end.
    Truncated,
    /// A number, size or order is impossible.
    Malformed(&'static str),
    /// A message is larger than allowed.
    MessageTooLarge {
        /// The message.
        sequence: u64,
    },
    /// The state of the stream or of a consumer is not what it should be.
    State(json::Error),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "snapshot cannot be read: {error}"),
            Self::NotAnArchive => f.write_str("snapshot is not of a known format"),
            Self::Incomplete(cause) => write!(f, "snapshot is incomplete: {cause}"),
            Self::Truncated => f.write_str("snapshot was truncated"),
            Self::Malformed(what) => write!(f, "snapshot is malformed: {what}"),
            Self::MessageTooLarge { sequence } => {
                write!(f, "message sequence {sequence} exceeds maximum message size")
            }
            Self::State(error) => write!(f, "snapshot holds an invalid state: {error}"),
        }
    }
}

impl std::error::Error for ArchiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::State(error) => Some(error),
            _ => None,
        }
    }
}

/// An end where none is allowed is a truncation, wherever it is noticed.
impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Io(error) }
    }
}

/// Reads a snapshot of any version and gives its entries to `take`, up to what was really the end. A message of more than
/// `message_bytes_max` bytes, headers included, is refused.
///
/// # Errors
/// See [`ArchiveError`], and what `take` says.
pub fn read<R: Read, E: From<ArchiveError>>(
    input: R,
    message_bytes_max: u64,
    take: &mut dyn FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    let mut input = BufReader::new(minlz::Reader::new(input));
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic).map_err(ArchiveError::from)?;
    if magic != *MAGIC {
        return older::read(magic.chain(input), message_bytes_max, take);
    }
    let mut reader = Reader { input, message_bytes_max, phase: Phase::State };
    while let Some(entry) = reader.next_entry()? {
        take(entry)?;
    }
    Ok(())
}

/// Reads a snapshot entry by entry.
pub struct Reader<R: Read> {
    input: BufReader<minlz::Reader<R>>,
    message_bytes_max: u64,
    phase: Phase,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Magic,
    State,
    Consumers,
    /// Messages after this sequence.
    Messages(u64),
    Done,
}

/// What stands before an entry's bytes.
struct Frame {
    name: Vec<u8>,
    timestamp: i64,
    sequence: u64,
    header_bytes: u64,
    payload_bytes: u64,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`; a message of more than `message_bytes_max` bytes, headers included, is refused.
    pub fn new(input: R, message_bytes_max: u64) -> Self {
        Self { input: BufReader::new(minlz::Reader::new(input)), message_bytes_max, phase: Phase::Magic }
    }

    /// The next entry; `None` at the end, which was really the end.
    ///
    /// # Errors
    /// See [`ArchiveError`]. After an error nothing more can be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        if self.phase == Phase::Done {
            return Ok(None);
        }
        let entry = self.read_entry();
        if !matches!(entry, Ok(Some(_))) {
            self.phase = Phase::Done;
        }
        entry
    }

    fn read_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        if self.phase == Phase::Magic {
            let mut magic = [0; MAGIC.len()];
            self.input.read_exact(&mut magic)?;
            if magic != *MAGIC {
                return Err(ArchiveError::NotAnArchive);
            }
            self.phase = Phase::State;
        }
        let frame = self.frame()?;
        match self.phase {
            Phase::State if frame.name == STATE.as_bytes() => {
                let text = self.state_bytes(&frame)?;
                self.phase = Phase::Consumers;
                let state = json::decode(&text, Mode::Lenient).map_err(ArchiveError::State)?;
                Ok(Some(Entry::State(Box::new(state))))
            }
            Phase::State => Err(ArchiveError::Malformed("the state of the stream is not the first entry")),
            // A message has a sequence, so that a subject cannot be taken for a consumer.
            Phase::Consumers if frame.sequence == 0 && frame.name.starts_with(CONSUMERS.as_bytes()) => {
                let text = self.state_bytes(&frame)?;
                let consumer = ConsumerSnapshot::parse(&text).map_err(ArchiveError::State)?;
                Ok(Some(Entry::Consumer(Box::new(consumer))))
            }
            Phase::Messages(last) => self.message(frame, last),
            _ => self.message(frame, 0),
        }
    }

    fn message(&mut self, frame: Frame, last: u64) -> Result<Option<Entry>, ArchiveError> {
        let Frame { name, timestamp, sequence, header_bytes, payload_bytes } = frame;
        if sequence == 0 {
            let is_end = timestamp == 0 && header_bytes == 0 && payload_bytes == 0;
            return if is_end {
                Ok(None)
            } else {
                Err(ArchiveError::Malformed("a message without a sequence"))
            };
        }
        if sequence <= last {
            return Err(ArchiveError::Malformed("a message out of order"));
        }
        if header_bytes.checked_add(payload_bytes).is_none_or(|bytes| bytes > self.message_bytes_max) {
            return Err(ArchiveError::MessageTooLarge { sequence });
        }
        let headers = self.bytes(header_bytes)?;
        let payload = self.bytes(payload_bytes)?;
        self.phase = Phase::Messages(sequence);
        Ok(Some(Entry::Message { sequence, timestamp, subject: name, headers, payload }))
    }

    fn frame(&mut self) -> Result<Frame, ArchiveError> {
        let name_bytes = self.number()?;
        let timestamp = self.number()?;
        let sequence = self.number()?;
        let header_bytes = self.number()?;
        let payload_bytes = self.number()?;
        if name_bytes > NAME_BYTES_MAX {
            return Err(ArchiveError::Malformed("a name is too long"));
        }
        let name = self.bytes(name_bytes)?;
        Ok(Frame { name, timestamp: unfolded(timestamp), sequence, header_bytes, payload_bytes })
    }

    fn state_bytes(&mut self, frame: &Frame) -> Result<Vec<u8>, ArchiveError> {
        match frame.header_bytes.checked_add(frame.payload_bytes) {
            Some(bytes) if bytes <= STATE_BYTES_MAX => self.bytes(bytes),
            _ => Err(ArchiveError::Malformed("a state is too large")),
        }
    }

    /// So many bytes; the memory for them grows only as they come.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, ArchiveError> {
        bytes_of(&mut self.input, count)
    }

    /// A number of seven bits per byte, the lowest first.
    fn number(&mut self) -> Result<u64, ArchiveError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            let bits = u64::from(byte[0] & 0x7F);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ArchiveError::Malformed("a number is too large"))
    }
}

/// So many bytes; the memory for them grows only as they come.
pub(super) fn bytes_of(input: &mut impl Read, count: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::with_capacity(usize::try_from(count.min(STEP)).unwrap_or_default());
    let got = input.take(count).read_to_end(&mut bytes)?;
    if got as u64 == count { Ok(bytes) } else { Err(ArchiveError::Truncated) }
}

/// Signed numbers have their sign in the lowest bit.
fn unfolded(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
