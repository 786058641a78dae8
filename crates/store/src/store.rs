//! One stream's messages.
//!
//! This file: what a store is, appending, reading one message, the numbers. Questions over many messages are in
//! `query`, what takes messages away in `removal`, what goes to the disk in `work` and `checkpoint`, what comes back in
//! `open`.

mod checkpoint;
mod open;
mod query;
mod removal;
mod rewrite;
mod work;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use roaring::{RoaringBitmap, RoaringTreemap};
use sonata_disk::Disk;

use crate::error::{Damage, Error};
use crate::message::{Accounting, MESSAGE_BYTES_MAX, Message, NewMessage, SUBJECT_BYTES_MAX};
use crate::options::Options;
use crate::record;
use crate::segment::{Body, Segment};
use crate::shelf::{Place, Shelf};
use crate::state::{Lost, State};
use crate::subjects::Subjects;
use crate::table::{Block, Index, Row};

pub use open::{Encryption, Opened};
pub use query::{Load, Loaded};
pub use work::{Done, Finished, Work};

/// One stream's messages. See the crate's head.
#[derive(Debug)]
pub struct Store {
    options: Options,
    accounting: Accounting,
    /// Ascending and disjoint. Only the last may be open.
    segments: VecDeque<Segment>,
    subjects: Subjects,
    shelf: Shelf,
    messages: u64,
    bytes: u64,
    /// First live sequence and its timestamp.
    first: Option<(u64, i64)>,
    last: u64,
    last_timestamp: i64,
    /// Sequences whose messages damage has taken. None of them is live.
    lost_sequences: RoaringTreemap,
    lost: Lost,
    damage: Vec<Damage>,
    /// The number of the next segment.
    next_number: u64,
    /// Bytes of blocks that are only in memory.
    unwritten: u64,
    /// Held by work that is out.
    out: Weak<()>,
    ledger: Ledger,
    /// The sequence that was read last: reading on is worth reading ahead.
    read_last: u64,
    /// Damage took messages whose subjects are not known, so the subject index must be built anew.
    recount_due: bool,
}

/// Which files and journal positions the durable checkpoints depend on.
#[derive(Debug, Default)]
struct Ledger {
    /// The newest checkpoint's number; 0 before the first.
    number: u64,
    /// The highest number ever used, which a damaged checkpoint may have.
    highest: u64,
    /// Its position.
    position: u64,
    /// Whether it was given a state.
    has_state: bool,
    /// Segments dropped since it was frozen: it still mentions them.
    dropped: Vec<Dropped>,
    /// Segments dropped before that: only the checkpoint before mentions them.
    kept: Vec<Dropped>,
    /// Segments that no checkpoint mentions any more.
    doomed: Vec<Dropped>,
}

/// A segment's file that the store does not need any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dropped {
    number: u64,
    /// Then it is put aside instead of removed.
    damaged: bool,
    /// It holds, or may hold, a message that was [erased](Store::erase): its bytes are overwritten before it is removed.
    erase: bool,
}

impl Store {
    /// A stream in memory. `id` only serves to tell streams apart.
    pub fn memory(id: u64) -> Self {
        Self::memory_with(Options { id, ..Options::default() })
    }

    /// A stream in memory whose segments, the unit in which memory is given back, have a size of one's choice.
    pub fn memory_with(options: Options) -> Self {
        Self::new(None, options, Accounting::Memory)
    }

    /// A new stream in an empty or absent folder. Its first checkpoint, at position 0 and without state, is durable when
    /// this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn create(disk: Arc<dyn Disk>, folder: &str, options: Options) -> Result<Self, Error> {
        disk.create_folder(folder).map_err(|error| Error::disk(folder, error))?;
        let mut store = Self::filed(disk, folder, options);
        if let Some(work) = store.checkpoint(0, Vec::new()) {
            store.finish(work.run())?;
        }
        store.sync_parents()?;
        Ok(store)
    }

    /// Makes the folder's own name durable, and those of the folders above.
    fn sync_parents(&self) -> Result<(), Error> {
        let Some(Place { disk, folder, .. }) = &self.shelf.place else { return Ok(()) };
        let mut folder = folder.as_str();
        while !folder.is_empty() {
            folder = folder.rsplit_once('/').map_or("", |(parent, _)| parent);
            disk.sync_folder(folder).map_err(|error| Error::disk(folder, error))?;
        }
        Ok(())
    }

    fn filed(disk: Arc<dyn Disk>, folder: &str, options: Options) -> Self {
        let place = Place {
            disk,
            folder: folder.to_owned(),
            stream: options.id,
            compression: options.compression,
            seal: options.seal.clone(),
        };
        Self::new(Some(place), options, Accounting::File)
    }

    fn new(place: Option<Place>, mut options: Options, accounting: Accounting) -> Self {
        options.segment_bytes = options.segment_bytes.clamp(4 << 10, 1 << 30);
        Self {
            accounting,
            segments: VecDeque::new(),
            subjects: Subjects::new(),
            shelf: Shelf::new(place, options.cache_bytes_max),
            messages: 0,
            bytes: 0,
            first: None,
            last: 0,
            last_timestamp: 0,
            lost_sequences: RoaringTreemap::new(),
            lost: Lost::default(),
            damage: Vec::new(),
            next_number: 1,
            unwritten: 0,
            out: Weak::new(),
            ledger: Ledger::default(),
            read_last: 0,
            recount_due: false,
            options,
        }
    }

    /// Appends a message. A sequence beyond the next leaves a gap that counts as deleted. No I/O unless more than
    /// [`Options::unwritten_bytes_max`] wait for [`Store::work`].
    ///
    /// # Errors
    /// [`Error::NotNext`], [`Error::TooLarge`]; if too much waits, the disk's or [`Error::Behind`]. Nothing was appended
    /// then.
    pub fn append(&mut self, message: NewMessage<'_>) -> Result<(), Error> {
        if message.sequence <= self.last || message.sequence == u64::MAX {
            return Err(Error::NotNext { sequence: message.sequence, last: self.last });
        }
        let content = message.subject.len() + message.headers.len() + message.payload.len();
        if message.subject.len() > SUBJECT_BYTES_MAX || content > MESSAGE_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        if self.unwritten > self.options.unwritten_bytes_max {
            self.write_now()?;
        }
        let length = record::length(&message);
        let takes = self
            .segments
            .back()
            .is_some_and(|s| s.takes(message.sequence, length, self.options.segment_bytes));
        if !takes {
            self.open_segment(message.sequence);
        }
        let bytes =
            self.accounting.bytes(message.subject.len(), message.headers.len(), message.payload.len());
        let id = self.subjects.enter(message.subject);
        self.subjects.set(id, self.subjects.value(id).appended(message.sequence));
        if let Some(segment) = self.segments.back_mut() {
            segment.append(self.options.id, &message, id, bytes);
        }
        self.first.get_or_insert((message.sequence, message.timestamp));
        self.last = message.sequence;
        self.last_timestamp = message.timestamp;
        self.messages += 1;
        self.bytes += bytes;
        if self.shelf.place.is_some() {
            self.unwritten += length as u64;
        }
        Ok(())
    }

    fn open_segment(&mut self, base: u64) {
        if let Some(full) = self.segments.back_mut() {
            full.close();
            self.bury(self.segments.len() - 1);
        }
        let number = self.new_number();
        self.segments.push_back(Segment::new(number, base));
    }

    fn new_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    /// Makes `last` the last sequence although no message has it; nothing if the last is larger already.
    pub fn advance(&mut self, last: u64) {
        self.last = self.last.max(last.min(u64::MAX - 1));
    }

    /// The same for a message that came at `timestamp` and was not kept.
    pub fn skip(&mut self, sequence: u64, timestamp: i64) {
        if sequence > self.last {
            self.advance(sequence);
            self.last_timestamp = timestamp;
        }
    }

    /// The numbers of stream information. Cheap.
    pub fn state(&self) -> State {
        let (first_sequence, first_timestamp) = self.first.unwrap_or((self.last + 1, 0));
        State {
            messages: self.messages,
            bytes: self.bytes,
            first_sequence,
            first_timestamp,
            last_sequence: self.last,
            last_timestamp: self.last_timestamp,
            subjects: self.subjects.len() as u64,
            deleted: (self.last + 1).saturating_sub(first_sequence).saturating_sub(self.messages),
            lost: self.lost,
        }
    }

    /// Appended bytes that wait for [`Store::work`] to write them.
    pub fn unwritten_bytes(&self) -> u64 {
        self.unwritten
    }

    /// Sequence and timestamp of the first live message, for expiry.
    pub fn oldest(&self) -> Option<(u64, i64)> {
        self.first
    }

    /// Ranges of sequences between first and last that have no message, ascending.
    pub fn deleted(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        let mut expected = self.state().first_sequence;
        let live = self.segments.iter().flat_map(|segment| {
            let base = segment.base;
            LiveRuns { runs: segment.live.iter() }
                .map(move |(low, high)| (base + u64::from(low), base + u64::from(high)))
        });
        live.chain([(self.last + 1, self.last + 1)]).filter_map(move |(low, high)| {
            let gap = expected..=low - 1;
            expected = high + 1;
            (!gap.is_empty()).then_some(gap)
        })
    }

    /// Sequences whose messages damage has cost, in order.
    pub fn lost_sequences(&self) -> impl Iterator<Item = u64> + '_ {
        self.lost_sequences.iter()
    }

    /// The message of a sequence; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Damaged`] rather than wrong bytes; the disk's.
    pub fn get(&mut self, sequence: u64) -> Result<Option<Message>, Error> {
        let Some((at, delta)) = self.locate(sequence) else {
            return if self.lost_sequences.contains(sequence) {
                Err(Error::Damaged { sequence })
            } else {
                Ok(None)
            };
        };
        let reads_on = std::mem::replace(&mut self.read_last, sequence).checked_add(1) == Some(sequence);
        if !reads_on && let Some(message) = self.point(at, delta, sequence) {
            return Ok(Some(message));
        }
        self.ready(at)?;
        // Making ready may have found damage and changed what lives.
        let Some((at, delta)) = self.locate(sequence).filter(|found| *found == (at, delta)) else {
            return self.get_again(sequence);
        };
        let row = self.index(at).and_then(|index| index.table.find(delta).copied());
        if let Some(row) = row
            && let Some(bytes) = self.record(at, row)?
            && let Some(message) = record::message(&bytes, self.options.id, sequence)
        {
            return Ok(Some(message));
        }
        self.lose(at, delta)?;
        Err(Error::Damaged { sequence })
    }

    fn get_again(&mut self, sequence: u64) -> Result<Option<Message>, Error> {
        if self.locate(sequence).is_some() { self.get(sequence) } else { Err(Error::Damaged { sequence }) }
    }

    /// Damage found since the last call (damage found at opening is in [`Opened`]).
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    /// Removes every file and the folder.
    ///
    /// # Errors
    /// The disk's; some files may be gone.
    pub fn delete_all(self) -> Result<(), Error> {
        let Some(place) = &self.shelf.place else { return Ok(()) };
        place.disk.remove_folder(&place.folder).map_err(|error| Error::disk(&place.folder, error))
    }

    /// Lets go of what is kept of the files for the next question, if none came since this was last called: to be called
    /// now and then, best every few seconds.
    pub fn cool(&mut self) {
        self.shelf.cool();
    }

    /// Bytes held in memory: index, tables, caches, and what waits to be written.
    pub fn memory_bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(Segment::memory_bytes).sum();
        segments
            + self.subjects.memory_bytes() as u64
            + self.shelf.memory_bytes()
            + self.lost_sequences.serialized_size() as u64
    }

    /// Bytes of the segment files that are in use; those that wait for removal are not counted.
    pub fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.file_len).sum()
    }

    /// Index of the segment of a live message, and the message's place in it.
    fn locate(&self, sequence: u64) -> Option<(usize, u32)> {
        let at = self.segments.partition_point(|segment| segment.base <= sequence).checked_sub(1)?;
        self.segments[at].delta(sequence).map(|delta| (at, delta))
    }

    /// Index of the first segment that may hold `from` or more.
    fn segment_from(&self, from: u64) -> usize {
        self.segments.partition_point(|segment| segment.last < from)
    }

    /// Whether a segment's table is in memory.
    fn is_ready(&self, at: usize) -> bool {
        let segment = &self.segments[at];
        matches!(segment.body, Body::Hot(_)) || self.shelf.tables.contains(segment.number)
    }

    /// Brings a segment's table into memory.
    fn ready(&mut self, at: usize) -> Result<(), Error> {
        if self.recount_due {
            self.recount()?;
        }
        let Some(segment) = self.segments.get(at) else { return Ok(()) };
        let Body::Sealed(footer) = segment.body else { return Ok(()) };
        let number = segment.number;
        if self.shelf.tables.contains(number) {
            return Ok(());
        }
        match self.shelf.load_table(number, footer)? {
            Some(table) => {
                self.shelf.keep_table(number, table);
                Ok(())
            }
            None => self.mend(at),
        }
    }

    /// A message of a sealed segment whose table is not in memory, read by itself. `None` for any reason.
    fn point(&mut self, at: usize, delta: u32, sequence: u64) -> Option<Message> {
        let segment = &self.segments[at];
        let number = segment.number;
        let Body::Sealed(footer) = segment.body else { return None };
        if self.shelf.tables.contains(number) {
            return None;
        }
        let bytes = self.shelf.load_point(number, footer, &segment.fence, delta)?;
        record::message(&bytes, self.options.id, sequence)
    }

    /// A segment's table; `None` unless it is ready.
    fn index(&mut self, at: usize) -> Option<&mut Index> {
        self.parts(at).map(|(index, _)| index)
    }

    /// A segment's table and what lives of it; `None` unless it is ready.
    fn parts(&mut self, at: usize) -> Option<(&mut Index, &RoaringBitmap)> {
        let segment = self.segments.get_mut(at)?;
        let index = match &mut segment.body {
            Body::Hot(hot) => &mut hot.index,
            Body::Sealed(_) => self.shelf.tables.get(segment.number)?,
        };
        Some((index, &segment.live))
    }

    /// A record's bytes, unchecked; `None` if they cannot be read.
    fn record(&mut self, at: usize, row: Row) -> Result<Option<Bytes>, Error> {
        match self.held(at, row) {
            Held::Here(bytes) => Ok(bytes),
            Held::InFile(block) => {
                let number = self.segments[at].number;
                let Some(bytes) = self.shelf.load_block(number, block)? else { return Ok(None) };
                let record = cut(&bytes, block, row);
                self.shelf.keep_block(number, block.place, bytes);
                Ok(record)
            }
        }
    }

    /// A record's bytes, unchecked, if they are in memory.
    fn held(&mut self, at: usize, row: Row) -> Held {
        let segment = &mut self.segments[at];
        let number = segment.number;
        let (index, unwritten) = match &mut segment.body {
            Body::Hot(hot) => {
                if row.offset >= hot.tail_start {
                    let start = (row.offset - hot.tail_start) as usize;
                    let bytes = hot.tail.get(start..start + row.length as usize);
                    return Held::Here(bytes.map(Bytes::copy_from_slice));
                }
                (&mut hot.index, Some(&hot.unwritten))
            }
            Body::Sealed(_) => match self.shelf.tables.get(number) {
                Some(index) => (index, None),
                None => return Held::Here(None),
            },
        };
        let Some(block_number) = index.table.block(row.offset) else { return Held::Here(None) };
        let block = index.table.blocks[block_number];
        if let Some(bytes) = unwritten.and_then(|unwritten| unwritten.get(&(block_number as u32))) {
            return Held::Here(cut(bytes, block, row));
        }
        match self.shelf.blocks.get((number, block.place)) {
            Some(bytes) => Held::Here(cut(bytes, block, row)),
            None => Held::InFile(block),
        }
    }
}

/// Where a record's bytes are.
enum Held {
    /// In memory, or nowhere.
    Here(Option<Bytes>),
    InFile(Block),
}

/// A record's part of its block.
fn cut(block_bytes: &Bytes, block: Block, row: Row) -> Option<Bytes> {
    let start = (row.offset - block.start) as usize;
    let end = start + row.length as usize;
    (end <= block_bytes.len()).then(|| block_bytes.slice(start..end))
}

/// Runs of consecutive numbers of a set.
struct LiveRuns<'a> {
    runs: roaring::bitmap::Iter<'a>,
}

impl Iterator for LiveRuns<'_> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        self.runs.next_range().map(|run| (*run.start(), *run.end()))
    }
}
