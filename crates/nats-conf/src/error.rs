//! What can go wrong, sorted by whose fault it is.
//!
//! [`Error::Invalid`] is for whoever wrote the configuration, [`Error::Refused`] for whoever keeps the users,
//! [`Error::Unreachable`] for whoever runs the servers or the network. No text of an error holds a secret.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::key::Key;
use crate::nkey::{NkeyKind, SeedFault};

/// Why there is no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The configuration, or a file that it names, is at fault. Holds every fault that was found, never none.
    Invalid(Vec<Fault>),
    /// Every server refused to let this client in; trying again would not help.
    Refused(Vec<HostError>),
    /// No server could be reached in all the attempts that the configuration allows: the last error of each.
    Unreachable(Vec<HostError>),
    /// There is no Tokio runtime here to run the connection.
    NoRuntime,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(faults) => list(f, "invalid configuration", faults),
            Self::Refused(hosts) => list(f, "authorization refused", hosts),
            Self::Unreachable(hosts) => list(f, "no server reached", hosts),
            Self::NoRuntime => f.write_str("a connection needs a Tokio runtime, and there is none"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Invalid(faults) => faults.first().map(|fault| fault as _),
            Self::Refused(hosts) | Self::Unreachable(hosts) => hosts.first().map(|host| host as _),
            Self::NoRuntime => None,
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, title: &str, items: &[impl fmt::Display]) -> fmt::Result {
    f.write_str(title)?;
    for (index, item) in items.iter().enumerate() {
        write!(f, "{} {item}", if index == 0 { ":" } else { ";" })?;
    }
    Ok(())
}

/// One thing wrong with the configuration: at which key, in which file, and why.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fault {
    /// The key at fault.
    pub key: Key,
    /// The file that the key names, if the fault is in it.
    pub path: Option<PathBuf>,
    /// What is wrong.
    pub problem: Problem,
}

impl Fault {
    pub(crate) fn new(key: Key, problem: Problem) -> Self {
        Self { key, path: None, problem }
    }

    pub(crate) fn file(key: Key, path: &Path, problem: Problem) -> Self {
        Self { key, path: Some(path.to_owned()), problem }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}: {}", self.key, path.display(), self.problem),
            None => write!(f, "{}: {}", self.key, self.problem),
        }
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.problem {
            Problem::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}

/// What is wrong at a key or in a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// A required key has no value.
    Missing,
    /// Two keys exclude each other; this is the other one.
    Conflict(Key),
    /// The key means nothing without this one.
    Needs(Key),
    /// The value is not of the kind that is wanted, which is named.
    Wanted(&'static str),
    /// More entries than are allowed.
    TooMany {
        /// The most that are allowed.
        max: usize,
    },
    /// An entry of `Hosts` is no address.
    Host {
        /// Which entry, counted from 1.
        entry: usize,
        /// Why.
        fault: HostFault,
    },
    /// An environment variable looks like a misspelling of the one for this key.
    Misspelled {
        /// The variable that was found.
        variable: String,
        /// The variable that was probably meant.
        nearest: String,
    },
    /// The file cannot be read.
    Unreadable(io::Error),
    /// The file is larger than any file of its kind.
    TooLarge {
        /// The most that is read, in bytes.
        bytes_max: usize,
    },
    /// The file holds no nkey seed.
    NoSeed,
    /// A seed was given where the path of a file belongs.
    SeedItself,
    /// The seed is damaged.
    BadSeed(SeedFault),
    /// The seed is a good one, but not of a user.
    WrongSeed(NkeyKind),
    /// The file holds no JWT.
    NoJwt,
    /// The JWT cannot be read.
    BadJwt(&'static str),
    /// The JWT's signature does not match its content.
    ForgedJwt,
    /// The JWT is not that of a user, but of what is named.
    WrongJwt(String),
    /// The JWT, or the certificate, ceased to be valid at this time, in seconds since 1970.
    Expired(i64),
    /// The JWT, or the certificate, will be valid from this time on, in seconds since 1970.
    NotYetValid(i64),
    /// The seed belongs to another user than the JWT.
    SeedOfOther {
        /// Public key of the user in the JWT.
        jwt: String,
        /// Public key of the seed.
        seed: String,
    },
    /// The file holds no certificate in PEM form.
    NoCertificate,
    /// A certificate in the file cannot be read.
    BadCertificate(String),
    /// The file holds no private key in PEM form.
    NoPrivateKey,
    /// The private key cannot be used.
    BadPrivateKey(String),
    /// The private key does not belong to the certificate in this file.
    KeyMismatch(PathBuf),
    /// TLS was configured and this entry of `Hosts`, counted from 1, is a `ws://` address, which is never
    /// encrypted.
    PlainHost(usize),
    /// `Hosts` mixes WebSocket addresses with others.
    MixedHosts,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("required"),
            Self::Conflict(Key::Hosts) => f.write_str("cannot be used together with a login in Hosts"),
            Self::Conflict(other) => write!(f, "cannot be used together with {other}"),
            Self::Needs(other) => write!(f, "needs {other}"),
            Self::Wanted(what) => write!(f, "must be {what}"),
            Self::TooMany { max } => write!(f, "more than {max} entries"),
            Self::Host { entry, fault } => write!(f, "entry {entry}: {fault}"),
            Self::Misspelled { variable, nearest } => {
                write!(f, "unknown environment variable {variable}, the nearest known one is {nearest}")
            }
            Self::Unreadable(error) => f.write_str(&io_text(error)),
            Self::TooLarge { bytes_max } => write!(f, "larger than {bytes_max} bytes"),
            Self::NoSeed => f.write_str("no nkey seed found"),
            Self::SeedItself => {
                f.write_str("this is a seed itself; the path of a file that holds it is needed")
            }
            Self::BadSeed(fault) => write!(f, "damaged nkey seed: {fault}"),
            Self::WrongSeed(kind) => write!(f, "the seed of {kind} key, a user seed (SU...) is needed"),
            Self::NoJwt => f.write_str("no JWT found"),
            Self::BadJwt(why) => write!(f, "unreadable JWT: {why}"),
            Self::ForgedJwt => f.write_str("the JWT's signature does not match its content"),
            Self::WrongJwt(kind) => write!(f, "the JWT is of type \"{kind}\", a user JWT is needed"),
            Self::Expired(at) => write!(f, "expired at {}", date(*at)),
            Self::NotYetValid(at) => write!(f, "not valid before {}", date(*at)),
            Self::SeedOfOther { jwt, seed } => {
                write!(f, "the seed is that of {seed}, but the JWT is for {jwt}")
            }
            Self::NoCertificate => f.write_str("no certificate found (PEM form is needed)"),
            Self::BadCertificate(why) => write!(f, "unreadable certificate: {why}"),
            Self::NoPrivateKey => {
                f.write_str("no private key found (PEM form, without a passphrase, is needed)")
            }
            Self::BadPrivateKey(why) => write!(f, "unusable private key: {why}"),
            Self::KeyMismatch(path) => write!(f, "does not belong to the certificate in {}", path.display()),
            Self::PlainHost(entry) => {
                write!(f, "entry {entry}: TLS is configured, but ws:// is never encrypted; use wss://")
            }
            Self::MixedHosts => f.write_str("ws:// and wss:// cannot be mixed with nats:// and tls://"),
        }
    }
}

/// Why an entry of `Hosts` is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostFault {
    /// A scheme that is not of NATS.
    Scheme(String),
    /// It cannot be read as an address, for the reason given.
    Address(String),
    /// It names no host.
    NoHost,
    /// Port 0, where nobody can listen.
    PortZero,
    /// The part before `@` has no user or is wrongly percent-encoded.
    Login,
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(scheme) => {
                write!(f, "unknown scheme {scheme}://, use nats://, tls://, ws:// or wss://")
            }
            Self::Address(why) => f.write_str(why),
            Self::NoHost => f.write_str("no host name"),
            Self::PortZero => f.write_str("port 0"),
            Self::Login => f.write_str("the user information before @ is empty or wrongly percent-encoded"),
        }
    }
}

/// What became of the attempts at one server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostError {
    /// The server's address, without secrets.
    pub server: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong the last time.
    pub reason: Reason,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = if self.attempts == 1 { "attempt" } else { "attempts" };
        write!(f, "{} ({} {times}): {}", self.server, self.attempts, self.reason)
    }
}

impl StdError for HostError {}

/// Why one attempt at one server failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The host's name has no address.
    Lookup(String),
    /// The connection could not be made or was lost again.
    Network(String),
    /// The server did not answer within `ConnectTimeout`.
    Timeout,
    /// The TLS handshake failed: an unknown authority, an expired certificate, a missing client certificate.
    Tls(String),
    /// The server answered that this client may not come in.
    Refused(String),
    /// The identity could not be proved, for example since its file has changed or is gone.
    Identity(String),
    /// The server's words were not understood, or it sent an error.
    Server(String),
    /// A reason known only as text, during a reconnection.
    Other(String),
}

impl Reason {
    /// Whether the same attempt a few seconds later would end in the same way.
    ///
    /// Certificates, identities and rights are changed by people. At the first connection, when nobody waits
    /// for a server to come back, an attempt that ends so is not repeated.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Refused(_) | Self::Identity(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(why) => write!(f, "no address: {why}"),
            Self::Network(why) | Self::Server(why) | Self::Other(why) => f.write_str(why),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Identity(why) => write!(f, "identity: {why}"),
        }
    }
}

/// Words from the network, cut to what fits in a line of a log.
pub(crate) fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS_MAX).collect()
}

/// The words of an I/O error without the operating system's number, alike on every platform.
pub(crate) fn io_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        kind if error.raw_os_error().is_some() => kind.to_string(),
        _ => error.to_string(),
    }
}

fn date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} s after 1970"))
}
