//! `/metrics`: numbers for Prometheus, in its text format.
//!
//! [`all`] is the whole list: name, type, help, and where the values come from. Names begin with `sonata_`; bytes and
//! seconds are in the name, and what only rises ends in `_total`. A metric of something that is off has no values.

mod jetstream;

use std::fmt::Write;

use crate::accstatz::AccountStats;
use crate::jetstream::Stats;
use crate::text::Uptime;
use crate::varz::Varz;
use crate::view::ServerView;
use jetstream::{ConsumerSeries, JetStreamSnapshot, StreamSeries};

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
    /// How often something was at most so much: `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl Kind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
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
    /// One number, while JetStream is on.
    JetStream(fn(&JetStreamSnapshot) -> f64),
    /// One number for each account with JetStream, labelled `account`.
    JetStreamAccount(fn(&Stats) -> u64),
    /// One number for each stream, labelled `account` and `stream`.
    Stream(fn(&StreamSeries) -> u64),
    /// One number for each consumer, labelled `account`, `stream` and `consumer`.
    Consumer(fn(&ConsumerSeries) -> u64),
    /// How long syncs of the journal took.
    SyncTime,
}

/// All that metrics are made of.
#[derive(Debug)]
struct Snapshot {
    varz: Varz,
    counters: Counters,
    accounts: Vec<AccountStats>,
    jetstream: Option<JetStreamSnapshot>,
}

const fn metric(name: &'static str, kind: Kind, help: &'static str, source: Source) -> Metric {
    Metric { name, kind, help, source }
}

/// All metrics, in the order in which they are written.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().chain(jetstream::METRICS)
}

const METRICS: &[Metric] = &[
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
    let snapshot = Snapshot {
        varz: view.varz(),
        counters: view.counters(),
        accounts: view.account_stats(),
        jetstream: view.jetstream().map(JetStreamSnapshot::of),
    };
    let mut text = String::new();
    all().for_each(|metric| metric.write(&mut text, &snapshot));
    text
}

impl Metric {
    fn write(&self, text: &mut String, now: &Snapshot) {
        let (name, kind) = (self.name, self.kind.name());
        // Writing to a text cannot fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", self.help);
        let jetstream = now.jetstream.as_ref();
        let mut number = |labels: &[(&str, &str)], number: u64| sample(text, name, labels, number);
        match &self.source {
            Source::Server(value) => {
                let _ = writeln!(text, "{name} {}", value(now));
            }
            Source::Account(value) => {
                now.accounts.iter().for_each(|account| number(&[("account", &account.acc)], value(account)));
            }
            Source::Kinds(values) => {
                let kinds = ["client", "route", "gateway", "leafnode"];
                kinds.iter().zip(values(now)).for_each(|(kind, value)| number(&[("kind", kind)], value));
            }
            Source::PoolUsed => {
                let pools = now.varz.memory_pools.named();
                pools.iter().for_each(|(name, pool)| number(&[("pool", name)], pool.used_bytes));
            }
            Source::PoolLimit => {
                let pools = now.varz.memory_pools.named();
                let limited = pools.iter().filter(|(_, pool)| pool.limit_bytes > 0);
                limited.for_each(|(name, pool)| number(&[("pool", name)], pool.limit_bytes));
            }
            Source::JetStream(value) => {
                if let Some(jetstream) = jetstream {
                    let _ = writeln!(text, "{name} {}", value(jetstream));
                }
            }
            Source::JetStreamAccount(value) => {
                let accounts = jetstream.into_iter().flat_map(|jetstream| &jetstream.accounts);
                accounts.for_each(|(account, stats)| number(&[("account", account)], value(stats)));
            }
            Source::Stream(value) => {
                let streams = jetstream.into_iter().flat_map(|jetstream| jetstream.streams.shown());
                streams.for_each(|stream| {
                    let numbers = &stream.numbers;
                    number(&[("account", &numbers.account), ("stream", &numbers.stream)], value(stream));
                });
            }
            Source::Consumer(value) => {
                let consumers = jetstream.into_iter().flat_map(|jetstream| jetstream.consumers.shown());
                consumers.for_each(|of| {
                    let labels = [
                        ("account", &*of.account),
                        ("stream", &*of.stream),
                        ("consumer", &*of.numbers.consumer),
                    ];
                    number(&labels, value(of));
                });
            }
            Source::SyncTime => {
                if let Some(jetstream) = jetstream {
                    let journal = &jetstream.journal;
                    durations(text, name, &journal.sync_times, journal.sync_time_ns);
                }
            }
        }
    }
}

/// One line.
fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], number: u64) {
    text.push_str(name);
    for (at, (label, value)) in labels.iter().enumerate() {
        let begin = if at == 0 { '{' } else { ',' };
        let _ = write!(text, "{begin}{label}=\"{}\"", escape(value));
    }
    let _ = writeln!(text, "}} {number}");
}

/// A histogram of durations in buckets of powers of two of a microsecond, the last of which has no upper bound.
fn durations(text: &mut String, name: &str, buckets: &[u64], sum_ns: u64) {
    let mut count = 0;
    for (exponent, bucket) in buckets.iter().enumerate() {
        count += bucket;
        if exponent + 1 < buckets.len() {
            let bound = 2_f64.powi(i32::try_from(exponent).unwrap_or(i32::MAX)) / 1e6;
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
    }
    let seconds = sum_ns as f64 / 1e9;
    let _ =
        writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {seconds}\n{name}_count {count}");
}

fn uptime(now: &Snapshot) -> f64 {
    Uptime::between(now.varz.start, now.varz.now).0 as f64 / 1e9
}

/// In a label's value, a backslash, a double quote and a line end are escaped.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
