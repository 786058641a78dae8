//! The configuration of a stream.
//!
//! Field names and their order are those of the JSON. Durations are nanoseconds, sizes bytes; -1 is no limit.

use serde::{Deserialize, Serialize};

use super::choice::{Compression, Discard, PersistMode, Retention, Storage};
use super::metadata::Metadata;
use crate::json::is_default;
use crate::timestamp::Timestamp;

/// What a stream was told to be.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamConfig {
    /// Unique in the account; never changes.
    pub name: String,
    /// For people; at most 4 KiB.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The subjects that are stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// What ends a message's life besides the limits.
    pub retention: Retention,
    /// The most consumers.
    #[serde(deserialize_with = "crate::json::int")]
    pub max_consumers: i64,
    /// The most messages.
    pub max_msgs: i64,
    /// The most bytes, counted with the store's overhead per message.
    pub max_bytes: i64,
    /// The longest life of a message, ns; 0 is for ever.
    #[serde(deserialize_with = "crate::json::nanos")]
    pub max_age: i64,
    /// The most messages of each subject.
    pub max_msgs_per_subject: i64,
    /// The largest message, headers included, bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub max_msg_size: i32,
    /// What gives way when a limit is reached.
    pub discard: Discard,
    /// Where messages are kept; never changes.
    pub storage: Storage,
    /// 1 to 5 servers that keep the stream.
    #[serde(deserialize_with = "crate::json::int")]
    pub num_replicas: i64,
    /// Publishes are not answered.
    #[serde(skip_serializing_if = "is_default")]
    pub no_ack: bool,
    /// How long a message id is remembered, ns.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::nanos")]
    pub duplicate_window: i64,
    /// Which servers may keep the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The stream this one is a copy of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<StreamSource>,
    /// The streams this one gathers messages from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<StreamSource>,
    /// How stored messages are compressed.
    pub compression: Compression,
    /// The sequence of the first message; 0 and 1 mean 1.
    #[serde(skip_serializing_if = "is_default")]
    pub first_seq: u64,
    /// How subjects are rewritten before messages are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_transform: Option<SubjectTransform>,
    /// What is published again once it is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub republish: Option<Republish>,
    /// `$JS.API.DIRECT.GET` is answered.
    pub allow_direct: bool,
    /// A mirror answers direct gets of its origin.
    pub mirror_direct: bool,
    /// `max_msgs_per_subject` refuses new messages; only with [`Discard::New`].
    #[serde(skip_serializing_if = "is_default")]
    pub discard_new_per_subject: bool,
    /// Nothing can be added or removed any more; never unset.
    pub sealed: bool,
    /// Messages can not be deleted by sequence; never unset.
    pub deny_delete: bool,
    /// The stream can not be purged; never unset.
    pub deny_purge: bool,
    /// `Nats-Rollup` is obeyed.
    pub allow_rollup_hdrs: bool,
    /// Defaults and limits of the stream's consumers.
    pub consumer_limits: ConsumerLimits,
    /// `Nats-TTL` is obeyed; never unset.
    pub allow_msg_ttl: bool,
    /// How long the marker of a deleted subject stays, ns; 0 is no marker.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::nanos")]
    pub subject_delete_marker_ttl: i64,
    /// Every subject is a counter; never changes.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_msg_counter: bool,
    /// Atomic batches are accepted.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_atomic: bool,
    /// `Nats-Schedule` is obeyed; never unset.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_msg_schedules: bool,
    /// When a publish is acknowledged; never changes.
    #[serde(skip_serializing_if = "is_default")]
    pub persist_mode: PersistMode,
    /// Fast batches are accepted.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_batched: bool,
    /// For programs; keys and values together at most 128 KiB.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

/// Which servers may keep a stream.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// A cluster's name; empty is any.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Tags that a server must have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The server that should lead; only in requests to step down.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub preferred: String,
}

/// A stream that another one copies or gathers from.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamSource {
    /// Its name.
    pub name: String,
    /// The first sequence that is taken.
    #[serde(skip_serializing_if = "is_default")]
    pub opt_start_seq: u64,
    /// Messages from this time on are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opt_start_time: Option<Timestamp>,
    /// Only these subjects are taken; empty is all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    /// Only these subjects are taken, and rewritten; not with `filter_subject`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_transforms: Vec<SubjectTransform>,
    /// How the stream is reached when it is of another account or domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalStream>,
    /// The consumer that somebody made for this purpose; without it one is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<SourceConsumer>,
}

/// A consumer that exists already and feeds a mirror or source.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "StreamConsumerSource")]
pub struct SourceConsumer {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it delivers to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_subject: String,
}

/// How a stream of another account or domain is reached.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExternalStream {
    /// The prefix of its API, such as `$JS.hub.API`.
    pub api: String,
    /// The prefix of the subjects it delivers to.
    pub deliver: String,
}

/// How subjects are rewritten.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "SubjectTransformConfig")]
pub struct SubjectTransform {
    /// The subjects that are rewritten.
    pub src: String,
    /// What they become.
    pub dest: String,
}

/// What is published again once it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "RePublish")]
pub struct Republish {
    /// The subjects that are published again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub src: String,
    /// What they become.
    pub dest: String,
    /// Without the payload.
    #[serde(skip_serializing_if = "is_default")]
    pub headers_only: bool,
}

/// Defaults and limits of a stream's consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "StreamConsumerLimits")]
pub struct ConsumerLimits {
    /// How long a consumer may be unused, ns.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::nanos")]
    pub inactive_threshold: i64,
    /// How many messages a consumer may have unacknowledged.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::int")]
    pub max_ack_pending: i64,
}
