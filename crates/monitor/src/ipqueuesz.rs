//! `/ipqueuesz`: queues inside the server.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::json::is_default;
use crate::query::{BadQuery, Query};
use crate::view::ServerView;

/// A queue.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QueueLength {
    /// What waits in it.
    pub pending: u64,
    /// What has been taken out and is not done.
    #[serde(skip_serializing_if = "is_default")]
    pub in_progress: u64,
}

/// What is asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct IpqueueszOptions {
    /// Empty queues as well.
    pub all: bool,
    /// Only queues whose names contain this.
    pub filter: String,
}

impl IpqueueszOptions {
    /// Reads a query.
    ///
    /// # Errors
    ///
    /// The first value that cannot be read.
    pub fn from_query(query: &Query) -> Result<Self, BadQuery> {
        Ok(Self { all: query.boolean("all")?, filter: query.text("queues").into() })
    }
}

/// Answers `/ipqueuesz`: queues that are not empty, or all, by name.
pub fn ipqueuesz(view: &dyn ServerView, options: &IpqueueszOptions) -> BTreeMap<String, QueueLength> {
    let mut queues = view.queues();
    queues.retain(|name, queue| (options.all || !is_default(queue)) && name.contains(&options.filter));
    queues
}
