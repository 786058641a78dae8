//! What a new configuration changes in a running server, and what it must not change.
//!
//! Every row of the table says how it reloads; this walks the rows and compares the two meanings. The
//! server then logs [`Change::log`] for each change and renews what the [`Apply`]s name. If anything is
//! refused, nothing is changed at all.

use std::fmt;
use std::time::Duration;

use crate::duration;
use crate::options::{AuthCallout, HandshakeFirst, JetStream, Options};
use crate::table;

/// Compares what runs with what the file now means. `old.port` must be the port that was bound.
///
/// Accounts, users, tags and the like are compared as they are; the order of users and accounts is not a
/// difference. TLS counts as changed whenever it is on, since its files may have changed.
///
/// # Errors
/// All options that differ and may not.
pub fn compare(old: &Options, new: &Options) -> Result<Vec<Change>, Vec<Refusal>> {
    let mut comparison = Comparison { changes: Vec::new(), refusals: Vec::new() };
    for row in table::ROWS {
        match row.reload {
            Reload::Live { label, apply, show } => {
                if show(old) != show(new) {
                    comparison.change(row.name, apply, format!("Reloaded: {label} = {}", show(new)));
                }
            }
            Reload::Fixed { field, show } => comparison.refuse_difference(field, show(old), show(new)),
            Reload::Special(compare) => compare(old, new, &mut comparison),
            Reload::ElsewhereInTable | Reload::NotBuilt => {}
        }
    }
    match comparison.refusals.is_empty() {
        true => Ok(comparison.changes),
        false => Err(comparison.refusals),
    }
}

/// One option with a new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The option's name in the table.
    pub option: &'static str,
    /// What of the server must be renewed.
    pub apply: Apply,
    /// The line for the log.
    pub log: String,
}

/// What a change touches. The new options are in force at once; this says what else has to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Apply {
    /// Only the new options.
    Nothing,
    /// The logger and the trace flags of connections.
    Logging,
    /// Certificates and TLS rules, for new connections; pinned certificates for existing ones too.
    Tls,
    /// Accounts and users: connections that would not be let in any more are closed.
    Authorization,
    /// Connections over the new limit are closed, newest first.
    MaxConnections,
    /// Limits and timers that connections hold a copy of.
    ClientLimits,
    /// The addresses told to clients; they get a new INFO.
    ClientAdvertise,
    /// The file with the process id is written anew.
    PidFile,
    /// The file with the ports is removed and written anew.
    PortsFile,
    /// What monitoring and statistics say about the server.
    Monitoring,
    /// JetStream is started or stopped.
    JetStream,
    /// JetStream's limits, which streams and consumers that exist already keep to from now on.
    JetStreamLimits,
}

/// An option that differs but may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The option as the original's message calls it.
    pub field: &'static str,
    /// The value in force and the one that was asked for. `None` where the original's message does not say them.
    pub values: Option<(String, String)>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field == MOVING_RESOLVER {
            return write!(f, "config reload does not support {MOVING_RESOLVER}");
        }
        write!(f, "config reload not supported for {}", self.field)?;
        match &self.values {
            Some((old, new)) => write!(f, ": old={old}, new={new}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

/// The original has a sentence of its own for it.
const MOVING_RESOLVER: &str = "moving to or from an account resolver";

/// How an option behaves in a reload; one per row of the table.
pub(crate) enum Reload {
    /// A new value is taken and logged. Two values are equal when they are shown equally.
    Live { label: &'static str, apply: Apply, show: fn(&Options) -> String },
    /// A new value is refused.
    Fixed { field: &'static str, show: fn(&Options) -> String },
    /// Something of its own.
    Special(fn(&Options, &Options, &mut Comparison)),
    /// A second way to say what other rows say.
    ElsewhereInTable,
    /// Cannot be set.
    NotBuilt,
}

/// What was found so far.
pub(crate) struct Comparison {
    changes: Vec<Change>,
    refusals: Vec<Refusal>,
}

impl Comparison {
    fn change(&mut self, option: &'static str, apply: Apply, log: impl Into<String>) {
        self.changes.push(Change { option, apply, log: log.into() });
    }

    fn refuse_difference(&mut self, field: &'static str, old: String, new: String) {
        if old != new {
            self.refusals.push(Refusal { field, values: Some((old, new)) });
        }
    }

    fn refuse(&mut self, field: &'static str) {
        self.refusals.push(Refusal { field, values: None });
    }
}

/// A port may change to "any", which the running one satisfies.
pub(crate) fn port(old: &Options, new: &Options, comparison: &mut Comparison) {
    if new.port != 0 {
        comparison.refuse_difference("Port", old.port.to_string(), new.port.to_string());
    }
}

pub(crate) fn client_advertise(old: &Options, new: &Options, comparison: &mut Comparison) {
    if old.client_advertise != new.client_advertise {
        let address = new.client_advertise.as_deref().unwrap_or_default();
        // The word "Reload" instead of "Reloaded" is the original's.
        let log = format!("Reload: client_advertise = {address}");
        comparison.change("client_advertise", Apply::ClientAdvertise, log);
    }
}

pub(crate) fn tags(old: &Options, new: &Options, comparison: &mut Comparison) {
    if old.server_tags != new.server_tags {
        comparison.change("server_tags", Apply::Monitoring, "Reloaded: tags");
    }
}

pub(crate) fn metadata(old: &Options, new: &Options, comparison: &mut Comparison) {
    if old.server_metadata != new.server_metadata {
        comparison.change("server_metadata", Apply::Monitoring, "Reloaded: metadata");
    }
}

pub(crate) fn no_fast_producer_stall(old: &Options, new: &Options, comparison: &mut Comparison) {
    if old.no_fast_producer_stall != new.no_fast_producer_stall {
        let log = match new.no_fast_producer_stall {
            true => "Reloaded: fast producers will not be stalled",
            false => "Reloaded: fast producers will be stalled",
        };
        comparison.change("no_fast_producer_stall", Apply::Nothing, log);
    }
}

pub(crate) fn tls(old: &Options, new: &Options, comparison: &mut Comparison) {
    let (none, before, after) = (Default::default(), old.tls.as_ref(), new.tls.as_ref());
    if before.is_some() || after.is_some() {
        let state = if after.is_some() { "enabled" } else { "disabled" };
        comparison.change("tls", Apply::Tls, format!("Reloaded: tls = {state}"));
    }
    let (before, after) = (before.unwrap_or(&none), after.unwrap_or(&none));
    if before.timeout != after.timeout {
        let log = format!("Reloaded: tls timeout = {}", after.timeout.as_secs_f64());
        comparison.change("tls", Apply::Tls, log);
    }
    if before.pinned_certs != after.pinned_certs {
        comparison.change("tls", Apply::Tls, format!("Reloaded: {} pinned_certs", after.pinned_certs.len()));
    }
    let first = |tls: &crate::options::Tls| tls.handshake_first != HandshakeFirst::Off;
    if first(before) != first(after) {
        comparison.change(
            "tls",
            Apply::Tls,
            format!("Reloaded: Client TLS handshake first: {}", first(after)),
        );
    }
    let delay = |tls: &crate::options::Tls| match tls.handshake_first {
        HandshakeFirst::Auto(delay) => delay,
        _ => Duration::ZERO,
    };
    if delay(before) != delay(after) {
        let delay = duration::show(delay(after));
        let log = format!("Reloaded: Client TLS handshake first fallback delay: {delay}");
        comparison.change("tls", Apply::Tls, log);
    }
    let map = |tls: &crate::options::Tls| tls.verify_and_map.to_string();
    comparison.refuse_difference("TLSMap", map(before), map(after));
    let rate = |tls: &crate::options::Tls| tls.connection_rate_limit.unwrap_or(0).to_string();
    comparison.refuse_difference("TLSRateLimit", rate(before), rate(after));
}

pub(crate) fn ocsp(old: &Options, new: &Options, comparison: &mut Comparison) {
    if old.ocsp != new.ocsp {
        comparison.change("ocsp", Apply::Tls, "Reloaded: OCSP");
    }
}

pub(crate) fn ocsp_cache(old: &Options, new: &Options, comparison: &mut Comparison) {
    if old.ocsp_cache != new.ocsp_cache {
        // Without the colon that all others have, as the original writes it.
        comparison.change("ocsp_cache", Apply::Tls, "Reloaded OCSP peer cache");
    }
}

pub(crate) fn authorization(old: &Options, new: &Options, comparison: &mut Comparison) {
    let show = |callout: &Option<AuthCallout>| match callout {
        Some(AuthCallout { issuer, account, auth_users, xkey, allowed_accounts }) => format!(
            "&{{{issuer} {account} [{}] {} [{}]}}",
            auth_users.join(" "),
            xkey.as_deref().unwrap_or_default(),
            allowed_accounts.join(" ")
        ),
        None => "<nil>".to_owned(),
    };
    let callouts = (&old.authorization.callout, &new.authorization.callout);
    comparison.refuse_difference("AuthCallout", show(callouts.0), show(callouts.1));
    let mut note = |differs: bool, log: String| {
        if differs {
            comparison.change(
                "authorization",
                Apply::Authorization,
                format!("Reloaded: authorization {log}"),
            );
        }
    };
    let (before, after) = (&old.authorization, &new.authorization);
    note(sorted(&old.nkeys, |u| &u.nkey) != sorted(&new.nkeys, |u| &u.nkey), "nkey users".to_owned());
    note(sorted(&old.users, |u| &u.name) != sorted(&new.users, |u| &u.name), "users".to_owned());
    note(before.user != after.user, "username".to_owned());
    note(before.password != after.password, "password".to_owned());
    note(before.token != after.token, "token".to_owned());
    let timeout = new.auth_timeout();
    note(old.auth_timeout() != timeout, format!("timeout = {}", timeout.as_secs_f64()));
}

/// Clients of a proxy that is no longer trusted have to go; that they are asked again sees to it.
pub(crate) fn proxies(old: &Options, new: &Options, comparison: &mut Comparison) {
    let missing = |keys: &[String], others: &[String]| {
        let missing: Vec<String> =
            keys.iter().filter(|key| !others.contains(key)).map(|key| format!("{key:?}")).collect();
        (!missing.is_empty()).then(|| format!("[{}]", missing.join(" ")))
    };
    let gone = missing(&old.trusted_proxies, &new.trusted_proxies);
    let come = missing(&new.trusted_proxies, &old.trusted_proxies);
    for (keys, what) in [(gone, "removed"), (come, "added")] {
        if let Some(keys) = keys {
            let line = format!("Reloaded: proxies trusted keys {keys} were {what}");
            comparison.change("proxies", Apply::Authorization, &line);
        }
    }
}

pub(crate) fn accounts(old: &Options, new: &Options, comparison: &mut Comparison) {
    let same = sorted(&old.accounts, |a| &a.name) == sorted(&new.accounts, |a| &a.name);
    if !same || old.mappings != new.mappings {
        comparison.change("accounts", Apply::Authorization, "Reloaded: accounts");
    }
}

/// May only go away, together with the user it names.
pub(crate) fn no_auth_user(old: &Options, new: &Options, comparison: &mut Comparison) {
    let (before, after) = (old.no_auth_user.as_deref(), new.no_auth_user.as_deref());
    let user_is_gone = !new.users.iter().any(|user| Some(user.name.as_str()) == before);
    if before == after {
        return;
    }
    if before.is_some() && after.is_none() && user_is_gone {
        // The users have changed as well, and that is what gets logged and applied.
        return;
    }
    let shown = |name: Option<&str>| name.unwrap_or_default().to_owned();
    comparison.refuse_difference("NoAuthUser", shown(before), shown(after));
}

/// May only be said in another way: `$SYS`, or nothing.
pub(crate) fn system_account(old: &Options, new: &Options, comparison: &mut Comparison) {
    if old.system_account_name() != new.system_account_name() {
        let shown = |options: &Options| options.system_account.clone().unwrap_or_default();
        comparison.refuse_difference("SystemAccount", shown(old), shown(new));
    }
}

pub(crate) fn operators(old: &Options, new: &Options, comparison: &mut Comparison) {
    if old.operators != new.operators {
        comparison.refuse("TrustedOperators");
    }
}

pub(crate) fn trusted_keys(old: &Options, new: &Options, comparison: &mut Comparison) {
    let shown = |options: &Options| format!("[{}]", options.trusted_keys.join(" "));
    comparison.refuse_difference("TrustedKeys", shown(old), shown(new));
}

/// Another one may be asked from now on, but not none.
pub(crate) fn resolver(old: &Options, new: &Options, comparison: &mut Comparison) {
    if old.resolver.is_some() != new.resolver.is_some() {
        comparison.refuse(MOVING_RESOLVER);
    }
    accounts_differ(old.resolver != new.resolver, comparison);
}

pub(crate) fn resolver_tls(old: &Options, new: &Options, comparison: &mut Comparison) {
    accounts_differ(old.resolver_tls != new.resolver_tls, comparison);
}

pub(crate) fn resolver_preload(old: &Options, new: &Options, comparison: &mut Comparison) {
    accounts_differ(old.resolver_preload != new.resolver_preload, comparison);
}

pub(crate) fn resolver_pinned_accounts(old: &Options, new: &Options, comparison: &mut Comparison) {
    accounts_differ(old.resolver_pinned_accounts != new.resolver_pinned_accounts, comparison);
}

fn accounts_differ(differ: bool, comparison: &mut Comparison) {
    if differ {
        comparison.change("accounts", Apply::Authorization, "Reloaded: accounts");
    }
}

pub(crate) fn default_sentinel(old: &Options, new: &Options, comparison: &mut Comparison) {
    if old.default_sentinel != new.default_sentinel {
        // The original shows it, and with it whoever reads the log gets in.
        let log = "Reloaded: default_sentinel = [REDACTED]";
        comparison.change("default_sentinel", Apply::Authorization, log);
    }
}

/// JetStream may be turned on and off, its limits may change, and its room may grow; all else is as it was at the start.
pub(crate) fn jetstream(old: &Options, new: &Options, comparison: &mut Comparison) {
    if old.jetstream.is_some() != new.jetstream.is_some() {
        comparison.change("jetstream", Apply::JetStream, "Reloaded: JetStream");
    }
    if old.jetstream.is_some() && old.store_dir != new.store_dir {
        match (&new.store_dir, &new.jetstream) {
            (Some(_), _) => comparison.refuse("jetstream storage directory"),
            (None, Some(_)) => comparison.refuse("jetstream storage dir"),
            // The folder goes with the block that named it.
            (None, None) => {}
        }
    }
    let off = JetStream::default();
    let (before, after) = (old.jetstream.as_ref().unwrap_or(&off), new.jetstream.as_ref().unwrap_or(&off));
    comparison.refuse_difference("NoJetStreamStrict", before.lenient.to_string(), after.lenient.to_string());
    let domain = |js: &JetStream| js.domain.clone().unwrap_or_default();
    comparison.refuse_difference("JetStreamDomain", domain(before), domain(after));
    if before.encryption != after.encryption {
        // The original shows the keys here.
        comparison.refuse("JetStreamKey");
    }
    let sync = |js: &JetStream| js.sync_interval.map_or("always".to_owned(), duration::show);
    comparison.refuse_difference("SyncInterval", sync(before), sync(after));
    if let (Some(before), Some(after)) = (&old.jetstream, &new.jetstream) {
        let room = [
            ("max_mem_store", before.max_memory, after.max_memory),
            ("max_file_store", before.max_storage, after.max_storage),
        ];
        for (name, before, after) in room {
            jetstream_room(name, before, after, comparison);
        }
    }
    if before.limits != after.limits {
        comparison.change("jetstream", Apply::JetStreamLimits, "Reloaded: JetStream limits");
    }
}

/// What streams may use was divided among them; it may become more. What the host gives is not counted a second time.
fn jetstream_room(name: &'static str, before: Option<u64>, after: Option<u64>, comparison: &mut Comparison) {
    match (before, after) {
        (Some(before), Some(after)) if after > before => {
            let log = format!("Reloaded: JetStream {name} = {}", friendly_size(after));
            comparison.change("jetstream", Apply::JetStreamLimits, log);
        }
        (before, after) if before == after => {}
        (Some(_), Some(_)) => comparison.refuse("decreasing jetstream max memory and store"),
        (None, _) => comparison.refuse("jetstream dynamic max memory and store"),
        (_, None) => comparison.refuse("jetstream max memory and max store"),
    }
}

/// Bytes as the log shows them: `1.50 GB` in powers of 1024.
fn friendly_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut shown = "B";
    for unit in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        shown = unit;
    }
    format!("{value:.2} {shown}")
}

fn sorted<T>(items: &[T], name: fn(&T) -> &String) -> Vec<&T> {
    let mut items: Vec<&T> = items.iter().collect();
    items.sort_by_key(|item| name(item));
    items
}
