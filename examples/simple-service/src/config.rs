//! What `etc/service.yaml` says.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nats_conf::NatsConf;
use serde::Deserialize;

use crate::Error;

/// Variables with this prefix win over the `Nats` block of the file: `SERVICE_NATS_HOSTS` and so on.
const ENVIRONMENT_PREFIX: &str = "SERVICE_NATS";

/// The service's own fields, with the `Nats` block among them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ServiceConf {
    /// Where the endpoint listens; port 0 for a free one.
    pub listen: SocketAddr,
    /// Folder for the streams of the embedded server.
    pub store_dir: PathBuf,
    /// The stream of orders.
    pub orders: OrdersConf,
    /// How to reach NATS. Without hosts a server is started within the service.
    pub nats: NatsConf,
}

/// Names on the server.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct OrdersConf {
    /// The stream.
    pub stream: String,
    /// The subject that it stores.
    pub subject: String,
    /// The durable consumer of the workers. Workers with the same name share the orders.
    pub worker: String,
}

impl ServiceConf {
    /// Reads the file, and then the environment over it.
    ///
    /// # Errors
    /// The file cannot be read, or a key or variable is wrong; the error names it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let mut conf: Self = nats_conf::load_yaml(path)?;
        conf.nats.overlay_env(ENVIRONMENT_PREFIX)?;
        Ok(conf)
    }
}
