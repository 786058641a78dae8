//! The program: flags, signals, exit codes. It answers to the name `nats-server` as well.

mod allocator;
mod signal;

use std::process::ExitCode;

use sonata::{Disk, FlagOverrides, Level, NATS_VERSION, Server, StartError};
use sonata_conf::flags::{self, Command, USAGE_EXIT_CODE};
use tokio::signal::unix::{SignalKind, signal as on_signal};
use tokio::sync::mpsc;

/// What the original calls itself in its messages; scripts look for it.
const PROGRAM: &str = "nats-server";

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    match flags::parse(&arguments) {
        Ok(command) => carry_out(command),
        Err(error) if error.is_usage() => {
            eprintln!("{error}");
            eprint!("{}", flags::help(PROGRAM));
            ExitCode::from(USAGE_EXIT_CODE as u8)
        }
        Err(error) => fail(&error.to_string()),
    }
}

fn carry_out(command: Command) -> ExitCode {
    match command {
        Command::Help => print(&flags::help(PROGRAM)),
        Command::HelpTls => print(&flags::help_tls()),
        Command::Version => print(&format!("{PROGRAM}: v{NATS_VERSION}\n")),
        Command::Signal { command, target } => match signal::send(command, target.as_deref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        },
        Command::TestConfig { path } => match flags::test_config(&path, &Disk) {
            Ok(options) => match sonata_server::check_tls(&options) {
                Ok(()) => {
                    let digest = options.config_digest.unwrap_or_default();
                    eprintln!("{PROGRAM}: configuration file {} is valid ({digest})", path.display());
                    ExitCode::SUCCESS
                }
                Err(error) => fail(&format!("{}: {error}", path.display())),
            },
            Err(error) => fail(error.to_string().trim_end()),
        },
        Command::Run(overrides) => run(overrides),
    }
}

/// Help and version go to standard output.
#[allow(clippy::print_stdout, reason = "this is what was asked for")]
fn print(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

fn fail(message: &str) -> ExitCode {
    eprintln!("{PROGRAM}: {message}");
    ExitCode::FAILURE
}

fn run(overrides: FlagOverrides) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start threads: {error}")),
    };
    if let Err(error) = allocator::give_back_regularly() {
        return fail(&format!("cannot start threads: {error}"));
    }
    let code = runtime.block_on(async {
        // Before the server is ready: a signal in between must not end the process by default.
        let mut signals = Signals::listen();
        let started = tokio::select! {
            started = Server::start_from(overrides) => started,
            // What recovery leaves undone the next start does: it may end at any moment.
            name = told_to_end(&mut signals) => {
                eprintln!("{PROGRAM}: Trapped \"{name}\" signal before the server was ready");
                return ExitCode::SUCCESS;
            }
        };
        let server = match started {
            Ok(server) => server,
            Err(StartError::Logged) => return ExitCode::FAILURE,
            Err(error) => return fail(error.to_string().trim_end()),
        };
        match signals {
            Ok(signals) => signals.serve(&server).await,
            Err(error) => {
                server.log(Level::Error, format_args!("cannot listen for signals: {error}"));
                server.stopped().await;
            }
        }
        ExitCode::SUCCESS
    });
    // Password checks that nobody waits for any more are not waited for.
    runtime.shutdown_background();
    code
}

/// The signals a server answers to.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    reopen: tokio::signal::unix::Signal,
    lame_duck: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: on_signal(SignalKind::interrupt())?,
            terminate: on_signal(SignalKind::terminate())?,
            hangup: on_signal(SignalKind::hangup())?,
            reopen: on_signal(SignalKind::user_defined1())?,
            lame_duck: on_signal(SignalKind::user_defined2())?,
        })
    }

    /// Until the server has stopped. No signal waits for a reload.
    async fn serve(mut self, server: &Server) {
        let reloads = Reloads::new(server);
        loop {
            tokio::select! {
                () = server.stopped_or_recovering() => return,
                _ = self.interrupt.recv() => {
                    trapped(server, "interrupt");
                    return end(server).await;
                }
                _ = self.terminate.recv() => {
                    trapped(server, "terminated");
                    // An orchestrator sends it while the clients are being sent away; that is what they wait for.
                    if !server.is_lame_duck() {
                        return end(server).await;
                    }
                }
                _ = self.hangup.recv() => {
                    trapped(server, "hangup");
                    reloads.ask();
                }
                _ = self.reopen.recv() => {
                    trapped(server, "user defined signal 1");
                    server.reopen_log();
                }
                _ = self.lame_duck.recv() => {
                    trapped(server, "user defined signal 2");
                    let server = server.clone();
                    tokio::spawn(async move { server.lame_duck().await });
                }
            }
        }
    }
}

/// The name of the signal that ends the process, once it comes.
async fn told_to_end(signals: &mut std::io::Result<Signals>) -> &'static str {
    let Ok(signals) = signals else { return std::future::pending().await };
    tokio::select! {
        _ = signals.interrupt.recv() => "interrupt",
        _ = signals.terminate.recv() => "terminated",
    }
}

async fn end(server: &Server) {
    tokio::select! {
        () = server.shutdown() => {}
        () = server.stopped_or_recovering() => {}
    }
}

/// Reloads, one after the other. They read files, and all streams when they turn JetStream on.
struct Reloads(mpsc::Sender<()>);

impl Reloads {
    fn new(server: &Server) -> Self {
        // One that waits reads the newest file, so that no second one need wait.
        let (sender, mut asked) = mpsc::channel(1);
        let server = server.clone();
        tokio::spawn(async move {
            while asked.recv().await.is_some() {
                let server = server.clone();
                let reloading = move || {
                    if let Err(error) = server.reload() {
                        let error = error.to_string();
                        server.log(
                            Level::Error,
                            format_args!("Failed to reload server configuration: {}", error.trim_end()),
                        );
                    }
                };
                let _ = tokio::task::spawn_blocking(reloading).await;
            }
        });
        Self(sender)
    }

    fn ask(&self) {
        let _ = self.0.try_send(());
    }
}

fn trapped(server: &Server, name: &str) {
    server.log(Level::Info, format_args!("Trapped \"{name}\" signal"));
}
