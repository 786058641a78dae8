//! Messages with a time to live of their own (ADR-43).

use std::collections::BTreeSet;

use crate::map::HashMap;

use crate::record::{Malformed, Reader, put_number, put_signed};

/// A message whose headers say `never`.
pub(crate) const NEVER: i64 = i64::MAX;

/// When which message ends.
#[derive(Debug, Default)]
pub(crate) struct Lifetimes {
    by_sequence: HashMap<u64, i64>,
    /// Those that end and whose removal is not on its way.
    by_end: BTreeSet<(i64, u64)>,
    /// Those that do not.
    endless: BTreeSet<u64>,
}

impl Lifetimes {
    pub(crate) fn insert(&mut self, sequence: u64, ends_at: i64) {
        self.by_sequence.insert(sequence, ends_at);
        if ends_at == NEVER {
            self.endless.insert(sequence);
        } else {
            self.by_end.insert((ends_at, sequence));
        }
    }

    pub(crate) fn remove(&mut self, sequence: u64) {
        if let Some(ends_at) = self.by_sequence.remove(&sequence) {
            self.by_end.remove(&(ends_at, sequence));
            self.endless.remove(&sequence);
        }
    }

    /// Whether the stream's `max_age` is not for the message. A shorter or longer time of its own does not exempt it, as in
    /// the original.
    pub(crate) fn is_endless(&self, sequence: u64) -> bool {
        self.endless.contains(&sequence)
    }

    /// Whether there are messages that `max_age` is not for.
    pub(crate) fn has_endless(&self) -> bool {
        !self.endless.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_sequence.is_empty()
    }

    /// When the next message ends.
    pub(crate) fn next_end(&self) -> Option<i64> {
        self.by_end.first().map(|(ends_at, _)| *ends_at)
    }

    /// A message that has ended; it is not looked at again while its removal is on its way.
    pub(crate) fn take_ended(&mut self, now: i64) -> Option<u64> {
        let (ends_at, sequence) = self.by_end.pop_first()?;
        if ends_at > now {
            self.by_end.insert((ends_at, sequence));
            return None;
        }
        Some(sequence)
    }

    /// Removals that were on their way are not: those messages still have to end.
    pub(crate) fn on_log_failed(&mut self) {
        let ends = self.by_sequence.iter().filter(|(_, ends_at)| **ends_at != NEVER);
        self.by_end = ends.map(|(sequence, ends_at)| (*ends_at, *sequence)).collect();
    }

    /// Forgets messages before a sequence.
    pub(crate) fn cut(&mut self, first: u64) {
        self.retain(|sequence| sequence >= first);
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(u64) -> bool) {
        if self.by_sequence.is_empty() {
            return;
        }
        self.by_sequence.retain(|sequence, _| keep(*sequence));
        let left = &self.by_sequence;
        self.by_end.retain(|(_, sequence)| left.contains_key(sequence));
        self.endless.retain(|sequence| left.contains_key(sequence));
    }

    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        put_number(out, self.by_sequence.len() as u64);
        for (sequence, ends_at) in &self.by_sequence {
            put_number(out, *sequence);
            put_signed(out, *ends_at);
        }
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut lifetimes = Self::default();
        for _ in 0..reader.count(2)? {
            let sequence = reader.sequence()?;
            lifetimes.insert(sequence, reader.signed()?);
        }
        Ok(lifetimes)
    }
}
