//! Connecting to a server that runs, losing it and finding it again.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::time::Duration;

use async_nats::Client;
use nats_conf::{Closed, Error, Event, Host, MaxReconnect, NatsConf, Reason};
use nkeys::KeyPairType;
use tokio_stream::StreamExt;

use common::credentials::{pair, seed};
use common::events::{Events, named};
use common::server::{Program, Server, dead_url};
use common::{Scratch, data, expect};

/// A configuration that does not wait long.
fn conf<H: Into<Host>>(hosts: impl IntoIterator<Item = H>) -> NatsConf {
    let mut conf = NatsConf::new(hosts);
    conf.reconnect_wait = Duration::from_millis(50);
    conf
}

fn attempts(number: i64) -> MaxReconnect {
    MaxReconnect::from_number(number).unwrap()
}

/// Sends a message to itself.
async fn check(client: &Client) {
    let mut subscriber = client.subscribe("check.it").await.unwrap();
    client.publish("check.it", "hello".into()).await.unwrap();
    assert_eq!(subscriber.next().await.unwrap().payload, "hello");
}

#[tokio::test]
async fn connects_and_closes() {
    let Some(server) = Server::start("") else { return };
    let (client, mut events) = Events::connect(&conf([server.url()])).await;
    let client = client.unwrap();
    check(&client).await;
    drop(client);
    events.end().await;
    expect(&data("transcripts/connects_and_closes.out"), &events.transcript(&[(server.port, "PORT")]));
}

#[tokio::test]
async fn finds_the_one_host_that_lives() {
    let Some(server) = Server::start("") else { return };
    let mut hosts: Vec<String> = (0..8).map(|_| dead_url()).collect();
    hosts.push(server.url());
    let (client, mut events) = Events::connect(&conf(hosts)).await;
    check(&client.unwrap()).await;
    events.until(|event| matches!(event, Event::Connected { .. })).await;
    let (_, connected) = events.past.pop().unwrap();
    assert_eq!(
        named(&connected.to_string(), &[(server.port, "PORT")]),
        "connected to nats://127.0.0.1:PORT (tester)"
    );
    // Each of the others was tried at most once: nobody waits for a dead server while there is another.
    for (_, event) in &events.past {
        assert!(
            matches!(event, Event::AttemptFailed { attempt: 1, reason: Reason::Network(_), .. }),
            "{event}"
        );
    }
}

#[tokio::test]
async fn names_every_host_that_cannot_be_reached() {
    let dead = dead_url();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let talker = TcpListener::bind("127.0.0.1:0").unwrap();
    let talker_port = talker.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in talker.incoming() {
            stream.unwrap().write_all(b"SSH-2.0-OpenSSH_9.6\r\n").ok();
        }
    });
    let mut conf =
        conf([dead.clone(), format!("127.0.0.1:{port}"), format!("tls://127.0.0.1:{talker_port}")]);
    conf.max_reconnect = attempts(2);
    conf.connect_timeout = Duration::from_millis(100);
    let (client, events) = Events::connect(&conf).await;
    let error = client.unwrap_err();
    let dead_port = dead.rsplit_once(':').unwrap().1.parse().unwrap();
    let names = [(dead_port, "DEAD"), (port, "SILENT"), (talker_port, "TALKER")];
    expect(&data("transcripts/unreachable.out"), &(named(&error.to_string(), &names) + "\n"));
    assert!(matches!(error, Error::Unreachable(hosts) if hosts.len() == 3));
    drop(events);
}

#[tokio::test]
async fn a_name_without_an_address() {
    let mut conf = conf(["no-such-host.invalid"]);
    conf.max_reconnect = MaxReconnect::Never;
    let Err(Error::Unreachable(hosts)) = conf.new_connection().await else { panic!() };
    assert!(
        matches!(&hosts[..], [host] if host.attempts == 1 && matches!(host.reason, Reason::Lookup(_))),
        "{hosts:?}"
    );
}

#[tokio::test]
async fn users_and_passwords() {
    let Some(server) = Server::start("authorization { user: ann, password: \"s3 cr@t\" }") else { return };
    let names = [(server.port, "PORT")];
    let mut good = conf([server.url()]);
    good.user = Some("ann".to_owned());
    good.password = Some("s3 cr@t".into());
    check(&good.new_connection().await.unwrap()).await;
    // The same in the address; the second address has no login and uses that of the first.
    let in_address = conf([format!("ann:s3%20cr%40t@127.0.0.1:{}", server.port)]);
    check(&in_address.new_connection().await.unwrap()).await;
    let shared = conf([dead_url().replace("//", "//ann:s3%20cr%40t@"), server.url()]);
    check(&shared.new_connection().await.unwrap()).await;

    let mut bad = good.clone();
    bad.password = Some("s3cret".into());
    bad.max_reconnect = MaxReconnect::Forever;
    let (client, _) = Events::connect(&bad).await;
    let error = client.unwrap_err();
    expect(&data("transcripts/refused.out"), &(named(&error.to_string(), &names) + "\n"));
    assert!(matches!(error, Error::Refused(_)));
    assert!(matches!(conf([server.url()]).new_connection().await, Err(Error::Refused(_))));
}

#[tokio::test]
async fn tokens() {
    let Some(server) = Server::start("authorization { token: t0ken }") else { return };
    let mut good = conf([server.url()]);
    good.token = Some("t0ken".into());
    check(&good.new_connection().await.unwrap()).await;
    check(&conf([format!("nats://t0ken@127.0.0.1:{}", server.port)]).new_connection().await.unwrap()).await;
    good.token = Some("other".into());
    assert!(matches!(good.new_connection().await, Err(Error::Refused(_))));
}

/// The file is read anew at every connection, so a key can be replaced while the service runs.
#[tokio::test]
async fn nkeys_and_their_replacement() {
    let authorization = |number| {
        let key = pair(KeyPairType::User, number).public_key();
        format!("authorization {{ users: [ {{ nkey: {key} }} ] }}")
    };
    let directory = Scratch::new();
    let file = directory.file("user.nk", seed(&pair(KeyPairType::User, 1)));
    let Some(server) = Server::start(&authorization(1)) else { return };
    let mut conf = conf([server.url()]);
    conf.nkey_file = Some(file);
    conf.max_reconnect = MaxReconnect::Forever;
    let (client, mut events) = Events::connect(&conf).await;
    let client = client.unwrap();
    check(&client).await;

    let port = server.kill();
    directory.file("user.nk", seed(&pair(KeyPairType::Account, 1)));
    let server = Server::start_on(port, &authorization(2));
    let wrong = "failed signing nonce: AuthError(NkeyFile: DIR/user.nk: the seed of an account key, a user seed (SU...) is needed)";
    let wrong = wrong.replace("DIR", &directory.0.display().to_string());
    events
        .until(|event| matches!(event, Event::AttemptFailed { reason, .. } if reason.to_string() == wrong))
        .await;
    directory.file("user.nk", format!("# the new one\n{}\n", seed(&pair(KeyPairType::User, 2))));
    events.until(|event| matches!(event, Event::Connected { .. })).await;
    check(&client).await;

    directory.file("user.nk", seed(&pair(KeyPairType::User, 1)));
    assert!(matches!(conf.new_connection().await, Err(Error::Refused(_))));
    drop(server);
}

#[tokio::test]
async fn reconnects_after_a_restart() {
    let Some(server) = Server::start("") else { return };
    let mut conf = conf([server.url()]);
    conf.max_reconnect = attempts(1000);
    conf.reconnect_wait = Duration::from_millis(80);
    let (client, mut events) = Events::connect(&conf).await;
    let client = client.unwrap();
    let mut subscriber = client.subscribe("still.there").await.unwrap();
    client.flush().await.unwrap();
    let port = server.kill();
    events.until(|event| matches!(event, Event::AttemptFailed { attempt: 3, .. })).await;
    expect(&data("transcripts/lost.out"), &events.transcript(&[(port, "PORT")]));

    // Each attempt begins at least the wait after the one before; the loss counts as one.
    let lost = events.past[1].0;
    for (number, (time, event)) in (1..).zip(&events.past[2..]) {
        assert!(*time - lost >= conf.reconnect_wait * number, "{event}");
    }

    let server = Server::start_on(port, "");
    events.until(|event| matches!(event, Event::Connected { .. })).await;
    client.publish("still.there", "yes".into()).await.unwrap();
    assert_eq!(subscriber.next().await.unwrap().payload, "yes");

    // The count begins anew after a success.
    drop(server);
    events.past.clear();
    events.until(|event| matches!(event, Event::AttemptFailed { attempt: 1, .. })).await;
}

#[tokio::test]
async fn goes_to_the_other_server_at_once() {
    let (Some(one), Some(two)) = (Server::start(""), Server::start("")) else { return };
    let mut conf = conf([one.url(), two.url()]);
    conf.reconnect_wait = Duration::from_secs(600);
    let (client, mut events) = Events::connect(&conf).await;
    let client = client.unwrap();
    events.until(|event| matches!(event, Event::Connected { .. })).await;
    let first = events.past[0].1.to_string();
    let (lost, left) = if first.contains(&one.port.to_string()) { (one, two) } else { (two, one) };
    drop(lost);
    events.until(|event| matches!(event, Event::Connected { server } if server.address == left.url())).await;
    assert_eq!(events.past.len(), 3, "{:?}", events.past);
    check(&client).await;
}

#[tokio::test]
async fn gives_up() {
    let Some(server) = Server::start("") else { return };
    let dead = dead_url();
    let mut conf = conf([server.url(), dead.clone()]);
    conf.max_reconnect = attempts(3);
    let (client, mut events) = Events::connect(&conf).await;
    let client = client.unwrap();
    events.until(|event| matches!(event, Event::Connected { .. })).await;
    // Whether the dead one was tried first is a matter of chance.
    events.past.clear();
    let names = [(server.kill(), "PORT"), (dead.rsplit_once(':').unwrap().1.parse().unwrap(), "DEAD")];
    events.end().await;
    expect(&data("transcripts/gives_up.out"), &events.transcript(&names));

    assert!(client.flush().await.is_err());
    assert!(client.publish("any", "thing".into()).await.is_err());
    assert!(client.subscribe("any").await.is_err());
    assert!(client.request("any", "thing".into()).await.is_err());
}

#[tokio::test]
async fn never_reconnects() {
    let Some(server) = Server::start("") else { return };
    let mut conf = conf([server.url()]);
    conf.max_reconnect = MaxReconnect::Never;
    conf.reconnect_wait = Duration::ZERO;
    let (client, mut events) = Events::connect(&conf).await;
    let client = client.unwrap();
    check(&client).await;
    let port = server.kill();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    events.end().await;
    expect(&data("transcripts/never_reconnects.out"), &events.transcript(&[(port, "PORT")]));
    assert!(client.flush().await.is_err());
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn tells_what_the_server_says() {
    let users = "authorization { users: [ { user: ann, password: pw, permissions: { publish: allowed } } ] }";
    let Some(server) = Server::start(users) else { return };
    let mut conf = conf([server.url()]);
    conf.user = Some("ann".to_owned());
    conf.password = Some("pw".into());
    let (client, mut events) = Events::connect(&conf).await;
    let client = client.unwrap();
    client.publish("forbidden", "".into()).await.unwrap();
    events.until(|event| matches!(event, Event::ServerError { .. })).await;
    client.drain().await.unwrap();
    events.end().await;
    expect(&data("transcripts/server_error.out"), &events.transcript(&[(server.port, "PORT")]));
}

#[tokio::test]
async fn tells_of_slow_consumers() {
    let Some(server) = Server::start("") else { return };
    let (client, mut events) = Events::connect(&conf([server.url()])).await;
    let client = client.unwrap();
    let slow = client.subscribe("flood").await.unwrap();
    // More than the client library keeps for one subscription.
    for _ in 0..65_600 {
        client.publish("flood", "".into()).await.unwrap();
    }
    events.until(|event| matches!(event, Event::SlowConsumer { .. })).await;
    drop(slow);
}

/// A JetStream context asks in its domain and waits as long as it was told.
#[tokio::test]
async fn jetstream_in_a_domain() {
    let Some(server) = Server::start("") else { return };
    let mut conf = conf([server.url()]);
    conf.jetstream_domain = Some("hub".to_owned());
    conf.jetstream_timeout = Duration::from_millis(100);
    conf.inbox_prefix = Some("_BOX.ann".to_owned());
    let other = conf.new_connection().await.unwrap();
    let mut api = other.subscribe("$JS.hub.API.>").await.unwrap();
    other.flush().await.unwrap();
    let jetstream = conf.new_jetstream().await.unwrap();
    let asked = jetstream.query_account().await;
    assert_eq!(asked.unwrap_err().kind(), async_nats::jetstream::context::AccountErrorKind::TimedOut);
    let request = api.next().await.unwrap();
    assert_eq!(request.subject.as_str(), "$JS.hub.API.INFO");
    assert!(request.reply.unwrap().starts_with("_BOX.ann."));
}

/// A server of which the configuration says nothing, but its cluster does, is gone to with the login of the
/// others.
#[tokio::test]
async fn goes_to_a_server_that_the_cluster_tells_of() {
    // Sonata has no clusters yet.
    let Some(program) = Program::Reference.find() else { return };
    let route = dead_url();
    let route_port = route.rsplit_once(':').unwrap().1;
    let more = |name: &str, port: &str| {
        format!(
            "server_name: {name}\ncluster {{ name: C, host: \"127.0.0.1\", port: {port}, routes: [ \"{route}\" ] }}\n\
             authorization {{ user: ann, password: pw }}"
        )
    };
    let mut one = Server::start_program(program.clone(), 0, &more("one", route_port));
    let two = Server::start_program(program, 0, &more("two", "-1"));
    one.until("Route connection created");
    let conf = conf([format!("ann:pw@127.0.0.1:{}", one.port)]);
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
    check(&client).await;
}

#[tokio::test]
async fn over_websockets() {
    let more = "websocket { host: \"127.0.0.1\", port: -1, no_tls: true }\nauthorization { token: t0ken }";
    // Sonata has no WebSocket listener yet.
    let Some(program) = Program::Reference.find() else { return };
    let server = Server::start_program(program, 0, more);
    let Some(port) = server.websocket_port else { panic!("the server does not say where its websocket is") };
    let conf = conf([format!("ws://t0ken@127.0.0.1:{port}")]);
    check(&conf.new_connection().await.unwrap()).await;
}

/// A service connects in a task of its own.
#[tokio::test]
async fn in_another_task() {
    let Some(server) = Server::start("") else { return };
    let conf = conf([server.url()]);
    let client = tokio::spawn(async move { conf.new_connection().await }).await.unwrap().unwrap();
    check(&client).await;
}

#[test]
fn without_a_runtime() {
    let conf = NatsConf::new(["127.0.0.1"]);
    let mut connecting = std::pin::pin!(conf.new_connection());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = connecting.as_mut().poll(&mut context) else { panic!() };
    assert_eq!(error.to_string(), "a connection needs a Tokio runtime, and there is none");
}

/// What the event says when the client was closed on purpose differs from giving up.
#[tokio::test]
async fn closed_on_purpose() {
    let Some(server) = Server::start("") else { return };
    let (client, mut events) = Events::connect(&conf([server.url()])).await;
    client.unwrap().drain().await.unwrap();
    events.end().await;
    assert_eq!(events.past.last().map(|(_, event)| event), Some(&Event::Closed(Closed::ByClient)));
}
