//! The numbers a stream is asked for.

use bytes::Bytes;

/// A stream's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Live messages.
    pub messages: u64,
    /// Their bytes, by [`Accounting`](crate::Accounting).
    pub bytes: u64,
    /// The smallest live sequence; `last_sequence + 1` without messages.
    pub first_sequence: u64,
    /// Its timestamp, nanoseconds since 1970; 0 without messages.
    pub first_timestamp: i64,
    /// The largest sequence ever used.
    pub last_sequence: u64,
    /// When it was stored, nanoseconds since 1970; 0 if nothing ever was.
    pub last_timestamp: i64,
    /// Distinct subjects of live messages.
    pub subjects: u64,
    /// Sequences between first and last that have no message.
    pub deleted: u64,
    /// What damage has cost.
    pub lost: Lost,
}

/// Messages that were stored and can no longer be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What one subject holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectState {
    /// Live messages, at least 1.
    pub messages: u64,
    /// The smallest sequence among them.
    pub first: u64,
    /// The largest.
    pub last: u64,
}

/// A message that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its subject.
    pub subject: Bytes,
    /// What it counted for.
    pub bytes: u64,
    /// When it was stored, nanoseconds since 1970.
    pub timestamp: i64,
}

/// How much a purge took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}
