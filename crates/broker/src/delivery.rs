//! Appending a run of messages to the buffers of their receivers.
//!
//! A *run* is a series of messages of one publisher on one route. Each receiving connection is locked once per run,
//! not once per message. Runs with queue groups are delivered message by message, since each message picks its
//! members.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::MutexGuard;

use crate::account::Account;
use crate::close::CloseReason;
use crate::connection::{Connection, promise};
use crate::importing::Path;
use crate::msgtrace::Tracing;
use crate::outbound::{Full, Outbound, SHARED_BYTES_MIN};
use crate::pool::shared_copy;
use crate::recall::Leads;
use crate::route::{Receiver, Route, ServiceLeg};
use crate::service::{Inbound, Service};
use crate::shared::{Level, Shared};
use crate::stamp::Stamps;
use crate::subscription::Subscription;
use crate::worker::Worker;

/// One message of a run: where its text is.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// What receivers get after their prefix: `[reply ][header size ]size CRLF headers payload CRLF`.
    pub(crate) tail: Range<usize>,
    /// `tail` counts in the worker's scratch space, not in the input.
    pub(crate) scratch: bool,
    /// Bytes of the reply subject at the start of `tail`; 0 is none.
    pub(crate) reply_bytes: usize,
    /// Bytes of the header block; 0 is none.
    pub(crate) header_bytes: usize,
    /// Bytes of headers and payload.
    pub(crate) message_bytes: usize,
}

/// A run and what its delivery depends on.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) account: &'a Arc<Account>,
    pub(crate) route: &'a Route,
    /// The subject that receivers see, when it is not the route's.
    pub(crate) shown_subject: Option<&'a [u8]>,
    pub(crate) input: &'a [u8],
    pub(crate) publisher: &'a Arc<Connection>,
    /// The imports that the messages have come through.
    pub(crate) path: Option<&'a Path<'a>>,
    /// Whether the publisher's own subscriptions get its messages.
    pub(crate) echo: bool,
    /// Whether producers wait for slow receivers; otherwise those miss messages.
    pub(crate) stall_producers: bool,
    pub(crate) trace: bool,
    pub(crate) now_ns: u64,
}

impl Run<'_> {
    /// Delivers the worker's spans. True when somebody got something.
    pub(crate) fn deliver(&self, worker: &mut Worker) -> bool {
        let spans = std::mem::take(&mut worker.spans);
        let scratch = std::mem::take(&mut worker.scratch);
        let mut delivered = false;
        if worker.msgtrace.is_some() {
            for span in &spans {
                delivered |= self.deliver_traced(worker, span, &scratch);
            }
        } else if !self.route.is_empty() {
            if self.route.queues().is_empty() {
                delivered = self.deliver_plain(worker, &spans, &scratch);
            } else if spans.len() > 1 && self.can_deal() {
                delivered = self.deal(worker, &spans, &scratch);
            } else {
                for span in &spans {
                    delivered |= self.deliver_plain(worker, std::slice::from_ref(span), &scratch);
                    delivered |= self.deliver_queued(worker, span, &scratch);
                }
            }
            self.remove_ended(worker);
            for leg in self.route.services() {
                delivered |= self.deliver_to_service(worker, leg, &spans, &scratch);
            }
            for leg in self.route.imports() {
                delivered |= self.request(worker, leg, &spans, &scratch, Tracing::Off);
            }
        }
        worker.spans = spans;
        worker.spans.clear();
        worker.scratch = scratch;
        worker.scratch.clear();
        delivered
    }

    /// Calls a service for each message; what it answers waits in the worker's outbox.
    pub(crate) fn deliver_to_service(
        &self,
        worker: &mut Worker,
        leg: &ServiceLeg,
        spans: &[Span],
        scratch: &[u8],
    ) -> bool {
        let subscription = &leg.subscription;
        let Some(service) = subscription.service() else { return false };
        if subscription.is_closed() {
            return false;
        }
        let mut messages = spans.iter().map(|span| {
            let text = if span.scratch { scratch } else { self.input };
            self.inbound(leg, span, text)
        });
        let taken = service.receive_run(&mut messages, &mut worker.outbox);
        note_service(&mut worker.services, subscription, service);
        taken
    }

    /// A message as a service sees it.
    pub(crate) fn inbound<'m>(&'m self, leg: &'m ServiceLeg, span: &Span, text: &'m [u8]) -> Inbound<'m> {
        let (subject, account) = match &leg.imported {
            Some((subject, account)) => (&**subject, account),
            None => (self.route.mapped_subject(), self.account),
        };
        let tail = &text[span.tail.clone()];
        let message = &tail[tail.len() - span.message_bytes - 2..tail.len() - 2];
        let (headers, payload) = message.split_at(span.header_bytes);
        Inbound {
            subscription: &leg.subscription,
            account,
            subject: self.shown_subject.unwrap_or(subject),
            reply: (span.reply_bytes > 0).then(|| &tail[..span.reply_bytes]),
            headers,
            payload,
            publisher: self.publisher,
            now_ns: self.now_ns,
        }
    }

    fn deliver_plain(&self, worker: &mut Worker, spans: &[Span], scratch: &[u8]) -> bool {
        let shares = self.route.connection_count() > 1
            && spans.iter().any(|span| span.message_bytes >= SHARED_BYTES_MIN);
        let mut payloads: Vec<Option<Bytes>> = if shares { vec![None; spans.len()] } else { Vec::new() };
        let mut delivered = false;
        for receivers in self.route.plain_by_connection() {
            delivered |= self.deliver_to_connection(worker, receivers, spans, scratch, &mut payloads) > 0;
        }
        delivered
    }

    /// Whether every member can be expected to take whatever it is dealt. Otherwise messages would be dealt again, behind
    /// later ones, and a connection would see them out of order.
    fn can_deal(&self) -> bool {
        let takes_all = |member: &Receiver| {
            let subscription = &member.subscription;
            subscription.max() == 0
                && !subscription.is_closed()
                && member.connection().close_reason().is_none()
                && (self.echo || !Arc::ptr_eq(member.connection(), self.publisher))
        };
        self.stall_producers && self.route.deals_runs() && self.route.queues().iter().flatten().all(takes_all)
    }

    /// Deals a run out among the members of the only queue group, each message to one picked at random; each member's
    /// connection is locked once. What a member cannot take after all, because its connection is ending this very moment,
    /// is dealt again, message by message.
    fn deal(&self, worker: &mut Worker, spans: &[Span], scratch: &[u8]) -> bool {
        let Some(members) = self.route.queues().first() else { return false };
        let mut hands = std::mem::take(&mut worker.hands);
        hands.resize_with(hands.len().max(members.len()), Vec::new);
        for span in spans {
            hands[worker.random_below(members.len())].push(span.clone());
        }
        let mut delivered = false;
        for (member, hand) in members.iter().zip(&mut hands) {
            let taken = match hand.is_empty() {
                true => 0,
                false => {
                    self.deliver_to_connection(worker, std::slice::from_ref(member), hand, scratch, &mut [])
                }
            };
            delivered |= taken > 0;
            for span in hand.drain(..).skip(taken) {
                delivered |= self.deliver_queued(worker, &span, scratch);
            }
        }
        worker.hands = hands;
        delivered
    }

    /// Picks one member of each group; one that cannot take the message hands it to the next.
    fn deliver_queued(&self, worker: &mut Worker, span: &Span, scratch: &[u8]) -> bool {
        let mut delivered = false;
        for group in self.route.queues() {
            let start = worker.random_below(group.len());
            let (late, early) = group.split_at(start);
            delivered |= early.iter().chain(late).any(|member| {
                self.deliver_to_connection(
                    worker,
                    std::slice::from_ref(member),
                    std::slice::from_ref(span),
                    scratch,
                    &mut [],
                ) > 0
            });
        }
        delivered
    }

    /// `receivers` are subscriptions of one connection. They get the messages in order, each message before the
    /// next one, as if there were no runs. Returns how many copies were appended; they stop at the first that does not
    /// fit.
    pub(crate) fn deliver_to_connection(
        &self,
        worker: &mut Worker,
        receivers: &[Receiver],
        spans: &[Span],
        scratch: &[u8],
        payloads: &mut [Option<Bytes>],
    ) -> usize {
        let Some(connection) = receivers.first().map(Receiver::connection) else { return 0 };
        if !self.echo && Arc::ptr_eq(connection, self.publisher) {
            return 0;
        }
        if connection.tracks_responses() {
            // Before they can be on their way: a quick answer must find them.
            for span in spans.iter().filter(|span| span.reply_bytes > 0) {
                let text = if span.scratch { scratch } else { self.input };
                let reply = &text[span.tail.start..span.tail.start + span.reply_bytes];
                connection.track_response(reply, self.now_ns);
            }
        }
        let headers = connection.headers();
        let mut outbound = connection.outbound().lock();
        if outbound.closed {
            return 0;
        }
        let before = (outbound.messages, outbound.message_bytes, outbound.pending_bytes());
        let mut full = false;
        let simple = self.append_simple(&mut outbound, connection, receivers, spans, payloads.is_empty());
        'messages: for (index, span) in spans.iter().enumerate().skip(simple) {
            if !self.stall_producers && outbound.is_stalling() {
                continue;
            }
            let text = if span.scratch { scratch } else { self.input };
            for receiver in receivers {
                if !count(&receiver.subscription, &mut worker.ended) {
                    continue;
                }
                let tail = &text[span.tail.clone()];
                let payload = payloads.get_mut(index).filter(|_| span.message_bytes >= SHARED_BYTES_MIN);
                let appended = match (span.header_bytes > 0, headers) {
                    _ if self.shown_subject.is_some() => {
                        self.append_shown(&mut outbound, connection, receiver, tail, span, &mut worker.line)
                    }
                    (false, _) => self.append(
                        &mut outbound,
                        connection,
                        self.route.prefix(receiver),
                        tail,
                        span,
                        payload,
                    ),
                    (true, true) => {
                        let prefix = self.route.header_prefix(receiver);
                        self.append(&mut outbound, connection, prefix, tail, span, payload)
                    }
                    (true, false) => self.append_stripped(&mut outbound, connection, receiver, tail, span),
                };
                if appended.is_err() {
                    full = true;
                    break 'messages;
                }
                outbound.messages += 1;
                outbound.message_bytes +=
                    (span.message_bytes - if headers { 0 } else { span.header_bytes }) as u64;
                if self.trace {
                    self.trace_delivery(connection, receiver, headers, tail, span);
                }
            }
        }
        let copies = outbound.messages - before.0;
        let delivered = copies > 0;
        worker.batch.out_messages += copies;
        worker.batch.out_bytes += outbound.message_bytes - before.1;
        worker.batch.appended_bytes += outbound.pending_bytes() - before.2;
        let behind = self.stall_producers && outbound.is_stalling();
        worker.after_append(connection, outbound, behind, delivered, full);
        copies as usize
    }

    /// The start of a run in its most common form, without the questions that it does not need: one subscription that
    /// may have any number of messages, no headers, nothing shared, no trace. Returns how many were appended.
    fn append_simple(
        &self,
        outbound: &mut Outbound,
        connection: &Connection,
        receivers: &[Receiver],
        spans: &[Span],
        nothing_shared: bool,
    ) -> usize {
        let ([receiver], None) = (receivers, self.shown_subject) else { return 0 };
        let subscription = &receiver.subscription;
        if !nothing_shared
            || self.trace
            || !self.stall_producers
            || subscription.max() > 0
            || subscription.is_closed()
        {
            return 0;
        }
        let (prefix, pool) = (self.route.prefix(receiver), connection.pool());
        let mut copies = 0;
        for span in spans.iter().take_while(|span| span.header_bytes == 0 && !span.scratch) {
            if outbound.append(pool, prefix, &self.input[span.tail.clone()]).is_err() {
                break;
            }
            copies += 1;
            outbound.message_bytes += span.message_bytes as u64;
        }
        outbound.messages += copies;
        subscription.set_delivered(subscription.delivered() + copies);
        copies as usize
    }

    #[inline]
    fn append(
        &self,
        outbound: &mut Outbound,
        connection: &Connection,
        prefix: &[u8],
        tail: &[u8],
        span: &Span,
        payload: Option<&mut Option<Bytes>>,
    ) -> Result<(), Full> {
        let Some(payload) = payload else { return outbound.append(connection.pool(), prefix, tail) };
        let (line, message) = tail.split_at(tail.len() - span.message_bytes - 2);
        if outbound.pending_bytes() + prefix.len() + tail.len() > outbound.limit_bytes() {
            return Err(Full);
        }
        outbound.append(connection.pool(), prefix, line)?;
        outbound.append_shared(payload.get_or_insert_with(|| shared_copy(connection.pool(), message)).clone())
    }

    /// With another subject than the route's.
    fn append_shown(
        &self,
        outbound: &mut Outbound,
        connection: &Connection,
        receiver: &Receiver,
        tail: &[u8],
        span: &Span,
        line: &mut Vec<u8>,
    ) -> Result<(), Full> {
        let strips = span.header_bytes > 0 && !connection.headers();
        let shown = self.shown_subject.unwrap_or_default();
        begin_line(line, span.header_bytes > 0 && !strips, shown, receiver.subscription.sid());
        if !strips {
            return outbound.append(connection.pool(), line, tail);
        }
        self.append_stripped_after(outbound, connection, line, tail, span)
    }

    /// To a client that does not understand headers: the message without them, and its size without theirs.
    fn append_stripped(
        &self,
        outbound: &mut Outbound,
        connection: &Connection,
        receiver: &Receiver,
        tail: &[u8],
        span: &Span,
    ) -> Result<(), Full> {
        let mut line = self.route.prefix(receiver).to_vec();
        self.append_stripped_after(outbound, connection, &mut line, tail, span)
    }

    fn append_stripped_after(
        &self,
        outbound: &mut Outbound,
        connection: &Connection,
        line: &mut Vec<u8>,
        tail: &[u8],
        span: &Span,
    ) -> Result<(), Full> {
        if span.reply_bytes > 0 {
            line.extend_from_slice(&tail[..span.reply_bytes + 1]);
        }
        line.extend_from_slice(format!("{}\r\n", span.message_bytes - span.header_bytes).as_bytes());
        let message = &tail[tail.len() - span.message_bytes - 2 + span.header_bytes..];
        outbound.append(connection.pool(), line, message)
    }

    /// Removes subscriptions that have had their last message.
    pub(crate) fn remove_ended(&self, worker: &mut Worker) {
        for subscription in worker.ended.drain(..) {
            if !self.shared.unsubscribe(self.account, &subscription) {
                // It heard of the message through an import.
                let name = subscription.connection().profile().account;
                if let Some(account) = name.and_then(|name| self.shared.accounts.find(&name)) {
                    self.shared.unsubscribe(&account, &subscription);
                }
            }
            subscription.connection().subscription_table().lock().remove(&subscription);
        }
    }

    #[cold]
    fn trace_delivery(
        &self,
        connection: &Connection,
        receiver: &Receiver,
        headers: bool,
        tail: &[u8],
        span: &Span,
    ) {
        let with_headers = span.header_bytes > 0 && headers;
        let prefix =
            if with_headers { self.route.header_prefix(receiver) } else { self.route.prefix(receiver) };
        let line = &tail[..tail.len() - span.message_bytes - 4];
        self.shared.log.write(
            Level::Trace,
            format_args!(
                "{} - ->> [{}{}]",
                connection.label(),
                String::from_utf8_lossy(prefix),
                String::from_utf8_lossy(line)
            ),
        );
    }
}

impl Worker {
    /// Something was appended to the connection's buffer, or did not fit: who is to know. `behind`: whoever sends should wait.
    pub(crate) fn after_append(
        &mut self,
        connection: &Arc<Connection>,
        mut outbound: MutexGuard<'_, Outbound>,
        behind: bool,
        delivered: bool,
        full: bool,
    ) {
        if full {
            drop(outbound);
            connection.close(CloseReason::SlowConsumerPendingBytes);
            return;
        }
        if behind && !self.stalling.last().is_some_and(|last| Arc::ptr_eq(last, connection)) {
            self.stalling.push(connection.clone());
        }
        if delivered && promise(&mut outbound) {
            self.promised.push(connection.clone());
        }
    }

    /// Delivers one message of the worker's scratch space without a route, if it has no receiver or just one connection
    /// with one subscription; false, and nothing is done, when it is not as simple as that.
    pub(crate) fn deliver_once(
        &mut self,
        stamps: &Stamps,
        account: &Account,
        subject: &[u8],
        span: &Span,
    ) -> bool {
        if account.imports_services() {
            return false;
        }
        let only = match self.recall.find(stamps, account, subject) {
            Leads::Nowhere => return true,
            Leads::To(only) => only.clone(),
            Leads::Elsewhere => return false,
        };
        only.is_plain()
            && only.max() == 0
            && only.may_receive(subject)
            && self.append_once(&only, subject, span)
    }

    fn append_once(&mut self, subscription: &Arc<Subscription>, subject: &[u8], span: &Span) -> bool {
        let connection = subscription.connection();
        if span.header_bytes > 0 && !connection.headers() {
            return false;
        }
        begin_line(&mut self.line, span.header_bytes > 0, subject, subscription.sid());
        let tail = &self.scratch[span.tail.clone()];
        let mut outbound = connection.outbound().lock();
        if outbound.closed || subscription.is_closed() {
            return true;
        }
        let full = outbound.append(connection.pool(), &self.line, tail).is_err();
        if !full {
            subscription.set_delivered(subscription.delivered() + 1);
            outbound.messages += 1;
            outbound.message_bytes += span.message_bytes as u64;
            self.batch.out_messages += 1;
            self.batch.out_bytes += span.message_bytes as u64;
            self.batch.appended_bytes += self.line.len() + tail.len();
        }
        self.after_append(connection, outbound, false, !full, full);
        true
    }
}

/// The start of a subscriber's line: `MSG <subject> <sid> `, or `HMSG`.
#[inline]
pub(crate) fn begin_line(line: &mut Vec<u8>, headers: bool, subject: &[u8], sid: &[u8]) {
    line.clear();
    line.extend_from_slice(if headers { b"HMSG " } else { b"MSG " });
    for part in [subject, sid] {
        line.extend_from_slice(part);
        line.push(b' ');
    }
}

/// A service was called in this batch.
pub(crate) fn note_service(
    called: &mut Vec<Arc<Subscription>>,
    subscription: &Arc<Subscription>,
    service: &Arc<dyn Service>,
) {
    let same = |called: &Arc<Subscription>| called.service().is_some_and(|other| Arc::ptr_eq(other, service));
    if !called.iter().any(same) {
        called.push(subscription.clone());
    }
}

/// Counts one message for the subscription, under its connection's lock; false when it has ended.
#[inline]
fn count(subscription: &Arc<Subscription>, ended: &mut Vec<Arc<Subscription>>) -> bool {
    if subscription.is_closed() {
        return false;
    }
    let delivered = subscription.delivered() + 1;
    subscription.set_delivered(delivered);
    let max = subscription.max();
    if max > 0 && delivered >= max {
        subscription.close();
        ended.push(subscription.clone());
        return delivered == max;
    }
    true
}
