//! What of the stream's files is at hand: tables, blocks and open files, each within a bound.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use sonata_disk::Disk;
use sonata_disk::seal::{SealError, Sealer, Sealing};

use crate::cache::Cache;
use crate::error::Error;
use crate::file::{Age, SegmentFile};
use crate::form::{Kind, Point, Wrapped};
use crate::record::u32_at;
use crate::segment::Footer;
use crate::table::{Block, Index, Table};

/// The folder of one stream, and how its files are written.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: String,
    pub(crate) stream: u64,
    pub(crate) compression: bool,
    pub(crate) seal: Option<Sealing>,
}

impl Place {
    pub(crate) fn segment(&self, number: u64) -> String {
        format!("{}/{number:020}.seg", self.folder)
    }

    pub(crate) fn checkpoint(&self, number: u64) -> String {
        format!("{}/checkpoint-{number:020}", self.folder)
    }

    /// What opens the file of a wrapped data key.
    pub(crate) fn sealer(&self, kind: Kind, number: u64, wrapped: &Wrapped) -> Result<Sealer, SealError> {
        Sealing::open(self.seal.as_ref(), wrapped, &kind.seal_context(self.stream, number))
    }

    /// Whether a file's key is the one that new files get.
    pub(crate) fn age(&self, wrapped: &Wrapped) -> Age {
        match &self.seal {
            Some(seal) if !seal.keys.is_current(wrapped) => Age::Previous,
            _ => Age::Current,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Shelf {
    /// `None` for a stream in memory.
    pub(crate) place: Option<Place>,
    /// By segment.
    pub(crate) tables: Cache<u64, Index>,
    /// By segment and place of the frame.
    pub(crate) blocks: Cache<(u64, u64), Bytes>,
    files: Cache<u64, Arc<SegmentFile>>,
    /// What a load without the stream's lock could not bring, until somebody tries with it: the segment, and the place of the
    /// block or `None` for the table.
    unreadable: BTreeSet<(u64, Option<u64>)>,
}

/// Files kept open for reading.
const FILES_MAX: u64 = 8;

/// Failed loads that are remembered. One that is forgotten is tried once more.
const UNREADABLE_MAX: usize = 64;

impl Shelf {
    pub(crate) fn new(place: Option<Place>, cache_bytes_max: u64) -> Self {
        Self {
            place,
            tables: Cache::new(cache_bytes_max / 2),
            blocks: Cache::new(cache_bytes_max / 2),
            files: Cache::new(FILES_MAX),
            unreadable: BTreeSet::new(),
        }
    }

    pub(crate) fn note_unreadable(&mut self, number: u64, block: Option<u64>) {
        if self.unreadable.len() >= UNREADABLE_MAX {
            self.unreadable.pop_first();
        }
        self.unreadable.insert((number, block));
    }

    pub(crate) fn is_unreadable(&self, number: u64, block: Option<u64>) -> bool {
        self.unreadable.contains(&(number, block))
    }

    /// A missing file is one that is damaged as a whole.
    pub(crate) fn load_table(&mut self, number: u64, footer: Footer) -> Result<Option<Table>, Error> {
        self.unreadable.remove(&(number, None));
        match self.file(number)? {
            Some(file) => file.read_table(footer),
            None => Ok(None),
        }
    }

    pub(crate) fn load_block(&mut self, number: u64, block: Block) -> Result<Option<Bytes>, Error> {
        self.unreadable.remove(&(number, Some(block.place)));
        match self.file(number)? {
            Some(file) => file.read_block(block),
            None => Ok(None),
        }
    }

    pub(crate) fn file(&mut self, number: u64) -> Result<Option<Arc<SegmentFile>>, Error> {
        let Some(place) = &self.place else { return Ok(None) };
        if let Some(file) = self.files.get(number) {
            return Ok(Some(Arc::clone(file)));
        }
        match SegmentFile::open(place, number) {
            Ok(file) => {
                let file = Arc::new(file);
                self.files.insert(number, Arc::clone(&file), 1);
                Ok(Some(file))
            }
            Err(Error::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes of one message of a sealed segment, unchecked, without its table. `None` for any reason: the table
    /// knows better.
    pub(crate) fn load_point(
        &mut self,
        number: u64,
        footer: Footer,
        fence: &[u32],
        delta: u32,
    ) -> Option<Bytes> {
        let file = self.file(number).ok()??;
        match file.read_point(footer, fence, delta)? {
            Point::Record(place, length) => file.read(place, length).ok()?,
            Point::Frame(place, length, within) => {
                let block = match self.blocks.get((number, place)) {
                    Some(block) => block.clone(),
                    None => {
                        let block = file.read_frame(place, length).ok()??;
                        self.keep_block(number, place, block.clone());
                        block
                    }
                };
                let length = u32_at(&block, within)? as usize;
                let end = within.checked_add(length).filter(|end| *end <= block.len())?;
                Some(block.slice(within..end))
            }
        }
    }

    pub(crate) fn keep_table(&mut self, number: u64, table: Table) {
        let index = Index::new(table);
        let bytes = index.memory_bytes();
        self.tables.insert(number, index, bytes);
    }

    pub(crate) fn keep_block(&mut self, number: u64, place: u64, bytes: Bytes) {
        let length = bytes.len() as u64;
        self.blocks.insert((number, place), bytes, length);
    }

    /// See [`crate::Store::cool`].
    pub(crate) fn cool(&mut self) {
        self.tables.cool();
        self.blocks.cool();
        self.files.cool();
    }

    /// Nobody will ask for this segment again.
    pub(crate) fn drop_segment(&mut self, number: u64) {
        self.tables.remove(number);
        self.files.remove(number);
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.tables.bytes() + self.blocks.bytes()
    }
}
