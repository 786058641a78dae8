//! Who a server is: keys made at every start.

use std::fmt;
use std::sync::Arc;

use nkeys::KeyPair;
use sonata_jwt::xkey::Curve;

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
    /// The same keys with their secret halves.
    pub(crate) keys: Arc<Keys>,
}

/// What only this server has.
pub(crate) struct Keys {
    pub(crate) signing: KeyPair,
    pub(crate) curve: Curve,
}

/// Not for logs.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl Identity {
    pub(crate) fn generate() -> Self {
        let keys = Keys { signing: KeyPair::new_server(), curve: Curve::from_random(rand::random()) };
        Self { id: keys.signing.public_key(), curve_key: keys.curve.public_key(), keys: Arc::new(keys) }
    }
}
