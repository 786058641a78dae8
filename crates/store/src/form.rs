//! The bytes of a segment file: header, frames of records, footer. `FORMAT.md` has the tables.
//!
//! Nothing here touches a disk. What is read back is believed only as far as a checksum goes: frames have one over their
//! head (their content is records, which have their own), a footer has one over all of it.

use bytes::Bytes;
use sonata_disk::seal::{self, Sealer, TAG_BYTES};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::record::{self, u16_at, u32_at, u64_at};
use crate::table::{Block, Names, ROWS_AT_ONCE, Row, Table, step_aside};

/// Length of a file's head, if the file is not encrypted.
pub(crate) const HEAD: usize = 40;
/// The same if it is.
pub(crate) const SEALED_HEAD: usize = HEAD + seal::HEADER_BYTES;
/// Where the second copy of an encrypted segment's head is: without its data key a segment is lost as a whole.
pub(crate) const COPY_AT: usize = 2048;
/// Where an encrypted segment's frames start.
const SEALED_FRAMES: usize = 4096;
/// Length of a frame's head.
pub(crate) const FRAME_HEAD: usize = 32;
/// Version of the format that is written.
pub(crate) const VERSION: u16 = 1;

const FRAME_MAGIC: u32 = 0x4b4c_4253;
const FOOTER_MAGIC: u32 = 0x544f_4f46;
/// More than any block is: the largest record and the block it was added to.
const BLOCK_MAX: u32 = 512 << 20;

/// A file's flag: it is encrypted.
const ENCRYPTED: u16 = 1;

const PLAIN: u32 = 0;
const S2: u32 = 1;
/// Added to a frame's codec: its block is encrypted.
const SEALED: u32 = 0x100;

/// What files there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Segment,
    Checkpoint,
}

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Segment => b"SNTASEGM",
            Self::Checkpoint => b"SNTACHKP",
        }
    }

    /// What a file's data key is bound to.
    pub(crate) fn seal_context(self, stream: u64, number: u64) -> Vec<u8> {
        let mut context = b"sonata store\0\0\0\0".to_vec();
        context.extend_from_slice(self.magic());
        context.extend_from_slice(&stream.to_le_bytes());
        context.extend_from_slice(&number.to_le_bytes());
        context
    }
}

/// A file's head as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) version: u16,
    pub(crate) stream: u64,
    /// A segment's number, the length of a checkpoint's body.
    pub(crate) word: u64,
    /// The wrapped data key of an encrypted file.
    pub(crate) seal: Option<Wrapped>,
}

/// A wrapped data key.
pub(crate) type Wrapped = [u8; seal::HEADER_BYTES];

impl Head {
    pub(crate) fn encode(kind: Kind, stream: u64, word: u64, seal: Option<&Wrapped>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEALED_HEAD);
        bytes.extend_from_slice(kind.magic());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&if seal.is_some() { ENCRYPTED } else { 0 }.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&stream.to_le_bytes());
        bytes.extend_from_slice(&word.to_le_bytes());
        bytes.extend_from_slice(seal.map_or(&[], |seal| seal.as_slice()));
        put_checksum(&mut bytes, 0);
        bytes
    }

    /// The head at the start of `bytes`, if its checksum holds.
    pub(crate) fn decode(kind: Kind, bytes: &[u8]) -> Option<Self> {
        let encrypted = u16_at(bytes, 10)? & ENCRYPTED != 0;
        let bytes = bytes.get(..if encrypted { SEALED_HEAD } else { HEAD })?;
        if !bytes.starts_with(kind.magic()) || !checksum_holds(bytes, 0) {
            return None;
        }
        let seal = if encrypted { Some(*bytes.get(32..)?.first_chunk()?) } else { None };
        Some(Self { version: u16_at(bytes, 8)?, stream: u64_at(bytes, 16)?, word: u64_at(bytes, 24)?, seal })
    }

    pub(crate) fn bytes(&self) -> usize {
        if self.seal.is_some() { SEALED_HEAD } else { HEAD }
    }
}

/// The header of a segment file: all before its frames.
pub(crate) fn header(stream: u64, number: u64, seal: Option<&Wrapped>) -> Vec<u8> {
    let mut bytes = Head::encode(Kind::Segment, stream, number, seal);
    if seal.is_some() {
        let head = bytes.clone();
        bytes.resize(SEALED_FRAMES, 0);
        bytes[COPY_AT..COPY_AT + SEALED_HEAD].copy_from_slice(&head);
    }
    bytes
}

/// More bytes than any header has.
pub(crate) const HEADER_MAX: usize = SEALED_FRAMES;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    Ours(Option<Wrapped>),
    Foreign,
    Newer(u16),
    Damaged,
}

impl Header {
    /// Reads the first [`HEADER_MAX`] bytes of a file, or what there is of them.
    pub(crate) fn read(bytes: &[u8], stream: u64, number: u64) -> Self {
        let first = Head::decode(Kind::Segment, bytes);
        let copy = || Head::decode(Kind::Segment, bytes.get(COPY_AT..)?).filter(|head| head.seal.is_some());
        match first.or_else(copy) {
            None => Self::Damaged,
            Some(head) if head.version > VERSION => Self::Newer(head.version),
            Some(head) if head.stream == stream && head.word == number => Self::Ours(head.seal),
            Some(_) => Self::Foreign,
        }
    }
}

/// Where the frames of a segment start.
pub(crate) fn frames_at(encrypted: bool) -> u64 {
    if encrypted { SEALED_FRAMES as u64 } else { HEAD as u64 }
}

/// What encrypts a part of a file, and where the part will stand. No place is ever written twice under one key, so the
/// place is the nonce.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lock<'a> {
    pub(crate) sealer: &'a Sealer,
    pub(crate) place: u64,
}

impl Lock<'_> {
    /// Encrypts what `bytes` hold from `start` on and appends the tag.
    pub(crate) fn close(self, associated: &[u8], bytes: &mut Vec<u8>, start: usize) {
        let tag = self.sealer.seal_in_place(self.place, associated, &mut bytes[start..]);
        bytes.extend_from_slice(&tag.expect("a segment is far shorter than what a cipher takes at once"));
    }

    /// What was encrypted, if it is as it was.
    pub(crate) fn open(self, associated: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = bytes.to_vec();
        let length = self.sealer.open_in_place(self.place, associated, &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

/// Appends a block as it goes to the file, and tells how long that is. `start` is its place in the segment, counted in
/// uncompressed bytes.
pub(crate) fn frame(
    bytes: &mut Vec<u8>,
    stream: u64,
    number: u64,
    start: u32,
    plain: &[u8],
    compress: bool,
    lock: Option<Lock<'_>>,
) -> usize {
    let packed = if compress { Some(minlz::encode(plain)) } else { None };
    let (codec, content) = match &packed {
        Some(packed) if packed.len() < plain.len() => (S2, packed.as_slice()),
        _ => (PLAIN, plain),
    };
    let (flag, tag) = if lock.is_some() { (SEALED, TAG_BYTES) } else { (0, 0) };
    let stored = content.len() + tag;
    let mut head = Vec::with_capacity(FRAME_HEAD);
    for word in [FRAME_MAGIC, codec | flag, start, plain.len() as u32, stored as u32, 0] {
        head.extend_from_slice(&word.to_le_bytes());
    }
    put_checksum(&mut head, stream ^ number.rotate_left(32));
    bytes.reserve(FRAME_HEAD + stored);
    bytes.extend_from_slice(&head);
    let content_at = bytes.len();
    bytes.extend_from_slice(content);
    if let Some(lock) = lock {
        lock.close(&head, bytes, content_at);
    }
    FRAME_HEAD + stored
}

/// The head of a frame: its block (without a place) and codec.
fn frame_head(bytes: &[u8], stream: u64, number: u64) -> Option<(Block, u32)> {
    let head = bytes.get(..FRAME_HEAD)?;
    if u32_at(head, 0)? != FRAME_MAGIC || !checksum_holds(head, stream ^ number.rotate_left(32)) {
        return None;
    }
    let (codec, start, length, stored) =
        (u32_at(head, 4)?, u32_at(head, 8)?, u32_at(head, 12)?, u32_at(head, 16)?);
    let tag = if codec & SEALED != 0 { TAG_BYTES as u32 } else { 0 };
    let sane =
        length <= BLOCK_MAX && stored >= tag && stored - tag <= length && start.checked_add(length).is_some();
    let block = Block { start, length, place: 0, stored: stored.checked_add(FRAME_HEAD as u32)? };
    sane.then_some((block, codec))
}

/// How long the frame is that starts here, if its head is unharmed.
pub(crate) fn frame_length(head: &[u8], stream: u64, number: u64) -> Option<Block> {
    frame_head(head, stream, number).map(|(block, _)| block)
}

/// The records of a frame. Their own checksums are yet to be checked.
pub(crate) fn unframe(bytes: &Bytes, stream: u64, number: u64, lock: Option<Lock<'_>>) -> Option<Bytes> {
    let (block, codec) = frame_head(bytes, stream, number)?;
    if bytes.len() != block.stored as usize {
        return None;
    }
    let content = match (codec & SEALED != 0, lock) {
        (false, None) => bytes.slice(FRAME_HEAD..),
        (true, Some(lock)) => Bytes::from(lock.open(&bytes[..FRAME_HEAD], &bytes[FRAME_HEAD..])?),
        // Where a file is encrypted, all of it is: a frame in the clear was put there by somebody else.
        _ => return None,
    };
    match codec & !SEALED {
        PLAIN => (content.len() == block.length as usize).then_some(content),
        S2 => {
            let (plain, _) = minlz::decode_len(&content).ok()?;
            if plain != block.length as usize {
                return None;
            }
            let plain = minlz::decode(&content).ok()?;
            (plain.len() == block.length as usize).then(|| Bytes::from(plain))
        }
        _ => None,
    }
}

/// Looking for records behind damage may hash this many times a block's length: payloads can be made to look like the starts
/// of many long records.
const SEARCH_FACTOR: usize = 64;

/// Adds the records of a block to a table, or of as much of it as there is. What is not as it was written is passed over, up to
/// the next record that verifies. Sequences lie in `base..`. Returns whether all was well.
pub(crate) fn index_block(
    table: &mut Table,
    names: &mut NameBook,
    stream: u64,
    base: u64,
    block: Block,
    plain: &[u8],
) -> bool {
    let mut at = 0;
    let mut whole = plain.len() == block.length as usize;
    let mut budget = plain.len().saturating_mul(SEARCH_FACTOR);
    while at < plain.len() {
        let Some(record) = record::decode(&plain[at..], stream) else {
            whole = false;
            match record::search(&plain[at..], stream, &mut budget) {
                Some(length) => at += length,
                None => return false,
            }
            continue;
        };
        let delta = record.sequence.checked_sub(base).and_then(|delta| u32::try_from(delta).ok());
        let follows = |delta: &u32| table.rows.last().is_none_or(|row| row.delta < *delta);
        let Some(delta) = delta.filter(follows) else { return false };
        let local = names.enter(&mut table.names, record.subject);
        let headers = !record.headers.is_empty();
        let offset = block.start + at as u32;
        table.rows.push(Row::new(record.timestamp, delta, offset, record.length as u32, local, headers));
        at += record.length;
    }
    whole
}

/// Finds a name's number while a table is built from records.
#[derive(Debug, Default)]
pub(crate) struct NameBook {
    numbers: hashbrown::HashMap<Vec<u8>, u32, foldhash::fast::RandomState>,
}

impl NameBook {
    pub(crate) fn enter(&mut self, names: &mut Names, name: &[u8]) -> u32 {
        if let Some(local) = self.numbers.get(name) {
            return *local;
        }
        let local = names.push(name);
        self.numbers.insert(name.to_vec(), local);
        local
    }
}

/// Points that are read at once to find one. The memory keeps one number for each so many messages.
pub(crate) const POINTS_PER_PAGE: usize = 256;
const POINTS_MAGIC: u32 = 0x544e_4f50;
const POINTS_HEAD: usize = 8;

/// How long points are.
#[derive(Clone, Copy, Debug)]
struct PointForm {
    bytes: usize,
    /// What follows each page.
    tag: usize,
}

impl PointForm {
    fn of(encrypted: bool) -> Self {
        if encrypted { Self { bytes: 16, tag: TAG_BYTES } } else { Self { bytes: 12, tag: 0 } }
    }

    /// Length of so many points.
    fn length(self, points: usize) -> Option<usize> {
        points.checked_mul(self.bytes)?.checked_add(points.div_ceil(POINTS_PER_PAGE).checked_mul(self.tag)?)
    }
}

/// The points of a table: where each record lies in the file, of fixed length so that one is found without reading
/// all. They have no checksum: a record found by a wrong one does not verify. Those of an encrypted file lead to a block
/// and a place in it, and each page is encrypted by itself. `place` is where the points will stand.
pub(crate) fn points(table: &Table, sealer: Option<&Sealer>, place: u64) -> Vec<u8> {
    let form = PointForm::of(sealer.is_some());
    let length = form.length(table.rows.len()).unwrap_or_default();
    let mut bytes = Vec::with_capacity(POINTS_HEAD + length);
    bytes.extend_from_slice(&POINTS_MAGIC.to_le_bytes());
    bytes.extend_from_slice(&(table.rows.len() as u32).to_le_bytes());
    for (number, page) in table.rows.chunks(POINTS_PER_PAGE).enumerate() {
        if number.is_multiple_of(ROWS_AT_ONCE / POINTS_PER_PAGE) {
            step_aside();
        }
        let start = bytes.len();
        for row in page {
            let block = table.block(row.offset).map(|number| &table.blocks[number]);
            bytes.extend_from_slice(&row.delta.to_le_bytes());
            if sealer.is_some() {
                // A segment is too short for a place beyond 32 bits; 0 is no place of a frame.
                let place = block.and_then(|block| u32::try_from(block.place).ok()).unwrap_or(0);
                let (stored, within) = block.map_or((0, 0), |block| (block.stored, row.offset - block.start));
                for word in [place, stored, within] {
                    bytes.extend_from_slice(&word.to_le_bytes());
                }
            } else {
                let place = block.map_or(0, |block| block.place_of(row.offset));
                bytes.extend_from_slice(&place.to_le_bytes());
                bytes.extend_from_slice(&row.length.to_le_bytes());
            }
        }
        if let Some(sealer) = sealer {
            Lock { sealer, place: place + start as u64 }.close(&[], &mut bytes, start);
        }
    }
    bytes
}

/// The first delta of each page of points.
pub(crate) fn fence(table: &Table) -> std::sync::Arc<[u32]> {
    table.rows.iter().step_by(POINTS_PER_PAGE).map(|row| row.delta).collect()
}

/// Where the page of points is that has a message: place in the file and length.
pub(crate) fn page(
    footer_place: u64,
    points: u32,
    fence: &[u32],
    delta: u32,
    encrypted: bool,
) -> Option<(u64, usize)> {
    let form = PointForm::of(encrypted);
    let page = fence.partition_point(|first| *first <= delta).checked_sub(1)?;
    let before = page * POINTS_PER_PAGE;
    let count = (points as usize).checked_sub(before)?.min(POINTS_PER_PAGE);
    let start = footer_place.checked_sub(form.length(points as usize)? as u64)?;
    Some((start.checked_add(form.length(before)? as u64)?, form.length(count)?))
}

/// Where a point leads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Point {
    /// To a record: place in the file and length.
    Record(u64, usize),
    /// To a frame by place and length, and to the record's offset in its block.
    Frame(u64, usize, usize),
}

/// What a page of points says of a message; `None` if it has no point of its own, being compressed.
pub(crate) fn point(page: &[u8], delta: u32, lock: Option<Lock<'_>>) -> Option<Point> {
    let Some(lock) = lock else {
        let (points, _) = page.as_chunks::<12>();
        let at = points.binary_search_by_key(&Some(delta), |point| u32_at(point, 0)).ok()?;
        let (place, length) = (u32_at(&points[at], 4)?, u32_at(&points[at], 8)?);
        return (place > 0).then_some(Point::Record(u64::from(place), length as usize));
    };
    let page = lock.open(&[], page)?;
    let (points, _) = page.as_chunks::<16>();
    let at = points.binary_search_by_key(&Some(delta), |point| u32_at(point, 0)).ok()?;
    let [place, stored, within] = [4, 8, 12].map(|word| u32_at(&points[at], word).unwrap_or(0));
    (place > 0).then_some(Point::Frame(u64::from(place), stored as usize, within as usize))
}

/// How many bytes of the start of `bytes` points take.
pub(crate) fn points_length(bytes: &[u8], encrypted: bool) -> Option<usize> {
    let count = u32_at(bytes, 4).filter(|_| u32_at(bytes, 0) == Some(POINTS_MAGIC))?;
    PointForm::of(encrypted).length(count as usize)?.checked_add(POINTS_HEAD)
}

/// A segment's footer: its table. A checkpoint refers to the last eight bytes, which are the checksum, or the end of the
/// tag.
pub(crate) fn footer(stream: u64, number: u64, base: u64, table: &Table, lock: Option<Lock<'_>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&FOOTER_MAGIC.to_le_bytes());
    bytes.extend_from_slice(&u32::from(VERSION).to_le_bytes());
    bytes.extend_from_slice(&base.to_le_bytes());
    put_int(&mut bytes, table.rows.len() as u64);
    put_int(&mut bytes, table.names.len() as u64);
    put_int(&mut bytes, table.blocks.len() as u64);
    let (mut delta, mut offset, mut timestamp) = (0, 0, 0);
    for rows in table.rows.chunks(ROWS_AT_ONCE) {
        step_aside();
        for row in rows {
            put_int(&mut bytes, u64::from(row.delta - delta));
            put_int(&mut bytes, u64::from(row.offset - offset));
            put_int(&mut bytes, u64::from(row.length));
            put_int(&mut bytes, u64::from(row.local()) << 1 | u64::from(row.has_headers()));
            put_int(&mut bytes, zigzag(row.timestamp.wrapping_sub(timestamp)));
            (delta, offset, timestamp) = (row.delta, row.offset + row.length, row.timestamp);
        }
    }
    for local in 0..table.names.len() as u32 {
        let name = table.names.get(local);
        put_int(&mut bytes, name.len() as u64);
        bytes.extend_from_slice(name);
    }
    for block in &table.blocks {
        put_int(&mut bytes, u64::from(block.start));
        put_int(&mut bytes, u64::from(block.length));
        put_int(&mut bytes, block.place);
        put_int(&mut bytes, u64::from(block.stored));
    }
    put_checksum(&mut bytes, stream ^ number.rotate_left(32));
    if let Some(lock) = lock {
        lock.close(&[], &mut bytes, 0);
    }
    bytes
}

/// The table of a footer, if every bit of it is as written and is that of `hash`.
pub(crate) fn read_footer(
    bytes: &[u8],
    stream: u64,
    number: u64,
    hash: Option<u64>,
    lock: Option<Lock<'_>>,
) -> Option<(u64, Table)> {
    if hash.is_some_and(|hash| bytes.last_chunk() != Some(&hash.to_le_bytes())) {
        return None;
    }
    let opened;
    let bytes = match lock {
        Some(lock) => {
            opened = lock.open(&[], bytes)?;
            opened.as_slice()
        }
        None => bytes,
    };
    let content = bytes.len().checked_sub(8)?;
    if !checksum_holds(bytes, stream ^ number.rotate_left(32)) {
        return None;
    }
    let mut reader = Reader::new(&bytes[..content]);
    if reader.u32()? != FOOTER_MAGIC || reader.u32()? != u32::from(VERSION) {
        return None;
    }
    let base = reader.u64()?;
    let (rows, names, blocks) = (reader.count()?, reader.count()?, reader.count()?);
    let mut table = Table::default();
    table.rows.reserve_exact(rows);
    let (mut delta, mut offset, mut timestamp) = (0u32, 0u32, 0i64);
    for _ in 0..rows {
        delta = delta.checked_add(reader.int32()?)?;
        offset = offset.checked_add(reader.int32()?)?;
        let length = reader.int32()?;
        let subject = reader.int32()?;
        timestamp = timestamp.wrapping_add(unzigzag(reader.int()?));
        if (subject >> 1) as usize >= names {
            return None;
        }
        table.rows.push(Row::new(timestamp, delta, offset, length, subject >> 1, subject & 1 != 0));
        offset = offset.checked_add(length)?;
    }
    table.names.sorted = true;
    for _ in 0..names {
        let length = reader.count()?;
        table.names.push(reader.bytes(length)?);
    }
    for _ in 0..blocks {
        let (start, length) = (reader.int32()?, reader.int32()?);
        start.checked_add(length)?;
        table.blocks.push(Block { start, length, place: reader.int()?, stored: reader.int32()? });
    }
    Some((base, table))
}

/// Appends a checksum over all of `bytes`.
pub(crate) fn put_checksum(bytes: &mut Vec<u8>, key: u64) {
    let sum = xxh3_64_with_seed(bytes, key);
    bytes.extend_from_slice(&sum.to_le_bytes());
}

/// Whether the last eight bytes are the checksum of those before.
pub(crate) fn checksum_holds(bytes: &[u8], key: u64) -> bool {
    bytes
        .len()
        .checked_sub(8)
        .is_some_and(|content| u64_at(bytes, content) == Some(xxh3_64_with_seed(&bytes[..content], key)))
}

/// Appends an integer, seven bits a byte, lowest first.
pub(crate) fn put_int(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

pub(crate) fn put_bytes(bytes: &mut Vec<u8>, value: &[u8]) {
    put_int(bytes, value.len() as u64);
    bytes.extend_from_slice(value);
}

pub(crate) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads what the functions above wrote; `None` where the bytes end or make no sense.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        u32_at(self.bytes(4)?, 0)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        u64_at(self.bytes(8)?, 0)
    }

    pub(crate) fn int(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (at, byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if at == 9 && bits > 1 {
                return None;
            }
            value |= bits << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn int32(&mut self) -> Option<u32> {
        u32::try_from(self.int()?).ok()
    }

    /// How many things follow, each at least a byte: never more than there are bytes.
    pub(crate) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.int()?).ok().filter(|count| *count <= self.rest.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_int(&mut bytes, value);
            assert_eq!(Reader::new(&bytes).int(), Some(value));
            assert_eq!(zigzag(unzigzag(value)), value);
        }
        assert_eq!(Reader::new(&[0xff; 11]).int(), None);
    }

    #[test]
    fn frames_survive_and_flips_in_heads_are_seen() {
        let plain = b"the same and the same and the same and the same and the same".as_slice();
        for compress in [false, true] {
            let mut bytes = Vec::new();
            assert_eq!(frame(&mut bytes, 7, 3, 100, plain, compress, None), bytes.len());
            assert_eq!(unframe(&Bytes::from(bytes.clone()), 7, 3, None).as_deref(), Some(plain));
            assert_eq!(unframe(&Bytes::from(bytes.clone()), 7, 4, None), None);
            for bit in 0..FRAME_HEAD * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(unframe(&Bytes::from(flipped), 7, 3, None), None, "bit {bit}");
            }
        }
    }
}
