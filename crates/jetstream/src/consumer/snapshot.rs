//! A consumer in a snapshot of its stream: what of it travels, and what is made of it where it arrives.

use std::sync::Arc;

use sonata_store::{Error, Store};

use super::{Consumer, Place, Unacknowledged};
use crate::archive::{ConsumerSnapshot, ConsumerState, PendingDelivery, SequencePair};
use crate::config::{AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig};
use crate::record::NUMBER_MAX;

impl Consumer {
    /// Where it stands with regard to the stream's messages from `first` to `last`. What is left of the last messages of
    /// each subject has no place in a snapshot.
    pub(crate) fn snapshot(&self, first: u64, last: u64) -> ConsumerSnapshot {
        let delivered = (self.next - 1).min(last);
        // The original takes a floor before the first message for an outdated state and passes over all of it.
        let floor = self.ack_floor.stream.max(first.saturating_sub(1).min(delivered)).min(last);
        let pending = self.unacknowledged.range(..=last).map(|(sequence, entry)| {
            (*sequence, PendingDelivery { sequence: entry.consumer, timestamp: entry.sent_at })
        });
        let counts =
            self.delivery_counts.iter().filter(|(sequence, count)| **sequence <= last && **count > 1);
        ConsumerSnapshot {
            config: ConsumerConfig { name: self.name.to_string(), ..(*self.config).clone() },
            state: ConsumerState {
                delivered: SequencePair { consumer_seq: self.deliveries, stream_seq: delivered },
                ack_floor: SequencePair { consumer_seq: self.ack_floor.consumer, stream_seq: floor },
                pending: pending.collect(),
                // The first delivery is not counted there.
                redelivered: counts.map(|(sequence, count)| (*sequence, count - 1)).collect(),
            },
        }
    }

    /// A consumer as a snapshot tells it, in a stream that has no messages yet: they come by [`Consumer::on_stored`], and
    /// then [`Consumer::settle_restored`]. Its configuration has been checked; of its state nothing is believed.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub(crate) fn restored(
        id: u64,
        name: &str,
        config: ConsumerConfig,
        state: &ConsumerState,
        stream: &StreamConfig,
        store: &mut Store,
        now: i64,
    ) -> Result<Self, Error> {
        let acknowledges = config.ack_policy != AckPolicy::None;
        // Where it stands is said, so the store is not asked where to start.
        let unplaced = ConsumerConfig { opt_start_seq: 1, ..config.clone() };
        let mut consumer = Self::new(id, name, unplaced, stream, store, now)?;
        consumer.config = Arc::new(config);
        consumer.next = state.delivered.stream_seq.min(NUMBER_MAX - 1) + 1;
        consumer.deliveries = state.delivered.consumer_seq.min(NUMBER_MAX - 1);
        consumer.ack_floor = Place {
            consumer: state.ack_floor.consumer_seq.min(consumer.deliveries),
            stream: state.ack_floor.stream_seq.min(consumer.next - 1),
        };
        let open = consumer.ack_floor.stream.saturating_add(1)..consumer.next;
        let pending = state.pending.iter().filter(|(sequence, _)| acknowledges && open.contains(sequence));
        consumer.unacknowledged = pending
            .map(|(sequence, delivery)| {
                let consumer = delivery.sequence.min(NUMBER_MAX - 1);
                let sent_at = delivery.timestamp.min(now);
                (*sequence, Unacknowledged { consumer, sent_at })
            })
            .collect();
        let highest = consumer.unacknowledged.values().map(|entry| entry.consumer).max();
        consumer.deliveries = consumer.deliveries.max(highest.unwrap_or(0));
        let counts = state.redelivered.iter();
        consumer.delivery_counts = counts
            .filter(|(sequence, _)| consumer.unacknowledged.contains_key(sequence))
            .map(|(sequence, count)| (*sequence, (*count).min(NUMBER_MAX - 1) + 1))
            .collect();
        Ok(consumer)
    }

    /// All messages are there: what it waits for and is not among them is forgotten.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub(crate) fn settle_restored(&mut self, stream: &StreamConfig, store: &mut Store) -> Result<(), Error> {
        let state = store.state();
        if self.config.deliver_policy == DeliverPolicy::LastPerSubject && self.deliveries == 0 {
            self.start(stream, store)?;
        }
        self.next =
            self.next.clamp(state.first_sequence.max(1), state.last_sequence.saturating_add(1).max(1));
        self.ack_floor.stream = self.ack_floor.stream.min(self.next - 1);
        let mut gone = Vec::new();
        for sequence in self.unacknowledged.keys() {
            if *sequence >= self.next || store.get(*sequence)?.is_none() {
                gone.push(*sequence);
            }
        }
        for sequence in gone {
            self.unacknowledged.remove(&sequence);
            self.delivery_counts.remove(&sequence);
        }
        self.begin(store)
    }
}
