//! A start with streams on disk: how long until the server knows them again, and what it holds in memory then.

use std::thread;
use std::time::Duration;

use super::peer::Peer;
use super::publish::{PublishPlan, Publishers};
use super::shape::{Ending, Storage};
use super::stream::{self, State};
use crate::error::BenchError;
use crate::frame::Subjects;
use crate::memory;
use crate::metric::{Metric, Sample};
use crate::server::Server;

const STREAM: &str = "RESTARTED";
const PAYLOAD_BYTES: usize = 128;
const IN_FLIGHT: usize = 1000;
/// From the last acknowledgement to the end of the server: what it writes behind is written by then, and the figure is
/// that of a start and not of luck.
const REST: Duration = Duration::from_millis(1500);
/// How long a server may take to know its streams.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const ASK_INTERVAL: Duration = Duration::from_millis(1);

/// Publishes `messages` over `subjects`, ends the server, starts it, and asks until the stream is complete.
pub fn measure(
    server: &mut Server,
    ending: Ending,
    messages: u64,
    subjects: usize,
) -> Result<Sample, BenchError> {
    let plan = PublishPlan {
        streams: vec![STREAM.to_owned()],
        subjects: Subjects::cycle(subjects, |index| format!("bench.{index}")),
        in_flight: IN_FLIGHT,
        connections: 1,
        payload_bytes: PAYLOAD_BYTES,
    };
    let mut publishers = Publishers::open(server.address(), plan)?;
    stream::create(publishers.admin(), STREAM, &["bench.*"], Storage::File)?;
    publishers.publish(messages, None)?;
    publishers.check()?;
    drop(publishers);
    thread::sleep(REST);
    let started = server.restart(ending)?;
    let expected = State { messages, last_sequence: messages };
    let mut peer = Peer::open(server.address(), "administrator")?;
    loop {
        // Until the stream is known the API says that there is none, or that it is not ready.
        match stream::state(&mut peer, STREAM) {
            Ok(state) if state == expected => break,
            Err(error @ BenchError::System { .. }) => return Err(error),
            _ if started.elapsed() > READY_TIMEOUT => {
                stream::check_state(&mut peer, STREAM, expected)?;
            }
            _ => thread::sleep(ASK_INTERVAL),
        }
    }
    let restart = started.elapsed();
    let cpu = server.cpu_time()?;
    Ok(Sample::default()
        .with(Metric::RestartTime, restart.as_secs_f64() * 1000.0)
        .with(Metric::RestartCpu, cpu.as_secs_f64() * 1000.0)
        .with(Metric::Resident, memory::resident_mib(server)?))
}
