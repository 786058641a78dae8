//! What streams and consumers ask of the world around them: a log, publishing, interest. Narrow traits, so that a test can
//! be the whole world.

use std::fmt;

/// A message that a stream or consumer wants published in its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Whose subscribers get it, when that is not its own subject; empty when it is.
    pub route: &'a [u8],
    /// Subject that receivers see.
    pub subject: &'a [u8],
    /// Reply subject; empty for none.
    pub reply: &'a [u8],
    /// The whole header block; empty for none.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

impl<'a> Outgoing<'a> {
    /// A message without headers and reply.
    pub fn plain(subject: &'a [u8], payload: &'a [u8]) -> Self {
        Self { route: b"", subject, reply: b"", headers: b"", payload }
    }

    /// Nothing but a header block: a status.
    pub fn status(subject: &'a [u8], headers: &'a [u8]) -> Self {
        Self { route: b"", subject, reply: b"", headers, payload: b"" }
    }
}

/// Where messages go that are to be published. Called under a stream's lock: it only collects.
pub trait Publish {
    /// Takes a message. Order is kept.
    fn publish(&mut self, message: Outgoing<'_>);
}

/// What an account's subscriptions say.
pub trait Interest: Send + Sync {
    /// Whether anybody would get a message on the literal `subject`.
    fn has_interest(&self, subject: &[u8]) -> bool;
    /// Whether a member of the queue group would, or with an empty group somebody outside of groups.
    fn has_group_interest(&self, subject: &[u8], group: &[u8]) -> bool;
}

/// The same for every subject: everybody listens, or nobody. For streams without an account's subscriptions, as in
/// simulations and measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uniform(pub bool);

impl Interest for Uniform {
    fn has_interest(&self, _subject: &[u8]) -> bool {
        self.0
    }

    fn has_group_interest(&self, _subject: &[u8], _group: &[u8]) -> bool {
        self.0
    }
}

/// Why a log takes no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Too much waits to be written; try again later.
    Full,
    /// The disk refuses, in its own words.
    Failed(String),
    /// The server is shutting down.
    Closed,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("too many records wait for the disk"),
            Self::Failed(cause) => write!(f, "storage failed: {cause}"),
            Self::Closed => f.write_str("server is shutting down"),
        }
    }
}

impl std::error::Error for Refused {}

/// Whether anybody waits for a record to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// Somebody does, or something goes on only then.
    Now,
    /// Nobody does: what a consumer has delivered or was told, which after a crash is only done again.
    Soon,
}

/// The ordered, durable sequence of a stream's records.
///
/// A record that was appended is committed later, by a call of [`Stream::committed`](crate::stream::Stream::committed) with
/// its bytes, or never.
pub trait Log: Send + Sync {
    /// Appends a record for the stream `lane`. Returns its position, which grows with every record. Called under the
    /// stream's lock: no I/O. Records are committed in order, whatever their haste.
    ///
    /// # Errors
    /// As [`Refused`] says; nothing is appended then.
    fn append(&self, lane: u64, record: &[u8], haste: Haste) -> Result<u64, Refused>;
}
