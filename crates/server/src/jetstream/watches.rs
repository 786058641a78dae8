//! Deliver subjects: streams are told when somebody begins or ceases to listen.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sonata_broker::interest::{Interest, Watch};
use sonata_jetstream::stream::{Stream, Watched};

use super::{Handle, Home, Itself, JetStream};

/// What every stream watches, by lane.
#[derive(Default)]
pub(super) struct Watches(Mutex<HashMap<u64, Watched>>);

impl Watches {
    /// The stream watches these subjects and no others, unless it has said something later: two threads may come here in
    /// another order than they were told. Once a stream `is_gone` it watches nothing any more.
    fn replace(
        &self,
        lane: u64,
        watched: Watched,
        interest: &Interest,
        watch: &Arc<dyn Watch>,
        is_gone: impl FnOnce() -> bool,
    ) {
        // Held until the interest is set, so that this is in one order, too.
        let mut all = self.0.lock();
        let before = all.entry(lane).or_default();
        if before.number > watched.number {
            return;
        }
        let old = std::mem::replace(before, watched);
        let is_gone = is_gone();
        if is_gone {
            before.subjects.clear();
        }
        for subject in old.subjects.iter().filter(|subject| !before.subjects.contains(subject)) {
            interest.unwatch(subject.as_bytes(), lane);
        }
        for subject in before.subjects.iter().filter(|subject| !old.subjects.contains(subject)) {
            interest.watch(subject.as_bytes(), lane, watch.clone());
        }
        if is_gone {
            all.remove(&lane);
        }
    }

    /// What the stream watched, which it does no more.
    pub(super) fn take(&self, lane: u64) -> Vec<String> {
        self.0.lock().remove(&lane).unwrap_or_default().subjects
    }
}

impl JetStream {
    /// See [`Watches::replace`].
    pub(super) fn watch(&self, stream: &Arc<Stream>, home: &Arc<Home>, watched: Watched) {
        let handle = Arc::new(Handle { stream: stream.clone(), home: home.clone() });
        let watch: Arc<dyn Watch> = Arc::new(DeliverWatch { jetstream: self.itself.clone(), handle });
        let is_gone = || stream.is_deleted();
        self.watches.replace(stream.lane, watched, &home.broker.interest, &watch, is_gone);
    }
}

/// Somebody begins or ceases to listen on a deliver subject.
struct DeliverWatch {
    jetstream: Arc<Itself>,
    handle: Arc<Handle>,
}

impl Watch for DeliverWatch {
    fn changed(&self) {
        self.handle.stream.ask_review();
        if let Some(jetstream) = &*self.jetstream.load()
            && self.handle.stream.ask_turn()
        {
            jetstream.turns.push(self.handle.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use sonata_broker::connection::{Connection, Port};
    use sonata_broker::pool::BufferPool;
    use sonata_broker::subscription::Subscription;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Watch for Counted {
        fn changed(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Port for Counted {
        fn try_write(&self, _slices: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
            Ok(0)
        }

        fn wake(&self) {}
    }

    /// How often it is told when somebody comes to listen on the subject.
    fn told(interest: &Interest, counted: &Counted, subject: &str) -> usize {
        let port = Box::new(Counted::default());
        let connection = Connection::new(1, None, 0, 1 << 20, Arc::new(BufferPool::default()), port);
        let before = counted.0.load(Ordering::Relaxed);
        interest.insert(Arc::new(Subscription::new(connection, subject.as_bytes(), None, b"1", None)));
        counted.0.load(Ordering::Relaxed) - before
    }

    fn watched(number: u64, subjects: &[&str]) -> Watched {
        Watched { number, subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect() }
    }

    /// A consumer got another deliver subject while its stream was told of the first one by another thread: the stream heard
    /// of nobody who came to the second, and delivered nothing.
    #[test]
    fn what_was_said_later_counts() {
        let (watches, interest) = (Watches::default(), Interest::new(1));
        let counted = Arc::new(Counted::default());
        let watch: Arc<dyn Watch> = counted.clone();
        let replace = |watched, is_gone: bool| watches.replace(7, watched, &interest, &watch, || is_gone);
        replace(watched(2, &["second"]), false);
        replace(watched(1, &["first"]), false);
        assert_eq!(told(&interest, &counted, "first"), 0);
        assert_eq!(told(&interest, &counted, "second"), 1);
        replace(watched(3, &["second", "third"]), false);
        assert_eq!(told(&interest, &counted, "second"), 1);
        assert_eq!(told(&interest, &counted, "third"), 1);
        // The stream is gone, and one more thread comes late.
        replace(watched(u64::MAX, &[]), true);
        replace(watched(3, &["second"]), true);
        assert_eq!(told(&interest, &counted, "second"), 0);
    }
}
