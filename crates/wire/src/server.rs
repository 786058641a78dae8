//! The server under test: a process of its own on a port of its own, whose log is read for what no socket tells.
//!
//! Two things are learnt from the log, both among the lines that operators' tools look for as well: the port with the
//! readiness after it, and that a reload was applied or refused.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::WireError;

/// How long a server may take to become ready, to reload or to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often the end of a process is looked for; the standard library cannot wait for it with a limit.
const END_POLL: Duration = Duration::from_millis(5);

/// Lines of the log kept; a server that writes more during one script is broken, and the rest is not needed.
const LOG_LINES_MAX: usize = 100_000;

/// A running server; dropping it ends the process.
pub struct Server {
    child: Child,
    port: u16,
    log: Arc<Log>,
    config: PathBuf,
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The new configuration is in force.
    Applied,
    /// The server kept the old one.
    Kept,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Server {
    /// Starts `program` on a free port of this machine and waits until it is ready.
    ///
    /// `folder` takes the configuration file; without text for it the server is started without one.
    ///
    /// # Errors
    /// [`WireError::Server`] with the end of its log when it does not become ready.
    pub fn start(program: &Path, args: &[String], config: &str, folder: &Path) -> Result<Server, WireError> {
        fs::create_dir_all(folder).map_err(|error| WireError::file(folder, error))?;
        let file = folder.join("server.conf");
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", "-1"]).args(args);
        if !config.is_empty() {
            fs::write(&file, config).map_err(|error| WireError::file(&file, error))?;
            command.arg("-c").arg(&file);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| WireError::io(format!("starting {}", program.display()), error))?;
        let log = Arc::new(Log::default());
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            thread::spawn(move || log.fill(BufReader::new(stderr)));
        }
        let mut server = Server { child, port: 0, log, config: file };
        server.port = server.wait_until_ready()?;
        Ok(server)
    }

    /// The port clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a signal by its name without `SIG`.
    ///
    /// # Errors
    /// [`WireError::Server`] for an unknown name or a process that has gone.
    pub fn signal(&self, name: &str) -> Result<(), WireError> {
        let signal: Signal =
            format!("SIG{name}").parse().map_err(|_| WireError::Server(format!("unknown signal {name}")))?;
        let pid = i32::try_from(self.child.id()).map_err(|error| WireError::Server(error.to_string()))?;
        kill(Pid::from_raw(pid), signal).map_err(|error| WireError::Server(error.to_string()))
    }

    /// Replaces the configuration file, asks the server to read it, and waits for what it says.
    ///
    /// # Errors
    /// [`WireError::Server`] when the server says nothing in time.
    pub fn reload(&self, config: &str) -> Result<Reload, WireError> {
        let seen = self.log.lines().len();
        fs::write(&self.config, config).map_err(|error| WireError::file(&self.config, error))?;
        self.signal("HUP")?;
        self.log
            .wait_for(seen, |line| {
                let applied = line.contains("Reloaded server configuration").then_some(Reload::Applied);
                applied.or_else(|| {
                    line.contains("Failed to reload server configuration").then_some(Reload::Kept)
                })
            })
            .ok_or_else(|| self.mute("did not answer to a reload"))
    }

    /// Waits for the process to end; `None` when it does not in time.
    pub fn wait_for_end(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => thread::sleep(END_POLL),
                Err(_) => return None,
            }
        }
        None
    }

    fn wait_until_ready(&self) -> Result<u16, WireError> {
        let port = self.log.wait_for(0, |line| {
            let (_, address) = line.split_once("Listening for client connections on ")?;
            address.rsplit(':').next()?.trim().parse().ok()
        });
        let ready = self.log.wait_for(0, |line| line.ends_with("Server is ready").then_some(()));
        match (port, ready) {
            (Some(port), Some(())) => Ok(port),
            _ => Err(self.mute("did not become ready")),
        }
    }

    fn mute(&self, what: &str) -> WireError {
        let lines = self.log.lines();
        let tail = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default();
        WireError::Server(format!("{what}; its log ends with:\n{}", tail.join("\n")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the process has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn fill(&self, stderr: impl BufRead) {
        // Lossy, since a log may quote what a script sent.
        for line in stderr.split(b'\n').map_while(Result::ok) {
            let mut lines = self.lines();
            if lines.len() < LOG_LINES_MAX {
                lines.push(String::from_utf8_lossy(&line).into_owned());
            }
            self.grown.notify_all();
        }
        let mut lines = self.lines();
        lines.push(END.to_owned());
        self.grown.notify_all();
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first thing found in the lines from `seen` on; `None` at the end of the log or of all patience.
    fn wait_for<T>(&self, seen: usize, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines();
        loop {
            if let Some(found) = lines.iter().skip(seen).find_map(|line| find(line)) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.last().is_some_and(|line| line == END) {
                return None;
            }
            lines = self.grown.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Stands behind the last line when the process has closed its log.
const END: &str = "(end of the log)";
