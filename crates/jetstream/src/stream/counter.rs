//! Counters: messages of which each says by how much its subject's number grows, and is stored as the sum (ADR-49).
//!
//! The sum is made when the message is admitted, so that the log holds what is stored and a replay does not count. Sums
//! that are on their way into the log are kept here: the next increment goes on from them.
//!
//! Counters that come from other streams (`Nats-Counter-Sources`) are not known yet. Where they will be: an increment of a
//! message with `Nats-Stream-Source` is what its sum differs from the last one of that source, and the sums by source go
//! into the headers of every message of the subject.

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

/// The sums of subjects with messages on their way.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    running: HashMap<Box<[u8]>, Running>,
}

#[derive(Debug)]
struct Running {
    value: Decimal,
    /// Of the last message on its way.
    sequence: u64,
}

impl Counters {
    fn get(&self, subject: &[u8]) -> Option<&Decimal> {
        if self.running.is_empty() { None } else { self.running.get(subject).map(|running| &running.value) }
    }

    /// A message is on its way into the log.
    pub(super) fn on_logged(&mut self, subject: &[u8], sequence: u64, value: Decimal) {
        self.running.insert(subject.into(), Running { value, sequence });
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
    pub(super) fn counter_value(&mut self, subject: &[u8]) -> Result<Decimal, ApiError> {
        if let Some(value) = self.counters.get(subject) {
            return Ok(value.clone());
        }
        let failed = |error| ErrorCode::StreamStoreFailed.with(error);
        let Some(state) = self.store.subject(subject).map_err(failed)? else { return Ok(Decimal::default()) };
        // A message that cannot be read is no sum to go on from.
        let message = self.store.get(state.last).map_err(|_| ErrorCode::MessageCounterBroken)?;
        let Some(message) = message else { return Ok(Decimal::default()) };
        value_of(&message.payload).ok_or_else(|| ErrorCode::MessageCounterBroken.into())
    }
}

/// The payload of a counter's message.
pub(super) fn payload_of(value: &Decimal) -> Vec<u8> {
    json::encode(&CounterValue { val: value.to_string() })
}

fn value_of(payload: &[u8]) -> Option<Decimal> {
    let value: CounterValue = json::decode(payload, json::Mode::Lenient).ok()?;
    if value.val.is_empty() { Some(Decimal::default()) } else { Decimal::parse(value.val.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_come_back() {
        let value = Decimal::parse(b"-12").expect("a number");
        assert_eq!(payload_of(&value), br#"{"val":"-12"}"#);
        assert_eq!(value_of(&payload_of(&value)), Some(value));
        assert_eq!(value_of(b"{}"), Some(Decimal::default()));
        for broken in [&b""[..], b"1", b"{\"val\":1}", b"{\"val\":\"one\"}"] {
            assert_eq!(value_of(broken), None);
        }
    }
}
