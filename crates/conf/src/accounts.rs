//! The `accounts` block: names, users, limits and JetStream.

use std::collections::HashSet;

use sonata_subject::is_literal;

use crate::authorization::{permissions, read_users};
use crate::grammar::{Entry, Map, Value};
use crate::jetstream;
use crate::nkey;
use crate::options::{Account, AccountLimits, AllowedJetStream, GLOBAL_ACCOUNT, Options, TraceDestination};
use crate::problem::{ProblemKind, Problems};
use crate::read;
use crate::sharing::{self, Wish};

/// Reads the block: a list of names, or a map from name to account.
pub(crate) fn read(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    match &entry.value {
        Value::List(names) => read_names(options, names, problems),
        Value::Map(accounts) => {
            let mut wishes = Vec::new();
            for account in accounts {
                // Variables may be defined among the accounts.
                if !account.referenced {
                    read_account(options, account, &mut wishes, problems);
                }
            }
            if problems.errors.is_empty() {
                sharing::check(&mut options.accounts, wishes, entry, problems);
            }
        }
        _ => read::wrong_type(entry, "a list of names or a map of accounts", problems),
    }
}

fn read_names(options: &mut Options, names: &[Entry], problems: &mut Problems) {
    let mut seen = HashSet::new();
    for item in names {
        let Value::String(name) = &item.value else {
            read::wrong_type(item, "the name of an account", problems);
            continue;
        };
        if is_reserved(name, item, problems) {
            continue;
        }
        if !seen.insert(name) {
            problems.error(&item.place, ProblemKind::Duplicate(format!("Duplicate Account Entry: {name}")));
            continue;
        }
        options.accounts.push(Account { name: name.clone(), ..Account::default() });
    }
}

fn is_reserved(name: &str, entry: &Entry, problems: &mut Problems) -> bool {
    let reserved = name == GLOBAL_ACCOUNT;
    if reserved {
        read::invalid(entry, format!("{name:?} is a Reserved Account"), problems);
    }
    reserved
}

fn read_account(options: &mut Options, entry: &Entry, wishes: &mut Vec<Wish>, problems: &mut Problems) {
    let Value::Map(map) = &entry.value else {
        return read::invalid(entry, "Expected map entries for accounts", problems);
    };
    if is_reserved(&entry.key, entry, problems) {
        return;
    }
    let mut account = Account { name: entry.key.clone(), ..Account::default() };
    let mut users = None;
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "nkey" => match &entry.value {
                Value::String(key) if nkey::is_account(key) => account.nkey = Some(key.clone()),
                Value::String(key) => {
                    let sentence = format!("Not a valid public nkey for an account: {key:?}");
                    read::invalid(entry, sentence, problems);
                }
                _ => read::wrong_type(entry, "a public nkey", problems),
            },
            "users" => users = Some(read_users(entry, problems)),
            "default_permissions" => account.default_permissions = permissions(entry, problems),
            "limits" => match &entry.value {
                Value::Map(limits) => account.limits = read_limits(limits, problems),
                other => {
                    let sentence =
                        format!("Expected account limits to be a map/struct, got {}", other.kind());
                    read::invalid(entry, sentence, problems);
                }
            },
            "jetstream" => {
                account.jetstream = jetstream::read_account(entry, problems).map(AllowedJetStream::Whole);
            }
            "exports" => account.exports = sharing::read_exports(entry, problems),
            "imports" => wishes.extend(sharing::read_imports(options.accounts.len(), entry, problems)),
            "mappings" | "maps" => account.mappings = sharing::read_mappings(entry, problems),
            "msg_trace" | "trace_dest" => account.trace = trace(entry, problems),
            _ => read::unknown(entry, problems),
        }
    }
    if let Some(users) = users {
        users.add_to(options, Some(&account.name), account.default_permissions.as_ref());
    }
    options.accounts.push(account);
}

/// A subject, or a block with it and a share.
fn trace(entry: &Entry, problems: &mut Problems) -> Option<TraceDestination> {
    let (mut subject, mut percent) = (None, 100);
    match &entry.value {
        Value::String(_) => subject = trace_subject(entry, problems),
        Value::Map(map) => {
            for item in map {
                match item.key.to_ascii_lowercase().as_str() {
                    "dest" => subject = trace_subject(item, problems),
                    "sampling" => percent = trace_percent(item, problems)?,
                    _ if item.referenced => {}
                    _ => {
                        let sentence = format!(
                            "Unknown field {:?} parsing account message trace map/struct {:?}",
                            item.key, entry.key
                        );
                        read::invalid(item, sentence, problems);
                    }
                }
            }
            if subject.is_none() {
                let reason = "Trace destination sampling ignored since no destination was set".to_owned();
                problems.warn(&entry.place, ProblemKind::Questionable { field: entry.key.clone(), reason });
            }
        }
        other => {
            let sentence = format!(
                "Expected account message trace {:?} to be a string or a map/struct, got {}",
                entry.key,
                other.kind()
            );
            read::invalid(entry, sentence, problems);
        }
    }
    subject.map(|subject| TraceDestination { subject, percent })
}

fn trace_subject(entry: &Entry, problems: &mut Problems) -> Option<String> {
    let subject = read::text(entry, problems)?;
    if !is_literal(subject.as_bytes()) {
        read::invalid(entry, format!("Trace destination {subject:?} is not valid"), problems);
        return None;
    }
    Some(subject.to_owned())
}

fn trace_percent(entry: &Entry, problems: &mut Problems) -> Option<u8> {
    let percent = match &entry.value {
        Value::Integer(percent) => *percent,
        Value::String(text) => match text.strip_suffix('%').unwrap_or(text).parse() {
            Ok(percent) => percent,
            Err(_) => {
                let sentence = format!("Invalid trace destination sampling value {text:?}");
                read::invalid(entry, sentence, problems);
                return None;
            }
        },
        other => {
            let sentence = format!(
                "Trace destination sampling field {:?} should be an integer or a percentage, got {}",
                entry.key,
                other.kind()
            );
            read::invalid(entry, sentence, problems);
            return None;
        }
    };
    match u8::try_from(percent) {
        Ok(percent @ 1..=100) => Some(percent),
        _ => {
            let sentence =
                format!("Trace destination sampling value {percent} is invalid, needs to be [1..100]");
            read::invalid(entry, sentence, problems);
            None
        }
    }
}

fn read_limits(map: &Map, problems: &mut Problems) -> AccountLimits {
    let mut limits = AccountLimits::default();
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "max_connections" | "max_conn" => limits.max_connections = limit(entry, problems),
            "max_subscriptions" | "max_subs" => limits.max_subscriptions = limit(entry, problems),
            "max_payload" | "max_pay" => limits.max_payload = limit(entry, problems),
            "max_leafnodes" | "max_leafs" => {
                // There are no leaf nodes to limit; unlimited or none of them is the same.
                if limit(entry, problems).is_some_and(|n| n > 0) {
                    problems.error(&entry.place, ProblemKind::NotSupported(entry.key.clone()));
                }
            }
            _ => read::unknown_in("account limits", entry, problems),
        }
    }
    limits
}

/// A limit of an account: negative is unlimited, zero allows nothing.
fn limit(entry: &Entry, problems: &mut Problems) -> Option<u32> {
    let n = read::integer(entry, problems)?;
    if n < 0 {
        return None;
    }
    match u32::try_from(n) {
        Ok(n) if n <= i32::MAX.unsigned_abs() => Some(n),
        _ => {
            let field = entry.key.clone();
            problems.error(&entry.place, ProblemKind::OutOfRange { field, reason: "is too big" });
            None
        }
    }
}
