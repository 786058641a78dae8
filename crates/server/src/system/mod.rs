//! The system account: what the server tells there without being asked, and what it answers.
//!
//! Requests are [`service`]s in the system account, and in every other account those few that are about that account alone;
//! [`subjects`] lists them all. [`requests`] and [`events`] have a thread each, which is where JSON is made; what it says is
//! decided in `sonata-monitor`. Threads that serve clients only ever leave a note in a bounded [`queue`].

mod encoding;
mod events;
mod queue;
mod requests;
mod service;
mod subjects;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use sonata_broker::account::Account;
use sonata_broker::connection::Connection;
use sonata_broker::service::Outgoing;
use sonata_broker::shared::Shared;
use sonata_broker::worker::Worker;
use sonata_conf::flags::FlagOverrides;
use sonata_jetstream::nuid::Nuid;
use sonata_monitor::ipqueuesz::QueueLength;
use sonata_monitor::system::request::Stamp;
use sonata_monitor::text::Timestamp;

pub(crate) use self::encoding::{ACCEPT_ENCODING, Encoding, snappy};
use self::events::Events;
use self::requests::Requests;
use crate::inner::Inner;
use crate::nowhere::own_connection;
use crate::server::Server;
use crate::view;

/// See the module. Absent where the configuration has no system account.
pub(crate) struct System {
    /// The server has this, so this does not have the server.
    inner: Weak<Inner>,
    /// What a reload needs to know.
    flags: Option<Arc<FlagOverrides>>,
    shared: Arc<Shared>,
    account: Arc<Account>,
    server_id: String,
    /// What the server publishes by.
    connection: Arc<Connection>,
    /// Accounts that are served, by number.
    served: Mutex<HashSet<u32>>,
    events: Events,
    requests: Requests,
    /// Goes up with every message.
    sequence: AtomicU64,
    event_ids: Mutex<Nuid>,
    workers: Mutex<Vec<Worker>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    is_stopping: AtomicBool,
}

impl System {
    /// Begins to answer and to tell.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn start(
        inner: &Arc<Inner>,
        account: Arc<Account>,
        flags: Option<Arc<FlagOverrides>>,
    ) -> io::Result<Arc<Self>> {
        let shared = inner.shared.clone();
        let connection = own_connection(&shared, inner.clock);
        let system = Arc::new(Self {
            inner: Arc::downgrade(inner),
            flags,
            shared,
            account,
            server_id: inner.identity.id.clone(),
            connection,
            served: Mutex::default(),
            events: Events::default(),
            requests: Requests::default(),
            sequence: AtomicU64::new(1),
            event_ids: Mutex::new(Nuid::new(rand::random())),
            workers: Mutex::default(),
            threads: Mutex::default(),
            is_stopping: AtomicBool::new(false),
        });
        // Views ask the runtime how many threads it has.
        let runtime = tokio::runtime::Handle::current();
        let spawn = |name: &str, run: fn(&Self)| {
            let (own, runtime) = (system.clone(), runtime.clone());
            std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                let _runtime = runtime.enter();
                run(&own);
            })
        };
        let threads = [spawn("sys-events", Self::run_events), spawn("sys-requests", Self::run_requests)];
        if threads.iter().any(Result::is_err) {
            // The other one, if there is one, has nothing to wait for.
            system.events.end();
            system.requests.end();
        }
        *system.threads.lock() = threads.into_iter().collect::<io::Result<Vec<_>>>()?;
        system.serve_accounts();
        Ok(system)
    }

    /// Serves the accounts that are not served yet, as after a reload.
    pub(crate) fn serve_accounts(self: &Arc<Self>) {
        let accounts = self.shared.accounts.all();
        let known: HashSet<u32> = accounts.iter().map(|account| account.id()).collect();
        self.served.lock().retain(|id| known.contains(id));
        accounts.iter().for_each(|account| self.welcome(account));
    }

    /// Serves an account that is new, unless it is served already.
    pub(crate) fn welcome(self: &Arc<Self>, account: &Arc<Account>) {
        if self.served.lock().insert(account.id()) {
            self.serve(account);
        }
    }

    /// Has no more events, says goodbye, and answers no more. [`System::join`] waits for what is under way.
    pub(crate) fn stop(&self, inner: &Arc<Inner>) {
        if !self.is_stopping.swap(true, Ordering::AcqRel) {
            self.announce(inner, "SHUTDOWN");
            self.events.end();
            self.requests.end();
        }
    }

    /// Waits for the threads. Blocks.
    pub(crate) fn join(&self) {
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }

    /// What waits to be told and to be answered, by the original's names.
    pub(crate) fn queues(&self) -> [(String, QueueLength); 2] {
        let queue = |name: &str, pending: usize| {
            (name.to_owned(), QueueLength { pending: pending as u64, in_progress: 0 })
        };
        [queue("System recvQ", self.requests.len()), queue("System sendQ", self.events.len())]
    }

    /// Makes one message of the server.
    pub(crate) fn stamped<T>(&self, inner: &Inner, make: impl FnOnce(Stamp<'_>) -> T) -> T {
        make(Stamp {
            identity: &view::identity(inner),
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            event_id: &self.next_event_id(),
            time: Timestamp(inner.clock.now_unix_ns()),
        })
    }

    fn next_event_id(&self) -> String {
        self.event_ids.lock().next_id()
    }

    fn publish(&self, account: &Arc<Account>, subject: &[u8], headers: &[u8], payload: &[u8]) {
        let Some(inner) = self.inner() else { return };
        let mut worker = self.workers.lock().pop().unwrap_or_else(|| Worker::new(rand::random()));
        let message = Outgoing { route: b"", subject, reply: b"", headers, payload };
        worker.outbox().push(account, &self.connection, message);
        let now_ns = inner.clock.now_ns();
        worker.publish_outbox(&self.shared, now_ns);
        worker.flush(now_ns);
        // Nobody who is slow to listen holds the server back.
        let _ = worker.take_stalling(usize::MAX);
        // Messages are few: routes would only keep connections in memory.
        worker.clear_routes();
        self.workers.lock().push(worker);
    }

    fn reload(&self, inner: &Arc<Inner>) -> Result<(), String> {
        let server = Server::of(inner.clone(), self.flags.clone());
        server.reload().map(|_| ()).map_err(|error| error.to_string())
    }

    fn inner(&self) -> Option<Arc<Inner>> {
        self.inner.upgrade()
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").field("account", &self.account).finish_non_exhaustive()
    }
}
