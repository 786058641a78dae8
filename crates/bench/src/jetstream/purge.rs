//! Publishing to one stream while another one is purged: what others have to wait for a large operation.

use std::time::{Duration, Instant};

use memchr::memmem;

use super::fault::expect_number;
use super::peer::Peer;
use super::publish::{PublishPlan, Publishers};
use super::shape::Storage;
use super::stream;
use crate::connection::Address;
use crate::error::BenchError;
use crate::frame::Subjects;
use crate::meter::Meter;
use crate::metric::{Metric, Sample};
use crate::server::Server;

/// Messages that a purge removes.
const PURGED_MESSAGES: u64 = 100_000;
/// Subjects they are on: removing them is more than removing files.
const PURGED_SUBJECTS: usize = 10_000;
const PURGED: &str = "PURGED";
const KEPT: &str = "KEPT";
const FILL_IN_FLIGHT: usize = 1000;

/// Both streams and a connection that purges.
pub struct Purge {
    kept: Publishers,
    purged: Publishers,
    purger: Peer,
}

impl Purge {
    /// Creates both streams.
    pub fn open(address: &Address, payload_bytes: usize) -> Result<Self, BenchError> {
        let plan = |stream: &str, subjects, in_flight| PublishPlan {
            streams: vec![stream.to_owned()],
            subjects,
            in_flight,
            connections: 1,
            payload_bytes,
        };
        let subjects = Subjects::cycle(PURGED_SUBJECTS, |index| format!("purged.{index}"));
        let mut purged = Publishers::open(address, plan(PURGED, subjects, FILL_IN_FLIGHT))?;
        stream::create(purged.admin(), PURGED, &["purged.*"], Storage::File)?;
        let kept = plan(KEPT, Subjects::one("bench.kept"), 1);
        Ok(Self {
            kept: Publishers::create(address, kept, Storage::File)?,
            purged,
            purger: Peer::open(address, "purger")?,
        })
    }

    /// Fills the one stream, then publishes to the other for `duration`, and purges in the middle of it.
    pub fn measure(&mut self, server: &Server, duration: Duration) -> Result<Sample, BenchError> {
        self.purged.publish(PURGED_MESSAGES, None)?;
        let meter = Meter::start(server)?;
        let deadline = Instant::now() + duration;
        let mut latencies = self.kept.publish_for(duration / 4)?;
        // Not waited for: its answer comes whenever it is done.
        self.purger.send(
            format!("PUB $JS.API.STREAM.PURGE.{PURGED} {}.p 0\r\n\r\n", self.purger.inbox()).as_bytes(),
        )?;
        latencies.append(self.kept.publish_for(deadline.saturating_duration_since(Instant::now()))?);
        let usage = meter.stop()?;
        let mut answers = 0;
        while answers == 0 {
            self.purger.receive(|message| {
                answers += 1;
                match memmem::find(message.payload, br#""success":true"#).is_some() {
                    true => Ok(()),
                    false => Err(message.unexpected("a purge that succeeds").into()),
                }
            })?;
        }
        let state = stream::state(self.purged.admin(), PURGED)?;
        expect_number("the number of messages after a purge", 0, state.messages)
            .map_err(|fault| self.purger.fault(fault))?;
        let published = latencies.count() as u64;
        self.kept.check()?;
        self.kept.purge()?;
        Ok(usage.cores().with(Metric::MessagesIn, usage.rate(published)).with_latencies(latencies))
    }

    /// Makes sure that nothing came beyond the acknowledgements.
    pub fn finish(self) -> Result<(), BenchError> {
        self.kept.finish().and_then(|()| self.purged.finish())
    }
}
