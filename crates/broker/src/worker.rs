//! What one thread uses while it serves connections, one after the other.

use std::sync::Arc;

use crate::connection::{Connection, Flushed};
use crate::msgtrace::Trace;
use crate::outbound::Writing;
use crate::recall::Recall;
use crate::route::{Route, RouteCache};
use crate::service::Outbox;
use crate::subscription::Subscription;

/// Bytes that one batch may append for others before its connection's turn ends, so that a wide fan-out does not
/// keep a thread for long.
pub(crate) const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Caches and scratch space of a thread. Holds nothing of a connection between batches but cached routes.
#[derive(Debug)]
pub struct Worker {
    pub(crate) routes: RouteCache,
    /// Connections that this batch appended to and has promised to flush.
    pub(crate) promised: Vec<Arc<Connection>>,
    /// Connections of this batch that are near their limit.
    pub(crate) stalling: Vec<Arc<Connection>>,
    /// Subscriptions that have had all their messages and are still to be removed.
    pub(crate) ended: Vec<Arc<Subscription>>,
    /// Text of operations that cannot be sent on as they came.
    pub(crate) scratch: Vec<u8>,
    pub(crate) spans: Vec<crate::delivery::Span>,
    /// Lists and scratch space for messages that lead to others while they are delivered.
    pub(crate) spare: Vec<(Vec<crate::delivery::Span>, Vec<u8>)>,
    /// What each member of a queue group gets of a run.
    pub(crate) hands: Vec<Vec<crate::delivery::Span>>,
    pub(crate) batch: Batch,
    /// One subscription of each service that this batch has called.
    pub(crate) services: Vec<Arc<Subscription>>,
    pub(crate) outbox: Outbox,
    /// The message that is being delivered tells what becomes of it.
    pub(crate) msgtrace: Option<Box<Trace>>,
    /// Whom subjects lead to that are used once.
    pub(crate) recall: Recall,
    /// The start of a line that no route has ready.
    pub(crate) line: Vec<u8>,
    writing: Writing,
    random: u64,
}

/// What one batch has done so far.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) in_messages: u64,
    pub(crate) in_bytes: u64,
    pub(crate) out_messages: u64,
    pub(crate) out_bytes: u64,
    pub(crate) route_hits: u64,
    pub(crate) route_misses: u64,
    /// Bytes appended for others.
    pub(crate) appended_bytes: usize,
}

impl Worker {
    /// A worker with empty caches. The seed feeds hashing and the choice of queue members.
    pub fn new(seed: u64) -> Self {
        Self {
            routes: RouteCache::new(seed),
            promised: Vec::new(),
            stalling: Vec::new(),
            ended: Vec::new(),
            scratch: Vec::new(),
            spans: Vec::new(),
            spare: Vec::new(),
            hands: Vec::new(),
            batch: Batch::default(),
            services: Vec::new(),
            outbox: Outbox::default(),
            msgtrace: None,
            recall: Recall::new(seed),
            line: Vec::new(),
            writing: Writing::default(),
            random: seed | 1,
        }
    }

    /// Ends the batch: writes out what it appended, one attempt per receiver; the rest is left to their own tasks.
    pub fn flush(&mut self, now_ns: u64) {
        self.outbox.holds_back = false;
        for connection in self.promised.drain(..) {
            if connection.flush(&mut self.writing, now_ns) == Flushed::More {
                connection.hand_over();
            }
        }
    }

    /// Connections that the batch appended to.
    pub fn receivers(&self) -> usize {
        self.promised.len()
    }

    /// A receiver that the connection of the last batch should wait for before it reads on, if any: the one nearest
    /// to its limit of those that were near it.
    ///
    /// Waiting for one slow receiver would make all others wait as well, so it is done only when a good part of the
    /// batch's receivers (a quarter) are slow; otherwise the slow ones are left to their limit.
    pub fn take_stalling(&mut self, receivers: usize) -> Option<Arc<Connection>> {
        let stalling = std::mem::take(&mut self.stalling);
        (stalling.len() * 4 >= receivers).then(|| stalling.into_iter().next()).flatten()
    }

    /// Whether a service of this batch [holds back](crate::service::Outbox::hold_back) its publisher.
    pub fn is_held_back(&self) -> bool {
        self.outbox.holds_back
    }

    /// How many receivers were near their limit so far, for [`Worker::forget_stalling`].
    pub fn stalling(&self) -> usize {
        self.stalling.len()
    }

    /// Forgets receivers that came near their limit since there were so many; true when there were some.
    pub fn forget_stalling(&mut self, before: usize) -> bool {
        let some = self.stalling.len() > before;
        self.stalling.truncate(before);
        some
    }

    /// Cached routes.
    pub fn cached_routes(&self) -> usize {
        self.routes.len()
    }

    /// Bytes of cached routes.
    pub fn cached_bytes(&self) -> usize {
        self.routes.bytes()
    }

    /// The cached routes, in no order.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// Forgets cached routes.
    pub fn clear_routes(&mut self) {
        self.routes.clear();
        self.recall.clear();
    }

    /// Where writers keep the pieces they hold.
    pub fn writing(&mut self) -> &mut Writing {
        &mut self.writing
    }

    /// A number below `bound`, good enough to spread load (xorshift).
    pub(crate) fn random_below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 32) as usize * bound) >> 32
    }
}
