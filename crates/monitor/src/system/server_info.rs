//! The `server` of every message: who speaks, and when.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::json::is_default;
use crate::text::Timestamp;

/// What a lone server with JetStream can do, as bits: JetStream itself, snapshots in binary form, and Raft groups that
/// speak in the accounts they are for.
const JETSTREAM_CAPABILITIES: u64 = 1 | 2 | 4;

/// What does not change from message to message.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The configured name, or the id.
    pub name: String,
    /// Where it listens for clients.
    pub host: String,
    /// Its public key.
    pub id: String,
    /// The cluster's name; empty is none.
    #[serde(skip_serializing_if = "is_default")]
    pub cluster: String,
    /// The JetStream domain; empty is none.
    #[serde(skip_serializing_if = "is_default")]
    pub domain: String,
    /// The version it claims to clients.
    #[serde(rename = "ver")]
    pub version: String,
    /// Its configured tags.
    #[serde(skip_serializing_if = "is_default")]
    pub tags: Vec<String>,
    /// Its configured metadata.
    #[serde(skip_serializing_if = "is_default")]
    pub metadata: BTreeMap<String, String>,
    /// Feature flags, those by default as well.
    #[serde(skip_serializing_if = "is_default")]
    pub feature_flags: BTreeMap<String, bool>,
    /// Whether JetStream is on.
    pub jetstream: bool,
}

/// The `server` of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerInfo<'a> {
    #[serde(flatten)]
    identity: &'a Identity,
    flags: u64,
    seq: u64,
    time: Timestamp,
}

impl Identity {
    /// Who speaks in the message of that number, which must be higher than in all before.
    pub fn at(&self, sequence: u64, time: Timestamp) -> ServerInfo<'_> {
        let flags = if self.jetstream { JETSTREAM_CAPABILITIES } else { 0 };
        ServerInfo { identity: self, flags, seq: sequence, time }
    }
}
