//! What the server and the account allow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All limits that a configuration is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limits {
    /// Of the server.
    pub server: ServerLimits,
    /// Of the account, or of the account's tier that the asset falls into.
    pub account: AccountLimits,
}

/// Limits of the server for every account; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ServerLimits {
    /// The largest batch a pull request may ask for.
    pub max_request_batch: i64,
    /// The largest number of messages a consumer may have unacknowledged.
    pub max_ack_pending: i64,
    /// The longest duplicate window, ns.
    pub duplicate_window: i64,
    /// Whether the server is one of a cluster, so that an asset can have several replicas.
    pub clustered: bool,
    /// The server's `max_payload`, bytes: the largest message. 0 when it does not matter.
    pub max_payload: i64,
    /// Of batches that are published.
    pub batch: BatchLimits,
}

/// Limits of batches that are published; 0 is the default of the kind of batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BatchLimits {
    /// The most open batches of a stream.
    pub max_inflight_per_stream: usize,
    /// The most open batches of the server.
    pub max_inflight_total: usize,
    /// The most messages of an atomic batch.
    pub max_messages: u64,
    /// A batch to which nothing is added for so long is given up, ns.
    pub timeout: i64,
}

impl BatchLimits {
    /// The most open batches of a stream, or the default of the kind of batch.
    pub(crate) fn per_stream(&self, default: usize) -> usize {
        if self.max_inflight_per_stream > 0 { self.max_inflight_per_stream } else { default }
    }

    /// The same for the server.
    pub(crate) fn in_total(&self, default: usize) -> usize {
        if self.max_inflight_total > 0 { self.max_inflight_total } else { default }
    }

    /// The most messages of an atomic batch.
    pub(crate) fn messages(&self) -> u64 {
        if self.max_messages > 0 { self.max_messages } else { 1000 }
    }

    /// How long nothing need be added to a batch, ns.
    pub(crate) fn idle(&self) -> i64 {
        if self.timeout > 0 { self.timeout } else { 10_000_000_000 }
    }
}

/// Limits of an account as `$JS.API.INFO` shows them; -1 (and for some 0) is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountLimits {
    /// Bytes in memory.
    pub max_memory: i64,
    /// Bytes in files.
    pub max_storage: i64,
    /// Streams.
    pub max_streams: i64,
    /// Consumers.
    pub max_consumers: i64,
    /// Unacknowledged messages of a consumer.
    pub max_ack_pending: i64,
    /// Bytes of one stream in memory; 0 is no limit.
    pub memory_max_stream_bytes: i64,
    /// Bytes of one stream in files; 0 is no limit.
    pub storage_max_stream_bytes: i64,
    /// Whether every stream must say its `max_bytes`.
    pub max_bytes_required: bool,
}

/// No limits.
impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            max_memory: -1,
            max_storage: -1,
            max_streams: -1,
            max_consumers: -1,
            max_ack_pending: -1,
            memory_max_stream_bytes: -1,
            storage_max_stream_bytes: -1,
            max_bytes_required: false,
        }
    }
}

impl AccountLimits {
    /// Nothing at all.
    pub(crate) const NOTHING: Self = Self {
        max_memory: 0,
        max_storage: 0,
        max_streams: 0,
        max_consumers: 0,
        max_ack_pending: 0,
        memory_max_stream_bytes: 0,
        storage_max_stream_bytes: 0,
        max_bytes_required: false,
    };
}

/// What an account may have of JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// The same limits hold for all its streams together.
    Whole(AccountLimits),
    /// Each kind of stream has limits of its own, by the name of the [tier]; a kind that is not listed is not allowed.
    Tiers(BTreeMap<String, AccountLimits>),
}

impl Allowance {
    /// The limits for streams with so many replicas; `None` when there are to be none.
    pub fn of(&self, replicas: i64) -> Option<AccountLimits> {
        match self {
            Self::Whole(limits) => Some(*limits),
            Self::Tiers(tiers) => tiers.get(&tier(replicas)).copied(),
        }
    }
}

/// The tier of streams with so many replicas.
pub(crate) fn tier(replicas: i64) -> String {
    format!("R{}", replicas.max(1))
}
