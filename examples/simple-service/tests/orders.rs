//! The whole service: an order is posted, shipped exactly once, and everything stops gracefully.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use simple_service::config::ServiceConf;
use simple_service::context::ServiceContext;
use simple_service::embedded;
use simple_service::order::Order;
use simple_service::service::Service;

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_shipped_once_and_not_again_after_a_restart() {
    let folder = Folder::new("shipped");
    let service = Service::start(conf(&folder.0)).await.unwrap();
    let address = service.address();

    let order = r#"{"id":"o-1","item":"tea","quantity":2}"#;
    let answer = ask(address, "POST", "/orders", order).await;
    assert_eq!(answer, (202, r#"{"duplicate":false,"id":"o-1","sequence":1}"#.to_owned()));
    // A customer who is not sure asks again.
    let answer = ask(address, "POST", "/orders", order).await;
    assert_eq!(answer, (202, r#"{"duplicate":true,"id":"o-1","sequence":1}"#.to_owned()));

    wait_for(&service, "o-1").await;
    let answer = ask(address, "GET", "/orders/o-1", "").await;
    assert_eq!(answer, (200, r#"{"shipped":{"id":"o-1","item":"tea","quantity":2}}"#.to_owned()));
    settle(&service).await;
    service.stop().await.unwrap();
    assert!(TcpStream::connect(address).is_err(), "the endpoint is closed");

    // The next life of the service has an empty warehouse: an order that came again would be shipped again.
    let service = Service::start(conf(&folder.0)).await.unwrap();
    let next = r#"{"id":"o-2","item":"milk","quantity":1}"#;
    assert_eq!(ask(service.address(), "POST", "/orders", next).await.0, 202);
    wait_for(&service, "o-2").await;
    assert_eq!(service.context().warehouse.shipped("o-1"), None);
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_nobody_took_waits_for_the_next_start() {
    let folder = Folder::new("waits");
    let server = embedded::start(&folder.0).await.unwrap();
    let mut of_server = conf(&folder.0);
    of_server.nats.hosts.push(server.client_url().into());
    let context = ServiceContext::connect(&of_server.nats, &of_server.orders).await.unwrap();
    let order = Order { id: "o-9".into(), item: "salt".into(), quantity: 1 };
    let body = serde_json::to_vec(&order).unwrap();
    context.jetstream.publish("orders", body.into()).await.unwrap().await.unwrap();
    context.nats.drain().await.unwrap();
    server.shutdown().await;

    let service = Service::start(conf(&folder.0)).await.unwrap();
    wait_for(&service, "o-9").await;
    assert_eq!(service.context().warehouse.shipped("o-9"), Some(order));
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_no_order_half_done() {
    const ORDERS: usize = 100;
    let folder = Folder::new("stop");
    let server = embedded::start(&folder.0).await.unwrap();
    let mut conf = conf(&folder.0);
    conf.nats.hosts.push(server.client_url().into());
    let context = ServiceContext::connect(&conf.nats, &conf.orders).await.unwrap();
    for number in 0..ORDERS {
        let order = Order { id: format!("o-{number}"), item: "nails".into(), quantity: 1 };
        let body = serde_json::to_vec(&order).unwrap();
        context.jetstream.publish("orders", body.into()).await.unwrap().await.unwrap();
    }

    let first = Service::start(conf.clone()).await.unwrap();
    wait_for(&first, "o-0").await;
    let first_warehouse = first.context().warehouse.clone();
    first.stop().await.unwrap();
    let second = Service::start(conf).await.unwrap();
    let shipped_by_first = first_warehouse.watch().borrow().len();
    let mut shipped = second.context().warehouse.watch();
    // Far below the 30 s after which the server would deliver them again by itself.
    let rest = shipped.wait_for(|shipped| shipped.len() == ORDERS - shipped_by_first);
    tokio::time::timeout(Duration::from_secs(20), rest).await.expect("all are shipped in time").unwrap();
    assert!(
        first_warehouse.watch().borrow().keys().all(|id| second.context().warehouse.shipped(id).is_none())
    );
    second.stop().await.unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_and_does_not_stop_the_worker() {
    let folder = Folder::new("nonsense");
    let service = Service::start(conf(&folder.0)).await.unwrap();
    let address = service.address();
    assert_eq!(ask(address, "POST", "/orders", r#"{"id":"o-1"}"#).await.0, 400);
    assert_eq!(ask(address, "POST", "/orders", &"x".repeat(20_000)).await.0, 413);
    assert_eq!(ask(address, "GET", "/orders/o-1", "").await.0, 404);
    assert_eq!(ask(address, "DELETE", "/orders", "").await.0, 404);

    // What others publish to the subject is not checked by the endpoint.
    let jetstream = &service.context().jetstream;
    jetstream.publish("orders", "no order".into()).await.unwrap().await.unwrap();
    assert_eq!(ask(address, "POST", "/orders", r#"{"id":"o-2","item":"tea","quantity":1}"#).await.0, 202);
    wait_for(&service, "o-2").await;
    settle(&service).await;
    service.stop().await.unwrap();
}

#[tokio::test]
async fn the_file_that_is_shipped_loads() {
    let conf = conf(Path::new("unused"));
    assert_eq!((conf.orders.stream.as_str(), conf.nats.name.as_deref()), ("ORDERS", Some("simple-service")));
}

/// The example's own file, with a free port and a folder of the test.
fn conf(store_dir: &Path) -> ServiceConf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/service.yaml");
    let mut conf = ServiceConf::load(file).unwrap();
    conf.listen.set_port(0);
    conf.store_dir = store_dir.to_owned();
    conf.nats.hosts.clear();
    conf
}

async fn wait_for(service: &Service, id: &str) {
    let mut shipped = service.context().warehouse.watch();
    let waiting = shipped.wait_for(|shipped| shipped.contains_key(id));
    tokio::time::timeout(PATIENCE, waiting).await.expect("the order is shipped in time").unwrap();
}

/// Waits until the server counts every message as acknowledged, by its own books.
async fn settle(service: &Service) {
    let mut consumer = service.context().orders.clone();
    let settled = async {
        loop {
            let info = consumer.info().await.unwrap();
            assert_eq!(info.num_redelivered, 0);
            if info.num_pending == 0 && info.num_ack_pending == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("everything is acknowledged in time");
}

/// One request on a connection of its own: status and body.
async fn ask(address: SocketAddr, method: &'static str, path: &'static str, body: &str) -> (u16, String) {
    let body = body.to_owned();
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

/// A folder for streams, removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("simple-service-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
