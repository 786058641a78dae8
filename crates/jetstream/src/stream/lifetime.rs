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
    by_end: BTreeSet<(i64, u64)>,
}

impl Lifetimes {
    pub(crate) fn insert(&mut self, sequence: u64, ends_at: i64) {
        self.by_sequence.insert(sequence, ends_at);
        if ends_at != NEVER {
            self.by_end.insert((ends_at, sequence));
        }
    }

    pub(crate) fn remove(&mut self, sequence: u64) {
        if let Some(ends_at) = self.by_sequence.remove(&sequence) {
            self.by_end.remove(&(ends_at, sequence));
        }
    }

    /// Whether the message has a time of its own, and the stream's `max_age` is not for it.
    pub(crate) fn contains(&self, sequence: u64) -> bool {
        self.by_sequence.contains_key(&sequence)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_sequence.is_empty()
    }

    /// The next message to end.
    pub(crate) fn next(&self) -> Option<(i64, u64)> {
        self.by_end.first().copied()
    }

    /// Forgets messages before a sequence.
    pub(crate) fn cut(&mut self, first: u64) {
        if self.by_sequence.is_empty() {
            return;
        }
        self.by_sequence.retain(|sequence, _| *sequence >= first);
        self.by_end.retain(|(_, sequence)| *sequence >= first);
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(u64) -> bool) {
        self.by_sequence.retain(|sequence, _| keep(*sequence));
        let left = &self.by_sequence;
        self.by_end.retain(|(_, sequence)| left.contains_key(sequence));
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
            let sequence = reader.number()?;
            lifetimes.insert(sequence, reader.signed()?);
        }
        Ok(lifetimes)
    }
}
