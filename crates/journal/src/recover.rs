//! Opening a journal: what is there is replayed, what is torn is cut for good, what is damaged is said.
//!
//! Nothing is ever appended to a file of an earlier run. A new file is begun, and its header says where the journal
//! before it ends: if bytes come back from the dead that lie behind (a torn write that the disk finishes after all, a
//! page that a failed sync left in memory only), they are void. For the same reason the last batches, which nothing
//! proves to be on the disk, are written once more and synced before anybody acts on them.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use sonata_disk::seal::{Sealer, Sealing};
use sonata_disk::{Disk, File, Open};

use crate::error::Error;
use crate::format::{BadHeader, FileHeader, HEADER_BYTES};
use crate::options::{FILE_BYTES_LIMIT, Options};
use crate::record::{Position, Record};
use crate::row::{Row, Segment};
use crate::scan::{Found, Scan};
use crate::tail::{Kind, Place, Tail};

/// Each start skips to the next multiple of it: more positions than a run can have used without a trace.
const POSITIONS_PER_RUN: u64 = 1 << 32;

/// What [`crate::Journal::open`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records that were replayed.
    pub records: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Where a crash had cut the journal off, if that can be seen. What was there had not been acknowledged.
    pub torn_tail: Option<TornTail>,
    /// What is lost that should be there.
    pub damage: Vec<Damage>,
    /// The last record before this start, 0 if there was none. The next one has a higher position.
    pub last: Position,
    /// Files that are needed and were written under a previous key: it must be given until they are released.
    pub previous_key: u64,
}

/// A batch that was on its way at a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// The last record before it.
    pub after: Position,
}

/// Records that are lost.
///
/// The file is kept: it is replayed as far as it can be at every start, and when it is no longer needed it is renamed to
/// `*.damaged` instead of being used again. Positions are what may be lost at most: not all of them need have been used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, or for one that is missing, the one that says so.
    pub file: String,
    /// The first position that may be lost.
    pub from: Position,
    /// The last one; `None` if that is not known.
    pub to: Option<Position>,
}

pub(crate) struct Opened {
    pub(crate) tail: Tail,
    pub(crate) row: Arc<Mutex<Row>>,
    pub(crate) recovered: Recovered,
    /// Position of the first record to come.
    pub(crate) first: u64,
}

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    folder: &str,
    options: Options,
    replay: &mut dyn FnMut(Record<'_>),
) -> Result<Opened, Error> {
    options.check()?;
    let place = Place { disk, folder: folder.to_owned(), options };
    create_folder(&place)?;
    let listed = Listed::read(&place)?;
    let mut recovery =
        Recovery { place, row: Row::default(), recovered: Recovered::default(), last: 0, used: 0 };
    let (logs, unreadable) = recovery.headers(&listed)?;
    let oldest = recovery.oldest(&logs)?;
    recovery.replay(&logs, oldest, replay)?;
    for number in unreadable.iter().filter(|number| **number >= oldest) {
        recovery.set_aside(*number, logs.keys().next_back().is_none_or(|newest| newest < number))?;
    }
    recovery.finish(&listed, &logs, unreadable.len() as u64, oldest)
}

/// Creates the folder so that it is still there after a power cut.
fn create_folder(place: &Place) -> Result<(), Error> {
    let (disk, folder) = (&place.disk, &place.folder);
    disk.create_folder(folder).map_err(Error::io("create folder", folder))?;
    let above = folder.match_indices('/').map(|(at, _)| &folder[..at]);
    for above in above.chain([""]) {
        disk.sync_folder(above).map_err(Error::io("sync folder", above))?;
    }
    Ok(())
}

/// The numbers in the names of the folder.
#[derive(Debug, Default)]
struct Listed {
    logs: Vec<u64>,
    spares: Vec<u64>,
    number_max: u64,
}

impl Listed {
    fn read(place: &Place) -> Result<Self, Error> {
        let mut listed = Self::default();
        let entries = place.disk.list(&place.folder).map_err(Error::io("list", &place.folder))?;
        for (number, kind) in entries.iter().filter_map(|entry| Kind::parse(&entry.name)) {
            listed.number_max = listed.number_max.max(number);
            match kind {
                Kind::Log => listed.logs.push(number),
                Kind::Spare => listed.spares.push(number),
                Kind::Damaged => {}
            }
        }
        Ok(listed)
    }
}

/// A file whose header verifies.
#[derive(Debug)]
struct Log {
    name: String,
    file: Arc<dyn File>,
    bytes: u64,
    header: FileHeader,
    sealer: Option<Sealer>,
}

impl Log {
    /// All of it, as far as the limit goes.
    fn read(&self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        // Both limits fit into memory's sizes.
        buffer.resize(self.bytes.min(FILE_BYTES_LIMIT) as usize, 0);
        self.file.read_at(buffer, 0).map_err(Error::io("read", &self.name))
    }
}

struct Recovery {
    place: Place,
    row: Row,
    recovered: Recovered,
    /// All positions up to here are accounted for.
    last: u64,
    /// The highest position that was used, as far as can be seen.
    used: u64,
}

impl Recovery {
    /// The files by number, and the numbers of those that cannot be read. Nothing is changed before all of them are
    /// known to be of a version we read.
    fn headers(&self, listed: &Listed) -> Result<(BTreeMap<u64, Log>, Vec<u64>), Error> {
        let mut logs = BTreeMap::new();
        let mut unreadable = Vec::new();
        for number in &listed.logs {
            let name = self.place.name(*number, Kind::Log);
            let file = self.place.disk.open(&name, Open::Existing).map_err(Error::io("open", &name))?;
            let bytes = file.len().map_err(Error::io("measure", &name))?;
            let mut start = vec![0; bytes.min(HEADER_BYTES as u64) as usize];
            file.read_at(&mut start, 0).map_err(Error::io("read", &name))?;
            match FileHeader::decode(&start) {
                Ok(header) if header.number == *number && bytes >= HEADER_BYTES as u64 => {
                    let sealer = self.sealer(&name, &header)?;
                    logs.insert(*number, Log { name, file, bytes, header, sealer });
                }
                Err(BadHeader::Version(version)) => return Err(Error::Version { file: name, version }),
                Ok(_) | Err(BadHeader::Damaged) => unreadable.push(*number),
            }
        }
        Ok((logs, unreadable))
    }

    fn sealer(&self, name: &str, header: &FileHeader) -> Result<Option<Sealer>, Error> {
        let Some(wrapped) = &header.seal else { return Ok(None) };
        let context = FileHeader::seal_context(header.number);
        let opened = Sealing::open(self.place.options.seal.as_ref(), wrapped, &context);
        opened.map(Some).map_err(|source| Error::Key { file: name.to_owned(), source })
    }

    /// The oldest file that is needed, as the newest says.
    fn oldest(&self, logs: &BTreeMap<u64, Log>) -> Result<u64, Error> {
        let Some(newest) = logs.values().next_back() else { return Ok(0) };
        let mut bytes = Vec::new();
        newest.read(&mut bytes)?;
        let scan = Scan { header: &newest.header, sealer: None, bytes: &bytes, cut: u64::MAX, synced: 0 };
        Ok(scan.oldest())
    }

    fn replay(
        &mut self,
        logs: &BTreeMap<u64, Log>,
        oldest: u64,
        replay: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), Error> {
        let mut bytes = Vec::new();
        let mut known = false;
        for (number, log) in logs {
            let header = &log.header;
            self.used = self.used.max(header.first);
            if *number < oldest {
                continue;
            }
            let missing = header.previous >= oldest.max(1) && !logs.contains_key(&header.previous);
            if !known && !missing {
                self.last = header.first - 1;
            }
            known = true;
            self.check_claim(log);
            self.last = header.first - 1;

            log.read(&mut bytes)?;
            let later = logs.range(number + 1..).map(|(_, log)| &log.header);
            let synced = later.clone().map(|header| header.synced).max().unwrap_or(0);
            let cut = later.map(|header| header.cut).next().unwrap_or(u64::MAX);
            let scan = Scan { header, sealer: log.sealer.as_ref(), bytes: &bytes, cut, synced };
            let mut segment = Segment::new(*number, log.bytes);
            let mut last_read = 0;
            let found = scan.read(&mut |record| {
                segment.note(record.lane, record.position.0, record.body.len());
                self.recovered.records += 1;
                self.recovered.bytes += record.body.len() as u64;
                last_read = record.position.0;
                replay(record);
            });
            self.take_found(log, &found, &bytes, synced, &mut segment)?;
            if last_read > 0 {
                self.recovered.last = Position(last_read);
            }
            self.row.push(segment);
        }
        Ok(())
    }

    /// A header that knows of durable records which no file had.
    fn check_claim(&mut self, log: &Log) {
        if log.header.synced > self.last {
            let from = Position(self.last + 1);
            let damage = Damage { file: log.name.clone(), from, to: Some(Position(log.header.synced)) };
            self.recovered.damage.push(damage);
            if let Some(segment) = self.row.newest_mut(log.header.previous) {
                segment.damaged = true;
            }
        }
    }

    fn take_found(
        &mut self,
        log: &Log,
        found: &Found,
        bytes: &[u8],
        synced: u64,
        segment: &mut Segment,
    ) -> Result<(), Error> {
        self.used = self.used.max(found.used);
        self.last = found.last;
        segment.damaged = !found.lost.is_empty();
        self.recovered.damage.extend(found.lost.iter().map(|(from, to)| Damage {
            file: log.name.clone(),
            from: Position(*from),
            to: Some(Position(*to)),
        }));
        let after = Position(found.last);
        let torn = found.torn_at.map(|at| TornTail { file: log.name.clone(), offset: at as u64, after });
        self.recovered.torn_tail = torn.or(self.recovered.torn_tail.take());
        if let Some((from, to)) = found.unproven.filter(|_| found.last > synced) {
            log.file.write_at(&bytes[from..to], from as u64).map_err(Error::io("write", &log.name))?;
            log.file.sync().map_err(Error::io("sync", &log.name))?;
        }
        Ok(())
    }

    /// A file that cannot be read at all. If a later one exists, its claim has said what is lost.
    fn set_aside(&mut self, number: u64, newest: bool) -> Result<(), Error> {
        let name = self.place.name(number, Kind::Log);
        let aside = self.place.name(number, Kind::Damaged);
        if newest {
            let from = Position(self.last + 1);
            self.recovered.damage.push(Damage { file: name.clone(), from, to: None });
        }
        self.place.disk.rename(&name, &aside).map_err(Error::io("rename", &name))
    }

    /// Begins the file of this run.
    fn finish(
        mut self,
        listed: &Listed,
        logs: &BTreeMap<u64, Log>,
        unreadable: u64,
        oldest: u64,
    ) -> Result<Opened, Error> {
        if let Some(sealing) = &self.place.options.seal {
            let needed = logs.range(oldest..).filter_map(|(_, log)| log.header.seal.as_ref());
            self.recovered.previous_key = needed.filter(|seal| !sealing.keys.is_current(seal)).count() as u64;
        }
        let number_next = listed.number_max.checked_add(1).ok_or(Error::Exhausted)?;
        let used = self.used.max(self.last).max(self.place.options.after);
        // A file that cannot be read may have been the only trace of a run.
        let runs = 1 + unreadable;
        let fresh = used == 0 && unreadable == 0;
        let first = if fresh {
            Some(1)
        } else {
            (used / POSITIONS_PER_RUN).checked_add(runs).and_then(|run| run.checked_mul(POSITIONS_PER_RUN))
        };
        let first = first.ok_or(Error::Exhausted)?;
        // Gaps are left out if possible: the fewer positions are not void, the better.
        let last = if self.recovered.records > 0 { self.recovered.last.0 } else { self.last };
        self.row.set_committed(last);
        let row = Arc::new(Mutex::new(mem::take(&mut self.row)));
        let mut tail = Tail::new(self.place, row.clone(), number_next, listed.spares.clone(), last);
        tail.begin(first)?;
        for number in logs.keys().filter(|number| **number < oldest) {
            tail.retire(*number, false);
        }
        tail.reclaim();
        tail.trim_spares();
        Ok(Opened { tail, row, recovered: self.recovered, first })
    }
}
