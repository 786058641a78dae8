//! What a server spends on streams and consumers that nobody uses at the moment.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::fault::expect_number;
use super::peer::Peer;
use super::publish::{PublishPlan, Publishers};
use super::shape::Storage;
use super::stream;
use crate::error::BenchError;
use crate::frame::Subjects;
use crate::memory;
use crate::meter::Meter;
use crate::metric::{Metric, Sample};
use crate::server::Server;

const STREAM: &str = "HELD";
/// Subjects of [`per_subject`].
const SUBJECTS: usize = 1_000_000;
/// Consumers of [`idle_durables`], on so many streams: the reference refuses more than 1,000 on one.
const DURABLES: usize = 10_000;
const DURABLE_STREAMS: usize = 20;
/// Messages of each stream for the consumers to wait behind.
const MESSAGES: u64 = 100;
const PAYLOAD_BYTES: usize = 128;
const IN_FLIGHT: usize = 1000;
/// Time for a server to come to rest.
const REST: Duration = Duration::from_secs(2);
/// Time for a server to let go of what the load needed, but the stream does not.
const LONG_REST: Duration = Duration::from_secs(30);
/// How long an idle server is watched.
const WATCHED: Duration = Duration::from_secs(3);
const MIB: f64 = 1024.0 * 1024.0;

/// Memory of a stream with one message on each of many subjects.
pub fn per_subject(server: &Server) -> Result<Sample, BenchError> {
    thread::sleep(REST);
    let before = server.resident_bytes()?;
    let plan =
        plan(vec![STREAM.to_owned()], Subjects::cycle(SUBJECTS, |index| format!("device.{index}.state")));
    let mut publishers = Publishers::open(server.address(), plan)?;
    stream::create(publishers.admin(), STREAM, &["device.>"], Storage::File)?;
    let meter = Meter::start(server)?;
    publishers.publish(SUBJECTS as u64, None)?;
    let usage = meter.stop()?;
    thread::sleep(LONG_REST);
    let after = server.resident_bytes()?;
    publishers.check()?;
    let grown = after.saturating_sub(before) as f64;
    Ok(Sample::default()
        .with(Metric::MessagesIn, usage.rate(SUBJECTS as u64))
        .with(Metric::CpuPerIn, usage.server_cpu_per_ns(SUBJECTS as u64))
        .with(Metric::ResidentGrown, grown / MIB)
        .with(Metric::Resident, after as f64 / MIB))
}

/// CPU and memory of many durable consumers that wait for messages.
pub fn idle_durables(server: &Server) -> Result<Sample, BenchError> {
    let streams: Vec<String> = (0..DURABLE_STREAMS).map(|index| format!("{STREAM}{index}")).collect();
    let plan = plan(streams.clone(), Subjects::cycle(DURABLE_STREAMS, |index| format!("held.{index}")));
    let mut publishers = Publishers::create(server.address(), plan, Storage::File)?;
    publishers.publish(MESSAGES * DURABLE_STREAMS as u64, None)?;
    publishers.check()?;
    thread::sleep(REST);
    let before = server.resident_bytes()?;
    let mut peer = Peer::open(server.address(), "administrator")?;
    for (index, stream) in (0..DURABLES).zip(streams.iter().cycle()) {
        let name = format!("d{index}");
        let configuration =
            json!({ "durable_name": name, "ack_policy": "explicit", "deliver_policy": "all" });
        let pending = stream::create_consumer(&mut peer, stream, &name, &configuration)?;
        expect_number("the messages that wait for a consumer", MESSAGES, pending)
            .map_err(|fault| peer.fault(fault))?;
    }
    thread::sleep(REST);
    let meter = Meter::start(server)?;
    thread::sleep(WATCHED);
    let usage = meter.stop()?;
    let after = server.resident_bytes()?;
    Ok(usage
        .cores()
        .with(Metric::ResidentGrown, after.saturating_sub(before) as f64 / MIB)
        .with(Metric::Resident, memory::resident_mib(server)?))
}

fn plan(streams: Vec<String>, subjects: Subjects) -> PublishPlan {
    PublishPlan { streams, subjects, in_flight: IN_FLIGHT, connections: 1, payload_bytes: PAYLOAD_BYTES }
}
