//! Heavy work, handed out in portions and run without the stream's lock.
//!
//! One portion is out at a time. It carries all it needs; what it changed on the disk becomes true for the store only in
//! [`Store::finish`], so work that failed or was dropped is simply handed out again.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;
use sonata_disk::Open;

use super::checkpoint::{Freezing, Frozen};
use super::rewrite::{Rewriting, Rewritten};
use super::{Dropped, Store};
use crate::error::Error;
use crate::file::{SegmentFile, overwrite};
use crate::form::{self, FRAME_HEAD};
use crate::segment::{Body, Footer};
use crate::shelf::Place;
use crate::table::Table;

/// Bytes of records that one portion writes, rounded up to blocks.
const PORTION_BYTES: usize = 4 << 20;

/// Bytes that one call of the disk writes, if there is no larger block: they stay in the processor's caches, and others get
/// at the processor after them.
const PIECE_BYTES: usize = 128 << 10;

/// Bytes that the device has before more are written: whoever else waits for it, the journal above all, waits for little more
/// than these.
pub(super) const OUT_BYTES: u64 = 512 << 10;

/// An open segment is written once this much of it waits: fewer, larger writes.
const OPEN_BYTES: u64 = 1 << 20;

/// When this many times [`Options::unwritten_bytes_max`](crate::Options::unwritten_bytes_max) waits while work is out,
/// nothing more is taken.
const BEHIND_FACTOR: u64 = 4;

/// A portion of heavy work, to be run without the stream's lock.
#[derive(Debug)]
pub struct Work {
    /// The store sees by it that work is out.
    token: Arc<()>,
    job: Job,
}

#[derive(Debug)]
enum Job {
    Write(Place, Writing),
    Rewrite(Rewriting),
    Remove(Place, Vec<Dropped>),
    Checkpoint(Box<Freezing>),
}

/// The outcome of [`Work`], for [`Store::finish`].
#[derive(Debug)]
pub struct Done {
    token: Arc<()>,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// With the segment whose sync failed.
    Written(Result<Written, Error>, Option<u64>),
    Rewritten(Result<Rewritten, Error>),
    Removed(Vec<Dropped>, Result<(), Error>),
    Checkpoint(Box<Frozen>),
}

/// What [`Store::finish`] learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// A portion of the background work is done.
    Portion,
    /// A checkpoint is durable.
    Checkpoint {
        /// The position given with it.
        position: u64,
        /// The journal is no longer needed up to here. It is the position of the checkpoint **before** (0 at first): if
        /// this one should prove damaged, the one before and the journal still make up everything.
        release: u64,
    },
}

impl Work {
    /// Does it. Takes as long as the disk does.
    pub fn run(self) -> Done {
        let outcome = match self.job {
            Job::Write(place, writing) => {
                let mut unsynced = None;
                let written = writing.run(&place, &mut unsynced);
                Outcome::Written(written, unsynced)
            }
            Job::Rewrite(rewriting) => Outcome::Rewritten(rewriting.run()),
            Job::Remove(place, files) => {
                let result = remove(&place, &files);
                Outcome::Removed(files, result)
            }
            Job::Checkpoint(freezing) => Outcome::Checkpoint(Box::new(freezing.run())),
        };
        Done { token: self.token, outcome }
    }
}

impl Store {
    /// The next portion of background work: writing, closing a segment, rewriting one that is mostly dead, removing
    /// files. `None` if there is nothing worth doing, or while another portion is out.
    pub fn work(&mut self) -> Option<Work> {
        if self.is_out() {
            return None;
        }
        self.spend_risked();
        let job = self.removal().or_else(|| self.writing()).or_else(|| self.rewriting().map(Job::Rewrite))?;
        Some(self.hand_out(job))
    }

    /// Freezes what a checkpoint needs; short. `position` and `state` come back from [`Store::open`]. The first one with a
    /// state is written twice, so that damage to one file never leaves a stream without it. `None` while other work is out,
    /// and for a stream in memory. After a failed sync, and after [`Store::erase`], other work may have to come first, which
    /// this hands out instead: [`Finished`] says what it was.
    pub fn checkpoint(&mut self, position: u64, state: Vec<u8>) -> Option<Work> {
        if self.is_out() {
            return None;
        }
        let place = self.shelf.place.clone()?;
        self.spend_risked();
        if let Some(rewriting) = self.rescue() {
            return Some(self.hand_out(Job::Rewrite(rewriting)));
        }
        let freezing = self.freeze(place, position, state);
        Some(self.hand_out(Job::Checkpoint(Box::new(freezing))))
    }

    /// Takes the outcome of work into account.
    ///
    /// # Errors
    /// What the work ran into. The store is as before and the work will be handed out again. After a failed checkpoint
    /// the journal is still needed from where it was.
    pub fn finish(&mut self, done: Done) -> Result<Finished, Error> {
        drop(done.token);
        match done.outcome {
            Outcome::Written(written, unsynced) => {
                self.distrust(unsynced);
                self.written(written?);
            }
            Outcome::Rewritten(rewritten) => self.rewritten(rewritten?)?,
            Outcome::Removed(files, result) => {
                result?;
                self.ledger.doomed.retain(|file| !files.contains(file));
            }
            Outcome::Checkpoint(frozen) => return self.frozen(*frozen),
        }
        Ok(Finished::Portion)
    }

    /// What was written to a file whose sync failed may never get there: it is moved.
    pub(super) fn distrust(&mut self, unsynced: Option<u64>) {
        for segment in self.segments.iter_mut().filter(|segment| Some(segment.number) == unsynced) {
            segment.distrusted = true;
        }
    }

    fn is_out(&self) -> bool {
        self.out.strong_count() > 0
    }

    fn hand_out(&mut self, job: Job) -> Work {
        let token = Arc::new(());
        self.out = Arc::downgrade(&token);
        Work { token, job }
    }

    /// Gives up the files of writes that failed or were never heard of again, if they are encrypted: the same places
    /// must not be written again with something else. No work is out.
    fn spend_risked(&mut self) {
        for segment in &mut self.segments {
            let risked = std::mem::take(&mut segment.risked);
            if risked && segment.file.as_ref().is_some_and(|file| file.is_encrypted()) {
                segment.spend();
            }
        }
    }

    /// Writes on the spot what should have been written in the background.
    pub(super) fn write_now(&mut self) -> Result<(), Error> {
        if self.is_out() {
            let max = self.options.unwritten_bytes_max.saturating_mul(BEHIND_FACTOR);
            return if self.unwritten > max { Err(Error::Behind) } else { Ok(()) };
        }
        self.spend_risked();
        while self.unwritten > self.options.unwritten_bytes_max
            && let Some(job) = self.writing().or_else(|| self.rescue().map(Job::Rewrite))
        {
            let work = self.hand_out(job);
            self.finish(work.run())?;
        }
        Ok(())
    }

    fn removal(&mut self) -> Option<Job> {
        let place = self.shelf.place.clone()?;
        let files = self.ledger.doomed.clone();
        (!files.is_empty()).then_some(Job::Remove(place, files))
    }

    fn writing(&mut self) -> Option<Job> {
        let place = self.shelf.place.clone()?;
        let at = self.segments.iter().position(|segment| match &segment.body {
            Body::Hot(_) if segment.distrusted || segment.spent => false,
            Body::Hot(hot) if hot.closed => true,
            Body::Hot(hot) => {
                (hot.unwritten.len() as u64) * (crate::segment::BLOCK_BYTES as u64) >= OPEN_BYTES
            }
            Body::Sealed(_) => false,
        })?;
        Some(Job::Write(place, self.writing_of(at, PORTION_BYTES)?))
    }

    /// What is to be written of a segment, up to a number of bytes.
    pub(super) fn writing_of(&mut self, at: usize, bytes_max: usize) -> Option<Writing> {
        let segment = &mut self.segments[at];
        let Body::Hot(hot) = &segment.body else { return None };
        if segment.spent {
            return None;
        }
        segment.risked = true;
        let mut blocks = Vec::new();
        let mut bytes = 0;
        let mut numbers: Vec<u32> = hot.unwritten.keys().copied().collect();
        numbers.sort_unstable();
        for number in &numbers {
            if bytes >= bytes_max {
                break;
            }
            let content = hot.unwritten[number].clone();
            bytes += content.len();
            blocks.push((*number, hot.index.table.blocks[*number as usize].start, content));
        }
        let last = blocks.len() == numbers.len();
        let seal = (hot.closed && last && hot.tail.is_empty())
            .then(|| (Arc::clone(&hot.index.table), segment.live.clone()));
        Some(Writing {
            number: segment.number,
            base: segment.base,
            file: segment.file.clone(),
            file_len: segment.file_len,
            blocks,
            seal,
        })
    }

    pub(super) fn written(&mut self, written: Written) {
        let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == written.number) else {
            // It died meanwhile, perhaps before it was known to have a file.
            let number = written.number;
            if !self.ledger.dropped.iter().any(|file| file.number == number) {
                self.ledger.dropped.push(Dropped { number, damaged: false, erase: false });
            }
            return;
        };
        segment.risked = false;
        segment.file = Some(written.file);
        segment.file_len = written.file_len;
        let Body::Hot(hot) = &mut segment.body else { return };
        let blocks = &mut Arc::make_mut(&mut hot.index.table).blocks;
        for (number, place, stored) in written.placed {
            if let Some(block) = blocks.get_mut(number as usize) {
                (block.place, block.stored) = (place, stored);
            }
            if let Some(bytes) = hot.unwritten.remove(&number) {
                self.unwritten -= bytes.len() as u64;
                self.shelf.keep_block(segment.number, place, bytes);
            }
        }
        if let Some((table, footer)) = written.sealed {
            segment.body = Body::Sealed(footer);
            segment.fence = form::fence(&table);
            self.shelf.keep_table(segment.number, table);
        }
    }
}

/// Blocks of one segment on their way to its file, perhaps with the footer.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) number: u64,
    pub(super) base: u64,
    /// `None` for a file that does not exist yet.
    pub(super) file: Option<Arc<SegmentFile>>,
    pub(super) file_len: u64,
    /// Number, start in the segment, records.
    pub(super) blocks: Vec<(u32, u32, Bytes)>,
    /// The table as it is without what this writes, and what lives.
    pub(super) seal: Option<(Arc<Table>, RoaringBitmap)>,
}

/// What a [`Writing`] brought about.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) number: u64,
    pub(super) file: Arc<SegmentFile>,
    pub(super) file_len: u64,
    /// Number, place in the file, length of the frame.
    pub(super) placed: Vec<(u32, u64, u32)>,
    pub(super) sealed: Option<(Table, Footer)>,
}

impl Writing {
    /// Sets `unsynced` to the segment's number when its file could not be synced.
    pub(super) fn run(&self, place: &Place, unsynced: &mut Option<u64>) -> Result<Written, Error> {
        let name = place.segment(self.number);
        let mut bytes = Vec::new();
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None if self.file_len > 0 => Arc::new(SegmentFile::open(place, self.number)?),
            None => {
                let created = SegmentFile::create(place, self.number);
                let (file, header) = created.map_err(|error| Error::disk(&name, error))?;
                bytes = header;
                Arc::new(file)
            }
        };
        self.write(place, file, bytes, unsynced).map_err(|error| Error::disk(&name, error))
    }

    /// Writes behind `bytes`, the header of a new file, in pieces.
    fn write(
        &self,
        place: &Place,
        file: Arc<SegmentFile>,
        mut bytes: Vec<u8>,
        unsynced: &mut Option<u64>,
    ) -> io::Result<Written> {
        let mut file_len = self.file_len;
        let mut out = file_len;
        let mut write_out = |part: Range<u64>| {
            let result = file.file.write_out(part.start, part.end - part.start);
            result.inspect_err(|_| *unsynced = Some(self.number))
        };
        let mut placed = Vec::with_capacity(self.blocks.len());
        for (number, start, plain) in &self.blocks {
            if bytes.len() + plain.len() > PIECE_BYTES {
                file.file.write_at(&bytes, file_len)?;
                file_len += bytes.len() as u64;
                bytes.clear();
                if file_len - out >= OUT_BYTES {
                    write_out(out..file_len)?;
                    out = file_len;
                }
            }
            let at = file_len + bytes.len() as u64;
            let lock = file.lock(at);
            let stored =
                form::frame(&mut bytes, place.stream, self.number, *start, plain, place.compression, lock);
            debug_assert!(stored >= FRAME_HEAD);
            placed.push((*number, at, stored as u32));
        }
        let mut sealed = None;
        if let Some((table, live)) = &self.seal {
            let mut table = table.settled(live);
            for (number, at, stored) in &placed {
                if let Some(block) = table.blocks.get_mut(*number as usize) {
                    (block.place, block.stored) = (*at, *stored);
                }
            }
            let at = file_len + bytes.len() as u64;
            bytes.extend_from_slice(&form::points(&table, file.sealer(), at));
            let at = file_len + bytes.len() as u64;
            let footer = form::footer(place.stream, self.number, self.base, &table, file.lock(at));
            let hash = crate::record::u64_at(&footer, footer.len() - 8).unwrap_or_default();
            bytes.extend_from_slice(&footer);
            let points = table.rows.len() as u32;
            sealed = Some((table, Footer { place: at, length: footer.len() as u32, points, hash }));
        }
        file.file.write_at(&bytes, file_len)?;
        file_len += bytes.len() as u64;
        write_out(out..file_len)?;
        Ok(Written { number: self.number, file, file_len, placed, sealed })
    }
}

/// Removes segment files; damaged ones are put aside.
fn remove(place: &Place, files: &[Dropped]) -> Result<(), Error> {
    for file in files {
        let name = place.segment(file.number);
        let result = if file.damaged {
            place.disk.rename(&name, &format!("{name}.damaged"))
        } else if file.erase {
            erase(place, &name)
        } else {
            place.disk.remove(&name)
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(|error| Error::disk(&name, error))?,
        }
    }
    Ok(())
}

/// Overwrites a file and removes it.
fn erase(place: &Place, name: &str) -> io::Result<()> {
    let file = place.disk.open(name, Open::Existing)?;
    overwrite(&*file, 0, file.len()?)?;
    place.disk.remove(name)
}
