//! The server under test: a program that takes a configuration file and says in its log when it is ready.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use super::Scratch;

/// How long a server may take for what a test waits for. Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which program a test needs.
#[derive(Clone, Copy)]
pub(crate) enum Program {
    /// The server under test: `SONATA_SERVER`, or else the workspace's own if it was built.
    UnderTest,
    /// The reference, for what only it can do: `SONATA_REFERENCE`.
    Reference,
}

impl Program {
    /// The program, or `None` after saying what is missing and so which test is skipped.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let (variable, built) = match self {
            Self::UnderTest => ("SONATA_SERVER", built()),
            Self::Reference => ("SONATA_REFERENCE", None),
        };
        let found = env::var_os(variable).map(PathBuf::from).or(built);
        if found.is_none() {
            eprintln!("skipped: set {variable} to the path of a server");
        }
        found
    }
}

/// The `sonata` program beside the directory in which this test's own program lies.
fn built() -> Option<PathBuf> {
    let own = env::current_exe().ok()?;
    let built = own.parent()?.parent()?.join("sonata");
    built.is_file().then_some(built)
}

/// A running server; it is killed with this value.
pub(crate) struct Server {
    child: Child,
    log: Receiver<String>,
    pub(crate) port: u16,
    pub(crate) websocket_port: Option<u16>,
    _directory: Scratch,
}

impl Server {
    /// Starts the server under test on a free port with more lines of configuration; `None` if there is none.
    pub(crate) fn start(more: &str) -> Option<Self> {
        Some(Self::start_program(Program::UnderTest.find()?, 0, more))
    }

    /// Starts it on the port where one ran before.
    pub(crate) fn start_on(port: u16, more: &str) -> Self {
        Self::start_program(Program::UnderTest.find().unwrap(), port, more)
    }

    pub(crate) fn start_program(program: PathBuf, port: u16, more: &str) -> Self {
        let directory = Scratch::new();
        let port = if port == 0 { "-1".to_owned() } else { port.to_string() };
        let conf = format!("server_name: \"tester\"\nhost: \"127.0.0.1\"\nport: {port}\n{more}\n");
        let conf = directory.file("server.conf", conf);
        let mut child = Command::new(program)
            .arg("-c")
            .arg(conf)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut server = Self { child, log, port: 0, websocket_port: None, _directory: directory };
        loop {
            let line = server.log.recv_timeout(PATIENCE).expect("the server ended or was not ready in time");
            let port = || line.trim_end().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            if line.contains("Listening for client connections on") {
                server.port = port().unwrap();
            } else if line.contains("Listening for websocket clients on") {
                server.websocket_port = port();
            } else if line.contains("Server is ready") {
                return server;
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Waits for a line of the log.
    pub(crate) fn until(&mut self, text: &str) {
        while !self.log.recv_timeout(PATIENCE).expect("the line does not come").contains(text) {}
    }

    /// Ends the server at once and returns its port, on which another may start.
    pub(crate) fn kill(mut self) -> u16 {
        self.end();
        self.port
    }

    fn end(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// An address on this machine where nobody listens.
pub(crate) fn dead_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("nats://{}", listener.local_addr().unwrap())
}
