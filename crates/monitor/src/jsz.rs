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
pub struct AccountDetail {
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
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct JszOptions {
    /// Only this account; empty is all.
    pub account: String,
    /// Show accounts.
    pub accounts: bool,
    /// Show streams, which shows accounts.
    pub streams: bool,
    /// Show the consumers of clients, which shows streams.
    pub consumers: bool,
    /// Show the consumers of servers.
    pub direct_consumers: bool,
    /// Show configurations.
    pub config: bool,
    /// Count what this server leads.
    pub raft: bool,
    /// Only the leader is asked.
    pub leader_only: bool,
    /// Accounts to leave out at the start.
    pub offset: i64,
    /// The most accounts; 0 is the default and less than 0 no limit.
    pub limit: i64,
}

impl JszOptions {
    /// Reads a query.
    ///
    /// # Errors
    ///
    /// The first value that cannot be read.
    pub fn from_query(query: &Query) -> Result<Self, BadQuery> {
        // In this order, which decides about the error.
        let accounts = query.boolean("accounts")?;
        let streams = query.boolean("streams")?;
        let consumers = query.boolean("consumers")?;
        let direct_consumers = query.boolean("direct-consumers")?;
        let config = query.boolean("config")?;
        let offset = query.integer("offset")?;
        let limit = query.integer("limit")?;
        let leader_only = query.boolean("leader-only")?;
        let raft = query.boolean("raft")?;
        // This server leads all that it has.
        query.boolean("stream-leader-only")?;
        let account = query.text("acc").into();
        Ok(Self {
            account,
            accounts,
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

    fn shows_streams(&self) -> bool {
        self.streams || self.consumers
    }

    fn shows_accounts(&self) -> bool {
        self.accounts || self.shows_streams()
    }

    fn page(&self) -> (usize, usize) {
        let limit = match usize::try_from(self.limit) {
            Ok(0) => DEFAULT_LIMIT,
            Ok(limit) => limit,
            Err(_) => usize::MAX,
        };
        (usize::try_from(self.offset).unwrap_or(0), limit)
    }
}

/// Answers `/jsz`.
///
/// # Errors
///
/// Only the leader was to answer.
pub fn jsz(view: &dyn ServerView, wanted: &JszOptions) -> Result<Jsz, BadQuery> {
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
    } else if wanted.shows_accounts() {
        let (offset, limit) = wanted.page();
        names.into_iter().skip(offset).take(limit).collect()
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
            .filter_map(|name| AccountDetail::of(jetstream, name, &leader, wanted))
            .collect(),
        total,
        ..head
    })
}

/// All about one account; none if it has no JetStream.
pub fn account_detail(view: &dyn ServerView, account: &str, wanted: &JszOptions) -> Option<AccountDetail> {
    AccountDetail::of(view.jetstream()?, account.to_owned(), &view.server_name(), wanted)
}

impl AccountDetail {
    fn of(jetstream: &dyn JetStreamView, name: String, leader: &str, wanted: &JszOptions) -> Option<Self> {
        let stats = jetstream.account(&name)?;
        let streams = if wanted.shows_streams() { jetstream.streams(&name) } else { Vec::new() };
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
        wanted: &JszOptions,
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
