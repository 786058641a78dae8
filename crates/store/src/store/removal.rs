//! What takes messages away: removal, purge, and damage.
//!
//! A removal clears a bit and counts down. The bytes go when their segment dies or is rewritten; those of an erased message are
//! overwritten soon.

use bytes::Bytes;
use hashbrown::HashMap;

use super::{Dropped, Ledger, Store};
use crate::error::{Damage, Error};
use crate::filter::Filter;
use crate::message::Message;
use crate::record;
use crate::segment::{Body, Segment};
use crate::state::{Cut, Removed};
use crate::subjects::SubjectId;
use crate::table::{Row, Selection};

/// An open segment that is all dead starts anew once it holds this much: a work queue empties all the time, a purge seldom.
const RESTART_BYTES: u64 = 1 << 20;

impl Store {
    /// Removes one message; `None` if there is none.
    ///
    /// # Errors
    /// The disk's, and [`Error::Damaged`] if the segment turns out to have lost it. Nothing was removed then.
    pub fn remove(&mut self, sequence: u64) -> Result<Option<Removed>, Error> {
        let Some((at, delta)) = self.locate(sequence) else { return Ok(None) };
        // The usual case of a key that is written again after a long time.
        if let Some(message) = self.point(at, delta, sequence) {
            let removed = self.remove_message(at, delta, message);
            self.settle_first();
            return Ok(Some(removed));
        }
        self.ready(at)?;
        let Some((at, delta)) = self.locate(sequence) else { return Err(Error::Damaged { sequence }) };
        let Some(row) = self.row(at, delta) else { return Err(Error::Damaged { sequence }) };
        let removed = self.remove_row(at, row);
        self.settle_first();
        Ok(Some(removed))
    }

    /// As [`Store::remove`], and its bytes are overwritten on the disk: the next checkpoint moves what lives beside them to another
    /// file, and when no checkpoint names the old one any more, [`Store::work`] overwrites and removes it. A file that was put
    /// aside for its damage stays as it is. For a stream in memory this is [`Store::remove`].
    ///
    /// # Errors
    /// As [`Store::remove`].
    pub fn erase(&mut self, sequence: u64) -> Result<Option<Removed>, Error> {
        if self.shelf.place.is_some()
            && let Some((at, delta)) = self.locate(sequence)
        {
            self.segments[at].erased.insert(delta);
            // The message may have been in one of them before it was moved to where it is.
            let Ledger { dropped, kept, doomed, .. } = &mut self.ledger;
            for file in dropped.iter_mut().chain(kept).chain(doomed) {
                file.erase = true;
            }
        }
        self.remove(sequence)
    }

    /// Whether bytes of [erased](Store::erase) messages stay on the disk until the next checkpoint, or the one after it.
    pub fn erasure_waits(&self) -> bool {
        self.segments.iter().any(|segment| !segment.erased.is_empty())
            || self.ledger.dropped.iter().chain(&self.ledger.kept).any(|file| file.erase)
    }

    /// Removes all messages below `first`. If `first` is beyond the last sequence, all go and the next sequence is at
    /// least `first`.
    ///
    /// # Errors
    /// The disk's. What was removed before the error stays removed; the call can be repeated.
    pub fn remove_before(&mut self, first: u64) -> Result<Cut, Error> {
        let cut = self.purge(&Filter::all(), Some(first), 0)?;
        self.lost_sequences.remove_range(..first);
        self.advance(first.saturating_sub(1));
        Ok(cut)
    }

    /// Removes messages that match: those below `before` if it is given, and of those all but the newest `keep`.
    ///
    /// # Errors
    /// As [`Store::remove_before`].
    pub fn purge(&mut self, filter: &Filter, before: Option<u64>, keep: u64) -> Result<Cut, Error> {
        let before = before.unwrap_or(u64::MAX);
        let Some((first, _)) = self.first else { return Ok(Cut::default()) };
        let mut quota = u64::MAX;
        if keep > 0 {
            let matching = self.pending(filter, 0)?.saturating_sub(self.pending(filter, before)?);
            quota = matching.saturating_sub(keep);
        }
        let before_messages = (self.messages, self.bytes, self.lost);
        let done = self.purge_from(filter, first, before, quota);
        self.settle_first();
        done?;
        let (messages, bytes, lost) = before_messages;
        // Damage met on the way took messages too, but those were not purged.
        let gone = (self.lost.messages - lost.messages, self.lost.bytes - lost.bytes);
        Ok(Cut { messages: messages - self.messages - gone.0, bytes: bytes - self.bytes - gone.1 })
    }

    fn purge_from(&mut self, filter: &Filter, first: u64, before: u64, mut quota: u64) -> Result<(), Error> {
        let mut from = first;
        // The sequence leads, not the index: segments leave the row as they die.
        while quota > 0 {
            let Some(next) = self.next(filter, from)?.filter(|next| *next < before) else { break };
            let Some((at, _)) = self.locate(next) else { break };
            self.ready(at)?;
            let (number, end) = (self.segments[at].number, self.segments[at].last);
            quota -= self.purge_segment(at, filter, before, quota);
            if self.segments.get(at).is_some_and(|segment| segment.number == number) {
                self.bury(at);
            }
            from = end + 1;
        }
        Ok(())
    }

    /// Removes up to `quota` matching messages of one ready segment, oldest first, and returns how many.
    fn purge_segment(&mut self, at: usize, filter: &Filter, before: u64, quota: u64) -> u64 {
        let base = self.segments[at].base;
        let accounting = self.accounting;
        let Some((index, live)) = self.parts(at) else { return 0 };
        let (table, selection) = index.select(filter);
        if matches!(selection, Selection::None) {
            return 0;
        }
        let chosen: Vec<Row> = table
            .rows
            .iter()
            .take_while(|row| base + u64::from(row.delta) < before)
            .filter(|row| selection.has(row.local()) && live.contains(row.delta))
            .take(usize::try_from(quota).unwrap_or(usize::MAX))
            .copied()
            .collect();
        // Per subject: how many, the smallest and the largest sequence.
        let mut tally: HashMap<u32, (u64, u64, u64), foldhash::fast::RandomState> = HashMap::default();
        let (mut bytes, mut stored) = (0, 0);
        for row in &chosen {
            let sequence = base + u64::from(row.delta);
            let entry = tally.entry(row.local()).or_insert((0, sequence, sequence));
            *entry = (entry.0 + 1, entry.1, sequence);
            bytes += counted(accounting, row, table.names.get(row.local()).len());
            stored += u64::from(row.length);
        }
        let table = std::sync::Arc::clone(&index.table);
        for (local, (count, low, high)) in tally {
            let name = table.names.get(local);
            if let Some(id) = self.subject_id(at, local, name) {
                self.take_from(id, name, count, low, high);
            }
        }
        let segment = &mut self.segments[at];
        if chosen.len() as u64 == segment.live.len() {
            segment.live.clear();
        }
        for row in &chosen {
            segment.live.remove(row.delta);
        }
        // The sums come from a checkpoint, the parts from a table: saturating keeps a lie there from being a panic here.
        segment.bytes = segment.bytes.saturating_sub(bytes);
        segment.live_stored = segment.live_stored.saturating_sub(stored);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.messages -= chosen.len() as u64;
        chosen.len() as u64
    }

    /// A live message's row, its segment being ready.
    pub(super) fn row(&mut self, at: usize, delta: u32) -> Option<Row> {
        self.index(at)?.table.find(delta).copied()
    }

    /// Takes one live message out of everything but the first sequence.
    fn remove_row(&mut self, at: usize, row: Row) -> Removed {
        let sequence = self.segments[at].base + u64::from(row.delta);
        let subject = match self.index(at) {
            Some(index) => Bytes::copy_from_slice(index.table.names.get(row.local())),
            None => Bytes::new(),
        };
        let bytes = counted(self.accounting, &row, subject.len());
        if let Some(id) = self.subject_id(at, row.local(), &subject) {
            self.take_from(id, &subject, 1, sequence, sequence);
        }
        self.clear(at, row.delta, bytes, u64::from(row.length));
        Removed { subject, bytes, timestamp: row.timestamp }
    }

    /// As [`Store::remove_row`], by the message itself.
    fn remove_message(&mut self, at: usize, delta: u32, message: Message) -> Removed {
        let Message { sequence, timestamp, subject, headers, payload } = message;
        let bytes = self.accounting.bytes(subject.len(), headers.len(), payload.len());
        if let Some(id) = self.subjects.find(&subject) {
            self.take_from(id, &subject, 1, sequence, sequence);
        }
        let stored = record::HEAD + subject.len() + headers.len() + payload.len() + record::CHECKSUM;
        self.clear(at, delta, bytes, stored as u64);
        Removed { subject, bytes, timestamp }
    }

    fn clear(&mut self, at: usize, delta: u32, bytes: u64, stored: u64) {
        let segment = &mut self.segments[at];
        segment.live.remove(delta);
        segment.bytes = segment.bytes.saturating_sub(bytes);
        segment.live_stored = segment.live_stored.saturating_sub(stored);
        self.messages -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.bury(at);
    }

    /// `None` for a live message's subject only if a checkpoint lies under a good checksum.
    fn subject_id(&self, at: usize, local: u32, name: &[u8]) -> Option<SubjectId> {
        match &self.segments[at].body {
            Body::Hot(hot) => hot.id(local),
            Body::Sealed(_) => self.subjects.find(name),
        }
    }

    fn take_from(&mut self, id: SubjectId, name: &[u8], count: u64, low: u64, high: u64) {
        let value = self.subjects.value(id).removed(count, low, high);
        if value.count() == 0 {
            self.subjects.forget(name);
        } else {
            self.subjects.set(id, value);
        }
    }

    /// Drops a segment if nothing lives in it any more.
    pub(super) fn bury(&mut self, at: usize) {
        let segment = &self.segments[at];
        if segment.live.is_empty() && (!segment.is_open() || segment.stored >= RESTART_BYTES) {
            self.drop_segment(at);
        }
    }

    pub(super) fn drop_segment(&mut self, at: usize) {
        let Some(segment) = self.segments.remove(at) else { return };
        if self.shelf.place.is_some() {
            self.unwritten -= segment.unwritten();
        }
        self.shelf.drop_segment(segment.number);
        let erase = !segment.erased.is_empty();
        // One that is written for the first time just now has a file as well.
        if segment.file_len > 0 || erase {
            self.ledger.dropped.push(Dropped { number: segment.number, damaged: segment.damaged, erase });
        }
    }

    /// Finds the first message after the one that was first may have gone.
    pub(super) fn settle_first(&mut self) {
        if let Some((first, _)) = self.first
            && self.locate(first).is_some()
        {
            return;
        }
        let Some(at) = self.segments.iter().position(|segment| !segment.live.is_empty()) else {
            self.first = None;
            return;
        };
        let Segment { base, newest, .. } = self.segments[at];
        let Some(delta) = self.segments[at].live.min() else { return };
        // If the table cannot be read just now, rather expire too late than too early.
        let timestamp = match self.ready(at) {
            Ok(()) => self
                .segments
                .get(at)
                .map(|segment| segment.base)
                .filter(|now| *now == base)
                .and_then(|_| self.row(at, delta)),
            Err(_) => None,
        };
        self.first = Some((base + u64::from(delta), timestamp.map_or(newest, |row| row.timestamp)));
    }

    /// A live message turned out to be unreadable: it is gone, and counted.
    pub(super) fn lose(&mut self, at: usize, delta: u32) -> Result<(), Error> {
        self.ready(at)?;
        // The table of a full segment lacks what its checkpoint names: both are as they were written, so one of them lies.
        let Some(row) = self.row(at, delta) else { return self.mend(at) };
        let segment = &mut self.segments[at];
        let sequence = segment.base + u64::from(delta);
        let number = segment.number;
        segment.damaged = true;
        let file = file_name(number);
        let removed = self.remove_row(at, row);
        self.settle_first();
        self.lost.messages += 1;
        self.lost.bytes += removed.bytes;
        self.lost_sequences.insert(sequence);
        self.damage.push(Damage {
            file,
            sequences: Some(sequence..=sequence),
            what: "a message's checksum does not hold",
        });
        Ok(())
    }
}

/// The name that damage is reported under.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:020}.seg")
}

/// What a message counts for.
pub(super) fn counted(accounting: crate::Accounting, row: &Row, subject: usize) -> u64 {
    let content = (row.length as usize).saturating_sub(record::HEAD + record::CHECKSUM + subject);
    // Only whether there are headers matters for the sum.
    let headers = usize::from(row.has_headers()).min(content);
    accounting.bytes(subject, headers, content - headers)
}
