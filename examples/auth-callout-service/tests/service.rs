//! A server that asks, the service that answers, and those who want to come in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use async_nats::{Client, ConnectOptions};
use auth_callout_service::config::CalloutConf;
use auth_callout_service::service::Service;
use sonata::{FlagOverrides, Server};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("etc").join(name)
}

/// A server with the configuration of the README, on a free port.
async fn server(change: impl Fn(String) -> String) -> (Server, PathBuf) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("auth-callout-{}-{number}.conf", std::process::id()));
    let text = std::fs::read_to_string(file("server.conf")).unwrap().replace(":4222", ":-1");
    std::fs::write(&path, change(text)).unwrap();
    let flags = FlagOverrides::with_config(path.to_str().unwrap());
    (Server::start_from(flags).await.unwrap(), path)
}

async fn come(server: &Server, user: &str, password: &str) -> Result<Client, async_nats::ConnectError> {
    let options = ConnectOptions::with_user_and_password(user.into(), password.into());
    options.connect(server.client_url()).await
}

async fn serve(server: &Server) -> Service {
    let mut conf = CalloutConf::load(file("service.yaml")).unwrap();
    conf.nats.hosts = vec![server.client_url().into()];
    Service::start(conf).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_decides() {
    let in_clear =
        |text: String| text.lines().filter(|line| !line.contains("xkey")).collect::<Vec<_>>().join("\n");
    for change in [|text: String| text, in_clear] {
        let (server, path) = server(change).await;
        let service = serve(&server).await;
        let alice = come(&server, "alice", "wonderland").await.unwrap();
        alice.publish("hello", "world".into()).await.unwrap();
        alice.flush().await.unwrap();
        for (user, password) in [("alice", "underland"), ("mallory", ""), ("", "")] {
            assert!(come(&server, user, password).await.is_err(), "{user} {password}");
        }
        service.stop().await.unwrap();
        server.shutdown().await;
        std::fs::remove_file(path).unwrap();
    }
}
