//! What all client connections of one server share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use sonata_auth::user::Users;
use sonata_proto::info::ServerInfo;
use sonata_proto::parse::ParseLimits;

use crate::account::Accounts;
use crate::importing::Introduce;
use crate::pool::BufferPool;
use crate::stamp::Stamps;
use crate::stats::{ServerCounters, Traffic};

/// The part of the configuration that connections live by. A reload makes another.
#[derive(Debug)]
pub struct Settings {
    /// What `INFO` says, but for what differs per connection.
    pub info: ServerInfo,
    /// Who may connect.
    pub users: Users,
    /// Limits of the parser; `headers` says what the server supports.
    pub parse: ParseLimits,
    /// Bytes that may wait for one connection.
    pub pending_bytes_max: usize,
    /// Subscriptions per connection.
    pub subscriptions_max: Option<usize>,
    /// Tokens of a subscription's subject.
    pub subject_tokens_max: Option<usize>,
    /// Between `PING`s.
    pub ping_interval_ns: u64,
    /// `PING`s that may be unanswered.
    pub pings_unanswered_max: u32,
    /// How long a client may take to authenticate.
    pub auth_timeout_ns: u64,
    /// Hold producers back for slow receivers; otherwise messages to those are dropped.
    pub stall_producers: bool,
    /// The account that `acc_is_sys` tells of.
    pub system_account: Arc<str>,
    /// Bytes of a payload that a trace shows; 0 is all.
    pub traced_bytes_max: usize,
    /// Show only the headers of traced messages.
    pub trace_headers: bool,
    /// Changes when connections must prove again who they are.
    pub authorization_version: u64,
}

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the usual words")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Fatal,
}

/// Where log lines go.
pub trait Log: Send + Sync {
    /// Whether lines of this level go anywhere.
    fn enabled(&self, level: Level) -> bool;
    /// Writes a line.
    fn write(&self, level: Level, line: fmt::Arguments<'_>);
}

/// See the module.
pub struct Shared {
    /// The accounts.
    pub accounts: Accounts,
    /// Keeps cached routes true.
    pub stamps: Stamps,
    /// Outbound buffers.
    pub pool: Arc<BufferPool>,
    /// Messages and bytes of all accounts.
    pub traffic: Traffic,
    /// Other counters.
    pub counters: ServerCounters,
    /// Where log lines go.
    pub log: Box<dyn Log>,
    introduce: OnceLock<Box<dyn Introduce>>,
    settings: ArcSwap<Settings>,
    version: AtomicU64,
    trace: AtomicBool,
}

impl Shared {
    /// Everything empty. The seed is for hashing, against chosen collisions.
    pub fn new(settings: Settings, log: Box<dyn Log>, seed: u64) -> Arc<Self> {
        let trace = log.enabled(Level::Trace);
        Arc::new(Self {
            accounts: Accounts::new(seed),
            stamps: Stamps::new(seed),
            pool: Arc::default(),
            traffic: Traffic::default(),
            counters: ServerCounters::default(),
            log,
            introduce: OnceLock::new(),
            settings: ArcSwap::from_pointee(settings),
            version: AtomicU64::new(0),
            trace: AtomicBool::new(trace),
        })
    }

    /// Says from now on who asks services of other accounts. Only the first call counts.
    pub fn set_introduce(&self, introduce: Box<dyn Introduce>) {
        let _ = self.introduce.set(introduce);
    }

    pub(crate) fn introduce(&self) -> Option<&dyn Introduce> {
        self.introduce.get().map(|introduce| &**introduce)
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Puts other settings in force. Connections notice at their next input or timer.
    pub fn update_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.trace.store(self.log.enabled(Level::Trace), Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Changes with every [`Shared::update_settings`].
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether the protocol is traced.
    pub fn is_tracing(&self) -> bool {
        self.trace.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}
