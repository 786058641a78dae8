//! Who a server is: keys made at every start.

use nkeys::{KeyPair, XKey};

/// The version of nats-server that this one stands in for. Clients compare it to know what a server can do.
pub const NATS_VERSION: &str = "2.15.1";

/// The JetStream API level of that version, as `INFO` tells it.
pub(crate) const API_LEVEL: u32 = 5;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Public nkey, `N…`.
    pub(crate) id: String,
    /// Public curve key, `X…`.
    pub(crate) curve_key: String,
}

impl Identity {
    pub(crate) fn generate() -> Self {
        Self { id: KeyPair::new_server().public_key(), curve_key: XKey::new().public_key() }
    }
}
