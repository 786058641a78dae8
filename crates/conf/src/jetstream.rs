//! The `jetstream` blocks: that of the server and those of accounts.
//!
//! What only matters among several servers, or for one implementation's insides, is known and refused with its place:
//! a limit that silently did nothing would be worse than one that cannot be set.

use crate::grammar::{Entry, Map, Value};
use crate::options::{
    AccountJetStream, BatchLimits, Encryption, JetStream, JetStreamLimits, Options, Secret,
};
use crate::problem::Problems;
use crate::read;

/// Reads the server's key: a switch, or a block that turns JetStream on unless it says otherwise.
pub(crate) fn read(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    options.jetstream = match &entry.value {
        Value::Map(map) => read_block(options, map, problems),
        _ => switch(entry, problems).unwrap_or(false).then(JetStream::default),
    };
}

/// Reads an account's key: a switch, or limits. Without limits an account may use all that the server has.
pub(crate) fn read_account(entry: &Entry, problems: &mut Problems) -> Option<AccountJetStream> {
    match &entry.value {
        Value::Map(map) => Some(read_account_limits(map, problems)),
        _ => switch(entry, problems)?.then(AccountJetStream::default),
    }
}

/// The folder for streams, which the file may name in two places but only once.
pub(crate) fn read_store_dir(options: &mut Options, entry: &Entry, problems: &mut Problems) {
    let Some(path) = read::optional_text(entry, problems) else { return };
    match options.store_dir {
        Some(_) => read::invalid(entry, "Duplicate 'store_dir' configuration", problems),
        None => options.store_dir = path.map(Into::into),
    }
}

/// A bool, or one of the words for it.
fn switch(entry: &Entry, problems: &mut Problems) -> Option<bool> {
    match &entry.value {
        Value::Bool(on) => Some(*on),
        Value::String(word) => match word.to_ascii_lowercase().as_str() {
            "enabled" | "enable" => Some(true),
            "disabled" | "disable" => Some(false),
            _ => {
                let sentence = format!("Expected 'enabled' or 'disabled' for string value, got '{word}'");
                read::invalid(entry, sentence, problems);
                None
            }
        },
        _ => {
            read::wrong_type(entry, "a map, a bool, 'enabled' or 'disabled'", problems);
            None
        }
    }
}

fn read_block(options: &mut Options, map: &Map, problems: &mut Problems) -> Option<JetStream> {
    let mut jetstream = JetStream::default();
    let mut keys = Keys::default();
    let mut enabled = true;
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "enable" | "enabled" => enabled = read::boolean(entry, problems).unwrap_or(enabled),
            "store" | "store_dir" | "storedir" => read_store_dir(options, entry, problems),
            "max_memory_store" | "max_mem_store" | "max_mem" => {
                jetstream.max_memory = storage_size(entry, problems);
            }
            "max_file_store" | "max_file" => jetstream.max_storage = storage_size(entry, problems),
            "sync" | "sync_interval" => {
                let always = matches!(&entry.value, Value::String(s) if s.eq_ignore_ascii_case("always"));
                if !always {
                    let interval = read::duration_or_seconds(entry, problems);
                    // Nothing may wait unsynced for no time at all: that is `always` again.
                    jetstream.sync_interval = interval.filter(|interval| !interval.is_zero());
                }
            }
            "domain" => jetstream.domain = read::optional_text(entry, problems).flatten(),
            "strict" => jetstream.lenient = read::boolean(entry, problems) == Some(false),
            "key" | "ek" | "encryption_key" => keys.current = secret(entry, problems),
            "prev_key" | "prev_ek" | "prev_encryption_key" => {
                keys.previous = secret(entry, problems).map(|key| (entry, key));
            }
            "cipher" => match read::text(entry, problems).map(str::to_ascii_lowercase).as_deref() {
                Some("chacha" | "chachapoly") | None => keys.aes = false,
                Some("aes") => keys.aes = true,
                Some(other) => read::invalid(entry, format!("Unknown cipher type: {other:?}"), problems),
            },
            "limits" => {
                if let Some(map) = read::map(entry, problems) {
                    jetstream.limits = read_limits(map, problems);
                }
            }
            // The hardware that keeps keys, and the buffers, queues and logs of a cluster.
            "tpm"
            | "extension_hint"
            | "unique_tag"
            | "max_outstanding_catchup"
            | "max_buffered_size"
            | "max_buffered_msgs"
            | "request_queue_limit"
            | "info_queue_limit"
            | "meta_compact"
            | "meta_compact_size"
            | "meta_compact_sync"
            | "max_concurrent_io" => read::not_supported(entry, problems),
            _ => read::unknown(entry, problems),
        }
    }
    jetstream.encryption = keys.into_encryption(problems);
    enabled.then_some(jetstream)
}

/// What a block says about encryption, in whatever order.
#[derive(Default)]
struct Keys<'a> {
    aes: bool,
    current: Option<Secret>,
    previous: Option<(&'a Entry, Secret)>,
}

impl Keys<'_> {
    fn into_encryption(self, problems: &mut Problems) -> Option<Encryption> {
        match (self.current, self.previous) {
            (Some(key), previous) => {
                Some(Encryption { aes: self.aes, key, previous: previous.map(|(_, key)| key) })
            }
            // What was encrypted would go on in the clear.
            (None, Some((entry, _))) => {
                read::invalid(entry, format!("{} needs an encryption_key beside it", entry.key), problems);
                None
            }
            (None, None) => None,
        }
    }
}

fn secret(entry: &Entry, problems: &mut Problems) -> Option<Secret> {
    read::optional_text(entry, problems).flatten().map(Secret::new)
}

fn read_limits(map: &Map, problems: &mut Problems) -> JetStreamLimits {
    let mut limits = JetStreamLimits::default();
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "max_request_batch" => limits.max_request_batch = limit(entry, problems),
            "max_ack_pending" => limits.max_ack_pending = limit(entry, problems),
            "duplicate_window" => {
                limits.duplicate_window =
                    read::duration(entry, "duplicate_window", problems).unwrap_or_default();
            }
            "batch" => {
                if let Some(map) = read::map(entry, problems) {
                    limits.batch = read_batch_limits(map, problems);
                }
            }
            "max_ha_assets" | "default_max_consumers" => read::not_supported(entry, problems),
            _ => read::unknown(entry, problems),
        }
    }
    limits
}

fn read_batch_limits(map: &Map, problems: &mut Problems) -> BatchLimits {
    let mut limits = BatchLimits::default();
    for entry in map {
        match entry.key.to_ascii_lowercase().as_str() {
            "max_inflight_per_stream" => limits.max_inflight_per_stream = limit(entry, problems),
            "max_inflight_total" => limits.max_inflight_total = limit(entry, problems),
            "max_msgs" => limits.max_messages = limit(entry, problems),
            "timeout" => {
                limits.timeout = read::duration(entry, "timeout", problems).unwrap_or_default();
            }
            _ => read::unknown(entry, problems),
        }
    }
    limits
}

/// A limit of every account: zero and negative numbers are none.
fn limit(entry: &Entry, problems: &mut Problems) -> u64 {
    read::integer(entry, problems).and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

fn read_account_limits(map: &Map, problems: &mut Problems) -> AccountJetStream {
    let mut limits = AccountJetStream::default();
    for entry in map {
        let field = match entry.key.to_ascii_lowercase().as_str() {
            "max_memory" | "max_mem" | "mem" | "memory" => &mut limits.max_memory,
            "max_store" | "max_file" | "max_disk" | "store" | "disk" => &mut limits.max_storage,
            "max_streams" | "streams" => &mut limits.max_streams,
            "max_consumers" | "consumers" => &mut limits.max_consumers,
            "max_ack_pending" => &mut limits.max_ack_pending,
            "mem_max_stream_bytes" | "memory_max_stream_bytes" => &mut limits.memory_max_stream_bytes,
            "disk_max_stream_bytes" | "store_max_stream_bytes" => &mut limits.storage_max_stream_bytes,
            "max_bytes_required" | "max_stream_bytes" | "max_bytes" => {
                limits.max_bytes_required = read::boolean(entry, problems).unwrap_or_default();
                continue;
            }
            "cluster_traffic" => {
                // `system`, the default, asks for nothing where there is no cluster.
                if !matches!(&entry.value, Value::String(account) if account == "system") {
                    read::not_supported(entry, problems);
                }
                continue;
            }
            _ => {
                read::unknown(entry, problems);
                continue;
            }
        };
        *field = read::integer(entry, problems).unwrap_or(*field);
    }
    limits
}

/// Bytes as a number, or as a string ending in K, M, G or T, powers of 1024. Negative is as good as not said.
fn storage_size(entry: &Entry, problems: &mut Problems) -> Option<u64> {
    match &entry.value {
        Value::Integer(bytes) => u64::try_from(*bytes).ok(),
        Value::String(text) if text.is_empty() => Some(0),
        Value::String(text) => match parse_size(text) {
            Ok(bytes) => u64::try_from(bytes).ok(),
            Err(reason) => {
                read::invalid(entry, format!("{} {reason}", entry.key), problems);
                None
            }
        },
        _ => {
            read::wrong_type(entry, "a size", problems);
            None
        }
    }
}

fn parse_size(text: &str) -> Result<i64, &'static str> {
    let suffixes = [('K', 1 << 10), ('M', 1 << 20), ('G', 1 << 30), ('T', 1_i64 << 40)];
    let (digits, unit) = suffixes
        .into_iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
        .ok_or("sizes defined as strings must end in K, M, G, T")?;
    let number: i64 = digits.parse().map_err(|_| "is not a number with a suffix")?;
    number.checked_mul(unit).ok_or("is too big")
}

/// The sentence about a domain that cannot be part of subjects, if it is one.
pub(crate) fn domain_fault(domain: &str) -> Option<String> {
    let subject = format!("$JS.{domain}.API.>");
    if sonata_subject::classify(subject.as_bytes()).is_err() {
        return Some(format!("invalid domain name: derived {subject:?} is not a valid subject"));
    }
    domain.contains(['.', '*', '>']).then(|| "invalid domain name: may not contain ., * or >".to_owned())
}

/// Whether the account for the server's own messages is to hold streams.
pub(crate) fn is_on_system_account(options: &Options) -> bool {
    let system = options.system_account_name();
    let mut accounts = options.accounts.iter();
    options.jetstream.is_some()
        && accounts.any(|account| Some(account.name.as_str()) == system && account.jetstream.is_some())
}
