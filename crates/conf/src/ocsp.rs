//! The states of certificates: stapled to this server's own (`ocsp`), asked for of clients' (`ocsp_peer` in a `tls` block),
//! kept (`ocsp_cache`).

use std::time::Duration;

use crate::grammar::{Entry, Value};
use crate::options::{OcspCache, OcspPeer, Options, Stapling, StaplingMode};
use crate::problem::Problems;
use crate::read;

/// The file of answers is not written more often.
const SAVE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Reads `ocsp` into the options.
pub(crate) fn read(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    options.ocsp = match &entry.value {
        Value::Bool(true) => Stapling { mode: StaplingMode::Auto, urls: Vec::new() },
        Value::Bool(false) => Stapling { mode: StaplingMode::Never, urls: Vec::new() },
        Value::Map(map) => {
            let mut stapling = Stapling::default();
            for entry in map {
                match entry.key.as_str() {
                    "mode" => stapling.mode = mode(entry, problems).unwrap_or_default(),
                    "url" => stapling.urls.extend(url(entry, problems)),
                    "urls" => {
                        let items = read::list(entry, problems).into_iter().flatten();
                        stapling.urls.extend(items.filter_map(|item| url(item, problems)));
                    }
                    _ => read::unknown_in("ocsp config", entry, problems),
                }
            }
            stapling
        }
        _ => return read::wrong_type(entry, "a bool or a map", problems),
    };
}

fn mode(entry: &Entry, problems: &mut Problems) -> Option<StaplingMode> {
    let text = read::text(entry, problems)?;
    match text.to_ascii_lowercase().as_str() {
        "auto" => Some(StaplingMode::Auto),
        "always" => Some(StaplingMode::Always),
        "must" => Some(StaplingMode::Must),
        "never" => Some(StaplingMode::Never),
        _ => {
            let sentence = format!("error parsing ocsp config: unsupported ocsp mode {text:?}");
            read::invalid(entry, sentence, problems);
            None
        }
    }
}

fn url(entry: &Entry, problems: &mut Problems) -> Option<String> {
    let text = read::text(entry, problems)?;
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    if matches!(scheme, Some("http" | "https")) {
        return Some(text.to_owned());
    }
    let sentence = format!("error parsing ocsp config: {text:?} is not an http or https url");
    read::invalid(entry, sentence, problems);
    None
}

/// Reads `ocsp_cache` into the options.
pub(crate) fn read_cache(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    let mut cache = OcspCache::default();
    match &entry.value {
        Value::Bool(on) => cache.is_local = *on,
        Value::Map(map) => {
            for entry in map {
                match entry.key.to_ascii_lowercase().as_str() {
                    "type" => cache.is_local = is_local(entry, problems).unwrap_or_default(),
                    "local_store" => {
                        if let Some(Some(folder)) = read::optional_text(entry, problems) {
                            cache.local_store = folder.into();
                        }
                    }
                    "preserve_revoked" => set(&mut cache.preserve_revoked, read::boolean(entry, problems)),
                    "save_interval" => {
                        set(&mut cache.save_interval, time(entry, "OCSP peer cache", problems));
                        cache.save_interval = cache.save_interval.max(SAVE_INTERVAL_MIN);
                    }
                    _ => read::unknown_in("OCSP peer cache config", entry, problems),
                }
            }
        }
        _ => return read::wrong_type(entry, "a bool or a map", problems),
    }
    options.ocsp_cache = cache;
}

fn is_local(entry: &Entry, problems: &mut Problems) -> Option<bool> {
    let text = read::text(entry, problems)?;
    match text.to_ascii_lowercase().as_str() {
        "local" => Some(true),
        "none" => Some(false),
        _ => {
            let sentence = format!("error parsing OCSP peer cache config, unknown type [{text}]");
            read::invalid(entry, sentence, problems);
            None
        }
    }
}

/// Reads `ocsp_peer` of a `tls` block. `None` also if it says that nobody is to be checked.
pub(crate) fn read_peer(entry: &Entry, problems: &mut Problems) -> Option<OcspPeer> {
    let map = match &entry.value {
        Value::Bool(on) => return on.then(OcspPeer::default),
        Value::Map(map) => map,
        _ => {
            read::wrong_type(entry, "a bool or a map", problems);
            return None;
        }
    };
    const BLOCK: &str = "tls peer";
    let (mut peer, mut verify) = (OcspPeer::default(), false);
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "verify" => set(&mut verify, read::boolean(entry, problems)),
            "allowed_clockskew" => set(&mut peer.allowed_clockskew, time(entry, BLOCK, problems)),
            "ca_timeout" => {
                let timeout = time(entry, BLOCK, problems).filter(|timeout| !timeout.is_zero());
                set(&mut peer.ca_timeout, timeout);
            }
            "cache_ttl_when_next_update_unset" => {
                set(&mut peer.cache_ttl_when_next_update_unset, time(entry, BLOCK, problems));
            }
            "warn_only" => set(&mut peer.warn_only, read::boolean(entry, problems)),
            "unknown_is_good" => set(&mut peer.unknown_is_good, read::boolean(entry, problems)),
            "allow_when_ca_unreachable" => {
                set(&mut peer.allow_when_ca_unreachable, read::boolean(entry, problems));
            }
            _ => read::unknown_in("tls peer config", entry, problems),
        }
    }
    verify.then_some(peer)
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// A duration or a number of seconds; zero is one as well.
fn time(entry: &Entry, block: &str, problems: &mut Problems) -> Option<Duration> {
    read::seconds(entry, block, problems).map(Option::unwrap_or_default)
}
