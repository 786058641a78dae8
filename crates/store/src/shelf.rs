//! What of the stream's files is at hand: tables, blocks and open files, each within a bound.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use sonata_disk::{Disk, File, Open};

use crate::cache::Cache;
use crate::error::Error;
use crate::form;
use crate::segment::Footer;
use crate::table::{Block, Index, Table};

/// The folder of one stream, and how its files are sealed with checksums.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: String,
    pub(crate) stream: u64,
    pub(crate) compression: bool,
}

impl Place {
    pub(crate) fn segment(&self, number: u64) -> String {
        format!("{}/{number:020}.seg", self.folder)
    }

    pub(crate) fn checkpoint(&self, number: u64) -> String {
        format!("{}/checkpoint-{number:020}", self.folder)
    }

    pub(crate) fn open(&self, number: u64) -> Result<Arc<dyn File>, Error> {
        let name = self.segment(number);
        self.disk.open(&name, Open::Existing).map_err(|error| Error::disk(&name, error))
    }

    /// The table of a sealed segment; `None` if its footer is damaged.
    pub(crate) fn read_table(
        &self,
        file: &dyn File,
        number: u64,
        footer: Footer,
    ) -> Result<Option<Table>, Error> {
        let bytes = self.read(file, number, footer.place, footer.length as usize)?;
        let table = bytes.and_then(|bytes| form::read_footer(&bytes, self.stream, number, Some(footer.hash)));
        Ok(table.map(|(_, table)| table))
    }

    /// A block's records; `None` if the frame is damaged. The records' checksums are the reader's business.
    pub(crate) fn read_block(
        &self,
        file: &dyn File,
        number: u64,
        block: Block,
    ) -> Result<Option<Bytes>, Error> {
        let bytes = self.read(file, number, block.place, block.stored as usize)?;
        let plain = bytes.and_then(|bytes| form::unframe(&bytes, self.stream, number));
        Ok(plain.filter(|plain| plain.len() == block.length as usize))
    }

    /// One record of a sealed segment, unchecked, without its table. `None` for any reason: the table knows better.
    pub(crate) fn read_point(
        &self,
        file: &dyn File,
        number: u64,
        footer: Footer,
        fence: &[u32],
        delta: u32,
    ) -> Option<Bytes> {
        let (place, length) = form::page(footer.place, footer.points, fence, delta)?;
        let page = self.read(file, number, place, length).ok()??;
        let (place, length) = form::point(&page, delta)?;
        self.read(file, number, place, length).ok()?
    }

    /// `None` if the file ends before.
    fn read(&self, file: &dyn File, number: u64, place: u64, length: usize) -> Result<Option<Bytes>, Error> {
        let end = place.saturating_add(length as u64);
        let failed = |error: io::Error| Error::disk(&self.segment(number), error);
        // The length is looked at first, so that a damaged number does not become a huge buffer; a small one needs no
        // second call.
        if length > UNCHECKED_BYTES && file.len().map_err(failed)? < end {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        match file.read_at(&mut bytes, place) {
            Ok(()) => Ok(Some(Bytes::from(bytes))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

/// A buffer of this length does no harm, whatever asks for it.
const UNCHECKED_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Shelf {
    /// `None` for a stream in memory.
    pub(crate) place: Option<Place>,
    /// By segment.
    pub(crate) tables: Cache<u64, Index>,
    /// By segment and number of the block.
    pub(crate) blocks: Cache<(u64, u32), Bytes>,
    files: Cache<u64, Arc<dyn File>>,
}

/// Files kept open for reading.
const FILES_MAX: u64 = 8;

/// A file with what it takes to read it.
type FileIn<'a> = (&'a Place, Arc<dyn File>);

impl Shelf {
    pub(crate) fn new(place: Option<Place>, cache_bytes_max: u64) -> Self {
        Self {
            place,
            tables: Cache::new(cache_bytes_max / 2),
            blocks: Cache::new(cache_bytes_max / 2),
            files: Cache::new(FILES_MAX),
        }
    }

    /// A missing file is one that is damaged as a whole.
    pub(crate) fn load_table(&mut self, number: u64, footer: Footer) -> Result<Option<Table>, Error> {
        match self.file(number)? {
            Some((place, file)) => place.read_table(&*file, number, footer),
            None => Ok(None),
        }
    }

    pub(crate) fn load_block(&mut self, number: u64, block: Block) -> Result<Option<Bytes>, Error> {
        match self.file(number)? {
            Some((place, file)) => place.read_block(&*file, number, block),
            None => Ok(None),
        }
    }

    pub(crate) fn file(&mut self, number: u64) -> Result<Option<FileIn<'_>>, Error> {
        let Some(place) = &self.place else { return Ok(None) };
        if let Some(file) = self.files.get(number) {
            return Ok(Some((place, Arc::clone(file))));
        }
        match place.open(number) {
            Ok(file) => {
                self.files.insert(number, Arc::clone(&file), 1);
                Ok(Some((place, file)))
            }
            Err(Error::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn keep_table(&mut self, number: u64, table: Table) {
        let index = Index::new(table);
        let bytes = index.memory_bytes();
        self.tables.insert(number, index, bytes);
    }

    pub(crate) fn keep_block(&mut self, number: u64, block: u32, bytes: Bytes) {
        let length = bytes.len() as u64;
        self.blocks.insert((number, block), bytes, length);
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
