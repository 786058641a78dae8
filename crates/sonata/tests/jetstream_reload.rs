//! JetStream is turned off and on by reloads while clients use it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use support::folder::Folder;
use support::process::Process;
use support::wire::Wire;

/// A server that a configuration file turns JetStream of on and off.
struct World {
    process: Process,
    folder: Folder,
}

impl World {
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.write("server.conf", &Self::text(&folder, true));
        Self { process: Process::with_config(&path), folder }
    }

    fn text(folder: &Folder, on: bool) -> String {
        let data = folder.at("data");
        let state = if on { "enabled" } else { "disabled" };
        format!("listen: 127.0.0.1:-1\nstore_dir: {data:?}\njetstream: {state}\n")
    }

    fn turn(&self, on: bool) {
        self.folder.write("server.conf", &Self::text(&self.folder, on));
        let outcome = self.process.reload();
        assert!(outcome.contains("Reloaded server config"), "{outcome}");
    }
}

/// A client that is told when nobody answers.
struct Client {
    wire: Wire,
    inbox: String,
}

impl Client {
    fn new(port: u16, inbox: &str) -> Self {
        let mut wire = Wire::connect(port);
        wire.send("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n");
        wire.send(&format!("SUB {inbox} 1\r\n"));
        wire.flush();
        Self { wire, inbox: inbox.into() }
    }

    /// The answer to a request; `None` when there is nobody to ask.
    fn request(&mut self, subject: &str, body: &str) -> Option<Value> {
        self.wire.send(&format!("PUB {subject} {} {}\r\n{body}\r\n", self.inbox, body.len()));
        serde_json::from_slice(&self.wire.message().unwrap().payload).ok()
    }
}

/// What was acknowledged while JetStream went off and on again and again is there in the end, each message at the place
/// that its acknowledgement has named. Nobody waits in vain for an answer.
#[test]
fn what_was_acknowledged_stays() {
    let world = World::new();
    let port = world.process.port();
    let mut client = Client::new(port, "inbox");
    let made = client.request("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.*"]}"#).unwrap();
    assert_eq!(made["error"], Value::Null);
    let over = Arc::new(AtomicBool::new(false));
    let publisher = |number| {
        let over = over.clone();
        std::thread::spawn(move || publish(port, number, &over))
    };
    let publishers = [publisher(1), publisher(2)];
    for _ in 0..8 {
        world.turn(false);
        assert_eq!(client.request("$JS.API.STREAM.INFO.S", ""), None);
        world.turn(true);
    }
    over.store(true, Ordering::Release);
    let acknowledged: BTreeMap<u64, String> =
        publishers.into_iter().flat_map(|publisher| publisher.join().unwrap()).collect();
    assert!(acknowledged.len() > 8, "{}", acknowledged.len());
    for (sequence, subject) in acknowledged {
        let get = format!(r#"{{"seq":{sequence}}}"#);
        let found = client.request("$JS.API.STREAM.MSG.GET.S", &get).unwrap();
        assert_eq!(found["message"]["subject"], subject, "{sequence}: {found}");
    }
}

/// Publishes until it is over; the subjects that were acknowledged, by sequence.
fn publish(port: u16, publisher: usize, over: &AtomicBool) -> BTreeMap<u64, String> {
    let mut client = Client::new(port, &format!("inbox-{publisher}"));
    let mut acknowledged = BTreeMap::new();
    let mut number = 0;
    while !over.load(Ordering::Acquire) {
        number += 1;
        let subject = format!("s.{publisher}-{number}");
        let answer = client.request(&subject, "").unwrap_or_default();
        if answer["error"] == Value::Null
            && let Some(sequence) = answer["seq"].as_u64()
        {
            acknowledged.insert(sequence, subject);
        }
    }
    acknowledged
}
