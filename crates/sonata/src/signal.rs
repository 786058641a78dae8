//! `--signal`: telling a running server something.

use std::fmt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sonata_conf::flags::SignalCommand;

/// Names under which servers run.
const PROGRAMS: [&str; 2] = ["sonata", "nats-server"];

/// Why nobody was told.
#[derive(Debug)]
pub(crate) enum SignalError {
    /// No server runs.
    NoneRunning,
    /// Several run, and the target does not say which: their ids.
    SeveralRunning(Vec<i32>),
    /// The target is no process id and no file that holds one.
    BadTarget(String),
    /// The process cannot be told: its id and why.
    Refused(i32, Errno),
}

impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneRunning => f.write_str("no nats-server processes running"),
            Self::SeveralRunning(pids) => {
                f.write_str("multiple nats-server processes running:")?;
                pids.iter().try_for_each(|pid| write!(f, "\n{pid}"))
            }
            Self::BadTarget(target) => write!(f, "invalid pid: {target}"),
            Self::Refused(pid, errno) => write!(f, "unable to signal process {pid}: {errno}"),
        }
    }
}

impl std::error::Error for SignalError {}

/// Tells the process that `target` means: an id, a file that holds one, the begin of ids with `*` at the end, or,
/// without a target, the only server that runs.
pub(crate) fn send(command: SignalCommand, target: Option<&str>) -> Result<(), SignalError> {
    let signal = match command {
        SignalCommand::Stop => Signal::SIGKILL,
        SignalCommand::Quit => Signal::SIGINT,
        SignalCommand::Terminate => Signal::SIGTERM,
        SignalCommand::Reopen => Signal::SIGUSR1,
        SignalCommand::Reload => Signal::SIGHUP,
        SignalCommand::LameDuck => Signal::SIGUSR2,
    };
    for pid in processes(target)? {
        kill(Pid::from_raw(pid), signal).map_err(|errno| SignalError::Refused(pid, errno))?;
    }
    Ok(())
}

fn processes(target: Option<&str>) -> Result<Vec<i32>, SignalError> {
    let Some(target) = target.filter(|target| !target.is_empty()) else {
        let running = running("");
        return match running.len() {
            0 => Err(SignalError::NoneRunning),
            1 => Ok(running),
            _ => Err(SignalError::SeveralRunning(running)),
        };
    };
    if let Some(prefix) = target.strip_suffix('*') {
        let running = running(prefix);
        return if running.is_empty() { Err(SignalError::NoneRunning) } else { Ok(running) };
    }
    let text = match std::fs::read_to_string(Path::new(target)) {
        Ok(text) => text,
        Err(_) => target.to_owned(),
    };
    match text.trim().parse::<i32>() {
        Ok(pid) if pid > 0 => Ok(vec![pid]),
        _ => Err(SignalError::BadTarget(target.to_owned())),
    }
}

/// Other processes with one of our names, whose id begins with `prefix`.
fn running(prefix: &str) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<i32> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name();
            let text = name.to_str()?;
            let pid: i32 = text.parse().ok()?;
            let program = std::fs::read_to_string(entry.path().join("comm")).ok()?;
            let ours = PROGRAMS.contains(&program.trim_end());
            (ours && text.starts_with(prefix) && pid != std::process::id() as i32).then_some(pid)
        })
        .collect();
    pids.sort_unstable();
    pids
}
