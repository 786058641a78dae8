//! The core of publish and subscribe, without sockets, tasks or clocks.
//!
//! Reading order: a [`subscription`] belongs to a [`connection`] and stands in the [`interest`] of an
//! [`account`]. A publish asks a [`route`] (a cached answer of the interest, kept true by [`stamp`]s) where to go
//! and appends to the [`outbound`] buffers of the receivers; buffers come from a [`pool`]. The [`client`] is the
//! state machine of one client connection: bytes and the hour go in, bytes for itself and others come out. What
//! all clients of a server share is in [`shared`].
//!
//! Who runs what: each connection's bytes are handed to its own [`client::Client`] by one thread at a time, together
//! with that thread's [`worker::Worker`]. After each batch the same thread writes out what it appended to others
//! ([`worker::Worker::flush`]); only what a socket does not take at once is left to the receiver's own task. There is
//! no channel and no wake-up per message.
//!
//! Locks, all short and never nested in one another: a connection's outbound buffer, its table of subscriptions, its
//! profile; an account's interest (per shard); the pool (per size).

pub mod account;
pub mod client;
pub mod close;
pub mod connection;
mod delivery;
mod denied;
pub mod importing;
pub mod interest;
pub mod latency;
pub mod links;
pub mod msgtrace;
pub mod outbound;
pub mod pool;
pub mod recall;
pub mod responses;
pub mod route;
pub mod service;
mod shadows;
pub mod shared;
pub mod stamp;
pub mod stats;
pub mod subscription;
mod trie;
pub mod worker;
