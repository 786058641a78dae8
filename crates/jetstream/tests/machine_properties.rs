//! Counters, batches and schedules under a log that commits when it likes and is cut anywhere, beside naive models.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use sonata_jetstream::schedule::Schedule;
use sonata_jetstream::timestamp::Timestamp;

use world::{START, World};

const SECOND: i64 = 1_000_000_000;

/// What happens to the world.
#[derive(Clone, Debug)]
enum Event {
    Count {
        subject: u8,
        by: i32,
    },
    /// Added to batch `id`; with a commit or without.
    Batch {
        id: u8,
        subject: u8,
        by: i32,
        commits: bool,
    },
    Commit(usize),
    Fail,
    Checkpoint,
    /// What is left of the uncommitted records, in hundredths.
    Restart(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3_u8, any::<i32>()).prop_map(|(subject, by)| Event::Count { subject, by }),
        6 => (0..2_u8, 0..3_u8, any::<i32>(), any::<bool>())
            .prop_map(|(id, subject, by, commits)| Event::Batch { id, subject, by, commits }),
        4 => (1..4_usize).prop_map(Event::Commit),
        1 => Just(Event::Fail),
        1 => Just(Event::Checkpoint),
        1 => (0..=100_usize).prop_map(Event::Restart),
    ]
}

/// The value of a stored counter is the sum of the increments stored up to it, and a batch is there as a whole or not at all.
fn check_stored(world: &mut World) {
    let mut sums: BTreeMap<Vec<u8>, i128> = BTreeMap::new();
    let mut batches: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for message in world.messages() {
        let header = |name| sonata_jetstream::header::get_str(&message.headers, name);
        let sum = sums.entry(message.subject.to_vec()).or_default();
        *sum += header("Nats-Incr").unwrap().parse::<i128>().unwrap();
        assert_eq!(*message.payload, *format!("{{\"val\":\"{sum}\"}}").as_bytes());
        if let Some(batch) = header("Nats-Batch-Id") {
            let place: u64 = header("Nats-Batch-Sequence").unwrap().parse().unwrap();
            let places = batches.entry(batch.to_owned()).or_default();
            if place == 1 {
                places.clear();
            }
            assert_eq!(places.len() as u64 + 1, place, "batch {batch} has a hole");
            places.push(message.sequence);
            assert_eq!(places[0] + place - 1, message.sequence, "something is within batch {batch}");
            if header("Nats-Batch-Commit").is_some() {
                batches.remove(batch);
            }
        }
    }
    assert!(batches.is_empty(), "batches without their end: {batches:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn counters_add_up_and_batches_are_whole(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::new(r#"{"name":"S","subjects":["c.>"],"allow_msg_counter":true,"allow_atomic":true}"#);
        // What batches have come to since their ids were used last.
        let mut places: BTreeMap<u8, u64> = BTreeMap::new();
        let mut acknowledged = 0;
        for event in events {
            match event {
                Event::Count { subject, by } => {
                    world.publish(&format!("c.{subject}"), "r", &[format!("Nats-Incr: {by}")], "");
                }
                Event::Batch { id, subject, by, commits } => {
                    let place = places.entry(id).or_default();
                    *place += 1;
                    let mut headers = vec![
                        format!("Nats-Incr: {by}"),
                        format!("Nats-Batch-Id: {id}"),
                        format!("Nats-Batch-Sequence: {place}"),
                    ];
                    if commits {
                        headers.push("Nats-Batch-Commit: 1".to_owned());
                        places.remove(&id);
                    }
                    world.publish(&format!("c.{subject}"), "r", &headers, "");
                }
                Event::Commit(count) => world.commit(count),
                Event::Fail => {
                    world.fail();
                    world.resume();
                }
                Event::Checkpoint => world.checkpoint(),
                Event::Restart(hundredths) => {
                    let (committed, appended) = (world.committed(), world.log.len());
                    world.restart(committed + (appended - committed) * hundredths / 100);
                    places.clear();
                }
            }
            let said = world.take_said();
            let last = said.iter().filter_map(|said| said.payload.split("\"seq\":").nth(1)?.split(',').next()?.trim_end_matches('}').parse::<u64>().ok());
            acknowledged = last.max().unwrap_or(0).max(acknowledged);
            check_stored(&mut world);
            prop_assert!(world.messages().len() as u64 >= acknowledged, "what was acknowledged is gone");
        }
        world.commit_all();
        check_stored(&mut world);
    }

    #[test]
    fn schedules_fire_when_they_are_due(
        pattern in prop_oneof![
            (1..200_i64).prop_map(|seconds| format!("@every {seconds}s")),
            (0..300_i64).prop_map(|seconds| format!("@at {}", Timestamp(START + seconds * SECOND))),
            (0..60_u8).prop_map(|second| format!("{second} * * * * *")),
            (0..10_u8).prop_map(|minute| format!("30 */{} * * * *", minute + 1)),
        ],
        stored_after in 0..1000_i64,
        // Seconds that pass, and whether the server is down meanwhile.
        pauses in prop::collection::vec((1..150_i64, any::<bool>()), 1..12),
    ) {
        let mut world = World::new(r#"{"name":"S","subjects":["s","t"],"allow_msg_schedules":true}"#);
        world.wait(stored_after * SECOND / 10);
        let schedule = Schedule::parse(pattern.as_bytes(), None).unwrap();
        let headers = [format!("Nats-Schedule: {pattern}"), "Nats-Schedule-Target: t".to_owned()];
        world.publish("s", "", &headers, "x");
        world.commit_all();
        let mut due = schedule.next(Timestamp(world.now), Timestamp(world.now));
        let mut expected = Vec::new();
        for (seconds, is_down) in pauses {
            if is_down {
                world.now += seconds * SECOND;
                world.checkpoint();
                world.restart(world.committed());
                world.wait(0);
            } else {
                world.wait(seconds * SECOND);
            }
            // Naively: whenever it is due and the server is up, it fires, and is due again after that.
            while let Some(at) = due.filter(|due| due.0 <= world.now) {
                let fired = if is_down { world.now } else { at.0.max(START + stored_after * SECOND / 10) };
                expected.push(fired);
                due = schedule.next(at, Timestamp(fired)).filter(|_| schedule.is_repeating());
            }
        }
        let messages = world.messages();
        let fired: Vec<i64> =
            messages.iter().filter(|message| *message.subject == *b"t").map(|message| message.timestamp).collect();
        prop_assert_eq!(fired, expected);
        let is_there = messages.iter().any(|message| *message.subject == *b"s");
        prop_assert_eq!(is_there, due.is_some(), "a schedule is there as long as it is due");
    }
}
