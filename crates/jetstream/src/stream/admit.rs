//! Publishes: judged in the original's order of checks, turned into records, or refused.

use super::counter::Count;
use super::decimal::Decimal;
use super::{After, Commit, Extra, Machine, Reply, fast_batch, in_flight, staged};
use crate::api::error::{ApiError, ErrorCode};
use crate::config::{Discard, Retention, Storage};
use crate::header::{self, name};
use crate::json;
use crate::outgoing::{Outgoing, Publish};
use crate::record::{self, NUMBER_MAX, Record, publish_flag};
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

/// Committed bytes that wait to be written to segments: beyond half of it publishers are held back, beyond all of it they
/// are refused.
const UNWRITTEN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Sequences that publishers do not get: more than a batch has messages, so that there are some for what comes of theirs.
const SEQUENCES_SPARE: u64 = 1 << 20;

/// What the headers of a publish make of it.
#[derive(Debug, Default)]
pub(super) struct Terms {
    pub(super) flags: u8,
    pub(super) id: Option<Box<[u8]>>,
    /// Headers to be stored instead.
    pub(super) headers: Option<Vec<u8>>,
    /// Payload to be stored instead.
    pub(super) payload: Option<Vec<u8>>,
    /// What a counter has counted to with this message.
    pub(super) count: Option<Count>,
    /// It is a schedule.
    pub(super) is_schedule: bool,
    /// It takes the place of another message.
    pub(super) replaces: bool,
}

impl Terms {
    /// Those of a message about which nothing has been found out, except that a header of the server's own is not stored.
    pub(super) fn stripped(headers: &[u8]) -> Self {
        let mut terms = Self::default();
        if header::has(headers, name::REQUEST_INFO) {
            let mut stripped = headers.to_vec();
            header::remove(&mut stripped, name::REQUEST_INFO);
            terms.headers = Some(stripped);
        }
        terms
    }

    /// The headers that are stored.
    pub(super) fn headers<'a>(&'a self, published: &'a [u8]) -> &'a [u8] {
        self.headers.as_deref().unwrap_or(published)
    }

    /// The payload that is stored.
    pub(super) fn payload<'a>(&'a self, published: &'a [u8]) -> &'a [u8] {
        self.payload.as_deref().unwrap_or(published)
    }

    /// The message is stored with what its counter has counted to.
    pub(super) fn set_count(&mut self, published: &[u8], count: Count) {
        self.payload = Some(count.payload());
        if let Some(headers) = count.headers(self.headers(published)) {
            self.headers = Some(headers);
        }
        self.count = Some(count);
    }

    /// Whether earlier messages go.
    pub(super) fn rolls_up(&self) -> bool {
        self.flags & (publish_flag::ROLLUP_SUBJECT | publish_flag::ROLLUP_ALL) > 0
    }
}

/// A message that may be stored.
#[derive(Debug)]
pub(super) struct Admission<'a> {
    pub(super) subject: &'a [u8],
    pub(super) headers: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) terms: Terms,
}

/// How a publish is answered when it is not stored.
#[derive(Debug)]
pub(super) enum Refusal {
    Error(ApiError),
    /// The sequence it was stored under before, and what else is said.
    Duplicate(u64, Extra),
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
        let original_reply = fast_batch::original_reply(incoming.reply, incoming.headers);
        let step = fast_batch::Step::parse(original_reply.as_deref().unwrap_or(incoming.reply));
        let batch = header::get(incoming.headers, name::BATCH_ID).filter(|id| !id.is_empty());
        let admitted = match (step, batch) {
            (Some(step), _) => self.receive_fast(step, &incoming, reply, now, out),
            (None, Some(id)) => self.receive_batched(id, &incoming, reply, now, out),
            (None, None) => self.admit(&incoming, reply, now, out),
        };
        match admitted {
            Ok(()) | Err(Refusal::Silence) => {}
            Err(Refusal::Error(error)) => self.refuse_publish(reply, &error, out),
            Err(Refusal::Duplicate(sequence, extra)) => {
                let after = After::Duplicate { reply: Reply::from_slice(reply), sequence, extra };
                // One that is still on its way is acknowledged with the first.
                match self.in_flight.last_position() {
                    Some(position) => self.in_flight.push(position, after, None),
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
        let transformed = self.transformed(incoming.subject, now);
        let subject = transformed.as_deref().unwrap_or(incoming.subject);
        let terms = self.judge_one(incoming, subject, now)?;
        let value = terms.count.as_ref().map(|count| count.value.to_string().into());
        let extra = value.map_or(Extra::None, Extra::Value);
        let after = After::Published { reply: Reply::from_slice(reply), extra };
        let (headers, payload) = (incoming.headers, incoming.payload);
        Ok(self.put(Admission { subject, headers, payload, terms }, after, now, out)?)
    }

    /// What a message on `subject` is called in the stream, if it is not called that.
    pub(super) fn transformed(&self, subject: &[u8], now: i64) -> Option<Vec<u8>> {
        self.transform.as_ref().and_then(|it| it.apply(subject, now as u32))
    }

    /// Whether the stream takes a message that it calls `subject`, and as what.
    pub(super) fn judge_one(
        &mut self,
        incoming: &Incoming<'_>,
        subject: &[u8],
        now: i64,
    ) -> Result<Terms, Refusal> {
        self.check_open()?;
        let (headers, payload) = (incoming.headers, incoming.payload);
        let (mut terms, increment) = match headers.is_empty() {
            true => (Terms::default(), None),
            false => self.terms(subject, headers, payload, now)?,
        };
        if self.config.allow_msg_counter {
            let increment = increment.ok_or(ErrorCode::MessageIncrementMissing)?;
            let count = self.count_on(subject)?.plus(&increment);
            terms.set_count(headers, count);
        }
        self.check_size(terms.headers(headers), terms.payload(payload))?;
        let bytes = self.accounting().bytes(
            subject.len(),
            terms.headers(headers).len(),
            terms.payload(payload).len(),
        );
        terms.replaces = self.replaces(subject);
        self.check_limits(subject, bytes, terms.replaces)?;
        Ok(terms)
    }

    /// Gives a message its sequence and logs it.
    pub(super) fn put(
        &mut self,
        admission: Admission<'_>,
        after: After,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        let Admission { subject, headers, payload, mut terms } = admission;
        let (id, count) = (terms.id.take(), terms.count.take());
        let (headers, payload) = (terms.headers(headers), terms.payload(payload));
        let bytes = self.accounting().bytes(subject.len(), headers.len(), payload.len());
        let sequence = self.assigned + 1;
        let flags = terms.flags;
        let publish = record::Publish { flags, sequence, timestamp: now, subject, headers, payload };
        let (is_schedule, replaces) = (terms.is_schedule, terms.replaces);
        let message = in_flight::Message { subject, id, sequence, bytes, is_schedule, replaces };
        self.assigned = sequence;
        if let Err(error) = self.commit(&Record::Publish(publish), Some(message), after, now, out) {
            self.assigned = sequence - 1;
            return Err(error);
        }
        if let Some(count) = count {
            self.note_count(subject, sequence, count);
        }
        Ok(())
    }

    /// A counter's message was logged: until it is stored, the next one goes on from it.
    pub(super) fn note_count(&mut self, subject: &[u8], sequence: u64, count: Count) {
        if matches!(self.commit, Commit::Logged(_)) {
            self.counters.on_logged(subject, sequence, count);
        }
    }

    /// Whether the stream takes messages at all now.
    pub(super) fn check_open(&self) -> Result<(), Refusal> {
        self.check_unsealed()?;
        if let Some(cause) = &self.failed {
            return Err(super::refused_error(&crate::outgoing::Refused::Failed(cause.clone())).into());
        }
        self.check_written()?;
        if self.config.mirror.is_some() {
            return Err(Refusal::Silence);
        }
        if self.assigned >= NUMBER_MAX - SEQUENCES_SPARE {
            return Err(ErrorCode::StreamStoreFailed.with("no sequences are left").into());
        }
        Ok(())
    }

    pub(super) fn check_unsealed(&self) -> Result<(), ErrorCode> {
        if self.config.sealed { Err(ErrorCode::StreamSealed) } else { Ok(()) }
    }

    /// Whether the disk does not keep pace, so that publishers should be held back before there is no more room for what they
    /// send.
    pub fn is_behind(&self) -> bool {
        self.store.unwritten_bytes() > UNWRITTEN_BYTES_MAX / 2
    }

    /// Whether there is room in memory for what is not written yet.
    pub(super) fn check_written(&self) -> Result<(), ErrorCode> {
        match self.store.unwritten_bytes() > UNWRITTEN_BYTES_MAX {
            true => Err(ErrorCode::StreamTooManyRequests),
            false => Ok(()),
        }
    }

    /// Whether a message has a size that the stream takes.
    pub(super) fn check_size(&self, headers: &[u8], payload: &[u8]) -> Result<(), ErrorCode> {
        self.check_message_size(headers, payload)?;
        self.check_header_size(headers)
    }

    pub(super) fn check_message_size(&self, headers: &[u8], payload: &[u8]) -> Result<(), ErrorCode> {
        let most = self.config.max_msg_size;
        let is_too_large = most >= 0 && headers.len() + payload.len() > most as usize;
        if is_too_large { Err(ErrorCode::StreamMessageExceedsMaximum) } else { Ok(()) }
    }

    pub(super) fn check_header_size(&self, headers: &[u8]) -> Result<(), ErrorCode> {
        if headers.len() > HEADERS_MAX { Err(ErrorCode::StreamHeaderExceedsMaximum) } else { Ok(()) }
    }

    /// Whether the account has room for a message of a batch, before more is looked at.
    pub(super) fn check_usage(&self, incoming: &Incoming<'_>) -> Result<(), ApiError> {
        let Incoming { subject, headers, payload, .. } = *incoming;
        let bytes = self.accounting().bytes(subject.len(), headers.len(), payload.len());
        self.usage.check(self.config.storage, bytes + self.in_flight.bytes())
    }

    /// What the headers ask for, checked, and by how much a counter grows.
    fn terms(
        &mut self,
        subject: &[u8],
        headers: &[u8],
        payload: &[u8],
        now: i64,
    ) -> Result<(Terms, Option<Decimal>), Refusal> {
        let config = self.config.clone();
        let mut terms = Terms::stripped(headers);
        let has = |name| header::get(headers, name).filter(|value| !value.is_empty());
        let increment = self.check_increment(headers, payload)?;
        self.check_expected_stream(headers)?;
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
        self.check_schedules(subject, headers, None, &mut terms, now)?;
        staged::check_source(headers)?;
        if let Some(id) = has(name::MSG_ID) {
            self.set_message_id(id, &mut terms, now)?;
        }
        self.check_last_message_id(headers)?;
        self.set_rollup(headers, &mut terms)?;
        self.set_lifetime(lifetime, headers, &mut terms)?;
        Ok((terms, increment))
    }

    pub(super) fn check_expected_stream(&self, headers: &[u8]) -> Result<(), ErrorCode> {
        match header::get(headers, name::EXPECTED_STREAM) {
            Some(expected) if !expected.is_empty() && expected != self.name.as_bytes() => {
                Err(ErrorCode::StreamNotMatch)
            }
            _ => Ok(()),
        }
    }

    /// Notes the id of a message that has not been stored before.
    pub(super) fn set_message_id(&mut self, id: &[u8], terms: &mut Terms, now: i64) -> Result<(), Refusal> {
        self.dedupe.expire(now.saturating_sub(self.config.duplicate_window));
        if let Some(sequence) = self.dedupe.find(id).or_else(|| self.in_flight.find_id(id)) {
            return Err(Refusal::Duplicate(sequence, Extra::None));
        }
        terms.flags |= publish_flag::MESSAGE_ID;
        terms.id = Some(id.into());
        Ok(())
    }

    pub(super) fn check_last_message_id(&self, headers: &[u8]) -> Result<(), ApiError> {
        let expected = header::get(headers, name::EXPECTED_LAST_MSG_ID).filter(|id| !id.is_empty());
        let last = self.in_flight.last_id().unwrap_or(&self.last_message_id);
        match expected {
            Some(expected) if expected != last => {
                Err(ErrorCode::StreamWrongLastMsgId.with(String::from_utf8_lossy(last)))
            }
            _ => Ok(()),
        }
    }

    /// Notes which earlier messages go.
    pub(super) fn set_rollup(&self, headers: &[u8], terms: &mut Terms) -> Result<(), ApiError> {
        let rollup = header::get(terms.headers(headers), name::ROLLUP).filter(|rollup| !rollup.is_empty());
        let Some(rollup) = rollup else { return Ok(()) };
        if !self.config.allow_rollup_hdrs || self.config.deny_purge {
            return Err(ErrorCode::StreamRollupFailed.with("rollup not permitted"));
        }
        let flag = match rollup {
            b"sub" => publish_flag::ROLLUP_SUBJECT,
            b"all" => publish_flag::ROLLUP_ALL,
            other => {
                let text = format!("rollup value invalid: {:?}", String::from_utf8_lossy(other));
                return Err(ErrorCode::StreamRollupFailed.with(text));
            }
        };
        terms.flags |= flag;
        Ok(())
    }

    /// Notes how long the message lives.
    pub(super) fn set_lifetime(
        &self,
        lifetime: Option<Option<Ttl>>,
        headers: &[u8],
        terms: &mut Terms,
    ) -> Result<(), ErrorCode> {
        match lifetime {
            Some(None) => return Err(ErrorCode::MessageTtlInvalid),
            Some(Some(Ttl::Seconds(0))) | None => {}
            Some(Some(Ttl::Never)) => terms.flags |= publish_flag::TTL,
            Some(Some(Ttl::Seconds(seconds))) => {
                terms.flags |= publish_flag::TTL;
                // A marker that ended before an older one would be missed.
                let least = self.config.subject_delete_marker_ttl / 1_000_000_000;
                if seconds < least && self.config.max_msgs_per_subject != 1 {
                    let headers = terms.headers.get_or_insert_with(|| headers.to_vec());
                    header::set(headers, name::TTL, least.to_string().as_bytes());
                }
            }
        }
        Ok(())
    }

    /// The last sequence of a subject, or of any that matches a filter, on its way or stored; 0 for none.
    pub(super) fn last_on(&mut self, subject: &[u8]) -> Result<u64, Refusal> {
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

    /// Whether a message takes the place of another one, for which a stream that discards new ones has room.
    pub(super) fn replaces(&mut self, subject: &[u8]) -> bool {
        let config = &self.config;
        let most = config.max_msgs_per_subject;
        if config.discard != Discard::New || most <= 0 || config.discard_new_per_subject {
            return false;
        }
        let on_its_way = self.in_flight.subject(subject).map_or(0, |(count, _)| count);
        let stored = self.store.subject(subject).ok().flatten().map_or(0, |state| state.messages);
        stored + on_its_way >= most as u64
    }

    /// Limits that refuse instead of making room.
    pub(super) fn check_limits(
        &mut self,
        subject: &[u8],
        bytes: u64,
        replaces: bool,
    ) -> Result<(), ApiError> {
        let config = &self.config;
        if config.retention == Retention::Interest && !self.has_interest(subject) {
            return Ok(());
        }
        self.usage.check(config.storage, bytes + self.in_flight.bytes())?;
        if config.discard != Discard::New {
            return Ok(());
        }
        let refuse = |text: &str| Err(ErrorCode::StreamStoreFailed.with(text));
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
        self.consumers.any_matching(subject, |consumer| consumer.filter.matches(subject))
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
pub(super) fn number(value: Option<&[u8]>) -> Option<u64> {
    value.map(|value| std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0))
}
