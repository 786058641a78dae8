//! How many batches may be open in the whole server at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
