//! The table of connections, open ones and the latest of those that have ended.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustls::ServerConnection;
use rustls_pki_types::CertificateDer;
use sonata_auth::certificate::PeerCertificate;
use sonata_broker::close::CloseReason;
use sonata_broker::connection::{Connection, ConnectionCounts, Profile};
use sonata_broker::subscription::{Subscription, SubscriptionRecord};
use tokio::sync::Notify;

/// Subscriptions of an ended connection that are remembered.
const CLOSED_SUBSCRIPTIONS_MAX: usize = 16;

/// An open connection, as the server knows it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) connection: Arc<Connection>,
    tls: OnceLock<Box<TlsFacts>>,
    ingest_bytes: AtomicUsize,
    /// Whether its user may stay is to be judged again.
    judgement: AtomicBool,
    /// Somebody wants the client to leave, and to know whether it was told so.
    farewell: Mutex<Option<Box<SyncSender<bool>>>>,
    /// Why a service did not let the client in.
    refusal: OnceLock<Box<Refusal>>,
}

/// A service did not let a client in.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// Where the service listens, and whoever wants to hear of its refusals.
    pub(crate) account: Arc<str>,
    /// The account that the client would have been in without the service.
    pub(crate) own_account: Option<Arc<str>>,
    /// Why, as they are told.
    pub(crate) reason: String,
}

/// What is known of a connection's TLS.
#[derive(Debug, Clone)]
pub(crate) struct TlsFacts {
    pub(crate) version: &'static str,
    pub(crate) cipher_suite: String,
    pub(crate) certificate: Option<Arc<PeerCertificate>>,
    /// The handshake came before `INFO`.
    pub(crate) first: bool,
    /// The client's certificate and those that vouch for it, verified; only where a service may want to see them.
    pub(crate) chain: Option<Box<[CertificateDer<'static>]>>,
}

/// A connection that has ended.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) id: u64,
    /// None for a connection within the process.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) started_ns: u64,
    pub(crate) stopped_ns: u64,
    pub(crate) last_activity_ns: u64,
    pub(crate) rtt_ns: u64,
    pub(crate) reason: CloseReason,
    pub(crate) profile: Profile,
    pub(crate) counts: ConnectionCounts,
    pub(crate) tls: Option<Box<TlsFacts>>,
    /// Why a service did not let the client in.
    pub(crate) refusal: Option<Box<Refusal>>,
    /// At most [`CLOSED_SUBSCRIPTIONS_MAX`] of them, and nothing that keeps the connection itself.
    pub(crate) subscriptions: Box<[SubscriptionRecord]>,
}

/// See the module.
pub(crate) struct Connections {
    open: Mutex<HashMap<u64, Arc<Entry>>>,
    closed: Mutex<VecDeque<Arc<Closed>>>,
    closed_max: AtomicUsize,
    total: AtomicU64,
    /// Told when a connection has ended.
    pub(crate) ended: Notify,
}

impl Entry {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            tls: OnceLock::new(),
            ingest_bytes: AtomicUsize::new(0),
            judgement: AtomicBool::new(false),
            farewell: Mutex::default(),
            refusal: OnceLock::new(),
        }
    }

    pub(crate) fn set_tls(&self, facts: TlsFacts) {
        // Once per connection: there is one handshake.
        let _ = self.tls.set(Box::new(facts));
    }

    pub(crate) fn tls(&self) -> Option<&TlsFacts> {
        self.tls.get().map(|facts| &**facts)
    }

    /// Has the connection's own task, once it wakes, see whether its user may stay.
    pub(crate) fn ask_for_judgement(&self) {
        self.judgement.store(true, Ordering::Release);
    }

    pub(crate) fn take_judgement(&self) -> bool {
        // A read first: nearly always there is nothing.
        self.judgement.load(Ordering::Acquire) && self.judgement.swap(false, Ordering::AcqRel)
    }

    /// Has the connection's own task, once it wakes, ask the client to leave and tell whether it could.
    pub(crate) fn ask_to_leave(&self, tell: SyncSender<bool>) {
        *self.farewell.lock() = Some(Box::new(tell));
    }

    pub(crate) fn take_farewell(&self) -> Option<SyncSender<bool>> {
        self.farewell.lock().take().map(|tell| *tell)
    }

    pub(crate) fn set_refusal(&self, refusal: Refusal) {
        // Once per connection: it is closed for it.
        let _ = self.refusal.set(Box::new(refusal));
    }

    /// Bytes of unfinished input.
    pub(crate) fn ingest_bytes(&self) -> usize {
        self.ingest_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_ingest_bytes(&self, bytes: usize) {
        self.ingest_bytes.store(bytes, Ordering::Relaxed);
    }
}

impl TlsFacts {
    pub(crate) fn of(
        session: &ServerConnection,
        certificate: Option<Arc<PeerCertificate>>,
        first: bool,
    ) -> Self {
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            _ => "1.2",
        };
        let cipher_suite = session
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or_default()
            // The names of TLS 1.3 suites without rustls's own prefix, as everybody else writes them.
            .replacen("TLS13_", "TLS_", 1);
        Self { version, cipher_suite, certificate, first, chain: None }
    }
}

impl Connections {
    pub(crate) fn new(closed_max: usize) -> Self {
        Self {
            open: Mutex::default(),
            closed: Mutex::default(),
            closed_max: AtomicUsize::new(closed_max),
            total: AtomicU64::new(0),
            ended: Notify::new(),
        }
    }

    /// Adds a connection. False when there are as many as there may be: then it is in the table only until it is
    /// removed, to be seen in `/connz` afterwards.
    pub(crate) fn insert(&self, entry: Arc<Entry>, max: Option<u32>) -> bool {
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.lock();
        let fits = max.is_none_or(|max| open.len() < max as usize);
        open.insert(entry.connection.id(), entry);
        fits
    }

    /// Moves a connection from the open ones to the ended ones, and tells what is remembered of it.
    pub(crate) fn remove(
        &self,
        entry: &Arc<Entry>,
        reason: CloseReason,
        subscriptions: &[Arc<Subscription>],
        now_ns: u64,
    ) -> Arc<Closed> {
        let connection = &entry.connection;
        let mut counts = connection.counts();
        counts.subscriptions = subscriptions.len();
        let subscriptions = subscriptions
            .iter()
            .take(CLOSED_SUBSCRIPTIONS_MAX)
            .map(|subscription| subscription.record())
            .collect();
        let closed = Arc::new(Closed {
            id: connection.id(),
            remote: connection.remote(),
            started_ns: connection.started_ns(),
            stopped_ns: now_ns,
            last_activity_ns: connection.last_activity_ns(),
            rtt_ns: connection.rtt_ns(),
            reason,
            profile: connection.profile(),
            counts,
            tls: entry.tls.get().cloned(),
            refusal: entry.refusal.get().cloned(),
            subscriptions,
        });
        let mut open = self.open.lock();
        open.remove(&connection.id());
        if open.len() * 8 < open.capacity() {
            open.shrink_to_fit();
        }
        drop(open);
        let max = self.closed_max.load(Ordering::Relaxed);
        let mut ended = self.closed.lock();
        while ended.len() >= max.max(1) {
            ended.pop_front();
        }
        if max > 0 {
            ended.push_back(closed.clone());
        }
        drop(ended);
        self.ended.notify_waiters();
        closed
    }

    pub(crate) fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// Connections since the start.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// An open connection.
    pub(crate) fn find(&self, id: u64) -> Option<Arc<Entry>> {
        self.open.lock().get(&id).cloned()
    }

    pub(crate) fn open(&self) -> Vec<Arc<Entry>> {
        self.open.lock().values().cloned().collect()
    }

    pub(crate) fn closed(&self) -> Vec<Arc<Closed>> {
        self.closed.lock().iter().cloned().collect()
    }

    /// Closes the newest connections beyond `max`, as a reload that lowers `max_connections` does.
    pub(crate) fn close_beyond(&self, max: u32) -> Vec<Arc<Entry>> {
        let mut open = self.open();
        open.sort_by_key(|entry| entry.connection.id());
        open.split_off(open.len().min(max as usize))
    }
}
