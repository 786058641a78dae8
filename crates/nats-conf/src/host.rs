//! One entry of `Hosts`: an address that may carry a user and password or a token.
//!
//! The secret part is taken off before the address is parsed, so it never reaches the client library, which
//! writes addresses to its logs.

use std::fmt;

use async_nats::ServerAddr;
use serde::de::{Deserialize, Deserializer};

use crate::error::HostFault;
use crate::secret::Secret;

/// The address of a server as it was written: `nats://`, `tls://`, `ws://`, `wss://` or `host:port`, with an
/// optional `user:password@` or `token@`. [`fmt::Debug`] and [`fmt::Display`] leave the secrets out.
///
/// ```
/// let host = nats_conf::Host::from("nats://ann:s3cr3t@one.example:4222");
/// assert_eq!(host.to_string(), "nats://one.example:4222");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Host(Secret);

impl Host {
    /// Reads the address.
    pub(crate) fn parse(&self) -> Result<Server, HostFault> {
        let parts = Parts::of(self.0.expose());
        if !matches!(parts.scheme, "nats" | "tls" | "ws" | "wss") {
            return Err(HostFault::Scheme(parts.scheme.to_owned()));
        }
        let address: ServerAddr =
            parts.address().parse().map_err(|error: std::io::Error| HostFault::Address(error.to_string()))?;
        if address.host().is_empty() {
            return Err(HostFault::NoHost);
        }
        if address.port() == 0 {
            return Err(HostFault::PortZero);
        }
        let login = match parts.userinfo {
            None => None,
            Some(userinfo) => Some(Login::parse(userinfo)?),
        };
        Ok(Server { address, login })
    }
}

impl From<&str> for Host {
    fn from(text: &str) -> Self {
        Self(Secret::from(text.trim()))
    }
}

impl From<String> for Host {
    fn from(text: String) -> Self {
        let text = Secret::from(text);
        Self::from(text.expose())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Parts::of(self.0.expose()).address())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = Parts::of(self.0.expose());
        let login = if parts.userinfo.is_some() { "[redacted]@" } else { "" };
        write!(f, "{}://{login}{}", parts.scheme, parts.rest)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(Secret::deserialize(deserializer)?.expose()))
    }
}

/// An address that was read, and the login that came with it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Without user information.
    pub(crate) address: ServerAddr,
    pub(crate) login: Option<Login>,
}

/// Who to be at a server, from its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    Password { user: Secret, password: Secret },
    Token(Secret),
}

impl Login {
    fn parse(userinfo: &str) -> Result<Self, HostFault> {
        let login = match userinfo.split_once(':') {
            Some((user, password)) => Self::Password { user: decode(user)?, password: decode(password)? },
            None => Self::Token(decode(userinfo)?),
        };
        match &login {
            Self::Password { user: name, .. } | Self::Token(name) if name.is_empty() => Err(HostFault::Login),
            _ => Ok(login),
        }
    }
}

/// An address cut into the three parts that matter here.
struct Parts<'a> {
    scheme: &'a str,
    userinfo: Option<&'a str>,
    rest: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
        // A password may hold a slash or an `@` that nobody encoded, so the last `@` ends it. An `@` that
        // belongs to a path is then mistaken for one that ends a password, which shows too little, never too
        // much.
        match rest.rsplit_once('@') {
            Some((userinfo, rest)) => Self { scheme, userinfo: Some(userinfo), rest },
            None => Self { scheme, userinfo: None, rest },
        }
    }

    fn address(&self) -> String {
        format!("{}://{}", self.scheme, self.rest)
    }
}

/// Undoes percent encoding.
fn decode(text: &str) -> Result<Secret, HostFault> {
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let byte =
                    data_encoding::HEXLOWER_PERMISSIVE.decode(&digits).map_err(|_| HostFault::Login)?;
                bytes.extend_from_slice(&byte);
                rest = tail;
            }
            (b'%', _) => return Err(HostFault::Login),
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    std::str::from_utf8(&bytes).map(Secret::from).map_err(|_| HostFault::Login)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str) -> Option<Login> {
        Host::from(text).parse().unwrap().login
    }

    #[test]
    fn logins_are_taken_off() {
        assert_eq!(login("one:4222"), None);
        assert_eq!(login("nats://t0ken@one"), Some(Login::Token("t0ken".into())));
        assert_eq!(
            login("tls://ann:p%40ss%3Aw@one"),
            Some(Login::Password { user: "ann".into(), password: "p@ss:w".into() })
        );
        assert_eq!(
            login("ann:a@b/c@one"),
            Some(Login::Password { user: "ann".into(), password: "a@b/c".into() })
        );
        for bad in ["nats://:x@one", "nats://@one", "nats://a%4@one", "nats://a%zz@one", "nats://%ff@one"] {
            assert!(matches!(Host::from(bad).parse(), Err(HostFault::Login)), "{bad}");
        }
    }

    #[test]
    fn addresses_show_no_secret() {
        for text in
            ["nats://ann:s3cr3t@one:1", "ann:s3cr3t@one:1", "http://s3cr3t@one:1", "wss://a:b/s3cr3t@one:1"]
        {
            let host = Host::from(text);
            assert!(!format!("{host} {host:?}").contains("s3cr3t"), "{host:?}");
            assert!(!format!("{:?}", host.parse()).contains("s3cr3t"));
        }
    }

    #[test]
    fn ports_have_defaults() {
        let port = |text: &str| Host::from(text).parse().unwrap().address.port();
        assert_eq!(
            (port("one"), port("ws://one"), port("wss://one"), port("tls://[::1]:7")),
            (4222, 80, 443, 7)
        );
    }
}
