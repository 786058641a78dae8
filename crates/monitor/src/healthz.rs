//! `/healthz`: whether a server can serve, for probes.

use serde::Serialize;

use crate::query::{BadQuery, Query};
use crate::view::ServerView;

/// The whole of `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Healthz {
    /// `ok`, `unavailable` or `error`.
    pub status: &'static str,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ailment {
    /// `CONNECTION` or `BAD_REQUEST`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What it is.
    pub error: String,
}

/// Answers `/healthz`. Without JetStream a server is healthy once it accepts connections.
///
/// # Errors
///
/// The first value that cannot be read.
pub fn healthz(view: &dyn ServerView, query: &Query) -> Result<Healthz, BadQuery> {
    for key in ["js-enabled", "js-enabled-only", "js-server-only", "js-meta-only"] {
        query.boolean(key)?;
    }
    let details = query.boolean("details")?;
    let missing =
        |name: &str, check: &str| format!("{name:?} must not be empty when checking {check} health");
    let asks = |key: &str| !query.text(key).is_empty();
    Ok(if asks("stream") && !asks("account") {
        Healthz::failed(400, "BAD_REQUEST", missing("account", "stream"), details)
    } else if asks("consumer") && !asks("stream") {
        Healthz::failed(400, "BAD_REQUEST", missing("stream", "consumer"), details)
    } else if let Err(reason) = view.accepts_connections() {
        Healthz::failed(500, "CONNECTION", reason, details)
    } else {
        Healthz { status: "ok", error: String::new(), errors: Vec::new(), http_status: 200 }
    })
}

impl Healthz {
    fn failed(http_status: u16, kind: &'static str, error: String, details: bool) -> Self {
        let (error, errors) =
            if details { (String::new(), vec![Ailment { kind, error }]) } else { (error, Vec::new()) };
        Self { status: "error", error, errors, http_status }
    }
}
