//! A NATS server as a library: the crate that has sockets, tasks, files and clocks, and wires the rest.
//!
//! [`server::Server`] is the face for embedders. A connection's life is `serve`; its transport `socket` (plain, TLS,
//! or a `pipe` within the process); what stays of its input between turns `inbound`. `settings` translates what the
//! configuration means into what the broker lives by; `monitoring` shows the server over HTTP, `system` in the system
//! account.

mod callout;
mod chain;
mod clock;
mod connections;
mod files;
mod http_client;
mod identity;
mod inbound;
mod inner;
mod introduction;
mod jetstream;
mod links;
mod listener;
mod logger;
mod lookout;
mod monitoring;
mod nowhere;
mod ocsp;
mod operator;
mod pipe;
mod process;
mod serve;
pub mod server;
mod settings;
mod shares;
mod slow;
mod socket;
mod system;
mod tls;
mod view;
mod workers;

pub use files::Disk;
pub use identity::NATS_VERSION;
pub use logger::{LogError, Logger};
pub use pipe::InProcessConnection;
pub use server::{ReloadError, Server, StartError};
pub use sonata_broker::shared::Level;
pub use sonata_conf::options;
pub use tls::{TlsError, check_tls};
