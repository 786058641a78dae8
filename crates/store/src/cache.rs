//! What was read from the disk and may be asked for again, within a bound.

use std::collections::BTreeMap;
use std::hash::Hash;

use hashbrown::HashMap;

/// Values by key; the one unused for longest goes first when the bound is exceeded.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    entries: HashMap<K, Entry<V>, foldhash::fast::RandomState>,
    /// Keys by when they were last used.
    order: BTreeMap<u64, K>,
    clock: u64,
    bytes: u64,
    bytes_max: u64,
    /// The clock when the cache was last [cooled](Cache::cool).
    cooled: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: u64,
    used: u64,
}

impl<K: Copy + Eq + Hash, V> Cache<K, V> {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { entries: HashMap::default(), order: BTreeMap::new(), clock: 0, bytes: 0, bytes_max, cooled: 0 }
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.entries.contains_key(&key)
    }

    /// The value, without counting as a use.
    pub(crate) fn peek(&self, key: K) -> Option<&V> {
        self.entries.get(&key).map(|entry| &entry.value)
    }

    pub(crate) fn get(&mut self, key: K) -> Option<&mut V> {
        let entry = self.entries.get_mut(&key)?;
        // The newest stays where it is: a reader of one block asks for it many times.
        if entry.used != self.clock {
            self.order.remove(&entry.used);
            self.clock += 1;
            entry.used = self.clock;
            self.order.insert(entry.used, key);
        }
        Some(&mut entry.value)
    }

    /// Keeps a value. The newest always stays, even if it alone exceeds the bound: somebody is about to use it.
    pub(crate) fn insert(&mut self, key: K, value: V, bytes: u64) {
        self.remove(key);
        self.clock += 1;
        self.order.insert(self.clock, key);
        self.entries.insert(key, Entry { value, bytes, used: self.clock });
        self.bytes += bytes;
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            let Some((_, oldest)) = self.order.first_key_value() else { break };
            self.remove(*oldest);
        }
    }

    pub(crate) fn remove(&mut self, key: K) {
        if let Some(entry) = self.entries.remove(&key) {
            self.order.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }

    /// Empties the cache if nothing came, and nothing but the newest was used, since this was last called.
    pub(crate) fn cool(&mut self) {
        if self.clock == self.cooled {
            *self = Self { clock: self.clock, ..Self::new(self.bytes_max) };
        }
        self.cooled = self.clock;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes() {
        let mut cache = Cache::new(30);
        for key in 0..3 {
            cache.insert(key, key, 10);
        }
        cache.get(0);
        cache.insert(3, 3, 10);
        assert_eq!((0..4).map(|key| cache.contains(key)).collect::<Vec<_>>(), [true, false, true, true]);
        cache.insert(4, 4, 100);
        assert_eq!((cache.contains(4), cache.bytes()), (true, 100));
    }

    #[test]
    fn what_nobody_uses_is_let_go() {
        let mut cache = Cache::new(30);
        cache.insert(1, 1, 10);
        cache.insert(2, 2, 10);
        cache.cool();
        cache.get(1);
        cache.cool();
        assert_eq!((cache.bytes(), cache.contains(2)), (20, true));
        cache.cool();
        assert_eq!((cache.bytes(), cache.contains(2)), (0, false));
        cache.insert(2, 2, 10);
        cache.cool();
        assert_eq!(cache.get(2), Some(&mut 2));
    }
}
