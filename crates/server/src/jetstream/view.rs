//! JetStream as monitoring sees it.
//!
//! Streams are looked at one after the other and consumers one by one, each under its stream's lock for as long as it
//! takes to copy a few numbers, so that a scrape never keeps publishers waiting for all of a stream's consumers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sonata_conf::options::Options as ServerOptions;
use sonata_jetstream::account::Account;
use sonata_jetstream::api::response::{API_LEVEL, ApiStats, ConsumerInfo, StreamInfo};
use sonata_jetstream::config::Storage;
use sonata_jetstream::stream::Stream;
use sonata_monitor::jetstream::{
    Config, ConsumerNumbers, ConsumersOf, Damage, JetStreamView, JournalNumbers, Limits, Numbers, Stats,
    StreamNumbers, Totals,
};
use sonata_monitor::varz::MemoryPool;

use super::{Home, JetStream, folder};

/// See the module.
pub(crate) struct JetStreamSnapshots {
    jetstream: Arc<JetStream>,
    store_dir: String,
}

impl JetStreamSnapshots {
    pub(crate) fn new(jetstream: Arc<JetStream>, server: &ServerOptions) -> Self {
        Self { jetstream, store_dir: folder::root(server).display().to_string() }
    }

    /// Memory of all streams, and what waits to be written to the journal.
    pub(crate) fn memory_pools(&self) -> (MemoryPool, MemoryPool) {
        let (streams, journal) = (self.jetstream.node.streams(), self.journal());
        let of_streams = streams.iter().map(|stream| stream.lock().store().memory_bytes()).sum();
        (
            // Streams have limits for their caches, one by one, and none together.
            MemoryPool { used_bytes: of_streams, limit_bytes: 0 },
            MemoryPool { used_bytes: journal.buffered_bytes, limit_bytes: journal.buffered_bytes_max },
        )
    }

    /// Accounts that have JetStream, by name.
    fn homes(&self) -> impl Iterator<Item = Arc<Home>> {
        self.jetstream.homes().into_iter().filter(|home| home.account.is_enabled())
    }

    fn home(&self, account: &str) -> Option<Arc<Home>> {
        self.homes().find(|home| *home.account.name == *account)
    }

    fn stream_of(&self, account: &str, stream: &str) -> Option<(Arc<Home>, Arc<Stream>)> {
        let home = self.home(account)?;
        let stream = home.account.stream(stream).ok()?;
        Some((home, stream))
    }

    fn consumer_of(&self, home: &Home, stream: &Stream, consumer: &str) -> Option<ConsumerInfo> {
        let now = self.jetstream.clock.now_unix_ns();
        // Pull requests whose time is over are told so when somebody looks.
        self.jetstream.post_for(home, |out| stream.lock().stored_consumer_info(consumer, now, out))
    }

    fn numbers_of(&self, home: &Home, stream: &Stream) -> StreamNumbers {
        let (numbers, names) = {
            let mut machine = stream.lock();
            let state = machine.store().state();
            let numbers = StreamNumbers {
                account: home.account.name.to_string(),
                stream: stream.name.to_string(),
                messages: state.messages,
                bytes: state.bytes,
                subjects: state.subjects,
                last_sequence: state.last_sequence,
                lost_messages: state.lost.messages,
                memory_bytes: machine.store().memory_bytes(),
                consumers: Vec::new(),
            };
            (numbers, machine.consumer_names())
        };
        let consumers = names.iter().filter_map(|name| self.consumer_of(home, stream, name));
        let consumers = consumers.map(|info| ConsumerNumbers {
            consumer: info.name,
            pending: info.num_pending,
            ack_pending: info.num_ack_pending,
            redelivered: info.num_redelivered,
            waiting: info.num_waiting,
            delivered_sequence: info.delivered.stream_seq,
        });
        StreamNumbers { consumers: consumers.collect(), ..numbers }
    }
}

impl JetStreamView for JetStreamSnapshots {
    fn config(&self) -> Config {
        let (settings, options) = (self.jetstream.node.settings(), &self.jetstream.options);
        let interval = options.sync_interval;
        Config {
            max_memory: self.jetstream.node.usage().room(Storage::Memory),
            max_storage: self.jetstream.node.usage().room(Storage::File),
            store_dir: self.store_dir.clone(),
            sync_interval: interval
                .map_or(0, |interval| i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX)),
            sync_always: interval.is_none(),
            domain: settings.domain.to_string(),
            // Nobody turns it off, and monitoring of the original always says so.
            compress_ok: true,
            strict: settings.strict,
        }
    }

    fn limits(&self) -> Limits {
        let limits = self.jetstream.node.limits();
        Limits {
            max_request_batch: limits.max_request_batch,
            max_ack_pending: limits.max_ack_pending,
            max_duplicate_window: limits.duplicate_window,
        }
    }

    fn totals(&self) -> Totals {
        let usage = self.jetstream.node.usage();
        let mut totals = Totals::default();
        let stats = &mut totals.stats;
        stats.memory = usage.bytes(Storage::Memory);
        stats.storage = usage.bytes(Storage::File);
        stats.api.level = API_LEVEL;
        stats.api.inflight = self.jetstream.requests.len() as u64;
        for home in self.homes() {
            let api = requests(&home.account);
            stats.accounts += 1;
            stats.api.total += api.total;
            stats.api.errors += api.errors;
            for stream in home.account.streams() {
                let machine = stream.lock();
                let (config, state) = (machine.config(), machine.state());
                let reserved = u64::try_from(config.max_bytes).unwrap_or(0);
                match config.storage {
                    Storage::Memory => stats.reserved_memory += reserved,
                    Storage::File => stats.reserved_storage += reserved,
                }
                totals.streams += 1;
                totals.consumers += state.consumer_count;
                totals.messages += state.messages;
                totals.bytes += state.bytes;
            }
        }
        totals
    }

    fn accounts(&self) -> Vec<String> {
        self.homes().map(|home| home.account.name.to_string()).collect()
    }

    fn account(&self, name: &str) -> Option<Stats> {
        let account = &self.home(name)?.account;
        // What is promised to an account is what it may use at most, where that is limited, and not by tiers.
        let promised = |storage: Storage| match account.has_tiers() {
            true => 0,
            false => u64::try_from(account.usage.max(storage)).unwrap_or(0),
        };
        Some(Stats {
            memory: account.usage.bytes(Storage::Memory),
            storage: account.usage.bytes(Storage::File),
            reserved_memory: promised(Storage::Memory),
            reserved_storage: promised(Storage::File),
            api: requests(account),
            ..Stats::default()
        })
    }

    fn streams(&self, account: &str) -> Vec<String> {
        let streams = self.home(account).map(|home| home.account.streams()).unwrap_or_default();
        streams.iter().map(|stream| stream.name.to_string()).collect()
    }

    fn stream(&self, account: &str, stream: &str) -> Option<StreamInfo> {
        let (_, stream) = self.stream_of(account, stream)?;
        let machine = stream.lock();
        let info = machine.info(self.jetstream.clock.now_unix_ns());
        Some(StreamInfo { config: (**machine.config()).clone(), ..info })
    }

    fn consumers(&self, account: &str, stream: &str, of: ConsumersOf) -> Vec<String> {
        let Some((_, stream)) = self.stream_of(account, stream) else { return Vec::new() };
        let machine = stream.lock();
        match of {
            ConsumersOf::Clients => machine.consumer_names(),
            ConsumersOf::Servers => machine.direct_consumer_names(),
        }
    }

    fn consumer(&self, account: &str, stream: &str, consumer: &str) -> Option<ConsumerInfo> {
        let (home, stream) = self.stream_of(account, stream)?;
        self.consumer_of(&home, &stream, consumer)
    }

    fn failure(&self) -> Option<String> {
        self.jetstream.failure.lock().clone()
    }

    fn damage(&self, account: Option<&str>, stream: Option<&str>, limit: usize) -> Vec<Damage> {
        // Whose a stream was that cannot be read is not known: it is shown to those who ask about everything.
        let unrecovered = if account.is_none() { &*self.jetstream.unrecovered } else { &[] };
        let unrecovered = unrecovered
            .iter()
            .map(|(folder, cause)| Damage::NotRecovered { folder: folder.clone(), cause: cause.clone() });
        let homes = self.homes().filter(|home| account.is_none_or(|account| *home.account.name == *account));
        let lost = homes.flat_map(|home| {
            let streams = home.account.streams().into_iter();
            let streams = streams.filter(|found| stream.is_none_or(|stream| *found.name == *stream));
            streams.filter_map(move |found| {
                let (messages, bytes) = found.lock().lost();
                (messages > 0).then(|| Damage::Lost {
                    account: home.account.name.to_string(),
                    stream: found.name.to_string(),
                    messages,
                    bytes,
                })
            })
        });
        unrecovered.chain(lost).take(limit).collect()
    }

    fn visit_streams(&self, visit: &mut dyn FnMut(&StreamNumbers)) {
        for home in self.homes() {
            for stream in home.account.streams() {
                visit(&self.numbers_of(&home, &stream));
            }
        }
    }

    fn journal(&self) -> JournalNumbers {
        let stats = self.jetstream.journal.stats();
        JournalNumbers {
            syncs: stats.syncs,
            batches: stats.batches,
            records: stats.records,
            bytes: stats.bytes,
            failures: stats.failures,
            buffered_bytes: stats.buffered_bytes as u64,
            buffered_bytes_max: sonata_journal::Options::new(0).buffer_bytes_max as u64,
            held_bytes: stats.held_bytes,
            sync_times: stats.sync_time.buckets.to_vec(),
            sync_time_ns: stats.sync_time.sum_ns,
        }
    }

    fn numbers(&self) -> Numbers {
        Numbers {
            waiting_requests: self.jetstream.requests.len() as u64,
            waiting_turns: self.jetstream.turns.len() as u64,
            recovery_milliseconds: self.jetstream.recovery_ns.load(Ordering::Relaxed) / 1_000_000,
        }
    }
}

/// Requests to the API in an account. The level is the server's and not repeated, as in the original.
fn requests(account: &Account) -> ApiStats {
    ApiStats {
        total: account.api_total.load(Ordering::Relaxed),
        errors: account.api_errors.load(Ordering::Relaxed),
        ..ApiStats::default()
    }
}
