//! What is remembered of a stream besides its messages, as bytes: the state that goes with a checkpoint of the store.

use sonata_store::{Done, Error, Finished};

use super::{Dedupe, Lifetimes, Machine, Parts, Schedules};
use crate::api::error::ApiError;
use crate::config::StreamConfig;
use crate::consumer::Consumer;
use crate::json;
use crate::record::{Malformed, Reader, put_bytes, put_number, put_signed};

/// Version of these bytes.
const VERSION: u8 = 2;

/// What the first bytes of a state say, enough to make the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its number in the log.
    pub lane: u64,
    /// Name of its account.
    pub account: String,
    /// ns since 1970.
    pub created: i64,
    /// Configuration.
    pub config: StreamConfig,
}

impl Header {
    /// Appends the header.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_number(out, self.lane);
        put_bytes(out, self.account.as_bytes());
        put_signed(out, self.created);
        put_bytes(out, &json::encode(&self.config));
    }

    /// Reads the header at the start of a state.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`Header::save`] does not write.
    pub fn load(state: &[u8]) -> Result<Self, Malformed> {
        Self::read(&mut Reader::new(state))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        if reader.byte()? != VERSION {
            return Err(Malformed);
        }
        Ok(Self {
            lane: reader.number()?,
            account: std::str::from_utf8(reader.bytes()?).map_err(|_| Malformed)?.to_owned(),
            created: reader.signed()?,
            config: json::decode(reader.bytes()?, json::Mode::Lenient).map_err(|_| Malformed)?,
        })
    }
}

impl Machine {
    /// Begins a checkpoint of what has been applied; `None` when one is under way. The work goes on without the lock and
    /// comes back by [`Machine::finish_work`].
    pub fn begin_checkpoint(&mut self, account: &str) -> Option<sonata_store::Work> {
        if self.checkpointing {
            return None;
        }
        let state = self.save(account);
        let work = self.store.checkpoint(self.applied, state)?;
        self.checkpointing = true;
        self.saving_bytes = std::mem::take(&mut self.unsaved_bytes);
        Some(work)
    }

    /// Background work of the store, to be run without the lock.
    pub fn store_work(&mut self) -> Option<sonata_store::Work> {
        self.store.work()
    }

    /// Background work is done.
    ///
    /// # Errors
    /// What the disk said.
    pub fn finish_work(&mut self, done: Done) -> Result<Finished, Error> {
        let finished = self.store.finish(done);
        // One portion of work is out at a time: this was the checkpoint, or what had to come before it.
        self.checkpointing = false;
        let saving = std::mem::take(&mut self.saving_bytes);
        if !matches!(finished, Ok(Finished::Checkpoint { .. })) {
            self.unsaved_bytes += saving;
        }
        finished
    }

    fn save(&self, account: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let header = Header {
            lane: self.lane,
            account: account.to_owned(),
            created: self.created,
            config: (*self.config).clone(),
        };
        header.save(&mut out);
        put_number(&mut out, self.next_consumer);
        put_bytes(&mut out, &self.last_message_id);
        self.dedupe.save(&mut out);
        self.lifetimes.save(&mut out);
        self.schedules.save(&mut out);
        self.save_following(&mut out);
        put_number(&mut out, self.consumers.len() as u64);
        let mut state = Vec::new();
        for consumer in self.consumers.iter() {
            state.clear();
            consumer.save(&mut state);
            put_bytes(&mut out, &state);
        }
        out
    }

    /// A machine as it was when `state` was saved; its store is at the same point. What the log has beyond comes by
    /// [`Machine::replay`], and then [`Machine::begin`].
    ///
    /// # Errors
    /// [`Malformed`] for a state that was not written by this version.
    pub fn restore(parts: Parts, position: u64, state: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(state);
        Header::read(&mut reader)?;
        let mut machine = Self::new(parts).map_err(|_: ApiError| Malformed)?;
        machine.applied = position;
        if reader.is_empty() {
            // Of a stream that was just made.
            return Ok(machine);
        }
        machine.next_consumer = reader.sequence()?;
        machine.last_message_id = reader.bytes()?.into();
        machine.dedupe = Dedupe::load(&mut reader)?;
        machine.lifetimes = Lifetimes::load(&mut reader)?;
        machine.schedules = Schedules::load(&mut reader)?;
        machine.load_following(&mut reader)?;
        let config = machine.config.clone();
        for _ in 0..reader.count(1)? {
            let consumer = Consumer::load(reader.bytes()?, &config, &mut machine.store)?;
            machine.consumers.insert(consumer);
        }
        if reader.is_empty() { Ok(machine) } else { Err(Malformed) }
    }

    /// Everything has been replayed: the stream begins.
    pub fn begin(&mut self, now: i64) {
        self.assigned = self.store.state().last_sequence;
        self.consumers.change_all(|consumer| {
            // What the replay left for the log is in the log. What the checkpoint knew ahead of the log need not be.
            let _ = consumer.take_delivered(now);
            let _ = consumer.take_acknowledged(now);
            consumer.refilter(&self.config, &mut self.store);
            let _ = consumer.begin(&mut self.store);
            consumer.log_unapplied();
        });
        self.wants_turn = true;
        self.review_interest(now, &mut super::apply::Silence);
    }
}
