//! A node of one thread: journal, stores and machines on one disk, put together as the server does it, without the server.
//! What it says is kept with the number of calls that the disk had recorded by then.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "for the test beside it, which fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use sonata_disk::Disk;
use sonata_disk::lying::Lying;
use sonata_jetstream::account::Usage;
use sonata_jetstream::api::request::{ConfigureStream, CreateConsumer};
use sonata_jetstream::config::Limits;
use sonata_jetstream::json::{self, Mode};
use sonata_jetstream::outgoing::{Haste, Log, Outgoing, Publish, Refused, Uniform};
use sonata_jetstream::stream::{Commit, Header, Incoming, Machine, Next, Parts};
use sonata_journal::{Batch, Committed, Error, Journal, Position, Writer};
use sonata_store::{Filter, Finished, Store};

/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600_000_000_000;

/// More than a stream of these tests ever needs to deliver what it has.
const TURNS_MAX: usize = 10_000;

/// Mistakes that a node can be told to make: whoever checks it must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    None,
    /// Publishes are acknowledged when they are in the journal's memory.
    AcknowledgesBeforeCommit,
    /// The journal is released up to the checkpoint that was just made, instead of the one before.
    ReleasesTooMuch,
    /// Records that a checkpoint covers are applied again.
    ReplaysWhatIsApplied,
}

/// See the module.
pub struct Node {
    pub bench: Arc<Bench>,
    pub journal: Arc<Journal>,
    writer: Writer,
    mistake: Mistake,
}

/// What the journal's writer and the driver share.
pub struct Bench {
    pub streams: Mutex<BTreeMap<u64, Machine>>,
    pub said: Mutex<Said>,
    pub now: AtomicI64,
    /// How often the journal failed, and resumed.
    pub failed: AtomicU64,
    pub resumed: AtomicU64,
}

/// What was published.
pub struct Said {
    disk: Lying,
    pub messages: Vec<Heard>,
}

/// A message that was published.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Calls that the disk had recorded by then.
    pub calls: usize,
    pub subject: String,
    pub reply: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Publish for Said {
    fn publish(&mut self, message: Outgoing<'_>) {
        self.messages.push(Heard {
            calls: self.disk.recorded(),
            subject: String::from_utf8_lossy(message.subject).into_owned(),
            reply: message.reply.to_vec(),
            payload: message.payload.to_vec(),
        });
    }
}

impl Committed for Bench {
    fn committed(&self, batch: Batch<'_>) {
        let now = self.now.load(Ordering::Relaxed);
        let (mut streams, mut said) = (self.streams.lock(), self.said.lock());
        for record in batch.records() {
            if let Some(machine) = streams.get_mut(&record.lane) {
                machine.committed(record.position.0, record.body, now, &mut *said).unwrap();
            }
        }
    }

    fn failed(&self, error: &Error) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut said = self.said.lock();
        for machine in self.streams.lock().values_mut() {
            machine.on_log_failed(&error.to_string(), &mut *said);
        }
    }

    fn resumed(&self, _first: Position) {
        self.resumed.fetch_add(1, Ordering::Relaxed);
        let now = self.now.load(Ordering::Relaxed);
        let mut said = self.said.lock();
        for machine in self.streams.lock().values_mut() {
            machine.on_log_resumed(now, &mut *said);
        }
    }
}

struct JournalLog(Arc<Journal>);

impl Log for JournalLog {
    fn append(&self, lane: u64, record: &[u8], _haste: Haste) -> Result<u64, Refused> {
        let refused = |refused: sonata_journal::Refused| Refused::Failed(refused.to_string());
        self.0.append(lane, &[record]).map(|position| position.0).map_err(refused)
    }
}

/// The journal, those it tells and their logs hold each other: without this no node would ever leave the memory.
impl Drop for Node {
    fn drop(&mut self) {
        self.bench.streams.lock().clear();
    }
}

impl Node {
    /// What is on the disk, and whatever was found damaged there.
    pub fn open(
        lying: &Lying,
        disk: Arc<dyn Disk>,
        seed: u64,
        mistake: Mistake,
    ) -> Result<(Self, Vec<String>), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let mut damage = Vec::new();
        let mut streams = BTreeMap::new();
        let mut after = 0;
        disk.create_folder("streams").map_err(|error| text(&error))?;
        for entry in disk.list("streams").map_err(|error| text(&error))? {
            let lane = entry.name.parse().map_err(|_| "a folder that is none of ours")?;
            let folder = format!("streams/{}", entry.name);
            let opened = match Store::open(disk.clone(), &folder, options(lane)) {
                Ok(opened) => opened,
                Err(error) => {
                    damage.push(format!("{folder}: {error}"));
                    continue;
                }
            };
            damage.extend(opened.damage.iter().map(|damage| format!("{folder}: {damage:?}")));
            let Ok(header) = Header::load(&opened.state) else {
                // Made in this moment, or without any checkpoint that can be read.
                damage.push(format!("{folder}: no checkpoint"));
                continue;
            };
            let parts = parts(header, opened.store, Commit::Memory);
            after = after.max(opened.position);
            match Machine::restore(parts, opened.position, &opened.state) {
                Ok(machine) => drop(streams.insert(lane, machine)),
                Err(error) => damage.push(format!("{folder}: {error}")),
            }
        }
        let settings = sonata_journal::Options {
            file_bytes: 64 << 10,
            bytes_max: 4 << 20,
            after,
            ..sonata_journal::Options::new(seed)
        };
        let mut said = Said { disk: lying.clone(), messages: Vec::new() };
        let opened = Journal::open(disk, "journal", settings, &mut |record| {
            let Some(machine) = streams.get_mut(&record.lane) else { return };
            let (position, body) = (record.position.0, record.body);
            let applied = match mistake {
                Mistake::ReplaysWhatIsApplied => machine.committed(position, body, START, &mut said),
                _ => machine.replay(position, body, START),
            };
            if let Err(error) = applied {
                damage.push(format!("record {position}: {error}"));
            }
        });
        let (journal, writer, recovered) = opened.map_err(|error| text(&error))?;
        damage.extend(recovered.damage.iter().map(|damage| format!("journal: {damage:?}")));
        for machine in streams.values_mut() {
            machine.set_commit(commit(&journal, mistake));
            machine.begin(START);
            damage.extend(machine.store().take_damage().iter().map(|damage| format!("{damage:?}")));
        }
        said.messages.clear();
        let bench = Bench {
            streams: Mutex::new(streams),
            said: Mutex::new(said),
            now: AtomicI64::new(START),
            failed: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
        };
        Ok((Self { bench: Arc::new(bench), journal, writer, mistake }, damage))
    }

    /// A stream, from the request to make it; it is durable when this returns.
    pub fn create_stream(&mut self, disk: Arc<dyn Disk>, lane: u64, config: &str) {
        let said = ConfigureStream::parse(config.as_bytes(), Mode::Strict).unwrap();
        let config = said.config.create(&Limits::default(), false).unwrap();
        let header = Header { lane, account: "A".into(), created: START, config };
        let mut store = Store::create(disk, &format!("streams/{lane}"), options(lane)).unwrap();
        let mut state = Vec::new();
        header.save(&mut state);
        let work = store.checkpoint(0, state).unwrap();
        store.finish(work.run()).unwrap();
        let machine = Machine::new(parts(header, store, commit(&self.journal, self.mistake))).unwrap();
        self.bench.streams.lock().insert(lane, machine);
    }

    pub fn create_consumer(&mut self, lane: u64, config: &str) {
        let said: CreateConsumer = json::decode(config.as_bytes(), Mode::Strict).unwrap();
        self.with(lane, |machine, now, said_by| {
            let limits = Limits::default();
            machine.request_consumer(said.config, said.action, false, &limits, b"", now, said_by).unwrap();
        });
        self.settle();
    }

    pub fn with<T>(&self, lane: u64, call: impl FnOnce(&mut Machine, i64, &mut Said) -> T) -> T {
        let now = self.bench.now.load(Ordering::Relaxed);
        let (mut streams, mut said) = (self.bench.streams.lock(), self.bench.said.lock());
        call(streams.get_mut(&lane).unwrap(), now, &mut said)
    }

    pub fn publish(&self, lane: u64, subject: &str, reply: &str, headers: &[u8], payload: &[u8]) {
        let incoming = Incoming { subject: subject.as_bytes(), reply: reply.as_bytes(), headers, payload };
        self.with(lane, |machine, now, said| machine.receive(incoming, now, said));
    }

    /// Everything that can happen without more input does.
    pub fn settle(&mut self) {
        loop {
            for machine in self.bench.streams.lock().values_mut() {
                let now = self.bench.now.load(Ordering::Relaxed);
                for turn in 0.. {
                    assert!(turn < TURNS_MAX, "turns without end");
                    let next = machine.turn(true, now, &mut *self.bench.said.lock());
                    match next {
                        Next::Idle => break,
                        Next::More | Next::Disk => {}
                        Next::Read(work) => machine.warm(work.run()),
                    }
                }
            }
            self.writer.run_until_idle(self.bench.clone());
            let mut wanted = false;
            for machine in self.bench.streams.lock().values_mut() {
                wanted |= machine.take_turn_wish();
            }
            if !wanted {
                return;
            }
        }
    }

    /// Time goes on, and what is due happens.
    pub fn wait(&mut self, nanos: i64) {
        let now = self.bench.now.fetch_add(nanos, Ordering::Relaxed) + nanos;
        for machine in self.bench.streams.lock().values_mut() {
            machine.on_timer(now, &mut *self.bench.said.lock());
        }
        self.settle();
    }

    /// Background work of a store, and its checkpoint. Says what went wrong.
    pub fn checkpoint(&mut self, lane: u64) -> Result<(), sonata_store::Error> {
        let mut streams = self.bench.streams.lock();
        let machine = streams.get_mut(&lane).unwrap();
        while let Some(work) = machine.store_work() {
            machine.finish_work(work.run())?;
        }
        let mut work = machine.begin_checkpoint("A");
        while let Some(portion) = work {
            work = match machine.finish_work(portion.run())? {
                Finished::Checkpoint { position, release } => {
                    let covered = if self.mistake == Mistake::ReleasesTooMuch { position } else { release };
                    self.journal.release(lane, Position(covered));
                    None
                }
                Finished::Portion => machine.begin_checkpoint("A"),
            };
        }
        drop(streams);
        self.writer.run_until_idle(self.bench.clone());
        Ok(())
    }

    /// Ends in order: damage to the last records is told from a crash then.
    pub fn close(&mut self) {
        self.journal.close();
        self.writer.run(self.bench.clone());
    }

    /// The disk works again: the journal is told to try.
    pub fn resume(&mut self) {
        self.journal.retry();
        self.writer.run_until_idle(self.bench.clone());
        self.settle();
    }

    pub fn take_said(&self) -> Vec<Heard> {
        std::mem::take(&mut self.bench.said.lock().messages)
    }

    /// The messages of a stream that can be read; damaged ones are passed over. Nothing while the disk cannot be read.
    pub fn messages(&self, lane: u64) -> Vec<sonata_store::Message> {
        let mut messages = Vec::new();
        let mut streams = self.bench.streams.lock();
        let Some(machine) = streams.get_mut(&lane) else { return messages };
        let store = machine.store();
        let mut from = 1;
        loop {
            match store.next_message(&Filter::all(), from) {
                Ok(Some(message)) => {
                    from = message.sequence + 1;
                    messages.push(message);
                }
                Ok(None) => return messages,
                Err(sonata_store::Error::Damaged { sequence }) => from = sequence.max(from) + 1,
                Err(_) => return Vec::new(),
            }
        }
    }
}

fn commit(journal: &Arc<Journal>, mistake: Mistake) -> Commit {
    let log = Arc::new(JournalLog(journal.clone()));
    match mistake {
        Mistake::AcknowledgesBeforeCommit => Commit::Eager(log),
        _ => Commit::Logged(log),
    }
}

fn options(lane: u64) -> sonata_store::Options {
    sonata_store::Options {
        id: lane,
        segment_bytes: 16 << 10,
        unwritten_bytes_max: u64::MAX,
        ..sonata_store::Options::default()
    }
}

fn parts(header: Header, store: Store, commit: Commit) -> Parts {
    Parts {
        lane: header.lane,
        domain: "".into(),
        account: "$G".into(),
        config: header.config,
        created: header.created,
        store,
        commit,
        interest: Arc::new(Uniform(true)),
        seed: 1,
        usage: Usage::new(-1, -1, None),
    }
}
