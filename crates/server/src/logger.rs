//! Log lines in the original's form, to standard error, a file, or syslog.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{Local, Utc};
use parking_lot::Mutex;
use sonata_broker::shared::{Level, Log};
use sonata_conf::options::Options;

/// Where lines go, and which. One per server; embedders may turn it off.
pub struct Logger {
    debug: AtomicBool,
    trace: AtomicBool,
    silent: bool,
    state: Mutex<State>,
}

struct State {
    output: Output,
    logtime: bool,
    utc: bool,
}

enum Output {
    Stderr,
    File(LogFile),
    Syslog(Syslog),
}

impl Logger {
    /// A logger as the options say.
    ///
    /// # Errors
    /// The file cannot be opened, or the syslog cannot be reached: which and why.
    pub fn new(options: &Options) -> Result<Self, LogError> {
        Ok(Self {
            debug: AtomicBool::new(options.debug),
            trace: AtomicBool::new(options.trace || options.trace_verbose),
            silent: false,
            state: Mutex::new(State::open(options)?),
        })
    }

    /// A logger that drops everything.
    pub fn silent() -> Self {
        Self {
            debug: AtomicBool::new(false),
            trace: AtomicBool::new(false),
            silent: true,
            state: Mutex::new(State { output: Output::Stderr, logtime: false, utc: false }),
        }
    }

    /// Changes to what other options say.
    ///
    /// # Errors
    /// As [`Logger::new`]; then the old output stays.
    pub fn reconfigure(&self, options: &Options) -> Result<(), LogError> {
        let state = State::open(options)?;
        *self.state.lock() = state;
        self.debug.store(options.debug, Ordering::Relaxed);
        self.trace.store(options.trace || options.trace_verbose, Ordering::Relaxed);
        Ok(())
    }

    /// Opens the log file again, after it was moved away.
    ///
    /// # Errors
    /// The file cannot be opened; then the old one stays.
    pub fn reopen(&self) -> Result<bool, LogError> {
        match &mut self.state.lock().output {
            Output::File(file) => file.reopen().map(|()| true),
            _ => Ok(false),
        }
    }
}

impl Log for Logger {
    fn enabled(&self, level: Level) -> bool {
        match level {
            _ if self.silent => false,
            Level::Trace => self.trace.load(Ordering::Relaxed),
            Level::Debug => self.debug.load(Ordering::Relaxed),
            _ => true,
        }
    }

    fn write(&self, level: Level, line: fmt::Arguments<'_>) {
        if !self.enabled(level) {
            return;
        }
        let mut state = self.state.lock();
        let mut text = String::with_capacity(128);
        let syslog = matches!(state.output, Output::Syslog(_));
        if !syslog {
            let _ = write!(text, "[{}] ", std::process::id());
            if state.logtime {
                let format = "%Y/%m/%d %H:%M:%S%.6f ";
                let _ = match state.utc {
                    true => write!(text, "{}", Utc::now().format(format)),
                    false => write!(text, "{}", Local::now().format(format)),
                };
            }
            text.push_str(label(level));
        }
        let start = text.len();
        let _ = write!(text, "{line}");
        // One line is one line, whatever a client calls itself.
        if text[start..].contains(['\n', '\r']) {
            let clean = text[start..].replace('\r', "\\r").replace('\n', "\\n");
            text.truncate(start);
            text.push_str(&clean);
        }
        // A log that cannot be written must not stop the server, and there is nowhere to say so.
        let _ = match &mut state.output {
            Output::Stderr => {
                text.push('\n');
                io::stderr().lock().write_all(text.as_bytes())
            }
            Output::File(file) => {
                text.push('\n');
                file.write(&text)
            }
            Output::Syslog(syslog) => syslog.write(level, &text),
        };
    }
}

fn label(level: Level) -> &'static str {
    match level {
        Level::Trace => "[TRC] ",
        Level::Debug => "[DBG] ",
        Level::Info => "[INF] ",
        Level::Warning => "[WRN] ",
        Level::Error => "[ERR] ",
        Level::Fatal => "[FTL] ",
    }
}

impl State {
    fn open(options: &Options) -> Result<Self, LogError> {
        let output = if let Some(path) = &options.log_file {
            Output::File(LogFile::open(path, options.log_size_limit, options.log_max_num)?)
        } else if let Some(url) = &options.remote_syslog {
            Output::Syslog(Syslog::remote(url)?)
        } else if options.syslog {
            Output::Syslog(Syslog::local()?)
        } else {
            Output::Stderr
        };
        Ok(Self { output, logtime: options.logtime, utc: options.logtime_utc })
    }
}

/// Why a log cannot be opened.
#[derive(Debug)]
pub struct LogError {
    target: String,
    source: io::Error,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error opening log {}: {}", self.target, self.source)
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A file that is put aside when it has grown too large.
struct LogFile {
    path: PathBuf,
    file: File,
    written_bytes: u64,
    /// 0 is no limit.
    size_limit: u64,
    /// Files kept, the current one included; 0 keeps all.
    max_num: u64,
}

impl LogFile {
    fn open(path: &Path, size_limit: u64, max_num: u64) -> Result<Self, LogError> {
        let (file, written_bytes) = open_append(path)?;
        Ok(Self { path: path.into(), file, written_bytes, size_limit, max_num })
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        (self.file, self.written_bytes) = open_append(&self.path)?;
        Ok(())
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.write_all(text.as_bytes())?;
        self.written_bytes += text.len() as u64;
        if self.size_limit > 0 && self.written_bytes > self.size_limit {
            self.rotate()?;
        }
        Ok(())
    }

    /// Renames the file to `<file>.<time>` and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(Local::now().format(".%Y.%m.%d.%H.%M.%S.%9f").to_string());
        std::fs::rename(&self.path, aside)?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.written_bytes = 0;
        self.remove_oldest()
    }

    fn remove_oldest(&self) -> io::Result<()> {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(()) };
        let Some(keep) = self.max_num.checked_sub(1).and_then(|keep| usize::try_from(keep).ok()) else {
            return Ok(());
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let prefix = format!("{}.", name.to_string_lossy());
        let mut aside: Vec<PathBuf> = std::fs::read_dir(folder)?
            .filter_map(Result::ok)
            .filter(|entry| is_put_aside(&entry.file_name().to_string_lossy(), &prefix))
            .map(|entry| entry.path())
            .collect();
        // The time in the name sorts as the time does.
        aside.sort();
        let excess = aside.len().saturating_sub(keep);
        aside.into_iter().take(excess).try_for_each(std::fs::remove_file)
    }
}

/// Whether a file name is the prefix and a time, and not somebody else's file.
fn is_put_aside(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|time| {
        time.split('.').count() == 7 && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    })
}

fn open_append(path: &Path) -> Result<(File, u64), LogError> {
    let open = || {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let written = file.metadata()?.len();
        Ok((file, written))
    };
    open().map_err(|source| LogError { target: path.display().to_string(), source })
}

/// The system's log, here or elsewhere (RFC 3164).
enum Syslog {
    Local(UnixDatagram),
    Stream(UnixStream),
    Udp(UdpSocket, String),
    Tcp(TcpStream, String),
}

impl Syslog {
    fn local() -> Result<Self, LogError> {
        const SOCKETS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for path in SOCKETS {
            let datagram = UnixDatagram::unbound().and_then(|socket| socket.connect(path).map(|()| socket));
            match datagram {
                Ok(socket) => return Ok(Self::Local(socket)),
                Err(error) => failure = error,
            }
            if let Ok(stream) = UnixStream::connect(path) {
                return Ok(Self::Stream(stream));
            }
        }
        Err(LogError { target: "syslog".into(), source: failure })
    }

    fn remote(url: &str) -> Result<Self, LogError> {
        let open = || {
            let host = gethostname();
            match url.split_once("://") {
                Some(("udp", address)) => {
                    let socket = UdpSocket::bind("0.0.0.0:0").or_else(|_| UdpSocket::bind("[::]:0"))?;
                    socket.connect(address)?;
                    Ok(Self::Udp(socket, host))
                }
                Some(("tcp", address)) => Ok(Self::Tcp(TcpStream::connect(address)?, host)),
                Some(("unix", path)) => {
                    let socket = UnixDatagram::unbound()?;
                    socket.connect(path)?;
                    Ok(Self::Local(socket))
                }
                _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "must be udp://, tcp:// or unix://")),
            }
        };
        open().map_err(|source| LogError { target: url.into(), source })
    }

    fn write(&mut self, level: Level, text: &str) -> io::Result<()> {
        // Facility daemon.
        let priority = 3 * 8
            + match level {
                Level::Trace | Level::Debug => 7,
                Level::Info => 5,
                Level::Warning => 4,
                Level::Error => 3,
                Level::Fatal => 2,
            };
        let (tag, pid) = ("nats-server", std::process::id());
        let remote = |host: &str| {
            format!(
                "<{priority}>{} {host} {tag}[{pid}]: {text}\n",
                Local::now().format("%Y-%m-%dT%H:%M:%S%:z")
            )
        };
        let local =
            || format!("<{priority}>{} {tag}[{pid}]: {text}\n", Local::now().format("%b %e %H:%M:%S"));
        match self {
            Self::Local(socket) => socket.send(local().as_bytes()).map(drop),
            Self::Stream(stream) => stream.write_all(local().as_bytes()),
            Self::Udp(socket, host) => socket.send(remote(host).as_bytes()).map(drop),
            Self::Tcp(stream, host) => stream.write_all(remote(host).as_bytes()),
        }
    }
}

fn gethostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_put_aside_and_only_so_many_are_kept() {
        let folder = std::env::temp_dir().join(format!("sonata-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("nats.log");
        std::fs::write(folder.join("nats.log.notes"), "not ours").unwrap();
        let options = Options {
            log_file: Some(path.clone()),
            log_size_limit: 200,
            log_max_num: 3,
            ..Options::default()
        };
        let logger = Logger::new(&options).unwrap();
        for number in 0..40 {
            logger.write(Level::Info, format_args!("line {number}\nnot a second line"));
        }
        logger.write(Level::Debug, format_args!("not shown"));
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names.contains(&"nats.log.notes".to_owned()));
        assert!(!text.contains("not shown"));
        for line in text.lines() {
            assert!(
                line.starts_with(&format!("[{}] 2", std::process::id())) && line.contains("[INF] line"),
                "{line}"
            );
        }
    }
}
