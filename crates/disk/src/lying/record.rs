//! What was done to a disk, and doing it again up to any point.

use std::sync::Arc;

use super::Lying;
use super::state::{Inode, State};

/// A call that changed something, as far as it did.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as the calls of the disk and of its files")]
pub enum Call {
    Create {
        name: String,
        inode: Inode,
    },
    CreateFolder {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    RemoveFolder {
        name: String,
    },
    SyncFolder {
        name: String,
    },
    Write {
        inode: Inode,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    SetLen {
        inode: Inode,
        len: u64,
    },
    Sync {
        inode: Inode,
    },
    /// A sync that said no. What it should have made durable never will be, by luck at most.
    SyncFailed {
        inode: Inode,
    },
}

impl Call {
    /// What is done of a call that fails.
    pub(super) fn failed(self, half: bool) -> Option<Self> {
        match self {
            Self::Write { inode, offset, bytes } if half => {
                Some(Self::Write { inode, offset, bytes: Arc::from(&bytes[..bytes.len() / 2]) })
            }
            Self::Sync { inode } => Some(Self::SyncFailed { inode }),
            _ => None,
        }
    }
}

/// Everything that was done to a disk, in order.
#[derive(Clone, Debug)]
pub struct Record {
    pub(super) calls: Vec<Call>,
}

impl Record {
    /// The calls.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// The disk before the first call; [`Replay::step`] does them again one by one.
    #[must_use]
    pub fn replay(&self, seed: u64) -> Replay<'_> {
        Replay { calls: &self.calls, done: 0, state: State::new(seed) }
    }
}

/// A record under way.
#[derive(Debug)]
pub struct Replay<'a> {
    calls: &'a [Call],
    done: usize,
    state: State,
}

impl Replay<'_> {
    /// How many calls are done.
    #[must_use]
    pub fn done(&self) -> usize {
        self.done
    }

    /// Does the next call; `None` at the end.
    ///
    /// # Panics
    /// Never: what was done once can be done again.
    pub fn step(&mut self) -> Option<&Call> {
        let call = self.calls.get(self.done)?;
        self.state.apply(call).expect("done once already");
        self.done += 1;
        Some(call)
    }

    /// As [`Lying::kill`], now.
    #[must_use]
    pub fn kill(&self) -> Lying {
        Lying::with(self.state.after_kill())
    }

    /// As [`Lying::power_cut`], now.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Lying {
        Lying::with(self.state.after_power_cut(seed))
    }
}
