//! What the journal and the store ask of a disk, and nothing more.
//!
//! Names are relative, with `/` between parts; a disk is a folder that somebody above chose. [`Real`] is that folder on
//! the host, [`lying::Lying`] is a disk for tests that loses, tears and flips what it was given. What is written may be
//! encrypted by [`seal`], which knows keys and bytes but no files.
//!
//! This is the one place below the server that touches files of the host.

use std::fmt;
use std::io;
use std::sync::Arc;

pub mod lying;
mod name;
mod real;
pub mod seal;

pub use real::Real;

/// A folder that holds files under relative names such as `journal/00000001.log`.
pub trait Disk: Send + Sync + fmt::Debug + 'static {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// As the operating system says; [`io::ErrorKind::NotFound`] or [`io::ErrorKind::AlreadyExists`] by `how`.
    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn File>>;

    /// Names and kinds of what a folder holds, sorted by name. A folder that does not exist is empty.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self, folder: &str) -> io::Result<Vec<Entry>>;

    /// Creates a folder and those above it; no error if it exists.
    ///
    /// # Errors
    /// As the operating system says.
    fn create_folder(&self, folder: &str) -> io::Result<()>;

    /// Renames a file or folder, replacing a file of that name. Durable after [`Disk::sync_folder`] of both folders.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; no error if it does not exist.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Removes a folder with all it holds; no error if it does not exist.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove_folder(&self, folder: &str) -> io::Result<()>;

    /// Makes the names in a folder durable (creations, renames, removals).
    ///
    /// # Errors
    /// As the operating system says. The names' fate is then unknown.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
}

/// How [`Disk::open`] treats existence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must exist.
    Existing,
    /// It must not exist.
    New,
    /// Either.
    Either,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last part of the name.
    pub name: String,
    /// Whether it is a folder.
    pub folder: bool,
}

#[expect(clippy::len_without_is_empty, reason = "nobody asks a file whether it is empty")]
/// An open file. All calls carry their offset, so that threads share one.
pub trait File: Send + Sync + fmt::Debug + 'static {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends before; otherwise as the operating system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`. Not durable before [`File::sync`] returned.
    ///
    /// # Errors
    /// As the operating system says; any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable (`fdatasync`).
    ///
    /// # Errors
    /// As the operating system says. What was not durable before is then of unknown fate **for ever**: a later
    /// success says nothing about it.
    fn sync(&self) -> io::Result<()>;

    /// Hands what was written in a range to the device and waits until that has it, so that a later sync of this or
    /// another file, which waits for all that the device holds, has little to wait for. Nothing is durable by it. Does
    /// nothing where the system has no such call.
    ///
    /// # Errors
    /// As [`File::sync`].
    fn write_out(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// Cuts the file, or extends it by zeros.
    ///
    /// # Errors
    /// As the operating system says.
    fn set_len(&self, len: u64) -> io::Result<()>;
}
