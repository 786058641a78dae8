//! How many batches may be open in the whole server at a time, and what else holds for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::config::BatchLimits;

/// The batches of all streams of a server.
#[derive(Debug, Default)]
pub(crate) struct BatchRoom {
    pub(crate) atomic: Arc<Seats>,
    pub(crate) fast: Arc<Seats>,
    limits: RwLock<BatchLimits>,
}

impl BatchRoom {
    /// What holds now.
    pub(crate) fn limits(&self) -> BatchLimits {
        *self.limits.read()
    }

    /// What holds from now on; batches that are open stay.
    pub(crate) fn set_limits(&self, limits: BatchLimits) {
        *self.limits.write() = limits;
    }
}

/// Shared by all streams of a server.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    taken: AtomicUsize,
}

/// One open batch; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Seats>);

impl Seats {
    /// A seat, unless `most` are taken.
    pub(crate) fn take(self: &Arc<Self>, most: usize) -> Option<Seat> {
        let more = |taken: usize| (taken < most).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Seat(self.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_given_back() {
        let seats = Arc::new(Seats::default());
        let one = seats.take(1);
        assert!(one.is_some() && seats.take(1).is_none());
        drop(one);
        assert!(seats.take(1).is_some());
    }
}
