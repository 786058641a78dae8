//! What a `PUB` or `HPUB` of a client does.
//!
//! This is the general path of a publish: check, route, deliver, and say so if nobody is there. One in the plainest form
//! is remembered; as long as the same comes again, the loop in [`Client::receive`] collects it without coming here.

use std::sync::Arc;

use sonata_proto::encode::{self, ErrorText, Quoted};
use sonata_proto::parse::Publish;
use sonata_subject::is_literal;

use super::{Client, Hot};
use crate::account::Account;
use crate::delivery::{Span, note_service};
use crate::importing::Answer;
use crate::msgtrace::{self, Asked, Event, Publication, Trace};
use crate::recall::Leads;
use crate::route::{Naming, Route};
use crate::service::Inbound;
use crate::shared::Level;
use crate::worker::{TURN_BYTES_MAX, Worker};

/// Longest subject of a remembered publish; longer ones take the general path each time.
const HOT_LINE_BYTES_MAX: usize = 256;

/// Subjects that belong to the server's own consensus; only the system account may publish to them.
const CONSENSUS_PREFIX: &[u8] = b"$NRG.";
/// Subjects and replies that gateways use.
const GATEWAY_PREFIXES: [&[u8]; 2] = [b"_GR_.", b"$GR."];
/// Subjects of JetStream's acknowledgements and flow control, each of which is used once.
const ONCE_PREFIXES: [&[u8]; 2] = [b"$JS.ACK.", b"$JS.FC."];
/// Replies that clients may not choose.
const RESERVED_REPLIES: [&[u8]; 4] = [b"_R_.", b"$JS.ACK.", b"_GR_.", b"$GR."];

impl Client {
    /// `end` is where the operation ends in the input.
    pub(super) fn publish(&mut self, worker: &mut Worker, input: &[u8], end: usize, publish: &Publish<'_>) {
        worker.batch.in_messages += 1;
        worker.batch.in_bytes += publish.message.len() as u64;
        // `HMSG` leaves no subject behind and is not looked at, see the parser.
        if self.options.pedantic && !publish.subject.is_empty() && !is_literal(publish.subject) {
            self.send_error(worker, &ErrorText::InvalidPublishSubject);
        }
        let Some(member) = &self.member else { return };
        if publish.header_bytes > 0
            && msgtrace::might_ask(&publish.message[..publish.header_bytes], &member.account)
        {
            match self.asked(worker, publish) {
                Asked::Nothing => {}
                Asked::Trace(trace) => return self.publish_traced(worker, publish, trace),
                Asked::Drop => return self.acknowledge(worker),
                Asked::Refused(destination) => {
                    return self
                        .refuse_publish(worker, &ErrorText::PublishPermission { subject: &destination });
                }
            }
        }
        let Some(member) = &self.member else { return };
        // A mapping renames first: permissions are asked about what is published in the end.
        let is_answer = Answer::is_one(publish.subject);
        let mapped = match member.account.has_mappings() && !is_answer {
            true => match worker.route(&self.shared, &member.account, publish.subject) {
                Some(route) => Some(route),
                // Lost on purpose; what it would have been called is not known.
                None => {
                    self.acknowledge(worker);
                    if let (Some(reply), true) = (publish.reply, self.options.no_responders) {
                        self.send_no_responders(worker, reply, b"");
                    }
                    return;
                }
            },
            false => None,
        };
        let subject = mapped.as_ref().map_or(publish.subject, |route| route.mapped_subject());
        let Some(permitted) = self.check_publish(worker, subject, publish.reply) else { return };
        self.acknowledge(worker);
        if is_answer {
            return self.answer(worker, publish);
        }
        let Some(member) = &self.member else { return };
        if mapped.is_none()
            && let Some(known) = self.serve_once(worker, &member.account, publish)
        {
            if let (false, Some(reply), true) = (known, publish.reply, self.options.no_responders) {
                self.send_no_responders(worker, reply, subject);
            }
            return;
        }
        let found = mapped.clone().or_else(|| worker.route(&self.shared, &member.account, publish.subject));
        let Some(route) = found else { return };
        let span = match publish.verbatim {
            // The rest of the operation, from behind the subject on, stands in the input as it is to be sent.
            Some(verbatim) => Span {
                tail: end - verbatim.len()..end,
                scratch: false,
                reply_bytes: publish.reply.map_or(0, <[u8]>::len),
                header_bytes: publish.header_bytes,
                message_bytes: publish.message.len(),
            },
            None => rewritten(&mut worker.scratch, publish),
        };
        worker.spans.push(span);
        let delivered = self.run(member, &route, input).deliver(worker);
        if !delivered
            && let Some(reply) = publish.reply
            && self.options.no_responders
        {
            self.send_no_responders(worker, reply, subject);
        }
        // Only the second in a row is remembered: with many subjects in turn it would be for nothing.
        let route_address = Arc::as_ptr(&route) as usize;
        let again = std::mem::replace(&mut self.last_route_address, route_address) == route_address;
        let as_published = route.subject() == publish.subject;
        if again
            && as_published
            && permitted == Permitted::Always
            && !self.options.verbose
            && !self.shared.is_tracing()
        {
            self.remember(route, publish);
        }
    }

    /// Calls the service that the message is for, if that is all there is to do and its subject is used once: then a route
    /// would cost more than the message. Whether it concerned the service.
    fn serve_once(&self, worker: &mut Worker, account: &Arc<Account>, publish: &Publish<'_>) -> Option<bool> {
        let is_used_once = ONCE_PREFIXES.iter().any(|prefix| publish.subject.starts_with(prefix));
        if !is_used_once || account.imports_services() || self.shared.is_tracing() {
            return None;
        }
        let leads = worker.recall.find(&self.shared.stamps, account, publish.subject);
        let Leads::To(only) = leads else { return None };
        let service = only.service().filter(|_| !only.is_closed())?;
        let (headers, payload) = publish.message.split_at(publish.header_bytes);
        let message = Inbound {
            subscription: only,
            account,
            subject: publish.subject,
            reply: publish.reply,
            headers,
            payload,
            publisher: &self.connection,
            now_ns: self.now_ns,
        };
        let known = service.receive(&message, &mut worker.outbox);
        note_service(&mut worker.services, only, service);
        Some(known)
    }

    /// What the headers of a message ask for.
    fn asked(&self, worker: &mut Worker, publish: &Publish<'_>) -> Asked {
        let Some(member) = &self.member else { return Asked::Nothing };
        let may_publish = |subject: &[u8]| {
            member.permissions.as_ref().is_none_or(|permissions| permissions.can_publish(subject))
        };
        let publication = Publication {
            block: &publish.message[..publish.header_bytes],
            subject: publish.subject,
            message_bytes: publish.message.len(),
            account: &member.account,
            publisher: &self.connection,
            now_ns: self.now_ns,
        };
        publication.asks(|| worker.random_below(100) as u8, may_publish)
    }

    /// The same as [`Client::publish`], noting each step.
    fn publish_traced(&mut self, worker: &mut Worker, publish: &Publish<'_>, mut trace: Box<Trace>) {
        let Some(account) = self.member.as_ref().map(|member| member.account.clone()) else { return };
        let Some(route) = worker.route(&self.shared, &account, publish.subject) else {
            self.acknowledge(worker);
            return trace.tell(&self.shared, &mut worker.outbox);
        };
        let subject = route.mapped_subject();
        if self.check_publish(worker, subject, publish.reply).is_none() {
            let subject = String::from_utf8_lossy(subject);
            trace.error = Some(format!("Permissions Violation for Publish to {subject:?}"));
            return trace.tell(&self.shared, &mut worker.outbox);
        }
        self.acknowledge(worker);
        if subject != publish.subject {
            trace.events.push(Event::Mapping { to: subject.into() });
        }
        let Some(member) = &self.member else { return };
        let only = trace.only;
        worker.msgtrace = Some(trace);
        let span = rewritten(&mut worker.scratch, publish);
        worker.spans.push(span);
        let delivered = self.run(member, &route, b"").deliver(worker);
        if let Some(trace) = worker.msgtrace.take() {
            trace.tell(&self.shared, &mut worker.outbox);
        }
        if !delivered
            && !only
            && let Some(reply) = publish.reply
            && self.options.no_responders
        {
            self.send_no_responders(worker, reply, subject);
        }
    }

    /// An answer to a request that came from another account; whoever listens to such subjects here gets it as well.
    fn answer(&mut self, worker: &mut Worker, publish: &Publish<'_>) {
        let Some(member) = &self.member else { return };
        let span = rewritten(&mut worker.scratch, publish);
        let subject = publish.subject;
        let (shared, account, publisher) = (&*self.shared, &member.account, &self.connection);
        let mut delivered =
            Answer { shared, account, subject, publisher, now_ns: self.now_ns }.deliver(worker, &span);
        // Each has a subject of its own, so that its route is not worth remembering.
        if account.interest.has_interest(subject) {
            let route = Route::build(&self.shared.stamps, account, subject, Naming::AsIs);
            worker.spans.push(span);
            delivered |= self.run(member, &route, b"").deliver(worker);
        }
        worker.scratch.clear();
        if !delivered
            && let Some(reply) = publish.reply
            && self.options.no_responders
        {
            self.send_no_responders(worker, reply, subject);
        }
    }

    /// Whether the message may be published; if not, the client has been told.
    fn check_publish(
        &mut self,
        worker: &mut Worker,
        subject: &[u8],
        reply: Option<&[u8]>,
    ) -> Option<Permitted> {
        let member = self.member.as_ref()?;
        if GATEWAY_PREFIXES.iter().any(|prefix| subject.starts_with(prefix)) {
            self.refuse_publish(worker, &ErrorText::PublishPermission { subject });
            return None;
        }
        let permitted = match &member.permissions {
            Some(permissions) if !permissions.can_publish(subject) => {
                if !self.connection.may_respond(subject, self.now_ns) {
                    self.refuse_publish(worker, &ErrorText::PublishPermission { subject });
                    return None;
                }
                Permitted::Once
            }
            _ => Permitted::Always,
        };
        if subject.starts_with(CONSENSUS_PREFIX) && *member.account.name() != self.settings.system_account {
            self.refuse_publish(worker, &ErrorText::PublishPermission { subject });
            return None;
        }
        if let Some(reply) = reply
            && RESERVED_REPLIES.iter().any(|prefix| reply.starts_with(prefix) && reply.len() > prefix.len())
        {
            self.refuse_publish(worker, &ErrorText::ReplyPermission { reply });
            return None;
        }
        Some(permitted)
    }

    fn refuse_publish(&mut self, worker: &mut Worker, text: &ErrorText<'_>) {
        self.send_error(worker, text);
        let user = self.user();
        let what = match text {
            ErrorText::ReplyPermission { reply } => {
                format!("Publish Violation - {user}, Reply {}", Quoted(reply))
            }
            ErrorText::PublishPermission { subject } => {
                format!("Publish Violation - {user}, Subject {}", Quoted(subject))
            }
            other => other.to_string(),
        };
        self.log(Level::Error, format_args!("{what}"));
    }

    /// To the client's own subscription that matches the reply, if it has one.
    fn send_no_responders(&mut self, worker: &mut Worker, reply: &[u8], subject: &[u8]) {
        let Some(member) = &self.member else { return };
        let (route, _) = worker.routes.find(&self.shared.stamps, &member.account, reply, Naming::AsIs);
        let own = route
            .plain_by_connection()
            .flatten()
            .find(|receiver| Arc::ptr_eq(receiver.connection(), &self.connection));
        if let Some(receiver) = own {
            let mut message = Vec::new();
            encode::no_responders(reply, receiver.subscription.sid(), subject, &mut message);
            self.send(worker, &message);
        }
    }

    /// Remembers a publish in the plainest form, so that the next one on its subject needs no parsing.
    fn remember(&mut self, route: Arc<Route>, publish: &Publish<'_>) {
        // A pedantic client is told each time.
        let told = self.options.pedantic && !is_literal(publish.subject);
        let plain =
            !told && publish.reply.is_none() && publish.header_text.is_empty() && publish.verbatim.is_some();
        if plain && publish.subject.len() < HOT_LINE_BYTES_MAX {
            let line_start = [b"PUB ", publish.subject, b" "].concat().into_boxed_slice();
            let run_bytes_max = run_bytes_max(&route);
            self.hot = Some(Box::new(Hot { line_start, route, run_bytes: 0, run_bytes_max }));
        }
    }
}

/// How long a run may become so that delivering it is not too much for a turn, even when receivers turn up that were
/// not there when it began. Long enough that a lock per run is nothing per message.
pub(super) fn run_bytes_max(route: &Route) -> usize {
    const RUN_BYTES_MAX: usize = 32 * 1024;
    (TURN_BYTES_MAX / route.receivers().max(1)).min(RUN_BYTES_MAX)
}

/// How long a permission lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permitted {
    /// Until permissions change.
    Always,
    /// For this message: it answers a request.
    Once,
}

/// The text that receivers get, in the form that they expect: single blanks, CRLF.
fn rewritten(scratch: &mut Vec<u8>, publish: &Publish<'_>) -> Span {
    let start = scratch.len();
    if let Some(reply) = publish.reply {
        scratch.extend_from_slice(reply);
        scratch.push(b' ');
    }
    if publish.header_bytes > 0 {
        scratch.extend_from_slice(publish.header_text);
        scratch.push(b' ');
    }
    scratch.extend_from_slice(publish.size_text);
    scratch.extend_from_slice(b"\r\n");
    scratch.extend_from_slice(publish.message);
    scratch.extend_from_slice(b"\r\n");
    Span {
        tail: start..scratch.len(),
        scratch: true,
        reply_bytes: publish.reply.map_or(0, <[u8]>::len),
        header_bytes: publish.header_bytes,
        message_bytes: publish.message.len(),
    }
}
