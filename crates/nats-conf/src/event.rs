//! What happens to a connection while it lives, told to the service and written to the log.

use std::fmt;

use crate::error::{HostError, Reason};

/// A change in the life of a connection, or something that it noticed.
///
/// Every event is also written through `tracing`, so a callback is only needed to act on one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Connected, for the first time or again.
    Connected {
        /// To whom.
        server: ServerId,
    },
    /// The connection was lost. What follows is [`Event::AttemptFailed`], [`Event::Connected`] or
    /// [`Event::Closed`].
    Disconnected {
        /// From whom.
        server: ServerId,
    },
    /// An attempt to connect failed.
    AttemptFailed {
        /// Which server was tried.
        server: ServerId,
        /// Which attempt at this server it was, counted from 1 since the last connection.
        attempt: u32,
        /// Why it failed.
        reason: Reason,
    },
    /// The server is going to shut down and will close the connection.
    LameDuck {
        /// Which server.
        server: ServerId,
    },
    /// A subscription takes its messages too slowly; one was dropped.
    SlowConsumer {
        /// The client library's number of the subscription.
        subscription: u64,
    },
    /// The server sent an error, for example that a permission is missing.
    ServerError {
        /// The server's words.
        message: String,
    },
    /// The client drains: it takes no new messages and finishes those it has.
    Draining,
    /// The connection is over, and all further calls on it fail.
    Closed(Closed),
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The service drained it or dropped every handle of it.
    ByClient,
    /// `MaxReconnect` forbids further attempts: the servers that were tried since the connection was lost,
    /// and what became of that. Empty if it forbids any.
    GaveUp(Vec<HostError>),
}

/// A server, by its address and, as far as known, its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerId {
    /// The address, without secrets: `nats://one.example:4222`.
    pub address: String,
    /// The server's name for itself, once it told it.
    pub name: Option<String>,
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({name})", self.address),
            None => f.write_str(&self.address),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { server } => write!(f, "connected to {server}"),
            Self::Disconnected { server } => write!(f, "disconnected from {server}"),
            Self::AttemptFailed { server, attempt, reason } => {
                write!(f, "attempt {attempt} at {server} failed: {reason}")
            }
            Self::LameDuck { server } => write!(f, "{server} is going to shut down"),
            Self::SlowConsumer { subscription } => {
                write!(f, "subscription {subscription} is a slow consumer")
            }
            Self::ServerError { message } => write!(f, "server error: {message}"),
            Self::Draining => f.write_str("draining"),
            Self::Closed(Closed::ByClient) => f.write_str("closed"),
            Self::Closed(Closed::GaveUp(servers)) if servers.is_empty() => {
                f.write_str("closed: reconnecting is switched off")
            }
            Self::Closed(Closed::GaveUp(servers)) => {
                f.write_str("closed: all attempts are used up")?;
                for server in servers {
                    write!(f, "; {server}")?;
                }
                Ok(())
            }
        }
    }
}

/// Writes events to the log, under the name of the connection.
#[derive(Debug)]
pub(crate) struct Log {
    connection: String,
    /// Slow consumer events so far.
    slow: u64,
}

impl Log {
    pub(crate) fn new(connection: Option<&str>) -> Self {
        Self { connection: connection.unwrap_or("nats").to_owned(), slow: 0 }
    }

    pub(crate) fn write(&mut self, event: &Event) {
        let connection = self.connection.as_str();
        match event {
            Event::Connected { server } => tracing::info!(connection, %server, "connected"),
            Event::Disconnected { server } => tracing::warn!(connection, %server, "disconnected"),
            Event::AttemptFailed { server, attempt, reason } => {
                tracing::warn!(connection, %server, attempt, %reason, "attempt to connect failed");
            }
            Event::LameDuck { server } => {
                tracing::warn!(connection, %server, "the server is going to shut down")
            }
            Event::SlowConsumer { subscription } => {
                self.slow = self.slow.saturating_add(1);
                // One event for each message that is dropped: a line for each would make a bad moment worse.
                if self.slow.is_power_of_two() {
                    tracing::warn!(connection, subscription, dropped = self.slow, "slow consumer");
                }
            }
            Event::ServerError { message } => tracing::error!(connection, message, "server error"),
            Event::Draining => tracing::info!(connection, "draining"),
            Event::Closed(Closed::ByClient) => tracing::info!(connection, "closed"),
            Event::Closed(Closed::GaveUp(_)) => tracing::error!(connection, "{event}"),
        }
    }
}
