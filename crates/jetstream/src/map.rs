//! Hash tables of this crate: seeded, so that outsiders cannot choose collisions.

/// A hash table.
pub(crate) type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;
