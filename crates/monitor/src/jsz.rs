//! `/jsz`: JetStream, which is disabled.

use serde::Serialize;

use crate::query::{BadQuery, Query};
use crate::text::Timestamp;
use crate::view::ServerView;

/// The whole of `/jsz` of a server without JetStream.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Jsz {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    accounts: u64,
    ha_assets: u64,
    api: Api,
    server_id: String,
    now: Timestamp,
    disabled: bool,
    config: Config,
    streams: u64,
    consumers: u64,
    messages: u64,
    bytes: u64,
    total: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
struct Api {
    level: u64,
    total: u64,
    errors: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
struct Config {
    max_memory: u64,
    max_storage: u64,
}

/// Answers `/jsz`.
///
/// # Errors
///
/// The first value that cannot be read, or that only the leader was to answer.
pub fn jsz(view: &dyn ServerView, query: &Query) -> Result<Jsz, BadQuery> {
    for key in ["accounts", "streams", "consumers", "direct-consumers", "config"] {
        query.boolean(key)?;
    }
    query.integer("offset")?;
    query.integer("limit")?;
    let leader_only = query.boolean("leader-only")?;
    query.boolean("raft")?;
    query.boolean("stream-leader-only")?;
    if leader_only {
        return Err(BadQuery::NotLeader);
    }
    Ok(Jsz { server_id: view.server_id(), now: view.now(), disabled: true, ..Jsz::default() })
}
