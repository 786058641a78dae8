//! A disk for tests that lies the way real ones do.
//!
//! Everything happens in memory. Reading back is exact, but what was not made durable is only promised: each change is
//! remembered until a sync of its file (or of its folder, for names), and at a [power cut](Lying::power_cut) a seed
//! decides which of the pending changes are on the disk: each write lost, kept or torn at a grain of 512 B or 4 KiB, and
//! the changes of names up to some moment. Every call is recorded, so a test can stop the world [at any of
//! them](Replay). Calls can be made to [fail](Failure), and files to rot at rest.

mod failure;
mod record;
mod state;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Disk, Entry, File, Open, name};
use failure::Outcome;
use state::{Inode, State};

pub use failure::{Cause, Failure, Times};
pub use record::{Call, Record, Replay};

/// Kinds of calls, as counted and as made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named as the calls of the disk and of its files")]
pub enum Kind {
    Open,
    List,
    CreateFolder,
    Rename,
    Remove,
    RemoveFolder,
    SyncFolder,
    Read,
    Write,
    Sync,
    WriteOut,
    Len,
    SetLen,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Open,
        Self::List,
        Self::CreateFolder,
        Self::Rename,
        Self::Remove,
        Self::RemoveFolder,
        Self::SyncFolder,
        Self::Read,
        Self::Write,
        Self::Sync,
        Self::WriteOut,
        Self::Len,
        Self::SetLen,
    ];
}

/// The disk. A clone is the same disk.
#[derive(Clone, Debug)]
pub struct Lying {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    state: State,
    record: Vec<Call>,
    counts: BTreeMap<Kind, u64>,
    failures: Vec<Failure>,
    space: Option<u64>,
}

impl Lying {
    /// An empty disk. The seed decides what a failed sync spares.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(State::new(seed))
    }

    fn with(state: State) -> Self {
        let shared =
            Shared { state, record: Vec::new(), counts: BTreeMap::new(), failures: Vec::new(), space: None };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// The same disk, for those who take any.
    #[must_use]
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// How many calls of a kind were made, failed ones included.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.shared.lock().counts.get(&kind).copied().unwrap_or(0)
    }

    /// How many calls that change something are in the record so far.
    #[must_use]
    pub fn recorded(&self) -> usize {
        self.shared.lock().record.len()
    }

    /// The record so far.
    #[must_use]
    pub fn record(&self) -> Record {
        Record { calls: self.shared.lock().record.clone() }
    }

    /// Makes calls fail from now on.
    pub fn fail(&self, failure: Failure) {
        self.shared.lock().failures.push(failure);
    }

    /// Takes back everything [`Lying::fail`] said.
    pub fn heal(&self) {
        self.shared.lock().failures.clear();
    }

    /// How many bytes all files may have together from now on; `None` for no limit. A call that would need more
    /// fails as a full disk does, a write after writing what fits.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.shared.lock().space = bytes;
    }

    /// The lengths of all files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.lock().state.bytes()
    }

    /// The disk as a process finds it that starts after the last one was killed.
    #[must_use]
    pub fn kill(&self) -> Self {
        Self::with(self.shared.lock().state.after_kill())
    }

    /// The disk as it may be found after a power cut; which way is up to the seed.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Self {
        Self::with(self.shared.lock().state.after_power_cut(seed))
    }

    /// Names of all files, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.shared.lock().state.files()
    }

    /// The bytes of a file.
    ///
    /// # Panics
    /// There is no such file.
    #[must_use]
    pub fn read(&self, name: &str) -> Vec<u8> {
        let shared = self.shared.lock();
        let inode = shared.state.file(name).expect("the file exists");
        shared.state.live(inode).to_vec()
    }

    /// Changes bytes of a file at rest: durable at once and in no record.
    ///
    /// # Panics
    /// There is no such file.
    pub fn rot(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut shared = self.shared.lock();
        let inode = shared.state.file(name).expect("the file exists");
        shared.state.rot(inode, change);
    }

    /// Flips one bit of a file at rest, counted from the file's first byte and from a byte's lowest bit.
    ///
    /// # Panics
    /// There is no such file or bit.
    pub fn flip(&self, name: &str, bit: u64) {
        let at = usize::try_from(bit / 8).expect("files in memory are short");
        self.rot(name, |bytes| bytes[at] ^= 1 << (bit % 8));
    }

    /// Cuts a file at rest.
    ///
    /// # Panics
    /// There is no such file.
    pub fn truncate(&self, name: &str, len: u64) {
        let len = usize::try_from(len).expect("files in memory are short");
        self.rot(name, |bytes| bytes.truncate(len));
    }

    /// Takes a file away at rest: durable at once and in no record.
    pub fn lose(&self, name: &str) {
        self.shared.lock().state.lose(name);
    }

    /// Counts the call and carries it out, unless it is to fail. What is recorded is what was done of it.
    fn change(&self, kind: Kind, call: Call) -> io::Result<()> {
        let mut shared = self.shared.lock();
        let shared = &mut *shared;
        let (call, failed) = match shared.outcome(kind) {
            Outcome::Done => shared.within_space(call),
            Outcome::Failed(error) => (call.failed(false), Some(error)),
            Outcome::Short(error) => (call.failed(true), Some(error)),
        };
        if let Some(call) = call {
            shared.state.apply(&call)?;
            shared.record.push(call);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Changes nothing that can be relied on; a failure is as bad as one of a sync.
    fn write_out(&self, inode: Inode) -> io::Result<()> {
        let mut shared = self.shared.lock();
        let shared = &mut *shared;
        let (Outcome::Failed(error) | Outcome::Short(error)) = shared.outcome(Kind::WriteOut) else {
            return Ok(());
        };
        let call = Call::SyncFailed { inode };
        shared.state.apply(&call)?;
        shared.record.push(call);
        Err(error)
    }

    fn ask<T>(&self, kind: Kind, answer: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        let mut shared = self.shared.lock();
        match shared.outcome(kind) {
            Outcome::Done => answer(&shared.state),
            Outcome::Failed(error) | Outcome::Short(error) => Err(error),
        }
    }
}

impl Shared {
    fn outcome(&mut self, kind: Kind) -> Outcome {
        *self.counts.entry(kind).or_default() += 1;
        let mut outcome = Outcome::Done;
        for failure in &mut self.failures {
            if let Some(met) = failure.meet(kind) {
                outcome = met;
            }
        }
        outcome
    }

    fn create(&mut self, name: &str) -> io::Result<Inode> {
        let inode = self.state.next_inode();
        let (call, failed) = self.within_space(Call::Create { name: name.to_owned(), inode });
        if let Some(call) = call {
            self.state.apply(&call)?;
            self.record.push(call);
        }
        failed.map_or(Ok(inode), Err)
    }

    /// What of the call the disk has room for.
    fn within_space(&self, call: Call) -> (Option<Call>, Option<io::Error>) {
        let Some(space) = self.space else { return (Some(call), None) };
        let used = self.state.bytes();
        let free = space.saturating_sub(used);
        let full = || Some(Cause::Full.error());
        match call {
            Call::Write { inode, offset, bytes } => {
                let len = self.state.live(inode).len() as u64;
                let room = (len + free).saturating_sub(offset).min(bytes.len() as u64);
                // Overwriting what exists takes no room.
                if offset + bytes.len() as u64 <= len || room == bytes.len() as u64 {
                    return (Some(Call::Write { inode, offset, bytes }), None);
                }
                let fitting = Arc::from(&bytes[..room as usize]);
                let call = (room > 0).then_some(Call::Write { inode, offset, bytes: fitting });
                (call, full())
            }
            Call::SetLen { inode, len } if len > self.state.live(inode).len() as u64 + free => (None, full()),
            Call::Create { .. } | Call::CreateFolder { .. } if space <= used => (None, full()),
            call => (Some(call), None),
        }
    }
}

impl Disk for Lying {
    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn File>> {
        name::check(name)?;
        let mut shared = self.shared.lock();
        let shared = &mut *shared;
        if let Outcome::Failed(error) | Outcome::Short(error) = shared.outcome(Kind::Open) {
            return Err(error);
        }
        let inode = match shared.state.open(name, how)? {
            Some(inode) => inode,
            None => shared.create(name)?,
        };
        Ok(Arc::new(LyingFile { disk: self.clone(), inode }))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        name::check_folder(folder)?;
        self.ask(Kind::List, |state| Ok(state.list(folder)))
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        name::check_folder(folder)?;
        self.change(Kind::CreateFolder, Call::CreateFolder { name: folder.to_owned() })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        name::check(from)?;
        name::check(to)?;
        self.change(Kind::Rename, Call::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        name::check(name)?;
        self.change(Kind::Remove, Call::Remove { name: name.to_owned() })
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        name::check(folder)?;
        self.change(Kind::RemoveFolder, Call::RemoveFolder { name: folder.to_owned() })
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        name::check_folder(folder)?;
        self.change(Kind::SyncFolder, Call::SyncFolder { name: folder.to_owned() })
    }
}

#[derive(Debug)]
struct LyingFile {
    disk: Lying,
    inode: Inode,
}

impl File for LyingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.ask(Kind::Read, |state| {
            let live = state.live(self.inode);
            let start = usize::try_from(offset).ok().filter(|start| *start <= live.len());
            let bytes = start.and_then(|start| live[start..].get(..buffer.len()));
            buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.change(Kind::Write, Call::Write { inode: self.inode, offset, bytes: Arc::from(bytes) })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.change(Kind::Sync, Call::Sync { inode: self.inode })
    }

    fn write_out(&self, _offset: u64, _length: u64) -> io::Result<()> {
        self.disk.write_out(self.inode)
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.ask(Kind::Len, |state| Ok(state.live(self.inode).len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change(Kind::SetLen, Call::SetLen { inode: self.inode, len })
    }
}
