//! Reading a file back: what verifies, what is torn, and what is damaged.
//!
//! Batches follow one another until something does not verify. That is where a crash cut the journal off, *unless*
//! something says that what should be here was durable: every batch and every file header carries such a claim. Then it
//! is damage, and reading goes on behind it, at the next batch that verifies.

use std::collections::VecDeque;

use memchr::memmem;
use sonata_disk::seal::Sealer;

use crate::format::{self, BATCH_ALIGN, BATCH_HEAD_BYTES, BatchHead, FileHeader, HEADER_BYTES};
use crate::record::{Position, Record};

/// A file in memory.
pub(crate) struct Scan<'a> {
    pub(crate) header: &'a FileHeader,
    pub(crate) sealer: Option<&'a Sealer>,
    /// All of it, the header included.
    pub(crate) bytes: &'a [u8],
    /// Higher positions are void.
    pub(crate) cut: u64,
    /// Later files say that positions up to this one were durable.
    pub(crate) synced: u64,
}

/// What a file held.
#[derive(Debug)]
pub(crate) struct Found {
    /// Position of the last record that was read, or what stands for it: all up to here is accounted for.
    pub(crate) last: u64,
    /// The highest position that was ever used, as far as can be seen.
    pub(crate) used: u64,
    /// Positions that are lost, first and last.
    pub(crate) lost: Vec<(u64, u64)>,
    /// Where the file is torn.
    pub(crate) torn_at: Option<usize>,
    /// Batches that verify but that nothing says are durable: from and to.
    pub(crate) unproven: Option<(usize, usize)>,
}

impl Scan<'_> {
    pub(crate) fn read(&self, replay: &mut dyn FnMut(Record<'_>)) -> Found {
        let mut found = Found {
            last: self.header.first - 1,
            used: self.header.first,
            lost: Vec::new(),
            torn_at: None,
            unproven: None,
        };
        let mut synced = self.synced;
        // Starts and last positions of batches above `synced`.
        let mut unproven = VecDeque::new();
        // Known from the first bad place on.
        let mut claimed = None;
        let mut offset = HEADER_BYTES;
        let mut opened = Vec::new();
        loop {
            let head = self.head_at(offset).filter(|head| head.first > found.last);
            if let Some(head) = head {
                found.used = found.used.max(head.last());
                if head.first > self.cut && head.records > 0 {
                    break;
                }
                let body = &self.bytes[offset + BATCH_HEAD_BYTES..][..head.body_bytes as usize];
                let records = self.open(offset, body, head.records, &mut opened);
                if records.is_some_and(|records| self.verifies(&head, records)) {
                    if head.first > found.last + 1 {
                        found.lost.push((found.last + 1, head.first - 1));
                    }
                    self.replay(&head, records.unwrap_or_default(), replay);
                    synced = synced.max(head.synced);
                    unproven.push_back((offset, head.last()));
                    while unproven.front().is_some_and(|(_, last)| *last <= synced) {
                        unproven.pop_front();
                    }
                    found.last = head.last();
                    offset += head.batch_bytes();
                    continue;
                }
                let claimed = *claimed.get_or_insert_with(|| self.claims_behind(offset + BATCH_ALIGN));
                synced = synced.max(claimed);
                if synced > found.last {
                    if head.first > found.last + 1 {
                        found.lost.push((found.last + 1, head.first - 1));
                    }
                    self.salvage(&head, records.unwrap_or_default(), &mut found, replay);
                    offset += head.batch_bytes();
                    continue;
                }
                found.torn_at = Some(offset);
                break;
            }
            let claimed = *claimed.get_or_insert_with(|| self.claims_behind(offset));
            synced = synced.max(claimed);
            let next = self.next_head(offset + BATCH_ALIGN);
            if synced > found.last
                && let Some(next) = next
            {
                offset = next;
                continue;
            }
            let begun = self.bytes.get(offset..offset + 8) == Some(&self.header.salt.to_le_bytes());
            if synced <= found.last && (begun || next.is_some()) {
                found.torn_at = Some(offset);
            }
            break;
        }
        // The last batch's padding may be missing.
        let end = offset.min(self.bytes.len());
        found.unproven = unproven.front().map(|(start, _)| (*start, end));
        found
    }

    /// The claims of batches that follow one another from the start: the oldest file that is needed.
    pub(crate) fn oldest(&self) -> u64 {
        let mut oldest = self.header.oldest;
        let mut offset = HEADER_BYTES;
        while let Some(head) = self.head_at(offset) {
            oldest = oldest.max(head.oldest.min(self.header.number));
            offset += head.batch_bytes();
        }
        oldest
    }

    fn head_at(&self, offset: usize) -> Option<BatchHead> {
        BatchHead::decode(self.header.salt, self.bytes, offset)
    }

    /// Where the next batch begins whose head verifies.
    fn next_head(&self, from: usize) -> Option<usize> {
        let salt = self.header.salt.to_le_bytes();
        let starts = memmem::find_iter(self.bytes.get(from..)?, &salt).map(|start| from + start);
        starts.filter(|start| start.is_multiple_of(BATCH_ALIGN)).find(|start| self.head_at(*start).is_some())
    }

    /// The highest position that a batch from here on says was durable.
    fn claims_behind(&self, from: usize) -> u64 {
        let mut claimed = 0;
        let mut at = from;
        while let Some(next) = self.next_head(at) {
            claimed = claimed.max(self.head_at(next).map_or(0, |head| head.synced));
            at = next + BATCH_ALIGN;
        }
        claimed
    }

    /// The records of a batch, decrypted if need be.
    fn open<'b>(
        &'b self,
        offset: usize,
        body: &'b [u8],
        records: u32,
        opened: &'b mut Vec<u8>,
    ) -> Option<&'b [u8]> {
        let Some(sealer) = self.sealer.filter(|_| records > 0) else { return Some(body) };
        opened.clear();
        opened.extend_from_slice(body);
        let head = &self.bytes[offset..offset + BATCH_HEAD_BYTES];
        sealer.open_in_place(offset as u64, head, opened).ok().map(|records| &*records)
    }

    fn verifies(&self, head: &BatchHead, mut records: &[u8]) -> bool {
        for position in head.first..=head.last() {
            match format::split_record(records) {
                Some((record, rest)) if record.verifies(self.header.salt, position) => records = rest,
                _ => return false,
            }
        }
        records.is_empty()
    }

    fn replay(&self, head: &BatchHead, mut records: &[u8], replay: &mut dyn FnMut(Record<'_>)) {
        for position in head.first..=head.last().min(self.cut) {
            let Some((record, rest)) = format::split_record(records) else { return };
            replay(Record { position: Position(position), lane: record.lane, body: record.body });
            records = rest;
        }
    }

    /// Replays what verifies of a batch that does not as a whole, as far as the lengths lead.
    fn salvage(
        &self,
        head: &BatchHead,
        mut records: &[u8],
        found: &mut Found,
        replay: &mut dyn FnMut(Record<'_>),
    ) {
        let last = head.last().min(self.cut);
        let mut position = head.first;
        while let Some((record, rest)) = format::split_record(records).filter(|_| position <= last) {
            if record.verifies(self.header.salt, position) {
                replay(Record { position: Position(position), lane: record.lane, body: record.body });
            } else {
                found.lose(position, position);
            }
            records = rest;
            position += 1;
        }
        if position <= last {
            found.lose(position, last);
        }
        found.last = head.last();
    }
}

impl Found {
    fn lose(&mut self, from: u64, to: u64) {
        match self.lost.last_mut() {
            Some((_, before)) if *before + 1 == from => *before = to,
            _ => self.lost.push((from, to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file of someone who knows the salt: heads with good checksums around anything.
    fn forged() -> impl Strategy<Value = Vec<u8>> {
        let edge = prop_oneof![0..40u64, any::<u64>(), Just(u64::MAX)];
        let head = (edge.clone(), edge.clone(), edge, 0..200u32, prop_oneof![0..4u32, any::<u32>()]);
        let batch = (head, proptest::collection::vec(any::<u8>(), 0..120), any::<bool>(), 0..9usize);
        proptest::collection::vec(batch, 0..8).prop_map(|batches| {
            let mut bytes = vec![0; HEADER_BYTES];
            for ((first, synced, oldest, body_bytes, records), body, good, gap) in batches {
                let offset = bytes.len().next_multiple_of(BATCH_ALIGN) + gap * BATCH_ALIGN;
                bytes.resize(offset + BATCH_HEAD_BYTES, 0);
                let mut head = BatchHead { first, synced, oldest, body_bytes, records };
                if good {
                    head = BatchHead { body_bytes: 2 * (20 + 5), records: 2, ..head };
                    format::push_record(&mut bytes, oldest, 5, &[b"first"]);
                    format::push_record(&mut bytes, oldest, 5, &[b"other"]);
                    if first < u64::MAX - 1 {
                        format::check_records(&mut bytes[offset + BATCH_HEAD_BYTES..], SALT, first);
                    }
                } else {
                    bytes.extend_from_slice(&body);
                }
                head.encode(SALT, offset as u64, &mut bytes[offset..offset + BATCH_HEAD_BYTES]);
            }
            bytes
        })
    }

    const SALT: u64 = 0x1234_5678_9abc_def0;

    proptest! {
        #[test]
        fn forged_files_do_no_harm(bytes in forged(), first in 1..30u64, cut in 0..60u64, claim in 0..60u64) {
            let header = FileHeader {
                number: 3, salt: SALT, first, cut: 0, synced: 0, oldest: 1, previous: 2, seal: None,
            };
            let scan = Scan { header: &header, sealer: None, bytes: &bytes, cut, synced: claim.min(cut) };
            let mut last = 0;
            let found = scan.read(&mut |record| {
                assert!(last < record.position.0 && record.position.0 <= cut, "in order and not void");
                assert!(record.position.0 >= first);
                last = record.position.0;
            });
            prop_assert!(found.lost.iter().all(|(from, to)| from <= to));
            if let Some((from, to)) = found.unproven {
                prop_assert!(from <= to && to <= bytes.len());
            }
            prop_assert!(scan.oldest() <= 3);
        }
    }
}
