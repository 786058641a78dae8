//! What is remembered of a consumer, as bytes: in the log when it is made or changed, and in every checkpoint.

use std::sync::Arc;

use sonata_store::{Error, Store};

use super::{Consumer, Unacknowledged};
use crate::config::{ConsumerConfig, StreamConfig};
use crate::record::{Acknowledged, Malformed, Reader, put_bytes, put_number, put_signed};

/// A place in both countings of a consumer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the delivery.
    pub(crate) consumer: u64,
    /// The message.
    pub(crate) stream: u64,
}

/// Version of these bytes.
const VERSION: u8 = 2;

impl Consumer {
    /// Appends all that is remembered.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        self.save_with(&self.config, out);
    }

    /// The same with another configuration.
    pub(crate) fn save_with(&self, config: &ConsumerConfig, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_number(out, self.id);
        put_bytes(out, self.name.as_bytes());
        put_bytes(out, &crate::json::encode(config));
        put_signed(out, self.created);
        put_number(out, self.next);
        put_number(out, self.deliveries);
        put_signed(out, self.last_delivered.unwrap_or(i64::MIN));
        put_number(out, self.ack_floor.consumer);
        put_number(out, self.ack_floor.stream);
        put_signed(out, self.last_acknowledged.unwrap_or(i64::MIN));
        put_number(out, self.unacknowledged.len() as u64);
        for (sequence, entry) in &self.unacknowledged {
            put_number(out, *sequence);
            put_number(out, entry.consumer);
            put_signed(out, entry.sent_at);
        }
        put_number(out, self.delivery_counts.len() as u64);
        for (sequence, count) in &self.delivery_counts {
            put_number(out, *sequence);
            put_number(out, *count);
        }
        let none = (std::collections::VecDeque::new(), 0);
        // They are the last ones by the filters that were.
        let skips = self.skip_list.as_ref().filter(|_| config.filters() == self.config.filters());
        let (lasts, resume) = skips.unwrap_or(&none);
        put_number(out, *resume);
        put_number(out, lasts.len() as u64);
        for sequence in lasts {
            put_number(out, *sequence);
        }
        put_signed(out, self.last_active);
        put_number(out, self.unapplied.len() as u64);
        for acknowledged in self.unapplied.values() {
            acknowledged.encode(out);
        }
    }

    /// Reads what [`Consumer::save`] wrote. [`Consumer::begin`] is what remains to be done once the store is complete.
    pub(crate) fn load(bytes: &[u8], stream: &StreamConfig, store: &mut Store) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != VERSION {
            return Err(Malformed);
        }
        let id = reader.sequence()?;
        let name = std::str::from_utf8(reader.bytes()?).map_err(|_| Malformed)?;
        let config: ConsumerConfig =
            crate::json::decode(reader.bytes()?, crate::json::Mode::Lenient).map_err(|_| Malformed)?;
        let created = reader.signed()?;
        // What it starts with is replaced below, so the store is not asked where to start.
        let unplaced = ConsumerConfig { opt_start_seq: 1, ..config.clone() };
        let mut consumer =
            Self::new(id, name, unplaced, stream, store, created).map_err(|_: Error| Malformed)?;
        consumer.config = Arc::new(config);
        consumer.refilter(stream, store);
        consumer.next = reader.sequence()?.max(1);
        consumer.deliveries = reader.sequence()?;
        consumer.last_delivered = Some(reader.signed()?).filter(|time| *time != i64::MIN);
        consumer.ack_floor = Place { consumer: reader.sequence()?, stream: reader.sequence()? };
        consumer.last_acknowledged = Some(reader.signed()?).filter(|time| *time != i64::MIN);
        for _ in 0..reader.count(3)? {
            let sequence = reader.sequence()?;
            let entry = Unacknowledged { consumer: reader.sequence()?, sent_at: reader.signed()? };
            consumer.unacknowledged.insert(sequence, entry);
        }
        for _ in 0..reader.count(2)? {
            let sequence = reader.sequence()?;
            consumer.delivery_counts.insert(sequence, reader.sequence()?);
        }
        let resume = reader.sequence()?;
        let lasts = (0..reader.count(1)?).map(|_| reader.sequence()).collect::<Result<_, _>>()?;
        consumer.skip_list = (resume > 0).then_some((lasts, resume));
        consumer.last_active = reader.signed()?;
        for _ in 0..reader.count(Acknowledged::BYTES_MIN)? {
            let acknowledged = Acknowledged::decode(&mut reader)?;
            consumer.unapplied.insert(acknowledged.stream, acknowledged);
        }
        if reader.is_empty() { Ok(consumer) } else { Err(Malformed) }
    }
}
