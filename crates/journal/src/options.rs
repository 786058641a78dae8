//! How large, how safe, how secret.

use sonata_disk::seal::TAG_BYTES;

pub use sonata_disk::seal::Sealing;

use crate::error::Error;
use crate::format::{BATCH_HEAD_BYTES, HEADER_BYTES, RECORD_HEAD_BYTES};

/// Files are not longer than this, whatever the options or a file on the disk say: one is read at once at the start.
pub const FILE_BYTES_LIMIT: u64 = 1 << 30;

/// Keeps what may be unsynced at a crash far below the 2^32 positions that are skipped at each start.
const BYTES_LIMIT: u64 = 64 << 30;

/// A batch is not longer than this unless a single record is: one write of 8 MiB takes a few milliseconds, and larger
/// ones are no faster per byte.
const BATCH_BYTES_MAX: u64 = 8 << 20;

/// What [`crate::Journal::open`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of a file. Default 64 MiB; a multiple of 4 KiB from 16 KiB to 1 GiB.
    pub file_bytes: u64,
    /// Bytes on the disk until appends are refused. Default 1 GiB; at least two files, at most 64 GiB. Up to one
    /// file's length more may be in use for a moment.
    pub bytes_max: u64,
    /// Bytes in memory that wait for the disk until appends are refused. Default 64 MiB.
    pub buffer_bytes_max: usize,
    /// When a record counts as committed.
    pub mode: Mode,
    /// Encryption of what is written from now on, and the keys of what is there.
    pub seal: Option<Sealing>,
    /// Different at every start, best random: old bytes of a reused file are told from new ones by it.
    pub seed: u64,
    /// The highest position the owner knows of from elsewhere (its checkpoints). New ones are higher, even if the
    /// journal's files are lost.
    pub after: u64,
    /// A clock in nanoseconds for [`crate::Stats`]; only differences are used.
    pub now: fn() -> u64,
}

/// When a record counts as committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Once it is durable. The writer's thread writes and syncs.
    Always,
    /// Once it is written; a power cut may lose what was written since the last [`crate::Journal::sync`]. The thread
    /// that kicks writes.
    Interval,
}

impl Options {
    /// The defaults under a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            file_bytes: 64 << 20,
            bytes_max: 1 << 30,
            buffer_bytes_max: 64 << 20,
            mode: Mode::Always,
            seal: None,
            seed,
            after: 0,
            now: || 0,
        }
    }

    /// The longest body that is taken.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        let batch = self.file_bytes.saturating_sub(HEADER_BYTES as u64 + 8);
        let buffer = self.buffer_bytes_max as u64;
        let overhead = (BATCH_HEAD_BYTES + RECORD_HEAD_BYTES + TAG_BYTES) as u64;
        // Both are far below what a 32 bit length can say.
        usize::try_from(batch.min(buffer).saturating_sub(overhead)).unwrap_or(0)
    }

    /// Where the next record begins another batch.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        let fitting = self.file_bytes - HEADER_BYTES as u64 - TAG_BYTES as u64 - 8;
        BATCH_BYTES_MAX.min(fitting) as usize
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if !(16 << 10..=FILE_BYTES_LIMIT).contains(&self.file_bytes) || !self.file_bytes.is_multiple_of(4096)
        {
            return Err(Error::Options("a journal's file has 16 KiB to 1 GiB, in steps of 4 KiB"));
        }
        if self.bytes_max < 2 * self.file_bytes || self.bytes_max > BYTES_LIMIT {
            return Err(Error::Options("a journal has at least two files, and at most 64 GiB"));
        }
        if self.buffer_bytes_max < 4096 {
            return Err(Error::Options("a journal needs 4 KiB of memory for what waits"));
        }
        Ok(())
    }
}
