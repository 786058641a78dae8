//! A stream that is made from a snapshot.
//!
//! A [`Restoring`] is a machine that nobody knows yet: nothing is logged, nobody is told anything. Consumers come before
//! messages, so that a stream that goes by acknowledgements keeps what they wait for and nothing else. What is in the
//! snapshot is judged like anything that comes from outside; the memory it takes is bounded by what the account may use.

use std::fmt;
use std::sync::Arc;

use sonata_store::Filter;

use super::apply::Silence;
use super::{Limit, Machine};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::response::StreamState;
use crate::archive::{ArchiveError, ConsumerSnapshot, Entry};
use crate::config::{Limits, Retention, StreamConfig};
use crate::consumer::Consumer;
use crate::header::{self, name};
use crate::record::{self, NUMBER_MAX, publish_flag};
use crate::timestamp::Timestamp;
use crate::ttl::{self, Ttl};

/// Consumers of one snapshot, and what all of them together may wait for: far more than a server serves well, and so few
/// that they fit in memory.
const CONSUMERS_MAX: usize = 100_000;
const PENDING_MAX: usize = 4_000_000;

/// See the module.
pub struct Restoring {
    machine: Machine,
    limits: Limits,
    state: Option<StreamState>,
    /// Unacknowledged messages of all consumers.
    pending: usize,
    /// The configuration, as long as messages come before the consumers that want them: until then all are kept.
    postponed: Option<Arc<StreamConfig>>,
    /// Whether it was so.
    is_older: bool,
}

/// Why a snapshot cannot be made into a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreError {
    /// Entries that do not belong together.
    Unexpected(&'static str),
    /// A message that cannot be stored.
    Message {
        /// Its sequence.
        sequence: u64,
        /// What is wrong with it.
        cause: String,
    },
    /// A consumer that this stream cannot have.
    Consumer {
        /// Its name.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// It does not fit in what the account may use.
    Room(ApiError),
    /// The store cannot be read.
    Store(String),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected(what) => f.write_str(what),
            Self::Message { sequence, cause } => {
                write!(f, "failed to store message sequence {sequence}: {cause}")
            }
            Self::Consumer { name, cause } => write!(f, "failed to add consumer {name:?}: {cause}"),
            Self::Room(error) => write!(f, "{error}"),
            Self::Store(cause) => f.write_str(cause),
        }
    }
}

impl std::error::Error for RestoreError {}

impl Restoring {
    /// Begins with a new machine, whose records must need no log ([`Commit::Memory`](super::Commit::Memory)).
    pub fn new(machine: Machine, limits: Limits) -> Self {
        Self { machine, limits, state: None, pending: 0, postponed: None, is_older: false }
    }

    /// Takes the next entry of the snapshot.
    ///
    /// # Errors
    /// See [`RestoreError`]; the machine is of no use then.
    pub fn take(&mut self, entry: Entry, now: i64) -> Result<(), RestoreError> {
        match (entry, &self.state) {
            (Entry::State(state), None) => {
                if state.first_seq.max(state.last_seq) >= NUMBER_MAX {
                    return Err(RestoreError::Unexpected("sequences out of range"));
                }
                self.machine.store.advance(state.first_seq.saturating_sub(1));
                self.state = Some(*state);
                Ok(())
            }
            (Entry::Older, None) => {
                let config = self.machine.config.clone();
                self.machine.config =
                    Arc::new(StreamConfig { retention: Retention::Limits, ..StreamConfig::clone(&config) });
                self.postponed = Some(config);
                self.is_older = true;
                self.state = Some(StreamState { last_seq: u64::MAX, ..StreamState::default() });
                Ok(())
            }
            (Entry::Deleted { first, last }, Some(_)) => self.delete(first, last),
            (Entry::Bounds { first, last, last_time }, Some(_)) => {
                self.delete(1, first.saturating_sub(1))?;
                let (last_seq, last_ts) = (last, Timestamp(last_time));
                self.state = Some(StreamState { last_seq, last_ts, ..StreamState::default() });
                Ok(())
            }
            (Entry::Consumer(consumer), Some(_)) => {
                self.use_retention();
                self.consumer(*consumer, now)
            }
            (Entry::Message { sequence, timestamp, subject, headers, payload }, Some(state)) => {
                if self.postponed.is_some() && self.machine.store.state().last_sequence == 0 {
                    self.machine.store.advance(sequence.saturating_sub(1));
                }
                // A snapshot of this server may lack what its state counts, but never has more.
                if sequence > state.last_seq {
                    return Err(RestoreError::Unexpected("a message after the last one"));
                }
                let flags = self.flags(&headers, timestamp, now);
                let (subject, headers, payload) = (&*subject, &*headers, &*payload);
                self.message(&record::Publish { flags, sequence, timestamp, subject, headers, payload }, now)
            }
            _ => Err(RestoreError::Unexpected("the state of the stream is not the first entry")),
        }
    }

    /// Consumers come now, or never.
    fn use_retention(&mut self) {
        if let Some(config) = self.postponed.take() {
            self.machine.config = config;
        }
    }

    fn delete(&mut self, first: u64, last: u64) -> Result<(), RestoreError> {
        let machine = &mut self.machine;
        let before = machine.store.state().bytes as i64;
        let mut from = first;
        while let Ok(Some(message)) = machine.store.next_message(&Filter::all(), from)
            && message.sequence <= last
        {
            let failed = |error: sonata_store::Error| RestoreError::Store(error.to_string());
            machine.store.remove(message.sequence).map_err(failed)?;
            machine.lifetimes.remove(message.sequence);
            machine.schedules.on_removed(&message.subject, message.sequence);
            from = message.sequence + 1;
        }
        machine.usage.change(machine.config.storage, machine.store.state().bytes as i64 - before);
        Ok(())
    }

    fn consumer(&mut self, snapshot: ConsumerSnapshot, now: i64) -> Result<(), RestoreError> {
        let ConsumerSnapshot { config, state } = snapshot;
        let name = match &*config.durable_name {
            "" => config.name.clone(),
            durable => durable.to_owned(),
        };
        let refuse = |cause: &dyn fmt::Display| RestoreError::Consumer {
            name: name.clone(),
            cause: cause.to_string(),
        };
        self.pending = self.pending.saturating_add(state.pending.len() + state.redelivered.len());
        if name.is_empty() || self.machine.consumers.contains(&name) {
            return Err(refuse(&"it has no name of its own"));
        }
        if self.machine.consumers.len() >= CONSUMERS_MAX || self.pending > PENDING_MAX {
            return Err(refuse(&"too many consumers"));
        }
        let stream = self.machine.config.clone();
        let config = config.check(&stream, &self.limits, false).map_err(|error| refuse(&error))?;
        config.check_new(&stream).map_err(|error| refuse(&error))?;
        self.machine.check_workqueue(&config, None).map_err(|error| refuse(&error))?;
        let id = self.machine.next_consumer;
        let consumer = Consumer::restored(id, &name, config, &state, &stream, &mut self.machine.store, now)
            .map_err(|error| refuse(&error))?;
        self.machine.next_consumer += 1;
        self.machine.consumers.insert(consumer);
        Ok(())
    }

    /// What of its headers still means something.
    fn flags(&self, headers: &[u8], timestamp: i64, now: i64) -> u8 {
        let config = &self.machine.config;
        let recent = timestamp > now.saturating_sub(config.duplicate_window);
        let scheduled = header::has(headers, name::SCHEDULE) || header::has(headers, name::SCHEDULER);
        [
            (recent && header::has(headers, name::MSG_ID), publish_flag::MESSAGE_ID),
            (config.allow_msg_ttl && header::has(headers, name::TTL), publish_flag::TTL),
            (config.allow_msg_schedules && scheduled, publish_flag::SCHEDULE),
            (header::has(headers, name::STREAM_SOURCE), publish_flag::SOURCED),
        ]
        .into_iter()
        .filter(|(holds, _)| *holds)
        .fold(0, |flags, (_, flag)| flags | flag)
    }

    fn message(&mut self, message: &record::Publish<'_>, now: i64) -> Result<(), RestoreError> {
        let machine = &mut self.machine;
        let (sequence, headers) = (message.sequence, message.headers);
        let refuse = |cause: &str| RestoreError::Message { sequence, cause: cause.to_owned() };
        if sequence <= machine.store.state().last_sequence || sequence == u64::MAX {
            return Err(refuse("it is out of order"));
        }
        if !sonata_subject::is_literal(message.subject)
            || message.subject.len() > sonata_store::SUBJECT_BYTES_MAX
        {
            return Err(refuse("its subject is invalid"));
        }
        let is_block = headers.starts_with(b"NATS/1.0") && headers.ends_with(b"\r\n\r\n");
        if !headers.is_empty() && !is_block {
            return Err(refuse("its headers are invalid"));
        }
        let content = headers.len() + message.payload.len();
        if machine.config.max_msg_size >= 0 && content as u64 > machine.config.max_msg_size as u64 {
            return Err(refuse("it exceeds the maximum message size"));
        }
        let bytes = machine.accounting().bytes(message.subject.len(), headers.len(), message.payload.len());
        let storage = machine.config.storage;
        machine.usage.check(storage, bytes).map_err(RestoreError::Room)?;
        let before = machine.store.state().bytes as i64;
        if is_over(message, now) {
            machine.store.skip(sequence, message.timestamp);
        } else {
            machine.apply_publish(message, false, now, &mut Silence);
        }
        let change = machine.store.state().bytes as i64 - before;
        machine.usage.change(storage, change);
        Ok(())
    }

    /// The store's background work, so that what waits to be written stays small.
    pub fn store_work(&mut self) -> Option<sonata_store::Work> {
        self.machine.store_work()
    }

    /// See [`Machine::begin_checkpoint`].
    pub fn begin_checkpoint(&mut self, account: &str) -> Option<sonata_store::Work> {
        self.machine.begin_checkpoint(account)
    }

    /// See [`Machine::finish_work`].
    ///
    /// # Errors
    /// What the disk said.
    pub fn finish_work(
        &mut self,
        done: sonata_store::Done,
    ) -> Result<sonata_store::Finished, sonata_store::Error> {
        self.machine.finish_work(done)
    }

    /// The snapshot has ended as it should. The machine is complete but has not [begun](Machine::begin).
    ///
    /// # Errors
    /// When there was no state, or the store cannot be read.
    pub fn finish(&mut self, now: i64) -> Result<&mut Machine, RestoreError> {
        self.use_retention();
        let Some(state) = &self.state else {
            return Err(RestoreError::Unexpected("the state of the stream is missing"));
        };
        let machine = &mut self.machine;
        // Deleted messages at the end: their sequences are not given out again.
        if state.last_seq != u64::MAX {
            machine.store.skip(state.last_seq, state.last_ts.0);
        }
        machine.assigned = machine.store.state().last_sequence;
        let before = machine.store.state().bytes as i64;
        if self.is_older {
            machine.sweep_unwanted(now, &mut Silence);
        }
        machine.enforce_limits(Limit::All, now, &mut Silence);
        machine.usage.change(machine.config.storage, machine.store.state().bytes as i64 - before);
        let config = machine.config.clone();
        for id in machine.consumers.all() {
            let settled = machine
                .consumers
                .change(id, |consumer| consumer.settle_restored(&config, &mut machine.store));
            settled.transpose().map_err(|error| RestoreError::Store(error.to_string()))?;
        }
        machine.note_watched();
        Ok(machine)
    }

    /// The machine, in whatever state.
    pub fn into_machine(self) -> Machine {
        self.machine
    }

    /// Gives back what the account uses for it. For a stream that is opened anew from its files, and for one that came to
    /// nothing.
    pub fn abandon(self) {
        let machine = self.machine;
        machine.usage.change(machine.config.storage, -(machine.store.state().bytes as i64));
    }
}

/// The time of a message with a time to live of its own is over.
fn is_over(message: &record::Publish<'_>, now: i64) -> bool {
    let ttl = header::get(message.headers, name::TTL).and_then(ttl::parse);
    match ttl {
        Some(Ttl::Seconds(seconds)) if message.flags & publish_flag::TTL > 0 => {
            message.timestamp.saturating_add(seconds.saturating_mul(1_000_000_000)) < now
        }
        _ => false,
    }
}

impl From<RestoreError> for ApiError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Room(error) => error,
            error => ErrorCode::StreamRestore.with(error),
        }
    }
}

impl fmt::Debug for Restoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restoring").field("machine", &self.machine).finish_non_exhaustive()
    }
}

impl From<ArchiveError> for ApiError {
    fn from(error: ArchiveError) -> Self {
        ErrorCode::StreamRestore.with(error)
    }
}
