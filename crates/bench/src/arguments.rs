//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use crate::certificate::Trust;
use crate::error::BenchError;
use crate::jetstream::shape::JetStreamShape;
use crate::payload::PAYLOAD_BYTES_MIN;
use crate::shape::{Case, Shape, Sync};

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Measure one server.
    Run {
        /// Which one.
        server: Subject,
        /// With what.
        load: Load,
        /// How often.
        runs: usize,
    },
    /// Measure two servers in alternation.
    Compare {
        /// The candidate, above the line of every ratio.
        a: Program,
        /// The reference, below the line.
        b: Program,
        /// With what.
        load: Load,
        /// How many runs of each.
        pairs: usize,
        /// Whether a missed target is a failure.
        check: bool,
    },
    /// Show the table of targets.
    Targets,
    /// Show how to call this.
    Help,
}

/// A program to be started, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// The program.
    pub binary: PathBuf,
    /// What its configuration file says; empty if the defaults will do.
    pub configuration: String,
}

/// The one server of [`Command::Run`].
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A program to be started.
    Program(Program),
    /// A server that runs already.
    Running {
        /// Where it listens.
        address: SocketAddr,
        /// Its process.
        pid: u32,
        /// How its certificate is checked, with `--tls`.
        trust: Trust,
    },
}

/// What is measured, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Shapes and sizes, in order.
    pub cases: Vec<Case>,
    /// Length of a timed run.
    pub run_time: Duration,
    /// Length of the run before the first timed one.
    pub warm_up_time: Duration,
    /// Server on core 0, generator on core 1.
    pub pinned: bool,
    /// Threads of the generator for flows.
    pub threads: usize,
    /// Messages per second of `paced`.
    pub rate: u32,
    /// Connections of `idle`.
    pub idle_connections: usize,
    /// Subscriptions of `subs`.
    pub subscriptions: usize,
    /// Accounts of `accounts`.
    pub accounts: usize,
    /// Messages of `js-restart` and `js-kill`.
    pub restart_messages: u64,
    /// Subjects that they are on.
    pub restart_subjects: usize,
    /// Bytes per second that the reader of `slowreader` takes; 0 if it stops.
    pub slow_reader_bytes: usize,
    /// Where figures go as JSON.
    pub json: Option<PathBuf>,
}

/// How to call this.
pub fn help() -> String {
    let shapes: String =
        Shape::all().map(|shape| format!("    {:<12} {}\n", shape.name(), shape.help())).collect();
    format!(
        "Measures NATS servers over the wire and compares two of them.

sonata-bench run --server BINARY [options]
sonata-bench run --url HOST:PORT --pid PID [options]
sonata-bench compare --a BINARY --b BINARY [--pairs 5] [--check] [options]
sonata-bench targets

  --a BINARY, --b BINARY  candidate and reference; ratios are A/B
  --a-config TEXT, --b-config TEXT
                          what their configuration files say
  --sync MODE             what an acknowledged publish to a file stream means, by configuration, and which targets
                          hold: default (of each server), always (B syncs always, as A does), lazy (A does not either)
  --pairs N               alternating runs of each server (5)
  --check                 exit with 1 if a ratio misses its target
  --config TEXT           what the configuration file of run's server says
  --runs N                runs of one server (3)
  --tls-ca FILE           with --url and --tls: authority of the server's certificate
  --tls-insecure          with --url and --tls: accept any certificate

  --shapes LIST           names below; tls for 1to1+tls; js for JetStream's that take seconds; all
                          (default: all of core NATS but subs)
  --sizes LIST            payload bytes, at least 16 (default: by shape)
  --seconds S             length of a run (0.8; slowreader at least 4)
  --warm-up S             length of the run before the first (0.4)
  --pin                   server on core 0, generator on core 1
  --threads N             threads of the generator for flows (1)
  --tls                   encrypt all connections
  --rate N                messages per second of paced (20000)
  --idle N                connections of idle (5000)
  --subs N                subscriptions of subs (1000000)
  --accounts N            accounts of accounts (100)
  --messages N            messages of js-restart and js-kill (500000; targets are meant for 5000000)
  --subjects N            subjects of js-restart and js-kill (100000)
  --slow-bytes N          bytes per second the slow reader takes (0: it stops)
  --json FILE             write all figures there too

Shapes:
{shapes}    tls          1to1 over TLS

Exit codes: 0 done, 1 a check failed or a target was missed, 2 wrong arguments, 3 server or machine trouble.
"
    )
}

/// Reads the arguments after the program's name.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, BenchError> {
    let mut arguments = arguments.into_iter();
    let verb = arguments.next().unwrap_or_else(|| "help".to_owned());
    let options = Options::read(arguments)?;
    match verb.as_str() {
        "run" => options.into_run(),
        "compare" => options.into_compare(),
        "targets" => Ok(Command::Targets),
        "help" | "--help" | "-h" => Ok(Command::Help),
        verb => Err(usage(format!("unknown command {verb}; there are run, compare, targets and help"))),
    }
}

fn usage(text: impl Into<String>) -> BenchError {
    BenchError::Usage(text.into())
}

/// All options as written; which of them a command takes is decided later.
#[derive(Default)]
struct Options {
    server: Option<PathBuf>,
    url: Option<String>,
    pid: Option<u32>,
    trust: Option<Trust>,
    config: Option<String>,
    a: Option<PathBuf>,
    a_config: Option<String>,
    b: Option<PathBuf>,
    b_config: Option<String>,
    sync: Option<Sync>,
    pairs: Option<usize>,
    runs: Option<usize>,
    check: bool,
    shapes: Option<String>,
    sizes: Option<Vec<usize>>,
    seconds: Option<f64>,
    warm_up: Option<f64>,
    pin: bool,
    threads: Option<usize>,
    tls: bool,
    rate: Option<u32>,
    idle: Option<usize>,
    subs: Option<usize>,
    accounts: Option<usize>,
    messages: Option<u64>,
    subjects: Option<usize>,
    slow_bytes: Option<usize>,
    json: Option<PathBuf>,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, BenchError> {
        let mut options = Self::default();
        while let Some(written) = arguments.next() {
            let (name, joined) = match written.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (written, None),
            };
            let mut value = || {
                joined
                    .clone()
                    .or_else(|| arguments.next())
                    .ok_or_else(|| usage(format!("{name} needs a value")))
            };
            match name.as_str() {
                "--server" => options.server = Some(value()?.into()),
                "--url" => options.url = Some(value()?),
                "--pid" => options.pid = Some(number(&name, &value()?)?),
                "--tls-ca" => options.trust = Some(Trust::Authority(value()?.into())),
                "--tls-insecure" => options.trust = Some(Trust::Anyone),
                "--config" => options.config = Some(value()?),
                "--a" => options.a = Some(value()?.into()),
                "--a-config" => options.a_config = Some(value()?),
                "--b" => options.b = Some(value()?.into()),
                "--b-config" => options.b_config = Some(value()?),
                "--sync" => options.sync = Some(sync(&value()?)?),
                "--pairs" => options.pairs = Some(positive(&name, &value()?)?),
                "--runs" => options.runs = Some(positive(&name, &value()?)?),
                "--check" => options.check = true,
                "--shapes" | "--shape" => options.shapes = Some(value()?),
                "--sizes" | "--size" => options.sizes = Some(sizes(&value()?)?),
                "--seconds" => options.seconds = Some(seconds(&name, &value()?)?),
                "--warm-up" => options.warm_up = Some(seconds(&name, &value()?)?),
                "--pin" => options.pin = true,
                "--threads" => options.threads = Some(positive(&name, &value()?)?),
                "--tls" => options.tls = true,
                "--rate" => options.rate = Some(positive(&name, &value()?)?),
                "--idle" => options.idle = Some(positive(&name, &value()?)?),
                "--subs" => options.subs = Some(positive(&name, &value()?)?),
                "--accounts" => options.accounts = Some(positive(&name, &value()?)?),
                "--messages" => options.messages = Some(positive(&name, &value()?)?),
                "--subjects" => options.subjects = Some(positive(&name, &value()?)?),
                "--slow-bytes" => options.slow_bytes = Some(number(&name, &value()?)?),
                "--json" => options.json = Some(value()?.into()),
                _ => return Err(usage(format!("unknown option {name}; see sonata-bench help"))),
            }
        }
        Ok(options)
    }

    fn into_run(self) -> Result<Command, BenchError> {
        let of_compare =
            self.a.is_some() || self.a_config.is_some() || self.b.is_some() || self.b_config.is_some();
        if of_compare || self.sync.is_some() || self.pairs.is_some() || self.check {
            return Err(usage(
                "--a, --b, their configurations, --sync, --pairs and --check belong to compare",
            ));
        }
        let server = match (&self.server, &self.url, self.pid) {
            (Some(binary), None, None) => Subject::Program(Program {
                binary: binary.clone(),
                configuration: self.config.clone().unwrap_or_default(),
            }),
            (None, Some(url), Some(pid)) => Subject::Running {
                address: resolve(url)?,
                pid,
                trust: match (self.tls || self.names_tls(), self.trust.clone()) {
                    (true, None) => {
                        return Err(usage("TLS with --url needs --tls-ca FILE or --tls-insecure"));
                    }
                    (_, trust) => trust.unwrap_or(Trust::Anyone),
                },
            },
            _ => return Err(usage("run needs --server BINARY, or --url HOST:PORT and --pid PID")),
        };
        if matches!(server, Subject::Running { .. }) && self.config.is_some() {
            return Err(usage("--config is for a server that is started here"));
        }
        if matches!(server, Subject::Program(_)) && self.trust.is_some() {
            return Err(usage(
                "--tls-ca and --tls-insecure are for --url; a started server gets a certificate",
            ));
        }
        Ok(Command::Run { server, runs: self.runs.unwrap_or(3), load: self.into_load()? })
    }

    fn into_compare(self) -> Result<Command, BenchError> {
        let misplaced =
            self.server.is_some() || self.url.is_some() || self.pid.is_some() || self.trust.is_some();
        if misplaced || self.config.is_some() || self.runs.is_some() {
            return Err(usage(
                "--server, --url, --pid, --config, --tls-ca, --tls-insecure and --runs belong to run",
            ));
        }
        let (Some(a), Some(b)) = (self.a.clone(), self.b.clone()) else {
            return Err(usage("compare needs --a BINARY and --b BINARY"));
        };
        let (a_sync, b_sync) = self.sync.unwrap_or_default().configurations();
        let program = |binary, said: &Option<String>, of_sync: &str| Program {
            binary,
            configuration: said.clone().unwrap_or_else(|| of_sync.to_owned()),
        };
        let (a, b) = (program(a, &self.a_config, a_sync), program(b, &self.b_config, b_sync));
        let (pairs, check) = (self.pairs.unwrap_or(5), self.check);
        Ok(Command::Compare { a, b, pairs, check, load: self.into_load()? })
    }

    fn names_tls(&self) -> bool {
        self.shapes.as_deref().is_none_or(|names| names.split(',').any(|name| matches!(name, "tls" | "all")))
    }

    fn into_load(self) -> Result<Load, BenchError> {
        let cases = self.cases()?;
        let time = |seconds: Option<f64>, default| Duration::from_secs_f64(seconds.unwrap_or(default));
        Ok(Load {
            cases,
            run_time: time(self.seconds, 0.8),
            warm_up_time: time(self.warm_up, 0.4),
            pinned: self.pin,
            threads: self.threads.unwrap_or(1),
            rate: self.rate.unwrap_or(20_000),
            idle_connections: self.idle.unwrap_or(5_000),
            subscriptions: self.subs.unwrap_or(1_000_000),
            accounts: self.accounts.unwrap_or(100),
            restart_messages: self.messages.unwrap_or(500_000),
            restart_subjects: self.subjects.unwrap_or(100_000),
            slow_reader_bytes: self.slow_bytes.unwrap_or(0),
            json: self.json,
        })
    }

    fn cases(&self) -> Result<Vec<Case>, BenchError> {
        let mut shapes = Vec::new();
        let encrypted_pair = (Shape::OneToOne, true);
        match self.shapes.as_deref() {
            None => {
                // A million subscriptions take minutes and gigabytes: only on request.
                shapes.extend(
                    Shape::CORE.into_iter().filter(|s| *s != Shape::Subscriptions).map(|s| (s, self.tls)),
                );
                shapes.push(encrypted_pair);
            }
            Some(names) => {
                for name in names.split(',').filter(|name| !name.is_empty()) {
                    match (name, Shape::named(name)) {
                        ("all", _) => {
                            shapes.extend(Shape::all().map(|shape| (shape, self.tls)));
                            shapes.push(encrypted_pair);
                        }
                        ("js", _) => shapes.extend(
                            JetStreamShape::all()
                                .map(Shape::JetStream)
                                .filter(|shape| !shape.needs_fresh_server())
                                .map(|shape| (shape, self.tls)),
                        ),
                        ("tls", _) => shapes.push(encrypted_pair),
                        (_, Some(shape)) => shapes.push((shape, self.tls)),
                        (_, None) => {
                            return Err(usage(format!("unknown shape {name}; see sonata-bench help")));
                        }
                    }
                }
            }
        }
        let mut cases = Vec::new();
        let sync = self.sync.unwrap_or_default();
        for (shape, tls) in shapes {
            let sizes = match (shape.default_sizes(), &self.sizes) {
                (None, _) => vec![None],
                (Some(_), Some(asked)) => asked.iter().copied().map(Some).collect(),
                (Some(default), None) => default.iter().copied().map(Some).collect(),
            };
            for case in sizes.into_iter().map(|size| Case { shape, size, tls, sync }) {
                if !cases.contains(&case) {
                    cases.push(case);
                }
            }
        }
        match cases.is_empty() {
            true => Err(usage("--shapes and --sizes leave nothing to measure")),
            false => Ok(cases),
        }
    }
}

fn sync(text: &str) -> Result<Sync, BenchError> {
    Sync::ALL
        .into_iter()
        .find(|sync| sync.name() == text)
        .ok_or_else(|| usage(format!("--sync: {text} is none of default, always and lazy")))
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, BenchError> {
    text.parse().map_err(|_| usage(format!("{name}: {text} is not a number that fits")))
}

fn positive<T: std::str::FromStr + Default + PartialEq>(name: &str, text: &str) -> Result<T, BenchError> {
    let value = number(name, text)?;
    if value == T::default() { Err(usage(format!("{name} must not be 0"))) } else { Ok(value) }
}

/// Longest run: a server pings its clients after two minutes, and those that only hold subscriptions do not answer.
const SECONDS_MAX: f64 = 60.0;

fn seconds(name: &str, text: &str) -> Result<f64, BenchError> {
    let value: f64 = number(name, text)?;
    match value > 0.0 && value <= SECONDS_MAX {
        true => Ok(value),
        false => Err(usage(format!("{name} must be above 0 and at most {SECONDS_MAX}"))),
    }
}

/// Largest payload: what a server accepts by default.
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

fn sizes(text: &str) -> Result<Vec<usize>, BenchError> {
    let sizes = text.split(',').map(|size| number("--sizes", size)).collect::<Result<Vec<usize>, _>>()?;
    match sizes.iter().find(|size| !(PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(*size)) {
        None => Ok(sizes),
        Some(size) => {
            Err(usage(format!("--sizes: {size} is not between {PAYLOAD_BYTES_MIN} and {PAYLOAD_BYTES_MAX}")))
        }
    }
}

fn resolve(url: &str) -> Result<SocketAddr, BenchError> {
    let host = url.strip_prefix("nats://").unwrap_or(url);
    host.to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| usage(format!("--url: {url} is not HOST:PORT")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, BenchError> {
        parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    fn load(line: &str) -> Load {
        match parsed(line).unwrap() {
            Command::Run { load, .. } | Command::Compare { load, .. } => load,
            other => panic!("{other:?}"),
        }
    }

    fn cases(line: &str) -> String {
        load(line).cases.iter().map(Case::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn commands() {
        assert_eq!(parsed("").unwrap(), Command::Help);
        assert_eq!(parsed("--help").unwrap(), Command::Help);
        assert_eq!(parsed("targets").unwrap(), Command::Targets);
        let Command::Compare { a, b, pairs, check, load } =
            parsed("compare --a x --b=y --pairs 7 --check --pin --seconds 0.5 --json out").unwrap()
        else {
            panic!()
        };
        assert_eq!((a.binary, b.binary, pairs, check), ("x".into(), "y".into(), 7, true));
        assert_eq!((a.configuration, b.configuration), (String::new(), String::new()));
        assert_eq!(
            (load.run_time, load.pinned, load.json),
            (Duration::from_millis(500), true, Some("out".into()))
        );
        let Command::Run { server, runs, .. } =
            parsed("run --url nats://127.0.0.1:4222 --pid 9 --shapes pub").unwrap()
        else {
            panic!()
        };
        let address = "127.0.0.1:4222".parse().unwrap();
        assert_eq!(server, Subject::Running { address, pid: 9, trust: Trust::Anyone });
        assert_eq!(runs, 3);
    }

    #[test]
    fn shapes_and_sizes_become_cases() {
        assert_eq!(
            cases("run --server s --shapes 1to1,start --sizes 16,128"),
            "1to1 16 B, 1to1 128 B, start"
        );
        assert_eq!(cases("run --server s --shapes tls,1to1 --sizes 16"), "1to1+tls 16 B, 1to1 16 B");
        assert_eq!(cases("run --server s --shapes tls,1to1 --sizes 16 --tls"), "1to1+tls 16 B");
        assert_eq!(cases("run --server s --shape reqrep"), "reqrep 16 B, reqrep 128 B, reqrep 1024 B");
        assert!(!cases("run --server s").contains("subs,"));
        let all = cases("run --server s --shapes all --sizes 16");
        assert!(Shape::all().all(|shape| all.contains(shape.name())), "{all}");
        let streams = cases("run --server s --shapes js --sizes 128");
        assert!(streams.starts_with("js-pub-1 128 B, ") && !streams.contains("js-restart"), "{streams}");
    }

    #[test]
    fn what_an_acknowledgement_means_is_configured() {
        let configurations =
            |line: &str| match parsed(&format!("compare --a x --b y --shapes js-pub-1 {line}")) {
                Ok(Command::Compare { a, b, load, .. }) => {
                    (a.configuration, b.configuration, load.cases[0].to_string())
                }
                other => panic!("{other:?}"),
            };
        let text = |a: &str, b: &str, case: &str| (a.to_owned(), b.to_owned(), case.to_owned());
        assert_eq!(configurations("--sync default"), text("", "", "js-pub-1 128 B"));
        assert_eq!(
            configurations("--sync always"),
            text("", "jetstream { sync_interval: always }", "js-pub-1+always 128 B")
        );
        assert_eq!(
            configurations("--sync lazy --b-config x"),
            text("jetstream { sync_interval: 2m }", "x", "js-pub-1+lazy 128 B")
        );
    }

    #[test]
    fn mistakes_are_explained() {
        for (line, part) in [
            ("fly", "unknown command fly"),
            ("run", "run needs --server"),
            ("run --server s --url 127.0.0.1:1 --pid 3", "run needs --server"),
            ("run --url 127.0.0.1:1", "run needs --server"),
            ("run --server s --check", "belong to compare"),
            ("run --server s --tls-insecure", "are for --url"),
            ("run --url 127.0.0.1:1 --pid 1 --tls --shapes pub", "needs --tls-ca"),
            ("run --url nonsense --pid 1 --shapes pub", "not HOST:PORT"),
            ("run --server s --sync lazy", "belong to compare"),
            ("run --url 127.0.0.1:1 --pid 1 --config x --shapes pub", "is for a server that is started"),
            ("compare --a x --b y --sync never", "never is none of"),
            ("compare --a x --b y --config z", "belong to run"),
            ("compare --a x", "compare needs"),
            ("compare --a x --b y --runs 3", "belong to run"),
            ("compare --a x --b y --pairs 0", "must not be 0"),
            ("compare --a x --b y --pairs", "needs a value"),
            ("compare --a x --b y --sizes 15", "15 is not between"),
            ("compare --a x --b y --sizes 16,x", "x is not a number"),
            ("compare --a x --b y --seconds 0", "must be above 0"),
            ("compare --a x --b y --seconds nan", "must be above 0"),
            ("compare --a x --b y --shapes none", "unknown shape none"),
            ("compare --a x --b y --shapes ,", "nothing to measure"),
            ("compare --a x --b y --fast", "unknown option --fast"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.to_string().contains(part), "{line}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
