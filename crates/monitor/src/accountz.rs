//! `/accountz`: the accounts, and all about one of them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::json::is_default;
use crate::query::BadQuery;
use crate::subsz::InterestStats;
use crate::text::Timestamp;
use crate::view::ServerView;

/// The whole of `/accountz`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accountz {
    /// The server.
    pub server_id: String,
    /// When this was written.
    pub now: Timestamp,
    /// The system account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system_account: String,
    /// All accounts, unless one is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    /// The one that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_detail: Option<Account>,
}

/// All about an account.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Account {
    /// The name.
    pub account_name: String,
    /// When it was configured.
    pub update_time: Timestamp,
    /// Whether it is the system account.
    #[serde(skip_serializing_if = "is_default")]
    pub is_system: bool,
    /// Whether its JWT has expired.
    pub expired: bool,
    /// Whether all that it imports is known.
    pub complete: bool,
    /// Whether it has JetStream.
    pub jetstream_enabled: bool,
    /// Leaf nodes now.
    pub leafnode_connections: u64,
    /// Clients now.
    pub client_connections: u64,
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Subject mappings by source.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mappings: BTreeMap<String, Vec<MappingDestination>>,
    /// What others may import.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<Export>,
    /// What it imports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<Import>,
    /// Its token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    /// Who has signed that.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer_key: String,
    /// What the account calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name_tag: String,
    /// What its token is marked with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What its token says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoded_jwt: Option<serde_json::Value>,
    /// Whose tokens are revoked, by key, and up to when.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub revoked_user: BTreeMap<String, Timestamp>,
    /// Numbers about its interest.
    pub sublist_stats: InterestStats,
}

/// Where a subject is mapped to.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct MappingDestination {
    /// The destination.
    pub subject: String,
    /// Per cent of messages that go there.
    pub weight: u8,
    /// Only in this cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
}

/// What others may import.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Export {
    /// The subject.
    pub subject: String,
    /// `stream` or `service`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether importers need an activation.
    #[serde(skip_serializing_if = "is_default")]
    pub token_req: bool,
    /// `Singleton`, `Streamed` or `Chunked`; services only.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub response_type: &'static str,
    /// How requests are measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_latency: Option<ServiceLatency>,
    /// The accounts that may import; empty is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approved_accounts: Vec<String>,
}

/// What is imported.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Import {
    /// The subject in the exporting account.
    pub subject: String,
    /// The exporting account.
    pub account: String,
    /// The same as `local_subject`; services only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// The subject in this account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_subject: String,
    /// `stream` or `service`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether it is not in force.
    pub invalid: bool,
    /// Whether the exporter learns who asks.
    pub share: bool,
    /// Whether the exporter measures latency.
    pub tracking: bool,
    /// How requests are measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<ServiceLatency>,
}

/// How requests for a service are measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceLatency {
    /// Which ones.
    pub sampling: SamplingRate,
    /// Where the results go.
    pub results: String,
}

/// Which requests are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SamplingRate {
    /// So many of a hundred.
    Percent(u8),
    /// Those whose headers ask for it: `headers`.
    Headers(&'static str),
}

/// Answers `/accountz`, about one account if `account` is not empty.
///
/// # Errors
///
/// There is no such account.
pub fn accountz(view: &dyn ServerView, account: &str) -> Result<Accountz, BadQuery> {
    let (accounts, account_detail) = if account.is_empty() {
        (view.accounts(), None)
    } else {
        let detail = view.account(account).ok_or_else(|| BadQuery::Account(account.into()))?;
        (Vec::new(), Some(detail))
    };
    Ok(Accountz {
        server_id: view.server_id(),
        now: view.now(),
        system_account: view.system_account(),
        accounts,
        account_detail,
    })
}
