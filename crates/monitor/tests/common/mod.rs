//! A server made of plain lists.

// Each test program uses another part of it.
#![allow(dead_code)]

pub(crate) mod jetstream;

use std::collections::BTreeMap;

use sonata_monitor::accountz::{Account, Export, Import};
use sonata_monitor::accstatz::{AccountStats, Traffic, Volume};
use sonata_monitor::connz::{Connection, ConnectionKey, ConnectionState, Subscription};
use sonata_monitor::ipqueuesz::QueueLength;
use sonata_monitor::jetstream::{Damage, JetStreamView};
use sonata_monitor::leafz::Leaf;
use sonata_monitor::metrics::Counters;
use sonata_monitor::query::SubscriptionList;
use sonata_monitor::routez::Route;
use sonata_monitor::subsz::InterestStats;
use sonata_monitor::system::server_info::Identity;
use sonata_monitor::system::statsz::Statsz;
use sonata_monitor::text::{RoundTrip, Timestamp, Uptime};
use sonata_monitor::varz::{
    self, Cluster, Gateway, LeafDeny, MemoryPool, MemoryPools, ProxyKey, RemoteLeaf, Varz, Websocket,
};
use sonata_monitor::view::ServerView;

/// 2026-11-23T03:04:27Z.
pub(crate) const NOON: i64 = 1_795_403_067_000_000_000;

/// The server's view of itself.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) varz: Varz,
    pub(crate) connections: Vec<Connection>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) interest: BTreeMap<String, InterestStats>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) account_stats: Vec<AccountStats>,
    pub(crate) routes: Vec<Route>,
    pub(crate) leafs: Vec<Leaf>,
    pub(crate) queues: BTreeMap<String, QueueLength>,
    pub(crate) counters: Counters,
    pub(crate) unready: Option<String>,
    pub(crate) jetstream: Option<jetstream::JetStream>,
}

impl ServerView for Server {
    fn now(&self) -> Timestamp {
        self.varz.now
    }

    fn server_id(&self) -> String {
        self.varz.server_id.clone()
    }

    fn server_name(&self) -> String {
        self.varz.server_name.clone()
    }

    fn identity(&self) -> Identity {
        Identity {
            name: self.varz.server_name.clone(),
            host: self.varz.host.clone(),
            id: self.varz.server_id.clone(),
            cluster: self.varz.cluster.name.clone(),
            domain: self.varz.jetstream.config.clone().unwrap_or_default().domain,
            version: self.varz.version.clone(),
            tags: self.varz.tags.clone(),
            metadata: self.varz.metadata.clone(),
            feature_flags: self.varz.feature_flags.clone(),
            jetstream: self.jetstream.is_some(),
        }
    }

    fn statsz(&self) -> Statsz {
        let varz = &self.varz;
        let volume = |msgs, bytes| Volume { msgs, bytes };
        Statsz {
            start: varz.start,
            mem: varz.mem,
            cores: varz.cores,
            cpu: varz.cpu,
            connections: varz.connections,
            total_connections: varz.total_connections,
            active_accounts: 1,
            subscriptions: varz.subscriptions,
            sent: volume(varz.out_msgs, varz.out_bytes),
            sent_to_clients: volume(varz.out_client_msgs, varz.out_client_bytes),
            received: volume(varz.in_msgs, varz.in_bytes),
            received_from_clients: volume(varz.in_client_msgs, varz.in_client_bytes),
            slow_consumers: varz.slow_consumers,
            slow_consumer_stats: varz.slow_consumer_stats,
            stale_connections: varz.stale_connections,
            stale_connection_stats: varz.stale_connection_stats,
            stalled_clients: varz.stalled_clients,
            active_servers: 1,
            jetstream: self.jetstream().map(|jetstream| varz::JetStream::of(Some(jetstream))),
            gomemlimit: varz.gomemlimit,
            gomaxprocs: varz.gomaxprocs,
        }
    }

    fn system_account(&self) -> String {
        self.varz.system_account.clone()
    }

    fn command_line(&self) -> Vec<String> {
        vec!["nats-server".into(), "-c".into(), "a<b>.conf".into()]
    }

    fn resident_bytes(&self) -> u64 {
        self.varz.mem
    }

    fn varz(&self) -> Varz {
        self.varz.clone()
    }

    fn visit_connections(&self, state: ConnectionState, visit: &mut dyn FnMut(&ConnectionKey<'_>)) {
        for connection in &self.connections {
            let wanted =
                if connection.stop.is_some() { state.includes_closed() } else { state.includes_open() };
            if wanted {
                visit(&ConnectionKey {
                    cid: connection.cid,
                    account: &connection.account,
                    user: &connection.authorized_user,
                    mqtt_client: &connection.mqtt_client,
                    start: connection.start,
                    last_activity: connection.last_activity,
                    stop: connection.stop,
                    reason: &connection.reason,
                    rtt_ns: connection.rtt.0,
                    pending_bytes: connection.pending_bytes,
                    in_msgs: connection.in_msgs,
                    out_msgs: connection.out_msgs,
                    in_bytes: connection.in_bytes,
                    out_bytes: connection.out_bytes,
                    subscriptions: connection.subscriptions,
                });
            }
        }
    }

    fn connection(&self, cid: u64, subscriptions: SubscriptionList) -> Option<Connection> {
        let mut connection = self.connections.iter().find(|connection| connection.cid == cid)?.clone();
        let own = self.subscriptions.iter().filter(|subscription| subscription.cid == cid);
        match subscriptions {
            SubscriptionList::None => {}
            SubscriptionList::Subjects => {
                connection.subscriptions_list =
                    own.map(|subscription| subscription.subject.clone()).collect();
            }
            SubscriptionList::Detail => {
                let anonymous = |subscription: &Subscription| Subscription {
                    account: String::new(),
                    account_tag: String::new(),
                    ..subscription.clone()
                };
                connection.subscriptions_list_detail = own.map(anonymous).collect();
            }
        }
        Some(connection)
    }

    fn visit_subscriptions(&self, account: Option<&str>, visit: &mut dyn FnMut(&Subscription)) {
        let wanted =
            |subscription: &&Subscription| account.is_none_or(|account| account == subscription.account);
        self.subscriptions.iter().filter(wanted).for_each(visit);
    }

    fn interest(&self, account: Option<&str>) -> InterestStats {
        self.interest.get(account.unwrap_or_default()).copied().unwrap_or_default()
    }

    fn accounts(&self) -> Vec<String> {
        self.accounts.iter().map(|account| account.account_name.clone()).collect()
    }

    fn account(&self, name: &str) -> Option<Account> {
        self.accounts.iter().find(|account| account.account_name == name).cloned()
    }

    fn account_stats(&self) -> Vec<AccountStats> {
        self.account_stats.clone()
    }

    fn routes(&self, _: SubscriptionList) -> Vec<Route> {
        self.routes.clone()
    }

    fn leafs(&self, _: SubscriptionList) -> Vec<Leaf> {
        self.leafs.clone()
    }

    fn accepts_connections(&self) -> Result<(), String> {
        self.unready.clone().map_or(Ok(()), Err)
    }

    fn queues(&self) -> BTreeMap<String, QueueLength> {
        self.queues.clone()
    }

    fn stacks(&self) -> String {
        "worker 0: waiting\n".into()
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn jetstream(&self) -> Option<&dyn JetStreamView> {
        self.jetstream.as_ref().map(|jetstream| jetstream as &dyn JetStreamView)
    }
}

/// A server as nats-server 2.15.1 was when the transcripts were compared with it: one client with three
/// subscriptions, two connections closed.
pub(crate) fn recorded() -> Server {
    let traffic = |msgs, bytes| Traffic { msgs, bytes, ..Traffic::default() };
    let stats =
        |num_subscriptions, num_cache, num_matches, cache_hit_rate, max_fanout, avg_fanout| InterestStats {
            num_subscriptions,
            num_cache,
            num_inserts: num_subscriptions,
            num_removes: 0,
            num_matches,
            cache_hit_rate,
            max_fanout,
            avg_fanout,
        };
    let subscription = |subject: &str, qgroup: &str, sid: &str, msgs, max| Subscription {
        account: "A".into(),
        account_tag: "A".into(),
        subject: subject.into(),
        qgroup: qgroup.into(),
        sid: sid.into(),
        msgs,
        max,
        cid: 6,
    };
    let account_stats = |name: &str, conns, num_subscriptions, sent, received| AccountStats {
        acc: name.into(),
        name: name.into(),
        conns,
        total_conns: conns,
        num_subscriptions,
        sent,
        received,
        ..AccountStats::default()
    };
    Server {
        varz: recorded_varz(),
        connections: vec![open_connection(), closed_connection(7, ""), closed_connection(8, "a")],
        subscriptions: vec![
            subscription("foo", "", "1", 1, 0),
            subscription("bar.*", "q", "2", 1, 0),
            subscription(">", "", "3", 2, 5),
        ],
        interest: [
            (String::new(), stats(67, 12, 16, 0.25, 2, 0.75)),
            ("A".into(), stats(7, 2, 2, 0.0, 2, 2.0)),
            ("SYS".into(), stats(56, 10, 14, 0.2857142857142857, 1, 0.5)),
        ]
        .into(),
        accounts: vec![
            Account {
                account_name: "$G".into(),
                complete: true,
                name_tag: "$G".into(),
                ..Account::default()
            },
            Account {
                account_name: "SYS".into(),
                update_time: Timestamp(NOON + 260_703_086),
                is_system: true,
                complete: true,
                subscriptions: 56,
                exports: vec![
                    export("$SYS.DEBUG.SUBSCRIBERS", "Singleton"),
                    export("$SYS.REQ.ACCOUNT.*.STATZ", "Streamed"),
                ],
                imports: vec![import("$SYS.REQ.USER.SYS.INFO", "$SYS.REQ.USER.INFO", true)],
                name_tag: "SYS".into(),
                sublist_stats: stats(56, 10, 14, 0.2857142857142857, 1, 0.5),
                ..Account::default()
            },
            Account { account_name: "A".into(), client_connections: 1, ..Account::default() },
        ],
        account_stats: vec![
            account_stats("$G", 0, 4, Traffic::default(), Traffic::default()),
            account_stats("A", 1, 7, traffic(4, 10), traffic(2, 5)),
        ],
        routes: Vec::new(),
        leafs: Vec::new(),
        queues: [
            ("SendQ".into(), QueueLength::default()),
            ("System recvQ".into(), QueueLength { pending: 3, in_progress: 1 }),
            ("System sendQ".into(), QueueLength { pending: 0, in_progress: 2 }),
        ]
        .into(),
        counters: Counters {
            interest_literals: 60,
            interest_wildcards: 7,
            match_cache_entries: 12,
            match_cache_hits: 4,
            match_cache_misses: 12,
            cpu_milliseconds: 1_250,
        },
        unready: None,
        jetstream: None,
    }
}

fn export(subject: &str, response_type: &'static str) -> Export {
    Export { subject: subject.into(), kind: "service", response_type, ..Export::default() }
}

fn import(subject: &str, local: &str, share: bool) -> Import {
    Import {
        subject: subject.into(),
        account: "SYS".into(),
        to: local.into(),
        local_subject: local.into(),
        kind: "service",
        share,
        ..Import::default()
    }
}

fn recorded_varz() -> Varz {
    let pool = |used_bytes, limit_bytes| MemoryPool { used_bytes, limit_bytes };
    let flags = [
        ("js_ack_fc_v2", false),
        ("js_api_reply_v2", false),
        ("js_raft_delete_range", true),
        ("js_snapshot_sources", false),
    ];
    Varz {
        server_id: "NBEC73NBXU6UMCUGHVOMQNP3MSAV3FFGK4ILG5NH7F2MRXZ3VXX2R6XR".into(),
        server_name: "ref".into(),
        version: "2.15.1".into(),
        proto: 1,
        git_commit: "b2fd3ef".into(),
        go: "go1.27.2".into(),
        host: "127.0.0.1".into(),
        port: 48_555,
        auth_required: true,
        max_connections: 65_536,
        ping_interval: 120_000_000_000,
        ping_max: 2,
        http_host: "127.0.0.1".into(),
        http_port: 52_813,
        auth_timeout: 2.0,
        max_control_line: 4_096,
        max_payload: 1_048_576,
        max_pending: 67_108_864,
        tls_timeout: 2.0,
        write_deadline: 10_000_000_000,
        start: Timestamp(NOON + 260_558_690),
        now: Timestamp(NOON + 407_416_480),
        uptime: Uptime(146_857_790),
        mem: 14_831_616,
        cores: 2,
        gomaxprocs: 2,
        connections: 1,
        total_connections: 3,
        in_msgs: 2,
        in_bytes: 5,
        in_client_msgs: 2,
        in_client_bytes: 5,
        out_msgs: 4,
        out_bytes: 10,
        out_client_msgs: 4,
        out_client_bytes: 10,
        subscriptions: 67,
        http_req_stats: [("/".into(), 1), ("/varz".into(), 1)].into(),
        config_load_time: Timestamp(NOON + 260_558_690),
        config_digest: "sha256:3fbf657ccb2b7c528c57776e001c954211020f2b57a16a2d180b6ebe6e7a0325".into(),
        feature_flags: flags.into_iter().map(|(name, on)| (name.into(), on)).collect(),
        system_account: "SYS".into(),
        memory_pools: MemoryPools {
            connections: pool(4_096, 0),
            outbound: pool(1_024, 268_435_456),
            ingest: pool(262_144, 0),
            interest: pool(10_000, 0),
            caches: pool(2_000, 67_108_864),
            ..MemoryPools::default()
        },
        ..Varz::default()
    }
}

fn open_connection() -> Connection {
    Connection {
        cid: 6,
        kind: "Client",
        client_type: "nats",
        ip: "127.0.0.1".into(),
        port: 45_104,
        start: Timestamp(NOON + 303_275_966),
        last_activity: Timestamp(NOON + 304_173_176),
        rtt: RoundTrip::measured(504_321),
        in_msgs: 2,
        out_msgs: 4,
        in_bytes: 5,
        out_bytes: 10,
        subscriptions: 3,
        name: "n1".into(),
        lang: "go".into(),
        version: "1.2".into(),
        authorized_user: "a".into(),
        account: "A".into(),
        name_tag: "A".into(),
        ..Connection::default()
    }
}

fn closed_connection(cid: u64, user: &str) -> Connection {
    let account = if user.is_empty() { "" } else { "A" };
    Connection {
        cid,
        kind: "Client",
        client_type: "nats",
        ip: "127.0.0.1".into(),
        port: 45_098,
        start: Timestamp(NOON + 303_302_293),
        last_activity: Timestamp(NOON + 303_302_293),
        stop: Some(Timestamp(NOON + 303_801_365)),
        reason: "Client Closed".into(),
        authorized_user: user.into(),
        account: account.into(),
        name_tag: account.into(),
        ..Connection::default()
    }
}

/// The same server with JetStream.
pub(crate) fn streaming() -> Server {
    let mut server = recorded();
    server.jetstream = Some(jetstream::recorded());
    server.varz.jetstream = varz::JetStream::of(server.jetstream());
    server.accounts[2].jetstream_enabled = true;
    server
}

/// The same server, with messages that are lost.
pub(crate) fn damaged() -> Server {
    let mut server = streaming();
    if let Some(jetstream) = &mut server.jetstream {
        let folder = "streams/S.01".into();
        jetstream.damage = vec![
            Damage::NotRecovered { folder, cause: "unknown version".into() },
            Damage::Lost { account: "A".into(), stream: "S".into(), messages: 2, bytes: 76 },
        ];
    }
    server
}

/// The same server, with a disk that is full.
pub(crate) fn failing() -> Server {
    let mut server = damaged();
    if let Some(jetstream) = &mut server.jetstream {
        jetstream.failure = Some("journal: No space left on device".into());
    }
    server
}

/// A server with a route and two leaf nodes, one of them through a proxy.
pub(crate) fn connected() -> Server {
    let leaf = |id, account: &str, proxy| Leaf {
        id,
        name: format!("leaf{id}"),
        account: account.into(),
        ip: "10.0.0.2".into(),
        port: 7_422,
        rtt: RoundTrip(1_500_000),
        subscriptions: 1,
        subscriptions_list: vec!["a.>".into()],
        compression: "s2_fast".into(),
        proxy,
        ..Leaf::default()
    };
    let mut server = recorded();
    server.varz.cluster = Cluster {
        name: "C".into(),
        addr: "127.0.0.1".into(),
        cluster_port: 42_045,
        auth_timeout: 2.0,
        tls_timeout: 2.0,
        pool_size: 3,
        ..Cluster::default()
    };
    server.varz.gateway = Gateway {
        name: "C".into(),
        host: "127.0.0.1".into(),
        port: 41_615,
        auth_timeout: 2.0,
        tls_timeout: 2.0,
        ..Gateway::default()
    };
    server.varz.leaf = varz::Leaf {
        host: "127.0.0.1".into(),
        port: 43_181,
        auth_timeout: 2.0,
        tls_timeout: 2.0,
        remotes: vec![RemoteLeaf {
            local_account: "A".into(),
            tls_timeout: 2.5,
            urls: vec!["10.0.0.3:7422".into()],
            deny: Some(LeafDeny { exports: vec!["secret.>".into()], imports: Vec::new() }),
            ..RemoteLeaf::default()
        }],
        ..varz::Leaf::default()
    };
    server.varz.websocket =
        Websocket { host: "127.0.0.1".into(), port: 34_163, no_tls: true, ..Websocket::default() };
    server.varz.tags = vec!["a:b".into()];
    server.varz.metadata = [("k".into(), "v".into())].into();
    server.varz.tls_cert_not_after = Some(Timestamp(NOON));
    Server {
        routes: vec![Route {
            rid: 4,
            remote_id: "NREMOTE".into(),
            remote_name: "other".into(),
            did_solicit: true,
            is_configured: true,
            ip: "10.0.0.1".into(),
            port: 6_222,
            start: Timestamp(NOON),
            last_activity: Timestamp(NOON),
            rtt: RoundTrip(250_000),
            uptime: Uptime(90_000_000_000),
            idle: Uptime(1_000_000_000),
            in_msgs: 1,
            out_msgs: 2,
            in_bytes: 3,
            out_bytes: 4,
            subscriptions: 5,
            account: "A".into(),
            compression: "off".into(),
            ..Route::default()
        }],
        leafs: vec![leaf(5, "A", None), leaf(6, "B", Some(ProxyKey { key: "UPROXY".into() }))],
        unready: Some("not ready for connections after 1ms".into()),
        ..server
    }
}
