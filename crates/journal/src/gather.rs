//! Where appended records wait for the writer.
//!
//! While one buffer is being written the next one fills; the two change places and keep their capacity. A burst
//! that is longer than a batch may be makes more of them.

use std::collections::VecDeque;
use std::mem;

use crate::error::Error;
use crate::format::{self, BATCH_HEAD_BYTES, RECORD_HEAD_BYTES};
use crate::record::Batch;

/// Buffers that are kept for the next batches.
const SPARES_MAX: usize = 2;
/// A buffer is not shrunk below this.
const KEPT_BYTES_MIN: usize = 64 << 10;

/// A batch in the making, its head still empty.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// Empty, or a head and records.
    pub(crate) bytes: Vec<u8>,
    pub(crate) first: u64,
    pub(crate) records: u32,
}

impl Buffer {
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch::new(&self.bytes, self.first, self.records)
    }
}

#[derive(Debug)]
pub(crate) struct Gather {
    filling: Buffer,
    /// Full ones, oldest first.
    full: VecDeque<Buffer>,
    spares: Vec<Buffer>,
    /// Bytes that wait or are being written.
    buffered: usize,
    next: u64,
    batch_bytes_max: usize,
    /// The longest batch of late.
    peak: usize,
}

impl Gather {
    pub(crate) fn new(next: u64, batch_bytes_max: usize) -> Self {
        Self {
            filling: Buffer::default(),
            full: VecDeque::new(),
            spares: Vec::new(),
            buffered: 0,
            next,
            batch_bytes_max,
            peak: 0,
        }
    }

    /// Position of the record that is appended next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filling.records == 0 && self.full.is_empty()
    }

    /// Takes a record whose parts are `len` bytes together.
    pub(crate) fn append(&mut self, lane: u64, parts: &[&[u8]], len: u32) -> Result<u64, Error> {
        let position = self.next;
        self.next = position.checked_add(1).ok_or(Error::Exhausted)?;
        let record_bytes = RECORD_HEAD_BYTES + len as usize;
        if self.filling.records > 0 && self.filling.bytes.len() + record_bytes > self.batch_bytes_max {
            let next = self.spares.pop().unwrap_or_default();
            self.full.push_back(mem::replace(&mut self.filling, next));
        }
        if self.filling.records == 0 {
            self.filling.bytes.resize(BATCH_HEAD_BYTES, 0);
            self.filling.first = position;
        }
        format::push_record(&mut self.filling.bytes, lane, len, parts);
        self.filling.records += 1;
        self.buffered += record_bytes;
        Ok(position)
    }

    /// The oldest batch, which stays counted until it comes [back](Self::give).
    pub(crate) fn take(&mut self) -> Option<Buffer> {
        if let Some(buffer) = self.full.pop_front() {
            return Some(buffer);
        }
        if self.filling.records == 0 {
            return None;
        }
        let next = self.spares.pop().unwrap_or_default();
        Some(mem::replace(&mut self.filling, next))
    }

    /// Takes a buffer back for later batches.
    pub(crate) fn give(&mut self, mut buffer: Buffer) {
        let len = buffer.bytes.len();
        // Batches wax and wane; memory that the last few dozen did not need goes.
        self.peak = len.max(self.peak - self.peak / 16);
        self.buffered -= len.saturating_sub(BATCH_HEAD_BYTES);
        buffer.bytes.clear();
        buffer.records = 0;
        buffer.bytes.shrink_to((4 * self.peak).max(KEPT_BYTES_MIN));
        if self.spares.len() < SPARES_MAX {
            self.spares.push(buffer);
        }
    }

    /// Forgets all that waits. Its positions are not used again.
    pub(crate) fn discard(&mut self) {
        while let Some(buffer) = self.take() {
            self.give(buffer);
        }
    }
}
