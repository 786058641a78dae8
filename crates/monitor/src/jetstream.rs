//! What a server shows of JetStream.
//!
//! Plain numbers and the types of JetStream's own API; how a server comes by them is not known here. What is shown of a
//! stream is of one moment, two streams need not be.

use serde::Serialize;
use sonata_jetstream::api::response::{ApiStats, ConsumerInfo, StreamInfo};

use crate::json::is_default;

/// JetStream of a server, where it is on. Each method hands out a snapshot.
///
/// The methods that visit call `visit` without any lock, stream by stream.
pub trait JetStreamView {
    /// What it is configured to be.
    fn config(&self) -> Config;

    /// Limits of every account.
    fn limits(&self) -> Limits;

    /// All accounts together.
    fn totals(&self) -> Totals;

    /// Names of the accounts that have JetStream, sorted.
    fn accounts(&self) -> Vec<String>;

    /// What an account uses; none if it does not exist or has no JetStream.
    fn account(&self, name: &str) -> Option<Stats>;

    /// Names of an account's streams, sorted.
    fn streams(&self, account: &str) -> Vec<String>;

    /// All about a stream, with its configuration as it is stored.
    fn stream(&self, account: &str, stream: &str) -> Option<StreamInfo>;

    /// Names of a stream's consumers, sorted: those of clients, or those of the servers' own.
    fn consumers(&self, account: &str, stream: &str, of: ConsumersOf) -> Vec<String>;

    /// All about a consumer, with its configuration as it is stored.
    fn consumer(&self, account: &str, stream: &str, consumer: &str) -> Option<ConsumerInfo>;

    /// Why nothing can be stored, while it cannot.
    fn failure(&self) -> Option<String>;

    /// What is known to be damaged: at most `limit`, of one stream or account where one is named.
    fn damage(&self, account: Option<&str>, stream: Option<&str>, limit: usize) -> Vec<Damage>;

    /// Shows the numbers of each stream, by account and name.
    fn visit_streams(&self, visit: &mut dyn FnMut(&StreamNumbers));

    /// The numbers of the journal.
    fn journal(&self) -> JournalNumbers;

    /// Everything else that is counted.
    fn numbers(&self) -> Numbers;
}

/// Whose consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumersOf {
    /// Those that clients made.
    Clients,
    /// Those by which servers feed mirrors and sources.
    Servers,
}

/// What JetStream is configured to be. Sizes are bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// For messages in memory.
    pub max_memory: i64,
    /// For messages in files.
    pub max_storage: i64,
    /// The folder.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub store_dir: String,
    /// Nanoseconds between two syncs, where a publish is acknowledged before it is durable.
    #[serde(skip_serializing_if = "is_default")]
    pub sync_interval: i64,
    /// A publish is acknowledged only when it is durable.
    #[serde(skip_serializing_if = "is_default")]
    pub sync_always: bool,
    /// The domain; empty is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Traffic between servers may be compressed.
    #[serde(skip_serializing_if = "is_default")]
    pub compress_ok: bool,
    /// Requests with unknown fields are refused.
    #[serde(skip_serializing_if = "is_default")]
    pub strict: bool,
}

/// Limits of every account; 0 is none.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The largest batch of a pull request.
    #[serde(skip_serializing_if = "is_default")]
    pub max_request_batch: i64,
    /// The most unacknowledged messages of a consumer.
    #[serde(skip_serializing_if = "is_default")]
    pub max_ack_pending: i64,
    /// The longest duplicate window in nanoseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub max_duplicate_window: i64,
}

/// What the server, or an account, uses. Sizes are bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Messages in memory.
    pub memory: u64,
    /// Messages in files.
    pub storage: u64,
    /// Of the server: promised to streams by their `max_bytes`. Of an account: what it may use, 0 is without limit.
    pub reserved_memory: u64,
    /// The same in files.
    pub reserved_storage: u64,
    /// Accounts that have JetStream; 0 for one account.
    pub accounts: u64,
    /// Streams and consumers with several replicas.
    pub ha_assets: u64,
    /// Requests.
    pub api: ApiStats,
}

/// All accounts together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// What is used.
    pub stats: Stats,
    /// Streams.
    pub streams: u64,
    /// Consumers of clients.
    pub consumers: u64,
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Something that was stored and is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// A stream that could not be read when the server started. Its files are left alone.
    NotRecovered {
        /// Its folder below that of JetStream.
        folder: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Messages that can no longer be read.
    Lost {
        /// The account.
        account: String,
        /// The stream.
        stream: String,
        /// How many.
        messages: u64,
        /// Their bytes.
        bytes: u64,
    },
}

/// What is counted for a stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct StreamNumbers {
    /// The account.
    pub account: String,
    /// The stream.
    pub stream: String,
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Distinct subjects.
    pub subjects: u64,
    /// The last sequence that was given out.
    pub last_sequence: u64,
    /// Messages that were stored and can no longer be read.
    pub lost_messages: u64,
    /// Bytes of memory: index, caches, and messages that are kept there.
    pub memory_bytes: u64,
    /// Consumers of clients, by name.
    pub consumers: Vec<ConsumerNumbers>,
}

/// What is counted for a consumer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ConsumerNumbers {
    /// The name.
    pub consumer: String,
    /// Messages that were never delivered.
    pub pending: u64,
    /// Messages that were delivered and not acknowledged.
    pub ack_pending: u64,
    /// Those of them that were delivered more than once.
    pub redelivered: u64,
    /// Pull requests that wait.
    pub waiting: u64,
    /// The last sequence that was delivered or passed over.
    pub delivered_sequence: u64,
}

/// What the journal has done since the server started, and what it holds now.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct JournalNumbers {
    /// Syncs of a file's data.
    pub syncs: u64,
    /// Batches that were committed.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Times that the journal stopped for an error.
    pub failures: u64,
    /// Bytes in memory that wait for the disk.
    pub buffered_bytes: u64,
    /// The most of those.
    pub buffered_bytes_max: u64,
    /// Bytes in files that may not be reused yet.
    pub held_bytes: u64,
    /// How many syncs took less than 2^n microseconds and not less than 2^(n-1); the last counts all that took longer.
    pub sync_times: Vec<u64>,
    /// Nanoseconds that all syncs took together.
    pub sync_time_ns: u64,
}

/// What else is counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Requests to the API that wait.
    pub waiting_requests: u64,
    /// Streams that wait for a turn to deliver.
    pub waiting_turns: u64,
    /// How long recovery took at the start, in milliseconds.
    pub recovery_milliseconds: u64,
}
