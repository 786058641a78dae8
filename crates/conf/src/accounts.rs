//! The `accounts` block: names, users, limits and JetStream.

use std::collections::HashSet;

use crate::authorization::{permissions, read_users};
use crate::grammar::{Entry, Map, Value};
use crate::jetstream;
use crate::nkey;
use crate::options::{Account, AccountLimits, GLOBAL_ACCOUNT, Options};
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
            "jetstream" => account.jetstream = jetstream::read_account(entry, problems),
            "exports" => account.exports = sharing::read_exports(entry, problems),
            "imports" => wishes.extend(sharing::read_imports(options.accounts.len(), entry, problems)),
            "mappings" | "maps" => account.mappings = sharing::read_mappings(entry, problems),
            "msg_trace" | "trace_dest" => read::not_supported(entry, problems),
            _ => read::unknown(entry, problems),
        }
    }
    if let Some(users) = users {
        users.add_to(options, Some(&account.name), account.default_permissions.as_ref());
    }
    options.accounts.push(account);
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
