//! What every token says, whatever it is about.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::key::KeyKind;
use crate::validation::{Issues, Validate};

/// Who says what about whom, and when it holds. Times are seconds since 1970; 0 is not said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Data {
    /// For whom.
    #[serde(rename = "aud", skip_serializing_if = "String::is_empty")]
    pub audience: String,
    /// Until when.
    #[serde(rename = "exp", skip_serializing_if = "is_zero")]
    pub expires: i64,
    /// A hash of the rest.
    #[serde(rename = "jti", skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Since when it is said; what a revocation looks at.
    #[serde(rename = "iat", skip_serializing_if = "is_zero")]
    pub issued_at: i64,
    /// The public key that has signed.
    #[serde(rename = "iss", skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// A name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// From when on.
    #[serde(rename = "nbf", skip_serializing_if = "is_zero")]
    pub not_before: i64,
    /// The public key that this is about.
    #[serde(rename = "sub", skip_serializing_if = "String::is_empty")]
    pub subject: String,
}

/// What stands beside the content of any kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Words by which people and templates find it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The kind.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The version of this layout: 1 or 2.
    #[serde(skip_serializing_if = "is_zero")]
    pub version: i64,
}

/// A token's claims with the content of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims<T> {
    /// Who, about whom, when.
    #[serde(flatten)]
    pub data: Data,
    /// The content.
    #[serde(default)]
    pub nats: T,
}

impl<T: Content> Claims<T> {
    /// Claims about the owner of `subject`, with nothing else said.
    pub fn about(subject: impl Into<String>) -> Self {
        Self { data: Data { subject: subject.into(), ..Data::default() }, nats: T::default() }
    }
}

impl<T> Claims<T> {
    /// Whether the issuer speaks about itself.
    pub fn is_self_signed(&self) -> bool {
        self.data.issuer == self.data.subject
    }
}

/// What claims can be about.
pub trait Content: Default + Serialize + DeserializeOwned {
    /// The name of the kind. Empty for claims of any other kind.
    const KIND: &'static str;
    /// Who may issue them; empty: anybody.
    const ISSUERS: &'static [KeyKind];

    /// Notes kind and version before signing.
    fn mark(&mut self, version: i64);

    /// Moves what version 1 of the layout had elsewhere, and fills in what absent members mean.
    fn upgrade(_claims: &mut Map<String, Value>, _version: i64) {}

    /// Looks through the content.
    fn check(&self, data: &Data, issues: &mut Issues);
}

impl<T: Content> Validate for Claims<T> {
    fn validate(&self, now: i64) -> Issues {
        let mut issues = Issues::default();
        if self.data.expires > 0 && now > self.data.expires {
            issues.time("claim is expired");
        }
        if self.data.not_before > 0 && self.data.not_before > now {
            issues.time("claim is not yet valid");
        }
        self.nats.check(&self.data, &mut issues);
        issues
    }
}

/// Claims of a kind that nobody here knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generic(pub Map<String, Value>);

impl Content for Generic {
    const KIND: &'static str = "";
    const ISSUERS: &'static [KeyKind] = &[];

    fn mark(&mut self, version: i64) {
        self.0.insert("version".into(), version.into());
    }

    fn check(&self, _data: &Data, _issues: &mut Issues) {}
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
pub(crate) fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
pub(crate) fn is_false(on: &bool) -> bool {
    !on
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
