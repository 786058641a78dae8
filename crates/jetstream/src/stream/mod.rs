//! A stream and its consumers as one state machine.
//!
//! A request is *admitted*: judged against the state and what is on its way, and turned into a [`Record`] for the log, or
//! refused. When the log has the record for good it is *applied*: the state changes and effects come out (acknowledgements,
//! deliveries, advisories). Live or after a restart, state changes only by applying records, with one exception: what a
//! consumer delivers and what is acknowledged to it is taken into account at once and logged beside, because a delivery
//! that is forgotten is made again, which is allowed.
//!
//! [`Stream`] is the machine behind its lock, as the rest of the server knows it. The lock is never held over I/O except
//! when a message must be read that is not in memory and the caller said that it may.

mod admit;
mod apply;
mod batch;
mod checkpoint;
pub(crate) mod consumers;
mod counter;
mod decimal;
mod dedupe;
mod direct;
mod fast_batch;
mod feed;
mod filters;
mod following;
mod foretell;
mod in_flight;
mod info;
mod lifetime;
mod limits;
mod request;
mod restore;
mod schedules;
pub(crate) mod seats;
mod snapshot;
mod staged;
mod turn;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use sonata_store::Store;
use sonata_subject::transform::Transform;

use crate::api::error::ApiError;
use crate::config::{Retention, StreamConfig};
use crate::consumer::{Consumer, Dismissal, Scene};
use crate::outgoing::{Haste, Interest, Log, Publish};
use crate::record::Record;

pub use admit::Incoming;
pub use checkpoint::Header;
pub use direct::DirectGet;
pub use feed::{Ear, Ears, Heard};
pub use following::{Portion, Want};
pub use foretell::Foretold;
pub use restore::{RestoreError, Restoring};
pub use snapshot::{Reading, Snapshot};
use turn::Ahead;
pub use turn::{Next, Work, WorkDone};

use batch::Batches;
use consumers::Consumers;
use counter::Counters;
use dedupe::Dedupe;
use fast_batch::FastBatches;
use in_flight::InFlight;
use lifetime::Lifetimes;
use limits::{Aging, Limit};
use schedules::Schedules;

/// How records become durable.
#[derive(Clone)]
pub enum Commit {
    /// Applied when the log reports them.
    Logged(Arc<dyn Log>),
    /// Logged, and applied at once (`persist_mode: async`).
    Eager(Arc<dyn Log>),
    /// Applied at once, never logged (memory storage).
    Memory,
}

/// The deliver subjects of a stream's consumers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watched {
    /// Grows with every change.
    pub number: u64,
    /// The subjects.
    pub subjects: Vec<String>,
}

impl Watched {
    /// None, for good.
    pub(crate) fn nothing() -> Self {
        Self { number: u64::MAX, subjects: Vec::new() }
    }
}

/// Where an acknowledgement of a publish goes. Those of the official clients have 40 to 54 bytes and need no allocation.
pub(crate) type Reply = SmallVec<[u8; 56]>;

/// What is done for a record once it is committed.
#[derive(Debug)]
pub(crate) enum After {
    Nothing,
    /// A publish is acknowledged; an empty reply wants nothing.
    Published {
        reply: Reply,
        extra: Extra,
    },
    /// So is one that was stored before.
    Duplicate {
        reply: Reply,
        sequence: u64,
        extra: Extra,
    },
    /// A message of a fast batch is taken into account there.
    Fast(Box<fast_batch::Logged>),
    /// Those who asked are told that their acknowledgements are applied.
    Acknowledged(Vec<Box<[u8]>>),
    /// A request is answered.
    Request {
        asker: crate::audit::Asker,
        answer: request::Answer,
    },
}

/// What an acknowledgement of a publish says besides stream and sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Extra {
    None,
    /// Of a counter.
    Value(Box<str>),
    /// Of an atomic batch.
    Batch {
        id: Box<str>,
        count: u64,
    },
}

impl Extra {
    /// Appends the sequence and what follows it, to the end of the acknowledgement.
    fn append(&self, text: &mut Vec<u8>, sequence: u64, duplicate: bool) {
        crate::ack::append_number(text, sequence);
        if duplicate {
            text.extend_from_slice(b",\"duplicate\": true");
        }
        match self {
            Self::None => {}
            Self::Value(value) => {
                text.extend_from_slice(b",\"val\":");
                crate::json::append(text, value);
            }
            Self::Batch { id, count } => {
                text.extend_from_slice(b",\"batch\":");
                crate::json::append(text, id);
                text.extend_from_slice(b",\"count\":");
                crate::ack::append_number(text, *count);
            }
        }
        text.push(b'}');
    }
}

/// No turn is wanted.
const TURN_NONE: u8 = 0;
/// One is wanted and has not begun.
const TURN_ASKED: u8 = 1;
/// One is running.
const TURN_RUNNING: u8 = 2;
/// One is running, and another one is wanted after it.
const TURN_RUNNING_AND_ASKED: u8 = 3;

/// A stream of the server: the machine, its lock, and what must be known without the lock.
pub struct Stream {
    /// Its number in the log, and its identity: random, never used again.
    pub lane: u64,
    /// Number of its account.
    pub account: u32,
    /// Name.
    pub name: Arc<str>,
    machine: Mutex<Machine>,
    /// One of the `TURN_` constants.
    turn: AtomicU8,
    /// Interest in a deliver subject may have changed.
    review_asked: AtomicBool,
    deleted: AtomicBool,
    /// Its account has no JetStream now.
    resting: AtomicBool,
    /// Others take its messages.
    followed: AtomicBool,
}

/// See the module.
pub struct Machine {
    pub(crate) lane: u64,
    pub(crate) name: Arc<str>,
    pub(crate) domain: Arc<str>,
    /// Name of the account.
    account_name: Arc<str>,
    pub(crate) config: Arc<StreamConfig>,
    /// ns since 1970.
    pub(crate) created: i64,
    pub(crate) store: Store,
    commit: Commit,
    interest: Arc<dyn Interest>,
    in_flight: InFlight,
    ahead: Ahead,
    /// Sequence of the last message admitted.
    assigned: u64,
    dedupe: Dedupe,
    lifetimes: Lifetimes,
    counters: Counters,
    batches: Batches,
    fast_batches: FastBatches,
    schedules: Schedules,
    last_message_id: Box<[u8]>,
    /// The mirror's origin, or the sources.
    following: Vec<following::Following>,
    /// Origins that are not followed any more, until those who feed are told.
    parting: Vec<following::Following>,
    /// Subjects that feeds listen on, when they are others than the world was last told.
    ears: Option<Ears>,
    /// How often they have changed.
    ears_number: u64,
    /// Something was stored since followers were last told.
    stored: bool,
    /// The configuration has changed, and maybe who is followed.
    relinked: bool,
    pub(crate) consumers: Consumers,
    next_consumer: u64,
    transform: Option<Transform>,
    republish: Option<Transform>,
    /// `{"stream":"…","seq":`
    acknowledgement: Vec<u8>,
    scratch: Vec<u8>,
    random: u64,
    /// Position of the last record applied.
    applied: u64,
    aging: Aging,
    /// When messages and ids were last removed for their age, ns since 1970.
    reviewed_at: Option<i64>,
    /// Messages that damage had cost when consumers last counted theirs.
    lost: u64,
    /// Records applied since the last checkpoint, in bytes.
    unsaved_bytes: u64,
    /// The same for the checkpoint that is being written.
    saving_bytes: u64,
    checkpointing: bool,
    wants_turn: bool,
    /// Deliver subjects, when they are others than the world was last told.
    watched: Option<Watched>,
    /// How often they have changed.
    watched_number: u64,
    /// Storage refuses: publishes are, too.
    failed: Option<String>,
    pub(crate) usage: Arc<crate::account::Usage>,
}

/// What a new machine is made of.
pub struct Parts {
    /// Its number in the log.
    pub lane: u64,
    /// The domain; empty is none.
    pub domain: Arc<str>,
    /// Name of the account.
    pub account: Arc<str>,
    /// Configuration, checked.
    pub config: StreamConfig,
    /// ns since 1970.
    pub created: i64,
    /// Its messages.
    pub store: Store,
    /// How records become durable.
    pub commit: Commit,
    /// The account's subscriptions.
    pub interest: Arc<dyn Interest>,
    /// Seeds what is left to chance.
    pub seed: u64,
    /// What the account uses.
    pub usage: Arc<crate::account::Usage>,
}

impl Stream {
    /// A stream around its machine.
    pub fn new(account: u32, machine: Machine) -> Arc<Self> {
        Arc::new(Self {
            lane: machine.lane,
            account,
            name: machine.name.clone(),
            machine: Mutex::new(machine),
            turn: AtomicU8::new(TURN_NONE),
            review_asked: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            followed: AtomicBool::new(false),
        })
    }

    /// The machine. Keep it short: publishers wait.
    pub fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock()
    }

    /// A turn is wanted. True for the one who must see to it that one is run: nobody is about to run one, or running one.
    /// One that rests has none.
    pub fn ask_turn(&self) -> bool {
        if self.is_resting() {
            return false;
        }
        let asked = self.turn.try_update(Ordering::AcqRel, Ordering::Acquire, |turn| match turn {
            TURN_NONE => Some(TURN_ASKED),
            TURN_RUNNING => Some(TURN_RUNNING_AND_ASKED),
            _ => None,
        });
        asked == Ok(TURN_NONE)
    }

    /// The turn that was asked for begins. Only one runs at a time, until [`Stream::end_turn`]: what it delivers must be on
    /// its way before the next one delivers more.
    pub fn begin_turn(&self) {
        self.turn.store(TURN_RUNNING, Ordering::Release);
    }

    /// The turn is over. True when another one was wanted meanwhile, which the caller must see to.
    pub fn end_turn(&self) -> bool {
        let again = |turn| if turn == TURN_RUNNING_AND_ASKED { TURN_ASKED } else { TURN_NONE };
        self.turn.update(Ordering::AcqRel, Ordering::Acquire, again) == TURN_RUNNING_AND_ASKED
    }

    /// The turn that was asked for will not be run; somebody will ask again.
    pub fn cancel_turn(&self) {
        let _ = self.turn.compare_exchange(TURN_ASKED, TURN_NONE, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Interest in a deliver subject may have changed: the next turn looks. True for the first who says so.
    pub fn ask_review(&self) -> bool {
        !self.review_asked.swap(true, Ordering::AcqRel)
    }

    /// Whether interest is to be looked at; asking takes the wish.
    pub fn take_review(&self) -> bool {
        self.review_asked.swap(false, Ordering::AcqRel)
    }

    /// Notes whether others take its messages.
    pub(crate) fn set_followed(&self, followed: bool) {
        self.followed.store(followed, Ordering::Release);
    }

    /// Whether others take its messages.
    pub(crate) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Acquire)
    }

    /// It is gone, or about to be.
    pub fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    /// Whether it is gone.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Whether its account has no JetStream now. After it has again, somebody asks for a turn.
    pub(crate) fn set_resting(&self, resting: bool) {
        self.resting.store(resting, Ordering::Release);
    }

    /// Whether it neither takes nor delivers anything now.
    pub fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("name", &self.name).field("lane", &self.lane).finish_non_exhaustive()
    }
}

impl Machine {
    /// A stream with the messages of its store and no consumers.
    ///
    /// # Errors
    /// When a transform of the configuration is none: it was not checked.
    pub fn new(parts: Parts) -> Result<Self, ApiError> {
        let mut machine = Self {
            lane: parts.lane,
            name: parts.config.name.as_str().into(),
            domain: parts.domain,
            account_name: parts.account,
            created: parts.created,
            assigned: parts.store.state().last_sequence,
            store: parts.store,
            commit: parts.commit,
            interest: parts.interest,
            in_flight: InFlight::default(),
            ahead: Ahead::default(),
            dedupe: Dedupe::default(),
            lifetimes: Lifetimes::default(),
            counters: Counters::default(),
            batches: Batches::default(),
            fast_batches: FastBatches::default(),
            schedules: Schedules::default(),
            last_message_id: Box::default(),
            following: Vec::new(),
            parting: Vec::new(),
            ears: None,
            ears_number: 0,
            stored: false,
            relinked: false,
            consumers: Consumers::default(),
            next_consumer: 1,
            transform: None,
            republish: None,
            acknowledgement: Vec::new(),
            scratch: Vec::new(),
            random: parts.seed | 1,
            applied: 0,
            aging: Aging::default(),
            reviewed_at: None,
            lost: 0,
            unsaved_bytes: 0,
            saving_bytes: 0,
            checkpointing: false,
            wants_turn: false,
            watched: None,
            watched_number: 0,
            failed: None,
            usage: parts.usage,
            config: Arc::new(parts.config),
        };
        machine.compile()?;
        let state = machine.store.state();
        machine.usage.change(machine.config.storage, state.bytes as i64);
        Ok(machine)
    }

    /// What follows from the configuration.
    fn compile(&mut self) -> Result<(), ApiError> {
        let of = |source: &str, destination: &str| {
            Transform::parse(source, destination)
                .map_err(|error| crate::api::error::ErrorCode::StreamTransformInvalidDestination.with(error))
        };
        let config = self.config.clone();
        self.compile_following(&config)?;
        self.transform = config.subject_transform.as_ref().map(|it| of(&it.src, &it.dest)).transpose()?;
        self.republish = config.republish.as_ref().map(|it| of(&it.src, &it.dest)).transpose()?;
        self.acknowledgement = match self.domain.is_empty() {
            true => format!("{{\"stream\":\"{}\",\"seq\":", self.name),
            false => format!("{{\"stream\":\"{}\",\"domain\":\"{}\",\"seq\":", self.name, self.domain),
        }
        .into_bytes();
        Ok(())
    }

    /// From now on records become durable like this. A machine that is being restored is told when all is replayed.
    pub fn set_commit(&mut self, commit: Commit) {
        self.commit = commit;
    }

    /// Whether something was stored since this was last asked.
    pub fn take_stored(&mut self) -> bool {
        std::mem::take(&mut self.stored)
    }

    /// Whether the configuration has changed since this was last asked, and with it maybe who is followed.
    pub fn take_relinked(&mut self) -> bool {
        std::mem::take(&mut self.relinked)
    }

    /// Configuration.
    pub fn config(&self) -> &Arc<StreamConfig> {
        &self.config
    }

    /// Position of the last record applied: what a checkpoint of now covers.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Bytes of records since the last checkpoint.
    pub fn unsaved_bytes(&self) -> u64 {
        self.unsaved_bytes
    }

    /// Whether a turn should be run soon; asking takes the wish.
    pub fn take_turn_wish(&mut self) -> bool {
        std::mem::take(&mut self.wants_turn)
    }

    /// The deliver subjects whose interest the stream wants to know of, when they have changed.
    pub fn take_watched(&mut self) -> Option<Watched> {
        self.watched.take()
    }

    /// Push consumers have come, gone or changed.
    fn note_watched(&mut self) {
        let pushed = self.consumers.iter().filter(|consumer| consumer.config.is_push());
        let subjects = pushed.map(|consumer| consumer.config.deliver_subject.clone()).collect();
        self.watched_number += 1;
        self.watched = Some(Watched { number: self.watched_number, subjects });
    }

    /// The stream is gone: those who wait are told.
    pub fn on_deleted(&mut self, now: i64, out: &mut dyn Publish) {
        self.dismiss_all(Dismissal::ConsumerDeleted, now, out);
        for name in self.consumer_names() {
            self.tell_consumer(&name, crate::advisory::Action::Delete, now, out);
        }
        self.batches.clear();
        self.fast_batches.clear();
        self.end_feeds(out);
        let bytes = self.store.state().bytes as i64;
        self.usage.change(self.config.storage, -bytes);
    }

    /// The messages.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Logs a record; applies it now where the log need not be waited for.
    fn commit(
        &mut self,
        record: &Record<'_>,
        message: Option<in_flight::Message<'_>>,
        after: After,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        let (log, waits) = match &self.commit {
            Commit::Memory => {
                self.apply(record, 0, 0, Some(after), now, out);
                return Ok(());
            }
            Commit::Logged(log) => (log, true),
            Commit::Eager(log) => (log, false),
        };
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        record.encode(&mut bytes);
        let appended = log.append(self.lane, &bytes, self.haste_of(record, &after));
        let length = bytes.len();
        bytes.clear();
        bytes.shrink_to(64 * 1024);
        self.scratch = bytes;
        match appended {
            Ok(position) if waits => self.in_flight.push(position, after, message),
            Ok(position) => self.apply(record, position, length, Some(after), now, out),
            Err(refused) => return Err(refused_error(&refused)),
        }
        Ok(())
    }

    /// Deliveries and acknowledgements are taken into account before they are logged. Where they settle messages, the stream
    /// goes on when the log has them.
    fn haste_of(&self, record: &Record<'_>, after: &After) -> Haste {
        match (record, after) {
            (Record::Deliver { .. } | Record::Acknowledge { .. }, After::Nothing)
                if self.config.retention == Retention::Limits =>
            {
                Haste::Soon
            }
            _ => Haste::Now,
        }
    }

    /// The log cannot write: what was on its way is not stored, and its publishers are told.
    pub fn on_log_failed(&mut self, cause: &str, out: &mut dyn Publish) {
        self.failed = Some(cause.to_owned());
        let error = refused_error(&crate::outgoing::Refused::Failed(cause.to_owned()));
        for after in self.in_flight.drain() {
            match after {
                After::Published { reply, .. } | After::Duplicate { reply, .. } => {
                    self.refuse_publish(&reply, &error, out);
                }
                After::Fast(logged) => self.refuse_fast(&logged, &error, out),
                After::Request { asker, answer } => answer.refuse(asker, error.clone(), out),
                After::Acknowledged(_) | After::Nothing => {}
            }
        }
        self.assigned = self.store.state().last_sequence;
        self.aging = Aging::default();
        self.reviewed_at = None;
        self.lifetimes.on_log_failed();
        self.counters.clear();
        self.schedules.on_log_failed();
        self.rewind_following();
    }

    /// The log writes again. What consumers have been told since, and what of it the stream has not applied, is logged anew.
    pub fn on_log_resumed(&mut self, now: i64, out: &mut dyn Publish) {
        self.failed = None;
        for id in self.consumers.all() {
            let mut state = Vec::new();
            let Some(consumer) = self.consumers.by_number(id) else { continue };
            consumer.save(&mut state);
            // If it fails again we will be told again.
            let _ = self.commit(&Record::Consumer { id, state: &state }, None, After::Nothing, now, out);
            self.consumers.change(id, Consumer::log_unapplied);
        }
        self.wants_turn = true;
    }

    fn random(&mut self) -> u64 {
        next_random(&mut self.random)
    }

    /// Calls a consumer with what it needs. `None` when there is none of that name.
    pub(crate) fn with_consumer<T>(
        &mut self,
        name: &str,
        now: i64,
        out: &mut dyn Publish,
        call: impl FnOnce(&mut Consumer, &mut Scene<'_>) -> T,
    ) -> Option<T> {
        let id = self.consumers.number(name)?;
        self.with_consumer_of(id, now, out, call)
    }

    /// The same by its number.
    fn with_consumer_of<T>(
        &mut self,
        id: u64,
        now: i64,
        out: &mut dyn Publish,
        call: impl FnOnce(&mut Consumer, &mut Scene<'_>) -> T,
    ) -> Option<T> {
        let random = &mut self.random;
        let mut scene = Scene {
            store: &mut self.store,
            stream: &self.name,
            domain: &self.domain,
            now,
            out,
            interest: &*self.interest,
            random: &mut || next_random(random),
        };
        self.consumers.change(id, |consumer| call(consumer, &mut scene))
    }

    /// Tells everybody who waits that it is over.
    fn dismiss_all(&mut self, why: Dismissal, now: i64, out: &mut dyn Publish) {
        for id in self.consumers.all() {
            self.with_consumer_of(id, now, out, |consumer, scene| consumer.dismiss_waiting(scene, why));
        }
    }
}

/// Storage that refuses is an insufficient resource, as it is in the original.
pub(crate) fn refused_error(refused: &crate::outgoing::Refused) -> ApiError {
    crate::api::error::ErrorCode::StreamStoreFailed.with(refused)
}

/// xorshift; good enough to spread load and to sample.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("name", &self.name)
            .field("state", &self.store.state())
            .finish_non_exhaustive()
    }
}
