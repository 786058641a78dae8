//! What is on the disk, and what is only promised.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::record::Call;
use crate::{Entry, Open, name};

/// Grains at which a write tears.
const GRAINS: [usize; 2] = [512, 4096];

/// A file, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inode(usize);

#[derive(Clone, Debug)]
pub(super) struct State {
    chance: Chance,
    files: Vec<Content>,
    /// Names as everybody sees them.
    names: Names,
    /// Names that a power cut leaves.
    durable: Names,
    /// Changes of names since their folder was last synced, in order.
    pending: Vec<Renaming>,
}

type Names = BTreeMap<String, Node>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(Inode),
    Folder,
}

/// Applied as one: a rename is on the disk as a whole or not at all.
#[derive(Clone, Debug)]
struct Renaming {
    gone: Vec<String>,
    come: Vec<(String, Node)>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Arc<[u8]> },
    SetLen(usize),
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chance: Chance(seed),
            files: Vec::new(),
            names: Names::new(),
            durable: Names::new(),
            pending: Vec::new(),
        }
    }

    pub(super) fn next_inode(&self) -> Inode {
        Inode(self.files.len())
    }

    pub(super) fn file(&self, name: &str) -> Option<Inode> {
        match self.names.get(name) {
            Some(Node::File(inode)) => Some(*inode),
            _ => None,
        }
    }

    pub(super) fn files(&self) -> Vec<String> {
        self.names.iter().filter(|(_, node)| **node != Node::Folder).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn live(&self, inode: Inode) -> &[u8] {
        &self.files[inode.0].live
    }

    pub(super) fn bytes(&self) -> u64 {
        let files = self.names.values().filter_map(|node| match node {
            Node::File(inode) => Some(self.live(*inode).len() as u64),
            Node::Folder => None,
        });
        files.sum()
    }

    /// The file, or none if it is to be created.
    pub(super) fn open(&self, name: &str, how: Open) -> io::Result<Option<Inode>> {
        match (self.names.get(name), how) {
            (Some(Node::Folder), _) => Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), Open::New) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Node::File(inode)), _) => Ok(Some(*inode)),
            (None, Open::Existing) => Err(io::ErrorKind::NotFound.into()),
            (None, _) => self.check_parent(name).map(|()| None),
        }
    }

    pub(super) fn list(&self, folder: &str) -> Vec<Entry> {
        let inside = self.names.iter().filter(|(name, _)| name::parent(name) == folder);
        let entry = |(name, node): (&String, &Node)| Entry {
            name: name.rsplit('/').next().unwrap_or_default().to_owned(),
            folder: *node == Node::Folder,
        };
        inside.map(entry).collect()
    }

    pub(super) fn rot(&mut self, inode: Inode, change: impl FnOnce(&mut Vec<u8>)) {
        let content = &mut self.files[inode.0];
        change(&mut content.live);
        content.durable = content.live.clone();
        content.pending.clear();
    }

    pub(super) fn lose(&mut self, name: &str) {
        self.names.remove(name);
        self.durable.remove(name);
    }

    pub(super) fn apply(&mut self, call: &Call) -> io::Result<()> {
        match call {
            Call::Create { name, inode } => {
                assert_eq!(*inode, self.next_inode(), "one creates after the other");
                self.files.push(Content::default());
                self.rename(Renaming { gone: Vec::new(), come: vec![(name.clone(), Node::File(*inode))] });
            }
            Call::CreateFolder { name } => self.create_folder(name)?,
            Call::Rename { from, to } => {
                self.check_parent(to)?;
                let node = *self.names.get(from).ok_or(io::ErrorKind::NotFound)?;
                let below = format!("{from}/");
                let moved = self.names.iter().filter(|(name, _)| name.starts_with(&below));
                let moved = moved.map(|(name, node)| (format!("{to}/{}", &name[below.len()..]), *node));
                let come: Vec<_> = moved.chain([(to.clone(), node)]).collect();
                let gone = self.names.keys().filter(|name| *name == from || name.starts_with(&below));
                self.rename(Renaming { gone: gone.cloned().collect(), come });
            }
            Call::Remove { name } => self.rename(Renaming { gone: vec![name.clone()], come: Vec::new() }),
            Call::RemoveFolder { name } => {
                let below = format!("{name}/");
                let gone = self.names.keys().filter(|each| *each == name || each.starts_with(&below));
                self.rename(Renaming { gone: gone.cloned().collect(), come: Vec::new() });
            }
            Call::SyncFolder { name } => self.sync_folder(name)?,
            Call::Write { inode, offset, bytes } => {
                let offset = usize::try_from(*offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
                self.files[inode.0].change(Change::Write { offset, bytes: bytes.clone() });
            }
            Call::SetLen { inode, len } => {
                let len = usize::try_from(*len).map_err(|_| io::ErrorKind::FileTooLarge)?;
                self.files[inode.0].change(Change::SetLen(len));
            }
            Call::Sync { inode } => self.files[inode.0].sync(),
            Call::SyncFailed { inode } => {
                // Some of it reached the disk, the rest is marked clean and never tried again.
                let content = &mut self.files[inode.0];
                for change in content.pending.drain(..) {
                    if self.chance.one_in(2) {
                        change.apply(&mut content.durable);
                    }
                }
            }
        }
        Ok(())
    }

    fn create_folder(&mut self, folder: &str) -> io::Result<()> {
        let mut path = String::new();
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(part);
            match self.names.get(&path) {
                Some(Node::Folder) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                None => self.rename(Renaming { gone: Vec::new(), come: vec![(path.clone(), Node::Folder)] }),
            }
        }
        Ok(())
    }

    fn check_parent(&self, name: &str) -> io::Result<()> {
        match name::parent(name) {
            "" => Ok(()),
            parent if self.names.get(parent) == Some(&Node::Folder) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&mut self, renaming: Renaming) {
        renaming.apply(&mut self.names);
        self.pending.push(renaming);
    }

    fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        if !folder.is_empty() && self.names.get(folder) != Some(&Node::Folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = |name: &str| name::parent(name) == folder;
        self.durable.retain(|name, _| !inside(name));
        let now = self.names.iter().filter(|(name, _)| inside(name));
        self.durable.extend(now.map(|(name, node)| (name.clone(), *node)));
        for renaming in &mut self.pending {
            renaming.gone.retain(|name| !inside(name));
            renaming.come.retain(|(name, _)| !inside(name));
        }
        self.pending.retain(|renaming| !renaming.gone.is_empty() || !renaming.come.is_empty());
        Ok(())
    }

    /// What was written is in the cache of the host, which lives on.
    pub(super) fn after_kill(&self) -> Self {
        self.clone()
    }

    pub(super) fn after_power_cut(&self, seed: u64) -> Self {
        let mut chance = Chance(seed);
        let mut names = self.durable.clone();
        let kept = chance.below(self.pending.len() + 1);
        for renaming in &self.pending[..kept] {
            renaming.apply(&mut names);
        }
        // A name in a folder that is not there leads nowhere. Folders stand before what they hold.
        let mut found = Names::new();
        for (name, node) in names {
            let parent = name::parent(&name);
            if parent.is_empty() || found.get(parent) == Some(&Node::Folder) {
                found.insert(name, node);
            }
        }
        let files = self.files.iter().map(|content| content.after_power_cut(&mut chance)).collect();
        Self { chance, files, durable: found.clone(), names: found, pending: Vec::new() }
    }
}

impl Renaming {
    fn apply(&self, names: &mut Names) {
        for name in &self.gone {
            names.remove(name);
        }
        names.extend(self.come.iter().cloned());
    }
}

impl Content {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    fn after_power_cut(&self, chance: &mut Chance) -> Self {
        let mut found = self.durable.clone();
        // One mood for the whole file, so that everything lost and everything kept come up often.
        let mood = chance.below(4);
        for change in &self.pending {
            match (mood, chance.below(3)) {
                (0, _) | (2.., 0) => {}
                (1, _) | (2.., 1) => change.apply(&mut found),
                _ => change.apply_torn(&mut found, chance),
            }
        }
        Self { live: found.clone(), durable: found, pending: Vec::new() }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }

    /// Some grains of the file, as far as the write covers them.
    fn apply_torn(&self, content: &mut Vec<u8>, chance: &mut Chance) {
        let Self::Write { offset, bytes } = self else { return };
        let grain = GRAINS[chance.below(GRAINS.len())];
        let mut at = *offset;
        let end = offset + bytes.len();
        while at < end {
            let next = ((at / grain + 1) * grain).min(end);
            if chance.one_in(2) {
                let part = Arc::from(&bytes[at - offset..next - offset]);
                Self::Write { offset: at, bytes: part }.apply(content);
            }
            at = next;
        }
    }
}

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}
