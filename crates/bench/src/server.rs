//! The server under test: one that the tool starts and ends, or one that runs already.
//!
//! A started server gets a folder of its own for its configuration, certificates and log. Server and folder end with
//! the value, also on panic and on Ctrl-C; nothing that the tool did not start is ever ended.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;

use crate::certificate::{ServerCertificate, Trust, client_config};
use crate::connection::{Address, Login};
use crate::error::BenchError;
use crate::jetstream::shape::Ending;
use crate::process;

/// How long a server may take from its start to its first INFO.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may take to end after SIGTERM before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it may take before a restart, when it has streams to write.
const CLEAN_STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a server is asked whether it has begun or ended; the start time is exact to this.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Part of a log shown when a server does not start.
const LOG_SHOWN_BYTES: usize = 2000;

/// What a server has to offer beside its defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// Number of accounts, each with one user; 0 for no accounts.
    pub accounts: usize,
    /// Whether clients must use TLS.
    pub tls: bool,
    /// Whether it has JetStream, with a folder of its own.
    pub jetstream: bool,
    /// The core it has to stay on.
    pub core: Option<usize>,
    /// More for its configuration file, as written.
    pub configuration: String,
}

/// The user of account `index` in a [`Setup`] with accounts.
pub fn account_login(index: usize) -> Login {
    Login { user: format!("acc{index}"), password: format!("secret{index}") }
}

/// A server to measure.
pub struct Server {
    address: Address,
    pid: u32,
    start_time: Option<Duration>,
    /// Set if the tool started it. Ends it when dropped.
    own: Option<Own>,
}

/// A server that the tool started.
struct Own {
    /// Ended before its folder goes.
    process: Process,
    launch: Launch,
    folder: Folder,
}

/// How it was started, to do it again.
struct Launch {
    binary: PathBuf,
    arguments: Vec<OsString>,
    core: Option<usize>,
}

impl Server {
    /// Starts `binary` on a free port of 127.0.0.1 and waits until it accepts clients.
    pub fn start(binary: &Path, setup: Setup) -> Result<Self, BenchError> {
        let folder = Folder::create()?;
        let certificate = match setup.tls {
            true => Some(ServerCertificate::create(&folder.0)?),
            false => None,
        };
        let tls = match &certificate {
            Some(certificate) => Some(client_config(&Trust::Authority(certificate.authority.clone()))?),
            None => None,
        };
        let port = free_port()?;
        let mut arguments: Vec<OsString> =
            ["-a", "127.0.0.1", "-p", &port.to_string()].map(OsString::from).into();
        if setup.jetstream {
            arguments.extend(["-js".into(), "-sd".into(), folder.0.join("store").into()]);
        }
        if let Some(text) = configuration(&setup, certificate.as_ref()) {
            let path = folder.0.join("server.conf");
            fs::write(&path, text).map_err(|source| BenchError::system("write the configuration", source))?;
            arguments.extend(["-c".into(), path.into()]);
        }
        let socket = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let launch = Launch { binary: binary.to_owned(), arguments, core: setup.core };
        let started = Instant::now();
        let process = launch.run(&folder, socket)?;
        Ok(Self {
            address: Address { socket, tls },
            pid: process.child.id(),
            start_time: Some(started.elapsed()),
            own: Some(Own { process, launch, folder }),
        })
    }

    /// Ends a server that the tool started and starts it again with the same folder and port. Returns when it began.
    pub fn restart(&mut self, ending: Ending) -> Result<Instant, BenchError> {
        let Some(own) = &mut self.own else {
            return Err(BenchError::Usage("only a server that was started here can be restarted".to_owned()));
        };
        own.process.end(ending)?;
        let started = Instant::now();
        own.process = own.launch.run(&own.folder, self.address.socket)?;
        self.pid = own.process.child.id();
        Ok(started)
    }

    /// A server that runs already; `pid` is where its CPU time and memory are read.
    pub fn running(address: Address, pid: u32) -> Result<Self, BenchError> {
        process::cpu_time(pid)?;
        Ok(Self { address, pid, start_time: None, own: None })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// From its start to its first INFO; `None` if it ran already.
    pub fn start_time(&self) -> Option<Duration> {
        self.start_time
    }

    /// CPU time it has used so far.
    pub fn cpu_time(&self) -> Result<Duration, BenchError> {
        process::cpu_time(self.pid)
    }

    /// Its memory now.
    pub fn resident_bytes(&self) -> Result<u64, BenchError> {
        process::resident_bytes(self.pid)
    }
}

impl Launch {
    /// Starts the program and waits until it accepts clients.
    fn run(&self, folder: &Folder, socket: SocketAddr) -> Result<Process, BenchError> {
        let log_path = folder.0.join("server.log");
        let log = File::create(&log_path).and_then(|log| Ok((log.try_clone()?, log)));
        let (log, log_of_errors) = log.map_err(|source| BenchError::system("create a log", source))?;
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log).stderr(log_of_errors);
        let started = Instant::now();
        let mut process = Process { child: spawn(command, self.core)? };
        while !greets(socket) {
            let ended = process.child.try_wait().ok().flatten();
            if ended.is_some() || started.elapsed() > START_TIMEOUT {
                let log = fs::read(&log_path).unwrap_or_default();
                let shown = log.get(log.len().saturating_sub(LOG_SHOWN_BYTES)..).unwrap_or_default();
                let log = String::from_utf8_lossy(shown);
                let what = if ended.is_some() { "ended at once" } else { "accepts no clients" };
                return Err(BenchError::Server(format!("{} {what}; its log:\n{log}", self.binary.display())));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(process)
    }
}

fn free_port() -> Result<u16, BenchError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| BenchError::system("find a free port", source))
}

/// Text of a configuration file; `None` if the defaults will do.
fn configuration(setup: &Setup, certificate: Option<&ServerCertificate>) -> Option<String> {
    let mut text = setup.configuration.clone();
    if !text.is_empty() {
        text.push('\n');
    }
    if setup.accounts > 0 {
        text.push_str("accounts {\n");
        for index in 0..setup.accounts {
            let Login { user, password } = account_login(index);
            // Writing to a String does not fail.
            let _ = writeln!(text, "  A{index} {{ users: [ {{ user: {user}, password: {password} }} ] }}");
        }
        text.push_str("}\n");
    }
    if let Some(ServerCertificate { chain, key, .. }) = certificate {
        let _ = writeln!(
            text,
            "tls {{\n  cert_file: \"{}\"\n  key_file: \"{}\"\n  timeout: 10\n}}",
            chain.display(),
            key.display()
        );
    }
    (!text.is_empty()).then_some(text)
}

/// Starts `command` on `core`. A process inherits the cores of the thread that starts it, so a thread of its own does:
/// a server that counts the cores when it begins must find one.
fn spawn(mut command: Command, core: Option<usize>) -> Result<Child, BenchError> {
    let program = PathBuf::from(command.get_program());
    let start = move || -> Result<Child, BenchError> {
        if let Some(core) = core {
            process::pin_this_thread(core)?;
        }
        // The list stays locked until the child is in it: Ctrl-C never finds a child that is not listed.
        let mut listed = listed_children();
        let child = command
            .spawn()
            .map_err(|source| BenchError::system(format!("start {}", program.display()), source))?;
        listed.push(child.id());
        Ok(child)
    };
    thread::scope(|scope| scope.spawn(start).join())
        .unwrap_or_else(|_| Err(BenchError::Server("the starting thread panicked".to_owned())))
}

fn greets(socket: SocketAddr) -> bool {
    let answer = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&socket, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut first = [0; 5];
        stream.read_exact(&mut first)?;
        Ok(first == *b"INFO ")
    };
    answer().unwrap_or(false)
}

struct Process {
    child: Child,
}

impl Process {
    /// Ends it for a restart. Unlike the end of the tool, a clean one may take its time: it is waited for.
    fn end(&mut self, ending: Ending) -> Result<(), BenchError> {
        let signal = match ending {
            Ending::Clean => Signal::SIGTERM,
            Ending::Killed => Signal::SIGKILL,
        };
        self.signal(signal);
        match self.ends_within(CLEAN_STOP_TIMEOUT) {
            true => Ok(()),
            false => Err(BenchError::Server(format!("does not end after {signal}"))),
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = process::raw_pid(self.child.id()) {
            let _ = kill(pid, signal);
        }
    }

    /// Off the list before it is waited for: from then on the number may belong to somebody else.
    fn unlist(&self) {
        let pid = self.child.id();
        listed_children().retain(|listed| *listed != pid);
    }

    fn ends_within(&mut self, timeout: Duration) -> bool {
        self.unlist();
        let asked = Instant::now();
        while asked.elapsed() < timeout {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            thread::sleep(POLL_INTERVAL);
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.unlist();
        // One that was waited for already has no number any more.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.signal(Signal::SIGTERM);
        if !self.ends_within(STOP_TIMEOUT) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Children that run and folders that exist, for Ctrl-C.
static CHILDREN: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn listed_children() -> MutexGuard<'static, Vec<u32>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listed_folders() -> MutexGuard<'static, Vec<PathBuf>> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes Ctrl-C, SIGTERM and SIGHUP end the started servers before the tool itself.
pub fn end_servers_on_interrupt() -> Result<(), BenchError> {
    let end = || {
        // The lists stay locked until the exit, so nothing is started meanwhile.
        let children = listed_children();
        for pid in children.iter().filter_map(|pid| process::raw_pid(*pid)) {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
        for folder in listed_folders().iter() {
            let _ = fs::remove_dir_all(folder);
        }
        std::process::exit(130);
    };
    ctrlc::set_handler(end).map_err(|error| BenchError::Server(format!("signals: {error}")))
}

/// A temporary folder, removed with the value.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self, BenchError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sonata-bench-{}-{number}", std::process::id()));
        fs::create_dir_all(&path)
            .map_err(|source| BenchError::system(format!("create {}", path.display()), source))?;
        listed_folders().push(path.clone());
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        listed_folders().retain(|listed| *listed != self.0);
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations() {
        assert_eq!(configuration(&Setup::default(), None), None);
        assert_eq!(
            configuration(&Setup { accounts: 2, ..Setup::default() }, None).unwrap(),
            "accounts {\n  A0 { users: [ { user: acc0, password: secret0 } ] }\n  \
             A1 { users: [ { user: acc1, password: secret1 } ] }\n}\n"
        );
        let more = Setup {
            accounts: 1,
            configuration: "jetstream { sync_interval: always }".into(),
            ..Setup::default()
        };
        let text = configuration(&more, None).unwrap();
        assert!(text.starts_with("jetstream { sync_interval: always }\naccounts {\n"), "{text}");
        let certificate =
            ServerCertificate { authority: "ca".into(), chain: "/x/chain".into(), key: "/x/key".into() };
        assert_eq!(
            configuration(&Setup { tls: true, ..Setup::default() }, Some(&certificate)).unwrap(),
            "tls {\n  cert_file: \"/x/chain\"\n  key_file: \"/x/key\"\n  timeout: 10\n}\n"
        );
    }

    #[test]
    fn a_program_that_ends_at_once_is_reported_with_its_log() {
        let Err(BenchError::Server(text)) = Server::start(Path::new("/bin/echo"), Setup::default()) else {
            panic!("started")
        };
        assert!(text.contains("ended at once"), "{text}");
        assert!(text.contains("-a 127.0.0.1 -p "), "{text}");
        let missing = Server::start(Path::new("/does/not/exist"), Setup::default());
        assert!(matches!(missing, Err(BenchError::System { .. })));
    }

    #[test]
    fn folders_go_with_their_value() {
        let folder = Folder::create().unwrap();
        let path = folder.0.clone();
        assert!(path.is_dir() && listed_folders().contains(&path));
        drop(folder);
        assert!(!path.exists() && !listed_folders().contains(&path));
    }

    #[test]
    fn certificates_are_trusted_by_their_authority_file() {
        let folder = Folder::create().unwrap();
        let certificate = ServerCertificate::create(&folder.0).unwrap();
        assert!(client_config(&Trust::Authority(certificate.authority)).is_ok());
        assert!(client_config(&Trust::Authority("/does/not/exist".into())).is_err());
        assert!(client_config(&Trust::Anyone).is_ok());
    }
}
