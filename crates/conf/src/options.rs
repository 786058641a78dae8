//! What the configuration means: one typed value, built once, never changed.
//!
//! Fields hold resolved values: defaults are filled in, "unlimited" is `None`, durations are durations.
//! Keys, aliases, help and reload rules are not here but in [`crate::table`], one row per option.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sonata_jwt::claims::Claims;
use sonata_jwt::operator::Operator as OperatorClaims;
use sonata_subject::import::{ServiceSubjects, StreamSubjects};
use sonata_subject::mapping::Mapping;

/// Port for clients when none is configured.
pub const DEFAULT_PORT: u16 = 4222;
/// Address to listen on when none is configured.
pub const DEFAULT_HOST: &str = "0.0.0.0";
/// How long a client may take to authenticate without TLS; with TLS it is the TLS timeout plus one second.
pub const DEFAULT_AUTH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a TLS handshake may take.
pub const DEFAULT_TLS_TIMEOUT: Duration = Duration::from_secs(2);
/// The account of users that name none.
pub const GLOBAL_ACCOUNT: &str = "$G";
/// The system account when none is named.
pub const DEFAULT_SYSTEM_ACCOUNT: &str = "$SYS";

/// Everything a running server was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The file the options were read from.
    pub config_file: Option<PathBuf>,
    /// `sha256:<hex>` over the content of the file.
    pub config_digest: Option<String>,

    /// Address to listen on for clients. Default `0.0.0.0`.
    pub host: String,
    /// Port for clients; 0 lets the system choose a free one. Default 4222.
    pub port: u16,
    /// `host:port` told to clients and servers instead of the real address.
    pub client_advertise: Option<String>,
    /// Name of the server, without spaces. `None`: the server's id.
    pub server_name: Option<String>,
    /// Tags, lower-cased, trimmed, each once, in the order given.
    pub server_tags: Vec<String>,
    /// Free text by key, shown in monitoring.
    pub server_metadata: BTreeMap<String, String>,
    /// Switches for experiments; unknown ones are kept and reported by the server.
    pub feature_flags: BTreeMap<String, bool>,

    /// Log debug lines.
    pub debug: bool,
    /// Log the protocol of clients.
    pub trace: bool,
    /// Log the protocol of the system account too.
    pub trace_verbose: bool,
    /// Log message headers, not payloads.
    pub trace_headers: bool,
    /// Put the time on log lines. Default true.
    pub logtime: bool,
    /// That time is UTC rather than local.
    pub logtime_utc: bool,
    /// File to log to.
    pub log_file: Option<PathBuf>,
    /// Bytes after which the log file is rotated; 0: never.
    pub log_size_limit: u64,
    /// Rotated files kept; 0: all.
    pub log_max_num: u64,
    /// Log to the local syslog.
    pub syslog: bool,
    /// Log to the syslog at this URL.
    pub remote_syslog: Option<String>,
    /// Bytes of a traced message that are printed; 0: all.
    pub max_traced_msg_len: u64,
    /// File that holds the process id while the server runs.
    pub pid_file: Option<PathBuf>,
    /// Directory for the file that lists the server's ports.
    pub ports_file_dir: Option<PathBuf>,
    /// Failed connection attempts to one peer between two log lines. Default 3600.
    pub connect_error_reports: u64,
    /// The same while reconnecting. Default 1.
    pub reconnect_error_reports: u64,

    /// Address for monitoring. Default: `host`.
    pub http_host: String,
    /// Port for monitoring over HTTP; 0 lets the system choose; `None`: off.
    pub http_port: Option<u16>,
    /// Port for monitoring over HTTPS; 0 lets the system choose; `None`: off.
    pub https_port: Option<u16>,
    /// Path below which monitoring answers, as written; see [`Options::http_root`].
    pub http_base_path: String,

    /// Connections at a time; `None`: unlimited. Default 65536.
    pub max_connections: Option<u32>,
    /// Bytes of a protocol line. Default 4096.
    pub max_control_line: u32,
    /// Bytes of a message, headers included. `max_payload <= max_pending`. Default 1 MiB.
    pub max_payload: u32,
    /// Bytes waiting for one client before it counts as slow. Default 64 MiB.
    pub max_pending: u64,
    /// Subscriptions of one connection; `None`: unlimited.
    pub max_subscriptions: Option<u32>,
    /// Tokens in the subject of a subscription; `None`: unlimited.
    pub max_sub_tokens: Option<u8>,
    /// Closed connections remembered for monitoring. Default 10000.
    pub max_closed_clients: u64,
    /// Do not slow down producers that overrun their consumers.
    pub no_fast_producer_stall: bool,
    /// Do not cache the results of subject matching.
    pub disable_sublist_cache: bool,
    /// Do not offer message headers.
    pub no_header_support: bool,

    /// Time between server pings. Default 2 minutes.
    pub ping_interval: Duration,
    /// Unanswered pings after which a connection is stale. Default 2.
    pub ping_max: u32,
    /// How long one write may block. Default 10 seconds.
    pub write_deadline: Duration,
    /// What follows when that time is over.
    pub write_timeout: WriteTimeout,
    /// Time over which clients are closed in lame duck mode, at least 30 s. Default 2 minutes.
    pub lame_duck_duration: Duration,
    /// Time before the first is closed; less than `lame_duck_duration`. Default 10 seconds.
    pub lame_duck_grace_period: Duration,

    /// TLS for clients; `None`: off.
    pub tls: Option<Tls>,
    /// Stapling to this server's certificates what their authorities say of them.
    pub ocsp: Stapling,
    /// Where authorities' answers about clients' certificates are kept. Only used with [`Tls::ocsp_peer`].
    pub ocsp_cache: OcspCache,
    /// Accept clients without TLS although `tls` is set.
    pub allow_non_tls: bool,
    /// Expect the PROXY protocol's header on client connections.
    pub proxy_protocol: bool,

    /// The single user or token, and how long authentication may take.
    pub authorization: Authorization,
    /// Public keys of proxies whose signatures count.
    pub trusted_proxies: Vec<String>,
    /// Users with password, of all accounts.
    pub users: Vec<User>,
    /// Users with an nkey, of all accounts.
    pub nkeys: Vec<NkeyUser>,
    /// Accounts, in the order of the file. `$G` never stands here, `$SYS` only if the file names it.
    pub accounts: Vec<Account>,
    /// Mappings of the global account.
    pub mappings: Vec<Mapping>,
    /// User (or nkey) of those who connect without credentials.
    pub no_auth_user: Option<String>,
    /// Account for the server's own messages. `None`: `$SYS`.
    pub system_account: Option<String>,
    /// Run without any system account.
    pub no_system_account: bool,

    /// Operators whose accounts have the users. Never together with `accounts`, `users`, `nkeys` or `trusted_keys`.
    pub operators: Vec<Operator>,
    /// The same by key alone.
    pub trusted_keys: Vec<String>,
    /// Where the accounts' tokens are. Not `None` when there are operators.
    pub resolver: Option<Resolver>,
    /// TLS towards the resolver.
    pub resolver_tls: Option<Tls>,
    /// Accounts' tokens by public key, each one that its issuer has signed.
    pub resolver_preload: BTreeMap<String, String>,
    /// The only accounts that may have users here, and the system account.
    pub resolver_pinned_accounts: Option<BTreeSet<String>>,
    /// The token of those who present none.
    pub default_sentinel: Option<Secret>,

    /// Directory for streams. `None`: a folder for temporary files, as in the original.
    pub store_dir: Option<PathBuf>,
    /// JetStream; `None`: off.
    pub jetstream: Option<JetStream>,
}

/// The `jetstream` block, or what `-js` alone means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JetStream {
    /// Bytes in memory for all accounts (`max_memory_store`). `None`: three quarters of the host's.
    pub max_memory: Option<u64>,
    /// Bytes in files for all accounts (`max_file_store`). `None`: three quarters of what is free.
    pub max_storage: Option<u64>,
    /// `None`: a publish is acknowledged when it is durable (`always`, the default). A duration: it is acknowledged when
    /// it is written, and synced that often.
    pub sync_interval: Option<Duration>,
    /// The domain.
    pub domain: Option<String>,
    /// Encryption at rest.
    pub encryption: Option<Encryption>,
    /// Unknown fields in API requests are ignored (`strict: false`). Default: they are errors.
    pub lenient: bool,
    /// Limits of every account.
    pub limits: JetStreamLimits,
}

/// The `limits` block of `jetstream`; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JetStreamLimits {
    /// The largest batch of a pull request.
    pub max_request_batch: u64,
    /// The most unacknowledged messages of a consumer.
    pub max_ack_pending: u64,
    /// The longest duplicate window.
    pub duplicate_window: Duration,
    /// Batches that are published.
    pub batch: BatchLimits,
}

/// The `batch` block of JetStream's `limits`; 0 is the default of the kind of batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most open batches of a stream: 50 atomic or 1000 fast ones.
    pub max_inflight_per_stream: u64,
    /// The most open batches of the server: 1000 atomic or 50,000 fast ones.
    pub max_inflight_total: u64,
    /// The most messages of an atomic batch: 1000.
    pub max_messages: u64,
    /// A batch to which nothing is added for so long is given up: 10 s.
    pub timeout: Duration,
}

/// How streams are encrypted on the disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Encryption {
    /// AES-256-GCM instead of ChaCha20-Poly1305.
    pub aes: bool,
    /// The operator's key.
    pub key: Secret,
    /// The key before, while files written with it remain.
    pub previous: Option<Secret>,
}

/// What an account may have of JetStream.
#[derive(Clone, Debug, PartialEq)]
pub enum AllowedJetStream {
    /// All its streams together stay within these limits.
    Whole(AccountJetStream),
    /// Streams of each tier (`R1`, `R3`: by their replicas) stay within limits of their own; other streams it may not have.
    Tiers(BTreeMap<String, AccountJetStream>),
}

/// JetStream of one account; -1 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountJetStream {
    /// Bytes in memory.
    pub max_memory: i64,
    /// Bytes in files.
    pub max_storage: i64,
    /// Streams.
    pub max_streams: i64,
    /// Consumers per stream.
    pub max_consumers: i64,
    /// Unacknowledged messages of a consumer.
    pub max_ack_pending: i64,
    /// Bytes of one stream in memory.
    pub memory_max_stream_bytes: i64,
    /// Bytes of one stream in files.
    pub storage_max_stream_bytes: i64,
    /// Whether every stream must say its `max_bytes`.
    pub max_bytes_required: bool,
}

impl Default for AccountJetStream {
    fn default() -> Self {
        Self {
            max_memory: -1,
            max_storage: -1,
            max_streams: -1,
            max_consumers: -1,
            max_ack_pending: -1,
            memory_max_stream_bytes: -1,
            storage_max_stream_bytes: -1,
            max_bytes_required: false,
        }
    }
}

/// An operator and the token that says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// The token.
    pub token: String,
    /// What it says.
    pub claims: Claims<OperatorClaims>,
}

/// Where the tokens of accounts are.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolver {
    /// Only those of `resolver_preload`.
    Memory,
    /// At this URL, which ends in a slash, followed by the account's key.
    Url(String),
    /// All of them in a directory.
    Full(DirectoryResolver),
    /// Those that were needed in a directory.
    Cache(DirectoryResolver),
}

/// A directory of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectoryResolver {
    /// The directory.
    pub directory: PathBuf,
    /// What becomes of an account that is to be deleted.
    pub removal: Removal,
    /// Accounts at most; `None`: any number.
    pub limit: Option<u64>,
    /// Between comparisons with other servers. Default 1 minute.
    pub interval: Duration,
    /// After which a token is forgotten; `None`: when it expires.
    pub ttl: Option<Duration>,
    /// How long other servers are asked. Default 1.9 seconds.
    pub timeout: Duration,
}

/// What becomes of an account that an operator wants to have deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It stays.
    Refused,
    /// Its file gets the ending `.deleted`.
    Renamed,
    /// Its file goes.
    Deleted,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            config_file: None,
            config_digest: None,
            host: DEFAULT_HOST.to_owned(),
            port: DEFAULT_PORT,
            client_advertise: None,
            server_name: None,
            server_tags: Vec::new(),
            server_metadata: BTreeMap::new(),
            feature_flags: BTreeMap::new(),
            debug: false,
            trace: false,
            trace_verbose: false,
            trace_headers: false,
            logtime: true,
            logtime_utc: false,
            log_file: None,
            log_size_limit: 0,
            log_max_num: 0,
            syslog: false,
            remote_syslog: None,
            max_traced_msg_len: 0,
            pid_file: None,
            ports_file_dir: None,
            connect_error_reports: 3600,
            reconnect_error_reports: 1,
            http_host: DEFAULT_HOST.to_owned(),
            http_port: None,
            https_port: None,
            http_base_path: String::new(),
            max_connections: Some(64 * 1024),
            max_control_line: 4 * 1024,
            max_payload: 1024 * 1024,
            max_pending: 64 * 1024 * 1024,
            max_subscriptions: None,
            max_sub_tokens: None,
            max_closed_clients: 10_000,
            no_fast_producer_stall: false,
            disable_sublist_cache: false,
            no_header_support: false,
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
            write_deadline: Duration::from_secs(10),
            write_timeout: WriteTimeout::Default,
            lame_duck_duration: Duration::from_secs(120),
            lame_duck_grace_period: Duration::from_secs(10),
            tls: None,
            ocsp: Stapling::default(),
            ocsp_cache: OcspCache::default(),
            allow_non_tls: false,
            proxy_protocol: false,
            authorization: Authorization::default(),
            trusted_proxies: Vec::new(),
            users: Vec::new(),
            nkeys: Vec::new(),
            accounts: Vec::new(),
            mappings: Vec::new(),
            no_auth_user: None,
            system_account: None,
            no_system_account: false,
            operators: Vec::new(),
            trusted_keys: Vec::new(),
            resolver: None,
            resolver_tls: None,
            resolver_preload: BTreeMap::new(),
            resolver_pinned_accounts: None,
            default_sentinel: None,
            store_dir: None,
            jetstream: None,
        }
    }
}

impl Options {
    /// How long a client may take to authenticate: what was configured, else the TLS timeout plus one
    /// second with TLS, else [`DEFAULT_AUTH_TIMEOUT`].
    pub fn auth_timeout(&self) -> Duration {
        match (self.authorization.timeout, &self.tls) {
            (Some(timeout), _) => timeout,
            (None, Some(tls)) => tls.timeout + Duration::from_secs(1),
            (None, None) => DEFAULT_AUTH_TIMEOUT,
        }
    }

    /// The name of the system account in force, `None` when there is none.
    pub fn system_account_name(&self) -> Option<&str> {
        match &self.system_account {
            Some(name) => Some(name),
            None if self.no_system_account => None,
            None => Some(DEFAULT_SYSTEM_ACCOUNT),
        }
    }

    /// `http_base_path` with a leading slash, without empty, `.` and `..` parts.
    pub fn http_root(&self) -> String {
        let mut parts: Vec<&str> = Vec::new();
        for part in self.http_base_path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                name => parts.push(name),
            }
        }
        format!("/{}", parts.join("/"))
    }

    /// Whether someone has to prove who they are.
    pub fn auth_required(&self) -> bool {
        self.authorization.user.is_some()
            || self.authorization.token.is_some()
            || !self.users.is_empty()
            || !self.nkeys.is_empty()
    }

    /// Whether a password stands in clear text, which deserves a warning at start. The token is not
    /// counted, and neither are users without password who are known by their certificate.
    pub fn has_plaintext_passwords(&self) -> bool {
        let by_certificate = self.tls.as_ref().is_some_and(|tls| tls.verify_and_map);
        let is_plain = |password: &Secret| {
            let excused = by_certificate && password.expose().is_empty();
            !excused && !password.is_bcrypt()
        };
        let single = self.authorization.password.as_ref();
        single.into_iter().chain(self.users.iter().map(|user| &user.password)).any(is_plain)
    }
}

/// A password or token. `Debug` never shows it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is a bcrypt hash (`$2a$`, `$2b$`, `$2x$`, `$2y$`, a two-digit cost and `$`).
    pub fn is_bcrypt(&self) -> bool {
        matches!(self.0.as_bytes(),
            [b'$', b'2', b'a' | b'b' | b'x' | b'y', b'$', tens, ones, b'$', ..]
                if tens.is_ascii_digit() && ones.is_ascii_digit())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// What happens to a client whose socket took nothing for `write_deadline`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteTimeout {
    /// The kind of connection decides: clients are closed.
    #[default]
    Default,
    /// The connection is closed.
    Close,
    /// Writing is tried again.
    Retry,
}

impl fmt::Display for WriteTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteTimeout::Default => "default",
            WriteTimeout::Close => "close",
            WriteTimeout::Retry => "retry",
        })
    }
}

/// The `tls` block: names of files and rules, nothing loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// Certificates with their keys; one for `cert_file`, many for `certs`, none if only rules were given.
    pub certificates: Vec<CertificateFiles>,
    /// Authorities that client certificates must come from. `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Clients must present a valid certificate. Implied by `verify_and_map`.
    pub verify: bool,
    /// The certificate also says which user the client is.
    pub verify_and_map: bool,
    /// Where this server is the client: accept any certificate.
    pub insecure: bool,
    /// Accepted client keys: lower-case hex SHA-256 of the SubjectPublicKeyInfo. Empty: any.
    pub pinned_certs: BTreeSet<String>,
    /// Whether the handshake comes before the server's INFO.
    pub handshake_first: HandshakeFirst,
    /// Oldest version accepted. Default 1.2.
    pub min_version: TlsVersion,
    /// Names of the suites allowed, in order of preference. Empty: the library's defaults.
    pub cipher_suites: Vec<String>,
    /// Names of the key exchange groups, in order of preference. Empty: the library's defaults.
    pub curve_preferences: Vec<String>,
    /// `cipher_suites` may name broken suites.
    pub allow_insecure_cipher_suites: bool,
    /// How long a handshake may take. Default 2 seconds.
    pub timeout: Duration,
    /// Handshakes begun per second; `None`: unlimited.
    pub connection_rate_limit: Option<u64>,
    /// Authorities are asked about the certificates that clients present. Only with `verify`.
    pub ocsp_peer: Option<OcspPeer>,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            certificates: Vec::new(),
            ca_file: None,
            verify: false,
            verify_and_map: false,
            insecure: false,
            pinned_certs: BTreeSet::new(),
            handshake_first: HandshakeFirst::Off,
            min_version: TlsVersion::V1_2,
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            allow_insecure_cipher_suites: false,
            timeout: DEFAULT_TLS_TIMEOUT,
            connection_rate_limit: None,
            ocsp_peer: None,
        }
    }
}

/// Which of this server's certificates are presented together with what their authority says of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stapling {
    /// Which ones. Default: those that must be.
    pub mode: StaplingMode,
    /// Where to ask. Empty: where each certificate says.
    pub urls: Vec<String>,
}

/// See [`Stapling`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StaplingMode {
    /// Certificates that must be stapled, whatever is said of them.
    #[default]
    Auto,
    /// All, and the server stops when one of them is not good any more.
    Always,
    /// Certificates that must be stapled, and the server stops when one of them is not good any more.
    Must,
    /// None.
    Never,
}

/// How the certificates of clients are checked with their authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspPeer {
    /// By how much the authority's clock may differ. Default 30 seconds.
    pub allowed_clockskew: Duration,
    /// How long one question may take. Default 2 seconds, never zero.
    pub ca_timeout: Duration,
    /// How long an answer holds that does not say how long it does. Default 1 hour.
    pub cache_ttl_when_next_update_unset: Duration,
    /// Whoever is not good is let in with a warning.
    pub warn_only: bool,
    /// Whom the authority does not know is good.
    pub unknown_is_good: bool,
    /// Who cannot be asked about is let in, unless it is remembered to be revoked.
    pub allow_when_ca_unreachable: bool,
}

impl Default for OcspPeer {
    fn default() -> Self {
        OcspPeer {
            allowed_clockskew: Duration::from_secs(30),
            ca_timeout: Duration::from_secs(2),
            cache_ttl_when_next_update_unset: Duration::from_secs(3600),
            warn_only: false,
            unknown_is_good: false,
            allow_when_ca_unreachable: false,
        }
    }
}

/// Where authorities' answers are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspCache {
    /// In memory and, now and then, in a file. Otherwise nowhere. Default true.
    pub is_local: bool,
    /// The folder of the file. Default `_rc_` in the working directory.
    pub local_store: PathBuf,
    /// Answers that say revoked are never forgotten.
    pub preserve_revoked: bool,
    /// Time between two writings of the file. Default 5 minutes, at least one second.
    pub save_interval: Duration,
}

impl Default for OcspCache {
    fn default() -> Self {
        OcspCache {
            is_local: true,
            local_store: "_rc_".into(),
            preserve_revoked: false,
            save_interval: Duration::from_secs(300),
        }
    }
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub cert_file: PathBuf,
    /// The key of the leaf.
    pub key_file: PathBuf,
}

/// Whether the TLS handshake comes before INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandshakeFirst {
    /// INFO first.
    #[default]
    Off,
    /// Handshake first, always.
    Always,
    /// Handshake first if the client begins within this time, else INFO.
    Auto(Duration),
}

/// How long [`HandshakeFirst::Auto`] waits when the file says `auto`.
pub const DEFAULT_HANDSHAKE_FIRST_FALLBACK: Duration = Duration::from_millis(50);

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2
    V1_2,
    /// TLS 1.3
    V1_3,
}

/// The part of the `authorization` block that is not a list of users.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Authorization {
    /// The single user. Never together with `token` or users.
    pub user: Option<String>,
    /// The single user's password.
    pub password: Option<Secret>,
    /// The token that stands for a user.
    pub token: Option<Secret>,
    /// How long authentication may take; see [`Options::auth_timeout`] for the default.
    pub timeout: Option<Duration>,
    /// Whether the single user, or the token's, must come through a trusted proxy.
    pub proxy_required: bool,
    /// Who is asked about clients that this server does not know.
    pub callout: Option<AuthCallout>,
}

/// A service that decides who may connect (ADR-26).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthCallout {
    /// The account's public key whose signature on users counts.
    pub issuer: String,
    /// The account where the service listens; `$G` if none is named.
    pub account: String,
    /// Users, by name or nkey, who connect without the service; never empty.
    pub auth_users: Vec<String>,
    /// The service's public curve key: requests are encrypted for it.
    pub xkey: Option<String>,
    /// Configured accounts whose users the service decides on as well; none: all.
    pub allowed_accounts: Vec<String>,
}

/// A user with a password.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// The name; unique among users and nkeys.
    pub name: String,
    /// The password or its bcrypt hash; may be empty for users known by their certificate.
    pub password: Secret,
    /// The account. `None`: `$G`.
    pub account: Option<String>,
    /// What the user may do. `None`: everything.
    pub permissions: Option<Permissions>,
    /// How the user may connect. `None`: any way.
    pub connection_types: Option<BTreeSet<ConnectionType>>,
    /// Whether the user must come through a trusted proxy.
    pub proxy_required: bool,
}

/// A user with an nkey.
#[derive(Clone, Debug, PartialEq)]
pub struct NkeyUser {
    /// The public key, `U…`.
    pub nkey: String,
    /// The account. `None`: `$G`.
    pub account: Option<String>,
    /// What the user may do. `None`: everything.
    pub permissions: Option<Permissions>,
    /// How the user may connect. `None`: any way.
    pub connection_types: Option<BTreeSet<ConnectionType>>,
    /// Whether the user must come through a trusted proxy.
    pub proxy_required: bool,
}

/// An account of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// The name; unique, never `$G`.
    pub name: String,
    /// The account's public key, `A…`.
    pub nkey: Option<String>,
    /// What all its users together may use.
    pub limits: AccountLimits,
    /// Permissions of its users without own; already copied to them.
    pub default_permissions: Option<Permissions>,
    /// What its streams and consumers may use. `None`: it has no JetStream.
    pub jetstream: Option<AllowedJetStream>,
    /// What other accounts may import.
    pub exports: Vec<Export>,
    /// What comes from other accounts; each is allowed there.
    pub imports: Vec<Import>,
    /// What is published under another name.
    pub mappings: Vec<Mapping>,
    /// Where traces go of messages that carry a sampled `traceparent`.
    pub trace: Option<TraceDestination>,
}

/// Where an account's traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceDestination {
    /// A literal subject of the account.
    pub subject: String,
    /// Of how many of a hundred messages, 1 to 100.
    pub percent: u8,
}

/// Something of an account that others may import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its subjects.
    pub subject: String,
    /// Who may import it. `None`: everybody.
    pub accounts: Option<Vec<String>>,
    /// Which token of the subject must be the importer's name, from 1.
    pub account_token: Option<usize>,
    /// What it is.
    pub what: Exported,
}

/// What an export is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported {
    /// Messages, to be followed.
    Stream,
    /// Something that answers.
    Service(ServiceTerms),
}

/// How a service is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTerms {
    /// How it answers.
    pub response: ResponseType,
    /// How long a response, or the next one, is waited for. `None`: two minutes.
    pub threshold: Option<Duration>,
    /// Measuring of requests.
    pub latency: Option<Latency>,
    /// Whether traces may go on into the account.
    pub allow_trace: bool,
}

/// How a service answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseType {
    /// With one message.
    #[default]
    Singleton,
    /// With any number.
    Stream,
    /// With one in several pieces.
    Chunked,
}

/// Measuring of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Of which requests.
    pub sampling: Sampling,
    /// Where results are published, in the account of the service.
    pub subject: String,
}

/// Which requests are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// So many of a hundred, 1 to 100.
    Percent(u8),
    /// Those whose headers ask for it.
    Headers,
}

/// Something of another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Whose it is.
    pub account: String,
    /// What it is.
    pub what: Imported,
}

/// What is imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// Messages.
    Stream {
        /// What they are called there and here.
        subjects: StreamSubjects,
        /// Whether traces may come in.
        allow_trace: bool,
    },
    /// A service.
    Service {
        /// What requests are called here and there.
        subjects: ServiceSubjects,
        /// Whether it learns who asks in full.
        share: bool,
    },
}

/// Limits of an account; `None`: unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// Connections of its users at a time.
    pub max_connections: Option<u32>,
    /// Subscriptions of one connection.
    pub max_subscriptions: Option<u32>,
    /// Bytes of one message.
    pub max_payload: Option<u32>,
}

/// What a user may publish and subscribe to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Permissions {
    /// Subjects to publish to. With `responses`, `allow` is never `None`.
    pub publish: SubjectPermission,
    /// Subjects, and queue groups on them, to subscribe to.
    pub subscribe: SubjectPermission,
    /// Leave to answer requests on subjects that `publish` does not allow.
    pub responses: Option<ResponsePermission>,
}

/// Allowed and denied subjects; deny wins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubjectPermission {
    /// `None`: everything; empty: nothing.
    pub allow: Option<Vec<PermissionEntry>>,
    /// Never allowed.
    pub deny: Vec<PermissionEntry>,
}

/// A subject of a permission, with a queue group where it is about those. Both may hold wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionEntry {
    /// A valid subject.
    pub subject: String,
    /// Only for subscribing as a member of such a queue group.
    pub queue: Option<String>,
}

/// How freely requests may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePermission {
    /// Answers to one request; `None`: unlimited. Default 1.
    pub max_msgs: Option<u64>,
    /// How long after the request; `None`: for ever. Default 2 minutes.
    pub expires: Option<Duration>,
}

impl Default for ResponsePermission {
    fn default() -> Self {
        ResponsePermission { max_msgs: Some(1), expires: Some(Duration::from_secs(120)) }
    }
}

/// A way to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionType {
    /// The NATS protocol over TCP.
    Standard,
    /// The same over WebSocket.
    Websocket,
    /// A leaf node.
    Leafnode,
    /// A leaf node over WebSocket.
    LeafnodeWs,
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over WebSocket.
    MqttWs,
    /// Within the server's process.
    InProcess,
}

impl ConnectionType {
    /// All of them.
    pub const ALL: [ConnectionType; 7] = [
        ConnectionType::Standard,
        ConnectionType::Websocket,
        ConnectionType::Leafnode,
        ConnectionType::LeafnodeWs,
        ConnectionType::Mqtt,
        ConnectionType::MqttWs,
        ConnectionType::InProcess,
    ];

    /// The name used in files and tokens.
    pub fn name(self) -> &'static str {
        match self {
            ConnectionType::Standard => "STANDARD",
            ConnectionType::Websocket => "WEBSOCKET",
            ConnectionType::Leafnode => "LEAFNODE",
            ConnectionType::LeafnodeWs => "LEAFNODE_WS",
            ConnectionType::Mqtt => "MQTT",
            ConnectionType::MqttWs => "MQTT_WS",
            ConnectionType::InProcess => "IN_PROCESS",
        }
    }

    /// The type of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(name))
    }
}
