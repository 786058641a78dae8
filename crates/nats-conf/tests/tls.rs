//! TLS with a private authority: whom the client trusts, and whom the server does.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::time::Duration;

use nats_conf::{Error, Event, NatsConf, Reason};

use common::certificates::{Authority, Pair};
use common::events::{Events, named};
use common::server::{Program, Server, dead_url};
use common::{Scratch, data, expect};

/// An authority, another one, and the directory where their files are.
struct World {
    directory: Scratch,
    ours: Authority,
    theirs: Authority,
}

impl World {
    fn new() -> Self {
        let world = Self {
            directory: Scratch::new(),
            ours: Authority::new("ours"),
            theirs: Authority::new("theirs"),
        };
        world.directory.file("ca.pem", &world.ours.pem);
        world.directory.file("other-ca.pem", &world.theirs.pem);
        world
    }

    fn server(&self, pair: &Pair, more: &str) -> Option<Server> {
        let (cert, key) = pair.write(&self.directory, "server");
        let ca = self.directory.0.join("ca.pem");
        let [cert, key, ca] = [&cert, &key, &ca].map(|path: &std::path::PathBuf| path.display().to_string());
        Server::start(&format!(
            "tls {{ cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{ca}\", timeout: 5, {more} }}"
        ))
    }

    fn conf(&self, server: &Server, ca: &str) -> NatsConf {
        let mut conf = NatsConf::new([server.url()]);
        conf.reconnect_wait = Duration::from_millis(50);
        conf.tls_ca_cert = Some(self.directory.0.join(ca));
        conf
    }
}

async fn fails(conf: &NatsConf, server: &Server, transcript: &str) {
    let error = conf.new_connection().await.unwrap_err();
    let path = data("transcripts").join(Path::new(transcript));
    expect(&path, &(named(&error.to_string(), &[(server.port, "PORT")]) + "\n"));
    let Error::Unreachable(hosts) = error else { panic!("{error}") };
    assert!(matches!(&hosts[..], [host] if matches!(host.reason, Reason::Tls(_)) && host.attempts == 1));
}

#[tokio::test]
async fn a_private_authority() {
    let world = World::new();
    let Some(server) = world.server(&world.ours.sign(4096), "") else { return };
    let mut conf = world.conf(&server, "ca.pem");
    conf.new_connection().await.unwrap().flush().await.unwrap();
    conf.hosts = vec![format!("tls://127.0.0.1:{}", server.port).into()];
    conf.new_connection().await.unwrap().flush().await.unwrap();
    // Without the key the platform's authorities count, and they do not know ours.
    conf.tls_ca_cert = None;
    fails(&conf, &server, "tls_platform_authorities.out").await;
}

#[tokio::test]
async fn the_wrong_authority() {
    let world = World::new();
    let Some(server) = world.server(&world.ours.sign(4096), "") else { return };
    fails(&world.conf(&server, "other-ca.pem"), &server, "tls_wrong_authority.out").await;
}

/// A bundle may hold authorities that do not matter here.
#[tokio::test]
async fn two_authorities_in_one_file() {
    let world = World::new();
    let Some(server) = world.server(&world.ours.sign(4096), "") else { return };
    world.directory.file("bundle.pem", format!("{}{}", world.theirs.pem, world.ours.pem));
    world.conf(&server, "bundle.pem").new_connection().await.unwrap().flush().await.unwrap();
}

#[tokio::test]
async fn an_expired_server_certificate() {
    let world = World::new();
    let Some(server) = world.server(&world.ours.sign(2021), "") else { return };
    let error = world.conf(&server, "ca.pem").new_connection().await.unwrap_err();
    let Error::Unreachable(hosts) = error else { panic!("{error}") };
    // The library adds how long ago that was.
    let Reason::Tls(text) = &hosts[0].reason else { panic!("{hosts:?}") };
    assert!(text.starts_with("invalid peer certificate: certificate expired"), "{text}");
}

#[tokio::test]
async fn a_client_certificate_is_required() {
    let world = World::new();
    let Some(server) = world.server(&world.ours.sign(4096), "verify: true") else { return };
    let mut conf = world.conf(&server, "ca.pem");
    fails(&conf, &server, "tls_no_client_certificate.out").await;

    let (cert, key) = world.ours.sign(4096).write(&world.directory, "client");
    (conf.tls_client_cert, conf.tls_client_key) = (Some(cert), Some(key));
    conf.new_connection().await.unwrap().flush().await.unwrap();

    let (cert, key) = world.theirs.sign(4096).write(&world.directory, "foreign");
    (conf.tls_client_cert, conf.tls_client_key) = (Some(cert), Some(key));
    let error = conf.new_connection().await.unwrap_err();
    let Error::Unreachable(hosts) = error else { panic!("{error}") };
    assert!(matches!(hosts[0].reason, Reason::Tls(_)), "{hosts:?}");
}

/// TLS that was configured is never silently left out.
#[tokio::test]
async fn a_server_without_tls() {
    let world = World::new();
    let Some(server) = Server::start("") else { return };
    let mut conf = world.conf(&server, "ca.pem");
    conf.max_reconnect = nats_conf::MaxReconnect::Never;
    conf.connect_timeout = Duration::from_secs(2);
    assert!(matches!(conf.new_connection().await, Err(Error::Unreachable(_))));
}

/// A cluster tells of its members by IP address. One whose certificate holds only the name that the
/// configuration has for the cluster is trusted, as other clients do; an address that is written there needs
/// its own certificate.
#[tokio::test]
async fn members_of_a_cluster_with_one_name() {
    // Sonata has no clusters yet.
    let Some(program) = Program::Reference.find() else { return };
    let world = World::new();
    let (cert, key) = world.ours.sign_for("localhost", 4096).write(&world.directory, "server");
    let route = dead_url();
    let route_port = route.rsplit_once(':').unwrap().1;
    let more = |name: &str, port: &str| {
        format!(
            "server_name: {name}\n\
             cluster {{ name: C, host: \"127.0.0.1\", port: {port}, routes: [ \"{route}\" ] }}\n\
             tls {{ cert_file: \"{}\", key_file: \"{}\", timeout: 5 }}",
            cert.display(),
            key.display()
        )
    };
    let mut one = Server::start_program(program.clone(), 0, &more("one", route_port));
    let two = Server::start_program(program, 0, &more("two", "-1"));
    one.until("Route connection created");
    let mut conf = world.conf(&one, "ca.pem");
    fails(&conf, &one, "tls_other_name.out").await;

    conf.hosts = vec![format!("localhost:{}", one.port).into()];
    let (client, mut events) = loop {
        let (client, events) = Events::connect(&conf).await;
        let client = client.unwrap();
        // The route is there; what is told over it may not be yet.
        if client.server_info().connect_urls.len() == 2 {
            break (client, events);
        }
    };
    drop(one);
    events.until(|event| matches!(event, Event::Connected { server } if server.address == two.url())).await;
    client.flush().await.unwrap();
}
