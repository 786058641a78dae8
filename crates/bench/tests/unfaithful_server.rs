//! Flows against a small server in this process that can be told to damage what it delivers: a faithful one must pass,
//! and every damage must end the run with a failed check.

#![allow(clippy::unwrap_used, reason = "a test server may fall over, the test then fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sonata_bench::connection::Address;
use sonata_bench::error::BenchError;
use sonata_bench::flow::{FlowPlan, Flows};
use sonata_bench::frame::Subjects;
use sonata_bench::paced::PacedFlow;
use sonata_bench::request::{Exchange, Inbox};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Damage {
    None,
    Lose,
    Repeat,
    Swap,
    FlipByte,
    CutShort,
    WrongSubject,
    WrongSid,
    Refuse,
    Close,
}

/// Delivers every message to all subscribers whose subject is equal or has a wildcard, except that the message with
/// this number is damaged.
const DAMAGED: u64 = 1000;

struct Subscription {
    subject: String,
    sid: String,
    stream: Arc<Mutex<TcpStream>>,
    queue: bool,
}

struct Relay {
    damage: Damage,
    subscriptions: Mutex<Vec<Subscription>>,
    routed: AtomicU64,
    held: Mutex<Vec<u8>>,
}

fn start(damage: Damage) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket: SocketAddr = listener.local_addr().unwrap();
    let subscriptions = Mutex::default();
    let relay = Arc::new(Relay { damage, subscriptions, routed: AtomicU64::new(0), held: Mutex::default() });
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let relay = Arc::clone(&relay);
            // A client that ends its run mid-stream ends the thread with an error, as it should.
            thread::spawn(move || relay.serve(stream));
        }
    });
    Address { socket, tls: None }
}

impl Relay {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.write_all(b"INFO {}\r\n")?;
        let mut input = BufReader::with_capacity(1 << 16, stream.try_clone()?);
        let output = Arc::new(Mutex::new(stream));
        let mut line = String::new();
        while input.read_line(&mut line)? > 0 {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words.as_slice() {
                ["PING"] => output.lock().unwrap().write_all(b"PONG\r\n")?,
                ["SUB", subject, rest @ ..] => self.subscriptions.lock().unwrap().push(Subscription {
                    subject: subject.to_string(),
                    sid: rest[rest.len() - 1].to_owned(),
                    stream: Arc::clone(&output),
                    queue: rest.len() == 2,
                }),
                ["UNSUB", sid] => {
                    let is_meant = |s: &Subscription| s.sid == *sid && Arc::ptr_eq(&s.stream, &output);
                    self.subscriptions.lock().unwrap().retain(|s| !is_meant(s));
                }
                ["PUB", subject, reply @ .., size] => {
                    let mut payload = vec![0; size.parse::<usize>().unwrap() + 2];
                    input.read_exact(&mut payload)?;
                    self.route(subject, reply.first().copied(), payload)?;
                }
                _ => {}
            }
            line.clear();
        }
        Ok(())
    }

    fn route(&self, subject: &str, reply: Option<&str>, mut payload: Vec<u8>) -> std::io::Result<()> {
        let number = self.routed.fetch_add(1, Ordering::SeqCst);
        let damage = if number == DAMAGED { self.damage } else { Damage::None };
        if damage == Damage::FlipByte {
            let middle = payload.len() / 2;
            payload[middle] ^= 0x40;
        }
        if damage == Damage::CutShort {
            payload.drain(..1);
        }
        let size = payload.len() - 2;
        let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
        let mut subscriptions = self.subscriptions.lock().unwrap();
        let matching = |s: &&mut Subscription| s.subject == subject || s.subject.contains('*');
        for subscription in subscriptions.iter_mut().filter(matching) {
            let subject = if damage == Damage::WrongSubject { "bench.other" } else { subject };
            let sid = if damage == Damage::WrongSid { "77" } else { &subscription.sid };
            let mut frame = format!("MSG {subject} {sid} {reply}{size}\r\n").into_bytes();
            frame.extend_from_slice(&payload);
            let mut stream = subscription.stream.lock().unwrap();
            match damage {
                Damage::Lose => {}
                Damage::Repeat => stream.write_all(&frame.repeat(2))?,
                // Comes after the next one.
                Damage::Swap => self.held.lock().unwrap().extend_from_slice(&frame),
                Damage::Refuse => stream.write_all(b"-ERR 'Permissions Violation'\r\n")?,
                Damage::Close => stream.shutdown(std::net::Shutdown::Both)?,
                _ => {
                    frame.append(&mut self.held.lock().unwrap());
                    stream.write_all(&frame)?;
                }
            }
            if subscription.queue {
                break;
            }
        }
        // The members of a queue group take turns.
        if !subscriptions.is_empty() {
            subscriptions.rotate_left(1);
        }
        Ok(())
    }
}

fn run(damage: Damage, plan: FlowPlan, threads: usize) -> Result<(u64, u64), BenchError> {
    let mut flows = Flows::open(&start(damage), &[plan], 100, threads)?;
    let first = flows.run(Duration::from_millis(60))?;
    let second = flows.run(Duration::from_millis(60))?;
    flows.finish()?;
    Ok((first.published + second.published, first.delivered + second.delivered))
}

fn wildcard() -> FlowPlan {
    let subjects = Subjects::cycle(100, |index| format!("a.{index}.x"));
    FlowPlan { subjects, ..FlowPlan::fan_out("a.*.x", 1) }
}

fn queue() -> FlowPlan {
    FlowPlan { queue: Some("workers"), ..FlowPlan::fan_out("bench.subject", 3) }
}

#[test]
fn a_faithful_server_passes_and_everything_is_counted() {
    for threads in [1, 2] {
        for (plan, receivers) in [
            (FlowPlan::fan_out("bench.subject", 1), 1),
            (FlowPlan::fan_out("bench.subject", 3), 3),
            (wildcard(), 1),
            (queue(), 1),
        ] {
            let (published, delivered) = run(Damage::None, plan, threads).unwrap();
            assert!(published > DAMAGED, "{published} messages are too few for the other tests");
            assert_eq!(delivered, published * receivers);
        }
        let (published, delivered) =
            run(Damage::None, FlowPlan::fan_out("bench.subject", 0), threads).unwrap();
        assert!(published > DAMAGED && delivered == 0);
    }
}

#[test]
fn every_damage_fails_the_run_and_is_named() {
    for (damage, text) in [
        (Damage::Lose, "message 1000 is missing (lost or overtaken): 1001 came instead"),
        (Damage::Repeat, "message 1000 came again or late, where 1001 was due"),
        (Damage::Swap, "message 1000 is missing (lost or overtaken): 1001 came instead"),
        (Damage::FlipByte, "message 1000 has changed bytes"),
        (
            Damage::CutShort,
            "message 1000 should begin with \"MSG bench.subject 1 100\", but \"MSG bench.subject 1 99\" came",
        ),
        (
            Damage::WrongSubject,
            "message 1000 should begin with \"MSG bench.subject 1 100\", but \"MSG bench.other 1 100\" came",
        ),
        (
            Damage::WrongSid,
            "message 1000 should begin with \"MSG bench.subject 1 100\", but \"MSG bench.subject 77 100\" came",
        ),
        (Damage::Refuse, "the server says -ERR 'Permissions Violation'"),
    ] {
        for threads in [1, 2] {
            let error = run(damage, FlowPlan::fan_out("bench.subject", 1), threads).unwrap_err();
            assert_eq!(error.to_string(), format!("CHECK FAILED on receiver 0 of publisher 0: {text}"));
            assert_eq!(error.exit_code(), 1);
        }
    }
}

#[test]
fn a_server_that_hangs_up_fails_the_run() {
    let error = run(Damage::Close, FlowPlan::fan_out("bench.subject", 1), 1).unwrap_err();
    // The publisher may see it first: this server cannot go on without its subscriber.
    assert!(error.to_string().ends_with(": the server closed the connection"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn a_queue_group_that_gets_a_message_twice_fails() {
    let error = run(Damage::Repeat, queue(), 1).unwrap_err().to_string();
    assert!(error.contains("message 1000 came again or late"), "{error}");
}

#[test]
fn requests_are_answered_and_checked() {
    for inbox in [Inbox::Kept, Inbox::Fresh] {
        let mut exchange = Exchange::open(&start(Damage::None), 64, inbox).unwrap();
        let latencies = exchange.run_until(std::time::Instant::now() + Duration::from_millis(100)).unwrap();
        assert!(latencies.count() > 10);
        exchange.finish().unwrap();
        // Request 500 is the message number 1000.
        let mut exchange = Exchange::open(&start(Damage::FlipByte), 64, inbox).unwrap();
        let error = exchange.run_until(std::time::Instant::now() + Duration::from_secs(20)).unwrap_err();
        assert_eq!(error.to_string(), "CHECK FAILED on responder: message 500 has changed bytes");
    }
}

#[test]
fn a_paced_flow_keeps_its_rate_and_is_checked() {
    const RATE: u32 = 5000;
    let mut flow = PacedFlow::open(&start(Damage::None), 64, RATE).unwrap();
    let latencies = flow.run(Duration::from_millis(200)).unwrap();
    // Exactly what was due, unless the very last message was due after the loop last looked.
    assert!((900..=1001).contains(&latencies.count()), "{}", latencies.count());
    flow.finish().unwrap();
    let mut flow = PacedFlow::open(&start(Damage::Lose), 64, RATE).unwrap();
    let error = flow.run(Duration::from_millis(400)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "CHECK FAILED on receiver: message 1000 is missing (lost or overtaken): 1001 came instead"
    );
}
