//! What goes in, what comes out, and what it counts for.

use bytes::Bytes;

/// A message to be appended.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// Larger than every sequence the stream has used.
    pub sequence: u64,
    /// Nanoseconds since 1970.
    pub timestamp: i64,
    /// Without wildcards, at most [`SUBJECT_BYTES_MAX`] bytes.
    pub subject: &'a [u8],
    /// The whole block from `NATS/1.0` to the empty line, or empty.
    pub headers: &'a [u8],
    /// May be empty.
    pub payload: &'a [u8],
}

/// A stored message. Its parts share one buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the stream.
    pub sequence: u64,
    /// Nanoseconds since 1970.
    pub timestamp: i64,
    /// Without wildcards.
    pub subject: Bytes,
    /// The whole block from `NATS/1.0` to the empty line, or empty.
    pub headers: Bytes,
    /// May be empty.
    pub payload: Bytes,
}

/// Longest subject that can be stored, in bytes.
pub const SUBJECT_BYTES_MAX: usize = u16::MAX as usize;

/// Largest message that can be stored: subject, headers and payload together, in bytes. Far above what a server lets a
/// client publish; it keeps every length within a segment in 32 bits.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// How many bytes a message counts for in a stream's limits and state. The two formulas are those that operators know
/// from the original's stream information, not what is really occupied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accounting {
    /// 22 + subject + payload + 8, and 4 + headers if there are any.
    File,
    /// 16 + subject + headers + payload.
    Memory,
}

impl Accounting {
    /// Bytes of one message with parts of these lengths.
    pub fn bytes(self, subject: usize, headers: usize, payload: usize) -> u64 {
        let bytes = match self {
            Self::File if headers == 0 => 22 + subject + payload + 8,
            Self::File => 22 + subject + 4 + headers + payload + 8,
            Self::Memory => 16 + subject + headers + payload,
        };
        bytes as u64
    }
}
