//! The world as the node sees it: subscriptions, interest, stores.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::RwLock;
use sonata_broker::account::Account as BrokerAccount;
use sonata_broker::shared::Level;
use sonata_broker::subscription::Subscription;
use sonata_jetstream::api::error::{ApiError, ErrorCode};
use sonata_jetstream::config::{Compression, PersistMode, Storage, StreamConfig};
use sonata_jetstream::node::{RestoreTask, SnapshotTask, World};
use sonata_jetstream::outgoing::{Haste, Interest, Log, Refused};
use sonata_jetstream::stream::{Commit, Ears, Header, Stream, Watched};
use sonata_journal::{Journal, Position};
use sonata_store::{Options, Store};

use super::JetStream;
use super::service::StreamService;
use super::turns::Turns;

/// The folder that holds one folder per stream.
pub(super) const STREAMS: &str = "streams";
/// Where streams go that are to be removed.
pub(super) const DELETED: &str = "deleted";

/// An account's subscriptions.
pub(super) struct AccountInterest(pub(super) Arc<BrokerAccount>);

impl Interest for AccountInterest {
    fn has_interest(&self, subject: &[u8]) -> bool {
        self.0.interest.has_interest(subject)
    }

    fn has_group_interest(&self, subject: &[u8], group: &[u8]) -> bool {
        self.0.interest.has_group_interest(subject, group)
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct ServerWorld {
    jetstream: OnceLock<Weak<JetStream>>,
    accounts: RwLock<HashMap<u32, Arc<BrokerAccount>>>,
}

impl ServerWorld {
    pub(super) fn attach(&self, jetstream: &Arc<JetStream>) {
        let _ = self.jetstream.set(Arc::downgrade(jetstream));
    }

    pub(super) fn note(&self, id: u32, account: Arc<BrokerAccount>) {
        self.accounts.write().insert(id, account);
    }

    fn jetstream(&self) -> Option<Arc<JetStream>> {
        self.jetstream.get().and_then(Weak::upgrade)
    }

    fn account(&self, id: u32) -> Option<Arc<BrokerAccount>> {
        self.accounts.read().get(&id).cloned()
    }
}

impl World for ServerWorld {
    fn begin(&self, stream: &Arc<Stream>) {
        if let Some(jetstream) = self.jetstream()
            && let Some(home) = jetstream.home(stream.account)
        {
            jetstream.register(&home, stream);
        }
    }

    fn subscribe(&self, account: u32, subject: &str, lane: u64) {
        let (Some(jetstream), Some(account)) = (self.jetstream(), self.account(account)) else { return };
        let Some(handle) = jetstream.handle(lane) else { return };
        let service = Arc::new(StreamService { jetstream: jetstream.itself.clone(), handle });
        let subscription = Arc::new(Subscription::of_service(
            jetstream.connection.clone(),
            subject.as_bytes(),
            service,
            lane,
        ));
        jetstream.subscriptions.lock().entry(lane).or_default().push(subscription.clone());
        jetstream.shared.subscribe(&account, subscription);
    }

    fn unsubscribe(&self, account: u32, subject: &str, lane: u64) {
        let (Some(jetstream), Some(account)) = (self.jetstream(), self.account(account)) else { return };
        let removed = {
            let mut all = jetstream.subscriptions.lock();
            let Some(own) = all.get_mut(&lane) else { return };
            let at = own.iter().position(|subscription| subscription.subject() == subject.as_bytes());
            let removed = at.map(|at| own.swap_remove(at));
            if own.is_empty() {
                all.remove(&lane);
            }
            removed
        };
        if let Some(subscription) = removed {
            jetstream.shared.unsubscribe(&account, &subscription);
        }
    }

    fn create_store(&self, header: &Header) -> Result<(Store, Commit), ApiError> {
        let jetstream = self.jetstream().ok_or(ErrorCode::NotEnabled)?;
        let mut store = match header.config.storage {
            Storage::Memory => Store::memory(header.lane),
            Storage::File => {
                let folder = folder_of(&header.config.name, header.lane);
                Store::create(
                    jetstream.disk.clone(),
                    &folder,
                    jetstream.store_options(&header.config, header.lane),
                )
                .map_err(|error| ErrorCode::StreamCreate.with(error))?
            }
        };
        if header.config.first_seq > 1 {
            store.advance(header.config.first_seq - 1);
        }
        if header.config.storage == Storage::File {
            let mut state = Vec::new();
            header.save(&mut state);
            let failed = |error| ErrorCode::StreamCreate.with(error);
            while let Some(work) = store.work() {
                store.finish(work.run()).map_err(failed)?;
            }
            if let Some(work) = store.checkpoint(0, state) {
                store.finish(work.run()).map_err(failed)?;
            }
        }
        Ok((store, jetstream.commit_of(&header.config)))
    }

    fn delete_store(&self, stream: &Stream) -> Result<(), ApiError> {
        let jetstream = self.jetstream().ok_or(ErrorCode::NotEnabled)?;
        let config = stream.lock().config().clone();
        if config.storage == Storage::File {
            jetstream.bury(&config.name, stream.lane).map_err(|error| ErrorCode::StreamDelete.with(error))?;
            jetstream.journal.forget(stream.lane);
        }
        jetstream.lanes.write().remove(&stream.lane);
        Ok(())
    }

    fn wake(&self, stream: &Arc<Stream>) {
        if let Some(jetstream) = self.jetstream()
            && stream.ask_turn()
            && let Some(handle) = jetstream.handle(stream.lane)
        {
            jetstream.turns.push(handle);
        }
    }

    fn watch(&self, stream: &Arc<Stream>, watched: Watched) {
        let Some(jetstream) = self.jetstream() else { return };
        let Some(home) = jetstream.home(stream.account) else { return };
        jetstream.watch(stream, &home, watched);
        // Whoever listened before the watch is noticed now.
        if stream.ask_review() {
            self.wake(stream);
        }
    }

    fn listen(&self, stream: &Arc<Stream>, ears: Ears) {
        let Some(jetstream) = self.jetstream() else { return };
        if let Some(home) = jetstream.home(stream.account) {
            jetstream.listen_for_feeds(stream, &home, ears);
        }
    }

    fn snapshot(&self, task: SnapshotTask) -> Result<(), ApiError> {
        self.jetstream().ok_or(ErrorCode::NotEnabled)?.send_snapshot(task)
    }

    fn restore(&self, task: RestoreTask) -> Result<(), ApiError> {
        self.jetstream().ok_or(ErrorCode::NotEnabled)?.take_restore(task)
    }

    fn random(&self) -> u64 {
        rand::random()
    }
}

/// The journal as streams see it.
struct JournalLog {
    journal: Arc<Journal>,
    turns: Arc<Turns>,
}

impl Log for JournalLog {
    fn append(&self, lane: u64, record: &[u8], haste: Haste) -> Result<u64, Refused> {
        match self.journal.append(lane, &[record]) {
            Ok(Position(position)) => {
                self.turns.note_appended(haste);
                Ok(position)
            }
            Err(sonata_journal::Refused::Full | sonata_journal::Refused::Busy) => Err(Refused::Full),
            Err(sonata_journal::Refused::Failed(cause)) => Err(Refused::Failed(cause.to_string())),
            Err(sonata_journal::Refused::Closed) => Err(Refused::Closed),
            Err(refused @ sonata_journal::Refused::TooLarge) => Err(Refused::Failed(refused.to_string())),
        }
    }
}

impl JetStream {
    /// How a stream's records become durable.
    pub(super) fn commit_of(&self, config: &StreamConfig) -> Commit {
        let log = || Arc::new(JournalLog { journal: self.journal.clone(), turns: self.turns.clone() });
        match (config.storage, config.persist_mode) {
            (Storage::Memory, _) => Commit::Memory,
            (Storage::File, PersistMode::Async) => Commit::Eager(log()),
            (Storage::File, PersistMode::Default) => Commit::Logged(log()),
        }
    }

    /// How a stream's files are written.
    pub(super) fn store_options(&self, config: &StreamConfig, lane: u64) -> Options {
        Options {
            id: lane,
            compression: config.compression == Compression::S2,
            // What was committed is applied whatever the disk does; publishers are held off instead.
            unwritten_bytes_max: u64::MAX,
            seal: self.seal.clone(),
            ..Options::default()
        }
    }

    /// Moves a stream's folder to where it is removed from. Durable when this returns.
    pub(super) fn bury(&self, name: &str, lane: u64) -> std::io::Result<()> {
        let from = folder_of(name, lane);
        self.disk.create_folder(DELETED)?;
        self.disk.rename(&from, &format!("{DELETED}/{lane:016x}"))?;
        self.disk.sync_folder(STREAMS)?;
        self.disk.sync_folder(DELETED)
    }

    /// Removes the folders of streams that were deleted.
    pub(super) fn remove_buried(&self) {
        let entries = self.disk.list(DELETED).unwrap_or_default();
        for entry in entries {
            if let Err(error) = self.disk.remove_folder(&format!("{DELETED}/{}", entry.name)) {
                self.log(
                    Level::Warning,
                    format_args!("Could not remove deleted stream {}: {error}", entry.name),
                );
            }
        }
    }
}

/// The folder of a stream: readable, and never that of another one with its name.
pub(super) fn folder_of(name: &str, lane: u64) -> String {
    let readable: String = name
        .chars()
        .map(
            |letter| if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_') { letter } else { '_' },
        )
        .take(64)
        .collect();
    format!("{STREAMS}/{readable}.{lane:016x}")
}
