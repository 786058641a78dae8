//! The bytes of a segment file: header, frames of records, footer. `FORMAT.md` has the tables.
//!
//! Nothing here touches a disk. What is read back is believed only as far as a checksum goes: frames have one over their
//! head (their content is records, which have their own), a footer has one over all of it.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::record::{self, u16_at, u32_at, u64_at};
use crate::table::{Block, Names, Row, Table};

/// Length of a segment file's header.
pub(crate) const HEADER: usize = 40;
/// Length of a frame's head.
pub(crate) const FRAME_HEAD: usize = 32;
/// Version of the format that is written.
pub(crate) const VERSION: u16 = 1;

const MAGIC: &[u8; 8] = b"SNTASEGM";
const FRAME_MAGIC: u32 = 0x4b4c_4253;
const FOOTER_MAGIC: u32 = 0x544f_4f46;
/// More than any block is: the largest record and the block it was added to.
const BLOCK_MAX: u32 = 512 << 20;

const PLAIN: u32 = 0;
const S2: u32 = 1;

/// The header of a segment file.
pub(crate) fn header(stream: u64, number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 6]);
    bytes.extend_from_slice(&stream.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    seal(&mut bytes, 0);
    bytes
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    Ours,
    Foreign,
    Newer(u16),
    Damaged,
}

pub(crate) fn read_header(bytes: &[u8], stream: u64, number: u64) -> Header {
    if bytes.len() != HEADER || !bytes.starts_with(MAGIC) || !sealed(bytes, 0) {
        return Header::Damaged;
    }
    match (u16_at(bytes, 8), u64_at(bytes, 16), u64_at(bytes, 24)) {
        (Some(version), ..) if version > VERSION => Header::Newer(version),
        (_, Some(id), Some(file)) if id == stream && file == number => Header::Ours,
        _ => Header::Foreign,
    }
}

/// A block as it goes to the file. `start` is its place in the segment, counted in uncompressed bytes.
pub(crate) fn frame(stream: u64, number: u64, start: u32, plain: &[u8], compress: bool) -> Vec<u8> {
    let packed = if compress { Some(minlz::encode(plain)) } else { None };
    let (codec, content) = match &packed {
        Some(packed) if packed.len() < plain.len() => (S2, packed.as_slice()),
        _ => (PLAIN, plain),
    };
    let mut bytes = Vec::with_capacity(FRAME_HEAD + content.len());
    for word in [FRAME_MAGIC, codec, start, plain.len() as u32, content.len() as u32, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    seal(&mut bytes, stream ^ number.rotate_left(32));
    bytes.extend_from_slice(content);
    bytes
}

/// The head of a frame: its block (without a place) and codec.
fn frame_head(bytes: &[u8], stream: u64, number: u64) -> Option<(Block, u32)> {
    let head = bytes.get(..FRAME_HEAD)?;
    if u32_at(head, 0)? != FRAME_MAGIC || !sealed(head, stream ^ number.rotate_left(32)) {
        return None;
    }
    let (start, length, stored) = (u32_at(head, 8)?, u32_at(head, 12)?, u32_at(head, 16)?);
    let sane = length <= BLOCK_MAX && stored <= length && start.checked_add(length).is_some();
    let block = Block { start, length, place: 0, stored: stored.checked_add(FRAME_HEAD as u32)? };
    sane.then_some((block, u32_at(head, 4)?))
}

/// How long the frame is that starts here, if its head is unharmed.
pub(crate) fn frame_length(head: &[u8], stream: u64, number: u64) -> Option<Block> {
    frame_head(head, stream, number).map(|(block, _)| block)
}

/// The records of a frame. Their own checksums are yet to be checked.
pub(crate) fn unframe(bytes: &Bytes, stream: u64, number: u64) -> Option<Bytes> {
    let (block, codec) = frame_head(bytes, stream, number)?;
    if bytes.len() != block.stored as usize {
        return None;
    }
    let content = bytes.slice(FRAME_HEAD..);
    match codec {
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

/// Adds the records of a block to a table, up to the first that is not as it was written. Sequences lie in `base..`.
/// Returns whether all was well.
pub(crate) fn index_block(
    table: &mut Table,
    names: &mut NameBook,
    stream: u64,
    base: u64,
    block: Block,
    plain: &[u8],
) -> bool {
    let mut at = 0;
    while at < plain.len() {
        let Some(record) = record::decode(&plain[at..], stream) else { return false };
        let delta = record.sequence.checked_sub(base).and_then(|delta| u32::try_from(delta).ok());
        let follows = |delta: &u32| table.rows.last().is_none_or(|row| row.delta < *delta);
        let Some(delta) = delta.filter(follows) else { return false };
        let local = names.enter(&mut table.names, record.subject);
        let headers = !record.headers.is_empty();
        let offset = block.start + at as u32;
        table.rows.push(Row::new(record.timestamp, delta, offset, record.length as u32, local, headers));
        at += record.length;
    }
    true
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

/// Length of a point.
const POINT: usize = 12;
/// Points that are read at once to find one. The memory keeps one number for each so many messages.
pub(crate) const POINTS_PER_PAGE: usize = 256;
const POINTS_MAGIC: u32 = 0x544e_4f50;

/// The points of a table: where each record lies in the file, of fixed length so that one is found without reading
/// all. They have no checksum: a record found by a wrong one does not verify.
pub(crate) fn points(table: &Table) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + table.rows.len() * POINT);
    bytes.extend_from_slice(&POINTS_MAGIC.to_le_bytes());
    bytes.extend_from_slice(&(table.rows.len() as u32).to_le_bytes());
    for row in &table.rows {
        let place = table.block(row.offset).map_or(0, |number| table.blocks[number].place_of(row.offset));
        for word in [row.delta, place, row.length] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    bytes
}

/// The first delta of each page of points.
pub(crate) fn fence(table: &Table) -> std::sync::Arc<[u32]> {
    table.rows.iter().step_by(POINTS_PER_PAGE).map(|row| row.delta).collect()
}

/// Where the page of points is that has a message: place in the file and length.
pub(crate) fn page(footer_place: u64, points: u32, fence: &[u32], delta: u32) -> Option<(u64, usize)> {
    let page = fence.partition_point(|first| *first <= delta).checked_sub(1)?;
    let before = page * POINTS_PER_PAGE;
    let count = (points as usize).checked_sub(before)?.min(POINTS_PER_PAGE);
    let start = footer_place.checked_sub(u64::from(points) * POINT as u64)?;
    Some((start + (before * POINT) as u64, count * POINT))
}

/// Place and length of a message's record by a page of points; `None` if it has none of its own, being compressed.
pub(crate) fn point(page: &[u8], delta: u32) -> Option<(u64, usize)> {
    let (points, _) = page.as_chunks::<POINT>();
    let at = points.binary_search_by_key(&Some(delta), |point| u32_at(point, 0)).ok()?;
    let (place, length) = (u32_at(&points[at], 4)?, u32_at(&points[at], 8)?);
    (place > 0).then_some((u64::from(place), length as usize))
}

/// What follows the points at the start of `bytes`.
pub(crate) fn after_points(bytes: &[u8]) -> Option<&[u8]> {
    let count = u32_at(bytes, 4).filter(|_| u32_at(bytes, 0) == Some(POINTS_MAGIC))?;
    bytes.get(8..)?.get((count as usize).checked_mul(POINT)?..)
}

/// A segment's footer: its table. The last eight bytes are the checksum that a checkpoint refers to.
pub(crate) fn footer(stream: u64, number: u64, base: u64, table: &Table) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&FOOTER_MAGIC.to_le_bytes());
    bytes.extend_from_slice(&u32::from(VERSION).to_le_bytes());
    bytes.extend_from_slice(&base.to_le_bytes());
    put_int(&mut bytes, table.rows.len() as u64);
    put_int(&mut bytes, table.names.len() as u64);
    put_int(&mut bytes, table.blocks.len() as u64);
    let (mut delta, mut offset, mut timestamp) = (0, 0, 0);
    for row in &table.rows {
        put_int(&mut bytes, u64::from(row.delta - delta));
        put_int(&mut bytes, u64::from(row.offset - offset));
        put_int(&mut bytes, u64::from(row.length));
        put_int(&mut bytes, u64::from(row.local()) << 1 | u64::from(row.has_headers()));
        put_int(&mut bytes, zigzag(row.timestamp.wrapping_sub(timestamp)));
        (delta, offset, timestamp) = (row.delta, row.offset + row.length, row.timestamp);
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
    seal(&mut bytes, stream ^ number.rotate_left(32));
    bytes
}

/// The table of a footer, if every bit of it is as written and is that of `hash`.
pub(crate) fn read_footer(bytes: &[u8], stream: u64, number: u64, hash: Option<u64>) -> Option<(u64, Table)> {
    let content = bytes.len().checked_sub(8)?;
    if !sealed(bytes, stream ^ number.rotate_left(32))
        || hash.is_some_and(|hash| u64_at(bytes, content) != Some(hash))
    {
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
pub(crate) fn seal(bytes: &mut Vec<u8>, key: u64) {
    let sum = xxh3_64_with_seed(bytes, key);
    bytes.extend_from_slice(&sum.to_le_bytes());
}

/// Whether the last eight bytes are the checksum of those before.
pub(crate) fn sealed(bytes: &[u8], key: u64) -> bool {
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
            let bytes = frame(7, 3, 100, plain, compress);
            assert_eq!(unframe(&Bytes::from(bytes.clone()), 7, 3).as_deref(), Some(plain));
            assert_eq!(unframe(&Bytes::from(bytes.clone()), 7, 4), None);
            for bit in 0..FRAME_HEAD * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(unframe(&Bytes::from(flipped), 7, 3), None, "bit {bit}");
            }
        }
    }
}
