//! What goes wrong, by whose fault.

use std::fmt;
use std::io;
use std::sync::Arc;

use sonata_disk::seal::SealError;

/// Why the journal cannot be opened or has stopped.
#[derive(Debug)]
pub enum Error {
    /// The operator: limits that contradict each other.
    Options(&'static str),
    /// The operator: a file was written by a later version of the program. Nothing was changed.
    Version {
        /// The file.
        file: String,
        /// Its version of the format.
        version: u32,
    },
    /// The operator: a file is encrypted and its key is not given.
    Key {
        /// The file.
        file: String,
        /// What the header says.
        source: SealError,
    },
    /// The disk.
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or folder.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The disk: what was written to a new file does not read back.
    ReadBack {
        /// The file.
        file: String,
    },
    /// The disk: the journal has stopped, for this.
    Stopped(Arc<Error>),
    /// The limit: no number is left for a file or a position.
    Exhausted,
}

impl Error {
    pub(crate) fn io(doing: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, file: file.to_owned(), source }
    }

    /// Whether the disk is full, rather than broken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(what) => f.write_str(what),
            Self::Version { file, version } => {
                write!(
                    f,
                    "{file} has version {version} of the journal's format, which is newer than this program"
                )
            }
            Self::Key { file, source } => write!(f, "{file}: {source}"),
            Self::Io { doing, file, source } => write!(f, "{doing} {file}: {source}"),
            Self::ReadBack { file } => write!(f, "{file} does not read back as written"),
            Self::Stopped(cause) => write!(f, "journal has stopped: {cause}"),
            Self::Exhausted => f.write_str("the journal has no numbers left"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Key { source, .. } => Some(source),
            Self::Stopped(cause) => Some(cause),
            Self::Options(_) | Self::Version { .. } | Self::ReadBack { .. } | Self::Exhausted => None,
        }
    }
}

/// Why a record was not taken.
#[derive(Clone, Debug)]
pub enum Refused {
    /// The files hold as much as they may ([`crate::Options::bytes_max`]) until lanes release some of it:
    /// [`crate::Journal::pinned`] tells which.
    Full,
    /// As much waits to be written as may ([`crate::Options::buffer_bytes_max`]).
    Busy,
    /// A write or sync failed; see [`crate::Journal::retry`].
    Failed(Arc<Error>),
    /// The journal is closed.
    Closed,
    /// The record is longer than [`crate::Options::record_bytes_max`], and always will be.
    TooLarge,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("journal is full"),
            Self::Busy => f.write_str("too much waits for the journal's disk"),
            Self::Failed(cause) => write!(f, "journal has failed: {cause}"),
            Self::Closed => f.write_str("journal is closed"),
            Self::TooLarge => f.write_str("record is too large for the journal"),
        }
    }
}

impl std::error::Error for Refused {}
