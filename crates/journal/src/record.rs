//! A record, its position, and a batch of them.

use crate::format::{self, BATCH_HEAD_BYTES};

/// Where a record stands in the order of all records. Grows with every record, is never used for two, and survives
/// restarts; there are gaps, at each start and after a failure. The first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A record as it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the order.
    pub position: Position,
    /// Whose it is.
    pub lane: u64,
    /// The parts that were appended, one after the other.
    pub body: &'a [u8],
}

/// Records that were committed together.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    bytes: &'a [u8],
    first: u64,
    records: u32,
}

impl<'a> Batch<'a> {
    /// `bytes` with the batch's head.
    pub(crate) fn new(bytes: &'a [u8], first: u64, records: u32) -> Self {
        Self { bytes, first, records }
    }

    /// Position of the first record.
    #[must_use]
    pub fn first(&self) -> Position {
        Position(self.first)
    }

    /// Position of the last record.
    #[must_use]
    pub fn last(&self) -> Position {
        Position(self.first + u64::from(self.records) - 1)
    }

    /// How many records there are; never 0.
    #[must_use]
    pub fn count(&self) -> usize {
        self.records as usize
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let mut rest = &self.bytes[BATCH_HEAD_BYTES..];
        let mut position = self.first;
        std::iter::from_fn(move || {
            let (parts, after) = format::split_record(rest)?;
            let record = Record { position: Position(position), lane: parts.lane, body: parts.body };
            rest = after;
            position += 1;
            Some(record)
        })
    }
}
