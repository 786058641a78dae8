//! Making the connection, and keeping watch over it.
//!
//! The client library (`async-nats`) owns the sockets and the protocol. What it asks for is decided here:
//! which server to try and when ([`Plan`]), with which identity, and what to tell the service. It counts
//! attempts over all servers, takes 0 for "no limit", ignores logins in addresses and reports failures
//! without saying where; the [`Watch`] makes up for these.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{
    Auth, AuthError, Client, ConnectError, ConnectErrorKind, ConnectOptions, ReconnectToServer, ServerAddr,
    ServerError, ServerInfo,
};
use rand::seq::SliceRandom;
use tokio::time::Instant;

use crate::conf::{MaxReconnect, NatsConf, Prepared};
use crate::error::{Error, Fault, HostError, Problem, Reason, io_text, one_line};
use crate::event::{Closed, Event, Log, ServerId};
use crate::host::Server;
use crate::identity::Identity;
use crate::key::Key;
use crate::plan::Plan;
use crate::tls;

impl NatsConf {
    /// Connects, and returns when the connection is there.
    ///
    /// Servers are tried in random order. Each may be tried as often as `MaxReconnect` says, with
    /// `ReconnectWait` between two attempts at the same one; a server that refuses this client, or whose
    /// certificate is not trusted, is not tried again, since that does not mend itself. Once connected, a
    /// connection that is lost is made again by the same rule, in the background and for any reason.
    ///
    /// The connection lives until every clone of the client is dropped, or until it is given up
    /// ([`Closed::GaveUp`]); then all calls on it fail with the client library's errors.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] as from [`validate`](Self::validate), [`Error::Refused`] if every server refused
    /// this client, [`Error::Unreachable`] if no server could be reached, [`Error::NoRuntime`] outside of
    /// Tokio.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let conf = nats_conf::NatsConf::new(["nats://127.0.0.1:4222"]);
    /// let client = conf.new_connection().await?;
    /// client.publish("orders.new", "42".into()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn new_connection(&self) -> Result<Client, Error> {
        self.new_connection_with(|_| {}).await
    }

    /// Connects as [`new_connection`](Self::new_connection) does and calls back at every event, beginning
    /// with the attempts of the first connection.
    ///
    /// The callback runs in the connection's own task: it must not block, and hands longer work to a channel.
    ///
    /// # Errors
    ///
    /// As [`new_connection`](Self::new_connection).
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), nats_conf::Error> {
    /// use nats_conf::{Event, NatsConf};
    ///
    /// let (gone, mut is_gone) = tokio::sync::watch::channel(false);
    /// let client = NatsConf::new(["nats://127.0.0.1:4222"])
    ///     .new_connection_with(move |event| {
    ///         if let Event::Closed(_) = event {
    ///             gone.send_replace(true);
    ///         }
    ///     })
    ///     .await?;
    /// is_gone.wait_for(|gone| *gone).await.ok();
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn new_connection_with<F>(&self, on_event: F) -> Result<Client, Error>
    where
        F: Fn(&Event) + Send + Sync + 'static,
    {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let conf = self.clone();
        let read = move || {
            let prepared = conf.prepare()?;
            let tls = prepared.tls.client_config(&prepared.servers).map_err(|error| {
                Error::Invalid(vec![Fault::new(
                    Key::TlsClientCert,
                    Problem::BadCertificate(error.to_string()),
                )])
            })?;
            Ok((prepared.servers, prepared.identity, tls))
        };
        // The task can only fail when the runtime shuts down.
        let (servers, identity, tls) = runtime.spawn_blocking(read).await.map_err(|_| Error::NoRuntime)??;
        First::new(self, servers, identity, tls, Box::new(on_event)).connect().await
    }

    /// Connects and returns a JetStream context for `JetStreamDomain`, whose calls wait up to
    /// `JetStreamTimeout` for their answers. Whether the server offers JetStream shows at the first call.
    ///
    /// # Errors
    ///
    /// As [`new_connection`](Self::new_connection).
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let jetstream = nats_conf::NatsConf::new(["nats://127.0.0.1:4222"]).new_jetstream().await?;
    /// jetstream.publish("orders.new", "42".into()).await?.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn new_jetstream(&self) -> Result<jetstream::Context, Error> {
        self.new_jetstream_with(|_| {}).await
    }

    /// As [`new_jetstream`](Self::new_jetstream), with the callback of
    /// [`new_connection_with`](Self::new_connection_with).
    ///
    /// # Errors
    ///
    /// As [`new_connection`](Self::new_connection).
    pub async fn new_jetstream_with<F>(&self, on_event: F) -> Result<jetstream::Context, Error>
    where
        F: Fn(&Event) + Send + Sync + 'static,
    {
        let client = self.new_connection_with(on_event).await?;
        let builder = ContextBuilder::new();
        Ok(match &self.jetstream_domain {
            Some(domain) => builder.domain(domain).timeout(self.jetstream_timeout).build(client),
            None => builder.timeout(self.jetstream_timeout).build(client),
        })
    }
}

type Callback = Box<dyn Fn(&Event) + Send + Sync>;

/// The first connection, until it is made.
struct First {
    /// In the order in which they are written.
    servers: Arc<[Server]>,
    /// In the order in which they are tried.
    addresses: Vec<ServerAddr>,
    /// Attempts at each server.
    attempts_max: Option<u32>,
    options: ConnectOptions,
    watch: Arc<Watch>,
}

impl First {
    fn new(
        conf: &NatsConf,
        servers: Vec<Server>,
        identity: Identity,
        tls_config: rustls::ClientConfig,
        on_event: Callback,
    ) -> Self {
        let mut addresses: Vec<ServerAddr> = servers.iter().map(|server| server.address.clone()).collect();
        addresses.shuffle(&mut rand::rng());
        let per_server = match conf.max_reconnect {
            MaxReconnect::Never => Some(0),
            MaxReconnect::Attempts(attempts) => Some(attempts.get()),
            MaxReconnect::Forever => None,
        };
        let budget = per_server.map(|attempts| u64::from(attempts).saturating_mul(servers.len() as u64));
        let servers: Arc<[Server]> = servers.into();
        let identity = Arc::new(identity);
        let watch = Arc::new(Watch::new(conf, budget, on_event));
        let is_websocket = addresses.iter().any(ServerAddr::is_websocket);

        let mut options = authenticated(Arc::clone(&watch), Arc::clone(&servers), identity)
            .tls_client_config(tls_config)
            .require_tls(tls::is_wanted(conf))
            .connection_timeout(conf.connect_timeout)
            .ping_interval(conf.ping_interval)
            // The client library takes 0 for no limit and always makes one attempt. With `Never` that one
            // goes to the dead end.
            .max_reconnects(budget.map(|budget| usize::try_from(budget).unwrap_or(usize::MAX).max(1)))
            .event_callback({
                let watch = Arc::clone(&watch);
                move |event| {
                    watch.on_event(event);
                    std::future::ready(())
                }
            });
        if let Some(name) = &conf.name {
            options = options.name(name);
        }
        if let Some(prefix) = &conf.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        if is_websocket {
            // A server tells its WebSocket addresses without `ws://`, and the library would take them for
            // `nats://`.
            options = options.ignore_discovered_servers();
        }
        let attempts_max = per_server.map(|attempts| attempts.max(1));
        Self { servers, addresses, attempts_max, options, watch }
    }

    /// Tries until a server lets this client in or none is left to be tried.
    async fn connect(self) -> Result<Client, Error> {
        let mut open = self.addresses.clone();
        while let Some((address, delay)) = self.watch.pick_first(&open) {
            tokio::time::sleep(delay).await;
            match self.attempt().await {
                Ok(client) => {
                    self.watch.first_connected(&client.server_info());
                    return Ok(client);
                }
                Err(error) => {
                    let failure = self.watch.first_failed(&address, reason(&error));
                    let used_up = self.attempts_max.is_some_and(|max| failure.attempts >= max);
                    if used_up || failure.reason.is_lasting() {
                        open.retain(|other| *other != address);
                    }
                }
            }
        }
        // As they are written, not as they happened to be tried.
        let place = |failure: &HostError| {
            self.servers.iter().position(|server| server.address.as_url_str() == failure.server)
        };
        let mut failures = self.watch.failures();
        failures.sort_by_key(place);
        if failures.iter().all(|failure| matches!(failure.reason, Reason::Refused(_))) {
            Err(Error::Refused(failures))
        } else {
            Err(Error::Unreachable(failures))
        }
    }

    /// One attempt at the server that was picked.
    async fn attempt(&self) -> Result<Client, ConnectError> {
        let watch = Arc::clone(&self.watch);
        // The library asks for a server at once, for this attempt, and again whenever the connection is lost.
        let first = AtomicBool::new(true);
        let options = self.options.clone().reconnect_to_server_callback(move |pool, info| {
            std::future::ready(if first.swap(false, Ordering::Relaxed) {
                watch.picked()
            } else {
                watch.pick_again(&pool, &info)
            })
        });
        let mut pool = self.addresses.clone();
        if self.watch.budget == Some(0) {
            pool.extend(dead_end());
        }
        options.connect(pool).await
    }
}

/// Options that prove the identity anew at every connection.
fn authenticated(watch: Arc<Watch>, servers: Arc<[Server]>, identity: Arc<Identity>) -> ConnectOptions {
    ConnectOptions::with_auth_callback(move |nonce| {
        let address = watch.reached();
        let servers = Arc::clone(&servers);
        let identity = Arc::clone(&identity);
        async move {
            let read =
                move || Prepared::proof(&servers, &identity, &address).map(|proof| proof.answer(&nonce));
            match tokio::task::spawn_blocking(read).await {
                Ok(Ok(auth)) => Ok::<Auth, AuthError>(auth),
                Ok(Err(fault)) => Err(AuthError::new(fault)),
                Err(_) => Err(AuthError::new("interrupted")),
            }
        }
    })
}

/// An address where nobody can listen. The client library cannot be told not to reconnect; it is sent there
/// instead, fails at once without leaving the machine, and closes the connection.
fn dead_end() -> Option<ServerAddr> {
    "nats://127.0.0.1:0".parse().ok()
}

/// Follows one connection: decides which server is next and tells what happens.
struct Watch {
    /// Attempts at all servers together before a lost connection is given up.
    budget: Option<u64>,
    callback: Callback,
    /// Held for a moment at a time, never over an await. Events are told while it is held, so they come in
    /// order.
    state: Mutex<State>,
}

struct State {
    plan: Plan,
    phase: Phase,
    /// Names of servers that were connected to, by address.
    names: Vec<(String, String)>,
    /// Connections that were told of.
    told: u64,
    /// Connections that the library reported, which may come late.
    reported: u64,
    /// The last failure at each server since the last connection.
    failures: Vec<HostError>,
    log: Log,
}

/// Where the connection is.
enum Phase {
    /// Before the first attempt.
    New,
    /// An attempt is under way.
    Trying {
        server: ServerAddr,
        /// Failures at this server that the library had counted when the attempt began.
        failures: usize,
        /// Whether the server answered, so far that the client has to say who it is.
        reached: bool,
    },
    Connected(ServerAddr),
    Closed,
}

impl Watch {
    fn new(conf: &NatsConf, budget: Option<u64>, callback: Callback) -> Self {
        let state = State {
            plan: Plan::new(conf.reconnect_wait),
            phase: Phase::New,
            names: Vec::new(),
            told: 0,
            reported: 0,
            failures: Vec::new(),
            log: Log::new(conf.name.as_deref()),
        };
        Self { budget, callback, state: Mutex::new(state) }
    }

    /// Picks a server for the first connection.
    fn pick_first(&self, open: &[ServerAddr]) -> Option<(ServerAddr, Duration)> {
        let mut state = self.lock();
        let (server, delay) = state.next(open)?;
        state.phase = Phase::Trying { server: server.clone(), failures: 0, reached: false };
        Some((server, delay))
    }

    /// The server that was picked, for the library.
    fn picked(&self) -> Option<ReconnectToServer> {
        match &self.lock().phase {
            Phase::Trying { server, .. } => {
                Some(ReconnectToServer { addr: server.clone(), delay: Some(Duration::ZERO) })
            }
            _ => None,
        }
    }

    /// Picks a server after the connection, or an attempt to make it again, has failed.
    fn pick_again(&self, pool: &[async_nats::Server], info: &ServerInfo) -> Option<ReconnectToServer> {
        let mut state = self.lock();
        self.settle(&mut state, pool, info);
        let dead_end = dead_end();
        let servers: Vec<ServerAddr> = pool
            .iter()
            .map(|server| server.addr.clone())
            .filter(|addr| Some(addr) != dead_end.as_ref())
            .collect();
        let used_up = self.budget.is_some_and(|budget| state.plan.attempts_in_all() >= budget);
        if used_up && !matches!(state.phase, Phase::Closed) {
            let gave_up = Closed::GaveUp(std::mem::take(&mut state.failures));
            state.phase = Phase::Closed;
            self.tell(&mut state, Event::Closed(gave_up));
        }
        if matches!(state.phase, Phase::Closed) {
            let addr = dead_end.filter(|addr| pool.iter().any(|server| server.addr == *addr));
            let addr = addr.or_else(|| servers.first().cloned())?;
            // No pause: with its own count used up, the library makes no attempt, and the dead end needs
            // none.
            return Some(ReconnectToServer { addr, delay: Some(Duration::ZERO) });
        }
        let (server, delay) = state.next(&servers)?;
        let failures =
            pool.iter().find(|entry| entry.addr == server).map_or(0, |entry| entry.failed_attempts);
        state.phase = Phase::Trying { server: server.clone(), failures, reached: false };
        Some(ReconnectToServer { addr: server, delay: Some(delay) })
    }

    /// Tells what became of the phase that just ended.
    ///
    /// The library does not say; it shows in the pool. A failure has been counted there, unless the host's
    /// name could not be looked up, in which case the server was never reached.
    fn settle(&self, state: &mut State, pool: &[async_nats::Server], info: &ServerInfo) {
        match std::mem::replace(&mut state.phase, Phase::New) {
            Phase::Trying { server, failures, reached } => {
                let entry = pool.iter().find(|entry| entry.addr == server);
                let failed = entry.filter(|entry| entry.failed_attempts > failures);
                if failed.is_none() && reached {
                    state.remember(&server, info);
                    self.tell_connected(state, &server);
                    self.tell_lost(state, &server);
                } else {
                    let reason = match failed {
                        Some(entry) => known_reason(entry.last_error.as_deref()),
                        None => Reason::Lookup(server.host().to_owned()),
                    };
                    self.tell_failed(state, &server, reason);
                }
            }
            Phase::Connected(server) => {
                state.remember(&server, info);
                self.tell_lost(state, &server);
            }
            phase @ (Phase::New | Phase::Closed) => state.phase = phase,
        }
    }

    /// Notes that the server asks who the client is, and says which server that is.
    fn reached(&self) -> String {
        match &mut self.lock().phase {
            Phase::Trying { server, reached, .. } => {
                *reached = true;
                server.as_url_str().to_owned()
            }
            _ => String::new(),
        }
    }

    fn first_connected(&self, info: &ServerInfo) {
        let mut state = self.lock();
        // If it was lost again already, that has been told.
        if state.told > 0 {
            return;
        }
        if let Phase::Trying { server, .. } = &state.phase {
            let server = server.clone();
            state.remember(&server, info);
            self.tell_connected(&mut state, &server);
            state.phase = Phase::Connected(server);
        }
    }

    fn first_failed(&self, server: &ServerAddr, reason: Reason) -> HostError {
        self.tell_failed(&mut self.lock(), server, reason)
    }

    fn failures(&self) -> Vec<HostError> {
        self.lock().failures.clone()
    }

    /// Takes what the library reports.
    fn on_event(&self, event: async_nats::Event) {
        let mut state = self.lock();
        let event = match event {
            async_nats::Event::Connected => return self.on_connected(&mut state),
            async_nats::Event::LameDuckMode => match &state.phase {
                Phase::Connected(server) | Phase::Trying { server, .. } => {
                    Event::LameDuck { server: state.id(server) }
                }
                Phase::New | Phase::Closed => return,
            },
            async_nats::Event::SlowConsumer(subscription)
            | async_nats::Event::ServerError(ServerError::SlowConsumer(subscription)) => {
                Event::SlowConsumer { subscription }
            }
            async_nats::Event::ServerError(ServerError::Other(message)) => {
                Event::ServerError { message: one_line(&message) }
            }
            async_nats::Event::ServerError(ServerError::AuthorizationViolation) => {
                Event::ServerError { message: "authorization violation".to_owned() }
            }
            async_nats::Event::Draining => Event::Draining,
            async_nats::Event::Closed => {
                state.phase = Phase::Closed;
                Event::Closed(Closed::ByClient)
            }
            // Told already, with the server's name and the reason, when the next server was picked.
            async_nats::Event::Disconnected | async_nats::Event::ClientError(_) => return,
        };
        self.tell(&mut state, event);
    }

    fn on_connected(&self, state: &mut State) {
        state.reported += 1;
        // The first is told by whoever waits for it, who knows the server's name. One that was lost again
        // before this report came has been told of as well.
        if state.reported == 1 || state.reported <= state.told {
            return;
        }
        if let Phase::Trying { server, .. } = &state.phase {
            let server = server.clone();
            self.tell_connected(state, &server);
            state.phase = Phase::Connected(server);
        }
    }

    fn tell_connected(&self, state: &mut State, server: &ServerAddr) {
        state.told += 1;
        let server = state.id(server);
        self.tell(state, Event::Connected { server });
    }

    fn tell_failed(&self, state: &mut State, server: &ServerAddr, reason: Reason) -> HostError {
        let attempts = state.plan.attempts(server.as_url_str());
        let failure = HostError { server: server.as_url_str().to_owned(), attempts, reason: reason.clone() };
        state.failures.retain(|other| other.server != failure.server);
        state.failures.push(failure.clone());
        let server = state.id(server);
        self.tell(state, Event::AttemptFailed { server, attempt: attempts, reason });
        failure
    }

    fn tell_lost(&self, state: &mut State, server: &ServerAddr) {
        state.plan.lost(server.as_url_str(), Instant::now());
        state.failures.clear();
        let server = state.id(server);
        self.tell(state, Event::Disconnected { server });
    }

    fn tell(&self, state: &mut State, event: Event) {
        state.log.write(&event);
        (self.callback)(&event);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A callback that panicked leaves nothing half done that matters here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self, servers: &[ServerAddr]) -> Option<(ServerAddr, Duration)> {
        let addresses: Vec<String> = servers.iter().map(|server| server.as_url_str().to_owned()).collect();
        let (index, delay) = self.plan.next(&addresses, Instant::now())?;
        Some((servers.get(index)?.clone(), delay))
    }

    fn id(&self, server: &ServerAddr) -> ServerId {
        let address = server.as_url_str();
        let name = self.names.iter().find(|(known, _)| known == address).map(|(_, name)| name.clone());
        ServerId { address: address.to_owned(), name }
    }

    fn remember(&mut self, server: &ServerAddr, info: &ServerInfo) {
        /// Servers whose names are kept. Arbitrary; larger than any cluster.
        const NAMES_MAX: usize = 1024;
        let address = server.as_url_str();
        self.names.retain(|(known, _)| known != address);
        if !info.server_name.is_empty() && self.names.len() < NAMES_MAX {
            self.names.push((address.to_owned(), info.server_name.clone()));
        }
    }
}

/// A reason of which the library kept only the text.
fn known_reason(text: Option<&str>) -> Reason {
    text.map_or(Reason::Timeout, |text| Reason::Other(one_line(text)))
}

/// Why an attempt failed, out of the library's error and what lies below it.
fn reason(error: &ConnectError) -> Reason {
    let cause = cause(error);
    match (error.kind(), cause) {
        (_, Cause::Tls(text)) => Reason::Tls(text),
        (ConnectErrorKind::TimedOut, _) => Reason::Timeout,
        (ConnectErrorKind::Dns, Cause::Io(text) | Cause::Other(text)) => Reason::Lookup(text),
        (ConnectErrorKind::Tls, Cause::Io(text) | Cause::Other(text)) => Reason::Tls(text),
        (ConnectErrorKind::AuthorizationViolation, _) => {
            Reason::Refused("authorization violation".to_owned())
        }
        (ConnectErrorKind::Authentication, Cause::Io(text) | Cause::Other(text)) => Reason::Identity(text),
        (_, Cause::Io(text)) => Reason::Network(one_line(&text)),
        (_, Cause::Other(text)) => Reason::Server(one_line(&text)),
    }
}

/// What lies at the bottom of an error.
enum Cause {
    Tls(String),
    Io(String),
    Other(String),
}

fn cause(error: &ConnectError) -> Cause {
    let mut found = Cause::Other(error.kind().to_string());
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Cause::Tls(tls.to_string());
        }
        found = match error.downcast_ref::<std::io::Error>() {
            Some(io) => Cause::Io(io_text(io)),
            None => Cause::Other(error.to_string()),
        };
        // An I/O error that wraps another does not name it as its source, but that one's source.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    found
}
