//! `/accstatz`: connections and traffic by account.

use serde::Serialize;

use crate::text::Timestamp;
use crate::view::ServerView;

/// The whole of `/accstatz`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accstatz {
    /// The server.
    pub server_id: String,
    /// When this was written.
    pub now: Timestamp,
    /// The accounts.
    pub account_statz: Vec<AccountStats>,
}

/// Connections and traffic of an account.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct AccountStats {
    /// The name.
    pub acc: String,
    /// What the account calls itself.
    pub name: String,
    /// Clients now.
    pub conns: u64,
    /// Leaf nodes now.
    pub leafnodes: u64,
    /// Both.
    pub total_conns: u64,
    /// Subscriptions now.
    pub num_subscriptions: u64,
    /// Messages delivered since start.
    pub sent: Traffic,
    /// Messages published since start.
    pub received: Traffic,
    /// Connections closed for being slow.
    pub slow_consumers: u64,
}

/// Messages and bytes, all and by kind of connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Messages of all kinds.
    pub msgs: u64,
    /// Bytes of all kinds.
    pub bytes: u64,
    /// Of those, gateways.
    pub gateways: Volume,
    /// Of those, routes.
    pub routes: Volume,
    /// Of those, leaf nodes.
    pub leafs: Volume,
}

/// Messages and bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Messages.
    pub msgs: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What is asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AccstatzOptions {
    /// Only these accounts; empty is all.
    pub accounts: Vec<String>,
    /// Accounts without connections as well.
    pub unused: bool,
}

/// Answers `/accstatz`: accounts that have connections, or all.
pub fn accstatz(view: &dyn ServerView, options: &AccstatzOptions) -> Accstatz {
    let mut account_statz = view.account_stats();
    let wanted = |name: &String| options.accounts.is_empty() || options.accounts.contains(name);
    account_statz.retain(|account| (options.unused || account.total_conns > 0) && wanted(&account.acc));
    Accstatz { server_id: view.server_id(), now: view.now(), account_statz }
}
