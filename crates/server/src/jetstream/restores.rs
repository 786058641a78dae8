//! Making a stream from the chunks that a client sends.
//!
//! The stream grows in a folder of its own, beside those of the streams: if anything goes wrong, or the server is killed,
//! the folder is removed and nothing was there. When it is complete and durable the folder is renamed, which is the moment
//! the stream exists, and opened as after a restart.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use sonata_broker::service::{Inbound, Outbox, Service};
use sonata_broker::shared::Level;
use sonata_disk::Disk;
use sonata_jetstream::api::error::{ApiError, ErrorCode};
use sonata_jetstream::archive::{self, Entry};
use sonata_jetstream::config::Storage;
use sonata_jetstream::node::RestoreTask;
use sonata_jetstream::outgoing::{Outgoing, Publish};
use sonata_jetstream::stream::{Commit, Machine, Parts, Restoring};
use sonata_store::{Finished, Store};

use super::transfers::{Listening, PATIENCE, Transfer};
use super::world::{STREAMS, folder_of};
use super::{Home, JetStream};

/// The folder where streams grow that are being restored.
const RESTORING: &str = "restoring";

/// Bytes that wait at most. A client that waits for acknowledgements has one chunk there; one that does not is refused
/// beyond this.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Bytes behind the end of the archive that are passed over.
const TRAILING_BYTES_MAX: u64 = 1 << 20;

/// The store writes down what it has after so many bytes of messages.
const WORK_BYTES: usize = 1 << 20;

/// Chunks that wait to be read.
#[derive(Default)]
struct Inlet {
    state: Mutex<InletState>,
    ready: Condvar,
}

#[derive(Default)]
struct InletState {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    overrun: bool,
    stopped: bool,
}

#[derive(Default)]
struct Chunk {
    reply: Box<[u8]>,
    bytes: Box<[u8]>,
}

/// Why there is no chunk.
enum Dry {
    Stalled,
    Overrun,
    Stopped,
}

impl Service for Inlet {
    fn receive(&self, message: &Inbound<'_>, _outbox: &mut Outbox) -> bool {
        let mut state = self.state.lock();
        if state.bytes + message.payload.len() > WAITING_BYTES_MAX {
            state.overrun = true;
        } else {
            state.bytes += message.payload.len();
            state.chunks.push_back(Chunk {
                reply: message.reply.unwrap_or_default().into(),
                bytes: message.payload.into(),
            });
        }
        drop(state);
        self.ready.notify_one();
        true
    }

    fn settle(&self, _outbox: &mut Outbox) {}
}

impl Transfer for Inlet {
    fn stop(&self) {
        self.state.lock().stopped = true;
        self.ready.notify_one();
    }
}

impl Inlet {
    fn next(&self) -> Result<Chunk, Dry> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return Err(Dry::Stopped);
            }
            if state.overrun {
                return Err(Dry::Overrun);
            }
            if let Some(chunk) = state.chunks.pop_front() {
                state.bytes -= chunk.bytes.len();
                return Ok(chunk);
            }
            if self.ready.wait_until(&mut state, deadline).timed_out() && state.chunks.is_empty() {
                return Err(Dry::Stalled);
            }
        }
    }
}

/// The chunks as one stream of bytes. A chunk is acknowledged when all of it was read.
struct Chunks<'a> {
    jetstream: &'a JetStream,
    home: &'a Home,
    inlet: &'a Inlet,
    chunk: Chunk,
    /// Bytes of the chunk that were read.
    at: usize,
    total: u64,
    /// The reply of the empty message that ends the transfer.
    end: Option<Box<[u8]>>,
    /// Nobody is there to be told anything.
    is_deserted: bool,
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.end.is_some() {
            return Ok(0);
        }
        if self.at == self.chunk.bytes.len() {
            self.acknowledge();
            self.chunk = self.next()?;
            self.at = 0;
            if self.chunk.bytes.is_empty() {
                self.end = Some(std::mem::take(&mut self.chunk.reply));
                return Ok(0);
            }
            self.total += self.chunk.bytes.len() as u64;
        }
        let rest = &self.chunk.bytes[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

impl Chunks<'_> {
    fn next(&mut self) -> io::Result<Chunk> {
        let chunk = self.inlet.next().map_err(|dry| {
            self.is_deserted = !matches!(dry, Dry::Overrun);
            io::Error::other(match dry {
                Dry::Stalled => "it is stalled",
                Dry::Overrun => "chunks came without waiting for their acknowledgements",
                Dry::Stopped => "server is shutting down",
            })
        })?;
        if chunk.reply.is_empty() {
            self.is_deserted = true;
            return Err(io::Error::other("a reply subject is required for each chunk"));
        }
        Ok(chunk)
    }

    fn acknowledge(&mut self) {
        let reply = std::mem::take(&mut self.chunk.reply);
        if !reply.is_empty() {
            self.jetstream.post_for(self.home, |out| out.publish(Outgoing::plain(&reply, b"")));
        }
    }

    /// Whom to tell how it ended; waits for the next message when the last one was answered.
    fn take_reply(&mut self) -> Box<[u8]> {
        match self.end.take() {
            Some(reply) => reply,
            None if !self.chunk.reply.is_empty() => std::mem::take(&mut self.chunk.reply),
            None if self.is_deserted => Box::default(),
            None => self.inlet.next().map(|chunk| chunk.reply).unwrap_or_default(),
        }
    }
}

/// Removes what restores have left that were under way when the server ended.
pub(super) fn remove_unfinished(disk: &Arc<dyn Disk>) -> io::Result<()> {
    disk.remove_folder(RESTORING)
}

/// A folder that goes unless it is kept.
struct Staging<'a> {
    jetstream: &'a JetStream,
    folder: String,
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.jetstream.disk.remove_folder(&self.folder) {
            self.jetstream.log(Level::Warning, format_args!("Could not remove {}: {error}", self.folder));
        }
    }
}

impl JetStream {
    /// Takes a stream's chunks, on a thread of its own.
    pub(super) fn take_restore(self: &Arc<Self>, mut task: RestoreTask) -> Result<(), ApiError> {
        let home = self.home(task.account).ok_or(ErrorCode::NotEnabledForAccount)?;
        let inlet = Arc::new(Inlet::default());
        let own = inlet.clone();
        self.begin_transfer(inlet, move |jetstream| {
            let name = format!("'{} > {}'", home.account.name, task.header.config.name);
            jetstream.log(Level::Info, format_args!("Starting restore for stream {name}"));
            let subject = format!("$JS.SNAPSHOT.RESTORE.{}.{}", task.header.config.name, task.id);
            let listening = jetstream.listen(&home, &subject, own.clone());
            let now = jetstream.clock.now_unix_ns();
            jetstream.post_for(&home, |out| jetstream.node.begin_restore(&mut task, &subject, now, out));
            jetstream.run_restore(&home, &mut task, &own, &name, listening);
        })
        .map_err(|cause| ErrorCode::StreamRestore.with(cause))
    }

    fn run_restore(
        self: &Arc<Self>,
        home: &Arc<Home>,
        task: &mut RestoreTask,
        inlet: &Inlet,
        name: &str,
        listening: Listening,
    ) {
        let began = Instant::now();
        let mut chunks = Chunks {
            jetstream: self,
            home,
            inlet,
            chunk: Chunk::default(),
            at: 0,
            total: 0,
            end: None,
            is_deserted: false,
        };
        let made = self.make_restored(home, task, &mut chunks);
        let reply = chunks.take_reply();
        drop(listening);
        let (bytes, took) = (chunks.total, began.elapsed());
        let now = self.clock.now_unix_ns();
        self.post_for(home, |out| {
            let ended = made.and_then(|machine| self.node.adopt_restored(task, machine, now, out));
            match &ended {
                Ok(_) => self.log(
                    Level::Info,
                    format_args!("Completed restore of {bytes} bytes for stream {name} in {took:?}"),
                ),
                Err(error) => self.log(
                    Level::Warning,
                    format_args!("Restore failed after {bytes} bytes for stream {name} in {took:?}: {error}"),
                ),
            }
            self.node.end_restore(task, bytes, ended, &reply, now, out);
        });
        self.kick();
    }

    /// Reads all chunks and makes them durable. Nothing is left on the disk when it fails.
    fn make_restored(
        &self,
        home: &Home,
        task: &RestoreTask,
        chunks: &mut Chunks<'_>,
    ) -> Result<Machine, ApiError> {
        let (config, lane) = (&task.header.config, task.header.lane);
        let failed = |error: &dyn std::fmt::Display| ErrorCode::StreamRestore.with(error);
        let staging = Staging { jetstream: self, folder: format!("{RESTORING}/{lane:016x}") };
        let store = match config.storage {
            Storage::Memory => Store::memory(lane),
            Storage::File => {
                Store::create(self.disk.clone(), &staging.folder, self.store_options(config, lane))
                    .map_err(|error| failed(&error))?
            }
        };
        let machine = Machine::new(self.restored_parts(home, task, store))?;
        let mut restoring = Restoring::new(machine, task.limits);
        let read = self.read_restored(&mut restoring, chunks).and_then(|()| {
            restoring.finish(self.clock.now_unix_ns())?;
            match config.storage {
                Storage::Memory => Ok(()),
                Storage::File => self.save_restored(home, &mut restoring),
            }
        });
        if let Err(error) = read {
            restoring.abandon();
            return Err(error);
        }
        let mut machine = match config.storage {
            Storage::Memory => restoring.into_machine(),
            Storage::File => {
                restoring.abandon();
                self.open_restored(home, task, &staging.folder)?
            }
        };
        machine.set_commit(self.commit_of(config));
        machine.begin(self.clock.now_unix_ns());
        Ok(machine)
    }

    fn restored_parts(&self, home: &Home, task: &RestoreTask, store: Store) -> Parts {
        Parts {
            lane: task.header.lane,
            domain: self.node.settings().domain.clone(),
            account: home.account.name.clone(),
            config: task.header.config.clone(),
            created: task.header.created,
            store,
            // Nothing is logged: what is restored is complete or was never there.
            commit: Commit::Memory,
            interest: home.account.interest.clone(),
            seed: rand::random(),
            usage: home.account.usage.clone(),
        }
    }

    /// Reads to the end of the transfer.
    fn read_restored(&self, restoring: &mut Restoring, chunks: &mut Chunks<'_>) -> Result<(), ApiError> {
        let failed = |error: &dyn std::fmt::Display| ErrorCode::StreamRestore.with(error);
        let message_bytes_max = u64::try_from(self.node.limits().max_payload).unwrap_or(0);
        let mut unwritten = 0;
        archive::read(&mut *chunks, message_bytes_max, &mut |entry| -> Result<(), ApiError> {
            if let Entry::Message { subject, headers, payload, .. } = &entry {
                unwritten += subject.len() + headers.len() + payload.len();
            }
            restoring.take(entry, self.clock.now_unix_ns())?;
            if unwritten > WORK_BYTES {
                unwritten = 0;
                work(restoring).map_err(|error| failed(&error))?;
            }
            Ok(())
        })?;
        let trailing = io::copy(&mut chunks.take(TRAILING_BYTES_MAX), &mut io::sink());
        match trailing {
            Ok(_) if chunks.end.is_some() => Ok(()),
            Ok(_) => Err(failed(&"something follows the end of the snapshot")),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Makes the folder complete and durable.
    fn save_restored(&self, home: &Home, restoring: &mut Restoring) -> Result<(), ApiError> {
        let failed = |error: &dyn std::fmt::Display| ErrorCode::StreamRestore.with(error);
        work(restoring).map_err(|error| failed(&error))?;
        loop {
            let work = restoring.begin_checkpoint(&home.account.name);
            let work = work.ok_or_else(|| failed(&"the store is busy"))?;
            if let Finished::Checkpoint { .. } =
                restoring.finish_work(work.run()).map_err(|error| failed(&error))?
            {
                return Ok(());
            }
        }
    }

    /// Moves the folder to where streams are, and opens it as after a restart.
    fn open_restored(&self, home: &Home, task: &RestoreTask, staging: &str) -> Result<Machine, ApiError> {
        let (config, lane) = (&task.header.config, task.header.lane);
        let failed = |error: &dyn std::fmt::Display| ErrorCode::StreamRestore.with(error);
        let folder = folder_of(&config.name, lane);
        let moved = self
            .disk
            .rename(staging, &folder)
            .and_then(|()| self.disk.sync_folder(STREAMS))
            .and_then(|()| self.disk.sync_folder(RESTORING));
        let opened = moved.map_err(|error| failed(&error)).and_then(|()| {
            let opened = Store::open(self.disk.clone(), &folder, self.store_options(config, lane))
                .map_err(|error| failed(&error))?;
            let parts = self.restored_parts(home, task, opened.store);
            Machine::restore(parts, opened.position, &opened.state).map_err(|error| failed(&error))
        });
        opened.inspect_err(|_| {
            // It may or may not be where it was to go.
            let _ = self.bury(&config.name, lane);
        })
    }
}

/// Has the store write what it has.
fn work(restoring: &mut Restoring) -> Result<(), sonata_store::Error> {
    while let Some(work) = restoring.store_work() {
        restoring.finish_work(work.run())?;
    }
    Ok(())
}
