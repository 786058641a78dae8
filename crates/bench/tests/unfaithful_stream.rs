//! Publishing against a small JetStream in this process that can be told to damage one message or its acknowledgement:
//! a faithful one must pass, and every damage must end the run with a failed check.

#![allow(clippy::unwrap_used, reason = "a test server may fall over, the test then fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use sonata_bench::connection::Address;
use sonata_bench::error::BenchError;
use sonata_bench::frame::Subjects;
use sonata_bench::jetstream::publish::{PublishPlan, Publishers};
use sonata_bench::jetstream::shape::Storage;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Damage {
    None,
    /// The acknowledgement comes twice.
    Repeat,
    /// It names the next sequence.
    OtherSequence,
    /// It names another stream.
    OtherStream,
    /// It is of a message that was not sent yet.
    Unasked,
    /// It says no.
    Refuse,
    /// It says that the message was there before.
    Duplicate,
    /// The message is acknowledged and not kept.
    Forget,
    /// A byte of the message changes in the stream.
    FlipByte,
    /// The message and the one before it change places in the stream.
    Swap,
}

/// The sequence of the message that is damaged.
const DAMAGED: u64 = 1000;
const STREAM: &str = "BENCH";

/// One stream; any name that the client asks for is that stream.
struct Stream {
    damage: Damage,
    /// Sequence and payload of what it holds.
    messages: Vec<(u64, Vec<u8>)>,
    last_sequence: u64,
    /// Where the reader begins.
    read_from: u64,
}

fn start(damage: Damage) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = listener.local_addr().unwrap();
    let stream =
        Arc::new(Mutex::new(Stream { damage, messages: Vec::new(), last_sequence: 0, read_from: 0 }));
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let stream = Arc::clone(&stream);
            // A client that ends its run early ends the thread with an error, as it should.
            thread::spawn(move || serve(&stream, connection));
        }
    });
    Address { socket, tls: None }
}

fn serve(stream: &Mutex<Stream>, mut output: TcpStream) -> std::io::Result<()> {
    output.write_all(b"INFO {}\r\n")?;
    let mut input = BufReader::with_capacity(1 << 16, output.try_clone()?);
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["PING"] => output.write_all(b"PONG\r\n")?,
            ["PUB", subject, reply, size] => {
                let mut payload = vec![0; size.parse::<usize>().unwrap() + 2];
                input.read_exact(&mut payload)?;
                payload.truncate(payload.len() - 2);
                // Whoever asks has subscribed to its own inbox, so the answer goes where the question came from.
                let answer = stream.lock().unwrap().answer(subject, reply, payload);
                output.write_all(&answer)?;
            }
            _ => {}
        }
        line.clear();
    }
    Ok(())
}

impl Stream {
    fn answer(&mut self, subject: &str, reply: &str, payload: Vec<u8>) -> Vec<u8> {
        let Some(api) = subject.strip_prefix("$JS.API.") else { return self.store(reply, payload) };
        if api.starts_with("CONSUMER.MSG.NEXT") {
            let wanted = self.messages.iter().filter(|(sequence, _)| *sequence >= self.read_from);
            let deliver = |(index, (sequence, payload)): (usize, &(u64, Vec<u8>))| {
                let ack = format!("$JS.ACK.S.C.1.{sequence}.{}.1.0", index + 1);
                message("bench.subject", Some(&ack), payload)
            };
            return wanted.enumerate().flat_map(deliver).collect();
        }
        if api.starts_with("CONSUMER.CREATE") {
            let request: Value = serde_json::from_slice(&payload).unwrap();
            self.read_from = request["config"]["opt_start_seq"].as_u64().unwrap();
        }
        if api.starts_with("STREAM.PURGE") {
            self.messages.clear();
        }
        let (messages, last) = (self.messages.len(), self.last_sequence);
        let info = format!(r#"{{"state":{{"messages":{messages},"last_seq":{last}}}}}"#);
        message(reply, None, info.as_bytes())
    }

    fn store(&mut self, reply: &str, mut payload: Vec<u8>) -> Vec<u8> {
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        let damage = if sequence == DAMAGED { self.damage } else { Damage::None };
        if damage == Damage::FlipByte {
            payload[50] ^= 0x40;
        }
        if damage != Damage::Forget {
            self.messages.push((sequence, payload));
        }
        if let (Damage::Swap, [.., (_, before), (_, this)]) = (damage, self.messages.as_mut_slice()) {
            std::mem::swap(before, this);
        }
        let acknowledged = format!(r#"{{"stream":"{STREAM}","seq":{sequence}}}"#);
        let text = match damage {
            Damage::OtherSequence => format!(r#"{{"stream":"{STREAM}","seq":{}}}"#, sequence + 1),
            Damage::OtherStream => format!(r#"{{"stream":"OTHER","seq":{sequence}}}"#),
            Damage::Refuse => r#"{"error":{"code":503},"stream":"BENCH","seq":0}"#.to_owned(),
            Damage::Duplicate => format!(r#"{{"stream":"{STREAM}","seq":{sequence},"duplicate": true}}"#),
            _ => acknowledged,
        };
        let to = match damage {
            Damage::Unasked => reply.replace(".000000000", ".000000009"),
            _ => reply.to_owned(),
        };
        let answer = message(&to, None, text.as_bytes());
        if damage == Damage::Repeat { answer.repeat(2) } else { answer }
    }
}

fn message(subject: &str, reply: Option<&str>, payload: &[u8]) -> Vec<u8> {
    let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
    let mut frame = format!("MSG {subject} 1 {reply}{}\r\n", payload.len()).into_bytes();
    frame.extend_from_slice(payload);
    frame.extend_from_slice(b"\r\n");
    frame
}

fn run(damage: Damage, in_flight: usize, connections: usize) -> Result<u64, BenchError> {
    let plan = PublishPlan {
        streams: vec![STREAM.to_owned()],
        subjects: Subjects::one("bench.subject"),
        in_flight,
        connections,
        payload_bytes: 100,
    };
    let mut publishers = Publishers::create(&start(damage), plan, Storage::File)?;
    publishers.publish(1200 / connections as u64, None)?;
    publishers.check()?;
    publishers.purge()?;
    publishers.publish(60, None)?;
    publishers.check()?;
    let published = publishers.published();
    publishers.finish()?;
    Ok(published)
}

#[test]
fn a_faithful_stream_passes_and_everything_is_counted() {
    for (in_flight, connections) in [(1, 1), (256, 1), (1000, 1), (1, 4), (10, 3)] {
        let expected = (1200 + 60 * connections) as u64;
        assert_eq!(run(Damage::None, in_flight, connections).unwrap(), expected, "{in_flight} {connections}");
    }
}

#[test]
fn every_damage_fails_the_run_and_is_named() {
    for (damage, text) in [
        (Damage::OtherSequence, "the acknowledged sequence must be 1000, but the server says 1001"),
        (Damage::OtherStream, "expected an acknowledgement of Some(\"BENCH\"), but \"OTHER\" came"),
        (Damage::Unasked, "an answer that is not due came on _INBOX"),
        (Damage::Repeat, "an answer that is not due came on _INBOX"),
        (Damage::Refuse, "expected an acknowledgement, but \"{\\\"error\\\":{\\\"code\\\":503}"),
        (Damage::Duplicate, "\\\"duplicate\\\": true}\" came"),
        (Damage::Forget, "the number of messages must be 1200, but the server says 1199"),
        (Damage::FlipByte, "message 999 has changed bytes"),
        (Damage::Swap, "the message read back must be 998, but the server says 999"),
    ] {
        for in_flight in [1, 100] {
            let error = run(damage, in_flight, 1).unwrap_err();
            assert!(error.to_string().contains(text), "{damage:?}: {error}");
            assert_eq!(error.exit_code(), 1);
        }
    }
}

#[test]
fn publishers_that_share_a_stream_never_get_one_sequence_twice() {
    // With several publishers no sequence is known in advance: two messages with one sequence are seen by the ledger.
    let error = run(Damage::OtherSequence, 10, 4).unwrap_err();
    assert!(error.to_string().contains("sequence 1001 was acknowledged twice"), "{error}");
    assert_eq!(error.exit_code(), 1);
}
