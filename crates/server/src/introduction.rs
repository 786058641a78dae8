//! Who asks a service of another account: the JSON of `Nats-Request-Info`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Weak;

use rand::RngExt as _;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};
use sonata_broker::connection::Connection;
use sonata_broker::importing::{Asking, Introduce};
use sonata_broker::latency::{Outcome, Tracking};
use sonata_broker::msgtrace::{Event, Trace};
use sonata_jetstream::timestamp::Timestamp;
use sonata_monitor::system::server_info::ServerInfo;

use crate::clock::Clock;
use crate::inner::Inner;
use crate::system::{ACCEPT_ENCODING, Encoding};
use crate::view;

/// Writes introductions in the name of one server.
pub(crate) struct Introducer {
    pub(crate) server_name: String,
    pub(crate) clock: Clock,
    /// The server has this, so this does not have the server.
    pub(crate) inner: Weak<Inner>,
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

/// JSON in the dialect of the original.
fn written(value: &impl Serialize) -> String {
    // What is made of texts and numbers is text.
    String::from_utf8(sonata_monitor::json::compact(value)).unwrap_or_default()
}

impl Introduce for Introducer {
    fn introduce(&self, asking: &Asking<'_>) -> String {
        let said_before = asking.through.and_then(|(json, account)| {
            let told: Introduction = serde_json::from_slice(json).ok()?;
            Some(Introduction { svc: account.to_owned(), ..told })
        });
        let mut introduction = said_before.unwrap_or_else(|| self.of(asking.connection, asking.in_full));
        if introduction.acc.is_empty() {
            asking.account.clone_into(&mut introduction.acc);
        }
        if asking.with_server {
            introduction.server.clone_from(&self.server_name);
        }
        written(&introduction)
    }

    fn traced(&self, trace: &Trace) -> (Vec<u8>, Vec<u8>) {
        let ts = Timestamp(self.clock.unix_ns(trace.now_ns));
        let Some(inner) = self.inner.upgrade() else { return (Vec::new(), Vec::new()) };
        let encode = |server: ServerInfo<'_>| {
            let steps =
                std::iter::once(("in", Step::ingress(trace))).chain(trace.events.iter().map(Step::of));
            let report = TraceReport {
                server,
                request: TracedRequest {
                    header: trace.headers.iter().map(|(name, values)| (&**name, &**values)).collect(),
                    msgsize: trace.message_bytes,
                },
                events: steps.map(|(r#type, what)| TracedEvent { r#type, ts, what }).collect(),
            };
            sonata_monitor::json::compact(&report)
        };
        let payload = match inner.system.get() {
            Some(system) => system.stamped(&inner, |stamp| encode(stamp.server())),
            None => encode(
                view::identity(&inner).at(0, sonata_monitor::text::Timestamp(inner.clock.now_unix_ns())),
            ),
        };
        let accepted = trace.headers.iter().find(|(name, _)| name == ACCEPT_ENCODING);
        let accepted = accepted.and_then(|(_, values)| values.first());
        let encoding = Encoding::of(accepted.map(String::as_str).unwrap_or_default());
        (encoding.headers().to_vec(), encoding.encode(payload))
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
        written(&metric)
    }
}

/// 22 letters and digits that no other event has.
fn new_id() -> String {
    rand::rng().sample_iter(Alphanumeric).take(22).map(char::from).collect()
}

/// What became of a traced message.
#[derive(Serialize)]
struct TraceReport<'a> {
    server: ServerInfo<'a>,
    request: TracedRequest<'a>,
    events: Vec<TracedEvent<'a>>,
}

#[derive(Serialize)]
struct TracedRequest<'a> {
    header: BTreeMap<&'a str, &'a [String]>,
    #[serde(skip_serializing_if = "is_empty")]
    msgsize: usize,
}

#[derive(Serialize)]
struct TracedEvent<'a> {
    r#type: &'static str,
    ts: Timestamp,
    #[serde(flatten)]
    what: Step<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Step<'a> {
    Ingress {
        kind: u8,
        cid: u64,
        #[serde(skip_serializing_if = "is_empty")]
        name: Box<str>,
        acc: &'a str,
        subj: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    },
    Mapping {
        to: Cow<'a, str>,
    },
    StreamExport {
        acc: &'a str,
        to: Cow<'a, str>,
    },
    ServiceImport {
        acc: &'a str,
        from: Cow<'a, str>,
        to: Cow<'a, str>,
    },
    JetStream {
        stream: &'a str,
        #[serde(skip_serializing_if = "is_empty")]
        subject: &'a str,
        #[serde(skip_serializing_if = "is_empty")]
        nointerest: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    },
    Egress {
        kind: u8,
        cid: u64,
        #[serde(skip_serializing_if = "is_empty")]
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        acc: Option<&'a str>,
        sub: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        queue: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'static str>,
    },
}

/// What the events call a client.
const KIND_CLIENT: u8 = 0;

impl<'a> Step<'a> {
    fn ingress(trace: &'a Trace) -> Self {
        Self::Ingress {
            kind: KIND_CLIENT,
            cid: trace.publisher.id(),
            name: trace.publisher.profile().name,
            acc: trace.account.name(),
            subj: String::from_utf8_lossy(&trace.subject),
            error: trace.error.as_deref(),
        }
    }

    /// With the name of its kind.
    fn of(event: &'a Event) -> (&'static str, Self) {
        let text = |bytes: &'a [u8]| String::from_utf8_lossy(bytes);
        match event {
            Event::Mapping { to } => ("sm", Self::Mapping { to: text(to) }),
            Event::StreamExport { account, to } => ("se", Self::StreamExport { acc: account, to: text(to) }),
            Event::ServiceImport { account, from, to } => {
                ("si", Self::ServiceImport { acc: account, from: text(from), to: text(to) })
            }
            Event::JetStream(traced) => {
                let (stream, subject, error) = (&traced.stream, &traced.subject, traced.error.as_deref());
                ("js", Self::JetStream { stream, subject, nointerest: traced.no_interest, error })
            }
            Event::Egress { client, name, account, subscription, queue, error } => (
                "eg",
                Self::Egress {
                    kind: KIND_CLIENT,
                    cid: *client,
                    name,
                    acc: account.as_deref(),
                    sub: text(subscription),
                    queue: queue.as_deref().map(text),
                    error: *error,
                },
            ),
        }
    }
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
