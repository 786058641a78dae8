//! Limits that make room by removing the oldest, and ages.

use sonata_store::Filter;

use super::{After, Machine};
use crate::config::Discard;
use crate::header::{self, name};
use crate::outgoing::Publish;
use crate::record::{self, NUMBER_MAX, Record, publish_flag};

/// Which limits may have been reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit<'a> {
    /// Those that a message on this subject counts for.
    Stored(&'a [u8]),
    /// Any: they are others now.
    All,
}

/// Messages that one firing of the age timer removes, so that others get their turn.
const EXPIRED_MAX: usize = 10_000;

/// Messages and ids that are too old go no more often than this, ns, as in the original: each time costs a record and a
/// look at every consumer.
const REVIEW_EVERY: i64 = 250_000_000;

/// How far the messages are on their way out for their age.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aging {
    /// Those before are, or never will be.
    from: u64,
    /// No other was stored before, ns since 1970; `None` while there is none that is not the store's oldest.
    since: Option<i64>,
}

impl Default for Aging {
    fn default() -> Self {
        Self { from: 0, since: Some(0) }
    }
}

/// What has exactly its age is not too old yet.
fn after(time: i64, age: i64) -> i64 {
    time.saturating_add(age).saturating_add(1)
}

impl Machine {
    /// Removes the oldest messages until no limit is exceeded. Part of applying a record: the same on every replica.
    pub(super) fn enforce_limits(&mut self, limit: Limit<'_>, now: i64, out: &mut dyn Publish) {
        let config = &self.config;
        let per_subject = config.max_msgs_per_subject;
        if per_subject <= 0 && config.max_msgs <= 0 && config.max_bytes <= 0 {
            return;
        }
        let config = config.clone();
        if per_subject > 0 {
            match limit {
                Limit::Stored(subject) => self.enforce_per_subject(subject, per_subject as u64, now, out),
                Limit::All => {
                    let (subjects, _) = self.store.subjects(&Filter::all(), 0, usize::MAX);
                    for (subject, count) in subjects {
                        if count > per_subject as u64 {
                            self.enforce_per_subject(&subject, per_subject as u64, now, out);
                        }
                    }
                }
            }
        }
        if config.discard == Discard::New && matches!(limit, Limit::Stored(_)) {
            return;
        }
        loop {
            let state = self.store.state();
            let messages = config.max_msgs > 0 && state.messages > config.max_msgs as u64;
            let bytes = config.max_bytes > 0 && state.bytes > config.max_bytes as u64;
            if state.messages == 0 || !(messages || bytes) {
                return;
            }
            if !self.remove(state.first_sequence, now, out) {
                // Damaged: it counts no more, and the rest is looked at.
                self.cut(state.first_sequence + 1);
            }
        }
    }

    fn enforce_per_subject(&mut self, subject: &[u8], most: u64, now: i64, out: &mut dyn Publish) {
        while let Ok(Some(state)) = self.store.subject(subject) {
            if state.messages <= most || !self.remove(state.first, now, out) {
                return;
            }
        }
    }

    /// When a message becomes too old, if nothing happens before; ns since 1970. None while the log refuses: the removals
    /// would have to go there.
    pub(super) fn next_expiry(&self) -> Option<i64> {
        let (batches, fast) = (self.batches.next_review(), self.fast_batches.next_review());
        let timers = [self.next_review(), batches, fast, self.schedules.next_due()];
        timers.into_iter().flatten().min()
    }

    /// When messages or ids are to be looked at for their age.
    fn next_review(&self) -> Option<i64> {
        let ids = self.dedupe.oldest().map(|time| after(time, self.config.duplicate_window));
        let logs = self.failed.is_none();
        let by_age = self.next_aged().filter(|_| logs);
        let by_lifetime = self.lifetimes.next_end().filter(|_| logs);
        let first = [by_age, by_lifetime, ids].into_iter().flatten().min()?;
        Some(self.reviewed_at.map_or(first, |at| first.max(at.saturating_add(REVIEW_EVERY))))
    }

    fn next_aged(&self) -> Option<i64> {
        let age = self.config.max_age;
        let (oldest, time) = self.store.oldest().filter(|_| age > 0)?;
        if oldest >= self.aging.from && !self.lifetimes.is_endless(oldest) {
            return Some(after(time, age));
        }
        self.aging.since.map(|since| after(since, age))
    }

    /// Logs the removal of what has become too old.
    pub(super) fn expire(&mut self, now: i64, out: &mut dyn Publish) {
        if self.next_review().is_none_or(|at| at > now) {
            return;
        }
        self.reviewed_at = Some(now);
        self.dedupe.expire(now.saturating_sub(self.config.duplicate_window));
        if self.failed.is_some() {
            return;
        }
        if self.config.max_age > 0 {
            self.expire_by_age(now.saturating_sub(self.config.max_age), now, out);
        }
        for _ in 0..EXPIRED_MAX {
            let Some(sequence) = self.lifetimes.take_ended(now) else { return };
            self.expire_one(sequence, now, out);
        }
        // The rest at once, when others had their turn.
        self.reviewed_at = None;
    }

    fn expire_by_age(&mut self, before: i64, now: i64, out: &mut dyn Publish) {
        let Ok(first) = self.store.sequence_at(before) else { return };
        let oldest = self.store.state().first_sequence;
        let mut from = self.aging.from.max(oldest);
        let one_by_one = !self.lifetimes.is_empty() || self.config.subject_delete_marker_ttl > 0;
        if !one_by_one {
            if from < first {
                let _ = self.commit(&Record::Expire { first }, None, After::Nothing, now, out);
                self.aging = Aging { from: first, since: None };
            }
            return;
        }
        let mut since = None;
        let mut left = EXPIRED_MAX;
        while let Ok(Some(sequence)) = self.store.next(&Filter::all(), from) {
            if left == 0 {
                // The rest at once, when others had their turn.
                since = Some(0);
                self.reviewed_at = None;
                break;
            }
            left -= 1;
            if self.lifetimes.is_endless(sequence) {
                from = sequence + 1;
            } else if sequence < first {
                from = sequence + 1;
                self.expire_one(sequence, now, out);
            } else {
                // Behind endless ones it is not the store's oldest, which tells its time without being read.
                let message = if self.lifetimes.has_endless() { self.store.get(sequence) } else { Ok(None) };
                since = message.ok().flatten().map(|message| message.timestamp);
                break;
            }
        }
        self.aging = Aging { from, since };
    }

    /// A message is stored: it may be the one that becomes too old next.
    pub(super) fn note_age(&mut self, sequence: u64, timestamp: i64) {
        let is_next = self.aging.since.is_none() && self.config.max_age > 0;
        if is_next && self.lifetimes.has_endless() && !self.lifetimes.is_endless(sequence) {
            self.aging.since = Some(timestamp);
            self.wants_turn = true;
        }
    }

    /// Logs the removal of one message, and of a marker in its place when it is its subject's last.
    fn expire_one(&mut self, sequence: u64, now: i64, out: &mut dyn Publish) {
        let marker_ttl = self.config.subject_delete_marker_ttl;
        let message = match marker_ttl > 0 {
            true => self.store.get(sequence).ok().flatten(),
            false => None,
        };
        let _ = self.commit(&Record::Remove { sequence }, None, After::Nothing, now, out);
        let Some(message) = message else { return };
        let is_marker = header::has(&message.headers, name::MARKER_REASON);
        let gone = match self.store.subject(&message.subject) {
            Ok(Some(state)) => state.last == sequence,
            Ok(None) => true,
            Err(_) => false,
        };
        if is_marker || !gone || self.in_flight.subject(&message.subject).is_some() {
            return;
        }
        self.put_marker(&message.subject, "MaxAge", now, out);
    }

    /// Stores a delete marker (ADR-43).
    pub(super) fn put_marker(&mut self, subject: &[u8], reason: &str, now: i64, out: &mut dyn Publish) {
        let seconds = self.config.subject_delete_marker_ttl / 1_000_000_000;
        let ttl = crate::duration::format(seconds * 1_000_000_000);
        let mut headers = Vec::new();
        header::append(&mut headers, name::MARKER_REASON, reason.as_bytes());
        header::append(&mut headers, name::TTL, ttl.as_bytes());
        header::append(&mut headers, name::ROLLUP, b"sub");
        let sequence = self.assigned + 1;
        if sequence >= NUMBER_MAX {
            return;
        }
        let record = Record::Publish(record::Publish {
            flags: publish_flag::TTL | publish_flag::ROLLUP_SUBJECT | publish_flag::INTERNAL,
            sequence,
            timestamp: now,
            subject,
            headers: &headers,
            payload: b"",
        });
        let bytes = self.accounting().bytes(subject.len(), headers.len(), 0);
        let message = super::in_flight::Message {
            subject,
            id: None,
            sequence,
            bytes,
            is_schedule: false,
            replaces: false,
        };
        if self.commit(&record, Some(message), After::Nothing, now, out).is_ok() {
            self.assigned = self.assigned.max(sequence);
        }
    }
}
