//! Streams as machines: transcripts of what is published to them and what they say, in `machine/*.txt`.
//!
//! `SONATA_UPDATE_TRANSCRIPTS=1` writes the files anew with what was really said; read the difference then.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::fs;
use std::path::Path;

use sonata_jetstream::ack;
use sonata_jetstream::api::request::CreateConsumer;
use sonata_jetstream::config::Limits;
use sonata_jetstream::json::{self, Mode};
use sonata_jetstream::outgoing::Haste;
use sonata_jetstream::timestamp::Timestamp;
use world::World;

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine").join(name);
    let transcript = fs::read_to_string(&path).unwrap();
    let played = World::play(&transcript);
    if std::env::var_os("SONATA_UPDATE_TRANSCRIPTS").is_some() {
        fs::write(path, played).unwrap();
        return;
    }
    for (at, (expected, said)) in transcript.lines().zip(played.lines()).enumerate() {
        assert_eq!(said, expected, "{name}, line {}", at + 1);
    }
    assert_eq!(played.lines().count(), transcript.lines().count(), "{name} is longer or shorter");
}

#[test]
fn counters() {
    check("counters.txt");
}

#[test]
fn atomic_batches() {
    check("atomic_batches.txt");
}

#[test]
fn fast_batches() {
    check("fast_batches.txt");
}

#[test]
fn schedules() {
    check("schedules.txt");
}

#[test]
fn lifetimes() {
    check("lifetimes.txt");
}

#[test]
fn corner_cases() {
    check("corner_cases.txt");
}

/// Deliveries and acknowledgements may be written a little later, unless somebody waits for it: the client, or the message that
/// goes by it.
#[test]
fn what_nobody_waits_for_is_written_soon_and_all_else_now() {
    for (retention, confirmed, expected) in
        [("limits", false, Haste::Soon), ("limits", true, Haste::Now), ("workqueue", false, Haste::Now)]
    {
        let mut world = World::new(&format!(
            r#"{{"name":"S","subjects":["a"],"storage":"file","retention":"{retention}"}}"#
        ));
        create(&mut world, r#""name":"C","durable_name":"C","ack_policy":"explicit""#);
        world.publish("a", "", &[], "one");
        assert_eq!(*world.log.haste.lock(), Some(Haste::Now));
        world.commit_all();
        let World { machine, now, said, .. } = &mut world;
        machine.pull("C", b"inbox", br#"{"batch":1,"expires":1000000000}"#, *now, said);
        machine.turn(true, *now, said);
        let delivered = world.take_said().into_iter().find(|message| message.payload == "one").unwrap();
        let delivery = ack::parse(delivered.reply.as_bytes()).unwrap();
        let World { machine, now, said, .. } = &mut world;
        machine.acknowledge("C", &delivery, b"+ACK", confirmed.then_some(b"done".as_slice()), *now, said);
        machine.turn(true, *now, said);
        assert_eq!(*world.log.haste.lock(), Some(expected), "{retention}, confirmed: {confirmed}");
        world.commit_all();
        let told = world.take_said().iter().any(|message| message.subject == "done");
        assert_eq!(told, confirmed);
        assert_eq!(world.messages().is_empty(), retention == "workqueue");
    }
}

fn create(world: &mut World, config: &str) {
    let request = format!(r#"{{"stream_name":"S","config":{{{config}}}}}"#);
    let request: CreateConsumer = json::decode(request.as_bytes(), Mode::Strict).unwrap();
    let World { machine, now, said, .. } = world;
    machine
        .request_consumer(request.config, request.action, false, &Limits::default(), b"r", *now, said)
        .unwrap();
    world.commit_all();
}

/// Timers are asked for after a turn, and time goes on between.
#[test]
fn what_becomes_due_right_after_a_turn_is_not_passed_over() {
    let mut world = World::new(r#"{"name":"S","subjects":["a"]}"#);
    create(&mut world, r#""durable_name":"C","ack_policy":"explicit""#);
    let until = world.now + 1000;
    let World { machine, now, said, .. } = &mut world;
    machine.pause_consumer("C", Timestamp(until), b"r", *now, said).unwrap();
    machine.pull("C", b"inbox", br#"{"batch":1}"#, *now, said);
    world.publish("a", "", &[], "one");
    world.settle();
    world.now = until + 1;
    assert_eq!(world.machine.next_timer(world.now), Some(until));
    world.wait(0);
    assert!(world.take_said().iter().any(|message| message.payload == "one"), "the pause is over");
}

/// A request without an end keeps a consumer only as long as its client is there, even if nothing else happens.
#[test]
fn a_consumer_goes_when_those_who_wait_have_gone_without_a_word() {
    const SECOND: i64 = 1_000_000_000;
    let mut world = World::new(r#"{"name":"S","subjects":["a"]}"#);
    create(&mut world, r#""name":"C","ack_policy":"explicit","inactive_threshold":5000000000"#);
    let World { machine, now, said, .. } = &mut world;
    machine.pull("C", b"inbox", br#"{"batch":1}"#, *now, said);
    world.settle();
    world.wait(12 * SECOND);
    assert_eq!(world.machine.consumer_names(), ["C"]);
    world.clients_go();
    world.wait(5 * SECOND);
    assert!(world.machine.consumer_names().is_empty());
}
