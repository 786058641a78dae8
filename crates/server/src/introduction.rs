//! Who asks a service of another account: the JSON of `Nats-Request-Info`.

use std::collections::BTreeMap;

use rand::RngExt as _;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};
use sonata_broker::connection::Connection;
use sonata_broker::importing::{Asking, Introduce};
use sonata_broker::latency::{Outcome, Tracking};
use sonata_jetstream::timestamp::Timestamp;

use crate::clock::Clock;

/// Writes introductions in the name of one server.
pub(crate) struct Introducer {
    pub(crate) server_name: String,
    pub(crate) clock: Clock,
}

/// The fields and their order are the reference's; what is empty is left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Introduction {
    #[serde(skip_serializing_if = "is_empty")]
    start: Option<String>,
    #[serde(skip_serializing_if = "is_empty")]
    host: String,
    #[serde(skip_serializing_if = "is_empty")]
    id: u64,
    #[serde(skip_serializing_if = "is_empty")]
    acc: String,
    #[serde(skip_serializing_if = "is_empty")]
    svc: String,
    #[serde(skip_serializing_if = "is_empty")]
    user: String,
    #[serde(skip_serializing_if = "is_empty")]
    name: String,
    #[serde(skip_serializing_if = "is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "is_empty")]
    ver: String,
    #[serde(skip_serializing_if = "is_empty")]
    rtt: u64,
    #[serde(skip_serializing_if = "is_empty")]
    server: String,
    #[serde(skip_serializing_if = "is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "is_empty")]
    client_type: String,
}

fn is_empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Introduce for Introducer {
    fn introduce(&self, asking: &Asking<'_>) -> String {
        let said_before = asking.through.and_then(|(json, account)| {
            let told: Introduction = serde_json::from_slice(json).ok()?;
            Some(Introduction { svc: account.to_owned(), ..told })
        });
        let mut introduction = said_before.unwrap_or_else(|| self.of(asking.connection, asking.in_full));
        if asking.with_server {
            introduction.server.clone_from(&self.server_name);
        }
        serde_json::to_string(&introduction).unwrap_or_default()
    }

    fn measured(&self, tracking: &Tracking, outcome: &Outcome) -> String {
        let (status, description) = match outcome {
            Outcome::Answered(..) => (200, ""),
            Outcome::BadRequest => (400, "Bad Request"),
            Outcome::RequesterGone => (408, "Request Timeout"),
            Outcome::Unavailable => (503, "Service Unavailable"),
            Outcome::TimedOut => (504, "Service Timeout"),
        };
        let requestor = self.of(&tracking.requester, tracking.in_full);
        let asked_unix_ns = self.clock.unix_ns(tracking.asked_ns);
        let mut metric = ServiceLatency {
            r#type: "io.nats.server.metric.v1.service_latency",
            id: new_id(),
            timestamp: Timestamp(self.clock.now_unix_ns()),
            status,
            description,
            responder: None,
            header: BTreeMap::new(),
            start: Timestamp(asked_unix_ns.saturating_sub_unsigned(requestor.rtt)),
            service: 0,
            system: 0,
            total: 0,
            requestor,
        };
        for (name, value) in &tracking.headers {
            metric.header.entry(name).or_default().push(value);
        }
        if let Outcome::Answered(answered_ns, responder) = outcome {
            let responder = self.of(responder, true);
            let both_ways = answered_ns.saturating_sub(tracking.asked_ns);
            // The way to the service and back is the system's part of that time, and so is the requester's.
            metric.service = both_ways.saturating_sub(responder.rtt);
            metric.system = responder.rtt.min(both_ways);
            metric.total = both_ways + metric.requestor.rtt;
            metric.responder = Some(responder);
        }
        serde_json::to_string(&metric).unwrap_or_default()
    }
}

/// 22 letters and digits that no other event has.
fn new_id() -> String {
    rand::rng().sample_iter(Alphanumeric).take(22).map(char::from).collect()
}

/// What came of a request to a service that is measured.
#[derive(Serialize)]
struct ServiceLatency<'a> {
    r#type: &'static str,
    id: String,
    timestamp: Timestamp,
    status: u16,
    #[serde(skip_serializing_if = "is_empty")]
    description: &'static str,
    requestor: Introduction,
    #[serde(skip_serializing_if = "Option::is_none")]
    responder: Option<Introduction>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    header: BTreeMap<&'a str, Vec<&'a str>>,
    start: Timestamp,
    /// ns.
    service: u64,
    /// ns.
    system: u64,
    /// ns.
    total: u64,
}

impl Introducer {
    fn of(&self, client: &Connection, in_full: bool) -> Introduction {
        let profile = client.profile();
        let acc = profile.account.as_deref().unwrap_or_default().to_owned();
        if !in_full {
            return Introduction { acc, rtt: client.rtt_ns(), ..Introduction::default() };
        }
        Introduction {
            start: Some(Timestamp(self.clock.unix_ns(client.started_ns())).to_string()),
            host: client.remote().map(|remote| remote.ip().to_string()).unwrap_or_default(),
            id: client.id(),
            acc,
            svc: String::new(),
            user: profile.user.into(),
            name: profile.name.into(),
            lang: profile.lang.into(),
            ver: profile.version.into(),
            rtt: client.rtt_ns(),
            server: self.server_name.clone(),
            kind: "Client".into(),
            client_type: "nats".into(),
        }
    }
}
