//! Putting one value into its field, whether it comes from a file or from an environment variable.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::conf::{MaxReconnect, NatsConf, SECONDS_MAX};
use crate::error::Problem;
use crate::host::Host;
use crate::identity::is_seed;
use crate::key::Key;
use crate::secret::Secret;

/// A value as it was found. Any text may be a secret.
pub(crate) enum Value {
    /// Nothing, or an empty text, which means the default.
    None,
    Text(Secret),
    Integer(i64),
    Number(f64),
    Hosts(Vec<Host>),
    /// Something that no key takes.
    Other,
}

impl Value {
    pub(crate) fn text(text: impl Into<Secret>) -> Self {
        let text = text.into();
        if text.is_empty() { Self::None } else { Self::Text(text) }
    }
}

/// Puts a value into the field of a key.
pub(crate) fn put(conf: &mut NatsConf, key: Key, value: Value) -> Result<(), Problem> {
    let defaults = NatsConf::default;
    match key {
        Key::Hosts => conf.hosts = hosts(value)?,
        Key::ReconnectWait => conf.reconnect_wait = seconds(value)?.unwrap_or(defaults().reconnect_wait),
        Key::MaxReconnect => conf.max_reconnect = attempts(value)?,
        Key::UserCred => conf.user_cred = path(value)?,
        Key::NkeyFile => {
            let path = path(value)?;
            // A path is shown in logs and errors, so the seed must not get there.
            if path.as_deref().is_some_and(is_seed) {
                return Err(Problem::SeedItself);
            }
            conf.nkey_file = path;
        }
        Key::UserJwt => conf.user_jwt = secret(value)?,
        Key::TlsClientCert => conf.tls_client_cert = path(value)?,
        Key::TlsClientKey => conf.tls_client_key = path(value)?,
        Key::TlsCACert => conf.tls_ca_cert = path(value)?,
        Key::User => conf.user = text(value)?,
        Key::Password => conf.password = secret(value)?,
        Key::Token => conf.token = secret(value)?,
        Key::Name => conf.name = text(value)?,
        Key::ConnectTimeout => conf.connect_timeout = seconds(value)?.unwrap_or(defaults().connect_timeout),
        Key::PingInterval => conf.ping_interval = seconds(value)?.unwrap_or(defaults().ping_interval),
        Key::InboxPrefix => conf.inbox_prefix = text(value)?,
        Key::JetStreamDomain => conf.jetstream_domain = text(value)?,
        Key::JetStreamTimeout => {
            conf.jetstream_timeout = seconds(value)?.unwrap_or(defaults().jetstream_timeout)
        }
    }
    Ok(())
}

/// A list, or a text with commas between the addresses, as NATS clients take it on a command line.
fn hosts(value: Value) -> Result<Vec<Host>, Problem> {
    match value {
        Value::None => Ok(Vec::new()),
        Value::Hosts(hosts) => Ok(hosts),
        Value::Text(text) => Ok(text
            .expose()
            .split(',')
            .map(str::trim)
            .filter(|host| !host.is_empty())
            .map(Host::from)
            .collect()),
        _ => Err(Problem::Wanted("a list of server addresses")),
    }
}

fn secret(value: Value) -> Result<Option<Secret>, Problem> {
    match value {
        Value::None => Ok(None),
        Value::Text(text) => Ok(Some(text)),
        _ => Err(Problem::Wanted("a text")),
    }
}

fn text(value: Value) -> Result<Option<String>, Problem> {
    Ok(secret(value)?.map(|text| text.expose().to_owned()))
}

fn path(value: Value) -> Result<Option<PathBuf>, Problem> {
    Ok(secret(value)?.map(|text| Path::new(text.expose()).to_owned()))
}

fn seconds(value: Value) -> Result<Option<Duration>, Problem> {
    let seconds = match value {
        Value::None => return Ok(None),
        Value::Text(text) => text.expose().trim().parse().ok(),
        Value::Integer(seconds) => u32::try_from(seconds).ok().map(f64::from),
        Value::Number(seconds) => Some(seconds),
        Value::Hosts(_) | Value::Other => None,
    };
    seconds
        .filter(|seconds| (0.0..=f64::from(SECONDS_MAX)).contains(seconds))
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .map(Some)
        .ok_or(Problem::Wanted("a number of seconds, 0 to 86400"))
}

fn attempts(value: Value) -> Result<MaxReconnect, Problem> {
    let number = match value {
        Value::None => return Ok(MaxReconnect::default()),
        Value::Text(text) => text.expose().trim().parse().ok(),
        Value::Integer(number) => Some(number),
        _ => None,
    };
    number.and_then(MaxReconnect::from_number).ok_or(Problem::Wanted("a whole number up to 4294967295"))
}
