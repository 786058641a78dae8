//! Operator mode: whose word on accounts counts, and where the accounts' tokens are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sonata_jwt::account::Account;
use sonata_jwt::claims::Claims;
use sonata_jwt::credentials::token_in;
use sonata_jwt::key::KeyKind;
use sonata_jwt::operator::parse_version;
use sonata_jwt::token::{self, PREFIX};
use sonata_jwt::user::User;

use crate::duration;
use crate::grammar::{Entry, Map, Place, Value};
use crate::options::{DirectoryResolver, Operator, Options, Removal, Resolver, Secret};
use crate::problem::{Invalid, ProblemKind, Problems};
use crate::read;
use crate::source::Source;
use crate::table;

/// How long a lookup of an account may take when nothing is configured.
pub const DEFAULT_FETCH_TIMEOUT: Duration = Duration::from_millis(1900);
/// How often servers with directories of accounts compare them when nothing is configured.
pub const DEFAULT_SYNC_INTERVAL: Duration = Duration::from_secs(60);
/// Accounts that a cache holds when nothing is configured.
pub const DEFAULT_CACHE_LIMIT: u64 = 1000;

/// The version of the original that this server stands in for; operators may insist on one.
const SERVER_VERSION: [u64; 3] = [2, 15, 1];

/// Reads the operators, whose tokens may be in files, and takes over what a single one says: where its accounts are
/// and which of them is the system's.
pub(crate) fn read_operators(options: &mut Options, map: &Map, source: &dyn Source, problems: &mut Problems) {
    let row = table::find("operator").map(|row| row.name);
    for entry in map.iter().filter(|entry| table::find(&entry.key).map(|row| row.name) == row) {
        options.operators.clear();
        for said in operators_said(entry, problems) {
            match read_operator(&said, source) {
                Ok(operator) => options.operators.push(operator),
                Err(error) => {
                    read::invalid(entry, format!("error parsing operator JWT: {error}"), problems);
                }
            }
        }
    }
    if let [operator] = options.operators.as_slice() {
        let claims = &operator.claims.nats;
        if options.resolver.is_none() && !claims.account_server_url.is_empty() {
            // Tools put the tokens there.
            options.resolver = Some(Resolver::Url(format!("{}/accounts/", claims.account_server_url)));
        }
        if options.system_account.is_none() && !claims.system_account.is_empty() {
            options.system_account = Some(claims.system_account.clone());
        }
    }
}

fn operators_said(entry: &Entry, problems: &mut Problems) -> Vec<String> {
    let unsupported = |place: &Place, kind: &str, problems: &mut Problems| {
        let sentence = format!("error parsing operators: unsupported type {kind}");
        problems.error(place, ProblemKind::Invalid(sentence));
    };
    let mut said = Vec::new();
    match &entry.value {
        Value::String(text) => said.push(text.clone()),
        Value::List(items) => {
            for item in items {
                match &item.value {
                    Value::String(text) => said.push(text.clone()),
                    other => unsupported(&item.place, other.kind(), problems),
                }
            }
        }
        other => unsupported(&entry.place, other.kind(), problems),
    }
    said
}

/// A token, or the name of a file that holds one.
fn read_operator(said: &str, source: &dyn Source) -> Result<Operator, String> {
    let text = match source.read(Path::new(said)) {
        Ok(text) => text,
        Err(_) if said.starts_with(PREFIX) => said.to_owned(),
        Err(error) => return Err(format!("open {said}: {error}")),
    };
    // A text without fences is the token itself, or is refused as one.
    let token = token_in(&text).unwrap_or(text.trim()).to_owned();
    let claims = token::decode(&token).map_err(|error| error.to_string())?;
    Ok(Operator { token, claims })
}

/// `trusted_keys`: one public key of an operator, or a list.
pub(crate) fn read_trusted_keys(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    let Some(keys) = texts(entry, "trusted", problems) else { return };
    for (key, place) in &keys {
        if !KeyKind::Operator.owns(key) {
            let sentence = format!("trust key {key:?} required to be a valid public operator nkey");
            problems.error(place, ProblemKind::Invalid(sentence));
        }
    }
    options.trusted_keys = keys.into_iter().map(|(key, _)| key).collect();
}

/// `resolver_pinned_accounts`: one account's key, or a list.
pub(crate) fn read_pinned(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    if let Some(keys) = texts(entry, "resolver_pinned_accounts", problems) {
        options.resolver_pinned_accounts = Some(keys.into_iter().map(|(key, _)| key).collect());
    }
}

/// A text or a list of texts, each with its place.
fn texts(entry: &Entry, field: &str, problems: &mut Problems) -> Option<Vec<(String, Place)>> {
    match &entry.value {
        Value::String(text) => Some(vec![(text.clone(), entry.place.clone())]),
        Value::List(items) => {
            let mut texts = Vec::new();
            for item in items {
                if let Value::String(text) = &item.value {
                    texts.push((text.clone(), item.place.clone()));
                } else {
                    let kind = item.value.kind();
                    let sentence = format!("error parsing {field}: unsupported type in array {kind}");
                    problems.error(&item.place, ProblemKind::Invalid(sentence));
                }
            }
            Some(texts)
        }
        other => {
            let sentence = format!("error parsing {field}: unsupported type {}", other.kind());
            read::invalid(entry, sentence, problems);
            None
        }
    }
}

/// `resolver_preload`: accounts' tokens by key.
pub(crate) fn read_preload(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    let Value::Map(map) = &entry.value else {
        let sentence = "preload should be a map of account_public_key:account_jwt";
        return read::invalid(entry, sentence, problems);
    };
    let mut preload = BTreeMap::new();
    for item in map.iter().filter(|item| !item.referenced) {
        let Value::String(text) = &item.value else {
            read::invalid(item, "preload map value should be a string JWT", problems);
            continue;
        };
        match token::decode::<Account>(text) {
            Ok(_) => drop(preload.insert(item.key.clone(), text.clone())),
            Err(_) => read::invalid(item, "invalid account JWT", problems),
        }
    }
    options.resolver_preload = preload;
}

/// `default_sentinel`: the token of those who present none.
pub(crate) fn read_sentinel(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    if let Some(sentinel) = read::optional_text(entry, problems) {
        options.default_sentinel = sentinel.map(Secret::new);
    }
}

const RESOLVER_FORMS: &str = "error parsing account resolver, should be MEM or  URL(\"url\") or a map containing dir and type state=[FULL|CACHE])";

/// `resolver`: a word, or a block.
pub(crate) fn read_resolver(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    match &entry.value {
        Value::String(word) => match resolver_word(word) {
            Ok(resolver) => options.resolver = Some(resolver),
            Err(sentence) => read::invalid(entry, sentence, problems),
        },
        Value::Map(map) => {
            let before = problems.errors.len();
            let resolver = resolver_block(entry, map, problems);
            if problems.errors.len() == before {
                options.resolver = resolver;
            }
        }
        other => {
            let sentence = format!("error parsing operator resolver, wrong type {}", other.kind());
            read::invalid(entry, sentence, problems);
        }
    }
}

fn resolver_word(word: &str) -> Result<Resolver, String> {
    let upper = word.to_ascii_uppercase();
    // The original looks for the words anywhere; a URL may well have one in it.
    if let Some(at) = upper.find("URL(") {
        let inner = &word[at + "URL(".len()..];
        let url = inner.split(')').next().unwrap_or_default().trim().trim_matches('"');
        if !is_url(url) {
            return Err(format!("error parsing account resolver url [{url:?}]"));
        }
        let slash = if url.ends_with('/') { "" } else { "/" };
        return Ok(Resolver::Url(format!("{url}{slash}")));
    }
    if upper.contains("MEM") { Ok(Resolver::Memory) } else { Err(RESOLVER_FORMS.into()) }
}

/// `http` or `https`, a host, and perhaps a port and a path.
fn is_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_port = authority.rsplit('@').next().unwrap_or_default();
    let host = match read::split_host_port(host_port) {
        Some((host, port)) if port.is_empty() || port.parse::<u16>().is_ok() => host,
        Some(_) => return false,
        None => host_port,
    };
    ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str())
        && !host.is_empty()
        && url.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What a block says, before it is clear what of it fits.
#[derive(Default)]
struct Block {
    kind: String,
    directory: Option<PathBuf>,
    allow_delete: bool,
    hard_delete: Option<bool>,
    limit: Option<u64>,
    ttl: Option<Duration>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
}

fn resolver_block(entry: &Entry, map: &Map, problems: &mut Problems) -> Option<Resolver> {
    let mut block = Block::default();
    for item in map {
        match item.key.to_ascii_lowercase().as_str() {
            "type" => block.kind = read::text(item, problems).unwrap_or_default().to_ascii_uppercase(),
            "dir" => block.directory = read::optional_text(item, problems).flatten().map(PathBuf::from),
            "allow_delete" => block.allow_delete = read::boolean(item, problems).unwrap_or_default(),
            "hard_delete" => block.hard_delete = read::boolean(item, problems),
            "limit" => block.limit = read::count(item, problems).filter(|limit| *limit > 0),
            "ttl" => block.ttl = time(item, problems).filter(|ttl| !ttl.is_zero()),
            "interval" => block.interval = time(item, problems).filter(|interval| !interval.is_zero()),
            "timeout" => match time(item, problems) {
                Some(timeout) if timeout.is_zero() => {
                    let shown = duration::show(timeout);
                    read::invalid(entry, format!("Fetch timeout {shown} is too smal"), problems);
                }
                timeout => block.timeout = timeout,
            },
            // The original ignores what it does not know here.
            _ => {
                let (field, reason) = (item.key.clone(), "unknown in a resolver block".to_owned());
                problems.warn(&item.place, ProblemKind::Questionable { field, reason });
            }
        }
    }
    match block.kind.as_str() {
        "MEM" | "MEMORY" => Some(Resolver::Memory),
        "FULL" => block.full(entry, problems),
        "CACHE" => block.cache(entry, problems),
        _ => {
            read::invalid(entry, RESOLVER_FORMS, problems);
            None
        }
    }
}

fn time(item: &Entry, problems: &mut Problems) -> Option<Duration> {
    read::duration(item, &item.key, problems)
}

impl Block {
    fn full(self, entry: &Entry, problems: &mut Problems) -> Option<Resolver> {
        if self.ttl.is_some() {
            read::invalid(entry, "FULL does not accept ttl", problems);
        }
        if self.hard_delete.is_some() && !self.allow_delete {
            read::invalid(entry, "hard_delete has no effect without delete", problems);
        }
        let removal = match (self.allow_delete, self.hard_delete) {
            (false, _) => Removal::Refused,
            (true, Some(true)) => Removal::Deleted,
            (true, _) => Removal::Renamed,
        };
        Some(Resolver::Full(DirectoryResolver {
            directory: directory(self.directory, entry, problems)?,
            removal,
            limit: self.limit,
            interval: self.interval.unwrap_or(DEFAULT_SYNC_INTERVAL),
            ttl: None,
            timeout: self.timeout.unwrap_or(DEFAULT_FETCH_TIMEOUT),
        }))
    }

    fn cache(self, entry: &Entry, problems: &mut Problems) -> Option<Resolver> {
        let refused = [
            ("sync", self.interval.is_some()),
            ("allow_delete", self.allow_delete),
            ("hard_delete", self.hard_delete.is_some()),
        ];
        for (field, _) in refused.iter().filter(|(_, said)| *said) {
            read::invalid(entry, format!("CACHE does not accept {field}"), problems);
        }
        Some(Resolver::Cache(DirectoryResolver {
            directory: directory(self.directory, entry, problems)?,
            removal: Removal::Deleted,
            limit: Some(self.limit.unwrap_or(DEFAULT_CACHE_LIMIT)),
            interval: DEFAULT_SYNC_INTERVAL,
            ttl: self.ttl,
            timeout: self.timeout.unwrap_or(DEFAULT_FETCH_TIMEOUT),
        }))
    }
}

fn directory(said: Option<PathBuf>, entry: &Entry, problems: &mut Problems) -> Option<PathBuf> {
    if said.is_none() {
        read::invalid(entry, "dir has no value and needs to point to a directory", problems);
    }
    said
}

/// Rules between operators and everything else.
pub(crate) fn check(options: &Options) -> Result<(), Invalid> {
    let fault = |sentence: &str| Err(Invalid::Operator(sentence.into()));
    if options.has_operators() && options.no_auth_user.is_some() {
        return fault("no_auth_user not compatible with Trusted Operator");
    }
    if !options.resolver_preload.is_empty() && matches!(options.resolver, Some(Resolver::Url(_))) {
        return fault("resolver preloads only available for writeable resolver types MEM/DIR/CACHE_DIR");
    }
    // Accounts say themselves which service decides on their users.
    let two_callouts = "operators do not allow authorization callouts to be configured directly";
    let has_callout = options.authorization.callout.is_some();
    let Some(first) = options.operators.first() else {
        return match options.default_sentinel {
            Some(_) => fault("default sentinel requires operators and accounts"),
            None if has_callout && options.has_operators() => fault(two_callouts),
            None => Ok(()),
        };
    };
    if let Some(sentinel) = &options.default_sentinel {
        check_sentinel(sentinel)?;
    }
    if options.resolver.is_none() {
        return fault("operators require an account resolver to be configured");
    }
    if !options.accounts.is_empty() {
        return fault("operators do not allow Accounts to be configured directly");
    }
    if !options.users.is_empty() || !options.nkeys.is_empty() {
        return fault("operators do not allow users to be configured directly");
    }
    if !options.trusted_keys.is_empty() {
        return fault("conflicting options for 'TrustedKeys' and 'TrustedOperators'");
    }
    let mut named = options.operators.iter().map(|operator| &operator.claims.nats.system_account);
    match &options.system_account {
        Some(system) => {
            let says_another =
                named.clone().any(|name| !name.is_empty()) && !named.any(|name| name == system);
            if says_another {
                return fault("system_account in config and operator JWT must be identical");
            }
        }
        None if first.claims.nats.system_account.is_empty() => {
            if matches!(options.resolver, Some(Resolver::Full(_) | Resolver::Cache(_))) {
                return fault(
                    "using nats based account resolver - the system account needs to be specified in configuration \
                     or the operator jwt",
                );
            }
        }
        None => {}
    }
    options.operators.iter().try_for_each(check_version)?;
    for key in options.trusted().0 {
        if !KeyKind::Operator.owns(&key) {
            return fault(&format!("trusted Keys {key:?} are required to be a valid public operator nkey"));
        }
    }
    for key in options.resolver_pinned_accounts.iter().flatten() {
        if !KeyKind::Account.owns(key) {
            return fault(&format!("pinned account key {key:?} is not a valid public account nkey"));
        }
    }
    if has_callout { fault(two_callouts) } else { Ok(()) }
}

fn check_sentinel(sentinel: &Secret) -> Result<(), Invalid> {
    let Ok(user) = token::decode::<User>(sentinel.expose()) else {
        return Err(Invalid::Operator("default sentinel JWT not valid".into()));
    };
    let user: Claims<User> = user;
    // A scoped signing key may say that it is one.
    let may_be_scoped = !user.nats.issuer_account.is_empty() && user.nats.has_no_limits();
    if user.nats.limits.bearer || may_be_scoped {
        return Ok(());
    }
    Err(Invalid::Operator("default sentinel must be a bearer token".into()))
}

fn check_version(operator: &Operator) -> Result<(), Invalid> {
    let (name, wanted) = (&operator.claims.data.subject, &operator.claims.nats.assert_server_version);
    let wanted = parse_version(wanted).map_err(|error| {
        Invalid::Operator(format!("operator {name} expects version {wanted} got error instead: {error}"))
    })?;
    for (part, (wanted, ours)) in ["major", "minor", "update"].iter().zip(wanted.iter().zip(SERVER_VERSION)) {
        if *wanted > ours {
            let sentence =
                format!("operator {name} expected {part} version {wanted} > server {part} version {ours}");
            return Err(Invalid::Operator(sentence));
        }
        if *wanted < ours {
            break;
        }
    }
    Ok(())
}

impl Options {
    /// Whether users come with tokens that a trusted operator's accounts vouch for.
    pub fn has_operators(&self) -> bool {
        !self.operators.is_empty() || !self.trusted_keys.is_empty()
    }

    /// The keys whose word on accounts counts, and those of them whose accounts must sign with signing keys.
    pub fn trusted(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let mut trusted: BTreeSet<String> = self.trusted_keys.iter().cloned().collect();
        let mut strict = BTreeSet::new();
        for operator in &self.operators {
            trusted.extend(operator.claims.trusted_keys().map(str::to_owned));
            if operator.claims.nats.strict_signing_key_usage {
                strict.extend(operator.claims.nats.signing_keys.iter().cloned());
            }
        }
        (trusted, strict)
    }
}
