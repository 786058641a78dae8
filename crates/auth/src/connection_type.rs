//! The kinds of connections a user may be restricted to.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// How a client is connected, as `allowed_connection_types` names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ConnectionType {
    /// The NATS protocol over TCP or TLS.
    #[default]
    Standard,
    /// The NATS protocol over WebSocket.
    Websocket,
    /// A leaf node.
    Leafnode,
    /// A leaf node over WebSocket.
    LeafnodeWs,
    /// MQTT.
    Mqtt,
    /// MQTT over WebSocket.
    MqttWs,
    /// A client inside the server's own process.
    InProcess,
}

impl ConnectionType {
    /// All of them, in the order of their bits in [`ConnectionTypes`].
    pub const ALL: [Self; 7] = [
        Self::Standard,
        Self::Websocket,
        Self::Leafnode,
        Self::LeafnodeWs,
        Self::Mqtt,
        Self::MqttWs,
        Self::InProcess,
    ];

    /// The name in configurations and user claims.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::Websocket => "WEBSOCKET",
            Self::Leafnode => "LEAFNODE",
            Self::LeafnodeWs => "LEAFNODE_WS",
            Self::Mqtt => "MQTT",
            Self::MqttWs => "MQTT_WS",
            Self::InProcess => "IN_PROCESS",
        }
    }
}

impl FromStr for ConnectionType {
    type Err = UnknownConnectionType;

    /// Reads a name in any case.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnknownConnectionType(name.into()))
    }
}

/// A set of connection types. The empty set restricts nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionTypes(u8);

impl ConnectionTypes {
    /// Whether a connection of this type is allowed: it is in the set, or the set is empty.
    pub fn allow(self, wanted: ConnectionType) -> bool {
        self.0 == 0 || self.contains(wanted)
    }

    /// Whether the type is in the set.
    pub fn contains(self, wanted: ConnectionType) -> bool {
        self.0 & Self::bit(wanted) != 0
    }

    /// Whether nothing is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn bit(of: ConnectionType) -> u8 {
        1 << of as u8
    }
}

impl FromIterator<ConnectionType> for ConnectionTypes {
    fn from_iter<T: IntoIterator<Item = ConnectionType>>(types: T) -> Self {
        Self(types.into_iter().fold(0, |bits, one| bits | Self::bit(one)))
    }
}

/// The operator's mistake: no connection type has this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownConnectionType(pub String);

impl fmt::Display for UnknownConnectionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown connection type {:?}", self.0.to_uppercase())
    }
}

impl Error for UnknownConnectionType {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case() {
        for known in ConnectionType::ALL {
            assert_eq!(known.name().parse(), Ok(known));
            assert_eq!(known.name().to_lowercase().parse(), Ok(known));
        }
        let unknown = "carrier_pigeon".parse::<ConnectionType>().unwrap_err();
        assert_eq!(unknown.to_string(), "unknown connection type \"CARRIER_PIGEON\"");
    }

    #[test]
    fn only_the_empty_set_allows_what_it_does_not_contain() {
        let none = ConnectionTypes::default();
        let two: ConnectionTypes = [ConnectionType::Standard, ConnectionType::MqttWs].into_iter().collect();
        for one in ConnectionType::ALL {
            assert!(none.allow(one) && !none.contains(one));
            let inside = matches!(one, ConnectionType::Standard | ConnectionType::MqttWs);
            assert_eq!((two.allow(one), two.contains(one)), (inside, inside), "{one:?}");
        }
    }
}
