//! What a stream's consumers cost while one of them, or none, has something to do:
//! `cargo run --release -p sonata-jetstream --example consumers`.
//!
//! A stream in memory with durable pull consumers: each with a filter subject of its own (`orders.<n>`), or all without
//! one. *made*: per consumer. *stored*: per message, on all subjects in turn, while nobody waits. *acknowledged*: per
//! message of one consumer, with a turn and a look at the timers after each, as a client has that answers one by one.
//! *fetched*: per request of one consumer for one message, with the same. *turn*: one that finds nothing. *removed*: per
//! message, by a limit that each one stored exceeds.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "this is what was asked for")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use sonata_jetstream::account::Usage;
use sonata_jetstream::ack;
use sonata_jetstream::api::request::{ConfigureStream, CreateConsumer};
use sonata_jetstream::config::Limits;
use sonata_jetstream::json::{self, Mode};
use sonata_jetstream::outgoing::{Outgoing, Publish, Uniform};
use sonata_jetstream::stream::{Commit, Incoming, Machine, Parts};
use sonata_store::Store;

/// 2026-01-01T00:00:00Z, and it stays that.
const NOW: i64 = 1_767_225_600_000_000_000;

const STORED: usize = 20_000;
const ACKNOWLEDGED: usize = 10_000;
const TURNS: usize = 1000;

/// Keeps the reply subjects of what is delivered.
#[derive(Default)]
struct Said(Vec<Vec<u8>>);

impl Publish for Said {
    fn publish(&mut self, message: Outgoing<'_>) {
        if !message.reply.is_empty() {
            self.0.push(message.reply.to_vec());
        }
    }
}

fn stream(limits: &str) -> Machine {
    let config = format!(r#"{{"name":"S","subjects":["orders.>"],"storage":"memory"{limits}}}"#);
    let said = ConfigureStream::parse(config.as_bytes(), Mode::Strict).unwrap();
    let parts = Parts {
        lane: 1,
        domain: "".into(),
        account: "A".into(),
        config: said.config.create(&Limits::default(), false).unwrap(),
        created: NOW,
        store: Store::memory(1),
        commit: Commit::Memory,
        interest: Arc::new(Uniform(true)),
        seed: 1,
        usage: Usage::new(-1, -1, None),
    };
    Machine::new(parts).unwrap()
}

fn create(machine: &mut Machine, number: usize, filtered: bool, said: &mut Said) {
    let filter = if filtered { format!(r#","filter_subject":"orders.{number}""#) } else { String::new() };
    let request = format!(
        r#"{{"stream_name":"S","config":{{"durable_name":"c{number}","ack_policy":"explicit","max_ack_pending":-1{filter}}}}}"#
    );
    let request: CreateConsumer = json::decode(request.as_bytes(), Mode::Strict).unwrap();
    machine
        .request_consumer(request.config, request.action, false, &Limits::default(), b"", NOW, said)
        .unwrap();
}

fn publish(machine: &mut Machine, subject: &[u8], said: &mut Said) {
    machine.receive(Incoming { subject, reply: b"", headers: b"", payload: b"payload" }, NOW, said);
    if machine.take_turn_wish() {
        turn(machine, said);
    }
}

/// A turn, and what the server does after each.
fn turn(machine: &mut Machine, said: &mut Said) {
    black_box(machine.turn(true, NOW, said));
    black_box(machine.next_timer(NOW));
}

fn per(start: Instant, count: usize) -> f64 {
    start.elapsed().as_nanos() as f64 / count as f64
}

fn measure(consumers: usize, filtered: bool) -> String {
    let mut said = Said::default();
    let made = |limits: &str, said: &mut Said| {
        let mut machine = stream(limits);
        (0..consumers).for_each(|number| create(&mut machine, number, filtered, said));
        turn(&mut machine, said);
        machine
    };
    let start = Instant::now();
    let mut machine = made("", &mut said);
    let created = per(start, consumers);

    let subjects: Vec<String> = (0..consumers).map(|number| format!("orders.{number}")).collect();
    let in_turn = |machine: &mut Machine, said: &mut Said| {
        let start = Instant::now();
        for at in 0..STORED {
            publish(machine, subjects[at % consumers].as_bytes(), said);
        }
        per(start, STORED)
    };
    let stored = in_turn(&mut machine, &mut said);

    (0..ACKNOWLEDGED).for_each(|_| publish(&mut machine, b"orders.0", &mut said));
    said.0.clear();
    let batch = format!(r#"{{"batch":{ACKNOWLEDGED},"expires":60000000000}}"#);
    machine.pull("c0", b"inbox", batch.as_bytes(), NOW, &mut said);
    while said.0.len() < ACKNOWLEDGED {
        turn(&mut machine, &mut said);
    }
    let replies = std::mem::take(&mut said.0);
    let start = Instant::now();
    for reply in &replies {
        let delivery = ack::parse(reply).unwrap();
        machine.acknowledge("c0", &delivery, b"+ACK", None, NOW, &mut said);
        turn(&mut machine, &mut said);
    }
    let acknowledged = per(start, ACKNOWLEDGED);

    (0..ACKNOWLEDGED).for_each(|_| publish(&mut machine, b"orders.0", &mut said));
    let start = Instant::now();
    for _ in 0..ACKNOWLEDGED {
        machine.pull("c0", b"inbox", br#"{"batch":1,"expires":60000000000}"#, NOW, &mut said);
        turn(&mut machine, &mut said);
    }
    let fetched = per(start, ACKNOWLEDGED);
    assert_eq!(said.0.len(), ACKNOWLEDGED);

    let start = Instant::now();
    (0..TURNS).for_each(|_| turn(&mut machine, &mut said));
    let idle = per(start, TURNS);

    let mut machine = made(r#","max_msgs":1"#, &mut said);
    let removed = in_turn(&mut machine, &mut said) - stored;

    let filters = if filtered { "a filter each" } else { "no filter" };
    format!(
        "{consumers:>6} consumers, {filters:<13}: made {created:.0}, stored {stored:.0}, acknowledged {acknowledged:.0}, \
         fetched {fetched:.0}, turn {idle:.0}, removed {removed:.0} ns"
    )
}

fn main() {
    // The first one pays for what all use.
    measure(1, true);
    for filtered in [true, false] {
        for consumers in [1, 100, 10_000] {
            println!("{}", measure(consumers, filtered));
        }
    }
}
