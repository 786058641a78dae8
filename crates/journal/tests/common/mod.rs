//! An owner that keeps account of what it was told.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sonata_disk::Disk;
use sonata_disk::lying::Lying;
pub(crate) use sonata_journal::Options;
use sonata_journal::{Batch, Committed, Error, Journal, Position, Record, Recovered, Writer};

/// Lane and body by position.
pub(crate) type Records = BTreeMap<u64, (u64, Vec<u8>)>;

#[derive(Default)]
pub(crate) struct Owner {
    pub(crate) committed: Mutex<Records>,
    pub(crate) failures: Mutex<Vec<String>>,
    pub(crate) resumed: Mutex<Vec<Position>>,
}

impl Committed for Owner {
    fn committed(&self, batch: Batch<'_>) {
        let mut committed = self.committed.lock();
        let mut count = 0;
        for record in batch.records() {
            assert!(committed.last_key_value().is_none_or(|(last, _)| *last < record.position.0));
            committed.insert(record.position.0, (record.lane, record.body.to_vec()));
            count += 1;
        }
        assert_eq!(count, batch.count());
        assert_eq!(batch.last().0 - batch.first().0 + 1, count as u64);
    }

    fn failed(&self, error: &Error) {
        self.failures.lock().push(error.to_string());
    }

    fn resumed(&self, first: Position) {
        self.resumed.lock().push(first);
    }
}

pub(crate) struct Opened {
    pub(crate) journal: Arc<Journal>,
    pub(crate) writer: Writer,
    pub(crate) recovered: Recovered,
    pub(crate) replayed: Records,
}

/// Small files, so that a few thousand records fill many.
pub(crate) fn options(seed: u64) -> Options {
    Options { file_bytes: 16 << 10, bytes_max: 1 << 20, buffer_bytes_max: 1 << 20, ..Options::new(seed) }
}

pub(crate) fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Opened, Error> {
    let mut replayed = Records::new();
    let mut replay = |record: Record<'_>| {
        assert!(
            replayed.last_key_value().is_none_or(|(last, _)| *last < record.position.0),
            "in order, once"
        );
        replayed.insert(record.position.0, (record.lane, record.body.to_vec()));
    };
    let (journal, writer, recovered) = Journal::open(disk, "node/journal", options, &mut replay)?;
    assert_eq!(recovered.records, replayed.len() as u64);
    Ok(Opened { journal, writer, recovered, replayed })
}

pub(crate) fn reopen(disk: &Lying, seed: u64) -> Opened {
    open(disk.disk(), options(seed)).unwrap()
}

/// A body that differs for each number, of 0 to some hundred bytes.
pub(crate) fn body(number: u64) -> Vec<u8> {
    let len = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 57;
    (0..len).map(|index| (number.wrapping_mul(31).wrapping_add(index * 7)) as u8).collect()
}

/// As `assert_eq`, but says only where they differ.
pub(crate) fn assert_same(found: &Records, expected: &Records, context: &str) {
    let differ = |position: &&u64| found.get(position) != expected.get(position);
    let missing: Vec<_> = expected.keys().filter(differ).collect();
    let invented: Vec<_> = found.keys().filter(differ).collect();
    assert!(found == expected, "{context}: missing {missing:?}, invented {invented:?}");
}
