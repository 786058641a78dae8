//! Accounts: spaces of subjects, isolated but for what [links](crate::links) let through.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::{Mutex, RwLock};

use crate::interest::Interest;
use crate::links::Links;
use crate::msgtrace::TraceDestination;
use crate::responses::Responses;
use crate::shadows::Shadows;
use crate::stamp::Stamps;
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
    /// Who waits for answers of this account's services.
    pub responses: Responses,
    links: ArcSwap<Links>,
    has_mappings: AtomicBool,
    trace_destination: ArcSwapOption<TraceDestination>,
    imports_services: AtomicBool,
    pub(crate) imports_streams: AtomicBool,
    pub(crate) shadows: Mutex<Shadows>,
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

    /// What leads out of the account, or renames within it.
    pub fn links(&self) -> Arc<Links> {
        self.links.load_full()
    }

    /// Where traces go of messages that carry a sampled `traceparent`.
    pub fn trace_destination(&self) -> Option<Arc<TraceDestination>> {
        self.trace_destination.load_full()
    }

    /// Sends such traces elsewhere, or nowhere.
    pub fn set_trace_destination(&self, destination: Option<TraceDestination>) {
        self.trace_destination.store(destination.map(Arc::new));
    }

    /// Whether it has a destination for traces.
    pub(crate) fn traces(&self) -> bool {
        self.trace_destination.load().is_some()
    }

    /// Whether some published subjects are called something else.
    pub(crate) fn has_mappings(&self) -> bool {
        self.has_mappings.load(Ordering::Relaxed)
    }

    /// Whether some subjects lead to services of other accounts.
    pub(crate) fn imports_services(&self) -> bool {
        self.imports_services.load(Ordering::Relaxed)
    }

    /// Puts other links in force, for what is published from now on and for subscriptions that are there already.
    pub fn set_links(self: &Arc<Self>, links: Links, stamps: &Stamps) {
        let mut shadows = self.shadows.lock();
        self.has_mappings.store(!links.mappings.is_empty(), Ordering::Relaxed);
        self.imports_services.store(!links.services.is_empty(), Ordering::Relaxed);
        // Before the subscriptions are looked at: one that ends from now on looks for its shadows.
        let imported = self.imports_streams.swap(!links.streams.is_empty(), Ordering::SeqCst);
        let imports = !links.streams.is_empty();
        let links = Arc::new(links);
        self.links.store(links.clone());
        if imported || imports {
            shadows.cast_anew(self, &links, stamps);
        }
        drop(shadows);
        stamps.touch(self.id, b">");
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

    /// Whether it has as many connections as it may. Another may come or go at any time.
    pub fn is_full(&self) -> bool {
        self.limits().connections_max.is_some_and(|max| self.connections() >= max)
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
                    responses: Responses::new(self.seed.rotate_left(32) ^ u64::from(id)),
                    links: ArcSwap::default(),
                    has_mappings: AtomicBool::new(false),
                    trace_destination: ArcSwapOption::empty(),
                    imports_services: AtomicBool::new(false),
                    imports_streams: AtomicBool::new(false),
                    shadows: Mutex::default(),
                    limits: RwLock::default(),
                    connections: AtomicUsize::new(0),
                    connections_total: AtomicU64::new(0),
                    updated_unix_ns: AtomicI64::new(now_unix_ns),
                })
            })
            .clone()
    }

    /// Forgets the accounts that `keep` refuses. Connections that are still in one keep it alive, without its links.
    pub fn retain(&self, keep: impl Fn(&Account) -> bool, stamps: &Stamps) {
        let mut removed = Vec::new();
        self.by_name.write().retain(|_, account| {
            let kept = keep(account);
            removed.extend((!kept).then(|| account.clone()));
            kept
        });
        for account in removed {
            account.set_links(Links::default(), stamps);
        }
    }

    /// All accounts, by name.
    pub fn all(&self) -> Vec<Arc<Account>> {
        let mut all: Vec<_> = self.by_name.read().values().cloned().collect();
        all.sort_by(|one, two| one.name.cmp(&two.name));
        all
    }
}
