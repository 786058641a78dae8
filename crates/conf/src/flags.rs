//! The command line, in the manner of Go's flags: one dash or two, `-f=value` or `-f value`, and
//! switches as `-f` or `-f=false`.
//!
//! [`parse`] says what the process is to do; [`load`] makes [`Options`] of flags and file. Flags win over
//! the file, also in a reload, for which `load` is simply called again with the same flags.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::ciphers;
use crate::options::{CertificateFiles, JetStream, Options, Secret, Tls};
use crate::problem::{ConfigError, Invalid, Problems};
use crate::read::{Port, read_file};
use crate::source::Source;
use crate::validate;

/// Exit code of a process whose flags could not be understood.
pub const USAGE_EXIT_CODE: i32 = 2;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Print [`help`] and exit.
    Help,
    /// Print [`help_tls`] and exit.
    HelpTls,
    /// Print the version and exit.
    Version,
    /// Send a signal to a running server and exit.
    Signal {
        /// What to tell it.
        command: SignalCommand,
        /// A process id, a file that holds one, or the begin of ids with `*` at the end. `None`: the only
        /// server that runs.
        target: Option<String>,
    },
    /// Read the configuration with [`test_config`], say whether it is right, and exit.
    TestConfig {
        /// The file.
        path: PathBuf,
    },
    /// Run the server.
    Run(FlagOverrides),
}

/// What a running server can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalCommand {
    /// Enter lame duck mode (SIGUSR2).
    LameDuck,
    /// End at once (SIGKILL).
    Stop,
    /// End in order (SIGINT).
    Quit,
    /// End in order unless in lame duck mode (SIGTERM).
    Terminate,
    /// Open the log file again (SIGUSR1).
    Reopen,
    /// Read the configuration again (SIGHUP).
    Reload,
}

impl SignalCommand {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ldm" => SignalCommand::LameDuck,
            "stop" => SignalCommand::Stop,
            "quit" => SignalCommand::Quit,
            "term" => SignalCommand::Terminate,
            "reopen" => SignalCommand::Reopen,
            "reload" => SignalCommand::Reload,
            _ => return None,
        })
    }
}

/// Options that were given on the command line; `None`: not given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlagOverrides {
    /// The configuration file.
    pub config: Option<PathBuf>,
    host: Option<String>,
    port: Option<Port>,
    server_name: Option<String>,
    client_advertise: Option<String>,
    pid_file: Option<String>,
    ports_file_dir: Option<String>,
    http_port: Option<Port>,
    https_port: Option<Port>,
    log_file: Option<String>,
    store_dir: Option<String>,
    jetstream: Option<bool>,
    log_size_limit: Option<u64>,
    syslog: Option<bool>,
    remote_syslog: Option<String>,
    logtime: Option<bool>,
    logtime_utc: Option<bool>,
    debug: Option<bool>,
    trace: Option<bool>,
    trace_verbose: Option<bool>,
    max_traced_msg_len: Option<u64>,
    user: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
    tls: Option<bool>,
    tls_verify: Option<bool>,
    tls_cert: Option<String>,
    tls_key: Option<String>,
    tls_ca: Option<String>,
}

impl FlagOverrides {
    /// Nothing but a configuration file, as from `-c <path>`.
    pub fn with_config(path: impl Into<PathBuf>) -> Self {
        FlagOverrides { config: Some(path.into()), ..FlagOverrides::default() }
    }

    /// Puts what was given over `options`.
    ///
    /// # Errors
    /// TLS is asked for without certificate or key.
    pub fn apply(&self, options: &mut Options) -> Result<(), Invalid> {
        fn put<T: Clone>(given: &Option<T>, target: &mut T) {
            if let Some(value) = given {
                *target = value.clone();
            }
        }
        fn put_text(given: &Option<String>, target: &mut Option<String>) {
            if let Some(text) = given {
                *target = Some(text.clone()).filter(|text| !text.is_empty());
            }
        }
        fn put_path(given: &Option<String>, target: &mut Option<PathBuf>) {
            if let Some(path) = given {
                *target = Some(PathBuf::from(path)).filter(|_| !path.is_empty());
            }
        }
        fn put_secret(given: &Option<Secret>, target: &mut Option<Secret>) {
            if let Some(secret) = given {
                *target = Some(secret.clone()).filter(|secret| !secret.expose().is_empty());
            }
        }

        if let Some(host) = &self.host {
            options.host = if host.is_empty() { Options::default().host } else { host.clone() };
        }
        if let Some(port) = self.port {
            options.port = port.to_bind().unwrap_or(Options::default().port);
        }
        if let Some(port) = self.http_port {
            options.http_port = port.to_bind();
        }
        if let Some(port) = self.https_port {
            options.https_port = port.to_bind();
        }
        put_text(&self.server_name, &mut options.server_name);
        put_text(&self.client_advertise, &mut options.client_advertise);
        put_path(&self.pid_file, &mut options.pid_file);
        put_path(&self.ports_file_dir, &mut options.ports_file_dir);
        put_path(&self.log_file, &mut options.log_file);
        put_path(&self.store_dir, &mut options.store_dir);
        match self.jetstream {
            Some(true) if options.jetstream.is_none() => options.jetstream = Some(JetStream::default()),
            Some(false) => options.jetstream = None,
            _ => {}
        }
        put(&self.log_size_limit, &mut options.log_size_limit);
        put(&self.syslog, &mut options.syslog);
        put_text(&self.remote_syslog, &mut options.remote_syslog);
        put(&self.logtime, &mut options.logtime);
        put(&self.logtime_utc, &mut options.logtime_utc);
        put(&self.debug, &mut options.debug);
        put(&self.trace, &mut options.trace);
        put(&self.trace_verbose, &mut options.trace_verbose);
        put(&self.max_traced_msg_len, &mut options.max_traced_msg_len);
        put_text(&self.user, &mut options.authorization.user);
        put_secret(&self.password, &mut options.authorization.password);
        put_secret(&self.token, &mut options.authorization.token);
        self.apply_tls(options)
    }

    /// `--tls=false` turns TLS off whatever else is given; any other TLS flag replaces the files and the
    /// verification of the block, and keeps its timeout, pinned certificates and order of handshake.
    fn apply_tls(&self, options: &mut Options) -> Result<(), Invalid> {
        let files = [&self.tls_cert, &self.tls_key, &self.tls_ca];
        match self.tls {
            Some(false) => {
                options.tls = None;
                return Ok(());
            }
            None if self.tls_verify.is_none() && files.iter().all(|file| file.is_none()) => return Ok(()),
            _ => {}
        }
        let given = |file: &Option<String>| file.clone().filter(|file| !file.is_empty()).map(PathBuf::from);
        let cert_file = given(&self.tls_cert).ok_or(Invalid::TlsCertificate)?;
        let key_file = given(&self.tls_key).ok_or(Invalid::TlsKey)?;
        let block = options.tls.take().unwrap_or_default();
        options.tls = Some(Tls {
            certificates: vec![CertificateFiles { cert_file, key_file }],
            ca_file: given(&self.tls_ca),
            verify: self.tls_verify.unwrap_or(false),
            verify_and_map: block.verify_and_map,
            pinned_certs: block.pinned_certs,
            handshake_first: block.handshake_first,
            timeout: block.timeout,
            connection_rate_limit: block.connection_rate_limit,
            ..Tls::default()
        });
        Ok(())
    }
}

/// Options made of flags and file.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What they mean.
    pub options: Options,
    /// What the operator should be told; holds no errors.
    pub warnings: Problems,
}

/// Reads the file that the flags name, if any, puts the flags over it, and checks the whole.
///
/// # Errors
/// The file cannot be read or is wrong, or an option contradicts another.
pub fn load(flags: &FlagOverrides, source: &dyn Source) -> Result<Loaded, ConfigError> {
    let mut options = Options { http_host: String::new(), ..Options::default() };
    let warnings = match &flags.config {
        Some(path) => read_file(path, source, &mut options)?,
        None => Problems::default(),
    };
    flags.apply(&mut options).map_err(ConfigError::Invalid)?;
    if options.http_host.is_empty() {
        options.http_host = options.host.clone();
    }
    validate::check(&options).map_err(ConfigError::Invalid)?;
    Ok(Loaded { options, warnings })
}

/// Reads a file for `-t`: the digest if it is right and nothing in it deserves a warning.
///
/// # Errors
/// As [`load`], but with warnings counted as errors and rules between options not checked, since the
/// flags of the real start are not known.
pub fn test_config(path: &Path, source: &dyn Source) -> Result<Options, ConfigError> {
    let mut options = Options::default();
    let problems = read_file(path, source, &mut options)?;
    match problems.is_empty() {
        true => Ok(options),
        false => Err(ConfigError::Problems(problems)),
    }
}

/// Why a command line was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlagError {
    /// An argument such as `---x` or `-=x`.
    BadSyntax(String),
    /// No flag has this name.
    Unknown(String),
    /// A flag without its value.
    NeedsArgument(String),
    /// A value of the wrong type.
    InvalidValue {
        /// The flag.
        flag: String,
        /// The value.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// A switch with something else than a bool.
    InvalidBool {
        /// The flag.
        flag: String,
        /// The value.
        value: String,
    },
    /// A flag of something that is not built yet.
    NotSupported(String),
    /// A word that is no flag and neither `help` nor `version`.
    UnknownCommand(String),
    /// More than one `=` in `--signal`; what follows the second.
    SignalParameters(String),
    /// No such signal.
    UnknownSignal(String),
    /// `-t` without a file.
    TestWithoutConfig,
}

impl FlagError {
    /// Whether the usage should be printed and [`USAGE_EXIT_CODE`] returned; otherwise the message stands
    /// alone and the code is 1.
    pub fn is_usage(&self) -> bool {
        use FlagError::*;
        matches!(
            self,
            BadSyntax(_) | Unknown(_) | NeedsArgument(_) | InvalidValue { .. } | InvalidBool { .. }
        )
    }
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlagError::BadSyntax(argument) => write!(f, "bad flag syntax: {argument}"),
            FlagError::Unknown(flag) => write!(f, "flag provided but not defined: -{flag}"),
            FlagError::NeedsArgument(flag) => write!(f, "flag needs an argument: -{flag}"),
            FlagError::InvalidValue { flag, value, reason } => {
                write!(f, "invalid value {value:?} for flag -{flag}: {reason}")
            }
            FlagError::InvalidBool { flag, value } => {
                write!(f, "invalid boolean value {value:?} for -{flag}: parse error")
            }
            FlagError::NotSupported(flag) => write!(f, "-{flag}: not supported yet"),
            FlagError::UnknownCommand(word) => write!(f, "unrecognized command: {word:?}"),
            FlagError::SignalParameters(rest) => write!(f, "invalid signal parameters: [{rest}]"),
            FlagError::UnknownSignal(name) => write!(f, "unknown signal {name:?}"),
            FlagError::TestWithoutConfig => {
                f.write_str("must specify [-c, --config] option to check configuration file syntax")
            }
        }
    }
}

impl std::error::Error for FlagError {}

/// Understands the arguments after the program's name.
///
/// # Errors
/// A flag or word that is not known, or a value that does not fit.
pub fn parse<S: AsRef<str>>(arguments: &[S]) -> Result<Command, FlagError> {
    let mut seen = Seen::default();
    let mut arguments = arguments.iter().map(AsRef::as_ref).peekable();
    while let Some(argument) = arguments.peek().copied() {
        let Some(name) = argument.strip_prefix('-').filter(|name| !name.is_empty()) else { break };
        arguments.next();
        let name = name.strip_prefix('-').unwrap_or(name);
        if name.is_empty() {
            // Two dashes alone end the flags.
            break;
        }
        if name.starts_with(['-', '=']) {
            return Err(FlagError::BadSyntax(argument.to_owned()));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let flag = find(name).ok_or_else(|| FlagError::Unknown(name.to_owned()))?;
        flag.take(name, value, &mut arguments, &mut seen)?;
    }
    let word = arguments.next().map(str::to_owned);
    seen.command(word)
}

/// Flags so far.
#[derive(Default)]
struct Seen {
    version: bool,
    help: bool,
    help_tls: bool,
    test: bool,
    signal: Option<String>,
    overrides: FlagOverrides,
}

impl Seen {
    /// The command, given the first word that is no flag.
    fn command(self, word: Option<String>) -> Result<Command, FlagError> {
        if self.version {
            return Ok(Command::Version);
        }
        if self.help {
            return Ok(Command::Help);
        }
        if self.help_tls {
            return Ok(Command::HelpTls);
        }
        if let Some(word) = word {
            return match word.to_lowercase().as_str() {
                "version" => Ok(Command::Version),
                "help" => Ok(Command::Help),
                _ => Err(FlagError::UnknownCommand(word)),
            };
        }
        if let Some(signal) = self.signal.filter(|signal| !signal.is_empty()) {
            return signal_command(&signal);
        }
        match (self.test, self.overrides.config.clone()) {
            (true, Some(path)) => Ok(Command::TestConfig { path }),
            (true, None) => Err(FlagError::TestWithoutConfig),
            (false, _) => Ok(Command::Run(self.overrides)),
        }
    }
}

/// `ldm`, or `ldm=1234`, `ldm=/run/nats.pid`, `ldm=12*`.
fn signal_command(text: &str) -> Result<Command, FlagError> {
    let mut parts = text.splitn(3, '=');
    let name = parts.next().unwrap_or_default();
    let target = parts.next().filter(|target| !target.is_empty()).map(str::to_owned);
    if let Some(rest) = parts.next() {
        return Err(FlagError::SignalParameters(rest.replace('=', " ")));
    }
    let command = SignalCommand::from_name(name).ok_or_else(|| FlagError::UnknownSignal(name.to_owned()))?;
    Ok(Command::Signal { command, target })
}

/// One flag with all its names.
struct Flag {
    names: &'static [&'static str],
    /// What its value is called in the help; empty for switches.
    value: &'static str,
    help: &'static str,
    take: Take,
}

/// Where a flag's value goes.
enum Take {
    Switch(fn(&mut Seen, bool)),
    Text(fn(&mut Seen, &str)),
    Port(fn(&mut Seen, Port)),
    Count(fn(&mut Seen, u64)),
    /// A switch or a value of something that is not built; its default is accepted.
    NotBuiltSwitch,
    NotBuiltText,
    NotBuiltNumber,
}

impl Flag {
    /// Takes the value, from behind `=` or from the next argument.
    fn take<'a>(
        &self,
        name: &str,
        value: Option<&'a str>,
        rest: &mut impl Iterator<Item = &'a str>,
        seen: &mut Seen,
    ) -> Result<(), FlagError> {
        if let Take::Switch(_) | Take::NotBuiltSwitch = self.take {
            let on = match value {
                None => true,
                Some(text) => go_bool(text).ok_or_else(|| FlagError::InvalidBool {
                    flag: name.to_owned(),
                    value: text.to_owned(),
                })?,
            };
            return match self.take {
                Take::Switch(put) => {
                    put(seen, on);
                    Ok(())
                }
                _ if on => Err(FlagError::NotSupported(name.to_owned())),
                _ => Ok(()),
            };
        }

        let text = value.or_else(|| rest.next()).ok_or_else(|| FlagError::NeedsArgument(name.to_owned()))?;
        let invalid =
            |reason| FlagError::InvalidValue { flag: name.to_owned(), value: text.to_owned(), reason };
        let number = || go_integer(text).map_err(invalid);
        let not_supported = |is_default: bool| match is_default {
            true => Ok(()),
            false => Err(FlagError::NotSupported(name.to_owned())),
        };
        match self.take {
            Take::Text(put) => put(seen, text),
            Take::Port(put) => {
                put(seen, Port::from_number(number()?).ok_or_else(|| invalid("value out of range"))?)
            }
            Take::Count(put) => {
                put(seen, u64::try_from(number()?).map_err(|_| invalid("value out of range"))?)
            }
            Take::NotBuiltText => not_supported(text.is_empty())?,
            Take::NotBuiltNumber => not_supported(number()? == 0)?,
            Take::Switch(_) | Take::NotBuiltSwitch => {}
        }
        Ok(())
    }
}

fn find(name: &str) -> Option<&'static Flag> {
    GROUPS.iter().flat_map(|group| group.flags).find(|flag| flag.names.contains(&name))
}

/// A bool as Go's flags take it.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// An integer as Go's flags take it: decimal, or with `0x`, `0o`, `0b` or a leading `0` in another base,
/// and with `_` between digits after such a prefix.
fn go_integer(text: &str) -> Result<i64, &'static str> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, lower.get(2..).unwrap_or_default()),
        Some("0o") => (8, lower.get(2..).unwrap_or_default()),
        Some("0b") => (2, lower.get(2..).unwrap_or_default()),
        Some(start) if start.starts_with('0') => (8, lower.get(1..).unwrap_or_default()),
        _ => (10, lower.as_str()),
    };
    let digits = if radix == 10 { digits.to_owned() } else { digits.replace('_', "") };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err("parse error");
    }
    let sign = if negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).map_err(|_| "value out of range")
}

/// Flags that the help shows together.
struct Group {
    title: &'static str,
    flags: &'static [Flag],
}

macro_rules! flag {
    ($($name:literal)|+, $value:literal, $help:literal, $take:expr) => {
        Flag { names: &[$($name),+], value: $value, help: $help, take: $take }
    };
}

/// A flag whose value is kept as text.
macro_rules! text_to {
    ($field:ident) => {
        Take::Text(|seen, text| seen.overrides.$field = Some(text.to_owned()))
    };
}

/// A switch that is kept as it is.
macro_rules! switch_to {
    ($($field:ident),+) => {
        Take::Switch(|seen, on| { $(seen.overrides.$field = Some(on);)+ })
    };
}

#[rustfmt::skip]
static GROUPS: &[Group] = &[
    Group { title: "Server Options", flags: &[
        flag!("a" | "addr" | "net", "<host>", "Bind to host address (default: 0.0.0.0)", text_to!(host)),
        flag!("p" | "port", "<port>", "Use port for clients (default: 4222)", Take::Port(|s, p| s.overrides.port = Some(p))),
        flag!("n" | "name" | "server_name", "<server_name>", "Server name (default: auto)", text_to!(server_name)),
        flag!("P" | "pid", "<file>", "File to store PID", text_to!(pid_file)),
        flag!("m" | "http_port", "<port>", "Use port for http monitoring", Take::Port(|s, p| s.overrides.http_port = Some(p))),
        flag!("ms" | "https_port", "<port>", "Use port for https monitoring", Take::Port(|s, p| s.overrides.https_port = Some(p))),
        flag!("c" | "config", "<file>", "Configuration file",
            Take::Text(|s, text| s.overrides.config = Some(PathBuf::from(text)).filter(|_| !text.is_empty()))),
        flag!("t", "", "Test configuration and exit", Take::Switch(|s, on| s.test = on)),
        flag!("sl" | "signal", "<signal>[=<pid>]",
            "Send signal to nats-server process (ldm, stop, quit, term, reopen, reload); <pid> is a PID or the path to a PID file",
            Take::Text(|s, text| s.signal = Some(text.to_owned()))),
        flag!("client_advertise", "<string>", "Client URL to advertise to other servers", text_to!(client_advertise)),
        flag!("ports_file_dir", "<dir>", "Creates a ports file in the specified directory (<executable_name>_<pid>.ports)",
            text_to!(ports_file_dir)),
    ]},
    Group { title: "Logging Options", flags: &[
        flag!("l" | "log", "<file>", "File to redirect log output", text_to!(log_file)),
        flag!("T" | "logtime", "", "Timestamp log entries (default: true)", switch_to!(logtime)),
        flag!("logtime_utc", "", "Timestamps in UTC instead of local timezone", switch_to!(logtime_utc)),
        flag!("s" | "syslog", "", "Log to syslog", switch_to!(syslog)),
        flag!("r" | "remote_syslog", "<addr>", "Syslog server addr (udp://localhost:514)", text_to!(remote_syslog)),
        flag!("D" | "debug", "", "Enable debugging output", switch_to!(debug)),
        flag!("V" | "trace", "", "Trace the raw protocol", switch_to!(trace)),
        flag!("VV", "", "Verbose trace (traces system account as well)", switch_to!(trace, trace_verbose)),
        flag!("DV", "", "Debug and trace", switch_to!(debug, trace)),
        flag!("DVV", "", "Debug and verbose trace (traces system account as well)", switch_to!(debug, trace, trace_verbose)),
        flag!("log_size_limit", "<limit>", "Logfile size limit (default: none)",
            Take::Count(|s, n| s.overrides.log_size_limit = Some(n))),
        flag!("max_traced_msg_len", "<len>", "Maximum printable length for traced messages (default: unlimited)",
            Take::Count(|s, n| s.overrides.max_traced_msg_len = Some(n))),
    ]},
    Group { title: "JetStream Options", flags: &[
        flag!("js" | "jetstream", "", "Enable JetStream functionality", switch_to!(jetstream)),
        flag!("sd" | "store_dir", "<dir>", "Set the storage directory", text_to!(store_dir)),
    ]},
    Group { title: "Authorization Options", flags: &[
        flag!("user", "<user>", "User required for connections", text_to!(user)),
        flag!("pass", "<password>", "Password required for connections",
            Take::Text(|s, text| s.overrides.password = Some(Secret::new(text)))),
        flag!("auth", "<token>", "Authorization token required for connections",
            Take::Text(|s, text| s.overrides.token = Some(Secret::new(text)))),
    ]},
    Group { title: "TLS Options", flags: &[
        flag!("tls", "", "Enable TLS, do not verify clients (default: false)", switch_to!(tls)),
        flag!("tlscert", "<file>", "Server certificate file", text_to!(tls_cert)),
        flag!("tlskey", "<file>", "Private key for server certificate", text_to!(tls_key)),
        flag!("tlsverify", "", "Enable TLS, verify client certificates", switch_to!(tls_verify)),
        flag!("tlscacert", "<file>", "Client certificate CA for verification", text_to!(tls_ca)),
    ]},
    Group { title: "Cluster Options (not supported yet)", flags: &[
        flag!("routes", "<rurl-1, rurl-2>", "Routes to solicit and connect", Take::NotBuiltText),
        flag!("cluster" | "cluster_listen", "<cluster-url>", "Cluster URL from which members can solicit routes", Take::NotBuiltText),
        flag!("cluster_name", "<string>", "Cluster name, if not set one will be dynamically generated", Take::NotBuiltText),
        flag!("cluster_advertise", "<string>", "Cluster URL to advertise to other servers", Take::NotBuiltText),
        flag!("no_advertise", "", "Do not advertise known cluster information to clients", Take::NotBuiltSwitch),
        flag!("connect_retries", "<number>", "For implicit routes, number of connect retries", Take::NotBuiltNumber),
    ]},
    Group { title: "Profiling Options (not supported yet)", flags: &[
        flag!("profile", "<port>", "Profiling HTTP port", Take::NotBuiltNumber),
    ]},
    Group { title: "Common Options", flags: &[
        flag!("h" | "help", "", "Show this message", Take::Switch(|s, on| s.help = on)),
        flag!("v" | "version", "", "Show version", Take::Switch(|s, on| s.version = on)),
        flag!("help_tls", "", "TLS help", Take::Switch(|s, on| s.help_tls = on)),
    ]},
];

/// The help text for a program of this name.
pub fn help(program: &str) -> String {
    /// Width of the flags, wide enough for all but the longest.
    const COLUMN: usize = 34;

    let mut text = format!("\nUsage: {program} [options]\n");
    for group in GROUPS {
        text.push_str(&format!("\n{}:\n", group.title));
        for flag in group.flags {
            let dashed: Vec<_> = flag
                .names
                .iter()
                .map(|name| match name.len() <= 2 || name.bytes().all(|b| b.is_ascii_uppercase()) {
                    true => format!("-{name}"),
                    false => format!("--{name}"),
                })
                .collect();
            let names = format!("{} {}", dashed.join(", "), flag.value);
            text.push_str(&format!("    {:COLUMN$} {}\n", names.trim_end(), flag.help));
        }
    }
    text
}

/// The help text on TLS: how to ask for it, and which names a file may use.
pub fn help_tls() -> String {
    let list = |names: &[&str]| names.iter().map(|name| format!("    {name}\n")).collect::<String>();
    format!(
        "\nTLS is turned on in the configuration file:\n\n    tls {{\n        cert_file: \"./server-cert.pem\"\n        \
         key_file: \"./server-key.pem\"\n        ca_file: \"./ca.pem\"\n        verify: true\n        \
         min_version: \"1.3\"\n        cipher_suites: [ \"TLS_AES_128_GCM_SHA256\" ]\n        \
         curve_preferences: [ \"X25519\" ]\n    }}\n\nAvailable cipher suites include:\n{}\nWith \
         allow_insecure_cipher_suites also:\n{}\nAvailable curve preferences include:\n{}",
        list(ciphers::SECURE_SUITES),
        list(ciphers::INSECURE_SUITES),
        list(ciphers::CURVES)
    )
}

/// The arguments with the values of `--user`, `--pass` and `--auth` blotted out, for anything that shows
/// them.
pub fn redact<S: AsRef<str>>(arguments: &[S]) -> Vec<String> {
    const BLOT: &str = "[REDACTED]";
    let mut secret_next = false;
    arguments
        .iter()
        .map(|argument| {
            let argument = argument.as_ref();
            if std::mem::take(&mut secret_next) {
                return BLOT.to_owned();
            }
            let (flag, value) = match argument.split_once('=') {
                Some((flag, _)) => (flag, true),
                None => (argument, false),
            };
            let name = flag.strip_prefix("--").or_else(|| flag.strip_prefix('-')).unwrap_or_default();
            match (matches!(name, "user" | "pass" | "auth"), value) {
                (true, true) => format!("{flag}={BLOT}"),
                (secret, _) => {
                    secret_next = secret;
                    argument.to_owned()
                }
            }
        })
        .collect()
}
