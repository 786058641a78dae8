//! What lies only on the disk: who reads it, and how much of it; and files that are not ours to read.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;

use model::{checkpoint, options, work};
use sonata_disk::lying::{Kind, Lying};
use sonata_store::{Error, Filter, NewMessage, Options, Store};

/// Three hundred messages over three subjects, nearly all of them in sealed segments and none in memory.
fn cold() -> (Lying, Store) {
    let disk = Lying::new(1);
    let mut store = Store::create(disk.disk(), "s", options()).unwrap();
    for sequence in 1..=300u64 {
        let subject = format!("cold.{}", sequence % 3);
        let message = NewMessage {
            sequence,
            timestamp: sequence as i64,
            subject: subject.as_bytes(),
            headers: b"",
            payload: &[sequence as u8; 100],
        };
        store.append(message).unwrap();
    }
    work(&mut store).unwrap();
    checkpoint(&mut store, 300).unwrap();
    drop(store);
    let options = Options { cache_bytes_max: 1 << 20, ..options() };
    let store = Store::open(disk.disk(), "s", options).unwrap().store;
    (disk, store)
}

#[test]
fn loads_run_without_the_store_and_spare_it_the_disk() {
    let (disk, mut store) = cold();
    let filter = Filter::new(["cold.1"]);
    let mut loads = 0;
    while let Some(load) = store.cold_next(&filter, 100) {
        store.warm(load.run());
        loads += 1;
    }
    assert_eq!(loads, 2, "a table and a block");
    let before = disk.count(Kind::Read);
    let message = store.next_message(&filter, 100).unwrap().unwrap();
    assert_eq!((message.sequence, &*message.subject), (100, b"cold.1".as_slice()));
    assert_eq!(disk.count(Kind::Read), before);
}

#[test]
fn a_load_that_comes_too_late_does_nothing() {
    let (_disk, mut store) = cold();
    let load = store.cold(10).unwrap();
    store.remove_before(200).unwrap();
    store.warm(load.run());
    assert_eq!(store.get(10).unwrap(), None);
}

/// A load that brought nothing left no trace: who only asks what is cold was sent to the disk for ever.
#[test]
fn a_load_that_brings_nothing_is_not_asked_for_again() {
    for all in [true, false] {
        let (disk, mut store) = cold();
        let segment = disk.files().into_iter().find(|name| name.ends_with(".seg")).unwrap();
        // Either a block of it, or its table as well.
        let from = if all { 64 } else { 200 };
        let to = if all { usize::MAX } else { 300 };
        disk.rot(&segment, |bytes| {
            let to = to.min(bytes.len());
            bytes[from..to].fill(0xff);
        });
        let (mut next, mut loads, mut found) = (1, 0, 0);
        loop {
            while let Some(load) = store.cold_next(&Filter::all(), next) {
                store.warm(load.run());
                loads += 1;
                assert!(loads < 1000, "the same is loaded again and again");
            }
            let Some(message) = store.next_message(&Filter::all(), next).unwrap() else { break };
            next = message.sequence + 1;
            found += 1;
        }
        let lost = store.state().lost.messages;
        assert!(lost > 0 && found + lost == 300, "{found} found, {lost} lost");
    }
}

#[test]
fn one_old_message_is_read_and_removed_by_itself() {
    let (disk, mut store) = cold();
    // The first answers need no table either: sets of what lives are in memory.
    assert_eq!(store.next(&Filter::all(), 57).unwrap(), Some(57));
    let before = disk.count(Kind::Read);
    assert_eq!(store.get(57).unwrap().unwrap().timestamp, 57);
    assert_eq!(disk.count(Kind::Read) - before, 2, "a page of points and the record");
    let removed = store.remove(57).unwrap().unwrap();
    assert_eq!((&*removed.subject, removed.timestamp), (b"cold.0".as_slice(), 57));
    assert_eq!(disk.count(Kind::Read) - before, 4);
    assert_eq!(store.state().deleted, 1);
}

#[test]
fn reading_on_reads_ahead() {
    let (disk, mut store) = cold();
    let before = disk.count(Kind::Read);
    for sequence in 1..=290 {
        assert!(store.get(sequence).unwrap().is_some());
    }
    let segments = disk.files().iter().filter(|name| name.ends_with(".seg")).count() as u64;
    assert!(disk.count(Kind::Read) - before <= 2 * segments + 2);
}

#[test]
fn another_streams_files_are_refused() {
    let (disk, _store) = cold();
    let refused = Store::open(disk.disk(), "s", Options { id: 8, ..options() }).unwrap_err();
    assert!(matches!(refused, Error::Foreign { .. }), "{refused}");
}

#[test]
fn a_newer_version_is_refused_and_left_alone() {
    let (disk, _store) = cold();
    let files = disk.files();
    let newest = files.iter().rfind(|name| name.contains("checkpoint")).unwrap();
    disk.rot(newest, |bytes| {
        bytes[8] = 2;
        let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..32]);
        bytes[32..40].copy_from_slice(&sum.to_le_bytes());
    });
    let refused = Store::open(disk.disk(), "s", options()).unwrap_err();
    assert!(matches!(refused, Error::Newer { version: 2, .. }), "{refused}");
    assert_eq!(disk.files(), files);
}

#[test]
fn work_is_out_once_and_comes_back_when_dropped() {
    let disk = Lying::new(1);
    let mut store = Store::create(disk.disk(), "s", options()).unwrap();
    for sequence in 1..=100u64 {
        let message = NewMessage { sequence, timestamp: 0, subject: b"a", headers: b"", payload: &[0; 100] };
        store.append(message).unwrap();
    }
    let work = store.work().unwrap();
    assert!(store.work().is_none() && store.checkpoint(1, Vec::new()).is_none());
    drop(work);
    assert!(store.work().is_some());
    let work = store.checkpoint(1, Vec::new()).unwrap();
    store.finish(work.run()).unwrap();
    assert_eq!(Store::open(disk.disk(), "s", options()).unwrap().store.state().messages, 100);
}

#[test]
fn a_maintenance_thread_may_have_it() {
    fn check<T: Send + 'static>() {}
    check::<Store>();
    check::<(sonata_store::Work, sonata_store::Done, sonata_store::Load, sonata_store::Loaded)>();
}

/// Four thousand messages of a kilobyte, none of them in memory, in segments of so many bytes.
fn long(segment_bytes: u64) -> Store {
    let disk = Lying::new(1);
    let options = || Options { segment_bytes, cache_bytes_max: 16 << 20, ..Options::default() };
    let mut store = Store::create(disk.disk(), "s", options()).unwrap();
    for sequence in 1..=4000u64 {
        let payload = [sequence as u8; 1000];
        let message = NewMessage { sequence, timestamp: 1, subject: b"old", headers: b"", payload: &payload };
        store.append(message).unwrap();
    }
    work(&mut store).unwrap();
    checkpoint(&mut store, 4000).unwrap();
    Store::open(disk.disk(), "s", options()).unwrap().store
}

/// Whoever goes through old messages and has it read ahead waits for the disk once.
#[test]
fn what_comes_next_is_read_before_it_is_asked_for() {
    let mut store = long(1 << 20);
    let all = Filter::all();
    let mut loads = (0, 0);
    for sequence in 1..=4000 {
        while let Some(load) = store.cold_next(&all, sequence) {
            store.warm(load.run());
            loads.0 += 1;
        }
        assert_eq!(store.get(sequence).unwrap().unwrap().payload[0], sequence as u8);
        // As often as somebody looks, one after the other.
        while let Some(load) = store.cold_ahead(sequence + 1) {
            store.warm(load.run());
            loads.1 += 1;
        }
    }
    assert_eq!(loads.0, 1, "the first blocks");
    // Four megabytes in parts of half of one, and a table per segment; parts end where segments do.
    assert!((8..=20).contains(&loads.1), "{}", loads.1);

    let mut store = long(16 << 20);
    for sequence in [1000, 3000] {
        while let Some(load) = store.cold(sequence) {
            store.warm(load.run());
        }
        assert!(store.cold_ahead(sequence).is_none(), "who looks at single ones reads nothing ahead");
    }
}

/// Whoever goes through old messages reads several blocks at once; whoever looks at single ones does not.
#[test]
fn blocks_are_read_ahead_of_a_reader_only() {
    let mut store = long(4 << 20);
    let load_all = |store: &mut Store, sequence| {
        let mut loads = 0;
        while let Some(load) = store.cold(sequence) {
            store.warm(load.run());
            loads += 1;
        }
        loads
    };
    // A message here and there: its own block, so that each next one is not there.
    load_all(&mut store, 1000);
    assert_eq!((load_all(&mut store, 3000), load_all(&mut store, 3100)), (1, 1));
    // From one to the next.
    let mut loads = 0;
    for sequence in 1000..2000 {
        loads += load_all(&mut store, sequence);
        assert_eq!(store.get(sequence).unwrap().unwrap().payload[0], sequence as u8);
    }
    let blocks = 1000 * 1000 / (64 << 10);
    assert!((1..=blocks / 4).contains(&loads), "{loads} loads for {blocks} blocks");
}
