//! Counters that add up those of other streams.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use sonata_jetstream::header;
use world::World;

fn count(world: &mut World, subject: &str, increment: i64) {
    world.publish(subject, "r", &[format!("Nats-Incr: {increment}")], "");
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
    target.follow(&mut [&mut one, &mut two]);
    count(&mut target, "c.a", -10);
    target.commit_all();
    target.restart(target.committed());
    count(&mut target, "c.a", 1000);
    target.commit_all();
    let stored: Vec<String> = target
        .messages()
        .iter()
        .map(|message| {
            let said = |name| header::get_str(&message.headers, name).unwrap_or("-");
            let payload = String::from_utf8_lossy(&message.payload);
            let subject = String::from_utf8_lossy(&message.subject);
            format!("{subject} {} {} {payload}", said("Nats-Incr"), said("Nats-Counter-Sources"))
        })
        .collect();
    assert_eq!(
        stored,
        [
            r#"c.a 2 - {"val":"2"}"#,
            r#"c.a 5 {"ONE":{"one.a":"5"}} {"val":"7"}"#,
            r#"c.a 3 {"ONE":{"one.a":"8"}} {"val":"10"}"#,
            r#"c.a 100 {"ONE":{"one.a":"8"},"TWO":{"two.a":"100"}} {"val":"110"}"#,
            r#"c.a -1 {"ONE":{"one.a":"8"},"TWO":{"two.a":"99"}} {"val":"109"}"#,
            r#"c.b 7 {"TWO":{"two.b":"7"}} {"val":"7"}"#,
            r#"c.a -10 {"ONE":{"one.a":"8"},"TWO":{"two.a":"99"}} {"val":"99"}"#,
            r#"c.a 1000 {"ONE":{"one.a":"8"},"TWO":{"two.a":"99"}} {"val":"1099"}"#,
        ]
    );
}
