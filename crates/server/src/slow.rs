//! Password checks that take long, on a few threads of their own.

use std::sync::Arc;

use sonata_auth::user::{Outcome, SlowCheck};
use tokio::sync::{Semaphore, oneshot};

/// Checks at the same time at least; otherwise as many as there are processors. A bcrypt comparison keeps one busy for
/// tens of milliseconds; more of them at once would only take processors from those who are in already.
const CHECKS_MIN: usize = 2;

/// See the module. A check that waits here waits within its connection's authentication timeout.
pub(crate) struct SlowChecks(Arc<Semaphore>);

impl SlowChecks {
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(CHECKS_MIN, usize::from);
        Self(Arc::new(Semaphore::new(processors.max(CHECKS_MIN))))
    }

    /// Runs the check and tells its outcome.
    pub(crate) fn run(&self, check: SlowCheck, tell: oneshot::Sender<Outcome>) {
        let semaphore = self.0.clone();
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
