//! The `authorization` block, users, and what they may do.

use std::collections::{BTreeSet, HashSet};

use sonata_subject as subject;

use crate::duration;
use crate::grammar::{Entry, Map, Value};
use crate::nkey;
use crate::options::{
    AuthCallout, Authorization, ConnectionType, GLOBAL_ACCOUNT, NkeyUser, Options, PermissionEntry,
    Permissions, ResponsePermission, Secret, SubjectPermission, User,
};
use crate::problem::{ProblemKind, Problems};
use crate::read;

/// A timeout above this many seconds is more likely a mistake, `1m` for `"1m"`.
const HIGH_TIMEOUT_SECONDS: u64 = 60;

/// Reads the block. Contradictions with other blocks are found later, by [`check_together`].
pub(crate) fn read(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    let Some(map) = read::map(entry, problems) else { return };
    let mut authorization = Authorization::default();
    let mut users = None;
    let mut default_permissions = None;
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "user" | "username" => authorization.user = read::optional_text(entry, problems).flatten(),
            "pass" | "password" => authorization.password = secret(entry, problems),
            "token" => authorization.token = secret(entry, problems),
            "timeout" => authorization.timeout = timeout(entry, problems),
            "users" => users = Some(read_users(entry, problems)),
            "default_permission" | "default_permissions" | "permissions" => {
                default_permissions = permissions(entry, problems);
            }
            "proxy_required" => {
                authorization.proxy_required = read::boolean(entry, problems).unwrap_or_default()
            }
            "auth_callout" | "auth_hook" => authorization.callout = read_callout(entry, problems),
            _ => read::unknown(entry, problems),
        }
    }

    let single = authorization.user.is_some() || authorization.password.is_some();
    let conflict = match (&authorization.token, &users) {
        (Some(_), _) if single => Some("Cannot have a user/pass and token"),
        (_, Some(_)) if authorization.user.is_some() => {
            Some("Can not have a single user/pass and a users array")
        }
        (Some(_), Some(_)) => Some("Can not have a token and a users array"),
        _ => None,
    };
    if let Some(sentence) = conflict {
        problems.error(&entry.place, ProblemKind::Conflict(sentence));
    }
    if let Some(users) = users {
        users.add_to(options, None, default_permissions.as_ref());
    }
    options.authorization = authorization;
}

/// What only all blocks together show: two users of one name, and a single user or token beside the
/// users of accounts.
pub(crate) fn check_together(options: &Options, map: &Map, problems: &mut Problems) {
    let mut names = HashSet::new();
    for block in map {
        match (block.key.to_ascii_lowercase().as_str(), &block.value) {
            ("authorization", Value::Map(users)) => {
                check_names(users, &mut names, problems);
                check_callout(options, block, problems);
            }
            ("accounts", Value::Map(accounts)) => {
                // Accounts that variables refer to are only patterns for others.
                for account in accounts.iter().filter(|account| !account.referenced) {
                    let Value::Map(account) = &account.value else { continue };
                    check_names(account, &mut names, problems);
                    let users = account.iter().find(|e| e.key.eq_ignore_ascii_case("users"));
                    let Some(users) = users else { continue };
                    let conflict = if matches!(&users.value, Value::List(items) if items.is_empty()) {
                        None
                    } else if options.authorization.user.is_some() {
                        Some("Can not have a single user/pass and accounts")
                    } else if options.authorization.token.is_some() {
                        Some("Can not have a token and accounts")
                    } else {
                        None
                    };
                    if let Some(sentence) = conflict {
                        problems.error(&users.place, ProblemKind::Conflict(sentence));
                    }
                }
            }
            _ => {}
        }
    }
}

/// The accounts of a callout must be there.
fn check_callout(options: &Options, block: &Entry, problems: &mut Problems) {
    let Some(callout) = &options.authorization.callout else { return };
    let is_known = |name: &String| options.accounts.iter().any(|account| account.name == *name);
    for missing in callout.allowed_accounts.iter().filter(|name| !is_known(name)) {
        let sentence = format!("auth_callout allowed account {missing:?} not found in configured accounts");
        read::invalid(block, sentence, problems);
    }
}

/// Notes every user whose name (or nkey) was seen before.
fn check_names<'a>(block: &'a Map, names: &mut HashSet<&'a str>, problems: &mut Problems) {
    for users in block.iter().filter(|e| e.key.eq_ignore_ascii_case("users")) {
        let Value::List(items) = &users.value else { continue };
        for item in items {
            let Value::Map(user) = &item.value else { continue };
            for entry in user {
                let kind = match entry.key.to_ascii_lowercase().as_str() {
                    "user" | "username" => "user",
                    "nkey" => "nkey",
                    _ => continue,
                };
                let Value::String(name) = &entry.value else { continue };
                if !name.is_empty() && !names.insert(name) {
                    let sentence = format!("Duplicate {kind} {name:?} detected");
                    problems.error(&entry.place, ProblemKind::Duplicate(sentence));
                }
            }
        }
    }
}

fn timeout(entry: &Entry, problems: &mut Problems) -> Option<std::time::Duration> {
    let timeout = read::seconds(entry, "authorization", problems)??;
    if timeout.as_secs_f64() > HIGH_TIMEOUT_SECONDS as f64 {
        let written = match &entry.value {
            Value::String(text) => text.clone(),
            Value::Integer(n) => n.to_string(),
            Value::Float(x) => x.to_string(),
            _ => duration::show(timeout),
        };
        let reason = format!(
            "timeout of {written} ({:.6} seconds) is high, consider keeping it under 60 seconds. possibly caused by \
             unquoted duration; use '1m' instead of 1m, for example",
            timeout.as_secs_f64()
        );
        problems.warn(&entry.place, ProblemKind::Questionable { field: entry.key.clone(), reason });
    }
    Some(timeout)
}

fn secret(entry: &Entry, problems: &mut Problems) -> Option<Secret> {
    read::optional_text(entry, problems).flatten().map(Secret::new)
}

/// The users of one list.
#[derive(Default)]
pub(crate) struct Users {
    users: Vec<User>,
    nkeys: Vec<NkeyUser>,
}

impl Users {
    /// Adds all to `options`, in an account (`None`: `$G`), with these permissions unless they have own.
    pub(crate) fn add_to(self, options: &mut Options, account: Option<&str>, default: Option<&Permissions>) {
        for mut user in self.users {
            user.account = account.map(str::to_owned);
            user.permissions = user.permissions.or_else(|| default.cloned());
            options.users.push(user);
        }
        for mut user in self.nkeys {
            user.account = account.map(str::to_owned);
            user.permissions = user.permissions.or_else(|| default.cloned());
            options.nkeys.push(user);
        }
    }
}

/// Reads `auth_callout`.
fn read_callout(entry: &Entry, problems: &mut Problems) -> Option<AuthCallout> {
    let Value::Map(map) = &entry.value else {
        let sentence =
            format!("Expected authorization callout to be a map/struct, got {}", entry.value.kind());
        read::invalid(entry, sentence, problems);
        return None;
    };
    let mut callout = AuthCallout { account: GLOBAL_ACCOUNT.to_owned(), ..AuthCallout::default() };
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "issuer" => {
                callout.issuer = read::text(entry, problems)?.to_owned();
                if !nkey::is_account(&callout.issuer) {
                    let sentence = format!(
                        "Expected callout user to be a valid public account nkey, got {:?}",
                        callout.issuer
                    );
                    read::invalid(entry, sentence, problems);
                    return None;
                }
            }
            "account" | "acc" => {
                if let Some(account) = read::optional_text(entry, problems)? {
                    callout.account = account;
                }
            }
            "auth_users" | "users" => callout.auth_users = callout_names("auth_users", entry, problems)?,
            "allowed_accounts" => {
                callout.allowed_accounts = callout_names("allowed accounts", entry, problems)?;
            }
            "xkey" | "key" => {
                let xkey = read::text(entry, problems)?;
                if !nkey::is_curve(xkey) {
                    let sentence = format!("Expected callout xkey to be a valid public xkey, got {xkey:?}");
                    read::invalid(entry, sentence, problems);
                    return None;
                }
                callout.xkey = Some(xkey.to_owned());
            }
            key if !entry.referenced => {
                read::invalid(
                    entry,
                    format!("Unknown field {key:?} parsing authorization callout"),
                    problems,
                );
            }
            _ => {}
        }
    }
    let missing = match (callout.issuer.is_empty(), callout.auth_users.is_empty()) {
        (true, _) => Some("Authorization callouts require an issuer to be specified"),
        (_, true) => Some("Authorization callouts require authorized users to be specified"),
        _ => None,
    };
    if let Some(sentence) = missing {
        read::invalid(entry, sentence, problems);
        return None;
    }
    Some(callout)
}

fn callout_names(what: &str, entry: &Entry, problems: &mut Problems) -> Option<Vec<String>> {
    let Value::List(items) = &entry.value else {
        let sentence = format!("Expected {what} field to be an array, got {}", entry.value.kind());
        read::invalid(entry, sentence, problems);
        return None;
    };
    Some(items.iter().filter_map(|item| read::text(item, problems).map(str::to_owned)).collect())
}

/// Reads `proxies`.
pub(crate) fn read_proxies(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    let Value::Map(map) = &entry.value else {
        let sentence = format!("expected proxies to be a map/struct, got {}", entry.value.kind());
        return read::invalid(entry, sentence, problems);
    };
    for entry in map {
        match (&*entry.key.to_ascii_lowercase(), &entry.value) {
            ("trusted", Value::List(items)) => {
                options.trusted_proxies =
                    items.iter().filter_map(|item| trusted_proxy(item, problems)).collect();
            }
            ("trusted", other) => {
                let sentence =
                    format!("expected proxies' trusted field to be an array, got {}", other.kind());
                read::invalid(entry, sentence, problems);
            }
            _ => read::unknown(entry, problems),
        }
    }
}

fn trusted_proxy(item: &Entry, problems: &mut Problems) -> Option<String> {
    let Value::Map(map) = &item.value else {
        let sentence =
            format!("expected proxies' trusted entry to be a map/struct, got {}", item.value.kind());
        read::invalid(item, sentence, problems);
        return None;
    };
    let mut key = None;
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "key" | "public_key" => {
                let text = read::text(entry, problems)?;
                if !nkey::is_public(text) {
                    read::invalid(entry, format!("invalid proxy key {text:?}"), problems);
                }
                key = Some(text.to_owned());
            }
            _ => read::unknown(entry, problems),
        }
    }
    if key.is_none() {
        read::invalid(item, "expected proxies' trusted entry to have a key", problems);
    }
    key
}

/// Reads a list of users.
pub(crate) fn read_users(entry: &Entry, problems: &mut Problems) -> Users {
    let mut users = Users::default();
    let Some(items) = read::list(entry, problems) else { return users };
    for item in items {
        match &item.value {
            Value::Map(map) => read_user(item, map, &mut users, problems),
            other => {
                let sentence = format!("Expected user entry to be a map/struct, got {}", other.kind());
                read::invalid(item, sentence, problems);
            }
        }
    }
    users
}

fn read_user(item: &Entry, map: &Map, users: &mut Users, problems: &mut Problems) {
    let (mut name, mut password, mut nkey) = (None, None, None);
    let (mut allowed, mut connection_types, mut proxy_required) = (None, None, false);
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "user" | "username" => name = read::optional_text(entry, problems).flatten(),
            "pass" | "password" => password = secret(entry, problems),
            "nkey" => nkey = read::optional_text(entry, problems).flatten(),
            "permission" | "permissions" | "authorization" => allowed = permissions(entry, problems),
            "allowed_connection_types" | "connection_types" | "clients" => {
                connection_types = read_connection_types(entry, problems);
            }
            "proxy_required" => proxy_required = read::boolean(entry, problems).unwrap_or_default(),
            _ => read::unknown(entry, problems),
        }
    }
    match (name, nkey) {
        (None, None) => read::invalid(item, "User entry requires a user", problems),
        (_, Some(nkey)) if !nkey::is_user(&nkey) => {
            read::invalid(item, "Not a valid public nkey for a user", problems);
        }
        (name, Some(_)) if name.is_some() || password.is_some() => {
            read::invalid(item, "Nkey users do not take usernames or passwords", problems);
        }
        (_, Some(nkey)) => {
            users.nkeys.push(NkeyUser {
                nkey,
                account: None,
                permissions: allowed,
                connection_types,
                proxy_required,
            });
        }
        (Some(name), None) => {
            let password = password.unwrap_or_default();
            users.users.push(User {
                name,
                password,
                account: None,
                permissions: allowed,
                connection_types,
                proxy_required,
            });
        }
    }
}

fn read_connection_types(entry: &Entry, problems: &mut Problems) -> Option<BTreeSet<ConnectionType>> {
    let mut types = BTreeSet::new();
    for name in read::texts(entry, problems)? {
        match ConnectionType::from_name(&name) {
            Some(known) => drop(types.insert(known)),
            None => read::invalid(entry, format!("unknown connection type {name:?}"), problems),
        }
    }
    // An empty list restricts nothing.
    Some(types).filter(|types| !types.is_empty())
}

/// Reads a block of permissions.
pub(crate) fn permissions(entry: &Entry, problems: &mut Problems) -> Option<Permissions> {
    let Value::Map(map) = &entry.value else {
        let sentence = format!("Expected permissions to be a map/struct, got {}", entry.value.kind());
        read::invalid(entry, sentence, problems);
        return None;
    };
    let mut permissions = Permissions::default();
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "pub" | "publish" | "import" => {
                permissions.publish = subject_permission(entry, Queues::Refused, problems);
            }
            "sub" | "subscribe" | "export" => {
                permissions.subscribe = subject_permission(entry, Queues::Allowed, problems);
            }
            "publish_allow_responses" | "allow_responses" => {
                permissions.responses = response_permission(entry, problems);
            }
            _ => read::unknown_in("permissions", entry, problems),
        }
    }
    if permissions.responses.is_some() {
        // Who may only answer may not publish freely.
        permissions.publish.allow.get_or_insert_default();
    }
    Some(permissions)
}

/// Whether `subject queue` may be written for a subject.
#[derive(Clone, Copy, PartialEq)]
enum Queues {
    Allowed,
    Refused,
}

fn subject_permission(entry: &Entry, queues: Queues, problems: &mut Problems) -> SubjectPermission {
    let mut permission = SubjectPermission::default();
    let Value::Map(map) = &entry.value else {
        permission.allow = allow_list(subjects(entry, queues, problems));
        return permission;
    };
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "allow" => permission.allow = allow_list(subjects(entry, queues, problems)),
            "deny" => permission.deny = subjects(entry, queues, problems),
            key if !entry.referenced => {
                let sentence = format!(
                    "Unknown field name {key:?} parsing subject permissions, only 'allow' or 'deny' are permitted"
                );
                read::invalid(entry, sentence, problems);
            }
            _ => {}
        }
    }
    permission
}

/// An empty list allows everything, as if it were not there.
fn allow_list(subjects: Vec<PermissionEntry>) -> Option<Vec<PermissionEntry>> {
    Some(subjects).filter(|subjects| !subjects.is_empty())
}

fn subjects(entry: &Entry, queues: Queues, problems: &mut Problems) -> Vec<PermissionEntry> {
    let mut entries = Vec::new();
    for text in read::texts(entry, problems).unwrap_or_default() {
        match permission_entry(&text, queues) {
            Ok(permitted) => entries.push(permitted),
            Err(sentence) => read::invalid(entry, sentence, problems),
        }
    }
    entries
}

fn permission_entry(text: &str, queues: Queues) -> Result<PermissionEntry, String> {
    let is_subject = |text: &str| subject::classify(text.as_bytes()).is_ok();
    if is_subject(text) {
        return Ok(PermissionEntry { subject: text.to_owned(), queue: None });
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        [name, queue] if queues == Queues::Allowed => match (is_subject(name), is_subject(queue)) {
            (false, _) => Err(format!("subject {name:?} is not a valid subject")),
            (_, false) => Err(format!("queue {queue:?} is not a valid queue")),
            _ => Ok(PermissionEntry { subject: (*name).to_owned(), queue: Some((*queue).to_owned()) }),
        },
        _ => Err(format!("subject {text:?} is not a valid subject")),
    }
}

fn response_permission(entry: &Entry, problems: &mut Problems) -> Option<ResponsePermission> {
    let map = match &entry.value {
        Value::Bool(on) => return on.then(ResponsePermission::default),
        Value::Map(map) => map,
        _ => {
            let sentence = "error parsing response permissions, expected a boolean or a map";
            read::invalid(entry, sentence, problems);
            return None;
        }
    };
    let mut responses = ResponsePermission::default();
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "max" | "max_msgs" | "max_messages" | "max_responses" => match read::integer(entry, problems) {
                Some(0) | None => {}
                Some(n) => responses.max_msgs = u64::try_from(n).ok(),
            },
            "expires" | "expiration" | "ttl" => {
                let Value::String(text) = &entry.value else {
                    read::invalid(entry, "error parsing expires, not a duration string", problems);
                    continue;
                };
                match duration::parse(text) {
                    Ok(Some(time)) if time.is_zero() => {}
                    Ok(time) => responses.expires = time,
                    Err(error) => {
                        let field = "expires".to_owned();
                        problems.error(&entry.place, ProblemKind::Duration { field, error });
                    }
                }
            }
            _ => read::unknown_in("permissions", entry, problems),
        }
    }
    Some(responses)
}
