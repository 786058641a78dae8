//! Users: who may connect, in the name of which account, and how.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::claims::{Claims, Content, Data, Meta, is_default, is_false};
use crate::key::KeyKind;
use crate::limits::{NatsLimits, UNLIMITED};
use crate::permission::Permissions;
use crate::source;
use crate::validation::Issues;
use crate::window;

/// What a user may do, and where from and when. The same stands in a scoped signing key for all users it signs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserLimits {
    /// Subjects.
    #[serde(flatten)]
    pub permissions: Permissions,
    /// Addresses to connect from (CIDR); empty: any.
    #[serde(rename = "src", skip_serializing_if = "Vec::is_empty", deserialize_with = "list_or_commas")]
    pub sources: Vec<String>,
    /// Hours of the day to be connected at; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<TimeRange>,
    /// Where those are the hours of the day, by the name of the time zone; empty: where the server is.
    #[serde(rename = "times_location", skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Amounts.
    #[serde(flatten)]
    pub limits: NatsLimits,
    /// The token alone is proof enough.
    #[serde(rename = "bearer_token", skip_serializing_if = "is_false")]
    pub bearer: bool,
    /// Only through a trusted proxy.
    #[serde(skip_serializing_if = "is_false")]
    pub proxy_required: bool,
    /// Names of the ways to connect; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_connection_types: Vec<String>,
}

impl UserLimits {
    /// No restrictions.
    pub fn unlimited() -> Self {
        Self { limits: NatsLimits::UNLIMITED, ..Self::default() }
    }
}

/// From and to, as `15:04:05`. One that ends before it starts goes over midnight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeRange {
    /// From.
    pub start: String,
    /// To.
    pub end: String,
}

/// What an account says of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// What the user may do. All zero for users of a scoped signing key.
    #[serde(flatten)]
    pub limits: UserLimits,
    /// The account's key, when a signing key has signed.
    #[serde(skip_serializing_if = "is_default")]
    pub issuer_account: String,
    /// Kind, version, tags.
    #[serde(flatten)]
    pub meta: Meta,
}

impl User {
    /// Whether nothing is said, as it must be for a user of a scoped signing key.
    pub fn has_no_limits(&self) -> bool {
        self.limits == UserLimits::default()
    }
}

impl Claims<User> {
    /// The account that the user belongs to.
    pub fn account(&self) -> &str {
        if self.nats.issuer_account.is_empty() { &self.data.issuer } else { &self.nats.issuer_account }
    }
}

impl Content for User {
    const KIND: &'static str = "user";
    const ISSUERS: &'static [KeyKind] = &[KeyKind::Account];

    fn mark(&mut self, version: i64) {
        (self.meta.kind, self.meta.version) = (Self::KIND.into(), version);
    }

    fn upgrade(claims: &mut Map<String, Value>, version: i64) {
        move_inwards(claims, version, &["tags", "type", "issuer_account"]);
        if version == 1
            && let Some(nats) = inner(claims)
        {
            // What version 1 did not say was without limit.
            for limit in ["subs", "data", "payload"] {
                nats.entry(limit).or_insert(UNLIMITED.into());
            }
        }
    }

    fn check(&self, _data: &Data, issues: &mut Issues) {
        self.limits.permissions.check(issues);
        for range in self.limits.sources.iter().filter(|range| source::parse(range).is_none()) {
            issues.error(format!("invalid cidr {range:?} in user src limits"));
        }
        window::check(&self.limits, issues);
        if !self.issuer_account.is_empty() && !KeyKind::Account.owns(&self.issuer_account) {
            issues.error("account_id is not an account public key");
        }
    }
}

/// The content as version 2 has it: what version 1 had at the top moves in.
pub(crate) fn move_inwards(claims: &mut Map<String, Value>, version: i64, names: &[&str]) {
    if version != 1 {
        return;
    }
    let moved: Vec<_> = names.iter().filter_map(|name| claims.remove_entry(*name)).collect();
    if let Some(nats) = inner(claims) {
        nats.extend(moved);
        nats.insert("version".into(), 1.into());
    }
}

fn inner(claims: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    claims.entry("nats").or_insert_with(|| Map::new().into()).as_object_mut()
}

/// A list of texts, or one text with commas.
fn list_or_commas<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        List(Vec<String>),
        Commas(String),
    }
    Ok(match Said::deserialize(deserializer)? {
        Said::List(list) => list,
        Said::Commas(text) => {
            let mut list: Vec<String> = Vec::new();
            for item in text.split(',').map(|item| item.trim().to_lowercase()) {
                if !item.is_empty() && !list.contains(&item) {
                    list.push(item);
                }
            }
            list
        }
    })
}
