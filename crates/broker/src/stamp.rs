//! Keeping cached routes true without throwing them all away.
//!
//! A route depends on the subscriptions that match its subject. Every change of interest touches one counter: that
//! of the exact subject when the subscription is literal, otherwise that of the literal tokens the filter begins
//! with (two, one or none). A subject is affected by four counters at most, so a route remembers those four values
//! and is current while they stand. A client that subscribes to a fresh inbox per request touches a counter that
//! nearly nobody reads.
//!
//! Counters are shared by all accounts through hashing; a collision costs a needless rebuild, never a wrong route.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;
use sonata_subject::{has_wildcard, literal_prefix, tokens};

/// Number of counters; a power of two. 64 KiB of them, so that 1,000 hot prefixes rarely collide.
const COUNTERS: usize = 8192;

/// The counters of one server.
#[derive(Debug)]
pub struct Stamps {
    counters: Box<[AtomicU64]>,
    hasher: FixedState,
}

/// The values a route was built under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp([(u32, u64); 4]);

/// The same without that of the exact subject: it holds for the wildcards that match any subject with the same first two
/// tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WideStamp([(u32, u64); 3]);

/// A subject's first two tokens, or what it has of them.
pub(crate) fn first_two(subject: &[u8]) -> &[u8] {
    let mut parts = tokens(subject);
    let first = parts.next().unwrap_or_default();
    &subject[..first.len() + parts.next().map_or(0, |second| 1 + second.len())]
}

impl Stamps {
    /// New counters. The seed keeps outsiders from choosing collisions.
    pub fn new(seed: u64) -> Self {
        let counters = std::iter::repeat_with(AtomicU64::default).take(COUNTERS).collect();
        Self { counters, hasher: FixedState::with_seed(seed) }
    }

    /// The stamp for a route of `subject`. To be read *before* the interest is searched.
    pub fn read(&self, account: u32, subject: &[u8]) -> Stamp {
        let exact = self.value(self.slot(account, Level::Exact, subject));
        let [two, one, all] = self.read_wide(account, subject).0;
        Stamp([exact, two, one, all])
    }

    /// The stamp for the wildcards that match subjects with the first two tokens of this one. To be read *before* the
    /// interest is searched.
    pub(crate) fn read_wide(&self, account: u32, subject: &[u8]) -> WideStamp {
        let first = tokens(subject).next().unwrap_or_default();
        let slots = [
            self.slot(account, Level::Two, first_two(subject)),
            self.slot(account, Level::One, first),
            self.slot(account, Level::All, b""),
        ];
        WideStamp(slots.map(|slot| self.value(slot)))
    }

    fn value(&self, slot: usize) -> (u32, u64) {
        (slot as u32, self.counters[slot].load(Ordering::Acquire))
    }

    /// Whether no subscription that could match has come or gone since the stamp was read.
    #[inline]
    pub fn is_current(&self, stamp: &Stamp) -> bool {
        self.are_current(&stamp.0)
    }

    /// Whether no subscription with wildcards that could match has come or gone since the stamp was read.
    #[inline]
    pub(crate) fn is_wide_current(&self, stamp: &WideStamp) -> bool {
        self.are_current(&stamp.0)
    }

    #[inline]
    fn are_current(&self, values: &[(u32, u64)]) -> bool {
        values.iter().all(|(slot, value)| {
            self.counters.get(*slot as usize).is_some_and(|counter| counter.load(Ordering::Acquire) == *value)
        })
    }

    /// Marks the routes that `filter` can match as stale. To be called *after* the interest was changed.
    pub fn touch(&self, account: u32, filter: &[u8]) {
        let slot = if has_wildcard(filter) {
            let prefix = literal_prefix(filter);
            let mut parts = tokens(prefix);
            match (parts.next().unwrap_or_default(), parts.next()) {
                (first, Some(second)) => {
                    self.slot(account, Level::Two, &prefix[..first.len() + 1 + second.len()])
                }
                ([], None) => self.slot(account, Level::All, b""),
                (first, None) => self.slot(account, Level::One, first),
            }
        } else {
            self.slot(account, Level::Exact, filter)
        };
        self.counters[slot].fetch_add(1, Ordering::Release);
    }

    fn slot(&self, account: u32, level: Level, part: &[u8]) -> usize {
        let mut hasher = self.hasher.build_hasher();
        (account, level as u8).hash(&mut hasher);
        hasher.write(part);
        hasher.finish() as usize % COUNTERS
    }
}

#[derive(Clone, Copy)]
enum Level {
    Exact,
    Two,
    One,
    All,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sonata_subject::matches;

    use super::*;

    proptest! {
        /// The one thing that must never happen: a filter that matches comes and the stamp stays current.
        #[test]
        fn a_matching_change_is_always_noticed(
            filter in prop::collection::vec(prop_oneof!["a", "b", Just("*".to_string())], 1..4),
            tail in any::<bool>(),
            subject in prop::collection::vec("[ab]", 1..5),
        ) {
            let mut filter = filter.join(".");
            if tail { filter.push_str(".>"); }
            let subject = subject.join(".");
            let stamps = Stamps::new(7);
            let stamp = stamps.read(1, subject.as_bytes());
            stamps.touch(1, filter.as_bytes());
            if matches(filter.as_bytes(), subject.as_bytes()) {
                prop_assert!(!stamps.is_current(&stamp));
            }
        }
    }

    #[test]
    fn a_fresh_inbox_leaves_other_routes_alone() {
        let stamps = Stamps::new(7);
        let stamp = stamps.read(1, b"orders.new");
        let tail = stamps.read(1, b"_INBOX.abc.1");
        for number in 0..100 {
            stamps.touch(1, format!("_INBOX.x{number}.*").as_bytes());
        }
        stamps.touch(2, b">");
        assert!(stamps.is_current(&stamp));
        assert!(stamps.is_current(&tail));
        stamps.touch(1, b">");
        assert!(!stamps.is_current(&stamp));
    }
}
