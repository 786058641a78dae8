//! Metrics of JetStream.
//!
//! A server may have very many streams and consumers, and every one of them would be a series of each metric. So that a
//! scrape stays below 10,000 of them, the first [`LISTED_MAX`] of each, by account and name, have series of their own;
//! the rest are summed in one whose labels are [`REST`], which no stream or consumer can be called.

use super::{Kind, Metric, Source, metric};
use crate::jetstream::{
    Config, ConsumerNumbers, JetStreamView, JournalNumbers, Numbers, Stats, StreamNumbers, Totals,
};

/// Streams, and consumers, that have series of their own.
pub(super) const LISTED_MAX: usize = 700;

/// What the labels say of all others together.
const REST: &str = "*";

/// All that metrics of JetStream are made of.
#[derive(Debug)]
pub(super) struct JetStreamSnapshot {
    pub(super) accounts: Vec<(String, Stats)>,
    pub(super) streams: Listed<StreamSeries>,
    pub(super) consumers: Listed<ConsumerSeries>,
    pub(super) journal: JournalNumbers,
    config: Config,
    totals: Totals,
    numbers: Numbers,
    failed: bool,
    memory_bytes: u64,
}

/// The first ones, and the sum of the others.
#[derive(Debug)]
pub(super) struct Listed<T> {
    first: Vec<T>,
    rest: Option<T>,
}

/// What can be summed.
pub(super) trait Series {
    /// The sum of none.
    fn rest() -> Self;

    fn add(&mut self, other: &Self);
}

impl<T: Series> Listed<T> {
    fn new() -> Self {
        Self { first: Vec::new(), rest: None }
    }

    fn push(&mut self, one: T) {
        if self.first.len() < LISTED_MAX {
            self.first.push(one);
        } else {
            self.rest.get_or_insert_with(T::rest).add(&one);
        }
    }

    /// All that have series.
    pub(super) fn shown(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.rest)
    }
}

/// A stream, or several together.
#[derive(Debug)]
pub(super) struct StreamSeries {
    /// Without its consumers, which are a number here.
    pub(super) numbers: StreamNumbers,
    consumers: u64,
}

impl StreamSeries {
    fn of(stream: &StreamNumbers) -> Self {
        let consumers = stream.consumers.len() as u64;
        let (account, name) = (stream.account.clone(), stream.stream.clone());
        Self { numbers: StreamNumbers { account, stream: name, consumers: Vec::new(), ..*stream }, consumers }
    }
}

impl Series for StreamSeries {
    fn rest() -> Self {
        let numbers = StreamNumbers { account: REST.into(), stream: REST.into(), ..StreamNumbers::default() };
        Self { numbers, consumers: 0 }
    }

    fn add(&mut self, other: &Self) {
        let (sum, other_numbers) = (&mut self.numbers, &other.numbers);
        sum.messages += other_numbers.messages;
        sum.bytes += other_numbers.bytes;
        sum.subjects += other_numbers.subjects;
        sum.last_sequence = sum.last_sequence.saturating_add(other_numbers.last_sequence);
        sum.lost_messages += other_numbers.lost_messages;
        sum.memory_bytes += other_numbers.memory_bytes;
        self.consumers += other.consumers;
    }
}

/// A consumer, or several together.
#[derive(Debug)]
pub(super) struct ConsumerSeries {
    pub(super) account: String,
    pub(super) stream: String,
    pub(super) numbers: ConsumerNumbers,
    /// How far it is behind the end of the stream, in sequences.
    lag: u64,
}

impl ConsumerSeries {
    fn of(stream: &StreamNumbers, numbers: &ConsumerNumbers) -> Self {
        Self {
            account: stream.account.clone(),
            stream: stream.stream.clone(),
            lag: stream.last_sequence.saturating_sub(numbers.delivered_sequence),
            numbers: numbers.clone(),
        }
    }
}

impl Series for ConsumerSeries {
    fn rest() -> Self {
        let numbers = ConsumerNumbers { consumer: REST.into(), ..ConsumerNumbers::default() };
        Self { account: REST.into(), stream: REST.into(), numbers, lag: 0 }
    }

    fn add(&mut self, other: &Self) {
        let (sum, other_numbers) = (&mut self.numbers, &other.numbers);
        sum.pending += other_numbers.pending;
        sum.ack_pending += other_numbers.ack_pending;
        sum.redelivered += other_numbers.redelivered;
        sum.waiting += other_numbers.waiting;
        self.lag = self.lag.saturating_add(other.lag);
    }
}

impl JetStreamSnapshot {
    pub(super) fn of(view: &dyn JetStreamView) -> Self {
        let (mut streams, mut consumers, mut memory_bytes) = (Listed::new(), Listed::new(), 0);
        view.visit_streams(&mut |stream| {
            memory_bytes += stream.memory_bytes;
            streams.push(StreamSeries::of(stream));
            stream.consumers.iter().for_each(|numbers| consumers.push(ConsumerSeries::of(stream, numbers)));
        });
        let stats = |name: String| view.account(&name).map(|stats| (name, stats));
        Self {
            accounts: view.accounts().into_iter().filter_map(stats).collect(),
            streams,
            consumers,
            journal: view.journal(),
            config: view.config(),
            totals: view.totals(),
            numbers: view.numbers(),
            failed: view.failure().is_some(),
            memory_bytes,
        }
    }
}

/// Records of a batch on the average; 0 before the first batch.
fn records_per_batch(now: &JetStreamSnapshot) -> f64 {
    let JournalNumbers { records, batches, .. } = now.journal;
    if batches == 0 { 0.0 } else { records as f64 / batches as f64 }
}

pub(super) const METRICS: &[Metric] = &[
    metric(
        "sonata_jetstream_sync_always",
        Kind::Gauge,
        "1 if a publish is acknowledged only when it is durable, 0 if it may be synced later.",
        Source::JetStream(|now| f64::from(u8::from(now.config.sync_always))),
    ),
    metric(
        "sonata_jetstream_storage_failed",
        Kind::Gauge,
        "1 while nothing can be stored, with the cause in the log and in /healthz.",
        Source::JetStream(|now| f64::from(u8::from(now.failed))),
    ),
    metric(
        "sonata_jetstream_recovery_seconds",
        Kind::Gauge,
        "How long recovery took when the server was started.",
        Source::JetStream(|now| now.numbers.recovery_milliseconds as f64 / 1000.0),
    ),
    metric(
        "sonata_jetstream_streams",
        Kind::Gauge,
        "Streams.",
        Source::JetStream(|now| now.totals.streams as f64),
    ),
    metric(
        "sonata_jetstream_consumers",
        Kind::Gauge,
        "Consumers.",
        Source::JetStream(|now| now.totals.consumers as f64),
    ),
    metric(
        "sonata_jetstream_api_requests_total",
        Kind::Counter,
        "Requests to the JetStream API.",
        Source::JetStream(|now| now.totals.stats.api.total as f64),
    ),
    metric(
        "sonata_jetstream_api_errors_total",
        Kind::Counter,
        "Requests to the JetStream API that were refused.",
        Source::JetStream(|now| now.totals.stats.api.errors as f64),
    ),
    metric(
        "sonata_jetstream_waiting_requests",
        Kind::Gauge,
        "Requests to the JetStream API that wait.",
        Source::JetStream(|now| now.numbers.waiting_requests as f64),
    ),
    metric(
        "sonata_jetstream_waiting_turns",
        Kind::Gauge,
        "Streams that wait for a turn to deliver.",
        Source::JetStream(|now| now.numbers.waiting_turns as f64),
    ),
    metric(
        "sonata_jetstream_store_memory_bytes",
        Kind::Gauge,
        "Memory of all streams: indexes, caches, and messages that are kept there.",
        Source::JetStream(|now| now.memory_bytes as f64),
    ),
    metric(
        "sonata_account_memory_storage_bytes",
        Kind::Gauge,
        "Bytes of messages in memory, by account.",
        Source::JetStreamAccount(|stats| stats.memory),
    ),
    metric(
        "sonata_account_file_storage_bytes",
        Kind::Gauge,
        "Bytes of messages in files, by account.",
        Source::JetStreamAccount(|stats| stats.storage),
    ),
    metric(
        "sonata_journal_syncs_total",
        Kind::Counter,
        "Syncs of the journal.",
        Source::JetStream(|now| now.journal.syncs as f64),
    ),
    metric(
        "sonata_journal_batches_total",
        Kind::Counter,
        "Batches that the journal has committed.",
        Source::JetStream(|now| now.journal.batches as f64),
    ),
    metric(
        "sonata_journal_records_total",
        Kind::Counter,
        "Records that the journal has committed.",
        Source::JetStream(|now| now.journal.records as f64),
    ),
    metric(
        "sonata_journal_bytes_total",
        Kind::Counter,
        "Bytes that the journal has committed.",
        Source::JetStream(|now| now.journal.bytes as f64),
    ),
    metric(
        "sonata_journal_failures_total",
        Kind::Counter,
        "Times that the journal stopped for an error.",
        Source::JetStream(|now| now.journal.failures as f64),
    ),
    metric(
        "sonata_journal_records_per_batch",
        Kind::Gauge,
        "Records of a batch on the average.",
        Source::JetStream(records_per_batch),
    ),
    metric(
        "sonata_journal_buffered_bytes",
        Kind::Gauge,
        "Bytes that wait to be written to the journal.",
        Source::JetStream(|now| now.journal.buffered_bytes as f64),
    ),
    metric(
        "sonata_journal_held_bytes",
        Kind::Gauge,
        "Bytes of the journal that are still needed for recovery.",
        Source::JetStream(|now| now.journal.held_bytes as f64),
    ),
    metric(
        "sonata_journal_sync_seconds",
        Kind::Histogram,
        "How long a sync of the journal took.",
        Source::SyncTime,
    ),
    metric(
        "sonata_stream_messages",
        Kind::Gauge,
        "Messages, by stream.",
        Source::Stream(|stream| stream.numbers.messages),
    ),
    metric(
        "sonata_stream_bytes",
        Kind::Gauge,
        "Bytes of messages, by stream.",
        Source::Stream(|stream| stream.numbers.bytes),
    ),
    metric(
        "sonata_stream_subjects",
        Kind::Gauge,
        "Distinct subjects, by stream.",
        Source::Stream(|stream| stream.numbers.subjects),
    ),
    metric(
        "sonata_stream_last_sequence",
        Kind::Gauge,
        "The last sequence that was given out, by stream.",
        Source::Stream(|stream| stream.numbers.last_sequence),
    ),
    metric(
        "sonata_stream_lost_messages",
        Kind::Gauge,
        "Messages that were stored and can no longer be read, by stream.",
        Source::Stream(|stream| stream.numbers.lost_messages),
    ),
    metric(
        "sonata_stream_memory_bytes",
        Kind::Gauge,
        "Memory: index, caches, and messages that are kept there, by stream.",
        Source::Stream(|stream| stream.numbers.memory_bytes),
    ),
    metric(
        "sonata_stream_consumers",
        Kind::Gauge,
        "Consumers, by stream.",
        Source::Stream(|stream| stream.consumers),
    ),
    metric(
        "sonata_consumer_pending",
        Kind::Gauge,
        "Messages that were never delivered, by consumer.",
        Source::Consumer(|consumer| consumer.numbers.pending),
    ),
    metric(
        "sonata_consumer_ack_pending",
        Kind::Gauge,
        "Messages that were delivered and not acknowledged, by consumer.",
        Source::Consumer(|consumer| consumer.numbers.ack_pending),
    ),
    metric(
        "sonata_consumer_redelivered",
        Kind::Gauge,
        "Unacknowledged messages that were delivered more than once, by consumer.",
        Source::Consumer(|consumer| consumer.numbers.redelivered),
    ),
    metric(
        "sonata_consumer_waiting",
        Kind::Gauge,
        "Pull requests that wait, by consumer.",
        Source::Consumer(|consumer| consumer.numbers.waiting),
    ),
    metric(
        "sonata_consumer_lag",
        Kind::Gauge,
        "Sequences between the last delivered one and the end of the stream, by consumer.",
        Source::Consumer(|consumer| consumer.lag),
    ),
];
