//! Answers to publishes.
//!
//! The plain ack is written by hand on the hot path; its text, a blank before `true` included, is the reference's.

use serde::Serialize;

use super::error::ApiError;
use crate::ack::append_number;
use crate::json;

/// The part of a stream's acks that is always the same: `{"stream":"S","seq":`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckWriter {
    start: Vec<u8>,
}

/// What an ack says besides the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AckExtra<'a> {
    /// The message was stored before, under the sequence of the ack.
    pub duplicate: bool,
    /// A counter's new value, in decimal.
    pub value: Option<&'a str>,
    /// A batch's id and its number of messages.
    pub batch: Option<(&'a str, u64)>,
}

impl AckWriter {
    /// The acks of a stream; an empty domain is left out.
    pub fn new(stream: &str, domain: &str) -> Self {
        let mut start = b"{\"stream\":".to_vec();
        json::append(&mut start, stream);
        if !domain.is_empty() {
            start.extend_from_slice(b",\"domain\":");
            json::append(&mut start, domain);
        }
        start.extend_from_slice(b",\"seq\":");
        Self { start }
    }

    /// Appends the ack of a stored message.
    pub fn append(&self, text: &mut Vec<u8>, sequence: u64) {
        text.extend_from_slice(&self.start);
        append_number(text, sequence);
        text.push(b'}');
    }

    /// Appends an ack that says more.
    pub fn append_with(&self, text: &mut Vec<u8>, sequence: u64, extra: AckExtra<'_>) {
        self.append(text, sequence);
        text.pop();
        if extra.duplicate {
            text.extend_from_slice(b",\"duplicate\": true");
        }
        if let Some(value) = extra.value {
            text.extend_from_slice(b",\"val\":");
            json::append(text, value);
        }
        if let Some((id, count)) = extra.batch {
            text.extend_from_slice(b",\"batch\":");
            json::append(text, id);
            text.extend_from_slice(b",\"count\":");
            append_number(text, count);
        }
        text.push(b'}');
    }
}

/// The refusal of a publish.
pub fn refusal(stream: &str, error: &ApiError) -> Vec<u8> {
    #[derive(Serialize)]
    struct Refusal<'a> {
        error: &'a ApiError,
        stream: &'a str,
        seq: u64,
    }
    json::encode(&Refusal { error, stream, seq: 0 })
}

/// What is said during a fast batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FlowMessage {
    /// All up to `seq` is stored; the next answer comes after `msgs` messages.
    Ack {
        /// The message that is answered.
        seq: u64,
        /// How many messages until the next answer.
        msgs: u16,
    },
    /// Messages are missing.
    Gap {
        /// The message that was expected.
        last_seq: u64,
        /// The message that came.
        seq: u64,
    },
    /// A message was refused.
    Err {
        /// The message.
        seq: u64,
        /// Why.
        error: ApiError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorCode;

    #[test]
    fn acks_have_the_texts_of_the_reference() {
        let text = |domain, extra: Option<AckExtra<'_>>| {
            let mut text = Vec::new();
            match extra {
                None => AckWriter::new("S", domain).append(&mut text, 7),
                Some(extra) => AckWriter::new("S", domain).append_with(&mut text, 7, extra),
            }
            String::from_utf8(text).expect("text")
        };
        assert_eq!(text("", None), r#"{"stream":"S","seq":7}"#);
        assert_eq!(text("hub", None), r#"{"stream":"S","domain":"hub","seq":7}"#);
        let duplicate = AckExtra { duplicate: true, ..AckExtra::default() };
        assert_eq!(text("", Some(duplicate)), r#"{"stream":"S","seq":7,"duplicate": true}"#);
        let value = AckExtra { value: Some("5"), ..AckExtra::default() };
        assert_eq!(text("", Some(value)), r#"{"stream":"S","seq":7,"val":"5"}"#);
        let batch = AckExtra { batch: Some(("b", 3)), ..AckExtra::default() };
        assert_eq!(text("", Some(batch)), r#"{"stream":"S","seq":7,"batch":"b","count":3}"#);
    }

    #[test]
    fn a_refusal_names_the_stream() {
        let text = refusal("S", &ErrorCode::StreamWrongLastSequence.with(4));
        assert_eq!(
            text,
            br#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 4"},"stream":"S","seq":0}"#
        );
    }

    #[test]
    fn a_fast_batch_is_told_how_it_goes() {
        assert_eq!(
            json::encode(&FlowMessage::Ack { seq: 1, msgs: 10 }),
            br#"{"type":"ack","seq":1,"msgs":10}"#
        );
        assert_eq!(
            json::encode(&FlowMessage::Gap { last_seq: 1, seq: 3 }),
            br#"{"type":"gap","last_seq":1,"seq":3}"#
        );
        let error = FlowMessage::Err { seq: 1, error: ErrorCode::StreamSealed.into() };
        assert!(json::encode(&error).starts_with(br#"{"type":"err","seq":1,"error":{"code":400"#));
    }
}
