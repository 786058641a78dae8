//! How messages go out: which one is next, who gets it, and what is remembered of that.

use sonata_store::{Error, Load, Message, Store};

use super::notice;
use super::pull::Served;
use super::{Consumer, Place, Scene, Unacknowledged};
use crate::ack;
use crate::config::{AckPolicy, Retention};
use crate::header::{self, name};
use crate::outgoing::Outgoing;
use crate::record::{Acknowledged, Delivered, Record, Verb};

/// What a turn may still do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Messages.
    pub(crate) messages: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// Whether messages may be read from the disk.
    pub(crate) disk: bool,
}

/// How a turn ended.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing more can be delivered now.
    Idle,
    /// The budget is used up.
    More,
    /// What comes next must be read from the disk, which is better done without the stream's lock.
    Cold(Load),
    /// What comes next must be read from the disk, and this caller may not.
    Disk,
}

/// What could be delivered next.
enum Candidate {
    /// A message and the number of this delivery; above 1 it is a redelivery.
    Message(Message, u64),
    /// Nothing; the end of the stream is reached.
    End,
    /// Nothing, before something is acknowledged.
    Blocked,
    /// Must be read from the disk first.
    Cold(Load),
    Disk,
}

impl Consumer {
    /// Delivers as much as there is, as is taken, and as the budget allows.
    ///
    /// # Errors
    /// When the store fails in a way that another attempt may not.
    pub(crate) fn deliver(&mut self, scene: &mut Scene<'_>, budget: &mut Budget) -> Result<Turn, Error> {
        self.turn += 1;
        loop {
            if self.is_held_up(scene.now) || !self.is_active() {
                return Ok(Turn::Idle);
            }
            if budget.messages == 0 || budget.bytes == 0 {
                return Ok(Turn::More);
            }
            let (message, count) = match self.candidate(scene, budget)? {
                Candidate::Message(message, count) => (message, count),
                Candidate::End => {
                    self.expire_waiting(scene, true);
                    return Ok(Turn::Idle);
                }
                Candidate::Blocked => {
                    self.expire_waiting(scene, false);
                    return Ok(Turn::Idle);
                }
                Candidate::Cold(load) => return Ok(Turn::Cold(load)),
                Candidate::Disk => return Ok(Turn::Disk),
            };
            if !self.send(scene, &message, count) {
                return Ok(Turn::Idle);
            }
            budget.messages -= 1;
            budget.bytes = budget.bytes.saturating_sub(message.payload.len() + message.headers.len() + 64);
        }
    }

    /// Where it goes on, if that is from one message to the next and something is to be read ahead for it. With flow control
    /// nothing is: whoever waits for the disk delivers meanwhile what the client's thread would deliver between its answers,
    /// which was measured to be faster most of the time.
    pub(crate) fn reads_on(&self) -> Option<u64> {
        (self.skip_list.is_none() && !self.config.flow_control).then_some(self.next)
    }

    /// Redeliveries come first, then what has never been delivered.
    fn candidate(&mut self, scene: &mut Scene<'_>, budget: &Budget) -> Result<Candidate, Error> {
        while let Some(sequence) = self.redeliver.front().copied() {
            let Some(entry) = self.unacknowledged.get(&sequence).copied() else {
                self.forget_redelivery(sequence);
                continue;
            };
            let count = self.delivery_count(sequence) + 1;
            if self.config.max_deliver > 0 && count > self.config.max_deliver as u64 {
                self.give_up(scene, sequence, entry, count - 1);
                continue;
            }
            if let Some(cold) = cold(scene.store.cold(sequence), budget) {
                return Ok(cold);
            }
            match scene.store.get(sequence) {
                Ok(Some(message)) => return Ok(Candidate::Message(message, count)),
                Ok(None) | Err(Error::Damaged { .. }) => {
                    self.terminate(
                        scene,
                        sequence,
                        entry.consumer,
                        count - 1,
                        "Message deleted by stream limits",
                    );
                }
                Err(error) => return Err(error),
            }
        }
        if self.is_full() {
            return Ok(Candidate::Blocked);
        }
        while let Some((lasts, resume)) = &mut self.skip_list {
            let Some(sequence) = lasts.front().copied() else {
                self.next = (*resume).max(self.next);
                self.skip_list = None;
                break;
            };
            if let Some(cold) = cold(scene.store.cold(sequence), budget) {
                return Ok(cold);
            }
            match scene.store.get(sequence) {
                Ok(Some(message)) => return Ok(Candidate::Message(message, 1)),
                Ok(None) | Err(Error::Damaged { .. }) => {
                    lasts.pop_front();
                }
                Err(error) => return Err(error),
            }
        }
        if self.pending(scene.store) == 0 {
            self.next = self.next.max(scene.store.state().last_sequence + 1);
            return Ok(Candidate::End);
        }
        if let Some(message) = scene.store.next_message_nearby(&self.filter, self.next) {
            return Ok(Candidate::Message(message, 1));
        }
        loop {
            if let Some(cold) = cold(scene.store.cold_next(&self.filter, self.next), budget) {
                return Ok(cold);
            }
            match scene.store.next_message(&self.filter, self.next) {
                Ok(Some(message)) => return Ok(Candidate::Message(message, 1)),
                Ok(None) => {
                    self.next = self.next.max(scene.store.state().last_sequence + 1);
                    return Ok(Candidate::End);
                }
                // Reported by the store, counted as lost; the rest is served.
                Err(Error::Damaged { sequence }) if sequence >= self.next => {
                    self.next = sequence + 1;
                    self.count_pending(scene.store)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Delivers a message to whoever is next; false when nobody is.
    fn send(&mut self, scene: &mut Scene<'_>, message: &Message, count: u64) -> bool {
        let again = count > 1;
        let pending = if again { self.pending } else { self.pending.saturating_sub(1) };
        let mut reply = Vec::with_capacity(96);
        self.replies.append_ack(
            &mut reply,
            &ack::Delivery {
                stream: b"",
                consumer: b"",
                deliveries: count,
                stream_sequence: message.sequence,
                consumer_sequence: self.deliveries + 1,
                timestamp: message.timestamp,
                pending,
            },
        );
        let (subject, timestamp) = (&message.subject[..], message.timestamp);
        let mut headers = std::borrow::Cow::Borrowed(&message.headers[..]);
        let mut payload = &message.payload[..];
        if self.config.headers_only {
            let size = payload.len().to_string();
            header::append(headers.to_mut(), name::MSG_SIZE, size.as_bytes());
            payload = b"";
        }
        let bytes = subject.len() + reply.len() + headers.len() + payload.len();
        if !self.may_send(scene.now, timestamp, bytes) {
            return false;
        }
        let (route, served) = if self.config.is_push() {
            (self.config.deliver_subject.clone().into_bytes().into_boxed_slice(), None)
        } else {
            match self.next_waiting(scene, bytes) {
                Some(served) => (served.reply.clone(), Some(served)),
                None => return false,
            }
        };
        if self.is_pinned_policy() && !self.pin.id.is_empty() {
            header::append(headers.to_mut(), name::PIN_ID, self.pin.id.as_bytes());
        }
        self.remember_delivery(message.sequence, count, scene.now);
        self.replayed_timestamp = timestamp;
        scene.out.publish(Outgoing { route: &route, subject, reply: &reply, headers: &headers, payload });
        if let Some(Served { batch_done_with_bytes: Some((batch, bytes)), reply, .. }) = &served {
            let status = crate::status::End::BatchCompleted.block(*batch, *bytes);
            scene.out.publish(Outgoing::status(reply, &status));
        }
        if self.config.is_push() {
            self.push.on_sent(scene, &self.config, &self.name, bytes, self.unacknowledged.len());
        } else {
            self.last_active = scene.now;
        }
        true
    }

    /// Whether the pace (replay at the original one, rate limit) lets a message out now; if not, it says when.
    fn may_send(&mut self, now: i64, timestamp: i64, bytes: usize) -> bool {
        const MILLISECOND: i64 = 1_000_000;
        if self.next <= self.replay_until && self.replayed_timestamp > 0 {
            let pause = timestamp.saturating_sub(self.replayed_timestamp);
            let since = now.saturating_sub(self.last_delivered.unwrap_or(now));
            if pause > MILLISECOND && since < pause {
                self.not_before = now.saturating_add(pause).saturating_sub(since);
                return false;
            }
        }
        if self.config.rate_limit_bps > 0 {
            let per_ns = self.config.rate_limit_bps as f64 / 8.0 / 1e9;
            let (at, credit) = self.rate_credit;
            // A second's worth may gather.
            let credit = (credit + now.saturating_sub(at) as f64 * per_ns).min(per_ns * 1e9);
            self.rate_credit = (now, credit);
            if credit < 0.0 {
                self.not_before = now.saturating_add((-credit / per_ns) as i64).saturating_add(1);
                return false;
            }
            self.rate_credit.1 -= bytes as f64;
        }
        true
    }

    /// What a delivery changes, now and when it is read from the log after a restart.
    fn remember_delivery(&mut self, sequence: u64, count: u64, now: i64) {
        let consumer = self.deliveries + 1;
        let delivered = Delivered { stream: sequence, consumer, count };
        if count == 1 {
            self.pending = self.pending.saturating_sub(1);
        }
        self.apply_delivered(&delivered, now);
        self.delivered_log.push(delivered);
        if self.config.ack_policy == AckPolicy::None {
            // Delivered is settled.
            self.note_unapplied(Acknowledged { verb: Verb::Ack, stream: sequence, consumer });
        }
    }

    /// Deliveries are numbered without gaps, so a gap means that a damaged log has lost a record. What it can have been about
    /// counts as delivered and not acknowledged: it comes again, instead of never. How far the lost record went is known
    /// from the next message that is delivered for the first time.
    pub(crate) fn make_up_for_missing(
        &mut self,
        store: &mut Store,
        delivered: &Delivered,
        now: i64,
    ) -> Result<(), Error> {
        // Without acknowledgements only the last of several deliveries is logged.
        if self.config.ack_policy == AckPolicy::None {
            return Ok(());
        }
        if delivered.consumer > self.deliveries + 1 {
            self.missing.get_or_insert(self.deliveries + 1);
        }
        let Some(number) = self.missing.filter(|_| delivered.count == 1) else { return Ok(()) };
        self.missing = None;
        let missing = Unacknowledged { consumer: number, sent_at: now };
        if let Some((lasts, _)) = &self.skip_list {
            let before = lasts.iter().take_while(|sequence| **sequence < delivered.stream);
            self.unacknowledged.extend(before.map(|sequence| (*sequence, missing)));
            return Ok(());
        }
        let mut from = self.next;
        while let Some(sequence) = store.next(&self.filter, from)?.filter(|next| *next < delivered.stream) {
            self.unacknowledged.insert(sequence, missing);
            from = sequence + 1;
        }
        Ok(())
    }

    /// See [`Record::Deliver`]. What has been applied before may be applied again.
    pub(crate) fn apply_delivered(&mut self, delivered: &Delivered, now: i64) {
        if delivered.consumer == 0 {
            return self.apply_given_up(delivered);
        }
        self.deliveries = self.deliveries.max(delivered.consumer);
        self.last_delivered = Some(now);
        let sequence = delivered.stream;
        if delivered.count > 1 {
            self.delivery_counts.insert(sequence, delivered.count);
            self.forget_redelivery(sequence);
        } else {
            self.next = self.next.max(sequence + 1);
            if let Some((lasts, resume)) = &mut self.skip_list {
                while lasts.front().is_some_and(|front| *front <= sequence) {
                    lasts.pop_front();
                }
                if lasts.is_empty() {
                    self.next = self.next.max(*resume);
                    self.skip_list = None;
                }
            }
        }
        if self.config.ack_policy == AckPolicy::None {
            self.ack_floor = Place { consumer: delivered.consumer, stream: sequence };
            return;
        }
        self.unacknowledged
            .entry(sequence)
            .and_modify(|entry| entry.sent_at = now)
            .or_insert(Unacknowledged { consumer: delivered.consumer, sent_at: now });
        self.plan_ack_deadline_of(sequence);
    }

    /// What [`Consumer::give_up`] left in the log.
    fn apply_given_up(&mut self, delivered: &Delivered) {
        self.forget_redelivery(delivered.stream);
        self.delivery_counts.insert(delivered.stream, delivered.count.saturating_sub(1));
        if let Some(entry) = self.unacknowledged.remove(&delivered.stream) {
            self.move_ack_floor(entry.consumer, delivered.stream);
        }
    }

    /// A message has been delivered as often as it may.
    pub(super) fn give_up(
        &mut self,
        scene: &mut Scene<'_>,
        sequence: u64,
        entry: Unacknowledged,
        count: u64,
    ) {
        notice::max_deliveries(scene, &self.name, sequence, count);
        self.forget_redelivery(sequence);
        self.unacknowledged.remove(&sequence);
        self.delivery_counts.insert(sequence, count);
        self.move_ack_floor(entry.consumer, sequence);
        // In the log it is settled like an acknowledged one, but the stream keeps the message.
        self.delivered_log.push(Delivered { stream: sequence, consumer: 0, count: count + 1 });
    }

    /// What the log is to be told of this turn's deliveries.
    pub(crate) fn take_delivered(&mut self, now: i64) -> Option<Record<'static>> {
        if self.delivered_log.is_empty() {
            return None;
        }
        let mut delivered = std::mem::take(&mut self.delivered_log);
        let settles = self.config.ack_policy == AckPolicy::None && self.retention != Retention::Limits;
        if !self.is_logged() && !settles {
            delivered.clear();
            self.delivered_log = delivered;
            return None;
        }
        if self.config.ack_policy == AckPolicy::None && !settles {
            // Only how far it came.
            delivered.drain(..delivered.len() - 1);
        }
        Some(Record::Deliver { id: self.id, timestamp: now, delivered })
    }
}

fn cold(load: Option<Load>, budget: &Budget) -> Option<Candidate> {
    match (load, budget.disk) {
        (None, _) => None,
        (Some(load), true) => Some(Candidate::Cold(load)),
        (Some(_), false) => Some(Candidate::Disk),
    }
}
