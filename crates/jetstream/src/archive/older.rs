//! Archives of servers before 2.15: an S2 stream of a tar of the files of a store.
//!
//! `meta.inf` names the stream. `msgs/<n>.blk` hold records, one after the other; `msgs/index.db` says which of them live.
//! `obs/<name>/meta.inf` and `o.dat` are a consumer. So what is deleted is known only after the messages, and consumers
//! come last: [`Entry::Older`] says so before all else.
//!
//! | Record, offset | Bytes | little endian |
//! |---|---|---|
//! | 0 | 4 | length of the record; the highest bit: it has headers |
//! | 4 | 8 | sequence; the highest bit: erased, the next: a tombstone |
//! | 12 | 8 | time, ns since 1970 |
//! | 20 | 2 | length of the subject |
//! | 22 | | subject; with headers their length (4) and they; payload |
//! | end - 8 | 8 | HighwayHash of bytes 4..20, subject, headers and payload; the key is the SHA-256 of `<stream>-<n>` |

use std::io::Read;

use highway::{HighwayHash, HighwayHasher, Key};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::entry::{ConsumerSnapshot, ConsumerState, Entry, PendingDelivery, SequencePair};
use super::reader::{ArchiveError, STATE_BYTES_MAX, bytes_of};
use crate::config::ConsumerConfig;
use crate::json::{self, Mode};
use crate::record::{Malformed, Reader};

const RECORD_HEAD_BYTES: usize = 22;
const CHECKSUM_BYTES: usize = 8;
const HAS_HEADERS: u64 = 1 << 31;
const ERASED: u64 = 1 << 63;
const TOMBSTONE: u64 = 1 << 62;

/// First byte of `index.db`, and its versions.
const INDEX_MAGIC: u8 = 11;
const INDEX_VERSIONS: std::ops::RangeInclusive<u8> = 1..=4;
/// First byte of a set of sequences, and of a consumer's state.
const MAGIC: u8 = 22;
/// Bits of a node of such a set, in words: of version 1 and 2.
const NODE_WORDS: [usize; 2] = [64, 32];

/// What the name of the stream is in `meta.inf`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: String,
}

/// Reads a tar, giving each entry away.
pub(super) fn read<R: Read, E: From<ArchiveError>>(
    input: R,
    message_bytes_max: u64,
    take: &mut dyn FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    let mut archive = tar::Archive::new(input);
    let mut stream = None;
    let mut last = 0;
    // A consumer's configuration, until its state comes.
    let mut config: Option<(String, ConsumerConfig)> = None;
    for file in archive.entries().map_err(ArchiveError::from)? {
        let mut file = file.map_err(ArchiveError::from)?;
        let path = String::from_utf8_lossy(&file.path_bytes()).into_owned();
        let parts: Vec<&str> = path.split('/').filter(|part| *part != ".").collect();
        match parts[..] {
            ["meta.inf"] => {
                let meta: Meta = decode(&whole(&mut file)?)?;
                stream = Some(meta.name);
                take(Entry::Older)?;
            }
            ["errors.txt"] => {
                let text = whole(&mut file)?;
                Err(ArchiveError::Incomplete(String::from_utf8_lossy(&text).into_owned()))?;
            }
            ["msgs", "index.db"] => index(&whole(&mut file)?, &mut |entry| take(entry))?,
            ["msgs", block] if block.ends_with(".blk") => {
                let stream = stream.as_deref().ok_or(ArchiveError::Malformed("messages before meta.inf"))?;
                let key = format!("{stream}-{}", block.trim_end_matches(".blk"));
                Block { input: file, hash: Sha256::digest(key).into(), message_bytes_max }
                    .read(&mut last, take)?;
            }
            ["obs", name, "meta.inf"] => {
                config = Some((name.to_owned(), consumer_config(&whole(&mut file)?)?))
            }
            ["obs", name, "o.dat"] => {
                let state = consumer_state(&whole(&mut file)?)?;
                if let Some((_, config)) = config.take_if(|(known, _)| known == name) {
                    take(Entry::Consumer(Box::new(ConsumerSnapshot { config, state })))?;
                }
            }
            // Sums of files that travel in a checksummed stream.
            _ => {}
        }
    }
    match stream {
        Some(_) => Ok(()),
        None => Err(ArchiveError::NotAnArchive.into()),
    }
}

/// A small file.
fn whole(file: &mut impl Read) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    let got = file.take(STATE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if got as u64 > STATE_BYTES_MAX { Err(ArchiveError::Malformed("a file is too large")) } else { Ok(bytes) }
}

fn decode<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, ArchiveError> {
    json::decode(text, Mode::Lenient).map_err(ArchiveError::State)
}

/// The configuration stands among fields of the file's own; one of them is called like one of the configuration.
fn consumer_config(text: &[u8]) -> Result<ConsumerConfig, ArchiveError> {
    let mut fields: serde_json::Map<String, serde_json::Value> = decode(text)?;
    fields.remove("Created");
    let name = fields.remove("Name");
    let text = serde_json::to_vec(&fields).map_err(|_| ArchiveError::Malformed("a consumer"))?;
    let mut config: ConsumerConfig = decode(&text)?;
    if let (true, Some(name)) = (config.name.is_empty(), name.as_ref().and_then(|name| name.as_str())) {
        name.clone_into(&mut config.name);
    }
    Ok(config)
}

/// A file of records.
struct Block<R: Read> {
    input: R,
    hash: [u8; 32],
    message_bytes_max: u64,
}

/// A record whose checksum is right.
struct Record {
    /// With its marks.
    sequence: u64,
    timestamp: i64,
    subject_bytes: usize,
    has_headers: bool,
    /// Subject, headers with their length, payload.
    content: Vec<u8>,
}

impl<R: Read> Block<R> {
    fn read<E: From<ArchiveError>>(
        &mut self,
        last: &mut u64,
        take: &mut dyn FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(record) = self.record()? {
            let sequence = record.sequence & !TOMBSTONE & !ERASED;
            if record.sequence & TOMBSTONE > 0 {
                take(Entry::Deleted { first: sequence, last: sequence })?;
            } else if record.sequence & ERASED == 0 && sequence > *last {
                *last = sequence;
                take(record.into_message()?)?;
            }
        }
        Ok(())
    }

    /// The next record; `None` at the end of the file.
    fn record(&mut self) -> Result<Option<Record>, ArchiveError> {
        let mut head = [0; RECORD_HEAD_BYTES];
        let mut read = 0;
        while read < head.len() {
            match self.input.read(&mut head[read..])? {
                0 if read == 0 => return Ok(None),
                0 => return Err(ArchiveError::Truncated),
                count => read += count,
            }
        }
        let mut fields = Reader::new(&head);
        let (length, sequence, timestamp) = (fields.fixed(4)?, fields.fixed(8)?, fields.time()?);
        let subject_bytes = fields.fixed(2)? as usize;
        let has_headers = length & HAS_HEADERS > 0;
        let length = length & !HAS_HEADERS;
        let message_at = subject_bytes + if has_headers { 4 } else { 0 };
        let around = (RECORD_HEAD_BYTES + CHECKSUM_BYTES + message_at) as u64;
        let Some(message_bytes) = length.checked_sub(around) else {
            return Err(ArchiveError::Malformed("a record is too short"));
        };
        if message_bytes > self.message_bytes_max {
            return Err(ArchiveError::MessageTooLarge { sequence: sequence & !ERASED & !TOMBSTONE });
        }
        let mut content = bytes_of(&mut self.input, length - RECORD_HEAD_BYTES as u64)?;
        let checksum = content.split_off(content.len() - CHECKSUM_BYTES);
        if self.checksum(&[&head[4..20], &content[..subject_bytes], &content[message_at..]])[..] != checksum {
            return Err(ArchiveError::Malformed("the checksum of a message is wrong"));
        }
        Ok(Some(Record { sequence, timestamp, subject_bytes, has_headers, content }))
    }

    fn checksum(&self, parts: &[&[u8]]) -> [u8; CHECKSUM_BYTES] {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(self.hash.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        let mut hasher = HighwayHasher::new(Key(words));
        parts.iter().for_each(|part| hasher.append(part));
        hasher.finalize64().to_le_bytes()
    }
}

impl Record {
    fn into_message(self) -> Result<Entry, ArchiveError> {
        let mut content = Reader::new(&self.content);
        let subject = content.take(self.subject_bytes)?.to_vec();
        let headers = match self.has_headers {
            true => {
                let count = content.fixed(4)?;
                content.take(count as usize)?.to_vec()
            }
            false => Vec::new(),
        };
        let payload = content.rest().to_vec();
        let (sequence, timestamp) = (self.sequence, self.timestamp);
        Ok(Entry::Message { sequence, timestamp, subject, headers, payload })
    }
}

impl From<Malformed> for ArchiveError {
    fn from(_: Malformed) -> Self {
        Self::Malformed("a state cannot be read")
    }
}

/// Says what of the messages is deleted, and where the stream begins and ends.
fn index<E: From<ArchiveError>>(bytes: &[u8], take: &mut dyn FnMut(Entry) -> Result<(), E>) -> Result<(), E> {
    let entries = read_index(bytes)?;
    entries.into_iter().try_for_each(take)
}

fn read_index(bytes: &[u8]) -> Result<Vec<Entry>, ArchiveError> {
    let Some((content, _checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(ArchiveError::Truncated);
    };
    let mut reader = Reader::new(content);
    let (magic, version) = (reader.byte()?, reader.byte()?);
    if magic != INDEX_MAGIC || !INDEX_VERSIONS.contains(&version) {
        return Err(ArchiveError::Malformed("the index is of a version that is not known"));
    }
    let (_messages, _bytes, first) = (reader.number()?, reader.number()?, reader.number()?);
    let (_first_time, last, last_time) = (reader.signed()?, reader.number()?, reader.signed()?);
    for _ in 0..reader.number()? {
        let subject = reader.number()?;
        if subject == 0 {
            continue;
        }
        reader.take(usize::try_from(subject).map_err(|_| Malformed)?)?;
        let total = reader.number()?;
        reader.number()?;
        if total > 1 || version >= 4 {
            reader.number()?;
        }
    }
    let mut entries = Vec::new();
    let mut expected = first;
    for _ in 0..reader.number()? {
        let (_index, _bytes, first) = (reader.number()?, reader.number()?, reader.number()?);
        let (_first_time, last) = (reader.signed()?, reader.number()?);
        let (_last_time, deleted) = (reader.signed()?, reader.number()?);
        for _ in 2..=version.min(3) {
            // Messages with a time to live, and schedules: both are in the headers.
            reader.number()?;
        }
        if first > expected {
            entries.push(Entry::Deleted { first: expected, last: first - 1 });
        }
        expected = expected.max(last.saturating_add(1));
        if deleted > 0 {
            sequence_set(&mut reader, &mut entries)?;
        }
    }
    entries.push(Entry::Bounds { first, last, last_time });
    Ok(entries)
}

/// A tree of bit sets.
fn sequence_set(reader: &mut Reader<'_>, entries: &mut Vec<Entry>) -> Result<(), ArchiveError> {
    let (magic, version) = (reader.byte()?, reader.byte()?);
    let words = match (magic, version) {
        (MAGIC, 1 | 2) => NODE_WORDS[usize::from(version) - 1],
        _ => return Err(ArchiveError::Malformed("a set of sequences is of a version that is not known")),
    };
    let (nodes, _count) = (reader.fixed(4)?, reader.fixed(4)?);
    for _ in 0..nodes {
        let base = reader.fixed(8)?;
        for at in 0..words as u64 {
            let mut bits = reader.fixed(8)?;
            while bits != 0 {
                let gone = base.saturating_add(at * 64 + u64::from(bits.trailing_zeros()));
                bits &= bits - 1;
                match entries.last_mut() {
                    Some(Entry::Deleted { last, .. }) if *last + 1 == gone => *last = gone,
                    _ => entries.push(Entry::Deleted { first: gone, last: gone }),
                }
            }
        }
        let _height = reader.fixed(2)?;
    }
    Ok(())
}

/// Numbers below the floor are left out: all are counted from there.
fn consumer_state(bytes: &[u8]) -> Result<ConsumerState, ArchiveError> {
    let mut state = ConsumerState::default();
    let mut reader = Reader::new(bytes);
    let (magic, version) = (reader.byte()?, reader.byte()?);
    if magic != MAGIC || !matches!(version, 1 | 2) {
        return Err(ArchiveError::Malformed("a consumer's state is of a version that is not known"));
    }
    let mut pair =
        || Ok::<_, Malformed>(SequencePair { consumer_seq: reader.number()?, stream_seq: reader.number()? });
    state.ack_floor = pair()?;
    state.delivered = pair()?;
    let floor = state.ack_floor;
    if version == 1 {
        // That version says what comes next.
        let before = |number: u64| number.saturating_sub(1);
        state.delivered.consumer_seq =
            state.delivered.consumer_seq.saturating_add(before(floor.consumer_seq));
        state.delivered.stream_seq = state.delivered.stream_seq.saturating_add(before(floor.stream_seq));
    }
    let pending = reader.number()?;
    let base = if pending > 0 { reader.signed()? } else { 0 };
    for _ in 0..pending {
        let message = reader.number()?.saturating_add(floor.stream_seq);
        let sequence = if version == 2 { reader.number()?.saturating_add(floor.consumer_seq) } else { 0 };
        let seconds = reader.signed()?;
        let seconds = if version == 2 { base.saturating_sub(seconds) } else { base.saturating_add(seconds) };
        let timestamp = seconds.saturating_mul(1_000_000_000);
        state.pending.insert(message, PendingDelivery { sequence, timestamp });
    }
    for _ in 0..reader.number()? {
        let message = reader.number()?.saturating_add(floor.stream_seq);
        let count = reader.number()?;
        if count > 0 {
            state.redelivered.insert(message, count);
        }
    }
    Ok(state)
}
