//! Messages that are damaged on the disk, and consumers that come to them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use sonata_jetstream::api::request::CreateConsumer;
use sonata_jetstream::config::Limits;
use sonata_jetstream::json::{self, Mode};

use world::World;

const MESSAGES: u64 = 300;

/// What gets smaller, but not much.
fn noise(number: u64) -> String {
    let mut state = number + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + (state >> 58) as u8)
    };
    (0..500).map(|_| next()).chain("x".repeat(500).chars()).collect()
}

/// A consumer was sent to the disk for ever for a block that could not be read, and counted what was lost as pending.
#[test]
fn a_consumer_passes_over_what_is_lost() {
    let mut world = World::new(r#"{"name":"S","subjects":["a.*"]}"#);
    // So that a block is whole or not to be read at all.
    world.options.compression = true;
    world.restart(0);
    for number in 0..MESSAGES {
        world.publish(&format!("a.{}", number % 2), "", &[], &noise(number));
    }
    world.commit_all();
    world.checkpoint();
    world.restart(world.committed());
    let segment = world.disk.files().into_iter().find(|name| name.ends_with(".seg")).unwrap();
    // In the middle: before and behind it there are others.
    world.disk.rot(&segment, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 2000].fill(0xff);
    });
    for (name, filter) in [("all", ">"), ("half", "a.1")] {
        let config = format!(
            r#"{{"stream_name":"S","config":{{"durable_name":"{name}","filter_subject":"{filter}","ack_policy":"explicit"}}}}"#
        );
        let request: CreateConsumer = json::decode(config.as_bytes(), Mode::Strict).unwrap();
        let World { machine, now, said, .. } = &mut world;
        let limits = Limits::default();
        machine.request_consumer(request.config, request.action, false, &limits, b"", *now, said).unwrap();
        world.commit_all();
        let World { machine, now, said, .. } = &mut world;
        assert!(machine.pull(name, b"inbox", br#"{"batch":1000}"#, *now, said));
    }
    world.take_said();
    world.settle();
    let lost = world.machine.store().state().lost.messages;
    assert!((1..MESSAGES / 2).contains(&lost), "{lost} are lost");
    let delivered = world.take_said().iter().filter(|said| said.reply.starts_with("$JS.ACK.S.all.")).count();
    assert_eq!(delivered as u64 + lost, MESSAGES);
    for name in ["all", "half"] {
        let info = world.machine.consumer_info(name, world.now, &mut world.said).unwrap();
        assert_eq!(info.num_pending, 0, "{name}");
    }
}
