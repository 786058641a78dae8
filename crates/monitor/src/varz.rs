//! `/varz`: what a server is configured to be, and how it is doing.
//!
//! The snapshot is the answer: a server fills it in, and it is written as it is. Durations are nanoseconds, sizes
//! bytes, timeouts seconds.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::jetstream::{Config, JetStreamView, Limits, Stats};
use crate::json::is_default;
use crate::text::{Timestamp, Uptime};

/// The whole of `/varz`.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Varz {
    /// The server's public key.
    pub server_id: String,
    /// Its configured name, or the id.
    pub server_name: String,
    /// The version it claims to clients.
    pub version: String,
    /// The protocol version, 1.
    pub proto: u32,
    /// The commit it was built of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// What it was built with.
    pub go: String,
    /// Where it listens for clients.
    pub host: String,
    /// Where it listens for clients.
    pub port: u16,
    /// Whether clients must authenticate.
    #[serde(skip_serializing_if = "is_default")]
    pub auth_required: bool,
    /// Whether clients must use TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_required: bool,
    /// Whether clients must have certificates.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_verify: bool,
    /// Whether certificates are checked by OCSP.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_ocsp_peer_verify: bool,
    /// The address given to other servers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// Where clients may connect in this cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// Where WebSocket clients may connect in this cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// The most clients; -1 is without limit.
    pub max_connections: i64,
    /// The most subscriptions of one client; 0 is without limit.
    #[serde(skip_serializing_if = "is_default")]
    pub max_subscriptions: u64,
    /// Nanoseconds between two pings.
    pub ping_interval: i64,
    /// Unanswered pings after which a connection is stale.
    pub ping_max: u32,
    /// Where monitoring listens.
    pub http_host: String,
    /// Where monitoring listens; 0 is nowhere.
    pub http_port: u16,
    /// What all paths of monitoring begin with, as configured.
    pub http_base_path: String,
    /// Where monitoring listens with TLS; 0 is nowhere.
    pub https_port: u16,
    /// Seconds for a client to authenticate.
    pub auth_timeout: f64,
    /// The longest protocol line.
    pub max_control_line: u64,
    /// The largest message.
    pub max_payload: u64,
    /// The most bytes waiting for one client.
    pub max_pending: u64,
    /// The cluster, if configured.
    pub cluster: Cluster,
    /// The gateway, if configured.
    pub gateway: Gateway,
    /// Leaf nodes, if configured.
    pub leaf: Leaf,
    /// MQTT, if configured.
    pub mqtt: Mqtt,
    /// WebSocket, if configured.
    pub websocket: Websocket,
    /// JetStream; empty while it is off.
    pub jetstream: JetStream,
    /// Seconds for a TLS handshake.
    pub tls_timeout: f64,
    /// Nanoseconds for a write to a socket.
    pub write_deadline: i64,
    /// What happens when that is not enough; empty is the default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub write_timeout: String,
    /// When the server was started.
    pub start: Timestamp,
    /// When this was written.
    pub now: Timestamp,
    /// How long the server has been running.
    pub uptime: Uptime,
    /// Resident bytes.
    pub mem: u64,
    /// Processors of the machine.
    pub cores: u32,
    /// Threads that carry traffic.
    pub gomaxprocs: u32,
    /// The configured limit of memory; 0 is none.
    #[serde(skip_serializing_if = "is_default")]
    pub gomemlimit: u64,
    /// Per cent of one processor.
    pub cpu: f64,
    /// Clients now.
    pub connections: u64,
    /// Clients since start.
    pub total_connections: u64,
    /// Routes now.
    pub routes: u64,
    /// Servers that routes lead to.
    pub remotes: u64,
    /// Leaf nodes now.
    pub leafnodes: u64,
    /// Messages received since start.
    pub in_msgs: u64,
    /// Bytes received since start.
    pub in_bytes: u64,
    /// Of those, from clients.
    pub in_client_msgs: u64,
    /// Of those, from clients.
    pub in_client_bytes: u64,
    /// Messages sent since start.
    pub out_msgs: u64,
    /// Bytes sent since start.
    pub out_bytes: u64,
    /// Of those, to clients.
    pub out_client_msgs: u64,
    /// Of those, to clients.
    pub out_client_bytes: u64,
    /// Connections closed for being slow.
    pub slow_consumers: u64,
    /// Connections closed for not answering pings.
    pub stale_connections: u64,
    /// How often a publisher was held back for a slow receiver, or for a stream whose disk does not keep pace.
    pub stalled_clients: u64,
    /// Subscriptions of all accounts now.
    pub subscriptions: u64,
    /// Requests per path of monitoring.
    pub http_req_stats: BTreeMap<String, u64>,
    /// When the configuration was loaded.
    pub config_load_time: Timestamp,
    /// Its digest; empty if there is no file.
    pub config_digest: String,
    /// Configured tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Configured metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Feature flags, with defaults.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_flags: BTreeMap<String, bool>,
    /// The system account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system_account: String,
    /// Answers about clients' certificates; absent unless they are checked and answers are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ocsp_peer_cache: Option<OcspPeerCache>,
    /// The slow ones by kind.
    pub slow_consumer_stats: ByKind,
    /// The stale ones by kind.
    pub stale_connection_stats: ByKind,
    /// Waiting for the disk.
    pub disk_io_wait_stats: DiskIoWait,
    /// Trusted proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxies: Option<Proxies>,
    /// When the certificate for clients expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_not_after: Option<Timestamp>,
    /// Our own addition: what memory is used for.
    pub memory_pools: MemoryPools,
}

/// An object without members: something that is not enabled.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disabled {}

/// `jetstream` of `/varz`; without any member it is off.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct JetStream {
    /// What it is configured to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// What is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<Stats>,
    /// Limits of every account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

impl JetStream {
    /// What is shown of it.
    pub fn of(view: Option<&dyn JetStreamView>) -> Self {
        view.map_or_else(Self::default, |view| Self {
            config: Some(view.config()),
            stats: Some(view.totals().stats),
            limits: Some(view.limits()),
        })
    }
}

/// `cluster` of `/varz`.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Cluster {
    /// The cluster's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it listens for routes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub addr: String,
    /// Where it listens for routes.
    #[serde(skip_serializing_if = "is_default")]
    pub cluster_port: u16,
    /// Seconds for a route to authenticate.
    #[serde(skip_serializing_if = "is_default")]
    pub auth_timeout: f64,
    /// Configured routes, `host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Seconds for a TLS handshake.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_timeout: f64,
    /// Whether routes use TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_required: bool,
    /// Whether their certificates are verified.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_verify: bool,
    /// Routes to one server; -1 is one without pool.
    #[serde(skip_serializing_if = "is_default")]
    pub pool_size: i64,
    /// Nanoseconds for a write to a route.
    #[serde(skip_serializing_if = "is_default")]
    pub write_deadline: i64,
    /// What happens when that is not enough.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub write_timeout: String,
    /// When the certificate for routes expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_not_after: Option<Timestamp>,
}

/// `gateway` of `/varz`.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Gateway {
    /// The cluster's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it listens for gateways.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Where it listens for gateways.
    #[serde(skip_serializing_if = "is_default")]
    pub port: u16,
    /// Seconds for a gateway to authenticate.
    #[serde(skip_serializing_if = "is_default")]
    pub auth_timeout: f64,
    /// Seconds for a TLS handshake.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_timeout: f64,
    /// Whether gateways use TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_required: bool,
    /// Whether their certificates are verified.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_verify: bool,
    /// The address given to other clusters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advertise: String,
    /// Attempts to connect to a cluster that is not configured.
    #[serde(skip_serializing_if = "is_default")]
    pub connect_retries: u32,
    /// Configured clusters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<RemoteGateway>,
    /// Whether clusters that are not configured are refused.
    #[serde(skip_serializing_if = "is_default")]
    pub reject_unknown: bool,
    /// Nanoseconds for a write to a socket.
    #[serde(skip_serializing_if = "is_default")]
    pub write_deadline: i64,
    /// What happens when that is not enough.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub write_timeout: String,
    /// When the certificate expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_not_after: Option<Timestamp>,
}

/// A cluster in `gateway` of `/varz`.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct RemoteGateway {
    /// The cluster's name.
    pub name: String,
    /// Seconds for a TLS handshake.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_timeout: f64,
    /// Its servers, `host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

/// `leaf` of `/varz`.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Leaf {
    /// Where it listens for leaf nodes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Where it listens for leaf nodes.
    #[serde(skip_serializing_if = "is_default")]
    pub port: u16,
    /// Seconds for a leaf node to authenticate.
    #[serde(skip_serializing_if = "is_default")]
    pub auth_timeout: f64,
    /// Seconds for a TLS handshake.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_timeout: f64,
    /// Whether leaf nodes must use TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_required: bool,
    /// Whether leaf nodes must have certificates.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_verify: bool,
    /// Configured hubs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<RemoteLeaf>,
    /// Whether certificates are checked by OCSP.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_ocsp_peer_verify: bool,
    /// Nanoseconds for a write to a socket.
    #[serde(skip_serializing_if = "is_default")]
    pub write_deadline: i64,
    /// What happens when that is not enough.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub write_timeout: String,
    /// When the certificate expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_not_after: Option<Timestamp>,
}

/// A hub in `leaf` of `/varz`.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct RemoteLeaf {
    /// The account it is bound to here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_account: String,
    /// Seconds for a TLS handshake.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_timeout: f64,
    /// Its servers, `host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// What is kept from crossing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<LeafDeny>,
    /// Whether certificates are checked by OCSP.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_ocsp_peer_verify: bool,
}

/// Subjects that are kept from crossing a leaf node connection.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct LeafDeny {
    /// From here to the hub.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<String>,
    /// From the hub to here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<String>,
}

/// `mqtt` of `/varz`.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Mqtt {
    /// Where it listens for MQTT.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Where it listens for MQTT.
    #[serde(skip_serializing_if = "is_default")]
    pub port: u16,
    /// The user of clients that present nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub no_auth_user: String,
    /// Seconds for a client to authenticate.
    #[serde(skip_serializing_if = "is_default")]
    pub auth_timeout: f64,
    /// Whether certificates are mapped to users.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_map: bool,
    /// Seconds for a TLS handshake.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_timeout: f64,
    /// Public keys that clients may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls_pinned_certs: Vec<String>,
    /// The JetStream domain that sessions are kept in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub js_domain: String,
    /// Nanoseconds until an unacknowledged message is sent again.
    #[serde(skip_serializing_if = "is_default")]
    pub ack_wait: i64,
    /// The most unacknowledged messages of a subscription.
    #[serde(skip_serializing_if = "is_default")]
    pub max_ack_pending: u16,
    /// Whether certificates are checked by OCSP.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_ocsp_peer_verify: bool,
    /// When the certificate expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_not_after: Option<Timestamp>,
}

/// `websocket` of `/varz`.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Websocket {
    /// Where it listens for WebSocket.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Where it listens for WebSocket.
    #[serde(skip_serializing_if = "is_default")]
    pub port: u16,
    /// The address given to clients.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advertise: String,
    /// The user of clients that present nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub no_auth_user: String,
    /// The cookie that holds a user JWT.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt_cookie: String,
    /// Nanoseconds for the HTTP handshake.
    #[serde(skip_serializing_if = "is_default")]
    pub handshake_timeout: i64,
    /// Seconds for a client to authenticate.
    #[serde(skip_serializing_if = "is_default")]
    pub auth_timeout: f64,
    /// Whether clients connect without TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub no_tls: bool,
    /// Whether certificates are mapped to users.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_map: bool,
    /// Public keys that clients may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls_pinned_certs: Vec<String>,
    /// Whether the Origin header must be that of the server.
    #[serde(skip_serializing_if = "is_default")]
    pub same_origin: bool,
    /// Other origins that are accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<String>,
    /// Whether frames may be compressed.
    #[serde(skip_serializing_if = "is_default")]
    pub compression: bool,
    /// Whether certificates are checked by OCSP.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_ocsp_peer_verify: bool,
    /// When the certificate expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_not_after: Option<Timestamp>,
}

/// A count for each kind of connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ByKind {
    /// Clients.
    pub clients: u64,
    /// Routes.
    pub routes: u64,
    /// Gateways.
    pub gateways: u64,
    /// Leaf nodes.
    pub leafs: u64,
}

/// Waiting for the disk; all zero without JetStream.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DiskIoWait {
    /// Who waits now.
    pub waiters: u64,
    /// Who had to wait since start.
    pub waits: u64,
    /// Nanoseconds waited since start.
    pub wait_time: u64,
    /// The longest wait in nanoseconds.
    pub max_wait_time: u64,
}

/// `ocsp_peer_cache` of `/varz`: what authorities have said about clients, as far as it is remembered.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct OcspPeerCache {
    /// `local`.
    pub cache_type: &'static str,
    /// Questions that it answered.
    #[serde(skip_serializing_if = "is_default")]
    pub cache_hits: u64,
    /// Questions that it could not answer.
    #[serde(skip_serializing_if = "is_default")]
    pub cache_misses: u64,
    /// Answers in it.
    #[serde(skip_serializing_if = "is_default")]
    pub cached_responses: u64,
    /// Those that say revoked.
    #[serde(skip_serializing_if = "is_default")]
    pub cached_revoked_responses: u64,
    /// Those that say good.
    #[serde(skip_serializing_if = "is_default")]
    pub cached_good_responses: u64,
    /// Those that say unknown.
    #[serde(skip_serializing_if = "is_default")]
    pub cached_unknown_responses: u64,
}

/// `proxies` of `/varz`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Proxies {
    /// The trusted ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<ProxyKey>,
}

/// A proxy, known by its key.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct ProxyKey {
    /// The public key.
    pub key: String,
}

/// What memory is used for. The pools together are close to the resident size.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPools {
    /// State of connections.
    pub connections: MemoryPool,
    /// Bytes that wait to be sent.
    pub outbound: MemoryPool,
    /// Bytes that were received and wait to be parsed.
    pub ingest: MemoryPool,
    /// Subscriptions.
    pub interest: MemoryPool,
    /// Caches of match results.
    pub caches: MemoryPool,
    /// Streams: indexes, caches, and messages that are kept in memory.
    pub streams: MemoryPool,
    /// What waits to be written to the journal.
    pub journal: MemoryPool,
}

impl MemoryPools {
    /// The pools with their names.
    pub fn named(&self) -> [(&'static str, MemoryPool); 7] {
        [
            ("connections", self.connections),
            ("outbound", self.outbound),
            ("ingest", self.ingest),
            ("interest", self.interest),
            ("caches", self.caches),
            ("streams", self.streams),
            ("journal", self.journal),
        ]
    }
}

/// One use of memory.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPool {
    /// Bytes in use.
    pub used_bytes: u64,
    /// The most bytes; 0 is without limit of its own.
    pub limit_bytes: u64,
}
