//! What a store is given when it is created or opened.

pub use sonata_disk::seal::Sealing;

/// How a store lives on its disk.
#[derive(Clone, Debug)]
pub struct Options {
    /// A random number that is the stream's own: every checksum is bound to it, so that another stream's files, or those
    /// of a stream of the same name that was deleted, are recognised as foreign.
    pub id: u64,
    /// A segment is closed when it holds this many bytes of records. Between 4 KiB and 1 GiB; values outside are moved
    /// to the nearest bound.
    pub segment_bytes: u64,
    /// Whether blocks are compressed (S2) when they are written. May differ from opening to opening.
    pub compression: bool,
    /// Bound for blocks and tables that were read from the disk and are kept for the next question, in bytes.
    pub cache_bytes_max: u64,
    /// Appended bytes that wait to be written. Beyond it `append` itself writes, so that memory stays bounded when
    /// nobody runs [`Work`](crate::Work).
    pub unwritten_bytes_max: u64,
    /// Encryption of all that is written from now on, and the keys of what is there. What was written without stays
    /// readable, and is encrypted when it is moved. Of no meaning for a stream in memory.
    pub seal: Option<Sealing>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            id: 0,
            segment_bytes: 8 << 20,
            compression: false,
            cache_bytes_max: 16 << 20,
            unwritten_bytes_max: 16 << 20,
            seal: None,
        }
    }
}
