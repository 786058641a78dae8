//! What can go wrong with the judge itself. A server that answers otherwise is no error but a finding.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the judge could not do its work, sorted by who must act.
#[derive(Debug)]
pub enum WireError {
    /// The command line is not understood; the text says what.
    Usage(String),
    /// A script does not follow the form described in the README.
    Script {
        /// The script, as `area/name`.
        script: String,
        /// One-based line in the file.
        line: usize,
        /// What is wrong with the line.
        reason: String,
    },
    /// The list of divergences names a script that does not exist, or its other text is missing.
    Divergence(String),
    /// The server under test did not start, or did not say what it is waited for.
    Server(String),
    /// Certificates could not be made or used.
    Tls(String),
    /// A file or a socket failed.
    Io {
        /// What was being done.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl WireError {
    /// An I/O failure together with what was being done.
    pub fn io(action: impl Into<String>, source: io::Error) -> WireError {
        WireError::Io { action: action.into(), source }
    }

    /// A failed access to `path`.
    pub fn file(path: impl Into<PathBuf>, source: io::Error) -> WireError {
        WireError::Io { action: path.into().display().to_string(), source }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Usage(reason) => write!(f, "{reason}"),
            WireError::Script { script, line, reason } => write!(f, "{script}:{line}: {reason}"),
            WireError::Divergence(reason) => write!(f, "divergences: {reason}"),
            WireError::Server(reason) => write!(f, "server: {reason}"),
            WireError::Tls(reason) => write!(f, "tls: {reason}"),
            WireError::Io { action, source } => write!(f, "{action}: {source}"),
        }
    }
}

impl std::error::Error for WireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WireError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
