//! Snapshots of a stream as they travel: an S2 stream of entries, `NATSARC1` before the first.
//!
//! The first entry is the stream's state, then come its consumers, then its messages by ascending sequence, and an entry of
//! zeroes at the end, without which a snapshot was cut off. Reader and writer work on [`std::io`] streams and hold one entry
//! at a time. The archives of servers before 2.15 are read as well, see `older`.

mod entry;
mod older;
mod reader;
mod writer;

pub use entry::{ConsumerSnapshot, ConsumerState, Entry, PendingDelivery, SequencePair};
pub use reader::{ArchiveError, Reader, read};
pub use writer::Writer;

const MAGIC: &[u8; 8] = b"NATSARC1";
const STATE: &str = "state.json";
const CONSUMERS: &str = "consumers/";
