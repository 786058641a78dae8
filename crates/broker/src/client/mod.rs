//! One client connection as a state machine: its bytes and the hour go in, bytes for itself and for others come out.
//!
//! The clerk at the window: it never leaves the room. It does not know how bytes arrive, it does not wait, and when
//! something takes long (comparing a bcrypt hash) it says so and is told the outcome later.
//!
//! Here is the outline: the phases, the loop over the input with the run of repeated publishes, the timers, and how
//! the client speaks. Who it is and whether it may come in is decided in `admission`; what its operations do stands in
//! `publishing` and `subscribing`; `greeting` is the `INFO` and `heartbeat` the `PING`; `trace` is what the log shows.

mod admission;
mod greeting;
mod heartbeat;
mod publishing;
mod subscribing;
mod trace;

use std::fmt;
use std::sync::Arc;

use sonata_auth::certificate::PeerCertificate;
use sonata_auth::check::SlowCheck;
use sonata_auth::connection_type::ConnectionType;
use sonata_auth::permission::Permissions;
use sonata_auth::token::TokenGrant;
use sonata_auth::user::{Identity, Name};
use sonata_proto::connect::ConnectOptions;
use sonata_proto::encode::{self, ErrorText};
use sonata_proto::info;
use sonata_proto::parse::{Operation, ParseFault, ParseLimits, Parser, Step};

use self::admission::Gate;
use self::heartbeat::Ping;
use crate::account::Account;
use crate::client::publishing::run_bytes_max;
use crate::close::CloseReason;
use crate::connection::Connection;
use crate::delivery::{Run, Span};
use crate::route::Route;
use crate::shared::{Level, Settings, Shared};
use crate::worker::{Batch, TURN_BYTES_MAX, Worker};

/// One connection from its greeting to its end; see the module.
pub struct Client {
    shared: Arc<Shared>,
    /// As of `settings_version`; see `notice_settings`.
    settings: Arc<Settings>,
    /// The settings under which the client was let in, or let stay.
    admitted_by: Arc<Settings>,
    settings_version: u64,
    connection: Arc<Connection>,
    connection_type: ConnectionType,
    certificate: Option<Arc<PeerCertificate>>,
    /// What the client must sign if it has an nkey.
    nonce: Box<str>,
    phase: Phase,
    parser: Parser,
    /// What `CONNECT` said; the defaults before.
    options: Box<ConnectOptions>,
    /// A `CONNECT` came, or the client was let in without one.
    connect_received: bool,
    /// It was let in and nobody has asked yet.
    is_admission_new: bool,
    /// The account it was in before.
    left: Option<Arc<Account>>,
    /// From then on a client may be sent an `INFO` at any time.
    first_pong_sent: bool,
    tls: TlsState,
    /// None until the client is let in, and again once it has left.
    member: Option<Membership>,
    hot: Option<Box<Hot>>,
    /// Where the route of the last publish stands in memory; only ever compared.
    last_route_address: usize,
    ping: Ping,
    /// The time of the input at hand.
    now_ns: u64,
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

/// Being let in.
#[derive(Debug)]
pub struct Admission {
    /// The account that the client was in before, as it is with a second `CONNECT`; it may be the same.
    pub left: Option<Arc<Account>>,
}

/// Being in an account.
struct Membership {
    account: Arc<Account>,
    permissions: Option<Arc<Permissions>>,
    user: Name,
    /// What the user's token says, if there is one.
    token: Option<Arc<TokenGrant>>,
}

impl Membership {
    /// Bytes of a message, as the account and the user's token have it.
    fn payload_bytes_max(&self) -> Option<usize> {
        let user = self.token.as_ref().and_then(|token| token.payload_bytes_max);
        lower(self.account.limits().payload_bytes_max, user)
    }

    /// Subscriptions, as the account and the user's token have it.
    fn subscriptions_max(&self) -> Option<usize> {
        let user = self.token.as_ref().and_then(|token| token.subscriptions_max);
        lower(self.account.limits().subscriptions_max, user)
    }

    /// When the user must go.
    fn expires_ns(&self) -> u64 {
        self.token.as_ref().and_then(|token| token.expires_ns).unwrap_or(u64::MAX)
    }
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

impl Client {
    /// A client whose connection was just accepted. [`Client::greeting`] is what it is to be sent first.
    pub fn new(shared: Arc<Shared>, connection: Arc<Connection>, arrival: Arrival, now_ns: u64) -> Self {
        let settings_version = shared.version();
        let settings = shared.settings();
        let mut client = Self {
            ping: Ping::new(now_ns, settings.ping_interval_ns),
            phase: Phase::Connecting { deadline_ns: now_ns + settings.auth_timeout_ns },
            parser: Parser::new(ParseLimits { headers: false, ..settings.parse }),
            shared,
            admitted_by: settings.clone(),
            settings,
            settings_version,
            connection,
            connection_type: arrival.connection_type,
            certificate: arrival.certificate,
            nonce: arrival.nonce,
            options: Box::default(),
            connect_received: false,
            is_admission_new: false,
            left: None,
            first_pong_sent: false,
            tls: arrival.tls,
            member: None,
            hot: None,
            last_route_address: 0,
            now_ns,
        };
        if !client.settings.users.is_required(client.connection_type) {
            client.phase = Phase::Serving;
            client.bind(Identity {
                user: Name::Unknown,
                account: None,
                permissions: None,
                proxy: None,
                token: None,
            });
        }
        client
    }

    /// The shared part.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Tells, once, that the client was let in.
    pub fn take_admission(&mut self) -> Option<Admission> {
        std::mem::take(&mut self.is_admission_new).then(|| Admission { left: self.left.take() })
    }

    /// The certificate that TLS has verified.
    pub fn certificate(&self) -> Option<&Arc<PeerCertificate>> {
        self.certificate.as_ref()
    }

    /// The certificate that TLS has verified, once it has.
    pub fn set_certificate(&mut self, certificate: Option<Arc<PeerCertificate>>) {
        self.certificate = certificate;
    }

    /// Takes received bytes, which start with what the last call left over.
    pub fn receive(&mut self, worker: &mut Worker, input: &[u8], now_ns: u64) -> Received {
        self.now_ns = now_ns;
        self.notice_settings();
        let mut received = Received { consumed: 0, bytes_needed: 1, slow_check: None };
        let mut active = false;
        while self.is_heard() {
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
            match self.gate(rest) {
                Gate::Open => {}
                Gate::Shut => break,
                Gate::Checking(slow) => {
                    received.slow_check = Some(slow);
                    received.bytes_needed = 0;
                    break;
                }
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
        worker.publish_outbox(&self.shared, now_ns);
        if active || worker.batch.in_messages > 0 {
            self.ping.last_input_ns = now_ns;
            self.connection.mark_active(now_ns);
        }
        self.settle(worker);
        received
    }

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
            let subject = hot.route.subject();
            match worker.route(&self.shared, &member.account, subject) {
                Some(route) if route.subject() == subject => hot.route = route,
                // A mapping that picks has come into force; this run is still treated as one.
                picked => {
                    self.hot = None;
                    match picked {
                        Some(route) => drop(self.run(member, &route, input).deliver(worker)),
                        None => worker.spans.clear(),
                    }
                    return;
                }
            }
        }
        hot.run_bytes = 0;
        hot.run_bytes_max = run_bytes_max(&hot.route);
        let route = hot.route.clone();
        self.run(member, &route, input).deliver(worker);
    }

    /// A run of this client: what is delivered, and on which terms.
    fn run<'a>(&'a self, member: &'a Membership, route: &'a Route, input: &'a [u8]) -> Run<'a> {
        Run {
            shared: &self.shared,
            account: &member.account,
            route,
            shown_subject: None,
            input,
            publisher: &self.connection,
            path: None,
            echo: self.options.echo,
            stall_producers: self.settings.stall_producers,
            trace: self.shared.is_tracing(),
            now_ns: self.now_ns,
        }
    }

    /// Carries out one operation, which ends at `end` in the input.
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

    /// Closes on input that is no operation; some faults are told to the client.
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

    /// When [`Client::on_timer`] has something to do.
    pub fn next_timer_ns(&self) -> u64 {
        match self.phase {
            Phase::Connecting { deadline_ns } | Phase::Checking { deadline_ns } => {
                deadline_ns.min(self.ping.due_ns)
            }
            Phase::Serving => self.expires_ns().min(self.ping.due_ns),
            Phase::Closed => u64::MAX,
        }
    }

    /// The time has come for something, or it has not.
    pub fn on_timer(&mut self, worker: &mut Worker, now_ns: u64) {
        self.now_ns = now_ns;
        self.notice_settings();
        if let Phase::Connecting { deadline_ns } | Phase::Checking { deadline_ns } = self.phase
            && now_ns >= deadline_ns
        {
            self.fail(&ErrorText::AuthenticationTimeout, CloseReason::AuthenticationTimeout);
            return;
        }
        if now_ns >= self.expires_ns() && !self.is_closed() {
            return self.expire();
        }
        if now_ns >= self.ping.due_ns && !self.is_closed() {
            self.on_ping_timer(worker);
        }
    }

    fn expires_ns(&self) -> u64 {
        self.member.as_ref().map_or(u64::MAX, Membership::expires_ns)
    }

    /// Whether the connection is closed, by whomever.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed || self.connection.close_reason().is_some()
    }

    /// Whether what it says is carried out. That it takes nothing any more is no reason to forget what it said: it may have
    /// acknowledged and gone.
    fn is_heard(&self) -> bool {
        let open = matches!(self.connection.close_reason(), None | Some(CloseReason::WriteError));
        open && self.phase != Phase::Closed
    }

    /// Takes over the settings of a reload.
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
        let member = self.member.as_ref().and_then(Membership::payload_bytes_max);
        lower(self.settings.parse.payload_bytes_max, member)
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
}

/// How the client is spoken to, and spoken of.
impl Client {
    fn send(&self, worker: &mut Worker, bytes: &[u8]) {
        if self.connection.send(bytes) {
            worker.promised.push(self.connection.clone());
        }
    }

    /// Says `+OK` to a client that wants to hear it.
    fn acknowledge(&self, worker: &mut Worker) {
        if self.options.verbose {
            self.send(worker, encode::OK);
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

    /// Who the client is, for the log.
    fn user(&self) -> &Name {
        self.member.as_ref().map_or(&Name::Unknown, |member| &member.user)
    }

    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        if self.shared.log.enabled(level) {
            self.shared.log.write(level, format_args!("{} - {line}", self.connection.label()));
        }
    }
}

/// The stricter of two limits, either of which may be absent.
fn lower(server: Option<usize>, account: Option<usize>) -> Option<usize> {
    match (server, account) {
        (Some(server), Some(account)) => Some(server.min(account)),
        (server, account) => server.or(account),
    }
}
