//! What many threads share: appending, kicking, releasing.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use sonata_disk::Disk;

use crate::ahead::Ahead;
use crate::error::{Error, Refused};
use crate::gather::Gather;
use crate::options::{Mode, Options};
use crate::record::{Batch, Position, Record};
use crate::recover::{self, Recovered};
use crate::row::{Pinned, Row};
use crate::stats::Stats;
use crate::tail::Tail;
use crate::writer::Writer;

/// Batches that a kicking thread writes, for others if need be, before the writer's thread takes over.
const TURNS_PER_KICK: usize = 16;

/// Who is told. Calls come one at a time and in order; only [`Committed::failed`] may, if it was [`Journal::sync`] that
/// failed, come on that thread while another is still in [`Committed::committed`].
///
/// No lock of the journal is held meanwhile: appending, kicking and releasing from within is fine.
pub trait Committed: Send + Sync {
    /// These records are durable ([`Mode::Always`]) or written ([`Mode::Interval`]).
    fn committed(&self, batch: Batch<'_>);

    /// The journal has stopped. What was appended and not committed is lost to this run: whether a part of it is on
    /// the disk shows at the next start only if that comes before a successful [`Journal::retry`].
    fn failed(&self, error: &Error);

    /// The journal goes on: records from this position on are taken. None of the lost ones will come back.
    fn resumed(&self, first: Position);
}

/// The journal of a node.
pub struct Journal {
    mode: Mode,
    limits: Limits,
    now: fn() -> u64,
    /// Locks, all short unless said otherwise, none nested but `row` in `tail` in `ahead`.
    shared: Mutex<Shared>,
    wake: Condvar,
    /// The writer's thread sleeps or is about to, and nobody has woken it.
    asleep: AtomicBool,
    /// Held during writes and syncs.
    tail: Mutex<Tail>,
    row: Arc<Mutex<Row>>,
    /// Held while the next file is filled.
    ahead: Mutex<Option<Ahead>>,
    /// Bytes of files that are not free, to be asked without the row.
    held_bytes: AtomicU64,
    stats: Mutex<Stats>,
    committed: Mutex<Option<Arc<dyn Committed>>>,
}

#[derive(Debug)]
struct Limits {
    bytes_max: u64,
    buffer_bytes_max: usize,
    record_bytes_max: usize,
}

struct Shared {
    gather: Gather,
    phase: Phase,
    /// Somebody is in a turn, and will look again before leaving.
    writing: bool,
    /// [`Journal::retry`] was called.
    retry: bool,
    /// Lanes have released files.
    released: bool,
    /// [`Journal::close`] was called.
    closing: bool,
}

enum Phase {
    Open,
    Failed(Arc<Error>),
}

/// What the writer's thread does next.
pub(crate) enum Next {
    Turn,
    Idle,
    Retry,
    Stop,
}

/// What the writer's thread does if there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Otherwise {
    Sleep,
    Return,
}

impl Journal {
    /// Opens the journal in a folder, which is created if need be, and replays what no lane has released, in order.
    /// Records that were released may come again.
    ///
    /// # Errors
    /// The options, the disk, a missing key, or a file of a later version. Damage is none: see [`Recovered`].
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &str,
        options: Options,
        replay: &mut dyn FnMut(Record<'_>),
    ) -> Result<(Arc<Self>, Writer, Recovered), Error> {
        let (mode, now) = (options.mode, options.now);
        let limits = Limits {
            bytes_max: options.bytes_max,
            buffer_bytes_max: options.buffer_bytes_max,
            record_bytes_max: options.record_bytes_max(),
        };
        let batch_bytes_max = options.batch_bytes_max();
        let opened = recover::open(disk, folder, options, replay)?;
        let held_bytes = opened.row.lock().held_bytes();
        let shared = Shared {
            gather: Gather::new(opened.first, batch_bytes_max),
            phase: Phase::Open,
            writing: false,
            retry: false,
            released: false,
            closing: false,
        };
        let journal = Arc::new(Self {
            mode,
            limits,
            now,
            shared: Mutex::new(shared),
            wake: Condvar::new(),
            asleep: AtomicBool::new(false),
            tail: Mutex::new(opened.tail),
            row: opened.row,
            ahead: Mutex::new(None),
            held_bytes: AtomicU64::new(held_bytes),
            stats: Mutex::new(Stats::default()),
            committed: Mutex::new(None),
        });
        let writer = Writer::new(journal.clone());
        Ok((journal, writer, opened.recovered))
    }

    /// Takes a record, whose body is the parts one after the other. No I/O; the record waits for a [kick](Self::kick).
    ///
    /// # Errors
    /// It was not taken, and its position is nobody's.
    pub fn append(&self, lane: u64, parts: &[&[u8]]) -> Result<Position, Refused> {
        let len = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
        if len > self.limits.record_bytes_max {
            return Err(Refused::TooLarge);
        }
        let mut shared = self.shared.lock();
        if let Phase::Failed(cause) = &shared.phase {
            return Err(Refused::Failed(cause.clone()));
        }
        if shared.closing {
            return Err(Refused::Closed);
        }
        let waiting = shared.gather.buffered() + len;
        if waiting > self.limits.buffer_bytes_max {
            return Err(Refused::Busy);
        }
        if self.held_bytes.load(Ordering::Relaxed) + waiting as u64 > self.limits.bytes_max {
            return Err(Refused::Full);
        }
        // The limit on records is below that on files, 1 GiB.
        let position = shared.gather.append(lane, parts, len as u32);
        position.map(Position).map_err(|error| Refused::Failed(Arc::new(error)))
    }

    /// Has what was appended written: to be called once after a caller's batch of appends.
    ///
    /// [`Mode::Always`]: the writer's thread wakes, if it sleeps. [`Mode::Interval`]: this thread writes all that waits
    /// and runs [`Committed::committed`] before it returns, unless another one is at it, which then does that as well.
    pub fn kick(&self) {
        match self.mode {
            Mode::Always => self.wake_writer(),
            Mode::Interval => self.write(),
        }
    }

    fn write(&self) {
        let Some(committed) = self.committed.lock().clone() else { return };
        if !self.begin_turns() {
            return;
        }
        for _ in 0..TURNS_PER_KICK {
            if !self.turn(&*committed) {
                return;
            }
        }
        self.shared.lock().writing = false;
        self.wake_writer();
    }

    /// Makes durable what was written before ([`Mode::Interval`]); the other mode has nothing to do.
    ///
    /// # Errors
    /// What the disk says. The journal has then stopped, as after any failure.
    pub fn sync(&self) -> Result<(), Error> {
        let Some(unsynced) = self.tail.lock().unsynced() else { return Ok(()) };
        let start = (self.now)();
        let synced = unsynced.file.sync().map_err(Error::io("sync", &unsynced.name));
        let took = (self.now)().saturating_sub(start);
        let mut tail = self.tail.lock();
        match synced {
            Ok(()) => {
                tail.on_synced(&unsynced, took);
                tail.reclaim();
                self.note(&mut tail);
                Ok(())
            }
            Err(error) => {
                tail.abandon();
                drop(tail);
                let cause = self.stop(error);
                let committed = self.committed.lock().clone();
                if let Some(committed) = committed {
                    committed.failed(&cause);
                }
                Err(Error::Stopped(cause))
            }
        }
    }

    /// Everything of the lane up to the position is kept elsewhere, durably.
    pub fn release(&self, lane: u64, position: Position) {
        if self.row.lock().release(lane, position.0) {
            self.shared.lock().released = true;
            self.wake_writer();
        }
    }

    /// Nothing of the lane that was appended so far is needed.
    pub fn forget(&self, lane: u64) {
        self.release(lane, self.appended());
    }

    /// The last position that was given away.
    #[must_use]
    pub fn appended(&self) -> Position {
        Position(self.shared.lock().gather.next() - 1)
    }

    /// Frees the files that are released, which the writer otherwise does in time: for whoever releases more after it has
    /// ended. If it fails the files stay, which is no harm.
    pub fn reclaim(&self) {
        let mut tail = self.tail.lock();
        if tail.is_open() && tail.mark().is_ok() {
            tail.reclaim();
        }
        self.note(&mut tail);
    }

    /// Makes the next file ready, a small step each time; whether there is more to do. To be called now and then by a thread
    /// that may wait for the disk: whoever appends a lot then never waits for more than what it appends. Failing is no harm.
    pub fn prepare(&self) -> bool {
        let mut ahead = self.ahead.lock();
        if ahead.is_none() {
            let mut tail = self.tail.lock();
            let Some(number) = tail.begin_spare() else { return false };
            match Ahead::begin(tail.place().clone(), number) {
                Ok(begun) => *ahead = Some(begun),
                // Most likely the disk is full; the batch that needs the room will tell.
                Err(_) => tail.refuse_spare(),
            }
        }
        let Some(making) = ahead.as_mut() else { return false };
        let number = making.number;
        match making.step() {
            Ok(false) => return true,
            Ok(true) => self.tail.lock().add_spare(number),
            Err(_) => {
                self.tail.lock().refuse_spare();
                making.give_up();
            }
        }
        *ahead = None;
        false
    }

    /// Who keeps the oldest file from being reused; `None` if nobody does, or if it is the one that is being written.
    #[must_use]
    pub fn pinned(&self) -> Option<Pinned> {
        self.row.lock().pinned()
    }

    /// Tries to go on after a failure, on the writer's thread: a new file is begun, synced and read back. To be called
    /// now and then by the owner's timer; [`Committed::resumed`] tells when it has worked.
    pub fn retry(&self) {
        self.shared.lock().retry = true;
        self.wake_writer();
    }

    /// Takes no more records; [`Writer::run`] returns once those that wait are committed.
    pub fn close(&self) {
        self.shared.lock().closing = true;
        self.wake_writer();
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.lock().clone();
        stats.buffered_bytes = self.shared.lock().gather.buffered();
        stats.held_bytes = self.held_bytes.load(Ordering::Relaxed);
        stats
    }

    /// Whoever appended before has seen the lock that the writer gave back when it went to sleep, so it sees this.
    fn wake_writer(&self) {
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            drop(self.shared.lock());
            self.wake.notify_one();
        }
    }

    fn begin_turns(&self) -> bool {
        let mut shared = self.shared.lock();
        let begins = !shared.writing && !shared.gather.is_empty();
        shared.writing |= begins;
        begins
    }

    /// One batch, by the one who is `writing`; if nothing waits, nobody is any more.
    pub(crate) fn turn(&self, committed: &dyn Committed) -> bool {
        let buffer = {
            let mut shared = self.shared.lock();
            let buffer = shared.gather.take();
            if buffer.is_none() {
                shared.writing = false;
            }
            buffer
        };
        let Some(mut buffer) = buffer else {
            // The writer may have gone to sleep over this turn although it is to stop.
            self.wake_writer_to_close();
            return false;
        };
        let written = {
            let mut tail = self.tail.lock();
            // None only if a sync has failed since the batch was taken; that has been told, and this is not.
            let written = if tail.is_open() { tail.commit(&mut buffer) } else { Err(Error::Exhausted) };
            tail.reclaim();
            self.note(&mut tail);
            written
        };
        match written {
            Ok(()) => {
                let mut stats = self.stats.lock();
                stats.batches += 1;
                stats.records += u64::from(buffer.records);
                stats.bytes += buffer.bytes.len() as u64;
                drop(stats);
                committed.committed(buffer.batch());
                self.shared.lock().gather.give(buffer);
            }
            Err(error) => {
                self.shared.lock().gather.give(buffer);
                self.fail(error, committed);
            }
        }
        true
    }

    fn wake_writer_to_close(&self) {
        let closing = self.shared.lock().closing;
        if closing {
            self.wake_writer();
        }
    }

    /// Takes over what the tail has counted.
    fn note(&self, tail: &mut Tail) {
        self.held_bytes.store(self.row.lock().held_bytes(), Ordering::Relaxed);
        let mut stats = self.stats.lock();
        for nanoseconds in tail.take_syncs() {
            stats.syncs += 1;
            stats.sync_time.add(nanoseconds);
        }
    }

    fn fail(&self, error: Error, committed: &dyn Committed) {
        let already = matches!(self.shared.lock().phase, Phase::Failed(_));
        if !already {
            let cause = self.stop(error);
            committed.failed(&cause);
        }
    }

    /// Nothing is taken from now on, and what waits is dropped.
    fn stop(&self, error: Error) -> Arc<Error> {
        let cause = Arc::new(error);
        let mut shared = self.shared.lock();
        shared.phase = Phase::Failed(cause.clone());
        shared.gather.discard();
        shared.retry = false;
        drop(shared);
        self.stats.lock().failures += 1;
        cause
    }

    pub(crate) fn attach(&self, committed: Option<Arc<dyn Committed>>) {
        let before = mem::replace(&mut *self.committed.lock(), committed);
        drop(before);
    }

    /// What there is for the writer's thread. `idle`: there may be something to do meanwhile.
    pub(crate) fn next(&self, idle: &mut bool, otherwise: Otherwise) -> Next {
        let mut shared = self.shared.lock();
        loop {
            if mem::take(&mut shared.released) {
                *idle = true;
            }
            let failed = matches!(shared.phase, Phase::Failed(_));
            if !failed && !shared.writing && !shared.gather.is_empty() {
                shared.writing = true;
                return Next::Turn;
            }
            if shared.closing && !shared.writing {
                return Next::Stop;
            }
            if failed && !shared.writing && mem::take(&mut shared.retry) {
                return Next::Retry;
            }
            if !failed && *idle {
                return Next::Idle;
            }
            if otherwise == Otherwise::Return {
                return Next::Stop;
            }
            self.asleep.store(true, Ordering::SeqCst);
            self.wake.wait(&mut shared);
            self.asleep.store(false, Ordering::SeqCst);
        }
    }

    /// One small step of what can be done while nothing waits; whether there is more.
    pub(crate) fn idle(&self, committed: &dyn Committed) -> bool {
        let more = {
            let mut tail = self.tail.lock();
            let more = tail.idle();
            self.note(&mut tail);
            more
        };
        more.unwrap_or_else(|error| {
            self.fail(error, committed);
            false
        })
    }

    /// Begins a new file after a failure, and takes records again if that works.
    pub(crate) fn probe(&self, committed: &dyn Committed) {
        // Nothing is appended meanwhile, so this stays the next position.
        let first = self.shared.lock().gather.next();
        let begun = {
            let mut tail = self.tail.lock();
            let begun = tail.begin(first);
            self.note(&mut tail);
            begun
        };
        let phase = match begun {
            Ok(()) => Phase::Open,
            Err(error) => Phase::Failed(Arc::new(error)),
        };
        let open = matches!(phase, Phase::Open);
        self.shared.lock().phase = phase;
        if open {
            committed.resumed(Position(first));
        }
    }

    /// The end of a run: all is synced, and a mark says so, so that damage to the last batch will be told from a crash.
    pub(crate) fn finish(&self, committed: &dyn Committed) {
        let mut tail = self.tail.lock();
        if !tail.is_open() {
            return;
        }
        let finished = tail.flush().and_then(|()| tail.mark());
        self.note(&mut tail);
        drop(tail);
        if let Err(error) = finished {
            self.fail(error, committed);
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("mode", &self.mode)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
