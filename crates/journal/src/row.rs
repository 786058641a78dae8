//! The row of files, and who needs them.
//!
//! A file is needed while a lane has a record in it that it has not released. Files go in order, oldest first, so one
//! lane that lags keeps all that come after; [`Pinned`] names it.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;

use crate::record::{Batch, Position};

/// What keeps the oldest file from being reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Lanes with records in the oldest file, by number.
    pub lanes: Vec<PinnedLane>,
    /// Bytes of all files that are held.
    pub held_bytes: u64,
}

/// A lane's part in the oldest file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinnedLane {
    /// The lane.
    pub lane: u64,
    /// Bytes of its records in that file.
    pub bytes: u64,
    /// Its last record in that file: releasing up to here lets the file go.
    pub last: Position,
}

/// A file of the row.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// On the disk; for the file that is being written, up to where it is.
    pub(crate) bytes: u64,
    /// Something in it does not verify. It is kept aside when it is no longer needed.
    pub(crate) damaged: bool,
    lanes: HashMap<u64, Use, FixedState>,
}

#[derive(Clone, Copy, Debug)]
struct Use {
    bytes: u64,
    last: u64,
}

impl Segment {
    pub(crate) fn new(number: u64, bytes: u64) -> Self {
        Self { number, bytes, damaged: false, lanes: HashMap::default() }
    }

    pub(crate) fn note(&mut self, lane: u64, position: u64, bytes: usize) {
        let part = self.lanes.entry(lane).or_insert(Use { bytes: 0, last: 0 });
        part.bytes += bytes as u64;
        part.last = position;
    }

    fn release(&mut self, lane: u64, position: u64) {
        if self.lanes.get(&lane).is_some_and(|part| part.last <= position) {
            self.lanes.remove(&lane);
        }
    }
}

/// All files, oldest first. The last one is being written.
#[derive(Debug, Default)]
pub(crate) struct Row {
    segments: VecDeque<Segment>,
    /// What was released before it was committed.
    ahead: HashMap<u64, u64, FixedState>,
    committed: u64,
}

impl Row {
    pub(crate) fn push(&mut self, segment: Segment) {
        self.segments.push_back(segment);
    }

    /// Notes the records of a batch in the file that is being written, which ends at `bytes` now.
    pub(crate) fn commit(&mut self, batch: &Batch<'_>, bytes: u64) {
        self.committed = batch.last().0;
        let Some(segment) = self.segments.back_mut() else { return };
        segment.bytes = bytes;
        for record in batch.records() {
            segment.note(record.lane, record.position.0, record.body.len());
        }
        if !self.ahead.is_empty() {
            let committed = self.committed;
            for (lane, position) in &self.ahead {
                segment.release(*lane, *position);
            }
            self.ahead.retain(|_, position| *position > committed);
        }
    }

    /// Whether files have become free by it.
    pub(crate) fn release(&mut self, lane: u64, position: u64) -> bool {
        if position > self.committed {
            let ahead = self.ahead.entry(lane).or_default();
            *ahead = position.max(*ahead);
        }
        for segment in &mut self.segments {
            segment.release(lane, position);
        }
        self.has_free()
    }

    /// The first file that is needed, or the last one.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let needed = self.segments.iter().find(|segment| !segment.lanes.is_empty());
        needed.or(self.segments.back()).map(|segment| segment.number)
    }

    /// As [`Self::oldest`], once file `number` follows.
    pub(crate) fn oldest_before(&self, number: u64) -> u64 {
        let needed = self.segments.iter().find(|segment| !segment.lanes.is_empty());
        needed.map_or(number, |segment| segment.number)
    }

    pub(crate) fn has_free(&self) -> bool {
        self.segments.len() > 1 && self.segments.front().is_some_and(|segment| segment.lanes.is_empty())
    }

    /// The oldest file if it is before `number`, and no longer in the row.
    pub(crate) fn pop_before(&mut self, number: u64) -> Option<Segment> {
        if self.has_free() && self.segments.front()?.number < number {
            self.segments.pop_front()
        } else {
            None
        }
    }

    pub(crate) fn newest(&self) -> u64 {
        self.segments.back().map_or(0, |segment| segment.number)
    }

    /// The file that is being written, if it has this number.
    pub(crate) fn newest_mut(&mut self, number: u64) -> Option<&mut Segment> {
        self.segments.back_mut().filter(|segment| segment.number == number)
    }

    /// Records up to here are known.
    pub(crate) fn set_committed(&mut self, position: u64) {
        self.committed = position;
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(crate) fn pinned(&self) -> Option<Pinned> {
        if self.segments.len() < 2 {
            return None;
        }
        let lanes = self.segments.front()?.lanes.iter();
        let mut lanes: Vec<_> = lanes
            .map(|(lane, part)| PinnedLane { lane: *lane, bytes: part.bytes, last: Position(part.last) })
            .collect();
        if lanes.is_empty() {
            return None;
        }
        lanes.sort_unstable_by_key(|pinned| pinned.lane);
        Some(Pinned { lanes, held_bytes: self.held_bytes() })
    }
}
