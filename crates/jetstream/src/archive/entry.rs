//! What a snapshot consists of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::response::StreamState;
use crate::config::ConsumerConfig;
use crate::json::{Error, Mode, decode};

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// What the stream held; the first part.
    State(Box<StreamState>),
    /// The archive is of a server before 2.15, and in another order: messages of which some are deleted, what is deleted
    /// and where the stream begins and ends, consumers.
    Older,
    /// These are deleted, if they are there.
    Deleted {
        /// The first sequence.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// Where the stream begins and ends.
    Bounds {
        /// The first sequence that may be there.
        first: u64,
        /// The last one that was given out.
        last: u64,
        /// When, ns since 1970.
        last_time: i64,
    },
    /// A consumer.
    Consumer(Box<ConsumerSnapshot>),
    /// A message.
    Message {
        /// Its sequence; larger than that of the message before.
        sequence: u64,
        /// When it was stored, ns since 1970.
        timestamp: i64,
        /// Its subject.
        subject: Vec<u8>,
        /// Its header block; empty is none.
        headers: Vec<u8>,
        /// Its payload.
        payload: Vec<u8>,
    },
}

/// A consumer's configuration and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct ConsumerSnapshot {
    /// What it was told to be.
    pub config: ConsumerConfig,
    /// Where it stands.
    pub state: ConsumerState,
}

/// Where a consumer stands.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct ConsumerState {
    /// The last message that was delivered.
    pub delivered: SequencePair,
    /// The last message up to which all are acknowledged.
    pub ack_floor: SequencePair,
    /// Messages that are not acknowledged, by sequence.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pending: BTreeMap<u64, PendingDelivery>,
    /// How often messages were delivered again, by sequence.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub redelivered: BTreeMap<u64, u64>,
}

/// A place in both countings of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SequencePair {
    /// The number of the delivery.
    pub consumer_seq: u64,
    /// The message.
    pub stream_seq: u64,
}

/// A delivery that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PendingDelivery {
    /// The number of the delivery.
    #[serde(rename = "Sequence")]
    pub sequence: u64,
    /// When it was made, ns since 1970.
    #[serde(rename = "Timestamp")]
    pub timestamp: i64,
}

impl ConsumerSnapshot {
    /// Reads the JSON of a consumer. Fields of later versions are passed over.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Snapshot {
            config: Option<ConsumerConfig>,
            state: Option<State>,
        }
        /// Keys are texts, since JSON has no others.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct State {
            delivered: SequencePair,
            ack_floor: SequencePair,
            pending: BTreeMap<String, PendingDelivery>,
            redelivered: BTreeMap<String, u64>,
        }
        let missing = |what| <Error as serde::de::Error>::custom(format_args!("consumer is missing {what}"));
        let snapshot: Snapshot = decode(text, Mode::Lenient)?;
        let state = snapshot.state.ok_or_else(|| missing("state"))?;
        Ok(Self {
            config: snapshot.config.ok_or_else(|| missing("config"))?,
            state: ConsumerState {
                delivered: state.delivered,
                ack_floor: state.ack_floor,
                pending: by_sequence(state.pending)?,
                redelivered: by_sequence(state.redelivered)?,
            },
        })
    }
}

fn by_sequence<V>(texts: BTreeMap<String, V>) -> Result<BTreeMap<u64, V>, Error> {
    let parsed = texts.into_iter().map(|(key, value)| key.parse().map(|key| (key, value)));
    parsed.collect::<Result<_, _>>().map_err(<Error as serde::de::Error>::custom)
}
