//! Where messages on one subject of one account go, ready to be used: receivers by connection, each with the
//! start of the line it gets.

use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use sonata_subject::mapping::Mapping;
use sonata_subject::matches;

use crate::account::Account;
use crate::connection::Connection;
use crate::interest::Matches;
use crate::links::{ServiceImport, StreamImport};
use crate::stamp::{Stamp, Stamps};
use crate::subscription::Subscription;

/// How many bytes of routes one half of a cache holds.
const CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A cached answer of an account's interest, and of what it imports.
#[derive(Debug)]
pub struct Route {
    account: u32,
    /// What was published, or is delivered.
    subject: Box<[u8]>,
    naming: Naming,
    /// What it is called instead, by a mapping to one place.
    mapped: Option<Box<[u8]>>,
    /// A mapping that picks per message; then there is nothing else here.
    picks: Option<Arc<Mapping>>,
    stamp: Stamp,
    /// `HMSG <subject> <sid> ` of each receiver, one after the other. `MSG …` is the same without the `H`.
    prefixes: Box<[u8]>,
    /// Receivers of every message; those of one connection stand together.
    plain: Box<[Receiver]>,
    /// `plain`, cut by connection.
    connections: Box<[Range<u32>]>,
    /// Members of each queue group.
    queues: Box<[Box<[Receiver]>]>,
    /// Services within the server, which get every message.
    services: Box<[ServiceLeg]>,
    /// Services of other accounts, which are asked with every message.
    imports: Box<[ImportLeg]>,
    /// Whether there is nothing but one queue group, each member of another connection: then a run may be dealt out
    /// member by member without changing the order that any connection sees.
    deals_runs: bool,
}

/// A subscription and the start of the line it gets.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) subscription: Arc<Subscription>,
    /// How it came to hear of another account's messages.
    import: Option<Arc<StreamImport>>,
    prefix: Range<u32>,
}

/// Whether a subject is still to be given the name that the account's mappings have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Naming {
    /// A client's publish, or a request from another account.
    Mapped,
    /// What the server itself delivers.
    AsIs,
}

/// A service within the server.
#[derive(Debug)]
pub(crate) struct ServiceLeg {
    pub(crate) subscription: Arc<Subscription>,
    /// What it is called where the service subscribed, and that account, when it came through a stream import.
    pub(crate) imported: Option<(Box<[u8]>, Arc<Account>)>,
}

/// A service of another account.
#[derive(Debug)]
pub(crate) struct ImportLeg {
    pub(crate) import: Arc<ServiceImport>,
    /// The subject there.
    pub(crate) target: Box<[u8]>,
}

/// A subscription that was found, and what the message is called in its account.
struct Hit {
    subscription: Arc<Subscription>,
    /// None: as in the route's account.
    imported: Option<(Box<[u8]>, Arc<Account>)>,
    import: Option<Arc<StreamImport>>,
}

impl Hit {
    /// `None` if the subscription does not want the message after all.
    fn of(found: Arc<Subscription>, subject: &[u8]) -> Option<Self> {
        let Some(shadow) = found.as_shadow() else {
            return found.may_receive(subject).then_some(Self {
                subscription: found,
                imported: None,
                import: None,
            });
        };
        let local = shadow.import.subjects.local_name(subject)?;
        let parent = &shadow.parent;
        let wanted = matches(parent.subject(), &local) && parent.may_receive(&local);
        wanted.then(|| Self {
            subscription: parent.clone(),
            imported: Some((local.into_boxed_slice(), shadow.account.clone())),
            import: Some(shadow.import.clone()),
        })
    }

    fn subject<'a>(&'a self, subject: &'a [u8]) -> &'a [u8] {
        self.imported.as_ref().map_or(subject, |(local, _)| local)
    }
}

impl Route {
    /// Searches the account's interest, and its imports.
    pub fn build(stamps: &Stamps, account: &Account, subject: &[u8], naming: Naming) -> Self {
        if naming == Naming::AsIs || !account.has_mappings() {
            return Self::search(stamps, account, subject);
        }
        // A change of the links touches every stamp of the account.
        let stamp = stamps.read(account.id(), subject);
        let Some(mapping) = account.links().mapping(subject).cloned() else {
            return Self { naming, ..Self::search(stamps, account, subject) };
        };
        match mapping.only(subject) {
            Some(mapped) => Self {
                subject: subject.into(),
                naming,
                mapped: Some(mapped.as_slice().into()),
                ..Self::search(stamps, account, &mapped)
            },
            None => Self { naming, picks: Some(mapping), ..Self::empty(account, subject, stamp) },
        }
    }

    fn empty(account: &Account, subject: &[u8], stamp: Stamp) -> Self {
        Self {
            account: account.id(),
            subject: subject.into(),
            naming: Naming::AsIs,
            mapped: None,
            picks: None,
            stamp,
            prefixes: Box::default(),
            plain: Box::default(),
            connections: Box::default(),
            queues: Box::default(),
            services: Box::default(),
            imports: Box::default(),
            deals_runs: false,
        }
    }

    fn search(stamps: &Stamps, account: &Account, subject: &[u8]) -> Self {
        // Before the search: a change during it must make the route stale.
        let stamp = stamps.read(account.id(), subject);
        let mut matches = Matches::default();
        account.interest.collect(subject, &mut matches);
        let hits =
            |found: Vec<Arc<Subscription>>| found.into_iter().filter_map(|found| Hit::of(found, subject));
        let (services, mut plain): (Vec<_>, Vec<_>) =
            hits(matches.plain).partition(|hit| hit.subscription.service().is_some());
        plain.sort_by_key(|hit| Arc::as_ptr(hit.subscription.connection()) as usize);
        let mut queued: Vec<Hit> = hits(matches.queued).collect();
        queued.sort_by(|one, two| one.subscription.queue().cmp(&two.subscription.queue()));

        let mut prefixes = Vec::new();
        let mut receiver = |hit: Hit| {
            let start = prefixes.len() as u32;
            for part in [b"HMSG ", hit.subject(subject), b" ", hit.subscription.sid(), b" "] {
                prefixes.extend_from_slice(part);
            }
            Receiver {
                subscription: hit.subscription,
                import: hit.import,
                prefix: start..prefixes.len() as u32,
            }
        };
        let plain: Box<[Receiver]> = plain.into_iter().map(&mut receiver).collect();
        let mut queues: Vec<Vec<Receiver>> = Vec::new();
        for hit in queued {
            let member = receiver(hit);
            match queues.last_mut() {
                Some(group)
                    if group
                        .first()
                        .is_some_and(|first| first.subscription.queue() == member.subscription.queue()) =>
                {
                    group.push(member);
                }
                _ => queues.push(vec![member]),
            }
        }
        let mut connections: Vec<Range<u32>> = Vec::new();
        let mut start = 0;
        for group in plain.chunk_by(|one, two| Arc::ptr_eq(one.connection(), two.connection())) {
            connections.push(start..start + group.len() as u32);
            start += group.len() as u32;
        }
        let queues: Box<[Box<[Receiver]>]> = queues.into_iter().map(Vec::into_boxed_slice).collect();
        let links = account.links();
        let imports = links.services.iter().filter_map(|import| {
            let target = import.subjects.target(subject)?.into_boxed_slice();
            Some(ImportLeg { import: import.clone(), target })
        });
        let service = |hit: Hit| ServiceLeg { subscription: hit.subscription, imported: hit.imported };
        Self {
            deals_runs: plain.is_empty() && matches!(&*queues, [group] if are_of_distinct_connections(group)),
            prefixes: prefixes.into_boxed_slice(),
            plain,
            connections: connections.into_boxed_slice(),
            queues,
            services: services.into_iter().map(service).collect(),
            imports: imports.collect(),
            ..Self::empty(account, subject, stamp)
        }
    }

    /// The number of the account within the server.
    pub fn account(&self) -> u32 {
        self.account
    }

    /// The subject that it is a route for.
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// What messages on it are called once the account's mappings are through.
    pub fn mapped_subject(&self) -> &[u8] {
        self.mapped.as_deref().unwrap_or(&self.subject)
    }

    /// The mapping that picks another route per message, if there is one.
    pub(crate) fn picks(&self) -> Option<&Arc<Mapping>> {
        self.picks.as_ref()
    }

    /// Whether the interest has not changed for this subject since the route was built.
    #[inline]
    pub fn is_current(&self, stamps: &Stamps) -> bool {
        stamps.is_current(&self.stamp)
    }

    /// Subscriptions the route leads to, queue groups counted by their members.
    pub fn receivers(&self) -> usize {
        self.plain.len() + self.queues.iter().map(|group| group.len()).sum::<usize>() + self.services.len()
    }

    /// Bytes it takes, its place in a table included.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + 48
            + self.subject.len()
            + self.prefixes.len()
            + self.mapped.as_ref().map_or(0, |mapped| mapped.len())
            + self.receivers() * size_of::<Receiver>()
            + self.imports.iter().map(|leg| size_of::<ImportLeg>() + leg.target.len()).sum::<usize>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.queues.is_empty() && self.services.is_empty() && self.imports.is_empty()
    }

    /// Receivers of every message, by connection.
    pub(crate) fn plain_by_connection(&self) -> impl Iterator<Item = &[Receiver]> {
        self.connections.iter().map(|range| &self.plain[range.start as usize..range.end as usize])
    }

    /// Services within the server.
    pub(crate) fn services(&self) -> &[ServiceLeg] {
        &self.services
    }

    /// Services of other accounts.
    pub(crate) fn imports(&self) -> &[ImportLeg] {
        &self.imports
    }

    /// Members of each queue group.
    pub(crate) fn queues(&self) -> &[Box<[Receiver]>] {
        &self.queues
    }

    /// See [`Route::deals_runs`].
    pub(crate) fn deals_runs(&self) -> bool {
        self.deals_runs
    }

    /// The only receiver there is, if that is a subscription of the account itself.
    pub(crate) fn only_receiver(&self) -> Option<&Receiver> {
        let nothing_else = self.queues.is_empty()
            && self.services.is_empty()
            && self.imports.is_empty()
            && self.picks.is_none()
            && self.mapped.is_none();
        match &*self.plain {
            [only] if nothing_else && only.import.is_none() => Some(only),
            _ => None,
        }
    }

    /// How many connections get every message.
    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// The start of the receiver's line, `MSG <subject> <sid> `.
    #[inline]
    pub(crate) fn prefix(&self, receiver: &Receiver) -> &[u8] {
        &self.prefixes[receiver.prefix.start as usize + 1..receiver.prefix.end as usize]
    }

    /// What the message is called for the receiver.
    pub(crate) fn shown(&self, receiver: &Receiver) -> &[u8] {
        self.prefix(receiver).split(|byte| *byte == b' ').nth(1).unwrap_or_default()
    }

    /// The same for a message with headers, `HMSG <subject> <sid> `.
    #[inline]
    pub(crate) fn header_prefix(&self, receiver: &Receiver) -> &[u8] {
        &self.prefixes[receiver.prefix.start as usize..receiver.prefix.end as usize]
    }
}

fn are_of_distinct_connections(receivers: &[Receiver]) -> bool {
    let mut ids: Vec<u64> = receivers.iter().map(|receiver| receiver.connection().id()).collect();
    ids.sort_unstable();
    ids.windows(2).all(|pair| pair[0] != pair[1])
}

impl Receiver {
    /// The import that its messages come through, if they are of another account.
    pub(crate) fn import(&self) -> Option<&Arc<StreamImport>> {
        self.import.as_ref()
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        self.subscription.connection()
    }
}

/// The routes that one thread has used lately. Bounded by bytes: when the younger half is full, the older half
/// is forgotten and the younger becomes the older.
#[derive(Debug)]
pub struct RouteCache {
    young: HashTable<Arc<Route>>,
    old: HashTable<Arc<Route>>,
    /// Bytes of the younger half.
    young_bytes: usize,
    /// Bytes of the older half.
    old_bytes: usize,
    hasher: FixedState,
}

impl RouteCache {
    /// An empty cache. The seed keeps outsiders from choosing collisions.
    pub fn new(seed: u64) -> Self {
        Self {
            young: HashTable::new(),
            old: HashTable::new(),
            young_bytes: 0,
            old_bytes: 0,
            hasher: FixedState::with_seed(seed),
        }
    }

    /// Routes held.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the routes held.
    pub fn bytes(&self) -> usize {
        self.young_bytes + self.old_bytes
    }

    /// The routes held, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.young.iter().chain(&self.old).map(|route| &**route)
    }

    /// The current route for a subject, and whether it was cached.
    pub fn find(
        &mut self,
        stamps: &Stamps,
        account: &Account,
        subject: &[u8],
        naming: Naming,
    ) -> (Arc<Route>, bool) {
        // An account without mappings has one route for both.
        let naming = if account.has_mappings() { naming } else { Naming::AsIs };
        let hash = hash_of(&self.hasher, account.id(), subject);
        let same = |route: &Arc<Route>| {
            route.account == account.id() && *route.subject == *subject && route.naming == naming
        };
        if let Some(route) = self.young.find_mut(hash, same) {
            if route.is_current(stamps) {
                return (route.clone(), true);
            }
            let fresh = Arc::new(Route::build(stamps, account, subject, naming));
            self.young_bytes = self.young_bytes + fresh.bytes() - route.bytes();
            *route = fresh.clone();
            return (fresh, false);
        }
        let old = self.old.find_entry(hash, same).ok().map(|entry| entry.remove().0);
        self.old_bytes -= old.as_ref().map_or(0, |route| route.bytes());
        let (route, cached) = match old {
            Some(route) if route.is_current(stamps) => (route, true),
            _ => (Arc::new(Route::build(stamps, account, subject, naming)), false),
        };
        self.young_bytes += route.bytes();
        if self.young_bytes > CACHE_BYTES_MAX && !self.young.is_empty() {
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = self.young_bytes - route.bytes();
            self.young_bytes = route.bytes();
        }
        let hasher = &self.hasher;
        self.young.insert_unique(hash, route.clone(), |route| hash_of(hasher, route.account, &route.subject));
        (route, cached)
    }

    /// Forgets everything, so that routes keep no closed connections alive.
    pub fn clear(&mut self) {
        self.young = HashTable::new();
        self.old = HashTable::new();
        self.young_bytes = 0;
        self.old_bytes = 0;
    }
}

fn hash_of(hasher: &FixedState, account: u32, subject: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    account.hash(&mut state);
    state.write(subject);
    state.finish()
}

#[cfg(test)]
mod tests {
    use std::io::{self, IoSlice};

    use super::*;
    use crate::account::Accounts;
    use crate::pool::BufferPool;

    struct Nowhere;

    impl crate::connection::Port for Nowhere {
        fn try_write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn wake(&self) {}
    }

    /// Through inserting, forgetting the older half, coming back from it and being rebuilt.
    #[test]
    fn bytes_are_those_of_the_routes_held() {
        let stamps = Stamps::new(7);
        let account = Accounts::new(7).find_or_create("A", 0);
        let connection = Connection::new(1, None, 0, 1024, Arc::<BufferPool>::default(), Box::new(Nowhere));
        let subscribe = |filter: &[u8]| {
            account.interest.insert(Arc::new(Subscription::new(
                connection.clone(),
                filter,
                None,
                b"1",
                None,
            )));
            stamps.touch(account.id(), filter);
        };
        let mut cache = RouteCache::new(7);
        for round in 0..4 {
            subscribe(b"a.*");
            subscribe(b"a.7");
            for subject in (0..CACHE_BYTES_MAX / 1000 * (1 + round)).map(|number| format!("a.{number}")) {
                let (route, _) = cache.find(&stamps, &account, subject.as_bytes(), Naming::AsIs);
                assert_eq!(route.receivers(), (1 + round) * if subject == "a.7" { 2 } else { 1 });
            }
            assert_eq!(cache.bytes(), cache.iter().map(Route::bytes).sum::<usize>());
            assert!(cache.bytes() <= 2 * CACHE_BYTES_MAX);
            assert_eq!(cache.len(), cache.iter().count());
        }
        cache.clear();
        assert_eq!((cache.bytes(), cache.len()), (0, 0));
    }
}
