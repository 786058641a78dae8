//! Operators: who vouches for accounts.

use serde::{Deserialize, Serialize};

use crate::claims::{Claims, Content, Data, Meta, is_false};
use crate::key::KeyKind;
use crate::validation::Issues;

/// What an operator says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operator {
    /// Other keys that vouch in its name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signing_keys: Vec<String>,
    /// Where the tokens of its accounts are: `<url>/accounts/<key>`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account_server_url: String,
    /// Where its servers are, for tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operator_service_urls: Vec<String>,
    /// The key of its system account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system_account: String,
    /// The oldest server that may run for it: `x.y.z`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub assert_server_version: String,
    /// Its own key vouches for nothing but itself.
    #[serde(skip_serializing_if = "is_false")]
    pub strict_signing_key_usage: bool,
    /// Kind, version, tags.
    #[serde(flatten)]
    pub meta: Meta,
}

impl Content for Operator {
    const KIND: &'static str = "operator";
    const ISSUERS: &'static [KeyKind] = &[KeyKind::Operator];

    fn mark(&mut self, version: i64) {
        (self.meta.kind, self.meta.version) = (Self::KIND.into(), version);
    }

    fn upgrade(claims: &mut serde_json::Map<String, serde_json::Value>, version: i64) {
        crate::user::move_inwards(claims, version, &["tags", "type"]);
    }

    fn check(&self, _data: &Data, issues: &mut Issues) {
        let url = &self.account_server_url;
        if !url.is_empty() && !url.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme)) {
            issues.error(format!("account server url {url:?} requires a protocol"));
        }
        for url in self.operator_service_urls.iter().filter(|url| !url.is_empty()) {
            check_service_url(url, issues);
        }
        for key in self.signing_keys.iter().filter(|key| !KeyKind::Operator.owns(key)) {
            issues.error(format!("{key} is not an operator public key"));
        }
        if !self.system_account.is_empty() && !KeyKind::Account.owns(&self.system_account) {
            issues.error(format!("{} is not an account public key", self.system_account));
        }
        if let Err(error) = parse_version(&self.assert_server_version) {
            issues.error(format!("assert server version error: {error}"));
        }
    }
}

impl Claims<Operator> {
    /// The keys whose word on accounts counts.
    pub fn trusted_keys(&self) -> impl Iterator<Item = &str> {
        let own = (!self.nats.strict_signing_key_usage).then_some(&self.data.subject);
        own.into_iter().chain(&self.nats.signing_keys).map(String::as_str)
    }
}

/// `major.minor.update`; all zero for an empty text.
///
/// # Errors
/// The sentence for operators.
pub fn parse_version(text: &str) -> Result<[u64; 3], String> {
    if text.is_empty() {
        return Ok([0; 3]);
    }
    let parts: Vec<&str> = text.split('.').collect();
    let [major, minor, update] = parts.as_slice() else {
        return Err("asserted server version must be of the form <major>.<minor>.<update>".into());
    };
    let number = |part: &&str| match part.parse::<i64>() {
        Ok(number) => u64::try_from(number)
            .map_err(|_| format!("asserted server version can'b contain negative values: {text}")),
        Err(_) => Err(format!("asserted server version cant parse {part} to int")),
    };
    Ok([number(major)?, number(minor)?, number(update)?])
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn check_service_url(url: &str, issues: &mut Issues) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if rest.contains('@') {
        issues.error(format!("operator service url {url:?} - credentials are not supported"));
    } else if rest.contains('/') {
        issues.error(format!("operator service url {url:?} - paths are not supported"));
    } else if !["nats", "tls", "ws", "wss"].contains(&scheme.to_ascii_lowercase().as_str()) {
        issues.error(format!(
            "operator service url {url:?} - protocol not supported (only 'nats', 'tls', 'ws', 'wss' only)"
        ));
    }
}
