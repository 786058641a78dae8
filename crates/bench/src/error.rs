//! Why a run ended without figures.

use std::{fmt, io};

use crate::verify::Fault;

/// Everything that ends a run, by whose fault it is.
#[derive(Debug)]
pub enum BenchError {
    /// The command line does not make sense; the text says what to write instead.
    Usage(String),
    /// The server did something that is not right. This is what the checks are for.
    Check {
        /// Which connection saw it.
        connection: String,
        /// What it saw.
        fault: Fault,
    },
    /// The server could not be started or spoken to.
    Server(String),
    /// The machine refused something.
    System {
        /// What was tried.
        action: String,
        /// Its answer.
        source: io::Error,
    },
}

impl BenchError {
    /// An error of the machine, with what was tried.
    pub fn system(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System { action: action.into(), source: source.into() }
    }

    /// A fault seen on a connection.
    pub fn check(connection: impl Into<String>, fault: impl Into<Fault>) -> Self {
        Self::Check { connection: connection.into(), fault: fault.into() }
    }

    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Check { .. } => 1,
            Self::Usage(_) => 2,
            Self::Server(_) | Self::System { .. } => 3,
        }
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Check { connection, fault } => write!(f, "CHECK FAILED on {connection}: {fault}"),
            Self::Server(text) => write!(f, "server: {text}"),
            Self::System { action, source } => write!(f, "cannot {action}: {source}"),
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { source, .. } => Some(source),
            _ => None,
        }
    }
}
