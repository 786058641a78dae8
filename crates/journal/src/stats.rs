//! What the journal has done so far.

/// Counts since the start, and what is held now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Syncs of a file's data.
    pub syncs: u64,
    /// Batches that were committed.
    pub batches: u64,
    /// Records that were committed.
    pub records: u64,
    /// Bytes of batches that were committed, heads included.
    pub bytes: u64,
    /// Times the journal stopped for an error.
    pub failures: u64,
    /// Bytes in memory that wait for the disk.
    pub buffered_bytes: usize,
    /// Bytes in files that may not be reused yet.
    pub held_bytes: u64,
    /// How long syncs took.
    pub sync_time: Histogram,
}

/// Durations in steps of powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// `buckets[n]` counts durations below 2^n microseconds and not below the bucket before; the last counts all above.
    pub buckets: [u64; Self::BUCKETS],
    /// All durations together, in nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// Up to 2^24 microseconds, some 17 seconds.
    pub const BUCKETS: usize = 26;

    pub(crate) fn add(&mut self, nanoseconds: u64) {
        let bits = u64::BITS - (nanoseconds / 1000).leading_zeros();
        self.buckets[(bits as usize).min(Self::BUCKETS - 1)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(nanoseconds);
    }
}
