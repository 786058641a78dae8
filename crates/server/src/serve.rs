//! The life of one connection: greeting, PROXY header, TLS, and then its turns until it ends.
//!
//! Everything that can wake the task is polled in [`Task::poll`]: somebody called (closed it, left it bytes to write,
//! changed the settings), its one timer, its socket in either direction, the outcome of a slow password check, room
//! in a receiver it was held back for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use sonata_auth::certificate::PeerCertificate;
use sonata_auth::check::{Outcome, SlowCheck};
use sonata_auth::connection_type::ConnectionType;
use sonata_auth::nkey::Nonce;
use sonata_broker::client::{Admission, Arrival, Client, TlsState};
use sonata_broker::close::CloseReason;
use sonata_broker::connection::{Connection, Flushed};
use sonata_broker::shared::{Level, Settings};
use sonata_proto::encode::ErrorText;
use sonata_proto::proxy::{self, ProxyStep};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::connections::{Entry, TlsFacts};
use crate::inbound::{Inbound, InputEnd};
use crate::inner::{Inner, Stage};
use crate::lookout::{Lookout, may_await_answer};
use crate::ocsp::REJECTED;
use crate::socket::{HANDSHAKE_RECORD, Handshake, Input, Reader, Socket, SocketPort};
use crate::tls::TlsSetup;
use crate::workers::Bench;
use sonata_conf::options::HandshakeFirst;

/// Turns in a row before the task lets others have theirs.
const TURNS_PER_POLL: usize = 4;

/// Batches of input that are still carried out of a client that has gone: what fits into a socket's buffer.
const LAST_TURNS: usize = 32;

/// How long a producer is held back for a receiver or a stream that is near its limit, per turn.
const STALL: Duration = Duration::from_millis(5);

/// How long a PROXY header may take.
const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one connection until it ends.
pub(crate) async fn serve(
    inner: Arc<Inner>,
    socket: Arc<Socket>,
    reader: Reader,
    remote: Option<std::net::SocketAddr>,
) {
    let options = inner.options.load_full();
    let shared = &inner.shared;
    let settings_version = shared.version();
    let settings = shared.settings();
    let connection = Connection::new(
        inner.next_connection_id(),
        remote,
        inner.clock.now_ns(),
        settings.pending_bytes_max,
        shared.pool.clone(),
        Box::new(SocketPort(socket.clone())),
    );
    let in_process = remote.is_none();
    let nonce = settings.users.needs_nonce().then(|| Nonce::from_random(rand::random()));
    let arrival = Arrival {
        connection_type: if in_process { ConnectionType::InProcess } else { ConnectionType::Standard },
        nonce: nonce.as_ref().map(Nonce::as_str).unwrap_or_default().into(),
        certificate: None,
        tls: if in_process { TlsState::Offered } else { TlsState::AsConfigured },
    };
    let client = Client::new(shared.clone(), connection.clone(), arrival, inner.clock.now_ns());
    let entry = Arc::new(Entry::new(connection.clone()));
    let mut task = Task {
        inner: inner.clone(),
        client,
        entry: entry.clone(),
        socket,
        reader,
        inbound: Inbound::new(Vec::new()),
        armed_ns: 0,
        settings_version,
        settings,
        lookout: Lookout::new(),
        slow: None,
        stall: None,
    };
    task.log(Level::Debug, "Client connection created");
    let tls = if in_process { None } else { inner.tls.load_full() };
    let admitted = inner.connections.insert(entry.clone(), options.max_connections);
    if *inner.stage.borrow() > Stage::Running {
        // Accepted in the last moment; whoever closes the others may have missed this one.
        connection.close(CloseReason::ServerShutdown);
    }
    if !admitted {
        task.connection().send_now(&task.client.greeting(!options.proxy_protocol), inner.clock.now_ns());
        task.fail(&ErrorText::MaximumConnectionsExceeded, CloseReason::MaxConnectionsExceeded);
        task.log(Level::Error, "maximum connections exceeded");
    } else if task.is_established(tls, options.proxy_protocol, options.allow_non_tls).await {
        drop(options);
        let sleep = tokio::time::sleep(Duration::from_secs(3600));
        tokio::pin!(sleep);
        std::future::poll_fn(|context| task.poll(context, sleep.as_mut())).await;
    }
    task.take_down();
}

struct Task {
    inner: Arc<Inner>,
    client: Client,
    entry: Arc<Entry>,
    socket: Arc<Socket>,
    reader: Reader,
    inbound: Inbound,
    lookout: Lookout,
    /// What the timer is set to.
    armed_ns: u64,
    /// The settings that the client was last told of and checked against.
    settings: Arc<Settings>,
    settings_version: u64,
    slow: Option<Slow>,
    stall: Option<Stall>,
}

/// A password check under way, and what it is for.
struct Slow {
    outcome: oneshot::Receiver<Outcome>,
    recheck: bool,
    /// Who may connect as it was when the check began.
    authorization_version: u64,
}

/// Being held back for a receiver, or for a stream whose disk does not keep pace.
struct Stall {
    receiver: Option<Arc<Connection>>,
    until: Pin<Box<Sleep>>,
}

/// What follows a turn.
enum Turn {
    /// Another one, if input is there.
    Again,
    /// Input is there already, but others come first.
    Yield,
    /// Nothing until more arrives.
    Wait,
    /// The client is gone or was sent away.
    Ended(CloseReason),
}

impl Task {
    /// As [`Task::establish`], and false as soon as somebody closes the connection.
    async fn is_established(
        &mut self,
        tls: Option<Arc<TlsSetup>>,
        proxy_protocol: bool,
        allow_non_tls: bool,
    ) -> bool {
        let (connection, socket) = (self.connection().clone(), self.socket.clone());
        let closed = std::future::poll_fn(|context| {
            socket.poll_called(context);
            if connection.close_reason().is_some() { Poll::Ready(()) } else { Poll::Pending }
        });
        // On the heap, and gone when it is done: a handshake's state is larger than all that a connection keeps.
        let establish = Box::pin(self.establish(tls, proxy_protocol, allow_non_tls));
        let established = tokio::select! {
            established = establish => established,
            () = closed => false,
        };
        // Whatever was called out meanwhile is looked at in the first turn.
        self.socket.call();
        established
    }

    /// Everything before the first operation. False when the connection is over.
    async fn establish(
        &mut self,
        tls: Option<Arc<TlsSetup>>,
        proxy_protocol: bool,
        allow_non_tls: bool,
    ) -> bool {
        let Some(setup) = tls else {
            self.greet(!proxy_protocol);
            return !proxy_protocol || self.read_proxy_header().await;
        };
        let greets_first = setup.handshake_first == HandshakeFirst::Off;
        if greets_first {
            self.greet(!proxy_protocol);
        }
        if proxy_protocol && !self.read_proxy_header().await {
            return false;
        }
        // Bytes that were read together with the PROXY header belong to the handshake.
        let ahead = self.inbound.take_kept();
        let first = match setup.handshake_first {
            HandshakeFirst::Off => false,
            HandshakeFirst::Always => true,
            HandshakeFirst::Auto(fallback) => self.starts_tls(&ahead, fallback).await,
        };
        if !greets_first && !first {
            self.greet(true);
        }
        if !first && allow_non_tls && !self.starts_tls(&ahead, setup.timeout).await {
            self.inbound = Inbound::new(ahead);
            return true;
        }
        if !self.secure(&setup, first, ahead).await {
            return false;
        }
        if first {
            self.greet(true);
        }
        true
    }

    /// Whether what the client sends first, within the time, is a TLS handshake.
    async fn starts_tls(&mut self, ahead: &[u8], wait: Duration) -> bool {
        match ahead.first() {
            Some(byte) => *byte == HANDSHAKE_RECORD,
            None => matches!(tokio::time::timeout(wait, self.reader.starts_tls()).await, Ok(Ok(true))),
        }
    }

    fn greet(&self, address_known: bool) {
        self.connection().send_now(&self.client.greeting(address_known), self.inner.clock.now_ns());
    }

    async fn read_proxy_header(&mut self) -> bool {
        let reader = &mut self.reader;
        let read = tokio::time::timeout(PROXY_HEADER_TIMEOUT, async {
            let mut seen = Vec::new();
            let mut buffer = vec![0; proxy::SHOWN_BYTES_MAX];
            let (source, mut to_skip) = loop {
                match proxy::read(&seen) {
                    Ok(ProxyStep::Incomplete) => {}
                    Ok(ProxyStep::Absent) => break (None, 0),
                    Ok(ProxyStep::Header { source, consumed }) => break (source, consumed),
                    Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                }
                match std::future::poll_fn(|context| reader.poll_raw(context, &mut buffer)).await? {
                    Input::Bytes(count) => seen.extend_from_slice(&buffer[..count]),
                    Input::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            };
            loop {
                let skipped = to_skip.min(seen.len());
                seen.drain(..skipped);
                to_skip -= skipped;
                if to_skip == 0 {
                    return Ok((source, seen));
                }
                match std::future::poll_fn(|context| reader.poll_raw(context, &mut buffer)).await? {
                    Input::Bytes(count) => seen.extend_from_slice(&buffer[..count]),
                    Input::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        })
        .await;
        let error = match read {
            Ok(Ok((source, rest))) => {
                if let Some(source) = source {
                    self.connection().set_remote(source);
                }
                self.inbound = Inbound::new(rest);
                return true;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "timeout reading PROXY protocol header".into(),
        };
        self.log(Level::Warning, &format!("Error reading PROXY protocol header: {error}"));
        self.connection().close(CloseReason::ProtocolViolation);
        false
    }

    async fn secure(&mut self, setup: &TlsSetup, first: bool, ahead: Vec<u8>) -> bool {
        if !setup.admit(self.inner.clock.now_ns()) {
            self.fail(&ErrorText::ConnectionThrottling, CloseReason::MaxConnectionsExceeded);
            return false;
        }
        self.log(Level::Debug, "Starting TLS client connection handshake");
        let session = match setup.session() {
            Ok(session) => session,
            Err(error) => {
                self.log(Level::Error, &format!("TLS handshake error: {error}"));
                self.connection().close(CloseReason::TlsHandshakeError);
                return false;
            }
        };
        let handshake = Handshake { socket: &self.socket, reader: &mut self.reader, session };
        let session = match tokio::time::timeout(setup.timeout, handshake.run(&ahead)).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => {
                self.log(Level::Error, &format!("TLS handshake error: {error}"));
                self.connection().close(CloseReason::TlsHandshakeError);
                return false;
            }
            Err(_) => {
                self.log(Level::Error, "TLS handshake timeout");
                self.connection().close(CloseReason::TlsHandshakeError);
                return false;
            }
        };
        let certificate = session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(|certificate| PeerCertificate::from_der(certificate).ok())
            .map(Arc::new);
        if let Some(check) = &setup.peer_check {
            let presented = session.peer_certificates().unwrap_or_default().to_vec();
            if !check.admits(&self.inner, &presented).await {
                self.log(Level::Error, &format!("TLS handshake error: {REJECTED}"));
                self.connection().close(CloseReason::TlsHandshakeError);
                return false;
            }
        }
        if !setup.accepts(certificate.as_deref()) {
            self.log(Level::Error, "TLS handshake error: certificate not pinned");
            self.connection().close(CloseReason::TlsHandshakeError);
            return false;
        }
        let mut facts = TlsFacts::of(&session, certificate.clone(), first);
        if self.settings.users.may_ask() {
            let shown = session.peer_certificates();
            facts.chain = shown.map(|shown| setup.chain(shown).into());
        }
        self.entry.set_tls(facts);
        self.client.set_certificate(certificate);
        self.client.restart_auth_timer(self.inner.clock.now_ns());
        self.socket.start_tls(session);
        self.log(Level::Debug, "TLS handshake complete");
        true
    }

    /// See the module. Ready when the connection is over.
    fn poll(&mut self, context: &mut Context<'_>, mut sleep: Pin<&mut Sleep>) -> Poll<()> {
        for _ in 0..TURNS_PER_POLL {
            let called = self.socket.poll_called(context);
            if let Some(reason) = self.connection().close_reason() {
                if reason == CloseReason::WriteError {
                    self.hear_out(context);
                }
                return Poll::Ready(());
            }
            let now_ns = self.inner.clock.now_ns();
            if called {
                self.notice_settings(now_ns);
                self.notice_judgement(now_ns);
                self.notice_farewell(now_ns);
            }
            self.poll_write(context, now_ns);
            self.poll_timer(context, sleep.as_mut(), now_ns);
            if self.connection().close_reason().is_some() {
                return Poll::Ready(());
            }
            ready!(self.poll_slow(context, now_ns));
            ready!(self.poll_stall(context));
            let inner = self.inner.clone();
            match inner.workers.with(|bench| self.turn(context, bench, now_ns)) {
                Turn::Again => {}
                Turn::Wait => {
                    if self.lookout.looks_again(now_ns) {
                        poll_again_after_others(context);
                    }
                    return Poll::Pending;
                }
                Turn::Yield => break,
                Turn::Ended(reason) => {
                    self.connection().close(reason);
                    return Poll::Ready(());
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Carries out what has arrived from a client that cannot be written to any more.
    fn hear_out(&mut self, context: &mut Context<'_>) {
        let inner = self.inner.clone();
        for _ in 0..LAST_TURNS {
            if self.slow.is_some() {
                return;
            }
            let now_ns = inner.clock.now_ns();
            match inner.workers.with(|bench| self.turn(context, bench, now_ns)) {
                Turn::Again | Turn::Yield => {}
                Turn::Wait | Turn::Ended(_) => return,
            }
        }
    }

    /// One batch of input: read, carried out, and what it meant for others written to them.
    fn turn(&mut self, context: &mut Context<'_>, bench: &mut Bench, now_ns: u64) -> Turn {
        let Bench { worker, input, encrypted } = bench;
        let (reader, socket) = (&mut self.reader, &*self.socket);
        let source =
            match self.inbound.poll(input, |buffer| reader.poll_input(context, socket, buffer, encrypted)) {
                Poll::Pending => return Turn::Wait,
                Poll::Ready(Ok(Ok(source))) => source,
                Poll::Ready(Ok(Err(InputEnd::TooShort))) => return Turn::Again,
                Poll::Ready(Ok(Err(InputEnd::Ended))) => return Turn::Ended(CloseReason::ClientClosed),
                Poll::Ready(Err(error)) => {
                    self.log(Level::Debug, &format!("read error: {error}"));
                    return Turn::Ended(CloseReason::ReadError);
                }
            };
        let operations = self.inbound.input(input, source);
        let answers_before =
            may_await_answer(operations.len()).then(|| self.client.connection().out_messages());
        let received = self.client.receive(worker, operations, now_ns);
        self.inbound.settle(input, source, received.consumed, received.bytes_needed);
        self.entry.set_ingest_bytes(self.inbound.kept_bytes());
        self.notice_admission();
        let receivers = worker.receivers();
        let is_held_back = worker.is_held_back();
        worker.flush(now_ns);
        let answered = answers_before.is_some_and(|before| self.connection().out_messages() > before);
        self.lookout.on_input(answered, now_ns);
        let receiver = worker.take_stalling(receivers);
        if receiver.is_some() || is_held_back {
            self.inner.shared.counters.stalls.add(1);
            self.connection().count_stall();
            self.stall = Some(Stall { receiver, until: Box::pin(tokio::time::sleep(STALL)) });
        }
        if let Some(check) = received.slow_check {
            self.start_slow(check, false);
        }
        if self.inbound.is_ready() && self.slow.is_none() { Turn::Yield } else { Turn::Again }
    }

    /// The settings have changed: the client may have to prove again who it is, and hears what `INFO` says now.
    fn notice_settings(&mut self, now_ns: u64) {
        if self.inner.shared.version() == self.settings_version || self.slow.is_some() {
            return;
        }
        self.settings_version = self.inner.shared.version();
        let settings = self.inner.shared.settings();
        let inner = self.inner.clone();
        let slow = inner.workers.with(|bench| {
            let mut slow = None;
            if settings.authorization_version != self.settings.authorization_version {
                slow = self.client.recheck(&mut bench.worker, now_ns);
            }
            if tells_clients(&settings, &self.settings)
                && let Some(info) = self.client.async_info()
            {
                self.client.connection().send_now(&info, now_ns);
            }
            bench.worker.flush(now_ns);
            slow
        });
        self.settings = settings;
        if let Some(check) = slow {
            self.start_slow(check, true);
        }
    }

    /// The account of the client has changed: its user may have to go, or may do other things.
    fn notice_judgement(&mut self, now_ns: u64) {
        if self.slow.is_some() || !self.entry.take_judgement() {
            return;
        }
        let inner = self.inner.clone();
        let slow = inner.workers.with(|bench| {
            let slow = self.client.recheck(&mut bench.worker, now_ns);
            bench.worker.flush(now_ns);
            slow
        });
        if let Some(check) = slow {
            self.start_slow(check, true);
        }
    }

    /// The client was let in: the system account hears of it.
    fn notice_admission(&mut self) {
        if let Some(Admission { left }) = self.client.take_admission()
            && let Some(system) = self.inner.system.get()
        {
            system.on_connected(&self.entry, left);
        }
    }

    /// Somebody wants this client to leave.
    fn notice_farewell(&mut self, now_ns: u64) {
        let Some(tell) = self.entry.take_farewell() else { return };
        let info = self.client.farewell();
        if let Some(info) = &info {
            self.connection().send_now(info, now_ns);
        }
        // Whoever asked may have stopped waiting.
        let _ = tell.try_send(info.is_some());
    }

    /// Writes what others have left to this task.
    fn poll_write(&mut self, context: &mut Context<'_>, now_ns: u64) {
        while self.connection().is_blocked() {
            if self.socket.poll_write_ready(context).is_pending() {
                return;
            }
            let flushed =
                self.inner.workers.with(|bench| self.connection().resume(bench.worker.writing(), now_ns));
            if flushed == Flushed::More {
                // Others first.
                self.connection().hand_over();
                return;
            }
        }
    }

    fn poll_timer(&mut self, context: &mut Context<'_>, mut sleep: Pin<&mut Sleep>, now_ns: u64) {
        loop {
            let write_deadline_ns = self
                .connection()
                .blocked_since_ns()
                .map_or(u64::MAX, |since| since.saturating_add(self.inner.write_deadline_ns()));
            let due_ns = self.client.next_timer_ns().min(write_deadline_ns);
            if due_ns != self.armed_ns {
                self.armed_ns = due_ns;
                sleep.as_mut().reset(self.inner.clock.instant(due_ns));
            }
            if sleep.as_mut().poll(context).is_pending() {
                return;
            }
            self.armed_ns = 0;
            let now_ns = self.inner.clock.now_ns().max(now_ns);
            if now_ns >= write_deadline_ns {
                self.connection().close(CloseReason::SlowConsumerWriteDeadline);
                return;
            }
            let inner = self.inner.clone();
            inner.workers.with(|bench| {
                self.client.on_timer(&mut bench.worker, now_ns);
                bench.worker.flush(now_ns);
            });
            if self.connection().close_reason().is_some() {
                return;
            }
        }
    }

    fn poll_slow(&mut self, context: &mut Context<'_>, now_ns: u64) -> Poll<()> {
        let Some(slow) = &mut self.slow else { return Poll::Ready(()) };
        let Poll::Ready(outcome) = Pin::new(&mut slow.outcome).poll(context) else {
            if self.settings.users.may_ask() {
                self.poll_end(context);
            }
            return Poll::Pending;
        };
        // A check that was lost with its thread refuses.
        let outcome = outcome.unwrap_or(Outcome::Refused(sonata_auth::user::Reason::WrongPassword));
        let recheck = slow.recheck;
        // A reload meanwhile makes the outcome one of the past.
        let settings = self.inner.shared.settings();
        let outdated = slow.authorization_version != settings.authorization_version;
        self.slow = None;
        let inner = self.inner.clone();
        let again = inner.workers.with(|bench| {
            let worker = &mut bench.worker;
            let again = match (outdated, recheck) {
                (true, true) => self.client.recheck(worker, now_ns),
                (true, false) => self.client.check_again(worker, now_ns),
                (false, true) => {
                    self.client.finish_recheck(worker, outcome);
                    None
                }
                (false, false) => {
                    self.client.finish_check(worker, outcome, now_ns);
                    None
                }
            };
            worker.flush(now_ns);
            again
        });
        if let Some(check) = again {
            self.start_slow(check, recheck);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.notice_admission();
        // What was called out meanwhile could not be looked at.
        self.notice_settings(now_ns);
        self.notice_judgement(now_ns);
        if self.connection().close_reason().is_some() {
            // The top of the next poll takes it from here.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Notices that the client goes while a service is asked who it is, so that nobody need be asked any more. One that has
    /// sent something to be carried out is not gone for that: it may only have nothing more to say.
    fn poll_end(&mut self, context: &mut Context<'_>) {
        let inner = self.inner.clone();
        let ended = inner.workers.with(|Bench { input, encrypted, .. }| {
            let (reader, socket) = (&mut self.reader, &*self.socket);
            let read = |buffer: &mut [u8]| reader.poll_input(context, socket, buffer, encrypted);
            self.inbound.poll_end(input, read)
        });
        self.entry.set_ingest_bytes(self.inbound.kept_bytes());
        let reason = match ended {
            Poll::Pending => return,
            Poll::Ready(Ok(_)) if !self.inbound.holds_pings_only() => return,
            Poll::Ready(Ok(_)) => CloseReason::ClientClosed,
            Poll::Ready(Err(_)) => CloseReason::ReadError,
        };
        self.connection().close(reason);
        // The top of the next poll takes it from here.
        context.waker().wake_by_ref();
    }

    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(stall) = &mut self.stall {
            if stall.receiver.as_ref().is_none_or(|receiver| receiver.wait_for_room(context.waker())) {
                ready!(stall.until.as_mut().poll(context));
            }
            self.stall = None;
        }
        Poll::Ready(())
    }

    fn start_slow(&mut self, check: SlowCheck, recheck: bool) {
        let (tell, outcome) = oneshot::channel();
        self.inner.slow_checks.run(check, tell);
        let authorization_version = self.inner.shared.settings().authorization_version;
        self.slow = Some(Slow { outcome, recheck, authorization_version });
    }

    /// The connection is over: its place is given up and what it was is remembered for `/connz`.
    fn take_down(mut self) {
        let connection = self.connection().clone();
        let reason = connection.close_reason().unwrap_or(CloseReason::ClientClosed);
        connection.close(reason);
        let inner = self.inner.clone();
        let subscriptions = inner.workers.with(|bench| {
            connection.finish(bench.worker.writing(), reason.flushes());
            self.client.leave(&mut bench.worker)
        });
        self.socket.shut_down();
        match reason {
            CloseReason::SlowConsumerPendingBytes => {
                let max = inner.shared.settings().pending_bytes_max;
                self.count_slow_consumer();
                self.log(Level::Info, &format!("Slow Consumer Detected: MaxPending of {max} Exceeded"));
            }
            CloseReason::SlowConsumerWriteDeadline => {
                let deadline = Duration::from_nanos(inner.write_deadline_ns());
                self.count_slow_consumer();
                self.log(
                    Level::Info,
                    &format!("Slow Consumer Detected: WriteDeadline of {deadline:?} exceeded"),
                );
            }
            _ => {}
        }
        self.log(Level::Debug, &format!("Client connection closed: {reason}"));
        let closed = inner.connections.remove(&self.entry, reason, &subscriptions, inner.clock.now_ns());
        if let Some(system) = inner.system.get() {
            system.on_ended(&closed);
        }
    }

    fn count_slow_consumer(&self) {
        self.inner.shared.traffic.slow_consumers.add(1);
        let account = self.connection().profile().account;
        if let Some(account) = account.and_then(|name| self.inner.shared.accounts.find(&name)) {
            account.traffic.slow_consumers.add(1);
        }
    }

    fn connection(&self) -> &Arc<Connection> {
        self.client.connection()
    }

    fn fail(&self, text: &ErrorText<'_>, reason: CloseReason) {
        self.connection().send_last(&text.line(), reason);
    }

    fn log(&self, level: Level, line: &str) {
        let log = &self.inner.shared.log;
        if log.enabled(level) {
            log.write(level, format_args!("{} - {line}", self.connection().label()));
        }
    }
}

/// Has the task polled again once the other tasks of its thread have had their turns and the runtime has looked for events.
fn poll_again_after_others(context: &mut Context<'_>) {
    // Its first poll is what has this effect.
    let _ = std::pin::pin!(tokio::task::yield_now()).poll(context);
}

/// Whether clients should hear of the difference in what `INFO` says: where to connect, or that they should leave.
fn tells_clients(new: &Settings, old: &Settings) -> bool {
    (&new.info.host, new.info.port, &new.info.connect_urls, new.info.lame_duck)
        != (&old.info.host, old.info.port, &old.info.connect_urls, old.info.lame_duck)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle connection costs is mostly these; a field too many shows here first.
    #[test]
    fn an_idle_connection_is_small() {
        fn future_bytes<F: Future>(
            _: impl Fn(Arc<Inner>, Arc<Socket>, Reader, Option<std::net::SocketAddr>) -> F,
        ) -> usize {
            size_of::<F>()
        }
        let bytes = future_bytes(serve) + size_of::<Socket>() + size_of::<Connection>() + size_of::<Entry>();
        assert!(bytes <= 1536, "{bytes} bytes");
    }
}
