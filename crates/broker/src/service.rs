//! Receivers within the server: what subscribes like a client but is called instead of written to.
//!
//! A [`Service`] is called on the publisher's own thread, in the middle of its batch. It must not block and it must not
//! publish there and then; what it has to say it puts into the [`Outbox`], which is published when the batch is through.
//! So nothing recurses, however services are chained.

use std::fmt;
use std::sync::Arc;

use crate::account::Account;
use crate::connection::Connection;
use crate::delivery::{Run, Span, begin_line};
use crate::importing::{Answer, compose, push_number};
use crate::msgtrace::TracedStream;
use crate::recall::Leads;
use crate::route::Naming;
use crate::shared::Shared;
use crate::subscription::Subscription;
use crate::worker::Worker;

/// How often services may answer one another within one batch. What is left then waits for the next batch of the same
/// worker, so that services that feed each other in a circle cannot hold a thread for ever.
const ROUNDS_MAX: usize = 32;

/// Rounds of one batch that run errands; later ones are postponed.
const ERRAND_ROUNDS_MAX: usize = 2;

/// How far back an errand of the same key is looked for.
const ERRANDS_COMPARED: usize = 4;

/// Bytes that may wait for a receiver before those who have more for it, and can send it later, should wait: enough for a
/// quick one to be busy meanwhile, and not so much that they leave the processor's caches.
const AHEAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of outbox text that are kept allocated between batches.
const OUTBOX_BYTES_KEPT: usize = 1024 * 1024;

/// A receiver within the server.
pub trait Service: Send + Sync {
    /// Takes one message. Called on the publisher's thread: it must neither block nor take long. False when the message
    /// concerns nothing that the service has: a requester is then told that there are no responders.
    fn receive(&self, message: &Inbound<'_>, outbox: &mut Outbox) -> bool;

    /// Takes several messages of one publisher on one subject, in order, as [`Service::receive`] does each. False when none
    /// concerns the service.
    fn receive_run(&self, messages: &mut dyn Iterator<Item = Inbound<'_>>, outbox: &mut Outbox) -> bool {
        messages.fold(false, |taken, message| self.receive(&message, outbox) | taken)
    }

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

/// What a service has to do once a batch is through, once for all messages of the batch.
pub trait Errand: Send + Sync {
    /// Called on the publisher's thread, which it may keep for as long as a batch of input takes. Whatever it puts into the
    /// worker's outbox and must know to be delivered when it returns it gives to [`Worker::publish_items`].
    fn run(&self, worker: &mut Worker);

    /// Called instead when there is no time left: somebody else is to see to it.
    fn postpone(&self);
}

/// Messages that services want published, and errands.
#[derive(Default)]
pub struct Outbox {
    items: Vec<Item>,
    text: Vec<u8>,
    senders: Vec<Sender>,
    errands: Vec<(u64, Arc<dyn Errand>)>,
    /// See [`Outbox::hold_back`].
    pub(crate) holds_back: bool,
}

/// In which account, and by whom.
#[derive(Clone)]
struct Sender {
    account: Arc<Account>,
    publisher: Arc<Connection>,
}

/// A message of the outbox: where its parts are. They follow one another, with a line end behind the payload.
struct Item {
    sender: usize,
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

impl Item {
    fn part<'t>(&self, text: &'t [u8], before: usize, bytes: usize) -> &'t [u8] {
        &text[self.start + before..self.start + before + bytes]
    }

    fn route<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        self.part(text, 0, self.route_bytes)
    }

    fn subject<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        self.part(text, self.route_bytes, self.subject_bytes)
    }

    fn reply<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        self.part(text, self.route_bytes + self.subject_bytes, self.reply_bytes)
    }

    /// Headers and payload.
    fn content<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let message = self.message(text);
        &message[..message.len() - 2]
    }

    /// Headers, payload and line end.
    fn message<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let before = self.route_bytes + self.subject_bytes + self.reply_bytes;
        self.part(text, before, self.header_bytes + self.payload_bytes + 2)
    }

    /// Whether both are delivered by one route, which is not that of their own subjects.
    fn leads_where(&self, other: &Self, text: &[u8]) -> bool {
        self.sender == other.sender && self.route_bytes > 0 && self.route(text) == other.route(text)
    }

    /// What a subscription gets before the message itself.
    fn line(&self, text: &[u8], sid: &[u8], line: &mut Vec<u8>) {
        begin_line(line, self.header_bytes > 0, self.subject(text), sid);
        if self.reply_bytes > 0 {
            line.extend_from_slice(self.reply(text));
            line.push(b' ');
        }
        if self.header_bytes > 0 {
            push_number(line, self.header_bytes);
            line.push(b' ');
        }
        push_number(line, self.header_bytes + self.payload_bytes);
        line.extend_from_slice(b"\r\n");
    }
}

impl Outbox {
    /// Adds a message in the name of `publisher`.
    pub fn push(&mut self, account: &Arc<Account>, publisher: &Arc<Connection>, message: Outgoing<'_>) {
        let same = |sender: &Sender| {
            Arc::ptr_eq(&sender.account, account) && Arc::ptr_eq(&sender.publisher, publisher)
        };
        if !self.senders.last().is_some_and(same) {
            self.senders.push(Sender { account: account.clone(), publisher: publisher.clone() });
        }
        self.items.push(Item {
            sender: self.senders.len() - 1,
            start: self.text.len(),
            route_bytes: message.route.len(),
            subject_bytes: message.subject.len(),
            reply_bytes: message.reply.len(),
            header_bytes: message.headers.len(),
            payload_bytes: message.payload.len(),
        });
        for part in [message.route, message.subject, message.reply, message.headers, message.payload, b"\r\n"]
        {
            self.text.extend_from_slice(part);
        }
    }

    /// Has an errand run when the batch is through, unless there is one of that key among the latest. That is no promise to
    /// run it only once.
    pub fn errand(&mut self, key: u64, errand: impl FnOnce() -> Option<Arc<dyn Errand>>) {
        if !self.errands.iter().rev().take(ERRANDS_COMPARED).any(|(other, _)| *other == key)
            && let Some(errand) = errand()
        {
            self.errands.push((key, errand));
        }
    }

    /// Has the publisher of this batch held back for a moment before it is read from again: who takes its messages does not
    /// keep pace.
    pub fn hold_back(&mut self) {
        self.holds_back = true;
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.text.len()
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

    /// Lets the services of the batch settle, publishes what they said, and what others said to that, and runs errands.
    pub fn publish_outbox(&mut self, shared: &Shared, now_ns: u64) {
        for round in 0..ROUNDS_MAX {
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
            self.publish_items(shared, now_ns);
            let errands = std::mem::take(&mut self.outbox.errands);
            for (_, errand) in &errands {
                if round < ERRAND_ROUNDS_MAX { errand.run(self) } else { errand.postpone() }
            }
            if self.outbox.is_empty() && self.outbox.errands.is_empty() && self.services.is_empty() {
                return;
            }
        }
        for (_, errand) in self.outbox.errands.drain(..) {
            errand.postpone();
        }
    }

    /// Publishes what waits in the outbox now; what services say to that waits there when it returns.
    pub fn publish_items(&mut self, shared: &Shared, now_ns: u64) {
        if self.outbox.is_empty() {
            return;
        }
        let mut items = std::mem::take(&mut self.outbox.items);
        let mut text = std::mem::take(&mut self.outbox.text);
        let mut senders = std::mem::take(&mut self.outbox.senders);
        let kept = (self.batch.out_messages, self.batch.out_bytes);
        for group in items.chunk_by(|one, other| one.sender == other.sender) {
            let Some(sender) = group.first().and_then(|item| senders.get(item.sender)) else { continue };
            (self.batch.out_messages, self.batch.out_bytes) = (0, 0);
            self.publish_group(shared, sender, group, &text, now_ns);
            for traffic in [&shared.traffic, &sender.account.traffic] {
                traffic.out_messages.add(self.batch.out_messages);
                traffic.out_bytes.add(self.batch.out_bytes);
            }
        }
        (self.batch.out_messages, self.batch.out_bytes) = kept;
        items.clear();
        senders.clear();
        text.clear();
        text.shrink_to(OUTBOX_BYTES_KEPT);
        if self.outbox.is_empty() {
            (self.outbox.items, self.outbox.text, self.outbox.senders) = (items, text, senders);
        }
    }

    /// Publishes messages of one sender.
    fn publish_group(
        &mut self,
        shared: &Shared,
        sender: &Sender,
        mut items: &[Item],
        text: &[u8],
        now_ns: u64,
    ) {
        while let Some(first) = items.first() {
            let done = match self.deliver_replies(shared, sender, items, text) {
                0 => {
                    let others = items.iter().take_while(|item| item.leads_where(first, text)).count().max(1);
                    let (run, _) = items.split_at(others);
                    if !self.deliver_shown(shared, sender, run, text) {
                        run.iter().for_each(|item| self.publish_item(shared, sender, item, text, now_ns));
                    }
                    others
                }
                replies => replies,
            };
            items = &items[done..];
        }
    }

    /// Delivers as many messages from the first on as are replies that lead nowhere or all to one subscription: its
    /// connection is locked once. Returns how many; none when it is not as simple as that.
    fn deliver_replies(&mut self, shared: &Shared, sender: &Sender, items: &[Item], text: &[u8]) -> usize {
        let is_reply = |item: &Item| {
            item.route_bytes == 0 && item.reply_bytes == 0 && !Answer::is_one(item.subject(text))
        };
        let account = &sender.account;
        let Some(first) = items.first().filter(|item| is_reply(item)) else { return 0 };
        if shared.is_tracing() || account.imports_services() {
            return 0;
        }
        let subscription = match self.recall.find(&shared.stamps, account, first.subject(text)) {
            Leads::Nowhere => return 1,
            Leads::To(only) if only.is_plain() && only.max() == 0 => only.clone(),
            Leads::To(_) | Leads::Elsewhere => return 0,
        };
        let connection = subscription.connection();
        let headers = connection.headers();
        let takes = |item: &&Item| {
            (item.header_bytes == 0 || headers) && subscription.may_receive(item.subject(text))
        };
        if !takes(&first) {
            return 0;
        }
        let mut leads_there =
            |item: &&Item| match self.recall.find(&shared.stamps, account, item.subject(text)) {
                Leads::To(only) => Arc::ptr_eq(only, &subscription),
                Leads::Nowhere | Leads::Elsewhere => false,
            };
        let others = items
            .iter()
            .skip(1)
            .take_while(|item| is_reply(item) && takes(item) && leads_there(item))
            .count();
        self.append_run(&subscription, &items[..=others], text);
        others + 1
    }

    /// Delivers messages of one route, under their own subjects, to the only subscription it leads to: its connection is
    /// locked once and the text goes there as it is. False, and nothing is done, when it is not as simple as that.
    fn deliver_shown(&mut self, shared: &Shared, sender: &Sender, run: &[Item], text: &[u8]) -> bool {
        let Some(first) = run.first().filter(|item| item.route_bytes > 0) else { return false };
        if shared.is_tracing() {
            return false;
        }
        let (route, _) = self.routes.find(&shared.stamps, &sender.account, first.route(text), Naming::AsIs);
        let Some(receiver) = route.only_receiver() else { return false };
        let (subscription, connection) = (&receiver.subscription, receiver.connection());
        let headers = connection.headers();
        let is_plain =
            |item: &Item| (item.header_bytes == 0 || headers) && !Answer::is_one(item.subject(text));
        if subscription.max() > 0 || connection.tracks_responses() || !run.iter().all(is_plain) {
            return false;
        }
        self.append_run(subscription, run, text);
        true
    }

    /// Appends messages under their own subjects for one subscription, under one lock of its connection.
    fn append_run(&mut self, subscription: &Subscription, run: &[Item], text: &[u8]) {
        let connection = subscription.connection();
        let mut outbound = connection.outbound().lock();
        if outbound.closed || subscription.is_closed() {
            return;
        }
        let before = (outbound.messages, outbound.message_bytes, outbound.pending_bytes());
        let mut full = false;
        for item in run {
            item.line(text, subscription.sid(), &mut self.line);
            full = outbound.append(connection.pool(), &self.line, item.message(text)).is_err();
            if full {
                break;
            }
            outbound.messages += 1;
            outbound.message_bytes += (item.header_bytes + item.payload_bytes) as u64;
        }
        let copies = outbound.messages - before.0;
        subscription.set_delivered(subscription.delivered() + copies);
        self.batch.out_messages += copies;
        self.batch.out_bytes += outbound.message_bytes - before.1;
        self.batch.appended_bytes += outbound.pending_bytes() - before.2;
        let behind = outbound.is_stalling() || outbound.pending_bytes() > AHEAD_BYTES_MAX;
        self.after_append(connection, outbound, behind, copies > 0, full);
    }

    fn publish_item(&mut self, shared: &Shared, sender: &Sender, item: &Item, text: &[u8], now_ns: u64) {
        let (route, subject, reply) = (item.route(text), item.subject(text), item.reply(text));
        let (headers, payload) = item.content(text).split_at(item.header_bytes);
        self.scratch.extend_from_slice(reply);
        let span = compose(&mut self.scratch, reply.len(), headers, payload);
        if Answer::is_one(subject) {
            let Sender { account, publisher } = sender;
            Answer { shared, account, subject, publisher, now_ns }.deliver(self, &span);
        }
        self.deliver_routed(shared, sender, route, subject, span, now_ns);
    }

    fn deliver_routed(
        &mut self,
        shared: &Shared,
        sender: &Sender,
        route: &[u8],
        subject: &[u8],
        span: Span,
        now_ns: u64,
    ) {
        let by = if route.is_empty() { subject } else { route };
        let (found, _) = self.routes.find(&shared.stamps, &sender.account, by, Naming::AsIs);
        self.spans.push(span);
        let run = Run {
            shared,
            account: &sender.account,
            route: &found,
            shown_subject: (!route.is_empty()).then_some(subject),
            input: b"",
            publisher: &sender.publisher,
            path: None,
            echo: true,
            stall_producers: true,
            trace: shared.is_tracing(),
            now_ns,
        };
        run.deliver(self);
    }
}
