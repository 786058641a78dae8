//! Publishing into streams, every message acknowledged once.

use std::time::{Duration, Instant};

use super::fault::{StreamFault, expect_number};
use super::message::Message;
use super::peer::Peer;
use super::shape::Storage;
use super::stream::{self, State};
use super::windowed::{self, Frames, Until, Windowed};
use crate::connection::Address;
use crate::error::BenchError;
use crate::frame::Subjects;
use crate::ledger::Ledger;
use crate::meter::Meter;
use crate::metric::{Metric, Sample};
use crate::payload;
use crate::percentile::Latencies;
use crate::server::Server;
use crate::verify::Fault;

/// What one run may leave in the streams, so that neither disk nor memory is filled by a fast server.
const RUN_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// What a message costs beside its payload, roughly.
const OVERHEAD_BYTES: u64 = 64;
/// Messages read back after each run, from all streams together.
const READ_BACK_MAX: u64 = 20_000;

/// What is published, and where to.
#[derive(Debug, Clone)]
pub struct PublishPlan {
    /// Message `n` goes to stream `n % count`; with several connections there is one stream.
    pub streams: Vec<String>,
    /// Message `n` goes to subject `n % count`; as many as streams, or any number into one stream.
    pub subjects: Subjects,
    /// Of each connection.
    pub in_flight: usize,
    /// How many publish.
    pub connections: usize,
    /// Payload of each message.
    pub payload_bytes: usize,
}

/// Connections that publish into streams, which exist already.
pub struct Publishers {
    plan: PublishPlan,
    connections: Vec<Windowed>,
    admin: Peer,
    /// Sequences acknowledged, for each stream.
    acknowledged: Vec<Ledger>,
    /// Messages of each stream before the last purge.
    purged: Vec<u64>,
}

impl Publishers {
    /// Connects.
    pub fn open(address: &Address, plan: PublishPlan) -> Result<Self, BenchError> {
        let open = |index: usize| {
            let frames = Frames::messages(&plan.subjects, index as u32, plan.payload_bytes);
            Windowed::open(address, format!("publisher {index}"), frames, plan.in_flight)
        };
        let connections = (0..plan.connections.max(1)).map(open).collect::<Result<_, _>>()?;
        let count = plan.streams.len();
        Ok(Self {
            connections,
            admin: Peer::open(address, "administrator")?,
            acknowledged: (0..count).map(|_| Ledger::default()).collect(),
            purged: vec![0; count],
            plan,
        })
    }

    /// Creates the streams of a plan first, each on its own subjects.
    pub fn create(address: &Address, plan: PublishPlan, storage: Storage) -> Result<Self, BenchError> {
        let mut publishers = Self::open(address, plan)?;
        let names = publishers.plan.subjects.names();
        for (index, name) in publishers.plan.streams.iter().enumerate() {
            let subjects: Vec<&str> =
                names.iter().skip(index).step_by(publishers.plan.streams.len()).map(String::as_str).collect();
            stream::create(&mut publishers.admin, name, &subjects, storage)?;
        }
        Ok(publishers)
    }

    /// One timed run, then all checks, then an empty stream again.
    pub fn measure(&mut self, server: &Server, duration: Duration) -> Result<Sample, BenchError> {
        let meter = Meter::start(server)?;
        let latencies = self.publish_for(duration)?;
        let usage = meter.stop()?;
        let published = latencies.count() as u64;
        let sample = usage
            .cores()
            .with(Metric::MessagesIn, usage.rate(published))
            .with(Metric::Payload, usage.rate(published) * self.plan.payload_bytes as f64 / 1e6)
            .with(Metric::CpuPerIn, usage.server_cpu_per_ns(published))
            .with_latencies(latencies);
        self.check()?;
        self.purge()?;
        Ok(sample)
    }

    /// Publishes for `duration`, or until there is enough for one run.
    pub fn publish_for(&mut self, duration: Duration) -> Result<Latencies, BenchError> {
        let messages = RUN_BYTES_MAX / (self.plan.payload_bytes as u64 + OVERHEAD_BYTES);
        self.publish(messages / self.connections.len().max(1) as u64, Some(Instant::now() + duration))
    }

    /// Publishes `messages` more from each connection, unless the deadline comes first.
    pub fn publish(&mut self, messages: u64, deadline: Option<Instant>) -> Result<Latencies, BenchError> {
        let first = self.connections.first().map_or(0, Windowed::answered);
        let until = Until { deadline, number: first + messages };
        let (plan, acknowledged) = (&self.plan, &mut self.acknowledged);
        windowed::run(&mut self.connections, until, |_, number, message| {
            accept(plan, acknowledged, number, message)
        })
    }

    /// Messages acknowledged since the streams were created.
    pub fn published(&self) -> u64 {
        self.acknowledged.iter().map(Ledger::arrived).sum()
    }

    /// Compares what was acknowledged with what the server has, and reads the newest messages back.
    pub fn check(&mut self) -> Result<(), BenchError> {
        let streams = self.plan.streams.len() as u64;
        let single = self.plan.connections <= 1;
        let blank = payload::blank(self.plan.payload_bytes);
        for (index, name) in self.plan.streams.iter().enumerate() {
            let (Some(ledger), Some(purged)) = (self.acknowledged.get(index), self.purged.get(index)) else {
                continue;
            };
            let last = ledger.arrived();
            // The ledger counts from 0, sequences from 1: nothing is open below the last one.
            expect_number("the first sequence that was not acknowledged", last + 1, ledger.first_open() + 1)
                .map_err(|fault| self.admin.fault(fault))?;
            let expected = State { messages: last - purged, last_sequence: last };
            stream::check_state(&mut self.admin, name, expected)?;
            let count = (READ_BACK_MAX / streams).min(expected.messages);
            if count == 0 {
                continue;
            }
            stream::read_back(&mut self.admin, name, (last - count + 1, last), |sequence, message| {
                let number = stream::check_whole(message.payload, &blank, single.then_some(0))?;
                if single {
                    expect_number("the message read back", (sequence - 1) * streams + index as u64, number)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Empties all streams.
    pub fn purge(&mut self) -> Result<(), BenchError> {
        for ((name, ledger), purged) in self.plan.streams.iter().zip(&self.acknowledged).zip(&mut self.purged)
        {
            stream::purge(&mut self.admin, name)?;
            *purged = ledger.arrived();
        }
        Ok(())
    }

    /// The connection for requests.
    pub fn admin(&mut self) -> &mut Peer {
        &mut self.admin
    }

    /// Makes sure that nothing came beyond the acknowledgements.
    pub fn finish(mut self) -> Result<(), BenchError> {
        self.connections.iter_mut().try_for_each(|connection| connection.peer().settle())
    }
}

/// An acknowledgement: of the right stream, of a sequence that no other message has; and with a single publisher of
/// exactly the sequence that follows from the number.
fn accept(
    plan: &PublishPlan,
    acknowledged: &mut [Ledger],
    number: u64,
    message: &Message<'_>,
) -> Result<(), Fault> {
    let (stream, sequence) = stream::acknowledged(message)?;
    let streams = plan.streams.len() as u64;
    let index = number.checked_rem(streams).unwrap_or_default() as usize;
    if plan.streams.get(index).map(String::as_str) != Some(stream) {
        let expected = format!("an acknowledgement of {:?}", plan.streams.get(index));
        return Err(StreamFault::Answer { expected, found: stream.to_owned() }.into());
    }
    if plan.connections <= 1 {
        expect_number("the acknowledged sequence", number / streams + 1, sequence)?;
    }
    let place = sequence.checked_sub(1).ok_or_else(|| message.unexpected("a sequence above 0"))?;
    match acknowledged.get_mut(index) {
        Some(ledger) => Ok(ledger.mark(place).map_err(StreamFault::from)?),
        None => Ok(()),
    }
}
