//! How many batches may be open, and how large one may be.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use world::World;

const CONFIG: &str = r#"{"name":"S","subjects":["a"],"allow_atomic":true,"allow_batched":true}"#;

/// What is answered to a message of an atomic batch.
fn add(world: &mut World, id: &str, sequence: usize, commit: &str, payload: &str) -> String {
    let mut headers = vec![format!("Nats-Batch-Id: {id}"), format!("Nats-Batch-Sequence: {sequence}")];
    if !commit.is_empty() {
        headers.push(format!("Nats-Batch-Commit: {commit}"));
    }
    world.publish("a", "r", &headers, payload);
    world.commit_all();
    world.take_said().into_iter().filter(|said| said.subject == "r").map(|said| said.payload).collect()
}

#[test]
fn a_stream_has_few_open_batches() {
    let mut world = World::new(CONFIG);
    for id in 0..50 {
        assert_eq!(add(&mut world, &id.to_string(), 1, "", ""), "");
    }
    assert!(add(&mut world, "more", 1, "", "").contains("10210"));
    assert!(add(&mut world, "0", 2, "1", "").contains(r#""count":2"#));
    assert_eq!(add(&mut world, "more", 1, "", ""), "");
    world.wait(10_000_000_000);
    for id in 0..50 {
        assert_eq!(add(&mut world, &id.to_string(), 1, "", ""), "");
    }
}

#[test]
fn a_stream_has_few_open_fast_batches() {
    let mut world = World::new(CONFIG);
    for id in 0..=1000 {
        world.publish("a", &format!("r.{id}.10.ok.1.0.$FI"), &[], "");
    }
    let refused: Vec<_> =
        world.take_said().into_iter().filter(|said| said.payload.contains("10211")).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].subject, "r.1000.10.ok.1.0.$FI");
}

#[test]
fn a_batch_has_a_thousand_messages() {
    let mut world = World::new(CONFIG);
    for sequence in 1..=1000 {
        assert_eq!(add(&mut world, "b", sequence, "", ""), "");
    }
    assert!(add(&mut world, "b", 1001, "eob", "").contains(r#""count":1000"#));
    for sequence in 1..=1000 {
        add(&mut world, "b", sequence, "", "");
    }
    assert!(add(&mut world, "b", 1001, "1", "").contains("10199"));
    assert!(add(&mut world, "b", 1001, "eob", "").contains("10176"), "nothing is left of it");
    assert_eq!(world.messages().len(), 1000);
}

#[test]
fn a_batch_fits_into_a_record() {
    let mut world = World::new(CONFIG);
    let payload = "x".repeat(8 << 20);
    let answers: Vec<String> = (1..=6).map(|sequence| add(&mut world, "b", sequence, "", &payload)).collect();
    assert_eq!(answers[..5].concat(), "");
    assert!(answers[5].contains("10023"), "{}", answers[5]);
    assert!(add(&mut world, "b", 7, "1", "").contains("10176"), "nothing is left of it");
}
