//! What comes back: acknowledgements in all their forms, and what of a message they settle.

use super::notice;
use super::{Consumer, Place, Scene};
use crate::ack::Ack;
use crate::config::{AckPolicy, Retention};
use crate::outgoing::Outgoing;
use crate::record::{Acknowledged, Record, Verb};

/// Which delivery an acknowledgement is about, from the subject it came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) stream: u64,
    pub(crate) consumer: u64,
    pub(crate) count: u64,
}

impl Consumer {
    /// Takes an acknowledgement. `reply` wants to be told when it is applied.
    pub(crate) fn handle_ack(
        &mut self,
        scene: &mut Scene<'_>,
        payload: &[u8],
        settled: Settled,
        reply: Option<&[u8]>,
    ) {
        self.last_active = scene.now;
        let answer = match Ack::parse(payload) {
            Some(Ack::Ack) => match self.settle(scene, settled, Verb::Ack, true) {
                true => return self.answer_when_applied(scene, reply),
                false => false,
            },
            Some(Ack::Terminate(reason)) => {
                let known = self.settle(scene, settled, Verb::Term, false);
                notice::terminated(scene, &self.name, settled, &String::from_utf8_lossy(&reason));
                match known {
                    true => return self.answer_when_applied(scene, reply),
                    false => false,
                }
            }
            Some(Ack::Next(_)) => {
                self.settle(scene, settled, Verb::Ack, true);
                if let Some(reply) = reply {
                    self.handle_pull(scene, reply, payload.get(4..).unwrap_or_default());
                }
                false
            }
            Some(Ack::Nak(delay)) => {
                self.nak(scene, settled, delay);
                true
            }
            Some(Ack::Progress) => {
                if let Some(entry) = self.unacknowledged.get_mut(&settled.stream) {
                    entry.sent_at = scene.now;
                    self.plan_ack_deadline();
                }
                true
            }
            None => true,
        };
        if let Some(reply) = reply
            && answer
        {
            scene.out.publish(Outgoing::plain(reply, b""));
        }
    }

    fn answer_when_applied(&mut self, scene: &mut Scene<'_>, reply: Option<&[u8]>) {
        let Some(reply) = reply else { return };
        if self.acknowledged_log.is_empty() {
            scene.out.publish(Outgoing::plain(reply, b""));
        } else {
            self.acknowledged_replies.push(reply.into());
        }
    }

    /// Settles a message, or with the policy `all` everything up to it. False when it was never delivered.
    fn settle(&mut self, scene: &mut Scene<'_>, settled: Settled, verb: Verb, sample: bool) -> bool {
        // What clients say of flow control may be ahead of what the log had, though not of the stream.
        let end = if self.config.flow_control { scene.store.state().last_sequence + 1 } else { self.next };
        if settled.stream >= end {
            return false;
        }
        if self.config.ack_policy == AckPolicy::None {
            return self.retention != Retention::Limits;
        }
        let verb = match self.config.ack_policy {
            AckPolicy::All | AckPolicy::FlowControl => Verb::AckAll,
            _ => verb,
        };
        if sample {
            self.sample(scene, settled);
        }
        // A number that no delivery has would put the floor above all to come.
        let consumer = settled.consumer.min(self.deliveries);
        let acknowledged = Acknowledged { verb, stream: settled.stream, consumer };
        let news = match verb {
            Verb::AckAll => settled.stream > self.ack_floor.stream && consumer > self.ack_floor.consumer,
            _ => self.unacknowledged.contains_key(&settled.stream) || self.is_given_up(settled.stream),
        };
        if news {
            self.apply_acknowledged(&acknowledged, scene.now);
        }
        // Whoever says again what is on its way is answered when the log has it.
        if (news && self.is_logged()) || self.unapplied.contains_key(&settled.stream) {
            self.acknowledged_log.push(acknowledged);
        }
        true
    }

    /// A message is settled; the stream is to know of it even if the log loses the record.
    pub(super) fn note_unapplied(&mut self, acknowledged: Acknowledged) {
        if self.retention != Retention::Limits {
            self.unapplied.insert(acknowledged.stream, acknowledged);
        }
    }

    /// The log has an acknowledgement for good: appends the messages that it settles. With the policy `all` those are the ones
    /// that were delivered, not whatever lies before (`an_acknowledgement_of_all_is_of_what_was_delivered`).
    pub(crate) fn take_settled(&mut self, verb: Verb, sequence: u64, settled: &mut Vec<u64>) {
        if verb == Verb::AckAll {
            let later = self.unapplied.split_off(&sequence.saturating_add(1));
            settled.extend(std::mem::replace(&mut self.unapplied, later).into_keys());
        } else {
            self.unapplied.remove(&sequence);
            settled.push(sequence);
        }
    }

    /// What the log may have lost is logged again, at the next occasion.
    pub(crate) fn log_unapplied(&mut self) {
        self.acknowledged_log.clear();
        self.acknowledged_log.extend(self.unapplied.values());
    }

    /// See [`Record::Acknowledge`]. What has been applied before may be applied again.
    pub(crate) fn apply_acknowledged(&mut self, acknowledged: &Acknowledged, now: i64) {
        let sequence = acknowledged.stream;
        self.last_acknowledged = Some(now);
        if acknowledged.verb == Verb::AckAll {
            if sequence <= self.ack_floor.stream {
                return;
            }
            let kept = self.unacknowledged.split_off(&sequence.saturating_add(1));
            for (settled, entry) in std::mem::replace(&mut self.unacknowledged, kept) {
                self.delivery_counts.remove(&settled);
                self.forget_redelivery(settled);
                self.note_unapplied(Acknowledged {
                    verb: Verb::Ack,
                    stream: settled,
                    consumer: entry.consumer,
                });
            }
            self.note_unapplied(*acknowledged);
            let consumer = acknowledged.consumer.max(self.ack_floor.consumer);
            self.ack_floor = Place { consumer, stream: sequence };
            return;
        }
        self.note_unapplied(*acknowledged);
        self.delivery_counts.remove(&sequence);
        self.forget_redelivery(sequence);
        if let Some(entry) = self.unacknowledged.remove(&sequence) {
            self.move_ack_floor(entry.consumer, sequence);
        }
    }

    /// One message is settled: the floor rises to just below the first that is not.
    pub(super) fn move_ack_floor(&mut self, consumer: u64, sequence: u64) {
        if self.unacknowledged.is_empty() {
            self.ack_floor = Place { consumer: self.deliveries, stream: self.next - 1 };
        } else if consumer == self.ack_floor.consumer + 1 {
            // With the policy `all` the floor's number may be a redelivery's, and an earlier message be open.
            if self.unacknowledged.first_key_value().is_some_and(|(first, _)| *first < sequence) {
                return;
            }
            self.ack_floor = Place { consumer, stream: sequence };
            if let Some((first, entry)) = self.unacknowledged.range(sequence + 1..).next()
                && entry.consumer > 0
            {
                self.ack_floor = Place { consumer: entry.consumer - 1, stream: first - 1 };
            }
        }
    }

    fn nak(&mut self, scene: &mut Scene<'_>, settled: Settled, delay: Option<i64>) {
        if settled.consumer <= self.ack_floor.consumer || settled.consumer > self.deliveries {
            return;
        }
        let ack_wait = self.config.ack_wait;
        let Some(entry) = self.unacknowledged.get_mut(&settled.stream) else { return };
        match delay {
            Some(delay) => {
                // As if delivered so long ago that the time for its acknowledgement ends with the delay.
                entry.sent_at = scene.now.saturating_sub(ack_wait).saturating_add(delay);
                self.forget_redelivery(settled.stream);
                self.plan_ack_deadline();
            }
            None => self.queue_redelivery(settled.stream),
        }
        notice::naked(scene, &self.name, settled);
    }

    /// A message is given up, for a reason that is not the client's.
    pub(super) fn terminate(
        &mut self,
        scene: &mut Scene<'_>,
        sequence: u64,
        consumer: u64,
        count: u64,
        reason: &str,
    ) {
        let settled = Settled { stream: sequence, consumer, count };
        let acknowledged = Acknowledged { verb: Verb::Term, stream: sequence, consumer };
        self.apply_acknowledged(&acknowledged, scene.now);
        self.acknowledged_log.push(acknowledged);
        notice::terminated(scene, &self.name, settled, reason);
    }

    fn sample(&mut self, scene: &mut Scene<'_>, settled: Settled) {
        let percent: u64 = self.config.sample_freq.trim_end_matches('%').parse().unwrap_or(0);
        if percent == 0 || (percent < 100 && (scene.random)() % 100 >= percent) {
            return;
        }
        if let Some(entry) = self.unacknowledged.get(&settled.stream) {
            let ack_time = scene.now.saturating_sub(entry.sent_at);
            notice::acknowledged(scene, &self.name, settled, ack_time);
        }
    }

    /// Whether the log is to be told of anything.
    pub(crate) fn has_unlogged(&self) -> bool {
        !self.delivered_log.is_empty() || !self.acknowledged_log.is_empty()
    }

    /// What the log is to be told, and who is to be told when the log has it.
    pub(crate) fn take_acknowledged(&mut self, now: i64) -> Option<(Record<'static>, Vec<Box<[u8]>>)> {
        if self.acknowledged_log.is_empty() {
            return None;
        }
        let acknowledged = std::mem::take(&mut self.acknowledged_log);
        let replies = std::mem::take(&mut self.acknowledged_replies);
        Some((Record::Acknowledge { id: self.id, timestamp: now, acknowledged }, replies))
    }
}
