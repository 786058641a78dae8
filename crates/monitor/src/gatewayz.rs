//! `/gatewayz`: connections to other clusters. This server has none, and says so.

use serde::Serialize;

use crate::text::Timestamp;
use crate::varz::Disabled;
use crate::view::ServerView;

/// The whole of `/gatewayz`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gatewayz {
    /// The server.
    pub server_id: String,
    /// When this was written.
    pub now: Timestamp,
    /// Connections that this server has made, by cluster: none.
    pub outbound_gateways: Disabled,
    /// Connections that were made to this server, by cluster: none.
    pub inbound_gateways: Disabled,
}

/// Answers `/gatewayz`.
pub fn gatewayz(view: &dyn ServerView) -> Gatewayz {
    Gatewayz {
        server_id: view.server_id(),
        now: view.now(),
        outbound_gateways: Disabled {},
        inbound_gateways: Disabled {},
    }
}
