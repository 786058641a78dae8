//! The clock of a run: wall time and CPU of server and generator between two moments.

use std::time::{Duration, Instant};

use crate::error::BenchError;
use crate::metric::{Metric, Sample};
use crate::process;
use crate::server::Server;

/// The beginning of a timed part.
pub struct Meter<'a> {
    server: &'a Server,
    wall: Instant,
    server_cpu: Duration,
    client_cpu: Duration,
}

/// What passed since.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Wall time.
    pub wall: Duration,
    /// CPU time of the server.
    pub server_cpu: Duration,
    /// CPU time of the generator.
    pub client_cpu: Duration,
}

impl<'a> Meter<'a> {
    /// Begins now.
    pub fn start(server: &'a Server) -> Result<Self, BenchError> {
        let server_cpu = server.cpu_time()?;
        Ok(Self { server, server_cpu, client_cpu: process::own_cpu_time(), wall: Instant::now() })
    }

    /// Ends now.
    pub fn stop(self) -> Result<Usage, BenchError> {
        let wall = self.wall.elapsed();
        let server_cpu = self.server.cpu_time()?.saturating_sub(self.server_cpu);
        Ok(Usage { wall, server_cpu, client_cpu: process::own_cpu_time().saturating_sub(self.client_cpu) })
    }
}

impl Usage {
    /// `count` per second.
    pub fn rate(&self, count: u64) -> f64 {
        count as f64 / self.wall.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Nanoseconds of server CPU for each of `count`.
    pub fn server_cpu_per_ns(&self, count: u64) -> f64 {
        self.server_cpu.as_nanos() as f64 / count.max(1) as f64
    }

    /// How busy both sides were.
    pub fn cores(&self) -> Sample {
        let share = |cpu: Duration| cpu.as_secs_f64() / self.wall.as_secs_f64().max(f64::MIN_POSITIVE);
        Sample::default()
            .with(Metric::ServerCores, share(self.server_cpu))
            .with(Metric::ClientCores, share(self.client_cpu))
    }
}
