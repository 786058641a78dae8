//! Accounts: isolated spaces of subjects.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::interest::Interest;
use crate::stats::{Counter, Traffic};

/// The account of clients that are in no other.
pub const GLOBAL_ACCOUNT: &str = "$G";
/// The account of the server itself, unless configured otherwise.
pub const SYSTEM_ACCOUNT: &str = "$SYS";

/// What an account may use. `None` is unlimited.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct AccountLimits {
    /// Client connections.
    pub connections_max: Option<usize>,
    /// Subscriptions per connection.
    pub subscriptions_max: Option<usize>,
    /// Bytes of a message.
    pub payload_bytes_max: Option<usize>,
}

/// An account. It lives as long as any connection or configuration names it.
pub struct Account {
    name: Arc<str>,
    /// Number within the server, never used again.
    id: u32,
    /// Who wants to hear what.
    pub interest: Interest,
    /// Counters.
    pub traffic: Traffic,
    /// Publishes whose route was cached.
    pub route_hits: Counter,
    /// Publishes whose route had to be built.
    pub route_misses: Counter,
    limits: RwLock<AccountLimits>,
    connections: AtomicUsize,
    connections_total: AtomicU64,
    updated_unix_ns: AtomicI64,
}

impl Account {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its number within the server.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it may use.
    pub fn limits(&self) -> AccountLimits {
        *self.limits.read()
    }

    /// Changes what it may use; connections notice on their next reload or bind.
    pub fn set_limits(&self, limits: AccountLimits) {
        *self.limits.write() = limits;
    }

    /// Client connections now.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Client connections since the start.
    pub fn connections_total(&self) -> u64 {
        self.connections_total.load(Ordering::Relaxed)
    }

    /// When the account was made or last changed by configuration.
    pub fn updated_unix_ns(&self) -> i64 {
        self.updated_unix_ns.load(Ordering::Relaxed)
    }

    /// Counts a connection in. False, and nothing is counted, when the account has as many as it may.
    pub fn enter(&self) -> bool {
        let max = self.limits().connections_max.unwrap_or(usize::MAX);
        let entered = self
            .connections
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < max).then_some(now + 1))
            .is_ok();
        self.connections_total.fetch_add(u64::from(entered), Ordering::Relaxed);
        entered
    }

    /// Counts a connection out.
    pub fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

/// The accounts of a server.
#[derive(Debug)]
pub struct Accounts {
    by_name: RwLock<HashMap<Arc<str>, Arc<Account>>>,
    next_id: AtomicUsize,
    seed: u64,
}

impl Accounts {
    /// No accounts. The seed goes to [`Interest::new`].
    pub fn new(seed: u64) -> Self {
        Self { by_name: RwLock::default(), next_id: AtomicUsize::new(0), seed }
    }

    /// The account of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Account>> {
        self.by_name.read().get(name).cloned()
    }

    /// The account of this name, made if need be.
    pub fn find_or_create(&self, name: &str, now_unix_ns: i64) -> Arc<Account> {
        if let Some(account) = self.find(name) {
            return account;
        }
        let mut by_name = self.by_name.write();
        let name: Arc<str> = name.into();
        by_name
            .entry(name.clone())
            .or_insert_with(|| {
                let id = self.next_id.fetch_add(1, Ordering::Relaxed) as u32;
                Arc::new(Account {
                    name,
                    id,
                    interest: Interest::new(self.seed ^ u64::from(id)),
                    traffic: Traffic::default(),
                    route_hits: Counter::default(),
                    route_misses: Counter::default(),
                    limits: RwLock::default(),
                    connections: AtomicUsize::new(0),
                    connections_total: AtomicU64::new(0),
                    updated_unix_ns: AtomicI64::new(now_unix_ns),
                })
            })
            .clone()
    }

    /// Forgets the accounts that `keep` refuses. Connections that are still in one keep it alive.
    pub fn retain(&self, keep: impl Fn(&Account) -> bool) {
        self.by_name.write().retain(|_, account| keep(account));
    }

    /// All accounts, by name.
    pub fn all(&self) -> Vec<Arc<Account>> {
        let mut all: Vec<_> = self.by_name.read().values().cloned().collect();
        all.sort_by(|one, two| one.name.cmp(&two.name));
        all
    }
}
