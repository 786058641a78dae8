//! Questions over many messages.
//!
//! All go the same way: the subject index narrows the sequences down, whole segments are passed over by the set of what
//! lives and by their subjects, and only then are rows looked at. Messages themselves are never read to find them.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;

use super::Store;
use crate::error::Error;
use crate::file::SegmentFile;
use crate::filter::Filter;
use crate::message::Message;
use crate::record;
use crate::segment::{Body, Footer, Segment};
use crate::shelf::Place;
use crate::state::SubjectState;
use crate::subjects::{SubjectId, Value};
use crate::table::{Block, Selection, Table};

/// Nodes of the subject index that a question may enter to narrow down where it looks. A filter that is not decided
/// within that matches so many subjects that there is little to narrow down.
const NARROWING_NODES: usize = 512;

/// Bytes of blocks that are read at once, when the block before them was read as well: whoever goes through old messages
/// will want them. Never more than this part of what may be kept, so that several readers do not push out one another's.
const READ_AHEAD_BYTES: u64 = 512 << 10;
const READ_AHEAD_PART: u64 = 16;

/// Rows that are looked at before the index is asked where a matching one is.
const NEARBY_ROWS: usize = 64;

impl Store {
    /// The smallest live sequence `>= from` that matches.
    ///
    /// # Errors
    /// The disk's.
    pub fn next(&mut self, filter: &Filter, from: u64) -> Result<Option<u64>, Error> {
        let Some((first, _)) = self.first else { return Ok(None) };
        let mut from = from.max(first);
        let mut end = self.last;
        let mut at = self.segment_from(from);
        let mut narrowed = filter.is_all();
        while at < self.segments.len() {
            // What is in memory is looked at at once: a consumer's next message is usually near.
            if !narrowed && (filter.literal().is_some() || !self.is_ready(at)) {
                narrowed = true;
                let Some((low, high)) = self.bounds(filter) else { return Ok(None) };
                (from, end) = (from.max(low), high);
                at = self.segment_from(from);
                continue;
            }
            if self.segments[at].base > end || from > end {
                return Ok(None);
            }
            if let Some(sequence) = self.next_in(at, filter, from)? {
                return Ok(Some(sequence));
            }
            at += 1;
            if !narrowed {
                narrowed = true;
                let Some((low, high)) = self.bounds(filter) else { return Ok(None) };
                (from, end) = (from.max(low), high);
                at = at.max(self.segment_from(from));
            }
        }
        Ok(None)
    }

    /// As [`Store::next`], with its message. A damaged message is passed over; [`Store::state`] counts it.
    ///
    /// # Errors
    /// The disk's.
    pub fn next_message(&mut self, filter: &Filter, from: u64) -> Result<Option<Message>, Error> {
        while let Some(sequence) = self.next(filter, from)? {
            match self.get(sequence) {
                Ok(Some(message)) => return Ok(Some(message)),
                // It no longer lives, so the next turn finds another.
                Ok(None) | Err(Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The same, as long as what is looked at is in memory and not much: a reader's next message usually is near where it
    /// is. `None` says nothing; then [`Store::cold_next`] and [`Store::next_message`] are to be asked.
    pub fn next_message_nearby(&mut self, filter: &Filter, from: u64) -> Option<Message> {
        let (first, _) = self.first?;
        let from = from.max(first);
        let at = self.segment_from(from);
        let base = self.segments.get(at)?.base;
        if self.recount_due || !self.is_ready(at) {
            return None;
        }
        let (index, live) = self.parts(at)?;
        let (table, selection) = index.select(filter);
        let start = table.lower_bound(delta(base, from));
        let near = table.rows.get(start..(start + NEARBY_ROWS).min(table.rows.len()))?;
        let row = *near.iter().find(|row| selection.has(row.local()) && live.contains(row.delta))?;
        let super::Held::Here(bytes) = self.held(at, row) else { return None };
        let sequence = base + u64::from(row.delta);
        let message = record::message(&bytes?, self.options.id, sequence)?;
        self.read_last = sequence;
        Some(message)
    }

    /// The largest live sequence `<= at_most` that matches.
    ///
    /// # Errors
    /// The disk's.
    pub fn last(&mut self, filter: &Filter, at_most: u64) -> Result<Option<u64>, Error> {
        if let Some(name) = filter.literal() {
            // The index knows, unless the last one was removed.
            let Some(id) = self.subjects.find(name) else { return Ok(None) };
            let value = self.subjects.value(id);
            if value.count() > 0 && !value.last_loose() && value.last() <= at_most {
                return Ok(Some(value.last()));
            }
        }
        let (low, high) = match filter.is_all() {
            true => (0, self.last),
            false => match self.bounds(filter) {
                Some(bounds) => bounds,
                None => return Ok(None),
            },
        };
        let at_most = at_most.min(high);
        let mut at = self.segments.partition_point(|segment| segment.base <= at_most);
        while at > 0 {
            at -= 1;
            if self.segments[at].last < low {
                break;
            }
            if let Some(sequence) = self.last_in(at, filter, at_most)? {
                return Ok(Some(sequence));
            }
        }
        Ok(None)
    }

    /// What one subject holds; `None` without messages.
    ///
    /// # Errors
    /// The disk's: first or last may have to be looked up after removals.
    pub fn subject(&mut self, name: &[u8]) -> Result<Option<SubjectState>, Error> {
        let Some(id) = self.subjects.find(name) else { return Ok(None) };
        let value = self.exact(name, id)?;
        Ok((value.0 > 0).then_some(SubjectState { messages: value.0, first: value.1, last: value.2 }))
    }

    /// Count, first and last of a subject, which are remembered.
    fn exact(&mut self, name: &[u8], id: SubjectId) -> Result<(u64, u64, u64), Error> {
        let value = self.subjects.value(id);
        let (mut first, mut last) = (value.first(), value.last());
        if value.first_loose() || value.last_loose() {
            let filter = Filter::new([name]);
            if value.first_loose() {
                first = self.next(&filter, first)?.unwrap_or(first);
            }
            if value.last_loose() {
                last = self.last(&filter, last)?.unwrap_or(last);
            }
            // Damage that was found meanwhile may have changed the count, or the index altogether.
            let Some(id) = self.subjects.find(name) else { return Ok((0, 0, 0)) };
            let count = self.subjects.value(id).count();
            self.subjects.set(id, Value::new(count, first, last, false, false));
            return Ok((count, first, last));
        }
        Ok((value.count(), first, last))
    }

    /// Matching subjects with their number of messages, sorted by name: at most `limit` from the `offset`th on, and how
    /// many there are in all.
    pub fn subjects(&self, filter: &Filter, offset: usize, limit: usize) -> (Vec<(Bytes, u64)>, usize) {
        let mut found = Vec::new();
        let mut total = 0;
        self.subjects.walk(filter, &mut |name, id| {
            if total >= offset && found.len() < limit {
                found.push((Bytes::copy_from_slice(name), self.subjects.value(id).count()));
            }
            total += 1;
            // Without a filter the total is known.
            !(filter.is_all() && found.len() == limit)
        });
        if filter.is_all() {
            total = self.subjects.len();
        }
        (found, total)
    }

    /// The exact number of live messages `>= from` that match.
    ///
    /// # Errors
    /// The disk's.
    pub fn pending(&mut self, filter: &Filter, from: u64) -> Result<u64, Error> {
        let Some((first, _)) = self.first else { return Ok(0) };
        let (mut all, mut low, mut high) = (0, u64::MAX, 0);
        if filter.is_all() {
            (all, low, high) = (self.messages, first, self.last);
        } else {
            self.subjects.walk(filter, &mut |_, id| {
                let value = self.subjects.value(id);
                all += value.count();
                low = low.min(value.first());
                high = high.max(value.last());
                true
            });
        }
        if all == 0 || from > high {
            return Ok(0);
        }
        if from <= low.max(first) {
            return Ok(all);
        }
        let lost = self.lost.messages;
        // The shorter way, in sequences.
        let count = if high - from <= from - low.max(first) {
            self.count_between(filter, from, high)?
        } else {
            // Index and tables come from different files: saturating keeps a lie there from being a panic here.
            all.saturating_sub(self.count_between(filter, low.max(first), from - 1)?)
        };
        // Damage that was found on the way took messages out of the sum.
        if self.lost.messages == lost { Ok(count) } else { self.pending(filter, from) }
    }

    fn count_between(&mut self, filter: &Filter, low: u64, high: u64) -> Result<u64, Error> {
        let mut count = 0;
        let mut at = self.segment_from(low);
        while at < self.segments.len() && self.segments[at].base <= high {
            let segment = &self.segments[at];
            let within = segment.count_from(low) - segment.count_from(high.saturating_add(1));
            if filter.is_all() || within == 0 {
                count += within;
            } else {
                self.ready(at)?;
                let base = self.segments[at].base;
                let from = delta(base, low);
                let Some((index, live)) = self.parts(at) else { continue };
                let (table, selection) = index.select(filter);
                count += match selection {
                    Selection::None => 0,
                    Selection::All => within,
                    Selection::Some(_) => table.rows[table.lower_bound(from)..]
                        .iter()
                        .take_while(|row| base + u64::from(row.delta) <= high)
                        .filter(|row| selection.has(row.local()) && live.contains(row.delta))
                        .count() as u64,
                };
            }
            at += 1;
        }
        Ok(count)
    }

    /// Ascending sequences of the last message at or before `up_to` of each matching subject; `None` if those are more
    /// than `max`.
    ///
    /// # Errors
    /// The disk's.
    pub fn last_per_subject(
        &mut self,
        filter: &Filter,
        up_to: u64,
        max: usize,
    ) -> Result<Option<Vec<u64>>, Error> {
        let mut sequences = Vec::new();
        // Subjects whose last message is not known to be the one.
        let mut wanted: HashSet<Box<[u8]>, foldhash::fast::RandomState> = HashSet::default();
        self.subjects.walk(filter, &mut |name, id| {
            let value = self.subjects.value(id);
            if value.last() <= up_to && !value.last_loose() {
                sequences.push(value.last());
            } else if value.first() <= up_to {
                wanted.insert(name.into());
            }
            sequences.len() <= max
        });
        let mut at = self.segments.partition_point(|segment| segment.base <= up_to);
        while at > 0 && !wanted.is_empty() && sequences.len() <= max {
            at -= 1;
            if self.segments[at].live.is_empty() {
                continue;
            }
            self.ready(at)?;
            let base = self.segments[at].base;
            let Some((index, live)) = self.parts(at) else { continue };
            let (table, selection) = index.select(filter);
            if matches!(selection, Selection::None) {
                continue;
            }
            let mut seen = vec![false; table.names.len()];
            let end = table.lower_bound(delta(base, up_to.saturating_add(1)));
            for row in table.rows[..end].iter().rev() {
                let local = row.local();
                if seen[local as usize] || !selection.has(local) || !live.contains(row.delta) {
                    continue;
                }
                seen[local as usize] = true;
                if wanted.remove(table.names.get(local)) {
                    sequences.push(base + u64::from(row.delta));
                }
            }
        }
        sequences.sort_unstable();
        Ok((sequences.len() <= max).then_some(sequences))
    }

    /// The first live sequence whose timestamp is at least this; the one after the last if there is none.
    ///
    /// # Errors
    /// The disk's.
    pub fn sequence_at(&mut self, timestamp: i64) -> Result<u64, Error> {
        for at in 0..self.segments.len() {
            let Some(segment) = self.segments.get(at) else { break };
            if segment.newest < timestamp || segment.live.is_empty() {
                continue;
            }
            let base = segment.base;
            self.ready(at)?;
            let Some((index, live)) = self.parts(at) else { continue };
            // Timestamps need not ascend: the clock may have been set back.
            let found =
                index.table.rows.iter().find(|row| row.timestamp >= timestamp && live.contains(row.delta));
            if let Some(row) = found {
                return Ok(base + u64::from(row.delta));
            }
        }
        Ok(self.last + 1)
    }

    /// What would have to be read from the disk before [`Store::get`] of this sequence is answered from memory: at most
    /// a table, and after it a block, or several when their reader goes from one to the next. What a [`Load`] could not bring
    /// is not asked for twice: `None` then, and the question itself says why.
    pub fn cold(&self, sequence: u64) -> Option<Load> {
        let (at, delta) = self.locate(sequence)?;
        let segment = &self.segments[at];
        let table = match self.table(segment) {
            Ok(table) => table,
            Err(footer) => return self.load(segment, Part::Table(footer)),
        };
        let offset = table.find(delta)?.offset;
        if let Body::Hot(hot) = &segment.body
            && !hot.tail.is_empty()
            && offset >= hot.tail_start
        {
            return None;
        }
        let index = table.block(offset)?;
        if self.has_block(segment, table, index) {
            return None;
        }
        if index == 0 || self.has_block(segment, table, index - 1) {
            return self.load_from(segment, table, index);
        }
        self.load(segment, Part::Blocks(vec![table.blocks[index]]))
    }

    /// What whoever goes from one message to the next, and has come to `from`, will want before long: at most a table, or
    /// several blocks. `None` when they have enough of it in memory, wait for the disk already, or have not come from the block
    /// before.
    pub fn cold_ahead(&self, from: u64) -> Option<Load> {
        let mut ahead = 0;
        let first = self.segment_from(from);
        for at in first..self.segments.len() {
            let segment = &self.segments[at];
            let table = match self.table(segment) {
                Ok(table) => table,
                Err(_) if at == first => return None,
                Err(footer) => return self.load(segment, Part::Table(footer)),
            };
            let row = if at == first { table.lower_bound(delta(segment.base, from)) } else { 0 };
            let row = table.rows.get(row);
            let Some(index) = row.and_then(|row| table.block(row.offset)) else { continue };
            if at == first && index > 0 && !self.has_block(segment, table, index - 1) {
                return None;
            }
            for index in index..table.blocks.len() {
                if !self.has_block(segment, table, index) {
                    return if ahead > 0 { self.load_from(segment, table, index) } else { None };
                }
                ahead += u64::from(table.blocks[index].length);
                if ahead > self.read_ahead_bytes() {
                    return None;
                }
            }
        }
        None
    }

    /// A segment's table, or where it is.
    #[inline]
    fn table<'a>(&'a self, segment: &'a Segment) -> Result<&'a Table, Footer> {
        match &segment.body {
            Body::Hot(hot) => Ok(&hot.index.table),
            Body::Sealed(footer) => {
                self.shelf.tables.peek(segment.number).map(|index| &*index.table).ok_or(*footer)
            }
        }
    }

    #[inline]
    fn has_block(&self, segment: &Segment, table: &Table, index: usize) -> bool {
        let unwritten = match &segment.body {
            Body::Hot(hot) => hot.unwritten.contains_key(&(index as u32)),
            Body::Sealed(_) => false,
        };
        unwritten || self.shelf.blocks.contains((segment.number, table.blocks[index].place))
    }

    /// A block, and those behind it that are not in memory, as far as is read at once.
    fn load_from(&self, segment: &Segment, table: &Table, index: usize) -> Option<Load> {
        let mut blocks = vec![table.blocks[index]];
        let mut room = self.read_ahead_bytes();
        for (index, block) in table.blocks.iter().enumerate().skip(index + 1) {
            room = room.saturating_sub(u64::from(block.length));
            if room == 0 || self.has_block(segment, table, index) {
                break;
            }
            blocks.push(*block);
        }
        self.load(segment, Part::Blocks(blocks))
    }

    fn read_ahead_bytes(&self) -> u64 {
        READ_AHEAD_BYTES.min(self.options.cache_bytes_max / READ_AHEAD_PART)
    }

    /// What would have to be read from the disk for the next step of [`Store::next_message`]. Run it, give it to
    /// [`Store::warm`] and ask again, as with [`Store::cold`]; a filter that matches little may need a table of every
    /// segment, one after the other.
    pub fn cold_next(&mut self, filter: &Filter, from: u64) -> Option<Load> {
        let (first, _) = self.first?;
        let mut from = from.max(first);
        let mut end = self.last;
        if !filter.is_all() {
            let (low, high) = self.bounds(filter)?;
            (from, end) = (from.max(low), high);
        }
        for at in self.segment_from(from)..self.segments.len() {
            let segment = &self.segments[at];
            if segment.base > end {
                break;
            }
            if let Body::Sealed(footer) = segment.body
                && !segment.live.is_empty()
                && !self.shelf.tables.contains(segment.number)
            {
                return self.load(segment, Part::Table(footer));
            }
            if let Ok(Some(sequence)) = self.next_in(at, filter, from) {
                return self.cold(sequence);
            }
        }
        None
    }

    fn load(&self, segment: &Segment, part: Part) -> Option<Load> {
        let place = self.shelf.place.clone()?;
        let load = Load { place, file: segment.file.clone(), number: segment.number, part };
        (!self.shelf.is_unreadable(load.number, load.part.first())).then_some(load)
    }

    /// Keeps what was loaded, within [`Options::cache_bytes_max`](crate::Options::cache_bytes_max), or that nothing could be
    /// read: then the question itself meets the error. Of no effect if the stream has moved on.
    pub fn warm(&mut self, loaded: Loaded) {
        let number = loaded.number;
        let Some(segment) = self.segments.iter().find(|segment| segment.number == number) else { return };
        match (loaded.content, &segment.body) {
            (Some(Content::Table(table)), Body::Sealed(_)) if !self.shelf.tables.contains(number) => {
                self.shelf.keep_table(number, table);
            }
            (Some(Content::Blocks(blocks)), _) => {
                for (place, bytes) in blocks {
                    self.shelf.keep_block(number, place, bytes);
                }
            }
            (None, _) => self.shelf.note_unreadable(number, loaded.first),
            _ => {}
        }
    }

    /// Between which sequences all matching messages lie; `None` if no subject matches. May be far too wide.
    fn bounds(&self, filter: &Filter) -> Option<(u64, u64)> {
        let (mut low, mut high) = (u64::MAX, 0);
        let mut budget = NARROWING_NODES;
        let whole = self.subjects.walk_within(filter, &mut budget, &mut |_, id| {
            let value = self.subjects.value(id);
            low = low.min(value.first());
            high = high.max(value.last());
            true
        });
        if !whole {
            return Some((0, self.last));
        }
        (low <= high).then_some((low, high))
    }

    /// The smallest matching live sequence of one segment at or after `from`.
    fn next_in(&mut self, at: usize, filter: &Filter, from: u64) -> Result<Option<u64>, Error> {
        let Some(next) = self.segments[at].next_live(from) else { return Ok(None) };
        if filter.is_all() {
            return Ok(Some(next));
        }
        self.ready(at)?;
        let base = self.segments[at].base;
        let Some((index, live)) = self.parts(at) else { return Ok(None) };
        let (table, selection) = index.select(filter);
        let rows = &table.rows[table.lower_bound(delta(base, next))..];
        let found = match selection {
            Selection::None => None,
            _ => rows.iter().find(|row| selection.has(row.local()) && live.contains(row.delta)),
        };
        Ok(found.map(|row| base + u64::from(row.delta)))
    }

    /// The largest matching live sequence of one segment at or before `at_most`.
    fn last_in(&mut self, at: usize, filter: &Filter, at_most: u64) -> Result<Option<u64>, Error> {
        let Some(last) = self.segments[at].last_live(at_most) else { return Ok(None) };
        if filter.is_all() {
            return Ok(Some(last));
        }
        self.ready(at)?;
        let base = self.segments[at].base;
        let Some((index, live)) = self.parts(at) else { return Ok(None) };
        let (table, selection) = index.select(filter);
        let rows = &table.rows[..table.lower_bound(delta(base, last + 1))];
        let found = match selection {
            Selection::None => None,
            _ => rows.iter().rev().find(|row| selection.has(row.local()) && live.contains(row.delta)),
        };
        Ok(found.map(|row| base + u64::from(row.delta)))
    }
}

/// A sequence as a segment counts; beyond its reach, the end of it.
fn delta(base: u64, sequence: u64) -> u32 {
    u32::try_from(sequence.saturating_sub(base)).unwrap_or(u32::MAX)
}

/// Something to be read from the disk without the stream's lock.
#[derive(Debug)]
pub struct Load {
    place: Place,
    file: Option<Arc<SegmentFile>>,
    number: u64,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Table(Footer),
    /// The one that was asked for, and those that are read along with it.
    Blocks(Vec<Block>),
}

impl Part {
    /// The place of the block that was asked for; `None` for the table.
    fn first(&self) -> Option<u64> {
        match self {
            Self::Table(_) => None,
            Self::Blocks(blocks) => blocks.first().map(|block| block.place),
        }
    }
}

impl Load {
    /// Reads. Errors are left to whoever asks next under the lock.
    pub fn run(self) -> Loaded {
        let (number, first) = (self.number, self.part.first());
        Loaded { number, first, content: self.read() }
    }

    fn read(self) -> Option<Content> {
        let file = match self.file {
            Some(file) => file,
            None => Arc::new(SegmentFile::open(&self.place, self.number).ok()?),
        };
        match self.part {
            Part::Table(footer) => file.read_table(footer).ok()?.map(Content::Table),
            Part::Blocks(blocks) => {
                let read = |block: &Block| Some((block.place, file.read_block(*block).ok()??));
                let read: Vec<_> = blocks.iter().map_while(read).collect();
                (!read.is_empty()).then_some(Content::Blocks(read))
            }
        }
    }
}

/// What a [`Load`] brought.
#[derive(Debug)]
pub struct Loaded {
    number: u64,
    /// As [`Part::first`].
    first: Option<u64>,
    /// `None` if nothing could be read.
    content: Option<Content>,
}

#[derive(Debug)]
enum Content {
    Table(Table),
    /// Each with its place.
    Blocks(Vec<(u64, Bytes)>),
}
