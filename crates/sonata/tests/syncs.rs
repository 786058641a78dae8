//! What an acknowledgement means: by default, that a sync was completed after the message was written and before its
//! publisher was told; with an interval, only that it was written.
//!
//! Seen from outside: publishes that wait for each other cannot share a sync, so the journal's counter rises by one for
//! each of them or more.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use support::PATIENCE;
use support::folder::Folder;
use support::process::Process;
use support::wire::Wire;

const PUBLISHES: u64 = 40;

#[test]
fn every_acknowledged_publish_has_had_a_sync_of_its_own() {
    let syncs = syncs_of_publishes("sync_interval: always");
    assert!(syncs >= PUBLISHES, "{syncs} syncs for {PUBLISHES} publishes");
    let syncs = syncs_of_publishes("");
    assert!(syncs >= PUBLISHES, "{syncs} syncs for {PUBLISHES} publishes by default");
}

#[test]
fn with_an_interval_publishes_are_acknowledged_without() {
    // The test takes far less than the interval. One sync may be due to something else.
    let syncs = syncs_of_publishes("sync_interval: \"60s\"");
    assert!(syncs <= 1, "{syncs} syncs for {PUBLISHES} publishes");
}

/// How many syncs the journal makes while a client publishes, waiting for each acknowledgement.
fn syncs_of_publishes(setting: &str) -> u64 {
    let folder = Folder::new();
    let store = folder.at("store");
    let config = format!(
        "listen: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\njetstream {{ store_dir: \"{}\"\n{setting} }}\n",
        store.display()
    );
    let server = Process::with_config(&folder.write("sonata.conf", &config));
    let (port, monitor) = (server.port(), server.monitor_port());
    let mut client = Wire::login(port, "", "");
    client.send("SUB answers 1\r\n");
    let created = request(&mut client, "$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    assert!(created.contains("\"did_create\":true"), "{created}");
    let before = syncs(monitor);
    for sequence in 1..=PUBLISHES {
        let acknowledged = request(&mut client, "s", "hello");
        assert_eq!(acknowledged, format!("{{\"stream\":\"S\",\"seq\":{sequence}}}"));
    }
    syncs(monitor) - before
}

/// The answer.
fn request(client: &mut Wire, subject: &str, body: &str) -> String {
    client.send(&format!("PUB {subject} answers {}\r\n{body}\r\n", body.len()));
    let head = client.line();
    assert!(head.starts_with("MSG answers 1 "), "{head}");
    client.line()
}

/// The journal's counter.
fn syncs(monitor: u16) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", monitor)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("sonata_journal_syncs_total "));
    line.unwrap_or_else(|| panic!("no counter in {text}")).parse().unwrap()
}
