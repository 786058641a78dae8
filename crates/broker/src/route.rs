//! Where messages on one subject of one account go, ready to be used: receivers by connection, each with the
//! start of the line it gets.

use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::account::Account;
use crate::connection::Connection;
use crate::interest::Matches;
use crate::stamp::{Stamp, Stamps};
use crate::subscription::Subscription;

/// How many bytes of routes one half of a cache holds.
const CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A cached answer of an account's interest.
#[derive(Debug)]
pub struct Route {
    account: u32,
    subject: Box<[u8]>,
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
    services: Box<[Arc<Subscription>]>,
    /// Whether there is nothing but one queue group, each member of another connection: then a run may be dealt out
    /// member by member without changing the order that any connection sees.
    deals_runs: bool,
}

/// A subscription and the start of the line it gets.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) subscription: Arc<Subscription>,
    prefix: Range<u32>,
}

impl Route {
    /// Searches the account's interest.
    pub fn build(stamps: &Stamps, account: &Account, subject: &[u8]) -> Self {
        // Before the search: a change during it must make the route stale.
        let stamp = stamps.read(account.id(), subject);
        let mut matches = Matches::default();
        account.interest.collect(subject, &mut matches);
        matches.plain.retain(|subscription| subscription.may_receive(subject));
        matches.queued.retain(|subscription| subscription.may_receive(subject));
        let (services, plain): (Vec<_>, Vec<_>) =
            matches.plain.into_iter().partition(|subscription| subscription.service().is_some());
        matches.plain = plain;
        matches.plain.sort_by_key(|subscription| Arc::as_ptr(subscription.connection()) as usize);
        matches.queued.sort_by(|one, two| one.queue().cmp(&two.queue()));

        let mut prefixes = Vec::new();
        let mut receiver = |subscription: Arc<Subscription>| {
            let start = prefixes.len() as u32;
            for part in [b"HMSG ", subject, b" ", subscription.sid(), b" "] {
                prefixes.extend_from_slice(part);
            }
            Receiver { subscription, prefix: start..prefixes.len() as u32 }
        };
        let plain: Box<[Receiver]> = matches.plain.into_iter().map(&mut receiver).collect();
        let mut queues: Vec<Vec<Receiver>> = Vec::new();
        for subscription in matches.queued {
            let member = receiver(subscription);
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
        Self {
            account: account.id(),
            subject: subject.into(),
            stamp,
            deals_runs: plain.is_empty() && matches!(&*queues, [group] if are_of_distinct_connections(group)),
            prefixes: prefixes.into_boxed_slice(),
            plain,
            connections: connections.into_boxed_slice(),
            queues,
            services: services.into_boxed_slice(),
        }
    }

    /// The number of the account within the server.
    pub fn account(&self) -> u32 {
        self.account
    }

    /// The subject.
    pub fn subject(&self) -> &[u8] {
        &self.subject
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
            + self.receivers() * size_of::<Receiver>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.queues.is_empty() && self.services.is_empty()
    }

    /// Receivers of every message, by connection.
    pub(crate) fn plain_by_connection(&self) -> impl Iterator<Item = &[Receiver]> {
        self.connections.iter().map(|range| &self.plain[range.start as usize..range.end as usize])
    }

    /// Services within the server.
    pub(crate) fn services(&self) -> &[Arc<Subscription>] {
        &self.services
    }

    /// Members of each queue group.
    pub(crate) fn queues(&self) -> &[Box<[Receiver]>] {
        &self.queues
    }

    /// See [`Route::deals_runs`].
    pub(crate) fn deals_runs(&self) -> bool {
        self.deals_runs
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
    pub fn find(&mut self, stamps: &Stamps, account: &Account, subject: &[u8]) -> (Arc<Route>, bool) {
        let hash = self.hash(account.id(), subject);
        let same = |route: &Arc<Route>| route.account == account.id() && *route.subject == *subject;
        if let Some(route) = self.young.find_mut(hash, same) {
            if route.is_current(stamps) {
                return (route.clone(), true);
            }
            let fresh = Arc::new(Route::build(stamps, account, subject));
            self.young_bytes = self.young_bytes + fresh.bytes() - route.bytes();
            *route = fresh.clone();
            return (fresh, false);
        }
        let old = self.old.find_entry(hash, same).ok().map(|entry| entry.remove().0);
        self.old_bytes -= old.as_ref().map_or(0, |route| route.bytes());
        let (route, cached) = match old {
            Some(route) if route.is_current(stamps) => (route, true),
            _ => (Arc::new(Route::build(stamps, account, subject)), false),
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

    fn hash(&self, account: u32, subject: &[u8]) -> u64 {
        hash_of(&self.hasher, account, subject)
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
                let (route, _) = cache.find(&stamps, &account, subject.as_bytes());
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
