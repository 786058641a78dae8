//! The configuration of a consumer.
//!
//! Field names and their order are those of the JSON. Durations are nanoseconds; 0 is "not said" and -1 no limit.

use serde::{Deserialize, Serialize};

use super::choice::{AckPolicy, DeliverPolicy, PriorityPolicy, ReplayPolicy};
use super::metadata::Metadata;
use crate::json::is_default;
use crate::timestamp::Timestamp;

/// What a consumer was told to be.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerConfig {
    /// The name of a consumer that outlives its clients; equal to `name` when both are set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub durable_name: String,
    /// Unique in the stream.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// For people; at most 4 KiB.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where in the stream the consumer starts.
    pub deliver_policy: DeliverPolicy,
    /// Only for [`DeliverPolicy::ByStartSequence`].
    #[serde(skip_serializing_if = "is_default")]
    pub opt_start_seq: u64,
    /// Only for [`DeliverPolicy::ByStartTime`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opt_start_time: Option<Timestamp>,
    /// What an acknowledgement settles.
    pub ack_policy: AckPolicy,
    /// After this time without acknowledgement a message is delivered again, ns.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::nanos")]
    pub ack_wait: i64,
    /// How often a message is delivered at most.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::int")]
    pub max_deliver: i64,
    /// `ack_wait` by number of delivery, ns; the last one repeats.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::json::nanos_list")]
    pub backoff: Vec<i64>,
    /// Only these subjects are delivered; not with `filter_subjects`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    /// Only these subjects are delivered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filter_subjects: Vec<String>,
    /// How fast stored messages are delivered.
    pub replay_policy: ReplayPolicy,
    /// Bits per second; push only.
    #[serde(skip_serializing_if = "is_default")]
    pub rate_limit_bps: u64,
    /// Per cent of acknowledgements that a metric is published for: `30` or `30%`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sample_freq: String,
    /// The most pull requests waiting; pull only.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::int")]
    pub max_waiting: i64,
    /// The most messages unacknowledged.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::int")]
    pub max_ack_pending: i64,
    /// The server waits for the client's answers; push only.
    #[serde(skip_serializing_if = "is_default")]
    pub flow_control: bool,
    /// Payloads are replaced by their size.
    #[serde(skip_serializing_if = "is_default")]
    pub headers_only: bool,
    /// The largest batch of a pull request.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::int")]
    pub max_batch: i64,
    /// The longest a pull request may wait, ns.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::nanos")]
    pub max_expires: i64,
    /// The most bytes a pull request may ask for.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::int")]
    pub max_bytes: i64,
    /// Where a push consumer delivers to; empty is a pull consumer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_subject: String,
    /// The queue group of those who listen on `deliver_subject`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_group: String,
    /// After this time without a message a heartbeat is sent, ns; push only.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::nanos")]
    pub idle_heartbeat: i64,
    /// After this time without clients the consumer goes, ns.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::nanos")]
    pub inactive_threshold: i64,
    /// Servers that keep the consumer; 0 is as many as the stream has.
    #[serde(deserialize_with = "crate::json::int")]
    pub num_replicas: i64,
    /// The consumer's state is kept in memory whatever the stream's storage.
    #[serde(skip_serializing_if = "is_default")]
    pub mem_storage: bool,
    /// Of the servers' own: not bound to the account's clients.
    #[serde(skip_serializing_if = "is_default")]
    pub direct: bool,
    /// Of the servers' own: feeds a mirror or source.
    #[serde(skip_serializing_if = "is_default")]
    pub sourcing: bool,
    /// For programs; keys and values together at most 128 KiB.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Nothing is delivered before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_until: Option<Timestamp>,
    /// The groups a pull request can belong to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priority_groups: Vec<String>,
    /// Which of several waiting clients is served.
    #[serde(skip_serializing_if = "is_default")]
    pub priority_policy: PriorityPolicy,
    /// How long a pinned client may be silent, ns.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "crate::json::nanos")]
    pub priority_timeout: i64,
}

impl ConsumerConfig {
    /// Whether the consumer delivers on its own account.
    pub fn is_push(&self) -> bool {
        !self.deliver_subject.is_empty()
    }

    /// Whether the consumer outlives its clients.
    pub fn is_durable(&self) -> bool {
        !self.durable_name.is_empty()
    }

    /// The subjects that are delivered; none is all.
    pub fn filters(&self) -> &[String] {
        if self.filter_subject.is_empty() {
            &self.filter_subjects
        } else {
            std::slice::from_ref(&self.filter_subject)
        }
    }
}
