//! What a server shows of itself.

use std::collections::BTreeMap;

use crate::accountz::Account;
use crate::accstatz::AccountStats;
use crate::connz::{Connection, ConnectionKey, ConnectionState, Subscription};
use crate::ipqueuesz::QueueLength;
use crate::jetstream::JetStreamView;
use crate::leafz::Leaf;
use crate::metrics::Counters;
use crate::query::SubscriptionList;
use crate::routez::Route;
use crate::subsz::InterestStats;
use crate::system::server_info::Identity;
use crate::system::statsz::Statsz;
use crate::text::Timestamp;
use crate::varz::Varz;

/// What a server shows of itself. Each method hands out a snapshot; two of them need not be of the same moment.
///
/// The `visit` methods may hold a lock while they run: what is visited is filtered and counted, never written.
pub trait ServerView {
    /// The time.
    fn now(&self) -> Timestamp;

    /// The server's public key.
    fn server_id(&self) -> String;

    /// The server's name.
    fn server_name(&self) -> String;

    /// Who speaks in messages of the system account.
    fn identity(&self) -> Identity;

    /// How the server is doing: the part of `/varz` that is cheap to tell.
    fn statsz(&self) -> Statsz;

    /// The name of the system account; empty if there is none.
    fn system_account(&self) -> String;

    /// The command line, the name of the program first, without secrets.
    fn command_line(&self) -> Vec<String>;

    /// Resident bytes of the process.
    fn resident_bytes(&self) -> u64;

    /// Everything `/varz` shows.
    fn varz(&self) -> Varz;

    /// Shows each connection of a state, in any order.
    fn visit_connections(&self, state: ConnectionState, visit: &mut dyn FnMut(&ConnectionKey<'_>));

    /// A connection, open or lately closed, with subscriptions as asked for.
    fn connection(&self, cid: u64, subscriptions: SubscriptionList) -> Option<Connection>;

    /// Shows each subscription of local clients, of one account or of all.
    fn visit_subscriptions(&self, account: Option<&str>, visit: &mut dyn FnMut(&Subscription));

    /// Numbers about the interest of one account, or of all.
    fn interest(&self, account: Option<&str>) -> InterestStats;

    /// The names of all accounts.
    fn accounts(&self) -> Vec<String>;

    /// All about an account; none if there is no such account.
    fn account(&self, name: &str) -> Option<Account>;

    /// Connections and traffic of all accounts.
    fn account_stats(&self) -> Vec<AccountStats>;

    /// The routes, with subscriptions as asked for.
    fn routes(&self, subscriptions: SubscriptionList) -> Vec<Route>;

    /// The leaf node connections, with subscriptions as asked for.
    fn leafs(&self, subscriptions: SubscriptionList) -> Vec<Leaf>;

    /// Whether the server accepts connections.
    ///
    /// # Errors
    ///
    /// Why it does not.
    fn accepts_connections(&self) -> Result<(), String>;

    /// Queues inside the server by name.
    fn queues(&self) -> BTreeMap<String, QueueLength>;

    /// What the threads of the server are doing, as text for people.
    fn stacks(&self) -> String;

    /// What `/metrics` shows beyond `/varz` and `/accstatz`.
    fn counters(&self) -> Counters;

    /// JetStream; none while it is off.
    fn jetstream(&self) -> Option<&dyn JetStreamView>;
}
