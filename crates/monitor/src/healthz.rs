//! `/healthz`: whether a server can serve, for probes.
//!
//! A server is healthy once it accepts connections and, with JetStream, while it can store messages and has all that it
//! acknowledged. A probe that asks only whether JetStream is on (`js-enabled-only`) is not told of storage: it is what
//! restarts servers, and a restart helps neither a full disk nor a damaged one.

use serde::Serialize;

use crate::jetstream::{ConsumersOf, Damage, JetStreamView};
use crate::json::is_default;
use crate::query::{BadQuery, Query, quoted};
use crate::view::ServerView;

/// Damage that is listed; more would help nobody.
const DAMAGE_MAX: usize = 100;

/// The whole of `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Healthz {
    /// `ok`, `unavailable` or `error`.
    pub status: &'static str,
    /// The status of the HTTP response, where there is no such response; 0 is left out.
    #[serde(skip_serializing_if = "is_default")]
    pub status_code: u16,
    /// What is wrong, unless details are asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What is wrong, if details are asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Ailment>,
    /// The status of the HTTP response.
    #[serde(skip)]
    pub http_status: u16,
}

/// Something that is wrong.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Ailment {
    /// `CONNECTION`, `BAD_REQUEST`, `JETSTREAM`, `ACCOUNT`, `STREAM` or `CONSUMER`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The account that it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// The stream that it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// The consumer that it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consumer: String,
    /// What it is.
    pub error: String,
}

/// What a probe asks for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct HealthzOptions {
    /// Only what concerns this account; empty is all.
    pub account: String,
    /// Only this stream of the account; empty is all.
    pub stream: String,
    /// Only this consumer of the stream; empty is all.
    pub consumer: String,
    /// Only whether JetStream is on.
    pub enabled_only: bool,
    /// Nothing about accounts and streams.
    pub server_only: bool,
    /// Nothing about what streams hold.
    pub meta_only: bool,
    /// Tell all that is wrong, each with its kind.
    pub details: bool,
}

impl HealthzOptions {
    /// Reads a query.
    ///
    /// # Errors
    ///
    /// The first value that cannot be read.
    pub fn from_query(query: &Query) -> Result<Self, BadQuery> {
        // The first is an old name of the second.
        let enabled_only = query.boolean("js-enabled")?;
        let enabled_only = query.boolean("js-enabled-only")? || enabled_only;
        Ok(Self {
            enabled_only,
            server_only: query.boolean("js-server-only")?,
            meta_only: query.boolean("js-meta-only")?,
            details: query.boolean("details")?,
            account: query.text("account").into(),
            stream: query.text("stream").into(),
            consumer: query.text("consumer").into(),
        })
    }
}

/// What is wrong, and how bad that is.
struct Diagnosis {
    http_status: u16,
    /// The word for it, unless details are asked for: then it is always `error`.
    status: &'static str,
    ailments: Vec<Ailment>,
}

/// Answers `/healthz`.
pub fn healthz(view: &dyn ServerView, options: &HealthzOptions) -> Healthz {
    match diagnose(view, options) {
        Ok(()) => Healthz {
            status: "ok",
            status_code: 0,
            error: String::new(),
            errors: Vec::new(),
            http_status: 200,
        },
        Err(diagnosis) => diagnosis.tell(options.details),
    }
}

fn diagnose(view: &dyn ServerView, asked: &HealthzOptions) -> Result<(), Diagnosis> {
    let missing = |name: &str, check: &str| {
        let error = format!("{} must not be empty when checking {check} health", quoted(name));
        Err(Diagnosis::error(400, Ailment { kind: "BAD_REQUEST", error, ..Ailment::default() }))
    };
    if !asked.stream.is_empty() && asked.account.is_empty() {
        return missing("account", "stream");
    }
    if !asked.consumer.is_empty() && asked.stream.is_empty() {
        return missing("stream", "consumer");
    }
    if let Err(error) = view.accepts_connections() {
        return Err(Diagnosis::error(500, Ailment { kind: "CONNECTION", error, ..Ailment::default() }));
    }
    let Some(jetstream) = view.jetstream() else { return Ok(()) };
    if asked.enabled_only {
        return Ok(());
    }
    if let Some(cause) = jetstream.failure() {
        let error = format!("JetStream storage failed: {cause}");
        let ailment = Ailment { kind: "JETSTREAM", error, ..Ailment::default() };
        return Err(Diagnosis::unavailable(503, vec![ailment]));
    }
    if asked.server_only {
        return Ok(());
    }
    asked.check_existence(jetstream)?;
    if asked.meta_only {
        return Ok(());
    }
    asked.check_damage(jetstream)
}

impl HealthzOptions {
    /// Whether there is what is asked about.
    fn check_existence(&self, jetstream: &dyn JetStreamView) -> Result<(), Diagnosis> {
        let Self { account, stream, consumer, .. } = self;
        let not_found = |kind: &'static str, error: String| {
            let named =
                |kinds: &[&str], name: &str| if kinds.contains(&kind) { name.into() } else { String::new() };
            let ailment = Ailment {
                kind,
                account: account.into(),
                stream: named(&["STREAM", "CONSUMER"], stream),
                consumer: named(&["CONSUMER"], consumer),
                error,
            };
            Err(Diagnosis::unavailable(404, vec![ailment]))
        };
        if account.is_empty() {
            return Ok(());
        }
        if jetstream.account(account).is_none() {
            return not_found("ACCOUNT", format!("JetStream account {} not found", quoted(account)));
        }
        if stream.is_empty() {
            return Ok(());
        }
        if jetstream.stream(account, stream).is_none() {
            let error =
                format!("JetStream stream {} not found on account {}", quoted(stream), quoted(account));
            return not_found("STREAM", error);
        }
        let kinds = [ConsumersOf::Clients, ConsumersOf::Servers];
        let exists =
            |of: &ConsumersOf| jetstream.consumers(account, stream, *of).iter().any(|name| name == consumer);
        if consumer.is_empty() || kinds.iter().any(exists) {
            return Ok(());
        }
        let error = format!(
            "JetStream consumer {} not found for stream {} on account {}",
            quoted(consumer),
            quoted(stream),
            quoted(account)
        );
        not_found("CONSUMER", error)
    }

    /// Whether what is asked about is whole.
    fn check_damage(&self, jetstream: &dyn JetStreamView) -> Result<(), Diagnosis> {
        let named = |name: &'_ str| (!name.is_empty()).then(|| name.to_owned());
        let (account, stream) = (named(&self.account), named(&self.stream));
        let damage = jetstream.damage(account.as_deref(), stream.as_deref(), DAMAGE_MAX);
        if damage.is_empty() {
            return Ok(());
        }
        Err(Diagnosis::unavailable(503, damage.into_iter().map(Ailment::from).collect()))
    }
}

impl From<Damage> for Ailment {
    fn from(damage: Damage) -> Self {
        match damage {
            Damage::NotRecovered { folder, cause } => Self {
                kind: "STREAM",
                error: format!("JetStream stream in {folder:?} could not be recovered: {cause}"),
                ..Self::default()
            },
            Damage::Lost { account, stream, messages, bytes } => Self {
                kind: "STREAM",
                error: format!(
                    "JetStream stream '{account} > {stream}' has lost {messages} messages ({bytes} bytes) to damage"
                ),
                account,
                stream,
                ..Self::default()
            },
        }
    }
}

impl Diagnosis {
    fn error(http_status: u16, ailment: Ailment) -> Self {
        Self { http_status, status: "error", ailments: vec![ailment] }
    }

    fn unavailable(http_status: u16, ailments: Vec<Ailment>) -> Self {
        Self { http_status, status: "unavailable", ailments }
    }

    fn tell(self, details: bool) -> Healthz {
        let Self { http_status, status, ailments } = self;
        if details {
            return Healthz {
                status: "error",
                status_code: 0,
                error: String::new(),
                errors: ailments,
                http_status,
            };
        }
        let first = ailments.into_iter().next().unwrap_or_default();
        Healthz { status, status_code: 0, error: first.error, errors: Vec::new(), http_status }
    }
}
