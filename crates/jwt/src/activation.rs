//! Activations: leave for one account to import what another exports privately.

use data_encoding::BASE32;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::claims::{Claims, Content, Data, Meta, is_default};
use crate::key::KeyKind;
use crate::share::ShareKind;
use crate::subject;
use crate::validation::Issues;

/// What may be imported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activation {
    /// The exported subject, or a part of it.
    #[serde(rename = "subject", skip_serializing_if = "String::is_empty")]
    pub import_subject: String,
    /// A stream or a service.
    #[serde(rename = "kind", skip_serializing_if = "Option::is_none")]
    pub import_kind: Option<ShareKind>,
    /// The exporting account's key, when a signing key has signed.
    #[serde(skip_serializing_if = "is_default")]
    pub issuer_account: String,
    /// Kind, version, tags.
    #[serde(flatten)]
    pub meta: Meta,
}

impl Content for Activation {
    const KIND: &'static str = "activation";
    const ISSUERS: &'static [KeyKind] = &[KeyKind::Account, KeyKind::Operator];

    fn mark(&mut self, version: i64) {
        (self.meta.kind, self.meta.version) = (Self::KIND.into(), version);
    }

    fn upgrade(claims: &mut Map<String, Value>, version: i64) {
        // Version 1 called the kind of the import its type; what comes in from outside has the same name.
        if version == 1
            && let Some(nats) = claims.get_mut("nats").and_then(Value::as_object_mut)
            && let Some(kind) = nats.remove("type")
        {
            nats.insert("kind".into(), kind);
        }
        crate::user::move_inwards(claims, version, &["tags", "type", "issuer_account"]);
    }

    fn check(&self, _data: &Data, issues: &mut Issues) {
        if self.import_kind.is_none() {
            issues.error("invalid import type: \"unknown\"");
        }
        subject::check(&self.import_subject, issues);
        if !self.issuer_account.is_empty() && !KeyKind::Account.owns(&self.issuer_account) {
            issues.error("account_id is not an account public key");
        }
    }
}

impl Claims<Activation> {
    /// The account that allows.
    pub fn account(&self) -> &str {
        if self.nats.issuer_account.is_empty() { &self.data.issuer } else { &self.nats.issuer_account }
    }

    /// By what an account server files it: a hash of who allows whom what. None if one of these is not said.
    pub fn hash_id(&self) -> Option<String> {
        let (issuer, to, subject) = (&self.data.issuer, &self.data.subject, &self.nats.import_subject);
        if issuer.is_empty() || to.is_empty() || subject.is_empty() {
            return None;
        }
        let literal: Vec<&str> =
            subject.split('.').take_while(|token| !matches!(*token, "*" | ">")).collect();
        let literal = if literal.is_empty() { "_".to_owned() } else { literal.join(".") };
        Some(BASE32.encode(&Sha256::digest(format!("{issuer}.{to}.{literal}"))))
    }
}
