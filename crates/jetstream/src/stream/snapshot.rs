//! Reading a whole stream for a snapshot, in portions and beside its traffic.
//!
//! State and consumers are those of the moment it begins; messages stored later do not belong to it. What is deleted while
//! it is read is missing from it, as if it had been deleted before.

use sonata_store::{Error, Filter, Message};

use super::Machine;
use super::turn::Work;
use crate::api::response::StreamState;
use crate::archive::ConsumerSnapshot;
use crate::config::StreamConfig;

/// Messages of one portion, and their bytes: as long as publishers may be kept waiting.
const PORTION_MESSAGES: usize = 256;
const PORTION_BYTES: usize = 256 * 1024;

/// A snapshot as it begins.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What the stream was told to be.
    pub config: StreamConfig,
    /// What it holds; its consumers are counted whether they are in the snapshot or not.
    pub state: StreamState,
    /// Its consumers, if they were asked for.
    pub consumers: Vec<ConsumerSnapshot>,
}

/// A step of reading a stream.
#[derive(Debug)]
pub enum Reading {
    /// The next messages, and where to go on.
    Messages(Vec<Message>, u64),
    /// Something is to be read from the disk first, without the stream's lock; then the same again.
    Disk(Work),
    /// That was all.
    End,
}

impl Machine {
    /// Begins a snapshot.
    pub fn snapshot(&self, with_consumers: bool) -> Snapshot {
        let state = self.state();
        let shown = self.consumers.by_name().filter(|consumer| with_consumers && !consumer.config.direct);
        let consumers = shown.map(|consumer| consumer.snapshot(state.first_seq, state.last_seq)).collect();
        Snapshot { config: (*self.config).clone(), state, consumers }
    }

    /// The messages from the sequence `from` to `last`. `warmed` says that what [`Reading::Disk`] asked for was read and
    /// [given back](Machine::warm): it is not asked for twice.
    ///
    /// # Errors
    /// The disk's, and damage: a snapshot that silently lacks a message is none.
    pub fn read_on(&mut self, from: u64, last: u64, warmed: bool) -> Result<Reading, Error> {
        let all = Filter::all();
        let mut messages = Vec::new();
        let (mut next, mut bytes) = (from, 0);
        while messages.len() < PORTION_MESSAGES && bytes < PORTION_BYTES {
            if let Some(load) = self.store.cold_next(&all, next)
                && !(warmed && messages.is_empty())
            {
                return Ok(match messages.is_empty() {
                    true => Reading::Disk(Work::new(load)),
                    false => Reading::Messages(messages, next),
                });
            }
            let Some(sequence) = self.store.next(&all, next)?.filter(|sequence| *sequence <= last) else {
                break;
            };
            next = sequence + 1;
            if let Some(message) = self.store.get(sequence)? {
                bytes += message.subject.len() + message.headers.len() + message.payload.len();
                messages.push(message);
            }
        }
        Ok(if messages.is_empty() { Reading::End } else { Reading::Messages(messages, next) })
    }
}
