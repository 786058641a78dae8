//! Message ids of the duplicate window.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::map::HashMap;

use crate::record::{Malformed, Reader, put_bytes, put_number, put_signed};

/// See the module. Ids come and go in the order of their messages.
#[derive(Debug, Default)]
pub(crate) struct Dedupe {
    order: VecDeque<Entry>,
    by_id: HashMap<Arc<[u8]>, u64>,
}

#[derive(Debug)]
struct Entry {
    id: Arc<[u8]>,
    sequence: u64,
    timestamp: i64,
}

impl Dedupe {
    /// The message that has the id, if one in the window has.
    pub(crate) fn find(&self, id: &[u8]) -> Option<u64> {
        self.by_id.get(id).copied()
    }

    /// The id of a message that was just stored.
    pub(crate) fn insert(&mut self, id: &[u8], sequence: u64, timestamp: i64) {
        let id: Arc<[u8]> = id.into();
        self.by_id.insert(id.clone(), sequence);
        self.order.push_back(Entry { id, sequence, timestamp });
    }

    /// Forgets ids from before a time.
    pub(crate) fn expire(&mut self, before: i64) {
        while self.order.front().is_some_and(|entry| entry.timestamp < before) {
            let Some(entry) = self.order.pop_front() else { break };
            if self.by_id.get(&entry.id) == Some(&entry.sequence) {
                self.by_id.remove(&entry.id);
            }
        }
        if self.order.len() * 4 < self.order.capacity() {
            self.order.shrink_to(1024);
            self.by_id.shrink_to(1024);
        }
    }

    /// When the oldest id was used.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.order.front().map(|entry| entry.timestamp)
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        put_number(out, self.order.len() as u64);
        for entry in &self.order {
            put_bytes(out, &entry.id);
            put_number(out, entry.sequence);
            put_signed(out, entry.timestamp);
        }
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut dedupe = Self::default();
        for _ in 0..reader.count(3)? {
            let id = reader.bytes()?;
            let sequence = reader.sequence()?;
            dedupe.insert(id, sequence, reader.signed()?);
        }
        Ok(dedupe)
    }
}
