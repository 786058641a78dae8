//! What can go wrong, sorted by whose fault it is.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;

use sonata_disk::seal::SealError;

/// Why the store did not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The caller: a sequence that is not larger than all before it. While a journal is replayed over a store that was
    /// rebuilt this only says that the message is known already.
    NotNext {
        /// What was given.
        sequence: u64,
        /// The largest the stream has used.
        last: u64,
    },
    /// The caller: subject or message are longer than a record can hold.
    TooLarge,
    /// The limit: far too much waits to be written, and the writing is out as [`Work`](crate::Work). Repeat the call after
    /// [`Store::finish`](crate::Store::finish).
    Behind,
    /// The storage: these bytes are not what was written. The message is lost; others are not affected.
    Damaged {
        /// The message asked for.
        sequence: u64,
    },
    /// The operator: a file is encrypted and its key is not given. Nothing was changed.
    Key {
        /// Which file.
        file: String,
        /// What its head says.
        source: SealError,
    },
    /// The storage: a checkpoint or segment was written by a newer version of this program.
    Newer {
        /// Which file.
        file: String,
        /// The version it states.
        version: u16,
    },
    /// The storage: a sync failed, and what it covered cannot be read back either. Nothing that the journal still holds is
    /// lost: open the stream again and tell it what came after the checkpoint.
    Unsynced {
        /// Which file.
        file: String,
    },
    /// The storage: another stream's files lie in this folder.
    Foreign {
        /// Which file.
        file: String,
    },
    /// The storage: the disk refused. Nothing that was stored before is affected, and the call may be repeated.
    Disk {
        /// Which file or folder.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn disk(file: &str, source: io::Error) -> Self {
        Self::Disk { file: file.to_owned(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNext { sequence, last } => write!(f, "sequence {sequence} does not follow {last}"),
            Self::Behind => f.write_str("background writing is too far behind"),
            Self::TooLarge => f.write_str("message too large for a record"),
            Self::Damaged { sequence } => write!(f, "message {sequence} is damaged on disk"),
            Self::Newer { file, version } => {
                write!(f, "{file} has format version {version}, written by a newer server")
            }
            Self::Key { file, source } => write!(f, "{file}: {source}"),
            Self::Unsynced { file } => {
                write!(f, "{file} could not be synced and must be read from the journal again")
            }
            Self::Foreign { file } => write!(f, "{file} belongs to another stream"),
            Self::Disk { file, .. } => write!(f, "disk refused at {file}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disk { source, .. } => Some(source),
            Self::Key { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Something on the disk that is not what was written there. Reported once; what can still be read is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, relative to the stream's folder.
    pub file: String,
    /// The sequences that may be affected, if any are.
    pub sequences: Option<RangeInclusive<u64>>,
    /// What was found, for a person.
    pub what: &'static str,
}
