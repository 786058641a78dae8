//! What all tasks of one server share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use sonata_broker::service::Outbox;
use sonata_broker::shared::Shared;
use sonata_conf::options::Options;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::callout::Callouts;
use crate::clock::Clock;
use crate::connections::Connections;
use crate::identity::Identity;
use crate::jetstream::JetStream;
use crate::logger::Logger;
use crate::ocsp::Ocsp;
use crate::operator::Operators;
use crate::process::CpuMeter;
use crate::slow::SlowChecks;
use crate::system::System;
use crate::tls::TlsSetup;
use crate::workers::Workers;

/// See the module.
pub(crate) struct Inner {
    pub(crate) clock: Clock,
    pub(crate) identity: Identity,
    pub(crate) options: ArcSwap<Options>,
    /// When the configuration was loaded, nanoseconds since 1970.
    pub(crate) loaded_unix_ns: AtomicU64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) logger: Arc<Logger>,
    pub(crate) tls: ArcSwapOption<TlsSetup>,
    pub(crate) ocsp: Ocsp,
    pub(crate) connections: Connections,
    pub(crate) workers: Workers,
    pub(crate) slow_checks: SlowChecks,
    pub(crate) callouts: Arc<Callouts>,
    pub(crate) stage: watch::Sender<Stage>,
    pub(crate) bound: Mutex<Bound>,
    /// Held while options and settings are exchanged, so that one exchange does not undo another.
    pub(crate) changing: Mutex<()>,
    /// Held while settings are exchanged: within a change, and when lame duck mode is announced, which waits for no change.
    pub(crate) exchanging: Mutex<()>,
    /// A reload recovers streams. Nothing of them is served, and nothing is to be saved.
    pub(crate) recovering: AtomicBool,
    /// Accepts clients; ends, and closes its listener, when the server leaves its running stage.
    pub(crate) accepting: Mutex<Option<JoinHandle<()>>>,
    pub(crate) http_requests: crate::monitoring::RequestCounts,
    pub(crate) cpu: CpuMeter,
    /// While it is on. Exchanged under `changing`.
    pub(crate) jetstream: ArcSwapOption<JetStream>,
    /// Set once, before the first client, if an operator is trusted.
    pub(crate) operators: OnceLock<Arc<Operators>>,
    /// Set once, before the first client, unless there is no system account.
    pub(crate) system: OnceLock<Arc<System>>,
    next_connection_id: AtomicU64,
}

/// Where a server is in its life. Only ever goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Accepting clients.
    Running,
    /// Accepting nobody, sending clients away.
    LameDuck,
    /// Going down.
    Stopping,
    /// Down, but for a reload that recovers streams.
    Recovering,
    /// Down.
    Stopped,
}

/// Addresses that are being listened on.
#[derive(Debug, Default, Clone)]
pub(crate) struct Bound {
    pub(crate) clients: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
}

impl Inner {
    #[allow(clippy::too_many_arguments, reason = "called once, with everything that a server is made of")]
    pub(crate) fn new(
        clock: Clock,
        identity: Identity,
        options: Options,
        shared: Arc<Shared>,
        logger: Arc<Logger>,
        tls: Option<Arc<TlsSetup>>,
        ocsp: Ocsp,
        callouts: Arc<Callouts>,
    ) -> Arc<Self> {
        let closed_max = usize::try_from(options.max_closed_clients).unwrap_or(usize::MAX);
        Arc::new(Self {
            identity,
            loaded_unix_ns: AtomicU64::new(clock.now_unix_ns().max(0) as u64),
            clock,
            options: ArcSwap::from_pointee(options),
            shared,
            logger,
            tls: ArcSwapOption::from(tls),
            ocsp,
            connections: Connections::new(closed_max),
            workers: Workers::default(),
            slow_checks: SlowChecks::new(),
            callouts,
            stage: watch::Sender::new(Stage::Running),
            bound: Mutex::default(),
            changing: Mutex::default(),
            exchanging: Mutex::default(),
            recovering: AtomicBool::new(false),
            accepting: Mutex::default(),
            http_requests: crate::monitoring::RequestCounts::default(),
            cpu: CpuMeter::start(clock.now_ns()),
            jetstream: ArcSwapOption::empty(),
            operators: OnceLock::new(),
            system: OnceLock::new(),
            // The original's first client has a number above 1 as well; clients only need it to be unique.
            next_connection_id: AtomicU64::new(4),
        })
    }

    pub(crate) fn next_connection_id(&self) -> u64 {
        self.next_connection_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Publishes what `say` puts into the outbox, and what that leads to. Whoever is slow to listen holds nobody back.
    pub(crate) fn speak(&self, say: impl FnOnce(&mut Outbox)) {
        let now_ns = self.clock.now_ns();
        self.workers.with(|bench| {
            let worker = &mut bench.worker;
            say(worker.outbox());
            worker.publish_outbox(&self.shared, now_ns);
            worker.flush(now_ns);
            let _ = worker.take_stalling(usize::MAX);
        });
    }

    pub(crate) fn write_deadline_ns(&self) -> u64 {
        u64::try_from(self.options.load().write_deadline.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Moves on to a later stage; false when the server was there already.
    pub(crate) fn enter(&self, stage: Stage) -> bool {
        self.stage.send_if_modified(|now| {
            let later = *now < stage;
            if later {
                *now = stage;
            }
            later
        })
    }
}
