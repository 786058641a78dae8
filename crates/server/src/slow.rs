//! Checks of credentials that take long, on a few threads of their own.

use std::sync::Arc;

use sonata_auth::user::{Outcome, SlowCheck};
use tokio::sync::{Semaphore, oneshot};

/// Checks at the same time at least; otherwise as many as there are processors. A bcrypt comparison keeps one busy for
/// tens of milliseconds; more of them at once would only take processors from those who are in already.
const CHECKS_MIN: usize = 2;

/// Lookups of accounts at the same time. They wait for a disk or a network, each within a time; a known account is
/// never looked up, so that those beyond are mostly people who try.
const LOOKUPS_MAX: usize = 32;

/// See the module. A check that waits here waits within its connection's authentication timeout.
pub(crate) struct SlowChecks {
    computing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl SlowChecks {
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(CHECKS_MIN, usize::from);
        Self {
            computing: Arc::new(Semaphore::new(processors.max(CHECKS_MIN))),
            waiting: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }

    /// Runs the check and tells its outcome.
    pub(crate) fn run(&self, check: SlowCheck, tell: oneshot::Sender<Outcome>) {
        let semaphore = if check.waits() { self.waiting.clone() } else { self.computing.clone() };
        tokio::spawn(async move {
            let Ok(_permit) = semaphore.acquire_owned().await else { return };
            if tell.is_closed() {
                return;
            }
            if let Ok(outcome) = tokio::task::spawn_blocking(move || check.run()).await {
                // Whoever asked may be gone.
                let _ = tell.send(outcome);
            }
        });
    }
}
