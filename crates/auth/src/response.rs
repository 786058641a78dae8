//! Replies that may be published because a request was delivered.
//!
//! A user with `allow_responses` may answer requests without being allowed to publish to their reply subjects. A
//! [`ResponseTracker`] belongs to one connection and remembers what it was asked: [`ResponseTracker::track`] when a
//! message with a reply is delivered, [`ResponseTracker::check_publish`] when the connection publishes something its
//! [`Permissions`](crate::permission::Permissions) refuse.
//!
//! All requests of a connection live equally long, so the order of arrival is the order of expiry: forgetting is
//! taking from the front of a queue, never a search.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::permission::ResponsePermission;

/// The requests a connection has not answered yet.
#[derive(Debug)]
pub struct ResponseTracker {
    permission: ResponsePermission,
    /// By reply subject.
    open: HashMap<Arc<[u8]>, Request>,
    /// Bytes of the reply subjects in `open`.
    reply_bytes: usize,
    /// Reply subjects by time of their latest request, oldest first, each with the request's number. A pair that is
    /// no longer in `open` with this number is stale. At most twice as long as `open` is, plus [`SLACK`].
    arrivals: VecDeque<(Arc<[u8]>, u64)>,
    /// The number of the next request.
    next: u64,
}

#[derive(Debug)]
struct Request {
    number: u64,
    /// Replies left; none means without limit.
    left: Option<u64>,
    /// UNIX nanoseconds; none means never.
    expires_ns: Option<i64>,
}

/// Stale arrivals that are tolerated before a sweep; arbitrary, larger than the sweeps of an idle connection need.
const SLACK: usize = 64;

impl ResponseTracker {
    /// The most requests that are remembered; the oldest is forgotten for a newer one. With the default time to live
    /// of two minutes this is more than 500 requests a second of which none is ever answered; answered ones with a
    /// limited number of replies do not count.
    pub const REQUESTS_MAX: usize = 65_536;

    /// The most bytes of reply subjects that are remembered; again the oldest is forgotten. Enough for as many requests
    /// as may be remembered, with inboxes of 64 bytes.
    pub const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

    /// A tracker for a connection whose user has `permission`.
    pub fn new(permission: ResponsePermission) -> Self {
        let permission = permission.with_defaults();
        Self { permission, open: HashMap::new(), reply_bytes: 0, arrivals: VecDeque::new(), next: 0 }
    }

    /// Remembers that a message with `reply` was delivered at `now_ns`. To be called only if the connection may not
    /// publish to `reply` anyway.
    ///
    /// A further request with the same reply renews the time and adds its share of replies. (nats-server takes it for
    /// one of the replies, so that of two such requests with one reply each neither can be answered.)
    pub fn track(&mut self, reply: &[u8], now_ns: i64) {
        self.forget_expired(now_ns);
        let number = self.next;
        self.next += 1;
        let share = u64::try_from(self.permission.max).ok();
        let ttl_ns = Some(self.permission.ttl_ns).filter(|ttl| *ttl > 0);
        let expires_ns = ttl_ns.map(|ttl| now_ns.saturating_add(ttl));
        let key: Arc<[u8]> = match self.open.get_key_value(reply) {
            Some((key, _)) => key.clone(),
            None => {
                self.reply_bytes += reply.len();
                reply.into()
            }
        };
        let request = self.open.entry(key.clone()).or_insert(Request { number, left: Some(0), expires_ns });
        request.number = number;
        request.expires_ns = expires_ns;
        request.left = share.map(|share| request.left.unwrap_or(0).saturating_add(share));
        self.arrivals.push_back((key, number));
        while self.open.len() > Self::REQUESTS_MAX || self.reply_bytes > Self::REPLY_BYTES_MAX {
            self.forget_oldest();
        }
        self.sweep();
    }

    /// Whether one reply to `subject` may be published at `now_ns`; if so it is counted.
    pub fn check_publish(&mut self, subject: &[u8], now_ns: i64) -> bool {
        let Some(request) = self.open.get_mut(subject) else { return false };
        let expired = request.expires_ns.is_some_and(|expires| now_ns > expires);
        let allowed = !expired && request.left != Some(0);
        if let Some(left) = &mut request.left {
            *left = left.saturating_sub(1);
        }
        if !allowed || request.left == Some(0) {
            self.open.remove(subject);
            self.reply_bytes -= subject.len();
            self.sweep();
        }
        allowed
    }

    /// How many requests may still be answered or have not yet been found to be expired.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is nothing to answer.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn forget_expired(&mut self, now_ns: i64) {
        while let Some((reply, number)) = self.arrivals.front() {
            let live = self.open.get(reply).filter(|request| request.number == *number);
            match live {
                Some(request) if request.expires_ns.is_none_or(|expires| now_ns <= expires) => return,
                _ => self.forget_oldest(),
            }
        }
    }

    /// Takes the first arrival away, and its request unless a newer one has renewed it.
    fn forget_oldest(&mut self) {
        let Some((reply, number)) = self.arrivals.pop_front() else { return };
        if self.open.get(&reply).is_some_and(|request| request.number == number) {
            self.open.remove(&reply);
            self.reply_bytes -= reply.len();
        }
    }

    /// Drops stale arrivals once they are more than half of all, which makes it cheap for each of them.
    fn sweep(&mut self) {
        if self.arrivals.len() > 2 * self.open.len() + SLACK {
            let open = &self.open;
            self.arrivals
                .retain(|(reply, number)| open.get(reply).is_some_and(|known| known.number == *number));
        }
    }
}
