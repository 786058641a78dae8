//! The program as an operator, a script or a test harness sees it: arguments in; lines, files and exit codes out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use sonata::NATS_VERSION;
use support::folder::Folder;
use support::process::{Process, SONATA, run, told};
use support::wire::Wire;
use support::{PATIENCE, eventually};

/// A server on a port of its own.
const LISTEN: &str = "host: 127.0.0.1\nport: -1\n";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

// Arguments.

#[test]
fn version_and_help_go_to_standard_output() {
    let version = format!("nats-server: v{NATS_VERSION}\n");
    for arguments in [&["--version"][..], &["-v"], &["version"], &["-p", "1", "-v"]] {
        assert_eq!(told(run(arguments)), (Some(0), version.clone(), String::new()), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["-h"], &["help"]] {
        let (code, output, errors) = told(run(arguments));
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(output.starts_with("\nUsage: nats-server [options]\n"), "{output}");
        for flag in ["-p, --port <port>", "-c, --config <file>", "--signal <signal>[=<pid>]", "--version"] {
            assert!(output.contains(flag), "{flag} in {output}");
        }
    }
    let (code, output, _) = told(run(&["--help_tls"]));
    assert_eq!(code, Some(0));
    assert!(output.contains("TLS_AES_128_GCM_SHA256"), "{output}");
}

#[test]
fn arguments_that_are_not_understood_are_told_and_exit_with_2_or_1() {
    let usage = [
        (&["--nope"][..], "flag provided but not defined: -nope\n"),
        (&["-p"], "flag needs an argument: -p\n"),
        (&["-p", "many"], "invalid value \"many\" for flag -p: parse error\n"),
        (&["-D=perhaps"], "invalid boolean value \"perhaps\" for -D: parse error\n"),
        (&["---p"], "bad flag syntax: ---p\n"),
    ];
    for (arguments, message) in usage {
        let (code, output, errors) = told(run(arguments));
        assert_eq!((code, output.as_str()), (Some(2), ""), "{arguments:?}");
        let rest = errors.strip_prefix(message).unwrap_or_else(|| panic!("{arguments:?}: {errors}"));
        assert!(rest.starts_with("\nUsage: nats-server [options]\n"), "{rest}");
    }
    let refused = [
        (&["serve"][..], "nats-server: unrecognized command: \"serve\"\n"),
        (&["-t"], "nats-server: must specify [-c, --config] option to check configuration file syntax\n"),
        (&["--signal", "dance"], "nats-server: unknown signal \"dance\"\n"),
        (&["--signal", "reload=1=2"], "nats-server: invalid signal parameters: [2]\n"),
        (&["--signal", "reload=/nowhere/nats.pid"], "nats-server: invalid pid: /nowhere/nats.pid\n"),
    ];
    for (arguments, message) in refused {
        assert_eq!(told(run(arguments)), (Some(1), String::new(), message.to_owned()), "{arguments:?}");
    }
}

#[test]
fn a_process_that_is_not_there_cannot_be_told() {
    // One above the largest id that the kernel gives out.
    let beyond: u32 = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap();
    let (code, output, errors) = told(run(&["--signal", &format!("reload={}", beyond + 1)]));
    assert_eq!((code, output.as_str()), (Some(1), ""));
    assert!(
        errors.starts_with(&format!("nats-server: unable to signal process {}: ", beyond + 1)),
        "{errors}"
    );
}

// Configuration.

#[test]
fn a_configuration_is_tested_without_starting() {
    let folder = Folder::new();
    let good = folder.write("good.conf", LISTEN);
    let (code, output, errors) = told(run(&["-t", "-c", text(&good)]));
    assert_eq!((code, output.as_str()), (Some(0), ""));
    let start = format!("nats-server: configuration file {} is valid (sha256:", good.display());
    let digest = errors.strip_prefix(&start).and_then(|rest| rest.strip_suffix(")\n"));
    let digest = digest.unwrap_or_else(|| panic!("{errors}"));
    assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
    assert_eq!(folder.names(), ["good.conf"]);
}

/// What is wrong, where, is said by a test and by a start alike.
#[test]
fn faults_of_a_configuration_name_file_line_and_column() {
    let folder = Folder::new();
    // The first line begins with column 0, as in the original.
    let table = [
        ("port: -1\nbogus: 1\n", "2:1: unknown field \"bogus\"\n"),
        ("port: -1\n\n  mqtt { port: 1883 }\n", "3:3: mqtt: not supported yet\n"),
        (
            "port: -1\nauthorization { users: [ { user: a, password: b } ], wrong: 1 }\n",
            "2:54: unknown field \"wrong\"\n",
        ),
        ("a: 1\nb: x\n", "1:0: unknown field \"a\"\n{path}:2:1: unknown field \"b\"\n"),
    ];
    for (content, message) in table {
        let path = folder.write("bad.conf", content);
        let expected = format!("nats-server: {}:{}", path.display(), message.replace("{path}", text(&path)));
        for arguments in [&["-t", "-c", text(&path)][..], &["-c", text(&path)]] {
            let (code, _, errors) = told(run(arguments));
            assert_eq!((code, errors), (Some(1), expected.clone()), "{content:?} {arguments:?}");
        }
    }
    let absent = folder.at("absent.conf");
    let (code, _, errors) = told(run(&["-c", text(&absent)]));
    assert_eq!(code, Some(1));
    assert!(errors.contains(text(&absent)) && errors.to_lowercase().contains("no such file"), "{errors}");
}

// Start.

#[test]
fn a_port_in_use_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (code, output, errors) = told(run(&["-a", "127.0.0.1", "-p", &port.to_string()]));
    assert_eq!((code, output.as_str()), (Some(1), ""));
    let last = errors.lines().last().unwrap();
    assert!(last.contains(&format!("Error listening on port: 127.0.0.1:{port}, ")), "{errors}");
    assert!(last.to_lowercase().contains("address already in use"), "{errors}");
    assert!(!errors.contains("Server is ready"));
}

/// The original logs it as fatal, so that it is in the file where an operator looks for it.
#[test]
fn what_ends_a_start_is_in_the_log() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let log = folder.at("nats.log");
    let (code, ..) = told(run(&["-a", "127.0.0.1", "-p", &port, "-l", text(&log)]));
    assert_eq!(code, Some(1));
    let log = std::fs::read_to_string(log).unwrap();
    let last = log.lines().last().unwrap();
    assert!(last.contains(&format!("[FTL] Error listening on port: 127.0.0.1:{port}, ")), "{log}");
}

#[test]
fn a_start_says_what_harnesses_wait_for() {
    let folder = Folder::new();
    let config = folder.write("nats.conf", &format!("{LISTEN}server_name: first\n"));
    let server = Process::with_config(&config);
    let port = server.port();
    let lines = server.lines();
    let pid = server.pid();
    let told: Vec<&str> = lines.iter().map(|line| line.split_once("[INF] ").unwrap().1).collect();
    let id = Wire::connect(port).info["server_id"].as_str().unwrap().to_owned();
    let git = format!("  Git:      [sonata {}]", env!("CARGO_PKG_VERSION"));
    let using = told[5].split_once(" (sha256:").unwrap().0;
    assert_eq!(
        [&told[..5], &[using], &told[6..]].concat(),
        [
            "Starting nats-server",
            &format!("  Version:  {NATS_VERSION}"),
            &git,
            "  Name:     first",
            &format!("  ID:       {id}"),
            &format!("Using configuration file: {}", config.display()),
            &format!("Listening for client connections on 127.0.0.1:{port}"),
            "Server is ready",
        ]
    );
    for line in &lines {
        // [pid] 2006/01/02 15:04:05.000000 [INF] …
        let rest = line.strip_prefix(&format!("[{pid}] ")).unwrap();
        let shape: String = rest[..26].chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000/00/00 00:00:00.000000", "{line}");
        assert!(rest[26..].starts_with(" [INF] "), "{line}");
    }
}

#[test]
fn under_the_name_nats_server_it_is_the_same() {
    let folder = Folder::new();
    let link = folder.at("nats-server");
    std::os::unix::fs::symlink(SONATA, &link).unwrap();
    let version = std::process::Command::new(&link).arg("--version").output().unwrap();
    assert_eq!(told(version), (Some(0), format!("nats-server: v{NATS_VERSION}\n"), String::new()));
    let mut server =
        Process::start(&link, &["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", text(folder.path())]);
    let port = server.port();
    server.wait_for("Starting nats-server");
    let name = format!("nats-server_{}.ports", server.pid());
    assert_eq!(
        std::fs::read_to_string(folder.at(&name)).unwrap(),
        format!("{{\"nats\":[\"nats://127.0.0.1:{port}\"]}}")
    );
    assert_eq!(Wire::connect(port).info["version"], NATS_VERSION);
    server.signal("quit");
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(folder.names(), ["nats-server"]);
}

#[test]
fn pid_and_ports_are_in_files_while_it_runs() {
    let folder = Folder::new();
    let pid_file = folder.at("nats.pid");
    let config = folder.write(
        "nats.conf",
        &format!(
            "{LISTEN}http: \"127.0.0.1:-1\"\npid_file: \"{}\"\nports_file_dir: \"{}\"\n",
            pid_file.display(),
            folder.path().display()
        ),
    );
    let mut server = Process::with_config(&config);
    let (port, monitor_port, pid) = (server.port(), server.monitor_port(), server.pid());
    let ports = format!("sonata_{pid}.ports");
    assert_eq!(folder.names(), ["nats.conf", "nats.pid", &ports]);
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), pid.to_string());
    let listed: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.at(&ports)).unwrap()).unwrap();
    assert_eq!(
        listed,
        serde_json::json!({
            "nats": [format!("nats://127.0.0.1:{port}")],
            "monitoring": [format!("http://127.0.0.1:{monitor_port}")],
        })
    );
    // The file stands for the process.
    let output = run(&["--signal", &format!("quit={}", pid_file.display())]);
    assert_eq!(told(output), (Some(0), String::new(), String::new()));
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(folder.names(), ["nats.conf"]);
}

// Signals.

#[test]
fn signals_end_it_in_their_ways() {
    for (name, trapped) in [("quit", "interrupt"), ("term", "terminated")] {
        let mut server = Process::start(Path::new(SONATA), &["-a", "127.0.0.1", "-p", "-1"]);
        let port = server.port();
        let mut client = Wire::connect(port);
        client.send("CONNECT {\"verbose\":false}\r\n");
        client.flush();
        let mark = server.mark();
        server.signal(name);
        assert_eq!(server.wait().code(), Some(0), "{name}");
        assert_eq!(client.end(), "", "{name}");
        let last: Vec<String> = server
            .lines()
            .iter()
            .skip(mark)
            .map(|line| line.split_once("[INF] ").unwrap().1.to_owned())
            .collect();
        assert_eq!(
            last,
            [&format!("Trapped \"{trapped}\" signal"), "Initiating Shutdown...", "Server Exiting.."],
            "{name}"
        );
    }
    let mut server = Process::start(Path::new(SONATA), &["-a", "127.0.0.1", "-p", "-1"]);
    server.port();
    server.signal("stop");
    let status = server.wait();
    assert_eq!((status.code(), status.signal()), (None, Some(9)), "stop");
}

#[test]
fn lame_duck_mode_tells_clients_and_ends_the_process() {
    let folder = Folder::new();
    let config =
        folder.write("nats.conf", &format!("{LISTEN}lame_duck_duration: 30s\nlame_duck_grace_period: 1ms\n"));
    let mut server = Process::with_config(&config);
    let port = server.port();
    let mut client = Wire::informed(port);
    server.signal("ldm");
    let info = client.info();
    assert_eq!(info["ldm"], true, "{info}");
    assert_eq!(client.end(), "");
    assert_eq!(server.wait().code(), Some(0));
    let lines = server.lines();
    for text in [
        "Trapped \"user defined signal 2\" signal",
        "Entering lame duck mode, stop accepting new clients",
        "Closing existing clients",
        "Initiating Shutdown...",
        "Server Exiting..",
    ] {
        assert!(lines.iter().any(|line| line.ends_with(text)), "{text:?} in {lines:#?}");
    }
}

/// A reload may take long; the server hears what comes after it.
#[test]
fn a_reload_holds_up_no_signal() {
    for (signal, trapped) in [("term", "terminated"), ("quit", "interrupt"), ("ldm", "user defined signal 2")]
    {
        let folder = Folder::new();
        let config = folder
            .write("nats.conf", &format!("{LISTEN}lame_duck_duration: 30s\nlame_duck_grace_period: 1ms\n"));
        let mut server = Process::with_config(&config);
        let mut client = Wire::informed(server.port());
        std::fs::remove_file(&config).unwrap();
        // Whoever opens it waits for somebody who writes.
        assert!(std::process::Command::new("mkfifo").arg(&config).status().unwrap().success());
        server.signal("reload");
        server.wait_for("Trapped \"hangup\" signal");
        server.signal("reopen");
        server.wait_for("File log re-open ignored");
        server.signal(signal);
        server.wait_for(&format!("Trapped \"{trapped}\" signal"));
        if signal == "ldm" {
            assert_eq!(client.info()["ldm"], true);
        }
        assert_eq!(client.end(), "", "{signal}");
        assert_eq!(server.wait().code(), Some(0), "{signal}");
    }
}

/// An orchestrator sends both: `preStop` starts lame duck mode, and then every container gets SIGTERM.
#[test]
fn a_lame_duck_is_not_ended_by_term() {
    let folder = Folder::new();
    let config =
        folder.write("nats.conf", &format!("{LISTEN}lame_duck_duration: 60s\nlame_duck_grace_period: 50s\n"));
    let mut server = Process::with_config(&config);
    let port = server.port();
    let mut client = Wire::informed(port);
    server.signal("ldm");
    assert_eq!(client.info()["ldm"], true);
    server.signal("term");
    server.wait_for("Trapped \"terminated\" signal");
    client.flush();
    server.signal("quit");
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(client.end(), "");
}

// Reload.

/// A server whose configuration changes under it.
struct Reloaded {
    folder: Folder,
    config: PathBuf,
    server: Process,
    port: u16,
}

impl Reloaded {
    fn start(content: &str) -> Self {
        let folder = Folder::new();
        let config = folder.write("nats.conf", &format!("{LISTEN}{content}"));
        let server = Process::with_config(&config);
        let port = server.port();
        Self { folder, config, server, port }
    }

    /// What the server says to other content.
    fn with(&self, content: &str) -> String {
        self.folder.write("nats.conf", &format!("{LISTEN}{content}"));
        self.server.reload()
    }

    /// The same when it must not be refused.
    fn take(&self, content: &str) {
        let outcome = self.with(content);
        assert!(outcome.contains("[INF] Reloaded server configuration (sha256:"), "{outcome}");
    }
}

#[test]
fn reload_takes_users_and_permissions_away() {
    let both = "authorization { users: [ {user: a, password: p}, {user: b, password: p} ] }\n";
    let reloaded = Reloaded::start(both);
    let mut a = Wire::login(reloaded.port, "a", "p");
    let mut b = Wire::login(reloaded.port, "b", "p");
    a.send("SUB foo 7\r\nSUB bar 8\r\n");
    a.flush();
    b.flush();
    reloaded.take(
        "authorization { users: [ {user: a, password: p, permissions: {subscribe: bar}}, {user: b, password: p} ] }\n",
    );
    // The subscription is gone; the client stays, with the other one.
    assert_eq!(a.line(), "-ERR 'Permissions Violation for Subscription to \"foo\" (sid \"7\")'");
    b.send("PUB foo 1\r\nx\r\nPUB bar 1\r\ny\r\n");
    b.flush();
    assert_eq!((a.line(), a.line()), ("MSG bar 8 1".to_owned(), "y".to_owned()));
    a.send("SUB foo 9\r\n");
    assert_eq!(a.line(), "-ERR 'Permissions Violation for Subscription to \"foo\"'");
    a.flush();

    reloaded.take("authorization { users: [ {user: a, password: p} ] }\n");
    // As in the original, no word is said to those who are sent away.
    assert_eq!(b.end(), "");
    a.send("SUB foo 9\r\n");
    a.flush();
    let mut refused = Wire::connect(reloaded.port);
    refused.send("CONNECT {\"user\":\"b\",\"pass\":\"p\"}\r\n");
    assert_eq!(refused.end(), "-ERR 'Authorization Violation'\r\n");

    // Another password is another user.
    reloaded.take("authorization { users: [ {user: a, password: q} ] }\n");
    assert_eq!(a.end(), "");
    Wire::login(reloaded.port, "a", "q").flush();
}

#[test]
fn reload_closes_connections_beyond_a_lower_maximum() {
    let reloaded = Reloaded::start("max_connections: 10\n");
    let mut clients: Vec<Wire> = (0..5).map(|_| Wire::login(reloaded.port, "", "")).collect();
    reloaded.take("max_connections: 2\n");
    // The newest go.
    for mut client in clients.split_off(2) {
        assert_eq!(client.end(), "-ERR 'maximum connections exceeded'\r\n");
    }
    clients.iter_mut().for_each(Wire::flush);
    let mut refused = Wire::connect(reloaded.port);
    assert_eq!(refused.end(), "-ERR 'maximum connections exceeded'\r\n");
    reloaded.take("max_connections: 3\n");
    Wire::login(reloaded.port, "", "").flush();
    clients.iter_mut().for_each(Wire::flush);
}

#[test]
fn reload_changes_how_often_clients_are_pinged() {
    let reloaded = Reloaded::start("ping_interval: 1h\n");
    let mut before = Wire::login(reloaded.port, "", "");
    reloaded.take("ping_interval: 100ms\nping_max: 3\n");
    reloaded.server.wait_for("Reloaded: ping_interval = 100ms");
    reloaded.server.wait_for("Reloaded: ping_max = 3");
    let mut client = Wire::login(reloaded.port, "", "");
    for _ in 0..3 {
        assert_eq!(client.line_as_it_is(), "PING");
        client.send("PONG\r\n");
    }
    // One who does not answer any more is stale; and the one from before is not cut off for the time before.
    assert_eq!(client.end(), "PING\r\nPING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
    before.send("PUB still.here 0\r\n\r\n");
}

#[test]
fn a_refused_reload_names_the_field_and_changes_nothing() {
    let reloaded = Reloaded::start("max_payload: 1000\n");
    let mut client = Wire::informed(reloaded.port);
    std::fs::write(&reloaded.config, "host: 127.0.0.2\nport: -1\nmax_payload: 2000\n").unwrap();
    let outcome = reloaded.server.reload();
    let refusal = "[ERR] Failed to reload server configuration: config reload not supported for Host: old=127.0.0.1, new=127.0.0.2";
    assert!(outcome.contains(refusal), "{outcome}");

    let outcome = reloaded.with("max_payload: 3000\nbogus: 1\n");
    let place = format!("{}:4:1: unknown field \"bogus\"", reloaded.config.display());
    assert!(outcome.contains("[ERR] Failed to reload server configuration: "), "{outcome}");
    assert!(outcome.ends_with(&place), "{outcome}");

    std::fs::remove_file(&reloaded.config).unwrap();
    let outcome = reloaded.server.reload();
    assert!(outcome.contains("[ERR] Failed to reload server configuration: "), "{outcome}");

    client.flush();
    assert_eq!(Wire::connect(reloaded.port).info["max_payload"], 1000);
    reloaded.take("max_payload: 4000\n");
    assert_eq!(Wire::connect(reloaded.port).info["max_payload"], 4000);
    // Those who are there may send as much, though nobody tells them.
    client.send(&format!("PUB a 4000\r\n{}\r\n", "x".repeat(4000)));
    client.flush();
}

/// A self-signed certificate for loopback: its bytes, and where it and its key are.
fn certificate(folder: &Folder, name: &str) -> (CertificateDer<'static>, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let cert_file = folder.write(&format!("{name}.pem"), &certificate.pem());
    let key_file = folder.write(&format!("{name}-key.pem"), &key.serialize_pem());
    let block = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", timeout: 10 }}\n",
        cert_file.display(),
        key_file.display()
    );
    (certificate.der().clone(), block)
}

/// What a client that trusts those certificates is shown, and the connection.
fn handshake(
    port: u16,
    trusted: &[&CertificateDer<'static>],
) -> (CertificateDer<'static>, ClientConnection, TcpStream) {
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|certificate| roots.add((*certificate).clone()).unwrap());
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The greeting comes in clear; what follows it is the client's to begin.
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
    }
    let mut session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream).unwrap();
    }
    let shown = session.peer_certificates().unwrap()[0].clone().into_owned();
    (shown, session, stream)
}

#[test]
fn reload_brings_another_certificate_to_new_connections() {
    let folder = Folder::new();
    let (first, first_block) = certificate(&folder, "first");
    let (second, second_block) = certificate(&folder, "second");
    let reloaded = Reloaded::start(&first_block);
    let trusted = [&first, &second];
    let (shown, mut session, mut stream) = handshake(reloaded.port, &trusted);
    assert_eq!(shown, first);

    // Under other names, and renewed under the same names.
    reloaded.take(&second_block);
    assert_eq!(handshake(reloaded.port, &trusted).0, second);
    let (third, _) = certificate(&folder, "second");
    reloaded.take(&second_block);
    assert_eq!(handshake(reloaded.port, &[&third]).0, third);

    // A file that holds no certificate is refused, and the last one stays.
    folder.write("second.pem", "not a certificate");
    let outcome = reloaded.with(&second_block);
    assert!(outcome.contains("[ERR] Failed to reload server configuration: "), "{outcome}");
    assert_eq!(handshake(reloaded.port, &[&third]).0, third);

    // The connection of the first certificate goes on.
    let mut encrypted = rustls::Stream::new(&mut session, &mut stream);
    encrypted.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").unwrap();
    let mut answer = [0; 6];
    encrypted.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"PONG\r\n");
}

// Logging.

#[test]
fn lines_come_without_time_when_asked() {
    let folder = Folder::new();
    let config = folder.write("nats.conf", &format!("{LISTEN}logtime: false\n"));
    let by_file = Process::with_config(&config);
    let by_flag = Process::start(Path::new(SONATA), &["-a", "127.0.0.1", "-p", "-1", "-T=false"]);
    for server in [by_file, by_flag] {
        server.port();
        let start = format!("[{}] [INF] ", server.pid());
        let lines = server.lines();
        assert!(lines.iter().all(|line| line.starts_with(&start)), "{lines:#?}");
        assert_eq!(lines[0], format!("{start}Starting nats-server"));
    }
}

/// Waits until a file holds a text; what it holds.
fn file_with(path: &Path, text: &str) -> String {
    eventually(&format!("{text:?} in {}", path.display()), PATIENCE, || {
        std::fs::read_to_string(path).ok().filter(|content| content.contains(text))
    })
}

/// The port, from a log that is not standard error.
fn port_in(log: &str) -> u16 {
    let line = log.lines().find(|line| line.contains("Listening for client connections on ")).unwrap();
    line.trim_end().rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_log_file_that_was_moved_away_is_opened_again() {
    let folder = Folder::new();
    let (log, moved) = (folder.at("nats.log"), folder.at("nats.log.old"));
    let server = Process::start(Path::new(SONATA), &["-a", "127.0.0.1", "-p", "-1", "-l", text(&log)]);
    let before = file_with(&log, "Server is ready\n");
    std::fs::rename(&log, &moved).unwrap();
    server.signal("reopen");
    let after = file_with(&log, "File log re-opened\n");
    // The signal still goes to the old one, as one that rotates logs would want.
    let old = std::fs::read_to_string(&moved).unwrap();
    assert!(old.starts_with(&before), "{old}");
    assert!(old.ends_with("Trapped \"user defined signal 1\" signal\n"), "{old}");
    assert_eq!(after.lines().count(), 1, "{after}");
    Wire::connect(port_in(&before));
    assert!(server.lines().is_empty(), "nothing on standard error: {:?}", server.lines());

    let server = Process::start(Path::new(SONATA), &["-a", "127.0.0.1", "-p", "-1"]);
    server.port();
    server.signal("reopen");
    server.wait_for("File log re-open ignored, not a file logger");
}

#[test]
fn a_log_file_that_grows_is_put_aside() {
    let folder = Folder::new();
    let logs = folder.at("logs");
    std::fs::create_dir(&logs).unwrap();
    let log = logs.join("nats.log");
    let config = folder.write(
        "nats.conf",
        &format!(
            "{LISTEN}debug: true\nlog_file: \"{}\"\nlog_size_limit: 4000\nlog_max_num: 3\n",
            log.display()
        ),
    );
    let server = Process::with_config(&config);
    let port = port_in(&file_with(&log, "Server is ready\n"));
    let aside = || {
        let entries = std::fs::read_dir(&logs).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "nats.log");
        names.sort();
        names
    };
    // Until the first that was put aside has been removed for a later one.
    let mut first = None;
    eventually("the oldest log is removed", PATIENCE, || {
        Wire::login(port, "", "");
        let names = aside();
        first = first.take().or_else(|| names.first().cloned());
        first.as_ref().is_some_and(|first| !names.contains(first)).then_some(())
    });
    drop(server);
    let names = aside();
    assert_eq!(names.len(), 2, "{names:?}");
    for name in names {
        let content = std::fs::read_to_string(logs.join(&name)).unwrap();
        assert!(content.len() > 4000 && content.len() < 4400, "{name}: {} bytes", content.len());
        assert!(content.ends_with('\n') && content.lines().all(|line| line.starts_with('[')), "{content}");
    }
}

#[test]
fn lines_go_to_a_syslog() {
    let folder = Folder::new();
    let path = folder.at("syslog");
    let datagrams = UnixDatagram::bind(&path).unwrap();
    datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
    let url = format!("unix://{}", path.display());
    let config = folder.write("nats.conf", &format!("{LISTEN}remote_syslog: \"{url}\"\n"));
    let server = Process::with_config(&config);
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.contains("Server is ready")) {
        let mut buffer = [0; 2048];
        let count = datagrams.recv(&mut buffer).unwrap();
        lines.push(String::from_utf8(buffer[..count].to_vec()).unwrap());
    }
    let tag = format!(" nats-server[{}]: ", server.pid());
    // Facility daemon (3), severity notice (5).
    assert!(lines.iter().all(|line| line.starts_with("<29>") && line.contains(&tag)), "{lines:#?}");
    assert!(lines[0].ends_with(": Starting nats-server\n"), "{lines:#?}");
    Wire::connect(port_in(&lines.concat()));
    assert!(server.lines().is_empty(), "{:?}", server.lines());
}

#[test]
fn lines_go_to_a_syslog_over_udp() {
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
    let url = format!("udp://{}", datagrams.local_addr().unwrap());
    let server = Process::start(Path::new(SONATA), &["-a", "127.0.0.1", "-p", "-1", "-D", "-r", &url]);
    let receive = || {
        let mut buffer = [0; 2048];
        let count = datagrams.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    };
    let wait_for = |text: &str| loop {
        let line = receive();
        if line.contains(text) {
            return line;
        }
    };
    let port = port_in(&wait_for("Listening for client connections on "));
    wait_for("Server is ready");
    // Debug lines have a severity of their own (7), and errors theirs (3).
    let mut client = Wire::connect(port);
    let created = wait_for("Client connection created");
    assert!(created.starts_with("<31>"), "{created}");
    client.send("CONNECT {\"verbose\":false}\r\nNONSENSE\r\n");
    let error = wait_for("unknown protocol operation");
    assert!(
        error.starts_with("<27>") && error.contains(&format!(" nats-server[{}]: ", server.pid())),
        "{error}"
    );
}
