//! The servers that are looked at: this one, in this process, and the reference if `SONATA_REFERENCE` says where its
//! program is. Both are configured by the same text.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use sonata_conf::flags;
use sonata_server::options::Options;
use sonata_server::{Disk, Server};
use tokio::runtime::Runtime;

use crate::http::PATIENCE;

/// A server that is running until this is dropped.
pub(crate) struct Subject {
    pub(crate) clients: SocketAddr,
    pub(crate) monitor: SocketAddr,
    run: Run,
    _folder: Folder,
}

enum Run {
    Sonata { server: Server, runtime: Runtime },
    Reference(Child),
}

impl Subject {
    /// This server with the configuration.
    pub(crate) fn sonata(config: &str) -> Self {
        let folder = Folder::new();
        Self::start(options(&folder, config), folder)
    }

    /// This server as an embedder starts it.
    pub(crate) fn embedded(options: Options) -> Self {
        Self::start(options, Folder::new())
    }

    fn start(options: Options, folder: Folder) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = runtime.block_on(Server::start(options)).unwrap();
        let clients = loopback(server.client_address().unwrap());
        let monitor = loopback(server.monitoring_address().unwrap());
        Self { clients, monitor, run: Run::Sonata { server, runtime }, _folder: folder }
    }

    /// The reference with the configuration; none if there is no reference.
    pub(crate) fn reference(config: &str) -> Option<Self> {
        let program = std::env::var_os("SONATA_REFERENCE")?;
        let folder = Folder::new();
        let file = folder.0.join("nats.conf");
        let ports = folder.0.display();
        let config = folder.filled_in(config);
        std::fs::write(&file, format!("{config}\nports_file_dir: '{ports}'\nlog_file: '{ports}/log'\n"))
            .unwrap();
        let run = Command::new(program).arg("-c").arg(&file).stderr(Stdio::null()).spawn().unwrap();
        let urls = wait_for("the reference's ports", || {
            let file = std::fs::read_dir(&folder.0).unwrap().flatten();
            let file =
                file.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "ports"))?;
            std::fs::read_to_string(file).ok().filter(|text| text.ends_with('}'))
        });
        let port = |list: &str| -> u16 {
            let (_, urls) = urls.split_once(&format!("\"{list}\":[\"")).unwrap();
            let (url, _) = urls.split_once('"').unwrap();
            url.rsplit_once(':').unwrap().1.parse().unwrap()
        };
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        Some(Self {
            clients: at(port("nats")),
            monitor: at(port("monitoring")),
            run: Run::Reference(run),
            _folder: folder,
        })
    }

    /// This server, and its runtime.
    pub(crate) fn server(&self) -> (&Server, &Runtime) {
        match &self.run {
            Run::Sonata { server, runtime } => (server, runtime),
            Run::Reference(_) => panic!("the reference is a program of its own"),
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        match &mut self.run {
            Run::Sonata { server, runtime } => runtime.block_on(server.shutdown()),
            Run::Reference(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// What the configuration means.
pub(crate) fn options(folder: &Folder, config: &str) -> Options {
    let file = folder.0.join("sonata.conf");
    std::fs::write(&file, folder.filled_in(config)).unwrap();
    let arguments = ["-c".to_owned(), file.to_str().unwrap().to_owned()];
    match flags::parse(&arguments).unwrap() {
        flags::Command::Run(overrides) => flags::load(&overrides, &Disk).unwrap().options,
        other => panic!("{other:?}"),
    }
}

/// A folder for the files of one test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("sonata-monitoring-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The configuration with this folder for `<folder>`.
    fn filled_in(&self, config: &str) -> String {
        config.replace("<folder>", self.0.to_str().unwrap())
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = Path::new(&self.0).join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks until there is an answer: for what a server does in its own time, such as forgetting a connection.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

fn loopback(address: SocketAddr) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], address.port()))
}
