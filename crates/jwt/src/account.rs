//! Accounts: what their users may do together, what they share, and who signs for them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::claims::{Claims, Content, Data, Meta, is_default, is_zero};
use crate::key::KeyKind;
use crate::limits::{OperatorLimits, UNLIMITED};
use crate::permission::Permissions;
use crate::revocation::Revocations;
use crate::share::{Export, Import, ShareKind};
use crate::subject;
use crate::user::{User, UserLimits};
use crate::validation::Issues;

/// Imports, and exports, that a valid account has at most. They are compared with one another, so that ten times as many
/// would be a hundred times the work; accounts in use have tens.
pub const SHARES_MAX: usize = 4096;

/// Bytes of a description or URL.
const INFO_BYTES_MAX: usize = 8 * 1024;

/// What an operator, or the account itself, says of an account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// What it takes from others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<Import>,
    /// What it gives to others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<Export>,
    /// What it may use.
    pub limits: OperatorLimits,
    /// Who signs in its name.
    #[serde(skip_serializing_if = "SigningKeys::is_empty")]
    pub signing_keys: SigningKeys,
    /// Users who may no longer.
    #[serde(skip_serializing_if = "Revocations::is_empty")]
    pub revocations: Revocations,
    /// Of users whose tokens say nothing about subjects.
    pub default_permissions: Permissions,
    /// Subjects that become others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mappings: BTreeMap<String, Vec<WeightedMapping>>,
    /// Who decides on its users elsewhere.
    #[serde(skip_serializing_if = "is_default")]
    pub authorization: ExternalAuthorization,
    /// Where traces of messages go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<MessageTrace>,
    /// Which account carries the replication of its streams: `system` (or nothing) or `owner`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_traffic: String,
    /// For people.
    #[serde(flatten)]
    pub info: Info,
    /// Kind, version, tags.
    #[serde(flatten)]
    pub meta: Meta,
}

/// A destination of a mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightedMapping {
    /// The subject that it becomes.
    pub subject: String,
    /// How often, in a hundred; 0 is always.
    #[serde(skip_serializing_if = "is_default")]
    pub weight: u8,
    /// Only in this cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
}

impl WeightedMapping {
    /// How often, in a hundred.
    pub fn percent(&self) -> u8 {
        if self.weight == 0 { 100 } else { self.weight }
    }
}

/// Users are decided on by a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExternalAuthorization {
    /// Users who are let in without asking: the service itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub auth_users: Vec<String>,
    /// Accounts that the service may put users in; `*` alone is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_accounts: Vec<String>,
    /// The service's curve key, to speak with it in secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
}

/// Where traces go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MessageTrace {
    /// The subject.
    #[serde(rename = "dest", skip_serializing_if = "String::is_empty")]
    pub destination: String,
    /// How many in a hundred; 0 is all.
    #[serde(skip_serializing_if = "is_zero")]
    pub sampling: i64,
}

/// Text for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// What it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where more is said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub info_url: String,
}

impl Info {
    pub(crate) fn check(&self, issues: &mut Issues) {
        if self.description.len() > INFO_BYTES_MAX {
            issues.error("Description is too long");
        }
        if self.info_url.len() > INFO_BYTES_MAX {
            issues.error("Info URL is too long");
        }
        let host =
            self.info_url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
        if !self.info_url.is_empty() && host.is_none_or(str::is_empty) {
            issues.error("error parsing info url: no hostname or scheme");
        }
    }
}

/// A signing key that says itself what its users may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserScope {
    /// `user_scope`.
    pub kind: String,
    /// The key.
    pub key: String,
    /// A name for people.
    pub role: String,
    /// What its users may do, with templates in the subjects.
    pub template: UserLimits,
    /// For people.
    pub description: String,
}

const USER_SCOPE: &str = "user_scope";

/// Signing keys; those with a scope decide what their users may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SigningKeys(pub BTreeMap<String, Option<UserScope>>);

impl SigningKeys {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for SigningKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (key, scope) in &self.0 {
            match scope {
                Some(scope) => list.serialize_element(scope)?,
                None => list.serialize_element(key)?,
            }
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for SigningKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = SigningKeys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of signing keys")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<SigningKeys, A::Error> {
                let mut keys = BTreeMap::new();
                while let Some(item) = items.next_element::<Value>()? {
                    match item {
                        Value::String(key) => drop(keys.insert(key, None)),
                        Value::Object(scope) => {
                            let scope = read_scope(scope).map_err(serde::de::Error::custom)?;
                            keys.insert(scope.key.clone(), Some(scope));
                        }
                        _ => {}
                    }
                }
                Ok(SigningKeys(keys))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

fn read_scope(mut scope: Map<String, Value>) -> Result<UserScope, String> {
    if scope.get("kind").and_then(Value::as_str) != Some(USER_SCOPE) {
        return Err("unknown signing key scope".into());
    }
    // Unlike in a user's token, what a template does not say is without limit.
    let template = scope.entry("template").or_insert_with(|| Map::new().into());
    for limit in ["subs", "data", "payload"] {
        if let Some(template) = template.as_object_mut() {
            template.entry(limit).or_insert(UNLIMITED.into());
        }
    }
    serde_json::from_value(Value::Object(scope)).map_err(|error| error.to_string())
}

/// Who has signed a user, as the account sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer<'a> {
    /// The account or a key that signs for it.
    Plain,
    /// A key with a scope.
    Scoped(&'a UserScope),
    /// Nobody who may.
    Unknown,
}

impl Claims<Account> {
    /// How the account knows a key. `strict`: its own key signs nothing, since its operator wants signing keys.
    pub fn signer(&self, key: &str, strict: bool) -> Signer<'_> {
        if key == self.data.subject && !strict {
            return Signer::Plain;
        }
        match self.nats.signing_keys.0.get(key) {
            Some(Some(scope)) => Signer::Scoped(scope),
            Some(None) => Signer::Plain,
            None => Signer::Unknown,
        }
    }

    /// Whether a user's token was revoked.
    pub fn has_revoked(&self, user: &Claims<User>) -> bool {
        self.nats.revocations.cover(&user.data.subject, user.data.issued_at)
    }
}

impl Content for Account {
    const KIND: &'static str = "account";
    const ISSUERS: &'static [KeyKind] = &[KeyKind::Account, KeyKind::Operator];

    fn mark(&mut self, version: i64) {
        (self.meta.kind, self.meta.version) = (Self::KIND.into(), version);
    }

    fn upgrade(claims: &mut Map<String, Value>, version: i64) {
        crate::user::move_inwards(claims, version, &["tags", "type"]);
        let Some(nats) = claims.get_mut("nats").and_then(Value::as_object_mut) else { return };
        if version == 1 {
            // What version 1 did not know.
            for name in ["default_permissions", "mappings", "authorization", "trace", "cluster_traffic"] {
                nats.remove(name);
            }
        }
        let Some(limits) = nats.get_mut("limits").and_then(Value::as_object_mut) else { return };
        let tiered =
            limits.get("tiered_limits").and_then(Value::as_object).is_some_and(|tiers| !tiers.is_empty());
        if version == 1 || tiered {
            // Tiers say it all.
            let names = [
                "mem_storage",
                "disk_storage",
                "streams",
                "consumer",
                "max_ack_pending",
                "mem_max_stream_bytes",
                "disk_max_stream_bytes",
                "max_bytes_required",
            ];
            names.iter().for_each(|name| drop(limits.remove(*name)));
        }
    }

    fn check(&self, data: &Data, issues: &mut Issues) {
        if self.imports.len() > SHARES_MAX || self.exports.len() > SHARES_MAX {
            return issues.error(format!("the account contains more than {SHARES_MAX} imports or exports"));
        }
        check_imports(&self.imports, &data.subject, issues);
        check_exports(&self.exports, issues);
        self.limits.check(issues);
        self.default_permissions.check(issues);
        check_mappings(&self.mappings, issues);
        self.authorization.check(issues);
        if let Some(trace) = &self.trace {
            trace.check(issues);
        }
        self.check_amounts(issues);
        for (key, scope) in &self.signing_keys.0 {
            if !KeyKind::Account.owns(key) {
                issues.error(match scope {
                    Some(_) => format!("{key} is not an account public key"),
                    None => format!("{key:?} is not a valid account signing key"),
                });
            }
        }
        self.info.check(issues);
        if !matches!(self.cluster_traffic.as_str(), "" | "system" | "owner") {
            issues.error(format!("unknown cluster traffic option: {:?}", self.cluster_traffic));
        }
        if KeyKind::Account.owns(&data.issuer) && self.limits != OperatorLimits::default() {
            issues.warning("self-signed account JWTs shouldn't contain operator limits");
        }
    }
}

impl Account {
    fn check_amounts(&self, issues: &mut Issues) {
        let limits = &self.limits.account;
        let exceeds =
            |count: usize, max: i64| max != UNLIMITED && i64::try_from(count).is_ok_and(|n| n > max);
        if exceeds(self.imports.len(), limits.imports) {
            issues.error("the account contains more imports than allowed by the operator");
        }
        if exceeds(self.exports.len(), limits.exports) {
            issues.error("the account contains more exports than allowed by the operator");
        }
        let wild = self.exports.iter().any(|export| subject::has_wildcard(&export.subject));
        if limits.exports != UNLIMITED && !limits.wildcard_exports && wild {
            issues.error("the account contains wildcard exports that are not allowed by the operator");
        }
    }
}

fn check_imports(imports: &[Import], importer: &str, issues: &mut Issues) {
    // One account's services must not stand in each other's way.
    let mut services: HashMap<&str, Vec<String>> = HashMap::new();
    for import in imports {
        if import.kind == Some(ShareKind::Service) {
            let (account, local) = (import.account.as_str(), import.local_filter());
            let others = services.entry(account).or_default();
            for other in others.iter() {
                if subject::is_contained(&local, other) || subject::is_contained(other, &local) {
                    issues.error(format!(
                        "overlapping subject namespace for {local:?} and {other:?} in same account {account:?}"
                    ));
                }
            }
            others.push(local);
        }
        import.check(importer, issues);
    }
}

fn check_exports(exports: &[Export], issues: &mut Issues) {
    exports.iter().for_each(|export| export.check(issues));
    for kind in [ShareKind::Service, ShareKind::Stream] {
        let is_service = kind == ShareKind::Service;
        let same = |export: &&Export| (export.kind == Some(ShareKind::Service)) == is_service;
        let subjects: Vec<&str> = exports.iter().filter(same).map(|export| export.subject.as_str()).collect();
        for (index, outer) in subjects.iter().enumerate() {
            let inner = subjects
                .iter()
                .enumerate()
                .find(|(at, inner)| *at != index && subject::is_contained(inner, outer));
            if let Some((_, inner)) = inner {
                issues.error(format!("{kind} export subject {outer:?} already exports {inner:?}"));
            }
        }
    }
}

fn check_mappings(mappings: &BTreeMap<String, Vec<WeightedMapping>>, issues: &mut Issues) {
    for (from, destinations) in mappings {
        subject::check(from, issues);
        let mut per_cluster: HashMap<&str, u32> = HashMap::new();
        for destination in destinations {
            subject::check(&destination.subject, issues);
            if destination.percent() > 100 {
                let weight = destination.percent();
                issues.error(format!("Mapping {from:?} has a weight {weight} that exceeds 100"));
            }
            let cluster = destination.cluster.as_str();
            let sum = per_cluster.entry(cluster).or_default();
            *sum = sum.saturating_add(u32::from(destination.percent()));
            if *sum > 100 && !cluster.is_empty() {
                let text = "exceeds 100% among all of it's weighted to mappings";
                issues.error(format!("Mapping {from:?} in cluster {cluster:?} {text}"));
            }
        }
        if per_cluster.get("").is_some_and(|sum| *sum > 100) {
            issues.error(format!("Mapping {from:?} exceeds 100% among all of it's weighted to mappings"));
        }
    }
}

impl ExternalAuthorization {
    /// Whether users are decided on elsewhere.
    pub fn is_on(&self) -> bool {
        !self.auth_users.is_empty()
    }

    fn check(&self, issues: &mut Issues) {
        if !self.allowed_accounts.is_empty() && self.auth_users.is_empty() {
            issues.error("External authorization cannot have accounts without users specified");
        }
        for user in self.auth_users.iter().filter(|user| !KeyKind::User.owns(user)) {
            issues.error(format!("AuthUser {user:?} is not a valid user public key"));
        }
        for account in &self.allowed_accounts {
            if account == "*" {
                if self.allowed_accounts.len() > 1 {
                    issues.error("AllowedAccounts can only be a list of accounts or \"*\"");
                }
            } else if !KeyKind::Account.owns(account) {
                issues.error(format!("Account {account:?} is not a valid account public key"));
            }
        }
        if !self.xkey.is_empty() && !KeyKind::Curve.owns(&self.xkey) {
            issues.error(format!("XKey {:?} is not a valid public xkey", self.xkey));
        }
    }
}

impl MessageTrace {
    fn check(&self, issues: &mut Issues) {
        let mut own = Issues::default();
        subject::check(&self.destination, &mut own);
        if let Some(issue) = own.all().first() {
            issues.error(format!("the account Trace.Destination {issue}"));
        }
        if subject::has_wildcard(&self.destination) {
            let destination = &self.destination;
            issues.error(format!(
                "the account Trace.Destination subject {destination:?} is not a valid publish subject"
            ));
        }
        if !(0..=100).contains(&self.sampling) {
            let sampling = self.sampling;
            issues.error(format!(
                "the account Trace.Sampling value '{sampling}' is not valid, should be in the range [1..100]"
            ));
        }
    }
}
