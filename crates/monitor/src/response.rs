//! From a path and a query to a whole HTTP response.

use serde::Serialize;

use crate::accstatz::AccstatzOptions;
use crate::connz::ConnzOptions;
use crate::healthz::HealthzOptions;
use crate::ipqueuesz::IpqueueszOptions;
use crate::jsz::JszOptions;
use crate::query::{BadQuery, Query};
use crate::subsz::SubszOptions;
use crate::view::ServerView;
use crate::{accountz, accstatz, connz, expvar, gatewayz, healthz, index, ipqueuesz, json, jsz, leafz};
use crate::{metrics, raftz, routez, subsz};

/// What monitoring can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The page with links.
    Index,
    /// The server.
    Varz,
    /// Clients.
    Connz,
    /// Routes.
    Routez,
    /// Gateways.
    Gatewayz,
    /// Leaf nodes.
    Leafz,
    /// Subscriptions.
    Subsz,
    /// Accounts.
    Accountz,
    /// Traffic by account.
    Accstatz,
    /// JetStream.
    Jsz,
    /// Health.
    Healthz,
    /// Threads.
    Stacksz,
    /// Queues inside the server.
    Ipqueuesz,
    /// Raft groups.
    Raftz,
    /// The command line and memory.
    Expvar,
    /// Numbers for Prometheus; our own addition.
    Metrics,
}

impl Endpoint {
    const ALL: [Self; 16] = [
        Self::Index,
        Self::Varz,
        Self::Connz,
        Self::Routez,
        Self::Gatewayz,
        Self::Leafz,
        Self::Subsz,
        Self::Accountz,
        Self::Accstatz,
        Self::Jsz,
        Self::Healthz,
        Self::Stacksz,
        Self::Ipqueuesz,
        Self::Raftz,
        Self::Expvar,
        Self::Metrics,
    ];

    /// The endpoint at a path, under the base path of the configuration (with or without slashes at its ends).
    pub fn at(path: &str, base_path: &str) -> Option<Self> {
        let below = path.strip_prefix(&normalised(base_path))?;
        match below {
            "/subscriptionsz" => Some(Self::Subsz),
            "" if path.is_empty() => None,
            "" => Some(Self::Index),
            // Without a base path the page is at the slash, with one it is not.
            "/" => (below == path).then_some(Self::Index),
            below => Self::ALL.into_iter().find(|endpoint| endpoint.path() == below),
        }
    }

    /// The path below the base path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Index => "/",
            Self::Varz => "/varz",
            Self::Connz => "/connz",
            Self::Routez => "/routez",
            Self::Gatewayz => "/gatewayz",
            Self::Leafz => "/leafz",
            Self::Subsz => "/subsz",
            Self::Accountz => "/accountz",
            Self::Accstatz => "/accstatz",
            Self::Jsz => "/jsz",
            Self::Healthz => "/healthz",
            Self::Stacksz => "/stacksz",
            Self::Ipqueuesz => "/ipqueuesz",
            Self::Raftz => "/raftz",
            Self::Expvar => "/debug/vars",
            Self::Metrics => "/metrics",
        }
    }

    /// The key under which `http_req_stats` of `/varz` counts a request, before it is answered; none if it does not.
    pub fn counted_as(self) -> Option<&'static str> {
        match self {
            Self::Stacksz | Self::Ipqueuesz | Self::Raftz | Self::Expvar | Self::Metrics => None,
            counted => Some(counted.path()),
        }
    }
}

/// A whole HTTP response, but for what the transport adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: Vec<u8>,
}

/// Answers a request of any method for `path` and `query` (without question mark).
pub fn respond(view: &dyn ServerView, path: &str, query: &str, base_path: &str) -> Response {
    let Some(endpoint) = Endpoint::at(path, base_path) else { return Response::not_found() };
    answer(view, endpoint, &Query::parse(query), base_path)
        .unwrap_or_else(|error| Response::plain(400, error.to_string()))
}

fn answer(
    view: &dyn ServerView,
    endpoint: Endpoint,
    query: &Query,
    base_path: &str,
) -> Result<Response, BadQuery> {
    Ok(match endpoint {
        Endpoint::Index => {
            let varz = view.varz();
            Response {
                status: 200,
                content_type: "text/html; charset=utf-8",
                headers: &[],
                body: index::page(&varz.server_name, &varz.version, &normalised(base_path)).into_bytes(),
            }
        }
        Endpoint::Varz => Response::json(&view.varz()),
        Endpoint::Connz => Response::json(&connz::connz(view, &ConnzOptions::from_query(query)?)),
        Endpoint::Routez => Response::json(&routez::routez(view, query.subscriptions()?)),
        Endpoint::Gatewayz => {
            query.subscriptions()?;
            query.boolean("accs")?;
            Response::json(&gatewayz::gatewayz(view))
        }
        Endpoint::Leafz => Response::json(&leafz::leafz(view, query.boolean("subs")?, query.text("acc"))),
        Endpoint::Subsz => Response::json(&subsz::subsz(view, &SubszOptions::from_query(query)?)),
        Endpoint::Accountz => Response::json(&accountz::accountz(view, query.text("acc"))?),
        Endpoint::Accstatz => {
            let options = AccstatzOptions { unused: query.boolean("unused")?, ..AccstatzOptions::default() };
            Response::json(&accstatz::accstatz(view, &options))
        }
        Endpoint::Jsz => Response::json(&jsz::jsz(view, &JszOptions::from_query(query)?)?),
        Endpoint::Healthz => {
            let health = healthz::healthz(view, &HealthzOptions::from_query(query)?);
            Response::monitoring(health.http_status, json::compact(&health))
        }
        Endpoint::Stacksz => Response::monitoring(200, view.stacks().into_bytes()),
        // Three spaces, as the reference has it here.
        Endpoint::Ipqueuesz => {
            let queues = ipqueuesz::ipqueuesz(view, &IpqueueszOptions::from_query(query)?);
            Response::monitoring(200, json::pretty(&queues, b"   "))
        }
        Endpoint::Raftz => Response::plain(404, raftz::NO_GROUPS),
        Endpoint::Expvar => Response {
            status: 200,
            content_type: "application/json; charset=utf-8",
            headers: &[],
            body: expvar::expvar(view),
        },
        Endpoint::Metrics => Response {
            status: 200,
            content_type: metrics::CONTENT_TYPE,
            headers: &[],
            body: metrics::metrics(view).into_bytes(),
        },
    })
}

impl Response {
    fn json(value: &impl Serialize) -> Self {
        Self::monitoring(200, json::pretty(value, b"  "))
    }

    /// What any web page may read.
    fn monitoring(status: u16, body: Vec<u8>) -> Self {
        let headers = &[("Access-Control-Allow-Origin", "*")];
        Self { status, content_type: "application/json", headers, body }
    }

    fn plain(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", headers: &[], body: body.into() }
    }

    fn not_found() -> Self {
        let headers = &[("X-Content-Type-Options", "nosniff")];
        Self { headers, ..Self::plain(404, "404 page not found\n") }
    }
}

/// A base path with one slash before each part and none at the end; empty for the root.
fn normalised(base_path: &str) -> String {
    base_path.split('/').filter(|part| !part.is_empty()).map(|part| format!("/{part}")).collect()
}
