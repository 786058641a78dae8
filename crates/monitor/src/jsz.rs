//! `/jsz`: JetStream, in as much detail as is asked for.
//!
//! Accounts, streams and consumers are in the order of their names, where the original has them in any.

use serde::Serialize;
use sonata_jetstream::api::response::{ClusterInfo, ConsumerInfo, SourceInfo, StreamState};
use sonata_jetstream::config::StreamConfig;
use sonata_jetstream::timestamp::Timestamp as ApiTimestamp;

use crate::jetstream::{Config, ConsumersOf, JetStreamView, Limits, Stats, Totals};
use crate::json::is_default;
use crate::query::{BadQuery, Query};
use crate::text::Timestamp;
use crate::view::ServerView;

/// Accounts on a page unless the query says otherwise.
const DEFAULT_LIMIT: usize = 1024;

/// The whole of `/jsz`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Jsz {
    #[serde(flatten)]
    stats: Stats,
    server_id: String,
    now: Timestamp,
    #[serde(skip_serializing_if = "is_default")]
    disabled: bool,
    config: Config,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    streams: u64,
    #[serde(skip_serializing_if = "is_default")]
    streams_leader: u64,
    consumers: u64,
    #[serde(skip_serializing_if = "is_default")]
    consumers_leader: u64,
    messages: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    account_details: Vec<AccountDetail>,
    /// Accounts that have JetStream, on this page or not.
    total: u64,
}

/// An account.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct AccountDetail {
    name: String,
    id: String,
    #[serde(flatten)]
    stats: Stats,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stream_detail: Vec<StreamDetail>,
}

/// A stream.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct StreamDetail {
    name: String,
    created: ApiTimestamp,
    cluster: ClusterInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<StreamConfig>,
    state: StreamState,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    consumer_detail: Vec<ConsumerInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    direct_consumer_detail: Vec<ConsumerInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<SourceInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<SourceInfo>,
}

/// How much is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    account: String,
    accounts: bool,
    streams: bool,
    consumers: bool,
    direct_consumers: bool,
    config: bool,
    raft: bool,
    leader_only: bool,
    offset: usize,
    limit: usize,
}

impl Wanted {
    fn from_query(query: &Query) -> Result<Self, BadQuery> {
        // In this order, which decides about the error. What is more detailed asks for what is less so.
        let accounts = query.boolean("accounts")?;
        let streams = query.boolean("streams")?;
        let consumers = query.boolean("consumers")?;
        let direct_consumers = query.boolean("direct-consumers")?;
        let config = query.boolean("config")?;
        let offset = usize::try_from(query.integer("offset")?).unwrap_or(0);
        let limit = match usize::try_from(query.integer("limit")?) {
            Ok(0) => DEFAULT_LIMIT,
            Ok(limit) => limit,
            Err(_) => usize::MAX,
        };
        let leader_only = query.boolean("leader-only")?;
        let raft = query.boolean("raft")?;
        // This server leads all that it has.
        query.boolean("stream-leader-only")?;
        let streams = streams || consumers;
        Ok(Self {
            account: query.text("acc").into(),
            accounts: accounts || streams,
            streams,
            consumers,
            direct_consumers,
            config,
            raft,
            leader_only,
            offset,
            limit,
        })
    }
}

/// Answers `/jsz`.
///
/// # Errors
///
/// The first value that cannot be read, or that only the leader was to answer.
pub fn jsz(view: &dyn ServerView, query: &Query) -> Result<Jsz, BadQuery> {
    let wanted = Wanted::from_query(query)?;
    let head = Jsz { server_id: view.server_id(), now: view.now(), ..Jsz::default() };
    let Some(jetstream) = view.jetstream() else {
        if wanted.leader_only {
            return Err(BadQuery::NotLeader);
        }
        return Ok(Jsz { disabled: true, ..head });
    };
    let Totals { stats, streams, consumers, messages, bytes } = jetstream.totals();
    let names = jetstream.accounts();
    let total = names.len() as u64;
    let shown: Vec<String> = if !wanted.account.is_empty() {
        names.into_iter().filter(|name| *name == wanted.account).collect()
    } else if wanted.accounts {
        names.into_iter().skip(wanted.offset).take(wanted.limit).collect()
    } else {
        Vec::new()
    };
    let leader = view.server_name();
    Ok(Jsz {
        stats,
        config: jetstream.config(),
        limits: Some(jetstream.limits()),
        streams,
        streams_leader: if wanted.raft { streams } else { 0 },
        consumers,
        consumers_leader: if wanted.raft { consumers } else { 0 },
        messages,
        bytes,
        account_details: shown
            .into_iter()
            .filter_map(|name| AccountDetail::of(jetstream, name, &leader, &wanted))
            .collect(),
        total,
        ..head
    })
}

impl AccountDetail {
    fn of(jetstream: &dyn JetStreamView, name: String, leader: &str, wanted: &Wanted) -> Option<Self> {
        let stats = jetstream.account(&name)?;
        let streams = if wanted.streams { jetstream.streams(&name) } else { Vec::new() };
        let detail = |stream: String| StreamDetail::of(jetstream, &name, stream, leader, wanted);
        let stream_detail = streams.into_iter().filter_map(detail).collect();
        Some(Self { id: name.clone(), stats, stream_detail, name })
    }
}

impl StreamDetail {
    /// None if the stream has gone meanwhile.
    fn of(
        jetstream: &dyn JetStreamView,
        account: &str,
        name: String,
        leader: &str,
        wanted: &Wanted,
    ) -> Option<Self> {
        let info = jetstream.stream(account, &name)?;
        let consumers = |of: ConsumersOf| -> Vec<ConsumerInfo> {
            let names = jetstream.consumers(account, &name, of);
            let found = names.iter().filter_map(|consumer| jetstream.consumer(account, &name, consumer));
            found.map(|info| ConsumerInfo { config: info.config.filter(|_| wanted.config), ..info }).collect()
        };
        let listed = |wanted: bool, of: ConsumersOf| if wanted { consumers(of) } else { Vec::new() };
        Some(Self {
            consumer_detail: listed(wanted.consumers, ConsumersOf::Clients),
            direct_consumer_detail: listed(wanted.direct_consumers, ConsumersOf::Servers),
            name,
            created: info.created,
            cluster: ClusterInfo { leader: leader.into(), ..ClusterInfo::default() },
            config: wanted.config.then_some(info.config),
            state: info.state,
            mirror: info.mirror,
            sources: info.sources,
        })
    }
}
