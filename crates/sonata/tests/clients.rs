//! The official Rust client against a server in this process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use async_nats::{ConnectOptions, Event, HeaderMap};
use futures_util::StreamExt;
use sonata::Server;
use sonata::options::{Account, AccountLimits, Options, Secret, User};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

async fn server(options: Options) -> Server {
    Server::start(Options { host: "127.0.0.1".into(), port: 0, ..options }).await.unwrap()
}

fn user(name: &str, password: &str, account: Option<&str>) -> User {
    User {
        name: name.into(),
        password: Secret::new(password),
        account: account.map(Into::into),
        permissions: None,
        connection_types: None,
        proxy_required: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_subscribe_queue_and_request() {
    let server = server(Options::default()).await;
    let client = async_nats::connect(server.client_url()).await.unwrap();
    let mut all = client.subscribe("orders.>").await.unwrap();
    let mut first = client.queue_subscribe("orders.*", "workers".into()).await.unwrap();
    let mut second = client.queue_subscribe("orders.*", "workers".into()).await.unwrap();
    client.flush().await.unwrap();
    for number in 0..100 {
        client.publish(format!("orders.{number}"), number.to_string().into()).await.unwrap();
    }
    client.flush().await.unwrap();
    for number in 0..100 {
        assert_eq!(all.next().await.unwrap().payload, number.to_string());
    }
    let mut worked = 0;
    while worked < 100 {
        tokio::select! {
            _ = first.next() => worked += 1,
            _ = second.next() => worked += 1,
        }
    }

    let mut service = client.subscribe("service").await.unwrap();
    let answering = client.clone();
    tokio::spawn(async move {
        while let Some(request) = service.next().await {
            let mut headers = HeaderMap::new();
            headers.insert("Answer", "yes");
            answering.publish_with_headers(request.reply.unwrap(), headers, request.payload).await.unwrap();
        }
    });
    let answer = client.request("service", "ping".into()).await.unwrap();
    assert_eq!(answer.payload, "ping");
    assert_eq!(answer.headers.unwrap().get("Answer").unwrap().as_str(), "yes");
    let nobody = client.request("nobody.listens", "x".into()).await.unwrap_err();
    assert_eq!(nobody.kind(), async_nats::client::RequestErrorKind::NoResponders);
    server.shutdown().await;
}

#[tokio::test]
async fn large_messages_arrive_whole() {
    let server = server(Options { max_payload: 700_000, ..Options::default() }).await;
    let client = async_nats::connect(server.client_url()).await.unwrap();
    assert_eq!(client.server_info().max_payload, 700_000);
    let other = async_nats::connect(server.client_url()).await.unwrap();
    let mut big = client.subscribe("big").await.unwrap();
    let mut also = other.subscribe("big").await.unwrap();
    client.flush().await.unwrap();
    other.flush().await.unwrap();
    let payload: Vec<u8> = (0..700_000u32).map(|at| (at % 251) as u8).collect();
    for _ in 0..3 {
        client.publish("big", payload.clone().into()).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(big.next().await.unwrap().payload, payload);
        assert_eq!(also.next().await.unwrap().payload, payload);
    }
    server.shutdown().await;
}

#[tokio::test]
async fn accounts_are_isolated_and_limited() {
    let account = |name: &str, max_connections| Account {
        name: name.into(),
        limits: AccountLimits { max_connections, ..AccountLimits::default() },
        ..Account::default()
    };
    let server = server(Options {
        users: vec![user("a", "pa", Some("one")), user("b", "pb", Some("two"))],
        accounts: vec![account("one", None), account("two", Some(1))],
        ..Options::default()
    })
    .await;
    let connect = |name: &str, password: &str| {
        ConnectOptions::with_user_and_password(name.into(), password.into()).connect(server.client_url())
    };
    let a = connect("a", "pa").await.unwrap();
    let b = connect("b", "pb").await.unwrap();
    let mut heard = b.subscribe(">").await.unwrap();
    b.flush().await.unwrap();
    a.publish("secret", "x".into()).await.unwrap();
    a.flush().await.unwrap();
    b.publish("own", "y".into()).await.unwrap();
    assert_eq!(heard.next().await.unwrap().subject.as_str(), "own");
    assert!(connect("a", "wrong").await.is_err());
    assert!(connect("b", "pb").await.is_err(), "the account takes one connection");
    assert!(async_nats::connect(server.client_url()).await.is_err());
    server.shutdown().await;
}

#[tokio::test]
async fn lame_duck_mode_is_announced() {
    let server = server(Options {
        lame_duck_duration: Duration::from_secs(1),
        lame_duck_grace_period: Duration::from_millis(10),
        ..Options::default()
    })
    .await;
    let (tell, mut events) = mpsc::unbounded_channel();
    let client = ConnectOptions::new()
        .event_callback(move |event| {
            let tell = tell.clone();
            async move {
                let _ = tell.send(event);
            }
        })
        .connect(server.client_url())
        .await
        .unwrap();
    client.flush().await.unwrap();
    server.lame_duck().await;
    let mut seen = Vec::new();
    while let Some(event) = events.recv().await {
        let last = event == Event::Disconnected;
        seen.push(event);
        if last {
            break;
        }
    }
    assert!(seen.contains(&Event::LameDuckMode), "{seen:?}");
    assert!(async_nats::connect(server.client_url()).await.is_err());
}

#[tokio::test]
async fn several_servers_share_a_process_and_in_process_clients_need_no_port() {
    let one = server(Options::default()).await;
    let two = server(Options::default()).await;
    assert_ne!(one.id(), two.id());
    let client = async_nats::connect(one.client_url()).await.unwrap();
    let mut heard = client.subscribe("from.inside").await.unwrap();
    client.flush().await.unwrap();

    let mut inside = one.connect_in_process();
    inside.write_all(b"CONNECT {\"verbose\":false}\r\nPUB from.inside 2\r\nhi\r\nPING\r\n").await.unwrap();
    let mut text = String::new();
    while !text.ends_with("PONG\r\n") {
        let mut buffer = [0; 1024];
        let count = inside.read(&mut buffer).await.unwrap();
        assert!(count > 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    assert!(text.starts_with("INFO {"), "{text}");
    assert_eq!(heard.next().await.unwrap().payload, "hi");
    assert_eq!((one.connection_count(), two.connection_count()), (2, 0));
    one.shutdown().await;
    two.shutdown().await;
    assert_eq!(inside.read(&mut [0; 8]).await.unwrap(), 0);
}
