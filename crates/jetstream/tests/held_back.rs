//! What a stream has no place for is held back with its origin and tried again: nothing is lost, nothing comes twice,
//! nothing comes before what it was stored behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use world::World;

const SECOND: i64 = 1_000_000_000;

/// An origin that has five messages, `1` to `5`.
fn origin() -> World {
    let mut origin = World::new(r#"{"name":"O","subjects":["o.>"]}"#);
    for number in 1..=5 {
        origin.publish(&format!("o.{}", number % 2), "", &[], &number.to_string());
    }
    origin.commit_all();
    origin
}

fn payloads(world: &mut World) -> Vec<String> {
    let text = |message: sonata_store::Message| String::from_utf8_lossy(&message.payload).into_owned();
    world.messages().into_iter().map(text).collect()
}

/// The stream takes what it can now.
fn follow(target: &mut World, origin: &mut World) {
    for _ in 0..10 {
        target.follow(&mut [&mut *origin]);
        target.commit_all();
    }
}

/// Streams of this configuration have these messages at first, are told why no more, and have those once the first have
/// become too old.
fn check(config: &str, first: &[&str], why: &str, then: &[&str]) {
    for follows in [r#""sources":[{"name":"O"}]"#, r#""mirror":{"name":"O"}"#] {
        let mut origin = origin();
        let mut target = World::new(&format!(
            r#"{{"name":"T","max_age":100000000000,"duplicate_window":1000000000,{follows},{config}}}"#
        ));
        follow(&mut target, &mut origin);
        assert_eq!(payloads(&mut target), first, "{follows} {config}");
        let info = target.machine.info(target.now);
        let shown = info.sources.into_iter().chain(info.mirror).next().unwrap();
        let error = shown.error.map(|error| error.description.to_string()).unwrap_or_default();
        assert!(error.contains(why), "{error}");
        assert_eq!(shown.lag, 5 - first.len() as u64);
        assert!(target.machine.next_timer(target.now).unwrap() <= target.now + SECOND, "it is tried again");
        target.now += 101 * SECOND;
        target.machine.on_timer(target.now, &mut target.said);
        target.commit_all();
        follow(&mut target, &mut origin);
        assert_eq!(payloads(&mut target), then, "{follows} {config}");
    }
}

#[test]
fn by_a_stream_that_is_full() {
    check(r#""discard":"new","max_msgs":3"#, &["1", "2", "3"], "maximum messages exceeded", &["4", "5"]);
}

#[test]
fn by_a_stream_that_is_full_of_a_subject() {
    let config = r#""discard":"new","max_msgs_per_subject":1,"discard_new_per_subject":true"#;
    check(config, &["1", "2"], "maximum messages per subject exceeded", &["3", "4"]);
}

/// The header that says where a message comes from counts.
#[test]
fn by_a_stream_for_smaller_messages() {
    let mut origin = origin();
    let mut target = World::new(r#"{"name":"T","sources":[{"name":"O"}],"max_msg_size":20}"#);
    follow(&mut target, &mut origin);
    assert_eq!(payloads(&mut target), [""; 0]);
    assert_eq!(target.machine.info(target.now).sources[0].lag, 5);
}

/// A log that is full takes the beginning of a portion: the rest comes later, and the beginning not again.
#[test]
fn by_the_log() {
    for follows in [r#""sources":[{"name":"O"}]"#, r#""mirror":{"name":"O"}"#] {
        let mut origin = origin();
        let mut target = World::new(&format!(r#"{{"name":"T",{follows}}}"#));
        *target.log.room.lock() = Some(2);
        follow(&mut target, &mut origin);
        assert_eq!(payloads(&mut target), ["1", "2"]);
        *target.log.room.lock() = None;
        follow(&mut target, &mut origin);
        assert_eq!(payloads(&mut target), ["1", "2", "3", "4", "5"], "{follows}");
    }
}
