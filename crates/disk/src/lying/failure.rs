//! Calls that are to fail.

use std::io;

use super::Kind;

/// A failure that waits for its call.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Calls of this kind; `None` for any call.
    pub kind: Option<Kind>,
    /// How many such calls still succeed before.
    pub after: u64,
    /// Once, or from then on.
    pub times: Times,
    /// What the caller is told.
    pub cause: Cause,
}

/// How often a [`Failure`] strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// One call fails.
    Once,
    /// This call and all after it.
    FromThenOn,
}

/// What a failing call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Input or output error; nothing was done.
    Broken,
    /// No space left; nothing was done.
    Full,
    /// Input or output error; of a write the first half was done.
    Short,
}

impl Cause {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Broken => io::Error::other("input/output error"),
            Self::Full => io::Error::new(io::ErrorKind::StorageFull, "no space left on device"),
            Self::Short => io::Error::new(io::ErrorKind::WriteZero, "short write"),
        }
    }
}

/// What becomes of a call.
pub(super) enum Outcome {
    Done,
    Failed(io::Error),
    Short(io::Error),
}

impl Failure {
    /// Counts a call; what becomes of it if it is this failure's turn.
    pub(super) fn meet(&mut self, kind: Kind) -> Option<Outcome> {
        /// So far after the failing call that it never comes again.
        const SPENT: u64 = u64::MAX;

        if self.kind.is_some_and(|only| only != kind) || self.after == SPENT {
            return None;
        }
        if self.after > 0 {
            self.after -= 1;
            return None;
        }
        if self.times == Times::Once {
            self.after = SPENT;
        }
        Some(match self.cause {
            Cause::Short => Outcome::Short(self.cause.error()),
            Cause::Broken | Cause::Full => Outcome::Failed(self.cause.error()),
        })
    }
}
