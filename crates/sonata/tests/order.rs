//! The order in which one client's messages are stored, however the server puts them together.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fmt::Write as _;

use support::folder::Folder;
use support::process::Process;
use support::wire::Wire;

const STREAMS: usize = 4;
const MESSAGES: usize = 4000;

/// Enough at once that many are committed together, which are then applied stream by stream.
#[test]
fn messages_to_streams_in_turn_stay_in_order_in_each() {
    let folder = Folder::new();
    let store = folder.at("store");
    let config = format!("listen: \"127.0.0.1:-1\"\njetstream {{ store_dir: \"{}\" }}\n", store.display());
    let server = Process::with_config(&folder.write("sonata.conf", &config));
    let mut client = Wire::login(server.port(), "", "");
    client.send("SUB answers.* 1\r\n");
    for stream in 0..STREAMS {
        let body = format!(r#"{{"name":"S{stream}","subjects":["s.{stream}"]}}"#);
        client
            .send(&format!("PUB $JS.API.STREAM.CREATE.S{stream} answers.made {}\r\n{body}\r\n", body.len()));
        let created = client.message().unwrap();
        assert!(String::from_utf8_lossy(&created.payload).contains("did_create"), "{created:?}");
    }
    let mut all = String::new();
    for number in 0..MESSAGES {
        write!(all, "PUB s.{} answers.{number} 1\r\nx\r\n", number % STREAMS).unwrap();
    }
    client.send(&all);
    let mut answered = vec![false; MESSAGES];
    for _ in 0..MESSAGES {
        let answer = client.message().unwrap();
        let number: usize = answer.subject.rsplit('.').next().unwrap().parse().unwrap();
        let stored = format!(r#"{{"stream":"S{}","seq":{}}}"#, number % STREAMS, number / STREAMS + 1);
        assert_eq!(String::from_utf8_lossy(&answer.payload), stored, "message {number}");
        assert!(!std::mem::replace(&mut answered[number], true));
    }
}
