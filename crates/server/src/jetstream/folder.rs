//! Where streams are kept, how much room there is, and which accounts have JetStream.

use std::path::{Path, PathBuf};

use sonata_broker::account::GLOBAL_ACCOUNT;
use sonata_conf::options::{AccountJetStream, AllowedJetStream, JetStream, Options};
use sonata_jetstream::config::{AccountLimits, Allowance};

/// The folder below the configured one, as in the original; without one it is in the folder for temporary files.
pub(super) fn root(server: &Options) -> PathBuf {
    let configured = server.store_dir.clone();
    configured.unwrap_or_else(|| std::env::temp_dir().join("nats")).join("jetstream")
}

/// Bytes in memory and in files that all streams may hold; -1 is no limit.
pub(super) fn room(options: &JetStream, root: &Path) -> (i64, i64) {
    let memory = options.max_memory.unwrap_or_else(|| host_memory() / 4 * 3);
    let storage = options.max_storage.unwrap_or_else(|| free_bytes(root) / 4 * 3);
    let limit = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    (limit(memory), limit(storage))
}

/// Accounts that have JetStream and what they may use.
pub(super) fn accounts(server: &Options) -> Vec<(String, Allowance)> {
    let configured: Vec<_> = server
        .accounts
        .iter()
        .filter_map(|account| account.jetstream.as_ref().map(|said| (account.name.clone(), allowance(said))))
        .collect();
    let system = server.system_account_name();
    if server.accounts.iter().all(|account| Some(&*account.name) == system) {
        // Nobody has thought of accounts: everybody is in the global one.
        return vec![(GLOBAL_ACCOUNT.to_owned(), Allowance::Whole(AccountLimits::default()))];
    }
    configured
}

/// What an account may have.
pub(super) fn allowance(said: &AllowedJetStream) -> Allowance {
    match said {
        AllowedJetStream::Whole(said) => Allowance::Whole(limits(said)),
        AllowedJetStream::Tiers(tiers) => {
            Allowance::Tiers(tiers.iter().map(|(name, said)| (name.clone(), limits(said))).collect())
        }
    }
}

fn limits(said: &AccountJetStream) -> AccountLimits {
    AccountLimits {
        max_memory: said.max_memory,
        max_storage: said.max_storage,
        max_streams: said.max_streams,
        max_consumers: said.max_consumers,
        max_ack_pending: said.max_ack_pending,
        memory_max_stream_bytes: said.memory_max_stream_bytes,
        storage_max_stream_bytes: said.storage_max_stream_bytes,
        max_bytes_required: said.max_bytes_required,
    }
}

/// As the log shows sizes.
pub(super) fn size(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];
    if bytes < 0 {
        return "unlimited".to_owned();
    }
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.2} {}", UNITS[unit]) }
}

fn host_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    // A guess on a host that does not tell; the configuration can say.
    kib.map_or(1 << 30, |kib| kib * 1024)
}

fn free_bytes(root: &Path) -> u64 {
    // The folder may not exist yet; one of those above it does.
    let existing = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(existing) {
        Ok(stat) => stat.blocks_available().saturating_mul(stat.fragment_size()),
        Err(_) => 1 << 40,
    }
}
