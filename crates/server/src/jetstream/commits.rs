//! What the journal reports: records that are committed are applied here, on the writer's thread.

use std::sync::{Arc, Weak};

use sonata_broker::shared::Level;
use sonata_broker::worker::Worker;
use sonata_journal::{Batch, Committed, Error, Position, Record};

use super::{Handle, JetStream};

/// See the module.
pub(super) struct Commits(pub(super) Weak<JetStream>);

impl Committed for Commits {
    fn committed(&self, batch: Batch<'_>) {
        let Some(jetstream) = self.0.upgrade() else { return };
        jetstream.with_worker(|worker| {
            let mut records = batch.records().peekable();
            while let Some(first) = records.next() {
                let lane = first.lane;
                let mut run = vec![first];
                while let Some(next) = records.next_if(|record| record.lane == lane && run.len() < RUN_MAX) {
                    run.push(next);
                }
                if let Some(handle) = jetstream.handle(lane) {
                    jetstream.apply(&handle, &run, worker);
                }
            }
        });
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

    fn resumed(&self, _first: Position) {
        let Some(jetstream) = self.0.upgrade() else { return };
        jetstream.log(Level::Info, format_args!("JetStream storage resumed"));
        *jetstream.failure.lock() = None;
        let now = jetstream.clock.now_unix_ns();
        for handle in jetstream.handles() {
            jetstream.post_for(&handle.home, |out| handle.stream.lock().on_log_resumed(now, out));
            jetstream.node.after(&handle.stream);
        }
    }
}

/// Records that are applied under one lock of their stream, so that its publishers are not kept out for long.
const RUN_MAX: usize = 256;

impl JetStream {
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
