//! `STATSZ`: how a server is doing, told regularly and on request.

use serde::Serialize;

use super::server_info::ServerInfo;
use crate::accstatz::Volume;
use crate::json::{self, is_default};
use crate::text::Timestamp;
use crate::varz::{ByKind, JetStream};

/// How a server is doing.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Statsz {
    /// When it was started.
    pub start: Timestamp,
    /// Resident bytes.
    pub mem: u64,
    /// Processors of the machine.
    pub cores: u32,
    /// Per cent of one processor.
    pub cpu: f64,
    /// Clients now.
    pub connections: u64,
    /// Clients since start.
    pub total_connections: u64,
    /// Accounts with clients.
    pub active_accounts: u64,
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Messages sent since start.
    pub sent: Volume,
    /// Of those, to clients.
    pub sent_to_clients: Volume,
    /// Messages received since start.
    pub received: Volume,
    /// Of those, from clients.
    pub received_from_clients: Volume,
    /// Connections closed for being slow.
    pub slow_consumers: u64,
    /// Of those, which kind.
    #[serde(skip_serializing_if = "is_default")]
    pub slow_consumer_stats: ByKind,
    /// Connections closed for being silent.
    #[serde(skip_serializing_if = "is_default")]
    pub stale_connections: u64,
    /// Of those, which kind.
    #[serde(skip_serializing_if = "is_default")]
    pub stale_connection_stats: ByKind,
    /// How often a client was held back for a slow receiver, or for a stream whose disk does not keep pace.
    #[serde(skip_serializing_if = "is_default")]
    pub stalled_clients: u64,
    /// Servers that this one knows, itself as well.
    pub active_servers: u64,
    /// JetStream, without its folder; none while it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jetstream: Option<JetStream>,
    /// The configured limit of memory; 0 is none.
    #[serde(skip_serializing_if = "is_default")]
    pub gomemlimit: u64,
    /// Threads that carry traffic.
    pub gomaxprocs: u32,
}

/// The message that tells it.
pub fn message(server: ServerInfo<'_>, statsz: &Statsz) -> Vec<u8> {
    #[derive(Serialize)]
    struct Message<'a> {
        server: ServerInfo<'a>,
        statsz: &'a Statsz,
    }
    json::compact(&Message { server, statsz })
}
