//! What an account has: its streams, what they use, and what it may use.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::response::{AccountInfo, AccountTier, ApiStats};
use crate::config::{
    AccountLimits, Allowance, BatchLimits, Limits, ServerLimits, Storage, StreamConfig, tier,
};
use crate::outgoing::Interest;
use crate::stream::Stream;
use crate::stream::seats::BatchRoom;

/// Bytes that an account's streams hold, kept as they change.
#[derive(Debug, Default)]
pub struct Usage {
    memory: AtomicI64,
    file: AtomicI64,
    /// -1 is no limit.
    memory_max: AtomicI64,
    file_max: AtomicI64,
    /// Limits are by tier, and there is none for the streams of a lone server.
    untiered: AtomicBool,
    /// The same for all accounts of the server.
    server: Option<Arc<Usage>>,
    /// Open batches, of all accounts of the server.
    pub(crate) batches: Arc<BatchRoom>,
}

impl Usage {
    /// Nothing used, with the account's limits, and within what the server allows.
    pub fn new(memory_max: i64, file_max: i64, server: Option<Arc<Usage>>) -> Arc<Self> {
        let of_server = server.clone().unwrap_or_default();
        Arc::new(Self {
            batches: of_server.batches.clone(),
            memory: AtomicI64::new(0),
            file: AtomicI64::new(0),
            memory_max: AtomicI64::new(memory_max),
            file_max: AtomicI64::new(file_max),
            untiered: AtomicBool::new(false),
            server,
        })
    }

    /// Bytes allowed in memory and in files from now on; -1 is no limit.
    pub(crate) fn set_room(&self, memory_max: i64, file_max: i64) {
        self.memory_max.store(memory_max, Ordering::Relaxed);
        self.file_max.store(file_max, Ordering::Relaxed);
    }

    /// Bytes allowed; -1 is no limit.
    pub fn room(&self, storage: Storage) -> i64 {
        self.of(storage).1.load(Ordering::Relaxed)
    }

    /// What holds for batches of all accounts of the server from now on.
    pub fn set_batch_limits(&self, limits: BatchLimits) {
        self.batches.set_limits(limits);
    }

    /// A stream holds more, or less.
    pub fn change(&self, storage: Storage, bytes: i64) {
        self.of(storage).0.fetch_add(bytes, Ordering::Relaxed);
        if let Some(server) = &self.server {
            server.change(storage, bytes);
        }
    }

    /// Bytes held.
    pub fn bytes(&self, storage: Storage) -> u64 {
        u64::try_from(self.of(storage).0.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Whether so many more fit.
    ///
    /// # Errors
    /// As a publisher is told.
    pub fn check(&self, storage: Storage, bytes: u64) -> Result<(), ApiError> {
        if self.untiered.load(Ordering::Relaxed) {
            return Err(ErrorCode::NoLimits.into());
        }
        if let Some(server) = &self.server
            && server.exceeds(storage, bytes)
        {
            return Err(ErrorCode::InsufficientResources.into());
        }
        if self.exceeds(storage, bytes) { Err(ErrorCode::AccountResourcesExceeded.into()) } else { Ok(()) }
    }

    fn exceeds(&self, storage: Storage, bytes: u64) -> bool {
        let (used, max) = self.of(storage);
        let max = max.load(Ordering::Relaxed);
        max >= 0 && used.load(Ordering::Relaxed).saturating_add_unsigned(bytes) > max
    }

    /// The most bytes; -1 is no limit.
    pub fn max(&self, storage: Storage) -> i64 {
        self.of(storage).1.load(Ordering::Relaxed)
    }

    fn of(&self, storage: Storage) -> (&AtomicI64, &AtomicI64) {
        match storage {
            Storage::File => (&self.file, &self.file_max),
            Storage::Memory => (&self.memory, &self.memory_max),
        }
    }
}

/// Replicas of every stream of a server without a cluster.
const REPLICAS: i64 = 1;

/// What an account without JetStream may have.
const NOTHING: Allowance = Allowance::Whole(AccountLimits::NOTHING);

/// An account with JetStream.
pub struct Account {
    /// Its name.
    pub name: Arc<str>,
    /// Its number within the server.
    pub id: u32,
    /// Whether it has JetStream. One that has not is told so, and its streams rest.
    enabled: AtomicBool,
    /// Its subscriptions.
    pub interest: Arc<dyn Interest>,
    /// Bytes held and allowed.
    pub usage: Arc<Usage>,
    allowance: RwLock<Allowance>,
    streams: RwLock<BTreeMap<Arc<str>, Arc<Stream>>>,
    /// Who follows whom: followers by the name of their origin.
    pub(crate) followers: RwLock<BTreeMap<String, Vec<std::sync::Weak<Stream>>>>,
    /// Mirrors that answer direct gets in their origin's name, by that name.
    pub(crate) direct_mirrors: RwLock<BTreeMap<String, Vec<std::sync::Weak<Stream>>>>,
    /// Streams that are being restored: their names and subjects are taken.
    pub(crate) expected: Arc<crate::node::Expected>,
    /// Requests to the API.
    pub api_total: AtomicU64,
    /// Those that were refused.
    pub api_errors: AtomicU64,
}

impl Account {
    /// An account without streams; without limits it has no JetStream.
    pub fn new(
        name: &str,
        id: u32,
        interest: Arc<dyn Interest>,
        allowance: Option<Allowance>,
        server: Arc<Usage>,
    ) -> Arc<Self> {
        let account = Arc::new(Self {
            name: name.into(),
            id,
            enabled: AtomicBool::new(false),
            interest,
            usage: Usage::new(0, 0, Some(server)),
            allowance: RwLock::new(NOTHING),
            streams: RwLock::default(),
            followers: RwLock::default(),
            direct_mirrors: RwLock::default(),
            expected: Arc::default(),
            api_total: AtomicU64::new(0),
            api_errors: AtomicU64::new(0),
        });
        account.allow(allowance);
        account
    }

    /// Whether it has JetStream.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Other limits, or none and with them no JetStream. What exceeds them stays; nothing is added to it.
    pub(crate) fn allow(&self, allowance: Option<Allowance>) {
        self.enabled.store(allowance.is_some(), Ordering::Relaxed);
        let allowance = allowance.unwrap_or(NOTHING);
        let own = allowance.of(REPLICAS);
        self.usage.untiered.store(own.is_none(), Ordering::Relaxed);
        let own = own.unwrap_or(AccountLimits::NOTHING);
        self.usage.set_room(own.max_memory, own.max_storage);
        *self.allowance.write() = allowance;
    }

    /// Whether its limits are by tier.
    pub fn has_tiers(&self) -> bool {
        matches!(*self.allowance.read(), Allowance::Tiers(_))
    }

    /// The stream of this name.
    ///
    /// # Errors
    /// When there is none, or it rests.
    pub fn stream(&self, name: &str) -> Result<Arc<Stream>, ApiError> {
        let found = self.streams.read().get(name).cloned();
        found.filter(|_| self.is_enabled()).ok_or_else(|| ErrorCode::StreamNotFound.into())
    }

    /// All streams, by name.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.streams.read().values().cloned().collect()
    }

    /// Adds a stream; false when there is one of its name.
    pub fn insert(&self, stream: Arc<Stream>) -> bool {
        let mut streams = self.streams.write();
        if streams.contains_key(&stream.name) {
            return false;
        }
        streams.insert(stream.name.clone(), stream);
        true
    }

    /// Forgets a stream.
    pub fn remove(&self, name: &str) -> Option<Arc<Stream>> {
        self.streams.write().remove(name)
    }

    /// What its streams with so many replicas may use, with what the server allows everybody.
    ///
    /// # Errors
    /// There are to be none.
    pub fn limits(&self, server: ServerLimits, replicas: i64) -> Result<Limits, ApiError> {
        let account = self.allowance.read().of(replicas).ok_or(ErrorCode::NoLimits)?;
        Ok(Limits { server, account })
    }

    /// Whether a stream with this configuration may be in the account, beside all others but the one of its name.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_beside(&self, config: &StreamConfig, new: bool) -> Result<(), ApiError> {
        let limits = self.allowance.read().of(config.num_replicas).ok_or(ErrorCode::NoLimits)?;
        let others: Vec<Arc<Stream>> =
            self.streams().into_iter().filter(|stream| *stream.name != *config.name).collect();
        if new && limits.max_streams > 0 && others.len() as i64 >= limits.max_streams {
            return Err(ErrorCode::MaximumStreamsLimit.into());
        }
        let expected: Vec<_> = {
            let expected = self.expected.lock();
            expected.values().filter(|other| other.name != config.name).cloned().map(Arc::new).collect()
        };
        let (mut memory, mut file) = (0_i64, 0_i64);
        for other in others.iter().map(|other| other.lock().config().clone()).chain(expected) {
            for subject in &config.subjects {
                let collides = other
                    .subjects
                    .iter()
                    .any(|theirs| sonata_subject::overlaps(theirs.as_bytes(), subject.as_bytes()));
                if collides {
                    return Err(ErrorCode::StreamSubjectOverlap.into());
                }
            }
            match other.storage {
                Storage::Memory => memory += other.max_bytes.max(0),
                Storage::File => file += other.max_bytes.max(0),
            }
        }
        let reserved = config.max_bytes.max(0);
        match config.storage {
            Storage::Memory if limits.max_memory > 0 && memory + reserved > limits.max_memory => {
                Err(ErrorCode::MemoryResourcesExceeded.into())
            }
            Storage::File if limits.max_storage > 0 && file + reserved > limits.max_storage => {
                Err(ErrorCode::StorageResourcesExceeded.into())
            }
            _ => Ok(()),
        }
    }

    /// What `$JS.API.INFO` says.
    pub fn info(&self, domain: &str) -> AccountInfo {
        let streams = self.streams();
        let mut total = AccountTier {
            memory: self.usage.bytes(Storage::Memory),
            storage: self.usage.bytes(Storage::File),
            streams: streams.len(),
            ..AccountTier::default()
        };
        for stream in streams {
            let machine = stream.lock();
            let config = machine.config();
            let reserved = u64::try_from(config.max_bytes).unwrap_or(0);
            match config.storage {
                Storage::Memory => total.reserved_memory += reserved,
                Storage::File => total.reserved_storage += reserved,
            }
            total.consumers += machine.consumer_names().len();
        }
        let mut tiers = BTreeMap::new();
        match &*self.allowance.read() {
            Allowance::Whole(limits) => total.limits = *limits,
            Allowance::Tiers(limits) => {
                total.limits = AccountLimits::NOTHING;
                let unused =
                    |limits: &AccountLimits| AccountTier { limits: *limits, ..AccountTier::default() };
                tiers.extend(limits.iter().map(|(name, limits)| (name.clone(), unused(limits))));
                // All streams are of one tier here.
                let own = limits.get(&tier(REPLICAS)).copied();
                if own.is_some() || total.streams > 0 {
                    let limits = own.unwrap_or(AccountLimits::NOTHING);
                    tiers.insert(tier(REPLICAS), AccountTier { limits, ..total });
                }
            }
        }
        AccountInfo {
            total,
            domain: domain.to_owned(),
            api: ApiStats {
                level: crate::api::response::API_LEVEL,
                total: self.api_total.load(Ordering::Relaxed),
                errors: self.api_errors.load(Ordering::Relaxed),
                inflight: 0,
            },
            tiers,
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}
