//! What the journal reports: records that are committed are applied here, on the writer's thread.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use sonata_broker::shared::Level;
use sonata_broker::worker::Worker;
use sonata_journal::{Batch, Committed, Error, Position, Record};

use super::{Handle, JetStream};

/// See the module.
pub(super) struct Commits(pub(super) Weak<JetStream>);

impl Committed for Commits {
    fn committed(&self, batch: Batch<'_>) {
        let Some(jetstream) = self.0.upgrade() else { return };
        // Half of a batch is sent early, so that its publishers go on while the other half is applied.
        let sent_early = match batch.count() {
            count @ HALVED_MIN..=HALVED_MAX => count.div_ceil(2),
            _ => usize::MAX,
        };
        jetstream.with_worker(|worker| {
            let mut records = batch.records();
            let mut window = Vec::with_capacity(batch.count().min(WINDOW));
            let mut unsent = 0;
            loop {
                window.extend(records.by_ref().take(WINDOW));
                if window.is_empty() {
                    break;
                }
                // Records of a stream stay in order, and what streams publish to each other comes in later batches.
                if window.len() >= SORTED_MIN {
                    window.sort_by_key(|record: &Record<'_>| record.lane);
                }
                for lane in window.chunk_by(|one, two| one.lane == two.lane) {
                    let handle = jetstream.handle(lane[0].lane);
                    for run in lane.chunks(sent_early.min(RUN_MAX)) {
                        if let Some(handle) = &handle {
                            jetstream.apply(handle, run, worker);
                        }
                        unsent += run.len();
                        if unsent >= sent_early {
                            unsent = 0;
                            worker.flush(jetstream.clock.now_ns());
                        }
                    }
                }
                window.clear();
            }
        });
        jetstream.applied.advance(batch.last());
    }

    fn failed(&self, error: &Error) {
        let Some(jetstream) = self.0.upgrade() else { return };
        let cause = error.to_string();
        jetstream.log(Level::Error, format_args!("JetStream storage failed: {cause}"));
        *jetstream.failure.lock() = Some(cause.clone());
        for handle in jetstream.handles() {
            jetstream.post_for(&handle.home, |out| handle.stream.lock().on_log_failed(&cause, out));
        }
    }

    fn resumed(&self, first: Position) {
        let Some(jetstream) = self.0.upgrade() else { return };
        // What was lost is not waited for.
        jetstream.applied.advance(Position(first.0 - 1));
        jetstream.log(Level::Info, format_args!("JetStream storage resumed"));
        *jetstream.failure.lock() = None;
        let now = jetstream.clock.now_unix_ns();
        for handle in jetstream.handles() {
            jetstream.post_for(&handle.home, |out| handle.stream.lock().on_log_resumed(now, out));
            jetstream.node.after(&handle.stream);
        }
    }
}

/// How far the journal is applied, for those who wait for what was appended before they came.
#[derive(Default)]
pub(super) struct Applied {
    position: AtomicU64,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    advanced: Condvar,
}

impl Applied {
    pub(super) fn advance(&self, to: Position) {
        self.position.fetch_max(to.0, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // Whoever is about to wait has looked under the lock.
            drop(self.lock.lock());
            self.advanced.notify_all();
        }
    }

    fn wait(&self, position: Position, longest: Duration) {
        let until = Instant::now() + longest;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock.lock();
        while self.position.load(Ordering::SeqCst) < position.0
            && !self.advanced.wait_until(&mut guard, until).timed_out()
        {}
        drop(guard);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A disk that is slower than this does not hold up answers.
const CATCH_UP: Duration = Duration::from_millis(100);

/// Records among which those of one stream are brought together: a stream is found, locked and asked for its turn once for
/// all of them.
const WINDOW: usize = 1024;
/// Of fewer, streams that are many have hardly more than one each, and those in order are soon answered.
const SORTED_MIN: usize = 256;
/// Records that are applied under one lock of their stream, so that its publishers are not kept out for long.
const RUN_MAX: usize = 256;
/// Half of fewer is not worth a write to the publisher's socket of its own: up to a quarter of what a batch costs is waking
/// its publisher.
const HALVED_MIN: usize = 192;
/// Half of more is not sent early: so many publishers, or messages of one, have others on their way.
const HALVED_MAX: usize = 511;

impl JetStream {
    /// Waits until what was appended so far is applied, so that whoever asks finds what it has published before, or what
    /// was republished before it was answered.
    pub(super) fn catch_up(&self) {
        let appended = self.journal.appended();
        if self.applied.position.load(Ordering::SeqCst) >= appended.0 || self.failure.lock().is_some() {
            return;
        }
        self.journal.kick();
        self.applied.wait(appended, CATCH_UP);
    }

    fn apply(&self, handle: &Arc<Handle>, run: &[Record<'_>], worker: &mut Worker) {
        let now = self.clock.now_unix_ns();
        let mut malformed = 0;
        {
            let mut post = self.post(&handle.home, worker.outbox());
            let mut machine = handle.stream.lock();
            for record in run {
                let applied = machine.committed(record.position.0, record.body, now, &mut post);
                malformed += u64::from(applied.is_err());
            }
        }
        if malformed > 0 {
            // What was appended here is well formed: this is a mistake of ours, and better seen than passed over.
            self.log(
                Level::Error,
                format_args!("{malformed} records of stream '{}' could not be applied", handle.stream.name),
            );
        }
        self.node.after(&handle.stream);
        let at = self.clock.now_ns();
        worker.publish_outbox(&self.shared, at);
    }
}
