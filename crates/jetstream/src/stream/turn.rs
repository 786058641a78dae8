//! What a stream does besides answering: its consumers' deliveries, acknowledgements on their way into the log, timers.

use sonata_store::{Load, Loaded};

use super::{After, Machine};
use crate::consumer::{Budget, Consumer, Dismissal, Fate, Settled, Turn};
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

/// Reading ahead of consumers, by one part at a time.
#[derive(Debug, Default)]
pub(super) enum Ahead {
    #[default]
    Nothing,
    Wanted(Work),
    /// Somebody reads it.
    Asked,
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
        let ready = self.consumers.ready(|consumer| consumer.has_work(&mut self.store));
        // Not always the same one first.
        let start = self.random() as usize % ready.len().max(1);
        let (late, early) = ready.split_at(start.min(ready.len()));
        for id in early.iter().chain(late).copied() {
            let reads_ahead = matches!(self.ahead, Ahead::Nothing);
            let turn = self.with_consumer_of(id, now, out, |consumer, scene| {
                let turn = consumer.deliver(scene, &mut budget);
                let from = consumer.reads_on().filter(|_| reads_ahead);
                (turn, from.and_then(|from| scene.store.cold_ahead(from)))
            });
            let (turn, ahead) = turn.unzip();
            if let Some(load) = ahead.flatten() {
                self.ahead = Ahead::Wanted(Work(load));
            }
            match turn {
                Some(Ok(Turn::Idle)) => self.consumers.rest(id),
                None => {}
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
        self.consumers.plan_timers(now);
        next
    }

    /// What is found to be damaged is never delivered, so nobody is to wait for it.
    fn review_lost(&mut self) {
        let lost = self.store.state().lost.messages;
        if lost != self.lost {
            self.lost = lost;
            self.consumers.change_all(Consumer::forget_count);
        }
    }

    /// What this turn's consumers will want from the disk before long, once: it is to be read without the stream's lock and
    /// [given back](Machine::warm_ahead).
    pub fn take_ahead(&mut self) -> Option<Work> {
        match std::mem::replace(&mut self.ahead, Ahead::Asked) {
            Ahead::Wanted(work) => Some(work),
            other => {
                self.ahead = other;
                None
            }
        }
    }

    /// What was read ahead is kept for turns to come.
    pub fn warm_ahead(&mut self, done: WorkDone) {
        self.ahead = Ahead::Nothing;
        self.warm(done);
    }

    /// What was read from the disk is kept for the next turn.
    pub fn warm(&mut self, done: WorkDone) {
        self.store.warm(done.0);
    }

    /// Logs what consumers have delivered and what was acknowledged to them.
    pub fn log_consumers(&mut self, now: i64, out: &mut dyn Publish) {
        let mut records: Vec<(Record<'static>, Vec<Box<[u8]>>)> = Vec::new();
        self.consumers.change_unlogged(|consumer| {
            if let Some(record) = consumer.take_delivered(now) {
                records.push((record, Vec::new()));
            }
            if let Some(record) = consumer.take_acknowledged(now) {
                records.push(record);
            }
        });
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
        let pushed = self.consumers.iter().filter(|consumer| consumer.config.is_push());
        let pushed: Vec<u64> = pushed.map(|consumer| consumer.id).collect();
        for id in pushed {
            let wanted = self.with_consumer_of(id, now, out, Consumer::review_interest);
            self.wants_turn |= wanted.is_some_and(|wanted| wanted);
        }
    }

    /// When [`Machine::on_timer`] has something to do, ns since 1970.
    pub fn next_timer(&mut self, now: i64) -> Option<i64> {
        self.consumers.plan_timers(now);
        let own = [self.next_expiry(), self.next_feed_timer(), self.next_retry(now)];
        own.into_iter().chain([self.consumers.next_timer()]).flatten().min()
    }

    /// Does what is due.
    pub fn on_timer(&mut self, now: i64, out: &mut dyn Publish) {
        self.expire(now, out);
        self.expire_batches(now, out);
        self.fast_batches.expire(self.usage.batches.limits().idle(), now);
        self.fire_schedules(now, out);
        self.consumers.plan_timers(now);
        for id in self.consumers.due(now) {
            if self.with_consumer_of(id, now, out, Consumer::on_timer) != Some(Fate::Inactive) {
                continue;
            }
            let name = self.consumers.by_number(id).map(|consumer| consumer.name.clone());
            if self.commit(&Record::ConsumerGone { id }, None, After::Nothing, now, out).is_ok()
                && let Some(name) = name
            {
                self.tell_consumer(&name, crate::advisory::Action::Delete, now, out);
            }
        }
        self.log_consumers(now, out);
        self.consumers.plan_timers(now);
        self.wants_turn = true;
    }

    /// The server is going, or the account has no JetStream any more: those who wait are told.
    pub fn on_shutdown(&mut self, now: i64, out: &mut dyn Publish) {
        self.log_consumers(now, out);
        self.dismiss_all(Dismissal::ServerShutdown, now, out);
    }

    /// Whether nothing is on its way into the log.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_empty()
    }
}
