//! A run of consecutive messages that is written, rewritten and dropped as one.
//!
//! A segment grows in memory as blocks of records, which are written behind; when it is full it is closed, and when all
//! of it is written it gets its footer and is *sealed*: its table leaves the memory and comes back when asked for. Which
//! of its messages live is always in memory, as a compressed set. A memory stream's segments are never written, and
//! that is all the difference.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use roaring::RoaringBitmap;

use crate::file::SegmentFile;
use crate::message::NewMessage;
use crate::record;
use crate::subjects::SubjectId;
use crate::table::{Block, Index, Row, Table};

/// A block holds no more bytes than this, unless it is a single record. Large enough to compress well and to read ahead,
/// small enough that a single old message does not cost much to fetch.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Segment {
    /// Its own among all segments the stream ever had; part of the file's name.
    pub(crate) number: u64,
    /// Sequence of its first message.
    pub(crate) base: u64,
    /// Sequence of its last message, living or not.
    pub(crate) last: u64,
    /// Live messages, less `base`.
    pub(crate) live: RoaringBitmap,
    /// What they count for.
    pub(crate) bytes: u64,
    /// The lengths of their records.
    pub(crate) live_stored: u64,
    /// Removed messages whose bytes are to be overwritten, less `base`. What lives beside them is moved before the next
    /// checkpoint, so no checkpoint knows of them.
    pub(crate) erased: RoaringBitmap,
    /// The lengths of all records it holds.
    pub(crate) stored: u64,
    /// The largest timestamp it was given.
    pub(crate) newest: i64,
    pub(crate) body: Body,
    /// Every [`POINTS_PER_PAGE`](crate::form::POINTS_PER_PAGE)th delta of a sealed segment's rows: enough to read one
    /// message without the table.
    pub(crate) fence: Arc<[u32]>,
    /// Length of the file; 0 while there is none.
    pub(crate) file_len: u64,
    /// The handle it was written by, as long as something may be unsynced.
    pub(crate) file: Option<Arc<SegmentFile>>,
    /// A sync failed or the footer is damaged: what the file holds is moved to another.
    pub(crate) distrusted: bool,
    /// The file takes no more bytes, and what it holds is moved to another: it is encrypted and what lies beyond its end
    /// may have used those places' nonces up, or it is not encrypted and should be. Then it is closed, too.
    pub(crate) spent: bool,
    /// A write to the file is out, or has failed: what lies beyond the end is not known.
    pub(crate) risked: bool,
    /// The file holds damage and is kept for whoever wants to look.
    pub(crate) damaged: bool,
}

#[derive(Debug)]
pub(crate) enum Body {
    /// Its table is in memory.
    Hot(Hot),
    /// Its table is the file's footer.
    Sealed(Footer),
}

/// Where a footer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) place: u64,
    pub(crate) length: u32,
    /// How many points lie before it.
    pub(crate) points: u32,
    /// Its checksum, to tell it from an older one of the same file.
    pub(crate) hash: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Hot {
    pub(crate) index: Index,
    /// Blocks of the table whose bytes are not in the file, by number.
    pub(crate) unwritten: HashMap<u32, Bytes, foldhash::fast::RandomState>,
    /// The block that grows; it starts at `tail_start`.
    pub(crate) tail: Vec<u8>,
    pub(crate) tail_start: u32,
    /// No more is appended.
    pub(crate) closed: bool,
    /// The stream's ids of subjects by the segment's numbers. An id may since have been given to another subject, but then
    /// none of the number's messages lives.
    pub(crate) ids: Vec<SubjectId>,
    locals: HashMap<SubjectId, u32, foldhash::fast::RandomState>,
}

impl Hot {
    /// A body around a finished table. `id` gives the stream's id of a subject with live messages.
    pub(crate) fn around(table: Table, id: impl Fn(&[u8]) -> Option<SubjectId>) -> Self {
        let mut hot = Self {
            tail_start: table.blocks.last().map_or(0, |block| block.start + block.length),
            index: Index::new(table),
            ..Self::default()
        };
        hot.rename(id);
        hot
    }

    /// The stream's id of one of the segment's subjects; `None` if it was not known when the ids were looked up.
    pub(crate) fn id(&self, local: u32) -> Option<SubjectId> {
        self.ids.get(local as usize).copied().filter(|id| *id != SubjectId::MAX)
    }

    /// Looks every subject's id up again.
    pub(crate) fn rename(&mut self, id: impl Fn(&[u8]) -> Option<SubjectId>) {
        self.ids.clear();
        self.locals.clear();
        for local in 0..self.index.table.names.len() as u32 {
            // A subject without live messages has no id, and nobody will ask for it.
            let id = id(self.index.table.names.get(local)).unwrap_or(SubjectId::MAX);
            self.ids.push(id);
            self.locals.insert(id, local);
        }
    }
}

/// Has a block grow, by doubling, so that a full one has no more memory than it needs.
pub(crate) fn make_room(block: &mut Vec<u8>, length: usize) {
    if block.capacity() - block.len() < length {
        let capacity = (block.len() + length).next_power_of_two().clamp(4096, BLOCK_BYTES);
        block.reserve_exact(capacity.saturating_sub(block.len()).max(length));
    }
}

impl Segment {
    /// A segment that will start with this sequence.
    pub(crate) fn new(number: u64, base: u64) -> Self {
        Self {
            number,
            base,
            last: base - 1,
            live: RoaringBitmap::new(),
            erased: RoaringBitmap::new(),
            bytes: 0,
            live_stored: 0,
            stored: 0,
            newest: i64::MIN,
            body: Body::Hot(Hot::default()),
            fence: Arc::default(),
            file_len: 0,
            file: None,
            distrusted: false,
            spent: false,
            risked: false,
            damaged: false,
        }
    }

    /// Whether a record of this length and sequence may be appended.
    pub(crate) fn takes(&self, sequence: u64, length: usize, segment_bytes: u64) -> bool {
        let Body::Hot(hot) = &self.body else { return false };
        let full = self.stored > 0 && self.stored + length as u64 > segment_bytes;
        !hot.closed && !full && sequence - self.base < u64::from(u32::MAX)
    }

    pub(crate) fn append(&mut self, stream: u64, message: &NewMessage<'_>, id: SubjectId, bytes: u64) {
        let length = record::length(message);
        if matches!(&self.body, Body::Hot(hot) if hot.tail.len() + length > BLOCK_BYTES) {
            self.freeze();
        }
        let Body::Hot(hot) = &mut self.body else { unreachable!("only an open segment takes messages") };
        let start = hot.tail.len();
        make_room(&mut hot.tail, length);
        record::encode(&mut hot.tail, stream, message);
        let delta = (message.sequence - self.base) as u32;
        let table = Arc::make_mut(&mut hot.index.table);
        let local = match hot.locals.get(&id) {
            // The name is compared because an id may have come from another subject.
            Some(local) if table.names.get(*local) == message.subject => *local,
            _ => {
                let local = table.names.push(message.subject);
                hot.ids.push(id);
                hot.locals.insert(id, local);
                local
            }
        };
        let offset = hot.tail_start + start as u32;
        let headers = !message.headers.is_empty();
        table.rows.push(Row::new(message.timestamp, delta, offset, length as u32, local, headers));
        self.live.insert(delta);
        self.last = message.sequence;
        self.bytes += bytes;
        self.live_stored += length as u64;
        self.stored += length as u64;
        self.newest = self.newest.max(message.timestamp);
    }

    /// Ends the block that grows.
    pub(crate) fn freeze(&mut self) {
        let Body::Hot(hot) = &mut self.body else { return };
        if hot.tail.is_empty() {
            return;
        }
        let bytes = Bytes::from(std::mem::take(&mut hot.tail));
        let block = Block { start: hot.tail_start, length: bytes.len() as u32, place: 0, stored: 0 };
        let blocks = &mut Arc::make_mut(&mut hot.index.table).blocks;
        hot.unwritten.insert(blocks.len() as u32, bytes);
        blocks.push(block);
        hot.tail_start += block.length;
    }

    pub(crate) fn close(&mut self) {
        self.freeze();
        if let Body::Hot(hot) = &mut self.body {
            hot.closed = true;
        }
        self.live.optimize();
    }

    /// Nothing more goes into the file.
    pub(crate) fn spend(&mut self) {
        if matches!(self.body, Body::Hot(_)) {
            self.close();
            self.spent = true;
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(&self.body, Body::Hot(hot) if !hot.closed)
    }

    /// What of it is only in memory, in bytes.
    pub(crate) fn unwritten(&self) -> u64 {
        match &self.body {
            Body::Hot(hot) => {
                hot.unwritten.values().map(|bytes| bytes.len() as u64).sum::<u64>() + hot.tail.len() as u64
            }
            Body::Sealed(_) => 0,
        }
    }

    /// The smallest live sequence at or after `from`.
    pub(crate) fn next_live(&self, from: u64) -> Option<u64> {
        let delta = u32::try_from(from.saturating_sub(self.base)).ok()?;
        self.live.range(delta..).next().map(|delta| self.base + u64::from(delta))
    }

    /// The largest live sequence at or before `at_most`.
    pub(crate) fn last_live(&self, at_most: u64) -> Option<u64> {
        let delta = u32::try_from(at_most.checked_sub(self.base)?).unwrap_or(u32::MAX);
        self.live.range(..=delta).next_back().map(|delta| self.base + u64::from(delta))
    }

    /// How many live messages there are at or after `from`.
    pub(crate) fn count_from(&self, from: u64) -> u64 {
        match u32::try_from(from.saturating_sub(self.base)) {
            Ok(0) => self.live.len(),
            Ok(delta) => self.live.len() - self.live.rank(delta - 1),
            Err(_) => 0,
        }
    }

    /// Whether it has this sequence and the message lives.
    pub(crate) fn delta(&self, sequence: u64) -> Option<u32> {
        let delta = u32::try_from(sequence.checked_sub(self.base)?).ok()?;
        self.live.contains(delta).then_some(delta)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        let body = match &self.body {
            Body::Hot(hot) => {
                let unwritten: usize = hot.unwritten.values().map(Bytes::len).sum();
                hot.index.memory_bytes()
                    + (unwritten + hot.tail.capacity() + hot.ids.capacity() * 4 + hot.locals.capacity() * 9)
                        as u64
            }
            Body::Sealed(_) => 0,
        };
        body + (self.fence.len() * 4) as u64 + self.live.serialized_size() as u64 + size_of::<Self>() as u64
    }
}
