//! `/leafz`: leaf node connections.

use serde::Serialize;

use crate::json::is_default;
use crate::query::SubscriptionList;
use crate::text::{RoundTrip, Timestamp};
use crate::varz::ProxyKey;
use crate::view::ServerView;

/// The whole of `/leafz`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leafz {
    /// The server.
    pub server_id: String,
    /// When this was written.
    pub now: Timestamp,
    /// Leaf nodes shown.
    pub leafnodes: usize,
    /// The leaf nodes.
    pub leafs: Vec<Leaf>,
}

/// A leaf node connection.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Leaf {
    /// The identifier.
    pub id: u64,
    /// The other server's name.
    pub name: String,
    /// Whether this server is the leaf and the other the hub.
    pub is_spoke: bool,
    /// Whether interest of other leaf nodes is kept from it.
    #[serde(skip_serializing_if = "is_default")]
    pub is_isolated: bool,
    /// The account it is bound to here.
    pub account: String,
    /// The other server's address.
    pub ip: String,
    /// The other server's port.
    pub port: u16,
    /// To the other server and back.
    pub rtt: RoundTrip,
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
    /// The compression.
    #[serde(skip_serializing_if = "is_default")]
    pub compression: String,
    /// The trusted proxy it came through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyKey>,
}

/// Answers `/leafz`, for one account if `account` is not empty.
pub fn leafz(view: &dyn ServerView, subscriptions: bool, account: &str) -> Leafz {
    let list = if subscriptions { SubscriptionList::Subjects } else { SubscriptionList::None };
    let mut leafs = view.leafs(list);
    leafs.retain(|leaf| account.is_empty() || leaf.account == account);
    Leafz { server_id: view.server_id(), now: view.now(), leafnodes: leafs.len(), leafs }
}
