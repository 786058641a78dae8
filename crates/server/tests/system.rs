//! The system account from outside: a server with clients, asked over its own protocol.
//!
//! `system/answers.txt` is a transcript: `ASK <client> <subject> <body>` asks and is followed by the shape of the answer,
//! a line for each member with its type, in their order. It was written by nats-server 2.15.1: with its program in
//! `SONATA_REFERENCE` it is compared with it again, and `UPDATE_TRANSCRIPTS=1` writes it anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "system/asking.rs"]
mod asking;
#[path = "monitoring/client.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod client;
#[path = "monitoring/http.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod http;
#[path = "system/shape.rs"]
mod shape;
#[path = "monitoring/subject.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod subject;

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use asking::Asking;
use sonata_server::ReloadError;
use subject::{Folder, Subject, options, wait_for};

const CONFIG: &str = r#"
    server_name: test
    port: -1
    http: "127.0.0.1:-1"
    server_tags: [ssd, eu]
    server_metadata { rack: r7 }
    max_closed_clients: 10
    jetstream { store_dir: "<folder>", max_mem: 64M, max_file: 256M, sync_interval: "2m", domain: hub }
    accounts {
        SYS { users: [{ user: s, password: ps }] }
        A { users: [{ user: a, password: pa }], jetstream: enabled }
        B { users: [{ user: b, password: pb, permissions { publish: "$SYS.>", subscribe { deny: secret } } }] }
    }
    system_account: SYS
"#;

/// Two clients that stay and one that is gone; a stream with a message and a consumer.
fn prepare(subject: &Subject) -> Vec<Asking> {
    let (mut system, mut one) = (Asking::connect(subject, "s"), Asking::connect(subject, "a"));
    one.client.run("SUB foo q 7\nPUB foo 2\nhi\n");
    one.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.*"]}"#);
    one.ask("s.x", "hello");
    let durable = r#"{"stream_name":"S","config":{"durable_name":"D","ack_policy":"explicit"}}"#;
    one.ask("$JS.API.CONSUMER.CREATE.S.D", durable);
    let two = Asking::connect(subject, "b");
    drop(Asking::connect(subject, "b"));
    wait_for("a closed connection", || {
        let closed = system.ask("$SYS.REQ.SERVER.PING.CONNZ", r#"{"state":1}"#)?;
        closed.contains("\"num_connections\":1").then_some(())
    });
    vec![system, one, two]
}

#[test]
fn answers_have_the_shape_of_the_references() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/answers.txt");
    let expected = std::fs::read_to_string(&path).unwrap();
    for subject in [Subject::reference(CONFIG), Some(Subject::sonata(CONFIG))].into_iter().flatten() {
        let mut clients = prepare(&subject);
        let mut actual = String::new();
        for line in expected.lines().filter(|line| line.starts_with("ASK ")) {
            let mut words = line.splitn(4, ' ').skip(1);
            let who = words.next().unwrap();
            let client = clients.iter_mut().find(|client| client.user == who).unwrap();
            let answer = client.ask(words.next().unwrap(), words.next().unwrap_or_default()).unwrap();
            writeln!(actual, "{line}\n{}\n", shape::of(&answer)).unwrap();
        }
        if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
            return std::fs::write(&path, actual).unwrap();
        }
        let mut asked = "";
        for (place, (wanted, got)) in expected.lines().zip(actual.lines()).enumerate() {
            asked = if wanted.starts_with("ASK ") { wanted } else { asked };
            assert_eq!(got, wanted, "answers.txt:{}, {asked}", place + 1);
        }
        assert_eq!(actual.len(), expected.len());
    }
}

#[test]
fn what_is_compressed_says_the_same() {
    let subject = Subject::sonata(CONFIG);
    let mut system = Asking::connect(&subject, "s");
    let plain = system.ask("$SYS.REQ.SERVER.PING.CONNZ", "").unwrap();
    for (accepted, told) in ENCODINGS {
        let (headers, body) = system
            .ask_with("$SYS.REQ.SERVER.PING.CONNZ", &format!("Accept-Encoding: {accepted}"), "")
            .unwrap();
        assert!(headers.contains(&format!("Content-Encoding: {told}\r\n")), "{headers}");
        assert_eq!(shape::of(&unpacked(told, body)), shape::of(&plain), "{told}");
    }
}

/// What is asked for, and what is told of the answer.
const ENCODINGS: [(&str, &str); 3] = [("gzip", "gzip"), ("s2", "snappy"), ("br", "identity")];

fn unpacked(encoding: &str, body: Vec<u8>) -> String {
    let mut text = String::new();
    match encoding {
        "gzip" => flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).map(|_| ()).unwrap(),
        "snappy" => minlz::Reader::new(&body[..]).read_to_string(&mut text).map(|_| ()).unwrap(),
        _ => text = String::from_utf8(body).unwrap(),
    }
    text
}

/// So is what becomes of a traced message.
#[test]
fn a_trace_is_compressed_when_asked() {
    for subject in [Subject::reference(CONFIG), Some(Subject::sonata(CONFIG))].into_iter().flatten() {
        let mut client = Asking::connect(&subject, "a");
        client.client.run("SUB foo 5\n");
        for (accepted, told) in ENCODINGS {
            let header = format!("Nats-Trace-Dest: answers\nAccept-Encoding: {accepted}");
            let (headers, body) = client.ask_with("foo", &header, "").unwrap();
            assert_eq!(headers, format!("NATS/1.0\r\nContent-Encoding: {told}\r\n\r\n"));
            let trace: serde_json::Value = serde_json::from_str(&unpacked(told, body)).unwrap();
            assert_eq!(trace["request"]["header"]["Accept-Encoding"][0], accepted);
            assert_eq!(trace["events"][1]["sub"], "foo");
        }
    }
}

#[test]
fn nothing_is_made_for_nobody() {
    let subject = Subject::sonata(CONFIG);
    let mut system = Asking::connect(&subject, "s");
    // Every message of the server takes the next number.
    let mut sequence = || {
        let answer = system.ask("$SYS.REQ.SERVER.PING.ROUTEZ", "").unwrap();
        let (_, rest) = answer.split_once("\"seq\":").unwrap();
        rest.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let before = sequence();
    for _ in 0..50 {
        drop(Asking::connect(&subject, "a"));
    }
    assert_eq!(sequence(), before + 1);
}

#[test]
fn a_client_can_be_asked_to_leave_and_sent_away() {
    let subject = Subject::sonata(CONFIG);
    let (mut system, mut listener) = (Asking::connect(&subject, "s"), Asking::connect(&subject, "s"));
    listener.client.run("SUB $SYS.ACCOUNT.A.DISCONNECT gone\n");
    let mut one = Asking::connect(&subject, "a");
    let clients = system.ask("$SYS.REQ.ACCOUNT.A.CONNZ", "").unwrap();
    let (_, rest) = clients.split_once("\"cid\":").unwrap();
    let cid = rest.split(',').next().unwrap();
    let id = subject.server().0.id().to_owned();
    let order = format!("{{\"cid\":{cid}}}");
    let answer = system.ask(&format!("$SYS.REQ.SERVER.{id}.LDM"), &order).unwrap();
    assert!(answer.ends_with("}}"), "{answer}");
    one.client.read_until("\"ldm\":true");
    // One that speaks an older protocol would not understand.
    let mut old = Asking::connect_with(&subject, "b", 0);
    let clients = system.ask("$SYS.REQ.ACCOUNT.B.CONNZ", "").unwrap();
    let (_, rest) = clients.split_once("\"cid\":").unwrap();
    let other = format!("{{\"cid\":{}}}", rest.split(',').next().unwrap());
    let answer = system.ask(&format!("$SYS.REQ.SERVER.{id}.LDM"), &other).unwrap();
    assert!(answer.contains("client does not support Lame Duck Mode"), "{answer}");
    old.client.run("");
    system.ask(&format!("$SYS.REQ.SERVER.{id}.KICK"), &order).unwrap();
    one.client.read_to_end();
    listener.client.read_until("\"reason\":\"Kicked\"}\r\n");
}

#[test]
fn accounts_of_a_reload_are_served_and_services_are_not_shown() {
    let folder = Folder::new();
    let config = "port: -1\nhttp: '127.0.0.1:-1'\naccounts { ONE { users: [{user: a, password: pa}] } }";
    let subject = Subject::embedded(options(&folder, config));
    let two = config.replace("accounts {", "accounts { TWO { users: [{user: b, password: pb}] }, ");
    subject.server().0.reload_with(options(&folder, &two)).unwrap();
    let mut client = Asking::connect(&subject, "b");
    let info = client.ask("$SYS.REQ.USER.INFO", "").unwrap();
    assert!(info.ends_with(r#""data":{"user":"b","account":"TWO","account_name":"TWO"}}"#), "{info}");
    let statz = client.ask("$SYS.REQ.ACCOUNT.PING.STATZ", "").unwrap();
    // The one that answers come by.
    assert!(
        statz.contains(
            r#""acc":"TWO","name":"TWO","conns":1,"leafnodes":0,"total_conns":1,"num_subscriptions":1,"#
        ),
        "{statz}"
    );
}

#[test]
fn a_reload_that_fails_is_told() {
    let subject = Subject::sonata(CONFIG);
    let mut system = Asking::connect(&subject, "s");
    let answer = system.ask(&format!("$SYS.REQ.SERVER.{}.RELOAD", subject.server().0.id()), "").unwrap();
    let error = ReloadError::NoSource.to_string();
    assert!(
        answer.ends_with(&format!("\"error\":{{\"code\":500,\"description\":\"{error}\"}}}}")),
        "{answer}"
    );
}
