//! Judging the messages of a batch: each as if those before it were stored already.
//!
//! The original judges them in another order than single messages, by the code of its clusters: message ids come early, the
//! expected sequence of the stream before that of the subject. Errors show it, so the order is kept.

use super::Machine;
use super::admit::{Refusal, Terms};
use super::counter::Count;
use crate::api::error::{ApiError, ErrorCode};
use crate::config::Discard;
use crate::header::{self, name};
use crate::map::HashMap;
use crate::ttl::{self, Ttl};

/// What the messages of a batch that were judged already mean for those behind them.
#[derive(Debug, Default)]
pub(super) struct Staged {
    messages: u64,
    bytes: u64,
    subjects: HashMap<Box<[u8]>, OnSubject>,
    /// Message ids.
    ids: HashMap<Box<[u8]>, ()>,
    counters: HashMap<Box<[u8]>, Count>,
    /// The last sequences that were expected of subjects, and right.
    expected: HashMap<Box<[u8]>, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct OnSubject {
    messages: u64,
    /// Of the last message.
    is_schedule: bool,
}

impl Staged {
    /// Whether the last message on a subject is a schedule; `None` when there is none.
    pub(super) fn is_schedule(&self, subject: &[u8]) -> Option<bool> {
        self.subjects.get(subject).map(|on| on.is_schedule)
    }

    /// Bytes of all messages, as the store counts them.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Machine {
    /// Judges a message of a batch by its headers; its subject is the transformed one.
    pub(super) fn judge(
        &mut self,
        staged: &mut Staged,
        subject: &[u8],
        headers: &[u8],
        payload: &[u8],
        now: i64,
    ) -> Result<Terms, Refusal> {
        let mut terms = Terms::stripped(headers);
        let said = |name| header::get(headers, name).filter(|value| !value.is_empty());
        self.check_header_size(headers)?;
        let increment = self.check_increment(headers, payload)?;
        self.check_expected_stream(headers)?;
        let lifetime = said(name::TTL).map(ttl::parse);
        match lifetime {
            None | Some(Some(Ttl::Seconds(0))) => {}
            Some(_) if !self.config.allow_msg_ttl => return Err(ErrorCode::MessageTtlDisabled.into()),
            Some(None) => return Err(ErrorCode::MessageTtlInvalid.into()),
            Some(Some(_)) => {}
        }
        if let Some(id) = said(name::MSG_ID) {
            if staged.ids.contains_key(id) {
                return Err(ErrorCode::AtomicPublishContainsDuplicateMessage.into());
            }
            self.set_message_id(id, &mut terms, now)?;
            staged.ids.insert(id.into(), ());
        }
        check_source(headers)?;
        if self.config.allow_msg_counter {
            let increment = increment.ok_or(ErrorCode::MessageIncrementMissing)?;
            let before = match staged.counters.get(subject) {
                Some(count) => count.clone(),
                None => self.count_on(subject)?,
            };
            let count = before.plus(&increment);
            staged.counters.insert(subject.into(), count.clone());
            terms.set_count(headers, count);
            self.check_size(terms.headers(headers), terms.payload(payload))?;
        }
        self.check_expected_in_batch(staged, subject, headers)?;
        self.check_schedules(subject, headers, Some(staged), &mut terms, now)?;
        self.set_rollup(headers, &mut terms)?;
        check_rollup_in_batch(staged, subject, &terms)?;
        self.set_lifetime(lifetime, headers, &mut terms)?;
        let (headers, payload) = (terms.headers(headers), terms.payload(payload));
        let bytes = self.accounting().bytes(subject.len(), headers.len(), payload.len());
        staged.messages += 1;
        staged.bytes += bytes;
        let on = staged.subjects.entry(subject.into()).or_default();
        *on = OnSubject { messages: on.messages + 1, is_schedule: terms.is_schedule };
        let messages = on.messages;
        self.check_room_in_batch(staged, subject, messages, &terms)?;
        Ok(terms)
    }

    fn check_expected_in_batch(
        &mut self,
        staged: &mut Staged,
        subject: &[u8],
        headers: &[u8],
    ) -> Result<(), Refusal> {
        let said = |name| header::get(headers, name).filter(|value| !value.is_empty());
        if let Some(expected) = super::admit::number(said(name::EXPECTED_LAST_SEQUENCE)) {
            let last = self.assigned + staged.messages;
            if expected != last {
                return Err(ErrorCode::StreamWrongLastSequence.with(last).into());
            }
            if staged.messages > 0 {
                // Only the first message can know what the stream's last will be.
                return Err(ErrorCode::StreamWrongLastSequenceOnly.into());
            }
        }
        let over = said(name::EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT);
        let Some(expected) = super::admit::number(said(name::EXPECTED_LAST_SUBJECT_SEQUENCE)) else {
            return match over {
                Some(_) => Err(ErrorCode::StreamExpectedLastSeqPerSubjectInvalid.into()),
                None => Ok(()),
            };
        };
        let over = over.unwrap_or(subject);
        if staged.subjects.contains_key(over) {
            return Err(ErrorCode::StreamWrongLastSequenceOnly.into());
        }
        let last = match staged.expected.get(over) {
            Some(last) => *last,
            None => self.last_on(over)?,
        };
        if last != expected {
            return Err(ErrorCode::StreamWrongLastSequence.with(last).into());
        }
        staged.expected.insert(over.into(), last);
        Ok(())
    }

    /// Limits that refuse instead of making room.
    fn check_room_in_batch(
        &mut self,
        staged: &Staged,
        subject: &[u8],
        on_subject: u64,
        terms: &Terms,
    ) -> Result<(), ApiError> {
        let config = &self.config;
        if config.discard != Discard::New {
            return Ok(());
        }
        let refuse = |text: &str| Err(ErrorCode::StreamStoreFailed.with(text));
        let state = self.store.state();
        let messages = state.messages + self.in_flight.messages() + staged.messages;
        if config.max_msgs > 0 && messages > config.max_msgs as u64 {
            return refuse("maximum messages exceeded");
        }
        let bytes = state.bytes + self.in_flight.bytes() + staged.bytes;
        if config.max_bytes > 0 && bytes > config.max_bytes as u64 {
            return refuse("maximum bytes exceeded");
        }
        let most = config.max_msgs_per_subject;
        // A rollup makes room for itself.
        if config.discard_new_per_subject && most > 0 && !terms.rolls_up() {
            let stored = self.store.subject(subject);
            let stored = stored.map_err(|error| ErrorCode::StreamStoreFailed.with(error))?;
            let on_its_way = self.in_flight.subject(subject).map_or(0, |(count, _)| count);
            let messages = stored.map_or(0, |state| state.messages) + on_its_way + on_subject;
            if messages > most as u64 {
                return refuse("maximum messages per subject exceeded");
            }
        }
        Ok(())
    }
}

/// Only servers say where a message comes from.
pub(super) fn check_source(headers: &[u8]) -> Result<(), ErrorCode> {
    match header::get(headers, name::STREAM_SOURCE) {
        Some(source) if !source.is_empty() => Err(ErrorCode::MessageSourceHeaderNotAllowed),
        _ => Ok(()),
    }
}

/// A rollup must not take messages of its own batch.
fn check_rollup_in_batch(staged: &Staged, subject: &[u8], terms: &Terms) -> Result<(), ApiError> {
    use crate::record::publish_flag::{ROLLUP_ALL, ROLLUP_SUBJECT};
    if terms.flags & ROLLUP_SUBJECT > 0 && staged.subjects.contains_key(subject) {
        return Err(ErrorCode::StreamRollupFailed.with("batch rollup sub invalid"));
    }
    if terms.flags & ROLLUP_ALL > 0 && staged.messages > 0 {
        return Err(ErrorCode::StreamRollupFailed.with("batch rollup all invalid"));
    }
    Ok(())
}
