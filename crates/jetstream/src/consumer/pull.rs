//! Pull requests: which are taken, which is served next, and how each ends.

use super::notice;
use super::waiting::Waiting;
use super::{Consumer, Scene};
use crate::api::request::PullRequest;
use crate::config::PriorityPolicy;
use crate::outgoing::Outgoing;
use crate::status::{self, End, Status};

/// Why everybody who waits is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dismissal {
    /// The consumer is gone.
    ConsumerDeleted,
    /// The server goes.
    ServerShutdown,
}

/// A request that has just been given a message.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) reply: Box<[u8]>,
    /// It has all its messages although more bytes would have fitted: what it is told of.
    pub(super) batch_done_with_bytes: Option<(i64, i64)>,
}

/// The most requests that wait when nothing else is configured.
const WAITING_MAX: i64 = 512;

impl Consumer {
    /// Takes a pull request, or says why not.
    pub(crate) fn handle_pull(&mut self, scene: &mut Scene<'_>, reply: &[u8], payload: &[u8]) {
        self.last_active = scene.now;
        let refuse = |scene: &mut Scene<'_>, status: &[u8]| {
            scene.out.publish(Outgoing::status(reply, status));
        };
        if self.config.is_push() {
            return refuse(scene, Status::ConsumerIsPushBased.block());
        }
        let request = match PullRequest::parse(payload) {
            Ok(request) => request,
            Err(error) => return refuse(scene, &status::bad_request(&error.to_string())),
        };
        if !request.has_valid_heartbeat() {
            return refuse(scene, Status::HeartbeatTooLarge.block());
        }
        // One that is not JSON has no group and is served by every policy.
        let is_json = payload.trim_ascii().starts_with(b"{");
        let config = self.config.clone();
        if config.max_batch > 0 && request.batch > config.max_batch {
            return refuse(scene, &status::exceeded_max_batch(config.max_batch));
        }
        if config.max_expires > 0 && request.expires > config.max_expires {
            return refuse(scene, &status::exceeded_max_expires(config.max_expires));
        }
        if config.max_bytes > 0 && request.max_bytes > config.max_bytes {
            return refuse(scene, &status::exceeded_max_bytes(config.max_bytes));
        }
        let policy = config.priority_policy;
        if (request.min_pending != 0 || request.min_ack_pending != 0) && policy != PriorityPolicy::Overflow {
            return refuse(scene, Status::NotOverflow.block());
        }
        if !request.id.is_empty() && policy != PriorityPolicy::PinnedClient {
            return refuse(scene, Status::NotPinnedClient.block());
        }
        if !(0..=9).contains(&request.priority) {
            return refuse(scene, Status::PriorityOutOfRange.block());
        }
        if policy != PriorityPolicy::None && is_json {
            if request.group.is_empty() {
                return refuse(scene, Status::PriorityGroupMissing.block());
            }
            if !config.priority_groups.contains(&request.group) {
                return refuse(scene, Status::PriorityGroupInvalid.block());
            }
            if !self.pin.id.is_empty() {
                if request.id == self.pin.id {
                    self.pin.expires_at = scene.now.saturating_add(config.priority_timeout);
                } else if !request.id.is_empty() {
                    return refuse(scene, Status::PinIdMismatch.block());
                }
            }
        }
        let max = if config.max_waiting > 0 { config.max_waiting } else { WAITING_MAX };
        if self.waiting.len() as i64 >= max {
            self.expire_waiting(scene, false);
        }
        if request.no_wait {
            let available = self.pending(scene.store) + self.redeliver.len() as u64;
            if available == 0 && request.expires == 0 {
                return refuse(scene, Status::NoMessages.block());
            }
            if available > 0 {
                self.expire_waiting(scene, false);
                let wanted: i64 = self.waiting.iter().map(|waiting| waiting.batch).sum();
                if available < wanted.max(0) as u64 {
                    return refuse(scene, Status::RequestsPending.block());
                }
            }
        }
        if self.waiting.len() as i64 >= max {
            // A client that listens for heartbeats will ask again when they do not come, and not at once.
            if request.idle_heartbeat == 0 {
                refuse(scene, Status::ExceededMaxWaiting.block());
            }
            return;
        }
        let waiting = Waiting {
            reply: reply.into(),
            batch: request.batch,
            bytes: request.max_bytes,
            delivered: 0,
            no_wait: request.no_wait,
            expires_at: (request.expires != 0).then(|| scene.now.saturating_add(request.expires)),
            heartbeat: request.idle_heartbeat,
            heartbeat_at: scene.now.saturating_add(request.idle_heartbeat),
            group: request.group.into_boxed_str(),
            min_pending: request.min_pending,
            min_ack_pending: request.min_ack_pending,
            pin: request.id,
            priority: request.priority,
            heard_in: 0,
        };
        self.waiting.add(waiting, policy);
    }

    /// The request that gets a message of so many bytes; counts it. Requests that cannot be served on the way are told so.
    pub(super) fn next_waiting(&mut self, scene: &mut Scene<'_>, bytes: usize) -> Option<Served> {
        let policy = self.config.priority_policy;
        let needs_pin = self.pin.id.is_empty() && policy == PriorityPolicy::PinnedClient;
        let (pending, unacknowledged) = (self.pending as i64, self.unacknowledged.len() as i64);
        let turn = self.turn;
        let mut cycled = 0;
        loop {
            let count = self.waiting.len();
            let request = self.waiting.front_mut()?;
            if request.expires_at.is_some_and(|at| at <= scene.now) {
                let status = End::RequestTimeout.block(request.batch, request.bytes);
                scene.out.publish(Outgoing::status(&request.reply, &status));
                self.waiting.pop();
                continue;
            }
            if policy == PriorityPolicy::PinnedClient {
                let is_pinned = !self.pin.id.is_empty() && request.pin == self.pin.id;
                if !is_pinned && !request.pin.is_empty() {
                    let status = End::WrongPinId.block(request.batch, request.bytes);
                    scene.out.publish(Outgoing::status(&request.reply, &status));
                    self.waiting.pop();
                    continue;
                }
                if !is_pinned && !needs_pin {
                    self.waiting.cycle();
                    cycled += 1;
                    if cycled >= count {
                        return None;
                    }
                    continue;
                }
            }
            let overflows = request.min_pending == 0 && request.min_ack_pending == 0
                || request.min_pending > 0 && request.min_pending <= pending
                || request.min_ack_pending > 0 && request.min_ack_pending <= unacknowledged;
            if policy == PriorityPolicy::Overflow && !overflows {
                self.waiting.cycle();
                cycled += 1;
                if cycled >= count {
                    return None;
                }
                continue;
            }
            if request.bytes > 0 && bytes as i64 > request.bytes {
                let status = End::MessageSizeExceedsMaxBytes.block(request.batch, request.bytes);
                scene.out.publish(Outgoing::status(&request.reply, &status));
                self.waiting.pop();
                continue;
            }
            // What one turn delivers is handed over when it is through: asking once is as good as for every message.
            if request.heard_in != turn {
                if !scene.interest.has_interest(&request.reply) {
                    self.waiting.pop();
                    continue;
                }
                request.heard_in = turn;
            }
            if needs_pin && !request.group.is_empty() {
                let id = notice::new_id(scene);
                request.pin.clone_from(&id);
                let group = request.group.to_string();
                self.pin = super::Pin {
                    id,
                    since: scene.now,
                    expires_at: scene.now.saturating_add(self.config.priority_timeout),
                };
                notice::pinned(scene, &self.name, &group, &self.pin.id);
            }
            let request = self.waiting.serve(bytes as i64, policy, scene.now)?;
            let done = request.batch <= 0 && request.bytes > 0;
            return Some(Served {
                batch_done_with_bytes: done.then_some((request.batch, request.bytes)),
                reply: request.reply,
            });
        }
    }

    /// Ends requests whose time is up, those nobody listens for any more, and at the end of the stream those that do not
    /// wait; sends heartbeats that are due.
    pub(super) fn expire_waiting(&mut self, scene: &mut Scene<'_>, end_of_stream: bool) {
        let last = (self.deliveries, self.next - 1);
        self.waiting.retain(|request| {
            let expired = request.expires_at.is_some_and(|at| at <= scene.now);
            if expired {
                let status = End::RequestTimeout.block(request.batch, request.bytes);
                scene.out.publish(Outgoing::status(&request.reply, &status));
                return false;
            }
            let one_shot = request.expires_at.is_none() || request.delivered > 0;
            if end_of_stream && request.no_wait && one_shot {
                scene.out.publish(Outgoing::status(&request.reply, Status::NoMessages.block()));
                return false;
            }
            if !scene.interest.has_interest(&request.reply) {
                return false;
            }
            if request.heartbeat > 0 && request.heartbeat_at <= scene.now {
                let status = status::heartbeat(last.0, last.1, None);
                scene.out.publish(Outgoing::status(&request.reply, &status));
                request.heartbeat_at = scene.now.saturating_add(request.heartbeat);
            }
            true
        });
    }

    /// When a request expires or wants a heartbeat.
    pub(super) fn next_waiting_timer(&self) -> Option<i64> {
        let of = |request: &Waiting| {
            let heartbeat = (request.heartbeat > 0).then_some(request.heartbeat_at);
            [request.expires_at, heartbeat].into_iter().flatten().min()
        };
        self.waiting.iter().filter_map(of).min()
    }

    /// Tells everybody who waits that it is over.
    pub(crate) fn dismiss_waiting(&mut self, scene: &mut Scene<'_>, why: Dismissal) {
        for request in self.waiting.drain() {
            let status = match why {
                Dismissal::ConsumerDeleted => Status::ConsumerDeleted.block().to_vec(),
                Dismissal::ServerShutdown => End::ServerShutdown.block(request.batch, request.bytes),
            };
            scene.out.publish(Outgoing::status(&request.reply, &status));
        }
    }

    /// Lets the pinned client go; false when there is none.
    pub(crate) fn unpin(&mut self, scene: &mut Scene<'_>, group: &str, reason: &str) -> bool {
        if self.pin.id.is_empty() {
            return false;
        }
        self.pin = super::Pin::default();
        notice::unpinned(scene, &self.name, group, reason);
        true
    }
}
