//! What an owner sees when nothing breaks, and what it sees when the disk says no.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{Opened, Owner, Records, assert_same, body, open, options, reopen};
use sonata_disk::lying::{Call, Cause, Failure, Kind, Lying, Times};
use sonata_disk::seal::{Cipher, Key, Keys};
use sonata_disk::{Disk, Open};
use sonata_journal::{Error, Mode, Options, Position, Refused, Sealing};

#[test]
fn records_come_back_in_order_with_all_parts() {
    let disk = Lying::new(1);
    let owner = Arc::new(Owner::default());
    let mut opened = reopen(&disk, 1);
    assert_eq!(opened.journal.append(7, &[b"one ", b"two"]).unwrap(), Position(1));
    assert_eq!(opened.journal.append(8, &[]).unwrap(), Position(2));
    assert!(owner.committed.lock().is_empty());
    opened.journal.kick();
    opened.writer.run_until_idle(owner.clone());
    let expected = Records::from([(1, (7, b"one two".to_vec())), (2, (8, Vec::new()))]);
    assert_eq!(*owner.committed.lock(), expected);
    opened.journal.close();
    assert!(matches!(opened.journal.append(7, &[b"late"]), Err(Refused::Closed)));
    opened.writer.run(owner);

    let again = reopen(&disk, 2);
    assert_eq!(again.replayed, expected);
    assert_eq!((again.recovered.torn_tail.clone(), again.recovered.damage.len()), (None, 0));
    assert_eq!(again.recovered.last, Position(2));
    assert!(again.journal.append(7, &[b"next"]).unwrap() > Position(2));
}

#[test]
fn a_thread_of_its_own_commits_what_many_threads_append() {
    let disk = Lying::new(1);
    let owner = Arc::new(Owner::default());
    let mut opened = open(disk.disk(), Options { mode: Mode::Always, ..Options::new(3) }).unwrap();
    let journal = opened.journal.clone();
    let told = owner.clone();
    let writer = std::thread::spawn(move || opened.writer.run(told));
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let journal = &journal;
            scope.spawn(move || {
                for number in 0..500 {
                    journal.append(lane, &[&body(number)]).unwrap();
                    journal.kick();
                }
            });
        }
    });
    journal.close();
    writer.join().unwrap();
    let committed = owner.committed.lock().clone();
    assert_eq!(committed.len(), 2000);
    for lane in 0..4 {
        let bodies: Vec<_> =
            committed.values().filter(|(of, _)| *of == lane).map(|(_, body)| body.clone()).collect();
        assert_eq!(bodies, (0..500).map(body).collect::<Vec<_>>(), "a thread's records stay in its order");
    }
    assert_eq!(reopen(&disk, 4).replayed, committed);
}

#[test]
fn a_kick_in_interval_mode_has_written_when_it_returns() {
    let disk = Lying::new(1);
    let owner = Arc::new(Owner::default());
    let mut opened = open(disk.disk(), Options { mode: Mode::Interval, ..options(1) }).unwrap();
    opened.writer.run_until_idle(owner.clone());
    let before = disk.count(Kind::Sync);
    for number in 0..10 {
        opened.journal.append(1, &[&body(number)]).unwrap();
        opened.journal.kick();
        assert_eq!(owner.committed.lock().len() as u64, number + 1);
    }
    assert_eq!(disk.count(Kind::Sync), before);
    opened.journal.sync().unwrap();
    assert_eq!(disk.count(Kind::Sync), before + 1);
    for seed in 0..20 {
        assert_eq!(reopen(&disk.power_cut(seed), 2).replayed, *owner.committed.lock());
    }
}

/// Files were once filled by as little as was written, each time with a sync of its own.
#[test]
fn a_record_by_itself_costs_one_write_and_one_sync() {
    let disk = Lying::new(1);
    let options = Options { bytes_max: 1 << 30, file_bytes: 64 << 20, ..options(1) };
    let mut opened = open(disk.disk(), options).unwrap();
    let owner = Arc::new(Owner::default());
    opened.writer.run_until_idle(owner.clone());
    let before = (disk.count(Kind::Write), disk.count(Kind::Sync));
    for number in 0..5000 {
        opened.journal.append(1, &[&[7; 200]]).unwrap();
        opened.writer.run_until_idle(owner.clone());
        assert_eq!(owner.committed.lock().len(), number + 1);
    }
    let (writes, syncs) = (disk.count(Kind::Write) - before.0, disk.count(Kind::Sync) - before.1);
    assert!((5000..5050).contains(&writes), "{writes} writes");
    assert!((5000..5010).contains(&syncs), "{syncs} syncs");
}

/// Files of 4 MiB, so that some are left to be filled.
fn larger(seed: u64) -> Options {
    Options { bytes_max: 32 << 20, file_bytes: 4 << 20, ..options(seed) }
}

/// Appends records of 4,000 bytes, each a batch of its own.
fn append_batches(opened: &mut Opened, owner: &Arc<Owner>, batches: usize) {
    for _ in 0..batches {
        opened.journal.append(1, &[&[7; 4000]]).unwrap();
        opened.writer.run_until_idle(owner.clone());
    }
}

/// Filled when they were needed, files kept whoever wrote a lot waiting for milliseconds every 4 MiB.
#[test]
fn the_next_file_is_ready_before_it_is_needed() {
    let disk = Lying::new(1);
    let mut opened = open(disk.disk(), larger(1)).unwrap();
    let owner = Arc::new(Owner::default());
    opened.writer.run_until_idle(owner.clone());
    assert!(!opened.journal.prepare(), "nothing was written yet");
    append_batches(&mut opened, &owner, 200);
    let mut steps = 1;
    while opened.journal.prepare() {
        steps += 1;
    }
    assert_eq!(steps, 8, "of 512 KiB");
    let spare = disk.files().into_iter().find(|name| name.ends_with("spare")).unwrap();
    assert_eq!(disk.read(&spare).len(), 4 << 20);
    assert!(!opened.journal.prepare(), "one is enough");
    let (bytes, writes, files) = (disk.bytes(), disk.count(Kind::Write), disk.files().len());
    append_batches(&mut opened, &owner, 1000);
    assert_eq!(disk.bytes(), bytes, "nothing is filled any more");
    let writes = disk.count(Kind::Write) - writes;
    assert!((1000..=2010).contains(&writes), "{writes}: a record, at most a page before it, and a header");
    assert_eq!((disk.files().len(), disk.files().contains(&spare)), (files, false));
    drop(opened);
    assert_same(&open(disk.disk(), larger(2)).unwrap().replayed, &owner.committed.lock(), "after all");
}

#[test]
fn a_next_file_that_the_disk_has_no_room_for_is_given_up() {
    let disk = Lying::new(1);
    let mut opened = open(disk.disk(), larger(1)).unwrap();
    let owner = Arc::new(Owner::default());
    append_batches(&mut opened, &owner, 200);
    let (bytes, files) = (disk.bytes(), disk.files());
    disk.set_space(Some(bytes + (1 << 20)));
    assert!(opened.journal.prepare() && opened.journal.prepare());
    assert!(!opened.journal.prepare());
    assert_eq!((disk.bytes(), disk.files()), (bytes, files.clone()));
    disk.set_space(None);
    assert!(!opened.journal.prepare(), "it is not tried again before the next file is begun");
    assert_eq!(disk.files(), files);
    opened.journal.append(1, &[b"on"]).unwrap();
    opened.writer.run_until_idle(owner.clone());
    assert_eq!((owner.committed.lock().len(), owner.failures.lock().len()), (201, 0));
}

/// The system reads a page before a part of it is written, unless it has it in memory.
#[test]
fn no_page_of_a_used_file_has_to_be_read_to_write_a_part_of_it() {
    let disk = Lying::new(1);
    let owner = Arc::new(Owner::default());
    let mut opened = reopen(&disk, 1);
    let mut number = 0;
    let mut append = |opened: &mut Opened, until: u64| {
        while number < until {
            number += 1;
            let position = opened.journal.append(1, &[&body(number)]).unwrap();
            opened.writer.run_until_idle(owner.clone());
            opened.journal.release(1, position);
        }
    };
    append(&mut opened, 2000);
    drop(opened);
    let spares = disk.files().into_iter().filter(|name| name.ends_with("spare")).count();
    assert!(spares > 0);
    let mut opened = reopen(&disk, 2);
    let before = disk.recorded();
    append(&mut opened, 2100);
    let mut known = BTreeSet::new();
    let mut parts = 0;
    for call in &disk.record().calls()[before..] {
        let Call::Write { inode, offset, bytes } = call else { continue };
        let (start, end) = (*offset, *offset + bytes.len() as u64);
        for page in start / 4096..end.div_ceil(4096) {
            let whole = start <= page * 4096 && end >= (page + 1) * 4096;
            assert!(whole || known.contains(&(*inode, page)), "{page} of {inode:?}");
            known.insert((*inode, page));
            parts += u64::from(!whole);
        }
    }
    assert!(parts > 100);
}

#[test]
fn released_files_are_used_again_and_limits_hold() {
    let disk = Lying::new(1);
    let owner = Arc::new(Owner::default());
    let mut opened = open(disk.disk(), Options { bytes_max: 64 << 10, ..options(1) }).unwrap();
    let journal = opened.journal.clone();
    let mut last = Position(0);
    loop {
        match journal.append(last.0 % 2, &[&[1; 100]]) {
            Ok(position) => last = position,
            Err(Refused::Full) => break,
            Err(error) => panic!("{error}"),
        }
        opened.writer.run_until_idle(owner.clone());
    }
    assert!(disk.bytes() <= (64 + 16) << 10, "{}", disk.bytes());
    let pinned = journal.pinned().unwrap();
    assert_eq!(pinned.lanes.iter().map(|pinned| pinned.lane).collect::<Vec<_>>(), [0, 1]);
    journal.release(0, last);
    assert_eq!(journal.pinned().unwrap().lanes[0].lane, 1);
    opened.writer.run_until_idle(owner.clone());
    assert!(matches!(journal.append(0, &[&[1; 100]]), Err(Refused::Full)), "lane 1 keeps it");
    journal.forget(1);
    opened.writer.run_until_idle(owner.clone());
    assert_eq!(journal.pinned(), None);
    let created = disk.record().calls().len();
    for _ in 0..300 {
        let position = journal.append(5, &[&[1; 100]]).unwrap();
        opened.writer.run_until_idle(owner.clone());
        journal.release(5, position);
    }
    opened.writer.run_until_idle(owner);
    assert!(disk.bytes() <= (64 + 16) << 10, "{}", disk.bytes());
    let record = disk.record();
    let renamed = record.calls()[created..].iter().filter(|call| format!("{call:?}").contains("Rename"));
    assert!(renamed.count() >= 4, "files go round");

    assert!(matches!(journal.append(0, &[&[0; 20 << 10]]), Err(Refused::TooLarge)));
    let most = options(1).record_bytes_max();
    assert!(journal.append(0, &[&vec![0; most]]).is_ok());
    assert!(matches!(journal.append(0, &[&vec![0; most + 1]]), Err(Refused::TooLarge)));
}

#[test]
fn the_longest_record_fits_and_comes_back() {
    for seal in [None, Some(sealing(b"key"))] {
        let disk = Lying::new(1);
        let owner = Arc::new(Owner::default());
        let options = || Options { seal: seal.clone(), ..options(1) };
        let mut opened = open(disk.disk(), options()).unwrap();
        for _ in 0..3 {
            opened.journal.append(1, &[&vec![3; options().record_bytes_max()]]).unwrap();
            opened.journal.append(1, &[b"short"]).unwrap();
        }
        opened.writer.run_until_idle(owner.clone());
        assert_eq!(owner.committed.lock().len(), 6);
        assert_eq!(open(disk.disk(), options()).unwrap().replayed, *owner.committed.lock());
    }
}

fn sealing(secret: &[u8]) -> Sealing {
    let keys = Keys::new(Key::derive(Cipher::Aes256Gcm, secret, b"test"));
    Sealing { keys: Arc::new(keys), random: Arc::new(|| [9; 32]) }
}

#[test]
fn sealed_records_need_their_key_and_do_not_show() {
    let disk = Lying::new(1);
    let owner = Arc::new(Owner::default());
    let mut opened = open(disk.disk(), Options { seal: Some(sealing(b"old")), ..options(1) }).unwrap();
    opened.journal.append(1, &[b"a secret that nobody shall read"]).unwrap();
    opened.writer.run_until_idle(owner.clone());
    for name in disk.files() {
        assert!(!disk.read(&name).windows(8).any(|window| window == b"a secret"), "{name}");
    }
    assert!(matches!(open(disk.disk(), options(2)), Err(Error::Key { .. })));
    let other = Options { seal: Some(sealing(b"new")), ..options(2) };
    assert!(matches!(open(disk.disk(), other), Err(Error::Key { .. })));
    let rotated = Keys::new(Key::derive(Cipher::ChaCha20Poly1305, b"new", b"test"))
        .with_previous(Key::derive(Cipher::Aes256Gcm, b"old", b"test"));
    let rotated = Sealing { keys: Arc::new(rotated), random: Arc::new(|| [8; 32]) };
    let opened = open(disk.disk(), Options { seal: Some(rotated), ..options(2) }).unwrap();
    assert_eq!(opened.replayed, *owner.committed.lock());
}

#[test]
fn a_file_of_a_later_version_is_refused_and_nothing_changes() {
    let disk = Lying::new(1);
    drop(reopen(&disk, 1));
    let name = disk.files().remove(0);
    disk.rot(&name, |bytes| {
        bytes[8] = 2;
        bytes[2048 + 8] = 2;
    });
    let before = (disk.files(), disk.read(&name));
    match open(disk.disk(), options(2)).map(|_| ()) {
        Err(Error::Version { version: 2, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!((disk.files(), disk.read(&name)), before);
}

#[test]
fn after_a_full_disk_the_journal_goes_on_by_itself() {
    let disk = Lying::new(1);
    let owner = Arc::new(Owner::default());
    let mut opened = reopen(&disk, 1);
    let journal = opened.journal.clone();
    disk.set_space(Some(disk.bytes() + (20 << 10)));
    let mut refused = None;
    for number in 0..1000 {
        match journal.append(1, &[&body(number)]) {
            Ok(_) => opened.writer.run_until_idle(owner.clone()),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert!(matches!(refused, Some(Refused::Failed(cause)) if cause.is_full()));
    assert_eq!(owner.failures.lock().len(), 1);
    journal.retry();
    opened.writer.run_until_idle(owner.clone());
    assert!(owner.resumed.lock().is_empty(), "there is still no room");
    disk.set_space(None);
    journal.retry();
    opened.writer.run_until_idle(owner.clone());
    assert_eq!(owner.resumed.lock().len(), 1);
    let position = journal.append(1, &[b"again"]).unwrap();
    assert!(position >= owner.resumed.lock()[0]);
    opened.writer.run_until_idle(owner.clone());
    let again = reopen(&disk, 2);
    assert_eq!((&again.replayed, again.recovered.damage.len()), (&*owner.committed.lock(), 0));
}

/// Each call of a run fails in turn, once or from then on, with each cause. Whatever was acknowledged is there after a
/// retry, a restart and a power cut, and nothing else but what was appended.
#[test]
fn an_error_at_every_call_loses_nothing_that_was_acknowledged() {
    for mode in [Mode::Always, Mode::Interval] {
        for cause in [Cause::Broken, Cause::Full, Cause::Short] {
            for times in [Times::Once, Times::FromThenOn] {
                let mut after = 0;
                while fails_at(mode, cause, times, after) {
                    after += 1;
                }
                assert!(after > 50, "{after} calls");
            }
        }
    }
}

/// Whether the run was long enough for the failure to strike.
fn fails_at(mode: Mode, cause: Cause, times: Times, after: u64) -> bool {
    let context = format!("{mode:?} {cause:?} {times:?} {after}");
    let disk = Lying::new(after);
    let owner = Arc::new(Owner::default());
    let options = |seed| Options { mode, ..options(seed) };
    let mut appended = Records::new();
    disk.fail(Failure { kind: None, after, times, cause });
    let calls_before: u64 = Kind::ALL.iter().map(|kind| disk.count(*kind)).sum();
    let mut opened = open(disk.disk(), options(1));
    if opened.is_err() {
        disk.heal();
        opened = open(disk.disk(), options(2));
    }
    let mut opened = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
    opened.writer.run_until_idle(owner.clone());
    for number in 0..40 {
        for part in 0..10 {
            let body = [body(number), vec![part; 60]].concat();
            if let Ok(position) = opened.journal.append(number % 3, &[&body]) {
                assert!(appended.insert(position.0, (number % 3, body)).is_none(), "{context}");
            }
        }
        opened.journal.kick();
        opened.writer.run_until_idle(owner.clone());
        if number % 4 == 0 {
            while opened.journal.prepare() {}
        }
        if number % 7 == 0 {
            let _ = opened.journal.sync();
            opened.journal.retry();
            opened.writer.run_until_idle(owner.clone());
        }
    }
    let calls: u64 = Kind::ALL.iter().map(|kind| disk.count(*kind)).sum();
    disk.heal();
    opened.journal.retry();
    opened.writer.run_until_idle(owner.clone());
    let last = opened.journal.append(9, &[b"healed"]).unwrap_or_else(|error| panic!("{context}: {error}"));
    appended.insert(last.0, (9, b"healed".to_vec()));
    opened.journal.kick();
    opened.writer.run_until_idle(owner.clone());
    opened.journal.sync().unwrap();
    assert_eq!(owner.failures.lock().is_empty(), owner.resumed.lock().is_empty(), "{context}");

    let committed = owner.committed.lock().clone();
    assert!(committed.contains_key(&last.0), "{context}");
    let failed_syncs = !owner.failures.lock().is_empty() && mode == Mode::Interval;
    for cut in 0..3 {
        let found = if cut == 0 { disk.kill() } else { disk.power_cut(after * 3 + cut) };
        let again = open(found.disk(), options(3)).unwrap_or_else(|error| panic!("{context}: {error}"));
        if failed_syncs {
            // What the failed sync was to cover may be gone, but nothing is made up and the rest is there.
            assert!(
                again.replayed.iter().all(|(position, record)| committed.get(position) == Some(record)),
                "{context}"
            );
            assert!(again.replayed.contains_key(&last.0), "{context}");
        } else {
            assert_same(&again.replayed, &committed, &format!("{context}, cut {cut}"));
            assert_eq!(again.recovered.damage, [], "{context}, cut {cut}");
        }
        assert!(again.journal.append(1, &[]).unwrap() > last);
    }
    calls - calls_before > after
}

#[test]
fn a_file_that_is_not_ours_is_left_alone() {
    let disk = Lying::new(1);
    drop(reopen(&disk, 1));
    let plain: Arc<dyn Disk> = disk.disk();
    for name in ["node/journal/readme", "node/journal/1.log", "node/journal/0000000000000000000x.log"] {
        plain.open(name, Open::New).unwrap().write_at(b"mine", 0).unwrap();
    }
    drop(reopen(&disk, 2));
    assert_eq!(disk.read("node/journal/readme"), b"mine");
    assert_eq!(disk.read("node/journal/1.log"), b"mine");
}
