//! From a configuration file to a ready NATS connection or JetStream context.
//!
//! A service declares its NATS connection in its own configuration and gets a connected
//! [`async_nats::Client`] or JetStream context. Every key does what it says, every fault names the key or the
//! file and why, nothing ends the process. It is not a client library of its own: what it returns is that of
//! `async-nats`.
//!
//! ```no_run
//! use nats_conf::NatsConf;
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct ServiceConf {
//!     listen: String,
//!     nats: NatsConf,
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut conf: ServiceConf = nats_conf::load_yaml("etc/service.yaml")?;
//! conf.nats.overlay_env("SERVICE_NATS")?;
//! let client = conf.nats.new_connection().await?;
//! # drop(client);
//! # Ok(())
//! # }
//! ```
//!
//! # Keys
//!
//! | Key | Default | Meaning |
//! | --- | --- | --- |
//! | `Hosts` | required | server addresses: `nats://`, `tls://`, `ws://`, `wss://` or `host:port`, with user and password or token if wanted |
//! | `ReconnectWait` | 5 | seconds between two attempts at the same server |
//! | `MaxReconnect` | 5 | attempts for each server before giving up; 0: never reconnect; negative: for ever |
//! | `UserCred` | none | path of a `.creds` file |
//! | `NkeyFile` | none | path of an nkey seed file |
//! | `UserJwt` | none | a user JWT, or the path of one; signs with `NkeyFile` |
//! | `TlsClientCert`, `TlsClientKey` | none | paths of a client certificate and its key |
//! | `TlsCACert` | none | path of the certificates to trust |
//! | `User`, `Password` | none | user and password |
//! | `Token` | none | authorization token |
//! | `Name` | none | name of the connection |
//! | `ConnectTimeout` | 5 | seconds that one attempt may take |
//! | `PingInterval` | 60 | seconds between two pings |
//! | `InboxPrefix` | `_INBOX` | first part of reply subjects |
//! | `JetStreamDomain` | the server's | JetStream domain |
//! | `JetStreamTimeout` | 5 | seconds to wait for an answer of the JetStream API |
//!
//! Keys may be spelled so or in snake_case (`max_reconnect`, `tls_ca_cert`, `jetstream_domain`). Seconds may
//! have a fraction. An empty value is the same as none. `UserCred`, `NkeyFile` with or without `UserJwt`,
//! `User`, `Token` and logins in `Hosts` exclude each other.

pub use async_nats;

pub use conf::{MaxReconnect, NatsConf};
pub use error::{Error, Fault, HostError, HostFault, Problem, Reason};
pub use event::{Closed, Event, ServerId};
pub use host::Host;
pub use key::Key;
pub use load::{LoadError, load_yaml, parse_yaml};
pub use nkey::{NkeyKind, SeedFault};
pub use secret::Secret;

mod conf;
mod connection;
mod deserialize;
mod environment;
mod error;
mod event;
mod file;
mod host;
mod identity;
mod jwt;
mod key;
mod load;
mod nkey;
mod plan;
mod secret;
mod tls;
mod value;
