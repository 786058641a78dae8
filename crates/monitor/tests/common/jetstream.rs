//! JetStream made of plain lists: in the state in which the transcripts were compared with nats-server 2.15.1.

use std::collections::BTreeMap;

use sonata_jetstream::api::response::{
    API_LEVEL, ApiStats, ConsumerInfo, SequenceInfo, SourceInfo, StreamInfo, StreamState,
};
use sonata_jetstream::config::{ConsumerConfig, Storage, StreamConfig, StreamSource};
use sonata_jetstream::json::{Mode, decode};
use sonata_jetstream::timestamp::Timestamp;
use sonata_monitor::jetstream::{
    Config, ConsumerNumbers, ConsumersOf, Damage, JetStreamView, JournalNumbers, Limits, Numbers, Stats,
    StreamNumbers, Totals,
};

use super::NOON;

/// JetStream as it sees itself.
#[derive(Default)]
pub(crate) struct JetStream {
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) stats: Stats,
    pub(crate) accounts: BTreeMap<String, Account>,
    pub(crate) failure: Option<String>,
    pub(crate) damage: Vec<Damage>,
    pub(crate) journal: JournalNumbers,
    pub(crate) numbers: Numbers,
}

#[derive(Default)]
pub(crate) struct Account {
    pub(crate) stats: Stats,
    pub(crate) streams: Vec<Stream>,
}

#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) info: StreamInfo,
    pub(crate) consumers: Vec<ConsumerInfo>,
}

impl JetStream {
    fn stream_of(&self, account: &str, stream: &str) -> Option<&Stream> {
        self.accounts.get(account)?.streams.iter().find(|found| found.info.config.name == stream)
    }
}

impl JetStreamView for JetStream {
    fn config(&self) -> Config {
        self.config.clone()
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn totals(&self) -> Totals {
        let streams = || self.accounts.values().flat_map(|account| &account.streams);
        Totals {
            stats: self.stats,
            streams: streams().count() as u64,
            consumers: streams().map(|stream| stream.info.state.consumer_count).sum(),
            messages: streams().map(|stream| stream.info.state.messages).sum(),
            bytes: streams().map(|stream| stream.info.state.bytes).sum(),
        }
    }

    fn accounts(&self) -> Vec<String> {
        self.accounts.keys().cloned().collect()
    }

    fn account(&self, name: &str) -> Option<Stats> {
        self.accounts.get(name).map(|account| account.stats)
    }

    fn streams(&self, account: &str) -> Vec<String> {
        let streams = self.accounts.get(account).map(|account| &account.streams);
        streams.into_iter().flatten().map(|stream| stream.info.config.name.clone()).collect()
    }

    fn stream(&self, account: &str, stream: &str) -> Option<StreamInfo> {
        self.stream_of(account, stream).map(|stream| stream.info.clone())
    }

    fn consumers(&self, account: &str, stream: &str, of: ConsumersOf) -> Vec<String> {
        let consumers = self.stream_of(account, stream).map(|stream| &stream.consumers);
        let consumers = consumers.into_iter().flatten();
        let wanted = |consumer: &&ConsumerInfo| is_direct(consumer) == (of == ConsumersOf::Servers);
        consumers.filter(wanted).map(|consumer| consumer.name.clone()).collect()
    }

    fn consumer(&self, account: &str, stream: &str, consumer: &str) -> Option<ConsumerInfo> {
        self.stream_of(account, stream)?.consumers.iter().find(|found| found.name == consumer).cloned()
    }

    fn failure(&self) -> Option<String> {
        self.failure.clone()
    }

    fn damage(&self, account: Option<&str>, stream: Option<&str>, limit: usize) -> Vec<Damage> {
        let wanted = |damage: &&Damage| match damage {
            Damage::NotRecovered { .. } => account.is_none(),
            Damage::Lost { account: of, stream: lost, .. } => {
                account.is_none_or(|account| account == of) && stream.is_none_or(|stream| stream == lost)
            }
        };
        self.damage.iter().filter(wanted).take(limit).cloned().collect()
    }

    fn visit_streams(&self, visit: &mut dyn FnMut(&StreamNumbers)) {
        for (account, streams) in &self.accounts {
            for Stream { info, consumers } in &streams.streams {
                let numbers = |info: &ConsumerInfo| ConsumerNumbers {
                    consumer: info.name.clone(),
                    pending: info.num_pending,
                    ack_pending: info.num_ack_pending,
                    redelivered: info.num_redelivered,
                    waiting: info.num_waiting,
                    delivered_sequence: info.delivered.stream_seq,
                };
                visit(&StreamNumbers {
                    account: account.clone(),
                    stream: info.config.name.clone(),
                    messages: info.state.messages,
                    bytes: info.state.bytes,
                    subjects: info.state.num_subjects,
                    last_sequence: info.state.last_seq,
                    lost_messages: 0,
                    memory_bytes: 1_000,
                    consumers: consumers.iter().filter(|info| !is_direct(info)).map(numbers).collect(),
                });
            }
        }
    }

    fn journal(&self) -> JournalNumbers {
        self.journal.clone()
    }

    fn numbers(&self) -> Numbers {
        self.numbers
    }
}

/// Whether it is of the servers' own.
fn is_direct(consumer: &ConsumerInfo) -> bool {
    consumer.config.as_ref().is_some_and(|config| config.direct)
}

/// Two accounts, one of them with limits; a stream with two consumers, another that gathers from it.
pub(crate) fn recorded() -> JetStream {
    let api = |level, total, errors| ApiStats { level, total, errors, inflight: 0 };
    JetStream {
        config: Config {
            max_memory: 64_000_000,
            max_storage: 256_000_000,
            store_dir: "/data/jetstream".into(),
            sync_interval: 0,
            sync_always: true,
            domain: "dom".into(),
            compress_ok: true,
            strict: true,
        },
        limits: Limits { max_request_batch: 9, max_ack_pending: 7, max_duplicate_window: 60_000_000_000 },
        stats: Stats {
            memory: 18,
            storage: 398,
            reserved_memory: 0,
            reserved_storage: 1_000_000,
            accounts: 2,
            ha_assets: 0,
            api: api(API_LEVEL, 13, 2),
        },
        accounts: [
            (
                "A".into(),
                Account {
                    stats: Stats {
                        memory: 18,
                        storage: 398,
                        reserved_memory: 1_000_000,
                        reserved_storage: 10_000_000,
                        api: api(0, 12, 2),
                        ..Stats::default()
                    },
                    streams: vec![stored(), gathering()],
                },
            ),
            (
                "B".into(),
                Account { stats: Stats { api: api(0, 1, 0), ..Stats::default() }, streams: vec![empty()] },
            ),
        ]
        .into(),
        failure: None,
        damage: Vec::new(),
        journal: JournalNumbers {
            syncs: 3,
            batches: 4,
            records: 10,
            bytes: 4_096,
            failures: 0,
            buffered_bytes: 100,
            buffered_bytes_max: 67_108_864,
            held_bytes: 8_192,
            sync_times: vec![0, 0, 1, 1, 0, 1],
            sync_time_ns: 1_500_000,
        },
        numbers: Numbers { waiting_requests: 1, waiting_turns: 2, recovery_milliseconds: 1_500 },
    }
}

fn stored() -> Stream {
    let mut config: StreamConfig = configured(
        r#"{"name":"S","description":"a <b>","subjects":["s.>"],"max_consumers":-1,"max_msgs":-1,"max_bytes":1000000,
        "max_msgs_per_subject":-1,"max_msg_size":-1,"storage":"file","num_replicas":1,"duplicate_window":120000000000}"#,
    );
    config.metadata =
        [("_nats.req.level".into(), "0".into()), ("k".into(), "v".into())].into_iter().collect();
    let consumer = |name: &str, config: ConsumerConfig| ConsumerInfo {
        stream_name: "S".into(),
        name: name.into(),
        created: Timestamp(NOON),
        config: Some(config),
        ts: Timestamp(NOON + 1),
        ..ConsumerInfo::default()
    };
    let pull = r#"{"durable_name":"c1","name":"c1","ack_policy":"explicit","ack_wait":30000000000,"max_deliver":-1,
        "filter_subject":"s.>","max_waiting":512,"max_ack_pending":1000}"#;
    let (push, direct) = (r#"{"name":"c2","deliver_subject":"d"}"#, r#"{"name":"JS_SRC_1","direct":true}"#);
    Stream {
        info: StreamInfo {
            config,
            created: Timestamp(NOON),
            state: StreamState {
                messages: 3,
                bytes: 114,
                first_seq: 1,
                first_ts: Timestamp(NOON + 1_000),
                last_seq: 4,
                last_ts: Timestamp(NOON + 2_000),
                num_subjects: 2,
                num_deleted: 1,
                consumer_count: 2,
                ..StreamState::default()
            },
            ..StreamInfo::default()
        },
        consumers: vec![
            ConsumerInfo {
                delivered: SequenceInfo {
                    consumer_seq: 2,
                    stream_seq: 3,
                    last_active: Some(Timestamp(NOON + 3_000)),
                },
                num_ack_pending: 2,
                num_redelivered: 1,
                num_waiting: 4,
                num_pending: 1,
                ..consumer("c1", configured(pull))
            },
            ConsumerInfo { num_pending: 3, ..consumer("c2", configured(push)) },
            consumer("JS_SRC_1", configured(direct)),
        ],
    }
}

fn gathering() -> Stream {
    let source = |name: &str| StreamSource { name: name.into(), ..StreamSource::default() };
    let info = |name: &str| SourceInfo { name: name.into(), active: -1, ..SourceInfo::default() };
    Stream {
        info: StreamInfo {
            config: StreamConfig {
                name: "SRC".into(),
                sources: vec![source("S"), source("M")],
                storage: Storage::File,
                ..StreamConfig::default()
            },
            created: Timestamp(NOON),
            sources: vec![info("S"), info("M")],
            ..StreamInfo::default()
        },
        consumers: Vec::new(),
    }
}

fn empty() -> Stream {
    let config = StreamConfig { name: "B1".into(), subjects: vec!["b1".into()], ..StreamConfig::default() };
    Stream {
        info: StreamInfo { config, created: Timestamp(NOON), ..StreamInfo::default() },
        consumers: Vec::new(),
    }
}

fn configured<T: serde::de::DeserializeOwned>(text: &str) -> T {
    decode(text.as_bytes(), Mode::Strict).unwrap()
}
