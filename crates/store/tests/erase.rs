//! Erased messages: their bytes are on the disk, and soon they are nowhere on it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;
mod watch;

use std::sync::Arc;

use model::{options, work};
use sonata_disk::Disk;
use sonata_disk::lying::{Call, Cause, Failure, Kind, Lying, Times};
use sonata_store::{Finished, NewMessage, Options, Store};
use watch::{CIPHERS, Watch, sealing};

const SECRET: &[u8] = b"nobody should read this";

/// What a journal would tell.
#[derive(Clone, Copy, Debug)]
enum Change {
    Append(u64),
    Remove(u64),
    Erase(u64),
}

/// Only the message of this sequence has the secret.
const ERASED: u64 = 17;

fn apply(store: &mut Store, change: Change) {
    match change {
        Change::Append(sequence) => {
            let payload = if sequence == ERASED { SECRET.to_vec() } else { vec![sequence as u8; 200] };
            let subject = b"a.b";
            let new = NewMessage { sequence, timestamp: 0, subject, headers: b"", payload: &payload };
            store.append(new).unwrap();
        }
        Change::Remove(sequence) => drop(store.remove(sequence).unwrap()),
        Change::Erase(sequence) => assert!(store.erase(sequence).unwrap().is_some()),
    }
}

fn shows(disk: &Lying) -> Vec<String> {
    let holds = |name: &String| disk.read(name).windows(SECRET.len()).any(|window| window == SECRET);
    disk.files().into_iter().filter(holds).collect()
}

/// What a server does for a checkpoint: whatever has to come first, and then the checkpoint.
fn checkpoint(store: &mut Store, position: usize) {
    loop {
        let portion = store.checkpoint(position as u64, b"state".to_vec()).unwrap();
        if let Finished::Checkpoint { .. } = store.finish(portion.run()).unwrap() {
            return work(store).unwrap();
        }
    }
}

/// Checkpoints until nothing that was erased waits for one, and never more than two.
fn settle(store: &mut Store, position: usize) {
    work(store).unwrap();
    for _ in 0..2 {
        if store.erasure_waits() {
            checkpoint(store, position);
        }
    }
    assert!(!store.erasure_waits());
}

/// Sixty messages in several segments, saved. The one with the secret is full.
fn saved() -> (Lying, Store) {
    let disk = Lying::new(1);
    let mut store = Store::create(disk.disk(), "s", options()).unwrap();
    (1..=60).for_each(|sequence| apply(&mut store, Change::Append(sequence)));
    checkpoint(&mut store, 60);
    (disk, store)
}

/// So many go of those around the secret that what is left of them is to be moved.
fn remove_neighbours(store: &mut Store) {
    let neighbours = (1..=30).filter(|sequence| *sequence != ERASED && sequence % 5 != 0);
    neighbours.for_each(|sequence| apply(store, Change::Remove(sequence)));
}

/// Messages in several segments, of which the one with the secret is full, and then the secret goes.
fn script() -> Vec<Change> {
    let mut script: Vec<Change> = (1..=60).map(Change::Append).collect();
    script.extend([Change::Remove(30), Change::Erase(ERASED)]);
    script.extend((61..=70).map(Change::Append));
    script
}

fn told(disk: Arc<dyn Disk>, options: Options, script: &[Change]) -> Store {
    let opened = Store::open(disk, "s", options).unwrap();
    assert_eq!(opened.damage, []);
    let mut store = opened.store;
    script[opened.position as usize..].iter().for_each(|change| apply(&mut store, *change));
    store
}

fn check(store: &mut Store, script: &[Change]) {
    let erased = script.iter().any(|change| matches!(change, Change::Erase(_)));
    let last = store.state().last_sequence;
    for sequence in 1..=last {
        let gone = erased && (sequence == ERASED || sequence == 30);
        let removed = sequence == 30 && script.len() > 60;
        assert_eq!(store.get(sequence).unwrap().is_none(), gone || removed, "{sequence}");
    }
}

#[test]
fn the_bytes_are_there_and_then_they_are_not() {
    let sealed = Options { seal: Some(sealing(CIPHERS[0], b"secret")), ..options() };
    for options in [options(), sealed] {
        let encrypted = options.seal.is_some();
        let (disk, watch) = (Lying::new(1), Watch::default());
        let mut store = Store::create(watch.disk(disk.disk()), "s", options).unwrap();
        let script = script();
        for (done, change) in script.iter().enumerate() {
            if done == 61 {
                checkpoint(&mut store, done);
                assert_eq!(shows(&disk).is_empty(), encrypted);
            }
            apply(&mut store, *change);
        }
        settle(&mut store, script.len());
        assert_eq!(shows(&disk), [""; 0]);
        check(&mut store, &script);
        check_overwritten(&disk, 0);
    }
}

/// From a call on, no file was removed or cut while what goes with it had the secret.
fn check_overwritten(disk: &Lying, from: usize) {
    let record = disk.record();
    let mut replay = record.replay(1);
    for (at, call) in record.calls().iter().enumerate() {
        let goes = matches!(call, Call::Remove { .. } | Call::SetLen { .. }) && at >= from;
        let before = goes.then(|| shows(&replay.kill()));
        replay.step();
        let after = goes.then(|| shows(&replay.kill()));
        assert_eq!(before, after, "{call:?} before it was overwritten");
    }
}

/// In the segment that grows, written or not, the bytes must not come to the disk later.
#[test]
fn a_message_that_was_just_written_is_erased_as_well() {
    for checkpoints in [false, true] {
        let disk = Lying::new(1);
        let mut store = Store::create(disk.disk(), "s", options()).unwrap();
        let script = [Change::Append(ERASED - 1), Change::Append(ERASED), Change::Erase(ERASED)];
        for (done, change) in script.iter().enumerate() {
            if done == 2 && checkpoints {
                checkpoint(&mut store, done);
                assert!(!shows(&disk).is_empty());
            }
            apply(&mut store, *change);
        }
        settle(&mut store, script.len());
        assert_eq!(shows(&disk), [""; 0]);
        assert!(store.get(ERASED - 1).unwrap().is_some());
    }
}

/// The new file was made while the message still lived, so it has it, too.
#[test]
fn a_message_that_is_being_moved_is_erased_where_it_comes_to() {
    let (disk, mut store) = saved();
    remove_neighbours(&mut store);
    let moving = store.work().unwrap().run();
    apply(&mut store, Change::Erase(ERASED));
    store.finish(moving).unwrap();
    settle(&mut store, 61);
    assert_eq!(shows(&disk), [""; 0]);
}

/// So does the new file if nothing of the old one lives any more when it comes.
#[test]
fn a_message_that_is_being_moved_is_erased_although_all_beside_it_died() {
    for alone in [true, false] {
        let (disk, mut store) = saved();
        // The next segment is moved together with the first one, or not.
        let last = if alone { 16 } else { 35 };
        (1..=last)
            .filter(|sequence| ![16, ERASED, 35].contains(sequence))
            .for_each(|sequence| apply(&mut store, Change::Remove(sequence)));
        let moving = store.work().unwrap().run();
        apply(&mut store, Change::Erase(ERASED));
        apply(&mut store, Change::Remove(16));
        let before = disk.recorded();
        store.finish(moving).unwrap();
        settle(&mut store, 61);
        assert_eq!(shows(&disk), [""; 0]);
        check_overwritten(&disk, before);
    }
}

/// The file from which the message was moved is still there for the checkpoint that names it.
#[test]
fn a_message_is_erased_where_it_was_before_it_was_moved() {
    let (disk, mut store) = saved();
    remove_neighbours(&mut store);
    work(&mut store).unwrap();
    assert_eq!(shows(&disk).len(), 2);
    apply(&mut store, Change::Erase(ERASED));
    let before = disk.recorded();
    settle(&mut store, 61);
    assert_eq!(shows(&disk), [""; 0]);
    check_overwritten(&disk, before);
}

/// What a checkpoint that failed has written, to a file that the one before names or to a new one, is told again by the journal.
#[test]
fn what_no_checkpoint_knows_is_overwritten() {
    for known in [0, 10] {
        let disk = Lying::new(1);
        let mut store = Store::create(disk.disk(), "s", options()).unwrap();
        let script: Vec<Change> = (1..=ERASED).map(Change::Append).collect();
        for (done, change) in script.iter().enumerate() {
            if done == known {
                checkpoint(&mut store, done);
            }
            apply(&mut store, *change);
        }
        disk.fail(Failure { kind: Some(Kind::Rename), after: 0, times: Times::Once, cause: Cause::Broken });
        let portion = store.checkpoint(ERASED, b"state".to_vec()).unwrap();
        assert!(store.finish(portion.run()).is_err());
        assert_eq!(shows(&disk).len(), 1);
        let before = disk.recorded();
        let mut store = told(disk.disk(), options(), &script);
        apply(&mut store, Change::Erase(ERASED));
        settle(&mut store, script.len() + 1);
        assert_eq!(shows(&disk), [""; 0]);
        check_overwritten(&disk, before);
    }
}

/// After a start no checkpoint says what a file is that only waits for its removal.
#[test]
fn a_file_that_was_about_to_be_removed_is_overwritten_after_the_next_start() {
    let (disk, mut store) = saved();
    apply(&mut store, Change::Erase(ERASED));
    while store.erasure_waits() {
        let portion = store.checkpoint(61, b"state".to_vec()).unwrap();
        store.finish(portion.run()).unwrap();
    }
    assert_eq!(shows(&disk).len(), 1);
    let before = disk.recorded();
    let mut store = Store::open(disk.disk(), "s", options()).unwrap().store;
    work(&mut store).unwrap();
    assert_eq!(shows(&disk), [""; 0]);
    check_overwritten(&disk, before);
}

/// Wherever the server is stopped, what was told is erased after the next start.
#[test]
fn every_crash_point() {
    let sealed = Options { seal: Some(sealing(CIPHERS[0], b"secret")), ..options() };
    for options in [options(), sealed] {
        let watch = Watch::default();
        let disk = Lying::new(3);
        let mut store = Store::create(watch.disk(disk.disk()), "s", options.clone()).unwrap();
        let script = script();
        let mut told_at = vec![(disk.recorded(), 0)];
        for (done, change) in script.iter().enumerate() {
            if done % 15 == 0 {
                checkpoint(&mut store, done);
            }
            told_at.push((disk.recorded(), done + 1));
            apply(&mut store, *change);
            if done % 4 == 0 {
                work(&mut store).unwrap();
            }
        }
        settle(&mut store, script.len());
        let record = disk.record();
        let mut replay = record.replay(5);
        while replay.step().is_some() {
            let known = told_at.iter().rev().find(|(calls, _)| *calls <= replay.done());
            let script = &script[..known.map_or(0, |(_, changes)| *changes)];
            let mut disks = vec![replay.kill()];
            disks.extend((0..3).map(|seed| replay.power_cut(seed)));
            for disk in disks {
                let mut store = told(watch.disk(disk.disk()), options.clone(), script);
                check(&mut store, script);
                if script.len() > 61 {
                    settle(&mut store, script.len());
                    assert_eq!(shows(&disk), [""; 0], "after {} calls", replay.done());
                    check(&mut store, script);
                }
            }
        }
    }
}
