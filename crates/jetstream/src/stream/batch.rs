//! Atomic batches: messages that are stored together or not at all (ADR-50).
//!
//! Until its commit a batch waits here, outside of the stream: it is in no log and a restart forgets it, which its publisher
//! notices because the commit is refused. The commit judges all messages, each behind those before it, and logs them as one
//! record. So there is no state of the log in which a part of a batch is there.

use super::admit::{Incoming, Refusal, Terms};
use super::seats::Seat;
use super::staged::Staged;
use super::{After, Commit, Extra, Machine, Reply, in_flight};
use crate::advisory::{BatchAbandonReason, StreamBatchAbandoned};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::response::API_LEVEL;
use crate::header::{self, name};
use crate::map::HashMap;
use crate::outgoing::{Outgoing, Publish};
use crate::record::{self, Record};

/// Open batches of one stream, unless the configuration says otherwise.
const OPEN_MAX: usize = 50;

/// Open batches of the server, unless the configuration says otherwise.
const OPEN_IN_SERVER_MAX: usize = 1000;

/// The longest id, bytes.
pub(super) const ID_BYTES_MAX: usize = 64;

/// Bytes of one batch. A batch is one record, and the log takes none that is much longer.
const BYTES_MAX: usize = 48 * 1024 * 1024;

/// Bytes of all open batches of a stream: they are in memory.
const OPEN_BYTES_MAX: usize = 128 * 1024 * 1024;

/// The open batches of a stream.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    open: HashMap<Box<[u8]>, Batch>,
    /// Of all open batches.
    bytes: usize,
    /// Not later than the first of them is idle for too long; ns since 1970.
    review_at: Option<i64>,
}

#[derive(Debug)]
struct Batch {
    messages: Vec<Held>,
    bytes: usize,
    /// When the last message came, ns since 1970.
    touched: i64,
    _seat: Seat,
}

/// A message that waits for the commit.
#[derive(Debug)]
struct Held {
    subject: Box<[u8]>,
    headers: Vec<u8>,
    payload: Box<[u8]>,
}

/// What a message wants of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Add,
    /// Store it all, this message included.
    Commit,
    /// Store it all; this message only says so.
    CommitBefore,
    Unknown,
}

impl Step {
    fn of(headers: &[u8]) -> Self {
        match header::get(headers, name::BATCH_COMMIT) {
            None => Self::Add,
            Some(b"1") => Self::Commit,
            Some(b"eob") => Self::CommitBefore,
            Some(_) => Self::Unknown,
        }
    }
}

impl Batches {
    /// When [`Machine::expire_batches`] has something to do, ns since 1970.
    pub(super) fn next_review(&self) -> Option<i64> {
        self.review_at
    }

    /// Gives up all of them.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, id: &[u8]) -> Option<Batch> {
        let batch = self.open.remove(id)?;
        self.bytes -= batch.bytes;
        Some(batch)
    }

    /// Removes those that nothing was added to for too long; sorted by id.
    fn take_idle(&mut self, idle_max: i64, now: i64) -> Vec<Box<[u8]>> {
        let since = now.saturating_sub(idle_max);
        let idle = self.open.iter().filter(|(_, batch)| batch.touched <= since);
        let mut idle: Vec<Box<[u8]>> = idle.map(|(id, _)| id.clone()).collect();
        idle.sort();
        for id in &idle {
            self.remove(id);
        }
        self.review_at = self.open.values().map(|batch| batch.touched.saturating_add(idle_max)).min();
        idle
    }
}

impl Machine {
    /// Takes a message of a batch.
    pub(super) fn receive_batched(
        &mut self,
        id: &[u8],
        incoming: &Incoming<'_>,
        reply: &[u8],
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), Refusal> {
        self.check_open()?;
        let headers = incoming.headers;
        self.check_usage(incoming)?;
        self.check_message_size(headers, incoming.payload)?;
        if !self.config.allow_atomic {
            return Err(ErrorCode::AtomicPublishDisabled.into());
        }
        if id.len() > ID_BYTES_MAX {
            return Err(ErrorCode::AtomicPublishInvalidBatchId.into());
        }
        let sequence = header::get(headers, name::BATCH_SEQUENCE).and_then(digits);
        let sequence = sequence.ok_or(ErrorCode::AtomicPublishMissingSeq)?;
        let step = Step::of(headers);
        if !self.batches.open.contains_key(id) {
            self.open_batch(id, sequence, step, now)?;
        }
        if step == Step::Unknown {
            self.batches.remove(id);
            return Err(ErrorCode::AtomicPublishInvalidBatchCommit.into());
        }
        let mut stored = headers.to_vec();
        if let Err(error) = take_required_level(&mut stored) {
            return Err(self.abandon(id, BatchAbandonReason::Unsupported, error, reply, now, out));
        }
        let messages_max = self.usage.batches.limits().messages();
        let Some(batch) = self.batches.open.get_mut(id) else { return Ok(()) };
        batch.touched = now;
        if sequence != batch.messages.len() as u64 + 1 || sequence == 1 && step == Step::CommitBefore {
            let error = ErrorCode::AtomicPublishIncompleteBatch.into();
            return Err(self.abandon(id, BatchAbandonReason::Incomplete, error, reply, now, out));
        }
        if step != Step::CommitBefore {
            if sequence > messages_max {
                let error = ErrorCode::AtomicPublishTooLargeBatch.with(messages_max);
                return Err(self.abandon(id, BatchAbandonReason::Large, error, reply, now, out));
            }
            let bytes = incoming.subject.len() + stored.len() + incoming.payload.len();
            if batch.bytes + bytes > BYTES_MAX || self.batches.bytes + bytes > OPEN_BYTES_MAX {
                let error = ErrorCode::InsufficientResources.into();
                return Err(self.abandon(id, BatchAbandonReason::Large, error, reply, now, out));
            }
            batch.messages.push(Held {
                subject: incoming.subject.into(),
                headers: stored,
                payload: incoming.payload.into(),
            });
            batch.bytes += bytes;
            self.batches.bytes += bytes;
        }
        if step == Step::Add {
            if !reply.is_empty() {
                out.publish(Outgoing::plain(reply, b""));
            }
            return Ok(());
        }
        let Some(mut batch) = self.batches.remove(id) else { return Ok(()) };
        self.commit_batch(id, &mut batch.messages, step, reply, now, out)
    }

    /// Begins a batch with its first message.
    fn open_batch(&mut self, id: &[u8], sequence: u64, step: Step, now: i64) -> Result<(), ApiError> {
        let limits = self.usage.batches.limits();
        if sequence != 1 {
            let messages = if step == Step::CommitBefore { sequence.saturating_sub(1) } else { sequence };
            return Err(match messages > limits.messages() {
                true => ErrorCode::AtomicPublishTooLargeBatch.with(limits.messages()),
                false => ErrorCode::AtomicPublishIncompleteBatch.into(),
            });
        }
        if self.batches.open.len() >= limits.per_stream(OPEN_MAX) {
            return Err(ErrorCode::AtomicPublishTooManyInflight.into());
        }
        let seat = self.usage.batches.atomic.take(limits.in_total(OPEN_IN_SERVER_MAX));
        let seat = seat.ok_or(ErrorCode::AtomicPublishTooManyInflight)?;
        self.batches
            .open
            .insert(id.into(), Batch { messages: Vec::new(), bytes: 0, touched: now, _seat: seat });
        // Somebody must set the timer.
        self.wants_turn |= self.batches.review_at.is_none();
        self.batches.review_at.get_or_insert(now.saturating_add(limits.idle()));
        Ok(())
    }

    /// Judges the messages and logs them as one record.
    fn commit_batch(
        &mut self,
        id: &[u8],
        messages: &mut [Held],
        step: Step,
        reply: &[u8],
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), Refusal> {
        let mut staged = Staged::default();
        let mut judged: Vec<(Box<[u8]>, Terms)> = Vec::with_capacity(messages.len());
        for held in messages.iter() {
            let expected_id = header::get(&held.headers, name::EXPECTED_LAST_MSG_ID);
            if expected_id.is_some_and(|id| !id.is_empty()) {
                let error = ErrorCode::AtomicPublishUnsupportedHeaderBatch.with(name::EXPECTED_LAST_MSG_ID);
                return Err(error.into());
            }
            let transformed = self.transform.as_ref().and_then(|it| it.apply(&held.subject, now as u32));
            let subject = transformed.map_or_else(|| held.subject.clone(), Vec::into_boxed_slice);
            let terms = self.judge(&mut staged, &subject, &held.headers, &held.payload, now);
            let terms = terms.map_err(|refusal| match refusal {
                Refusal::Duplicate(..) => ErrorCode::AtomicPublishContainsDuplicateMessage.into(),
                other => other,
            })?;
            judged.push((subject, terms));
        }
        self.usage.check(self.config.storage, staged.bytes() + self.in_flight.bytes())?;
        if let (Step::CommitBefore, Some(held), Some((_, terms))) =
            (step, messages.last_mut(), judged.last_mut())
        {
            // The last message says of itself that it is the last, as if it had committed.
            header::append(terms.headers.as_mut().unwrap_or(&mut held.headers), name::BATCH_COMMIT, b"1");
        }
        let records: Vec<record::Publish<'_>> = (self.assigned + 1..)
            .zip(messages.iter().zip(&judged))
            .map(|(sequence, (held, (subject, terms)))| record::Publish {
                flags: terms.flags,
                sequence,
                timestamp: now,
                subject,
                headers: terms.headers(&held.headers),
                payload: terms.payload(&held.payload),
            })
            .collect();
        let accounting = self.accounting();
        let on_their_way = records.iter().zip(&judged).map(|(record, (_, terms))| in_flight::Message {
            subject: record.subject,
            id: terms.id.clone(),
            sequence: record.sequence,
            bytes: accounting.bytes(record.subject.len(), record.headers.len(), record.payload.len()),
            is_schedule: terms.is_schedule,
            replaces: false,
        });
        let count = records.len() as u64;
        let id = String::from_utf8_lossy(id).into();
        let after = After::Published { reply: Reply::from_slice(reply), extra: Extra::Batch { id, count } };
        let mut on_their_way = on_their_way.collect::<Vec<_>>().into_iter();
        let record = Record::Batch(records);
        self.assigned += count;
        if let Err(error) = self.commit(&record, on_their_way.next(), after, now, out) {
            self.assigned -= count;
            return Err(error.into());
        }
        if !matches!(self.commit, Commit::Logged(_)) {
            return Ok(());
        }
        // All messages of the record wait at its position; the first says what is done for it.
        if let Some(position) = self.in_flight.last_position() {
            for message in on_their_way {
                self.in_flight.push(position, After::Nothing, Some(message));
            }
        }
        let Record::Batch(records) = record else { return Ok(()) };
        for (record, (_, terms)) in records.iter().zip(&judged) {
            if let Some(count) = &terms.count {
                self.counters.on_logged(record.subject, record.sequence, count.clone());
            }
        }
        Ok(())
    }

    /// Gives a batch up and says so; nothing is left to be answered.
    fn abandon(
        &mut self,
        id: &[u8],
        reason: BatchAbandonReason,
        error: ApiError,
        reply: &[u8],
        now: i64,
        out: &mut dyn Publish,
    ) -> Refusal {
        self.batches.remove(id);
        // As in the original the publisher hears of it before others do.
        self.refuse_publish(reply, &error, out);
        self.tell_abandoned(id, reason, now, out);
        Refusal::Silence
    }

    fn tell_abandoned(&mut self, id: &[u8], reason: BatchAbandonReason, now: i64, out: &mut dyn Publish) {
        let body = StreamBatchAbandoned {
            account: String::new(),
            stream: self.name.to_string(),
            domain: self.domain.to_string(),
            batch: String::from_utf8_lossy(id).into_owned(),
            reason,
        };
        self.notify(body, now, out);
    }

    /// Gives up batches whose publishers have gone quiet.
    pub(super) fn expire_batches(&mut self, now: i64, out: &mut dyn Publish) {
        if self.batches.review_at.is_none_or(|review_at| review_at > now) {
            return;
        }
        for id in self.batches.take_idle(self.usage.batches.limits().idle(), now) {
            self.tell_abandoned(&id, BatchAbandonReason::Timeout, now, out);
        }
    }
}

/// Takes the API level that a message of a batch asks for out of its headers.
pub(super) fn take_required_level(headers: &mut Vec<u8>) -> Result<(), ApiError> {
    let Some(level) = header::get(headers, name::REQUIRED_API_LEVEL).filter(|level| !level.is_empty()) else {
        return Ok(());
    };
    let level: Option<u32> = std::str::from_utf8(level).ok().and_then(|level| level.parse().ok());
    if level.is_none_or(|level| level > API_LEVEL) {
        return Err(ErrorCode::RequiredApiLevel.into());
    }
    header::remove(headers, name::REQUIRED_API_LEVEL);
    Ok(())
}

/// A number of nothing but digits.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}
