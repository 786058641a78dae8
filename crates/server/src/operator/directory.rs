//! A directory of accounts' tokens: `<key>.jwt` each, as the original keeps them.
//!
//! Every file is written beside its place and renamed, so that a crash leaves the old token or the new one. What is asked
//! for by a name that is no account's key is never looked for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use sonata_conf::options::{DirectoryResolver, Removal};
use sonata_jwt::account::Account;
use sonata_jwt::key::KeyKind;
use sonata_jwt::token::{self, TOKEN_BYTES_MAX};

const ENDING: &str = "jwt";

/// See the module.
pub(crate) struct Directory {
    folder: PathBuf,
    removal: Removal,
    /// Tokens at most.
    limit: usize,
    /// The least recently used goes when there is no room; otherwise a new one is refused.
    evicts: bool,
    ttl: Option<Duration>,
    /// What is there, and when it was last used: a number that only goes up.
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    entries: BTreeMap<String, Indexed>,
    used: u64,
}

struct Indexed {
    hash: [u8; 32],
    used: u64,
}

impl Directory {
    /// Opens, or makes, a directory and looks at what is there.
    ///
    /// # Errors
    /// It can be neither read nor made.
    pub(crate) fn open(options: &DirectoryResolver, evicts: bool) -> io::Result<Self> {
        fs::create_dir_all(&options.directory)?;
        let directory = Self {
            folder: fs::canonicalize(&options.directory)?,
            removal: options.removal,
            limit: options.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            evicts,
            ttl: options.ttl,
            index: Mutex::default(),
        };
        for entry in fs::read_dir(&directory.folder)? {
            let path = entry?.path();
            let key = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
            let is_token = path.extension().is_some_and(|ending| ending == ENDING);
            if let Some(key) = key.filter(|key| is_token && KeyKind::Account.owns(key))
                && let Ok(token) = read(&path)
            {
                directory.note(&key, &token);
            }
        }
        Ok(directory)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Accounts that are there.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.index.lock().entries.keys().cloned().collect()
    }

    /// The exclusive or of the hashes of all tokens: equal where the same tokens are.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut sum = [0; 32];
        for entry in self.index.lock().entries.values() {
            sum.iter_mut().zip(entry.hash).for_each(|(sum, byte)| *sum ^= byte);
        }
        sum
    }

    /// An account's token, if it is there and not too old.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub(crate) fn load(&self, key: &str) -> io::Result<Option<String>> {
        if !KeyKind::Account.owns(key) {
            return Ok(None);
        }
        let path = self.path(key);
        let too_old = |age: Duration| self.ttl.is_some_and(|ttl| age > ttl);
        match fs::metadata(&path).and_then(|facts| facts.modified()) {
            Ok(modified) if too_old(SystemTime::now().duration_since(modified).unwrap_or_default()) => {
                self.forget(key)?;
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let token = read(&path)?;
        self.note(key, &token);
        Ok(Some(token))
    }

    /// Keeps an account's token, which was verified. False when the very same was there.
    ///
    /// # Errors
    /// It cannot be written, or there is no room.
    pub(crate) fn save(&self, key: &str, token: &str) -> io::Result<bool> {
        assert!(KeyKind::Account.owns(key), "only tokens of accounts are kept, and this was checked");
        let (hash, victim) = {
            let index = self.index.lock();
            let hash: [u8; 32] = Sha256::digest(token).into();
            if index.entries.get(key).is_some_and(|entry| entry.hash == hash) {
                return Ok(false);
            }
            let is_full = !index.entries.contains_key(key) && index.entries.len() >= self.limit;
            if is_full && !self.evicts {
                return Err(io::Error::other("store is full"));
            }
            let oldest = index.entries.iter().min_by_key(|(_, entry)| entry.used);
            (hash, oldest.map(|(key, _)| key.clone()).filter(|_| is_full))
        };
        if let Some(victim) = victim {
            self.forget(&victim)?;
        }
        let path = self.path(key);
        let beside = path.with_extension("tmp");
        let mut file = fs::File::create(&beside)?;
        file.write_all(token.as_bytes())?;
        file.sync_all()?;
        drop(file);
        fs::rename(&beside, &path)?;
        fs::File::open(&self.folder)?.sync_all()?;
        self.index.lock().insert(key, hash);
        Ok(true)
    }

    /// Removes an account's token as the configuration wants it.
    ///
    /// # Errors
    /// It is not there, or stays.
    pub(crate) fn remove(&self, key: &str) -> io::Result<()> {
        if !KeyKind::Account.owns(key) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = self.path(key);
        match self.removal {
            Removal::Refused => return Err(io::ErrorKind::PermissionDenied.into()),
            Removal::Renamed => fs::rename(&path, path.with_extension("jwt.deleted"))?,
            Removal::Deleted => fs::remove_file(&path)?,
        }
        self.index.lock().entries.remove(key);
        fs::File::open(&self.folder)?.sync_all()
    }

    pub(crate) fn removal(&self) -> Removal {
        self.removal
    }

    /// Keeps a token unless one that was issued later is there. False when nothing changed.
    ///
    /// # Errors
    /// As [`Directory::save`].
    pub(crate) fn save_if_newer(&self, key: &str, token: &str) -> io::Result<bool> {
        let issued = |token: &str| token::decode::<Account>(token).map(|claims| claims.data.issued_at);
        if let (Some(known), Ok(new)) = (self.load(key)?, issued(token))
            && issued(&known).is_ok_and(|known| known > new)
        {
            return Ok(false);
        }
        self.save(key, token)
    }

    fn forget(&self, key: &str) -> io::Result<()> {
        self.index.lock().entries.remove(key);
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn note(&self, key: &str, token: &str) {
        self.index.lock().insert(key, Sha256::digest(token).into());
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(key).with_extension(ENDING)
    }
}

impl Index {
    fn insert(&mut self, key: &str, hash: [u8; 32]) {
        self.used += 1;
        self.entries.insert(key.to_owned(), Indexed { hash, used: self.used });
    }
}

/// A file that is not larger than a token may be.
fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > TOKEN_BYTES_MAX as u64 {
        return Err(io::Error::other("the file is larger than any token"));
    }
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nkeys::{KeyPair, KeyPairType};

    fn key(number: u8) -> String {
        KeyPair::new_from_raw(KeyPairType::Account, [number; 32]).expect("a key").public_key()
    }

    fn directory(name: &str, removal: Removal, limit: Option<u64>, evicts: bool) -> Directory {
        let folder = std::env::temp_dir().join(format!("sonata-accounts-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        reopen(&folder, removal, limit, evicts)
    }

    fn reopen(folder: &Path, removal: Removal, limit: Option<u64>, evicts: bool) -> Directory {
        let options = DirectoryResolver {
            directory: folder.to_owned(),
            removal,
            limit,
            interval: Duration::from_secs(60),
            ttl: None,
            timeout: Duration::from_secs(1),
        };
        Directory::open(&options, evicts).expect("a directory")
    }

    #[test]
    fn tokens_are_kept_and_found_again() {
        let directory = directory("kept", Removal::Renamed, Some(2), false);
        let (one, two, three) = (key(1), key(2), key(3));
        assert_eq!(directory.hash(), [0; 32]);
        assert!(directory.save(&one, "a").is_ok_and(|changed| changed));
        assert!(directory.save(&one, "a").is_ok_and(|changed| !changed));
        assert!(directory.save(&two, "b").is_ok_and(|changed| changed));
        assert!(directory.save(&three, "c").is_err(), "full");
        assert!(directory.save(&one, "d").is_ok_and(|changed| changed), "one that is there may change");
        assert_eq!(directory.load(&one).ok().flatten().as_deref(), Some("d"));
        for name in ["", "..", "../../etc/passwd", &three, &one[..55]] {
            assert_eq!(directory.load(name).ok().flatten(), None, "{name}");
        }
        let again = reopen(directory.folder(), Removal::Renamed, Some(2), false);
        assert_eq!((again.hash(), again.keys()), (directory.hash(), directory.keys()));
        assert!(again.remove(&one).is_ok() && again.remove(&one).is_err());
        assert!(again.folder().join(format!("{one}.jwt.deleted")).exists());
        let _ = fs::remove_dir_all(directory.folder());
    }

    #[test]
    fn a_cache_makes_room() {
        let directory = directory("cache", Removal::Deleted, Some(2), true);
        let (one, two, three) = (key(1), key(2), key(3));
        for (key, token) in [(&one, "a"), (&two, "b")] {
            assert!(directory.save(key, token).is_ok());
        }
        assert!(directory.load(&one).is_ok());
        assert!(directory.save(&three, "c").is_ok());
        assert_eq!(directory.load(&two).ok().flatten(), None, "the least recently used");
        assert_eq!(directory.keys().len(), 2);
        let _ = fs::remove_dir_all(directory.folder());
    }

    #[test]
    fn nothing_is_removed_where_that_is_not_allowed() {
        let directory = directory("refused", Removal::Refused, None, false);
        assert!(directory.save(&key(1), "a").is_ok());
        assert!(directory.remove(&key(1)).is_err());
        assert!(directory.load(&key(1)).is_ok_and(|token| token.is_some()));
        let _ = fs::remove_dir_all(directory.folder());
    }
}
