//! Files: recovery at the start, segments and checkpoints afterwards.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sonata_broker::shared::{Level, Log};
use sonata_conf::options::JetStream as Options;
use sonata_disk::Disk;
use sonata_jetstream::config::Storage;
use sonata_jetstream::node::Node;
use sonata_jetstream::stream::{Commit, Header, Machine, Parts};
use sonata_journal::{Journal, Mode, Position, Writer};
use sonata_store::{Encryption, Finished, Sealing, Store};

use super::homes::Homes;
use super::world::{DELETED, STREAMS};
use super::{Handle, Home, JetStream, sealing};
use crate::clock::Clock;
use crate::logger::Logger;
use crate::server::StartError;

/// The journal's folder.
const JOURNAL: &str = "journal";

/// A stream is saved when its records since the last checkpoint are as long as this.
const UNSAVED_BYTES_MAX: u64 = 64 << 20;

/// The streams that keep the oldest file of the journal are saved when the journal holds as much as this.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;

/// How often there is a look at what is to be done.
const INTERVAL: Duration = Duration::from_millis(50);

/// Rounds between looks at what is kept in memory of files and was not asked for meanwhile: ten seconds.
const COOL_EVERY: u32 = 200;

/// A warning about one stream's files comes no more often than this.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Looks between two at which streams are saved because bytes of erased messages are still on the disk: thirty seconds. Two
/// checkpoints are needed, and what lives beside the messages is moved, so whoever deletes all the time pays for it no more
/// often than this.
const ERASE_EVERY: u32 = 600;

/// Steps towards the journal's next file that are made in one look: 16 MiB.
const PREPARED_AT_ONCE: usize = 32;

/// How often a disk that has refused is tried again.
const RETRY_EVERY: u32 = 10;

/// A stream as of its checkpoint, and then with what the journal has beyond it.
pub(super) struct Recovered {
    pub(super) home: Arc<Home>,
    pub(super) machine: Machine,
}

/// Streams before the journal is open.
pub(super) struct Recovering {
    seal: Option<Sealing>,
    streams: HashMap<u64, Recovered>,
    /// Files that the current key does not protect.
    encryption: Encryption,
    /// The highest position that a checkpoint has.
    after: u64,
    /// What could not be read: folder and cause.
    left_alone: Vec<(String, String)>,
}

impl Recovering {
    /// Opens the stores of all streams. What cannot be read is reported and left alone: nothing is deleted for that.
    pub(super) fn read(
        disk: &Arc<dyn Disk>,
        seal: Option<&Sealing>,
        logger: &Logger,
        homes: &mut Homes<'_>,
        node: &Arc<Node>,
    ) -> Result<Self, StartError> {
        let failed = |error: std::io::Error| StartError::File(STREAMS.into(), error);
        disk.create_folder(STREAMS).map_err(failed)?;
        disk.create_folder(DELETED).map_err(failed)?;
        let mut recovering = Self {
            seal: seal.cloned(),
            streams: HashMap::new(),
            after: 0,
            left_alone: Vec::new(),
            encryption: Encryption::default(),
        };
        for entry in disk.list(STREAMS).map_err(failed)?.into_iter().filter(|entry| entry.folder) {
            let folder = format!("{STREAMS}/{}", entry.name);
            match recovering.read_stream(disk, logger, homes, node, &folder) {
                Ok(()) => {}
                Err(text) => {
                    logger.write(
                        Level::Error,
                        format_args!("Could not recover the stream in {folder}, which is left alone: {text}"),
                    );
                    recovering.left_alone.push((folder, text));
                }
            }
        }
        Ok(recovering)
    }

    fn read_stream(
        &mut self,
        disk: &Arc<dyn Disk>,
        logger: &Logger,
        homes: &mut Homes<'_>,
        node: &Arc<Node>,
        folder: &str,
    ) -> Result<(), String> {
        let lane = folder.rsplit_once('.').and_then(|(_, lane)| u64::from_str_radix(lane, 16).ok());
        let lane = lane.ok_or("its name does not end in a number")?;
        let options = sonata_store::Options {
            id: lane,
            unwritten_bytes_max: u64::MAX,
            seal: self.seal.clone(),
            ..sonata_store::Options::default()
        };
        let opened = Store::open(disk.clone(), folder, options).map_err(|error| error.to_string())?;
        for damage in &opened.damage {
            logger.write(
                Level::Warning,
                format_args!("Damage in {folder}/{}: {} {}", damage.file, damage.what, sequences(damage)),
            );
        }
        self.encryption.previous += opened.encryption.previous;
        self.encryption.plain += opened.encryption.plain;
        let header = Header::load(&opened.state).map_err(|error| error.to_string())?;
        let home = homes.find(&header.account);
        let home = home.ok_or_else(|| format!("account {:?} is not to be found", header.account))?;
        let parts = Parts {
            lane,
            domain: node.settings().domain.clone(),
            account: home.account.name.clone(),
            // Nothing is logged before the journal is open.
            commit: Commit::Memory,
            config: header.config,
            created: header.created,
            store: opened.store,
            interest: home.account.interest.clone(),
            seed: rand::random(),
            usage: home.account.usage.clone(),
        };
        let machine =
            Machine::restore(parts, opened.position, &opened.state).map_err(|error| error.to_string())?;
        self.after = self.after.max(opened.position);
        self.streams.insert(lane, Recovered { home, machine });
        Ok(())
    }

    /// Opens the journal and replays it.
    pub(super) fn replay(
        &mut self,
        disk: &Arc<dyn Disk>,
        options: &Options,
        logger: &Logger,
        clock: Clock,
    ) -> Result<(Arc<Journal>, Writer), StartError> {
        let settings = sonata_journal::Options {
            mode: if options.sync_interval.is_some() { Mode::Interval } else { Mode::Always },
            after: self.after,
            now: monotonic,
            seal: options.encryption.as_ref().map(sealing::of_journal),
            ..sonata_journal::Options::new(rand::random())
        };
        let now = clock.now_unix_ns();
        let streams = &mut self.streams;
        let mut refused = 0_u64;
        let opened = Journal::open(disk.clone(), JOURNAL, settings, &mut |record| {
            if let Some(found) = streams.get_mut(&record.lane) {
                refused += u64::from(found.machine.replay(record.position.0, record.body, now).is_err());
            }
        });
        let (journal, writer, recovered) =
            opened.map_err(|error| StartError::JetStream(error.to_string()))?;
        if refused > 0 {
            logger.write(Level::Error, format_args!("{refused} records of the journal could not be applied"));
        }
        for damage in &recovered.damage {
            logger.write(Level::Warning, format_args!("Damage in the journal: {damage:?}"));
        }
        self.tell_encryption(recovered.previous_key, logger);
        Ok((journal, writer))
    }

    /// Says what would be missed without the previous key, and what is still in the clear.
    fn tell_encryption(&self, journal_previous: u64, logger: &Logger) {
        let previous = self.encryption.previous + journal_previous;
        if previous > 0 {
            logger.write(
                Level::Warning,
                format_args!("{previous} files still need the previous encryption key"),
            );
        }
        if self.encryption.plain > 0 {
            let plain = self.encryption.plain;
            logger.write(Level::Warning, format_args!("{plain} files of streams are not encrypted yet"));
        }
    }

    /// Whether files remain that only another save brings under the current key.
    pub(super) fn is_resave_due(&self) -> bool {
        self.encryption != Encryption::default()
    }

    /// Streams that could not be read: folder and cause.
    pub(super) fn take_left_alone(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.left_alone)
    }

    /// The streams, by account and name.
    pub(super) fn into_streams(self) -> Vec<Recovered> {
        let mut streams: Vec<Recovered> = self.streams.into_values().collect();
        streams.sort_by(|one, two| {
            let key =
                |found: &Recovered| (found.home.account.name.clone(), found.machine.config().name.clone());
            key(one).cmp(&key(two))
        });
        streams
    }
}

/// Nanoseconds since some moment; for measuring.
fn monotonic() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn sequences(damage: &sonata_store::Damage) -> String {
    match &damage.sequences {
        Some(range) => format!("(sequences {} to {})", range.start(), range.end()),
        None => String::new(),
    }
}

impl JetStream {
    /// Writes segments and checkpoints, and frees the journal, until the server stops.
    pub(super) fn run_upkeep(&self) {
        let mut round = 0_u32;
        let mut last_sync = self.clock.now_ns();
        self.remove_buried();
        if self.resave {
            self.resave_all();
        }
        while !self.is_stopping() {
            std::thread::park_timeout(INTERVAL);
            round = round.wrapping_add(1);
            if self.failure.lock().is_some() && round.is_multiple_of(RETRY_EVERY) {
                self.journal.retry();
            }
            if let Some(interval) = self.options.sync_interval
                && self.clock.now_ns() - last_sync > interval.as_nanos() as u64
            {
                last_sync = self.clock.now_ns();
                // A failure is reported to the streams by the journal itself.
                let _ = self.journal.sync();
            }
            let pinned = self.journal.pinned().filter(|pinned| pinned.held_bytes > JOURNAL_BYTES_MAX);
            let pinned: Vec<u64> =
                pinned.map(|pinned| pinned.lanes.iter().map(|lane| lane.lane).collect()).unwrap_or_default();
            for lane in &pinned {
                if self.handle(*lane).is_none() {
                    self.journal.forget(*lane);
                }
            }
            let (cools, erases) = (round.is_multiple_of(COOL_EVERY), round.is_multiple_of(ERASE_EVERY));
            for handle in self.handles() {
                self.work(&handle, || self.is_stopping());
                self.report_damage(&handle);
                let due = {
                    let mut machine = handle.stream.lock();
                    if cools {
                        machine.store().cool();
                    }
                    machine.unsaved_bytes() > UNSAVED_BYTES_MAX || erases && machine.store().erasure_waits()
                };
                if due || pinned.contains(&handle.stream.lane) {
                    self.checkpoint(&handle);
                }
            }
            self.prepare_journal();
            if round.is_multiple_of(20) {
                self.remove_buried();
            }
        }
    }

    /// Makes the journal's next file ready, a part of it each time: what streams have to write does not wait for long.
    fn prepare_journal(&self) {
        for _ in 0..PREPARED_AT_ONCE {
            if self.is_stopping() || !self.journal.prepare() {
                return;
            }
        }
    }

    /// Replaces both checkpoints of every stream, and what they name of growing segments: nothing of them is left in the
    /// clear or under the previous key then. A stop waits for it.
    fn resave_all(&self) {
        for handle in self.handles() {
            for _ in 0..2 {
                self.work(&handle, || false);
                self.checkpoint(&handle);
            }
            self.work(&handle, || false);
        }
    }

    /// Background work of a stream's store, in portions, until there is no more or somebody is in a hurry.
    fn work(&self, handle: &Arc<Handle>, hurried: impl Fn() -> bool) {
        loop {
            let work = handle.stream.lock().store_work();
            let Some(work) = work else { return };
            let done = work.run();
            let finished = handle.stream.lock().finish_work(done);
            self.report_damage(handle);
            if let Err(error) = finished {
                self.warn_of(handle, "write", &error);
                return;
            }
            if hurried() {
                return;
            }
        }
    }

    fn checkpoint(&self, handle: &Arc<Handle>) {
        if handle.stream.is_deleted() || handle.stream.lock().config().storage == Storage::Memory {
            return;
        }
        loop {
            let work = handle.stream.lock().begin_checkpoint(&handle.home.account.name);
            let Some(work) = work else { return };
            let done = work.run();
            let finished = handle.stream.lock().finish_work(done);
            match finished {
                // Something had to be moved first.
                Ok(Finished::Portion) => {}
                Ok(Finished::Checkpoint { release, .. }) => {
                    self.journal.release(handle.stream.lane, Position(release));
                    return;
                }
                Err(error) => {
                    self.warn_of(handle, "save", &error);
                    return;
                }
            }
        }
    }

    /// Says what does not work with a stream's files, with its cause, now and then: it is tried again all the time.
    fn warn_of(&self, handle: &Arc<Handle>, doing: &str, error: &sonata_store::Error) {
        let now = self.clock.now_ns();
        let mut warned = self.warned.lock();
        if warned.get(&handle.stream.lane).is_some_and(|at| now - at < WARN_EVERY.as_nanos() as u64) {
            return;
        }
        warned.insert(handle.stream.lane, now);
        drop(warned);
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        self.log(
            Level::Warning,
            format_args!(
                "Could not {doing} stream '{} > {}': {error}{cause}",
                handle.home.account.name, handle.stream.name
            ),
        );
    }

    /// Says what of a stream was found to be damaged.
    fn report_damage(&self, handle: &Arc<Handle>) {
        let damage = handle.stream.lock().store().take_damage();
        for damage in damage {
            self.log(
                Level::Warning,
                format_args!(
                    "Damage in stream '{} > {}', {}: {} {}",
                    handle.home.account.name,
                    handle.stream.name,
                    damage.file,
                    damage.what,
                    sequences(&damage)
                ),
            );
        }
    }

    /// Saves every stream, so that the next start has little to replay.
    pub(super) fn checkpoint_all(&self) {
        for handle in self.handles() {
            self.work(&handle, || self.is_stopping());
            let erasure_waits = || handle.stream.lock().store().erasure_waits();
            if erasure_waits() || handle.stream.lock().unsaved_bytes() > 0 {
                self.checkpoint(&handle);
            }
            // What was erased goes with the checkpoint after the one that moves what lives beside it.
            if erasure_waits() {
                self.checkpoint(&handle);
                self.work(&handle, || self.is_stopping());
            }
        }
    }
}
