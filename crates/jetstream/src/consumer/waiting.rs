//! Pull requests that wait for messages.

use std::collections::VecDeque;

use crate::config::PriorityPolicy;

/// A pull request that has been accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Where messages and statuses go.
    pub(crate) reply: Box<[u8]>,
    /// Messages still wanted.
    pub(crate) batch: i64,
    /// Bytes still wanted; 0 is any number.
    pub(crate) bytes: i64,
    /// Messages delivered.
    pub(crate) delivered: u64,
    /// End as soon as there is nothing to deliver.
    pub(crate) no_wait: bool,
    /// When it ends, ns since 1970.
    pub(crate) expires_at: Option<i64>,
    /// Between heartbeats, ns; 0 is none.
    pub(crate) heartbeat: i64,
    /// When the next is due.
    pub(crate) heartbeat_at: i64,
    /// Priority group, empty for none.
    pub(crate) group: Box<str>,
    /// Served only from so many pending messages on.
    pub(crate) min_pending: i64,
    /// Served only from so many unacknowledged messages on.
    pub(crate) min_ack_pending: i64,
    /// Pin of the client, empty for none.
    pub(crate) pin: String,
    /// 0 is served first.
    pub(crate) priority: i64,
    /// The number of the turn in which its client was last seen to listen.
    pub(crate) heard_in: u64,
}

/// The requests of one consumer, in the order in which they are served.
#[derive(Debug, Default)]
pub(crate) struct WaitingQueue {
    queue: VecDeque<Waiting>,
}

impl WaitingQueue {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.queue.iter()
    }

    /// Adds a request behind those that come before it.
    pub(crate) fn add(&mut self, request: Waiting, policy: PriorityPolicy) {
        let at = match policy {
            PriorityPolicy::Prioritized => {
                self.queue.partition_point(|waiting| waiting.priority <= request.priority)
            }
            _ => self.queue.len(),
        };
        self.queue.insert(at, request);
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut Waiting> {
        self.queue.front_mut()
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        self.queue.pop_front()
    }

    /// The first goes to the end.
    pub(crate) fn cycle(&mut self) {
        self.queue.rotate_left(usize::from(!self.queue.is_empty()));
    }

    /// Counts one message of the first request, which goes behind the others of its priority, or away when it has all.
    /// Returns it as it is then.
    pub(crate) fn serve(&mut self, bytes: i64, policy: PriorityPolicy, now: i64) -> Option<Waiting> {
        let mut request = self.queue.pop_front()?;
        if request.bytes > 0 {
            request.bytes -= bytes;
            if request.bytes <= 0 {
                // The last that fits.
                request.batch = 1;
                request.bytes = 0;
            }
        }
        // A client may have asked for fewer than none.
        request.batch = request.batch.saturating_sub(1);
        request.delivered += 1;
        if request.heartbeat > 0 {
            request.heartbeat_at = now.saturating_add(request.heartbeat);
        }
        if request.batch > 0 {
            match policy {
                // A pinned client and an overflowing one are served until they have all.
                PriorityPolicy::None | PriorityPolicy::Prioritized => self.add(request.clone(), policy),
                PriorityPolicy::Overflow | PriorityPolicy::PinnedClient => {
                    self.queue.push_back(request.clone());
                }
            }
        }
        Some(request)
    }

    /// Keeps the requests that `keep` keeps, in order.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&mut Waiting) -> bool) {
        self.queue.retain_mut(keep);
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Waiting> + '_ {
        self.queue.drain(..)
    }
}
