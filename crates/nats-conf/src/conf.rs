//! The configuration itself: its fields, their defaults and everything that can be checked without a network.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Fault, Problem};
use crate::host::{Host, Server};
use crate::identity::{Identity, Proof};
use crate::key::Key;
use crate::secret::Secret;
use crate::tls::{self, Tls};

/// How a service connects to NATS, as a field of the service's own configuration.
///
/// It deserializes from YAML, JSON and TOML, with the keys of the table in the [crate's introduction](crate),
/// and [from the environment](Self::overlay_env). A new value has the defaults; the fields may be set in code
/// as well.
///
/// ```
/// use nats_conf::{MaxReconnect, NatsConf};
///
/// let mut conf = NatsConf::new(["nats://one.example:4222", "nats://two.example:4222"]);
/// conf.max_reconnect = MaxReconnect::Forever;
/// conf.name = Some("billing".to_owned());
/// assert!(conf.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatsConf {
    /// `Hosts`: the servers; at least one. They are tried in random order.
    pub hosts: Vec<Host>,
    /// `ReconnectWait`: the least time between two attempts at the same server. Default: 5 s.
    pub reconnect_wait: Duration,
    /// `MaxReconnect`: attempts for each server before giving up. Default: 5.
    pub max_reconnect: MaxReconnect,
    /// `UserCred`: path of a `.creds` file, which holds a JWT and the seed that signs for it.
    pub user_cred: Option<PathBuf>,
    /// `NkeyFile`: path of a file with a user's nkey seed.
    pub nkey_file: Option<PathBuf>,
    /// `UserJwt`: a user JWT, or the path of a file that holds one. Signs with `NkeyFile`, which is not
    /// needed if the JWT is a bearer token.
    pub user_jwt: Option<Secret>,
    /// `TlsClientCert`: path of the client certificate (PEM, the chain behind it). Makes TLS required.
    pub tls_client_cert: Option<PathBuf>,
    /// `TlsClientKey`: path of the private key of `TlsClientCert` (PEM, no passphrase).
    pub tls_client_key: Option<PathBuf>,
    /// `TlsCACert`: path of the certificates to trust instead of the platform's (PEM). Makes TLS required.
    pub tls_ca_cert: Option<PathBuf>,
    /// `User`: user name; needs `Password`.
    pub user: Option<String>,
    /// `Password`: password of `User`.
    pub password: Option<Secret>,
    /// `Token`: authorization token.
    pub token: Option<Secret>,
    /// `Name`: name of the connection, shown in the server's monitoring.
    pub name: Option<String>,
    /// `ConnectTimeout`: how long one attempt may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// `PingInterval`: time between two pings to the server; two that are not answered end the connection.
    /// Default: 60 s.
    pub ping_interval: Duration,
    /// `InboxPrefix`: first part of the reply subjects. Default: `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// `JetStreamDomain`: the JetStream domain to use; default: that of the server.
    pub jetstream_domain: Option<String>,
    /// `JetStreamTimeout`: how long to wait for an answer of the JetStream API. Default: 5 s.
    pub jetstream_timeout: Duration,
}

/// How often a server is tried before the connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaxReconnect {
    /// `0`: a connection that is lost stays lost. At the first connection each server is tried once.
    Never,
    /// A positive number: so many attempts for each of the `Hosts`, counted anew after every success.
    Attempts(std::num::NonZeroU32),
    /// A negative number: for ever.
    Forever,
}

impl MaxReconnect {
    /// The value for a number as it is written in a configuration; `None` if it is out of range.
    ///
    /// ```
    /// use nats_conf::MaxReconnect;
    /// assert_eq!(MaxReconnect::from_number(0), Some(MaxReconnect::Never));
    /// assert_eq!(MaxReconnect::from_number(-1), Some(MaxReconnect::Forever));
    /// assert_eq!(MaxReconnect::from_number(5), Some(MaxReconnect::default()));
    /// ```
    pub fn from_number(number: i64) -> Option<Self> {
        if number < 0 {
            return Some(Self::Forever);
        }
        let attempts = u32::try_from(number).ok()?;
        Some(std::num::NonZeroU32::new(attempts).map_or(Self::Never, Self::Attempts))
    }
}

impl Default for MaxReconnect {
    fn default() -> Self {
        Self::Attempts(const { std::num::NonZeroU32::new(5).unwrap() })
    }
}

/// Entries of `Hosts`. Arbitrary; larger than any cluster.
pub(crate) const HOSTS_MAX: usize = 1024;

/// The longest time in a configuration: a day.
pub(crate) const SECONDS_MAX: u32 = 86_400;

impl NatsConf {
    /// The defaults for these servers.
    pub fn new<H: Into<Host>>(hosts: impl IntoIterator<Item = H>) -> Self {
        Self { hosts: hosts.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Checks everything that can be checked without a network, and finds all faults, not only the first: the
    /// values, whether they go together, and the content of every file that is named, up to the dates of JWT
    /// and certificates. It reads files, so it may block for as long as those take.
    ///
    /// Connecting does the same first; this is for a service that wants to know at once, or for a `--check`
    /// flag.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with every fault.
    pub fn validate(&self) -> Result<(), Error> {
        self.prepare().map(drop)
    }

    /// Checks everything and reads what is needed to connect.
    pub(crate) fn prepare(&self) -> Result<Prepared, Error> {
        let now = unix_now();
        let mut faults = Vec::new();
        let servers = self.servers(&mut faults);
        let in_hosts = servers.iter().any(|server| server.login.is_some());
        let identity = Identity::of(self, in_hosts, &mut faults);
        self.check_values(&mut faults);
        // Conflicting identities are not judged further: which of them counts is not known.
        if !faults.iter().any(|fault| matches!(fault.problem, Problem::Conflict(_)))
            && let Err(fault) = identity.load(now)
        {
            faults.push(fault);
        }
        let tls = Tls::load(self, now, &mut faults);
        if faults.is_empty() { Ok(Prepared { servers, identity, tls }) } else { Err(Error::Invalid(faults)) }
    }

    fn servers(&self, faults: &mut Vec<Fault>) -> Vec<Server> {
        let mut fault = |problem| faults.push(Fault::new(Key::Hosts, problem));
        if self.hosts.is_empty() {
            fault(Problem::Missing);
        }
        if self.hosts.len() > HOSTS_MAX {
            fault(Problem::TooMany { max: HOSTS_MAX });
            return Vec::new();
        }
        let mut servers: Vec<Server> = Vec::new();
        for (index, host) in self.hosts.iter().enumerate() {
            match host.parse() {
                Err(why) => fault(Problem::Host { entry: index + 1, fault: why }),
                Ok(server) if server.address.scheme() == "ws" && tls::is_wanted(self) => {
                    fault(Problem::PlainHost(index + 1));
                }
                // The same address twice is one server.
                Ok(server) if servers.iter().any(|known| known.address == server.address) => {}
                Ok(server) => servers.push(server),
            }
        }
        let websockets = servers.iter().filter(|server| server.address.is_websocket()).count();
        if websockets != 0 && websockets != servers.len() {
            fault(Problem::MixedHosts);
        }
        servers
    }

    fn check_values(&self, faults: &mut Vec<Fault>) {
        let longest = Duration::from_secs(SECONDS_MAX.into());
        let times = [
            (Key::ReconnectWait, self.reconnect_wait, Duration::ZERO, "a number of seconds, up to 86400"),
            (Key::ConnectTimeout, self.connect_timeout, SHORTEST, "a number of seconds above 0, up to 86400"),
            (Key::PingInterval, self.ping_interval, SHORTEST, "a number of seconds above 0, up to 86400"),
            (
                Key::JetStreamTimeout,
                self.jetstream_timeout,
                SHORTEST,
                "a number of seconds above 0, up to 86400",
            ),
        ];
        for (key, time, shortest, wanted) in times {
            if time < shortest || time > longest {
                faults.push(Fault::new(key, Problem::Wanted(wanted)));
            }
        }
        if self.inbox_prefix.as_deref().is_some_and(|prefix| !prefix.split('.').all(is_token)) {
            faults.push(Fault::new(
                Key::InboxPrefix,
                Problem::Wanted("a subject without wildcards and spaces"),
            ));
        }
        if self.jetstream_domain.as_deref().is_some_and(|domain| !is_token(domain)) {
            faults.push(Fault::new(
                Key::JetStreamDomain,
                Problem::Wanted("one word without dots, wildcards and spaces"),
            ));
        }
    }
}

/// The shortest time where none at all would mean that nothing ever works.
const SHORTEST: Duration = Duration::from_millis(1);

impl Default for NatsConf {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            reconnect_wait: Duration::from_secs(5),
            max_reconnect: MaxReconnect::default(),
            user_cred: None,
            nkey_file: None,
            user_jwt: None,
            tls_client_cert: None,
            tls_client_key: None,
            tls_ca_cert: None,
            user: None,
            password: None,
            token: None,
            name: None,
            connect_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(60),
            inbox_prefix: None,
            jetstream_domain: None,
            jetstream_timeout: Duration::from_secs(5),
        }
    }
}

/// A configuration without faults, ready to connect.
pub(crate) struct Prepared {
    /// Never empty; no address twice.
    pub(crate) servers: Vec<Server>,
    pub(crate) identity: Identity,
    pub(crate) tls: Tls,
}

impl Prepared {
    /// The proof for one server: the login in its address, or the configured identity, or else the login that
    /// another address carries, since a cluster's servers share their users and tell each other's bare
    /// addresses.
    pub(crate) fn proof(servers: &[Server], identity: &Identity, address: &str) -> Result<Proof, Fault> {
        let own = servers.iter().find(|server| server.address.as_url_str() == address);
        let login = own.and_then(|server| server.login.clone());
        let shared = || servers.iter().find_map(|server| server.login.clone());
        match (login, identity) {
            (Some(login), _) => Ok(Proof::login(login)),
            (None, Identity::Anonymous) => Ok(shared().map_or_else(Proof::default, Proof::login)),
            (None, identity) => identity.load(unix_now()),
        }
    }
}

/// Seconds since 1970.
fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Whether a text can be one part of a subject that names exactly one thing.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>'))
}
