//! Checks of credentials that take long: work on a few threads of its own, and questions that wait without one.

use std::sync::Arc;

use sonata_auth::check::{Check, Outcome, SlowCheck};
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

    /// Runs the check, and what follows from it, and tells the outcome. A question is forgotten as soon as nobody wants
    /// to know any more.
    pub(crate) fn run(&self, check: SlowCheck, mut tell: oneshot::Sender<Outcome>) {
        let (computing, waiting) = (self.computing.clone(), self.waiting.clone());
        tokio::spawn(async move {
            let checked = tokio::select! {
                checked = finish(check, computing, waiting) => checked,
                () = tell.closed() => None,
            };
            if let Some(outcome) = checked {
                // Whoever asked may be gone.
                let _ = tell.send(outcome);
            }
        });
    }

    /// Looks something up, in turn with the checks that do. None when the thread was lost.
    pub(crate) async fn find<T: Send + 'static>(
        &self,
        find: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        on_a_thread(find, &self.waiting).await
    }
}

/// None when a thread was lost.
async fn finish(check: SlowCheck, computing: Arc<Semaphore>, waiting: Arc<Semaphore>) -> Option<Outcome> {
    let mut check = Check::Slow(check);
    loop {
        check = match check {
            Check::Decided(outcome) => return Some(outcome),
            Check::Slow(SlowCheck::Ask(asking)) => asking.await,
            Check::Slow(SlowCheck::Compute(work)) => on_a_thread(work, &computing).await?,
            Check::Slow(SlowCheck::Find(work)) => on_a_thread(work, &waiting).await?,
        };
    }
}

async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    turns: &Arc<Semaphore>,
) -> Option<T> {
    let turn = turns.clone().acquire_owned().await.ok()?;
    let done = tokio::task::spawn_blocking(move || {
        // Kept until the work is done, also when nobody waits for it any more.
        let _turn = turn;
        work()
    });
    done.await.ok()
}
