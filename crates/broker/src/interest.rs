//! Who in an account wants to hear what.
//!
//! Subscriptions to literal subjects, nearly all of them in practice, stand in hash tables and cost little more than
//! themselves; only filters with wildcards stand in a trie. Both are read under read locks, and only when no cached
//! [route](crate::route) answers, so that subscribing and unsubscribing do not stop publishers.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::RwLock;
use sonata_subject::{has_wildcard, matches, tokens};

use crate::subscription::Subscription;
use crate::trie::{Node, add_to, remove_from};

/// Tables for literal subjects. Several, so that a table that must grow holds up few.
const SHARDS: usize = 16;

/// The subscriptions of one account.
#[derive(Debug)]
pub struct Interest {
    literals: [RwLock<HashTable<Members>>; SHARDS],
    wildcards: RwLock<Node>,
    hasher: FixedState,
    literal_count: AtomicUsize,
    wildcard_count: AtomicUsize,
    /// Those of both that are services of the server itself: literal ones, and ones with wildcards.
    service_counts: [AtomicUsize; 2],
    inserts: AtomicU64,
    removes: AtomicU64,
    searches: AtomicU64,
    watches: RwLock<Watches>,
    watch_count: AtomicUsize,
}

/// Who wants to be told when interest in a subject may have changed.
#[derive(Default)]
struct Watches(hashbrown::HashMap<Box<[u8]>, Watchers, FixedState>);

type Watchers = Vec<(u64, Arc<dyn Watch>)>;

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").field("subjects", &self.0.len()).finish()
    }
}

/// One who wants to know of interest in a subject.
pub trait Watch: Send + Sync {
    /// Somebody has subscribed to, or unsubscribed from, something that matches the subject. Called on the thread of that
    /// client: it must not block.
    fn changed(&self);
}

/// Subscriptions to one subject. One is the common case and costs no list.
#[derive(Debug)]
#[allow(clippy::box_collection, reason = "a bare Vec would make the common case a third larger")]
enum Members {
    One(Arc<Subscription>),
    Many(Box<Vec<Arc<Subscription>>>),
}

/// The answer to a search.
#[derive(Debug, Default)]
pub struct Matches {
    /// Subscriptions that get every message.
    pub plain: Vec<Arc<Subscription>>,
    /// Members of queue groups, in no order.
    pub queued: Vec<Arc<Subscription>>,
}

/// Sizes and counts since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct InterestCounts {
    /// Subscriptions to literal subjects.
    pub literals: usize,
    /// Subscriptions with wildcards.
    pub wildcards: usize,
    /// Subscriptions of the server's own services, which none of the others counts.
    pub services: usize,
    /// Subscriptions made.
    pub inserts: u64,
    /// Subscriptions removed.
    pub removes: u64,
    /// Searches, which is what no cached route answered.
    pub searches: u64,
}

impl Interest {
    /// No interest. The seed keeps outsiders from choosing collisions.
    pub fn new(seed: u64) -> Self {
        Self {
            literals: std::array::from_fn(|_| RwLock::new(HashTable::new())),
            wildcards: RwLock::new(Node::default()),
            hasher: FixedState::with_seed(seed),
            literal_count: AtomicUsize::new(0),
            wildcard_count: AtomicUsize::new(0),
            service_counts: Default::default(),
            inserts: AtomicU64::new(0),
            removes: AtomicU64::new(0),
            searches: AtomicU64::new(0),
            watches: RwLock::default(),
            watch_count: AtomicUsize::new(0),
        }
    }

    /// Tells `watch` when interest in the literal `subject` may have changed, until [`Interest::unwatch`] with the same
    /// key.
    pub fn watch(&self, subject: &[u8], key: u64, watch: Arc<dyn Watch>) {
        self.watches.write().0.entry(subject.into()).or_default().push((key, watch));
        self.watch_count.fetch_add(1, Ordering::Release);
    }

    /// Ends what [`Interest::watch`] began.
    pub fn unwatch(&self, subject: &[u8], key: u64) {
        let mut watches = self.watches.write();
        let Some(list) = watches.0.get_mut(subject) else { return };
        let before = list.len();
        list.retain(|(listed, _)| *listed != key);
        self.watch_count.fetch_sub(before - list.len(), Ordering::Release);
        if list.is_empty() {
            watches.0.remove(subject);
        }
    }

    /// Whether anybody would get a message on the literal `subject`.
    pub fn has_interest(&self, subject: &[u8]) -> bool {
        let mut matches = Matches::default();
        self.collect(subject, &mut matches);
        !matches.plain.is_empty() || !matches.queued.is_empty()
    }

    /// Whether a member of the queue group would get a message on the literal `subject`; with an empty group, somebody who
    /// is in none.
    pub fn has_group_interest(&self, subject: &[u8], group: &[u8]) -> bool {
        let mut matches = Matches::default();
        self.collect(subject, &mut matches);
        match group {
            b"" => !matches.plain.is_empty(),
            group => matches.queued.iter().any(|member| member.queue() == Some(group)),
        }
    }

    fn notify(&self, filter: &[u8]) {
        if self.watch_count.load(Ordering::Acquire) == 0 {
            return;
        }
        let watches = self.watches.read();
        if has_wildcard(filter) {
            let hit = watches.0.iter().filter(|(subject, _)| matches(filter, subject));
            hit.flat_map(|(_, list)| list).for_each(|(_, watch)| watch.changed());
        } else if let Some(list) = watches.0.get(filter) {
            list.iter().for_each(|(_, watch)| watch.changed());
        }
    }

    /// Adds a subscription. Its subject must be valid.
    pub fn insert(&self, subscription: Arc<Subscription>) {
        if let Some(services) = self.service_count(&subscription) {
            services.fetch_add(1, Ordering::Relaxed);
        } else {
            self.inserts.fetch_add(1, Ordering::Relaxed);
        }
        self.insert_silently(subscription.clone());
        self.notify(subscription.subject());
    }

    /// Where a subscription is counted if it is a service's.
    fn service_count(&self, subscription: &Subscription) -> Option<&AtomicUsize> {
        let kind = usize::from(has_wildcard(subscription.subject()));
        subscription.service().map(|_| &self.service_counts[kind])
    }

    fn insert_silently(&self, subscription: Arc<Subscription>) {
        if has_wildcard(subscription.subject()) {
            self.wildcard_count.fetch_add(1, Ordering::Relaxed);
            self.wildcards.write().insert(tokens(subscription.clone().subject()), subscription);
            return;
        }
        self.literal_count.fetch_add(1, Ordering::Relaxed);
        let hash = self.hasher.hash_one(subscription.subject());
        let mut table = self.literals[shard(hash)].write();
        let same = |members: &Members| members.subject() == subscription.subject();
        match table.entry(hash, same, |members| self.hasher.hash_one(members.subject())) {
            Entry::Occupied(mut entry) => entry.get_mut().push(subscription),
            Entry::Vacant(entry) => {
                entry.insert(Members::One(subscription));
            }
        }
    }

    /// Removes a subscription; false when it is not there.
    pub fn remove(&self, subscription: &Arc<Subscription>) -> bool {
        let removed = if has_wildcard(subscription.subject()) {
            let removed = self.wildcards.write().remove(tokens(subscription.subject()), subscription);
            self.wildcard_count.fetch_sub(usize::from(removed), Ordering::Relaxed);
            removed
        } else {
            let removed = self.remove_literal(subscription);
            self.literal_count.fetch_sub(usize::from(removed), Ordering::Relaxed);
            removed
        };
        if removed {
            if let Some(services) = self.service_count(subscription) {
                services.fetch_sub(1, Ordering::Relaxed);
            } else {
                self.removes.fetch_add(1, Ordering::Relaxed);
            }
            self.notify(subscription.subject());
        }
        removed
    }

    fn remove_literal(&self, subscription: &Arc<Subscription>) -> bool {
        let hash = self.hasher.hash_one(subscription.subject());
        let mut table = self.literals[shard(hash)].write();
        let same = |members: &Members| members.subject() == subscription.subject();
        let Ok(mut entry) = table.find_entry(hash, same) else { return false };
        let (removed, empty) = match entry.get_mut() {
            Members::One(one) => (Arc::ptr_eq(one, subscription), Arc::ptr_eq(one, subscription)),
            Members::Many(many) => (remove_from(many, subscription), many.is_empty()),
        };
        if empty {
            entry.remove();
            if table.len() * 8 < table.capacity() {
                table.shrink_to(0, |members| self.hasher.hash_one(members.subject()));
            }
        }
        removed
    }

    /// Adds every subscription that matches `subject` to `matches`.
    pub fn collect(&self, subject: &[u8], matches: &mut Matches) {
        self.collect_literals(subject, matches);
        self.collect_wildcards(subject, matches);
    }

    /// Adds the subscriptions to exactly this subject; whether there are some.
    pub(crate) fn collect_literals(&self, subject: &[u8], matches: &mut Matches) -> bool {
        self.searches.fetch_add(1, Ordering::Relaxed);
        self.find_literal(subject, |members| match members {
            Some(Members::One(one)) => matches.push(one),
            Some(Members::Many(many)) => many.iter().for_each(|subscription| matches.push(subscription)),
            None => {}
        })
    }

    /// Whether there is a subscription to exactly this subject.
    pub(crate) fn has_literal(&self, subject: &[u8]) -> bool {
        self.find_literal(subject, |_| {})
    }

    fn find_literal(&self, subject: &[u8], look: impl FnOnce(Option<&Members>)) -> bool {
        let hash = self.hasher.hash_one(subject);
        let table = self.literals[shard(hash)].read();
        let members = table.find(hash, |members| members.subject() == subject);
        look(members);
        members.is_some()
    }

    /// Adds the subscriptions that match by wildcards. Returns how many of the subject's tokens it takes to tell: others
    /// that begin with the same ones and have as many tokens, none of them empty, have the same subscriptions.
    pub(crate) fn collect_wildcards(&self, subject: &[u8], matches: &mut Matches) -> usize {
        if self.wildcard_count.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        // A subject with an empty token (`a.`, `a..b`) reaches nobody, not even `>`.
        if tokens(subject).any(<[u8]>::is_empty) {
            return usize::MAX;
        }
        self.wildcards.read().collect(tokens(subject), matches)
    }

    /// Shows every subscription, for monitoring. Holds one read lock at a time.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<Subscription>)) {
        for table in &self.literals {
            for members in table.read().iter() {
                match members {
                    Members::One(one) => visit(one),
                    Members::Many(many) => many.iter().for_each(&mut visit),
                }
            }
        }
        self.wildcards.read().for_each(&mut visit);
    }

    /// Sizes and counts.
    pub fn counts(&self) -> InterestCounts {
        let [service_literals, service_wildcards] =
            [0, 1].map(|kind: usize| self.service_counts[kind].load(Ordering::Relaxed));
        InterestCounts {
            literals: self.literal_count.load(Ordering::Relaxed).saturating_sub(service_literals),
            wildcards: self.wildcard_count.load(Ordering::Relaxed).saturating_sub(service_wildcards),
            services: service_literals + service_wildcards,
            inserts: self.inserts.load(Ordering::Relaxed),
            removes: self.removes.load(Ordering::Relaxed),
            searches: self.searches.load(Ordering::Relaxed),
        }
    }
}

fn shard(hash: u64) -> usize {
    // The table itself uses the top and bottom bits.
    (hash >> 32) as usize % SHARDS
}

impl Members {
    fn subject(&self) -> &[u8] {
        match self {
            Self::One(one) => one.subject(),
            Self::Many(many) => many.first().map_or(b"", |first| first.subject()),
        }
    }

    fn push(&mut self, subscription: Arc<Subscription>) {
        match self {
            Self::One(one) => {
                let mut many = Vec::with_capacity(2);
                add_to(&mut many, one.clone());
                add_to(&mut many, subscription);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => add_to(many, subscription),
        }
    }
}

impl Matches {
    /// Forgets them.
    pub(crate) fn clear(&mut self) {
        self.plain.clear();
        self.queued.clear();
    }

    pub(crate) fn push(&mut self, subscription: &Arc<Subscription>) {
        if subscription.queue().is_some() {
            self.queued.push(subscription.clone());
        } else {
            self.plain.push(subscription.clone());
        }
    }
}
