//! What monitoring shows of this server: a snapshot for one request, taken from what the server counts anyway.
//!
//! Nothing here is kept up for the sake of monitoring, and nothing is guessed, except for the memory pools, which are
//! numbers of things times what one of them takes (the constants below, from sizes of types and from measurement).

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::mem::size_of;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use data_encoding::BASE64URL_NOPAD;
use sonata_broker::account::{Account, GLOBAL_ACCOUNT};
use sonata_broker::client::Client;
use sonata_broker::close::CloseReason;
use sonata_broker::connection::{self, ConnectionCounts, Profile};
use sonata_broker::interest::InterestCounts;
use sonata_broker::subscription::{Subscription, SubscriptionRecord};
use sonata_conf::options::{DEFAULT_TLS_TIMEOUT, Options, WriteTimeout};
use sonata_jwt::account::Account as TokenAccount;
use sonata_jwt::claims::Claims;
use sonata_monitor::accountz;
use sonata_monitor::accstatz::{AccountStats, Traffic, Volume};
use sonata_monitor::connz::{self, ConnectionKey, ConnectionState};
use sonata_monitor::ipqueuesz::QueueLength;
use sonata_monitor::jetstream::{Config, JetStreamView};
use sonata_monitor::leafz::Leaf;
use sonata_monitor::metrics::Counters;
use sonata_monitor::query::SubscriptionList;
use sonata_monitor::routez;
use sonata_monitor::subsz::InterestStats;
use sonata_monitor::system::server_info::Identity;
use sonata_monitor::system::statsz::Statsz;
use sonata_monitor::text::{RoundTrip, Timestamp, Uptime};
use sonata_monitor::varz::{self, ByKind, MemoryPool, MemoryPools, Varz};
use sonata_monitor::view::ServerView;

use crate::clock::Clock;
use crate::connections::{Closed, Entry, TlsFacts};
use crate::identity::NATS_VERSION;
use crate::inner::{Inner, Stage};
use crate::jetstream::JetStreamSnapshots;
use crate::process;
use crate::settings::{KnownAccounts, server_name};
use crate::shares;
use crate::socket::Socket;

/// The feature flags of this version of the protocol and whether they are on unless configured otherwise. All of them
/// are about JetStream; others that are configured have no effect and are not shown, as in the original.
const FEATURE_FLAGS: [(&str, bool); 4] = [
    ("js_ack_fc_v2", false),
    ("js_api_reply_v2", false),
    ("js_raft_delete_range", true),
    ("js_snapshot_sources", false),
];

/// What the health probe says when clients cannot connect, as the original does.
const NOT_ACCEPTING: &str = "failed to be ready for connections after 1ms: server";

/// Bytes of an open connection without what it has waiting: its parts, and 2 KiB for its task's own state, the
/// runtime's registration of socket and timer, places in tables, and what the allocator rounds up. (Measured: 3.8 KB
/// of resident memory for each of 4,000 that are idle.)
const CONNECTION_BYTES: usize = size_of::<connection::Connection>()
    + size_of::<Client>()
    + size_of::<Entry>()
    + size_of::<Socket>()
    + 2 * 1024;

/// Bytes that a TLS session adds once its handshake is over (measured: 6.3 KB for each of 500).
const TLS_SESSION_BYTES: usize = 6 * 1024 + 512;

/// Bytes of a connection that has ended and is remembered: the record, and 128 for the texts of its profile.
const CLOSED_BYTES: usize = size_of::<Closed>() + 128;

/// Bytes of a subscription: itself with its two reference counts, 40 for its text, and its places in the tables of
/// its connection and its account. (Measured: 154 with subjects of 30 bytes.)
const SUBSCRIPTION_BYTES: usize = size_of::<Subscription>() + 16 + 40 + 32;

/// What is kept of a subscription of an ended connection, with its text.
const SUBSCRIPTION_RECORD_BYTES: usize = size_of::<SubscriptionRecord>() + 40;

/// Bytes that a filter with wildcards takes on top: levels of the trie that it shares with few others.
const WILDCARD_BYTES: usize = 192;

/// See the module. One for each request.
pub(crate) struct View {
    inner: Arc<Inner>,
    listed: OnceCell<Listed>,
    jetstream: Option<JetStreamSnapshots>,
}

/// The connections of one moment, so that those that were selected are there to be shown.
struct Listed {
    open: HashMap<u64, Arc<Entry>>,
    closed: HashMap<u64, Arc<Closed>>,
}

/// A connection, open or closed.
struct Shown<'a> {
    id: u64,
    remote: Option<SocketAddr>,
    started_ns: u64,
    last_activity_ns: u64,
    ended: Option<Ended>,
    rtt_ns: u64,
    profile: Cow<'a, Profile>,
    counts: ConnectionCounts,
    tls: Option<&'a TlsFacts>,
}

#[derive(Clone, Copy)]
struct Ended {
    at_ns: u64,
    reason: CloseReason,
}

impl View {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        let jetstream = inner.jetstream.load_full();
        let jetstream = jetstream.map(|jetstream| JetStreamSnapshots::new(jetstream, &inner.options.load()));
        Self { inner, listed: OnceCell::new(), jetstream }
    }

    fn listed(&self) -> &Listed {
        self.listed.get_or_init(|| {
            // In this order a connection that ends in between is seen twice and not missed.
            let open: HashMap<_, _> = self
                .inner
                .connections
                .open()
                .into_iter()
                .map(|entry| (entry.connection.id(), entry))
                .collect();
            let closed = self.inner.connections.closed().into_iter();
            let closed = closed
                .filter(|closed| !open.contains_key(&closed.id))
                .map(|closed| (closed.id, closed))
                .collect();
            Listed { open, closed }
        })
    }

    fn timestamp(&self, at_ns: u64) -> Timestamp {
        Timestamp(self.inner.clock.unix_ns(at_ns))
    }

    fn options(&self) -> Arc<Options> {
        self.inner.options.load_full()
    }

    /// The account of that name, or all.
    fn accounts_named(&self, name: Option<&str>) -> Vec<Arc<Account>> {
        let accounts = &self.inner.shared.accounts;
        match name {
            Some(name) => accounts.find(name).into_iter().collect(),
            None => accounts.all(),
        }
    }

    /// The account of that name, or all, without those that are removed, of which only streams are left.
    fn known_accounts(&self, name: Option<&str>) -> Vec<Arc<Account>> {
        let options = self.options();
        let operators = self.inner.operators.get();
        let known = KnownAccounts::new(&options, operators);
        let forgotten = |name: &str| operators.is_some_and(|operators| operators.has_forgotten(name));
        let mut accounts = self.accounts_named(name);
        accounts.retain(|account| known.holds(account) && !forgotten(account.name()));
        accounts
    }

    fn memory_pools(&self) -> MemoryPools {
        let pool = |used_bytes: usize| MemoryPool { used_bytes: used_bytes as u64, limit_bytes: 0 };
        let workers = self.inner.workers.sizes();
        let listed = self.listed();
        let (mut connections, mut outbound, mut ingest) = (0, 0, 0);
        for entry in listed.open.values() {
            connections += CONNECTION_BYTES + entry.tls().map_or(0, |_| TLS_SESSION_BYTES);
            outbound += entry.connection.counts().pending_bytes;
            ingest += entry.ingest_bytes();
        }
        for closed in listed.closed.values() {
            connections += CLOSED_BYTES + closed.subscriptions.len() * SUBSCRIPTION_RECORD_BYTES;
        }
        let interest = self.inner.shared.accounts.all().into_iter().map(|account| {
            let counts = account.interest.counts();
            (counts.literals + counts.wildcards + counts.services) * SUBSCRIPTION_BYTES
                + counts.wildcards * WILDCARD_BYTES
        });
        let (streams, journal) =
            self.jetstream.as_ref().map(JetStreamSnapshots::memory_pools).unwrap_or_default();
        MemoryPools {
            connections: pool(connections),
            outbound: pool(outbound + self.inner.shared.pool.kept_bytes()),
            ingest: pool(ingest + workers.buffer_bytes),
            interest: pool(interest.sum()),
            caches: pool(workers.route_bytes),
            streams,
            journal,
        }
    }

    fn key(&self, shown: &Shown<'_>, visit: &mut dyn FnMut(&ConnectionKey<'_>)) {
        let reason = shown.ended.map(|ended| ended.reason.to_string()).unwrap_or_default();
        let counts = &shown.counts;
        visit(&ConnectionKey {
            cid: shown.id,
            account: shown.profile.account.as_deref().unwrap_or_default(),
            user: &shown.profile.user,
            mqtt_client: "",
            start: self.timestamp(shown.started_ns),
            last_activity: self.timestamp(shown.last_activity_ns),
            stop: shown.ended.map(|ended| self.timestamp(ended.at_ns)),
            reason: &reason,
            rtt_ns: i64::try_from(shown.rtt_ns).unwrap_or(i64::MAX),
            pending_bytes: counts.pending_bytes as u64,
            in_msgs: counts.in_messages,
            out_msgs: counts.out_messages,
            in_bytes: counts.in_bytes,
            out_bytes: counts.out_bytes,
            subscriptions: counts.subscriptions as u64,
        });
    }

    /// What an account calls itself.
    fn name_tag(&self, account: &str) -> String {
        name_tag(&self.inner, account)
    }

    /// The connection without its subscriptions.
    fn show(&self, shown: &Shown<'_>) -> connz::Connection {
        let start = self.timestamp(shown.started_ns);
        let last_activity = self.timestamp(shown.last_activity_ns);
        let stop = shown.ended.map(|ended| self.timestamp(ended.at_ns));
        let until = stop.unwrap_or_else(|| self.now());
        let (profile, counts) = (&shown.profile, &shown.counts);
        let account = profile.account.as_deref().unwrap_or_default();
        let token = profile.token.as_deref();
        let certificate = shown.tls.and_then(|tls| tls.certificate.as_deref());
        connz::Connection {
            cid: shown.id,
            kind: "Client",
            client_type: "nats",
            // A connection within the process has no address.
            ip: shown.remote.map(|remote| remote.ip().to_canonical().to_string()).unwrap_or_default(),
            port: shown.remote.map_or(0, |remote| remote.port()),
            start,
            last_activity,
            stop,
            reason: shown.ended.map(|ended| ended.reason.to_string()).unwrap_or_default(),
            rtt: RoundTrip::measured(i64::try_from(shown.rtt_ns).unwrap_or(i64::MAX)),
            uptime: Uptime::between(start, until),
            idle: Uptime::between(last_activity, until),
            pending_bytes: counts.pending_bytes as u64,
            in_msgs: counts.in_messages,
            out_msgs: counts.out_messages,
            in_bytes: counts.in_bytes,
            out_bytes: counts.out_bytes,
            stalls: counts.stalls,
            subscriptions: counts.subscriptions as u64,
            name: profile.name.clone().into(),
            lang: profile.lang.clone().into(),
            version: profile.version.clone().into(),
            tls_version: shown.tls.map(|tls| tls.version.into()).unwrap_or_default(),
            tls_cipher_suite: shown.tls.map(|tls| tls.cipher_suite.clone()).unwrap_or_default(),
            tls_peer_certs: certificate
                .map(|certificate| connz::PeerCertificate {
                    subject: certificate.subject().into(),
                    spki_sha256: certificate.spki_sha256().into(),
                    cert_sha256: certificate.certificate_sha256().into(),
                })
                .into_iter()
                .collect(),
            tls_first: shown.tls.is_some_and(|tls| tls.first),
            authorized_user: profile.user.clone().into(),
            account: account.into(),
            jwt: token.map(|token| token.token.clone()).unwrap_or_default(),
            issuer_key: token.map(|token| token.issuer.clone()).unwrap_or_default(),
            name_tag: self.name_tag(account),
            tags: token.map(|token| token.tags.clone()).unwrap_or_default(),
            proxy: profile.proxy.as_deref().map(proxy_key),
            ..connz::Connection::default()
        }
    }
}

impl ServerView for View {
    fn now(&self) -> Timestamp {
        Timestamp(self.inner.clock.now_unix_ns())
    }

    fn server_id(&self) -> String {
        self.inner.identity.id.clone()
    }

    fn server_name(&self) -> String {
        server_name(&self.options(), &self.inner.identity)
    }

    fn identity(&self) -> Identity {
        identity(&self.inner)
    }

    fn statsz(&self) -> Statsz {
        let inner = &*self.inner;
        let (traffic, counters) = (&inner.shared.traffic, &inner.shared.counters);
        let accounts = self.accounts_named(None);
        let (cores, gomaxprocs) = processors();
        let (slow, stale) = (traffic.slow_consumers.value(), counters.stale_connections.value());
        let sent = Volume { msgs: traffic.out_messages.value(), bytes: traffic.out_bytes.value() };
        let received = Volume { msgs: traffic.in_messages.value(), bytes: traffic.in_bytes.value() };
        let jetstream = self.jetstream().map(|jetstream| {
            let mut shown = varz::JetStream::of(Some(jetstream));
            // Where files are is nobody's business elsewhere.
            shown.config = shown.config.map(|config| Config { store_dir: String::new(), ..config });
            shown
        });
        Statsz {
            start: self.timestamp(0),
            mem: process::resident_bytes(),
            cores,
            cpu: inner.cpu.percent(inner.clock.now_ns()),
            connections: inner.connections.count() as u64,
            total_connections: inner.connections.total(),
            active_accounts: accounts.iter().filter(|account| account.connections() > 0).count() as u64,
            subscriptions: accounts.iter().map(|account| subscriptions(account)).sum(),
            sent,
            sent_to_clients: sent,
            received,
            received_from_clients: received,
            slow_consumers: slow,
            slow_consumer_stats: ByKind { clients: slow, ..ByKind::default() },
            stale_connections: stale,
            stale_connection_stats: ByKind { clients: stale, ..ByKind::default() },
            stalled_clients: counters.stalls.value(),
            active_servers: 1,
            jetstream,
            gomemlimit: 0,
            gomaxprocs,
        }
    }

    fn system_account(&self) -> String {
        self.options().system_account_name().unwrap_or_default().into()
    }

    fn command_line(&self) -> Vec<String> {
        process::command_line()
    }

    fn resident_bytes(&self) -> u64 {
        process::resident_bytes()
    }

    fn varz(&self) -> Varz {
        let inner = &*self.inner;
        let (options, settings) = (self.options(), inner.shared.settings());
        let (info, traffic, counters) = (&settings.info, &inner.shared.traffic, &inner.shared.counters);
        let bound = inner.bound.lock().clone();
        let port = |address: Option<SocketAddr>| address.map_or(0, |address| address.port());
        let (start, now) = (self.timestamp(0), self.now());
        let (cores, gomaxprocs) = processors();
        let (in_messages, in_bytes) = (traffic.in_messages.value(), traffic.in_bytes.value());
        let (out_messages, out_bytes) = (traffic.out_messages.value(), traffic.out_bytes.value());
        let (slow, stale) = (traffic.slow_consumers.value(), counters.stale_connections.value());
        let tls_timeout = options.tls.as_ref().map_or(DEFAULT_TLS_TIMEOUT, |tls| tls.timeout);
        Varz {
            server_id: info.server_id.clone(),
            server_name: info.server_name.clone(),
            version: NATS_VERSION.into(),
            proto: 1,
            git_commit: info.git_commit.clone(),
            go: info.toolchain.clone(),
            host: info.host.clone(),
            port: info.port,
            // Not as in `INFO`, which does not tell clients of it when they get in without.
            auth_required: options.auth_required(),
            tls_required: info.tls_required,
            tls_verify: info.tls_verify,
            tls_ocsp_peer_verify: info.tls_required
                && options.tls.as_ref().is_some_and(|tls| tls.ocsp_peer.is_some()),
            max_connections: options.max_connections.map_or(-1, i64::from),
            max_subscriptions: options.max_subscriptions.unwrap_or(0).into(),
            ping_interval: nanoseconds(options.ping_interval),
            ping_max: options.ping_max,
            http_host: options.http_host.clone(),
            http_port: port(bound.http),
            http_base_path: options.http_base_path.clone(),
            https_port: port(bound.https),
            auth_timeout: options.auth_timeout().as_secs_f64(),
            max_control_line: options.max_control_line.into(),
            max_payload: options.max_payload.into(),
            max_pending: options.max_pending,
            jetstream: varz::JetStream::of(self.jetstream()),
            tls_timeout: tls_timeout.as_secs_f64(),
            write_deadline: nanoseconds(options.write_deadline),
            write_timeout: match options.write_timeout {
                WriteTimeout::Default => String::new(),
                configured => configured.to_string(),
            },
            start,
            now,
            uptime: Uptime::between(start, now),
            mem: process::resident_bytes(),
            cores,
            gomaxprocs,
            cpu: inner.cpu.percent(inner.clock.now_ns()),
            connections: inner.connections.count() as u64,
            total_connections: inner.connections.total(),
            in_msgs: in_messages,
            in_bytes,
            in_client_msgs: in_messages,
            in_client_bytes: in_bytes,
            out_msgs: out_messages,
            out_bytes,
            out_client_msgs: out_messages,
            out_client_bytes: out_bytes,
            slow_consumers: slow,
            stale_connections: stale,
            stalled_clients: counters.stalls.value(),
            subscriptions: self.accounts_named(None).iter().map(|account| subscriptions(account)).sum(),
            http_req_stats: inner.http_requests.by_path(),
            config_load_time: Timestamp(
                i64::try_from(inner.loaded_unix_ns.load(Ordering::Relaxed)).unwrap_or(i64::MAX),
            ),
            config_digest: options.config_digest.clone().unwrap_or_default(),
            tags: options.server_tags.clone(),
            metadata: options.server_metadata.clone(),
            feature_flags: feature_flags(&options),
            system_account: self.system_account(),
            ocsp_peer_cache: inner.ocsp.cache_stats().map(|stats| varz::OcspPeerCache {
                cache_type: "local",
                cache_hits: stats.hits,
                cache_misses: stats.misses,
                cached_responses: stats.responses,
                cached_revoked_responses: stats.revoked,
                cached_good_responses: stats.good,
                cached_unknown_responses: stats.unknown,
            }),
            slow_consumer_stats: ByKind { clients: slow, ..ByKind::default() },
            stale_connection_stats: ByKind { clients: stale, ..ByKind::default() },
            proxies: (!options.trusted_proxies.is_empty()).then(|| varz::Proxies {
                trusted: options.trusted_proxies.iter().map(|key| proxy_key(key)).collect(),
            }),
            tls_cert_not_after: inner
                .tls
                .load()
                .as_ref()
                .and_then(|tls| tls.not_after_unix_s)
                .map(|seconds| Timestamp(seconds.saturating_mul(1_000_000_000))),
            memory_pools: self.memory_pools(),
            ..Varz::default()
        }
    }

    fn visit_connections(&self, state: ConnectionState, visit: &mut dyn FnMut(&ConnectionKey<'_>)) {
        let listed = self.listed();
        if state.includes_open() {
            listed.open.values().for_each(|entry| self.key(&Shown::open(entry), visit));
        }
        if state.includes_closed() {
            listed.closed.values().for_each(|closed| self.key(&Shown::closed(closed), visit));
        }
    }

    fn connection(&self, cid: u64, subscriptions: SubscriptionList) -> Option<connz::Connection> {
        let listed = self.listed();
        if let Some(entry) = listed.open.get(&cid) {
            let mut connection = self.show(&Shown::open(entry));
            match subscriptions {
                SubscriptionList::None => {}
                wanted => {
                    let subscriptions = entry.connection.subscriptions();
                    list(&mut connection, subscriptions.iter().map(|one| one.record()).collect(), wanted, "");
                }
            }
            return Some(connection);
        }
        let closed = listed.closed.get(&cid)?;
        let mut connection = self.show(&Shown::closed(closed));
        // What is kept of a closed connection names the account, that of an open one does not, as in the original.
        let account = closed.profile.account.as_deref().unwrap_or_default();
        list(&mut connection, closed.subscriptions.to_vec(), subscriptions, account);
        Some(connection)
    }

    fn visit_subscriptions(&self, account: Option<&str>, visit: &mut dyn FnMut(&connz::Subscription)) {
        // One for all, so that a million of them do not become a million allocations under a lock.
        let mut shown = connz::Subscription::default();
        for account in self.accounts_named(account) {
            shown.account = (**account.name()).into();
            shown.account_tag = (**account.name()).into();
            account.interest.for_each(|subscription| {
                if subscription.service().is_some() {
                    return;
                }
                describe(&mut shown, subscription);
                visit(&shown);
            });
        }
    }

    fn interest(&self, account: Option<&str>) -> InterestStats {
        let accounts = self.accounts_named(account);
        let counts: Vec<InterestCounts> = accounts.iter().map(|account| account.interest.counts()).collect();
        let hits: u64 = accounts.iter().map(|account| account.route_hits.value()).sum();
        let matches = hits + accounts.iter().map(|account| account.route_misses.value()).sum::<u64>();
        let ids: Vec<u32> = accounts.iter().map(|account| account.id()).collect();
        let (mut routes, mut receivers, mut most) = (0, 0, 0);
        self.inner.workers.visit_idle_routes(|route| {
            if account.is_none() || ids.contains(&route.account()) {
                routes += 1;
                receivers += route.receivers();
                most = most.max(route.receivers());
            }
        });
        let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        InterestStats {
            num_subscriptions: counts.iter().map(shown_subscriptions).sum(),
            num_cache: routes,
            num_inserts: counts.iter().map(|counts| counts.inserts).sum(),
            num_removes: counts.iter().map(|counts| counts.removes).sum(),
            num_matches: matches,
            cache_hit_rate: ratio(hits, matches),
            max_fanout: most as u64,
            avg_fanout: ratio(receivers as u64, routes),
        }
    }

    fn accounts(&self) -> Vec<String> {
        self.known_accounts(None).iter().map(|account| (**account.name()).into()).collect()
    }

    fn account(&self, name: &str) -> Option<accountz::Account> {
        let account = self.known_accounts(Some(name)).pop()?;
        let (options, system) = (self.options(), self.system_account());
        let meant = |name: &str| match self.inner.operators.get() {
            Some(operators) => operators.meant_by(name),
            None => options.accounts.iter().find(|account| account.name == name).cloned(),
        };
        let jetstream = options.jetstream.as_ref().filter(|_| self.jetstream().is_some());
        let given = shares::Given {
            system: &system,
            has_jetstream: jetstream.is_some(),
            domain: jetstream.and_then(|jetstream| jetstream.domain.as_deref()),
        };
        let own = meant(name);
        let mappings = match &own {
            Some(own) => &own.mappings,
            None if name == GLOBAL_ACCOUNT => &options.mappings,
            None => &Vec::new(),
        };
        let operators = self.inner.operators.get();
        let token = operators.and_then(|operators| operators.token_of(name));
        let detail = accountz::Account {
            account_name: name.into(),
            update_time: Timestamp(account.updated_unix_ns()),
            is_system: self.options().system_account_name() == Some(name),
            complete: true,
            jetstream_enabled: self.jetstream().is_some_and(|jetstream| jetstream.account(name).is_some()),
            client_connections: account.connections() as u64,
            subscriptions: subscriptions(&account),
            mappings: shares::mappings(name, own.as_ref(), mappings, &given),
            exports: shares::exports(name, own.as_ref(), &given),
            imports: shares::imports(name, own.as_ref(), meant, &given),
            name_tag: self.name_tag(name),
            sublist_stats: self.interest(Some(name)),
            ..accountz::Account::default()
        };
        Some(match token {
            Some((token, claims)) => {
                let shown = with_token(detail, token, claims);
                let removed = operators.is_some_and(|operators| operators.is_removed(name));
                accountz::Account { expired: shown.expired || removed, ..shown }
            }
            None => detail,
        })
    }

    fn account_stats(&self) -> Vec<AccountStats> {
        self.known_accounts(None).iter().map(|account| account_stats(&self.inner, account)).collect()
    }

    fn routes(&self, _: SubscriptionList) -> Vec<routez::Route> {
        // This server has no cluster.
        Vec::new()
    }

    fn leafs(&self, _: SubscriptionList) -> Vec<Leaf> {
        // This server has no leaf nodes.
        Vec::new()
    }

    fn accepts_connections(&self) -> Result<(), String> {
        match *self.inner.stage.borrow() {
            Stage::Running => Ok(()),
            Stage::LameDuck | Stage::Stopping | Stage::Recovering | Stage::Stopped => {
                Err(NOT_ACCEPTING.into())
            }
        }
    }

    fn queues(&self) -> BTreeMap<String, QueueLength> {
        // Nothing else is queued between tasks: whoever publishes delivers.
        self.inner.system.get().map(|system| system.queues().into()).unwrap_or_default()
    }

    fn stacks(&self) -> String {
        process::threads()
    }

    fn counters(&self) -> Counters {
        let shared = &self.inner.shared;
        let counts: Vec<InterestCounts> =
            shared.accounts.all().iter().map(|account| account.interest.counts()).collect();
        Counters {
            interest_literals: counts.iter().map(|counts| counts.literals as u64).sum(),
            interest_wildcards: counts.iter().map(|counts| counts.wildcards as u64).sum(),
            match_cache_entries: self.inner.workers.sizes().routes as u64,
            match_cache_hits: shared.counters.route_hits.value(),
            match_cache_misses: shared.counters.route_misses.value(),
            cpu_milliseconds: u64::try_from(process::cpu_time().as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn jetstream(&self) -> Option<&dyn JetStreamView> {
        self.jetstream.as_ref().map(|jetstream| jetstream as &dyn JetStreamView)
    }
}

impl<'a> Shown<'a> {
    fn open(entry: &'a Entry) -> Self {
        let connection = &entry.connection;
        Self {
            id: connection.id(),
            remote: connection.remote(),
            started_ns: connection.started_ns(),
            last_activity_ns: connection.last_activity_ns(),
            ended: None,
            rtt_ns: connection.rtt_ns(),
            profile: Cow::Owned(connection.profile()),
            counts: connection.counts(),
            tls: entry.tls(),
        }
    }

    fn closed(closed: &'a Closed) -> Self {
        Self {
            id: closed.id,
            remote: closed.remote,
            started_ns: closed.started_ns,
            last_activity_ns: closed.last_activity_ns,
            ended: Some(Ended { at_ns: closed.stopped_ns, reason: closed.reason }),
            rtt_ns: closed.rtt_ns,
            profile: Cow::Borrowed(&closed.profile),
            counts: closed.counts,
            tls: closed.tls.as_deref(),
        }
    }
}

/// Adds the connection's subscriptions as asked for, in the order of their sids. (The original has them in any.)
fn list(
    connection: &mut connz::Connection,
    mut subscriptions: Vec<SubscriptionRecord>,
    wanted: SubscriptionList,
    account: &str,
) {
    // Clients count upwards, so that 9 comes before 10.
    let order = |one: &SubscriptionRecord, two: &SubscriptionRecord| {
        one.sid().len().cmp(&two.sid().len()).then_with(|| one.sid().cmp(two.sid()))
    };
    subscriptions.sort_unstable_by(order);
    match wanted {
        SubscriptionList::None => {}
        SubscriptionList::Subjects => {
            connection.subscriptions_list =
                subscriptions.iter().map(|one| String::from_utf8_lossy(one.subject()).into_owned()).collect();
        }
        SubscriptionList::Detail => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let cid = connection.cid;
            let detail = |one: &SubscriptionRecord| connz::Subscription {
                account: account.into(),
                account_tag: account.into(),
                subject: text(one.subject()),
                qgroup: text(one.queue().unwrap_or_default()),
                sid: text(one.sid()),
                msgs: one.delivered,
                max: one.max,
                cid,
            };
            connection.subscriptions_list_detail = subscriptions.iter().map(detail).collect();
        }
    }
}

/// Writes over all but the account.
fn describe(shown: &mut connz::Subscription, subscription: &Subscription) {
    let set = |text: &mut String, bytes: &[u8]| {
        text.clear();
        text.push_str(&String::from_utf8_lossy(bytes));
    };
    set(&mut shown.subject, subscription.subject());
    set(&mut shown.qgroup, subscription.queue().unwrap_or_default());
    set(&mut shown.sid, subscription.sid());
    shown.msgs = subscription.delivered();
    shown.max = subscription.max();
    shown.cid = subscription.connection().id();
}

/// Subscriptions of clients; services of the server itself are not shown.
fn subscriptions(account: &Account) -> u64 {
    shown_subscriptions(&account.interest.counts())
}

fn shown_subscriptions(counts: &InterestCounts) -> u64 {
    (counts.literals + counts.wildcards) as u64
}

/// What an account's token adds to what is told of it.
fn with_token(detail: accountz::Account, token: String, claims: Claims<TokenAccount>) -> accountz::Account {
    let said = token.split('.').nth(1).and_then(|said| BASE64URL_NOPAD.decode(said.as_bytes()).ok());
    let time = |seconds: i64| Timestamp(seconds.saturating_mul(1_000_000_000));
    let revoked = claims.nats.revocations.0;
    accountz::Account {
        expired: claims.data.expires > 0 && claims.data.expires <= Clock::calendar_unix_ns() / 1_000_000_000,
        decoded_jwt: said.and_then(|said| serde_json::from_slice(&said).ok()),
        jwt: token,
        issuer_key: claims.data.issuer,
        tags: claims.nats.meta.tags,
        revoked_user: revoked.into_iter().map(|(key, until)| (key, time(until))).collect(),
        ..detail
    }
}

/// What an account calls itself.
pub(crate) fn name_tag(inner: &Inner, account: &str) -> String {
    let operators = inner.operators.get();
    operators.and_then(|operators| operators.name_tag(account)).unwrap_or_else(|| account.into())
}

/// Connections and traffic of an account.
pub(crate) fn account_stats(inner: &Inner, account: &Account) -> AccountStats {
    let traffic = |messages: u64, bytes: u64| Traffic { msgs: messages, bytes, ..Traffic::default() };
    let counted = &account.traffic;
    AccountStats {
        acc: (**account.name()).into(),
        name: name_tag(inner, account.name()),
        conns: account.connections() as u64,
        total_conns: account.connections() as u64,
        num_subscriptions: subscriptions(account),
        sent: traffic(counted.out_messages.value(), counted.out_bytes.value()),
        received: traffic(counted.in_messages.value(), counted.in_bytes.value()),
        slow_consumers: counted.slow_consumers.value(),
        ..AccountStats::default()
    }
}

/// Who speaks in messages of the system account.
pub(crate) fn identity(inner: &Inner) -> Identity {
    let (options, settings) = (inner.options.load(), inner.shared.settings());
    Identity {
        name: settings.info.server_name.clone(),
        host: settings.info.host.clone(),
        id: settings.info.server_id.clone(),
        cluster: String::new(),
        domain: settings.info.domain.clone(),
        version: NATS_VERSION.into(),
        tags: options.server_tags.clone(),
        metadata: options.server_metadata.clone(),
        feature_flags: feature_flags(&options),
        jetstream: settings.info.jetstream,
    }
}

fn proxy_key(key: &str) -> varz::ProxyKey {
    varz::ProxyKey { key: key.to_owned() }
}

fn feature_flags(options: &Options) -> BTreeMap<String, bool> {
    let flag =
        |(name, on): (&str, bool)| (name.to_owned(), options.feature_flags.get(name).copied().unwrap_or(on));
    FEATURE_FLAGS.into_iter().map(flag).collect()
}

/// Processors of the machine, and threads that carry traffic.
fn processors() -> (u32, u32) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads =
        tokio::runtime::Handle::try_current().map_or(processors, |runtime| runtime.metrics().num_workers());
    (count(processors), count(threads))
}

fn nanoseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
