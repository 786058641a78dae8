//! Runs of all cases: one server alone, or two in alternation.

use std::time::Duration;

use crate::arguments::{Load, Program, Subject};
use crate::certificate::client_config;
use crate::connection::Address;
use crate::error::BenchError;
use crate::metric::Sample;
use crate::process;
use crate::report::{self, CaseRuns};
use crate::server::Server;
use crate::shape::Case;
use crate::target::Verdict;
use crate::workload::{self, Workload};

/// Cores of a pinned run.
const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;
/// Memory hardly varies: more pairs would only take time.
const FRESH_RUNS_MAX: usize = 3;

/// Measures one server and prints each case as it is done.
pub fn run(subject: &Subject, load: &Load, runs: usize) -> Result<(), BenchError> {
    prepare(load)?;
    let mut all = Vec::new();
    for case in &load.cases {
        let a = match subject {
            Subject::Program(program) if case.shape.needs_fresh_server() => {
                let fresh = |_| measure_started(case, load, program);
                (0..runs.min(FRESH_RUNS_MAX)).map(fresh).collect::<Result<Vec<_>, _>>()?
            }
            Subject::Program(program) => measure_often(case, load, &start(case, load, program)?, runs)?,
            Subject::Running { address, pid, trust } => {
                let tls = if case.tls { Some(client_config(trust)?) } else { None };
                let mut server = Server::running(Address { socket: *address, tls }, *pid)?;
                if load.pinned {
                    process::pin_process(*pid, SERVER_CORE)?;
                }
                match case.shape.needs_fresh_server() {
                    true => vec![workload::measure_fresh(case, load, &mut server)?],
                    false => measure_often(case, load, &server, runs)?,
                }
            }
        };
        let done = CaseRuns { case: *case, a, b: Vec::new() };
        report::print(&report::table(&done, load.pinned, load.threads));
        all.push(done);
    }
    let name = match subject {
        Subject::Program(program) => program.binary.display().to_string(),
        Subject::Running { address, pid, .. } => format!("{address} (process {pid})"),
    };
    match &load.json {
        Some(path) => report::write_json(path, (&name, None), load, &all),
        None => Ok(()),
    }
}

/// Measures `a` and `b` in alternation and prints each case as it is done. Returns how many targets were missed.
pub fn compare(a: &Program, b: &Program, load: &Load, pairs: usize) -> Result<usize, BenchError> {
    prepare(load)?;
    report::print(report::COMPARISON_HEADING);
    let mut all = Vec::new();
    for case in &load.cases {
        let done = match case.shape.needs_fresh_server() {
            true => compare_fresh(case, load, a, b, pairs.min(FRESH_RUNS_MAX))?,
            false => compare_side_by_side(case, load, a, b, pairs)?,
        };
        report::print(&report::table(&done, load.pinned, load.threads));
        all.push(done);
    }
    if let Some(path) = &load.json {
        let (a, b) = (a.binary.display().to_string(), b.binary.display().to_string());
        report::write_json(path, (&a, Some(&b)), load, &all)?;
    }
    let figures = all.iter().flat_map(|runs| runs.figures(load.pinned, load.threads));
    Ok(figures.flat_map(|figure| figure.verdicts).filter(|(_, verdict)| *verdict == Verdict::Missed).count())
}

fn prepare(load: &Load) -> Result<(), BenchError> {
    process::raise_file_limit()?;
    if load.pinned {
        if process::cores() < 2 {
            return Err(BenchError::Usage("--pin needs two cores".to_owned()));
        }
        process::pin_this_thread(CLIENT_CORE)?;
    }
    Ok(())
}

/// Both servers stay up, with all their connections open, while runs alternate.
fn compare_side_by_side(
    case: &Case,
    load: &Load,
    a: &Program,
    b: &Program,
    pairs: usize,
) -> Result<CaseRuns, BenchError> {
    let (server_a, server_b) = (start(case, load, a)?, start(case, load, b)?);
    let mut work_a = open(case, load, &server_a).map_err(|error| named("A", error))?;
    let mut work_b = open(case, load, &server_b).map_err(|error| named("B", error))?;
    let measure_a = |time: Duration| work_a.measure(time);
    let measure_b = |time: Duration| work_b.measure(time);
    let (runs_a, runs_b) = alternate(pairs, run_time(case, load), measure_a, measure_b)?;
    work_a.finish().map_err(|error| named("A", error))?;
    work_b.finish().map_err(|error| named("B", error))?;
    Ok(CaseRuns { case: *case, a: runs_a, b: runs_b })
}

fn compare_fresh(
    case: &Case,
    load: &Load,
    a: &Program,
    b: &Program,
    pairs: usize,
) -> Result<CaseRuns, BenchError> {
    let measure_a = |_| measure_started(case, load, a);
    let measure_b = |_| measure_started(case, load, b);
    let (runs_a, runs_b) = alternate(pairs, load.run_time, measure_a, measure_b)?;
    Ok(CaseRuns { case: *case, a: runs_a, b: runs_b })
}

/// `pairs` runs of each; A is first in even pairs and B in odd ones, so that neither always has the warmer machine.
fn alternate(
    pairs: usize,
    time: Duration,
    mut a: impl FnMut(Duration) -> Result<Sample, BenchError>,
    mut b: impl FnMut(Duration) -> Result<Sample, BenchError>,
) -> Result<(Vec<Sample>, Vec<Sample>), BenchError> {
    let (mut runs_a, mut runs_b) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        let mut run_a = || a(time).map_err(|error| named("A", error)).map(|run| runs_a.push(run));
        let mut run_b = || b(time).map_err(|error| named("B", error)).map(|run| runs_b.push(run));
        if pair % 2 == 0 {
            run_a()?;
            run_b()?;
        } else {
            run_b()?;
            run_a()?;
        }
    }
    Ok((runs_a, runs_b))
}

/// Says which server an error is about.
fn named(server: &str, error: BenchError) -> BenchError {
    match error {
        BenchError::Check { connection, fault } => {
            BenchError::Check { connection: format!("server {server}, {connection}"), fault }
        }
        BenchError::Server(text) => BenchError::Server(format!("{server}: {text}")),
        BenchError::System { action, source } => {
            BenchError::System { action: format!("{action} (server {server})"), source }
        }
        usage @ BenchError::Usage(_) => usage,
    }
}

fn start(case: &Case, load: &Load, program: &Program) -> Result<Server, BenchError> {
    let core = load.pinned.then_some(SERVER_CORE);
    Server::start(&program.binary, workload::setup(case, load, core, &program.configuration))
}

/// Connections, after a run that does not count.
fn open<'a>(case: &Case, load: &'a Load, server: &'a Server) -> Result<Workload<'a>, BenchError> {
    let mut work = Workload::open(case, load, server)?;
    work.measure(load.warm_up_time)?;
    Ok(work)
}

fn measure_often(case: &Case, load: &Load, server: &Server, runs: usize) -> Result<Vec<Sample>, BenchError> {
    let mut work = open(case, load, server)?;
    let samples = (0..runs).map(|_| work.measure(run_time(case, load))).collect::<Result<Vec<_>, _>>()?;
    work.finish()?;
    Ok(samples)
}

fn run_time(case: &Case, load: &Load) -> Duration {
    load.run_time.max(case.shape.run_time_min())
}

fn measure_started(case: &Case, load: &Load, program: &Program) -> Result<Sample, BenchError> {
    workload::measure_fresh(case, load, &mut start(case, load, program)?)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn who_goes_first_changes_with_each_pair() {
        let order = RefCell::new(String::new());
        let note = |name: char| {
            order.borrow_mut().push(name);
            Ok(Sample::default())
        };
        let (a, b) = alternate(3, Duration::ZERO, |_| note('a'), |_| note('b')).unwrap();
        assert_eq!((a.len(), b.len(), order.into_inner().as_str()), (3, 3, "abbaab"));
    }

    #[test]
    fn a_fault_names_its_server() {
        let fail = |_| Err(BenchError::check("receiver 0", crate::verify::Fault::Closed));
        let error = alternate(1, Duration::ZERO, |_| Ok(Sample::default()), fail).unwrap_err();
        assert_eq!(
            error.to_string(),
            "CHECK FAILED on server B, receiver 0: the server closed the connection"
        );
        assert_eq!(error.exit_code(), 1);
    }
}
