//! The workers of a server: as many as threads serve connections at the same time.

use parking_lot::Mutex;
use rand::Rng;
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
    idle: Mutex<Vec<Box<Bench>>>,
}

impl Workers {
    /// Lends a worker for the time of `use_it`.
    pub(crate) fn with<T>(&self, use_it: impl FnOnce(&mut Bench) -> T) -> T {
        let idle = self.idle.lock().pop();
        let mut bench = idle.unwrap_or_else(|| {
            Box::new(Bench {
                worker: Worker::new(rand::rng().next_u64()),
                input: vec![0; READ_BYTES].into_boxed_slice(),
                encrypted: Box::default(),
            })
        });
        let result = use_it(&mut bench);
        self.idle.lock().push(bench);
        result
    }

    /// Cached routes of the workers that are idle.
    pub(crate) fn cached_routes(&self) -> usize {
        self.idle.lock().iter().map(|bench| bench.worker.cached_routes()).sum()
    }

    /// Bytes of read buffers of the workers that are idle.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.idle.lock().iter().map(|bench| bench.input.len() + bench.encrypted.len()).sum()
    }

    /// Forgets cached routes, so that they keep nothing of closed connections alive.
    pub(crate) fn clear_routes(&self) {
        self.idle.lock().iter_mut().for_each(|bench| bench.worker.clear_routes());
    }
}
