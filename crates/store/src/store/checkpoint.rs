//! Checkpoints: freezing one under the lock, writing it without.
//!
//! A checkpoint names the segment files by number and length or footer, so a file that is newer, older or somebody
//! else's is recognised. It becomes the newest by a rename, after everything it names is durable. Two are kept; a file
//! goes only when neither names it.

use std::io;
use std::sync::Arc;

use roaring::{RoaringBitmap, RoaringTreemap};
use sonata_disk::Open;
use sonata_disk::seal::SealError;

use super::work::{Finished, OUT_BYTES, Writing, Written};
use super::{Dropped, Store};
use crate::error::Error;
use crate::file::{Age, SegmentFile};
use crate::filter::Filter;
use crate::form::{self, Head, Kind, Lock, Reader, put_bytes, put_int, unzigzag, zigzag};
use crate::record;
use crate::segment::{Body, Footer, Segment};
use crate::shelf::Place;
use crate::state::Lost;
use crate::subjects::{Subjects, Value};
use crate::table::{Block, ROWS_AT_ONCE, step_aside};

impl Store {
    pub(super) fn freeze(&mut self, place: Place, position: u64, state: Vec<u8>) -> Freezing {
        if let Some(open) = self.segments.back_mut() {
            open.freeze();
        }
        let kept = (0..self.segments.len()).filter(|at| self.segments[*at].stored > 0);
        let kept: Vec<usize> = kept.collect();
        let writings = kept.iter().filter_map(|at| self.writing_of(*at, usize::MAX)).collect();
        let synced = kept
            .iter()
            .filter_map(|at| self.segments[*at].file.clone().map(|file| (self.segments[*at].number, file)))
            .collect();
        Freezing {
            place,
            number: self.ledger.highest + 1,
            previous: self.ledger.number,
            is_first: !self.ledger.has_state && !state.is_empty(),
            has_state: !state.is_empty(),
            dropped: self.ledger.dropped.len(),
            writings,
            synced,
            image: Image {
                position,
                state,
                next_number: self.next_number,
                last: self.last,
                last_timestamp: self.last_timestamp,
                lost: self.lost,
                lost_sequences: self.lost_sequences.clone(),
                kept: self.ledger.dropped.clone(),
                segments: kept.iter().map(|at| Entry::of(&self.segments[*at])).collect(),
                subjects: self.subjects.clone(),
            },
        }
    }

    pub(super) fn frozen(&mut self, frozen: Frozen) -> Result<Finished, Error> {
        for written in frozen.written {
            self.written(written);
        }
        self.distrust(frozen.unsynced);
        frozen.result?;
        for segment in &mut self.segments {
            if matches!(segment.body, Body::Sealed(_)) {
                segment.file = None;
            }
        }
        let release = std::mem::replace(&mut self.ledger.position, frozen.position);
        self.ledger.number = frozen.number;
        self.ledger.highest = frozen.number;
        self.ledger.has_state = frozen.has_state;
        let later = self.ledger.dropped.split_off(frozen.dropped);
        let kept = std::mem::replace(&mut self.ledger.dropped, later);
        let doomed = std::mem::replace(&mut self.ledger.kept, kept);
        self.ledger.doomed.extend(doomed);
        Ok(Finished::Checkpoint { position: frozen.position, release })
    }
}

/// A checkpoint on its way to the disk, with all that has to be there before it.
#[derive(Debug)]
pub(super) struct Freezing {
    place: Place,
    number: u64,
    previous: u64,
    /// The first that has a state: it is written twice, since none before could stand in for it.
    is_first: bool,
    has_state: bool,
    dropped: usize,
    writings: Vec<Writing>,
    /// Files that may hold something unsynced, besides those of `writings`.
    synced: Vec<(u64, Arc<SegmentFile>)>,
    image: Image,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Frozen {
    number: u64,
    has_state: bool,
    position: u64,
    dropped: usize,
    written: Vec<Written>,
    /// The segment whose sync failed.
    unsynced: Option<u64>,
    result: Result<(), Error>,
}

impl Freezing {
    pub(super) fn run(mut self) -> Frozen {
        let mut written = Vec::new();
        let mut unsynced = None;
        let result = self.write(&mut written, &mut unsynced);
        let Self { number, has_state, dropped, .. } = self;
        Frozen { number, has_state, position: self.image.position, dropped, written, unsynced, result }
    }

    fn write(&mut self, written: &mut Vec<Written>, unsynced: &mut Option<u64>) -> Result<(), Error> {
        let place = &self.place;
        for writing in &self.writings {
            let done = writing.run(place, unsynced)?;
            self.image.note(&done);
            self.synced.retain(|(number, _)| *number != done.number);
            self.synced.push((done.number, Arc::clone(&done.file)));
            written.push(done);
        }
        for (number, file) in &self.synced {
            if let Err(error) = file.file.sync() {
                *unsynced = Some(*number);
                return Err(Error::disk(&place.segment(*number), error));
            }
        }
        self.replace()?;
        if self.is_first {
            (self.previous, self.number) = (self.number, self.number + 1);
            self.replace()?;
        }
        Ok(())
    }

    fn replace(&self) -> Result<(), Error> {
        let name = self.place.checkpoint(self.number);
        self.replace_as(&name).map_err(|error| Error::disk(&name, error))
    }

    fn replace_as(&self, name: &str) -> io::Result<()> {
        let Place { disk, folder, .. } = &self.place;
        let new = format!("{name}.new");
        let file = disk.open(&new, Open::Either)?;
        file.set_len(0)?;
        let mut at = 0;
        for piece in self.image.encode(&self.place, self.number).chunks(OUT_BYTES as usize) {
            let length = piece.len() as u64;
            file.write_at(piece, at)?;
            file.write_out(at, length)?;
            at += length;
        }
        file.sync()?;
        // The segments' names first: a durable checkpoint must not name a file that is not there.
        disk.sync_folder(folder)?;
        disk.rename(&new, name)?;
        disk.sync_folder(folder)?;
        for entry in disk.list(folder).unwrap_or_default() {
            let old = checkpoint_number(&entry.name).is_some_and(|number| number < self.previous);
            if old {
                // What stays behind is tried again next time.
                let _ = disk.remove(&format!("{folder}/{}", entry.name));
            }
        }
        Ok(())
    }
}

/// A number as it stands in file names. One that nobody reaches by counting is not ours.
pub(super) fn file_number(digits: &str) -> Option<u64> {
    let number = digits.parse().ok().filter(|number| *number <= u64::MAX / 2)?;
    (digits.len() == 20).then_some(number)
}

pub(super) fn checkpoint_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("checkpoint-")?;
    file_number(digits)
}

/// What a checkpoint says.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) position: u64,
    pub(super) state: Vec<u8>,
    pub(super) next_number: u64,
    pub(super) last: u64,
    pub(super) last_timestamp: i64,
    pub(super) lost: Lost,
    pub(super) lost_sequences: RoaringTreemap,
    /// Files that only the checkpoint before names.
    pub(super) kept: Vec<Dropped>,
    pub(super) segments: Vec<Entry>,
    pub(super) subjects: Subjects,
}

/// A segment as a checkpoint names it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) base: u64,
    pub(super) last: u64,
    pub(super) bytes: u64,
    pub(super) live_stored: u64,
    pub(super) stored: u64,
    pub(super) newest: i64,
    pub(super) damaged: bool,
    pub(super) live: RoaringBitmap,
    pub(super) file_len: u64,
    pub(super) fence: Arc<[u32]>,
    pub(super) form: Form,
}

#[derive(Debug)]
pub(super) enum Form {
    Hot { closed: bool, blocks: Vec<Block> },
    Sealed(Footer),
}

impl Entry {
    fn of(segment: &Segment) -> Self {
        Self {
            number: segment.number,
            base: segment.base,
            last: segment.last,
            bytes: segment.bytes,
            live_stored: segment.live_stored,
            stored: segment.stored,
            newest: segment.newest,
            damaged: segment.damaged,
            live: segment.live.clone(),
            file_len: segment.file_len,
            fence: Arc::clone(&segment.fence),
            form: match &segment.body {
                Body::Hot(hot) => Form::Hot { closed: hot.closed, blocks: hot.index.table.blocks.clone() },
                Body::Sealed(footer) => Form::Sealed(*footer),
            },
        }
    }
}

/// More bytes of records than any segment holds: a full one of the largest size, and a record.
const STORED_MAX: u64 = 2 << 30;

/// Why a checkpoint was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    Damaged,
    Foreign,
    Newer(u16),
    Key(SealError),
}

impl Image {
    fn note(&mut self, written: &Written) {
        let Some(entry) = self.segments.iter_mut().find(|entry| entry.number == written.number) else {
            return;
        };
        entry.file_len = written.file_len;
        if let Some((table, footer)) = &written.sealed {
            entry.fence = form::fence(table);
            entry.form = Form::Sealed(*footer);
        } else if let Form::Hot { blocks, .. } = &mut entry.form {
            for (number, place, stored) in &written.placed {
                if let Some(block) = blocks.get_mut(*number as usize) {
                    (block.place, block.stored) = (*place, *stored);
                }
            }
        }
    }

    /// Head with its own checksum, body, checksum over all. Each call has a data key of its own.
    fn encode(&self, place: &Place, number: u64) -> Vec<u8> {
        let mut body = Vec::new();
        put_int(&mut body, self.position);
        put_bytes(&mut body, &self.state);
        for value in
            [self.next_number, self.last, zigzag(self.last_timestamp), self.lost.messages, self.lost.bytes]
        {
            put_int(&mut body, value);
        }
        let mut lost = Vec::new();
        // Writing to memory does not fail.
        let _ = self.lost_sequences.serialize_into(&mut lost);
        put_bytes(&mut body, &lost);
        put_int(&mut body, self.kept.len() as u64);
        for file in &self.kept {
            put_int(&mut body, file.number << 1 | u64::from(file.damaged));
        }
        put_int(&mut body, self.segments.len() as u64);
        for entry in &self.segments {
            entry.encode(&mut body);
        }
        put_int(&mut body, self.subjects.len() as u64);
        let mut before: Vec<u8> = Vec::new();
        let mut encoded = 0_usize;
        self.subjects.walk(&Filter::all(), &mut |name, id| {
            encoded += 1;
            if encoded.is_multiple_of(ROWS_AT_ONCE) {
                step_aside();
            }
            let value = self.subjects.value(id);
            let shared = before.iter().zip(name).take_while(|(a, b)| a == b).count();
            put_int(&mut body, shared as u64);
            put_bytes(&mut body, &name[shared..]);
            put_int(&mut body, value.count());
            put_int(&mut body, value.last());
            put_int(&mut body, value.last().wrapping_sub(value.first()));
            body.push(u8::from(value.first_loose()) | u8::from(value.last_loose()) << 1);
            before.truncate(shared);
            before.extend_from_slice(&name[shared..]);
            true
        });
        let erased: Vec<u64> = self.kept.iter().filter(|file| file.erase).map(|file| file.number).collect();
        put_int(&mut body, erased.len() as u64);
        for number in erased {
            put_int(&mut body, number);
        }
        let sealed =
            place.seal.as_ref().map(|seal| seal.create(&Kind::Checkpoint.seal_context(place.stream, number)));
        let (sealer, wrapped) = sealed.unzip();
        let mut bytes = Head::encode(Kind::Checkpoint, place.stream, body.len() as u64, wrapped.as_ref());
        let start = bytes.len();
        bytes.extend_from_slice(&body);
        if let Some(sealer) = &sealer {
            let head = bytes[..start].to_vec();
            Lock { sealer, place: 0 }.close(&head, &mut bytes, start);
        }
        form::put_checksum(&mut bytes, place.stream);
        bytes
    }

    /// Whether it needs an earlier key comes with it.
    pub(super) fn decode(bytes: &[u8], place: &Place, number: u64) -> Result<(Self, Age), Refused> {
        let head = Head::decode(Kind::Checkpoint, bytes).ok_or(Refused::Damaged)?;
        if head.version > form::VERSION {
            return Err(Refused::Newer(head.version));
        }
        if head.stream != place.stream {
            return Err(Refused::Foreign);
        }
        // Before the rest is looked at: without its key nothing is put aside as damaged.
        let sealer = head.seal.map(|wrapped| place.sealer(Kind::Checkpoint, number, &wrapped));
        let sealer = sealer.transpose().map_err(Refused::Key)?;
        if !form::checksum_holds(bytes, place.stream) {
            return Err(Refused::Damaged);
        }
        let (start, end) = (head.bytes(), bytes.len() - 8);
        let sealed = bytes.get(start..end).ok_or(Refused::Damaged)?;
        let opened;
        let body = match &sealer {
            Some(sealer) => {
                opened = Lock { sealer, place: 0 }.open(&bytes[..start], sealed).ok_or(Refused::Damaged)?;
                opened.as_slice()
            }
            None => sealed,
        };
        let image = Self::decode_body(body).ok_or(Refused::Damaged)?;
        Ok((image, head.seal.map_or(Age::Plain, |wrapped| place.age(&wrapped))))
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let position = reader.int()?;
        let length = reader.count()?;
        let state = reader.bytes(length)?.to_vec();
        let (next_number, last) = (reader.int()?, reader.int()?);
        if last == u64::MAX || next_number > u64::MAX / 2 {
            return None;
        }
        let last_timestamp = unzigzag(reader.int()?);
        let lost = Lost { messages: reader.int()?, bytes: reader.int()? };
        let length = reader.count()?;
        let lost_sequences = RoaringTreemap::deserialize_from(reader.bytes(length)?).ok()?;
        let mut kept = Vec::new();
        for _ in 0..reader.count()? {
            let file = reader.int()?;
            kept.push(Dropped { number: file >> 1, damaged: file & 1 != 0, erase: false });
        }
        let mut segments = Vec::new();
        for _ in 0..reader.count()? {
            let entry = Entry::decode(&mut reader)?;
            let after = segments.last().map_or(0, |before: &Entry| before.last);
            if entry.base <= after || entry.last < entry.base || entry.last > last {
                return None;
            }
            segments.push(entry);
        }
        let mut subjects = Subjects::new();
        let mut name: Vec<u8> = Vec::new();
        for _ in 0..reader.count()? {
            let shared = usize::try_from(reader.int()?).ok().filter(|shared| *shared <= name.len())?;
            name.truncate(shared);
            let length = reader.count()?;
            name.extend_from_slice(reader.bytes(length)?);
            let (count, last, back) = (reader.int()?, reader.int()?, reader.int()?);
            let marks = *reader.bytes(1)?.first()?;
            let id = subjects.enter(&name);
            let first = last.checked_sub(back)?;
            if count == 0 || count > Value::COUNT_MAX {
                return None;
            }
            subjects.set(id, Value::new(count, first, last, marks & 1 != 0, marks & 2 != 0));
        }
        // The first checkpoints of this version end here.
        let erased = if reader.is_empty() { 0 } else { reader.count()? };
        for _ in 0..erased {
            let number = reader.int()?;
            kept.iter_mut().find(|file| file.number == number)?.erase = true;
        }
        reader.is_empty().then_some(Self {
            position,
            state,
            next_number,
            last,
            last_timestamp,
            lost,
            lost_sequences,
            kept,
            segments,
            subjects,
        })
    }
}

impl Entry {
    fn encode(&self, body: &mut Vec<u8>) {
        for value in [
            self.number,
            self.base,
            self.last,
            self.bytes,
            self.live_stored,
            self.stored,
            zigzag(self.newest),
            u64::from(self.damaged),
            self.file_len,
        ] {
            put_int(body, value);
        }
        let mut live = Vec::with_capacity(self.live.serialized_size());
        // Writing to memory does not fail.
        let _ = self.live.serialize_into(&mut live);
        put_bytes(body, &live);
        match &self.form {
            Form::Hot { closed, blocks } => {
                put_int(body, u64::from(*closed));
                put_int(body, blocks.len() as u64);
                for block in blocks {
                    for value in [
                        u64::from(block.start),
                        u64::from(block.length),
                        block.place,
                        u64::from(block.stored),
                    ] {
                        put_int(body, value);
                    }
                }
            }
            Form::Sealed(footer) => {
                put_int(body, 2);
                put_int(body, footer.place);
                put_int(body, u64::from(footer.length));
                put_int(body, u64::from(footer.points));
                put_int(body, self.fence.len() as u64);
                for delta in self.fence.iter() {
                    put_int(body, u64::from(*delta));
                }
                body.extend_from_slice(&footer.hash.to_le_bytes());
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let (number, base, last) = (reader.int()?, reader.int()?, reader.int()?);
        let (bytes, live_stored, stored) = (reader.int()?, reader.int()?, reader.int()?);
        let newest = unzigzag(reader.int()?);
        let damaged = reader.int()? != 0;
        let file_len = reader.int()?;
        let length = reader.count()?;
        let live = RoaringBitmap::deserialize_from(reader.bytes(length)?).ok()?;
        // A few bytes can name billions of messages, and some questions look at each of them.
        let shortest = (record::HEAD + record::CHECKSUM) as u64;
        let within = live.max().is_none_or(|delta| u64::from(delta) <= last.saturating_sub(base));
        if !within || stored > STORED_MAX || live.len() > stored / shortest {
            return None;
        }
        let mut fence = Vec::new();
        let form = match reader.int()? {
            2 => {
                let (place, length, points) = (reader.int()?, reader.int32()?, reader.int32()?);
                for _ in 0..reader.count()? {
                    fence.push(reader.int32()?);
                }
                Form::Sealed(Footer { place, length, points, hash: reader.u64()? })
            }
            closed => {
                let mut blocks = Vec::new();
                for _ in 0..reader.count()? {
                    let (start, length) = (reader.int32()?, reader.int32()?);
                    start.checked_add(length)?;
                    blocks.push(Block { start, length, place: reader.int()?, stored: reader.int32()? });
                }
                Form::Hot { closed: closed != 0, blocks }
            }
        };
        Some(Self {
            number,
            base,
            last,
            bytes,
            live_stored,
            stored,
            newest,
            damaged,
            live,
            file_len,
            fence: fence.into(),
            form,
        })
    }
}
