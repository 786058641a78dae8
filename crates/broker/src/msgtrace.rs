//! Message tracing (ADR-41): a message that asks for it tells what became of it.
//!
//! A publish with `Nats-Trace-Dest`, or with a sampled `traceparent` in an account that has a destination, is delivered on
//! its own, receiver by receiver, and each step is noted. Only messages with headers are asked, and everything else goes
//! its way without knowing.

use std::sync::Arc;

use memchr::memmem;
use sonata_subject::is_literal;

use crate::account::Account;
use crate::connection::Connection;
use crate::delivery::{Run, Span};
use crate::denied::{Denied, denied};
use crate::importing::lines;
use crate::links::StreamImport;
use crate::route::Receiver;
use crate::service::{Outbox, Outgoing};
use crate::shared::Shared;
use crate::subscription::Subscription;
use crate::worker::Worker;

/// Where traces go; set by a client.
pub(crate) const DESTINATION: &str = "Nats-Trace-Dest";
/// Set when the message is not to be delivered.
const ONLY: &str = "Nats-Trace-Only";
/// A header of the first design, which switches tracing off.
const ORIGIN_ACCOUNT: &str = "Nats-Trace-Origin-Account";
/// W3C Trace Context.
const TRACE_PARENT: &str = "traceparent";
/// The value of [`DESTINATION`] that says: not here.
pub(crate) const DISABLED: &str = "trace disabled";

/// Where the traces of an account's messages go that carry a `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceDestination {
    /// A literal subject of the account.
    pub subject: Box<[u8]>,
    /// Of how many of a hundred.
    pub percent: u8,
}

/// What became of one message.
#[derive(Debug)]
pub struct Trace {
    /// Where it is told, in the account that the message was published in.
    pub destination: Box<[u8]>,
    /// That account.
    pub account: Arc<Account>,
    /// Who published.
    pub publisher: Arc<Connection>,
    /// Nothing is delivered or stored.
    pub only: bool,
    /// The message's headers, as they are spelled; those of one name together.
    pub headers: Vec<(String, Vec<String>)>,
    /// Bytes of headers and payload.
    pub message_bytes: usize,
    /// What it was published as.
    pub subject: Box<[u8]>,
    /// Why it was not taken.
    pub error: Option<String>,
    /// The steps.
    pub events: Vec<Event>,
    /// The time of the batch on the server's clock.
    pub now_ns: u64,
}

/// A step.
#[derive(Debug)]
pub enum Event {
    /// It was given another name.
    Mapping {
        /// The name.
        to: Box<[u8]>,
    },
    /// It left the account for a subscriber of another one.
    StreamExport {
        /// That account.
        account: Arc<str>,
        /// What it is called there.
        to: Box<[u8]>,
    },
    /// It asks a service of another account.
    ServiceImport {
        /// That account.
        account: Arc<str>,
        /// What it was called here.
        from: Box<[u8]>,
        /// What it is called there.
        to: Box<[u8]>,
    },
    /// It came to a stream.
    JetStream(TracedStream),
    /// It came to a client.
    Egress {
        /// Number of its connection.
        client: u64,
        /// What it calls itself.
        name: Box<str>,
        /// Its account, if it is not the publisher's.
        account: Option<Arc<str>>,
        /// What it is subscribed to, in the account that the message came from.
        subscription: Box<[u8]>,
        /// Its queue group.
        queue: Option<Box<[u8]>>,
        /// Why it did not get the message.
        error: Option<&'static str>,
    },
}

/// What a stream makes of a traced message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TracedStream {
    /// Its name.
    pub stream: String,
    /// What the message is stored as.
    pub subject: String,
    /// Nobody is interested, so that it is not stored.
    pub no_interest: bool,
    /// Why it is not stored.
    pub error: Option<String>,
}

/// What a request to another account says of tracing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracing {
    /// The message is not traced.
    Off,
    /// It is traced there, too.
    GoesOn,
    /// It is not to be traced there.
    Ends,
}

/// What the headers of a message ask for.
pub(crate) enum Asked {
    /// Nothing: it is an ordinary message.
    Nothing,
    /// A trace.
    Trace(Box<Trace>),
    /// A trace that cannot be had, of a message that is not to be delivered: it is dropped.
    Drop,
    /// A trace on a subject that may not be used.
    Refused(Box<[u8]>),
}

/// Whether headers might ask for a trace: a cheap look at a block before it is taken apart.
#[inline]
pub(crate) fn might_ask(block: &[u8], account: &Account) -> bool {
    memmem::find(block, DESTINATION.as_bytes()).is_some()
        || (account.traces() && block.len() > TRACE_PARENT.len())
}

/// A message that might ask for a trace.
pub(crate) struct Publication<'a> {
    /// Its header block.
    pub(crate) block: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) message_bytes: usize,
    pub(crate) account: &'a Arc<Account>,
    pub(crate) publisher: &'a Arc<Connection>,
    pub(crate) now_ns: u64,
}

impl Publication<'_> {
    /// Takes the headers apart. `may_publish` is asked about the destination.
    pub(crate) fn asks(
        &self,
        random_percent: impl FnOnce() -> u8,
        may_publish: impl FnOnce(&[u8]) -> bool,
    ) -> Asked {
        let mut headers: Vec<(String, Vec<String>)> = Vec::new();
        let mut sampled = false;
        for line in lines(self.block) {
            let line = String::from_utf8_lossy(line);
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.is_empty() || value.is_empty() {
                continue;
            }
            sampled |= name.eq_ignore_ascii_case(TRACE_PARENT) && is_sampled(value);
            match headers.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => values.push(value.to_owned()),
                None => headers.push((name.to_owned(), vec![value.to_owned()])),
            }
        }
        let first = |name: &str| {
            let found = headers.iter().find(|(known, _)| known == name);
            found.and_then(|(_, values)| values.first()).map(String::as_str)
        };
        let (destination, only) = match (first(DESTINATION), self.account.trace_destination()) {
            (Some(DISABLED), _) => return Asked::Nothing,
            (Some(destination), _) => {
                let only = first(ONLY)
                    .is_some_and(|only| ["1", "true", "on"].contains(&&*only.to_ascii_lowercase()));
                (Box::from(destination.as_bytes()), only)
            }
            (None, Some(destination)) if sampled => {
                if random_percent() >= destination.percent {
                    return Asked::Nothing;
                }
                (destination.subject.clone(), false)
            }
            _ => return Asked::Nothing,
        };
        let without = if only { Asked::Drop } else { Asked::Nothing };
        if first(ORIGIN_ACCOUNT).is_some() || !is_literal(&destination) {
            return without;
        }
        if !may_publish(&destination) {
            return Asked::Refused(destination);
        }
        Asked::Trace(Box::new(Trace {
            destination,
            account: self.account.clone(),
            publisher: self.publisher.clone(),
            only,
            headers,
            message_bytes: self.message_bytes,
            subject: self.subject.into(),
            error: None,
            events: Vec::new(),
            now_ns: self.now_ns,
        }))
    }
}

/// The last bit of the flags of a trace context.
fn is_sampled(value: &str) -> bool {
    match value.split('-').collect::<Vec<_>>()[..] {
        [_, _, _, flags] if flags.len() == 2 => {
            u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1)
        }
        _ => false,
    }
}

impl Trace {
    /// Tells what became of the message.
    pub(crate) fn tell(&self, shared: &Shared, outbox: &mut Outbox) {
        let Some(introduce) = shared.introduce() else { return };
        if !self.account.interest.has_interest(&self.destination) && !self.account.imports_services() {
            return;
        }
        let (headers, payload) = introduce.traced(self);
        let message = Outgoing {
            route: b"",
            subject: &self.destination,
            reply: b"",
            headers: &headers,
            payload: &payload,
        };
        outbox.push(&self.account, &self.publisher, message);
    }
}

impl Trace {
    /// It did not come to somebody who may not receive it.
    fn note_denied(&mut self, denied: &Denied) {
        let mut is_told = true;
        if let Some((import, local)) = &denied.import {
            let account = denied.subscription.connection().profile().account;
            self.events.push(Event::StreamExport { account: account.unwrap_or_default(), to: local.clone() });
            is_told = import.allow_trace;
        }
        if is_told {
            let import = denied.import.as_ref().map(|(import, _)| import);
            let error = "Not delivered because subscription denies this subject";
            self.note_egress(&denied.subscription, import, Some(error));
        }
    }

    fn note_egress(
        &mut self,
        subscription: &Subscription,
        import: Option<&Arc<StreamImport>>,
        error: Option<&'static str>,
    ) {
        let connection = subscription.connection();
        let subscribed = subscription.subject();
        // Who hears through an import is told of by what it listens to over there.
        let over_there = import.and_then(|import| import.subjects.wanted(subscribed));
        let profile = connection.profile();
        self.events.push(Event::Egress {
            client: connection.id(),
            name: profile.name,
            account: profile.account.filter(|account| account != self.account.name()),
            subscription: over_there.map_or_else(|| subscribed.into(), Vec::into_boxed_slice),
            queue: subscription.queue().map(Box::from),
            error,
        });
    }
}

impl Run<'_> {
    /// Delivers one message, if it is to be delivered, and notes what became of it. True when somebody got it, or would
    /// have.
    pub(crate) fn deliver_traced(&self, worker: &mut Worker, span: &Span, scratch: &[u8]) -> bool {
        let Some(mut trace) = worker.msgtrace.take() else { return false };
        let mut delivered = false;
        let (queued, plain): (Vec<_>, Vec<_>) = denied(self.account, self.route.mapped_subject())
            .into_iter()
            .partition(|denied| denied.subscription.queue().is_some());
        plain.iter().for_each(|denied| trace.note_denied(denied));
        for receiver in self.route.plain_by_connection().flatten() {
            delivered |= self.deliver_one_traced(worker, receiver, span, scratch, &mut trace);
        }
        for group in self.route.queues() {
            let name = group.first().and_then(|member| member.subscription.queue());
            let of_group = queued.iter().filter(|denied| denied.subscription.queue() == name);
            let members: Vec<Member<'_>> =
                of_group.map(Member::Denied).chain(group.iter().map(Member::Receiver)).collect();
            let (late, early) = members.split_at(worker.random_below(members.len()));
            for member in early.iter().chain(late) {
                let taken = match member {
                    Member::Receiver(member) => {
                        self.deliver_one_traced(worker, member, span, scratch, &mut trace)
                    }
                    Member::Denied(denied) => {
                        trace.note_denied(denied);
                        false
                    }
                };
                if taken {
                    delivered = true;
                    break;
                }
            }
        }
        let is_group = |denied: &&Denied| {
            let mut groups = self.route.queues().iter().filter_map(|group| group.first());
            groups.any(|member| member.subscription.queue() == denied.subscription.queue())
        };
        queued.iter().filter(|denied| !is_group(denied)).for_each(|denied| trace.note_denied(denied));
        self.remove_ended(worker);
        for leg in self.route.services() {
            let text = if span.scratch { scratch } else { self.input };
            let traced =
                leg.subscription.service().and_then(|service| service.traced(&self.inbound(leg, span, text)));
            trace.events.extend(traced.map(Event::JetStream));
            delivered |=
                trace.only || self.deliver_to_service(worker, leg, std::slice::from_ref(span), scratch);
        }
        for leg in self.route.imports() {
            let export = &leg.import.export;
            trace.events.push(Event::ServiceImport {
                account: leg.import.exporter.name().clone(),
                from: self.route.mapped_subject().into(),
                to: leg.target.clone(),
            });
            if !export.allow_trace && trace.only {
                continue;
            }
            let spans = std::slice::from_ref(span);
            if export.allow_trace {
                worker.msgtrace = Some(trace);
                delivered |= self.request(worker, leg, spans, scratch, Tracing::GoesOn);
                let Some(back) = worker.msgtrace.take() else { return delivered };
                trace = back;
            } else {
                delivered |= self.request(worker, leg, spans, scratch, Tracing::Ends);
            }
        }
        worker.msgtrace = Some(trace);
        delivered
    }

    fn deliver_one_traced(
        &self,
        worker: &mut Worker,
        receiver: &Receiver,
        span: &Span,
        scratch: &[u8],
        trace: &mut Trace,
    ) -> bool {
        let (subscription, connection) = (&receiver.subscription, receiver.connection());
        let mut is_told = true;
        if let Some(import) = receiver.import() {
            trace.events.push(Event::StreamExport {
                account: connection.profile().account.unwrap_or_default(),
                to: self.route.shown(receiver).into(),
            });
            is_told = import.allow_trace;
        }
        let refusal = if !self.echo && Arc::ptr_eq(connection, self.publisher) {
            Some("Not delivered because of no echo")
        } else if subscription.is_closed() {
            Some("Not delivered because subscription is closed")
        } else if connection.close_reason().is_some() {
            Some("Not delivered because client is closed")
        } else {
            None
        };
        let mut taken = refusal.is_none();
        let mut error = refusal;
        if taken && !trace.only {
            taken = self.deliver_to_connection(
                worker,
                std::slice::from_ref(receiver),
                std::slice::from_ref(span),
                scratch,
                &mut [],
            ) > 0;
            error =
                (!taken).then_some("Not delivered because fast producer not stalled and consumer is slow");
        }
        if is_told {
            trace.note_egress(subscription, receiver.import(), error);
        }
        taken
    }
}

/// A member of a queue group, in the order in which they are tried.
enum Member<'a> {
    Receiver(&'a Receiver),
    Denied(&'a Denied),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sampled_bit_of_a_trace_context() {
        for (value, sampled) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", false),
            ("00-a-b-0", false),
            ("00-a-b-zz", false),
            ("", false),
        ] {
            assert_eq!(is_sampled(value), sampled, "{value:?}");
        }
    }
}
