//! One test per defect that was found in the server, named for it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore};
use sonata_server::Server;
use sonata_server::options::{CertificateFiles, Options, Secret, Tls, User};

const PATIENCE: Duration = Duration::from_secs(20);

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until the text ends with `end`, or to the end of the stream.
fn read_until(stream: &mut impl Read, end: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.ends_with(end.as_bytes()) {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        seen.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(seen).unwrap()
}

fn local(options: Options) -> Options {
    Options { host: "127.0.0.1".into(), port: 0, ..options }
}

/// Behind a `close_notify` the TLS session takes nothing more. The loop that fed it went on for ever, on a thread of
/// the runtime: a stranger could stop the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bytes_behind_the_end_of_a_tls_session_do_not_spin() {
    let folder = std::env::temp_dir().join(format!("sonata-close-notify-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert_file, pair.cert.pem()).unwrap();
    std::fs::write(&key_file, pair.signing_key.serialize_pem()).unwrap();
    let tls = Tls { certificates: vec![CertificateFiles { cert_file, key_file }], ..Tls::default() };
    let server = Server::start(local(Options { tls: Some(tls), ..Options::default() })).await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let address = server.client_address().unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tokio::task::spawn_blocking(move || {
        let mut stream = connect(address);
        read_until(&mut stream, "\r\n");
        let mut session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut stream).unwrap();
        }
        session.send_close_notify();
        let mut last_words = Vec::new();
        session.write_tls(&mut last_words).unwrap();
        last_words.resize(last_words.len() + 30_000, b'x');
        // The server may hang up before all of it is through.
        let _ = stream.write_all(&last_words);
        let _ = stream.read_to_end(&mut Vec::new());
        assert!(read_until(&mut connect(address), "\r\n").starts_with("INFO {"));
    })
    .await
    .unwrap();
    server.shutdown().await;
}

/// While the hash of a password was compared, a reload removed its user; the outcome was that of the users before, and
/// nobody looked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_removed_during_a_slow_check_does_not_get_in() {
    let hash = bcrypt::hash("secret", 10).unwrap();
    let user = |name: &str| User {
        name: name.into(),
        password: Secret::new(hash.clone()),
        account: None,
        permissions: None,
        connection_types: None,
        proxy_required: false,
    };
    let with = |users: Vec<User>| local(Options { users, ..Options::default() });
    let server = Server::start(with(vec![user("here"), user("gone")])).await.unwrap();
    let address = server.client_address().unwrap();
    let reloading = server.clone();
    let after = with(vec![user("here")]);
    tokio::task::spawn_blocking(move || {
        let clients: Vec<(TcpStream, &str)> = ["gone", "here", "gone", "here"]
            .into_iter()
            .map(|name| {
                let mut stream = connect(address);
                read_until(&mut stream, "\r\n");
                let line = format!(
                    "CONNECT {{\"verbose\":false,\"user\":\"{name}\",\"pass\":\"secret\"}}\r\nPING\r\n"
                );
                stream.write_all(line.as_bytes()).unwrap();
                (stream, name)
            })
            .collect();
        reloading.reload_with(after).unwrap();
        for (mut stream, name) in clients {
            if name == "here" {
                assert!(read_until(&mut stream, "PONG\r\n").ends_with("PONG\r\n"));
                continue;
            }
            // Whether it was let in first or not at all: it does not stay.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            let _ = stream.write_all(b"PING\r\n");
            assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0, "{}", rest.escape_ascii());
        }
    })
    .await
    .unwrap();
    server.shutdown().await;
}
