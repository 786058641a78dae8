//! One message as bytes.
//!
//! The checksum is keyed by stream and sequence: a record that was moved, or that comes from another stream, is as wrong
//! as one with a flipped bit. See `FORMAT.md`.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::message::{Message, NewMessage};

/// Bytes before the subject.
pub(crate) const HEAD: usize = 32;
/// Bytes after the payload.
pub(crate) const CHECKSUM: usize = 8;

/// The length of a message's record.
pub(crate) fn length(message: &NewMessage<'_>) -> usize {
    HEAD + message.subject.len() + message.headers.len() + message.payload.len() + CHECKSUM
}

/// Appends a message's record. Its lengths were checked.
pub(crate) fn encode(into: &mut Vec<u8>, stream: u64, message: &NewMessage<'_>) {
    let start = into.len();
    let length = length(message);
    into.reserve(length);
    into.extend_from_slice(&(length as u32).to_le_bytes());
    into.extend_from_slice(&(message.subject.len() as u32).to_le_bytes());
    into.extend_from_slice(&(message.headers.len() as u32).to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&message.sequence.to_le_bytes());
    into.extend_from_slice(&message.timestamp.to_le_bytes());
    into.extend_from_slice(message.subject);
    into.extend_from_slice(message.headers);
    into.extend_from_slice(message.payload);
    let sum = checksum(stream, message.sequence, &into[start..]);
    into.extend_from_slice(&sum.to_le_bytes());
}

/// A record whose checksum holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) length: usize,
    pub(crate) sequence: u64,
    pub(crate) timestamp: i64,
    pub(crate) subject: &'a [u8],
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// The record at the start of `bytes`, if it is whole and unharmed.
pub(crate) fn decode(bytes: &[u8], stream: u64) -> Option<Record<'_>> {
    let length = u32_at(bytes, 0)? as usize;
    let subject_len = u32_at(bytes, 4)? as usize;
    let headers_len = u32_at(bytes, 8)? as usize;
    let sequence = u64_at(bytes, 16)?;
    let timestamp = u64_at(bytes, 24)? as i64;
    let body_len = length.checked_sub(HEAD + CHECKSUM)?;
    let whole = bytes.get(..length)?;
    let (content, sum) = whole.split_at_checked(length - CHECKSUM)?;
    if u64_at(sum, 0)? != checksum(stream, sequence, content) {
        return None;
    }
    let body = content.get(HEAD..HEAD + body_len)?;
    let (subject, rest) = body.split_at_checked(subject_len)?;
    let (headers, payload) = rest.split_at_checked(headers_len)?;
    Some(Record { length, sequence, timestamp, subject, headers, payload })
}

/// How far it is to the next record that verifies, `bytes` starting with one that does not. What that one says of its length is
/// tried first, so that its payload is not searched without need. `budget` is how many bytes may still be hashed.
pub(crate) fn search(bytes: &[u8], stream: u64, budget: &mut usize) -> Option<usize> {
    let claimed = claimed_length(bytes);
    for at in claimed.into_iter().chain(1..bytes.len()) {
        let rest = &bytes[at..];
        let Some(length) = claimed_length(rest) else { continue };
        // The lengths fit into one another and what is always 0 is 0: few other places look like that.
        let parts = u64::from(u32_at(rest, 4)?) + u64::from(u32_at(rest, 8)?);
        if parts > (length - HEAD - CHECKSUM) as u64 || u32_at(rest, 12)? != 0 {
            continue;
        }
        *budget = budget.checked_sub(length)?;
        if decode(rest, stream).is_some() {
            return Some(at);
        }
    }
    None
}

/// How long the record at the start of `bytes` says that it is, whether or not it verifies; at least as long as any is.
fn claimed_length(bytes: &[u8]) -> Option<usize> {
    let length = u32_at(bytes, 0)? as usize;
    (length >= HEAD + CHECKSUM && length <= bytes.len()).then_some(length)
}

/// The message of a record, as slices of `bytes`, which start with it.
pub(crate) fn message(bytes: &Bytes, stream: u64, sequence: u64) -> Option<Message> {
    let record = decode(bytes, stream).filter(|record| record.sequence == sequence)?;
    Some(Message {
        sequence,
        timestamp: record.timestamp,
        subject: bytes.slice_ref(record.subject),
        headers: bytes.slice_ref(record.headers),
        payload: bytes.slice_ref(record.payload),
    })
}

fn checksum(stream: u64, sequence: u64, content: &[u8]) -> u64 {
    // An odd factor keeps neighbouring sequences' keys far apart; which one does not matter.
    xxh3_64_with_seed(content, stream ^ sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What looks like the start of a long record at every step would be hashed over and over.
    #[test]
    fn a_search_ends_when_its_budget_is_spent() {
        let record = NewMessage { sequence: 1, timestamp: 0, subject: b"a", headers: b"", payload: b"b" };
        let mut bytes = [[0x80, 0, 0, 0], [0; 4], [0; 4], [0; 4]].concat().repeat(100);
        let end = bytes.len();
        encode(&mut bytes, 7, &record);
        assert_eq!(search(&bytes, 7, &mut 100_000), Some(end));
        assert_eq!(search(&bytes, 7, &mut 1000), None);
        assert_eq!(search(&bytes, 8, &mut 100_000), None);
    }
}
