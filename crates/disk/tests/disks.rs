//! What both disks promise, and the lies of one of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use sonata_disk::lying::{Cause, Failure, Kind, Lying, Times};
use sonata_disk::{Disk, Open, Real};

/// The same script on both.
#[test]
fn disks_do_the_same() {
    let root = std::env::temp_dir().join(format!("sonata-disk-{}", std::process::id()));
    let told = script(&Real::new(&root).unwrap());
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!(told, script(&Lying::new(1)));
}

fn script(disk: &dyn Disk) -> Vec<String> {
    let mut told = Vec::new();
    let mut tell = |what: &str, how: String| told.push(format!("{what}: {how}"));
    let kind = |result: std::io::Result<()>| format!("{:?}", result.map_err(|error| error.kind()));
    tell("missing folder", format!("{:?}", disk.list("a/b").unwrap()));
    tell("no folder", kind(disk.open("a/file", Open::Either).map(|_| ())));
    tell("create", kind(disk.create_folder("a/b")));
    tell("create again", kind(disk.create_folder("a/b")));
    tell("missing", kind(disk.open("a/file", Open::Existing).map(|_| ())));
    let file = disk.open("a/file", Open::New).unwrap();
    tell("taken", kind(disk.open("a/file", Open::New).map(|_| ())));
    file.write_at(b"hello", 3).unwrap();
    tell("length", format!("{:?}", file.len().unwrap()));
    let mut read = [9; 8];
    file.read_at(&mut read, 0).unwrap();
    tell("read", format!("{read:?}"));
    tell("beyond", kind(file.read_at(&mut read, 1)));
    file.set_len(5).unwrap();
    file.set_len(7).unwrap();
    file.read_at(&mut read[..7], 0).unwrap();
    tell("cut", format!("{read:?}"));
    file.sync().unwrap();
    tell("rename", kind(disk.rename("a/file", "a/b/other")));
    file.write_at(b"x", 0).unwrap();
    disk.open("a/b/other", Open::Either).unwrap().read_at(&mut read[..1], 0).unwrap();
    tell("same file", format!("{}", read[0]));
    tell("list", format!("{:?}", disk.list("a").unwrap()));
    tell("rename folder", kind(disk.rename("a/b", "c")));
    tell("moved", format!("{:?} {:?}", disk.list("a").unwrap(), disk.list("c").unwrap()));
    for folder in ["", "a", "c", "nowhere"] {
        tell("sync folder", kind(disk.sync_folder(folder)));
    }
    tell("remove", kind(disk.remove("c/other").and_then(|()| disk.remove("c/other"))));
    tell("remove folder", kind(disk.remove_folder("c").and_then(|()| disk.remove_folder("c"))));
    tell("list", format!("{:?}", disk.list("").unwrap()));
    tell("outside", kind(disk.open("../file", Open::Either).map(|_| ())));
    tell("absolute", kind(disk.remove_folder("/etc")));
    told
}

/// What is on the disk after a power cut, over many seeds.
fn outcomes(disk: &Lying, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    let found = (0..200).map(|seed| disk.power_cut(seed));
    found.map(|cut| cut.files().iter().any(|file| file == name).then(|| cut.read(name))).collect()
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_maybe_more() {
    let lying = Lying::new(1);
    let disk: Arc<dyn Disk> = lying.disk();
    let file = disk.open("file", Open::New).unwrap();
    file.write_at(&[1; 1024], 0).unwrap();
    file.sync().unwrap();
    assert!(outcomes(&lying, "file").contains(&None), "the name is not durable yet");
    disk.sync_folder("").unwrap();
    assert_eq!(outcomes(&lying, "file"), BTreeSet::from([Some(vec![1; 1024])]));
    file.write_at(&[2; 1024], 0).unwrap();
    let torn = [vec![1; 512], vec![2; 512]].concat();
    let found = outcomes(&lying, "file");
    for possible in [vec![1; 1024], vec![2; 1024], torn] {
        assert!(found.contains(&Some(possible)));
    }
    assert_eq!(lying.kill().read("file"), [2; 1024]);

    disk.rename("file", "other").unwrap();
    let seen = (0..50).map(|seed| lying.power_cut(seed).files()).collect::<BTreeSet<_>>();
    assert_eq!(seen, BTreeSet::from([vec!["file".to_owned()], vec!["other".to_owned()]]));
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_the_next() {
    let mut lost = 0;
    for seed in 0..20 {
        let lying = Lying::new(seed);
        let disk = lying.disk();
        let file = disk.open("file", Open::New).unwrap();
        disk.sync_folder("").unwrap();
        lying.fail(Failure { kind: Some(Kind::Sync), after: 0, times: Times::Once, cause: Cause::Broken });
        file.write_at(b"data", 0).unwrap();
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(lying.read("file"), b"data");
        lost += usize::from(outcomes(&lying, "file") == BTreeSet::from([Some(Vec::new())]));
    }
    assert!((1..20).contains(&lost), "{lost}");
}

#[test]
fn failures_strike_where_they_were_told_to() {
    let lying = Lying::new(1);
    let disk = lying.disk();
    let file = disk.open("file", Open::New).unwrap();
    lying.fail(Failure { kind: Some(Kind::Write), after: 1, times: Times::Once, cause: Cause::Short });
    file.write_at(b"abcd", 0).unwrap();
    assert!(file.write_at(b"efgh", 4).is_err());
    assert_eq!(lying.read("file"), b"abcdef");
    file.write_at(b"efgh", 4).unwrap();
    lying.fail(Failure { kind: None, after: 0, times: Times::FromThenOn, cause: Cause::Broken });
    assert!(file.len().is_err() && file.sync().is_err() && disk.list("").is_err());
    lying.heal();
    assert_eq!(file.len().unwrap(), 8);
    assert_eq!(lying.count(Kind::Write), 3);

    lying.set_space(Some(10));
    let full = file.write_at(b"ijkl", 8).unwrap_err();
    assert_eq!((full.kind(), lying.bytes()), (ErrorKind::StorageFull, 10));
    file.write_at(b"over", 0).unwrap();
    lying.set_space(None);
    file.write_at(b"ijkl", 8).unwrap();
    lying.flip("file", 1);
    lying.truncate("file", 2);
    assert_eq!(lying.read("file"), b"mv");
}

#[test]
fn a_record_is_done_again_call_by_call() {
    let lying = Lying::new(1);
    let disk = lying.disk();
    disk.create_folder("a").unwrap();
    let file = disk.open("a/file", Open::New).unwrap();
    file.write_at(b"one", 0).unwrap();
    file.write_at(b"two", 0).unwrap();
    let record = lying.record();
    let mut replay = record.replay(1);
    let mut seen = Vec::new();
    while replay.step().is_some() {
        let now = replay.kill();
        seen.push(now.files().first().map(|name| now.read(name)));
    }
    assert_eq!(seen, [None, Some(Vec::new()), Some(b"one".to_vec()), Some(b"two".to_vec())]);
}
