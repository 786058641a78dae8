//! The world around one stream: a log that commits when it is told to, a disk, a clock, and a pad for what is published.
//!
//! Tests either call it or write what happens as a [transcript](World::play).
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "for tests, of which not every one uses all"
)]

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use sonata_disk::lying::Lying;
use sonata_jetstream::account::Usage;
use sonata_jetstream::api::request::{ConfigureStream, Purge};
use sonata_jetstream::config::{Limits, StreamConfig};
use sonata_jetstream::json::Mode;
use sonata_jetstream::outgoing::{Haste, Interest, Log, Outgoing, Publish, Refused};
use sonata_jetstream::record::Malformed;
use sonata_jetstream::stream::{Commit, Header, Incoming, Machine, Next, Parts};
use sonata_jetstream::timestamp::Timestamp;
use sonata_jetstream::{duration, header};
use sonata_store::{Filter, Finished, Options, Store};

/// 2026-01-01T00:00:00Z
pub const START: i64 = 1_767_225_600_000_000_000;

const LANE: u64 = 7;

/// More than anything in these tests needs.
const TURNS_MAX: usize = 1000;

/// See the module.
pub struct World {
    pub machine: Machine,
    pub log: Arc<FakeLog>,
    pub disk: Lying,
    /// From the next restart on.
    pub options: Options,
    /// It was given records that nobody wrote: what is made of them need not be readable.
    pub is_hostile: bool,
    config: StreamConfig,
    usage: Arc<Usage>,
    listeners: Arc<Listeners>,
    /// ns since 1970.
    pub now: i64,
    pub said: Said,
}

/// Records in order; a record's position is its place, counted from 1.
#[derive(Default)]
pub struct FakeLog {
    records: Mutex<Vec<Vec<u8>>>,
    /// The last one's.
    pub haste: Mutex<Option<Haste>>,
    /// How many of them are committed.
    committed: Mutex<usize>,
    refuses: AtomicBool,
    /// Records that still fit, when that is limited.
    pub room: Mutex<Option<usize>>,
}

/// What was published.
#[derive(Debug, Default)]
pub struct Said(pub Vec<Message>);

/// A message that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub subject: String,
    pub reply: String,
    pub headers: String,
    pub payload: String,
}

impl Log for FakeLog {
    fn append(&self, _lane: u64, record: &[u8], haste: Haste) -> Result<u64, Refused> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(Refused::Failed("the disk is on fire".to_owned()));
        }
        match &mut *self.room.lock() {
            Some(0) => return Err(Refused::Full),
            Some(room) => *room -= 1,
            None => {}
        }
        *self.haste.lock() = Some(haste);
        let mut records = self.records.lock();
        records.push(record.to_vec());
        Ok(records.len() as u64)
    }
}

impl FakeLog {
    /// Records appended.
    pub fn len(&self) -> usize {
        self.records.lock().len()
    }
}

impl Publish for Said {
    fn publish(&mut self, message: Outgoing<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (subject, headers, payload) = (message.subject, message.headers, message.payload);
        self.0.push(Message {
            subject: text(subject),
            reply: text(message.reply),
            headers: text(headers),
            payload: text(payload),
        });
    }
}

/// Somebody listens to everything, or nobody to anything.
#[derive(Default)]
pub struct Listeners {
    are_gone: AtomicBool,
}

impl Interest for Listeners {
    fn has_interest(&self, _subject: &[u8]) -> bool {
        !self.are_gone.load(Ordering::Relaxed)
    }

    fn has_group_interest(&self, subject: &[u8], _group: &[u8]) -> bool {
        self.has_interest(subject)
    }
}

impl World {
    /// A new stream, from the JSON of a request to create one.
    pub fn new(config: &str) -> Self {
        let said = ConfigureStream::parse(config.as_bytes(), Mode::Strict).unwrap();
        Self::of(said.config.create(&Limits::default(), false).unwrap())
    }

    /// The same, made at another time.
    pub fn created_at(config: &str, created: i64) -> Self {
        let mut world = Self::new(config);
        let store = Store::memory(LANE);
        let commit = Commit::Logged(world.log.clone());
        let parts =
            Parts { created, ..parts(world.config.clone(), store, commit, &world.usage, &world.listeners) };
        world.machine = Machine::new(parts).unwrap();
        world
    }

    /// The same from a configuration that was checked.
    pub fn of(config: StreamConfig) -> Self {
        let disk = Lying::new(1);
        let options = Options { id: LANE, ..Options::default() };
        let store = Store::create(disk.disk(), "stream", options.clone()).unwrap();
        let (log, usage) = (Arc::new(FakeLog::default()), Usage::new(-1, -1, None));
        let listeners = Arc::default();
        let commit = Commit::Logged(log.clone());
        let machine = Machine::new(parts(config.clone(), store, commit, &usage, &listeners)).unwrap();
        Self {
            machine,
            log,
            disk,
            options,
            is_hostile: false,
            config,
            usage,
            listeners,
            now: START,
            said: Said::default(),
        }
    }

    /// Publishes; `headers` are lines without their ends.
    pub fn publish(&mut self, subject: &str, reply: &str, headers: &[String], payload: &str) {
        let mut block = Vec::new();
        for line in headers {
            let (name, value) = line.split_once(": ").unwrap();
            header::append(&mut block, name, value.as_bytes());
        }
        let incoming = Incoming {
            subject: subject.as_bytes(),
            reply: reply.as_bytes(),
            headers: &block,
            payload: payload.as_bytes(),
        };
        self.machine.receive(incoming, self.now, &mut self.said);
    }

    /// The stream takes what its origins have, as far as it does so in one go.
    pub fn follow(&mut self, origins: &mut [&mut World]) {
        for want in self.machine.wants() {
            let origin = origins.iter_mut().find(|origin| *origin.machine.config().name == *want.name);
            let portion = origin.unwrap().machine.read_for(&want).unwrap();
            self.machine.take(&want, portion, self.now, &mut self.said);
        }
    }

    /// The log commits the next `count` records.
    pub fn commit(&mut self, count: usize) {
        for _ in 0..count {
            let (position, record) = {
                let mut committed = self.log.committed.lock();
                let records = self.log.records.lock();
                let Some(record) = records.get(*committed) else { return };
                *committed += 1;
                (*committed as u64, record.clone())
            };
            let applied = self.machine.committed(position, &record, self.now, &mut self.said);
            assert!(applied.is_ok() || self.is_hostile, "a record of our own that cannot be read");
        }
    }

    /// The log commits whatever it has.
    pub fn commit_all(&mut self) {
        self.commit(usize::MAX);
    }

    /// The log fails: what it has not committed is gone, and it takes nothing until it resumes.
    pub fn fail(&mut self) {
        self.log.refuses.store(true, Ordering::Relaxed);
        self.log.records.lock().truncate(*self.log.committed.lock());
        self.machine.on_log_failed("the disk is on fire", &mut self.said);
    }

    /// All clients are gone, and nobody listens any more.
    pub fn clients_go(&self) {
        self.listeners.are_gone.store(true, Ordering::Relaxed);
    }

    /// It takes records again.
    pub fn resume(&mut self) {
        self.log.refuses.store(false, Ordering::Relaxed);
        self.machine.on_log_resumed(self.now, &mut self.said);
    }

    /// Time goes on; timers fire when they are due, and the log commits what comes of it.
    pub fn wait(&mut self, nanos: i64) {
        self.wait_for(nanos, usize::MAX);
    }

    /// The same, but after so many timers the rest of the time goes by without any.
    pub fn wait_for(&mut self, nanos: i64, timers_max: usize) {
        let until = self.now + nanos;
        let mut left = timers_max;
        while let Some(due) = self.machine.next_timer(self.now).filter(|due| *due <= until) {
            if left == 0 {
                break;
            }
            left -= 1;
            let before = (due, self.log.len());
            self.now = self.now.max(due);
            self.machine.on_timer(self.now, &mut self.said);
            self.settle();
            let after = self.machine.next_timer(self.now).map(|due| (due, self.log.len()));
            assert_ne!(after, Some(before), "a timer that changes nothing would fire for ever");
        }
        self.now = until;
    }

    /// The log commits and consumers deliver until nothing happens any more.
    pub fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "turns without end");
            self.commit_all();
            let next = self.machine.turn(true, self.now, &mut self.said);
            if let Some(work) = self.machine.take_ahead() {
                assert!(self.machine.take_ahead().is_none(), "one part at a time");
                self.machine.warm_ahead(work.run());
            }
            self.commit_all();
            match next {
                Next::Idle if !self.machine.take_turn_wish() => return,
                Next::Idle | Next::More | Next::Disk => {}
                Next::Read(work) => self.machine.warm(work.run()),
            }
        }
    }

    /// A checkpoint of what is applied becomes durable.
    pub fn checkpoint(&mut self) {
        let mut work = self.machine.begin_checkpoint("A");
        while let Some(portion) = work {
            let finished = self.machine.finish_work(portion.run()).unwrap();
            work = match finished {
                Finished::Checkpoint { .. } => None,
                // Something had to be moved first.
                Finished::Portion => self.machine.begin_checkpoint("A"),
            };
        }
    }

    /// The server dies, and what the log has of its first `kept` records comes back.
    pub fn restart(&mut self, kept: usize) {
        let records: Vec<Vec<u8>> = self.log.records.lock().drain(..).take(kept).collect();
        let state = self.checkpointed();
        let replayed = self.restart_with(records, &state);
        assert!(replayed.is_ok() || self.is_hostile, "a record or state of our own that cannot be read");
    }

    /// The server starts with these records and this state of the last checkpoint.
    pub fn restart_with(&mut self, records: Vec<Vec<u8>>, state: &[u8]) -> Result<(), Malformed> {
        let opened = Store::open(self.disk.disk(), "stream", self.options.clone()).unwrap();
        if let Ok(header) = Header::load(state) {
            self.config = header.config;
        }
        let parts = parts(self.config.clone(), opened.store, Commit::Memory, &self.usage, &self.listeners);
        self.machine = match state.is_empty() {
            true => Machine::new(parts).unwrap(),
            false => Machine::restore(parts, opened.position, state)?,
        };
        let mut replayed = Ok(());
        for (at, record) in records.iter().enumerate() {
            replayed = replayed.and(self.machine.replay(at as u64 + 1, record, self.now));
        }
        *self.log.committed.lock() = records.len();
        *self.log.records.lock() = records;
        self.machine.set_commit(Commit::Logged(self.log.clone()));
        self.machine.begin(self.now);
        replayed
    }

    /// The state of the last checkpoint.
    pub fn checkpointed(&self) -> Vec<u8> {
        Store::open(self.disk.disk(), "stream", self.options.clone()).unwrap().state
    }

    /// What the log has.
    pub fn records(&self) -> Vec<Vec<u8>> {
        self.log.records.lock().clone()
    }

    /// Records that the log has committed.
    pub fn committed(&self) -> usize {
        *self.log.committed.lock()
    }

    /// Takes what was published since the last time.
    pub fn take_said(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.said.0)
    }

    /// The messages stored.
    pub fn messages(&mut self) -> Vec<sonata_store::Message> {
        let mut messages = Vec::new();
        let store = self.machine.store();
        let mut from = 1;
        while let Some(message) = store.next_message(&Filter::all(), from).unwrap() {
            from = message.sequence + 1;
            messages.push(message);
        }
        messages
    }

    /// Plays a transcript: lines that say what happens, each followed by what is published because of it, in lines that
    /// begin with `>`. Returns the transcript with what was really published.
    ///
    /// * `stream <json>`: another stream, from the request to create it.
    /// * `pub <subject> <reply> [payload]`: a message, with headers in the indented lines behind; `-` is no reply.
    /// * `commit [count]`: the log commits so many records, or all.
    /// * `fail`, `resume`: the log loses what is not committed and refuses more; it takes records again.
    /// * `wait <duration>`: time goes on, and the log commits what comes of it.
    /// * `fire`: what is due when the next timer is set for happens; the log does not commit it yet.
    /// * `timer`: for when the next timer is set.
    /// * `purge <filter>`: a request to remove messages.
    /// * `checkpoint`, `restart`: the state is saved; the server starts again with what is committed.
    /// * `messages`: what is stored.
    ///
    /// Lines that begin with `#` and empty ones stand for themselves.
    pub fn play(transcript: &str) -> String {
        let mut world: Option<Self> = None;
        let mut played = String::new();
        let mut lines = transcript.lines().filter(|line| !line.starts_with('>')).peekable();
        while let Some(line) = lines.next() {
            writeln!(played, "{line}").unwrap();
            let mut headers = Vec::new();
            while let Some(header) = lines.next_if(|line| line.starts_with("  ")) {
                writeln!(played, "{header}").unwrap();
                headers.push(header[2..].to_owned());
            }
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            if verb == "stream" {
                world = Some(Self::new(rest));
                continue;
            }
            if verb.is_empty() || verb.starts_with('#') {
                continue;
            }
            let world = world.as_mut().unwrap();
            world.act(verb, rest, &headers, &mut played);
            for message in world.take_said() {
                let headers = message.headers.trim_end().replace("\r\n", " | ");
                let parts = [">", message.subject.as_str(), headers.as_str(), message.payload.as_str()];
                let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                writeln!(played, "{}", parts.join(" ")).unwrap();
            }
        }
        played
    }

    fn act(&mut self, verb: &str, rest: &str, headers: &[String], played: &mut String) {
        match verb {
            "pub" => {
                let mut parts = rest.splitn(3, ' ');
                let (subject, reply) = (parts.next().unwrap(), parts.next().unwrap());
                let reply = if reply == "-" { "" } else { reply };
                self.publish(subject, reply, headers, parts.next().unwrap_or_default());
            }
            "commit" => self.commit(rest.parse().unwrap_or(usize::MAX)),
            "fail" => self.fail(),
            "resume" => self.resume(),
            "wait" => {
                self.wait(duration::parse(rest).unwrap());
                self.commit_all();
            }
            "fire" => {
                self.now = self.machine.next_timer(self.now).unwrap().max(self.now);
                self.machine.on_timer(self.now, &mut self.said);
            }
            "timer" => match self.machine.next_timer(self.now) {
                Some(due) => writeln!(played, "> {}", Timestamp(due)).unwrap(),
                None => writeln!(played, "> none").unwrap(),
            },
            "purge" => {
                let purge = Purge { filter: rest.to_owned(), ..Purge::default() };
                self.machine.request_purge(&purge, b"", self.now, &mut self.said).unwrap();
                self.commit_all();
                self.said.0.clear();
            }
            "checkpoint" => self.checkpoint(),
            "restart" => {
                let committed = *self.log.committed.lock();
                self.restart(committed);
            }
            "messages" => {
                for message in self.messages() {
                    let text =
                        |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().replace("\r\n", " | ");
                    let parts = [text(&message.subject), text(&message.headers), text(&message.payload)];
                    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                    writeln!(played, "> {}: {}", message.sequence, parts.join(" ")).unwrap();
                }
            }
            other => panic!("{other} is no verb of a transcript"),
        }
    }
}

fn parts(
    config: StreamConfig,
    store: Store,
    commit: Commit,
    usage: &Arc<Usage>,
    listeners: &Arc<Listeners>,
) -> Parts {
    Parts {
        lane: LANE,
        domain: "".into(),
        account: "A".into(),
        config,
        created: START,
        store,
        commit,
        interest: listeners.clone(),
        seed: 1,
        usage: usage.clone(),
    }
}
