//! The file that is being written, and how the next one is begun.
//!
//! Overwriting bytes that exist is two to three times cheaper to sync than growing a file. So a new file is filled with
//! zeros ahead of what is written, in growing steps, and a file that is no longer needed becomes a spare under another
//! name, with a new salt that makes its old content void. While there is none, the [next file](crate::ahead) is filled by
//! whoever has time, and a file that is not filled any further is left for it.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use sonata_disk::seal::{Sealer, TAG_BYTES};
use sonata_disk::{Disk, File, Open};

use crate::error::Error;
use crate::format::{self, BATCH_ALIGN, BATCH_HEAD_BYTES, BatchHead, FileHeader, HEADER_BYTES};
use crate::gather::Buffer;
use crate::options::{Mode, Options};
use crate::row::{Row, Segment};

/// Filled with zeros by one call while nobody waits: well below a millisecond. No less is filled, since each time costs
/// the next sync another write, that of the file's length.
const FILL_BYTES: u64 = 256 << 10;
/// Zeros that the next batch's sync takes along; more get one of their own.
const FILL_UNSYNCED_BYTES: u64 = 1 << 20;
/// Filled before a new file is used, and the least that is kept filled ahead.
const FILL_AHEAD_BYTES: u64 = 1 << 20;
/// Filled by one call when a batch is waiting for it.
const FILL_BUSY_BYTES: u64 = 4 << 20;
/// Spares that are kept; a burst of releases frees the rest.
const SPARES_MAX: usize = 2;

/// Pages of the system: writing a part of one that is not in memory reads it first.
const PAGE_BYTES: u64 = 4 << 10;

static ZEROS: [u8; FILL_BYTES as usize] = [0; FILL_BYTES as usize];

/// Where the files are, and under which options.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: String,
    pub(crate) options: Options,
}

impl Place {
    pub(crate) fn name(&self, number: u64, kind: Kind) -> String {
        let ending = match kind {
            Kind::Log => "log",
            Kind::Spare => "spare",
            Kind::Damaged => "damaged",
        };
        format!("{}/{number:020}.{ending}", self.folder)
    }
}

/// What a file of the folder is for, as its name ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Log,
    Spare,
    Damaged,
}

impl Kind {
    /// The number and kind that a name says.
    pub(crate) fn parse(name: &str) -> Option<(u64, Self)> {
        let (number, ending) = name.split_once('.')?;
        let kind = match ending {
            "log" => Self::Log,
            "spare" => Self::Spare,
            "damaged" => Self::Damaged,
            _ => return None,
        };
        let plain = number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| number.parse().ok()).flatten().map(|number| (number, kind))
    }
}

#[derive(Debug)]
pub(crate) struct Tail {
    place: Place,
    row: Arc<Mutex<Row>>,
    /// The file, or none if it failed or was not begun.
    current: Option<Current>,
    /// Number of the next file.
    number_next: u64,
    /// Numbers in the names of spares.
    spares: Vec<u64>,
    /// A batch had to wait until the current file was filled, so the next one had better be ready.
    hurried: bool,
    /// It could not be made ready, and that is not tried again before the next one is begun.
    spare_refused: bool,
    /// Position of the last record that was written for good.
    committed: u64,
    /// Positions up to this one are durable. `synced <= committed`.
    synced: u64,
    /// No file before this one is needed, and that is durable.
    oldest_synced: u64,
    /// Syncs and what they took, in nanoseconds, since last asked.
    syncs: Vec<u64>,
    /// Encrypted records on their way.
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Current {
    file: Arc<dyn File>,
    name: String,
    header: FileHeader,
    sealer: Option<Sealer>,
    /// Where the next batch goes. `offset <= filled`.
    offset: u64,
    /// The file's length.
    filled: u64,
    /// The file's length when it was last synced.
    filled_synced: u64,
    /// The end of the pages that are in memory, as far as they were filled or written here. The system may have let go of them
    /// again, but hardly of the last.
    paged: u64,
    /// Filling ahead did not work and is left to the batch that needs it.
    fill_refused: bool,
    /// The latest claim about the oldest file that was written here.
    oldest: u64,
}

/// A file and up to where it was written, to be synced without holding the tail.
pub(crate) struct Unsynced {
    pub(crate) file: Arc<dyn File>,
    pub(crate) name: String,
    number: u64,
    committed: u64,
    oldest: u64,
}

impl Tail {
    pub(crate) fn new(
        place: Place,
        row: Arc<Mutex<Row>>,
        number_next: u64,
        spares: Vec<u64>,
        last: u64,
    ) -> Self {
        Self {
            place,
            row,
            current: None,
            number_next,
            spares,
            hurried: false,
            spare_refused: false,
            committed: last,
            synced: last,
            oldest_synced: 0,
            syncs: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Writes a batch; in [`Mode::Always`] syncs it. After an error nothing more goes into this file.
    pub(crate) fn commit(&mut self, buffer: &mut Buffer) -> Result<(), Error> {
        assert!(buffer.first > self.committed, "positions only grow");
        let written = self.write(buffer.first, buffer.records, &mut buffer.bytes);
        let written = written.and_then(|()| match self.place.options.mode {
            Mode::Always => self.sync(buffer.batch().last().0),
            Mode::Interval => Ok(()),
        });
        if let Err(error) = written {
            self.abandon();
            return Err(error);
        }
        self.committed = buffer.batch().last().0;
        let offset = self.current.as_ref().map_or(0, |current| current.offset);
        self.row.lock().commit(&buffer.batch(), offset);
        Ok(())
    }

    /// Writes a batch without records, which makes what is known now durable.
    pub(crate) fn mark(&mut self) -> Result<(), Error> {
        let mut head = vec![0; BATCH_HEAD_BYTES];
        let marked = self.write(self.committed + 1, 0, &mut head).and_then(|()| self.sync(self.committed));
        marked.inspect_err(|_| self.abandon())
    }

    /// Makes all that was committed durable.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if self.current.is_none() || self.synced == self.committed {
            return Ok(());
        }
        self.sync(self.committed).inspect_err(|_| self.abandon())
    }

    /// What [`Self::flush`] would sync, to be done by the caller, who says [so](Self::on_synced) then.
    pub(crate) fn unsynced(&self) -> Option<Unsynced> {
        let current = self.current.as_ref().filter(|_| self.synced < self.committed)?;
        Some(Unsynced {
            file: current.file.clone(),
            name: current.name.clone(),
            number: current.header.number,
            committed: self.committed,
            oldest: current.oldest,
        })
    }

    pub(crate) fn on_synced(&mut self, unsynced: &Unsynced, nanoseconds: u64) {
        self.syncs.push(nanoseconds);
        // If another file has taken its place, that has synced this one; if it has failed, nothing makes it good.
        if self.current.as_ref().is_some_and(|current| current.header.number == unsynced.number) {
            self.synced = self.synced.max(unsynced.committed);
            self.oldest_synced = self.oldest_synced.max(unsynced.oldest);
        }
    }

    /// The file is done for ever.
    pub(crate) fn abandon(&mut self) {
        if let Some(current) = self.current.take()
            && let Some(segment) = self.row.lock().newest_mut(current.header.number)
        {
            segment.bytes = current.filled;
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.current.is_some()
    }

    pub(crate) fn take_syncs(&mut self) -> Vec<u64> {
        mem::take(&mut self.syncs)
    }

    fn write(&mut self, first: u64, records: u32, bytes: &mut [u8]) -> Result<(), Error> {
        let sealed = self.place.options.seal.is_some();
        let body_bytes = bytes.len() - BATCH_HEAD_BYTES + if sealed && records > 0 { TAG_BYTES } else { 0 };
        let batch_bytes = (BATCH_HEAD_BYTES + body_bytes).next_multiple_of(BATCH_ALIGN) as u64;
        // Filling a file further keeps the batch waiting for longer than the next one does, if that is ready.
        let end_max = if self.spares.is_empty() { self.place.options.file_bytes } else { 0 };
        let fits = |current: &Current| current.offset + batch_bytes <= current.filled.max(end_max);
        if !self.current.as_ref().is_some_and(fits) {
            self.begin(first)?;
        }
        let (synced, oldest) = (self.synced, self.row.lock().oldest().unwrap_or(0));
        let current = self.current.as_mut().expect("there was one, or one was begun");
        let end = current.offset + batch_bytes;
        if end > current.filled {
            let target = (end + FILL_BUSY_BYTES).min(self.place.options.file_bytes).max(end);
            current.fill(target)?;
            self.hurried = true;
        }
        let salt = current.header.salt;
        format::check_records(&mut bytes[BATCH_HEAD_BYTES..], salt, first);
        // No batch is longer than its file, and no file than 1 GiB.
        let head = BatchHead { first, synced, oldest, body_bytes: body_bytes as u32, records };
        head.encode(salt, current.offset, bytes);
        let mut written: &[u8] = bytes;
        if let Some(sealer) = current.sealer.as_ref().filter(|_| records > 0) {
            self.scratch.clear();
            self.scratch.extend_from_slice(bytes);
            let (head, body) = self.scratch.split_at_mut(BATCH_HEAD_BYTES);
            let tag = sealer.seal_in_place(current.offset, head, body);
            let tag = tag.map_err(|source| Error::Key { file: current.name.clone(), source })?;
            self.scratch.extend_from_slice(&tag);
            written = &self.scratch;
        }
        current.begin_page(end)?;
        current.file.write_at(written, current.offset).map_err(Error::io("write", &current.name))?;
        current.offset = end;
        current.oldest = oldest;
        Ok(())
    }

    fn sync(&mut self, committed: u64) -> Result<(), Error> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let now = self.place.options.now;
        let start = now();
        current.file.sync().map_err(Error::io("sync", &current.name))?;
        self.syncs.push(now().saturating_sub(start));
        current.filled_synced = current.filled;
        self.synced = committed;
        self.oldest_synced = current.oldest;
        Ok(())
    }

    /// Begins the next file, whose records have positions from `first` on. It is durable and reads back when this
    /// returns; before, no name that recovery looks at leads to it.
    pub(crate) fn begin(&mut self, first: u64) -> Result<(), Error> {
        self.flush()?;
        let number = self.number_next;
        self.number_next = number.checked_add(1).ok_or(Error::Exhausted)?;
        let (previous, oldest) = {
            let row = self.row.lock();
            (row.newest(), row.oldest_before(number))
        };
        let mut header = FileHeader {
            number,
            salt: format::salt(self.place.options.seed, number, first),
            first,
            cut: self.committed,
            synced: self.synced,
            oldest,
            previous,
            seal: None,
        };
        let sealer = self.place.options.seal.as_ref().map(|sealing| {
            let context = FileHeader::seal_context(number);
            let (sealer, wrapped) = sealing.create(&context);
            header.seal = Some(wrapped);
            sealer
        });
        let spare = self.spares.pop();
        let spare_name = self.place.name(spare.unwrap_or(number), Kind::Spare);
        let name = self.place.name(number, Kind::Log);
        let prepared = self.prepare(&header, &spare_name, spare.is_none());
        let renamed = prepared.and_then(|prepared| {
            self.place.disk.rename(&spare_name, &name).map_err(Error::io("rename", &spare_name))?;
            let synced = self.place.disk.sync_folder(&self.place.folder);
            synced.map_err(Error::io("sync folder", &self.place.folder))?;
            Ok(prepared)
        });
        let (file, filled) = match renamed {
            Ok(prepared) => prepared,
            Err(error) => {
                // It must not stay in the way of the space it takes. If it stays all the same, the next start
                // removes it, or finds it with nothing in it.
                let _ = self.place.disk.remove(&spare_name);
                return Err(error);
            }
        };
        self.abandon();
        self.oldest_synced = header.oldest;
        self.row.lock().push(Segment::new(number, HEADER_BYTES as u64));
        let oldest = header.oldest;
        let offset = HEADER_BYTES as u64;
        let filled_synced = filled;
        self.hurried = false;
        self.spare_refused = false;
        self.current = Some(Current {
            file,
            name,
            header,
            sealer,
            offset,
            filled,
            filled_synced,
            paged: offset,
            fill_refused: false,
            oldest,
        });
        Ok(())
    }

    fn prepare(&mut self, header: &FileHeader, name: &str, new: bool) -> Result<(Arc<dyn File>, u64), Error> {
        let disk = &self.place.disk;
        let file_bytes = self.place.options.file_bytes;
        let file = disk.open(name, Open::Either).map_err(Error::io("open", name))?;
        if new {
            file.set_len(0).map_err(Error::io("cut", name))?;
        }
        let mut filled = file.len().map_err(Error::io("measure", name))?;
        if filled > file_bytes {
            file.set_len(file_bytes).map_err(Error::io("cut", name))?;
            filled = file_bytes;
        }
        let bytes = header.encode();
        file.write_at(&bytes, 0).map_err(Error::io("write", name))?;
        filled = filled.max(HEADER_BYTES as u64);
        filled = fill(&*file, name, filled, FILL_AHEAD_BYTES.min(file_bytes))?;
        let now = self.place.options.now;
        let start = now();
        file.sync().map_err(Error::io("sync", name))?;
        self.syncs.push(now().saturating_sub(start));
        let mut read = vec![0; HEADER_BYTES];
        file.read_at(&mut read, 0).map_err(Error::io("read", name))?;
        if read != bytes {
            return Err(Error::ReadBack { file: name.to_owned() });
        }
        Ok((file, filled))
    }

    /// What can be done while nothing waits, in small steps; whether there is more.
    pub(crate) fn idle(&mut self) -> Result<bool, Error> {
        let Some(current) = &mut self.current else { return Ok(false) };
        // The further the file is, the more is about to come.
        let wanted = 2 * current.offset + FILL_AHEAD_BYTES;
        let target = (current.filled + FILL_BYTES).min(self.place.options.file_bytes);
        if self.spares.is_empty() && current.filled < target && target <= wanted && !current.fill_refused {
            if current.fill(target).is_err() {
                // Most likely the disk is full; the batch that needs the room will tell.
                current.fill_refused = true;
                return Ok(true);
            }
            let unsynced = current.filled - current.filled_synced;
            if self.place.options.mode == Mode::Always && unsynced >= FILL_UNSYNCED_BYTES {
                self.sync(self.committed).inspect_err(|_| self.abandon())?;
            }
            return Ok(true);
        }
        let oldest = {
            let row = self.row.lock();
            row.oldest().filter(|_| row.has_free())
        };
        if oldest.is_some_and(|oldest| oldest > self.oldest_synced) {
            self.mark()?;
        }
        self.reclaim();
        Ok(false)
    }

    /// Makes spares of files that are not needed, as far as it is durable that they are not: a file that vanishes
    /// must be known to be unneeded, or its absence would be damage.
    pub(crate) fn reclaim(&mut self) {
        loop {
            let Some(segment) = self.row.lock().pop_before(self.oldest_synced) else { return };
            self.retire(segment.number, segment.damaged);
        }
    }

    /// Failing is no harm: the next start finds the file again, and finds that it is not needed.
    pub(crate) fn retire(&mut self, number: u64, damaged: bool) {
        let disk = &self.place.disk;
        let name = self.place.name(number, Kind::Log);
        if damaged {
            let _ = disk.rename(&name, &self.place.name(number, Kind::Damaged));
        } else if self.spares.len() < self.spares_max() {
            if disk.rename(&name, &self.place.name(number, Kind::Spare)).is_ok() {
                self.spares.push(number);
            }
        } else {
            let _ = disk.remove(&name);
        }
    }

    /// Removes spares of an earlier run that are too many.
    pub(crate) fn trim_spares(&mut self) {
        while self.spares.len() > self.spares_max() {
            let Some(number) = self.spares.pop() else { return };
            let _ = self.place.disk.remove(&self.place.name(number, Kind::Spare));
        }
    }

    /// A number for the file that is made ready before it is needed; none if none is needed soon.
    pub(crate) fn begin_spare(&mut self) -> Option<u64> {
        let file_bytes = self.place.options.file_bytes;
        let needed =
            self.current.as_ref().is_some_and(|current| self.hurried || current.offset > file_bytes / 8);
        if !needed || self.spare_refused || !self.spares.is_empty() || self.spares_max() == 0 {
            return None;
        }
        let number = self.number_next;
        self.number_next = number.checked_add(1)?;
        Some(number)
    }

    /// Takes a spare that is durable as it is.
    pub(crate) fn add_spare(&mut self, number: u64) {
        self.spares.push(number);
        self.trim_spares();
    }

    pub(crate) fn refuse_spare(&mut self) {
        self.spare_refused = true;
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// No more than fit beside what is held and the next file.
    fn spares_max(&self) -> usize {
        let options = &self.place.options;
        let held = self.row.lock().held_bytes();
        let room = options.bytes_max.saturating_sub(held + options.file_bytes) / options.file_bytes;
        SPARES_MAX.min(usize::try_from(room).unwrap_or(SPARES_MAX))
    }
}

impl Current {
    fn fill(&mut self, target: u64) -> Result<(), Error> {
        self.filled = fill(&*self.file, &self.name, self.filled, target)?;
        self.paged = self.filled;
        Ok(())
    }

    /// Voids the page that a batch up to `end` is the first to reach, if it ends within: a whole page is not read from the
    /// disk before a part of it is written.
    fn begin_page(&mut self, end: u64) -> Result<(), Error> {
        let page = end - end % PAGE_BYTES;
        if self.paged <= page && page < end && page + PAGE_BYTES <= self.filled {
            let zeros = &ZEROS[..PAGE_BYTES as usize];
            self.file.write_at(zeros, page).map_err(Error::io("write", &self.name))?;
        }
        self.paged = self.paged.max(end.next_multiple_of(PAGE_BYTES));
        Ok(())
    }
}

/// Writes zeros from the file's end on; gives the new end.
pub(crate) fn fill(file: &dyn File, name: &str, mut filled: u64, target: u64) -> Result<u64, Error> {
    while filled < target {
        let step = (target - filled).min(FILL_BYTES);
        file.write_at(&ZEROS[..step as usize], filled).map_err(Error::io("fill", name))?;
        filled += step;
    }
    Ok(filled)
}
