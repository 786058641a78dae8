//! Applying records: the only place where a stream's state changes.

use std::sync::Arc;

use sonata_store::{Cut, Filter, Message, NewMessage, Removed};

use super::consumers::Consumers;
use super::{After, Commit, Extra, Limit, Machine};
use crate::config::{AckPolicy, Retention, StreamConfig};
use crate::consumer::{Consumer, Dismissal};
use crate::header::{self, name};
use crate::json;
use crate::outgoing::{Outgoing, Publish};
use crate::record::{self, Acknowledged, Delivered, Malformed, Record, Verb, publish_flag};
use crate::ttl::{self, Ttl};

/// What applying a record came to, for those who asked for it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Sequence of the message stored.
    pub(crate) sequence: u64,
    /// Messages removed.
    pub(crate) removed: u64,
    /// The consumer concerned.
    pub(crate) consumer: Option<Arc<str>>,
}

/// Publishes nowhere: what is said again after a restart has been said before.
pub(crate) struct Silence;

impl Publish for Silence {
    fn publish(&mut self, _message: Outgoing<'_>) {}
}

impl Machine {
    /// The log has a record of this stream for good. Live it was appended here; after a restart it is told again.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are no record; nothing is changed then.
    pub fn committed(
        &mut self,
        position: u64,
        bytes: &[u8],
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), Malformed> {
        if matches!(self.commit, Commit::Eager(_)) && position <= self.applied {
            return Ok(());
        }
        let record = Record::decode(bytes)?;
        let after = self.in_flight.take(position);
        self.apply(&record, position, bytes.len(), after, now, out);
        // Duplicates wait behind the message they repeat, at its position.
        while let Some(after) = self.in_flight.take(position) {
            self.finish(after, &Outcome::default(), now, out);
        }
        self.answer_feeds(out);
        Ok(())
    }

    /// A record from before a restart. What has been applied already (it is in the checkpoint) is left alone.
    ///
    /// # Errors
    /// As [`Machine::committed`].
    pub fn replay(&mut self, position: u64, bytes: &[u8], now: i64) -> Result<(), Malformed> {
        if position <= self.applied {
            return Ok(());
        }
        let record = Record::decode(bytes)?;
        self.apply(&record, position, bytes.len(), None, now, &mut Silence);
        self.assigned = self.assigned.max(self.store.state().last_sequence);
        Ok(())
    }

    /// `after` is `None` for a record from before a restart.
    pub(super) fn apply(
        &mut self,
        record: &Record<'_>,
        position: u64,
        bytes: usize,
        after: Option<After>,
        now: i64,
        out: &mut dyn Publish,
    ) {
        let before = self.store.state().bytes;
        let live = after.is_some();
        let mut outcome = Outcome::default();
        match record {
            Record::Publish(publish) => {
                outcome.sequence = publish.sequence;
                self.apply_publish(publish, live, now, out);
            }
            Record::Batch(messages) => {
                for publish in messages {
                    outcome.sequence = publish.sequence;
                    self.apply_publish(publish, live, now, out);
                }
            }
            Record::Remove { sequence } | Record::Erase { sequence } => {
                outcome.sequence = *sequence;
                let removed = match record {
                    Record::Erase { .. } => self.erase(*sequence, now, out),
                    _ => self.remove(*sequence, now, out),
                };
                outcome.removed = u64::from(removed);
                // The oldest is another one now, and with it the timer.
                self.wants_turn |= self.config.max_age > 0;
            }
            Record::Purge { filter, before, keep } => {
                outcome.removed = self.purge(filter, *before, *keep).messages;
            }
            Record::Expire { first } => {
                outcome.removed = self.cut(*first).messages;
                self.wants_turn = true;
            }
            Record::Configure { config } => {
                if let Ok(config) = json::decode::<StreamConfig>(config, json::Mode::Lenient) {
                    self.apply_config(config, now, out);
                }
            }
            Record::Consumer { id, state } => {
                outcome.consumer = self.apply_consumer(*id, state, live, now, out)
            }
            Record::ConsumerGone { id } => {
                outcome.consumer = self.consumers.by_number(*id).map(|consumer| consumer.name.clone());
                self.apply_consumer_gone(*id, now, out);
            }
            Record::Deliver { id, timestamp, delivered } => {
                self.apply_deliver(*id, *timestamp, delivered, live, out);
            }
            Record::Acknowledge { id, timestamp, acknowledged } => {
                self.apply_acknowledge(*id, *timestamp, acknowledged, live, out);
            }
            Record::Advance { last } => {
                self.store.advance(*last);
                self.assigned = self.assigned.max(*last);
            }
        }
        self.applied = self.applied.max(position);
        self.unsaved_bytes += bytes as u64;
        let change = self.store.state().bytes as i64 - before as i64;
        self.usage.change(self.config.storage, change);
        if let Some(after) = after {
            self.finish(after, &outcome, now, out);
        }
    }

    pub(super) fn apply_publish(
        &mut self,
        publish: &record::Publish<'_>,
        live: bool,
        now: i64,
        out: &mut dyn Publish,
    ) {
        let record::Publish { flags, sequence, timestamp, subject, headers, payload } = *publish;
        let state = self.store.state();
        if sequence <= state.last_sequence {
            // It is there already: told twice.
            return;
        }
        self.assigned = self.assigned.max(sequence);
        self.counters.on_stored(subject, sequence);
        // There may be a timer to set.
        self.wants_turn |= flags & publish_flag::TTL > 0
            || state.messages == 0 && self.config.max_age > 0
            || flags & publish_flag::MESSAGE_ID > 0 && self.dedupe.len() == 0;
        let id = if flags & publish_flag::MESSAGE_ID > 0 { header::get(headers, name::MSG_ID) } else { None };
        self.last_message_id = id.unwrap_or_default().into();
        if let Some(id) = id {
            self.dedupe.insert(id, sequence, timestamp);
        }
        let previous = match (&self.republish, live) {
            (Some(_), true) => self.store.subject(subject).ok().flatten().map_or(0, |state| state.last),
            _ => 0,
        };
        if self.config.retention == Retention::Interest && !self.has_interest(subject) {
            self.store.skip(sequence, timestamp);
            self.roll_up(flags, subject, sequence, now, out);
            self.apply_schedule(publish, false);
            return;
        }
        let message = NewMessage { sequence, timestamp, subject, headers, payload };
        if self.store.append(message).is_err() {
            // Only a message that no limit lets in can be refused; its sequence is used.
            self.store.advance(sequence);
            return;
        }
        if flags & publish_flag::TTL > 0
            && let Some(ttl) = header::get(headers, name::TTL).and_then(ttl::parse)
        {
            let ends_at = match ttl {
                Ttl::Seconds(seconds) => timestamp.saturating_add(seconds.saturating_mul(1_000_000_000)),
                Ttl::Never => super::lifetime::NEVER,
            };
            self.lifetimes.insert(sequence, ends_at);
        }
        self.note_age(sequence, timestamp);
        if flags & publish_flag::SOURCED > 0 {
            self.note_sourced(headers, live);
        }
        self.stored = true;
        // Before anything is removed for it: a consumer that counts anew then finds the message in the store.
        self.wants_turn |= self.consumers.on_stored(sequence, subject, now);
        self.roll_up(flags, subject, sequence, now, out);
        self.apply_schedule(publish, true);
        self.enforce_limits(Limit::Stored(subject), now, out);
        if live {
            self.republish(publish, previous, out);
        }
    }

    fn roll_up(&mut self, flags: u8, subject: &[u8], sequence: u64, now: i64, out: &mut dyn Publish) {
        let _ = (now, &out);
        if flags & publish_flag::ROLLUP_SUBJECT > 0 {
            self.purge(subject, sequence, 0);
        } else if flags & publish_flag::ROLLUP_ALL > 0 {
            self.purge(b"", sequence, 0);
        }
    }

    fn republish(&mut self, publish: &record::Publish<'_>, previous: u64, out: &mut dyn Publish) {
        let Some(transform) = &self.republish else { return };
        let Some(target) = transform.apply(publish.subject, publish.sequence as u32) else { return };
        if !sonata_subject::is_literal(&target) {
            return;
        }
        let only_headers = self.config.republish.as_ref().is_some_and(|republish| republish.headers_only);
        let mut headers = publish.headers.to_vec();
        header::append(&mut headers, name::STREAM, self.name.as_bytes());
        header::append(&mut headers, name::SUBJECT, publish.subject);
        header::append(&mut headers, name::SEQUENCE, publish.sequence.to_string().as_bytes());
        let time = crate::timestamp::Timestamp(publish.timestamp).to_string();
        header::append(&mut headers, name::TIME_STAMP, time.as_bytes());
        header::append(&mut headers, name::LAST_SEQUENCE, previous.to_string().as_bytes());
        if only_headers {
            header::append(&mut headers, name::MSG_SIZE, publish.payload.len().to_string().as_bytes());
        }
        let payload = if only_headers { b"" } else { publish.payload };
        out.publish(Outgoing { route: b"", subject: &target, reply: b"", headers: &headers, payload });
    }

    /// Removes one message and tells the consumers; false when it is not there.
    pub(super) fn remove(&mut self, sequence: u64, now: i64, out: &mut dyn Publish) -> bool {
        let removed = self.store.remove(sequence);
        self.take_removed(removed, sequence, now, out)
    }

    /// The same, and its bytes are overwritten on the disk.
    fn erase(&mut self, sequence: u64, now: i64, out: &mut dyn Publish) -> bool {
        let removed = self.store.erase(sequence);
        self.take_removed(removed, sequence, now, out)
    }

    fn take_removed(
        &mut self,
        removed: Result<Option<Removed>, sonata_store::Error>,
        sequence: u64,
        now: i64,
        out: &mut dyn Publish,
    ) -> bool {
        let Ok(Some(removed)) = removed else { return false };
        self.lifetimes.remove(sequence);
        self.schedules.on_removed(&removed.subject, sequence);
        for id in self.consumers.concerned_by_removal(sequence, &removed.subject) {
            let wanted = self.with_consumer_of(id, now, out, |consumer, scene| {
                consumer.on_removed(scene, sequence, &removed.subject);
                // It may have waited for an acknowledgement of that one.
                consumer.has_work(scene.store)
            });
            self.wants_turn |= wanted.is_some_and(|wanted| wanted);
        }
        true
    }

    /// Removes everything before a sequence.
    pub(super) fn cut(&mut self, first: u64) -> Cut {
        let Ok(cut) = self.store.remove_before(first) else { return Cut::default() };
        self.lifetimes.cut(first);
        self.schedules.retain(|sequence| sequence >= first);
        self.tell_cut(false);
        cut
    }

    /// Removes messages that match (an empty filter is all), before a sequence (0 is no bound), but for the newest `keep`.
    pub(super) fn purge(&mut self, filter: &[u8], before: u64, keep: u64) -> Cut {
        if filter.is_empty() && before > self.store.state().last_sequence {
            // Beyond the end: what comes next has that sequence.
            let cut = self.cut(before);
            self.assigned = self.assigned.max(before - 1);
            return cut;
        }
        let filter = if filter.is_empty() { Filter::all() } else { Filter::new([filter]) };
        let before = (before > 0).then_some(before);
        let Ok(cut) = self.store.purge(&filter, before, keep) else { return Cut::default() };
        if cut.messages > 0 {
            if !self.lifetimes.is_empty() {
                let store = &mut self.store;
                self.lifetimes.retain(|sequence| store.get(sequence).is_ok_and(|message| message.is_some()));
            }
            self.review_schedules();
            self.tell_cut(true);
        }
        cut
    }

    fn tell_cut(&mut self, wider: bool) {
        let first = self.store.state().first_sequence;
        self.consumers.change_all(|consumer| {
            consumer.on_cut(&mut self.store, first, wider);
            self.wants_turn |= consumer.has_work(&mut self.store);
        });
    }

    fn apply_config(&mut self, config: StreamConfig, now: i64, out: &mut dyn Publish) {
        let window = config.duplicate_window != self.config.duplicate_window;
        let retention = config.retention != self.config.retention;
        self.config = Arc::new(config);
        let config = self.config.clone();
        let store = &mut self.store;
        self.consumers.change_all(|consumer| consumer.refilter(&config, store));
        if !self.config.allow_atomic {
            self.batches.clear();
        }
        if !self.config.allow_batched {
            self.fast_batches.clear();
        }
        // It was checked when it was admitted.
        let _ = self.compile();
        self.relinked = true;
        if window {
            self.dedupe.expire(now.saturating_sub(self.config.duplicate_window));
        }
        self.enforce_limits(Limit::All, now, out);
        if retention && self.config.retention == Retention::Interest {
            self.sweep_settled(now, out);
        }
    }

    fn apply_consumer(
        &mut self,
        id: u64,
        state: &[u8],
        live: bool,
        now: i64,
        out: &mut dyn Publish,
    ) -> Option<Arc<str>> {
        let config = self.config.clone();
        let mut loaded = Consumer::load(state, &config, &mut self.store).ok()?;
        self.next_consumer = self.next_consumer.max(id + 1);
        let name = loaded.name.clone();
        // A live consumer knows more than its record: it is changed, not replaced.
        let known = self.consumers.get(&name).filter(|consumer| consumer.id == id);
        let refiltered = known.is_some_and(|consumer| consumer.config.filters() != loaded.config.filters());
        let is_push = loaded.config.is_push();
        if known.is_some() && live {
            let changed = (*loaded.config).clone();
            let store = &mut self.store;
            let _ = self.consumers.change(id, |consumer| consumer.reconfigure(changed, &config, store));
        } else {
            let _ = loaded.begin(&mut self.store);
            self.consumers.insert(loaded);
        }
        if refiltered {
            self.sweep_unwanted(now, out);
        }
        if is_push {
            self.with_consumer_of(id, now, out, Consumer::review_interest);
            self.note_watched();
        }
        self.wants_turn = true;
        Some(name)
    }

    fn apply_consumer_gone(&mut self, id: u64, now: i64, out: &mut dyn Publish) {
        let is_push = self.with_consumer_of(id, now, out, |consumer, scene| {
            consumer.dismiss_waiting(scene, Dismissal::ConsumerDeleted);
            consumer.config.is_push()
        });
        let Some(is_push) = is_push else { return };
        self.consumers.remove(id);
        if is_push {
            self.note_watched();
        }
        self.sweep_unwanted(now, out);
    }

    fn apply_deliver(
        &mut self,
        id: u64,
        timestamp: i64,
        delivered: &[Delivered],
        live: bool,
        out: &mut dyn Publish,
    ) {
        let settles = self.config.retention != Retention::Limits;
        if live && !settles {
            return;
        }
        let mut settled = Vec::new();
        self.consumers.change(id, |consumer| {
            if !live {
                for one in delivered {
                    // A store that cannot tell now has said so; its messages are at worst not delivered again.
                    let _ = consumer.make_up_for_missing(&mut self.store, one, timestamp);
                    consumer.apply_delivered(one, timestamp);
                }
            }
            if settles && consumer.config.ack_policy == AckPolicy::None {
                delivered.iter().for_each(|one| consumer.take_settled(Verb::Ack, one.stream, &mut settled));
            }
        });
        self.remove_settled(&settled, timestamp, out);
    }

    fn apply_acknowledge(
        &mut self,
        id: u64,
        timestamp: i64,
        acknowledged: &[Acknowledged],
        live: bool,
        out: &mut dyn Publish,
    ) {
        let settles = self.config.retention != Retention::Limits;
        if live && !settles {
            return;
        }
        let mut settled = Vec::new();
        self.consumers.change(id, |consumer| {
            if !live {
                acknowledged.iter().for_each(|one| consumer.apply_acknowledged(one, timestamp));
            }
            if settles {
                acknowledged.iter().for_each(|one| consumer.take_settled(one.verb, one.stream, &mut settled));
            }
        });
        self.remove_settled(&settled, timestamp, out);
    }

    /// Messages have been acknowledged for good by one consumer: each goes when nobody else wants it.
    fn remove_settled(&mut self, settled: &[u64], now: i64, out: &mut dyn Publish) {
        for sequence in settled.iter().copied() {
            let Ok(Some(message)) = self.store.get(sequence) else { continue };
            let subject = &message.subject;
            if !self.consumers.any_matching(subject, |consumer| consumer.is_wanted(sequence, subject)) {
                self.remove(sequence, now, out);
            }
        }
    }

    /// A consumer has gone, or wants something else: where messages stay for those who want them, those that nobody wants go.
    pub(super) fn sweep_unwanted(&mut self, now: i64, out: &mut dyn Publish) {
        if self.config.retention != Retention::Interest {
            return;
        }
        if self.consumers.is_empty() {
            self.purge(b"", 0, 0);
            return;
        }
        self.sweep(|_, _| true, now, out);
    }

    /// From now on messages stay only for those who want them: those go that somebody has had and nobody wants. What nobody
    /// has ever wanted stays, as in the original.
    fn sweep_settled(&mut self, now: i64, out: &mut dyn Publish) {
        let is_done_with = |consumers: &Consumers, message: &Message| {
            let (sequence, subject) = (message.sequence, &message.subject);
            consumers.any_matching(subject, |consumer| consumer.is_done_with(sequence, subject))
        };
        self.sweep(is_done_with, now, out);
    }

    /// Removes what no consumer wants, if it also `goes`.
    fn sweep(&mut self, goes: impl Fn(&Consumers, &Message) -> bool, now: i64, out: &mut dyn Publish) {
        let mut from = self.store.state().first_sequence;
        while let Ok(Some(message)) = self.store.next_message(&Filter::all(), from) {
            from = message.sequence + 1;
            let (sequence, subject) = (message.sequence, &message.subject);
            let is_wanted = |consumer: &Consumer| consumer.is_wanted(sequence, subject);
            let wanted = self.consumers.any_matching(subject, is_wanted);
            if !wanted && goes(&self.consumers, &message) {
                // One that had it before its filters were changed may still wait for an acknowledgement.
                self.remove(sequence, now, out);
            }
        }
    }

    /// Tells those who waited for the record.
    pub(super) fn finish(&mut self, after: After, outcome: &Outcome, now: i64, out: &mut dyn Publish) {
        match after {
            After::Nothing => {}
            After::Published { reply, extra } => {
                if !reply.is_empty() {
                    let text = self.publish_ack(outcome.sequence, &extra, false);
                    out.publish(Outgoing::plain(&reply, &text));
                    self.scratch = text;
                }
            }
            After::Fast(logged) => self.finish_fast(&logged, outcome.sequence, out),
            After::Duplicate { reply, sequence, extra } => {
                if !reply.is_empty() {
                    let text = self.publish_ack(sequence, &extra, true);
                    out.publish(Outgoing::plain(&reply, &text));
                    self.scratch = text;
                }
            }
            After::Acknowledged(replies) => {
                replies.iter().for_each(|reply| out.publish(Outgoing::plain(reply, b"")));
            }
            After::Request { asker, answer } => self.answer(asker, answer, outcome, now, out),
        }
    }

    /// `{"stream":"S","seq":7}`, as the original writes it.
    fn publish_ack(&mut self, sequence: u64, extra: &Extra, duplicate: bool) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        text.extend_from_slice(&self.acknowledgement);
        extra.append(&mut text, sequence, duplicate);
        text
    }
}
