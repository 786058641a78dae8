//! Sonata, a NATS server, as a library.
//!
//! Build [`options::Options`] (or name a configuration file with [`FlagOverrides`]), start a [`Server`] on your tokio
//! runtime, and connect over TCP or within the process:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = sonata::options::Options { host: "127.0.0.1".into(), port: 0, ..Default::default() };
//! let server = sonata::Server::start(options).await?;
//! println!("clients connect to {}", server.client_url());
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! A server owns no global state: several can run in one process.

pub use sonata_conf::flags::FlagOverrides;
pub use sonata_server::{
    Disk, InProcessConnection, Level, LogError, Logger, NATS_VERSION, ReloadError, Server, StartError,
    TlsError, options,
};
