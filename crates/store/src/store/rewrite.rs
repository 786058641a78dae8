//! Moving what lives of some segments into a new one.
//!
//! Done when most of a segment is dead, when a segment's file can no longer be believed, and when it holds what is to be
//! erased. Neighbours that have become small are taken along, so that a few old messages do not keep a row of tiny files.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::removal::file_name;
use super::work::{Writing, Written};
use super::{Dropped, Store};
use crate::error::Error;
use crate::file::SegmentFile;
use crate::form::{self, NameBook};
use crate::record;
use crate::segment::{BLOCK_BYTES, Body, Footer, Hot, Segment, make_room};
use crate::shelf::Place;
use crate::table::{Block, Row, Table};

/// Segments that one rewrite takes together.
const SOURCES_MAX: usize = 16;

/// A segment smaller than this part of a full one is taken along by its neighbour.
const SMALL: u64 = 4;

impl Store {
    pub(super) fn rewriting(&mut self) -> Option<Rewriting> {
        let wasteful = |segment: &Segment| self.is_movable(segment) && is_wasteful(segment);
        let at = self.segments.iter().position(wasteful)?;
        let range = self.neighbours(at);
        Some(self.rewriting_of(range))
    }

    /// A segment and those around it that are taken along.
    fn neighbours(&self, at: usize) -> Range<usize> {
        let (mut start, mut end) = (at, at + 1);
        let mut live = self.segments[at].live_stored;
        let fits = |live: u64, range: Range<usize>, new: &Segment| {
            let reach = self.segments[range.end - 1].last - self.segments[range.start].base;
            let small = is_wasteful(new) || new.stored < self.options.segment_bytes / SMALL;
            small
                && self.is_movable(new)
                && range.len() <= SOURCES_MAX
                && live + new.live_stored <= self.options.segment_bytes
                && reach < u64::from(u32::MAX)
        };
        while end < self.segments.len() && fits(live, start..end + 1, &self.segments[end]) {
            live += self.segments[end].live_stored;
            end += 1;
        }
        while start > 0 && fits(live, start - 1..end, &self.segments[start - 1]) {
            start -= 1;
            live += self.segments[start].live_stored;
        }
        start..end
    }

    /// What must be moved before anything can be called durable: files whose sync failed, those that should take something
    /// more and do not, and what lives beside erased messages.
    pub(super) fn rescue(&mut self) -> Option<Rewriting> {
        loop {
            let due = |segment: &Segment| {
                segment.distrusted || segment.spent && segment.unwritten() > 0 || !segment.erased.is_empty()
            };
            let at = self.segments.iter().position(due)?;
            if self.segments[at].is_open() {
                self.segments[at].close();
            }
            if self.segments[at].erased.is_empty() {
                return Some(self.rewriting_of(at..at + 1));
            }
            if !self.segments[at].live.is_empty() {
                let range = self.neighbours(at);
                return Some(self.rewriting_of(range));
            }
            self.drop_segment(at);
        }
    }

    /// Whether nothing more will be appended or written to it.
    fn is_movable(&self, segment: &Segment) -> bool {
        match &segment.body {
            Body::Sealed(_) => true,
            Body::Hot(hot) => {
                let nowhere_else = segment.distrusted || segment.spent || !segment.erased.is_empty();
                hot.closed && (self.shelf.place.is_none() || nowhere_else)
            }
        }
    }

    fn rewriting_of(&mut self, range: Range<usize>) -> Rewriting {
        let sources: Vec<Source> = self
            .segments
            .range(range)
            .map(|segment| Source {
                number: segment.number,
                base: segment.base,
                live: segment.live.clone(),
                content: match &segment.body {
                    Body::Hot(hot) => Content::Hot(Arc::clone(&hot.index.table), hot.unwritten.clone()),
                    Body::Sealed(footer) => Content::Sealed(*footer),
                },
            })
            .collect();
        let base = sources.first().map_or(1, |source| source.base);
        Rewriting {
            number: self.new_number(),
            base,
            stream: self.options.id,
            place: self.shelf.place.clone(),
            sources,
        }
    }

    pub(super) fn rewritten(&mut self, rewritten: Rewritten) -> Result<(), Error> {
        let Rewritten { number, base, sources, table, outcome } = rewritten;
        match outcome {
            RewriteOutcome::Unreadable(source) => {
                match self.segments.iter().position(|segment| segment.number == source) {
                    Some(at) => self.mend(at),
                    None => Ok(()),
                }
            }
            RewriteOutcome::Memory(blocks) => {
                self.adopt(number, base, &sources, Arc::new(table), None, blocks)
            }
            RewriteOutcome::File(written) => {
                let Some((table, footer)) = written.sealed else { return Ok(()) };
                let file = Some((written.file, written.file_len, footer));
                self.adopt(number, base, &sources, Arc::new(table), file, HashMap::default())
            }
        }
    }

    /// Puts the new segment in the place of those it was made of.
    fn adopt(
        &mut self,
        number: u64,
        base: u64,
        sources: &[u64],
        table: Arc<Table>,
        file: Option<(Arc<SegmentFile>, u64, Footer)>,
        blocks: HashMap<u32, Bytes, foldhash::fast::RandomState>,
    ) -> Result<(), Error> {
        let mut segment = Segment::new(number, base);
        segment.stored = table.rows.iter().map(|row| u64::from(row.length)).sum();
        // Messages that lived when it was made and could not be read are lost; a message that was removed since is not.
        for source in sources {
            while let Some((at, delta)) = self.missing(*source, base, &table) {
                let segment = &self.segments[at];
                if segment.distrusted && !segment.damaged {
                    return Err(Error::Unsynced { file: file_name(*source) });
                }
                self.lose(at, delta)?;
            }
        }
        for source in sources {
            let Some(old) = self.segments.iter().find(|segment| segment.number == *source) else {
                // It died meanwhile. Which of its messages were erased is forgotten.
                if self.ledger.dropped.iter().any(|file| file.number == *source && file.erase) {
                    segment.erased.extend(table.rows.iter().map(|row| row.delta));
                }
                continue;
            };
            for delta in &old.live {
                segment.live.insert((old.base + u64::from(delta) - base) as u32);
            }
            // What was erased while it was made is in the new one, too.
            let moved = old.erased.iter().map(|delta| (old.base + u64::from(delta) - base) as u32);
            segment.erased.extend(moved.filter(|delta| table.find(*delta).is_some()));
            segment.bytes += old.bytes;
            segment.newest = segment.newest.max(old.newest);
            segment.last = segment.last.max(old.last);
        }
        segment.live.optimize();
        segment.erased -= &segment.live;
        // Not the sum of what the sources say: if that came from a checkpoint that lies, there would be no end of rewriting.
        let living = table.rows.iter().filter(|row| segment.live.contains(row.delta));
        segment.live_stored = living.map(|row| u64::from(row.length)).sum();
        let place = self.segments.iter().position(|segment| sources.contains(&segment.number));
        for source in sources {
            if let Some(at) = self.segments.iter().position(|segment| segment.number == *source) {
                self.drop_segment(at);
            }
        }
        match file {
            Some((file, file_len, footer)) => {
                (segment.file, segment.file_len) = (Some(file), file_len);
                segment.body = Body::Sealed(footer);
                segment.fence = form::fence(&table);
                self.shelf.keep_table(number, Arc::unwrap_or_clone(table));
            }
            None => {
                let mut hot = Hot::around(Arc::unwrap_or_clone(table), |name| self.subjects.find(name));
                hot.closed = true;
                hot.unwritten = blocks;
                segment.body = Body::Hot(hot);
            }
        }
        match place {
            Some(at) if !segment.live.is_empty() => self.segments.insert(at, segment),
            _ if segment.file_len > 0 => {
                let erase = !segment.erased.is_empty();
                self.ledger.dropped.push(Dropped { number, damaged: false, erase });
            }
            _ => {}
        }
        Ok(())
    }

    /// A live message of a source that the new table does not have.
    fn missing(&self, source: u64, base: u64, table: &Table) -> Option<(usize, u32)> {
        let at = self.segments.iter().position(|segment| segment.number == source)?;
        let segment = &self.segments[at];
        let absent = |delta: &u32| table.find((segment.base + u64::from(*delta) - base) as u32).is_none();
        segment.live.iter().find(absent).map(|delta| (at, delta))
    }
}

/// Whether most of it is dead, or its file is to be left.
fn is_wasteful(segment: &Segment) -> bool {
    segment.distrusted || segment.spent || segment.live_stored * 2 < segment.stored
}

#[derive(Debug)]
pub(super) struct Rewriting {
    /// The new segment's.
    number: u64,
    base: u64,
    stream: u64,
    /// `None` for a stream in memory.
    place: Option<Place>,
    /// Neighbours, ascending.
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    number: u64,
    base: u64,
    live: RoaringBitmap,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Hot(Arc<Table>, HashMap<u32, Bytes, foldhash::fast::RandomState>),
    Sealed(Footer),
}

#[derive(Debug)]
pub(super) struct Rewritten {
    number: u64,
    base: u64,
    sources: Vec<u64>,
    table: Table,
    outcome: RewriteOutcome,
}

#[derive(Debug)]
enum RewriteOutcome {
    Memory(HashMap<u32, Bytes, foldhash::fast::RandomState>),
    File(Written),
    /// This source's footer is damaged.
    Unreadable(u64),
}

/// The new segment as it grows.
#[derive(Default)]
struct Growth {
    table: Table,
    book: NameBook,
    tail: Vec<u8>,
    start: u32,
    blocks: Vec<(u32, u32, Bytes)>,
}

impl Growth {
    fn append(&mut self, bytes: &[u8], row: Row, delta: u32, name: &[u8]) {
        if self.tail.len() + bytes.len() > BLOCK_BYTES {
            self.freeze();
        }
        let local = self.book.enter(&mut self.table.names, name);
        let offset = self.start + self.tail.len() as u32;
        make_room(&mut self.tail, bytes.len());
        self.tail.extend_from_slice(bytes);
        self.table.rows.push(Row::new(row.timestamp, delta, offset, row.length, local, row.has_headers()));
    }

    fn freeze(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.tail));
        let block = Block { start: self.start, length: bytes.len() as u32, place: 0, stored: 0 };
        self.start += block.length;
        self.blocks.push((self.blocks.len() as u32, block.start, bytes));
        self.table.blocks.push(block);
    }
}

impl Rewriting {
    pub(super) fn run(self) -> Result<Rewritten, Error> {
        let mut growth = Growth::default();
        let sources: Vec<u64> = self.sources.iter().map(|source| source.number).collect();
        for source in &self.sources {
            if !self.copy(source, &mut growth)? {
                let outcome = RewriteOutcome::Unreadable(source.number);
                return Ok(Rewritten {
                    number: self.number,
                    base: self.base,
                    sources,
                    table: Table::default(),
                    outcome,
                });
            }
        }
        growth.freeze();
        let Growth { table, blocks, .. } = growth;
        let outcome = match &self.place {
            None => {
                RewriteOutcome::Memory(blocks.into_iter().map(|(number, _, bytes)| (number, bytes)).collect())
            }
            Some(place) => {
                let live = table.rows.iter().map(|row| row.delta).collect();
                let seal = Some((Arc::new(table.clone()), live));
                let writing =
                    Writing { number: self.number, base: self.base, file: None, file_len: 0, blocks, seal };
                // A file whose sync failed is left for another one.
                RewriteOutcome::File(writing.run(place, &mut None)?)
            }
        };
        Ok(Rewritten { number: self.number, base: self.base, sources, table, outcome })
    }

    /// Copies what lives and can be read of a source. False if its footer is damaged.
    fn copy(&self, source: &Source, growth: &mut Growth) -> Result<bool, Error> {
        let file = match &self.place {
            Some(place) => match SegmentFile::open(place, source.number) {
                Ok(file) => Some(file),
                Err(Error::Disk { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        let none = HashMap::default();
        let (table, unwritten) = match (&source.content, &file) {
            (Content::Hot(table, unwritten), _) => (Arc::clone(table), unwritten),
            (Content::Sealed(footer), Some(file)) => match file.read_table(*footer)? {
                Some(table) => (Arc::new(table), &none),
                None => return Ok(false),
            },
            (Content::Sealed(_), None) => return Ok(false),
        };
        let mut current: Option<(usize, Option<Bytes>)> = None;
        for row in table.rows.iter().filter(|row| source.live.contains(row.delta)) {
            let Some(number) = table.block(row.offset) else { continue };
            let block = table.blocks[number];
            if current.as_ref().is_none_or(|(at, _)| *at != number) {
                let bytes = match (unwritten.get(&(number as u32)), &file) {
                    (Some(bytes), _) => Some(bytes.clone()),
                    (None, Some(file)) => file.read_block(block)?,
                    (None, None) => None,
                };
                current = Some((number, bytes));
            }
            let Some((_, Some(bytes))) = &current else { continue };
            let start = (row.offset - block.start) as usize;
            let Some(bytes) = bytes.get(start..start + row.length as usize) else { continue };
            let sequence = source.base + u64::from(row.delta);
            if record::decode(bytes, self.stream).is_none_or(|record| record.sequence != sequence) {
                continue;
            }
            growth.append(bytes, *row, (sequence - self.base) as u32, table.names.get(row.local()));
        }
        Ok(true)
    }
}
