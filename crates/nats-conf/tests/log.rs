//! What is logged. Alone in its program, since the log belongs to the whole process.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::Write;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_conf::{MaxReconnect, NatsConf};

use common::events::{Events, named};
use common::server::Server;
use common::{data, expect};

/// All that is logged at the finest level, here and in the client library, holds no secret, but says what
/// happens.
#[tokio::test]
async fn the_log_is_discreet() {
    let Some(server) = Server::start("authorization { user: ann, password: s3cr3t-pw }") else { return };
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || Sink(Arc::clone(&sink)))
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let mut conf = NatsConf::new([format!("nats://ann:s3cr3t-pw@127.0.0.1:{}", server.port)]);
    conf.name = Some("billing".to_owned());
    conf.reconnect_wait = Duration::from_millis(50);
    conf.max_reconnect = MaxReconnect::Attempts(NonZeroU32::MIN);
    let (client, mut events) = Events::connect(&conf).await;
    let client = client.unwrap();
    client.flush().await.unwrap();
    let port = server.kill();
    events.end().await;
    drop(client);

    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(log.contains("async_nats"), "the client library logs as well");
    assert!(!log.contains("s3cr3t"), "{log}");
    let own: String = log
        .lines()
        .filter_map(|line| line.split_once(" nats_conf::event: "))
        .map(|(front, text)| format!("{} {text}\n", front.rsplit(' ').next().unwrap()))
        .collect();
    expect(&data("transcripts/log.out"), &named(&own, &[(port, "PORT")]));
    assert!(!format!("{conf:?}").contains("s3cr3t"), "{conf:?}");
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
