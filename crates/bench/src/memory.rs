//! What a server holds in memory: just started, per idle connection, and per subscription.
//!
//! Allocators keep what they once had, so each figure needs a server that has done nothing else.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use crate::connection::{Connection, ReadBuffer};
use crate::error::BenchError;
use crate::metric::{Metric, Sample};
use crate::server::Server;
use crate::verify::Verifier;

/// Time for a server to come to rest before its memory is read.
const REST: Duration = Duration::from_millis(700);
const MIB: f64 = 1024.0 * 1024.0;
/// Bytes of SUB lines written at once.
const WRITE_BYTES: usize = 64 * 1024;
/// Every so many subscriptions one has a wildcard.
const WILDCARD_EVERY: usize = 100;

/// Resident memory of `server` in MiB.
pub fn resident_mib(server: &Server) -> Result<f64, BenchError> {
    Ok(server.resident_bytes()? as f64 / MIB)
}

/// Memory and time of a server that has just been started.
pub fn at_start(server: &Server) -> Result<Sample, BenchError> {
    thread::sleep(REST);
    let sample = Sample::default().with(Metric::ResidentAtStart, resident_mib(server)?);
    Ok(match server.start_time() {
        Some(time) => sample.with(Metric::StartTime, time.as_secs_f64() * 1000.0),
        None => sample,
    })
}

/// Memory per connection, each with one subscription and no traffic.
pub fn per_connection(server: &Server, connections: usize) -> Result<Sample, BenchError> {
    thread::sleep(REST);
    let before = server.resident_bytes()?;
    let mut open = Vec::with_capacity(connections);
    let mut buffer = ReadBuffer::default();
    for index in 0..connections {
        let mut connection = Connection::open(server.address(), None, format!("idle connection {index}"))?;
        connection.send(format!("SUB idle.{index} 1\r\n").as_bytes())?;
        open.push(connection);
    }
    for connection in &mut open {
        connection.settle(&mut Verifier::without_messages(), &mut buffer)?;
    }
    thread::sleep(REST);
    let after = server.resident_bytes()?;
    let grown = after.saturating_sub(before) as f64;
    Ok(Sample::default()
        .with(Metric::ResidentPerConnection, grown / connections.max(1) as f64)
        .with(Metric::Resident, after as f64 / MIB))
}

/// Memory and CPU per subscription of one connection; one in [`WILDCARD_EVERY`] has a wildcard, all are distinct.
pub fn per_subscription(server: &Server, subscriptions: usize) -> Result<Sample, BenchError> {
    let mut connection = Connection::open(server.address(), None, "subscriber")?;
    let mut buffer = ReadBuffer::default();
    thread::sleep(REST);
    let before = server.resident_bytes()?;
    let cpu_before = server.cpu_time()?;
    let mut lines = String::with_capacity(WRITE_BYTES + 100);
    for index in 0..subscriptions {
        // Writing to a String does not fail.
        let _ = write!(lines, "SUB {} {}\r\n", subject(index), index + 1);
        if lines.len() >= WRITE_BYTES {
            connection.send(lines.as_bytes())?;
            lines.clear();
        }
    }
    connection.send(lines.as_bytes())?;
    connection.settle(&mut Verifier::without_messages(), &mut buffer)?;
    let cpu = server.cpu_time()?.saturating_sub(cpu_before);
    thread::sleep(REST);
    let after = server.resident_bytes()?;
    let count = subscriptions.max(1) as f64;
    Ok(Sample::default()
        .with(Metric::ResidentPerSubscription, after.saturating_sub(before) as f64 / count)
        .with(Metric::CpuPerSubscription, cpu.as_nanos() as f64 / count)
        .with(Metric::Resident, after as f64 / MIB))
}

/// Devices in groups of a thousand, as an operator would name them.
fn subject(index: usize) -> String {
    let (group, device) = (index / 1000, index % 1000);
    match (index % WILDCARD_EVERY, index / WILDCARD_EVERY % 2) {
        (0, 0) => format!("fleet.{group}.*.alarm{device}"),
        (0, _) => format!("fleet.{group}.log{device}.>"),
        _ => format!("fleet.{group}.device{device}.state"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn subjects_are_distinct_and_some_have_wildcards() {
        let subjects: HashSet<String> = (0..10_000).map(subject).collect();
        assert_eq!(subjects.len(), 10_000);
        assert_eq!(subjects.iter().filter(|subject| subject.contains('*')).count(), 50);
        assert_eq!(subjects.iter().filter(|subject| subject.ends_with(".>")).count(), 50);
    }
}
