//! Whom subjects lead to that are used once: replies and acknowledgements.
//!
//! Each has tokens of its own, so that no route to it is worth remembering. But a client listens to all its replies with
//! one wildcard, and what the subject says where that wildcard stands changes nothing. So the answer to a search is kept
//! for all subjects that begin with the same tokens and have as many, if nobody asks for the others. What is left to be
//! looked at for each subject is whether somebody listens to it by its whole name.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use sonata_subject::tokens;

use crate::account::Account;
use crate::interest::Matches;
use crate::stamp::{Stamps, WideStamp};
use crate::subscription::Subscription;

/// Answers that are kept, by account and first two tokens.
const ENTRIES: usize = 256;

/// The answers one thread has used lately. Holds subscriptions until it is cleared or asked for others.
#[derive(Debug)]
pub struct Recall {
    /// As many as [`ENTRIES`], or none before the first search.
    entries: Vec<Option<Box<Entry>>>,
    /// The place of the one that was right last; it is most often right again.
    latest: usize,
    hasher: FixedState,
    /// The answer to a search that is not kept.
    matches: Matches,
}

#[derive(Debug)]
struct Entry {
    account: u32,
    /// What the subjects begin with: two tokens or more, and the dot behind them.
    prefix: Vec<u8>,
    /// How many tokens they have behind that.
    rest: usize,
    stamp: WideStamp,
    found: Option<Arc<Subscription>>,
}

/// Whom a subject leads to.
#[derive(Debug)]
pub enum Leads<'a> {
    /// Nobody listens.
    Nowhere,
    /// One subscription, which is in no queue group.
    To(&'a Arc<Subscription>),
    /// It is not as simple as that.
    Elsewhere,
}

impl Recall {
    /// Nothing is known yet. The seed keeps outsiders from choosing collisions.
    pub fn new(seed: u64) -> Self {
        Self {
            entries: Vec::new(),
            latest: 0,
            hasher: FixedState::with_seed(seed),
            matches: Matches::default(),
        }
    }

    /// Whom a literal subject leads to in the account.
    pub fn find(&mut self, stamps: &Stamps, account: &Account, subject: &[u8]) -> Leads<'_> {
        let holds = |slot: usize| {
            let entry = self.entries.get(slot).and_then(Option::as_ref);
            entry.is_some_and(|entry| entry.holds(stamps, account, subject))
        };
        let (slot, known) = match self.latest {
            latest if holds(latest) => (latest, true),
            _ => {
                let slot = self.slot(account.id(), subject);
                (slot, holds(slot))
            }
        };
        if !known || account.interest.has_literal(subject) {
            return self.search(slot, stamps, account, subject);
        }
        self.latest = slot;
        let entry = self.entries.get(slot).and_then(Option::as_ref);
        entry.and_then(|entry| entry.found.as_ref()).map_or(Leads::Nowhere, Leads::To)
    }

    fn search(&mut self, slot: usize, stamps: &Stamps, account: &Account, subject: &[u8]) -> Leads<'_> {
        // Before the search: a change during it must make the answer stale.
        let stamp = stamps.read_wide(account.id(), subject);
        self.matches.clear();
        let literals = account.interest.collect_literals(subject, &mut self.matches);
        let told_apart = account.interest.collect_wildcards(subject, &mut self.matches);
        let found = match (&self.matches.plain[..], &self.matches.queued[..]) {
            ([], []) => None,
            ([only], []) => Some(only),
            _ => return Leads::Elsewhere,
        };
        // Changes are noticed by the first two tokens.
        let kept = told_apart.max(2);
        let count = tokens(subject).count();
        if !literals && kept < count {
            self.entries.resize_with(ENTRIES, || None);
            let entry = self.entries[slot].get_or_insert_with(|| {
                Box::new(Entry { account: 0, prefix: Vec::new(), rest: 0, stamp: stamp.clone(), found: None })
            });
            let prefix: usize = tokens(subject).take(kept).map(|token| token.len() + 1).sum();
            entry.account = account.id();
            entry.prefix.clear();
            entry.prefix.extend_from_slice(&subject[..prefix]);
            entry.rest = count - kept;
            entry.stamp = stamp;
            entry.found = found.cloned();
        }
        found.map_or(Leads::Nowhere, Leads::To)
    }

    fn slot(&self, account: u32, subject: &[u8]) -> usize {
        let mut hasher = self.hasher.build_hasher();
        account.hash(&mut hasher);
        hasher.write(crate::stamp::first_two(subject));
        hasher.finish() as usize % ENTRIES
    }

    /// Forgets everything, so that no closed connection is kept alive.
    pub fn clear(&mut self) {
        self.entries = Vec::new();
        self.matches.clear();
    }
}

impl Entry {
    fn holds(&self, stamps: &Stamps, account: &Account, subject: &[u8]) -> bool {
        let rest = subject.strip_prefix(&*self.prefix).filter(|_| self.account == account.id());
        // One with an empty token reaches nobody.
        let is_alike = |rest| {
            let mut count = 0;
            tokens(rest).all(|token| {
                count += 1;
                !token.is_empty()
            }) && count == self.rest
        };
        rest.is_some_and(is_alike) && stamps.is_wide_current(&self.stamp)
    }
}
