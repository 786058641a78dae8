//! What stands in a stream's log: every change to the stream and its consumers, as bytes.
//!
//! Records are decoded where they are applied, live and after a restart by the same code; `FORMAT.md` has the table of
//! bytes. Numbers are LEB128 unless a width is named. Bytes from disk are hostile: a record that does not decode is an
//! error, never a panic.

use std::fmt;

/// Version of the records; the first byte of each.
pub const VERSION: u8 = 1;

/// Messages, deliveries and consumers have smaller numbers: from it on nothing is taken, so that counting on never
/// overflows. A billion messages a second take three centuries to get there.
pub const NUMBER_MAX: u64 = u64::MAX >> 1;

/// Flags of [`Publish`].
pub mod publish_flag {
    /// `headers` hold a `Nats-Msg-Id`.
    pub const MESSAGE_ID: u8 = 1;
    /// Earlier messages of the subject go.
    pub const ROLLUP_SUBJECT: u8 = 2;
    /// All earlier messages go.
    pub const ROLLUP_ALL: u8 = 4;
    /// `headers` hold a `Nats-TTL`.
    pub const TTL: u8 = 8;
    /// `headers` hold a `Nats-Schedule`, or name a `Nats-Scheduler` whose schedule goes on or ends with this message.
    pub const SCHEDULE: u8 = 16;
    /// A message of another stream: sequences before it may be skipped.
    pub const MIRRORED: u8 = 32;
    /// `headers` hold a `Nats-Stream-Source`.
    pub const SOURCED: u8 = 64;
    /// The message stands in for one that is gone (a delete marker or a counter's start).
    pub const INTERNAL: u8 = 128;
}

/// A message to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// See [`publish_flag`].
    pub flags: u8,
    /// Its sequence, given when it was admitted.
    pub sequence: u64,
    /// Nanoseconds since 1970.
    pub timestamp: i64,
    /// Subject.
    pub subject: &'a [u8],
    /// Header block; empty when there is none.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

/// One delivery of a message by a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Sequence of the message in the stream.
    pub stream: u64,
    /// Sequence of the delivery at the consumer.
    pub consumer: u64,
    /// How often the message has been delivered, this time included.
    pub count: u64,
}

/// What an acknowledgement says of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// Which verb.
    pub verb: Verb,
    /// Sequence of the message in the stream.
    pub stream: u64,
    /// Sequence of the delivery at the consumer.
    pub consumer: u64,
}

/// Verbs that are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Done with this message.
    Ack,
    /// Done with this and all before it.
    AckAll,
    /// Done with it, though not well.
    Term,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// A message.
    Publish(Publish<'a>),
    /// Several messages that stand or fall together.
    Batch(Vec<Publish<'a>>),
    /// One message goes.
    Remove {
        /// Its sequence.
        sequence: u64,
    },
    /// Messages go.
    Purge {
        /// Only of subjects that match; empty is all.
        filter: &'a [u8],
        /// Only those before; 0 is no bound.
        before: u64,
        /// How many of the newest stay.
        keep: u64,
    },
    /// The first messages have become too old.
    Expire {
        /// The first that stays.
        first: u64,
    },
    /// Another configuration, as JSON.
    Configure {
        /// JSON.
        config: &'a [u8],
    },
    /// A consumer is made or changed.
    Consumer {
        /// Its number within the stream.
        id: u64,
        /// Its whole state, see `consumer::state`.
        state: &'a [u8],
    },
    /// A consumer is gone.
    ConsumerGone {
        /// Its number within the stream.
        id: u64,
    },
    /// A consumer has delivered.
    Deliver {
        /// Its number within the stream.
        id: u64,
        /// Nanoseconds since 1970.
        timestamp: i64,
        /// What, in order.
        delivered: Vec<Delivered>,
    },
    /// A consumer's messages are acknowledged.
    Acknowledge {
        /// Its number within the stream.
        id: u64,
        /// Nanoseconds since 1970.
        timestamp: i64,
        /// What, in order.
        acknowledged: Vec<Acknowledged>,
    },
    /// The last sequence moves on without a message (a mirror skips, a stream starts later).
    Advance {
        /// The new last sequence.
        last: u64,
    },
    /// One message goes, and its bytes are overwritten on the disk.
    Erase {
        /// Its sequence.
        sequence: u64,
    },
}

/// Bytes that are no record of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes are no record of this version")
    }
}

impl std::error::Error for Malformed {}

const PUBLISH: u8 = 1;
const BATCH: u8 = 2;
const REMOVE: u8 = 3;
const PURGE: u8 = 4;
const EXPIRE: u8 = 5;
const CONFIGURE: u8 = 6;
const CONSUMER: u8 = 7;
const CONSUMER_GONE: u8 = 8;
const DELIVER: u8 = 9;
const ACKNOWLEDGE: u8 = 10;
const ADVANCE: u8 = 11;
const ERASE: u8 = 12;

impl<'a> Record<'a> {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            Self::Publish(publish) => {
                out.push(PUBLISH);
                publish.encode(out);
            }
            Self::Batch(messages) => {
                out.push(BATCH);
                put_number(out, messages.len() as u64);
                messages.iter().for_each(|message| message.encode(out));
            }
            Self::Remove { sequence } => {
                out.push(REMOVE);
                put_number(out, *sequence);
            }
            Self::Purge { filter, before, keep } => {
                out.push(PURGE);
                put_bytes(out, filter);
                put_number(out, *before);
                put_number(out, *keep);
            }
            Self::Expire { first } => {
                out.push(EXPIRE);
                put_number(out, *first);
            }
            Self::Configure { config } => {
                out.push(CONFIGURE);
                put_bytes(out, config);
            }
            Self::Consumer { id, state } => {
                out.push(CONSUMER);
                put_number(out, *id);
                put_bytes(out, state);
            }
            Self::ConsumerGone { id } => {
                out.push(CONSUMER_GONE);
                put_number(out, *id);
            }
            Self::Deliver { id, timestamp, delivered } => {
                out.push(DELIVER);
                put_number(out, *id);
                out.extend_from_slice(&timestamp.to_le_bytes());
                put_number(out, delivered.len() as u64);
                for one in delivered {
                    put_number(out, one.stream);
                    put_number(out, one.consumer);
                    put_number(out, one.count);
                }
            }
            Self::Acknowledge { id, timestamp, acknowledged } => {
                out.push(ACKNOWLEDGE);
                put_number(out, *id);
                out.extend_from_slice(&timestamp.to_le_bytes());
                put_number(out, acknowledged.len() as u64);
                acknowledged.iter().for_each(|one| one.encode(out));
            }
            Self::Advance { last } => {
                out.push(ADVANCE);
                put_number(out, *last);
            }
            Self::Erase { sequence } => {
                out.push(ERASE);
                put_number(out, *sequence);
            }
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`Record::encode`] does not write.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != VERSION {
            return Err(Malformed);
        }
        let record = match reader.byte()? {
            PUBLISH => Self::Publish(Publish::decode(&mut reader)?),
            BATCH => {
                let count = reader.count(Publish::BYTES_MIN)?;
                Self::Batch((0..count).map(|_| Publish::decode(&mut reader)).collect::<Result<_, _>>()?)
            }
            REMOVE => Self::Remove { sequence: reader.number()? },
            PURGE => {
                Self::Purge { filter: reader.bytes()?, before: reader.sequence()?, keep: reader.number()? }
            }
            EXPIRE => Self::Expire { first: reader.sequence()? },
            CONFIGURE => Self::Configure { config: reader.bytes()? },
            CONSUMER => Self::Consumer { id: reader.sequence()?, state: reader.bytes()? },
            CONSUMER_GONE => Self::ConsumerGone { id: reader.number()? },
            DELIVER => {
                let (id, timestamp, count) = (reader.number()?, reader.time()?, reader.count(3)?);
                let one = |reader: &mut Reader<'a>| {
                    Ok(Delivered {
                        stream: reader.sequence()?,
                        consumer: reader.sequence()?,
                        count: reader.sequence()?,
                    })
                };
                let delivered = (0..count).map(|_| one(&mut reader)).collect::<Result<_, _>>()?;
                Self::Deliver { id, timestamp, delivered }
            }
            ACKNOWLEDGE => {
                let (id, timestamp) = (reader.number()?, reader.time()?);
                let count = reader.count(Acknowledged::BYTES_MIN)?;
                let acknowledged =
                    (0..count).map(|_| Acknowledged::decode(&mut reader)).collect::<Result<_, _>>()?;
                Self::Acknowledge { id, timestamp, acknowledged }
            }
            ADVANCE => match reader.sequence()? {
                NUMBER_MAX => return Err(Malformed),
                last => Self::Advance { last },
            },
            ERASE => Self::Erase { sequence: reader.number()? },
            _ => return Err(Malformed),
        };
        if reader.is_empty() { Ok(record) } else { Err(Malformed) }
    }
}

impl<'a> Publish<'a> {
    /// Fewest bytes of an encoded message.
    const BYTES_MIN: usize = 1 + 2 + 4 + 4 + 8 + 8;

    fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(Self::BYTES_MIN + self.subject.len() + self.headers.len() + self.payload.len());
        out.push(self.flags);
        out.extend_from_slice(&(self.subject.len() as u16).to_le_bytes());
        out.extend_from_slice(&(self.headers.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.timestamp.to_le_bytes());
        out.extend_from_slice(self.subject);
        out.extend_from_slice(self.headers);
        out.extend_from_slice(self.payload);
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let flags = reader.byte()?;
        let subject_bytes = usize::from(u16::from_le_bytes(reader.array()?));
        let header_bytes = u32::from_le_bytes(reader.array()?) as usize;
        let payload_bytes = u32::from_le_bytes(reader.array()?) as usize;
        let sequence = u64::from_le_bytes(reader.array()?);
        if sequence >= NUMBER_MAX {
            return Err(Malformed);
        }
        let timestamp = i64::from_le_bytes(reader.array()?);
        Ok(Self {
            flags,
            sequence,
            timestamp,
            subject: reader.take(subject_bytes)?,
            headers: reader.take(header_bytes)?,
            payload: reader.take(payload_bytes)?,
        })
    }
}

impl Acknowledged {
    /// Fewest bytes of one.
    pub(crate) const BYTES_MIN: usize = 3;

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.verb as u8);
        put_number(out, self.stream);
        put_number(out, self.consumer);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let verb = match reader.byte()? {
            0 => Verb::Ack,
            1 => Verb::AckAll,
            2 => Verb::Term,
            _ => return Err(Malformed),
        };
        Ok(Self { verb, stream: reader.sequence()?, consumer: reader.sequence()? })
    }
}

/// Appends a number as LEB128.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number (zigzag).
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Appends bytes with their length before them.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes values from the front of bytes.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(Malformed);
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    /// The number of a message, a delivery or a consumer, or one more: not beyond [`NUMBER_MAX`].
    pub(crate) fn sequence(&mut self) -> Result<u64, Malformed> {
        self.number().and_then(|number| if number > NUMBER_MAX { Err(Malformed) } else { Ok(number) })
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Malformed> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// A number of up to eight bytes, the lowest first.
    pub(crate) fn fixed(&mut self, bytes: usize) -> Result<u64, Malformed> {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(self.take(bytes)?);
        Ok(u64::from_le_bytes(number))
    }

    pub(crate) fn time(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        self.take(count)
    }

    /// A count of things of which each takes at least `bytes_min` bytes: never more than there can be.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        if count.saturating_mul(bytes_min) > self.bytes.len() { Err(Malformed) } else { Ok(count) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_come_back_as_they_went() {
        let publish = Publish {
            flags: publish_flag::MESSAGE_ID,
            sequence: 7,
            timestamp: -1,
            subject: b"a.b",
            headers: b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n",
            payload: b"hello",
        };
        let delivered = vec![Delivered { stream: 1, consumer: 1, count: 1 }; 3];
        let acknowledged = vec![Acknowledged { verb: Verb::Term, stream: 300, consumer: 1 << 40 }];
        let records = [
            Record::Publish(publish),
            Record::Batch(vec![publish, publish]),
            Record::Remove { sequence: u64::MAX },
            Record::Purge { filter: b"a.>", before: 0, keep: 2 },
            Record::Expire { first: 12 },
            Record::Configure { config: b"{}" },
            Record::Consumer { id: 3, state: b"x" },
            Record::ConsumerGone { id: 3 },
            Record::Deliver { id: 3, timestamp: 5, delivered },
            Record::Acknowledge { id: 3, timestamp: i64::MIN, acknowledged },
            Record::Advance { last: 9 },
            Record::Erase { sequence: 9 },
        ];
        for record in records {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(Record::decode(&bytes), Ok(record.clone()));
            for end in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..end]), Err(Malformed), "{record:?} cut at {end}");
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(record) = Record::decode(&bytes) {
                let mut again = Vec::new();
                record.encode(&mut again);
                prop_assert_eq!(Record::decode(&again), Ok(record));
            }
        }

        #[test]
        fn signed_numbers_come_back(number in any::<i64>()) {
            let mut bytes = Vec::new();
            put_signed(&mut bytes, number);
            prop_assert_eq!(Reader::new(&bytes).signed(), Ok(number));
        }
    }
}
