//! What encryption promises: nothing readable on the disk, nothing without the key, and keys that can be changed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;
mod watch;

use model::{checkpoint, options, work};
use sonata_disk::lying::{Cause, Failure, Kind, Lying, Times};
use sonata_disk::seal::{Cipher, Key, Keys, SealError};
use sonata_store::{Encryption, Error, Filter, NewMessage, Options, Sealing, Store};
use watch::{CIPHERS, Watch, sealing, sealing_of};

const MARKERS: [&str; 3] = ["SUBJECT-MARK", "HEADER-MARK", "PAYLOAD-MARK"];

fn with(seal: Option<Sealing>) -> Options {
    Options { seal, ..options() }
}

fn append(store: &mut Store, sequences: std::ops::RangeInclusive<u64>) {
    for sequence in sequences {
        let subject = format!("{}.{}", MARKERS[0], sequence % 3);
        let headers = format!("NATS/1.0\r\n{}: {sequence}\r\n\r\n", MARKERS[1]);
        let payload = format!("{}{sequence:0100}", MARKERS[2]);
        store
            .append(NewMessage {
                sequence,
                timestamp: sequence as i64,
                subject: subject.as_bytes(),
                headers: headers.as_bytes(),
                payload: payload.as_bytes(),
            })
            .unwrap();
    }
}

/// A store with sealed segments and one that grows.
fn stored(disk: &Lying, options: Options) -> Store {
    let mut store = Store::create(disk.disk(), "s", options).unwrap();
    append(&mut store, 1..=100);
    work(&mut store).unwrap();
    checkpoint(&mut store, 100).unwrap();
    store
}

/// All hundred messages, in and out of order.
fn check(store: &mut Store) {
    for sequence in (1..=100u64).rev().chain(1..=100) {
        let message = store.get(sequence).unwrap().unwrap();
        assert!(message.payload.ends_with(format!("{sequence:0100}").as_bytes()));
    }
    assert_eq!(store.subjects(&Filter::all(), 0, 10).1, 3);
}

fn shows(disk: &Lying) -> bool {
    let holds = |name: &String, mark: &str| {
        disk.read(name).windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    disk.files().iter().any(|name| MARKERS.iter().any(|mark| holds(name, mark)))
}

#[test]
fn nothing_shows_on_the_disk() {
    for cipher in CIPHERS {
        for compression in [false, true] {
            let disk = Lying::new(1);
            let options = Options { compression, ..with(Some(sealing(cipher, b"secret"))) };
            let mut store = stored(&disk, options.clone());
            check(&mut store);
            assert!(!shows(&disk));
            drop(store);
            let mut opened = Store::open(disk.disk(), "s", options).unwrap();
            assert_eq!(opened.encryption, Encryption::default());
            check(&mut opened.store);
            work(&mut opened.store).unwrap();
            checkpoint(&mut opened.store, 100).unwrap();
            check(&mut opened.store);
            assert!(!shows(&disk));
        }
    }
    let disk = Lying::new(1);
    stored(&disk, with(None));
    assert!(shows(&disk), "the test would see it");
}

#[test]
fn without_the_key_nothing_is_read_and_nothing_is_touched() {
    let disk = Lying::new(1);
    stored(&disk, with(Some(sealing(CIPHERS[0], b"secret"))));
    let id = Key::derive(CIPHERS[0], b"secret", b"test").id();
    let other = Some(sealing(CIPHERS[0], b"guess"));
    let other_cipher = Some(sealing(CIPHERS[1], b"secret"));
    for seal in [None, other, other_cipher] {
        let calls = disk.recorded();
        let error = Store::open(disk.disk(), "s", with(seal)).unwrap_err();
        assert!(
            matches!(&error, Error::Key { source: SealError::UnknownKey { id: named }, .. } if *named == id),
            "{error}"
        );
        let changed = disk.record().calls()[calls..].iter().filter(|call| !is_folder(call)).count();
        assert_eq!(changed, 0, "nothing was changed");
    }
    check(&mut Store::open(disk.disk(), "s", with(Some(sealing(CIPHERS[0], b"secret")))).unwrap().store);
}

fn is_folder(call: &sonata_disk::lying::Call) -> bool {
    matches!(call, sonata_disk::lying::Call::CreateFolder { .. })
}

/// The growing segment alone is encrypted, so no checkpoint says that a key is needed.
#[test]
fn encrypted_segments_behind_a_checkpoint_in_the_clear_are_left_alone() {
    let disk = Lying::new(1);
    let key = || Some(sealing(CIPHERS[0], b"secret"));
    stored(&disk, with(key()));
    let plain = Lying::new(1);
    stored(&plain, with(None));
    for name in disk.files().iter().filter(|name| name.contains("checkpoint")) {
        let bytes = plain.read(name);
        disk.rot(name, |content| *content = bytes);
    }
    let before = disk.files();
    let error = Store::open(disk.disk(), "s", with(None)).unwrap_err();
    assert!(matches!(error, Error::Key { .. }), "{error}");
    assert_eq!(disk.files(), before);
}

#[test]
fn what_was_written_in_the_clear_is_read_and_encrypted_when_it_moves() {
    let disk = Lying::new(1);
    stored(&disk, with(None));
    let options = with(Some(sealing(CIPHERS[1], b"secret")));
    let mut opened = Store::open(disk.disk(), "s", options.clone()).unwrap();
    assert!(opened.encryption.plain > 1, "{:?}", opened.encryption);
    check(&mut opened.store);
    append(&mut opened.store, 101..=200);
    let first_new = disk.files();
    // What lived in the old segments goes, and what is left moves.
    for sequence in (1..=100).filter(|sequence| sequence % 10 != 0) {
        opened.store.remove(sequence).unwrap();
    }
    for position in 200..204 {
        work(&mut opened.store).unwrap();
        checkpoint(&mut opened.store, position).unwrap();
    }
    work(&mut opened.store).unwrap();
    assert!(!shows(&disk), "{first_new:?} {:?}", disk.files());
    let opened = Store::open(disk.disk(), "s", options).unwrap();
    assert_eq!((opened.encryption, opened.store.state().messages), (Encryption::default(), 110));
}

#[test]
fn the_previous_key_is_needed_until_its_files_are_gone() {
    let disk = Lying::new(1);
    stored(&disk, with(Some(sealing(CIPHERS[0], b"old"))));
    let new = |cipher| Key::derive(cipher, b"new", b"test");
    let keys = || Keys::new(new(CIPHERS[1])).with_alternative(new(CIPHERS[0]));
    let both = with(Some(sealing_of(keys().with_previous(Key::derive(CIPHERS[0], b"old", b"test")))));
    let mut opened = Store::open(disk.disk(), "s", both.clone()).unwrap();
    assert!(opened.encryption.previous > 1 && opened.encryption.plain == 0);
    check(&mut opened.store);
    // Every file, the quiet ones too.
    for position in 100..104 {
        work(&mut opened.store).unwrap();
        checkpoint(&mut opened.store, position).unwrap();
    }
    work(&mut opened.store).unwrap();
    check(&mut opened.store);
    assert_eq!(Store::open(disk.disk(), "s", both).unwrap().encryption, Encryption::default());
    check(&mut Store::open(disk.disk(), "s", with(Some(sealing_of(keys())))).unwrap().store);
}

#[test]
fn a_message_by_itself_costs_a_page_and_a_block() {
    let disk = Lying::new(1);
    let options = with(Some(sealing(Cipher::Aes256Gcm, b"secret")));
    stored(&disk, options.clone());
    let mut store = Store::open(disk.disk(), "s", options).unwrap().store;
    let before = disk.count(Kind::Read);
    assert_eq!(store.get(50).unwrap().unwrap().timestamp, 50);
    assert_eq!(disk.count(Kind::Read) - before, 3, "the header, a page of points and the block");
    store.get(52).unwrap().unwrap();
    assert_eq!(disk.count(Kind::Read) - before, 4, "a page of points");
}

/// A write that failed half way leaves bytes beyond the end that nobody knows: the file gets no more, and neither does
/// one whose writing was never heard of again.
#[test]
fn a_file_with_an_unknown_end_is_not_written_again() {
    for forgotten in [false, true] {
        let watch = Watch::default();
        let disk = Lying::new(1);
        let options = Options { segment_bytes: 1 << 20, ..with(Some(sealing(CIPHERS[0], b"secret"))) };
        let mut store = Store::create(watch.disk(disk.disk()), "s", options.clone()).unwrap();
        append(&mut store, 1..=50);
        checkpoint(&mut store, 50).unwrap();
        append(&mut store, 51..=80);
        if forgotten {
            drop(store.checkpoint(80, Vec::new()).unwrap().run());
        } else {
            let failure =
                Failure { kind: Some(Kind::Write), after: 0, times: Times::Once, cause: Cause::Broken };
            disk.fail(failure);
            let work = store.checkpoint(80, Vec::new()).unwrap();
            store.finish(work.run()).unwrap_err();
        }
        append(&mut store, 81..=100);
        checkpoint(&mut store, 100).unwrap();
        check(&mut store);
        drop(store);
        let mut opened = Store::open(watch.disk(disk.disk()), "s", options).unwrap();
        assert_eq!(opened.position, 100);
        check(&mut opened.store);
        assert!(watch.counts().0 > 3);
    }
}
