//! Where a segment's messages are and which subjects they have, without the messages.
//!
//! Subjects have numbers of their own in every segment, so that a filter is decided once per subject of a segment and then
//! asked by number.

use std::mem::size_of;
use std::sync::Arc;
use std::thread;

use roaring::RoaringBitmap;

use crate::filter::Filter;

/// One message of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Nanoseconds since 1970.
    pub(crate) timestamp: i64,
    /// Its sequence less the segment's base.
    pub(crate) delta: u32,
    /// Where its record starts in the segment, counted in uncompressed bytes.
    pub(crate) offset: u32,
    /// The record's length.
    pub(crate) length: u32,
    /// The subject's number, and in the top bit whether there are headers.
    subject: u32,
}

const HAS_HEADERS: u32 = 1 << 31;

impl Row {
    pub(crate) fn new(
        timestamp: i64,
        delta: u32,
        offset: u32,
        length: u32,
        local: u32,
        headers: bool,
    ) -> Self {
        let subject = local | if headers { HAS_HEADERS } else { 0 };
        Self { timestamp, delta, offset, length, subject }
    }

    /// The subject's number in the segment.
    pub(crate) fn local(&self) -> u32 {
        self.subject & !HAS_HEADERS
    }

    pub(crate) fn has_headers(&self) -> bool {
        self.subject & HAS_HEADERS != 0
    }
}

/// A run of whole records that is written and read as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where its first record starts in the segment, counted in uncompressed bytes.
    pub(crate) start: u32,
    /// Uncompressed length.
    pub(crate) length: u32,
    /// Where its frame starts in the file; 0 while it is not written.
    pub(crate) place: u64,
    /// Length of the frame.
    pub(crate) stored: u32,
}

impl Block {
    /// Where a record of it lies in the file; 0 if it does not lie there as it is.
    pub(crate) fn place_of(&self, offset: u32) -> u32 {
        let head = crate::form::FRAME_HEAD as u32;
        let place = self.place.saturating_add(u64::from(head)).saturating_add(u64::from(offset - self.start));
        if self.is_plain() { u32::try_from(place).unwrap_or(0) } else { 0 }
    }

    /// Whether the frame has the records as they are, if it is not encrypted. Compressed blocks are shorter: one that would not be is
    /// stored as it is.
    pub(crate) fn is_plain(&self) -> bool {
        self.length.checked_add(crate::form::FRAME_HEAD as u32) == Some(self.stored)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// Ascending by delta and by offset.
    pub(crate) rows: Vec<Row>,
    pub(crate) names: Names,
    /// Ascending by start.
    pub(crate) blocks: Vec<Block>,
}

impl Table {
    pub(crate) fn find(&self, delta: u32) -> Option<&Row> {
        let index = self.lower_bound(delta);
        self.rows.get(index).filter(|row| row.delta == delta)
    }

    /// Index of the first row at or after `delta`.
    pub(crate) fn lower_bound(&self, delta: u32) -> usize {
        // Deltas grow by one at least, so row i has delta i or more; without gaps that is the answer.
        let guess = (delta as usize).min(self.rows.len());
        match self.rows.get(guess) {
            Some(row) if row.delta == delta => guess,
            _ => self.rows[..guess].partition_point(|row| row.delta < delta),
        }
    }

    /// Index of the block that holds an offset.
    pub(crate) fn block(&self, offset: u32) -> Option<usize> {
        let index = self.blocks.partition_point(|block| block.start <= offset).checked_sub(1)?;
        let block = self.blocks[index];
        (offset - block.start < block.length).then_some(index)
    }

    /// The table with live rows only and its names sorted, as it is kept for good.
    pub(crate) fn settled(&self, live: &RoaringBitmap) -> Self {
        let mut rows: Vec<Row> = Vec::with_capacity(self.rows.len());
        for some in self.rows.chunks(ROWS_AT_ONCE) {
            step_aside();
            rows.extend(some.iter().filter(|row| live.contains(row.delta)));
        }
        let mut used: Vec<u32> = rows.iter().map(Row::local).collect();
        used.sort_unstable();
        used.dedup();
        used.sort_unstable_by(|a, b| self.names.get(*a).cmp(self.names.get(*b)));
        let mut names = Names { sorted: true, ..Names::default() };
        let mut renumbered = vec![0; self.names.len()];
        for old in used {
            let name = self.names.get(old);
            // A subject that went and came back has two numbers here.
            let again = names.len() > 0 && names.get(names.len() as u32 - 1) == name;
            renumbered[old as usize] = if again { names.len() as u32 - 1 } else { names.push(name) };
        }
        let rows = rows
            .into_iter()
            .map(|row| Row { subject: renumbered[row.local() as usize] | row.subject & HAS_HEADERS, ..row })
            .collect();
        Self { rows, names, blocks: self.blocks.clone() }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        let bytes = self.rows.capacity() * size_of::<Row>()
            + self.names.bytes.capacity()
            + self.names.ends.capacity() * size_of::<u32>()
            + self.blocks.capacity() * size_of::<Block>();
        bytes as u64
    }
}

/// Rows that are worked on before others get at the processor: some tenths of a millisecond.
pub(crate) const ROWS_AT_ONCE: usize = 4096;

/// Lets others at the processor. Work on a full segment takes milliseconds that nobody waits for; without this, publishers
/// whose threads come to wait for the same processor would wait for all of it.
pub(crate) fn step_aside() {
    thread::yield_now();
}

/// The subjects of a segment by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<u32>,
    /// Whether they are in order and none appears twice.
    pub(crate) sorted: bool,
}

impl Names {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, local: u32) -> &[u8] {
        let local = local as usize;
        let start = local.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[local] as usize]
    }

    pub(crate) fn push(&mut self, name: &[u8]) -> u32 {
        self.bytes.extend_from_slice(name);
        self.ends.push(self.bytes.len() as u32);
        self.ends.len() as u32 - 1
    }

    /// Numbers from `from` on that may start with `prefix`: exactly those if sorted.
    fn range(&self, from: usize, prefix: &[u8]) -> std::ops::Range<usize> {
        if !self.sorted || prefix.is_empty() {
            return from..self.len();
        }
        let first = self.search(|name| name < prefix);
        let end = self.search(|name| name < prefix || name.starts_with(prefix));
        first.max(from)..end
    }

    fn search(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if before(self.get(middle as u32)) { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// A table and what recent filters select from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) table: Arc<Table>,
    selected: Vec<Selected>,
    /// Which of `selected` is replaced next.
    hand: usize,
}

#[derive(Clone, Debug)]
struct Selected {
    filter: Filter,
    /// Names decided so far; a growing segment has more of them later.
    decided: usize,
    bits: Vec<u64>,
    count: usize,
}

/// Filters whose decisions are kept per segment. More consumers than this with different filters, all in one segment,
/// decide again.
const SELECTED_MAX: usize = 16;

/// Which subjects of a segment a filter selects.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Selection<'a> {
    None,
    All,
    Some(&'a [u64]),
}

impl Selection<'_> {
    pub(crate) fn has(&self, local: u32) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(bits) => {
                bits.get(local as usize / 64).is_some_and(|word| word >> (local % 64) & 1 != 0)
            }
        }
    }
}

impl Index {
    pub(crate) fn new(table: Table) -> Self {
        Self { table: Arc::new(table), ..Self::default() }
    }

    /// The table and what `filter` selects from it.
    pub(crate) fn select(&mut self, filter: &Filter) -> (&Table, Selection<'_>) {
        let Some(patterns) = filter.patterns() else { return (&self.table, Selection::All) };
        let at = match self.selected.iter().position(|selected| selected.filter.same(filter)) {
            Some(at) => at,
            None => {
                let new = Selected { filter: filter.clone(), decided: 0, bits: Vec::new(), count: 0 };
                self.hand = (self.hand + 1) % SELECTED_MAX;
                if self.selected.len() < SELECTED_MAX {
                    self.selected.push(new);
                    self.selected.len() - 1
                } else {
                    self.selected[self.hand] = new;
                    self.hand
                }
            }
        };
        let names = &self.table.names;
        let selected = &mut self.selected[at];
        if selected.decided < names.len() {
            selected.bits.resize(names.len().div_ceil(64), 0);
            for pattern in patterns {
                for local in names.range(selected.decided, pattern.prefix()) {
                    if pattern.matches(names.get(local as u32)) {
                        let bit = 1 << (local % 64);
                        let word = &mut selected.bits[local / 64];
                        selected.count += usize::from(*word & bit == 0);
                        *word |= bit;
                    }
                }
            }
            selected.decided = names.len();
        }
        let selection = match selected.count {
            0 => Selection::None,
            count if count == names.len() => Selection::All,
            _ => Selection::Some(&selected.bits),
        };
        (&self.table, selection)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        let selected: usize = self.selected.iter().map(|selected| selected.bits.capacity() * 8).sum();
        self.table.memory_bytes() + selected as u64
    }
}
