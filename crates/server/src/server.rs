//! A server from start to stop.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng;
use sonata_broker::close::CloseReason;
use sonata_broker::latency::Outcome;
use sonata_broker::shared::{Level, Log, Shared};
use sonata_conf::flags::{self, FlagOverrides, Loaded};
use sonata_conf::options::Options;
use sonata_conf::problem::ConfigError;
use sonata_conf::reload::{self, Apply, Change, Refusal};

use crate::callout::Callouts;
use crate::clock::Clock;
use crate::files::{self, Disk};
use crate::identity::{Identity, NATS_VERSION};
use crate::inner::{Inner, Stage};
use crate::introduction::Introducer;
use crate::jetstream::JetStream;
use crate::listener;
use crate::logger::{LogError, Logger};
use crate::monitoring;
use crate::ocsp::Ocsp;
use crate::operator::Operators;
use crate::pipe::{InProcessConnection, pipe};
use crate::serve::serve;
use crate::settings::{server_name, settings, update_accounts};
use crate::socket;
use crate::system::System;
use crate::tls::{TlsError, TlsSetup};

/// How often a server that has gone quiet gives memory back.
const TIDY_INTERVAL: Duration = Duration::from_secs(10);

/// How late it may be noticed that a service has not answered.
const RESPONSES_INTERVAL: Duration = Duration::from_millis(500);

/// How long ending connections may take when a server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Payloads beyond this deserve a warning.
const MAX_PAYLOAD_WARNING: u32 = 8 * 1024 * 1024;

const PLAINTEXT_WARNING: &str = "Plaintext passwords detected, use nkeys or bcrypt";

/// Why a server does not start, or does not take another configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// Flags or file are wrong.
    Config(ConfigError),
    /// A permission is not a subject.
    Permission(String),
    /// `client_advertise` is not a host with an optional port.
    Advertise(String),
    /// TLS cannot be set up.
    Tls(TlsError),
    /// The log cannot be opened.
    Log(LogError),
    /// A listener's address cannot be bound: for what, where, why.
    Listen(&'static str, String, io::Error),
    /// JetStream's files cannot be used.
    JetStream(String),
    /// Accounts' tokens cannot be had.
    Resolver(String),
    /// A thread cannot be started.
    Thread(io::Error),
    /// The pid or ports file cannot be written.
    File(PathBuf, io::Error),
    /// What is wrong stands in the log already ([`Server::start_from`]).
    Logged,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Permission(rule) => write!(f, "invalid permission: {rule}"),
            Self::Advertise(text) => write!(f, "client_advertise: {text:?} is not host:port"),
            Self::Tls(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::Listen(what, address, error) => {
                write!(f, "Error listening on {what}: {address}, \"{error}\"")
            }
            Self::Thread(error) => write!(f, "could not start a thread: {error}"),
            Self::Resolver(text) => f.write_str(text),
            Self::JetStream(text) => write!(f, "JetStream: {text}"),
            Self::File(path, error) => write!(f, "could not write {}: {error}", path.display()),
            Self::Logged => f.write_str("the log says why"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::Listen(_, _, error) | Self::File(_, error) | Self::Thread(error) => Some(error),
            Self::Permission(_)
            | Self::Advertise(_)
            | Self::JetStream(_)
            | Self::Resolver(_)
            | Self::Logged => None,
        }
    }
}

/// Why a reload changed nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReloadError {
    /// The new configuration is wrong.
    Start(StartError),
    /// Options differ that a running server does not change.
    Refused(Vec<Refusal>),
    /// The server was not started from flags and file.
    NoSource,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::Refused(refusals) => {
                let texts: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
                f.write_str(&texts.join("; "))
            }
            Self::NoSource => f.write_str("the server was started without a configuration file"),
        }
    }
}

impl std::error::Error for ReloadError {}

/// A running NATS server. Clones are handles to the same server; it runs until [`Server::shutdown`] (dropping all
/// handles does not stop it).
///
/// It uses the tokio runtime it was started on and owns no global state, so that several can run in one process.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
    /// What was said on the command line, which wins over the file in every reload.
    flags: Option<Arc<FlagOverrides>>,
}

impl Server {
    /// Starts a server that logs nothing: what an embedder wants.
    ///
    /// # Errors
    /// See [`StartError`]; nothing stays behind.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        Self::start_with_logger(options, Arc::new(Logger::silent()), None).await
    }

    /// Starts a server as the command line and the file it names say, logging as they say.
    ///
    /// # Errors
    /// See [`StartError`]; nothing stays behind. What goes wrong once there is a log is written to it, and
    /// [`StartError::Logged`] is left to return.
    pub async fn start_from(flags: FlagOverrides) -> Result<Self, StartError> {
        let Loaded { options, warnings } = flags::load(&flags, &Disk).map_err(StartError::Config)?;
        let logger = Arc::new(Logger::new(&options).map_err(StartError::Log)?);
        for warning in &warnings.warnings {
            logger.write(Level::Warning, format_args!("{warning}"));
        }
        Self::start_with_logger(options, logger.clone(), Some(flags)).await.map_err(|error| {
            logger.write(Level::Fatal, format_args!("{error}"));
            StartError::Logged
        })
    }

    async fn start_with_logger(
        options: Options,
        logger: Arc<Logger>,
        flags: Option<FlagOverrides>,
    ) -> Result<Self, StartError> {
        let clock = Clock::start();
        let identity = Identity::generate();
        banner(&logger, &options, &identity);
        let tls = match &options.tls {
            Some(tls) => Some(Arc::new(TlsSetup::load(tls, &options.ocsp).map_err(StartError::Tls)?)),
            None => None,
        };
        let ocsp = Ocsp::new();
        if let Some(setup) = &tls {
            ocsp.staple(setup, None, &options, &logger).await.map_err(StartError::Tls)?;
        }
        if options.has_plaintext_passwords() {
            logger.write(Level::Warning, format_args!("{PLAINTEXT_WARNING}"));
        }
        if options.max_payload > MAX_PAYLOAD_WARNING {
            logger.write(
                Level::Warning,
                format_args!(
                    "Maximum payloads over 8.00 MB are generally discouraged and could lead to poor performance"
                ),
            );
        }
        // The port is known only once it is bound, and monitoring comes first in the original.
        let listener = listener::bind(&options.host, options.port).await.map_err(|error| {
            StartError::Listen("port", format!("{}:{}", options.host, options.port), error)
        })?;
        let address =
            listener.local_addr().map_err(|error| StartError::Listen("port", options.host.clone(), error))?;
        let operators = Operators::new(&options, clock, logger.clone())?;
        let callouts = Callouts::new(clock, logger.clone());
        callouts.check(&options);
        let settings =
            settings(&options, &identity, address.port(), false, 0, operators.as_ref(), &callouts)?;
        let shared = Shared::new(settings, Box::new(SharedLogger(logger.clone())), rand::rng().next_u64());
        let (accounts, stamps) = (&shared.accounts, &shared.stamps);
        update_accounts(&options, operators.as_ref(), None, accounts, stamps, clock.now_unix_ns());
        let name = server_name(&options, &identity);
        let inner = Inner::new(clock, identity, options, shared, logger, tls, ocsp, callouts);
        inner.callouts.attach(&inner);
        let introducer = Introducer { server_name: name, clock, inner: Arc::downgrade(&inner) };
        inner.shared.set_introduce(Box::new(introducer));
        inner.bound.lock().clients = Some(address);
        if let Some(operators) = operators {
            let _ = inner.operators.set(operators.clone());
            let of = inner.clone();
            // Tokens are files, or somewhere else.
            let started = tokio::task::spawn_blocking(move || operators.start(&of)).await;
            started.map_err(|error| StartError::Resolver(error.to_string()))??;
        }
        let of = inner.clone();
        // Recovery reads files.
        let started = tokio::task::spawn_blocking(move || start_jetstream(&of)).await;
        started.map_err(|error| StartError::JetStream(error.to_string()))??;
        inner.ocsp.begin(&inner);
        let flags = flags.map(Arc::new);
        let server = Self { inner, flags };
        monitoring::start(&server.inner).await?;
        let system_account = server.inner.options.load().system_account_name().map(str::to_owned);
        if let Some(account) = system_account.and_then(|name| server.inner.shared.accounts.find(&name)) {
            let started = System::start(&server.inner, account, server.flags.clone());
            let _ = server.inner.system.set(started.map_err(StartError::Thread)?);
        }
        if let Some(operators) = server.inner.operators.get() {
            operators.serve(&server.inner);
        }
        let options = server.inner.options.load_full();
        // A server that runs is worth more than a file about it, as in the original.
        server.warn_on_error(files::write_pid_file(&options));
        server.warn_on_error(files::write_ports_file(&options, &server.inner.bound.lock()));
        let accepting = tokio::spawn(listener::accept(server.inner.clone(), listener));
        *server.inner.accepting.lock() = Some(accepting);
        tokio::spawn(tidy(server.inner.clone()));
        tokio::spawn(expire_responses(server.inner.clone()));
        server.log(
            Level::Info,
            format_args!("Listening for client connections on {}:{}", options.host, address.port()),
        );
        if options.tls.is_some() && !options.allow_non_tls {
            server.log(Level::Info, format_args!("TLS required for client connections"));
        }
        server.log(Level::Info, format_args!("Server is ready"));
        Ok(server)
    }

    /// A handle to a running server.
    pub(crate) fn of(inner: Arc<Inner>, flags: Option<Arc<FlagOverrides>>) -> Self {
        Self { inner, flags }
    }

    #[cfg(test)]
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The public key that identifies this run of the server.
    pub fn id(&self) -> &str {
        &self.inner.identity.id
    }

    /// Where clients connect. The port is the real one when a random one was asked for.
    pub fn client_address(&self) -> Option<SocketAddr> {
        self.inner.bound.lock().clients
    }

    /// Where monitoring listens, when it does.
    pub fn monitoring_address(&self) -> Option<SocketAddr> {
        let bound = self.inner.bound.lock();
        bound.http.or(bound.https)
    }

    /// A URL that a client on this host can connect to.
    pub fn client_url(&self) -> String {
        let Some(mut address) = self.client_address() else { return String::new() };
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            };
            address.set_ip(loopback);
        }
        format!("nats://{address}")
    }

    /// A connection within the process: speaks the client protocol, starting with the server's `INFO`.
    pub fn connect_in_process(&self) -> InProcessConnection {
        let (client, server) = pipe();
        let (socket, reader) = socket::in_process(server);
        if *self.inner.stage.borrow() == Stage::Running {
            tokio::spawn(serve(self.inner.clone(), socket, reader, None));
        } else {
            socket.shut_down();
        }
        client
    }

    /// Whether the server is in lame duck mode and has not stopped yet.
    pub fn is_lame_duck(&self) -> bool {
        *self.inner.stage.borrow() == Stage::LameDuck
    }

    /// Client connections now.
    pub fn connection_count(&self) -> usize {
        self.inner.connections.count()
    }

    /// Reads the file again and takes what has changed, if all of it can be taken.
    ///
    /// # Errors
    /// See [`ReloadError`]; nothing has changed then.
    pub fn reload(&self) -> Result<Vec<Change>, ReloadError> {
        let flags = self.flags.as_ref().ok_or(ReloadError::NoSource)?;
        let Loaded { options, warnings } =
            flags::load(flags, &Disk).map_err(|error| ReloadError::Start(StartError::Config(error)))?;
        for warning in &warnings.warnings {
            self.log(Level::Warning, format_args!("{warning}"));
        }
        self.reload_with(options)
    }

    /// Takes other options, if all that differs can be changed while running.
    ///
    /// # Errors
    /// See [`ReloadError`]; nothing has changed then.
    pub fn reload_with(&self, options: Options) -> Result<Vec<Change>, ReloadError> {
        let inner = &self.inner;
        let _changing = inner.changing.lock();
        let old = inner.options.load_full();
        let changes = reload::compare(&old, &options).map_err(ReloadError::Refused)?;
        // Everything that can fail comes before anything that shows.
        let tls = match &options.tls {
            Some(tls) => {
                let failed = |error| ReloadError::Start(StartError::Tls(error));
                let setup = TlsSetup::load(tls, &options.ocsp).map_err(failed)?;
                let before = inner.tls.load_full();
                inner
                    .ocsp
                    .staple_blocking(&setup, before.as_deref(), &options, &inner.logger)
                    .map_err(failed)?;
                Some(Arc::new(setup))
            }
            None => None,
        };
        let touches = |apply: Apply| changes.iter().any(|change| change.apply == apply);
        let authorization_version =
            inner.shared.settings().authorization_version + u64::from(touches(Apply::Authorization));
        let port = self.client_address().map_or(options.port, |address| address.port());
        let lame_duck = *inner.stage.borrow() == Stage::LameDuck;
        let mut settings = settings(
            &options,
            &inner.identity,
            port,
            lame_duck,
            authorization_version,
            inner.operators.get(),
            &inner.callouts,
        )
        .map_err(ReloadError::Start)?;
        let operators = match inner.operators.get().filter(|_| touches(Apply::Authorization)) {
            Some(operators) => {
                let change = operators.prepare(&options).map_err(ReloadError::Start)?;
                Some((operators, change))
            }
            None => None,
        };
        if touches(Apply::Logging) {
            inner.logger.reconfigure(&options).map_err(|error| ReloadError::Start(StartError::Log(error)))?;
        }
        if touches(Apply::Authorization) {
            inner.callouts.check(&options);
        }
        let new = Arc::new(options);
        inner.options.store(new.clone());
        inner.tls.store(tls);
        inner.ocsp.begin(inner);
        update_accounts(
            &new,
            inner.operators.get(),
            inner.jetstream.load().as_deref(),
            &inner.shared.accounts,
            &inner.shared.stamps,
            inner.clock.now_unix_ns(),
        );
        if let Some((operators, change)) = operators {
            operators.apply(change);
        }
        self.reload_jetstream(&new);
        settings.info.jetstream = inner.jetstream.load().is_some();
        {
            let _exchanging = inner.exchanging.lock();
            // It may have been announced while streams were recovered.
            settings.info.lame_duck |= *inner.stage.borrow() == Stage::LameDuck;
            inner.shared.update_settings(settings);
        }
        if let Some(system) = inner.system.get() {
            system.serve_accounts();
        }
        inner.loaded_unix_ns.store(inner.clock.now_unix_ns().max(0) as u64, Ordering::Relaxed);
        if touches(Apply::PidFile) {
            self.warn_on_error(files::write_pid_file(&new));
        }
        if touches(Apply::PortsFile) {
            files::remove_ports_file(&old);
            self.warn_on_error(files::write_ports_file(&new, &inner.bound.lock()));
        }
        if touches(Apply::Tls)
            && let Some(setup) = &*inner.tls.load()
        {
            for entry in inner.connections.open() {
                let refused = entry.tls().is_some_and(|facts| !setup.accepts(facts.certificate.as_deref()));
                if refused {
                    entry.connection.close(CloseReason::TlsHandshakeError);
                }
            }
        }
        if touches(Apply::MaxConnections)
            && let Some(max) = new.max_connections
        {
            let beyond = inner.connections.close_beyond(max);
            if !beyond.is_empty() {
                let count = beyond.len();
                self.log(
                    Level::Info,
                    format_args!("Closed {count} connections to fall within max_connections"),
                );
            }
            for entry in beyond {
                let text = sonata_proto::encode::ErrorText::MaximumConnectionsExceeded.line();
                entry.connection.send_last(&text, CloseReason::MaxConnectionsExceeded);
            }
        }
        for entry in inner.connections.open() {
            entry.connection.wake();
        }
        for change in &changes {
            self.log(Level::Info, format_args!("{}", change.log));
        }
        let digest = new.config_digest.as_deref().unwrap_or_default();
        self.log(Level::Info, format_args!("Reloaded server configuration ({digest})"));
        Ok(changes)
    }

    /// Turns JetStream on or off, or has it live by what changed. A server that cannot turn it on runs without, as in the
    /// original, and the next reload tries again.
    fn reload_jetstream(&self, new: &Options) {
        let inner = &self.inner;
        match (inner.jetstream.load_full(), &new.jetstream) {
            (Some(running), Some(said)) => {
                running.change_limits(said, new);
                // Those of operators have what their tokens say.
                if inner.operators.get().is_none() {
                    running.change_accounts(new);
                }
            }
            (Some(running), None) => {
                inner.jetstream.store(None);
                running.stop();
                // They keep streams in memory.
                inner.workers.clear_routes();
            }
            (None, Some(_)) => {
                // Before the look: who stops the server sees the one or is seen.
                inner.recovering.store(true, Ordering::SeqCst);
                if *inner.stage.borrow() < Stage::Stopping {
                    self.restart_jetstream(new);
                }
                inner.recovering.store(false, Ordering::SeqCst);
            }
            (None, None) => {}
        }
    }

    fn restart_jetstream(&self, new: &Options) {
        let inner = &self.inner;
        self.log(Level::Info, format_args!("Restarting JetStream"));
        // Tokens may have to be waited for, which a thread of the runtime must not.
        let started = std::thread::scope(|scope| scope.spawn(|| start_jetstream(inner)).join());
        let started = started.unwrap_or_else(|_| Err(StartError::JetStream("the start has panicked".into())));
        if let Err(error) = started {
            self.log(Level::Warning, format_args!("Can't start JetStream: {error}"));
            inner.options.store(Arc::new(Options { jetstream: None, ..new.clone() }));
        }
    }

    /// Opens the log file again, after it was moved away.
    pub fn reopen_log(&self) {
        match self.inner.logger.reopen() {
            Ok(true) => self.log(Level::Info, format_args!("File log re-opened")),
            Ok(false) => self.log(Level::Info, format_args!("File log re-open ignored, not a file logger")),
            Err(error) => self.log(Level::Error, format_args!("{error}")),
        }
    }

    /// Lame duck mode: no new clients, those who are here are told to go elsewhere and are sent away one after the
    /// other; then the server stops. Returns when it has.
    pub async fn lame_duck(&self) {
        if !self.inner.enter(Stage::LameDuck) {
            return self.stopped().await;
        }
        self.log(Level::Info, format_args!("Entering lame duck mode, stop accepting new clients"));
        if let Some(system) = self.inner.system.get() {
            system.announce(&self.inner, "LAMEDUCK");
        }
        let options = self.inner.options.load_full();
        self.listener_closed().await;
        if self.connection_count() > 0 {
            self.announce_lame_duck();
            if self.wait_unless_stopping(options.lame_duck_grace_period).await {
                self.log(Level::Info, format_args!("Closing existing clients"));
                let span = options.lame_duck_duration.saturating_sub(options.lame_duck_grace_period);
                self.send_away(span).await;
            }
        }
        self.shutdown().await;
    }

    /// Returns when nobody is accepted any more.
    async fn listener_closed(&self) {
        let accepting = self.inner.accepting.lock().take();
        if let Some(accepting) = accepting {
            // It only ends; and if it had panicked its listener would be closed as well.
            let _ = accepting.await;
        }
    }

    fn announce_lame_duck(&self) {
        let inner = &self.inner;
        let _exchanging = inner.exchanging.lock();
        let options = inner.options.load_full();
        let port = self.client_address().map_or(options.port, |address| address.port());
        let version = inner.shared.settings().authorization_version;
        let (operators, callouts) = (inner.operators.get(), &inner.callouts);
        if let Ok(settings) = settings(&options, &inner.identity, port, true, version, operators, callouts) {
            inner.shared.update_settings(settings);
            inner.connections.open().iter().for_each(|entry| entry.connection.wake());
        }
    }

    /// Closes clients over the span, at most a second apart, each at a random moment of its share.
    async fn send_away(&self, span: Duration) {
        let clients = self.inner.connections.open();
        let Some(share) = span.checked_div(clients.len() as u32) else { return };
        let share = share.min(Duration::from_secs(1));
        for entry in clients {
            let wait = share / 2 + (share / 2).mul_f64(rand::random_range(0.0..1.0));
            if !self.wait_unless_stopping(wait).await {
                return;
            }
            entry.connection.close(CloseReason::ServerShutdown);
        }
    }

    /// Waits; false when the server was stopped meanwhile.
    async fn wait_unless_stopping(&self, wait: Duration) -> bool {
        let mut stage = self.inner.stage.subscribe();
        tokio::time::timeout(wait, stage.wait_for(|stage| *stage >= Stage::Stopping)).await.is_err()
    }

    /// Stops the server and returns when it has stopped: no listener, no connection. It stops even if nobody waits for
    /// the end of this call.
    pub async fn shutdown(&self) {
        if self.inner.enter(Stage::Stopping) {
            let server = self.clone();
            tokio::spawn(async move { server.stop().await });
        }
        self.stopped().await;
    }

    async fn stop(&self) {
        self.log(Level::Info, format_args!("Initiating Shutdown..."));
        let system = self.inner.system.get().cloned();
        if let Some(system) = &system {
            system.stop(&self.inner);
        }
        self.listener_closed().await;
        let options = self.inner.options.load_full();
        files::remove_ports_file(&options);
        files::remove_pid_file(&options);
        let all_gone = async {
            loop {
                let ended = self.inner.connections.ended.notified();
                for entry in self.inner.connections.open() {
                    entry.connection.close(CloseReason::ServerShutdown);
                }
                if self.inner.connections.count() == 0 {
                    return;
                }
                ended.await;
            }
        };
        // Connections end at once; the bound is for a runtime that is being torn down under us.
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, all_gone).await;
        let inner = self.inner.clone();
        let _ = tokio::task::spawn_blocking(move || inner.ocsp.end(&inner.logger)).await;
        let exiting = || self.log(Level::Info, format_args!("Server Exiting.."));
        let recovering = self.inner.recovering.load(Ordering::SeqCst);
        if recovering {
            exiting();
            self.inner.enter(Stage::Recovering);
        }
        let inner = self.inner.clone();
        let stop_jetstream = move || {
            // A reload that is turning it on is waited for, unless the process ends meanwhile; the next ones see that the
            // server stops.
            let _changing = inner.changing.lock();
            if let Some(jetstream) = &*inner.jetstream.load() {
                jetstream.stop();
            }
        };
        let _ = tokio::task::spawn_blocking(stop_jetstream).await;
        if let Some(system) = system {
            let _ = tokio::task::spawn_blocking(move || system.join()).await;
        }
        if !recovering {
            exiting();
        }
        self.inner.enter(Stage::Stopped);
    }

    /// Returns when the server has stopped.
    pub async fn stopped(&self) {
        let mut stage = self.inner.stage.subscribe();
        // The sender lives in the server that this handle keeps.
        let _ = stage.wait_for(|stage| *stage == Stage::Stopped).await;
    }

    /// Returns when the server has stopped, or when all that is left of it is a reload that turns JetStream on and recovers
    /// streams. The process may end then: a recovery that is cut off begins anew at the next start. Who stays, and uses the
    /// folder again, waits for [`Server::stopped`].
    pub async fn stopped_or_recovering(&self) {
        let mut stage = self.inner.stage.subscribe();
        // The sender lives in the server that this handle keeps.
        let _ = stage.wait_for(|stage| *stage >= Stage::Recovering).await;
    }

    /// Writes a line to the server's log.
    pub fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        self.inner.logger.write(level, line);
    }

    fn warn_on_error(&self, result: Result<(), StartError>) {
        if let Err(error) = result {
            self.log(Level::Error, format_args!("{error}"));
        }
    }
}

/// The logger as the broker sees it.
struct SharedLogger(Arc<Logger>);

impl Log for SharedLogger {
    fn enabled(&self, level: Level) -> bool {
        self.0.enabled(level)
    }

    fn write(&self, level: Level, line: fmt::Arguments<'_>) {
        self.0.write(level, line);
    }
}

/// Starts JetStream if the options ask for it. Blocks; not to be called on a thread of the runtime.
///
/// # Errors
/// Its files cannot be used.
fn start_jetstream(inner: &Arc<Inner>) -> Result<(), StartError> {
    let options = inner.options.load_full();
    let Some(said) = &options.jetstream else { return Ok(()) };
    let operators = inner.operators.get();
    let meant = match operators {
        Some(operators) => Arc::new(Options { accounts: operators.meant(), ..(*options).clone() }),
        None => options.clone(),
    };
    let name = server_name(&options, &inner.identity);
    let look_up = |account: &str| operators.and_then(|operators| operators.meaning(account));
    let (shared, logger) = (inner.shared.clone(), inner.logger.clone());
    let started = JetStream::start(said, &meant, &name, shared, logger, inner.clock, &look_up)?;
    inner.jetstream.store(Some(started));
    if let Some(operators) = operators {
        operators.welcome_all(inner);
    }
    Ok(())
}

/// What a start log begins with. Harnesses read it.
fn banner(logger: &Logger, options: &Options, identity: &Identity) {
    let line = |text: fmt::Arguments<'_>| logger.write(Level::Info, text);
    line(format_args!("Starting nats-server"));
    line(format_args!("  Version:  {NATS_VERSION}"));
    line(format_args!("  Git:      [sonata {}]", env!("CARGO_PKG_VERSION")));
    line(format_args!("  Name:     {}", server_name(options, identity)));
    line(format_args!("  ID:       {}", identity.id));
    if let Some(path) = &options.config_file {
        let digest = options.config_digest.as_deref().unwrap_or_default();
        line(format_args!("Using configuration file: {} ({digest})", path.display()));
    }
}

/// Gives up requests to services of other accounts that nobody answers, and says so of those that are measured.
async fn expire_responses(inner: Arc<Inner>) {
    let mut stage = inner.stage.subscribe();
    loop {
        let over = stage.wait_for(|stage| *stage >= Stage::Stopping);
        if tokio::time::timeout(RESPONSES_INTERVAL, over).await.is_ok() {
            return;
        }
        let now_ns = inner.clock.now_ns();
        for account in inner.shared.accounts.all() {
            let overdue = account.responses.expire(now_ns);
            if overdue.is_empty() {
                continue;
            }
            inner.speak(|outbox| {
                for (tracking, import) in overdue {
                    if let Some(latency) = &import.export.latency {
                        tracking.tell(&inner.shared, &account, latency, &Outcome::TimedOut, outbox);
                    }
                }
            });
        }
    }
}

/// Gives memory back now and then: unused buffers, and routes that lead to connections long gone.
async fn tidy(inner: Arc<Inner>) {
    let mut stage = inner.stage.subscribe();
    let (mut last_ended, mut last_heard) = (0, 0);
    loop {
        let over = stage.wait_for(|stage| *stage >= Stage::Stopping);
        if tokio::time::timeout(TIDY_INTERVAL, over).await.is_ok() {
            return;
        }
        inner.shared.pool.shrink();
        if let Some(operators) = inner.operators.get() {
            operators.tidy();
        }
        let ended = inner.connections.total() - inner.connections.count() as u64;
        let heard = inner.shared.traffic.in_messages.value();
        // Routes to connections that are gone, or that nobody publishes on.
        if ended != last_ended || heard == last_heard {
            inner.workers.clear_routes();
            if let Some(jetstream) = &*inner.jetstream.load() {
                jetstream.clear_routes();
            }
        }
        (last_ended, last_heard) = (ended, heard);
    }
}
