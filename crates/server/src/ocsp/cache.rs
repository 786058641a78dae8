//! What authorities have said about clients, kept in memory and, now and then, in a file.
//!
//! The file is the original's (`cache.json`): an object of entries by the fingerprint of the certificate, responses as
//! Snappy streams in base64, so that either server finds what the other has left.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sonata_broker::shared::{Level, Log as _};
use sonata_conf::options::OcspCache;
use sonata_ocsp::response::{RESPONSE_BYTES_MAX, Response, Status};

use super::{now_s, replace_file, shown};
use crate::logger::Logger;
use crate::system::snappy;

const FILE: &str = "cache.json";

/// Certificates that are remembered, and bytes of the answers about them. Beyond that the oldest is forgotten.
const ITEMS_MAX: usize = 16 * 1024;
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A longer file is not read.
const FILE_BYTES_MAX: u64 = 4 * BYTES_MAX as u64;

/// The time that stands for none.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// See the module.
pub(crate) struct ResponseCache {
    options: OcspCache,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By SHA-256 of the certificate, in base64.
    items: BTreeMap<String, Item>,
    /// Of all answers.
    bytes: usize,
    /// Something is not in the file yet.
    is_dirty: bool,
    hits: u64,
    misses: u64,
}

struct Item {
    subject: String,
    cached_at_s: i64,
    status: Status,
    next_update_s: Option<i64>,
    bytes: Arc<[u8]>,
}

/// What a cache holds and did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheStats {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) responses: u64,
    pub(crate) revoked: u64,
    pub(crate) good: u64,
    pub(crate) unknown: u64,
}

impl ResponseCache {
    /// With what the file holds, if there is one.
    pub(super) fn load(options: OcspCache, logger: &Logger) -> Self {
        let cache = Self { options, state: Mutex::default() };
        let items = cache.read().unwrap_or_else(|error| {
            logger.write(Level::Warning, format_args!("Unable to load OCSP peer cache: {error}"));
            BTreeMap::new()
        });
        let mut state = cache.state.lock();
        state.bytes = items.values().map(|item| item.bytes.len()).sum();
        state.items = items;
        state.make_room(0);
        drop(state);
        cache
    }

    pub(super) fn options(&self) -> &OcspCache {
        &self.options
    }

    /// The answer about a certificate, as it came.
    pub(super) fn get(&self, fingerprint: &str) -> Option<Arc<[u8]>> {
        let mut state = self.state.lock();
        let bytes = state.items.get(fingerprint).map(|item| item.bytes.clone());
        *(if bytes.is_some() { &mut state.hits } else { &mut state.misses }) += 1;
        bytes
    }

    pub(super) fn put(&self, fingerprint: &str, subject: &str, response: &Response, bytes: Vec<u8>) {
        let item = Item {
            subject: subject.into(),
            cached_at_s: now_s(),
            status: response.status,
            next_update_s: response.next_update_s,
            bytes: bytes.into(),
        };
        let mut state = self.state.lock();
        state.remove(fingerprint);
        state.make_room(item.bytes.len());
        state.bytes += item.bytes.len();
        state.items.insert(fingerprint.into(), item);
        state.is_dirty = true;
    }

    /// What was found there is of no use: it is forgotten, unless it says revoked and that is to be remembered.
    pub(super) fn reject(&self, fingerprint: &str) {
        let mut state = self.state.lock();
        let Some(item) = state.items.get(fingerprint) else { return };
        let is_preserved = item.status == Status::Revoked && self.options.preserve_revoked;
        state.hits = state.hits.saturating_sub(1);
        state.misses += 1;
        if !is_preserved {
            state.remove(fingerprint);
            state.is_dirty = true;
        }
    }

    pub(super) fn stats(&self) -> CacheStats {
        let state = self.state.lock();
        let count = |status| state.items.values().filter(|item| item.status == status).count() as u64;
        CacheStats {
            hits: state.hits,
            misses: state.misses,
            responses: state.items.len() as u64,
            revoked: count(Status::Revoked),
            good: count(Status::Good),
            unknown: count(Status::Unknown),
        }
    }

    /// Writes the file if something has changed. Blocks.
    pub(super) fn save(&self, logger: &Logger) {
        let mut state = self.state.lock();
        if !std::mem::take(&mut state.is_dirty) {
            return;
        }
        let saved: BTreeMap<&str, SavedItem> =
            state.items.iter().map(|(fingerprint, item)| (fingerprint.as_str(), item.into())).collect();
        let text = serde_json::to_vec_pretty(&saved);
        drop(state);
        let written = text.map_err(std::io::Error::other).and_then(|text| {
            std::fs::create_dir_all(&self.options.local_store)?;
            replace_file(&self.file(), &text)
        });
        if let Err(error) = written {
            self.state.lock().is_dirty = true;
            logger.write(Level::Error, format_args!("Unable to save OCSP peer cache: {error}"));
        }
    }

    fn file(&self) -> PathBuf {
        self.options.local_store.join(FILE)
    }

    fn read(&self) -> std::io::Result<BTreeMap<String, Item>> {
        let file = match std::fs::File::open(self.file()) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(std::io::Error::other("the file is too long"));
        }
        let saved: BTreeMap<String, SavedItem> = serde_json::from_slice(&text)?;
        // An answer is verified whenever it is used; what cannot even be unpacked is as good as absent.
        Ok(saved
            .into_iter()
            .filter_map(|(fingerprint, saved)| Some((fingerprint, saved.unpack()?)))
            .collect())
    }
}

impl State {
    fn remove(&mut self, fingerprint: &str) {
        if let Some(item) = self.items.remove(fingerprint) {
            self.bytes -= item.bytes.len();
        }
    }

    /// Forgets the oldest until one more of so many bytes fits.
    fn make_room(&mut self, bytes: usize) {
        while self.items.len() >= ITEMS_MAX || self.bytes + bytes > BYTES_MAX {
            let oldest = self.items.iter().min_by_key(|(_, item)| item.cached_at_s);
            let Some(oldest) = oldest.map(|(fingerprint, _)| fingerprint.clone()) else { return };
            self.remove(&oldest);
        }
    }
}

/// An entry of the file.
#[derive(Serialize, Deserialize)]
struct SavedItem {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    subject: String,
    cached_at: String,
    resp_status: String,
    #[serde(default)]
    resp_expires: String,
    resp: String,
}

impl From<&Item> for SavedItem {
    fn from(item: &Item) -> Self {
        Self {
            subject: item.subject.clone(),
            cached_at: shown(item.cached_at_s).to_string(),
            resp_status: item.status.to_string(),
            resp_expires: item.next_update_s.map_or(NEVER.into(), |at_s| shown(at_s).to_string()),
            resp: BASE64.encode(&snappy(&item.bytes)),
        }
    }
}

impl SavedItem {
    fn unpack(self) -> Option<Item> {
        let packed = BASE64.decode(self.resp.as_bytes()).ok()?;
        let mut bytes = Vec::new();
        let unpacked = minlz::Reader::new(&packed[..]).take(RESPONSE_BYTES_MAX as u64 + 1);
        { unpacked }.read_to_end(&mut bytes).ok()?;
        let seconds =
            |text: &str| text.parse::<jiff::Timestamp>().ok().map(|timestamp| timestamp.as_second());
        (bytes.len() <= RESPONSE_BYTES_MAX).then(|| Item {
            subject: self.subject,
            cached_at_s: seconds(&self.cached_at).unwrap_or_default(),
            status: match self.resp_status.as_str() {
                "good" => Status::Good,
                "revoked" => Status::Revoked,
                _ => Status::Unknown,
            },
            next_update_s: seconds(&self.resp_expires).filter(|_| self.resp_expires != NEVER),
            bytes: bytes.into(),
        })
    }
}

/// Writes the file again and again.
pub(super) async fn keep_saved(cache: Arc<ResponseCache>, logger: Arc<Logger>) {
    let interval: Duration = cache.options.save_interval;
    loop {
        tokio::time::sleep(interval).await;
        let (cache, logger) = (cache.clone(), logger.clone());
        // One that panicked has said so.
        let _ = tokio::task::spawn_blocking(move || cache.save(&logger)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(at_s: i64, bytes: usize) -> Item {
        let bytes = vec![7; bytes].into();
        Item { subject: "CN=x".into(), cached_at_s: at_s, status: Status::Good, next_update_s: None, bytes }
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many_bytes() {
        let mut state = State::default();
        for (name, at_s) in [("a", 3), ("b", 1), ("c", 2)] {
            state.items.insert(name.into(), item(at_s, BYTES_MAX / 3));
            state.bytes += BYTES_MAX / 3;
        }
        state.make_room(BYTES_MAX / 3);
        assert_eq!(state.items.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(state.bytes, 2 * (BYTES_MAX / 3));
    }

    #[test]
    fn what_the_file_holds_is_what_was_kept() {
        let saved = SavedItem::from(&Item { next_update_s: Some(1_900_000_000), ..item(1_800_000_000, 500) });
        assert_eq!(saved.cached_at, "2027-01-15T08:00:00Z");
        let read = saved.unpack().unwrap();
        assert_eq!((read.bytes.len(), read.next_update_s), (500, Some(1_900_000_000)));
        assert_eq!(SavedItem::from(&item(0, 1)).resp_expires, NEVER);
        let too_long = SavedItem::from(&item(0, RESPONSE_BYTES_MAX + 1));
        assert!(too_long.unpack().is_none());
    }
}
