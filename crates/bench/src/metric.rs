//! The quantities that are measured, and a run's values of them.

use std::collections::BTreeMap;

use crate::percentile::Latencies;

/// A measured quantity. The order is that of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Messages published.
    MessagesIn,
    /// Messages delivered.
    MessagesOut,
    /// Payload delivered, or published if nobody receives.
    Payload,
    /// Requests answered.
    Requests,
    /// Server CPU per message published.
    CpuPerIn,
    /// Server CPU per message delivered.
    CpuPerOut,
    /// Server CPU per request answered.
    CpuPerRequest,
    /// Half of the latencies are not above this.
    LatencyP50,
    /// 99 % of the latencies are not above this.
    LatencyP99,
    /// 99.9 % of the latencies are not above this.
    LatencyP999,
    /// Rate with a slow reader, as a share of the rate without.
    SlowReaderShare,
    /// Rate into a hundred streams, as a share of the rate into one.
    ManyStreamsShare,
    /// From the start of a server to a complete answer about its stream.
    RestartTime,
    /// Server CPU until then.
    RestartCpu,
    /// Resident memory at the end of a run.
    Resident,
    /// Resident memory just after the start.
    ResidentAtStart,
    /// From the start to the first INFO.
    StartTime,
    /// Resident memory per idle connection.
    ResidentPerConnection,
    /// Resident memory per subscription.
    ResidentPerSubscription,
    /// Server CPU per SUB.
    CpuPerSubscription,
    /// Resident memory that streams or consumers added.
    ResidentGrown,
    /// Cores the server used.
    ServerCores,
    /// Cores the generator used.
    ClientCores,
}

impl Metric {
    /// Name in JSON, with the unit last.
    pub fn key(self) -> &'static str {
        match self {
            Self::MessagesIn => "messages_in_per_s",
            Self::MessagesOut => "messages_out_per_s",
            Self::Payload => "payload_mb_per_s",
            Self::Requests => "requests_per_s",
            Self::CpuPerIn => "cpu_per_in_ns",
            Self::CpuPerOut => "cpu_per_out_ns",
            Self::CpuPerRequest => "cpu_per_request_ns",
            Self::LatencyP50 => "latency_p50_us",
            Self::LatencyP99 => "latency_p99_us",
            Self::LatencyP999 => "latency_p999_us",
            Self::SlowReaderShare => "with_slow_reader_share",
            Self::ManyStreamsShare => "many_streams_share",
            Self::RestartTime => "restart_ms",
            Self::RestartCpu => "restart_cpu_ms",
            Self::Resident => "resident_mib",
            Self::ResidentAtStart => "resident_at_start_mib",
            Self::StartTime => "start_ms",
            Self::ResidentPerConnection => "resident_per_connection_bytes",
            Self::ResidentPerSubscription => "resident_per_subscription_bytes",
            Self::CpuPerSubscription => "cpu_per_subscription_ns",
            Self::ResidentGrown => "resident_grown_mib",
            Self::ServerCores => "server_cores",
            Self::ClientCores => "client_cores",
        }
    }

    /// Name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::MessagesIn => "in/s",
            Self::MessagesOut => "out/s",
            Self::Payload => "MB/s",
            Self::Requests => "req/s",
            Self::CpuPerIn => "CPU ns/in",
            Self::CpuPerOut => "CPU ns/out",
            Self::CpuPerRequest => "CPU ns/req",
            Self::LatencyP50 => "p50 us",
            Self::LatencyP99 => "p99 us",
            Self::LatencyP999 => "p99.9 us",
            Self::SlowReaderShare => "rate kept",
            Self::ManyStreamsShare => "100 to 1",
            Self::RestartTime => "restart ms",
            Self::RestartCpu => "restart CPU ms",
            Self::Resident => "RSS MiB",
            Self::ResidentAtStart => "RSS MiB start",
            Self::StartTime => "start ms",
            Self::ResidentPerConnection => "RSS B/conn",
            Self::ResidentPerSubscription => "RSS B/sub",
            Self::CpuPerSubscription => "CPU ns/sub",
            Self::ResidentGrown => "RSS MiB grown",
            Self::ServerCores => "server cores",
            Self::ClientCores => "client cores",
        }
    }
}

/// The values of one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample(BTreeMap<Metric, f64>);

impl Sample {
    /// The same with `metric`.
    pub fn with(mut self, metric: Metric, value: f64) -> Self {
        self.0.insert(metric, value);
        self
    }

    /// The value of `metric`, if the run had it.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        self.0.get(&metric).copied()
    }

    /// The same with the percentiles of latencies.
    pub fn with_latencies(mut self, latencies: Latencies) -> Self {
        let metrics = [Metric::LatencyP50, Metric::LatencyP99, Metric::LatencyP999];
        if let Some(values) = latencies.percentiles_us([0.5, 0.99, 0.999]) {
            self.extend(metrics.into_iter().zip(values));
        }
        self
    }

    /// All values, in the order of the tables.
    pub fn values(&self) -> impl Iterator<Item = (Metric, f64)> {
        self.0.iter().map(|(metric, value)| (*metric, *value))
    }
}

impl Extend<(Metric, f64)> for Sample {
    fn extend<I: IntoIterator<Item = (Metric, f64)>>(&mut self, values: I) {
        self.0.extend(values);
    }
}
