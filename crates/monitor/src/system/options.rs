//! What bodies ask for, as the options that queries ask with too. The names in bodies are others than in queries.

use serde::Deserialize;

use super::body::{BadBody, Body, duration, int, state};
use crate::accstatz::AccstatzOptions;
use crate::connz::{ConnectionState, ConnzOptions, SortBy};
use crate::healthz::HealthzOptions;
use crate::ipqueuesz::IpqueueszOptions;
use crate::jsz::JszOptions;
use crate::query::{BadQuery, SubscriptionList};
use crate::subsz::SubszOptions;

/// How bodies say it: two truth values, of which the second is the stronger.
fn list(subscriptions: bool, detail: bool) -> SubscriptionList {
    match (subscriptions, detail) {
        (_, true) => SubscriptionList::Detail,
        (true, false) => SubscriptionList::Subjects,
        (false, false) => SubscriptionList::None,
    }
}

fn limit(given: i64, default: usize) -> usize {
    usize::try_from(given).ok().filter(|limit| *limit > 0).unwrap_or(default)
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Connz {
    sort: String,
    auth: bool,
    subscriptions: bool,
    subscriptions_detail: bool,
    #[serde(deserialize_with = "int")]
    offset: i64,
    #[serde(deserialize_with = "int")]
    limit: i64,
    cid: u64,
    mqtt_client: String,
    #[serde(deserialize_with = "state")]
    state: i64,
    user: String,
    acc: String,
    filter_subject: String,
}

impl Connz {
    pub(super) const NAME: &str = "ConnzEventOptions";

    /// `account` is the one that the subject names, which wins.
    pub(super) fn options(self, account: Option<&str>) -> Result<ConnzOptions, BadQuery> {
        let state = match self.state {
            0 => ConnectionState::Open,
            1 => ConnectionState::Closed,
            2 => ConnectionState::Any,
            _ => ConnectionState::Neither,
        };
        let account = account.map_or(self.acc, str::to_owned);
        let subject = if self.filter_subject == ">" { String::new() } else { self.filter_subject };
        let sort = SortBy::named(&self.sort, state)?;
        if !subject.is_empty() && account.is_empty() {
            return Err(BadQuery::SubjectWithoutAccount);
        }
        let cid = Some(self.cid).filter(|cid| *cid > 0);
        Ok(ConnzOptions {
            sort,
            auth: self.auth,
            subscriptions: list(self.subscriptions, self.subscriptions_detail),
            offset: usize::try_from(self.offset).unwrap_or(0),
            limit: if cid.is_some() { 1 } else { limit(self.limit, ConnzOptions::LIMIT_DEFAULT) },
            cid,
            state,
            user: self.user,
            account,
            mqtt_client: self.mqtt_client,
            subject,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Subsz {
    #[serde(deserialize_with = "int")]
    offset: i64,
    #[serde(deserialize_with = "int")]
    limit: i64,
    subscriptions: bool,
    account: String,
    test: String,
}

impl Subsz {
    pub(super) const NAME: &str = "SubszEventOptions";

    /// `account` is the one that the subject names; then there is always a list.
    pub(super) fn options(self, account: Option<&str>) -> Result<SubszOptions, BadQuery> {
        SubszOptions {
            subscriptions: self.subscriptions || account.is_some(),
            offset: usize::try_from(self.offset).unwrap_or(0),
            limit: limit(self.limit, SubszOptions::LIMIT_DEFAULT),
            test: self.test,
            account: account.map_or(self.account, str::to_owned),
        }
        .checked()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Routez {
    subscriptions: bool,
    subscriptions_detail: bool,
}

impl Routez {
    pub(super) const NAME: &str = "RoutezEventOptions";

    pub(super) fn list(&self) -> SubscriptionList {
        list(self.subscriptions, self.subscriptions_detail)
    }
}

/// There are no gateways yet: it is only read.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Gatewayz {
    name: String,
    accounts: bool,
    account_name: String,
    subscriptions: bool,
    subscriptions_detail: bool,
}

impl Gatewayz {
    pub(super) const NAME: &str = "GatewayzEventOptions";
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Leafz {
    pub(super) subscriptions: bool,
    pub(super) account: String,
}

impl Leafz {
    pub(super) const NAME: &str = "LeafzEventOptions";
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Accountz {
    pub(super) account: String,
}

impl Accountz {
    pub(super) const NAME: &str = "AccountzEventOptions";
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Jsz {
    account: String,
    accounts: bool,
    streams: bool,
    consumer: bool,
    direct_consumer: bool,
    config: bool,
    leader_only: bool,
    #[serde(deserialize_with = "int")]
    offset: i64,
    #[serde(deserialize_with = "int")]
    limit: i64,
    raft: bool,
    stream_leader_only: bool,
}

impl Jsz {
    pub(super) const NAME: &str = "JszEventOptions";

    pub(super) fn options(self) -> JszOptions {
        JszOptions {
            account: self.account,
            accounts: self.accounts,
            streams: self.streams,
            consumers: self.consumer,
            direct_consumers: self.direct_consumer,
            config: self.config,
            raft: self.raft,
            leader_only: self.leader_only,
            offset: self.offset,
            limit: self.limit,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Healthz {
    js_enabled: bool,
    js_enabled_only: bool,
    js_server_only: bool,
    js_meta_only: bool,
    account: String,
    stream: String,
    consumer: String,
    details: bool,
}

impl Healthz {
    pub(super) const NAME: &str = "HealthzEventOptions";

    pub(super) fn options(self) -> HealthzOptions {
        HealthzOptions {
            account: self.account,
            stream: self.stream,
            consumer: self.consumer,
            enabled_only: self.js_enabled || self.js_enabled_only,
            server_only: self.js_server_only,
            meta_only: self.js_meta_only,
            details: self.details,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Profilez {
    pub(super) name: String,
    #[serde(deserialize_with = "int")]
    debug: i64,
    /// Nanoseconds.
    #[serde(deserialize_with = "duration")]
    pub(super) duration: i64,
}

impl Profilez {
    pub(super) const NAME: &str = "ProfilezEventOptions";
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Ipqueuesz {
    all: bool,
    filter: String,
}

impl Ipqueuesz {
    pub(super) const NAME: &str = "IpqueueszEventOptions";

    pub(super) fn options(self) -> IpqueueszOptions {
        IpqueueszOptions { all: self.all, filter: self.filter }
    }
}

/// There are no Raft groups yet: it is only read.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Raftz {
    account: String,
    group: String,
}

impl Raftz {
    pub(super) const NAME: &str = "RaftzEventOptions";
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AccountStatz {
    accounts: Vec<String>,
    include_unused: bool,
}

impl AccountStatz {
    pub(super) const NAME: &str = "AccountStatzEventOptions";

    /// `account` is the one that the subject names, which wins.
    pub(super) fn options(self, account: Option<&str>) -> AccstatzOptions {
        let accounts = account.map_or(self.accounts, |account| vec![account.to_owned()]);
        AccstatzOptions { accounts, unused: self.include_unused }
    }
}

/// An account, which the subject names already.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ByAccount {
    pub(super) acc: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct CountSubscriptions {
    pub(super) acc: String,
    pub(super) subject: String,
    queue: Option<String>,
}

impl CountSubscriptions {
    /// The queue group, which is bytes and therefore in base 64.
    pub(super) fn group(&self) -> Result<Option<Vec<u8>>, BadBody> {
        let decode = |text: &String| data_encoding::BASE64.decode(text.as_bytes());
        self.queue.as_ref().map(decode).transpose().map_err(|_| BadBody::not_base64())
    }
}

/// A connection that something is to be done with.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ByCid {
    cid: u64,
}

/// The number of the connection that a body names; 0 if it names none.
///
/// # Errors
///
/// A body that is absent, or no JSON, or names it by something else than a number.
pub(super) fn cid(body: &[u8], name: &'static str) -> Result<u64, BadBody> {
    let body = if body.is_empty() { b" " } else { body };
    Ok(Body::parse(body)?.read::<ByCid>(name)?.cid)
}
