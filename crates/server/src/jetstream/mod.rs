//! JetStream in the server: threads, files and subscriptions around the node, which knows none of them.
//!
//! Who runs what. Messages for streams, pull requests and acknowledgements are taken on the thread of the client that
//! sends them ([`service`]). The journal's writer applies what is durable and acknowledges it. [`turns`] deliver to
//! consumers, [`requests`] answers the API, [`upkeep`] writes segments and checkpoints; each on threads of their own, so
//! that no disk is ever waited for on a thread that serves connections.

mod accounts;
mod commits;
mod feeds;
mod folder;
mod homes;
mod requests;
mod restores;
mod sealing;
mod service;
mod snapshots;
mod transfers;
mod turns;
mod upkeep;
mod view;
mod watches;
mod world;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, RwLock};
use sonata_broker::account::Account as BrokerAccount;
use sonata_broker::connection::Connection;
use sonata_broker::service::Outbox;
use sonata_broker::shared::{Level, Log, Shared};
use sonata_broker::subscription::Subscription;
use sonata_broker::worker::Worker;
use sonata_conf::options::{JetStream as Options, Options as ServerOptions};
use sonata_disk::Disk;
use sonata_jetstream::account::Account;
use sonata_jetstream::config::{BatchLimits, ServerLimits, Storage};
use sonata_jetstream::node::{Node, Settings};
use sonata_jetstream::outgoing::{Outgoing, Publish};
use sonata_jetstream::stream::Stream;
use sonata_journal::{Journal, Writer};
use sonata_store::Sealing;

use crate::clock::Clock;
use crate::logger::Logger;
use crate::nowhere::own_connection;
use crate::server::StartError;

pub(crate) use homes::LookUp;
pub(crate) use view::JetStreamSnapshots;

use homes::Homes;
use requests::Requests;
use transfers::Transfers;
use turns::Turns;

/// JetStream of a server.
pub(crate) struct JetStream {
    pub(crate) node: Arc<Node>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) clock: Clock,
    pub(crate) options: Options,
    shared: Arc<Shared>,
    logger: Arc<Logger>,
    disk: Arc<dyn Disk>,
    /// Encryption of the streams' files.
    seal: Option<Sealing>,
    /// Checkpoints are in the clear or under the previous key.
    resave: bool,
    /// What the server publishes by.
    connection: Arc<Connection>,
    accounts: RwLock<HashMap<u32, Arc<Home>>>,
    world: Arc<world::ServerWorld>,
    lanes: RwLock<HashMap<u64, Arc<Handle>>>,
    /// Subscriptions of the streams, by lane.
    subscriptions: Mutex<HashMap<u64, Vec<Arc<Subscription>>>>,
    watches: watches::Watches,
    /// Subscriptions of what feeds streams, by lane.
    feeds: Mutex<HashMap<u64, feeds::Listening>>,
    /// When there was last a warning about which stream's files.
    warned: Mutex<HashMap<u64, u64>>,
    workers: Mutex<Vec<Worker>>,
    turns: Arc<Turns>,
    applied: commits::Applied,
    requests: Requests,
    transfers: Transfers,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stopping: AtomicBool,
    /// Why storage does not work, while it does not.
    pub(crate) failure: Mutex<Option<String>>,
    /// Streams that could not be recovered: folder and cause.
    unrecovered: Vec<(String, String)>,
    /// How long recovery took, ns.
    pub(crate) recovery_ns: std::sync::atomic::AtomicU64,
    itself: Arc<Itself>,
}

/// JetStream as those see it who are called for every message: until it stops, and without touching a counter that all
/// threads share, as a weak reference does.
type Itself = ArcSwapOption<JetStream>;

/// An account in the broker and in the node.
pub(crate) struct Home {
    pub(crate) broker: Arc<BrokerAccount>,
    pub(crate) account: Arc<Account>,
    /// Requests are heard.
    is_served: AtomicBool,
    /// Acknowledgements are heard.
    is_acknowledged: AtomicBool,
    /// What all of them are heard by.
    subscriptions: Mutex<Vec<Arc<Subscription>>>,
}

impl Home {
    fn new(broker: Arc<BrokerAccount>, account: Arc<Account>) -> Arc<Self> {
        let (is_served, is_acknowledged) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { broker, account, is_served, is_acknowledged, subscriptions: Mutex::default() })
    }
}

/// A stream and its account.
pub(crate) struct Handle {
    pub(crate) stream: Arc<Stream>,
    pub(crate) home: Arc<Home>,
}

/// What a stream publishes goes into the outbox of the thread that calls it.
pub(crate) struct Post<'a> {
    account: &'a Arc<BrokerAccount>,
    connection: &'a Arc<Connection>,
    outbox: &'a mut Outbox,
}

impl Publish for Post<'_> {
    fn publish(&mut self, message: Outgoing<'_>) {
        let Outgoing { route, subject, reply, headers, payload } = message;
        if subject.is_empty() {
            // The answer to somebody who wants none.
            return;
        }
        self.outbox.push(
            self.account,
            self.connection,
            sonata_broker::service::Outgoing { route, subject, reply, headers, payload },
        );
    }
}

impl JetStream {
    /// Recovers what is on the disk and begins to serve. Accounts that have streams and are not known are looked up.
    pub(crate) fn start(
        options: &Options,
        server: &ServerOptions,
        server_name: &str,
        shared: Arc<Shared>,
        logger: Arc<Logger>,
        clock: Clock,
        look_up: &LookUp<'_>,
    ) -> Result<Arc<Self>, StartError> {
        let began = clock.now_ns();
        let root = folder::root(server);
        let disk: Arc<dyn Disk> =
            Arc::new(sonata_disk::Real::new(&root).map_err(|error| StartError::File(root.clone(), error))?);
        let (max_memory, max_storage) = folder::room(options, &root);
        log_start(&logger, options, &root, max_memory, max_storage);
        let world = Arc::new(world::ServerWorld::default());
        let settings = Settings {
            server_name: server_name.into(),
            domain: options.domain.clone().unwrap_or_default().into(),
            max_memory,
            max_storage,
            limits: server_limits(options, server),
            strict: !options.lenient,
            batch_bytes_max: usize::try_from(server.max_pending).unwrap_or(usize::MAX),
        };
        let node = Node::new(settings, world.clone());
        let connection = own_connection(&shared, clock);
        let mut homes = Homes::new(server, &shared, &node, &world, look_up);
        restores::remove_unfinished(&disk).map_err(|error| StartError::File(root.clone(), error))?;
        let seal = options.encryption.as_ref().map(sealing::of_streams);
        let mut recovering = upkeep::Recovering::read(&disk, seal.as_ref(), &logger, &mut homes, &node)?;
        let homes = homes.into_known();
        let (journal, writer) = recovering.replay(&disk, options, &logger, clock)?;
        let jetstream = Arc::new(Self {
            node,
            journal,
            clock,
            options: options.clone(),
            shared,
            logger,
            disk,
            seal,
            resave: recovering.is_resave_due(),
            connection,
            accounts: RwLock::new(homes),
            world: world.clone(),
            lanes: RwLock::default(),
            subscriptions: Mutex::default(),
            watches: watches::Watches::default(),
            feeds: Mutex::default(),
            warned: Mutex::default(),
            workers: Mutex::default(),
            turns: Arc::default(),
            applied: commits::Applied::default(),
            requests: Requests::default(),
            transfers: Transfers::default(),
            threads: Mutex::default(),
            stopping: AtomicBool::new(false),
            failure: Mutex::default(),
            unrecovered: recovering.take_left_alone(),
            recovery_ns: std::sync::atomic::AtomicU64::new(0),
            itself: Arc::default(),
        });
        jetstream.itself.store(Some(jetstream.clone()));
        jetstream.applied.advance(jetstream.journal.appended());
        world.attach(&jetstream);
        jetstream.adopt(recovering);
        jetstream.run(writer).map_err(|error| {
            jetstream.itself.store(None);
            StartError::File(root, error)
        })?;
        jetstream.serve_accounts();
        jetstream.recovery_ns.store(clock.now_ns() - began, Ordering::Relaxed);
        Ok(jetstream)
    }

    /// What the configuration allows from now on. What exists stays.
    pub(crate) fn change_limits(&self, options: &Options, server: &ServerOptions) {
        let allowed = |said: Option<u64>, storage| match said {
            Some(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
            // What the host gives was found out at the start.
            None => self.node.usage().room(storage),
        };
        let memory = allowed(options.max_memory, Storage::Memory);
        let storage = allowed(options.max_storage, Storage::File);
        self.node.set_limits(server_limits(options, server), memory, storage);
    }

    /// Puts the streams that were recovered to work.
    fn adopt(&self, recovering: upkeep::Recovering) {
        let now = self.clock.now_unix_ns();
        for upkeep::Recovered { home, mut machine } in recovering.into_streams() {
            let commit = self.commit_of(machine.config());
            machine.set_commit(commit);
            machine.begin(now);
            let (messages, consumers) = (machine.state().messages, machine.consumer_names().len());
            let stream = Stream::new(home.account.id, machine);
            if !self.node.adopt(&home.account, stream.clone()) {
                self.log(
                    Level::Error,
                    format_args!(
                        "Stream '{} > {}' exists twice; one is left alone",
                        home.account.name, stream.name
                    ),
                );
                continue;
            }
            self.log(
                Level::Info,
                format_args!(
                    "  Restored {messages} messages and {consumers} consumers for stream '{} > {}'",
                    home.account.name, stream.name
                ),
            );
        }
    }

    /// The threads.
    fn run(self: &Arc<Self>, mut writer: Writer) -> io::Result<()> {
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(work)
        };
        let mut threads = Vec::new();
        let committed = Arc::new(commits::Commits(Arc::downgrade(self)));
        threads.push(spawn("js-journal", Box::new(move || writer.run(committed)))?);
        for _ in 0..turns::THREADS {
            let own = self.clone();
            threads.push(spawn("js-deliver", Box::new(move || own.run_turns()))?);
        }
        let own = self.clone();
        threads.push(spawn("js-timer", Box::new(move || own.run_timers()))?);
        let own = self.clone();
        threads.push(spawn("js-upkeep", Box::new(move || own.run_upkeep()))?);
        for queue in 0..requests::QUEUES {
            let own = self.clone();
            threads.push(spawn("js-api", Box::new(move || own.run_requests(queue)))?);
        }
        *self.threads.lock() = threads;
        Ok(())
    }

    /// Subscribes to the API and to acknowledgements in every account.
    fn serve_accounts(self: &Arc<Self>) {
        for home in self.accounts.read().values() {
            self.serve(home);
        }
    }

    /// Calls `work` with a worker and publishes what it says.
    pub(crate) fn with_worker<T>(&self, work: impl FnOnce(&mut Worker) -> T) -> T {
        let mut worker = self.workers.lock().pop().unwrap_or_else(|| Worker::new(rand::random()));
        let done = work(&mut worker);
        let now = self.clock.now_ns();
        worker.publish_outbox(&self.shared, now);
        worker.flush(now);
        // Delivered messages are not held back here: consumers have limits of their own.
        let _ = worker.take_stalling(usize::MAX);
        self.workers.lock().push(worker);
        done
    }

    /// Forgets cached routes of workers that are idle, so that they keep nothing of closed connections alive.
    pub(crate) fn clear_routes(&self) {
        self.workers.lock().iter_mut().for_each(Worker::clear_routes);
    }

    /// Calls `work` with somewhere to publish for the account.
    pub(crate) fn post_for<T>(&self, home: &Home, work: impl FnOnce(&mut Post<'_>) -> T) -> T {
        self.with_worker(|worker| work(&mut self.post(home, worker.outbox())))
    }

    pub(crate) fn post<'a>(&'a self, home: &'a Home, outbox: &'a mut Outbox) -> Post<'a> {
        Post { account: &home.broker, connection: &self.connection, outbox }
    }

    fn register(&self, home: &Arc<Home>, stream: &Arc<Stream>) {
        let handle = Arc::new(Handle { stream: stream.clone(), home: home.clone() });
        self.lanes.write().insert(stream.lane, handle);
    }

    pub(crate) fn handle(&self, lane: u64) -> Option<Arc<Handle>> {
        self.lanes.read().get(&lane).cloned()
    }

    pub(crate) fn handles(&self) -> Vec<Arc<Handle>> {
        self.lanes.read().values().cloned().collect()
    }

    pub(crate) fn home(&self, account: u32) -> Option<Arc<Home>> {
        self.accounts.read().get(&account).cloned()
    }

    pub(crate) fn homes(&self) -> Vec<Arc<Home>> {
        let mut homes: Vec<_> = self.accounts.read().values().cloned().collect();
        homes.sort_by(|one, two| one.account.name.cmp(&two.account.name));
        homes
    }

    /// Has what was appended written.
    pub(crate) fn kick(&self) {
        if self.turns.take_appended() {
            self.journal.kick();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        self.logger.write(level, line);
    }

    fn itself(&self) -> Option<Arc<Self>> {
        self.itself.load_full()
    }

    /// Takes back all that it listens on.
    fn fall_silent(&self) {
        let streams = std::mem::take(&mut *self.subscriptions.lock());
        let feeds = std::mem::take(&mut *self.feeds.lock());
        for handle in self.handles() {
            let (lane, broker) = (handle.stream.lane, &handle.home.broker);
            let feeds = feeds.get(&lane).map(feeds::Listening::subscriptions);
            for subscription in streams.get(&lane).into_iter().chain(feeds).flatten() {
                self.shared.unsubscribe(broker, subscription);
            }
            for subject in self.watches.take(lane) {
                broker.interest.unwatch(subject.as_bytes(), lane);
            }
        }
        for home in self.homes() {
            for subscription in std::mem::take(&mut *home.subscriptions.lock()) {
                self.shared.unsubscribe(&home.broker, &subscription);
            }
        }
    }

    /// Listens to nobody any more, tells those who wait, makes everything durable and ends the threads. Blocks.
    pub(crate) fn stop(&self) {
        if self.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        self.log(Level::Info, format_args!("Initiating JetStream Shutdown..."));
        self.fall_silent();
        for handle in self.handles() {
            let now = self.clock.now_unix_ns();
            self.post_for(&handle.home, |out| handle.stream.lock().on_shutdown(now, out));
        }
        self.turns.stop();
        self.requests.stop();
        self.transfers.stop();
        self.journal.close();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // One that panicked has said so.
            let _ = thread.join();
        }
        self.checkpoint_all();
        self.journal.reclaim();
        // What requests have brought that were under way.
        self.fall_silent();
        self.lanes.write().clear();
        self.itself.store(None);
        self.log(Level::Info, format_args!("JetStream Shutdown"));
    }
}

impl fmt::Debug for JetStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStream").finish_non_exhaustive()
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What the configuration says of every account.
fn server_limits(options: &Options, server: &ServerOptions) -> ServerLimits {
    ServerLimits {
        max_request_batch: number(options.limits.max_request_batch),
        max_ack_pending: number(options.limits.max_ack_pending),
        duplicate_window: i64::try_from(options.limits.duplicate_window.as_nanos()).unwrap_or(i64::MAX),
        clustered: false,
        max_payload: i64::from(server.max_payload),
        batch: batch_limits(options),
    }
}

/// What the configuration says of batches.
fn batch_limits(options: &Options) -> BatchLimits {
    let said = &options.limits.batch;
    BatchLimits {
        max_inflight_per_stream: usize::try_from(said.max_inflight_per_stream).unwrap_or(usize::MAX),
        max_inflight_total: usize::try_from(said.max_inflight_total).unwrap_or(usize::MAX),
        max_messages: said.max_messages,
        timeout: i64::try_from(said.timeout.as_nanos()).unwrap_or(i64::MAX),
    }
}

fn log_start(logger: &Logger, options: &Options, root: &std::path::Path, memory: i64, storage: i64) {
    let line = |text: fmt::Arguments<'_>| logger.write(Level::Info, text);
    line(format_args!("Starting JetStream"));
    line(format_args!("---------------- JETSTREAM ----------------"));
    match options.sync_interval {
        None => {
            line(format_args!("  Sync:            always (a publish is acknowledged when it is durable)"))
        }
        Some(interval) => line(format_args!(
            "  Sync:            every {interval:?} (a publish is acknowledged when it is written)"
        )),
    }
    line(format_args!("  Max Memory:      {}", folder::size(memory)));
    line(format_args!("  Max Storage:     {}", folder::size(storage)));
    line(format_args!("  Store Directory: \"{}\"", root.display()));
    if let Some(domain) = &options.domain {
        line(format_args!("  Domain:          {domain}"));
    }
    if let Some(encryption) = &options.encryption {
        line(format_args!("  Encryption:      {}", sealing::cipher_name(encryption)));
    }
    line(format_args!("  API Level:       {}", crate::identity::API_LEVEL));
    line(format_args!("-------------------------------------------"));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sonata_broker::account::GLOBAL_ACCOUNT;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpStream;

    use super::*;
    use crate::server::Server;

    /// What is turned off leaves no subscription behind, which would keep its streams in memory.
    #[tokio::test]
    async fn turned_off_it_hears_nobody() {
        let folder = std::env::temp_dir().join(format!("sonata-silent-{}", std::process::id()));
        let on = ServerOptions {
            host: "127.0.0.1".into(),
            port: 0,
            store_dir: Some(folder.clone()),
            jetstream: Some(Options::default()),
            ..ServerOptions::default()
        };
        let off = ServerOptions { jetstream: None, ..on.clone() };
        let server = Server::start(on).await.expect("a server");
        let account = server.inner().shared.accounts.find(GLOBAL_ACCOUNT).expect("an account");
        assert!(account.interest.has_interest(b"$JS.API.INFO"));
        server.reload_with(off).expect("a reload");
        for subject in ["$JS.API.INFO", "$JS.ACK.S", "$JS.FC.S"] {
            assert!(!account.interest.has_interest(subject.as_bytes()), "{subject}");
        }
        server.shutdown().await;
        std::fs::remove_dir_all(folder).expect("a folder");
    }

    /// A publisher is held back before there is no room for what it sends, and it is refused.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_publishes_faster_than_the_disk_writes_is_held_back() {
        let folder = std::env::temp_dir().join(format!("sonata-behind-{}", std::process::id()));
        let options = ServerOptions {
            host: "127.0.0.1".into(),
            port: 0,
            store_dir: Some(folder.clone()),
            jetstream: Some(Options::default()),
            ..ServerOptions::default()
        };
        let server = Server::start(options).await.expect("a server");
        let address = server.client_address().expect("an address");
        let mut client = BufReader::new(TcpStream::connect(address).await.expect("a connection"));
        let create = r#"{"name":"S","subjects":["s"]}"#;
        let hello = format!(
            "CONNECT {{\"verbose\":false}}\r\nSUB answers 1\r\nPUB $JS.API.STREAM.CREATE.S answers {}\r\n{create}\r\n",
            create.len()
        );
        client.write_all(hello.as_bytes()).await.expect("written");
        let mut line = String::new();
        while !line.contains("did_create") {
            line.clear();
            client.read_line(&mut line).await.expect("a line");
        }
        let jetstream = server.inner().jetstream.load_full().expect("JetStream");
        let handle = jetstream.handles().pop().expect("a stream");
        // While it is out, nothing else is written.
        let work = loop {
            let work = handle.stream.lock().begin_checkpoint(GLOBAL_ACCOUNT);
            match work {
                Some(work) => break work,
                None => tokio::task::yield_now().await,
            }
        };
        let stalls = || server.inner().shared.counters.stalls.value();
        let message = format!("PUB s answers 1000000\r\n{}\r\n", "x".repeat(1_000_000));
        for sequence in 1..=40 {
            assert!(sequence > 33 || stalls() == 0, "held back at {sequence}");
            client.write_all(message.as_bytes()).await.expect("written");
            let stored = format!("{{\"stream\":\"S\",\"seq\":{sequence}}}\r\n");
            line.clear();
            while !line.starts_with('{') {
                line.clear();
                client.read_line(&mut line).await.expect("a line");
            }
            assert_eq!(line, stored);
        }
        assert!(stalls() > 0, "not held back");
        drop(work);
        drop((jetstream, handle));
        server.shutdown().await;
        std::fs::remove_dir_all(folder).expect("a folder");
    }

    /// A server that leaves while a reload recovers streams tells its clients so, and its process need not stay. Who stays
    /// is told when the recovery is over.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_recovery_holds_up_nobody_who_leaves() {
        let options = ServerOptions {
            host: "127.0.0.1".into(),
            port: 0,
            lame_duck_duration: Duration::from_secs(1),
            lame_duck_grace_period: Duration::from_millis(1),
            ..ServerOptions::default()
        };
        let server = Server::start(options).await.expect("a server");
        let address = server.client_address().expect("an address");
        let mut client = BufReader::new(TcpStream::connect(address).await.expect("a connection"));
        let mut line = String::new();
        client.write_all(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n").await.expect("written");
        while !line.ends_with("PONG\r\n") {
            client.read_line(&mut line).await.expect("a line");
        }
        let inner = server.inner().clone();
        let (is_recovering, recovering) = tokio::sync::oneshot::channel();
        let (recovered, is_recovered) = std::sync::mpsc::channel::<()>();
        let reload = std::thread::spawn(move || {
            let _changing = inner.changing.lock();
            inner.recovering.store(true, Ordering::SeqCst);
            let _ = is_recovering.send(());
            let _ = is_recovered.recv();
            inner.recovering.store(false, Ordering::SeqCst);
        });
        recovering.await.expect("a reload");
        let own = server.clone();
        let leaving = tokio::spawn(async move { own.lame_duck().await });
        let patience = Duration::from_secs(10);
        let ended = tokio::time::timeout(patience, async {
            while client.read_line(&mut line).await.expect("a line") > 0 {}
            server.stopped_or_recovering().await;
        });
        ended.await.expect("it leaves");
        assert!(line.contains("\"ldm\":true"), "{line}");
        assert!(!leaving.is_finished());
        recovered.send(()).expect("a reload");
        tokio::time::timeout(patience, leaving).await.expect("it ends").expect("well");
        reload.join().expect("a reload");
    }
}
