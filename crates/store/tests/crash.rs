//! Every crash point, every failing call, every flipped byte of a small store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;
mod watch;

use model::{Change, Model, apply, changes, checkpoint, compare, models, options, recover_with, work};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sonata_disk::lying::{Cause, Failure, Lying, Times};
use sonata_store::{Damage, Error, NewMessage, Options, Store};
use watch::{CIPHERS, Watch, sealing};

/// In the clear, and encrypted.
fn both() -> [Options; 2] {
    [options(), Options { seal: Some(sealing(CIPHERS[1], b"secret")), ..options() }]
}

/// The same changes every time.
fn script(count: usize) -> Vec<Change> {
    let mut runner = TestRunner::deterministic();
    proptest::collection::vec(changes(), count).new_tree(&mut runner).unwrap().current()
}

/// What a server does after a change: work now and then, checkpoints now and then.
fn after_change(store: &mut Store, done: usize) -> Result<(), Error> {
    if done.is_multiple_of(7) {
        work(store)?;
    }
    if done.is_multiple_of(40) {
        checkpoint(store, done as u64)?;
    }
    Ok(())
}

#[test]
fn every_crash_point() {
    both().iter().for_each(check_every_crash_point);
}

fn check_every_crash_point(options: &Options) {
    let script = script(300);
    let models = models(&script);
    let watch = Watch::default();
    let disk = Lying::new(3);
    let mut store = Store::create(watch.disk(disk.disk()), "s", options.clone()).unwrap();
    // How many changes were told when so many calls were made.
    let mut told = vec![(disk.recorded(), 0)];
    for (number, change) in script.iter().enumerate() {
        told.push((disk.recorded(), number + 1));
        apply(&mut store, &mut models[number].clone(), change).unwrap();
        after_change(&mut store, number + 1).unwrap();
    }
    let record = disk.record();
    let mut replay = record.replay(5);
    while replay.step().is_some() {
        let (_, changes) =
            told.iter().rev().find(|(calls, _)| *calls <= replay.done()).copied().unwrap_or((0, 0));
        let mut disks = vec![replay.kill()];
        disks.extend((0..4).map(|seed| replay.power_cut(seed)));
        for disk in disks {
            let mut store =
                recover_with(watch.disk(disk.disk()), options.clone(), &script[..changes], &models);
            assert_eq!(store.state(), models[changes].state());
            if replay.done() % 8 == 0 {
                compare(&mut store, &models[changes]);
            }
        }
    }
    assert!(replay.done() > 100, "the script does something");
}

#[test]
fn every_failing_call() {
    both().iter().for_each(check_every_failing_call);
}

fn check_every_failing_call(options: &Options) {
    let script = script(160);
    let models = models(&script);
    let mut runs = 0;
    for after in 0.. {
        for (times, cause) in [(Times::Once, Cause::Broken), (Times::FromThenOn, Cause::Full)] {
            let watch = Watch::default();
            let disk = Lying::new(after);
            let Ok(store) = Store::create(watch.disk(disk.disk()), "s", options.clone()) else {
                panic!("nothing fails yet")
            };
            let failures = Failure { kind: None, after, times, cause };
            disk.fail(failures);
            run_with_failures(store, &disk, &script, &models, options, &watch);
            runs += 1;
        }
        // Long after the last call nothing fails any more.
        if after > 600 {
            break;
        }
    }
    assert!(runs > 1000);
}

fn run_with_failures(
    mut store: Store,
    disk: &Lying,
    script: &[Change],
    models: &[Model],
    options: &Options,
    watch: &Watch,
) {
    for (number, change) in script.iter().enumerate() {
        let told = apply(&mut store, &mut models[number].clone(), change);
        let result = told.and_then(|()| after_change(&mut store, number + 1));
        if result.is_err() {
            // The disk works again, and the stream is opened as after a crash.
            disk.heal();
            drop(store);
            store = recover_with(watch.disk(disk.disk()), options.clone(), &script[..=number], models);
        }
    }
    disk.heal();
    assert_eq!(store.state(), models[script.len()].state());
}

#[test]
fn work_that_failed_is_done_later_without_opening_again() {
    both().iter().for_each(check_work_that_failed_is_done_later_without_opening_again);
}

fn check_work_that_failed_is_done_later_without_opening_again(options: &Options) {
    let script = script(160);
    let models = models(&script);
    for after in 0..300 {
        let watch = Watch::default();
        let disk = Lying::new(after);
        let mut store = Store::create(watch.disk(disk.disk()), "s", options.clone()).unwrap();
        for (number, change) in script.iter().enumerate() {
            apply(&mut store, &mut models[number].clone(), change).unwrap();
            let kind = Some(sonata_disk::lying::Kind::ALL[after as usize % 12]);
            disk.fail(Failure { kind, after: after / 12, times: Times::Once, cause: Cause::Broken });
            let failed = after_change(&mut store, number + 1);
            disk.heal();
            if let Err(Error::Unsynced { .. }) = failed {
                store = recover_with(watch.disk(disk.disk()), options.clone(), &script[..=number], &models);
            }
        }
        checkpoint(&mut store, script.len() as u64).unwrap();
        assert_eq!(store.state(), models[script.len()].state());
        compare(
            &mut recover_with(watch.disk(disk.disk()), options.clone(), &script, &models),
            &models[script.len()],
        );
    }
}

/// A failure in the middle of writing takes with it what was written before and not synced. Tried again it would succeed.
#[test]
fn what_was_written_before_a_failed_write_out_is_moved() {
    let options = Options { unwritten_bytes_max: u64::MAX, ..Options::default() };
    let failures: u64 = (0..24)
        .map(|seed| {
            let disk = Lying::new(seed);
            let mut store = Store::create(disk.disk(), "s", options.clone()).unwrap();
            let payload: Vec<u8> = (0..100_000_u32).map(|at| (at / 7) as u8).collect();
            let mut fails = 0;
            for sequence in 1..=60 {
                let message = NewMessage {
                    sequence,
                    timestamp: 1,
                    subject: b"a",
                    headers: b"",
                    payload: &payload[sequence as usize..],
                };
                store.append(message).unwrap();
                if sequence % 20 == 0 {
                    if sequence == 40 {
                        let kind = Some(sonata_disk::lying::Kind::WriteOut);
                        disk.fail(Failure { kind, after: 0, times: Times::Once, cause: Cause::Broken });
                    }
                    fails += u64::from(work(&mut store).is_err());
                    disk.heal();
                }
            }
            checkpoint(&mut store, 1).unwrap();
            drop(store);
            let mut store = Store::open(disk.power_cut(seed).disk(), "s", options.clone()).unwrap().store;
            for sequence in 1..=60 {
                let message = store.get(sequence).unwrap().unwrap();
                assert_eq!(message.payload, payload[sequence as usize..], "{sequence}, seed {seed}");
            }
            fails
        })
        .sum();
    assert_eq!(failures, 24);
}

/// A store with sealed segments, one that grows, two checkpoints, and changes after them.
fn small(options: &Options) -> (Lying, Vec<Change>, Vec<Model>) {
    let mut script: Vec<Change> = (0..30)
        .map(|n| Change::Append { gap: 0, subject: n % 5, headers: n % 2, payload: 280, tick: 1 })
        .collect();
    script.insert(9, Change::Remove(500));
    script.insert(19, Change::RemoveBefore(600));
    script.insert(21, Change::Remove(800));
    let models = models(&script);
    let disk = Lying::new(3);
    let mut store = Store::create(disk.disk(), "s", options.clone()).unwrap();
    for (number, change) in script.iter().enumerate() {
        apply(&mut store, &mut models[number].clone(), change).unwrap();
        if number == 15 || number == 25 {
            work(&mut store).unwrap();
            checkpoint(&mut store, number as u64 + 1).unwrap();
            // Removes what may go: the checkpoint before must stay usable.
            work(&mut store).unwrap();
        }
    }
    (disk.kill(), script, models)
}

/// Opens a damaged store and checks that it never says anything wrong, and says that it is damaged if it cannot say
/// everything. Returns how many messages are lost.
fn check_damaged(options: &Options, disk: &Lying, script: &[Change], models: &[Model], what: &str) -> u64 {
    let opened = match Store::open(disk.disk(), "s", options.clone()) {
        Ok(opened) => opened,
        Err(error) => panic!("{what}: {error:?}"),
    };
    let (mut store, mut damage) = (opened.store, opened.damage);
    let model = models.last().unwrap();
    for (number, change) in script.iter().enumerate().skip(opened.position as usize) {
        // What was found without a checkpoint may be known, and what is damaged cannot be removed.
        match change {
            Change::Append { .. } => {
                let mut before = models[number].clone();
                let message = before.change(change).unwrap();
                let _ = store.append(sonata_store::NewMessage {
                    sequence: message.sequence,
                    timestamp: message.timestamp,
                    subject: &message.subject,
                    headers: &message.headers,
                    payload: &message.payload,
                });
            }
            Change::Remove(part) => {
                let _ = store.remove(part * (models[number].state().last_sequence + 2) / 1000);
            }
            Change::RemoveBefore(part) => {
                let _ = store.remove_before(part * (models[number].state().last_sequence + 2) / 1000);
            }
            _ => unreachable!("not in this script"),
        }
    }
    let mut missing = 0;
    for sequence in 0..=model.state().last_sequence {
        match (store.get(sequence), model.get(sequence)) {
            (Ok(found), expected) if found == expected => {}
            (Err(Error::Damaged { .. }) | Ok(None), Some(_)) => missing += 1,
            // Asked for again after a removal that the damage forgot.
            (Err(Error::Damaged { .. }), None) => {}
            (found, expected) => panic!("{what}: {sequence} is {found:?} instead of {expected:?}"),
        }
    }
    damage.extend(store.take_damage());
    let state = store.state();
    assert_eq!(state.messages + missing, model.state().messages, "{what}");
    assert!(missing == 0 || !damage.is_empty(), "{what}: {missing} are missing in silence");
    let sum: u64 =
        store.subjects(&sonata_store::Filter::all(), 0, 100).0.iter().map(|(_, count)| count).sum();
    assert_eq!(sum, state.messages, "{what}");
    // Life goes on: all that is left can be moved and kept.
    work(&mut store).unwrap();
    checkpoint(&mut store, script.len() as u64).unwrap();
    let again = Store::open(disk.disk(), "s", options.clone()).unwrap();
    assert_eq!(again.store.state(), store.state(), "{what}");
    assert_eq!(again.damage, Vec::<Damage>::new(), "{what}");
    missing
}

#[test]
fn every_flipped_byte() {
    both().iter().for_each(check_every_flipped_byte);
}

fn check_every_flipped_byte(options: &Options) {
    let (disk, script, models) = small(options);
    let (mut flips, mut harmless) = (0, 0);
    for name in disk.files() {
        for byte in 0..disk.read(&name).len() as u64 {
            let disk = disk.kill();
            // Every bit position comes by; all of them would take eight times as long.
            disk.flip(&name, byte * 8 + byte % 8);
            let missing = check_damaged(options, &disk, &script, &models, &format!("{name} byte {byte}"));
            assert!(missing == 0 || name.ends_with(".seg"), "the other checkpoint stands in for {name}");
            // What is encrypted is whole or nothing.
            let most = if options.seal.is_some() { 15 } else { 1 };
            assert!(missing <= most, "one flip in {name} at {byte} takes {missing} messages");
            flips += 1;
            harmless += u64::from(missing == 0);
        }
    }
    assert!(flips > 5000 && harmless < flips, "{flips} {harmless}");
}

#[test]
fn every_file_cut_lost_or_stale() {
    both().iter().for_each(check_every_file_cut_lost_or_stale);
}

fn check_every_file_cut_lost_or_stale(options: &Options) {
    let (disk, script, models) = small(options);
    let older = {
        let older = Lying::new(3);
        let mut store = Store::create(older.disk(), "s", options.clone()).unwrap();
        for (number, change) in script.iter().enumerate().take(12) {
            apply(&mut store, &mut models[number].clone(), change).unwrap();
        }
        checkpoint(&mut store, 12).unwrap();
        older
    };
    for name in disk.files() {
        let length = disk.read(&name).len() as u64;
        for len in (0..length).step_by(11) {
            let disk = disk.kill();
            disk.truncate(&name, len);
            check_damaged(options, &disk, &script, &models, &format!("{name} cut to {len}"));
        }
        let lost = disk.kill();
        lost.lose(&name);
        check_damaged(options, &lost, &script, &models, &format!("{name} lost"));
        if older.files().contains(&name) {
            let stale = disk.kill();
            let old = older.read(&name);
            stale.rot(&name, |bytes| *bytes = old);
            check_damaged(options, &stale, &script, &models, &format!("{name} stale"));
        }
    }
}

/// A segment of several frames that grows, and the places of its messages in the file: from and to, by sequence.
fn growing(compression: bool) -> (Lying, Options, String, Vec<(u64, usize, usize)>) {
    let options = Options { segment_bytes: 1 << 20, compression, ..options() };
    let disk = Lying::new(3);
    let mut store = Store::create(disk.disk(), "s", options.clone()).unwrap();
    for sequence in 1..=40u64 {
        let payload = vec![sequence as u8; 100];
        let (subject, headers) = (b"a".as_slice(), b"".as_slice());
        let new = sonata_store::NewMessage { sequence, timestamp: 0, subject, headers, payload: &payload };
        store.append(new).unwrap();
        if sequence % 10 == 0 {
            checkpoint(&mut store, sequence).unwrap();
        }
    }
    let name = disk.files().into_iter().find(|name| name.ends_with(".seg")).unwrap();
    let bytes = disk.read(&name);
    let place = |sequence: u64| {
        let payload = [sequence as u8; 100];
        let at = bytes.windows(100).position(|window| window == payload)?;
        Some((sequence, at - 33, at + 108))
    };
    let places = (1..=40).filter_map(place).collect();
    (disk, options, name, places)
}

/// Which messages are lost after a change to the file, and that exactly those are named.
fn lost_after(disk: &Lying, options: &Options, name: &str, rot: impl FnOnce(&mut Vec<u8>)) -> Vec<u64> {
    let disk = disk.kill();
    disk.rot(name, rot);
    let mut store = Store::open(disk.disk(), "s", options.clone()).unwrap().store;
    for sequence in 1..=40 {
        if let Ok(message) = store.get(sequence) {
            assert_eq!(message.unwrap().payload[..], [sequence as u8; 100]);
        }
    }
    let lost: Vec<u64> = store.lost_sequences().collect();
    assert_eq!(store.state().messages + lost.len() as u64, 40);
    lost
}

/// A broken length or a truncated frame took the rest of its block, up to 64 KiB, with it.
#[test]
fn damage_costs_what_it_hits_and_not_its_neighbours() {
    let (disk, options, name, places) = growing(false);
    for (sequence, from, to) in &places {
        for at in [*from, from + 1, from + 4, from + 8, from + 16, from + 50, to - 1] {
            let lost = lost_after(&disk, &options, &name, |bytes| bytes[at] ^= 0x55);
            assert_eq!(lost, [*sequence], "byte {at}");
        }
        let lost = lost_after(&disk, &options, &name, |bytes| bytes.truncate(from + 20));
        assert_eq!(lost, (*sequence..=40).collect::<Vec<_>>());
        // The head of the frame before it, or the end of the message before it.
        let head = lost_after(&disk, &options, &name, |bytes| bytes[from - 10] ^= 0x55);
        let before = if sequence % 10 == 1 { vec![] } else { vec![sequence - 1] };
        assert_eq!(head, before, "before {sequence}");
    }
}

/// What is compressed is lost with its frame, but without a checkpoint the frames behind it were lost as well.
#[test]
fn a_frame_that_is_damaged_does_not_cost_those_behind_it() {
    for compression in [false, true] {
        let (disk, options, name, _) = growing(compression);
        disk.files().iter().filter(|name| name.contains("checkpoint")).for_each(|name| disk.lose(name));
        let heads: Vec<usize> =
            disk.read(&name).windows(4).enumerate().filter(|(_, w)| w == b"SBLK").map(|(at, _)| at).collect();
        assert_eq!(heads.len(), 4);
        for (frame, head) in heads.into_iter().enumerate() {
            let disk = disk.kill();
            disk.rot(&name, |bytes| bytes[head + 12] ^= 1);
            let mut store = Store::open(disk.disk(), "s", options.clone()).unwrap().store;
            for sequence in 1..=40u64 {
                let there = store.get(sequence).ok().flatten().is_some();
                assert_eq!(there, (sequence - 1) / 10 != frame as u64, "{sequence} with frame {frame}");
            }
        }
    }
}

#[test]
fn both_checkpoints_gone() {
    both().iter().for_each(check_both_checkpoints_gone);
}

fn check_both_checkpoints_gone(options: &Options) {
    let (disk, script, models) = small(options);
    for name in disk.files() {
        if name.contains("checkpoint") {
            disk.lose(&name);
        }
    }
    assert_eq!(check_damaged(options, &disk, &script, &models, "no checkpoint"), 0);
}

/// Before its second own checkpoint a new stream had only the empty one to fall back to, which does not say what it is.
#[test]
fn a_new_stream_survives_damage_to_any_one_checkpoint() {
    let disk = Lying::new(1);
    let mut store = Store::create(disk.disk(), "s", options()).unwrap();
    let work = store.checkpoint(7, b"what it is".to_vec()).unwrap();
    store.finish(work.run()).unwrap();
    drop(store);
    let is_checkpoint = |name: &String| name.contains("checkpoint-");
    let checkpoints: Vec<String> = disk.files().into_iter().filter(is_checkpoint).collect();
    assert_eq!(checkpoints.len(), 2);
    for damaged in checkpoints {
        let disk = disk.kill();
        disk.flip(&damaged, 8 * 40);
        let opened = Store::open(disk.disk(), "s", options()).unwrap();
        assert_eq!((opened.position, &opened.state[..]), (7, b"what it is".as_slice()));
    }
}
