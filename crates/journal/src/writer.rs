//! The writer's thread, between its turns.

use std::sync::Arc;

use crate::journal::{Committed, Journal, Next, Otherwise};

/// The one that writes. Whoever has threads gives it one.
#[derive(Debug)]
pub struct Writer {
    journal: Arc<Journal>,
}

impl Writer {
    pub(crate) fn new(journal: Arc<Journal>) -> Self {
        Self { journal }
    }

    /// Works until the journal is [closed](Journal::close) and all that was appended before is committed.
    ///
    /// In [`crate::Mode::Interval`] the threads that kick write themselves; this one fills files ahead, frees what is
    /// released, and takes over when a kicking thread has written enough for others.
    pub fn run(&mut self, committed: Arc<dyn Committed>) {
        self.work(&committed, Otherwise::Sleep);
        self.journal.finish(&*committed);
        self.journal.attach(None);
    }

    /// As [`Self::run`], but returns as soon as there is nothing to do: for those who have one thread and an hour of
    /// their own, such as simulations. Afterwards kicks in [`crate::Mode::Interval`] go to `committed`.
    pub fn run_until_idle(&mut self, committed: Arc<dyn Committed>) {
        self.work(&committed, Otherwise::Return);
    }

    fn work(&mut self, committed: &Arc<dyn Committed>, otherwise: Otherwise) {
        let journal = &*self.journal;
        journal.attach(Some(committed.clone()));
        let mut idle = true;
        loop {
            match journal.next(&mut idle, otherwise) {
                Next::Turn => {
                    while journal.turn(&**committed) {}
                    idle = true;
                }
                Next::Idle => idle = journal.idle(&**committed),
                Next::Retry => journal.probe(&**committed),
                Next::Stop => return,
            }
        }
    }
}
