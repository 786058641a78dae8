//! Events: clients that come and go, and what accounts use.

use serde::Serialize;

use super::server_info::ServerInfo;
use crate::accstatz::{AccountStats, Volume};
use crate::json::{self, is_default};
use crate::text::{RoundTrip, Timestamp};

const CLIENT_CONNECT: &str = "io.nats.server.advisory.v1.client_connect";
const CLIENT_DISCONNECT: &str = "io.nats.server.advisory.v1.client_disconnect";
const OCSP_PEER_REJECT: &str = "io.nats.server.advisory.v1.ocsp_peer_reject";
const OCSP_PEER_LINK_INVALID: &str = "io.nats.server.advisory.v1.ocsp_peer_link_invalid";
const ACCOUNT_CONNECTIONS: &str = "io.nats.server.advisory.v1.account_connections";

/// What sets an event apart from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence<'a> {
    /// Unique among all events.
    pub id: &'a str,
    /// When it happened.
    pub time: Timestamp,
}

/// A client, as events describe it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Client {
    /// When it connected.
    pub start: Timestamp,
    /// Its address; empty within the process.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Its number.
    pub id: u64,
    /// Its account.
    pub acc: String,
    /// Its user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `name` of `CONNECT`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `lang` of `CONNECT`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lang: String,
    /// `version` of `CONNECT`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ver: String,
    /// Nanoseconds to the client and back; only once it has gone.
    #[serde(skip_serializing_if = "is_default")]
    pub rtt: i64,
    /// When it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Timestamp>,
    /// The user's token, unless it is a secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    /// The key that has signed it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer_key: String,
    /// What the account calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name_tag: String,
    /// The user's tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// `Client`.
    pub kind: &'static str,
    /// `nats`.
    pub client_type: &'static str,
}

/// A certificate, as events describe it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateInfo {
    /// Whom it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Who says so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// Its SHA-256 in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// All of it, in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub raw: String,
}

/// How a client went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// When.
    pub stop: Timestamp,
    /// The last measured round trip.
    pub rtt_ns: i64,
    /// What it had published.
    pub sent: Volume,
    /// What it had been sent.
    pub received: Volume,
    /// Why.
    pub reason: String,
}

#[derive(Serialize)]
struct Event<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    timestamp: Timestamp,
    server: ServerInfo<'a>,
    #[serde(flatten)]
    rest: T,
}

fn event(kind: &'static str, server: ServerInfo<'_>, of: Occurrence<'_>, rest: impl Serialize) -> Vec<u8> {
    json::compact(&Event { kind, id: of.id, timestamp: of.time, server, rest })
}

/// A client was let in.
pub fn client_connect(server: ServerInfo<'_>, occurrence: Occurrence<'_>, client: &Client) -> Vec<u8> {
    #[derive(Serialize)]
    struct Rest<'a> {
        client: &'a Client,
    }
    event(CLIENT_CONNECT, server, occurrence, Rest { client })
}

/// A client went, or was not let in.
pub fn client_disconnect(
    server: ServerInfo<'_>,
    occurrence: Occurrence<'_>,
    client: Client,
    departure: &Departure,
) -> Vec<u8> {
    #[derive(Serialize)]
    struct Rest<'a> {
        client: Client,
        sent: Volume,
        received: Volume,
        reason: &'a str,
    }
    let Departure { stop, rtt_ns, sent, received, ref reason } = *departure;
    let client = Client { stop: Some(stop), rtt: RoundTrip::measured(rtt_ns).0, ..client };
    event(CLIENT_DISCONNECT, server, occurrence, Rest { client, sent, received, reason })
}

/// What an account uses.
pub fn account_connections(
    server: ServerInfo<'_>,
    occurrence: Occurrence<'_>,
    account: &AccountStats,
) -> Vec<u8> {
    event(ACCOUNT_CONNECTIONS, server, occurrence, account)
}

/// A client was not let in for what an authority says, or does not say, of its certificates.
pub fn ocsp_peer_reject(
    server: ServerInfo<'_>,
    occurrence: Occurrence<'_>,
    peer: &CertificateInfo,
    reason: &str,
) -> Vec<u8> {
    #[derive(Serialize)]
    struct Reject<'a> {
        #[serde(rename = "type")]
        type_: &'static str,
        id: &'a str,
        timestamp: Timestamp,
        kind: &'static str,
        peer: &'a CertificateInfo,
        server: ServerInfo<'a>,
        reason: &'a str,
    }
    let Occurrence { id, time: timestamp } = occurrence;
    let kind = "Client";
    json::compact(&Reject { type_: OCSP_PEER_REJECT, id, timestamp, kind, peer, server, reason })
}

/// One of a client's certificates, its own or one between it and the root, is not good.
pub fn ocsp_peer_link_invalid(
    server: ServerInfo<'_>,
    occurrence: Occurrence<'_>,
    link: &CertificateInfo,
    peer: &CertificateInfo,
    reason: &str,
) -> Vec<u8> {
    #[derive(Serialize)]
    struct LinkInvalid<'a> {
        #[serde(rename = "type")]
        type_: &'static str,
        id: &'a str,
        timestamp: Timestamp,
        link: &'a CertificateInfo,
        peer: &'a CertificateInfo,
        server: ServerInfo<'a>,
        reason: &'a str,
    }
    let Occurrence { id, time: timestamp } = occurrence;
    json::compact(&LinkInvalid { type_: OCSP_PEER_LINK_INVALID, id, timestamp, link, peer, server, reason })
}

/// The server is about to leave: it only says who it is.
pub fn farewell(server: ServerInfo<'_>) -> Vec<u8> {
    json::compact(&server)
}
