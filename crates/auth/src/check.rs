//! The answer to what a client presented, or the work that leads to one.
//!
//! Work comes in three kinds, by what it keeps busy: a processor, a thread that waits for a disk, or nobody while a
//! service far away makes up its mind. Whoever runs it bounds how much of each there is at a time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::user::{Identity, Reason};

/// An answer, or the work that leads to one.
#[derive(Debug)]
pub enum Check {
    /// The answer.
    Decided(Outcome),
    /// Work first.
    Slow(SlowCheck),
}

/// The answer to what a client presented.
#[derive(Debug)]
pub enum Outcome {
    /// It may come in.
    Granted(Identity),
    /// It may not.
    Refused(Reason),
}

/// Work that leads to an answer, or to more work.
pub enum SlowCheck {
    /// A password is to be compared with its hash: a processor is busy for 60 ms or more.
    Compute(Work),
    /// Something is to be found: a thread waits for a disk or a network, within a bound of its own.
    Find(Work),
    /// Somebody is asked, and answers within a bound of its own. Dropping it forgets the question.
    Ask(Asking),
}

/// Blocks, so it is for a bounded pool of threads.
pub type Work = Box<dyn FnOnce() -> Check + Send>;

/// A question under way. Needs no thread while it waits.
pub type Asking = Pin<Box<dyn Future<Output = Check> + Send>>;

impl Check {
    pub(crate) fn granted(identity: Identity) -> Self {
        Self::Decided(Outcome::Granted(identity))
    }

    pub(crate) fn refused(reason: Reason) -> Self {
        Self::Decided(Outcome::Refused(reason))
    }

    /// Decides anew, once there is an outcome.
    #[must_use]
    pub fn then(self, next: impl FnOnce(Outcome) -> Self + Send + 'static) -> Self {
        match self {
            Self::Decided(outcome) => next(outcome),
            Self::Slow(SlowCheck::Compute(work)) => {
                Self::Slow(SlowCheck::Compute(Box::new(move || work().then(next))))
            }
            Self::Slow(SlowCheck::Find(work)) => {
                Self::Slow(SlowCheck::Find(Box::new(move || work().then(next))))
            }
            Self::Slow(SlowCheck::Ask(asking)) => {
                Self::Slow(SlowCheck::Ask(Box::pin(async move { asking.await.then(next) })))
            }
        }
    }
}

impl fmt::Debug for SlowCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compute(_) => "Compute",
            Self::Find(_) => "Find",
            Self::Ask(_) => "Ask",
        })
    }
}
