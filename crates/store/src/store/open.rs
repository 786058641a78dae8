//! What comes back from the disk, and what to do when it is not what was written.
//!
//! The newest checkpoint that verifies decides. What lies in files beyond it is cut, since the journal tells it again.
//! What it names and cannot be read is lost, counted and reported; everything else is served.

use std::io;
use std::sync::Arc;

use hashbrown::HashMap;
use sonata_disk::{Disk, File, Open};

use super::checkpoint::{Entry, Form, Image, Refused, checkpoint_number, file_number};
use super::removal::{counted, file_name};
use super::{Dropped, Store};
use crate::error::{Damage, Error};
use crate::file::{Age, SegmentFile};
use crate::form::{self, FRAME_HEAD, NameBook};
use crate::options::Options;
use crate::record::u64_at;
use crate::segment::{Body, Hot, Segment};
use crate::shelf::Place;
use crate::subjects::{Subjects, Value};
use crate::table::{Block, Table};

/// What [`Store::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The store as of its checkpoint.
    pub store: Store,
    /// The position given with that checkpoint: everything after it must be told again.
    pub position: u64,
    /// The bytes given with it.
    pub state: Vec<u8>,
    /// What was found not to be as written.
    pub damage: Vec<Damage>,
    /// Which of the stream's files the current key does not protect.
    pub encryption: Encryption,
}

/// How many files of a stream are not under the current key; all 0 if no keys are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encryption {
    /// Files under a previous key, which must be given until there is none of them.
    pub previous: u64,
    /// Files that are not encrypted.
    pub plain: u64,
}

impl Encryption {
    fn note(&mut self, age: Age) {
        match age {
            Age::Current => {}
            Age::Previous => self.previous += 1,
            Age::Plain => self.plain += 1,
        }
    }
}

impl Store {
    /// The stream as of its last durable checkpoint. If that is damaged, the one before serves, and the journal closes
    /// the gap (see [`Finished::Checkpoint`](crate::Finished::Checkpoint)); if there is none, all segments are searched
    /// for messages, at position 0. Without any file it is an empty stream at position 0.
    ///
    /// # Errors
    /// The disk's, [`Error::Newer`], [`Error::Foreign`], and [`Error::Key`] if a file needs a key that is not given: nothing is
    /// removed or put aside then. Damage is no error.
    pub fn open(disk: Arc<dyn Disk>, folder: &str, options: Options) -> Result<Opened, Error> {
        let failed = |error| Error::disk(folder, error);
        disk.create_folder(folder).map_err(failed)?;
        let names: Vec<String> =
            disk.list(folder).map_err(failed)?.into_iter().map(|entry| entry.name).collect();
        let mut store = Self::filed(disk, folder, options);
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| checkpoint_number(name)).collect();
        numbers.sort_unstable();
        let newest = numbers.last().copied().unwrap_or(0);
        let mut image = None;
        let mut encryption = Encryption::default();
        let encrypts = store.options.seal.is_some();
        while let Some(number) = numbers.pop() {
            if let Some((found, age)) = store.read_checkpoint(number)? {
                encryption.note(age);
                image = Some((number, found));
                break;
            }
        }
        for number in numbers {
            encryption.note(store.checkpoint_age(number)?);
        }
        let segments: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
        let (mut position, mut state) = (0, Vec::new());
        match image {
            Some((number, mut found)) => {
                (position, state) = (found.position, std::mem::take(&mut found.state));
                store.ledger.number = number;
                store.ledger.position = position;
                store.ledger.has_state = !state.is_empty();
                store.restore(found, &segments, &mut encryption)?;
            }
            None if !segments.is_empty() => store.salvage(&segments, &mut encryption)?,
            None => {}
        }
        store.ledger.highest = newest;
        store.next_number = segments.iter().map(|number| number + 1).fold(store.next_number, u64::max);
        store.first = None;
        store.first_from_segments();
        let damage = store.take_damage();
        let encryption = if encrypts { encryption } else { Encryption::default() };
        Ok(Opened { store, position, state, damage, encryption })
    }

    fn first_from_segments(&mut self) {
        self.first = Some((0, 0));
        self.settle_first();
    }

    /// `None` if it is damaged; it is put aside then.
    fn read_checkpoint(&mut self, number: u64) -> Result<Option<(Image, Age)>, Error> {
        let Some(place) = self.shelf.place.clone() else { return Ok(None) };
        let name = place.checkpoint(number);
        let bytes = read_all(&place, &name).map_err(|error| Error::disk(&name, error))?;
        match Image::decode(&bytes, &place, number) {
            Ok(found) => Ok(Some(found)),
            Err(Refused::Newer(version)) => Err(Error::Newer { file: name, version }),
            Err(Refused::Foreign) => Err(Error::Foreign { file: name }),
            Err(Refused::Key(source)) => Err(Error::Key { file: name, source }),
            Err(Refused::Damaged) => {
                let aside = format!("{name}.damaged");
                place.disk.rename(&name, &aside).map_err(|error| Error::disk(&name, error))?;
                let file = name.rsplit('/').next().unwrap_or_default().to_owned();
                self.damage.push(Damage {
                    file,
                    sequences: None,
                    what: "a checkpoint's checksum does not hold",
                });
                Ok(None)
            }
        }
    }

    /// Under which key a checkpoint is that is not read.
    fn checkpoint_age(&self, number: u64) -> Result<Age, Error> {
        let Some(place) = self.shelf.place.as_ref().filter(|place| place.seal.is_some()) else {
            return Ok(Age::Plain);
        };
        let name = place.checkpoint(number);
        let failed = |error| Error::disk(&name, error);
        let file = place.disk.open(&name, Open::Existing).map_err(failed)?;
        let length = file.len().map_err(failed)?;
        let head = read_at(&*file, 0, form::SEALED_HEAD, length).map_err(failed)?;
        let seal = form::Head::decode(form::Kind::Checkpoint, &head).map(|head| head.seal);
        // One that is damaged is of no use with any key.
        Ok(seal.map_or(Age::Current, |seal| seal.map_or(Age::Plain, |wrapped| place.age(&wrapped))))
    }

    /// Becomes what a checkpoint says, as far as the segments are there.
    fn restore(&mut self, image: Image, files: &[u64], encryption: &mut Encryption) -> Result<(), Error> {
        let Some(place) = self.shelf.place.clone() else { return Ok(()) };
        self.last = image.last;
        self.last_timestamp = image.last_timestamp;
        self.lost = image.lost;
        self.lost_sequences = image.lost_sequences;
        self.next_number = image.next_number;
        self.subjects = image.subjects;
        let mut named: Vec<u64> = image.kept.iter().map(|file| file.number).collect();
        named.extend(image.segments.iter().map(|entry| entry.number));
        self.ledger.kept = image.kept;
        for entry in image.segments {
            self.messages += entry.live.len();
            self.bytes += entry.bytes;
            self.restore_segment(&place, entry, encryption)?;
        }
        if self.recount_due {
            self.recount()?;
        }
        // Whatever was begun after the checkpoint is told again by the journal.
        for number in files.iter().filter(|number| !named.contains(number)) {
            // What was erased from it is not known.
            self.ledger.doomed.push(Dropped { number: *number, damaged: false, erase: true });
        }
        Ok(())
    }

    fn restore_segment(
        &mut self,
        place: &Place,
        entry: Entry,
        encryption: &mut Encryption,
    ) -> Result<(), Error> {
        let mut segment = Segment::new(entry.number, entry.base.max(1));
        segment.last = entry.last;
        segment.bytes = entry.bytes;
        segment.live_stored = entry.live_stored;
        segment.stored = entry.stored;
        segment.newest = entry.newest;
        segment.live = entry.live;
        segment.damaged = entry.damaged;
        segment.file_len = entry.file_len;
        segment.fence = entry.fence;
        let number = entry.number;
        self.segments.push_back(segment);
        let at = self.segments.len() - 1;
        let (file, age, whole) = match SegmentFile::inspect(place, number) {
            Ok((file, age, whole)) => (file, age, whole),
            Err(Error::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return self.search(at);
            }
            // What bears a foreign head may still hold some of our records.
            Err(Error::Foreign { .. }) => (SegmentFile::open(place, number)?, Age::Plain, false),
            Err(error) => return Err(error),
        };
        let rewraps = age == Age::Previous && matches!(entry.form, Form::Sealed(_));
        encryption.note(if rewraps { file.rewrap(place) } else { age });
        if !whole {
            distrust_header(&mut self.segments[at], &mut self.damage);
        }
        match entry.form {
            Form::Sealed(footer) => {
                self.segments[at].body = Body::Sealed(footer);
                let end = footer.place.saturating_add(u64::from(footer.length));
                let hash = file.read(end.saturating_sub(8), 8)?;
                if hash.and_then(|hash| u64_at(&hash, 0)) == Some(footer.hash) {
                    Ok(())
                } else {
                    self.search(at)
                }
            }
            Form::Hot { closed, blocks } => {
                file.cut(entry.file_len)?;
                let mut table = Table { blocks, ..Table::default() };
                let spent = place.seal.is_some();
                let whole = index_blocks(place, &file, self.segments[at].base, &mut table)?
                    && self.segments[at].live.iter().all(|delta| table.find(delta).is_some());
                self.segments[at].file = Some(Arc::new(file));
                self.take_table(at, table, closed || !whole);
                if !whole {
                    self.mourn(at);
                }
                if spent {
                    // Places beyond the end may have been written before, and what is not encrypted ends here.
                    self.segments[at].spend();
                }
                Ok(())
            }
        }
    }

    /// Makes the best of a segment whose footer or file is damaged.
    pub(super) fn mend(&mut self, at: usize) -> Result<(), Error> {
        self.search(at)?;
        self.recount()
    }

    /// Searches a segment's file for its records. The subject index is then due to be built anew.
    fn search(&mut self, at: usize) -> Result<(), Error> {
        let Some(place) = self.shelf.place.clone() else { return Ok(()) };
        let Segment { number, base, .. } = self.segments[at];
        let file = match SegmentFile::open(&place, number) {
            Ok(file) => Some(file),
            Err(Error::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut table = Table::default();
        if let Some(file) = &file {
            scan(&place, file, base, &mut table)?;
        } else {
            self.segments[at].file_len = 0;
        }
        self.take_table(at, table, true);
        self.mourn(at);
        Ok(())
    }

    /// Gives a segment a table that was built from records.
    fn take_table(&mut self, at: usize, table: Table, closed: bool) {
        let mut hot = Hot::around(table, |name| self.subjects.find(name));
        hot.closed = closed;
        self.segments[at].body = Body::Hot(hot);
    }

    /// Counts what should live in a damaged segment and is not in its table, and has the rest moved elsewhere.
    fn mourn(&mut self, at: usize) {
        let accounting = self.accounting;
        let segment = &mut self.segments[at];
        let Body::Hot(hot) = &segment.body else { return };
        let table = Arc::clone(&hot.index.table);
        let lost: Vec<u32> = segment.live.iter().filter(|delta| table.find(*delta).is_none()).collect();
        let mut bytes = 0;
        segment.live_stored = 0;
        for delta in &lost {
            segment.live.remove(*delta);
        }
        for row in table.rows.iter().filter(|row| segment.live.contains(row.delta)) {
            bytes += counted(accounting, row, table.names.get(row.local()).len());
            segment.live_stored += u64::from(row.length);
        }
        let lost_bytes = segment.bytes.saturating_sub(bytes);
        segment.bytes = bytes;
        segment.damaged = true;
        segment.distrusted = segment.file_len > 0;
        let base = segment.base;
        self.messages -= lost.len() as u64;
        self.bytes -= lost_bytes;
        self.lost.messages += lost.len() as u64;
        self.lost.bytes += lost_bytes;
        self.lost_sequences.extend(lost.iter().map(|delta| base + u64::from(*delta)));
        let sequences = match (lost.first(), lost.last()) {
            (Some(first), Some(last)) => Some(base + u64::from(*first)..=base + u64::from(*last)),
            _ => None,
        };
        let file = file_name(self.segments[at].number);
        self.damage.push(Damage { file, sequences, what: "a segment is damaged, cut short or missing" });
        // Which subjects the lost messages had is not known.
        self.recount_due |= !lost.is_empty();
    }

    /// Builds the subject index anew from the segments, if damage has made it doubtful.
    pub(super) fn recount(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.recount_due) {
            return Ok(());
        }
        let result = self.rebuild_subjects();
        self.recount_due |= result.is_err();
        self.settle_first();
        result
    }

    fn rebuild_subjects(&mut self) -> Result<(), Error> {
        let mut subjects = Subjects::new();
        for at in 0..self.segments.len() {
            self.ready(at)?;
            let base = self.segments[at].base;
            let Some((index, live)) = self.parts(at) else { continue };
            let table = Arc::clone(&index.table);
            let mut tally: HashMap<u32, (u64, u64, u64), foldhash::fast::RandomState> = HashMap::default();
            for row in table.rows.iter().filter(|row| live.contains(row.delta)) {
                let sequence = base + u64::from(row.delta);
                let entry = tally.entry(row.local()).or_insert((0, sequence, sequence));
                *entry = (entry.0 + 1, entry.1, sequence);
            }
            for (local, (count, low, high)) in tally {
                let id = subjects.enter(table.names.get(local));
                let value = subjects.value(id);
                let first = if value.count() == 0 { low } else { value.first() };
                subjects.set(id, Value::new(value.count() + count, first, high, value.first_loose(), false));
            }
        }
        for segment in &mut self.segments {
            if let Body::Hot(hot) = &mut segment.body {
                hot.rename(|name| subjects.find(name));
            }
        }
        self.subjects = subjects;
        Ok(())
    }

    /// No checkpoint is left: takes every message that can be found, newest files first, whole ones before torn ones.
    fn salvage(&mut self, files: &[u64], encryption: &mut Encryption) -> Result<(), Error> {
        let Some(place) = self.shelf.place.clone() else { return Ok(()) };
        self.damage.push(Damage {
            file: "checkpoint".to_owned(),
            sequences: None,
            what: "no checkpoint is left; messages were searched for in the segments",
        });
        let mut found: Vec<(bool, Segment, Table)> = Vec::new();
        for number in files {
            let (file, age, whole_header) = SegmentFile::inspect(&place, *number)?;
            encryption.note(age);
            // Which sequence a segment starts with is only known from its first record.
            let Some(base) = first_sequence(&place, &file)? else { continue };
            let mut table = Table::default();
            let end = scan(&place, &file, base, &mut table)?;
            let Some(last) = table.rows.last() else { continue };
            let whole = has_footer(&place, &file, end)?;
            let mut segment = Segment::new(*number, base);
            segment.last = base + u64::from(last.delta);
            segment.file_len = end;
            segment.live = table.rows.iter().map(|row| row.delta).collect();
            if !whole_header {
                distrust_header(&mut segment, &mut self.damage);
            }
            found.push((whole, segment, table));
        }
        found.sort_by_key(|(whole, segment, _)| std::cmp::Reverse((*whole, segment.number)));
        for (_, mut segment, table) in found {
            let at = self.segments.partition_point(|other| other.base < segment.base);
            let free = self.segments.get(at).is_none_or(|after| segment.last < after.base)
                && at.checked_sub(1).is_none_or(|before| self.segments[before].last < segment.base);
            if !free {
                continue;
            }
            for row in &table.rows {
                segment.bytes += counted(self.accounting, row, table.names.get(row.local()).len());
                segment.live_stored += u64::from(row.length);
                segment.newest = segment.newest.max(row.timestamp);
            }
            segment.stored = segment.live_stored;
            self.messages += segment.live.len();
            self.bytes += segment.bytes;
            self.segments.insert(at, segment);
            self.take_table(at, table, true);
            if place.seal.is_some() {
                self.segments[at].spend();
            }
        }
        if let Some(segment) = self.segments.back() {
            (self.last, self.last_timestamp) = (segment.last, segment.newest);
        }
        self.recount_due = true;
        self.recount()
    }
}

/// Has what a segment holds moved to a file with a good header.
fn distrust_header(segment: &mut Segment, damage: &mut Vec<Damage>) {
    segment.damaged = true;
    segment.distrusted = true;
    damage.push(Damage {
        file: file_name(segment.number),
        sequences: None,
        what: "a segment's header is not what was written",
    });
}

fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    file_number(digits)
}

/// Reads the blocks a checkpoint names into a table. False if anything is missing.
fn index_blocks(place: &Place, file: &SegmentFile, base: u64, table: &mut Table) -> Result<bool, Error> {
    let mut names = NameBook::default();
    let mut whole = true;
    for block in table.blocks.clone() {
        whole &= match file.read_block(block)? {
            Some(plain) => form::index_block(table, &mut names, place.stream, base, block, &plain),
            None => false,
        };
    }
    Ok(whole)
}

/// Bytes that are searched for a frame at once.
const WINDOW_BYTES: u64 = 64 << 10;

/// Reads frame after frame into a table, passing over what is no frame, and returns where the last one ends.
fn scan(place: &Place, file: &SegmentFile, base: u64, table: &mut Table) -> Result<u64, Error> {
    let length = file.len()?;
    let mut names = NameBook::default();
    let mut at = form::frames_at(file.is_encrypted());
    while let Some(block) = next_frame(place, file, at, length)? {
        at = block.place;
        let after = table.blocks.last().map_or(0, |block| block.start + block.length);
        let plain = file.read_block(block)?;
        if block.start < after {
            break;
        }
        table.blocks.push(block);
        if let Some(plain) = plain {
            form::index_block(table, &mut names, place.stream, base, block, &plain);
        }
        at += u64::from(block.stored);
    }
    Ok(at.min(length))
}

/// The frame at a place, or the next one whose head is unharmed. It may be cut off by the file's end.
fn next_frame(place: &Place, file: &SegmentFile, mut at: u64, length: u64) -> Result<Option<Block>, Error> {
    while at < length {
        let window = length.saturating_sub(at).min(WINDOW_BYTES) as usize;
        let Some(bytes) = file.read(at, window)? else { return Ok(None) };
        let heads = bytes.windows(FRAME_HEAD).enumerate();
        let mut found = heads.filter_map(|(offset, head)| {
            let block = form::frame_length(head, place.stream, file.number)?;
            Some(Block { place: at + offset as u64, ..block })
        });
        if let Some(block) = found.next() {
            return Ok(Some(block));
        }
        // The next window begins with what could be the start of a head here.
        at += window.saturating_sub(FRAME_HEAD - 1).max(1) as u64;
    }
    Ok(None)
}

fn first_sequence(place: &Place, file: &SegmentFile) -> Result<Option<u64>, Error> {
    let length = file.len()?;
    let mut at = form::frames_at(file.is_encrypted());
    while let Some(block) = next_frame(place, file, at, length)? {
        at = block.place;
        if let Some(plain) = file.read_block(block)?
            && let Some(record) = crate::record::decode(&plain, place.stream)
        {
            return Ok(Some(record.sequence));
        }
        at += u64::from(block.stored);
    }
    Ok(None)
}

/// Whether points and a footer that verifies follow the frames, which end at `end`.
fn has_footer(place: &Place, file: &SegmentFile, end: u64) -> Result<bool, Error> {
    let rest = usize::try_from(file.len()?.saturating_sub(end)).unwrap_or(usize::MAX);
    let Some(bytes) = file.read(end, rest)? else { return Ok(false) };
    let Some(points) = form::points_length(&bytes, file.is_encrypted()) else { return Ok(false) };
    let lock = file.lock(end.saturating_add(points as u64));
    let footer = bytes
        .get(points..)
        .and_then(|footer| form::read_footer(footer, place.stream, file.number, None, lock));
    Ok(footer.is_some())
}

fn read_all(place: &Place, name: &str) -> io::Result<Vec<u8>> {
    let file = place.disk.open(name, Open::Existing)?;
    let length = file.len()?;
    read_at(&*file, 0, usize::try_from(length).map_err(io::Error::other)?, length)
}

/// Up to `wanted` bytes, fewer where the file ends.
fn read_at(file: &dyn File, at: u64, wanted: usize, length: u64) -> io::Result<Vec<u8>> {
    let there = usize::try_from(length.saturating_sub(at)).unwrap_or(usize::MAX).min(wanted);
    let mut bytes = vec![0; there];
    if there > 0 {
        file.read_at(&mut bytes, at)?;
    }
    Ok(bytes)
}
