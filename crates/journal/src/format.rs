//! The bytes of `FORMAT.md`: a file's header, a batch's head, a record.
//!
//! Every checksum is keyed: by the file's random salt, and by where the bytes belong. So what a reused file held
//! before, or what was written elsewhere, never validates.

use sonata_disk::seal;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The version this program writes, and the latest it reads.
pub(crate) const VERSION: u32 = 1;
/// Batches begin behind it.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Before the records of a batch.
pub(crate) const BATCH_HEAD_BYTES: usize = 48;
/// Before the body of a record.
pub(crate) const RECORD_HEAD_BYTES: usize = 20;
/// Batches begin at multiples of it.
pub(crate) const BATCH_ALIGN: usize = 8;

const MAGIC: &[u8; 8] = b"SONATAJL";
/// Two copies, in different sectors.
const COPIES_AT: [usize; 2] = [0, 2048];
const COPY_BYTES: usize = 152;
const SEALED: u32 = 1;
const HEAD_SEEDED: u64 = 0x8c62_f1d3_70b9_4ae5;
const RECORD_SEEDED: u64 = 0x3d1b_95e7_6ac0_28f4;

/// What a file says of itself and of the journal before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    /// Of the file; also its name. Grows, never reused.
    pub(crate) number: u64,
    /// Random.
    pub(crate) salt: u64,
    /// Positions in this file are not lower.
    pub(crate) first: u64,
    /// Higher positions in earlier files are void. `cut < first`.
    pub(crate) cut: u64,
    /// Positions up to this one were durable when the file was begun. `synced <= cut`.
    pub(crate) synced: u64,
    /// No file before this one is needed. `oldest <= number`.
    pub(crate) oldest: u64,
    /// The file that was written before, or 0. `previous < number`.
    pub(crate) previous: u64,
    /// The wrapped data key if batches are encrypted.
    pub(crate) seal: Option<[u8; seal::HEADER_BYTES]>,
}

/// Why a header was not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Written by a later program.
    Version(u32),
    /// Neither copy verifies.
    Damaged,
}

impl FileHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut copy = [0; COPY_BYTES];
        copy[..8].copy_from_slice(MAGIC);
        put_u32(&mut copy, 8, VERSION);
        put_u32(&mut copy, 12, if self.seal.is_some() { SEALED } else { 0 });
        let words = [self.number, self.salt, self.first, self.cut, self.synced, self.oldest, self.previous];
        for (index, word) in words.into_iter().enumerate() {
            put_u64(&mut copy, 16 + 8 * index, word);
        }
        if let Some(seal) = &self.seal {
            copy[72..144].copy_from_slice(seal);
        }
        let checksum = xxh3_64_with_seed(&copy[..144], 0);
        put_u64(&mut copy, 144, checksum);
        let mut bytes = vec![0; HEADER_BYTES];
        for at in COPIES_AT {
            bytes[at..at + COPY_BYTES].copy_from_slice(&copy);
        }
        bytes
    }

    /// Reads the first [`HEADER_BYTES`] of a file, or what there is of them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let copies = || COPIES_AT.into_iter().filter_map(|at| bytes.get(at..at + COPY_BYTES));
        if let Some(header) = copies().find_map(Self::decode_copy) {
            return Ok(header);
        }
        // Only when no copy is one of ours: a later version may check itself otherwise.
        let versions = copies().filter(|copy| copy.starts_with(MAGIC)).map(|copy| get_u32(copy, 8));
        match versions.max() {
            Some(version) if version > VERSION => Err(BadHeader::Version(version)),
            _ => Err(BadHeader::Damaged),
        }
    }

    fn decode_copy(copy: &[u8]) -> Option<Self> {
        let whole = copy.starts_with(MAGIC) && get_u64(copy, 144) == xxh3_64_with_seed(&copy[..144], 0);
        if !whole || get_u32(copy, 8) != VERSION {
            return None;
        }
        let seal = (get_u32(copy, 12) & SEALED != 0).then(|| {
            let mut seal = [0; seal::HEADER_BYTES];
            seal.copy_from_slice(&copy[72..144]);
            seal
        });
        let [number, salt, first, cut, synced, oldest, previous] =
            std::array::from_fn(|index| get_u64(copy, 16 + 8 * index));
        let header = Self { number, salt, first, cut, synced, oldest, previous, seal };
        let sound = cut < first && synced <= cut && oldest <= number && previous < number;
        sound.then_some(header)
    }

    /// What binds the wrapped data key to its file.
    pub(crate) fn seal_context(number: u64) -> [u8; 24] {
        let mut context = *b"sonata journal\0\0\0\0\0\0\0\0\0\0";
        put_u64(&mut context, 16, number);
        context
    }
}

/// What stands before the records of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHead {
    /// Position of the first record.
    pub(crate) first: u64,
    /// Positions up to this one were durable when the batch was written. `synced < first`.
    pub(crate) synced: u64,
    /// No file before this one was needed.
    pub(crate) oldest: u64,
    /// Length of all records, and of the tag if they are encrypted.
    pub(crate) body_bytes: u32,
    /// How many records; 0 for a mark that only says what the head says.
    pub(crate) records: u32,
}

impl BatchHead {
    /// Writes the head to the start of `bytes`.
    pub(crate) fn encode(&self, salt: u64, offset: u64, bytes: &mut [u8]) {
        put_u64(bytes, 0, salt);
        put_u64(bytes, 8, self.first);
        put_u64(bytes, 16, self.synced);
        put_u64(bytes, 24, self.oldest);
        put_u32(bytes, 32, self.body_bytes);
        put_u32(bytes, 36, self.records);
        let checksum = Self::checksum(salt, offset, &bytes[..40]);
        put_u64(bytes, 40, checksum);
    }

    /// The head at `offset` of a file, if there is one and the file holds all of its batch.
    pub(crate) fn decode(salt: u64, file: &[u8], offset: usize) -> Option<Self> {
        let rest = file.get(offset..)?;
        let bytes = rest.get(..BATCH_HEAD_BYTES)?;
        if get_u64(bytes, 0) != salt
            || get_u64(bytes, 40) != Self::checksum(salt, offset as u64, &bytes[..40])
        {
            return None;
        }
        let head = Self {
            first: get_u64(bytes, 8),
            synced: get_u64(bytes, 16),
            oldest: get_u64(bytes, 24),
            body_bytes: get_u32(bytes, 32),
            records: get_u32(bytes, 36),
        };
        let sound = head.synced < head.first && head.first.checked_add(u64::from(head.records)).is_some();
        (sound && head.body_bytes as usize <= rest.len() - BATCH_HEAD_BYTES).then_some(head)
    }

    /// Position of the last record; for a mark, of the one before it.
    pub(crate) fn last(&self) -> u64 {
        self.first + u64::from(self.records) - 1
    }

    /// Where the next batch begins, from this one on.
    pub(crate) fn batch_bytes(&self) -> usize {
        (BATCH_HEAD_BYTES + self.body_bytes as usize).next_multiple_of(BATCH_ALIGN)
    }

    fn checksum(salt: u64, offset: u64, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, salt ^ HEAD_SEEDED ^ offset.rotate_left(32))
    }
}

/// A record without its position.
pub(crate) struct RecordParts<'a> {
    pub(crate) lane: u64,
    pub(crate) body: &'a [u8],
    checksum: u64,
    /// What the checksum covers.
    checked: &'a [u8],
}

impl RecordParts<'_> {
    pub(crate) fn verifies(&self, salt: u64, position: u64) -> bool {
        self.checksum == record_checksum(salt, position, self.checked)
    }
}

/// The first record of `bytes` and what follows; `None` at the end, and if the bytes are too few.
pub(crate) fn split_record(bytes: &[u8]) -> Option<(RecordParts<'_>, &[u8])> {
    let head = bytes.get(..RECORD_HEAD_BYTES)?;
    let end = RECORD_HEAD_BYTES.checked_add(get_u32(head, 8) as usize)?;
    let record = bytes.get(..end)?;
    let parts = RecordParts {
        lane: get_u64(head, 12),
        body: &record[RECORD_HEAD_BYTES..],
        checksum: get_u64(head, 0),
        checked: &record[8..],
    };
    Some((parts, &bytes[end..]))
}

/// Appends a record whose checksum is still missing.
pub(crate) fn push_record(bytes: &mut Vec<u8>, lane: u64, len: u32, parts: &[&[u8]]) {
    let mut head = [0; RECORD_HEAD_BYTES];
    put_u32(&mut head, 8, len);
    put_u64(&mut head, 12, lane);
    bytes.extend_from_slice(&head);
    for part in parts {
        bytes.extend_from_slice(part);
    }
}

/// Puts the checksums into records that lie one after the other.
pub(crate) fn check_records(mut bytes: &mut [u8], salt: u64, first: u64) {
    let mut position = first;
    while bytes.len() >= RECORD_HEAD_BYTES {
        let end = RECORD_HEAD_BYTES + get_u32(bytes, 8) as usize;
        let (record, rest) = std::mem::take(&mut bytes).split_at_mut(end);
        let checksum = record_checksum(salt, position, &record[8..]);
        put_u64(record, 0, checksum);
        bytes = rest;
        position += 1;
    }
}

fn record_checksum(salt: u64, position: u64, checked: &[u8]) -> u64 {
    xxh3_64_with_seed(checked, salt ^ RECORD_SEEDED ^ position)
}

/// A salt that no other file has, as far as the seed is random.
pub(crate) fn salt(seed: u64, number: u64, first: u64) -> u64 {
    let mut bytes = [0; 16];
    put_u64(&mut bytes, 0, number);
    put_u64(&mut bytes, 8, first);
    // Zeros must not look like the start of a batch.
    xxh3_64_with_seed(&bytes, seed).max(1)
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
