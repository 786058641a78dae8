//! The server's own connections, by which it publishes: they have no socket.

use std::io;
use std::sync::Arc;

use sonata_broker::connection::{Connection, Port};
use sonata_broker::shared::Shared;

use crate::clock::Clock;

/// A connection of the server itself.
pub(crate) fn own_connection(shared: &Shared, clock: Clock) -> Arc<Connection> {
    Connection::new(0, None, clock.now_ns(), usize::MAX, shared.pool.clone(), Box::new(Nowhere))
}

/// Takes everything and keeps nothing.
struct Nowhere;

impl Port for Nowhere {
    fn try_write(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}
