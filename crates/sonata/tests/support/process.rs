//! A running server and what it writes.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::PATIENCE;

/// The program under test.
pub(crate) const SONATA: &str = env!("CARGO_BIN_EXE_sonata");

/// The servers that a scenario runs against: the program and, if `SONATA_REFERENCE` names it, the original.
pub(crate) fn programs() -> Vec<PathBuf> {
    let reference = std::env::var_os("SONATA_REFERENCE").map(PathBuf::from);
    if reference.is_none() {
        println!("without the original: SONATA_REFERENCE does not name it");
    }
    [PathBuf::from(SONATA)].into_iter().chain(reference).collect()
}

/// Whether it is the program, not the original.
pub(crate) fn is_ours(program: &Path) -> bool {
    program == Path::new(SONATA)
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(SONATA).args(arguments).output().unwrap()
}

/// The exit code, standard output and standard error of a run.
pub(crate) fn told(output: Output) -> (Option<i32>, String, String) {
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A server; ended when it is dropped.
pub(crate) struct Process {
    child: Child,
    written: Arc<Written>,
}

/// The lines of standard error.
#[derive(Default)]
struct Written {
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Process {
    /// Starts the program with a configuration file.
    pub(crate) fn with_config(path: &Path) -> Self {
        Self::start(Path::new(SONATA), &["-c", path.to_str().unwrap()])
    }

    pub(crate) fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let written = Arc::new(Written::default());
        let collect = written.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                collect.state.lock().unwrap().lines.push(line.unwrap());
                collect.grown.notify_all();
            }
            collect.state.lock().unwrap().ended = true;
            collect.grown.notify_all();
        });
        Self { child, written }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many lines there are; what is waited for may be asked to come after them.
    pub(crate) fn mark(&self) -> usize {
        self.written.state.lock().unwrap().lines.len()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.written.state.lock().unwrap().lines.clone()
    }

    /// The first line that holds the text.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait_for_after(0, text)
    }

    /// The first line that holds the text, not counting the first `mark` lines.
    pub(crate) fn wait_for_after(&self, mark: usize, text: &str) -> String {
        self.wait_until(&format!("a line with {text:?}"), |state| {
            state.lines.iter().skip(mark).find(|line| line.contains(text)).cloned()
        })
    }

    /// Waits until so many lines hold the text.
    pub(crate) fn wait_for_count(&self, text: &str, count: usize) {
        self.wait_until(&format!("{count} lines with {text:?}"), |state| {
            (state.lines.iter().filter(|line| line.contains(text)).count() >= count).then_some(())
        });
    }

    fn wait_until<T>(&self, what: &str, find: impl Fn(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.written.state.lock().unwrap();
        loop {
            if let Some(found) = find(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!state.ended && !left.is_zero(), "no {what} in {:#?}", state.lines);
            state = self.written.grown.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Where clients connect.
    pub(crate) fn port(&self) -> u16 {
        let line = self.wait_for("Listening for client connections on ");
        self.wait_for("Server is ready");
        line.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Where monitoring listens.
    pub(crate) fn monitor_port(&self) -> u16 {
        self.wait_for("Starting http monitor on ").rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Tells it something through another process, as operators do.
    pub(crate) fn signal(&self, name: &str) {
        let output = run(&["--signal", &format!("{name}={}", self.pid())]);
        assert_eq!(told(output), (Some(0), String::new(), String::new()), "--signal {name}");
    }

    /// Tells it to read its configuration again, and waits for what it says about that.
    pub(crate) fn reload(&self) -> String {
        let mark = self.mark();
        self.signal("reload");
        self.wait_until("outcome of the reload", |state| {
            let outcome =
                |line: &&String| line.contains("Reloaded server config") || line.contains("Failed to reload");
            state.lines.iter().skip(mark).find(outcome).cloned()
        })
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.wait_until("end of the process", |state| state.ended.then_some(()));
        self.child.wait().unwrap()
    }

    /// Ends it as a crash would: at once, whatever it is doing.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Memory that the process has now (VmRSS), in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
