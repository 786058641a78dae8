//! Who asks a service of another account: the JSON of `Nats-Request-Info`.

use serde::{Deserialize, Serialize};
use sonata_broker::connection::Connection;
use sonata_broker::importing::{Asking, Introduce};
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
