//! One client connection as a state machine: its bytes and the hour go in, bytes for itself and for others come out.
//!
//! The clerk at the window: it never leaves the room. It does not know how bytes arrive, it does not wait, and when
//! something takes long (comparing a bcrypt hash) it says so and is told the outcome later.

use std::fmt;
use std::sync::Arc;

use sonata_auth::certificate::PeerCertificate;
use sonata_auth::connection_type::ConnectionType;
use sonata_auth::permission::{Permissions, SubscribeDecision};
use sonata_auth::response::ResponseTracker;
use sonata_auth::user::{Check, Credentials, Identity, Name, Outcome, Reason, SlowCheck};
use sonata_proto::connect::{self, ConnectOptions};
use sonata_proto::encode::{self, ErrorText, Quoted};
use sonata_proto::info::{self, ServerInfo};
use sonata_proto::parse::{Operation, ParseFault, ParseLimits, Parser, Publish, Step};
use sonata_subject::{classify, is_literal, tokens};

use crate::account::{Account, GLOBAL_ACCOUNT};
use crate::close::CloseReason;
use crate::connection::{Connection, Profile};
use crate::delivery::{Run, Span};
use crate::route::Route;
use crate::shared::{Level, Settings, Shared};
use crate::subscription::Subscription;
use crate::worker::{Batch, TURN_BYTES_MAX, Worker};

/// The first `PING` to a client comes after this, plus up to a fifth, unless the interval is shorter.
const FIRST_PING_NS: u64 = 2_000_000_000;
/// A round-trip time older than this is measured again.
const RTT_AGE_MAX_NS: u64 = 3_600_000_000_000;
/// Longest subject of a remembered publish; longer ones take the general path each time.
const HOT_LINE_BYTES_MAX: usize = 256;

/// Subjects that belong to the server's own consensus; only the system account may publish to them.
const CONSENSUS_PREFIX: &[u8] = b"$NRG.";
/// Subjects and replies that gateways use.
const GATEWAY_PREFIXES: [&[u8]; 2] = [b"_GR_.", b"$GR."];
/// Replies that clients may not choose.
const RESERVED_REPLIES: [&[u8]; 4] = [b"_R_.", b"$JS.ACK.", b"_GR_.", b"$GR."];
/// The queue group of the server's own services.
const SYSTEM_QUEUE: &[u8] = b"_sys_";

/// See the module.
pub struct Client {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    settings_version: u64,
    connection: Arc<Connection>,
    connection_type: ConnectionType,
    certificate: Option<Arc<PeerCertificate>>,
    nonce: Box<str>,
    phase: Phase,
    parser: Parser,
    options: Box<ConnectOptions>,
    connect_received: bool,
    first_pong_sent: bool,
    tls: TlsState,
    member: Option<Membership>,
    hot: Option<Box<Hot>>,
    ping: Ping,
    hour: Hour,
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing but `CONNECT` is taken, until the deadline.
    Connecting { deadline_ns: u64 },
    /// The outcome of a slow check is awaited.
    Checking { deadline_ns: u64 },
    /// Operations are carried out.
    Serving,
    /// Nothing is carried out any more.
    Closed,
}

/// Whether the connection is encrypted, for `INFO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsState {
    /// As the settings say.
    AsConfigured,
    /// A connection within the process: TLS is offered where it is otherwise required.
    Offered,
}

/// Being in an account.
struct Membership {
    account: Arc<Account>,
    permissions: Option<Arc<Permissions>>,
    user: Name,
}

/// The last publish that may simply happen again: its line up to the size, and its route.
struct Hot {
    line_start: Box<[u8]>,
    route: Arc<Route>,
    /// Bytes of the run that is being collected.
    run_bytes: usize,
    /// Bytes of input after which a run is delivered, so that it does not become too much for a turn.
    run_bytes_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Ping {
    due_ns: u64,
    sent_ns: Option<u64>,
    unanswered: u32,
    last_input_ns: u64,
    rtt_measured_ns: Option<u64>,
}

/// The time of the input at hand, and random bits that came with it.
#[derive(Debug, Clone, Copy)]
struct Hour {
    now_ns: u64,
}

/// What [`Client::receive`] made of the input.
#[derive(Debug)]
pub struct Received {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// The rest of the input is worth another call only with this many bytes; 0 means at once, after others had
    /// their turn.
    pub bytes_needed: usize,
    /// Work that must be done elsewhere before the next call.
    pub slow_check: Option<SlowCheck>,
}

/// How a client arrives.
pub struct Arrival {
    /// By which door.
    pub connection_type: ConnectionType,
    /// What it must sign if it has an nkey.
    pub nonce: Box<str>,
    /// The certificate it has shown, verified.
    pub certificate: Option<Arc<PeerCertificate>>,
    /// For `INFO`.
    pub tls: TlsState,
}

impl Client {
    /// A client whose connection was just accepted. Say [`Client::greet`] when `INFO` is to be sent.
    pub fn new(shared: Arc<Shared>, connection: Arc<Connection>, arrival: Arrival, now_ns: u64) -> Self {
        let settings_version = shared.version();
        let settings = shared.settings();
        let ping = Ping {
            due_ns: now_ns + settings.ping_interval_ns,
            sent_ns: None,
            unanswered: 0,
            last_input_ns: now_ns,
            rtt_measured_ns: None,
        };
        let mut client = Self {
            phase: Phase::Connecting { deadline_ns: now_ns + settings.auth_timeout_ns },
            parser: Parser::new(ParseLimits { headers: false, ..settings.parse }),
            shared,
            settings,
            settings_version,
            connection,
            connection_type: arrival.connection_type,
            certificate: arrival.certificate,
            nonce: arrival.nonce,
            options: Box::default(),
            connect_received: false,
            first_pong_sent: false,
            tls: arrival.tls,
            member: None,
            hot: None,
            ping,
            hour: Hour { now_ns },
        };
        if !client.settings.users.is_required(client.connection_type) {
            client.phase = Phase::Serving;
            client.bind(Identity { user: Name::Unknown, account: None, permissions: None, proxy: None });
        }
        client
    }

    /// The shared part.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The certificate that TLS has verified, once it has.
    pub fn set_certificate(&mut self, certificate: Option<Arc<PeerCertificate>>) {
        self.certificate = certificate;
    }

    /// The certificate that TLS has verified.
    pub fn certificate(&self) -> Option<&Arc<PeerCertificate>> {
        self.certificate.as_ref()
    }

    /// Starts the time in which the client must authenticate, once TLS is established.
    pub fn restart_auth_timer(&mut self, now_ns: u64) {
        if let Phase::Connecting { deadline_ns } = &mut self.phase {
            *deadline_ns = now_ns + self.settings.auth_timeout_ns;
        }
    }

    /// The `INFO` that opens the conversation. It leaves the client's address out while a proxy may still tell it.
    pub fn greeting(&self, address_known: bool) -> Vec<u8> {
        let mut info = self.info();
        info.nonce = self.nonce.to_string();
        if !address_known {
            info.client_ip.clear();
        }
        info.line()
    }

    /// An `INFO` for a client that takes it at any time; `None` for one that does not, or not yet.
    pub fn async_info(&mut self) -> Option<Vec<u8>> {
        self.notice_settings();
        (self.first_pong_sent && self.options.protocol >= 1).then(|| self.info().line())
    }

    /// Takes received bytes, which start with what the last call left over.
    pub fn receive(&mut self, worker: &mut Worker, input: &[u8], now_ns: u64) -> Received {
        self.hour = Hour { now_ns };
        self.notice_settings();
        let mut received = Received { consumed: 0, bytes_needed: 1, slow_check: None };
        let mut active = false;
        while !self.is_closed() {
            let rest = &input[received.consumed..];
            if rest.is_empty() {
                break;
            }
            if let Some(hot) = &mut self.hot
                && hot.run_bytes < hot.run_bytes_max
                && let Some(repeat) = self.parser.repeat(rest, &hot.line_start)
            {
                hot.run_bytes += repeat.consumed;
                let start = received.consumed + hot.line_start.len();
                worker.spans.push(Span {
                    tail: start..start + repeat.verbatim.len(),
                    scratch: false,
                    reply_bytes: 0,
                    header_bytes: 0,
                    message_bytes: repeat.payload_bytes,
                });
                worker.batch.in_messages += 1;
                worker.batch.in_bytes += repeat.payload_bytes as u64;
                received.consumed += repeat.consumed;
                continue;
            }
            self.deliver_run(worker, input);
            if worker.batch.appended_bytes > TURN_BYTES_MAX {
                received.bytes_needed = 0;
                break;
            }
            if !self.may_operate(rest) {
                break;
            }
            match self.parser.next(rest) {
                Ok(Step::Operation { operation, consumed }) => {
                    active |= !matches!(operation, Operation::Pong | Operation::Ok);
                    received.consumed += consumed;
                    received.slow_check = self.operate(worker, input, received.consumed, operation);
                    if received.slow_check.is_some() {
                        received.bytes_needed = 0;
                        break;
                    }
                }
                Ok(Step::Incomplete { bytes_needed }) => {
                    received.bytes_needed = bytes_needed;
                    break;
                }
                Err(fault) => self.refuse(&fault),
            }
        }
        self.deliver_run(worker, input);
        if active || worker.batch.in_messages > 0 {
            self.ping.last_input_ns = now_ns;
            self.connection.mark_active(now_ns);
        }
        self.settle(worker);
        received
    }

    /// The outcome of a [`SlowCheck`].
    pub fn finish_check(&mut self, worker: &mut Worker, outcome: Outcome, now_ns: u64) {
        self.hour = Hour { now_ns };
        if let Phase::Checking { deadline_ns } = self.phase {
            self.phase = Phase::Connecting { deadline_ns };
            self.admit(worker, outcome);
        }
        self.settle(worker);
    }

    /// When [`Client::on_timer`] has something to do.
    pub fn next_timer_ns(&self) -> u64 {
        match self.phase {
            Phase::Connecting { deadline_ns } | Phase::Checking { deadline_ns } => {
                deadline_ns.min(self.ping.due_ns)
            }
            Phase::Serving => self.ping.due_ns,
            Phase::Closed => u64::MAX,
        }
    }

    /// The time has come for something, or it has not.
    pub fn on_timer(&mut self, worker: &mut Worker, now_ns: u64) {
        self.hour = Hour { now_ns };
        self.notice_settings();
        if let Phase::Connecting { deadline_ns } | Phase::Checking { deadline_ns } = self.phase
            && now_ns >= deadline_ns
        {
            self.fail(&ErrorText::AuthenticationTimeout, CloseReason::AuthenticationTimeout);
            return;
        }
        if now_ns >= self.ping.due_ns && !self.is_closed() {
            self.on_ping_timer(worker, now_ns);
        }
    }

    /// Applies what a reload changed; `Some` when the client must prove again who it is and that takes long.
    pub fn recheck(&mut self, worker: &mut Worker, now_ns: u64) -> Option<SlowCheck> {
        self.hour = Hour { now_ns };
        self.notice_settings();
        if self.phase != Phase::Serving {
            return None;
        }
        let slow = match self.authenticate() {
            Check::Decided(outcome) => {
                self.admit_again(worker, outcome);
                None
            }
            Check::Slow(slow) => Some(slow),
        };
        self.settle(worker);
        slow
    }

    /// The outcome of a slow [`Client::recheck`].
    pub fn finish_recheck(&mut self, worker: &mut Worker, outcome: Outcome) {
        if self.phase == Phase::Serving {
            self.admit_again(worker, outcome);
        }
        self.settle(worker);
    }

    /// Takes the client out of its account. The connection must be closed already.
    pub fn leave(&mut self, worker: &mut Worker) -> Vec<Arc<Subscription>> {
        self.phase = Phase::Closed;
        self.hot = None;
        let subscriptions = self.drop_subscriptions();
        if let Some(member) = self.member.take() {
            member.account.leave();
        }
        self.settle(worker);
        subscriptions
    }

    /// Whether the connection is closed, by whomever.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed || self.connection.close_reason().is_some()
    }

    // ---- operations ----

    /// Whether the next operation may be carried out: before authentication only `CONNECT`, unless there is a user
    /// for those who present nothing.
    fn may_operate(&mut self, rest: &[u8]) -> bool {
        match self.phase {
            Phase::Serving => true,
            Phase::Closed | Phase::Checking { .. } => false,
            Phase::Connecting { .. } => {
                if matches!(rest.first(), Some(b'C' | b'c')) {
                    return true;
                }
                if self.settings.users.no_auth_user(self.connection_type).is_some()
                    && let Check::Decided(Outcome::Granted(identity)) = self.authenticate()
                {
                    // As a `CONNECT` would, but its defaults stay.
                    self.connect_received = true;
                    self.phase = Phase::Serving;
                    self.bind(identity);
                    return !self.is_closed();
                }
                self.deny(Reason::NothingPresented);
                false
            }
        }
    }

    fn operate(
        &mut self,
        worker: &mut Worker,
        input: &[u8],
        end: usize,
        operation: Operation<'_>,
    ) -> Option<SlowCheck> {
        if self.shared.is_tracing() {
            self.trace_operation(&operation);
        }
        match operation {
            Operation::Publish(publish) => self.publish(worker, input, end, &publish),
            Operation::Subscribe { subject, queue, sid } => self.subscribe(worker, subject, queue, sid),
            Operation::Unsubscribe { sid, max } => self.unsubscribe(worker, sid, max),
            Operation::Ping => self.answer_ping(worker),
            Operation::Pong => self.count_pong(),
            Operation::Connect(json) => return self.connect(worker, json),
            Operation::Info(json) => {
                if !info::is_readable(json) {
                    self.log(Level::Error, format_args!("INFO is not JSON"));
                    self.close(CloseReason::ProtocolViolation);
                }
            }
            Operation::Ok => {}
            Operation::Error(text) => {
                self.log(Level::Error, format_args!("Client Error {}", String::from_utf8_lossy(text)));
                self.close(CloseReason::ParseError);
            }
        }
        None
    }

    fn connect(&mut self, worker: &mut Worker, json: &[u8]) -> Option<SlowCheck> {
        let now_ns = self.hour.now_ns;
        if let Err(error) = self.options.apply(json) {
            self.log(Level::Error, format_args!("{error}"));
            self.close(CloseReason::ProtocolViolation);
            return None;
        }
        // The time since the greeting is the first estimate, as in the reference.
        self.set_rtt(now_ns.saturating_sub(self.connection.started_ns()));
        let first = self.settings.ping_interval_ns.min(FIRST_PING_NS);
        self.ping.due_ns = now_ns + first + worker.random_below((first / 5).max(1) as usize) as u64;
        if self.connect_received {
            // A second `CONNECT` may lead into another account; nothing of the first may stay behind.
            self.drop_subscriptions();
        }
        self.connect_received = true;
        self.hot = None;
        let deadline_ns = match self.phase {
            Phase::Connecting { deadline_ns } => deadline_ns,
            _ => now_ns + self.settings.auth_timeout_ns,
        };
        self.phase = Phase::Connecting { deadline_ns };
        match self.authenticate() {
            Check::Decided(outcome) => {
                self.admit(worker, outcome);
                None
            }
            Check::Slow(slow) => {
                self.phase = Phase::Checking { deadline_ns };
                Some(slow)
            }
        }
    }

    fn authenticate(&self) -> Check {
        self.settings.users.authenticate(&Credentials {
            user: &self.options.user,
            pass: &self.options.pass,
            token: &self.options.auth_token,
            nkey: &self.options.nkey,
            sig: &self.options.signature,
            proxy_sig: "",
            nonce: &self.nonce,
            certificate: self.certificate.as_deref(),
            connection_type: self.connection_type,
        })
    }

    fn admit(&mut self, worker: &mut Worker, outcome: Outcome) {
        let identity = match outcome {
            Outcome::Granted(identity) => identity,
            Outcome::Refused(reason) => return self.deny(reason),
        };
        if self.options.new_account || !self.options.account.is_empty() {
            return self.deny(Reason::NothingPresented);
        }
        if let Some(member) = self.member.take() {
            member.account.leave();
        }
        self.bind(identity);
        if self.is_closed() {
            return;
        }
        self.phase = Phase::Serving;
        let headers = self.settings.parse.headers && self.options.headers;
        self.connection.set_headers(headers);
        self.update_parser();
        if !(0..=1).contains(&self.options.protocol) {
            return self.fail(&ErrorText::InvalidClientProtocol, CloseReason::BadClientProtocolVersion);
        }
        if self.options.no_responders && !headers {
            return self
                .fail(&ErrorText::NoRespondersRequiresHeaders, CloseReason::NoRespondersRequiresHeaders);
        }
        if self.options.verbose {
            self.send(worker, encode::OK);
        }
    }

    /// Who a client was found to be after a reload. A user who is gone, or in another account now, is sent away
    /// without a word, as by the reference: its client connects again and learns the rest.
    fn admit_again(&mut self, worker: &mut Worker, outcome: Outcome) {
        let identity = match outcome {
            Outcome::Granted(identity) => identity,
            Outcome::Refused(reason) => {
                return match self.member.as_ref().map(|member| &member.user) {
                    Some(Name::User(_) | Name::Nkey(_)) => self.close(CloseReason::Revocation),
                    _ => self.deny(reason),
                };
            }
        };
        let account = identity.account.as_deref().unwrap_or(GLOBAL_ACCOUNT);
        let Some(member) = self.member.as_mut().filter(|member| **member.account.name() == *account) else {
            return self.close(CloseReason::Revocation);
        };
        member.permissions = identity.permissions;
        self.hot = None;
        self.update_responses();
        self.review_subscriptions(worker);
        let subscriptions = self.connection.subscription_table().lock().len();
        if self.subscriptions_max().is_some_and(|max| subscriptions > max) {
            self.fail(&ErrorText::MaximumSubscriptionsExceeded, CloseReason::MaxSubscriptionsExceeded);
        }
    }

    /// Puts the client into its account, or closes it when the account is full.
    fn bind(&mut self, identity: Identity) {
        let name = identity.account.as_deref().unwrap_or(GLOBAL_ACCOUNT);
        let Some(account) = self.shared.accounts.find(name) else {
            self.log(Level::Error, format_args!("account {name:?} of the user is not configured"));
            return self.fail(&ErrorText::AuthorizationViolation, CloseReason::MissingAccount);
        };
        if !account.enter() {
            return self.fail(
                &ErrorText::MaximumAccountConnectionsExceeded,
                CloseReason::MaxAccountConnectionsExceeded,
            );
        }
        self.connection.set_profile(Profile {
            name: self.options.name.as_str().into(),
            lang: self.options.lang.as_str().into(),
            version: self.options.version.as_str().into(),
            user: identity.user.authorized_user().into(),
            account: Some(account.name().clone()),
        });
        self.member = Some(Membership { account, permissions: identity.permissions, user: identity.user });
        self.hot = None;
        self.update_responses();
        self.update_parser();
    }

    fn update_responses(&self) {
        let permission =
            self.member.as_ref().and_then(|member| member.permissions.as_ref()).and_then(|p| p.responses());
        self.connection
            .set_responses(permission.map(|permission| Box::new(ResponseTracker::new(permission))));
    }

    /// `end` is where the operation ends in the input.
    fn publish(&mut self, worker: &mut Worker, input: &[u8], end: usize, publish: &Publish<'_>) {
        worker.batch.in_messages += 1;
        worker.batch.in_bytes += publish.message.len() as u64;
        // `HMSG` leaves no subject behind and is not looked at, see the parser.
        if self.options.pedantic && !publish.subject.is_empty() && !is_literal(publish.subject) {
            self.send_error(worker, &ErrorText::InvalidPublishSubject);
        }
        let Some(permitted) = self.check_publish(worker, publish) else { return };
        let verbose = self.options.verbose;
        if verbose {
            self.send(worker, encode::OK);
        }
        let Some(member) = &self.member else { return };
        let (route, cached) = worker.routes.find(&self.shared.stamps, &member.account, publish.subject);
        if cached {
            worker.batch.route_hits += 1;
        } else {
            worker.batch.route_misses += 1;
        }
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
            self.send_no_responders(worker, reply, publish.subject);
        }
        self.hot = None;
        if permitted == Permitted::Always && !verbose && !self.shared.is_tracing() {
            self.remember(route, publish);
        }
    }

    /// Remembers a publish in the plainest form, so that the next one on its subject needs no parsing.
    fn remember(&mut self, route: Arc<Route>, publish: &Publish<'_>) {
        let plain = publish.reply.is_none() && publish.header_text.is_empty() && publish.verbatim.is_some();
        if plain && publish.subject.len() < HOT_LINE_BYTES_MAX && route.queues().is_empty() {
            let line_start = [b"PUB ", publish.subject, b" "].concat().into_boxed_slice();
            let run_bytes_max = TURN_BYTES_MAX / route.receivers().max(1);
            self.hot = Some(Box::new(Hot { line_start, route, run_bytes: 0, run_bytes_max }));
        }
    }

    /// Whether the message may be published; if not, the client has been told.
    fn check_publish(&mut self, worker: &mut Worker, publish: &Publish<'_>) -> Option<Permitted> {
        let subject = publish.subject;
        let member = self.member.as_ref()?;
        if GATEWAY_PREFIXES.iter().any(|prefix| subject.starts_with(prefix)) {
            self.refuse_publish(worker, &ErrorText::PublishPermission { subject });
            return None;
        }
        let permitted = match &member.permissions {
            Some(permissions) if !permissions.can_publish(subject) => {
                if !self.connection.may_respond(subject, self.hour.now_ns) {
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
        if let Some(reply) = publish.reply
            && RESERVED_REPLIES.iter().any(|prefix| reply.starts_with(prefix) && reply.len() > prefix.len())
        {
            self.refuse_publish(worker, &ErrorText::ReplyPermission { reply });
            return None;
        }
        Some(permitted)
    }

    fn refuse_publish(&mut self, worker: &mut Worker, text: &ErrorText<'_>) {
        self.send_error(worker, text);
        let user = self.member.as_ref().map_or(&Name::Unknown, |member| &member.user);
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
        let (route, _) = worker.routes.find(&self.shared.stamps, &member.account, reply);
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

    fn subscribe(&mut self, worker: &mut Worker, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        let Some(member) = &self.member else { return };
        let decision = match &member.permissions {
            Some(permissions) => permissions.can_subscribe(subject, queue),
            None => SubscribeDecision::Allowed,
        };
        if decision == SubscribeDecision::Denied || queue == Some(SYSTEM_QUEUE) {
            return self.refuse_subscribe(
                worker,
                &ErrorText::SubscribePermission { subject, queue },
                subject,
                sid,
            );
        }
        if self.settings.subject_tokens_max.is_some_and(|max| tokens(subject).count() > max) {
            return self.refuse_subscribe(worker, &ErrorText::SubscriptionTokens { subject }, subject, sid);
        }
        let limit = self.subscriptions_max();
        let filter = match decision {
            SubscribeDecision::Filtered(filter) => {
                member.permissions.as_ref().map(|permissions| (permissions.clone(), filter))
            }
            _ => None,
        };
        {
            let mut table = self.connection.subscription_table().lock();
            if limit.is_some_and(|max| table.len() >= max) {
                drop(table);
                self.log(Level::Error, format_args!("maximum subscriptions exceeded"));
                return self.send_error(worker, &ErrorText::MaximumSubscriptionsExceeded);
            }
            if table.find(sid).is_none() {
                if classify(subject).is_err() {
                    drop(table);
                    return self.send_error(worker, &ErrorText::InvalidSubject);
                }
                let subscription =
                    Arc::new(Subscription::new(self.connection.clone(), subject, queue, sid, filter));
                table.insert(subscription.clone());
                drop(table);
                member.account.interest.insert(subscription);
                self.shared.stamps.touch(member.account.id(), subject);
            }
        }
        if self.options.verbose {
            self.send(worker, encode::OK);
        }
    }

    fn refuse_subscribe(&mut self, worker: &mut Worker, text: &ErrorText<'_>, subject: &[u8], sid: &[u8]) {
        self.send_error(worker, text);
        let user = self.member.as_ref().map_or(&Name::Unknown, |member| &member.user);
        let sid = String::from_utf8_lossy(sid);
        self.log(
            Level::Error,
            format_args!("Subscription Violation - {user}, Subject {}, SID {sid}", Quoted(subject)),
        );
    }

    fn unsubscribe(&mut self, worker: &mut Worker, sid: &[u8], max: Option<u64>) {
        let subscription = self.connection.subscription_table().lock().find(sid).cloned();
        if let Some(subscription) = subscription {
            let ends_now = {
                // The counters change under this lock only.
                let _outbound = self.connection.outbound().lock();
                let later = max.filter(|max| *max > subscription.delivered());
                subscription.set_max(later.unwrap_or(0));
                later.is_none() && subscription.close()
            };
            if ends_now {
                self.connection.subscription_table().lock().remove(&subscription);
                self.remove_interest(&subscription);
            }
        }
        if self.options.verbose {
            self.send(worker, encode::OK);
        }
    }

    fn answer_ping(&mut self, worker: &mut Worker) {
        self.send(worker, encode::PONG);
        if !self.connect_received || self.first_pong_sent {
            return;
        }
        self.first_pong_sent = true;
        if self.options.protocol >= 1
            && let Some(member) = &self.member
        {
            let mut info = self.info();
            info.connect_info = true;
            // The reference says here what holds, whether or not there is a user for those who present nothing.
            info.auth_required = self.settings.users.is_required(self.connection_type);
            info.remote_account = member.account.name().to_string();
            info.account_is_system = *member.account.name() == self.settings.system_account;
            let line = info.line();
            self.send(worker, &line);
        }
    }

    fn count_pong(&mut self) {
        self.ping.unanswered = 0;
        if let Some(sent_ns) = self.ping.sent_ns {
            self.ping.rtt_measured_ns = Some(sent_ns);
            self.set_rtt(self.hour.now_ns.saturating_sub(sent_ns));
        }
    }

    fn on_ping_timer(&mut self, worker: &mut Worker, now_ns: u64) {
        let interval = self.settings.ping_interval_ns;
        self.ping.due_ns = now_ns + interval;
        let needs_rtt =
            self.ping.rtt_measured_ns.is_none_or(|measured| now_ns.saturating_sub(measured) > RTT_AGE_MAX_NS);
        if now_ns.saturating_sub(self.ping.last_input_ns) < interval && !needs_rtt {
            self.log(Level::Debug, format_args!("Delaying PING due to remote client data or ping"));
            return;
        }
        if self.ping.unanswered + 1 > self.settings.pings_unanswered_max {
            self.log(Level::Debug, format_args!("Stale Client Connection - Closing"));
            self.shared.counters.stale_connections.add(1);
            return self.fail(&ErrorText::StaleConnection, CloseReason::StaleConnection);
        }
        self.ping.unanswered += 1;
        self.ping.sent_ns = Some(now_ns);
        self.send(worker, encode::PING);
    }

    // ---- saying things ----

    fn info(&self) -> ServerInfo {
        let mut info = self.settings.info.clone();
        info.client_id = Some(self.connection.id());
        info.client_ip = self.connection.remote().map(|remote| remote.ip().to_string()).unwrap_or_default();
        info.max_payload = match self.payload_bytes_max() {
            Some(bytes) => bytes as i64,
            None => -1,
        };
        if self.tls == TlsState::Offered && info.tls_required {
            info.tls_required = false;
            info.tls_available = true;
        }
        info
    }

    fn send(&self, worker: &mut Worker, bytes: &[u8]) {
        if self.connection.send(bytes) {
            worker.promised.push(self.connection.clone());
        }
    }

    fn send_error(&self, worker: &mut Worker, text: &ErrorText<'_>) {
        self.send(worker, &text.line());
    }

    /// Tells the client why, and closes.
    fn fail(&mut self, text: &ErrorText<'_>, reason: CloseReason) {
        self.connection.send_last(&text.line(), reason);
        self.phase = Phase::Closed;
    }

    fn close(&mut self, reason: CloseReason) {
        self.connection.close(reason);
        self.phase = Phase::Closed;
    }

    /// Not let in. The client learns nothing but that; the log says why.
    fn deny(&mut self, reason: Reason) {
        let presented = Name::presented(&Credentials {
            user: &self.options.user,
            token: &self.options.auth_token,
            nkey: &self.options.nkey,
            ..Credentials::default()
        });
        // Monitoring shows as who somebody tried to get in.
        self.connection.set_profile(Profile {
            name: self.options.name.as_str().into(),
            lang: self.options.lang.as_str().into(),
            version: self.options.version.as_str().into(),
            user: presented.authorized_user().into(),
            account: self.member.as_ref().map(|member| member.account.name().clone()),
        });
        match presented {
            Name::Unknown => self.log(Level::Error, format_args!("authentication error")),
            name => self.log(Level::Error, format_args!("authentication error - {name}")),
        }
        self.log(Level::Debug, format_args!("authentication refused: {reason}"));
        let closed = match reason {
            Reason::ProxyNotTrusted => CloseReason::ProxyNotTrusted,
            Reason::ProxyRequired => CloseReason::ProxyRequired,
            _ => CloseReason::AuthenticationFailure,
        };
        self.fail(&ErrorText::AuthorizationViolation, closed);
    }

    fn refuse(&mut self, fault: &ParseFault) {
        self.log(Level::Error, format_args!("{fault}"));
        match fault {
            ParseFault::UnknownOperation => {
                self.fail(&ErrorText::UnknownProtocolOperation, CloseReason::ProtocolViolation);
            }
            ParseFault::ControlLineTooLong => {
                self.fail(&ErrorText::MaximumControlLineExceeded, CloseReason::MaxControlLineExceeded);
            }
            ParseFault::PayloadTooLarge(_) => {
                self.fail(&ErrorText::MaximumPayloadViolation, CloseReason::MaxPayloadExceeded);
            }
            ParseFault::HeadersNotSupported | ParseFault::Malformed(..) => {
                self.close(CloseReason::ProtocolViolation);
            }
        }
    }

    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        if self.shared.log.enabled(level) {
            self.shared.log.write(level, format_args!("{} - {line}", self.connection.label()));
        }
    }

    #[cold]
    fn trace_operation(&self, operation: &Operation<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = match operation {
            Operation::Connect(json) => format!("<<- [CONNECT {}]", connect::redacted(json)),
            Operation::Publish(publish) => {
                let mut line = format!(
                    "<<- [{} {}",
                    if publish.header_text.is_empty() { "PUB" } else { "HPUB" },
                    text(publish.subject)
                );
                for part in [publish.reply.unwrap_or_default(), publish.header_text, publish.size_text] {
                    if !part.is_empty() {
                        line.push(' ');
                        line.push_str(&text(part));
                    }
                }
                line.push(']');
                self.log(Level::Trace, format_args!("{line}"));
                let shown = if self.settings.trace_headers {
                    &publish.message[..publish.header_bytes]
                } else {
                    publish.message
                };
                let max = self.settings.traced_bytes_max;
                if max > 0 && shown.len() > max {
                    format!("<<- MSG_PAYLOAD: [{}...]", Quoted(&shown[..max]))
                } else {
                    format!("<<- MSG_PAYLOAD: [{}]", Quoted(shown))
                }
            }
            Operation::Subscribe { subject, queue, sid } => {
                let queue = queue.map(|queue| text(queue) + " ").unwrap_or_default();
                format!("<<- [SUB {} {queue}{}]", text(subject), text(sid))
            }
            Operation::Unsubscribe { sid, max } => {
                let max = max.map(|max| format!(" {max}")).unwrap_or_default();
                format!("<<- [UNSUB {}{max}]", text(sid))
            }
            Operation::Ping => "<<- [PING]".into(),
            Operation::Pong => "<<- [PONG]".into(),
            Operation::Info(json) => format!("<<- [INFO {}]", text(json)),
            Operation::Ok => "<<- [OK]".into(),
            Operation::Error(message) => format!("<<- [-ERR {}]", text(message)),
        };
        self.log(Level::Trace, format_args!("{line}"));
    }

    // ---- keeping in step ----

    /// Delivers what has been collected of a run of remembered publishes.
    fn deliver_run(&mut self, worker: &mut Worker, input: &[u8]) {
        if worker.spans.is_empty() {
            return;
        }
        let (Some(hot), Some(member)) = (&mut self.hot, &self.member) else {
            // Neither goes away while a run is collected; without them there is nobody to deliver to.
            return worker.spans.clear();
        };
        // Checked once per run, at its end: a subscription that was there when the first message came in is seen.
        if hot.route.is_current(&self.shared.stamps) {
            worker.batch.route_hits += worker.spans.len() as u64;
        } else {
            worker.batch.route_hits += worker.spans.len() as u64 - 1;
            worker.batch.route_misses += 1;
            hot.route = worker.routes.find(&self.shared.stamps, &member.account, hot.route.subject()).0;
        }
        hot.run_bytes = 0;
        let route = hot.route.clone();
        self.run(member, &route, input).deliver(worker);
        if !route.queues().is_empty() {
            self.hot = None;
        }
    }

    fn run<'a>(&'a self, member: &'a Membership, route: &'a Route, input: &'a [u8]) -> Run<'a> {
        Run {
            shared: &self.shared,
            account: &member.account,
            route,
            input,
            publisher: &self.connection,
            echo: self.options.echo,
            stall_producers: self.settings.stall_producers,
            trace: self.shared.is_tracing(),
            now_ns: self.hour.now_ns,
        }
    }

    /// Adds the batch to the counters that monitoring reads.
    fn settle(&self, worker: &mut Worker) {
        let batch = std::mem::take(&mut worker.batch);
        let Batch { in_messages, in_bytes, out_messages, out_bytes, route_hits, route_misses, .. } = batch;
        if in_messages == 0 {
            return;
        }
        self.connection.count_received(in_messages, in_bytes);
        self.shared.counters.route_hits.add(route_hits);
        self.shared.counters.route_misses.add(route_misses);
        if let Some(member) = &self.member {
            member.account.route_hits.add(route_hits);
            member.account.route_misses.add(route_misses);
        }
        let account = self.member.as_ref().map(|member| &member.account.traffic);
        for traffic in account.into_iter().chain([&self.shared.traffic]) {
            traffic.in_messages.add(in_messages);
            traffic.in_bytes.add(in_bytes);
            traffic.out_messages.add(out_messages);
            traffic.out_bytes.add(out_bytes);
        }
    }

    fn notice_settings(&mut self) {
        let version = self.shared.version();
        if version != self.settings_version {
            self.settings_version = version;
            self.settings = self.shared.settings();
            self.hot = None;
            self.update_parser();
        }
    }

    fn update_parser(&mut self) {
        self.parser.update_limits(ParseLimits {
            headers: self.settings.parse.headers && self.options.headers && self.connect_received,
            payload_bytes_max: self.payload_bytes_max(),
            ..self.settings.parse
        });
    }

    fn payload_bytes_max(&self) -> Option<usize> {
        let account = self.member.as_ref().and_then(|member| member.account.limits().payload_bytes_max);
        match (self.settings.parse.payload_bytes_max, account) {
            (Some(server), Some(account)) => Some(server.min(account)),
            (server, account) => server.or(account),
        }
    }

    fn subscriptions_max(&self) -> Option<usize> {
        let account = self.member.as_ref().and_then(|member| member.account.limits().subscriptions_max);
        match (self.settings.subscriptions_max, account) {
            (Some(server), Some(account)) => Some(server.min(account)),
            (server, account) => server.or(account),
        }
    }

    fn set_rtt(&self, rtt_ns: u64) {
        self.connection.set_rtt_ns(rtt_ns.max(1));
    }

    fn remove_interest(&self, subscription: &Arc<Subscription>) {
        if let Some(member) = &self.member {
            member.account.interest.remove(subscription);
            self.shared.stamps.touch(member.account.id(), subscription.subject());
        }
    }

    fn drop_subscriptions(&mut self) -> Vec<Arc<Subscription>> {
        let subscriptions = self.connection.subscription_table().lock().drain();
        for subscription in &subscriptions {
            if subscription.close() {
                self.remove_interest(subscription);
            }
        }
        subscriptions
    }

    /// Holds the subscriptions to the user's permissions as they are now: what is no longer allowed is removed, and
    /// the client is told; what reaches into something denied is filtered from now on.
    fn review_subscriptions(&mut self, worker: &mut Worker) {
        let Some(member) = &self.member else { return };
        let permissions = member.permissions.clone();
        for subscription in self.connection.subscriptions() {
            let (subject, queue) = (subscription.subject(), subscription.queue());
            match permissions
                .as_ref()
                .map(|permissions| (permissions, permissions.can_subscribe(subject, queue)))
            {
                Some((_, SubscribeDecision::Denied)) => {
                    if subscription.close() {
                        self.connection.subscription_table().lock().remove(&subscription);
                        self.remove_interest(&subscription);
                        let text = ErrorText::SubscriptionRemoved { subject, queue, sid: subscription.sid() };
                        self.send_error(worker, &text);
                        let (subject, sid) = (Quoted(subject), Quoted(subscription.sid()));
                        self.log(
                            Level::Info,
                            format_args!("Removed sub {subject} (sid {sid}) - not authorized"),
                        );
                    }
                }
                Some((permissions, SubscribeDecision::Filtered(filter))) => {
                    subscription.set_filter(Some((permissions.clone(), filter)));
                }
                Some((_, SubscribeDecision::Allowed)) | None => subscription.set_filter(None),
            }
            if let Some(member) = &self.member {
                self.shared.stamps.touch(member.account.id(), subject);
            }
        }
    }
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
