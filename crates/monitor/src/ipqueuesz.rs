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

/// Answers `/ipqueuesz`: queues that are not empty, or all, by name.
///
/// # Errors
///
/// The first value that cannot be read.
pub fn ipqueuesz(view: &dyn ServerView, query: &Query) -> Result<BTreeMap<String, QueueLength>, BadQuery> {
    let all = query.boolean("all")?;
    let wanted = query.text("queues");
    let mut queues = view.queues();
    queues.retain(|name, queue| (all || !is_default(queue)) && name.contains(wanted));
    Ok(queues)
}
