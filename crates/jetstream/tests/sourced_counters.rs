//! Counters that add up those of other streams.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use world::World;

fn count(world: &mut World, subject: &str, increment: i64) {
    world.publish(subject, "r", &[format!("Nats-Incr: {increment}")], "");
}

/// The target takes what the origins have.
fn follow(target: &mut World, origins: &mut [&mut World]) {
    for want in target.machine.wants() {
        let origin = origins.iter_mut().find(|origin| *origin.machine.config().name == *want.name).unwrap();
        let portion = origin.machine.read_for(&want).unwrap();
        target.machine.take(&want, portion, target.now, &mut target.said);
    }
}

#[test]
fn sums_of_sources_are_added_once() {
    let mut one = World::new(r#"{"name":"ONE","subjects":["one.>"],"allow_msg_counter":true}"#);
    let mut two = World::new(r#"{"name":"TWO","subjects":["two.>"],"allow_msg_counter":true}"#);
    let mut target = World::new(
        r#"{"name":"T","subjects":["c.>"],"allow_msg_counter":true,"sources":[
            {"name":"ONE","subject_transforms":[{"src":"one.>","dest":"c.>"}]},
            {"name":"TWO","subject_transforms":[{"src":"two.>","dest":"c.>"}]}]}"#,
    );
    count(&mut target, "c.a", 2);
    count(&mut one, "one.a", 5);
    count(&mut one, "one.a", 3);
    one.commit_all();
    count(&mut two, "two.a", 100);
    count(&mut two, "two.a", -1);
    count(&mut two, "two.b", 7);
    two.commit_all();
    // Nothing of this is stored yet when the next step is counted.
    follow(&mut target, &mut [&mut one, &mut two]);
    count(&mut target, "c.a", -10);
    target.commit_all();
    target.restart(target.committed());
    count(&mut target, "c.a", 1000);
    target.commit_all();
    let stored: Vec<String> = target
        .messages()
        .iter()
        .map(|message| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().replace("\r\n", " | ");
            [text(&message.subject), text(&message.headers), text(&message.payload)].join(" ")
        })
        .collect();
    assert_eq!(
        stored,
        [
            r#"c.a NATS/1.0 | Nats-Incr: 2 {"val":"2"}"#,
            r#"c.a NATS/1.0 | Nats-Incr: 5 | Nats-Stream-Source: ONE 1 one.> c.> one.a | Nats-Counter-Sources: {"ONE":{"one.a":"5"}} {"val":"7"}"#,
            r#"c.a NATS/1.0 | Nats-Incr: 3 | Nats-Stream-Source: ONE 2 one.> c.> one.a | Nats-Counter-Sources: {"ONE":{"one.a":"8"}} {"val":"10"}"#,
            r#"c.a NATS/1.0 | Nats-Incr: 100 | Nats-Stream-Source: TWO 1 two.> c.> two.a | Nats-Counter-Sources: {"ONE":{"one.a":"8"},"TWO":{"two.a":"100"}} {"val":"110"}"#,
            r#"c.a NATS/1.0 | Nats-Incr: -1 | Nats-Stream-Source: TWO 2 two.> c.> two.a | Nats-Counter-Sources: {"ONE":{"one.a":"8"},"TWO":{"two.a":"99"}} {"val":"109"}"#,
            r#"c.b NATS/1.0 | Nats-Incr: 7 | Nats-Stream-Source: TWO 3 two.> c.> two.b | Nats-Counter-Sources: {"TWO":{"two.b":"7"}} {"val":"7"}"#,
            r#"c.a NATS/1.0 | Nats-Incr: -10 | Nats-Counter-Sources: {"ONE":{"one.a":"8"},"TWO":{"two.a":"99"}} {"val":"99"}"#,
            r#"c.a NATS/1.0 | Nats-Incr: 1000 | Nats-Counter-Sources: {"ONE":{"one.a":"8"},"TWO":{"two.a":"99"}} {"val":"1099"}"#,
        ]
    );
}
