//! A segment's file at hand, with what opens its parts if it is encrypted.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use sonata_disk::seal::Sealer;
use sonata_disk::{File, Open};

use crate::error::Error;
use crate::form::{self, COPY_AT, HEADER_MAX, Head, Header, Kind, Lock, Point};
use crate::segment::Footer;
use crate::shelf::Place;
use crate::table::{Block, Table};

/// A buffer of this length does no harm, whatever asks for it.
const UNCHECKED_BYTES: usize = 64 << 10;

/// Zeros that one call of the disk writes.
const ZEROS: &[u8] = &[0; 64 << 10];

/// Overwrites a part of a file with zeros, durably. A disk or file system that writes elsewhere than where it read keeps the old
/// bytes all the same.
pub(crate) fn overwrite(file: &dyn File, mut from: u64, end: u64) -> io::Result<()> {
    if from == end {
        return Ok(());
    }
    while from < end {
        let length = (end - from).min(ZEROS.len() as u64);
        file.write_at(&ZEROS[..length as usize], from)?;
        from += length;
    }
    file.sync()
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) file: Arc<dyn File>,
    pub(crate) number: u64,
    name: String,
    stream: u64,
    sealer: Option<Sealer>,
}

/// Under which key a file is, if keys are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    Current,
    Previous,
    /// It is not encrypted.
    Plain,
}

impl SegmentFile {
    /// A new file, or what an attempt that failed has left of it, and its header. Every attempt has a data key of its
    /// own, so it does not matter what of an earlier one is on the disk.
    pub(crate) fn create(place: &Place, number: u64) -> io::Result<(Self, Vec<u8>)> {
        let name = place.segment(number);
        let file = place.disk.open(&name, Open::Either)?;
        file.set_len(0)?;
        let sealed =
            place.seal.as_ref().map(|seal| seal.create(&Kind::Segment.seal_context(place.stream, number)));
        let (sealer, wrapped) = sealed.unzip();
        let header = form::header(place.stream, number, wrapped.as_ref());
        Ok((Self { file, number, name, stream: place.stream, sealer }, header))
    }

    /// A file that exists, to be read. What its header says is only asked for the data key: whoever recovers the
    /// stream has [looked at it](Self::inspect) before.
    pub(crate) fn open(place: &Place, number: u64) -> Result<Self, Error> {
        match &place.seal {
            Some(_) => match Self::inspect(place, number) {
                Err(Error::Foreign { .. }) => Self::open_plain(place, number),
                inspected => inspected.map(|(file, _, _)| file),
            },
            None => Self::open_plain(place, number),
        }
    }

    fn open_plain(place: &Place, number: u64) -> Result<Self, Error> {
        let name = place.segment(number);
        let opened = place.disk.open(&name, Open::Existing);
        let file = opened.map_err(|error| Error::disk(&name, error))?;
        Ok(Self { file, number, name, stream: place.stream, sealer: None })
    }

    /// A file that exists, and whether its header is as it was written.
    ///
    /// # Errors
    /// The disk's; [`Error::Newer`], [`Error::Foreign`]; [`Error::Key`] if its key is not given.
    pub(crate) fn inspect(place: &Place, number: u64) -> Result<(Self, Age, bool), Error> {
        let mut own = Self::open_plain(place, number)?;
        let length = own.len()?;
        // Never more than a header.
        let mut header = vec![0; length.min(HEADER_MAX as u64) as usize];
        own.file.read_at(&mut header, 0).map_err(|error| Error::disk(&own.name, error))?;
        let wrapped = match Header::read(&header, place.stream, number) {
            Header::Ours(wrapped) => wrapped,
            Header::Newer(version) => return Err(Error::Newer { file: own.name, version }),
            Header::Foreign => return Err(Error::Foreign { file: own.name }),
            Header::Damaged => return Ok((own, Age::Plain, false)),
        };
        let Some(wrapped) = wrapped else { return Ok((own, Age::Plain, true)) };
        let sealer = place.sealer(Kind::Segment, number, &wrapped).map_err(|source| {
            // The context is right: another file's header would have been foreign.
            Error::Key { file: own.name.clone(), source }
        })?;
        own.sealer = Some(sealer);
        Ok((own, place.age(&wrapped), true))
    }

    /// Puts a file of a previous key under the current one, by its header alone: first the copy, then the head, so that
    /// one of the two is whole at any time. The key is then [current](Age::Current), unless something went wrong, which
    /// is no harm: it is tried again at the next start.
    pub(crate) fn rewrap(&self, place: &Place) -> Age {
        let rewrapped = self.try_rewrap(place);
        rewrapped.ok().flatten().map_or(Age::Previous, |()| Age::Current)
    }

    fn try_rewrap(&self, place: &Place) -> io::Result<Option<()>> {
        let Some(seal) = &place.seal else { return Ok(None) };
        let mut header = vec![0; HEADER_MAX];
        self.file.read_at(&mut header, 0)?;
        let Header::Ours(Some(wrapped)) = Header::read(&header, place.stream, self.number) else {
            return Ok(None);
        };
        let context = Kind::Segment.seal_context(place.stream, self.number);
        let rewrapped = seal.keys.rewrap(&wrapped, &context).map_err(io::Error::other)?;
        let Some(rewrapped) = rewrapped else { return Ok(None) };
        let head = Head::encode(Kind::Segment, place.stream, self.number, Some(&rewrapped));
        for at in [COPY_AT as u64, 0] {
            self.file.write_at(&head, at)?;
            self.file.sync()?;
        }
        Ok(Some(()))
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.sealer.is_some()
    }

    pub(crate) fn sealer(&self) -> Option<&Sealer> {
        self.sealer.as_ref()
    }

    /// What encrypts the part at `place`; `None` if nothing does.
    pub(crate) fn lock(&self, place: u64) -> Option<Lock<'_>> {
        self.sealer.as_ref().map(|sealer| Lock { sealer, place })
    }

    pub(crate) fn len(&self) -> Result<u64, Error> {
        self.file.len().map_err(|error| Error::disk(&self.name, error))
    }

    /// Cuts what lies beyond a length. It is overwritten first, since some of it may have been erased; what is encrypted is not:
    /// the file takes nothing more and goes soon, and its data key with it.
    pub(crate) fn cut(&self, length: u64) -> Result<(), Error> {
        let end = self.len()?;
        if end <= length {
            return Ok(());
        }
        let from = if self.is_encrypted() { end } else { length };
        let cut = overwrite(&*self.file, from, end).and_then(|()| self.file.set_len(length));
        cut.map_err(|error| Error::disk(&self.name, error))
    }

    /// The table of a sealed segment; `None` if its footer is damaged.
    pub(crate) fn read_table(&self, footer: Footer) -> Result<Option<Table>, Error> {
        let bytes = self.read(footer.place, footer.length as usize)?;
        let lock = self.lock(footer.place);
        let table = bytes
            .and_then(|bytes| form::read_footer(&bytes, self.stream, self.number, Some(footer.hash), lock));
        Ok(table.map(|(_, table)| table))
    }

    /// A block's records; `None` if the frame is damaged and they cannot be told without it. The records' checksums are the
    /// reader's business.
    pub(crate) fn read_block(&self, block: Block) -> Result<Option<Bytes>, Error> {
        let plain = self.read_frame(block.place, block.stored as usize)?;
        match plain.filter(|plain| plain.len() == block.length as usize) {
            None if block.is_plain() && !self.is_encrypted() => self.read_plain(block),
            plain => Ok(plain),
        }
    }

    /// The records of a block that is stored as it is, whatever its frame's head says, as far as the file goes.
    fn read_plain(&self, block: Block) -> Result<Option<Bytes>, Error> {
        let place = block.place.saturating_add(form::FRAME_HEAD as u64);
        let there = self.len()?.saturating_sub(place).min(u64::from(block.length));
        self.read(place, there as usize)
    }

    /// The records of the frame at a place.
    pub(crate) fn read_frame(&self, place: u64, length: usize) -> Result<Option<Bytes>, Error> {
        let bytes = self.read(place, length)?;
        Ok(bytes.and_then(|bytes| form::unframe(&bytes, self.stream, self.number, self.lock(place))))
    }

    /// Where a sealed segment's points say that a message is. `None` for any reason: the table knows better.
    pub(crate) fn read_point(&self, footer: Footer, fence: &[u32], delta: u32) -> Option<Point> {
        let (place, length) = form::page(footer.place, footer.points, fence, delta, self.sealer.is_some())?;
        let page = self.read(place, length).ok()??;
        form::point(&page, delta, self.lock(place))
    }

    /// `None` if the file ends before.
    pub(crate) fn read(&self, place: u64, length: usize) -> Result<Option<Bytes>, Error> {
        let end = place.saturating_add(length as u64);
        // The length is looked at first, so that a damaged number does not become a huge buffer; a small one needs no
        // second call.
        if length > UNCHECKED_BYTES && self.len()? < end {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        match self.file.read_at(&mut bytes, place) {
            Ok(()) => Ok(Some(Bytes::from(bytes))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(Error::disk(&self.name, error)),
        }
    }
}
