//! Receivers within the server: what subscribes like a client but is called instead of written to.
//!
//! A [`Service`] is called on the publisher's own thread, in the middle of its batch. It must not block and it must not
//! publish there and then; what it has to say it puts into the [`Outbox`], which is published when the batch is through.
//! So nothing recurses, however services are chained.

use std::fmt;
use std::sync::Arc;

use crate::account::Account;
use crate::connection::Connection;
use crate::delivery::{Run, Span};
use crate::importing::{Answer, compose};
use crate::msgtrace::TracedStream;
use crate::route::Naming;
use crate::shared::Shared;
use crate::subscription::Subscription;
use crate::worker::Worker;

/// How often services may answer one another within one batch. What is left then waits for the next batch of the same
/// worker, so that services that feed each other in a circle cannot hold a thread for ever.
const ROUNDS_MAX: usize = 32;

/// Bytes of outbox text that are kept allocated between batches.
const OUTBOX_BYTES_KEPT: usize = 1024 * 1024;

/// A receiver within the server.
pub trait Service: Send + Sync {
    /// Takes one message. Called on the publisher's thread: it must neither block nor take long. False when the message
    /// concerns nothing that the service has: a requester is then told that there are no responders.
    fn receive(&self, message: &Inbound<'_>, outbox: &mut Outbox) -> bool;

    /// What it makes of a message that is traced, before it receives it, if it does.
    fn traced(&self, _message: &Inbound<'_>) -> Option<TracedStream> {
        None
    }

    /// The batch that called [`Service::receive`] is through.
    fn settle(&self, outbox: &mut Outbox);
}

/// A message for a service.
#[derive(Debug)]
pub struct Inbound<'a> {
    /// The subscription it came by.
    pub subscription: &'a Arc<Subscription>,
    /// The account it was published in.
    pub account: &'a Arc<Account>,
    /// Subject.
    pub subject: &'a [u8],
    /// Reply subject.
    pub reply: Option<&'a [u8]>,
    /// The header block, `NATS/1.0` and all; empty when there is none.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
    /// Who published it.
    pub publisher: &'a Arc<Connection>,
    /// The time of the batch on the server's clock.
    pub now_ns: u64,
}

/// Messages that services want published.
#[derive(Default)]
pub struct Outbox {
    items: Vec<Item>,
    text: Vec<u8>,
}

struct Item {
    account: Arc<Account>,
    publisher: Arc<Connection>,
    start: usize,
    route_bytes: usize,
    subject_bytes: usize,
    reply_bytes: usize,
    header_bytes: usize,
    payload_bytes: usize,
}

/// A message to be published by the server itself.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Whose subscribers get it, when that is not its own subject (a consumer delivers messages of a stream to an inbox);
    /// empty when it is.
    pub route: &'a [u8],
    /// Subject that receivers see; a literal.
    pub subject: &'a [u8],
    /// Reply subject; empty for none.
    pub reply: &'a [u8],
    /// The whole header block; empty for none.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

impl Outbox {
    /// Adds a message in the name of `publisher`.
    pub fn push(&mut self, account: &Arc<Account>, publisher: &Arc<Connection>, message: Outgoing<'_>) {
        self.items.push(Item {
            account: account.clone(),
            publisher: publisher.clone(),
            start: self.text.len(),
            route_bytes: message.route.len(),
            subject_bytes: message.subject.len(),
            reply_bytes: message.reply.len(),
            header_bytes: message.headers.len(),
            payload_bytes: message.payload.len(),
        });
        for part in [message.route, message.subject, message.reply, message.headers, message.payload] {
            self.text.extend_from_slice(part);
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    fn clear(&mut self) {
        self.items.clear();
        self.text.clear();
        self.text.shrink_to(OUTBOX_BYTES_KEPT);
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("messages", &self.items.len()).finish_non_exhaustive()
    }
}

impl Worker {
    /// Where services put what they have to say. Whoever fills it from outside a batch calls
    /// [`Worker::publish_outbox`] and then [`Worker::flush`].
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Lets the services of the batch settle, and publishes what they said, and what others said to that.
    pub fn publish_outbox(&mut self, shared: &Shared, now_ns: u64) {
        for _ in 0..ROUNDS_MAX {
            let services = std::mem::take(&mut self.services);
            for service in &services {
                if let Some(service) = service.service() {
                    service.settle(&mut self.outbox);
                }
            }
            if self.services.is_empty() {
                self.services = services;
                self.services.clear();
            }
            if self.outbox.is_empty() {
                return;
            }
            let mut outbox = std::mem::take(&mut self.outbox);
            for item in &outbox.items {
                self.publish_item(shared, item, &outbox.text, now_ns);
            }
            outbox.clear();
            if self.outbox.is_empty() {
                self.outbox = outbox;
            }
        }
    }

    fn publish_item(&mut self, shared: &Shared, item: &Item, text: &[u8], now_ns: u64) {
        let before = (self.batch.out_messages, self.batch.out_bytes);
        let (route, rest) = text[item.start..].split_at(item.route_bytes);
        let (subject, rest) = rest.split_at(item.subject_bytes);
        let (reply, rest) = rest.split_at(item.reply_bytes);
        let message = &rest[..item.header_bytes + item.payload_bytes];
        let start = self.scratch.len();
        self.scratch.extend_from_slice(reply);
        let (headers, payload) = message.split_at(item.header_bytes);
        let span = compose(&mut self.scratch, reply.len(), headers, payload);
        // Replies have a subject of their own each: no route to them is worth remembering.
        let once = route.is_empty() && reply.is_empty() && !shared.is_tracing();
        if Answer::is_one(subject) {
            let (account, publisher) = (&item.account, &item.publisher);
            Answer { shared, account, subject, publisher, now_ns }.deliver(self, &span);
        }
        if once && self.deliver_once(&item.account, subject, &span) {
            self.scratch.truncate(start);
        } else {
            self.deliver_routed(shared, item, route, subject, span, now_ns);
        }
        let (messages, bytes) = (self.batch.out_messages - before.0, self.batch.out_bytes - before.1);
        (self.batch.out_messages, self.batch.out_bytes) = before;
        for traffic in [&shared.traffic, &item.account.traffic] {
            traffic.out_messages.add(messages);
            traffic.out_bytes.add(bytes);
        }
    }

    fn deliver_routed(
        &mut self,
        shared: &Shared,
        item: &Item,
        route: &[u8],
        subject: &[u8],
        span: Span,
        now_ns: u64,
    ) {
        let by = if route.is_empty() { subject } else { route };
        let (found, _) = self.routes.find(&shared.stamps, &item.account, by, Naming::AsIs);
        self.spans.push(span);
        let run = Run {
            shared,
            account: &item.account,
            route: &found,
            shown_subject: (!route.is_empty()).then_some(subject),
            input: b"",
            publisher: &item.publisher,
            path: None,
            echo: true,
            stall_producers: true,
            trace: shared.is_tracing(),
            now_ns,
        };
        run.deliver(self);
    }
}
