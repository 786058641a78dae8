//! `exports`, `imports` and `mappings`: what accounts share, and what they call it.
//!
//! Each is read where it stands; what one account imports of another can be judged only when all are known, which
//! [`check`] does.

use std::collections::HashSet;

use sonata_jwt::share::{self, ShareKind};
use sonata_subject::import::{ServiceSubjects, StreamSubjects};
use sonata_subject::mapping::{Mapping, MappingError};
use sonata_subject::{classify, has_wildcard, is_literal, is_subset, overlaps};

use crate::duration;
use crate::grammar::{Entry, Value};
use crate::options::{
    Account, Export, Exported, Import, Imported, Latency, ResponseType, Sampling, ServiceTerms,
};
use crate::problem::Problems;
use crate::read;

/// Accounts that a search for circles may pass through.
const CYCLE_DEPTH_MAX: usize = 1024;

/// An import as the file has it.
pub(crate) struct Wish {
    /// The importing account's place among the accounts.
    pub(crate) importer: usize,
    exporter: String,
    subject: String,
    local: Local,
    what: Wanted,
    /// It was shown that the exporter allows it.
    activated: bool,
}

/// What the importer calls it.
enum Local {
    Same,
    Prefix(String),
    To(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Stream { allow_trace: bool },
    Service { share: bool },
}

impl Wish {
    /// An import as an account's token has it.
    pub(crate) fn said(importer: usize, said: &share::Import, kind: ShareKind, activated: bool) -> Self {
        let local = match (kind, said.local_subject.as_str(), said.to.as_str()) {
            (_, "", "") => Local::Same,
            (ShareKind::Stream, "", prefix) => Local::Prefix(prefix.to_owned()),
            // Under the older way to write it the two subjects of a service change places.
            (ShareKind::Service, "", _) => Local::To(said.subject.clone()),
            (_, local, _) => Local::To(local.to_owned()),
        };
        let what = match kind {
            ShareKind::Stream => Wanted::Stream { allow_trace: said.allow_trace },
            ShareKind::Service => Wanted::Service { share: said.share },
        };
        let (exporter, subject) = (said.account.clone(), said.exported_subject().to_owned());
        Self { importer, exporter, subject, local, what, activated }
    }

    fn local(&self) -> String {
        match &self.local {
            Local::Same => self.subject.clone(),
            Local::To(to) => to.clone(),
            Local::Prefix(prefix) => format!("{}.{}", prefix.trim_end_matches('.'), self.subject),
        }
    }

    fn is_service(&self) -> bool {
        matches!(self.what, Wanted::Service { .. })
    }
}

/// Reads `exports`.
pub(crate) fn read_exports(entry: &Entry, problems: &mut Problems) -> Vec<Export> {
    let Value::List(items) = &entry.value else {
        read::invalid(entry, format!("Exports should be an array, got {}", entry.value.kind()), problems);
        return Vec::new();
    };
    items.iter().filter_map(|item| read_export(item, problems)).collect()
}

fn read_export(item: &Entry, problems: &mut Problems) -> Option<Export> {
    let Value::Map(map) = &item.value else {
        let sentence = format!("Export Items should be a map with type entry, got {}", item.value.kind());
        read::invalid(item, sentence, problems);
        return None;
    };
    let mut export =
        Export { subject: String::new(), accounts: None, account_token: None, what: Exported::Stream };
    let mut terms = ServiceTerms::default();
    let mut kind: Option<&'static str> = None;
    let mut seen = HashSet::new();
    // Keys that only a service has.
    let mut of_services = Vec::new();
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "stream" => export.subject = subject_of("stream", &mut kind, entry, problems)?,
            "service" => export.subject = subject_of("service", &mut kind, entry, problems)?,
            "response" | "response_type" => {
                if !seen.insert("response") {
                    read::invalid(entry, "Duplicate response type definition", problems);
                    continue;
                }
                of_services.push((entry, "response"));
                terms.response = response_type(entry, problems).unwrap_or_default();
            }
            "threshold" | "response_threshold" | "response_max_time" | "response_time" => {
                if !seen.insert("threshold") {
                    read::invalid(entry, "Duplicate response threshold detected", problems);
                    continue;
                }
                of_services.push((entry, "response"));
                terms.threshold = threshold(entry, problems);
            }
            "latency" => {
                of_services.push((entry, "latency"));
                terms.latency = latency(entry, problems);
            }
            "allow_trace" => {
                of_services.push((entry, "allow_trace"));
                terms.allow_trace = read::boolean(entry, problems).unwrap_or_default();
            }
            "accounts" => export.accounts = names(entry, problems),
            "account_token_position" => {
                let position = read::count(entry, problems).unwrap_or_default();
                export.account_token = usize::try_from(position).ok().filter(|position| *position > 0);
            }
            _ => read::unknown(entry, problems),
        }
    }
    match kind {
        Some("service") => export.what = Exported::Service(terms),
        Some(_) => {
            for (entry, directive) in of_services {
                read::invalid(entry, format!("Detected {directive} directive on non-service"), problems);
            }
        }
        None => {
            read::invalid(
                item,
                "Export Items should be a map with type entry, got no stream or service",
                problems,
            );
            return None;
        }
    }
    Some(export)
}

fn subject_of(
    kind: &'static str,
    seen: &mut Option<&'static str>,
    entry: &Entry,
    problems: &mut Problems,
) -> Option<String> {
    let Value::String(subject) = &entry.value else {
        let sentence = format!("Expected {kind} name to be string, got {}", entry.value.kind());
        read::invalid(entry, sentence, problems);
        return None;
    };
    if let Some(other) = seen.replace(kind).filter(|other| *other != kind) {
        read::invalid(entry, format!("Detected {kind} {subject:?} but already saw a {other}"), problems);
        return None;
    }
    Some(subject.clone())
}

fn response_type(entry: &Entry, problems: &mut Problems) -> Option<ResponseType> {
    let Value::String(name) = &entry.value else {
        let sentence = format!("Expected response type to be string, got {}", entry.value.kind());
        read::invalid(entry, sentence, problems);
        return None;
    };
    match name.to_ascii_lowercase().as_str() {
        "single" | "singleton" => Some(ResponseType::Singleton),
        "stream" => Some(ResponseType::Stream),
        "chunk" | "chunked" => Some(ResponseType::Chunked),
        _ => {
            read::invalid(entry, format!("Unknown response type: {name:?}"), problems);
            None
        }
    }
}

fn threshold(entry: &Entry, problems: &mut Problems) -> Option<std::time::Duration> {
    let expected = "Expected response threshold to be a parseable time duration, got";
    match &entry.value {
        Value::String(text) => match duration::parse(text) {
            Ok(threshold) => return threshold.filter(|threshold| !threshold.is_zero()),
            Err(_) => read::invalid(entry, format!("{expected} {text:?}"), problems),
        },
        other => read::invalid(entry, format!("{expected} {}", other.kind()), problems),
    }
    None
}

fn latency(entry: &Entry, problems: &mut Problems) -> Option<Latency> {
    let map = match &entry.value {
        Value::String(subject) => {
            return Some(Latency { sampling: Sampling::Percent(100), subject: subject.clone() });
        }
        Value::Map(map) => map,
        other => {
            let sentence =
                format!("Expected latency entry to be a map/struct or string, got {}", other.kind());
            read::invalid(entry, sentence, problems);
            return None;
        }
    };
    let mut sampling = Sampling::Percent(100);
    let mut subject = None;
    for entry in map {
        match (entry.key.as_str(), &entry.value) {
            ("sampling", _) => sampling = read_sampling(entry, problems)?,
            ("subject", Value::String(text)) => subject = Some(text.clone()),
            ("subject", other) => {
                let sentence = format!("Expected latency subject to be a string, got {}", other.kind());
                read::invalid(entry, sentence, problems);
                return None;
            }
            _ => read::unknown(entry, problems),
        }
    }
    if subject.is_none() {
        read::invalid(entry, "Latency subject required, but missing", problems);
    }
    subject.map(|subject| Latency { sampling, subject })
}

fn read_sampling(entry: &Entry, problems: &mut Problems) -> Option<Sampling> {
    let percent = match &entry.value {
        Value::Integer(percent) => *percent,
        Value::String(text) if text.trim().eq_ignore_ascii_case("headers") => return Some(Sampling::Headers),
        Value::String(text) => match text.strip_suffix('%').unwrap_or(text).parse() {
            Ok(percent) => percent,
            Err(_) => {
                read::invalid(entry, format!("Failed to parse latency sample: {text:?}"), problems);
                return None;
            }
        },
        other => {
            let sentence =
                format!("Expected latency sample to be a string or map/struct, got {}", other.kind());
            read::invalid(entry, sentence, problems);
            return None;
        }
    };
    match u8::try_from(percent) {
        Ok(percent @ 1..=100) => Some(Sampling::Percent(percent)),
        _ => {
            read::invalid(entry, "bad sampling percentage, should be 1-100", problems);
            None
        }
    }
}

fn names(entry: &Entry, problems: &mut Problems) -> Option<Vec<String>> {
    let Value::List(items) = &entry.value else {
        read::wrong_type(entry, "a list of accounts", problems);
        return None;
    };
    Some(items.iter().filter_map(|item| read::text(item, problems).map(str::to_owned)).collect())
}

/// Reads `imports`; what they come to is seen by [`check`].
pub(crate) fn read_imports(importer: usize, entry: &Entry, problems: &mut Problems) -> Vec<Wish> {
    let Value::List(items) = &entry.value else {
        read::invalid(entry, format!("Imports should be an array, got {}", entry.value.kind()), problems);
        return Vec::new();
    };
    let mut wishes: Vec<Wish> = Vec::new();
    for item in items {
        let Some(wish) = read_import(importer, item, problems) else { continue };
        let local = wish.local();
        let same = |other: &&Wish| {
            other.is_service()
                && other.exporter == wish.exporter
                && wish.is_service()
                && other.local() == local
        };
        match wishes.iter().find(same) {
            Some(first) => {
                let sentence = format!(
                    "Duplicate service import subject {local:?}, previously used in import for account {:?}, subject \
                     {:?}",
                    first.exporter, first.subject
                );
                read::invalid(item, sentence, problems);
            }
            None => wishes.push(wish),
        }
    }
    wishes
}

fn read_import(importer: usize, item: &Entry, problems: &mut Problems) -> Option<Wish> {
    let Value::Map(map) = &item.value else {
        let sentence = format!("Import Items should be a map with type entry, got {}", item.value.kind());
        read::invalid(item, sentence, problems);
        return None;
    };
    let (mut stream, mut service) = (None, None);
    let (mut prefix, mut to, mut share, mut trace) = (None, None, false, None);
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "stream" if service.is_some() => {
                read::invalid(entry, "Detected stream but already saw a service", problems);
            }
            "service" if stream.is_some() => {
                read::invalid(entry, "Detected service but already saw a stream", problems);
            }
            "stream" => stream = Some(origin("Stream", entry, problems)?),
            "service" => service = Some(origin("Service", entry, problems)?),
            "prefix" => prefix = read::optional_text(entry, problems).flatten(),
            "to" => to = read::optional_text(entry, problems).flatten().map(|to| (entry, to)),
            "share" => share = read::boolean(entry, problems).unwrap_or_default(),
            "allow_trace" => trace = read::boolean(entry, problems).map(|allow| (entry, allow)),
            _ => read::unknown(entry, problems),
        }
    }
    let ((exporter, subject), what) = match (stream, service, trace) {
        (Some(stream), _, trace) => {
            (stream, Wanted::Stream { allow_trace: trace.is_some_and(|(_, allow)| allow) })
        }
        (_, Some(_), Some((entry, _))) => {
            read::invalid(entry, "Detected allow_trace directive on a non-stream", problems);
            return None;
        }
        (_, Some(service), None) => (service, Wanted::Service { share }),
        (None, None, _) => {
            read::invalid(
                item,
                "Import Items should be a map with type entry, got no stream or service",
                problems,
            );
            return None;
        }
    };
    let local = match (prefix, to) {
        (Some(_), Some((entry, _))) if matches!(what, Wanted::Stream { .. }) => {
            read::invalid(entry, "Stream import can not have a 'prefix' and a 'to' property", problems);
            return None;
        }
        (Some(prefix), _) if matches!(what, Wanted::Stream { .. }) => Local::Prefix(prefix),
        (_, Some((_, to))) => Local::To(to),
        (Some(_), None) => {
            let sentence = "Service import can not have a 'prefix' property, only a 'to'";
            read::invalid(item, sentence, problems);
            return None;
        }
        (None, None) => Local::Same,
    };
    Some(Wish { importer, exporter, subject, local, what, activated: false })
}

/// Account and subject.
fn origin(kind: &str, entry: &Entry, problems: &mut Problems) -> Option<(String, String)> {
    let Value::Map(map) = &entry.value else {
        let sentence = format!("{kind} entry should be an account map, got {}", entry.value.kind());
        read::invalid(entry, sentence, problems);
        return None;
    };
    let (mut account, mut subject) = (None, None);
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "account" => account = read::optional_text(entry, problems).flatten(),
            "subject" => subject = read::optional_text(entry, problems).flatten(),
            _ => read::unknown(entry, problems),
        }
    }
    if account.is_none() || subject.is_none() {
        read::invalid(entry, "Expect an account name and a subject", problems);
    }
    account.zip(subject)
}

/// Reads `mappings`.
pub(crate) fn read_mappings(entry: &Entry, problems: &mut Problems) -> Vec<Mapping> {
    let Value::Map(map) = &entry.value else {
        read::wrong_type(entry, "a map of subjects", problems);
        return Vec::new();
    };
    map.iter().filter(|entry| !entry.referenced).filter_map(|entry| read_mapping(entry, problems)).collect()
}

fn read_mapping(entry: &Entry, problems: &mut Problems) -> Option<Mapping> {
    let source = &entry.key;
    if classify(source.as_bytes()).is_err() {
        read::invalid(entry, format!("Subject {source:?} is not a valid subject"), problems);
        return None;
    }
    let (destinations, shown) = match &entry.value {
        Value::String(to) => {
            (vec![Destination { subject: to.clone(), weight: 100, cluster: None }], Some(to))
        }
        Value::List(items) => (
            items.iter().filter_map(|item| destination(item, &item.value, problems)).collect::<Vec<_>>(),
            None,
        ),
        value => (vec![destination(entry, value, problems)?], None),
    };
    match mapping(source, &destinations) {
        Ok(mapping) => Some(mapping),
        Err(error) => {
            let to = shown.map_or(String::new(), |to| format!(" to {to:?}"));
            read::invalid(entry, format!("Error adding mapping for {source:?}{to} : {error}"), problems);
            None
        }
    }
}

struct Destination {
    subject: String,
    weight: u8,
    /// Only in that cluster, where it stands for those without one.
    cluster: Option<String>,
}

/// The mapping of a server without a cluster; what others would do is checked as well.
fn mapping(source: &str, destinations: &[Destination]) -> Result<Mapping, MappingError> {
    let mut seen = HashSet::new();
    if let Some(twice) = destinations.iter().find(|destination| !seen.insert(&destination.subject)) {
        return Err(MappingError::Duplicate(twice.subject.clone()));
    }
    let of = |cluster: Option<&String>| {
        let own = destinations.iter().filter(|destination| destination.cluster.as_ref() == cluster);
        let own = own.map(|destination| (destination.subject.clone(), destination.weight));
        Mapping::new(source, &own.collect::<Vec<_>>())
    };
    for cluster in destinations.iter().filter_map(|destination| destination.cluster.as_ref()) {
        of(Some(cluster))?;
    }
    of(None)
}

fn destination(entry: &Entry, value: &Value, problems: &mut Problems) -> Option<Destination> {
    let Value::Map(map) = value else {
        read::invalid(entry, "Expected an entry for the mapping destination", problems);
        return None;
    };
    let (mut subject, mut weight, mut cluster) = (String::new(), None, None);
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "dest" | "destination" => subject = read::text(entry, problems)?.to_owned(),
            "weight" => weight = Some(read_weight(entry, problems)?),
            "cluster" => cluster = read::optional_text(entry, problems)?,
            key => {
                read::invalid(entry, format!("Unknown field {key:?} for mapping destination"), problems);
                return None;
            }
        }
    }
    if weight.is_none() {
        read::invalid(entry, format!("Missing weight for mapping destination {subject:?}"), problems);
    }
    weight.map(|weight| Destination { subject, weight, cluster })
}

fn read_weight(entry: &Entry, problems: &mut Problems) -> Option<u8> {
    let weight = match &entry.value {
        Value::Integer(weight) => *weight,
        Value::String(text) => {
            let text = text.strip_suffix('%').unwrap_or(text);
            match text.parse() {
                Ok(weight) => weight,
                Err(_) => {
                    read::invalid(
                        entry,
                        format!("Invalid weight {text:?} for mapping destination"),
                        problems,
                    );
                    return None;
                }
            }
        }
        other => {
            let sentence = format!("Unknown entry type for weight of {}", other.kind());
            read::invalid(entry, sentence, problems);
            return None;
        }
    };
    match u8::try_from(weight) {
        Ok(weight @ 0..=100) => Some(weight),
        _ => {
            read::invalid(entry, format!("Invalid weight {weight} for mapping destination"), problems);
            None
        }
    }
}

/// Joins what was read of all accounts: exports that can be, and imports that are allowed.
pub(crate) fn check(accounts: &mut [Account], wishes: Vec<Wish>, entry: &Entry, problems: &mut Problems) {
    let names: HashSet<String> = accounts.iter().map(|account| account.name.clone()).collect();
    for account in accounts.iter_mut() {
        check_exports(account, &names, entry, problems);
    }
    let (streams, services): (Vec<Wish>, Vec<Wish>) = wishes.into_iter().partition(|wish| !wish.is_service());
    for wish in streams.into_iter().chain(services) {
        let kind = if wish.is_service() { "service" } else { "stream" };
        let Some(exporter) = accounts.iter().position(|account| account.name == wish.exporter) else {
            let sentence = format!("{:?} account not defined for {kind} import", wish.exporter);
            read::invalid(entry, sentence, problems);
            continue;
        };
        match grant(accounts, exporter, &wish) {
            Ok(import) => accounts[wish.importer].imports.push(import),
            Err(why) => {
                let sentence = format!("Error adding {kind} import {:?}: {why}", wish.subject);
                read::invalid(entry, sentence, problems);
            }
        }
    }
}

fn check_exports(account: &mut Account, names: &HashSet<String>, entry: &Entry, problems: &mut Problems) {
    for export in &account.exports {
        let (kind, terms) = match &export.what {
            Exported::Stream => ("stream", None),
            Exported::Service(terms) => ("service", Some(terms)),
        };
        for missing in export.accounts.iter().flatten().filter(|name| !names.contains(*name)) {
            read::invalid(entry, format!("{missing:?} account not defined for {kind} export"), problems);
        }
        let subject = &export.subject;
        let token = export.account_token.map(|position| subject.split('.').nth(position - 1));
        if classify(subject.as_bytes()).is_err() || token.is_some_and(|token| token != Some("*")) {
            let sentence = format!("Error adding {kind} export {subject:?}: invalid subject");
            read::invalid(entry, sentence, problems);
        }
        if let Some(terms) = terms
            && let Some(latency) = &terms.latency
        {
            let to = &latency.subject;
            let why = if !is_literal(to.as_bytes()) || exports_service(account, to) {
                "invalid publish subject"
            } else if terms.response != ResponseType::Singleton {
                "bad service response type"
            } else {
                continue;
            };
            let sentence =
                format!("Error adding service latency sampling for {subject:?} on subject {to:?}: {why}");
            read::invalid(entry, sentence, problems);
        }
    }
}

fn exports_service(account: &Account, subject: &str) -> bool {
    account.exports.iter().any(|export| {
        matches!(export.what, Exported::Service(_))
            && is_subset(subject.as_bytes(), export.subject.as_bytes())
    })
}

/// The import, if the exporter allows it and it leads in no circle.
pub(crate) fn grant(accounts: &[Account], exporter: usize, wish: &Wish) -> Result<Import, String> {
    let importer = &accounts[wish.importer];
    let account = wish.exporter.clone();
    let (exported, local) = (wish.subject.as_str(), wish.local());
    let failed = |kind: &str, from: &str, to: &str, error| {
        format!(
            "failed to create mapping transform for {kind} import subject from {from:?} to {to:?}: {error}"
        )
    };
    match wish.what {
        Wanted::Service { share } => {
            let is_subject = |subject: &str| classify(subject.as_bytes()).is_ok();
            if !is_subject(exported) || !is_subject(&local) {
                return Err("invalid subject".into());
            }
            if !wish.activated && !is_authorized(&accounts[exporter], &importer.name, exported, true) {
                return Err("service import not authorized".into());
            }
            let subjects = ServiceSubjects::new(exported, &local)
                .map_err(|error| failed("service", &local, exported, error))?;
            find_cycle(accounts, exporter, subjects.local(), &mut vec![wish.importer], true)?;
            if let Some((first, known)) = services(importer)
                .find(|(account, known)| **account == wish.exporter && known.local() == subjects.local())
            {
                return Err(format!(
                    "duplicate service import subject {:?}, previously used in import for account {first:?}, subject \
                     {:?}",
                    subjects.local(),
                    known.exported()
                ));
            }
            Ok(Import { account, what: Imported::Service { subjects, share } })
        }
        Wanted::Stream { allow_trace } => {
            if !wish.activated && !is_authorized(&accounts[exporter], &importer.name, exported, false) {
                return Err("stream import not authorized".into());
            }
            if let Local::Prefix(prefix) = &wish.local
                && has_wildcard(prefix.as_bytes())
            {
                return Err("stream import prefix can not contain wildcard tokens".into());
            }
            let subjects = StreamSubjects::new(exported, &local)
                .map_err(|error| failed("stream", exported, &local, error))?;
            for subject in [subjects.local(), exported] {
                find_cycle(accounts, exporter, subject, &mut vec![wish.importer], false)?;
            }
            if streams(importer)
                .any(|(account, known)| *account == wish.exporter && known.exported() == exported)
            {
                return Err("stream import already exists".into());
            }
            Ok(Import { account, what: Imported::Stream { subjects, allow_trace } })
        }
    }
}

fn services(account: &Account) -> impl Iterator<Item = (&String, &ServiceSubjects)> {
    account.imports.iter().filter_map(|import| match &import.what {
        Imported::Service { subjects, .. } => Some((&import.account, subjects)),
        Imported::Stream { .. } => None,
    })
}

fn streams(account: &Account) -> impl Iterator<Item = (&String, &StreamSubjects)> {
    account.imports.iter().filter_map(|import| match &import.what {
        Imported::Stream { subjects, .. } => Some((&import.account, subjects)),
        Imported::Service { .. } => None,
    })
}

/// Whether an account lets another one import a subject.
fn is_authorized(exporter: &Account, importer: &str, subject: &str, service: bool) -> bool {
    let mut exports =
        exporter.exports.iter().filter(|export| matches!(export.what, Exported::Service(_)) == service);
    // The last one of a subject counts.
    if let Some(exact) = exports.clone().rfind(|export| export.subject == subject) {
        return exact.account_token.is_none() && allows(exact, importer, &[]);
    }
    let covering = exports.find(|export| is_subset(subject.as_bytes(), export.subject.as_bytes()));
    let tokens: Vec<&str> = subject.split('.').collect();
    covering.is_some_and(|export| allows(export, importer, &tokens))
}

fn allows(export: &Export, importer: &str, tokens: &[&str]) -> bool {
    match (export.account_token, &export.accounts) {
        (Some(position), _) => tokens.get(position - 1) == Some(&importer),
        (None, Some(accounts)) => accounts.iter().any(|name| name == importer),
        (None, None) => true,
    }
}

/// Follows what an account imports itself under a subject. `passed` are the accounts before it.
fn find_cycle(
    accounts: &[Account],
    at: usize,
    subject: &str,
    passed: &mut Vec<usize>,
    service: bool,
) -> Result<(), String> {
    if passed.len() >= CYCLE_DEPTH_MAX {
        return Err("search cycle depth exhausted".into());
    }
    let account = &accounts[at];
    let imports: Vec<(&String, &str)> = match service {
        true => services(account).map(|(account, subjects)| (account, subjects.local())).collect(),
        false if !has_stream_export(account, subject) => return Ok(()),
        false => streams(account).map(|(account, subjects)| (account, subjects.local())).collect(),
    };
    for (exporter, local) in imports {
        if !overlaps(subject.as_bytes(), local.as_bytes()) {
            continue;
        }
        let Some(next) = accounts.iter().position(|account| account.name == *exporter) else { continue };
        if passed.contains(&next) || next == at {
            return Err("import forms a cycle".into());
        }
        passed.push(at);
        let narrower = if is_subset(local.as_bytes(), subject.as_bytes()) { local } else { subject };
        find_cycle(accounts, next, narrower, passed, service)?;
        passed.pop();
    }
    Ok(())
}

fn has_stream_export(account: &Account, subject: &str) -> bool {
    account.exports.iter().any(|export| {
        matches!(export.what, Exported::Stream) && is_subset(subject.as_bytes(), export.subject.as_bytes())
    })
}
