//! Publishes: judged in the original's order of checks, turned into records, or refused.

use super::{After, Extra, Machine, in_flight};
use crate::api::error::{ApiError, ErrorCode};
use crate::config::{Discard, Retention, Storage};
use crate::header::{self, name};
use crate::json;
use crate::outgoing::{Outgoing, Publish};
use crate::record::{self, Record, publish_flag};
use crate::ttl::{self, Ttl};

/// A message that was published on one of the stream's subjects.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Subject.
    pub subject: &'a [u8],
    /// Reply subject; empty for none.
    pub reply: &'a [u8],
    /// Header block; empty when there is none.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

/// Headers may be no longer, bytes.
const HEADERS_MAX: usize = 64 * 1024 - 1;

/// Committed bytes that wait to be written to segments; beyond it publishers are told to slow down. Far more than a disk
/// that works ever leaves waiting.
const UNWRITTEN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What the headers of a publish make of it.
#[derive(Debug, Default)]
struct Terms {
    flags: u8,
    id: Option<Box<[u8]>>,
    /// Headers to be stored instead.
    headers: Option<Vec<u8>>,
}

/// How a publish is answered when it is not stored.
enum Refusal {
    Error(ApiError),
    Duplicate(u64),
    /// Not at all: it is no message for the stream.
    Silence,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Error(code.into())
    }
}

impl Machine {
    /// Takes a message that was published on one of the stream's subjects.
    pub fn receive(&mut self, incoming: Incoming<'_>, now: i64, out: &mut dyn Publish) {
        let reply = if self.config.no_ack { b"" } else { incoming.reply };
        match self.admit(&incoming, reply, now, out) {
            Ok(()) | Err(Refusal::Silence) => {}
            Err(Refusal::Error(error)) => self.refuse_publish(reply, &error, out),
            Err(Refusal::Duplicate(sequence)) => {
                let after = After::Duplicate { reply: reply.into(), sequence };
                // One that is still on its way is acknowledged with the first.
                match self.in_flight.last_position() {
                    Some(position) => {
                        self.in_flight.push(in_flight::Waiting { position, after, message: None });
                    }
                    None => self.finish(after, &super::apply::Outcome::default(), now, out),
                }
            }
        }
    }

    fn admit(
        &mut self,
        incoming: &Incoming<'_>,
        reply: &[u8],
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), Refusal> {
        let transformed = self.transform.as_ref().and_then(|it| it.apply(incoming.subject, now as u32));
        let subject = transformed.as_deref().unwrap_or(incoming.subject);
        let config = self.config.clone();
        if config.sealed {
            return Err(ErrorCode::StreamSealed.into());
        }
        if let Some(cause) = &self.failed {
            return Err(super::refused_error(&crate::outgoing::Refused::Failed(cause.clone())).into());
        }
        if self.store.unwritten_bytes() > UNWRITTEN_BYTES_MAX {
            return Err(ErrorCode::StreamTooManyRequests.into());
        }
        if config.mirror.is_some() {
            return Err(Refusal::Silence);
        }
        let headers = incoming.headers;
        let terms = match headers.is_empty() {
            true => Terms::default(),
            false => self.terms(subject, headers, now)?,
        };
        let headers = terms.headers.as_deref().unwrap_or(headers);
        let message_bytes = headers.len() + incoming.payload.len();
        if config.max_msg_size >= 0 && message_bytes > config.max_msg_size as usize {
            return Err(ErrorCode::StreamMessageExceedsMaximum.into());
        }
        if headers.len() > HEADERS_MAX {
            return Err(ErrorCode::StreamHeaderExceedsMaximum.into());
        }
        let bytes = self.accounting().bytes(subject.len(), headers.len(), incoming.payload.len());
        self.check_limits(subject, bytes)?;
        let sequence = self.assigned + 1;
        let record = Record::Publish(record::Publish {
            flags: terms.flags,
            sequence,
            timestamp: now,
            subject,
            headers,
            payload: incoming.payload,
        });
        let message = in_flight::Message { subject: subject.into(), id: terms.id, sequence, bytes };
        let after = After::Published { reply: reply.into(), extra: Extra::None };
        self.assigned = sequence;
        let committed = self.commit(&record, Some(message), after, now, out);
        if committed.is_err() {
            self.assigned = sequence - 1;
        }
        Ok(committed?)
    }

    /// What the headers ask for, checked.
    fn terms(&mut self, subject: &[u8], headers: &[u8], now: i64) -> Result<Terms, Refusal> {
        let config = self.config.clone();
        let mut terms = Terms::default();
        let has = |name| header::get(headers, name).filter(|value| !value.is_empty());
        if header::has(headers, name::REQUEST_INFO) {
            let mut stripped = headers.to_vec();
            header::remove(&mut stripped, name::REQUEST_INFO);
            terms.headers = Some(stripped);
        }
        if has(name::INCREMENT).is_some() {
            return Err(ErrorCode::MessageIncrementDisabled.into());
        }
        if has(name::EXPECTED_STREAM).is_some_and(|name| name != self.name.as_bytes()) {
            return Err(ErrorCode::StreamNotMatch.into());
        }
        let lifetime = has(name::TTL).map(ttl::parse);
        if !config.allow_msg_ttl && matches!(lifetime, Some(Some(ttl)) if ttl != Ttl::Seconds(0)) {
            return Err(ErrorCode::MessageTtlDisabled.into());
        }
        let over = has(name::EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT);
        match number(has(name::EXPECTED_LAST_SUBJECT_SEQUENCE)) {
            Some(expected) => {
                let last = self.last_on(over.unwrap_or(subject))?;
                if last != expected {
                    return Err(ErrorCode::StreamWrongLastSequence.with(last).into());
                }
            }
            None if over.is_some() => {
                return Err(ErrorCode::StreamExpectedLastSeqPerSubjectInvalid.into());
            }
            None => {}
        }
        if number(has(name::EXPECTED_LAST_SEQUENCE)).is_some_and(|expected| expected != self.assigned) {
            return Err(ErrorCode::StreamWrongLastSequence.with(self.assigned).into());
        }
        if has(name::SCHEDULE).is_some() {
            return Err(ErrorCode::MessageSchedulesDisabled.into());
        }
        if has(name::SCHEDULER).is_some() || has(name::SCHEDULE_NEXT).is_some() {
            return Err(ErrorCode::MessageSchedulesSchedulerInvalid.into());
        }
        if has(name::STREAM_SOURCE).is_some() {
            return Err(ErrorCode::MessageSourceHeaderNotAllowed.into());
        }
        if has(name::BATCH_ID).is_some() {
            return Err(ErrorCode::AtomicPublishDisabled.into());
        }
        if let Some(id) = has(name::MSG_ID) {
            self.dedupe.expire(now.saturating_sub(config.duplicate_window));
            if let Some(sequence) = self.dedupe.find(id).or_else(|| self.in_flight.find_id(id)) {
                return Err(Refusal::Duplicate(sequence));
            }
            terms.flags |= publish_flag::MESSAGE_ID;
            terms.id = Some(id.into());
        }
        if let Some(expected) = has(name::EXPECTED_LAST_MSG_ID) {
            let last = self.in_flight.last_id().unwrap_or(&self.last_message_id);
            if expected != last {
                return Err(ErrorCode::StreamWrongLastMsgId.with(String::from_utf8_lossy(last)).into());
            }
        }
        if let Some(rollup) = has(name::ROLLUP) {
            if !config.allow_rollup_hdrs || config.deny_purge {
                return Err(ErrorCode::StreamRollupFailed.with("rollup not permitted").into());
            }
            terms.flags |= match rollup {
                b"sub" => publish_flag::ROLLUP_SUBJECT,
                b"all" => publish_flag::ROLLUP_ALL,
                other => {
                    let text = format!("rollup value invalid: {:?}", String::from_utf8_lossy(other));
                    return Err(ErrorCode::StreamRollupFailed.with(text).into());
                }
            };
        }
        match lifetime {
            Some(None) => return Err(ErrorCode::MessageTtlInvalid.into()),
            Some(Some(Ttl::Seconds(0))) | None => {}
            Some(Some(Ttl::Never)) => terms.flags |= publish_flag::TTL,
            Some(Some(Ttl::Seconds(seconds))) => {
                terms.flags |= publish_flag::TTL;
                // A marker that ended before an older one would be missed.
                let least = config.subject_delete_marker_ttl / 1_000_000_000;
                if seconds < least && config.max_msgs_per_subject != 1 {
                    let headers = terms.headers.get_or_insert_with(|| headers.to_vec());
                    header::set(headers, name::TTL, least.to_string().as_bytes());
                }
            }
        }
        Ok(terms)
    }

    /// The last sequence of a subject, or of any that matches a filter, on its way or stored; 0 for none.
    fn last_on(&mut self, subject: &[u8]) -> Result<u64, Refusal> {
        let on_its_way = match sonata_subject::has_wildcard(subject) {
            true => self.in_flight.last_matching(subject),
            false => self.in_flight.subject(subject).map(|(_, last)| last),
        };
        if let Some(last) = on_its_way {
            return Ok(last);
        }
        let filter = sonata_store::Filter::new([subject]);
        let last = self.store.last(&filter, u64::MAX);
        Ok(last.map_err(|error| ErrorCode::StreamStoreFailed.with(error))?.unwrap_or(0))
    }

    /// Limits that refuse instead of making room.
    fn check_limits(&mut self, subject: &[u8], bytes: u64) -> Result<(), Refusal> {
        let config = &self.config;
        if config.retention == Retention::Interest && !self.has_interest(subject) {
            return Ok(());
        }
        self.usage.check(config.storage, bytes + self.in_flight.bytes())?;
        if config.discard != Discard::New {
            return Ok(());
        }
        let refuse = |text: &str| Err(ErrorCode::StreamStoreFailed.with(text).into());
        let config = self.config.clone();
        if config.discard_new_per_subject && config.max_msgs_per_subject > 0 {
            let stored = self.store.subject(subject);
            let stored = stored.map_err(|error| ErrorCode::StreamStoreFailed.with(error))?;
            let stored = stored.map_or(0, |state| state.messages);
            let on_its_way = self.in_flight.subject(subject).map_or(0, |(count, _)| count);
            if stored + on_its_way >= config.max_msgs_per_subject as u64 {
                return refuse("maximum messages per subject exceeded");
            }
        }
        let state = self.store.state();
        // With one message per subject, the message it replaces makes room for it.
        let replaces = config.max_msgs_per_subject > 0
            && !config.discard_new_per_subject
            && self
                .store
                .subject(subject)
                .ok()
                .flatten()
                .is_some_and(|state| state.messages >= config.max_msgs_per_subject as u64);
        let messages = state.messages + self.in_flight.messages();
        if config.max_msgs > 0 && messages >= config.max_msgs as u64 && !replaces {
            return refuse("maximum messages exceeded");
        }
        if config.max_bytes > 0
            && state.bytes + self.in_flight.bytes() + bytes > config.max_bytes as u64
            && !replaces
        {
            return refuse("maximum bytes exceeded");
        }
        Ok(())
    }

    /// Whether any consumer wants the subject.
    pub(super) fn has_interest(&self, subject: &[u8]) -> bool {
        self.consumers.values().any(|consumer| consumer.filter.matches(subject))
    }

    pub(super) fn accounting(&self) -> sonata_store::Accounting {
        match self.config.storage {
            Storage::File => sonata_store::Accounting::File,
            Storage::Memory => sonata_store::Accounting::Memory,
        }
    }

    /// Tells a publisher why not: `{"error":{…},"stream":"S","seq":0}`.
    pub(super) fn refuse_publish(&self, reply: &[u8], error: &ApiError, out: &mut dyn Publish) {
        if reply.is_empty() {
            return;
        }
        let mut text = b"{\"error\":".to_vec();
        json::append(&mut text, error);
        text.extend_from_slice(b",\"stream\":\"");
        text.extend_from_slice(self.name.as_bytes());
        text.extend_from_slice(b"\",\"seq\":0}");
        out.publish(Outgoing::plain(reply, &text));
    }
}

/// A header's number; one that is none counts as 0, as in the original.
fn number(value: Option<&[u8]>) -> Option<u64> {
    value.map(|value| std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0))
}
