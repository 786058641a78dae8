//! A message that was deleted is not to be found in the files, unless the request says that it may.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use sonata_jetstream::api::request::DeleteMessage;
use world::World;

const SECRET: &str = "nobody should read this";

fn shows(world: &World) -> bool {
    let holds =
        |name: &String| world.disk.read(name).windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    world.disk.files().iter().any(holds)
}

#[test]
fn a_deleted_message_is_overwritten_unless_no_erase() {
    // The server may die before a checkpoint has the deletion; then the log tells it again.
    for (no_erase, told_again) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut world = World::new(r#"{"name":"S","subjects":["a"]}"#);
        for payload in ["first", SECRET, "third"] {
            world.publish("a", "", &[], payload);
        }
        world.commit_all();
        world.checkpoint();
        assert!(shows(&world));
        let World { machine, now, said, .. } = &mut world;
        machine.request_delete(&DeleteMessage { seq: 2, no_erase }, b"r", *now, said).unwrap();
        world.commit_all();
        if told_again {
            world.restart(world.committed());
        }
        // The checkpoint must not come before what it has to wait for, and the restart tells nothing again.
        while world.machine.store().erasure_waits() {
            world.checkpoint();
            while let Some(work) = world.machine.store_work() {
                world.machine.finish_work(work.run()).unwrap();
            }
        }
        assert_eq!(shows(&world), no_erase, "told again: {told_again}");
        world.restart(world.committed());
        let payloads: Vec<_> = world.messages().into_iter().map(|message| message.payload).collect();
        assert_eq!(payloads, ["first", "third"]);
    }
}
