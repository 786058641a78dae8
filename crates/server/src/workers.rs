//! The workers of a server: as many as threads serve connections at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rand::Rng;
use sonata_broker::route::Route;
use sonata_broker::worker::Worker;

/// Bytes that one read takes at most. Larger reads make fewer system calls and larger writes (measured: 256 KiB
/// against 64 KiB saves 10–36 % of CPU); beyond this, fan-out outgrows the processor's caches.
pub(crate) const READ_BYTES: usize = 256 * 1024;

/// A worker with the buffer that its thread reads into.
pub(crate) struct Bench {
    pub(crate) worker: Worker,
    pub(crate) input: Box<[u8]>,
    /// Encrypted input; empty until a connection with TLS comes by.
    pub(crate) encrypted: Box<[u8]>,
}

/// A stack, so that a thread gets back what is warm. Belongs to the server, not to the thread: several servers may
/// share a runtime, and each has its own routes.
#[derive(Default)]
pub(crate) struct Workers {
    idle: Mutex<Vec<(Box<Bench>, Arc<Sizes>)>>,
    /// Of all workers, those at work as well.
    sizes: Mutex<Vec<Weak<Sizes>>>,
}

/// How large a worker was when it was last idle.
#[derive(Default)]
struct Sizes {
    routes: AtomicUsize,
    route_bytes: AtomicUsize,
    buffer_bytes: AtomicUsize,
}

/// How large all workers together are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerSizes {
    /// Cached routes.
    pub(crate) routes: usize,
    /// Their bytes.
    pub(crate) route_bytes: usize,
    /// Bytes of read buffers.
    pub(crate) buffer_bytes: usize,
}

impl Workers {
    /// Lends a worker for the time of `use_it`.
    pub(crate) fn with<T>(&self, use_it: impl FnOnce(&mut Bench) -> T) -> T {
        let idle = self.idle.lock().pop();
        let (mut bench, sizes) = idle.unwrap_or_else(|| self.hire());
        let result = use_it(&mut bench);
        sizes.update(&bench);
        self.idle.lock().push((bench, sizes));
        result
    }

    fn hire(&self) -> (Box<Bench>, Arc<Sizes>) {
        let bench = Box::new(Bench {
            worker: Worker::new(rand::rng().next_u64()),
            input: vec![0; READ_BYTES].into_boxed_slice(),
            encrypted: Box::default(),
        });
        let sizes = Arc::default();
        let mut all = self.sizes.lock();
        // A worker that was lost to a panic is forgotten here.
        all.retain(|sizes| sizes.strong_count() > 0);
        all.push(Arc::downgrade(&sizes));
        (bench, sizes)
    }

    /// How large all workers together are, or were before what they are doing now.
    pub(crate) fn sizes(&self) -> WorkerSizes {
        let mut sum = WorkerSizes::default();
        for sizes in self.sizes.lock().iter().filter_map(Weak::upgrade) {
            sum.routes += sizes.routes.load(Ordering::Relaxed);
            sum.route_bytes += sizes.route_bytes.load(Ordering::Relaxed);
            sum.buffer_bytes += sizes.buffer_bytes.load(Ordering::Relaxed);
        }
        sum
    }

    /// Shows the cached routes of the workers that are idle. Nobody gets a worker meanwhile, so `visit` must be short.
    pub(crate) fn visit_idle_routes(&self, mut visit: impl FnMut(&Route)) {
        for (bench, _) in self.idle.lock().iter() {
            bench.worker.routes().for_each(&mut visit);
        }
    }

    /// Forgets cached routes, so that they keep nothing of closed connections alive.
    pub(crate) fn clear_routes(&self) {
        for (bench, sizes) in self.idle.lock().iter_mut() {
            bench.worker.clear_routes();
            sizes.update(bench);
        }
    }
}

impl Sizes {
    fn update(&self, bench: &Bench) {
        self.routes.store(bench.worker.cached_routes(), Ordering::Relaxed);
        self.route_bytes.store(bench.worker.cached_bytes(), Ordering::Relaxed);
        self.buffer_bytes.store(bench.input.len() + bench.encrypted.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_all_workers_even_while_they_work() {
        let workers = Workers::default();
        assert_eq!(workers.sizes(), WorkerSizes::default());
        workers.with(|_| workers.with(|bench| bench.encrypted = vec![0; 10].into()));
        let of_both = 2 * READ_BYTES + 10;
        assert_eq!(workers.sizes().buffer_bytes, of_both);
        workers.with(|_| assert_eq!(workers.sizes().buffer_bytes, of_both));
    }

    #[test]
    fn a_worker_that_is_lost_is_not_counted() {
        let workers = Workers::default();
        workers.with(|_| ());
        let lost =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| workers.with(|_| panic!("lost"))));
        assert!(lost.is_err());
        assert_eq!(workers.sizes().buffer_bytes, 0);
    }
}
