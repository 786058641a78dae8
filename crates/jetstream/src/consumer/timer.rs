//! What time brings: missing acknowledgements, heartbeats, requests that expire, pauses that end, clients that stay away.

use super::{Consumer, Scene, Unacknowledged};
use crate::config::AckPolicy;

/// What becomes of a consumer when its timer was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays.
    Stay,
    /// Nobody has used it for as long as it may be unused.
    Inactive,
}

impl Consumer {
    /// When [`Consumer::on_timer`] has something to do, ns since 1970.
    pub(crate) fn next_timer(&self, now: i64) -> Option<i64> {
        let pause = self.config.pause_until.map(|until| until.0).filter(|until| *until > now);
        let pace = Some(self.not_before).filter(|at| *at > now);
        let pin = (!self.pin.id.is_empty()).then_some(self.pin.expires_at);
        [
            self.ack_deadline,
            self.next_waiting_timer(),
            self.push.heartbeat_at(),
            pause,
            pace,
            pin,
            self.inactive_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub(crate) fn on_timer(&mut self, scene: &mut Scene<'_>) -> Fate {
        if self.ack_deadline.is_some_and(|at| at <= scene.now) {
            self.check_unacknowledged(scene);
        }
        self.expire_waiting(scene, false);
        self.waiting_reviewed_at = scene.now;
        if self.push.heartbeat_at().is_some_and(|at| at <= scene.now) {
            self.send_heartbeat(scene);
        }
        if !self.pin.id.is_empty() && self.pin.expires_at <= scene.now {
            let group = self.config.priority_groups.first().cloned().unwrap_or_default();
            self.unpin(scene, &group, "timeout");
        }
        match self.inactive_at() {
            Some(at) if at <= scene.now && self.waiting.is_empty() => Fate::Inactive,
            _ => Fate::Stay,
        }
    }

    /// When it has been unused for too long, if nothing happens before, or is to be looked at for that.
    fn inactive_at(&self) -> Option<i64> {
        let threshold = self.config.inactive_threshold;
        if threshold <= 0 || self.push.is_active() {
            return None;
        }
        if !self.waiting.is_empty() {
            // Those who wait may go without a word.
            return Some(self.waiting_reviewed_at.max(self.last_active).saturating_add(threshold));
        }
        // Somebody may still be at work on what was delivered.
        let busy =
            self.unacknowledged.iter().map(|(sequence, entry)| self.deadline_of(*sequence, entry)).max();
        let since =
            if self.config.is_push() { self.last_active } else { busy.unwrap_or(0).max(self.last_active) };
        Some(since.saturating_add(threshold))
    }

    /// When a message is missing its acknowledgement.
    fn deadline_of(&self, sequence: u64, entry: &Unacknowledged) -> i64 {
        let backoff = &self.config.backoff;
        let wait = match backoff.len() {
            0 => self.config.ack_wait,
            steps => {
                backoff[(self.delivery_counts.get(&sequence).copied().unwrap_or(0) as usize).min(steps - 1)]
            }
        };
        entry.sent_at.saturating_add(wait)
    }

    /// Puts messages whose acknowledgement is missing up for redelivery.
    fn check_unacknowledged(&mut self, scene: &mut Scene<'_>) {
        let first = scene.store.state().first_sequence;
        let due: Vec<(u64, Unacknowledged)> = self
            .unacknowledged
            .iter()
            .filter(|(sequence, entry)| {
                self.deadline_of(**sequence, entry) <= scene.now || **sequence < first
            })
            .map(|(sequence, entry)| (*sequence, *entry))
            .collect();
        for (sequence, entry) in due {
            if sequence < first {
                let count = self.delivery_count(sequence);
                self.terminate(scene, sequence, entry.consumer, count, "Message deleted by stream limits");
                continue;
            }
            if self.redeliver_set.contains(&sequence) {
                continue;
            }
            let count = self.delivery_count(sequence);
            if self.config.max_deliver > 0 && count >= self.config.max_deliver as u64 {
                self.give_up(scene, sequence, entry, count);
                continue;
            }
            if let Some(entry) = self.unacknowledged.get_mut(&sequence) {
                entry.sent_at = scene.now;
            }
            self.queue_redelivery(sequence);
        }
        self.plan_ack_deadline();
    }

    /// Finds out when the next acknowledgement is missing.
    pub(super) fn plan_ack_deadline(&mut self) {
        self.ack_deadline = match self.config.ack_policy {
            AckPolicy::None | AckPolicy::FlowControl => None,
            _ => {
                let waits =
                    self.unacknowledged.iter().filter(|(sequence, _)| !self.redeliver_set.contains(sequence));
                waits.map(|(sequence, entry)| self.deadline_of(*sequence, entry)).min()
            }
        };
    }

    /// The same when one message has been delivered: it can only come earlier.
    pub(super) fn plan_ack_deadline_of(&mut self, sequence: u64) {
        if self.config.ack_policy == AckPolicy::FlowControl {
            return;
        }
        if let Some(entry) = self.unacknowledged.get(&sequence) {
            let deadline = self.deadline_of(sequence, entry);
            self.ack_deadline = Some(self.ack_deadline.map_or(deadline, |at| at.min(deadline)));
        }
    }
}
