//! Counters that are added to once per batch and read by monitoring.

use std::sync::atomic::{AtomicU64, Ordering};

/// Messages and bytes, both ways, and what went wrong.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Messages received from clients.
    pub in_messages: Counter,
    /// Their bytes, headers included.
    pub in_bytes: Counter,
    /// Messages delivered to clients.
    pub out_messages: Counter,
    /// Their bytes, headers included.
    pub out_bytes: Counter,
    /// Connections closed because they read too slowly.
    pub slow_consumers: Counter,
}

/// Counters of a whole server, beyond [`Traffic`].
#[derive(Debug, Default)]
pub struct ServerCounters {
    /// Connections closed because they answered no `PING`.
    pub stale_connections: Counter,
    /// Times that a producer was held back for a slow receiver, or for a stream whose disk does not keep pace.
    pub stalls: Counter,
    /// Publishes whose route was cached.
    pub route_hits: Counter,
    /// Publishes whose route had to be built.
    pub route_misses: Counter,
}

/// A number that only grows. Relaxed: it orders nothing.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, amount: u64) {
        if amount > 0 {
            self.0.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
