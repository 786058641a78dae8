//! `kill -9` at any moment: what was acknowledged is there afterwards, and nothing that was not sent.
//!
//! The checker knows nothing of the server: it speaks the protocol, remembers what it sent and what it was told, and reads
//! back. The program under test is killed while publishes and acknowledgements are on their way.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use support::folder::Folder;
use support::process::{Process, SONATA};
use support::{PATIENCE, eventually};

/// Crashes of each test. More by `SONATA_CRASHES`.
fn crashes() -> usize {
    std::env::var("SONATA_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// Publishes that are on their way at a time.
const WINDOW: usize = 500;

fn start(folder: &Path) -> (Process, u16) {
    let process = Process::start(
        Path::new(SONATA),
        &["-js", "-sd", folder.to_str().unwrap(), "-a", "127.0.0.1", "-p", "-1"],
    );
    let port = process.port();
    (process, port)
}

/// A client that counts on nothing: any read may end with the server.
struct Client {
    reader: BufReader<TcpStream>,
    /// What its replies begin with; no other client listens there.
    inbox: String,
}

/// A message that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Delivered {
    subject: String,
    reply: String,
    payload: Vec<u8>,
}

impl Client {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let inbox = format!("_IN{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut client = Self { reader: BufReader::new(stream), inbox };
        client.line().unwrap();
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true}}\r\nSUB {}.> 1\r\n",
            client.inbox
        );
        client.send(hello.as_bytes());
        client
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        self.reader.get_mut().write_all(bytes).is_ok()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).ok()?;
        (read > 0 && line.ends_with("\r\n")).then(|| line.trim_end().to_owned())
    }

    /// The next message; `None` when the connection has ended.
    fn message(&mut self) -> Option<Delivered> {
        loop {
            let line = self.line()?;
            if line == "PING" {
                self.send(b"PONG\r\n");
                continue;
            }
            let fields: Vec<&str> = line.split(' ').collect();
            let has_headers = match fields[0] {
                "MSG" => false,
                "HMSG" => true,
                _ => continue,
            };
            let sizes = if has_headers { 2 } else { 1 };
            let reply = if fields.len() > 3 + sizes { fields[3] } else { "" };
            let size: usize = fields[fields.len() - 1].parse().unwrap();
            let skip: usize = if has_headers { fields[fields.len() - 2].parse().unwrap() } else { 0 };
            let mut payload = vec![0; size + 2];
            self.reader.read_exact(&mut payload).ok()?;
            payload.truncate(size);
            payload.drain(..skip);
            return Some(Delivered { subject: fields[1].to_owned(), reply: reply.to_owned(), payload });
        }
    }

    fn publish(&mut self, subject: &str, reply: &str, payload: &[u8]) -> bool {
        let mut text = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
        text.extend_from_slice(payload);
        text.extend_from_slice(b"\r\n");
        self.send(&text)
    }

    fn request(&mut self, subject: &str, body: &str) -> serde_json::Value {
        let reply = format!("{}.request", self.inbox);
        assert!(self.publish(subject, &reply, body.as_bytes()));
        loop {
            let answer = self.message().expect("an answer");
            if answer.subject == reply {
                return serde_json::from_slice(&answer.payload).unwrap_or_default();
            }
        }
    }

    fn create_stream(&mut self, config: &str) {
        let name =
            serde_json::from_str::<serde_json::Value>(config).unwrap()["name"].as_str().unwrap().to_owned();
        let answer = self.request(&format!("$JS.API.STREAM.CREATE.{name}"), config);
        assert!(answer["error"].is_null(), "{answer}");
    }
}

/// Ends the server once so many acknowledgements have come in, counted by all clients together.
struct Executioner {
    acknowledged: AtomicUsize,
    dead: AtomicBool,
}

#[test]
fn what_was_acknowledged_survives_kill_nine() {
    let folder = Folder::new();
    // What was told of each sequence, over all crashes.
    let acknowledged: Arc<Mutex<BTreeMap<u64, String>>> = Arc::default();
    let mut sent = BTreeSet::new();
    for crash in 0..crashes() {
        let (mut process, port) = start(folder.path());
        let mut client = Client::connect(port);
        client.create_stream(r#"{"name":"S","subjects":["s.>"],"storage":"file"}"#);
        check(&mut client, &acknowledged.lock().unwrap(), &sent);
        // Another moment each time, early and late.
        let kill_after = 1 + (crash * 7919) % 4000;
        let executioner =
            Arc::new(Executioner { acknowledged: AtomicUsize::new(0), dead: AtomicBool::new(false) });
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (executioner, acknowledged) = (executioner.clone(), acknowledged.clone());
                std::thread::spawn(move || write(port, crash, writer, &executioner, &acknowledged))
            })
            .collect();
        eventually("enough acknowledgements", PATIENCE, || {
            (executioner.acknowledged.load(Ordering::Relaxed) >= kill_after).then_some(())
        });
        process.kill();
        executioner.dead.store(true, Ordering::Relaxed);
        for writer in writers {
            sent.extend(writer.join().unwrap());
        }
    }
    let (_process, port) = start(folder.path());
    let mut client = Client::connect(port);
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.len() > crashes());
    check(&mut client, &acknowledged, &sent);
}

/// Publishes with a window until the server is gone. Returns everything that was sent.
fn write(
    port: u16,
    crash: usize,
    writer: usize,
    executioner: &Executioner,
    acknowledged: &Mutex<BTreeMap<u64, String>>,
) -> Vec<String> {
    let mut client = Client::connect(port);
    let mut sent = Vec::new();
    let mut answered = 0;
    while !executioner.dead.load(Ordering::Relaxed) {
        let mut text = Vec::new();
        while sent.len() < answered + WINDOW {
            let payload = format!("{crash}.{writer}.{}", sent.len());
            text.extend_from_slice(
                format!("PUB s.{writer} {}.{} {}\r\n{payload}\r\n", client.inbox, sent.len(), payload.len())
                    .as_bytes(),
            );
            sent.push(payload);
        }
        if !client.send(&text) {
            break;
        }
        let Some(answer) = client.message() else { break };
        let number: usize = answer.subject.rsplit('.').next().unwrap().parse().unwrap();
        let text = String::from_utf8(answer.payload).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(answer["error"].is_null(), "{text}");
        let sequence = answer["seq"].as_u64().unwrap();
        let before = acknowledged.lock().unwrap().insert(sequence, sent[number].clone());
        assert_eq!(before, None, "sequence {sequence} was given out twice");
        answered += 1;
        executioner.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    sent
}

/// Everything acknowledged is there, unchanged and at its sequence, and everything there was sent.
fn check(client: &mut Client, acknowledged: &BTreeMap<u64, String>, sent: &BTreeSet<String>) {
    let info = client.request("$JS.API.STREAM.INFO.S", "");
    let last = info["state"]["last_seq"].as_u64().unwrap();
    assert!(acknowledged.keys().next_back().is_none_or(|highest| *highest <= last), "{info}");
    for from in (1..=last).step_by(WINDOW) {
        let to = last.min(from + WINDOW as u64 - 1);
        let mut text = String::new();
        for sequence in from..=to {
            let body = format!("{{\"seq\":{sequence}}}");
            text += &format!(
                "PUB $JS.API.STREAM.MSG.GET.S {}.get.{sequence} {}\r\n{body}\r\n",
                client.inbox,
                body.len()
            );
        }
        client.send(text.as_bytes());
        for _ in from..=to {
            let answer = client.message().expect("a message");
            let sequence: u64 = answer.subject.rsplit('.').next().unwrap().parse().unwrap();
            let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
            let data = answer["message"]["data"].as_str().map(decode_base64);
            match (data, acknowledged.get(&sequence)) {
                (Some(data), Some(told)) => assert_eq!(&data, told, "at {sequence}"),
                (Some(data), None) => assert!(sent.contains(&data), "{data} was never sent"),
                (None, Some(told)) => panic!("{told} was acknowledged at {sequence} and is lost: {answer}"),
                (None, None) => {}
            }
        }
    }
}

fn decode_base64(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        bits = bits << 6 | ALPHABET.iter().position(|known| *known == letter).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_work_queue_loses_and_repeats_nothing_over_kill_nine() {
    let folder = Folder::new();
    let mut expected = BTreeSet::new();
    let mut settled: BTreeSet<String> = BTreeSet::new();
    // Settled by us, but the confirmation was cut off: it may have been taken into account or not.
    let mut in_doubt: BTreeSet<String> = BTreeSet::new();
    for crash in 0..crashes() {
        let (mut process, port) = start(folder.path());
        let mut client = Client::connect(port);
        client.create_stream(r#"{"name":"Q","subjects":["q"],"storage":"file","retention":"workqueue"}"#);
        let answer = client.request(
            "$JS.API.CONSUMER.DURABLE.CREATE.Q.worker",
            r#"{"stream_name":"Q","config":{"durable_name":"worker","ack_policy":"explicit","ack_wait":1000000000}}"#,
        );
        assert!(answer["error"].is_null(), "{answer}");
        for number in 0..200 {
            let payload = format!("{crash}.{number}");
            let answer = client.request_publish("q", &payload);
            assert!(answer["error"].is_null(), "{answer}");
            expected.insert(payload);
        }
        // Some are settled, and the last confirmations are cut off by the crash.
        let settle = 20 + (crash * 37) % 120;
        let goal = settled.len() + settle;
        let unconfirmed = client.work(&expected, &mut settled, goal);
        process.kill();
        in_doubt.extend(unconfirmed);
    }
    let (_process, port) = start(folder.path());
    let mut client = Client::connect(port);
    let mut rest = Client::connect(port);
    let left = client.request("$JS.API.STREAM.INFO.Q", "")["state"]["messages"].as_u64().unwrap() as usize;
    let goal = settled.len() + left;
    let unconfirmed = rest.work(&expected, &mut settled, goal);
    assert!(unconfirmed.is_empty(), "{unconfirmed:?}");
    let lost: Vec<&String> =
        expected.iter().filter(|sent| !settled.contains(*sent) && !in_doubt.contains(*sent)).collect();
    assert!(lost.is_empty(), "never settled and gone: {lost:?}");
    let info = client.request("$JS.API.STREAM.INFO.Q", "");
    assert_eq!(info["state"]["messages"], 0, "{info}");
}

impl Client {
    fn request_publish(&mut self, subject: &str, payload: &str) -> serde_json::Value {
        self.request(subject, payload)
    }

    /// Takes messages and settles them, until `goal` are confirmed. What was confirmed never comes again. Returns those
    /// that were settled and not confirmed yet.
    fn work(
        &mut self,
        expected: &BTreeSet<String>,
        settled: &mut BTreeSet<String>,
        goal: usize,
    ) -> Vec<String> {
        let mut waiting: BTreeMap<String, String> = BTreeMap::new();
        let (mut requests, mut taken) = (0, BATCH);
        while settled.len() < goal {
            if taken == BATCH {
                (requests, taken) = (requests + 1, 0);
                let body = format!("{{\"batch\":{BATCH},\"expires\":10000000000}}");
                self.publish(
                    "$JS.API.CONSUMER.MSG.NEXT.Q.worker",
                    &format!("{}.next.{requests}", self.inbox),
                    body.as_bytes(),
                );
            }
            let message = self.message().unwrap_or_else(|| {
                panic!(
                    "nothing after {} of {goal} with {} unconfirmed, {taken} of request {requests}",
                    settled.len(),
                    waiting.len()
                )
            });
            if message.subject == "q" {
                taken += 1;
                let payload = String::from_utf8(message.payload).unwrap();
                assert!(expected.contains(&payload), "{payload} was never sent");
                assert!(!settled.contains(&payload), "{payload} was settled and came again");
                let number = format!("{}.ack.{}", self.inbox, message.reply.replace('.', "-"));
                self.publish(&message.reply, &number, b"+ACK");
                waiting.insert(number, payload);
            } else if let Some(payload) = waiting.remove(&message.subject) {
                settled.insert(payload);
            }
        }
        waiting.into_values().collect()
    }
}

/// Messages of one pull request.
const BATCH: usize = 10;
