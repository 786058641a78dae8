//! `/routez`: connections to other servers of the cluster.

use serde::Serialize;

use crate::connz::Subscription;
use crate::json::is_default;
use crate::query::SubscriptionList;
use crate::text::{RoundTrip, Timestamp, Uptime};
use crate::view::ServerView;

/// The whole of `/routez`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Routez {
    /// The server.
    pub server_id: String,
    /// Its name.
    pub server_name: String,
    /// When this was written.
    pub now: Timestamp,
    /// Routes now.
    pub num_routes: usize,
    /// The routes.
    pub routes: Vec<Route>,
}

/// A route.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Route {
    /// The identifier.
    pub rid: u64,
    /// The other server.
    pub remote_id: String,
    /// Its name.
    pub remote_name: String,
    /// Whether this server has connected to the other.
    pub did_solicit: bool,
    /// Whether the route stands in the configuration.
    pub is_configured: bool,
    /// The other server's address.
    pub ip: String,
    /// The other server's port.
    pub port: u16,
    /// When it was connected.
    pub start: Timestamp,
    /// When something was last sent or received.
    pub last_activity: Timestamp,
    /// To the other server and back.
    pub rtt: RoundTrip,
    /// Since start.
    pub uptime: Uptime,
    /// Since the last activity.
    pub idle: Uptime,
    /// Bytes that wait to be sent.
    pub pending_size: u64,
    /// Messages received.
    pub in_msgs: u64,
    /// Messages sent.
    pub out_msgs: u64,
    /// Bytes received.
    pub in_bytes: u64,
    /// Bytes sent.
    pub out_bytes: u64,
    /// The other server's subscriptions.
    pub subscriptions: u64,
    /// Their subjects, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions_list: Vec<String>,
    /// All about them, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions_list_detail: Vec<Subscription>,
    /// The account that this route is for; empty is all.
    #[serde(skip_serializing_if = "is_default")]
    pub account: String,
    /// The compression.
    #[serde(skip_serializing_if = "is_default")]
    pub compression: String,
}

/// Answers `/routez`.
pub fn routez(view: &dyn ServerView, subscriptions: SubscriptionList) -> Routez {
    let routes = view.routes(subscriptions);
    Routez {
        server_id: view.server_id(),
        server_name: view.server_name(),
        now: view.now(),
        num_routes: routes.len(),
        routes,
    }
}
