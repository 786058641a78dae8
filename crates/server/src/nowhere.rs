//! Where the server's own connections write to: they have no socket.

use std::io;

use sonata_broker::connection::Port;

/// Takes everything and keeps nothing.
pub(crate) struct Nowhere;

impl Port for Nowhere {
    fn try_write(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}
