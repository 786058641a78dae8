//! Replies.
//!
//! A reply is an envelope, [`Response`], around a body whose fields stand beside the envelope's own. An error has the body's
//! empty form, as in the reference: lists still say `"total":0`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::error::ApiError;
use crate::config::{
    AccountLimits, ConsumerConfig, ExternalStream, Placement, Retention, StreamConfig, SubjectTransform,
};
use crate::json::{encode, is_default};
use crate::timestamp::Timestamp;

/// The most names in a reply.
pub const NAMES_MAX: usize = 1024;
/// The most entries with details in a reply.
pub const LIST_MAX: usize = 256;
/// The most subjects in a stream's info.
pub const SUBJECTS_MAX: usize = 100_000;
/// The level of the API this server has.
pub const API_LEVEL: u32 = 5;

/// A reply: `{"type":…,"error":{…},…}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Response<B> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// Why the request was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
    /// What was asked for.
    #[serde(flatten)]
    pub body: B,
}

/// The body of a reply.
pub trait Body: Serialize + Default {
    /// The reply's `type`.
    const TYPE: &'static str;
}

impl<B: Body> Response<B> {
    /// The request was done.
    pub fn done(body: B) -> Self {
        Self { kind: B::TYPE, error: None, body }
    }

    /// The request was refused.
    pub fn refused(error: impl Into<ApiError>) -> Self {
        Self { kind: B::TYPE, error: Some(error.into()), body: B::default() }
    }

    /// The JSON text.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

impl<B: Body> From<Result<B, ApiError>> for Response<B> {
    fn from(result: Result<B, ApiError>) -> Self {
        match result {
            Ok(body) => Self::done(body),
            Err(error) => Self::refused(error),
        }
    }
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident, $suffix:literal, { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Default, Serialize)]
            pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

            impl Body for $name {
                const TYPE: &'static str = concat!("io.nats.jetstream.api.v1.", $suffix);
            }
        )*
    };
}

bodies! {
    /// Of requests that nothing more can be said about.
    SystemReply, "system_response", {}
    /// Of `INFO`.
    AccountInfoReply, "account_info_response", {
        /// The account.
        #[serde(flatten)]
        info: Option<AccountInfo>,
    }
    /// Of `STREAM.CREATE`, and of a restore that is complete.
    StreamCreateReply, "stream_create_response", {
        /// The stream.
        #[serde(flatten)]
        info: Option<StreamInfo>,
        /// The stream did not exist before.
        #[serde(skip_serializing_if = "is_default")]
        did_create: bool,
    }
    /// Of `STREAM.UPDATE`.
    StreamUpdateReply, "stream_update_response", {
        /// The stream.
        #[serde(flatten)]
        info: Option<StreamInfo>,
    }
    /// Of `STREAM.INFO`.
    StreamInfoReply, "stream_info_response", {
        /// Which subjects of the stream are listed.
        #[serde(flatten)]
        page: Page,
        /// The stream.
        #[serde(flatten)]
        info: Option<StreamInfo>,
    }
    /// Of `STREAM.NAMES`.
    StreamNamesReply, "stream_names_response", {
        /// Which streams are listed.
        #[serde(flatten)]
        page: Page,
        /// Their names; none are written `null`, unlike everywhere else.
        #[serde(serialize_with = "null_when_empty")]
        streams: Vec<String>,
    }
    /// Of `STREAM.LIST`.
    StreamListReply, "stream_list_response", {
        /// Which streams are listed.
        #[serde(flatten)]
        page: Page,
        /// The streams.
        streams: Vec<StreamInfo>,
        /// Names of streams whose servers did not answer.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        missing: Vec<String>,
        /// Streams that are not served, with the reason.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        offline: BTreeMap<String, String>,
    }
    /// Of `STREAM.DELETE`.
    StreamDeleteReply, "stream_delete_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
    }
    /// Of `STREAM.PURGE`.
    StreamPurgeReply, "stream_purge_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
        /// How many messages are gone.
        purged: u64,
    }
    /// Of `STREAM.MSG.GET`.
    MessageGetReply, "stream_msg_get_response", {
        /// The message.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<StoredMessage>,
    }
    /// Of `STREAM.MSG.DELETE`.
    MessageDeleteReply, "stream_msg_delete_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
    }
    /// Of `STREAM.SNAPSHOT`; the chunks follow.
    StreamSnapshotReply, "stream_snapshot_response", {
        /// What the stream was told to be.
        #[serde(skip_serializing_if = "Option::is_none")]
        config: Option<StreamConfig>,
        /// What it holds.
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<StreamState>,
    }
    /// Of `STREAM.RESTORE`; the chunks are awaited.
    StreamRestoreReply, "stream_restore_response", {
        /// Where chunks are to be sent.
        deliver_subject: String,
    }
    /// Of `STREAM.LEADER.STEPDOWN`.
    StreamStepDownReply, "stream_leader_stepdown_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
    }
    /// Of `STREAM.PEER.REMOVE`.
    StreamPeerRemoveReply, "stream_remove_peer_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
    }
    /// Of `STREAM.PEER.EVACUATE`.
    StreamPeerEvacuateReply, "stream_evacuate_peer_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
    }
    /// Of `STREAM.CANCEL_MOVE`.
    StreamCancelMoveReply, "stream_cancel_move_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
    }
    /// Of `CONSUMER.CREATE` and `CONSUMER.DURABLE.CREATE`.
    ConsumerCreateReply, "consumer_create_response", {
        /// The consumer.
        #[serde(flatten)]
        info: Option<ConsumerInfo>,
    }
    /// Of `CONSUMER.INFO`.
    ConsumerInfoReply, "consumer_info_response", {
        /// The consumer.
        #[serde(flatten)]
        info: Option<ConsumerInfo>,
    }
    /// Of `CONSUMER.NAMES`.
    ConsumerNamesReply, "consumer_names_response", {
        /// Which consumers are listed.
        #[serde(flatten)]
        page: Page,
        /// Their names.
        consumers: Vec<String>,
    }
    /// Of `CONSUMER.LIST`.
    ConsumerListReply, "consumer_list_response", {
        /// Which consumers are listed.
        #[serde(flatten)]
        page: Page,
        /// The consumers.
        consumers: Vec<ConsumerInfo>,
        /// Names of consumers whose servers did not answer.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        missing: Vec<String>,
        /// Consumers that are not served, with the reason.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        offline: BTreeMap<String, String>,
    }
    /// Of `CONSUMER.DELETE`.
    ConsumerDeleteReply, "consumer_delete_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
    }
    /// Of `CONSUMER.PAUSE`.
    ConsumerPauseReply, "consumer_pause_response", {
        /// Whether nothing is delivered now.
        paused: bool,
        /// Until when.
        pause_until: Timestamp,
        /// How long still, ns.
        #[serde(skip_serializing_if = "is_default")]
        pause_remaining: i64,
    }
    /// Of `CONSUMER.UNPIN`.
    ConsumerUnpinReply, "consumer_unpin_response", {}
    /// Of `CONSUMER.RESET`.
    ConsumerResetReply, "consumer_reset_response", {
        /// The consumer.
        #[serde(flatten)]
        info: Option<ConsumerInfo>,
        /// The sequence it goes on with.
        reset_seq: u64,
    }
    /// Of `CONSUMER.LEADER.STEPDOWN`.
    ConsumerStepDownReply, "consumer_leader_stepdown_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
    }
    /// Of `CONSUMER.PEER.REMOVE`.
    ConsumerPeerRemoveReply, "consumer_remove_peer_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
    }
    /// Of `CONSUMER.PEER.EVACUATE`.
    ConsumerPeerEvacuateReply, "consumer_evacuate_peer_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
    }
    /// Of `META.LEADER.STEPDOWN`.
    MetaStepDownReply, "meta_leader_stepdown_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
    }
    /// Of `SERVER.REMOVE`.
    ServerRemoveReply, "meta_server_remove_response", {
        /// It is done.
        #[serde(skip_serializing_if = "is_default")]
        success: bool,
    }
    /// Of `ACCOUNT.PURGE`.
    AccountPurgeReply, "account_purge_response", {
        /// It has begun.
        #[serde(skip_serializing_if = "is_default")]
        initiated: bool,
    }
}

fn null_when_empty<S: Serializer>(names: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    if names.is_empty() { serializer.serialize_none() } else { serializer.collect_seq(names) }
}

/// Which part of a list a reply holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Page {
    /// The length of the whole list.
    pub total: usize,
    /// How many entries were skipped.
    pub offset: usize,
    /// The most entries in a reply.
    pub limit: usize,
}

/// An account's use of JetStream and its limits.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct AccountInfo {
    /// The totals.
    #[serde(flatten)]
    pub total: AccountTier,
    /// The domain; empty is none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: String,
    /// Requests.
    pub api: ApiStats,
    /// Use and limits by tier (`R1`, `R3`); empty without tiers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, AccountTier>,
}

/// Use and limits, in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct AccountTier {
    /// Used in memory.
    pub memory: u64,
    /// Used in files.
    pub storage: u64,
    /// Promised to streams in memory by their `max_bytes`.
    pub reserved_memory: u64,
    /// Promised to streams in files by their `max_bytes`.
    pub reserved_storage: u64,
    /// Number of streams.
    pub streams: usize,
    /// Number of consumers.
    pub consumers: usize,
    /// What is allowed.
    pub limits: AccountLimits,
}

/// Requests since the server started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct ApiStats {
    /// See [`API_LEVEL`].
    pub level: u32,
    /// All requests.
    pub total: u64,
    /// Those that were refused.
    pub errors: u64,
    /// Those that are being worked on.
    #[serde(skip_serializing_if = "is_default")]
    pub inflight: u64,
}

/// What a stream is and holds.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct StreamInfo {
    /// What it was told to be.
    pub config: StreamConfig,
    /// Since when it exists.
    pub created: Timestamp,
    /// What it holds.
    pub state: StreamState,
    /// The domain; empty is none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: String,
    /// The servers that keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterInfo>,
    /// How it follows its origin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<SourceInfo>,
    /// How it follows its sources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceInfo>,
    /// Its mirrors and origin, the nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternates: Vec<StreamAlternate>,
    /// When this was put together.
    pub ts: Timestamp,
}

/// What a stream holds.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamState {
    /// Number of messages.
    pub messages: u64,
    /// Their bytes with the store's overhead.
    pub bytes: u64,
    /// The first sequence; in an empty stream the one after `last_seq`.
    pub first_seq: u64,
    /// The time of the first message.
    pub first_ts: Timestamp,
    /// The last sequence that was given out.
    pub last_seq: u64,
    /// The time of the last message.
    pub last_ts: Timestamp,
    /// Number of distinct subjects.
    #[serde(skip_serializing_if = "is_default")]
    pub num_subjects: u64,
    /// Messages by subject, where they were asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subjects: BTreeMap<String, u64>,
    /// Number of deleted sequences between first and last.
    #[serde(skip_serializing_if = "is_default")]
    pub num_deleted: u64,
    /// Those sequences, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<u64>,
    /// What storage lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostMessages>,
    /// Number of consumers.
    pub consumer_count: u64,
}

/// Messages that storage lost.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "LostStreamData")]
pub struct LostMessages {
    /// Their sequences.
    pub msgs: Vec<u64>,
    /// Their bytes.
    pub bytes: u64,
}

/// The servers that keep a stream or consumer.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct ClusterInfo {
    /// The cluster's name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: String,
    /// The name of the group that agrees on the asset.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub raft_group: String,
    /// The leading server's name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub leader: String,
    /// Since when it leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader_since: Option<Timestamp>,
    /// The group's traffic runs in the system account.
    #[serde(skip_serializing_if = "is_default")]
    pub system_account: bool,
    /// The account the group's traffic runs in.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub traffic_account: String,
    /// The other servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<PeerInfo>,
    /// What the group is on its way to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<DesiredCluster>,
}

/// A server that keeps a stream or consumer and does not lead.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct PeerInfo {
    /// Its name.
    pub name: String,
    /// It was heard of lately and has everything.
    pub current: bool,
    /// It was not heard of lately.
    #[serde(skip_serializing_if = "is_default")]
    pub offline: bool,
    /// Time since it was heard of, ns.
    pub active: i64,
    /// How many entries it is behind.
    #[serde(skip_serializing_if = "is_default")]
    pub lag: u64,
    /// Its id.
    pub peer: String,
    /// It is chosen but not a member yet.
    #[serde(skip_serializing_if = "is_default")]
    pub pending: bool,
}

/// What a group is on its way to.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct DesiredCluster {
    /// The cluster's name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: String,
    /// The servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<PeerInfo>,
    /// What was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<DesiredOrigin>,
    /// What is being done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DesiredStatus>,
}

/// What was before a group began to move.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct DesiredOrigin {
    /// Number of servers.
    pub replicas: i64,
    /// Which servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The retention that holds until the move is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// What is being done to move a group.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct DesiredStatus {
    /// In words.
    pub description: String,
    /// What has to change next: `meta`, `membership`, `snapshot`, `catchup`, `quorum`, `blocked`, `unavailable`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What stands in the way.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub err: String,
}

/// How a stream follows another.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct SourceInfo {
    /// The other stream.
    pub name: String,
    /// How it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalStream>,
    /// How many messages are missing.
    pub lag: u64,
    /// The last of its messages that was taken; sources only.
    #[serde(skip_serializing_if = "crate::json::is_default")]
    pub seq: u64,
    /// Time since something was heard, ns; -1 is never.
    pub active: i64,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
    /// The subjects that are taken.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub filter_subject: String,
    /// The subjects that are taken and rewritten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_transforms: Vec<SubjectTransform>,
}

/// A stream that holds the same messages.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct StreamAlternate {
    /// Its name.
    pub name: String,
    /// Its domain; empty is none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: String,
    /// Its cluster.
    pub cluster: String,
}

/// A message with its place in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct StoredMessage {
    /// Its subject.
    pub subject: String,
    /// Its sequence.
    pub seq: u64,
    /// The header block; written in base64.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "base64")]
    pub hdrs: Vec<u8>,
    /// The payload; written in base64.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "base64")]
    pub data: Vec<u8>,
    /// When it was stored.
    pub time: Timestamp,
}

fn base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&data_encoding::BASE64.encode(bytes))
}

/// What a consumer is and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct ConsumerInfo {
    /// Its stream.
    pub stream_name: String,
    /// Its name.
    pub name: String,
    /// Since when it exists.
    pub created: Timestamp,
    /// What it was told to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ConsumerConfig>,
    /// The last message that was delivered.
    pub delivered: SequenceInfo,
    /// The last message up to which all are acknowledged.
    pub ack_floor: SequenceInfo,
    /// Messages delivered and not acknowledged.
    pub num_ack_pending: u64,
    /// Those of them that were delivered more than once.
    pub num_redelivered: u64,
    /// Pull requests that wait.
    pub num_waiting: u64,
    /// Messages that were never delivered.
    pub num_pending: u64,
    /// The servers that keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterInfo>,
    /// Somebody listens on the deliver subject.
    #[serde(skip_serializing_if = "is_default")]
    pub push_bound: bool,
    /// Nothing is delivered now.
    #[serde(skip_serializing_if = "is_default")]
    pub paused: bool,
    /// How long still, ns.
    #[serde(skip_serializing_if = "is_default")]
    pub pause_remaining: i64,
    /// When this was put together.
    pub ts: Timestamp,
    /// The priority groups and their pinned clients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priority_groups: Vec<PriorityGroupState>,
}

/// A place in both countings of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct SequenceInfo {
    /// The number of the delivery.
    pub consumer_seq: u64,
    /// The message.
    pub stream_seq: u64,
    /// When it happened last; `None` is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_active: Option<Timestamp>,
}

/// A priority group and its pinned client.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct PriorityGroupState {
    /// The group.
    pub group: String,
    /// The pinned client's id; empty is none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub pinned_client_id: String,
    /// Since when.
    pub pinned_ts: Timestamp,
}
