//! Every option of the file, one row each: name, aliases, type, default, help, how it is read, and
//! whether a running server may change it.
//!
//! Reading ([`crate::read`]) looks keys up here, and reloading ([`crate::reload`]) walks the rows, so a new
//! option is a new row and a new field of [`Options`]. An option that is known but not built yet has
//! `NOT_BUILT` as its reader; building it means replacing that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::grammar::{Entry, Value};
use crate::options::{Options, WriteTimeout};
use crate::problem::Problems;
use crate::reload::{Apply, Reload};
use crate::{accounts, authorization, duration, jetstream, ocsp, operator, read, sharing, tls};

/// One option.
pub struct Row {
    /// The name it is documented under; keys are compared without case.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// What its value looks like.
    pub kind: &'static str,
    /// What holds when it is absent; empty: nothing.
    pub default: &'static str,
    /// One sentence for operators.
    pub help: &'static str,
    read: Reader,
    pub(crate) reload: Reload,
}

impl Row {
    /// Whether this server can do what the option asks for.
    pub fn is_built(&self) -> bool {
        !matches!(self.reload, Reload::NotBuilt)
    }

    /// Whether a running server takes a new value, at least in some cases.
    pub fn is_reloadable(&self) -> bool {
        matches!(self.reload, Reload::Live { .. } | Reload::Special(_))
    }

    pub(crate) fn read_entry(&self, options: &mut Options, entry: &Entry, problems: &mut Problems) {
        (self.read)(options, entry, problems);
    }
}

/// Takes one entry of the file into the options.
type Reader = fn(&mut Options, &Entry, &mut Problems);

/// The row of a key, by name or alias.
pub fn find(key: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| {
        row.name.eq_ignore_ascii_case(key) || row.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(key))
    })
}

/// The reader of options that are not built: an error, unless the value says "off".
const NOT_BUILT: Reader = |_, entry, problems| read::not_supported(entry, problems);

/// The reader of options that name files: [`read::read_map`] reads them when it has seen all others.
const READ_WITH_FILES: Reader = |_, _, _| {};

/// A reader that puts what `$reader` makes of the entry into a field.
macro_rules! field {
    ($field:ident, $reader:path) => {
        |options, entry, problems| {
            if let Some(value) = $reader(entry, problems) {
                options.$field = value;
            }
        }
    };
}

/// The same for fields whose zero means the default.
macro_rules! field_or_default {
    ($field:ident, $reader:path, $zero:expr) => {
        |options, entry, problems| {
            if let Some(value) = $reader(entry, problems) {
                options.$field = if value == $zero { Options::default().$field } else { value };
            }
        }
    };
}

macro_rules! row {
    ($name:literal $(| $alias:literal)*, $kind:literal, $default:literal, $help:literal, $read:expr, $reload:expr) => {
        Row { name: $name, aliases: &[$($alias),*], kind: $kind, default: $default, help: $help, read: $read, reload: $reload }
    };
}

/// A row that is known but not built.
macro_rules! not_built {
    ($name:literal $(| $alias:literal)*, $kind:literal, $help:literal) => {
        row!($name $(| $alias)*, $kind, "", $help, NOT_BUILT, Reload::NotBuilt)
    };
}

/// `Reloaded: <name> = <value>`.
const fn live(label: &'static str, apply: Apply, show: fn(&Options) -> String) -> Reload {
    Reload::Live { label, apply, show }
}

/// `config reload not supported for <field>: old=…, new=…`.
const fn fixed(field: &'static str, show: fn(&Options) -> String) -> Reload {
    Reload::Fixed { field, show }
}

/// All options, in the order in which a reload reports them.
#[rustfmt::skip]
pub static ROWS: &[Row] = &[
    // Listening.
    row!("listen", "port or host:port", "0.0.0.0:4222", "Address for clients.", read_listen, Reload::ElsewhereInTable),
    row!("host" | "net", "string", "0.0.0.0", "Host to listen on.",
        field_or_default!(host, text, ""), fixed("Host", |o| o.host.clone())),
    row!("port", "port, -1 for any", "4222", "Port for clients.", read_port, Reload::Special(crate::reload::port)),
    row!("client_advertise", "host:port", "", "Address told to clients instead of the real one.",
        field!(client_advertise, read::optional_text), Reload::Special(crate::reload::client_advertise)),
    row!("server_name", "string without spaces", "the server's id", "Name of the server.", read_server_name,
        fixed("ServerName", |o| shown(&o.server_name))),
    row!("server_tags", "string or list", "", "Tags of the server.", read_tags,
        Reload::Special(crate::reload::tags)),
    row!("server_metadata", "map of strings", "", "Free text shown in monitoring.", read_metadata,
        Reload::Special(crate::reload::metadata)),
    row!("feature_flags", "map of bools", "", "Switches for experiments.", read_feature_flags,
        fixed("FeatureFlags", |o| {
            let flags: Vec<_> = o.feature_flags.iter().map(|(name, on)| format!("{name}:{on}")).collect();
            format!("map[{}]", flags.join(" "))
        })),

    // Logging.
    row!("trace", "bool", "false", "Log the protocol.", field!(trace, read::boolean),
        live("trace", Apply::Logging, |o| o.trace.to_string())),
    row!("debug", "bool", "false", "Log debug lines.", field!(debug, read::boolean),
        live("debug", Apply::Logging, |o| o.debug.to_string())),
    row!("trace_verbose", "bool", "false", "Log the protocol, of the system account too.",
        |o, e, p| if let Some(on) = read::boolean(e, p) { (o.trace, o.trace_verbose) = (on, on) },
        live("trace_verbose", Apply::Logging, |o| o.trace_verbose.to_string())),
    row!("trace_headers", "bool", "false", "Log the protocol with headers instead of payloads.",
        |o, e, p| if let Some(on) = read::boolean(e, p) { (o.trace, o.trace_headers) = (on, on) },
        live("trace_headers", Apply::Logging, |o| o.trace_headers.to_string())),
    row!("logtime", "bool", "true", "Put the time on log lines.", field!(logtime, read::boolean),
        live("logtime", Apply::Logging, |o| o.logtime.to_string())),
    row!("logtime_utc", "bool", "false", "That time is UTC.", field!(logtime_utc, read::boolean),
        live("logtime_utc", Apply::Logging, |o| o.logtime_utc.to_string())),
    row!("log_file" | "logfile", "path", "", "File to log to.", field!(log_file, path),
        live("log_file", Apply::Logging, |o| shown_path(&o.log_file))),
    row!("log_size_limit" | "logfile_size_limit", "size", "0 (never)", "Size at which the log file is rotated.",
        field!(log_size_limit, read::count), fixed("LogSizeLimit", |o| o.log_size_limit.to_string())),
    row!("log_max_num" | "logfile_max_num", "integer", "0 (all)", "Rotated log files to keep.",
        field!(log_max_num, read::count), fixed("LogMaxFiles", |o| o.log_max_num.to_string())),
    row!("syslog", "bool", "false", "Log to the local syslog.", field!(syslog, read::boolean),
        live("syslog", Apply::Logging, |o| o.syslog.to_string())),
    row!("remote_syslog", "url", "", "Log to a syslog elsewhere.", field!(remote_syslog, read::optional_text),
        live("remote_syslog", Apply::Logging, |o| shown(&o.remote_syslog))),
    row!("max_traced_msg_len", "integer", "0 (all)", "Bytes of a traced message that are printed.",
        field!(max_traced_msg_len, read::count),
        live("max_traced_msg_len", Apply::Logging, |o| o.max_traced_msg_len.to_string())),
    row!("pid_file" | "pidfile", "path", "", "File for the process id.", field!(pid_file, path),
        live("pid_file", Apply::PidFile, |o| shown_path(&o.pid_file))),
    row!("ports_file_dir", "path", "", "Directory for the file that lists the ports.", field!(ports_file_dir, path),
        live("ports_file_dir", Apply::PortsFile, |o| shown_path(&o.ports_file_dir))),
    row!("connect_error_reports", "integer", "3600", "Failed attempts to connect between two log lines.",
        field_or_default!(connect_error_reports, read::count, 0),
        live("connect_error_reports", Apply::Nothing, |o| o.connect_error_reports.to_string())),
    row!("reconnect_error_reports", "integer", "1", "Failed attempts to reconnect between two log lines.",
        field_or_default!(reconnect_error_reports, read::count, 0),
        live("reconnect_error_reports", Apply::Nothing, |o| o.reconnect_error_reports.to_string())),
    not_built!("prof_port", "port", "Port for profiling."),
    not_built!("prof_block_rate", "integer", "Rate of profiling of blocking."),

    // Monitoring.
    row!("http", "port or host:port", "off", "Address for monitoring.",
        |o, e, p| if let Some((host, port)) = read::listen(e, p) {
            o.http_host = host.unwrap_or_default();
            o.http_port = port.to_bind();
        },
        fixed("HTTPHost", |o| o.http_host.clone())),
    row!("http_port" | "monitor_port", "port, -1 for any", "off", "Port for monitoring.",
        |o, e, p| if let Some(port) = read::port(e, p) { o.http_port = port.to_bind() },
        fixed("HTTPPort", |o| shown_port(o.http_port))),
    row!("https", "port or host:port", "off", "Address for monitoring over TLS.",
        |o, e, p| if let Some((host, port)) = read::listen(e, p) {
            o.http_host = host.unwrap_or_default();
            o.https_port = port.to_bind();
        },
        Reload::ElsewhereInTable),
    row!("https_port", "port, -1 for any", "off", "Port for monitoring over TLS.",
        |o, e, p| if let Some(port) = read::port(e, p) { o.https_port = port.to_bind() },
        fixed("HTTPSPort", |o| shown_port(o.https_port))),
    row!("http_base_path", "path", "/", "Path below which monitoring answers.", field!(http_base_path, text),
        fixed("HTTPBasePath", |o| o.http_base_path.clone())),

    // Limits.
    row!("max_connections" | "max_conn", "integer, 0 and -1 for unlimited", "65536", "Connections at a time.",
        field!(max_connections, read::limit_32),
        live("max_connections", Apply::MaxConnections, |o| match o.max_connections {
            Some(n) => n.to_string(),
            None => "-1".to_owned(),
        })),
    row!("max_control_line", "size", "4KB", "Bytes of a protocol line.",
        field_or_default!(max_control_line, read::size_32, 0),
        live("max_control_line", Apply::ClientLimits, |o| o.max_control_line.to_string())),
    row!("max_payload", "size", "1MB", "Bytes of a message, headers included.",
        field_or_default!(max_payload, read::size_32, 0),
        live("max_payload", Apply::ClientLimits, |o| o.max_payload.to_string())),
    row!("max_pending", "size", "64MB", "Bytes waiting for one client before it is too slow.",
        field_or_default!(max_pending, read::count, 0), fixed("MaxPending", |o| o.max_pending.to_string())),
    row!("max_subscriptions" | "max_subs", "integer", "0 (unlimited)", "Subscriptions of one connection.",
        field!(max_subscriptions, read::limit_32),
        fixed("MaxSubs", |o| o.max_subscriptions.unwrap_or(0).to_string())),
    row!("max_sub_tokens" | "max_subscription_tokens", "1 to 255", "unlimited", "Tokens in a subscription's subject.",
        field!(max_sub_tokens, read::token_limit),
        fixed("MaxSubTokens", |o| o.max_sub_tokens.unwrap_or(0).to_string())),
    row!("max_closed_clients", "integer", "10000", "Closed connections kept for monitoring.",
        field_or_default!(max_closed_clients, read::count, 0),
        fixed("MaxClosedClients", |o| o.max_closed_clients.to_string())),
    row!("no_fast_producer_stall", "bool", "false", "Never slow a producer down.",
        field!(no_fast_producer_stall, read::boolean), Reload::Special(crate::reload::no_fast_producer_stall)),
    row!("disable_sublist_cache" | "no_sublist_cache", "bool", "false", "Do not cache matching subjects.",
        field!(disable_sublist_cache, read::boolean),
        fixed("NoSublistCache", |o| o.disable_sublist_cache.to_string())),
    row!("no_header_support", "bool", "false", "Do not offer message headers.",
        field!(no_header_support, read::boolean), fixed("NoHeaderSupport", |o| o.no_header_support.to_string())),
    row!("ping_interval", "duration", "2m", "Time between pings.",
        field_or_default!(ping_interval, read::duration_or_seconds, Duration::ZERO),
        live("ping_interval", Apply::ClientLimits, |o| duration::show(o.ping_interval))),
    row!("ping_max", "integer", "2", "Unanswered pings after which a connection is closed.",
        field_or_default!(ping_max, read::size_32, 0),
        live("ping_max", Apply::ClientLimits, |o| o.ping_max.to_string())),
    row!("write_deadline", "duration", "10s", "How long one write may block.",
        field_or_default!(write_deadline, read::duration_or_seconds, Duration::ZERO),
        live("write_deadline", Apply::ClientLimits, |o| duration::show(o.write_deadline))),
    row!("write_timeout", "default, close or retry", "default", "What follows a blocked write.", read_write_timeout,
        fixed("WriteTimeout", |o| match o.write_timeout {
            WriteTimeout::Default => String::new(),
            other => other.to_string(),
        })),
    row!("lame_duck_duration", "duration of at least 30s", "2m", "Time over which clients are sent away.",
        read_lame_duck_duration, fixed("LameDuckDuration", |o| duration::show(o.lame_duck_duration))),
    row!("lame_duck_grace_period", "duration", "10s", "Time before the first client is sent away.",
        |o, e, p| if let Some(time) = read::duration(e, "lame_duck_grace_period", p) {
            let default = Options::default().lame_duck_grace_period;
            o.lame_duck_grace_period = if time.is_zero() { default } else { time };
        },
        fixed("LameDuckGracePeriod", |o| duration::show(o.lame_duck_grace_period))),

    // Security.
    row!("tls", "block", "off", "TLS for clients.", tls::read, Reload::Special(crate::reload::tls)),
    row!("allow_non_tls", "bool", "false", "Accept clients without TLS as well.", field!(allow_non_tls, read::boolean),
        fixed("AllowNonTLS", |o| o.allow_non_tls.to_string())),
    row!("proxy_protocol", "bool", "false", "Expect the PROXY protocol's header.",
        field!(proxy_protocol, read::boolean), fixed("ProxyProtocol", |o| o.proxy_protocol.to_string())),
    row!("authorization", "block", "", "Users, or the one user or token.", authorization::read,
        Reload::Special(crate::reload::authorization)),
    row!("accounts", "list of names or map", "", "Accounts with their users.", accounts::read,
        Reload::Special(crate::reload::accounts)),
    row!("mappings" | "maps", "map", "", "Subject mappings of the global account.",
        |options, entry, problems| options.mappings = sharing::read_mappings(entry, problems), Reload::ElsewhereInTable),
    row!("no_auth_user", "user or nkey", "", "Who those are that give no credentials.",
        field!(no_auth_user, read::optional_text), Reload::Special(crate::reload::no_auth_user)),
    row!("system_account" | "system", "account", "$SYS", "Account for the server's own messages.",
        field!(system_account, read::optional_text),
        Reload::Special(crate::reload::system_account)),
    row!("no_system_account" | "no_system" | "no_sys_acc", "bool", "false", "Run without a system account.",
        field!(no_system_account, read::boolean), fixed("NoSystemAccount", |o| o.no_system_account.to_string())),
    row!("operator" | "operators" | "roots" | "root" | "root_operators" | "root_operator", "JWT or file, or a list", "",
        "Operators whose accounts have the users.", READ_WITH_FILES, Reload::Special(crate::reload::operators)),
    row!("trusted_keys" | "trusted", "nkey or list", "", "Keys of such operators.", operator::read_trusted_keys,
        Reload::Special(crate::reload::trusted_keys)),
    row!("resolver" | "account_resolver" | "accounts_resolver", "MEMORY, URL(…) or block", "",
        "Where the accounts' JWTs are.", operator::read_resolver, Reload::Special(crate::reload::resolver)),
    row!("resolver_tls", "block", "", "TLS towards the resolver.", tls::read_resolver,
        Reload::Special(crate::reload::resolver_tls)),
    row!("resolver_preload", "map of JWTs", "", "JWTs of accounts by their keys.", operator::read_preload,
        Reload::Special(crate::reload::resolver_preload)),
    row!("resolver_pinned_accounts", "nkey or list", "any", "The only accounts that may have users.", operator::read_pinned,
        Reload::Special(crate::reload::resolver_pinned_accounts)),
    row!("default_sentinel", "bearer JWT", "", "Who those are that present no JWT.", operator::read_sentinel,
        Reload::Special(crate::reload::default_sentinel)),
    row!("store_dir" | "storedir", "path", "", "Directory for streams.", jetstream::read_store_dir,
        Reload::ElsewhereInTable),
    row!("jetstream", "bool or block", "disabled", "Streams.", jetstream::read,
        Reload::Special(crate::reload::jetstream)),

    not_built!("cluster", "block", "Routes to other servers."),
    not_built!("gateway", "block", "Gateways to other clusters."),
    not_built!("leafnodes" | "leaf", "block", "Leaf nodes."),
    not_built!("websocket" | "ws", "block", "Clients over WebSocket."),
    not_built!("mqtt", "block", "Clients that speak MQTT."),
    not_built!("default_js_domain", "map", "JetStream domains of accounts."),
    row!("proxies", "block", "", "Trusted proxies.", authorization::read_proxies,
        Reload::Special(crate::reload::proxies)),
    row!("ocsp", "bool or block", "auto", "Stapling of certificate states.", ocsp::read,
        Reload::Special(crate::reload::ocsp)),
    row!("ocsp_cache", "bool or block", "local", "Cache of the states of clients' certificates.", ocsp::read_cache,
        Reload::Special(crate::reload::ocsp_cache)),
];

/// A string, even an empty one.
fn text(entry: &Entry, problems: &mut Problems) -> Option<String> {
    read::text(entry, problems).map(str::to_owned)
}

/// A path; an empty one is none.
fn path(entry: &Entry, problems: &mut Problems) -> Option<Option<PathBuf>> {
    read::optional_text(entry, problems).map(|path| path.map(PathBuf::from))
}

fn read_listen(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    if let Some((host, port)) = read::listen(entry, problems) {
        let default = Options::default();
        options.host = host.unwrap_or(default.host);
        options.port = port.to_bind().unwrap_or(default.port);
    }
}

fn read_port(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    if let Some(port) = read::port(entry, problems) {
        options.port = port.to_bind().unwrap_or(crate::options::DEFAULT_PORT);
    }
}

fn read_server_name(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    match read::optional_text(entry, problems) {
        Some(Some(name)) if name.contains(' ') => {
            read::invalid(entry, crate::problem::Invalid::ServerName.to_string(), problems);
        }
        Some(name) => options.server_name = name,
        None => {}
    }
}

fn read_tags(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    for tag in read::texts(entry, problems).unwrap_or_default() {
        let tag = tag.trim().to_lowercase();
        if !tag.is_empty() && !options.server_tags.contains(&tag) {
            options.server_tags.push(tag);
        }
    }
}

fn read_metadata(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    for item in read::map(entry, problems).into_iter().flatten() {
        if let Some(text) = read::text(item, problems) {
            options.server_metadata.insert(item.key.clone(), text.to_owned());
        }
    }
}

fn read_feature_flags(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    let mut flags = BTreeMap::new();
    for item in read::map(entry, problems).into_iter().flatten() {
        match item.value {
            Value::Bool(on) => drop(flags.insert(item.key.clone(), on)),
            ref other => {
                let (name, found) = (&item.key, other.kind());
                let sentence = format!("error parsing feature flag {name:?}: expected bool, got {found}");
                read::invalid(item, sentence, problems);
            }
        }
    }
    options.feature_flags = flags;
}

fn read_write_timeout(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    options.write_timeout = match read::text(entry, problems) {
        Some("default") | None => WriteTimeout::Default,
        Some("close") => WriteTimeout::Close,
        Some("retry") => WriteTimeout::Retry,
        Some(_) => {
            return read::invalid(entry, "write_timeout must be 'default', 'close' or 'retry'", problems);
        }
    };
}

/// Shorter would drop clients faster than they can spread over the other servers.
const MIN_LAME_DUCK_DURATION: Duration = Duration::from_secs(30);

fn read_lame_duck_duration(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    match read::duration(entry, "lame_duck_duration", problems) {
        Some(time) if time < MIN_LAME_DUCK_DURATION => {
            let time = duration::show(time);
            read::invalid(
                entry,
                format!("invalid lame_duck_duration of {time}, minimum is 30 seconds"),
                problems,
            );
        }
        Some(time) => options.lame_duck_duration = time,
        None => {}
    }
}

fn shown(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

fn shown_path(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
}

/// A port as files write it: 0 for none, -1 for any.
fn shown_port(port: Option<u16>) -> String {
    match port {
        None => "0".to_owned(),
        Some(0) => "-1".to_owned(),
        Some(port) => port.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_lower_case_and_unique() {
        let mut names = HashSet::new();
        for name in ROWS.iter().flat_map(|row| std::iter::once(&row.name).chain(row.aliases)) {
            assert_eq!(*name, name.to_lowercase());
            assert!(names.insert(name), "{name} stands in the table twice");
        }
    }
}
