//! What accounts share: exports and imports of streams and services.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::account::Info;
use crate::activation::Activation;
use crate::claims::{Claims, is_false, is_zero};
use crate::key::KeyKind;
use crate::revocation::Revocations;
use crate::subject;
use crate::token;
use crate::validation::{Issues, Severity, Validate};

/// Messages that others hear, or requests that others may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareKind {
    /// Messages.
    Stream,
    /// Requests.
    Service,
}

impl fmt::Display for ShareKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "stream",
            Self::Service => "service",
        })
    }
}

/// What an account takes from another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Import {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The subject in the other account; but for a service with `to`, the one in this.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The other account's key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// The activation, where the export is private.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// The older way to rename: a prefix in this account for streams, the subject in the other for services.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// The subject in this account; `$n` is the n-th wildcard of `subject`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_subject: String,
    /// A stream or a service.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ShareKind>,
    /// The exporter may see who asks.
    #[serde(skip_serializing_if = "is_false")]
    pub share: bool,
    /// The exporter's traces go on in this account. For streams.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_trace: bool,
}

impl Import {
    /// The subject that is imported, as the exporter has it.
    pub fn exported_subject(&self) -> &str {
        match self.kind {
            Some(ShareKind::Service) if !self.to.is_empty() => &self.to,
            _ => &self.subject,
        }
    }

    /// The activation, if there is a token and it is one.
    pub fn activation(&self) -> Option<Claims<Activation>> {
        if self.token.is_empty() { None } else { token::decode(&self.token).ok() }
    }

    /// What a service is asked by in the importing account.
    pub(crate) fn local_filter(&self) -> String {
        // As the official tools do it, although `to` is the other account's.
        match (self.to.as_str(), self.local_subject.as_str()) {
            ("", "") => self.subject.clone(),
            ("", renamed) => subject::renamed_to_filter(renamed),
            (to, _) => to.to_owned(),
        }
    }

    pub(crate) fn check(&self, importer: &str, issues: &mut Issues) {
        if self.kind.is_none() {
            issues.error("invalid import type: \"unknown\"");
        }
        let is_service = self.kind == Some(ShareKind::Service);
        if is_service && self.allow_trace {
            issues.error("AllowTrace only valid for stream import");
        }
        if self.account.is_empty() {
            issues.error("account to import from is not specified");
        }
        if !self.to.is_empty() {
            issues.warning("the field to has been deprecated (use LocalSubject instead)");
        }
        subject::check(&self.subject, issues);
        if !self.local_subject.is_empty() {
            subject::check_renaming(&self.local_subject, &self.subject, issues);
            if !self.to.is_empty() {
                issues.error("Local Subject replaces To");
            }
        }
        if self.share && !is_service {
            let text = "sharing information (for latency tracking) is only valid for services";
            issues.error(format!("{text}: {:?}", self.subject));
        }
        if !self.token.is_empty() {
            self.check_activation(importer, issues);
        }
    }

    fn check_activation(&self, importer: &str, issues: &mut Issues) {
        let Some(activation) = self.activation() else {
            return issues.error(format!("import {:?} contains an invalid activation token", self.subject));
        };
        if activation.data.issuer != self.account && activation.nats.issuer_account != self.account {
            issues.error(format!("activation token doesn't match account for import {:?}", self.subject));
        }
        if activation.data.subject != importer {
            let text = "activation token doesn't match account it is being included in";
            issues.error(format!("{text}, {:?}", self.subject));
        }
        if activation.nats.import_kind != self.kind {
            let name = |kind: Option<ShareKind>| kind.map_or("unknown".to_owned(), |kind| kind.to_string());
            let (token, import) = (name(activation.nats.import_kind), name(self.kind));
            issues.error(format!("mismatch between token import type {token} and type of import {import}"));
        }
        // Whether it has expired is asked where it is used.
        for issue in activation.validate(0).all().iter().filter(|issue| issue.severity == Severity::Error) {
            issues.error(issue.text.clone());
        }
        if !subject::is_contained(self.exported_subject(), &activation.nats.import_subject) {
            let allowed = &activation.nats.import_subject;
            issues.error(format!(
                "activation token import subject {allowed:?} doesn't match import {:?}",
                self.subject
            ));
        }
    }
}

/// How a service answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResponseType {
    /// Once.
    #[default]
    Singleton,
    /// Many times.
    Stream,
    /// Once, in pieces.
    Chunked,
}

impl ResponseType {
    /// The type of that name in a token; an empty one is the default.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "" | "Singleton" => Some(Self::Singleton),
            "Stream" => Some(Self::Stream),
            "Chunked" => Some(Self::Chunked),
            _ => None,
        }
    }
}

/// Which requests are measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sampling {
    /// Those whose headers ask for it.
    #[default]
    Headers,
    /// So many in a hundred.
    Percent(i64),
}

impl Serialize for Sampling {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Headers => serializer.serialize_str("headers"),
            Self::Percent(percent) => serializer.serialize_i64(*percent),
        }
    }
}

impl<'de> Deserialize<'de> for Sampling {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            Percent(i64),
            Word(String),
        }
        match Said::deserialize(deserializer)? {
            Said::Percent(0) => Ok(Self::Headers),
            Said::Percent(percent) => Ok(Self::Percent(percent)),
            Said::Word(word) if word.eq_ignore_ascii_case("headers") => Ok(Self::Headers),
            Said::Word(_) => Err(serde::de::Error::custom("unknown sampling rate")),
        }
    }
}

/// How long a service takes is measured, and told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceLatency {
    /// Which requests.
    pub sampling: Sampling,
    /// The subject that hears.
    pub results: String,
}

impl ServiceLatency {
    fn check(&self, issues: &mut Issues) {
        if let Sampling::Percent(percent) = self.sampling
            && !(1..=100).contains(&percent)
        {
            issues.error("sampling percentage needs to be between 1-100");
        }
        subject::check(&self.results, issues);
        if subject::has_wildcard(&self.results) {
            issues.error("results subject can not contain wildcards");
        }
    }
}

/// What an account gives to others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Export {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The subject.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// A stream or a service.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ShareKind>,
    /// Private: importers need an activation.
    #[serde(rename = "token_req", skip_serializing_if = "is_false")]
    pub token_required: bool,
    /// Activations that hold no longer, by importing account.
    #[serde(skip_serializing_if = "Revocations::is_empty")]
    pub revocations: Revocations,
    /// How a service answers; see [`ResponseType`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub response_type: String,
    /// Nanoseconds that a service's answer may take; 0 is the default.
    #[serde(skip_serializing_if = "is_zero")]
    pub response_threshold: i64,
    /// Measurement of a service.
    #[serde(rename = "service_latency", skip_serializing_if = "Option::is_none")]
    pub latency: Option<ServiceLatency>,
    /// The token of the subject, counted from 1, that is the importer's key. 0: none.
    #[serde(skip_serializing_if = "is_zero")]
    pub account_token_position: i64,
    /// Tools may show it to others.
    #[serde(skip_serializing_if = "is_false")]
    pub advertise: bool,
    /// An importer's traces go on in this account. For services.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_trace: bool,
    /// For people.
    #[serde(flatten)]
    pub info: Info,
}

impl Export {
    pub(crate) fn check(&self, issues: &mut Issues) {
        let (is_stream, is_service) =
            (self.kind == Some(ShareKind::Stream), self.kind == Some(ShareKind::Service));
        if self.kind.is_none() {
            issues.error("invalid export type: \"unknown\"");
        }
        if is_service && ResponseType::from_name(&self.response_type).is_none() {
            issues.error(format!("invalid response type for service: {:?}", self.response_type));
        }
        if is_stream && !self.response_type.is_empty() {
            issues.error(format!("invalid response type for stream: {:?}", self.response_type));
        }
        if is_stream && self.allow_trace {
            issues.error("AllowTrace only valid for service export");
        }
        if let Some(latency) = &self.latency {
            if !is_service {
                issues.error("latency tracking only permitted for services");
            }
            latency.check(issues);
        }
        if self.response_threshold < 0 {
            issues.error("negative response threshold is invalid");
        }
        if self.response_threshold > 0 && !is_service {
            issues.error("response threshold only valid for services");
        }
        subject::check(&self.subject, issues);
        self.check_position(issues);
        self.info.check(issues);
    }

    fn check_position(&self, issues: &mut Issues) {
        let (position, name) = (self.account_token_position, &self.subject);
        if position == 0 {
            return;
        }
        if !subject::has_wildcard(name) {
            let text = "Account Token Position can only be used with wildcard subjects";
            return issues.error(format!("{text}: {name}"));
        }
        match usize::try_from(position - 1).ok().and_then(|index| name.split('.').nth(index)) {
            None => {
                issues.error(format!("Account Token Position {position} exceeds length of subject '{name}'"));
            }
            Some("*") => {}
            Some(token) => issues.error(format!(
                "Account Token Position {position} matches '{token}' but must match a * in: {name}"
            )),
        }
    }

    /// Whether an activation, which was verified and belongs to an import of this, lets `importer` in.
    ///
    /// `is_issuer` tells whether a key may sign for the exporting account.
    pub fn is_activated_by(
        &self,
        activation: &Claims<Activation>,
        importer: &str,
        is_issuer: impl Fn(&str) -> bool,
        now: i64,
    ) -> bool {
        is_issuer(&activation.data.issuer)
            && activation.data.subject == importer
            && KeyKind::Account.owns(importer)
            && !activation.validate(now).is_blocking()
            && !(activation.data.expires > 0 && activation.data.expires <= now)
            && !self.revocations.cover(&activation.data.subject, activation.data.issued_at)
    }
}
