//! `/subsz`, also `/subscriptionsz`: how many subscriptions there are and how well they are found, and a list of them.

use serde::Serialize;

use crate::connz::Subscription;
use crate::query::{BadQuery, Query};
use crate::text::Timestamp;
use crate::view::ServerView;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubszOptions {
    /// Whether to list subscriptions.
    pub subscriptions: bool,
    /// Subscriptions to leave out at the start.
    pub offset: usize,
    /// The most subscriptions to list.
    pub limit: usize,
    /// Only what a message on this subject would reach; empty is all.
    pub test: String,
    /// Only this account; empty is all.
    pub account: String,
}

impl SubszOptions {
    /// How many subscriptions are listed if no limit is given.
    pub const LIMIT_DEFAULT: usize = 1024;

    /// Reads a query.
    ///
    /// # Errors
    ///
    /// The first value that cannot be read, or a test subject that nothing can be published to.
    pub fn from_query(query: &Query) -> Result<Self, BadQuery> {
        let subscriptions = query.boolean("subs")?;
        let offset = query.integer("offset")?;
        let limit = query.integer("limit")?;
        Self {
            subscriptions,
            offset: usize::try_from(offset).unwrap_or(0),
            limit: usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(Self::LIMIT_DEFAULT),
            test: query.text("test").into(),
            account: query.text("acc").into(),
        }
        .checked()
    }

    /// The same, if they make sense.
    ///
    /// # Errors
    ///
    /// A test subject that nothing can be published to.
    pub(crate) fn checked(self) -> Result<Self, BadQuery> {
        if !self.test.is_empty() && !is_literal(&self.test) {
            return Err(BadQuery::TestSubject(self.test));
        }
        Ok(self)
    }
}

/// Numbers about the interest of one account, or of all.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub struct InterestStats {
    /// Subscriptions now.
    pub num_subscriptions: u64,
    /// Match results in the cache.
    pub num_cache: u64,
    /// Subscriptions added since start.
    pub num_inserts: u64,
    /// Subscriptions removed since start.
    pub num_removes: u64,
    /// Subjects matched since start.
    pub num_matches: u64,
    /// The part of them that was found in the cache, 0 to 1.
    pub cache_hit_rate: f64,
    /// The most receivers of a result in the cache.
    pub max_fanout: u64,
    /// Receivers of a result in the cache on average.
    pub avg_fanout: f64,
}

/// The whole of `/subsz`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Subsz {
    /// The server.
    pub server_id: String,
    /// When this was written.
    pub now: Timestamp,
    /// Numbers about the accounts asked for.
    #[serde(flatten)]
    pub stats: InterestStats,
    /// Subscriptions that could be listed; 0 if no list is asked for.
    pub total: usize,
    /// The first one in the list.
    pub offset: usize,
    /// The most in the list.
    pub limit: usize,
    /// The list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions_list: Vec<Subscription>,
}

/// Answers `/subsz`. Subscriptions are in the order in which the server shows them.
pub fn subsz(view: &dyn ServerView, options: &SubszOptions) -> Subsz {
    let account = Some(options.account.as_str()).filter(|account| !account.is_empty());
    let mut total = 0;
    let mut list = Vec::new();
    if options.subscriptions {
        view.visit_subscriptions(account, &mut |subscription| {
            if options.test.is_empty() || matches(&subscription.subject, &options.test) {
                if total >= options.offset && list.len() < options.limit {
                    list.push(subscription.clone());
                }
                total += 1;
            }
        });
    }
    Subsz {
        server_id: view.server_id(),
        now: view.now(),
        stats: view.interest(account),
        total,
        offset: options.offset,
        limit: options.limit,
        subscriptions_list: list,
    }
}

/// Whether a subject can be published to: no empty token, no white space, no wildcard.
fn is_literal(subject: &str) -> bool {
    !subject.contains([' ', '\t', '\n', '\r', '\x0c'])
        && subject.split('.').all(|token| !matches!(token, "" | "*" | ">"))
}

/// Whether a message on a literal subject reaches a subscription.
fn matches(subscription: &str, literal: &str) -> bool {
    let mut literal = literal.split('.');
    for token in subscription.split('.') {
        match (token, literal.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (token, Some(word)) if token == word => {}
            _ => return false,
        }
    }
    literal.next().is_none()
}
