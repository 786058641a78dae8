//! What is wrong with a configuration that could be read: errors and warnings, each with its place.

use std::fmt;

use crate::duration::DurationError;
use crate::grammar::{GrammarError, Place};

/// Why no [`crate::options::Options`] came out.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not in the language of configuration files, or a file could not be read.
    Grammar(GrammarError),
    /// Keys or values are wrong.
    Problems(Problems),
    /// File and flags together contradict themselves.
    Invalid(Invalid),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Grammar(error) => error.fmt(f),
            ConfigError::Problems(problems) => problems.fmt(f),
            ConfigError::Invalid(invalid) => invalid.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::Grammar(error) => Some(error),
            ConfigError::Invalid(error) => Some(error),
            ConfigError::Problems(_) => None,
        }
    }
}

/// All that was found in one file, in the order of the file.
///
/// `Display` gives one line each, every line ended, warnings first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problems {
    /// What keeps the server from starting.
    pub errors: Vec<Problem>,
    /// What only fails a test of the configuration.
    pub warnings: Vec<Problem>,
}

impl Problems {
    /// Whether nothing at all was found.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty() && self.warnings.is_empty()
    }

    pub(crate) fn error(&mut self, place: &Place, kind: ProblemKind) {
        self.errors.push(Problem { place: place.clone(), kind });
    }

    pub(crate) fn warn(&mut self, place: &Place, kind: ProblemKind) {
        self.warnings.push(Problem { place: place.clone(), kind });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.warnings.iter().chain(&self.errors).try_for_each(|problem| writeln!(f, "{problem}"))
    }
}

/// One thing wrong, and where: `file:line:col: message`.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The place of the key, or of the item in a list.
    pub place: Place,
    /// What is wrong.
    pub kind: ProblemKind,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            // There is no place within a file in which there is nothing.
            ProblemKind::EmptyConfig => write!(f, "{}: {}", self.place.file.display(), self.kind),
            _ => write!(f, "{}: {}", self.place, self.kind),
        }
    }
}

/// What is wrong with a key or its value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// No option has this name.
    UnknownField(String),
    /// No option has this name within a block that says so in its own words.
    UnknownFieldIn {
        /// The key.
        field: String,
        /// What was being read.
        parsing: &'static str,
    },
    /// The option exists, but this server cannot do it yet.
    NotSupported(String),
    /// A value of another type was needed.
    WrongType {
        /// The key.
        field: String,
        /// What was needed.
        expected: &'static str,
        /// What was there.
        found: &'static str,
    },
    /// A number is outside its range.
    OutOfRange {
        /// The key.
        field: String,
        /// `is too big`, `can not be negative` and the like.
        reason: &'static str,
    },
    /// A string is no duration.
    Duration {
        /// The key, or the block and the key.
        field: String,
        /// Why not.
        error: DurationError,
    },
    /// A value is wrong in a way of its own; the sentence for the operator.
    Invalid(String),
    /// Two keys contradict each other.
    Conflict(&'static str),
    /// Two users or accounts have one name; the sentence for the operator.
    Duplicate(String),
    /// A value that works, but not as its writer may think.
    Questionable {
        /// The key.
        field: String,
        /// Why.
        reason: String,
    },
    /// A file without any key.
    EmptyConfig,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ProblemKind::*;
        match self {
            UnknownField(field) => write!(f, "unknown field {field:?}"),
            UnknownFieldIn { field, parsing } => write!(f, "Unknown field {field:?} parsing {parsing}"),
            NotSupported(field) => write!(f, "{field}: not supported yet"),
            WrongType { field, expected, found } => {
                // Items of a list have no key.
                let colon = if field.is_empty() { "" } else { ": " };
                write!(f, "{field}{colon}expected {expected}, got {found}")
            }
            OutOfRange { field, reason } => write!(f, "{field} value {reason}"),
            Duration { field, error } => write!(f, "error parsing {field}: {error}"),
            Invalid(sentence) | Duplicate(sentence) => f.write_str(sentence),
            Conflict(sentence) => f.write_str(sentence),
            Questionable { field, reason } => write!(f, "invalid use of field {field:?}: {reason}"),
            EmptyConfig => f.write_str("config has no values or is empty"),
        }
    }
}

/// A contradiction between options that are each right, wherever they were set.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Invalid {
    /// `lame_duck_grace_period` is not below `lame_duck_duration`; both as durations.
    LameDuck(String, String),
    /// `max_payload` is above `max_pending`.
    MaxPayload(u32, u64),
    /// A space in the server's name.
    ServerName,
    /// `no_auth_user` without any user.
    NoUsers(String),
    /// `no_auth_user` is not among the users.
    NoSuchUser(String),
    /// HTTP and HTTPS monitoring at once.
    TwoMonitors(u16, u16),
    /// `client_advertise` is not `host` or `host:port`.
    ClientAdvertise(String),
    /// `system_account` is not among the accounts.
    NoSystemAccount,
    /// The domain of JetStream cannot be part of subjects; the sentence for the operator.
    Domain(String),
    /// The system account among those with JetStream.
    JetStreamOnSystemAccount,
    /// TLS was asked for on the command line without a certificate.
    TlsCertificate,
    /// TLS was asked for on the command line without a key.
    TlsKey,
    /// HTTPS monitoring without certificates.
    HttpsWithoutTls,
    /// Operators together with what they exclude, or without what they need; the sentence for the operator.
    Operator(String),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invalid::LameDuck(grace, duration) => write!(
                f,
                "lame duck grace period ({grace}) should be strictly lower than lame duck duration ({duration})"
            ),
            Invalid::MaxPayload(payload, pending) => {
                write!(f, "max_payload ({payload}) cannot be higher than max_pending ({pending})")
            }
            Invalid::ServerName => f.write_str("server name cannot contain spaces"),
            Invalid::NoUsers(name) => {
                write!(f, "no_auth_user: \"{name}\" present, but users/nkeys are not defined")
            }
            Invalid::NoSuchUser(name) => write!(
                f,
                "no_auth_user: \"{name}\" not present as user or nkey in authorization block or account configuration"
            ),
            Invalid::TwoMonitors(http, https) => {
                write!(f, "can't specify both HTTP ({http}) and HTTPs ({https}) ports")
            }
            Invalid::ClientAdvertise(value) => write!(f, "invalid ClientAdvertise value of {value}"),
            Invalid::NoSystemAccount => f.write_str("error resolving system account: account missing"),
            Invalid::Domain(sentence) | Invalid::Operator(sentence) => f.write_str(sentence),
            Invalid::JetStreamOnSystemAccount => {
                f.write_str("Not allowed to enable JetStream on the system account")
            }
            Invalid::TlsCertificate => f.write_str("TLS Server certificate must be present and valid"),
            Invalid::TlsKey => f.write_str("TLS Server private key must be present and valid"),
            Invalid::HttpsWithoutTls => f.write_str("TLS cert and key required for HTTPS"),
        }
    }
}

impl std::error::Error for Invalid {}
