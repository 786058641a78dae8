//! Turns a case into connections, runs it, and into figures.

use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::Load;
use crate::connection::{Connection, Login, ReadBuffer};
use crate::error::BenchError;
use crate::flow::{FlowPlan, Flows};
use crate::frame::Subjects;
use crate::jetstream::workload::{self as jetstream, JetStreamWork};
use crate::memory;
use crate::meter::Meter;
use crate::metric::{Metric, Sample};
use crate::paced::PacedFlow;
use crate::request::{Exchange, Inbox};
use crate::server::{Server, Setup, account_login};
use crate::shape::{Case, Shape};
use crate::slow_reader::SlowReader;
use crate::verify::Verifier;

const SUBJECT: &str = "bench.subject";
const SLOW_SUBJECT: &str = "bench.slow";
/// What `mapping` publishes on.
const MAPPED_SUBJECT: &str = "bench.mapped";
/// Accounts of `imports` that import.
const IMPORTERS: usize = 10;
const WILDCARD_SUBJECTS: usize = 1000;
const IDLE_SUBSCRIPTIONS: usize = 10_000;
/// Subscribers of `slowreader`, one of which may be slow.
const READERS: usize = 100;

/// What a server must offer for `case`.
pub fn setup(case: &Case, load: &Load, core: Option<usize>, configuration: &str) -> Setup {
    let accounts = if case.shape == Shape::Accounts { load.accounts } else { 0 };
    let configuration = match case.shape {
        Shape::Mapping => format!("{configuration}\nmappings {{ {MAPPED_SUBJECT}: {SUBJECT} }}"),
        Shape::Imports => format!("{configuration}\n{}", importing_accounts()),
        _ => configuration.to_owned(),
    };
    let jetstream = matches!(case.shape, Shape::JetStream(_));
    Setup { accounts, tls: case.tls, jetstream, core, configuration }
}

/// A run on a server that has done nothing before, for shapes that need one.
pub fn measure_fresh(case: &Case, load: &Load, server: &mut Server) -> Result<Sample, BenchError> {
    match case.shape {
        Shape::JetStream(shape) => jetstream::measure_fresh(shape, load, server),
        Shape::Idle => memory::per_connection(server, load.idle_connections),
        Shape::Subscriptions => memory::per_subscription(server, load.subscriptions),
        _ => memory::at_start(server),
    }
}

/// Open connections of a case, ready for runs.
pub struct Workload<'a> {
    server: &'a Server,
    load: &'a Load,
    payload_bytes: usize,
    traffic: Traffic,
}

enum Traffic {
    Flows {
        flows: Flows,
        receives: bool,
        /// Holds subscriptions that never get a message.
        _idle: Option<Connection>,
    },
    SlowReader {
        /// All read.
        healthy: Flows,
        /// One is missing here; the slow one takes its place.
        others: Flows,
    },
    Churn(Flows, Exchange),
    Requests(Exchange),
    Paced(PacedFlow),
    JetStream(JetStreamWork),
}

impl<'a> Workload<'a> {
    /// Connects all that `case` needs.
    pub fn open(case: &Case, load: &'a Load, server: &'a Server) -> Result<Self, BenchError> {
        let address = server.address();
        let payload_bytes = case.size.unwrap_or_default();
        let flows = |plans: &[FlowPlan]| Flows::open(address, plans, payload_bytes, load.threads);
        let traffic = match case.shape {
            Shape::SlowReader => Traffic::SlowReader {
                healthy: flows(&[FlowPlan::fan_out(SUBJECT, READERS)])?,
                others: flows(&[FlowPlan::fan_out(SLOW_SUBJECT, READERS - 1)])?,
            },
            Shape::Churn => Traffic::Churn(
                flows(&[FlowPlan::fan_out(SUBJECT, 1)])?,
                Exchange::open(address, payload_bytes, Inbox::Fresh)?,
            ),
            Shape::RequestReply => Traffic::Requests(Exchange::open(address, payload_bytes, Inbox::Kept)?),
            Shape::Paced => Traffic::Paced(PacedFlow::open(address, payload_bytes, load.rate)?),
            Shape::JetStream(shape) => {
                Traffic::JetStream(JetStreamWork::open(shape, address, payload_bytes)?)
            }
            shape => Traffic::Flows {
                _idle: match shape {
                    Shape::IdleSubscriptions => Some(idle_subscriptions(server)?),
                    _ => None,
                },
                flows: flows(&plans(shape, load))?,
                receives: shape != Shape::Publish,
            },
        };
        Ok(Self { server, load, payload_bytes, traffic })
    }

    /// One run of `duration`.
    pub fn measure(&mut self, duration: Duration) -> Result<Sample, BenchError> {
        let (server, payload_bytes) = (self.server, self.payload_bytes);
        let mut sample = match &mut self.traffic {
            Traffic::Flows { flows, receives, .. } => {
                measure_flows(flows, server, payload_bytes, *receives, duration)?
            }
            Traffic::SlowReader { healthy, others } => {
                let without = measure_flows(healthy, server, payload_bytes, true, duration)?;
                // A new one each time: a server may close it.
                let slow = SlowReader::open(server.address(), SLOW_SUBJECT, self.load.slow_reader_bytes)?;
                let with = measure_flows(others, server, payload_bytes, true, duration)?;
                drop(slow);
                let rate = |sample: &Sample| sample.value(Metric::MessagesIn).unwrap_or_default();
                let share = rate(&with) / rate(&without).max(f64::MIN_POSITIVE);
                with.with(Metric::SlowReaderShare, share)
            }
            Traffic::Churn(flows, exchange) => {
                measure_churn(flows, exchange, server, payload_bytes, duration)?
            }
            Traffic::Requests(exchange) => {
                let meter = Meter::start(server)?;
                let latencies = exchange.run_until(Instant::now() + duration)?;
                let usage = meter.stop()?;
                let requests = latencies.count() as u64;
                usage
                    .cores()
                    .with(Metric::Requests, usage.rate(requests))
                    .with(Metric::CpuPerRequest, usage.server_cpu_per_ns(requests))
                    .with_latencies(latencies)
            }
            Traffic::Paced(flow) => {
                let meter = Meter::start(server)?;
                let latencies = flow.run(duration)?;
                let usage = meter.stop()?;
                let messages = latencies.count() as u64;
                usage
                    .cores()
                    .with(Metric::MessagesIn, usage.rate(messages))
                    .with(Metric::CpuPerIn, usage.server_cpu_per_ns(messages))
                    .with_latencies(latencies)
            }
            Traffic::JetStream(work) => work.measure(server, duration)?,
        };
        sample.extend([(Metric::Resident, memory::resident_mib(server)?)]);
        Ok(sample)
    }

    /// The last checks, when no more runs follow.
    pub fn finish(self) -> Result<(), BenchError> {
        match self.traffic {
            Traffic::Flows { flows, .. } => flows.finish(),
            Traffic::SlowReader { healthy, others } => healthy.finish().and_then(|()| others.finish()),
            Traffic::Churn(flows, exchange) => flows.finish().and_then(|()| exchange.finish()),
            Traffic::Requests(exchange) => exchange.finish(),
            Traffic::Paced(flow) => flow.finish(),
            Traffic::JetStream(work) => work.finish(),
        }
    }
}

fn plans(shape: Shape, load: &Load) -> Vec<FlowPlan> {
    let numbered = |count| (0..count).map(|index| FlowPlan::fan_out(&format!("bench.subject.{index}"), 1));
    match shape {
        Shape::Publish => vec![FlowPlan::fan_out(SUBJECT, 0)],
        Shape::OneToEight => vec![FlowPlan::fan_out(SUBJECT, 8)],
        Shape::EightToEight => numbered(8).collect(),
        Shape::Queue => vec![FlowPlan { queue: Some("workers"), ..FlowPlan::fan_out(SUBJECT, 8) }],
        Shape::Wildcard => vec![FlowPlan {
            subjects: Subjects::cycle(WILDCARD_SUBJECTS, |index| format!("a.{index}.x")),
            ..FlowPlan::fan_out("a.*.x", 1)
        }],
        // The subject is the same in all accounts: a message that crosses over is seen.
        Shape::Accounts => (0..load.accounts)
            .map(|index| FlowPlan { login: Some(account_login(index)), ..FlowPlan::fan_out(SUBJECT, 1) })
            .collect(),
        Shape::Mapping => vec![FlowPlan {
            subjects: Subjects::one(MAPPED_SUBJECT),
            arriving: Some(Subjects::one(SUBJECT)),
            ..FlowPlan::fan_out(SUBJECT, 1)
        }],
        Shape::Imports => vec![FlowPlan {
            login: Some(account_login(0)),
            receiver_logins: (1..=IMPORTERS).map(account_login).collect(),
            ..FlowPlan::fan_out(SUBJECT, IMPORTERS)
        }],
        _ => vec![FlowPlan::fan_out(SUBJECT, 1)],
    }
}

/// The first account exports, all others import.
fn importing_accounts() -> String {
    let account = |index: usize| {
        let Login { user, password } = account_login(index);
        let shared = match index {
            0 => format!("exports: [ {{ stream: {SUBJECT} }} ]"),
            _ => format!("imports: [ {{ stream: {{ account: A0, subject: {SUBJECT} }} }} ]"),
        };
        format!("  A{index} {{ users: [ {{ user: {user}, password: {password} }} ], {shared} }}\n")
    };
    format!("accounts {{\n{}}}", (0..=IMPORTERS).map(account).collect::<String>())
}

fn idle_subscriptions(server: &Server) -> Result<Connection, BenchError> {
    let mut connection = Connection::open(server.address(), None, "idle subscriber")?;
    let lines: String =
        (0..IDLE_SUBSCRIPTIONS).map(|index| format!("SUB idle.{index}.x {index}\r\n")).collect();
    connection.send(lines.as_bytes())?;
    connection.settle(&mut Verifier::without_messages(), &mut ReadBuffer::default())?;
    Ok(connection)
}

fn measure_flows(
    flows: &mut Flows,
    server: &Server,
    payload_bytes: usize,
    receives: bool,
    duration: Duration,
) -> Result<Sample, BenchError> {
    let meter = Meter::start(server)?;
    let counts = flows.run(duration)?;
    let usage = meter.stop()?;
    let carried = if receives { counts.delivered } else { counts.published };
    let sample = usage
        .cores()
        .with(Metric::MessagesIn, usage.rate(counts.published))
        .with(Metric::Payload, usage.rate(carried) * payload_bytes as f64 / 1e6)
        .with(Metric::CpuPerIn, usage.server_cpu_per_ns(counts.published));
    Ok(match receives {
        true => sample
            .with(Metric::MessagesOut, usage.rate(counts.delivered))
            .with(Metric::CpuPerOut, usage.server_cpu_per_ns(counts.delivered)),
        false => sample,
    })
}

fn measure_churn(
    flows: &mut Flows,
    exchange: &mut Exchange,
    server: &Server,
    payload_bytes: usize,
    duration: Duration,
) -> Result<Sample, BenchError> {
    let deadline = Instant::now() + duration;
    let (sample, latencies) = thread::scope(|scope| {
        let requests = scope.spawn(|| exchange.run_until(deadline));
        let sample = measure_flows(flows, server, payload_bytes, true, duration);
        let panicked = |_| Err(BenchError::Server("the requesting thread panicked".to_owned()));
        (sample, requests.join().unwrap_or_else(panicked))
    });
    let (sample, latencies) = (sample?, latencies?);
    let rate = latencies.count() as f64 / duration.as_secs_f64().max(f64::MIN_POSITIVE);
    Ok(sample.with(Metric::Requests, rate).with_latencies(latencies))
}
