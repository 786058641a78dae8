//! The server under test: one that the tool starts and ends, or one that runs already.
//!
//! A started server gets a folder of its own for its configuration, certificates and log. Server and folder end with
//! the value, also on panic and on Ctrl-C; nothing that the tool did not start is ever ended.

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
use crate::process;

/// How long a server may take from its start to its first INFO.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a server may take to end after SIGTERM before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a server is asked whether it has begun or ended; the start time is exact to this.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Part of a log shown when a server does not start.
const LOG_SHOWN_BYTES: usize = 2000;

/// What a server has to offer beside its defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Setup {
    /// Number of accounts, each with one user; 0 for no accounts.
    pub accounts: usize,
    /// Whether clients must use TLS.
    pub tls: bool,
    /// The core it has to stay on.
    pub core: Option<usize>,
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
    _process: Option<Process>,
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
        let mut command = Command::new(binary);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
        if let Some(text) = configuration(setup, certificate.as_ref()) {
            let path = folder.0.join("server.conf");
            fs::write(&path, text).map_err(|source| BenchError::system("write the configuration", source))?;
            command.arg("-c").arg(path);
        }
        let log_path = folder.0.join("server.log");
        let log = File::create(&log_path).and_then(|log| Ok((log.try_clone()?, log)));
        let (log, log_of_errors) = log.map_err(|source| BenchError::system("create a log", source))?;
        command.stdin(Stdio::null()).stdout(log).stderr(log_of_errors);
        let started = Instant::now();
        let mut process = Process { child: spawn(command, setup.core)?, _folder: folder };
        let socket = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while !greets(socket) {
            let ended = process.child.try_wait().ok().flatten();
            if ended.is_some() || started.elapsed() > START_TIMEOUT {
                let log = fs::read(&log_path).unwrap_or_default();
                let shown = log.get(log.len().saturating_sub(LOG_SHOWN_BYTES)..).unwrap_or_default();
                let log = String::from_utf8_lossy(shown);
                let what = if ended.is_some() { "ended at once" } else { "accepts no clients" };
                return Err(BenchError::Server(format!("{} {what}; its log:\n{log}", binary.display())));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(Self {
            address: Address { socket, tls },
            pid: process.child.id(),
            start_time: Some(started.elapsed()),
            _process: Some(process),
        })
    }

    /// A server that runs already; `pid` is where its CPU time and memory are read.
    pub fn running(address: Address, pid: u32) -> Result<Self, BenchError> {
        process::cpu_time(pid)?;
        Ok(Self { address, pid, start_time: None, _process: None })
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

fn free_port() -> Result<u16, BenchError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| BenchError::system("find a free port", source))
}

/// Text of a configuration file; `None` if the defaults will do.
fn configuration(setup: Setup, certificate: Option<&ServerCertificate>) -> Option<String> {
    let mut text = String::new();
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
    _folder: Folder,
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = self.child.id();
        // Off the list before it is waited for: from then on the number may belong to somebody else.
        listed_children().retain(|listed| *listed != pid);
        if let Some(pid) = process::raw_pid(pid) {
            let _ = kill(pid, Signal::SIGTERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < STOP_TIMEOUT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(POLL_INTERVAL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
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
        assert_eq!(configuration(Setup::default(), None), None);
        assert_eq!(
            configuration(Setup { accounts: 2, ..Setup::default() }, None).unwrap(),
            "accounts {\n  A0 { users: [ { user: acc0, password: secret0 } ] }\n  \
             A1 { users: [ { user: acc1, password: secret1 } ] }\n}\n"
        );
        let certificate =
            ServerCertificate { authority: "ca".into(), chain: "/x/chain".into(), key: "/x/key".into() };
        assert_eq!(
            configuration(Setup { tls: true, ..Setup::default() }, Some(&certificate)).unwrap(),
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
