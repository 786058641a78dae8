//! How much an account or a user may use. -1 is no limit; what a token does not say is 0, and that is nothing at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::claims::{is_false, is_zero};
use crate::validation::Issues;

/// No limit.
pub const UNLIMITED: i64 = -1;

/// Limits of connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NatsLimits {
    /// Subscriptions.
    #[serde(skip_serializing_if = "is_zero")]
    pub subs: i64,
    /// Bytes; enforced by nobody.
    #[serde(skip_serializing_if = "is_zero")]
    pub data: i64,
    /// Bytes of a message.
    #[serde(skip_serializing_if = "is_zero")]
    pub payload: i64,
}

impl NatsLimits {
    /// No limits.
    pub const UNLIMITED: Self = Self { subs: UNLIMITED, data: UNLIMITED, payload: UNLIMITED };
}

/// Limits of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountLimits {
    /// Imports.
    #[serde(skip_serializing_if = "is_zero")]
    pub imports: i64,
    /// Exports.
    #[serde(skip_serializing_if = "is_zero")]
    pub exports: i64,
    /// Exports may have wildcards.
    #[serde(rename = "wildcards", skip_serializing_if = "is_false")]
    pub wildcard_exports: bool,
    /// Users must prove to have the key they are known by.
    #[serde(skip_serializing_if = "is_false")]
    pub disallow_bearer: bool,
    /// Connections.
    #[serde(rename = "conn", skip_serializing_if = "is_zero")]
    pub connections: i64,
    /// Connections of leaf nodes.
    #[serde(rename = "leaf", skip_serializing_if = "is_zero")]
    pub leaf_nodes: i64,
}

impl AccountLimits {
    /// No limits.
    pub const UNLIMITED: Self = Self {
        imports: UNLIMITED,
        exports: UNLIMITED,
        wildcard_exports: true,
        disallow_bearer: false,
        connections: UNLIMITED,
        leaf_nodes: UNLIMITED,
    };
}

/// Limits of streams: of an account, or of those of its streams with one number of replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JetStreamLimits {
    /// Bytes in memory; 0 is none.
    #[serde(rename = "mem_storage", skip_serializing_if = "is_zero")]
    pub memory: i64,
    /// Bytes in files; 0 is none.
    #[serde(rename = "disk_storage", skip_serializing_if = "is_zero")]
    pub disk: i64,
    /// Streams.
    #[serde(skip_serializing_if = "is_zero")]
    pub streams: i64,
    /// Consumers.
    #[serde(rename = "consumer", skip_serializing_if = "is_zero")]
    pub consumers: i64,
    /// Unacknowledged messages of a consumer; 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_ack_pending: i64,
    /// Bytes of a stream in memory; 0 is no limit.
    #[serde(rename = "mem_max_stream_bytes", skip_serializing_if = "is_zero")]
    pub memory_max_stream_bytes: i64,
    /// Bytes of a stream in files; 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub disk_max_stream_bytes: i64,
    /// Every stream must say how large it may become.
    #[serde(skip_serializing_if = "is_false")]
    pub max_bytes_required: bool,
}

/// What an operator lets an account use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OperatorLimits {
    /// Of connections.
    #[serde(flatten)]
    pub nats: NatsLimits,
    /// Of the account.
    #[serde(flatten)]
    pub account: AccountLimits,
    /// Of its streams. Never together with `tiers`.
    #[serde(flatten)]
    pub jetstream: JetStreamLimits,
    /// Of its streams, by tier: `R1`, `R3`, ….
    #[serde(rename = "tiered_limits", skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, JetStreamLimits>,
}

impl OperatorLimits {
    /// No limits, and no streams.
    pub fn unlimited() -> Self {
        Self {
            nats: NatsLimits::UNLIMITED,
            account: AccountLimits::UNLIMITED,
            jetstream: JetStreamLimits::default(),
            tiers: BTreeMap::new(),
        }
    }

    /// Whether the account has streams at all.
    pub fn has_jetstream(&self) -> bool {
        let stores = |limits: &JetStreamLimits| limits.memory != 0 || limits.disk != 0;
        if self.tiers.is_empty() { stores(&self.jetstream) } else { self.tiers.values().any(stores) }
    }

    pub(crate) fn check(&self, issues: &mut Issues) {
        if self.tiers.is_empty() {
            return;
        }
        if self.jetstream != JetStreamLimits::default() {
            issues.error("JetStream Limits and tiered JetStream Limits are mutually exclusive");
        }
        if self.tiers.contains_key("") {
            issues.error("Tiered JetStream Limits can not contain a blank \"\" tier name");
        }
    }
}
