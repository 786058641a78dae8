//! Strangers in thousands, and readers that do not read: those who behave must not notice.
//!
//! One test at a time, each with a server of its own. The figures are measured from outside, on the process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "shown beside a failure: what was measured")]

mod support;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::folder::Folder;
use support::process::Process;
use support::{PATIENCE, eventually};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Barrier, Mutex, MutexGuard};
use tokio::task::JoinSet;

/// Strangers at a time, where the limit on open files allows it.
const STRANGERS: usize = 5_000;

/// Descriptors that a process needs besides those of its strangers.
const FILES_SPARE: usize = 200;

/// How long strangers are given to authenticate.
const AUTH_TIMEOUT: Duration = Duration::from_secs(2);

/// What one stranger may make the server hold: the connection, and an unfinished line of the default length.
const STRANGER_BYTES_MAX: u64 = 16 * 1024;

/// What may remain of a flood when all of it is gone. The allocator keeps what the largest crowd has needed, a few KiB
/// each (it does not grow with a second flood, see below), and for `/connz` 10,000 ended connections are remembered.
const REMAINS_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// What a second flood may add: less than any page that each stranger left behind would.
const GROWTH_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A message of the well-behaved takes no longer than this from the one to the other. Mostly it is a millisecond; the
/// bound is for a machine that is busy with the strangers' side of the flood.
const DELAY_MAX: Duration = Duration::from_secs(5);

/// Floods have the machine for themselves.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// Raises the limit on open files as far as the system allows; how many strangers that makes.
fn strangers_possible() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let possible = usize::try_from(hard).unwrap_or(usize::MAX).saturating_sub(FILES_SPARE).min(STRANGERS);
    if possible < STRANGERS {
        println!("only {possible} strangers: the limit is {hard} open files");
    }
    possible
}

/// How a stranger behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stranger {
    /// Says nothing.
    Silent,
    /// Says `CONNECT` a byte at a time, and never gets to its end.
    Loris,
    /// A line just short of what is allowed, without an end.
    LongLine,
    /// A line beyond it.
    TooLongLine,
    /// The start of the largest message that is allowed.
    LargeMessage,
    /// A message with a header of a gigabyte.
    HugeHeader,
    /// A PROXY header of 64 KiB, but for its last byte.
    LongProxyHeader,
    /// Bytes that are no protocol.
    Garbage,
    /// The start of a TLS session.
    ClientHello,
    /// Half of a line, and then the end of its stream.
    HalfClosed,
}

impl Stranger {
    const ALL: [Self; 10] = [
        Self::Silent,
        Self::Loris,
        Self::LongLine,
        Self::TooLongLine,
        Self::LargeMessage,
        Self::HugeHeader,
        Self::LongProxyHeader,
        Self::Garbage,
        Self::ClientHello,
        Self::HalfClosed,
    ];

    /// What it says at first.
    fn words(self) -> Vec<u8> {
        match self {
            Self::Silent => Vec::new(),
            Self::Loris => b"C".to_vec(),
            Self::LongLine => [b"CONNECT {\"name\":\"".as_slice(), &[b'x'; 4000]].concat(),
            Self::TooLongLine => [b"CONNECT {\"name\":\"".as_slice(), &[b'x'; 100_000]].concat(),
            Self::LargeMessage => [b"PUB a 1000000\r\n".as_slice(), &[b'x'; 900_000]].concat(),
            Self::HugeHeader => [b"HPUB a 999999999 999999999\r\n".as_slice(), &[b'x'; 100_000]].concat(),
            Self::LongProxyHeader => {
                let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
                let announced = u16::MAX - 15;
                header.extend(announced.to_be_bytes());
                header.resize(header.len() + usize::from(announced) - 1, 0);
                header
            }
            Self::Garbage => (0..3000u32).map(|at| (at * 167 % 251) as u8).collect(),
            Self::ClientHello => {
                [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[7; 506]].concat()
            }
            Self::HalfClosed => b"CONNECT {\"verb".to_vec(),
        }
    }

    /// Does its worst until the server ends the connection. `spoken` is told when the first words are said.
    async fn visit(self, port: u16, spoken: impl Future<Output = ()>) {
        let mut stream = connect(port).await;
        // The server may have hung up in the middle of it, rightly.
        let _ = stream.write_all(&self.words()).await;
        if self == Self::HalfClosed {
            let _ = stream.shutdown().await;
        }
        spoken.await;
        let mut buffer = [0; 2048];
        let mut drip = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                // A reset is an end as well: the server did not read all that was said.
                read = stream.read(&mut buffer) => if let Ok(0) | Err(_) = read { return },
                _ = drip.tick(), if self == Self::Loris => {
                    let _ = stream.write_all(b"O").await;
                }
            }
        }
    }
}

async fn connect(port: u16) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap()
}

/// Two clients with a name and a password who send each other numbers, one at a time and in bursts.
struct Pair {
    stop: Arc<AtomicBool>,
    /// Messages that have arrived, and the longest that one took, in microseconds.
    arrived: Arc<AtomicU64>,
    slowest_us: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Pair {
    /// Numbers in a burst.
    const BURST: u64 = 50;

    async fn start(port: u16) -> Self {
        let (stop, arrived, slowest_us) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut receiver = Self::login(port).await;
        receiver.write_all(b"SUB numbers 1\r\nPING\r\n").await.unwrap();
        let mut receiver = BufReader::new(receiver);
        Self::expect(&mut receiver, "PONG").await;
        let mut sender = Self::login(port).await;
        let (told_stop, told_arrived, told_slowest) = (stop.clone(), arrived.clone(), slowest_us.clone());
        let task = tokio::spawn(async move {
            let mut next = 0u64;
            while !told_stop.load(Ordering::Relaxed) {
                let mut burst = String::new();
                for number in next..next + Self::BURST {
                    burst.push_str(&format!("PUB numbers 20\r\n{number:020}\r\n"));
                }
                let sent = Instant::now();
                sender.write_all(burst.as_bytes()).await.unwrap();
                for number in next..next + Self::BURST {
                    Self::expect(&mut receiver, "MSG numbers 1 20").await;
                    Self::expect(&mut receiver, &format!("{number:020}")).await;
                }
                next += Self::BURST;
                told_slowest.fetch_max(sent.elapsed().as_micros() as u64, Ordering::Relaxed);
                told_arrived.store(next, Ordering::Relaxed);
            }
        });
        Self { stop, arrived, slowest_us, task }
    }

    async fn login(port: u16) -> TcpStream {
        let stream = connect(port).await;
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        assert!(line.starts_with("INFO {"), "{line}");
        reader
            .write_all(
                b"CONNECT {\"verbose\":false,\"headers\":true,\"user\":\"a\",\"pass\":\"p\"}\r\nPING\r\n",
            )
            .await
            .unwrap();
        Self::expect(&mut reader, "PONG").await;
        reader.into_inner()
    }

    /// The next line, pings aside. Nobody answers those here: no connection of a pair lasts for two intervals.
    async fn expect(reader: &mut BufReader<TcpStream>, expected: &str) {
        let mut line = String::new();
        loop {
            line.clear();
            let read = tokio::time::timeout(DELAY_MAX, reader.read_line(&mut line)).await;
            read.unwrap_or_else(|_| panic!("{expected:?} did not come within {DELAY_MAX:?}")).unwrap();
            if line != "PING\r\n" {
                assert_eq!(line.trim_end(), expected);
                return;
            }
        }
    }

    /// Ends the exchange: how many messages, and the longest that a burst took. Panics if any was lost.
    async fn finish(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        (self.arrived.load(Ordering::Relaxed), Duration::from_micros(self.slowest_us.load(Ordering::Relaxed)))
    }
}

/// A server that logs to a file, so that on standard error there is only what should never be there.
fn server(folder: &Folder, more: &str) -> Process {
    let config = folder.write(
        "nats.conf",
        &format!("host: 127.0.0.1\nport: -1\nlog_file: \"{}\"\n{more}", folder.at("nats.log").display(),),
    );
    Process::with_config(&config)
}

/// Its port, from its log.
fn port_of(folder: &Folder) -> u16 {
    let log = eventually("the server is ready", PATIENCE, || {
        let log = std::fs::read_to_string(folder.at("nats.log")).ok()?;
        log.contains("Server is ready").then_some(log)
    });
    let line = log.lines().find(|line| line.contains("Listening for client connections")).unwrap();
    line.rsplit(':').next().unwrap().parse().unwrap()
}

fn authorization(timeout: Duration) -> String {
    format!("authorization {{ timeout: {}, users: [ {{user: a, password: p}} ] }}\n", timeout.as_secs())
}

/// No connection has panicked, and the process is there.
fn check_health(server: &mut Process) {
    assert!(server.is_running());
    let lines = server.lines();
    assert!(lines.is_empty(), "on standard error: {lines:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_behave_do_not_notice_a_flood_of_strangers() {
    let _alone = alone().await;
    let strangers = strangers_possible();
    let folder = Folder::new();
    let mut server = server(&folder, &authorization(AUTH_TIMEOUT));
    let port = port_of(&folder);
    let pair = Pair::start(port).await;
    let before = server.memory_bytes();
    let mut remains = Vec::new();
    for _ in 0..2 {
        let already = pair.arrived.load(Ordering::Relaxed);
        let mut visits = JoinSet::new();
        for number in 0..strangers {
            let stranger = Stranger::ALL[number % Stranger::ALL.len()];
            visits.spawn(async move {
                let arrived = Instant::now();
                stranger.visit(port, async {}).await;
                arrived.elapsed()
            });
        }
        // The end of each connection is what is waited for.
        let mut longest = Duration::ZERO;
        let all_gone = async {
            while let Some(stayed) = visits.join_next().await {
                longest = longest.max(stayed.unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, all_gone).await.expect("no stranger stays");
        check_health(&mut server);
        let meanwhile = pair.arrived.load(Ordering::Relaxed) - already;
        remains.push(server.memory_bytes());
        println!("{strangers} strangers stayed up to {longest:?}; {meanwhile} messages meanwhile");
        // Those who say nothing have all of their time, and no more.
        let bounds = AUTH_TIMEOUT..AUTH_TIMEOUT + DELAY_MAX;
        assert!(bounds.contains(&longest), "a stranger stayed for {longest:?}");
        assert!(meanwhile >= 1000, "only {meanwhile} messages went through during the flood");
    }
    println!("memory {before} before, {remains:?} after the floods");
    assert!(remains[0] <= before + REMAINS_BYTES_MAX, "{before} before, {remains:?} after");
    assert!(remains[1] <= remains[0] + GROWTH_BYTES_MAX, "{before} before, {remains:?} after");

    // The pair goes on, and a newcomer is served.
    let served = pair.arrived.load(Ordering::Relaxed);
    eventually("messages after the flood", PATIENCE, || {
        (pair.arrived.load(Ordering::Relaxed) > served + 1000).then_some(())
    });
    Pair::login(port).await;
    let (messages, slowest) = pair.finish().await;
    println!("{messages} messages in order, a burst within {slowest:?}");
    server.signal("quit");
    assert_eq!(server.wait().code(), Some(0));
}

/// Each kind for itself, so that a greedy one does not hide behind modest ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_makes_the_server_hold_little() {
    /// Enough that what all connections share does not count.
    const EACH: usize = 400;

    let _alone = alone().await;
    let each = strangers_possible().min(EACH);
    let folder = Folder::new();
    // Long enough for all of a kind to be there at once on a slow machine; the server's stop is what ends them.
    let more = format!("proxy_protocol: true\n{}", authorization(Duration::from_secs(60)));
    for stranger in Stranger::ALL {
        let mut server = server(&folder, &more);
        let port = port_of(&folder);
        Pair::login(port).await;
        let before = server.memory_bytes();
        let spoken = Arc::new(Barrier::new(each + 1));
        let gone = Arc::new(AtomicUsize::new(0));
        let mut visits = JoinSet::new();
        for _ in 0..each {
            let (spoken, gone) = (spoken.clone(), gone.clone());
            visits.spawn(async move {
                let said = async {
                    spoken.wait().await;
                };
                stranger.visit(port, said).await;
                gone.fetch_add(1, Ordering::Relaxed);
            });
        }
        spoken.wait().await;
        // Newcomers' round trips: what was said before them has been read, but for what waits in the system.
        let mut peak = 0;
        for _ in 0..10 {
            Pair::login(port).await;
            peak = server.memory_bytes().max(peak);
        }
        let per_stranger = peak.saturating_sub(before) / each as u64;
        println!("{stranger:?}: {per_stranger} bytes each, {} gone", gone.load(Ordering::Relaxed));
        assert!(per_stranger <= STRANGER_BYTES_MAX, "{stranger:?}: {per_stranger} bytes each");
        check_health(&mut server);
        server.signal("quit");
        assert_eq!(server.wait().code(), Some(0));
        while let Some(visit) = visits.join_next().await {
            visit.unwrap();
        }
        std::fs::remove_file(folder.at("nats.log")).unwrap();
    }
}

/// What one who is known may do wrong ends that one's connection, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_after_login_end_one_connection() {
    let _alone = alone().await;
    let folder = Folder::new();
    let mut server = server(&folder, &authorization(AUTH_TIMEOUT));
    let port = port_of(&folder);
    let pair = Pair::start(port).await;
    let table: [(Vec<u8>, &str); 8] = [
        (b"HPUB a 999999999 999999999\r\n".to_vec(), "-ERR 'Maximum Payload Violation'\r\n"),
        (b"HPUB a 10 5\r\nxxxxx\r\n".to_vec(), ""),
        (b"PUB a 1048577\r\n".to_vec(), "-ERR 'Maximum Payload Violation'\r\n"),
        (b"PUB a 2\r\nxxxx\r\n".to_vec(), "-ERR 'Unknown Protocol Operation'\r\n"),
        ([b"SUB ".as_slice(), &[b'x'; 100_000]].concat(), "-ERR 'maximum control line exceeded'\r\n"),
        ([b"PING".as_slice(), &[b' '; 100_000]].concat(), "-ERR 'maximum control line exceeded'\r\n"),
        (Stranger::Garbage.words(), "-ERR 'Unknown Protocol Operation'\r\n"),
        (Stranger::ClientHello.words(), "-ERR 'Unknown Protocol Operation'\r\n"),
    ];
    for (words, answer) in table {
        let mut stream = Pair::login(port).await;
        // The server may hang up before it has read all.
        let _ = stream.write_all(&words).await;
        let mut told = Vec::new();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut told)).await.unwrap();
        let told = String::from_utf8(told).unwrap();
        let shown = words[..words.len().min(40)].escape_ascii();
        // What was unread when it hung up makes the system throw away what it had said.
        let lost = end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset) && told.is_empty();
        assert!(told == answer || lost || (answer.is_empty() && told.starts_with("-ERR")), "{shown}: {told}");
    }
    pair.finish().await;
    check_health(&mut server);
}

/// Subscribers that never read are closed as slow consumers; nobody else loses a message to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_are_closed_and_others_lose_nothing() {
    const SLOW: usize = 20;
    const GOOD: usize = 4;
    const PAYLOAD_BYTES: usize = 16 * 1024;
    /// Messages on their way to the good: well below `max_pending`, so that a busy machine does not make them slow.
    const WINDOW: usize = 16;
    /// What the system itself holds for a slow reader must be used up first: about 4 MiB for the sending side.
    const MESSAGES_MAX: usize = 4_000;

    let _alone = alone().await;
    let folder = Folder::new();
    let more = "max_payload: 64KB\nmax_pending: 1MB\nhttp: \"127.0.0.1:-1\"\n";
    let mut server = server(&folder, more);
    let port = port_of(&folder);
    let log = || std::fs::read_to_string(folder.at("nats.log")).unwrap();
    let slow_in_log = || log().matches("Slow Consumer Detected: MaxPending of ").count();

    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.unwrap();
        stream.write_all(b"CONNECT {\"verbose\":false}\r\nSUB data 1\r\n").await.unwrap();
        slow.push(stream);
    }
    let mut good = Vec::new();
    for _ in 0..GOOD {
        let mut stream = Pair::login(port).await;
        stream.write_all(b"SUB data 1\r\nPING\r\n").await.unwrap();
        let mut reader = BufReader::new(stream);
        Pair::expect(&mut reader, "PONG").await;
        good.push(reader);
    }
    let mut sender = Pair::login(port).await;
    let filler = "x".repeat(PAYLOAD_BYTES - 20);
    let head = format!("MSG data 1 {PAYLOAD_BYTES}");
    let mut sent = 0;
    while slow_in_log() < SLOW {
        assert!(sent < MESSAGES_MAX, "only {} of {SLOW} are slow after {sent} messages", slow_in_log());
        for number in sent..sent + WINDOW {
            let message = format!("PUB data {PAYLOAD_BYTES}\r\n{number:020}{filler}\r\n");
            sender.write_all(message.as_bytes()).await.unwrap();
        }
        for reader in &mut good {
            for number in sent..sent + WINDOW {
                Pair::expect(reader, &head).await;
                Pair::expect(reader, &format!("{number:020}{filler}")).await;
            }
        }
        sent += WINDOW;
    }
    println!("{sent} messages until all {SLOW} were slow");

    // They find what the system still held for them, whole messages missing at the end, and then the end.
    for mut stream in slow {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
        assert!(rest.starts_with(b"INFO {"));
    }
    for reader in &mut good {
        reader.write_all(b"PING\r\n").await.unwrap();
        Pair::expect(reader, "PONG").await;
    }
    let monitor: u16 = {
        let log = log();
        let line = log.lines().find(|line| line.contains("Starting http monitor on ")).unwrap();
        line.rsplit(':').next().unwrap().parse().unwrap()
    };
    let varz = page(monitor, "/varz").await;
    assert_eq!(varz["slow_consumers"], SLOW, "{varz}");
    assert_eq!(varz["slow_consumer_stats"]["clients"], SLOW, "{varz}");
    assert_eq!(varz["connections"], GOOD + 1, "{varz}");
    assert_eq!(slow_in_log(), SLOW);
    check_health(&mut server);
}

/// A page of monitoring.
async fn page(port: u16, path: &str) -> serde_json::Value {
    let mut stream = connect(port).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}
