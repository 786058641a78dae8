//! What a stream does besides answering: its consumers' deliveries, acknowledgements on their way into the log, timers.

use std::sync::Arc;

use sonata_store::{Load, Loaded};

use super::{After, Machine};
use crate::consumer::{Budget, Fate, Settled, Turn};
use crate::outgoing::Publish;
use crate::record::Record;

/// What is to be done next for a stream.
#[derive(Debug)]
pub enum Next {
    /// Nothing before something happens.
    Idle,
    /// Another turn, after others had theirs.
    More,
    /// A read from the disk, without the stream's lock; then another turn.
    Read(Work),
    /// Another turn, by somebody who may wait for the disk.
    Disk,
}

/// A read that a stream needs.
#[derive(Debug)]
pub struct Work(Load);

/// What was read.
#[derive(Debug)]
pub struct WorkDone(Loaded);

impl Work {
    pub(super) fn new(load: Load) -> Self {
        Self(load)
    }

    /// Reads. Blocks on the disk.
    pub fn run(self) -> WorkDone {
        WorkDone(self.0.run())
    }
}

/// Messages that one turn delivers at most, and their bytes.
const TURN_MESSAGES_MAX: usize = 1024;
const TURN_BYTES_MAX: usize = 1024 * 1024;

impl Machine {
    /// Delivers what can be delivered, within the bounds of one turn. `disk` says whether the caller may wait for the disk.
    pub fn turn(&mut self, disk: bool, now: i64, out: &mut dyn Publish) -> Next {
        self.wants_turn = false;
        self.drive_feeds(now, out);
        self.review_lost();
        let mut budget = Budget { messages: TURN_MESSAGES_MAX, bytes: TURN_BYTES_MAX, disk };
        let mut next = Next::Idle;
        let ready: Vec<Arc<str>> = self
            .consumers
            .values()
            .filter(|consumer| consumer.has_work())
            .map(|consumer| consumer.name.clone())
            .collect();
        // Not always the same one first.
        let start = self.random() as usize % ready.len().max(1);
        let (late, early) = ready.split_at(start.min(ready.len()));
        for name in early.iter().chain(late) {
            let turn =
                self.with_consumer(name, now, out, |consumer, scene| consumer.deliver(scene, &mut budget));
            match turn {
                Some(Ok(Turn::Idle)) | None => {}
                Some(Ok(Turn::More)) => {
                    next = Next::More;
                    break;
                }
                Some(Ok(Turn::Cold(load))) => {
                    next = Next::Read(Work(load));
                    break;
                }
                Some(Ok(Turn::Disk)) => next = Next::Disk,
                // The store has told of it; it is tried again when something happens.
                Some(Err(_)) => {}
            }
        }
        self.log_consumers(now, out);
        self.review_lost();
        next
    }

    /// What is found to be damaged is never delivered, so nobody is to wait for it.
    fn review_lost(&mut self) {
        let lost = self.store.state().lost.messages;
        if lost != self.lost {
            self.lost = lost;
            // A store that cannot count now will be asked again when it has lost more, or by the next restart.
            self.consumers.values_mut().for_each(|consumer| drop(consumer.count_pending(&mut self.store)));
        }
    }

    /// What was read from the disk is kept for the next turn.
    pub fn warm(&mut self, done: WorkDone) {
        self.store.warm(done.0);
    }

    /// Logs what consumers have delivered and what was acknowledged to them.
    pub fn log_consumers(&mut self, now: i64, out: &mut dyn Publish) {
        let mut records: Vec<(Record<'static>, Vec<Box<[u8]>>)> = Vec::new();
        for consumer in self.consumers.values_mut() {
            if let Some(record) = consumer.take_delivered(now) {
                records.push((record, Vec::new()));
            }
            if let Some(record) = consumer.take_acknowledged(now) {
                records.push(record);
            }
        }
        for (record, replies) in records {
            let after = if replies.is_empty() { After::Nothing } else { After::Acknowledged(replies) };
            // A log that refuses has told, or will: consumers are logged anew when it takes records again.
            let _ = self.commit(&record, None, after, now, out);
        }
    }

    /// Takes an acknowledgement; false when there is no such consumer.
    pub fn acknowledge(
        &mut self,
        consumer: &str,
        delivery: &crate::ack::Delivery<'_>,
        payload: &[u8],
        reply: Option<&[u8]>,
        now: i64,
        out: &mut dyn Publish,
    ) -> bool {
        let settled = Settled {
            stream: delivery.stream_sequence,
            consumer: delivery.consumer_sequence,
            count: delivery.deliveries,
        };
        let known = self.with_consumer(consumer, now, out, |consumer, scene| {
            consumer.handle_ack(scene, payload, settled, reply);
        });
        self.wants_turn = true;
        known.is_some()
    }

    /// Takes a pull request; false when there is no such consumer.
    pub fn pull(
        &mut self,
        consumer: &str,
        reply: &[u8],
        payload: &[u8],
        now: i64,
        out: &mut dyn Publish,
    ) -> bool {
        let known = self.with_consumer(consumer, now, out, |consumer, scene| {
            consumer.handle_pull(scene, reply, payload);
        });
        self.wants_turn = true;
        known.is_some()
    }

    /// Takes the answer to a question of flow control; false when there is no such consumer.
    pub fn flow_control(
        &mut self,
        consumer: &str,
        subject: &[u8],
        headers: &[u8],
        now: i64,
        out: &mut dyn Publish,
    ) -> bool {
        let known = self.with_consumer(consumer, now, out, |consumer, scene| {
            consumer.handle_flow_control(scene, subject, headers);
        });
        self.wants_turn = true;
        known.is_some()
    }

    /// Interest in a deliver subject may have changed.
    pub fn review_interest(&mut self, now: i64, out: &mut dyn Publish) {
        let mut wanted = false;
        self.for_each_consumer(now, out, |consumer, scene| wanted |= consumer.review_interest(scene));
        self.wants_turn |= wanted;
    }

    /// When [`Machine::on_timer`] has something to do, ns since 1970.
    pub fn next_timer(&self, now: i64) -> Option<i64> {
        let consumers = self.consumers.values().filter_map(|consumer| consumer.next_timer(now)).min();
        [consumers, self.next_expiry(), self.next_feed_timer()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn on_timer(&mut self, now: i64, out: &mut dyn Publish) {
        self.expire(now, out);
        self.expire_batches(now, out);
        self.fast_batches.expire(self.usage.batches.limits().idle(), now);
        self.fire_schedules(now, out);
        let mut inactive: Vec<u64> = Vec::new();
        self.for_each_consumer(now, out, |consumer, scene| {
            if consumer.on_timer(scene) == Fate::Inactive {
                inactive.push(consumer.id);
            }
        });
        for id in inactive {
            let name = self.consumer_names.get(&id).cloned();
            if self.commit(&Record::ConsumerGone { id }, None, After::Nothing, now, out).is_ok()
                && let Some(name) = name
            {
                self.tell_consumer(&name, crate::advisory::Action::Delete, now, out);
            }
        }
        self.log_consumers(now, out);
        self.wants_turn = true;
    }

    /// The server is going: those who wait are told.
    pub fn on_shutdown(&mut self, now: i64, out: &mut dyn Publish) {
        self.log_consumers(now, out);
        self.for_each_consumer(now, out, |consumer, scene| {
            consumer.dismiss_waiting(scene, crate::consumer::Dismissal::ServerShutdown);
        });
    }

    /// Whether nothing is on its way into the log.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_empty()
    }
}
