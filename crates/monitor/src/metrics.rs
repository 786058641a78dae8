//! `/metrics`: numbers for Prometheus, in its text format.
//!
//! [`METRICS`] is the whole list: name, type, help, and where the values come from. Names begin with `sonata_`; bytes
//! and seconds are in the name, and what only rises ends in `_total`.

use std::fmt::Write;

use crate::accstatz::AccountStats;
use crate::text::Uptime;
use crate::varz::Varz;
use crate::view::ServerView;

/// The content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `/metrics` shows beyond `/varz` and `/accstatz`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Subscriptions to literal subjects.
    pub interest_literals: u64,
    /// Subscriptions with wildcards.
    pub interest_wildcards: u64,
    /// Match results in the cache.
    pub match_cache_entries: u64,
    /// Matches found in the cache since start.
    pub match_cache_hits: u64,
    /// Matches not found in the cache since start.
    pub match_cache_misses: u64,
    /// Seconds of processor time since start, in milliseconds.
    pub cpu_milliseconds: u64,
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// What it means.
    pub help: &'static str,
    source: Source,
}

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises until the server is restarted.
    Counter,
    /// It rises and falls.
    Gauge,
}

/// Where the values of a metric come from.
#[derive(Debug)]
enum Source {
    /// One number.
    Server(fn(&Snapshot) -> f64),
    /// One number for each account, labelled `account`.
    Account(fn(&AccountStats) -> u64),
    /// One number for each kind of connection, labelled `kind`.
    Kinds(fn(&Snapshot) -> [u64; 4]),
    /// One number for each pool, labelled `pool`: bytes used.
    PoolUsed,
    /// One number for each pool with a limit, labelled `pool`.
    PoolLimit,
}

/// All that metrics are made of.
#[derive(Debug)]
struct Snapshot {
    varz: Varz,
    counters: Counters,
}

const fn metric(name: &'static str, kind: Kind, help: &'static str, source: Source) -> Metric {
    Metric { name, kind, help, source }
}

/// All metrics, in the order in which they are written.
pub const METRICS: &[Metric] = &[
    metric(
        "sonata_uptime_seconds",
        Kind::Gauge,
        "Time since the server was started.",
        Source::Server(uptime),
    ),
    metric(
        "sonata_cpu_seconds_total",
        Kind::Counter,
        "Processor time used.",
        Source::Server(|now| now.counters.cpu_milliseconds as f64 / 1000.0),
    ),
    metric(
        "sonata_resident_bytes",
        Kind::Gauge,
        "Resident memory.",
        Source::Server(|now| now.varz.mem as f64),
    ),
    metric(
        "sonata_memory_pool_used_bytes",
        Kind::Gauge,
        "Memory in use, by what it is used for.",
        Source::PoolUsed,
    ),
    metric(
        "sonata_memory_pool_limit_bytes",
        Kind::Gauge,
        "The most memory that may be used, by what it is used for.",
        Source::PoolLimit,
    ),
    metric(
        "sonata_connections",
        Kind::Gauge,
        "Clients connected.",
        Source::Server(|now| now.varz.connections as f64),
    ),
    metric(
        "sonata_connections_total",
        Kind::Counter,
        "Clients that have connected.",
        Source::Server(|now| now.varz.total_connections as f64),
    ),
    metric("sonata_routes", Kind::Gauge, "Routes connected.", Source::Server(|now| now.varz.routes as f64)),
    metric(
        "sonata_leafnodes",
        Kind::Gauge,
        "Leaf nodes connected.",
        Source::Server(|now| now.varz.leafnodes as f64),
    ),
    metric(
        "sonata_in_messages_total",
        Kind::Counter,
        "Messages received.",
        Source::Server(|now| now.varz.in_msgs as f64),
    ),
    metric(
        "sonata_in_bytes_total",
        Kind::Counter,
        "Bytes of messages received.",
        Source::Server(|now| now.varz.in_bytes as f64),
    ),
    metric(
        "sonata_out_messages_total",
        Kind::Counter,
        "Messages sent.",
        Source::Server(|now| now.varz.out_msgs as f64),
    ),
    metric(
        "sonata_out_bytes_total",
        Kind::Counter,
        "Bytes of messages sent.",
        Source::Server(|now| now.varz.out_bytes as f64),
    ),
    metric(
        "sonata_slow_consumers_total",
        Kind::Counter,
        "Connections closed for being slow.",
        Source::Kinds(|now| {
            let kinds = now.varz.slow_consumer_stats;
            [kinds.clients, kinds.routes, kinds.gateways, kinds.leafs]
        }),
    ),
    metric(
        "sonata_stale_connections_total",
        Kind::Counter,
        "Connections closed for not answering pings.",
        Source::Kinds(|now| {
            let kinds = now.varz.stale_connection_stats;
            [kinds.clients, kinds.routes, kinds.gateways, kinds.leafs]
        }),
    ),
    metric(
        "sonata_stalls_total",
        Kind::Counter,
        "Times a publisher was held back for a slow receiver.",
        Source::Server(|now| now.varz.stalled_clients as f64),
    ),
    metric(
        "sonata_subscriptions",
        Kind::Gauge,
        "Subscriptions of all accounts.",
        Source::Server(|now| now.varz.subscriptions as f64),
    ),
    metric(
        "sonata_interest_literals",
        Kind::Gauge,
        "Subscriptions to literal subjects.",
        Source::Server(|now| now.counters.interest_literals as f64),
    ),
    metric(
        "sonata_interest_wildcards",
        Kind::Gauge,
        "Subscriptions with wildcards.",
        Source::Server(|now| now.counters.interest_wildcards as f64),
    ),
    metric(
        "sonata_match_cache_entries",
        Kind::Gauge,
        "Match results in the cache.",
        Source::Server(|now| now.counters.match_cache_entries as f64),
    ),
    metric(
        "sonata_match_cache_hits_total",
        Kind::Counter,
        "Matches found in the cache.",
        Source::Server(|now| now.counters.match_cache_hits as f64),
    ),
    metric(
        "sonata_match_cache_misses_total",
        Kind::Counter,
        "Matches not found in the cache.",
        Source::Server(|now| now.counters.match_cache_misses as f64),
    ),
    metric(
        "sonata_account_connections",
        Kind::Gauge,
        "Clients and leaf nodes connected, by account.",
        Source::Account(|account| account.total_conns),
    ),
    metric(
        "sonata_account_subscriptions",
        Kind::Gauge,
        "Subscriptions, by account.",
        Source::Account(|account| account.num_subscriptions),
    ),
    metric(
        "sonata_account_in_messages_total",
        Kind::Counter,
        "Messages received, by account.",
        Source::Account(|account| account.received.msgs),
    ),
    metric(
        "sonata_account_in_bytes_total",
        Kind::Counter,
        "Bytes of messages received, by account.",
        Source::Account(|account| account.received.bytes),
    ),
    metric(
        "sonata_account_out_messages_total",
        Kind::Counter,
        "Messages sent, by account.",
        Source::Account(|account| account.sent.msgs),
    ),
    metric(
        "sonata_account_out_bytes_total",
        Kind::Counter,
        "Bytes of messages sent, by account.",
        Source::Account(|account| account.sent.bytes),
    ),
    metric(
        "sonata_account_slow_consumers_total",
        Kind::Counter,
        "Connections closed for being slow, by account.",
        Source::Account(|account| account.slow_consumers),
    ),
];

/// Answers `/metrics`.
pub fn metrics(view: &dyn ServerView) -> String {
    let snapshot = Snapshot { varz: view.varz(), counters: view.counters() };
    let accounts = view.account_stats();
    let mut text = String::new();
    for metric in METRICS {
        metric.write(&mut text, &snapshot, &accounts);
    }
    text
}

impl Metric {
    fn write(&self, text: &mut String, now: &Snapshot, accounts: &[AccountStats]) {
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let name = self.name;
        // Writing to a text cannot fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", self.help);
        let mut labelled = |label: &str, value: &str, number: u64| {
            let _ = writeln!(text, "{name}{{{label}=\"{}\"}} {number}", escape(value));
        };
        match &self.source {
            Source::Server(number) => {
                let _ = writeln!(text, "{name} {}", number(now));
            }
            Source::Account(number) => {
                accounts.iter().for_each(|account| labelled("account", &account.acc, number(account)));
            }
            Source::Kinds(numbers) => {
                let kinds = ["client", "route", "gateway", "leafnode"];
                kinds.iter().zip(numbers(now)).for_each(|(kind, number)| labelled("kind", kind, number));
            }
            Source::PoolUsed => {
                let pools = now.varz.memory_pools.named();
                pools.iter().for_each(|(name, pool)| labelled("pool", name, pool.used_bytes));
            }
            Source::PoolLimit => {
                let pools = now.varz.memory_pools.named();
                let limited = pools.iter().filter(|(_, pool)| pool.limit_bytes > 0);
                limited.for_each(|(name, pool)| labelled("pool", name, pool.limit_bytes));
            }
        }
    }
}

fn uptime(now: &Snapshot) -> f64 {
    Uptime::between(now.varz.start, now.varz.now).0 as f64 / 1e9
}

/// In a label's value, a backslash, a double quote and a line end are escaped.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
