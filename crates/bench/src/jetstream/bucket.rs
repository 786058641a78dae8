//! A key-value bucket: puts are publishes, gets are direct gets, a watch is an ordered consumer of last values.

use std::time::{Duration, Instant};

use serde_json::json;

use super::consume::{answer_control, ordered};
use super::delivery::Delivered;
use super::fault::{StreamFault, expect_number};
use super::peer::Peer;
use super::publish::{PublishPlan, Publishers};
use super::stream;
use super::windowed::{self, Frames, Until, Windowed};
use crate::connection::Address;
use crate::error::BenchError;
use crate::frame::Subjects;
use crate::meter::Meter;
use crate::metric::{Metric, Sample};
use crate::payload;
use crate::server::Server;

const STREAM: &str = "KV_bench";
const KEYS: usize = 10_000;
const FILL_IN_FLIGHT: usize = 256;

/// A bucket with a value for each key: message `n` stands at sequence `n + 1` under key `n`.
pub struct Bucket {
    address: Address,
    payload_bytes: usize,
}

/// Puts into a bucket.
pub struct Puts {
    publishers: Publishers,
    payload_bytes: usize,
}

impl Puts {
    /// Creates the bucket.
    pub fn open(address: &Address, in_flight: usize, payload_bytes: usize) -> Result<Self, BenchError> {
        let subjects = Subjects::cycle(KEYS, |key| format!("$KV.bench.key{key}"));
        let plan = PublishPlan {
            streams: vec![STREAM.to_owned()],
            subjects,
            in_flight,
            connections: 1,
            payload_bytes,
        };
        let mut publishers = Publishers::open(address, plan)?;
        let configuration = json!({
            "name": STREAM, "subjects": ["$KV.bench.>"], "storage": "file", "retention": "limits",
            "num_replicas": 1, "max_msgs_per_subject": 1, "discard": "new", "allow_direct": true,
            "allow_rollup_hdrs": true, "deny_delete": true,
        });
        publishers.admin().request(&format!("$JS.API.STREAM.CREATE.{STREAM}"), &configuration)?;
        Ok(Self { publishers, payload_bytes })
    }

    /// Puts for `duration`, then checks the bucket.
    pub fn measure(&mut self, server: &Server, duration: Duration) -> Result<Sample, BenchError> {
        let meter = Meter::start(server)?;
        let latencies = self.publishers.publish_for(duration)?;
        let usage = meter.stop()?;
        let puts = latencies.count() as u64;
        self.check()?;
        Ok(usage
            .cores()
            .with(Metric::MessagesIn, usage.rate(puts))
            .with(Metric::Payload, usage.rate(puts) * self.payload_bytes as f64 / 1e6)
            .with(Metric::CpuPerIn, usage.server_cpu_per_ns(puts))
            .with_latencies(latencies))
    }

    /// The newest value of each key, and no other, must be there.
    fn check(&mut self) -> Result<(), BenchError> {
        let last = self.publishers.published();
        let kept = last.min(KEYS as u64);
        let admin = self.publishers.admin();
        stream::check_state(admin, STREAM, stream::State { messages: kept, last_sequence: last })?;
        let blank = payload::blank(self.payload_bytes);
        stream::read_back(admin, STREAM, (last - kept + 1, last), |sequence, message| {
            Ok(payload::check(message.payload, &blank, 0, sequence - 1)?)
        })
    }

    /// Makes sure that nothing came beyond the acknowledgements.
    pub fn finish(self) -> Result<(), BenchError> {
        self.publishers.finish()
    }
}

impl Bucket {
    /// Creates and fills it.
    pub fn fill(address: &Address, payload_bytes: usize) -> Result<Self, BenchError> {
        let mut puts = Puts::open(address, FILL_IN_FLIGHT, payload_bytes)?;
        puts.publishers.publish(KEYS as u64, None)?;
        puts.check()?;
        puts.finish()?;
        Ok(Self { address: address.clone(), payload_bytes })
    }
}

/// Gets from a bucket.
pub struct Gets {
    connection: [Windowed; 1],
    blank: Vec<u8>,
    keys: Subjects,
}

impl Gets {
    /// Connects.
    pub fn open(bucket: &Bucket, in_flight: usize) -> Result<Self, BenchError> {
        let subjects = Subjects::cycle(KEYS, |key| format!("$JS.API.DIRECT.GET.{STREAM}.$KV.bench.key{key}"));
        let connection = Windowed::open(&bucket.address, "reader", Frames::empty(&subjects), in_flight)?;
        let keys = Subjects::cycle(KEYS, |key| format!("$KV.bench.key{key}"));
        Ok(Self { connection: [connection], blank: payload::blank(bucket.payload_bytes), keys })
    }

    /// Gets for `duration`; every value must be that of its key.
    pub fn measure(&mut self, server: &Server, duration: Duration) -> Result<Sample, BenchError> {
        let meter = Meter::start(server)?;
        let until = Until { deadline: Some(Instant::now() + duration), number: u64::MAX };
        let (blank, keys) = (&self.blank, &self.keys);
        let latencies = windowed::run(&mut self.connection, until, |_, number, message| {
            let key = number % KEYS as u64;
            let subject = keys.names().get(key as usize).map(String::as_str);
            if message.status().is_some() || message.header_value("Nats-Subject") != subject {
                return Err(message.unexpected(format!("the value of {subject:?}")).into());
            }
            let sequence = message.header_value("Nats-Sequence").and_then(|text| text.parse().ok());
            expect_number("the sequence of a value", key + 1, sequence.unwrap_or_default())?;
            Ok(payload::check(message.payload, blank, 0, key)?)
        })?;
        let usage = meter.stop()?;
        let gets = latencies.count() as u64;
        Ok(usage
            .cores()
            .with(Metric::Requests, usage.rate(gets))
            .with(Metric::Payload, usage.rate(gets) * self.blank.len() as f64 / 1e6)
            .with(Metric::CpuPerRequest, usage.server_cpu_per_ns(gets))
            .with_latencies(latencies))
    }

    /// Makes sure that nothing came beyond the answers.
    pub fn finish(mut self) -> Result<(), BenchError> {
        self.connection.iter_mut().try_for_each(|connection| connection.peer().settle())
    }
}

/// A watcher of all keys.
pub struct Watch {
    peer: Peer,
    push_subject: String,
    admin: Peer,
    blank: Vec<u8>,
    keys: Subjects,
    watches: u64,
}

impl Watch {
    /// Connects.
    pub fn open(bucket: &Bucket) -> Result<Self, BenchError> {
        let mut peer = Peer::open(&bucket.address, "watcher")?;
        Ok(Self {
            push_subject: peer.subscribe_push()?,
            peer,
            admin: Peer::open(&bucket.address, "administrator")?,
            blank: payload::blank(bucket.payload_bytes),
            keys: Subjects::cycle(KEYS, |key| format!("$KV.bench.key{key}")),
            watches: 0,
        })
    }

    /// Watches again and again for `duration`; each time all keys must come once.
    pub fn measure(&mut self, server: &Server, duration: Duration) -> Result<Sample, BenchError> {
        let meter = Meter::start(server)?;
        let deadline = Instant::now() + duration;
        let mut values = 0;
        while Instant::now() < deadline {
            self.watch()?;
            values += KEYS as u64;
        }
        let usage = meter.stop()?;
        Ok(usage
            .cores()
            .with(Metric::MessagesOut, usage.rate(values))
            .with(Metric::Payload, usage.rate(values) * self.blank.len() as f64 / 1e6)
            .with(Metric::CpuPerOut, usage.server_cpu_per_ns(values)))
    }

    fn watch(&mut self) -> Result<(), BenchError> {
        self.watches += 1;
        let name = format!("w{}", self.watches);
        let mut configuration = json!({
            "name": name, "deliver_policy": "last_per_subject", "filter_subject": "$KV.bench.>",
            "ack_policy": "none", "replay_policy": "instant",
            "deliver_subject": self.push_subject.as_str(),
        });
        ordered(&mut configuration);
        stream::create_consumer(&mut self.admin, STREAM, &name, &configuration)?;
        let (mut received, mut out) = (0, Vec::new());
        while received < KEYS as u64 {
            self.peer.receive(|message| {
                if message.status().is_some() {
                    return answer_control(message, &mut out);
                }
                let delivered = Delivered::parse(message.reply)?;
                // Keys were put in order, so last values come in the order of keys.
                expect_number("the sequence of a last value", received + 1, delivered.stream_sequence)?;
                if self.keys.names().get(received as usize).map(String::as_str) != Some(message.subject) {
                    let found = message.subject.to_owned();
                    return Err(StreamFault::Answer { expected: format!("key {received}"), found }.into());
                }
                payload::check(message.payload, &self.blank, 0, received)?;
                received += 1;
                Ok(())
            })?;
            if !out.is_empty() {
                self.peer.send(&out)?;
                out.clear();
            }
        }
        stream::delete_consumer(&mut self.admin, STREAM, &name)?;
        // What flow control still asks ends with the consumer.
        self.peer.settle_with(|message| answer_control(message, &mut out))
    }
}
