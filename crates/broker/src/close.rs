//! Why connections end.

use std::fmt;

/// The reason a connection was closed, as `/connz` and events name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each arm is its text, below")]
pub enum CloseReason {
    ClientClosed = 1,
    AuthenticationTimeout,
    AuthenticationFailure,
    TlsHandshakeError,
    SlowConsumerPendingBytes,
    SlowConsumerWriteDeadline,
    WriteError,
    ReadError,
    ParseError,
    StaleConnection,
    ProtocolViolation,
    BadClientProtocolVersion,
    MaxAccountConnectionsExceeded,
    MaxConnectionsExceeded,
    MaxPayloadExceeded,
    MaxControlLineExceeded,
    MaxSubscriptionsExceeded,
    ServerShutdown,
    AuthenticationExpired,
    MissingAccount,
    Revocation,
    NoRespondersRequiresHeaders,
    ProxyNotTrusted,
    ProxyRequired,
    Kicked,
}

impl CloseReason {
    const ALL: [Self; 25] = [
        Self::ClientClosed,
        Self::AuthenticationTimeout,
        Self::AuthenticationFailure,
        Self::TlsHandshakeError,
        Self::SlowConsumerPendingBytes,
        Self::SlowConsumerWriteDeadline,
        Self::WriteError,
        Self::ReadError,
        Self::ParseError,
        Self::StaleConnection,
        Self::ProtocolViolation,
        Self::BadClientProtocolVersion,
        Self::MaxAccountConnectionsExceeded,
        Self::MaxConnectionsExceeded,
        Self::MaxPayloadExceeded,
        Self::MaxControlLineExceeded,
        Self::MaxSubscriptionsExceeded,
        Self::ServerShutdown,
        Self::AuthenticationExpired,
        Self::MissingAccount,
        Self::Revocation,
        Self::NoRespondersRequiresHeaders,
        Self::ProxyNotTrusted,
        Self::ProxyRequired,
        Self::Kicked,
    ];

    /// The reason whose number this is.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }

    /// Whether what still waits for the client is worth an attempt to send. Not to a client that does not read.
    pub fn flushes(self) -> bool {
        !matches!(
            self,
            Self::SlowConsumerPendingBytes
                | Self::SlowConsumerWriteDeadline
                | Self::WriteError
                | Self::ReadError
                | Self::ClientClosed
                | Self::TlsHandshakeError
        )
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientClosed => "Client Closed",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::AuthenticationFailure => "Authentication Failure",
            Self::TlsHandshakeError => "TLS Handshake Failure",
            Self::SlowConsumerPendingBytes => "Slow Consumer (Pending Bytes)",
            Self::SlowConsumerWriteDeadline => "Slow Consumer (Write Deadline)",
            Self::WriteError => "Write Error",
            Self::ReadError => "Read Error",
            Self::ParseError => "Parse Error",
            Self::StaleConnection => "Stale Connection",
            Self::ProtocolViolation => "Protocol Violation",
            Self::BadClientProtocolVersion => "Bad Client Protocol Version",
            Self::MaxAccountConnectionsExceeded => "Maximum Account Connections Exceeded",
            Self::MaxConnectionsExceeded => "Maximum Connections Exceeded",
            Self::MaxPayloadExceeded => "Maximum Message Payload Exceeded",
            Self::MaxControlLineExceeded => "Maximum Control Line Exceeded",
            Self::MaxSubscriptionsExceeded => "Maximum Subscriptions Exceeded",
            Self::ServerShutdown => "Server Shutdown",
            Self::AuthenticationExpired => "Authentication Expired",
            Self::MissingAccount => "Missing Account",
            Self::Revocation => "Credentials Revoked",
            Self::NoRespondersRequiresHeaders => "No Responders Requires Headers",
            Self::ProxyNotTrusted => "Proxy Not Trusted",
            Self::ProxyRequired => "Proxy Required",
            Self::Kicked => "Kicked",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::CloseReason;

    #[test]
    fn numbers_lead_back() {
        for reason in CloseReason::ALL {
            assert_eq!(CloseReason::from_number(reason as u8), Some(reason));
        }
        assert_eq!(CloseReason::from_number(0), None);
    }
}
