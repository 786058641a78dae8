//! Advisories and metrics: what is published about streams and consumers for whoever listens.
//!
//! Each is an envelope ([`Advisory`]: type, id, time) around a body. The caller gives id, time and domain, and publishes the
//! text to [`Body::subject`] when somebody listens.

use serde::Serialize;

use crate::api::response::{PeerInfo, StreamState};
use crate::json::{self, is_default};
use crate::timestamp::Timestamp;

/// An advisory as it is published.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advisory<B> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: Timestamp,
    #[serde(flatten)]
    body: B,
}

impl<B: Body> Advisory<B> {
    /// An advisory; `id` is a fresh [`crate::nuid::Nuid`] id.
    pub fn new(id: String, timestamp: Timestamp, body: B) -> Self {
        Self { kind: B::TYPE, id, timestamp, body }
    }

    /// The JSON text.
    pub fn encode(&self) -> Vec<u8> {
        json::encode(self)
    }

    /// Where it is published.
    pub fn subject(&self) -> String {
        self.body.subject()
    }
}

/// What an advisory tells.
pub trait Body: Serialize {
    /// The advisory's `type`.
    const TYPE: &'static str;

    /// Where it is published.
    fn subject(&self) -> String;
}

/// What happened to a stream or consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was made.
    Create,
    /// It was removed.
    Delete,
    /// Its configuration changed.
    Modify,
}

/// Why a batch was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchAbandonReason {
    /// Nothing came for too long.
    Timeout,
    /// It had too many messages.
    Large,
    /// A message was missing.
    Incomplete,
    /// It used what batches may not use.
    Unsupported,
}

/// Who asked, as the server that serves them describes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClientInfo {
    /// When it connected.
    pub start: Timestamp,
    /// Where it comes from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Its number within the server.
    #[serde(skip_serializing_if = "is_default")]
    pub id: u64,
    /// Its account.
    pub acc: String,
    /// Its user, as monitoring shows it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// What it calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The language of its library.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lang: String,
    /// The version of its library.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ver: String,
    /// How long a ping takes, ns; 0 is not known.
    #[serde(skip_serializing_if = "is_default")]
    pub rtt: u64,
    /// Name of its server.
    pub server: String,
    /// `Client`.
    pub kind: &'static str,
    /// `nats`.
    pub client_type: &'static str,
}

macro_rules! advisories {
    ($(
        $(#[$doc:meta])*
        $name:ident, $type:literal, |$this:ident| $subject:expr, {
            $($(#[$field_doc:meta])* $field:ident: $field_type:ty,)*
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Serialize)]
            #[allow(missing_docs, reason = "the fields are those of the JSON and have the meaning they have elsewhere")]
            pub struct $name { $($(#[$field_doc])* pub $field: $field_type,)* }

            impl Body for $name {
                const TYPE: &'static str = concat!("io.nats.jetstream.", $type);

                fn subject(&self) -> String {
                    let $this = self;
                    $subject
                }
            }
        )*
    };
}

advisories! {
    /// A request was answered.
    ApiAudit, "advisory.v1.api_audit", |_it| "$JS.EVENT.ADVISORY.API".to_owned(), {
        server: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<ClientInfo>,
        subject: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        request: String,
        response: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// Requests came faster than they were answered, and were dropped.
    ApiLimitReached, "advisory.v1.api_limit_reached", |_it| "$JS.EVENT.ADVISORY.API.LIMIT_REACHED".to_owned(), {
        server: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
        dropped: i64,
    }
    /// A stream was made, changed or removed.
    StreamAction, "advisory.v1.stream_action",
    |it| format!("$JS.EVENT.ADVISORY.STREAM.{}.{}", it.action.past(), it.stream), {
        stream: String,
        action: Action,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A consumer was made or removed.
    ConsumerAction, "advisory.v1.consumer_action",
    |it| format!("$JS.EVENT.ADVISORY.CONSUMER.{}.{}.{}", it.action.past(), it.stream, it.consumer), {
        stream: String,
        consumer: String,
        action: Action,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A consumer was paused or resumed.
    ConsumerPause, "advisory.v1.consumer_pause", |it| consumer_event("PAUSE", &it.stream, &it.consumer), {
        stream: String,
        consumer: String,
        paused: bool,
        pause_until: Timestamp,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A message was acknowledged; published for a sample of them.
    ConsumerAck, "metric.v1.consumer_ack",
    |it| format!("$JS.EVENT.METRIC.CONSUMER.ACK.{}.{}", it.stream, it.consumer), {
        stream: String,
        consumer: String,
        consumer_seq: u64,
        stream_seq: u64,
        ack_time: i64,
        deliveries: u64,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A message was delivered as often as allowed and never acknowledged.
    MaxDeliver, "advisory.v1.max_deliver", |it| consumer_event("MAX_DELIVERIES", &it.stream, &it.consumer), {
        stream: String,
        consumer: String,
        stream_seq: u64,
        deliveries: u64,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A message was refused by a client.
    Nak, "advisory.v1.nak", |it| consumer_event("MSG_NAKED", &it.stream, &it.consumer), {
        stream: String,
        consumer: String,
        consumer_seq: u64,
        stream_seq: u64,
        deliveries: u64,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A message was refused for good by a client.
    Terminated, "advisory.v1.terminated", |it| consumer_event("MSG_TERMINATED", &it.stream, &it.consumer), {
        stream: String,
        consumer: String,
        consumer_seq: u64,
        stream_seq: u64,
        deliveries: u64,
        #[serde(skip_serializing_if = "String::is_empty")]
        reason: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A snapshot begins.
    SnapshotCreate, "advisory.v1.snapshot_create", |it| stream_event("SNAPSHOT_CREATE", &it.stream), {
        stream: String,
        state: StreamState,
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<ClientInfo>,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A snapshot ended.
    SnapshotComplete, "advisory.v1.snapshot_complete", |it| stream_event("SNAPSHOT_COMPLETE", &it.stream), {
        stream: String,
        start: Timestamp,
        end: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<ClientInfo>,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        error: String,
    }
    /// A restore begins.
    RestoreCreate, "advisory.v1.restore_create", |it| stream_event("RESTORE_CREATE", &it.stream), {
        stream: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<ClientInfo>,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A restore ended.
    RestoreComplete, "advisory.v1.restore_complete", |it| stream_event("RESTORE_COMPLETE", &it.stream), {
        stream: String,
        start: Timestamp,
        end: Timestamp,
        bytes: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<ClientInfo>,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A server leads the domain.
    DomainLeaderElected, "advisory.v1.domain_leader_elected",
    |_it| "$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED".to_owned(), {
        leader: String,
        replicas: Vec<PeerInfo>,
        cluster: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A server leads a stream.
    StreamLeaderElected, "advisory.v1.stream_leader_elected", |it| stream_event("LEADER_ELECTED", &it.stream), {
        #[serde(skip_serializing_if = "String::is_empty")]
        account: String,
        stream: String,
        leader: String,
        replicas: Vec<PeerInfo>,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A stream has too few servers left.
    StreamQuorumLost, "advisory.v1.stream_quorum_lost", |it| stream_event("QUORUM_LOST", &it.stream), {
        #[serde(skip_serializing_if = "String::is_empty")]
        account: String,
        stream: String,
        replicas: Vec<PeerInfo>,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A batch was given up.
    StreamBatchAbandoned, "advisory.v1.stream_batch_abandoned", |it| stream_event("BATCH_ABANDONED", &it.stream), {
        #[serde(skip_serializing_if = "String::is_empty")]
        account: String,
        stream: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
        batch: String,
        reason: BatchAbandonReason,
    }
    /// A server leads a consumer.
    ConsumerLeaderElected, "advisory.v1.consumer_leader_elected",
    |it| consumer_event("LEADER_ELECTED", &it.stream, &it.consumer), {
        #[serde(skip_serializing_if = "String::is_empty")]
        account: String,
        stream: String,
        consumer: String,
        leader: String,
        replicas: Vec<PeerInfo>,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A consumer has too few servers left.
    ConsumerQuorumLost, "advisory.v1.consumer_quorum_lost",
    |it| consumer_event("QUORUM_LOST", &it.stream, &it.consumer), {
        #[serde(skip_serializing_if = "String::is_empty")]
        account: String,
        stream: String,
        consumer: String,
        replicas: Vec<PeerInfo>,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A client of a group is served alone from now on.
    ConsumerGroupPinned, "advisory.v1.consumer_group_pinned",
    |it| consumer_event("PINNED", &it.stream, &it.consumer), {
        #[serde(skip_serializing_if = "String::is_empty")]
        account: String,
        stream: String,
        consumer: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
        group: String,
        pinned_id: String,
    }
    /// A client of a group is not served alone any more; the reason is `admin` or `timeout`.
    ConsumerGroupUnpinned, "advisory.v1.consumer_group_unpinned",
    |it| consumer_event("UNPINNED", &it.stream, &it.consumer), {
        #[serde(skip_serializing_if = "String::is_empty")]
        account: String,
        stream: String,
        consumer: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
        group: String,
        reason: String,
    }
    /// A server has no room left.
    ServerOutOfStorage, "advisory.v1.server_out_of_space",
    |_it| "$JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE".to_owned(), {
        server: String,
        server_id: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        stream: String,
        cluster: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// A server left the cluster for good.
    ServerRemoved, "advisory.v1.server_removed", |_it| "$JS.EVENT.ADVISORY.SERVER.REMOVED".to_owned(), {
        server: String,
        server_id: String,
        cluster: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
    /// The number of servers that must agree was lowered by hand.
    MetaRescue, "advisory.v1.meta_rescue", |_it| "$JS.EVENT.ADVISORY.SERVER.META_RESCUE".to_owned(), {
        server: String,
        server_id: String,
        prev_quorum: i64,
        new_quorum: i64,
        cluster: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
    }
}

impl Action {
    fn past(self) -> &'static str {
        match self {
            Self::Create => "CREATED",
            Self::Delete => "DELETED",
            Self::Modify => "UPDATED",
        }
    }
}

fn stream_event(event: &str, stream: &str) -> String {
    format!("$JS.EVENT.ADVISORY.STREAM.{event}.{stream}")
}

fn consumer_event(event: &str, stream: &str, consumer: &str) -> String {
    format!("$JS.EVENT.ADVISORY.CONSUMER.{event}.{stream}.{consumer}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advisory_has_the_fields_of_the_reference() {
        let body = Terminated {
            stream: "S".to_owned(),
            consumer: "C".to_owned(),
            consumer_seq: 1,
            stream_seq: 2,
            deliveries: 3,
            reason: "no".to_owned(),
            domain: String::new(),
        };
        let advisory = Advisory::new("ID".to_owned(), Timestamp(0), body);
        assert_eq!(advisory.subject(), "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C");
        assert_eq!(
            String::from_utf8_lossy(&advisory.encode()),
            r#"{"type":"io.nats.jetstream.advisory.v1.terminated","id":"ID","timestamp":"1970-01-01T00:00:00Z","stream":"S","consumer":"C","consumer_seq":1,"stream_seq":2,"deliveries":3,"reason":"no"}"#
        );
    }

    #[test]
    fn an_action_says_what_happened_in_both_places() {
        let body = StreamAction { stream: "S".to_owned(), action: Action::Modify, domain: "hub".to_owned() };
        assert_eq!(body.subject(), "$JS.EVENT.ADVISORY.STREAM.UPDATED.S");
        assert_eq!(json::encode(&body), br#"{"stream":"S","action":"modify","domain":"hub"}"#);
    }
}
