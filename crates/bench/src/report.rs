//! Figures as a table and as JSON.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::arguments::Load;
use crate::error::BenchError;
use crate::metric::{Metric, Sample};
use crate::percentile::median;
use crate::process;
use crate::shape::Case;
use crate::target::{Verdict, targets_of};

/// From this share of its cores on, the generator may be the limit.
const BUSY_SHARE: f64 = 0.85;

/// All runs of one case.
#[derive(Debug, Clone)]
pub struct CaseRuns {
    /// What was run.
    pub case: Case,
    /// Runs of the candidate, or of the only server.
    pub a: Vec<Sample>,
    /// Runs of the reference, in pairs with those of the candidate; empty if there is none.
    pub b: Vec<Sample>,
}

/// One line of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub metric: Metric,
    /// Median of the candidate.
    pub a: f64,
    /// Median of the reference.
    pub b: Option<f64>,
    /// Median of the ratios of all pairs.
    pub ratio: Option<f64>,
    /// Targets and how they are met.
    pub verdicts: Vec<(String, Verdict)>,
}

impl CaseRuns {
    /// Every metric of these runs.
    pub fn figures(&self, pinned: bool, threads: usize) -> Vec<Figure> {
        let Some(first) = self.a.first() else { return Vec::new() };
        let client_bound = self.is_client_bound(threads);
        first
            .values()
            .filter_map(|(metric, _)| {
                let a = median(values(&self.a, metric))?;
                let ratio = median(self.ratios(metric));
                let targets = targets_of(&self.case, pinned, metric).filter(|_| !self.b.is_empty());
                let verdicts = targets
                    .filter_map(|target| {
                        Some((target.limit.to_string(), target.judge(a, ratio, client_bound)?))
                    })
                    .collect();
                Some(Figure { metric, a, b: median(values(&self.b, metric)), ratio, verdicts })
            })
            .collect()
    }

    fn ratios(&self, metric: Metric) -> impl Iterator<Item = f64> {
        let pairs = self.a.iter().zip(&self.b);
        pairs.filter_map(move |(a, b)| {
            let (a, b) = (a.value(metric)?, b.value(metric)?);
            (b != 0.0).then(|| a / b)
        })
    }

    /// Whether the generator was busy while the candidate was not: its rate is a lower bound then. Only traffic at full
    /// speed, which has a payload rate, can be.
    pub fn is_client_bound(&self, threads: usize) -> bool {
        let middle = |metric| median(values(&self.a, metric));
        if middle(Metric::Payload).is_none() {
            return false;
        }
        match (middle(Metric::ClientCores), middle(Metric::ServerCores)) {
            (Some(client), Some(server)) => client >= BUSY_SHARE * threads as f64 && server < BUSY_SHARE,
            _ => false,
        }
    }
}

fn values(runs: &[Sample], metric: Metric) -> impl Iterator<Item = f64> {
    runs.iter().filter_map(move |run| run.value(metric))
}

/// The table of one case.
pub fn table(runs: &CaseRuns, pinned: bool, threads: usize) -> String {
    let bound =
        if runs.is_client_bound(threads) { ", client bound: rates of A are lower bounds" } else { "" };
    let mut text = format!("{} ({} runs{bound})\n", runs.case, runs.a.len());
    for figure in runs.figures(pinned, threads) {
        let mut line = format!("  {:<14}{:>12}", figure.metric.title(), readable(figure.a));
        if let Some(b) = figure.b {
            let ratio = figure.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            line.push_str(&format!("{:>12}{ratio:>9}", readable(b)));
        }
        for (limit, verdict) in &figure.verdicts {
            line.push_str(&format!("   {limit} {}", verdict.word()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The heading above the tables of a comparison.
pub const COMPARISON_HEADING: &str = "                           A           B      A/B   targets\n";

/// Three or more digits, with a unit for thousands from 100,000 on.
fn readable(value: f64) -> String {
    match value.abs() {
        size if size >= 1e8 => format!("{:.1} M", value / 1e6),
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e5 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Writes to the standard output; a reader that has gone, as in `| head`, is no failure.
pub fn print(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// Writes all figures to `path`. `servers` are the programs or addresses, `b` absent if only one was measured.
pub fn write_json(
    path: &Path,
    servers: (&str, Option<&str>),
    load: &Load,
    runs: &[CaseRuns],
) -> Result<(), BenchError> {
    let cases: Vec<Value> = runs.iter().map(|runs| case_json(runs, load)).collect();
    let document = json!({
        "tool": concat!("sonata-bench ", env!("CARGO_PKG_VERSION")),
        "a": servers.0,
        "b": servers.1,
        "ratio": "median of a/b of each pair",
        "pinned": load.pinned,
        "cores": process::machine_cores(),
        "client_threads": load.threads,
        "seconds": load.run_time.as_secs_f64(),
        "warm_up_seconds": load.warm_up_time.as_secs_f64(),
        "cases": cases,
    });
    let mut text = format!("{document:#}");
    text.push('\n');
    fs::write(path, text).map_err(|source| BenchError::system(format!("write {}", path.display()), source))
}

fn case_json(runs: &CaseRuns, load: &Load) -> Value {
    let mut metrics = Map::new();
    for figure in runs.figures(load.pinned, load.threads) {
        let targets: Vec<Value> = figure
            .verdicts
            .iter()
            .map(|(limit, verdict)| json!({ "target": limit, "verdict": verdict.word() }))
            .collect();
        let value = json!({
            "a": figure.a,
            "b": figure.b,
            "ratio": figure.ratio,
            "a_runs": values(&runs.a, figure.metric).collect::<Vec<_>>(),
            "b_runs": values(&runs.b, figure.metric).collect::<Vec<_>>(),
            "targets": targets,
        });
        metrics.insert(figure.metric.key().to_owned(), value);
    }
    json!({
        "shape": runs.case.shape.name(),
        "payload_bytes": runs.case.size,
        "tls": runs.case.tls,
        "sync": runs.case.sync.name(),
        "client_bound": runs.is_client_bound(load.threads),
        "metrics": metrics,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Shape, Sync};

    fn sample(rate: f64, cpu: f64, client: f64) -> Sample {
        Sample::default()
            .with(Metric::MessagesIn, rate)
            .with(Metric::Payload, 50.0)
            .with(Metric::CpuPerIn, cpu)
            .with(Metric::ServerCores, 0.5)
            .with(Metric::ClientCores, client)
    }

    fn runs(client: f64) -> CaseRuns {
        CaseRuns {
            case: Case { shape: Shape::OneToOne, size: Some(16), tls: false, sync: Sync::Default },
            a: vec![sample(3e6, 100.0, client), sample(6e6, 100.0, client), sample(3e6, 90.0, client)],
            b: vec![sample(1e6, 1000.0, 0.5), sample(3e6, 400.0, 0.5), sample(1.5e6, 900.0, 0.5)],
        }
    }

    #[test]
    fn the_ratio_is_the_median_of_ratios_not_the_ratio_of_medians() {
        let figures = runs(0.5).figures(true, 1);
        assert_eq!((figures[0].a, figures[0].b, figures[0].ratio), (3e6, Some(1.5e6), Some(2.0)));
        assert_eq!((figures[2].a, figures[2].b, figures[2].ratio), (100.0, Some(900.0), Some(0.1)));
    }

    #[test]
    fn tables() {
        assert_eq!(
            table(&runs(0.5), true, 1),
            "1to1 16 B (3 runs)\n  \
             in/s                3.00 M      1.50 M     2.00   A/B >= 4.00 MISSED   A/B >= 1.00 met\n  \
             MB/s                  50.0        50.0     1.00\n  \
             CPU ns/in              100         900     0.10   A/B <= 0.15 met\n  \
             server cores          0.50        0.50     1.00\n  \
             client cores          0.50        0.50     1.00\n"
        );
        let bound = table(&runs(0.95), true, 1);
        assert!(bound.starts_with("1to1 16 B (3 runs, client bound: rates of A are lower bounds)\n"));
        assert!(bound.contains("A/B >= 4.00 client bound   A/B >= 1.00 met"));
        let alone = CaseRuns { b: Vec::new(), ..runs(0.5) };
        assert_eq!(
            table(&alone, true, 1),
            "1to1 16 B (3 runs)\n  in/s                3.00 M\n  MB/s                  50.0\n  \
             CPU ns/in              100\n  \
             server cores          0.50\n  client cores          0.50\n"
        );
    }

    #[test]
    fn numbers_stay_short() {
        let shown = [0.123, 1.0, 12.34, 999.9, 99_999.0, 123_456.0, 1_234_567.0, 123_456_789.0].map(readable);
        assert_eq!(shown, ["0.12", "1.00", "12.3", "1000", "99999", "123.5 k", "1.23 M", "123.5 M"]);
    }
}
