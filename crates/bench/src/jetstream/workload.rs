//! Turns a JetStream shape into connections, runs it, and into figures.

use std::time::Duration;

use super::bucket::{Bucket, Gets, Puts, Watch};
use super::consume::Consumption;
use super::publish::{PublishPlan, Publishers};
use super::purge::Purge;
use super::shape::{JetStreamShape, STREAMS, Storage};
use super::{footprint, restart};
use crate::arguments::Load;
use crate::connection::Address;
use crate::error::BenchError;
use crate::frame::Subjects;
use crate::metric::{Metric, Sample};
use crate::server::Server;

/// Open connections of a JetStream shape, and the streams it needs.
pub enum JetStreamWork {
    /// Publishing to one stream.
    Publish(Publishers),
    /// Publishing to one stream and then to many.
    PublishMany {
        /// To one.
        one: Publishers,
        /// To many.
        many: Publishers,
    },
    /// Reading a stream.
    Consume(Consumption),
    /// Putting values.
    Put(Puts),
    /// Getting values.
    Get(Gets),
    /// Watching values.
    Watch(Watch),
    /// Publishing beside a purge.
    Purge(Purge),
}

impl JetStreamWork {
    /// Connects and fills what must be filled.
    pub fn open(shape: JetStreamShape, address: &Address, payload_bytes: usize) -> Result<Self, BenchError> {
        let plan = |streams: usize, in_flight, connections| PublishPlan {
            streams: numbered(streams, &format!("BENCH{streams}_")),
            subjects: Subjects::cycle(streams, |index| format!("bench.{streams}.{index}")),
            in_flight,
            connections,
            payload_bytes,
        };
        Ok(match shape {
            JetStreamShape::Publish { storage, in_flight, connections } => {
                Self::Publish(Publishers::create(address, plan(1, in_flight, connections), storage)?)
            }
            JetStreamShape::PublishMany { in_flight } => Self::PublishMany {
                one: Publishers::create(address, plan(1, in_flight, 1), Storage::File)?,
                many: Publishers::create(address, plan(STREAMS, in_flight, 1), Storage::File)?,
            },
            JetStreamShape::Consume { delivery, explicit_ack } => {
                Self::Consume(Consumption::open(address, delivery, explicit_ack, payload_bytes)?)
            }
            JetStreamShape::Put { in_flight } => Self::Put(Puts::open(address, in_flight, payload_bytes)?),
            JetStreamShape::Get { in_flight } => {
                Self::Get(Gets::open(&Bucket::fill(address, payload_bytes)?, in_flight)?)
            }
            JetStreamShape::Watch => Self::Watch(Watch::open(&Bucket::fill(address, payload_bytes)?)?),
            JetStreamShape::Purge => Self::Purge(Purge::open(address, payload_bytes)?),
            JetStreamShape::Restart(_) | JetStreamShape::Subjects | JetStreamShape::Durables => {
                return Err(BenchError::Usage(format!("{} needs a fresh server", shape.name())));
            }
        })
    }

    /// One run of `duration`; what is consumed has a fixed number instead.
    pub fn measure(&mut self, server: &Server, duration: Duration) -> Result<Sample, BenchError> {
        match self {
            Self::Publish(publishers) => publishers.measure(server, duration),
            Self::PublishMany { one, many } => {
                let rate = |sample: &Sample| sample.value(Metric::MessagesIn).unwrap_or_default();
                let alone = rate(&one.measure(server, duration)?);
                let sample = many.measure(server, duration)?;
                let share = rate(&sample) / alone.max(f64::MIN_POSITIVE);
                Ok(sample.with(Metric::ManyStreamsShare, share))
            }
            Self::Consume(consumption) => consumption.measure(server),
            Self::Put(puts) => puts.measure(server, duration),
            Self::Get(gets) => gets.measure(server, duration),
            Self::Watch(watch) => watch.measure(server, duration),
            Self::Purge(purge) => purge.measure(server, duration),
        }
    }

    /// The last checks, when no more runs follow.
    pub fn finish(self) -> Result<(), BenchError> {
        match self {
            Self::Publish(publishers) => publishers.finish(),
            Self::PublishMany { one, many } => one.finish().and_then(|()| many.finish()),
            Self::Put(puts) => puts.finish(),
            Self::Get(gets) => gets.finish(),
            Self::Purge(purge) => purge.finish(),
            // A run ends with its last check.
            Self::Consume(_) | Self::Watch(_) => Ok(()),
        }
    }
}

/// A run on a server that has done nothing before, for shapes that need one.
pub fn measure_fresh(shape: JetStreamShape, load: &Load, server: &mut Server) -> Result<Sample, BenchError> {
    match shape {
        JetStreamShape::Restart(ending) => {
            restart::measure(server, ending, load.restart_messages, load.restart_subjects)
        }
        JetStreamShape::Durables => footprint::idle_durables(server),
        _ => footprint::per_subject(server),
    }
}

fn numbered(count: usize, prefix: &str) -> Vec<String> {
    (0..count).map(|index| format!("{prefix}{index:03}")).collect()
}
