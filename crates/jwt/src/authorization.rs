//! What a server asks an authorization service, and what it answers.

use serde::{Deserialize, Serialize};

use crate::claims::{Content, Data, Meta, is_default};
use crate::key::KeyKind;
use crate::validation::Issues;

/// The audience of requests.
pub const REQUEST_AUDIENCE: &str = "nats-authorization-request";

/// A server asks who somebody is. Signed by the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Who asks.
    #[serde(rename = "server_id")]
    pub server: Server,
    /// The key that the answer must be about; made for this request.
    pub user_nkey: String,
    /// The client.
    #[serde(rename = "client_info")]
    pub client: Client,
    /// What it has said.
    #[serde(rename = "connect_opts")]
    pub connect: Connect,
    /// Its TLS.
    #[serde(rename = "client_tls", skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What the client had to sign.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_nonce: String,
    /// Kind, version, tags.
    #[serde(flatten)]
    pub meta: Meta,
}

/// A server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the words of INFO")]
pub struct Server {
    pub name: String,
    pub host: String,
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
}

/// A client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the words of monitoring")]
pub struct Client {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    #[serde(skip_serializing_if = "is_default")]
    pub id: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name_tag: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub client_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mqtt_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
}

/// What a client said in its CONNECT.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the words of CONNECT")]
pub struct Connect {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nkey: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sig: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_token: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pass: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    pub protocol: i64,
}

/// Credentials stay out of logs.
impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("user", &self.user).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A client's TLS, with certificates as PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the words of monitoring")]
pub struct Tls {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cipher: String,
    /// As shown, where nobody has verified them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certs: Vec<String>,
    /// As verified, the client's own first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verified_chains: Vec<Vec<String>>,
}

/// The service answers: a user's token, or why there is none. Signed by an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Response {
    /// The user's token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    /// Why not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// The account's key, when a signing key has signed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer_account: String,
    /// Kind, version, tags.
    #[serde(flatten)]
    pub meta: Meta,
}

impl Content for Request {
    const KIND: &'static str = "authorization_request";
    const ISSUERS: &'static [KeyKind] = &[KeyKind::Server];

    fn mark(&mut self, version: i64) {
        (self.meta.kind, self.meta.version) = (Self::KIND.into(), version);
    }

    fn check(&self, _data: &Data, issues: &mut Issues) {
        if self.user_nkey.is_empty() {
            issues.error("User nkey is required");
        } else if !KeyKind::User.owns(&self.user_nkey) {
            issues.error(format!("User nkey {:?} is not a valid user public key", self.user_nkey));
        }
    }
}

impl Content for Response {
    const KIND: &'static str = "authorization_response";
    const ISSUERS: &'static [KeyKind] = &[KeyKind::Account];

    fn mark(&mut self, version: i64) {
        (self.meta.kind, self.meta.version) = (Self::KIND.into(), version);
    }

    fn check(&self, data: &Data, issues: &mut Issues) {
        if !KeyKind::User.owns(&data.subject) {
            issues.error("Subject must be a user public key");
        }
        if !KeyKind::Server.owns(&data.audience) {
            issues.error("Audience must be a server public key");
        }
        match (self.error.is_empty(), self.jwt.is_empty()) {
            (true, true) => issues.error("Error or Jwt is required"),
            (false, false) => issues.error("Only Error or Jwt can be set"),
            _ => {}
        }
        if !self.issuer_account.is_empty() && !KeyKind::Account.owns(&self.issuer_account) {
            issues.error("issuer_account is not an account public key");
        }
    }
}
