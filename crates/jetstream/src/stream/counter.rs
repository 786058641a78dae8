//! Counters: messages of which each says by how much its subject's number grows, and is stored as the sum (ADR-49).
//!
//! The sum is made when the message is admitted, so that the log holds what is stored and a replay does not count. Sums
//! that are on their way into the log are kept here: the next increment goes on from them.
//!
//! A counter may also add up those of other streams. A message from a source says the source's sum, not a step: what it
//! grows by here is what that sum differs from the last one of the same source. The sums by source are in the headers of
//! every message of the subject (`Nats-Counter-Sources`), so that the last message is all that must be known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Machine;
use super::decimal::Decimal;
use crate::api::error::{ApiError, ErrorCode};
use crate::header::{self, name};
use crate::json;
use crate::map::HashMap;

/// What is stored.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct CounterValue {
    val: String,
}

/// What a subject has counted to.
#[derive(Clone, Debug, Default)]
pub(super) struct Count {
    pub(super) value: Decimal,
    /// What of it comes from which stream and which of its subjects.
    sources: BTreeMap<String, BTreeMap<String, String>>,
}

impl Count {
    pub(super) fn plus(mut self, increment: &Decimal) -> Self {
        self.value = self.value.plus(increment);
        self
    }

    /// The payload of a message that says this.
    pub(super) fn payload(&self) -> Vec<u8> {
        json::encode(&CounterValue { val: self.value.to_string() })
    }

    /// Headers of a message that say from where it comes, when it comes from elsewhere at all.
    pub(super) fn headers(&self, published: &[u8]) -> Option<Vec<u8>> {
        if self.sources.is_empty() {
            return None;
        }
        let mut headers = published.to_vec();
        header::replace(&mut headers, name::COUNTER_SOURCES, &json::encode(&self.sources));
        Some(headers)
    }

    /// What a message says; `None` when it is no counter's.
    fn read(headers: &[u8], payload: &[u8]) -> Option<Self> {
        let value = value_of(payload)?;
        let sources = header::get(headers, name::COUNTER_SOURCES).filter(|text| !text.is_empty());
        let sources = sources.map(|text| json::decode(text, json::Mode::Lenient)).transpose().ok()?;
        Some(Self { value, sources: sources.unwrap_or_default() })
    }
}

/// The counts of subjects with messages on their way.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    running: HashMap<Box<[u8]>, Running>,
}

#[derive(Debug)]
struct Running {
    count: Count,
    /// Of the last message on its way.
    sequence: u64,
}

impl Counters {
    fn get(&self, subject: &[u8]) -> Option<&Count> {
        if self.running.is_empty() { None } else { self.running.get(subject).map(|running| &running.count) }
    }

    /// A message is on its way into the log.
    pub(super) fn on_logged(&mut self, subject: &[u8], sequence: u64, count: Count) {
        self.running.insert(subject.into(), Running { count, sequence });
    }

    /// A message is stored: when it was the subject's last, the store knows the sum.
    pub(super) fn on_stored(&mut self, subject: &[u8], sequence: u64) {
        if self.running.is_empty() {
            return;
        }
        if self.running.get(subject).is_some_and(|running| running.sequence <= sequence) {
            self.running.remove(subject);
        }
        if self.running.is_empty() {
            self.running.shrink_to(1024);
        }
    }

    /// Nothing is on its way any more.
    pub(super) fn clear(&mut self) {
        self.running.clear();
    }
}

impl Machine {
    /// By how much a message wants to count; `None` when it does not.
    pub(super) fn check_increment(
        &self,
        headers: &[u8],
        payload: &[u8],
    ) -> Result<Option<Decimal>, ErrorCode> {
        /// Headers that make no sense for a message whose content is not known when it is sent.
        const INCOMPATIBLE: [&str; 6] = [
            name::ROLLUP,
            name::EXPECTED_STREAM,
            name::EXPECTED_LAST_MSG_ID,
            name::EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT,
            name::EXPECTED_LAST_SEQUENCE,
            name::EXPECTED_LAST_SUBJECT_SEQUENCE,
        ];
        let Some(text) = header::get(headers, name::INCREMENT).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let increment = Decimal::parse(text).ok_or(ErrorCode::MessageIncrementInvalid)?;
        if !self.config.allow_msg_counter {
            return Err(ErrorCode::MessageIncrementDisabled);
        }
        if !payload.is_empty() {
            return Err(ErrorCode::MessageIncrementPayload);
        }
        let is_set = |name| header::get(headers, name).is_some_and(|value| !value.is_empty());
        if INCOMPATIBLE.into_iter().any(is_set) {
            return Err(ErrorCode::MessageIncrementInvalid);
        }
        Ok(Some(increment))
    }

    /// What a subject counts to, its messages on their way included.
    pub(super) fn count_on(&mut self, subject: &[u8]) -> Result<Count, ApiError> {
        if let Some(count) = self.counters.get(subject) {
            return Ok(count.clone());
        }
        let failed = |error| ErrorCode::StreamStoreFailed.with(error);
        let Some(state) = self.store.subject(subject).map_err(failed)? else { return Ok(Count::default()) };
        // A message that cannot be read is no sum to go on from.
        let message = self.store.get(state.last).map_err(|_| ErrorCode::MessageCounterBroken)?;
        let Some(message) = message else { return Ok(Count::default()) };
        Count::read(&message.headers, &message.payload).ok_or_else(|| ErrorCode::MessageCounterBroken.into())
    }

    /// What a subject counts to with a message of the stream `origin`, where its subject is `original`. Its headers get the
    /// increment that this makes.
    pub(super) fn count_sourced(
        &mut self,
        subject: &[u8],
        (origin, original): (&str, &str),
        headers: &mut Vec<u8>,
        payload: &[u8],
    ) -> Result<Count, ApiError> {
        let increment = header::get(headers, name::INCREMENT).filter(|text| !text.is_empty());
        let increment = increment.ok_or(ErrorCode::MessageIncrementMissing)?;
        Decimal::parse(increment).ok_or(ErrorCode::MessageIncrementInvalid)?;
        let mut count = self.count_on(subject)?;
        let sum = value_of(payload).ok_or(ErrorCode::MessageCounterBroken)?;
        let of_origin = count.sources.entry(origin.to_owned()).or_default();
        let before = of_origin.insert(original.to_owned(), sum.to_string());
        let before = before.and_then(|before| Decimal::parse(before.as_bytes())).unwrap_or_default();
        let increment = sum.minus(&before);
        header::replace(headers, name::INCREMENT, increment.to_string().as_bytes());
        let count = count.plus(&increment);
        if let Some(with_sources) = count.headers(headers) {
            *headers = with_sources;
        }
        Ok(count)
    }
}

fn value_of(payload: &[u8]) -> Option<Decimal> {
    if payload.trim_ascii().is_empty() {
        return None;
    }
    let value: CounterValue = json::decode(payload, json::Mode::Lenient).ok()?;
    if value.val.is_empty() { Some(Decimal::default()) } else { Decimal::parse(value.val.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_come_back() {
        let count = Count::default().plus(&Decimal::parse(b"-12").expect("a number"));
        assert_eq!(count.payload(), br#"{"val":"-12"}"#);
        assert_eq!(value_of(&count.payload()), Some(count.value));
        assert_eq!(value_of(b"{}"), Some(Decimal::default()));
        for broken in [&b""[..], b"1", b"{\"val\":1}", b"{\"val\":\"one\"}"] {
            assert_eq!(value_of(broken), None);
        }
    }
}
