//! A disk that sees everything that is written to encrypted files, and panics when two different bytes are ever meant
//! for one place under one data key: places are nonces, so that would be the end of both texts' secrecy.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "for tests, of which not every one uses all"
)]

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sonata_disk::seal::{Cipher, HEADER_BYTES, Key, Keys};
use sonata_disk::{Disk, Entry, File, Open};
use sonata_store::Sealing;

pub const CIPHERS: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];

/// Where the wrapped data key is in a head.
const KEY_AT: usize = 32;

/// One secret, and data keys that never repeat within the process.
pub fn sealing(cipher: Cipher, secret: &[u8]) -> Sealing {
    sealing_of(Keys::new(Key::derive(cipher, secret, b"test")))
}

pub fn sealing_of(keys: Keys) -> Sealing {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let random = || {
        let mut key = [0x5a; 32];
        key[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        key
    };
    Sealing { keys: Arc::new(keys), random: Arc::new(random) }
}

/// What was ever written, over all crashes.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<Seen>>);

type Wrapped = [u8; HEADER_BYTES];

#[derive(Debug, Default)]
struct Seen {
    bytes: HashMap<Wrapped, Vec<Option<u8>>>,
    parts: u64,
}

impl Watch {
    pub fn disk(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        Arc::new(WatchedDisk { disk, watch: self.clone() })
    }

    /// How many data keys there were, and writes under them.
    pub fn counts(&self) -> (usize, u64) {
        let seen = self.0.lock().unwrap();
        (seen.bytes.len(), seen.parts)
    }

    fn note(&self, key: Wrapped, offset: u64, bytes: &[u8]) {
        let mut seen = self.0.lock().unwrap();
        seen.parts += 1;
        let known = seen.bytes.entry(key).or_default();
        let start = offset as usize;
        let end = start + bytes.len();
        known.resize(known.len().max(end), None);
        for (at, byte) in bytes.iter().enumerate() {
            let before = known[start + at].replace(*byte);
            assert!(before.is_none_or(|before| before == *byte), "place {} twice under one key", start + at);
        }
    }
}

#[derive(Debug)]
struct WatchedDisk {
    disk: Arc<dyn Disk>,
    watch: Watch,
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn File>,
    watch: Watch,
    key: Mutex<Option<Wrapped>>,
}

impl Disk for WatchedDisk {
    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(name, how)?;
        let mut head = [0; KEY_AT + HEADER_BYTES];
        let key = file.read_at(&mut head, 0).ok().and_then(|()| wrapped(&head));
        Ok(Arc::new(WatchedFile { file, watch: self.watch.clone(), key: Mutex::new(key) }))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        self.disk.list(folder)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        self.disk.create_folder(folder)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        self.disk.remove_folder(folder)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.disk.sync_folder(folder)
    }
}

impl File for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let key = {
            let mut key = self.key.lock().unwrap();
            if offset == 0 {
                *key = wrapped(bytes);
            }
            *key
        };
        // The second copy of a head changes with the master key, and is no ciphertext of the file's own key.
        let copies_head = offset == 2048 && wrapped(bytes).is_some();
        if let Some(key) = key.filter(|_| !copies_head) {
            self.watch.note(key, offset, bytes);
        }
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write_out(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.write_out(offset, length)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

fn wrapped(head: &[u8]) -> Option<Wrapped> {
    let encrypted = head.starts_with(b"SNTA") && head.get(10) == Some(&1);
    if encrypted { head.get(KEY_AT..)?.first_chunk().copied() } else { None }
}
