//! A consumer: where one reader of a stream stands, as a value.
//!
//! What it knows is in two parts. The *state* (what was delivered, what is unacknowledged) is in the stream's log and comes
//! back after a restart; the rest (who waits, who listens, flow control) is of the moment. It holds no messages: those are
//! the store's, and it is given the store when it moves. It moves when its stream commits, an acknowledgement or a pull
//! request arrives, or a timer is due; never by polling.
//!
//! Reading order: here what it is and its numbers; [`state`] what is remembered; `deliver` how messages go out;
//! `acknowledge` what comes back; `pull` and `push` the two ways of being served; `timer` what time brings.

mod acknowledge;
mod deliver;
mod notice;
mod pull;
mod push;
mod snapshot;
mod state;
mod timer;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::map::HashMap;
use sonata_store::{Error, Filter, Store};

use crate::ack::ReplyPrefix;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::response::{ConsumerInfo, PriorityGroupState, SequenceInfo};
use crate::config::{AckPolicy, ConsumerConfig, DeliverPolicy, PriorityPolicy, Retention, StreamConfig};
use crate::outgoing::{Interest, Publish};
use crate::record::{Acknowledged, Delivered, NUMBER_MAX};
use crate::timestamp::Timestamp;

pub(crate) use acknowledge::Settled;
pub(crate) use deliver::{Budget, Turn};
pub(crate) use pull::Dismissal;
use push::Push;
pub(crate) use state::Place;
pub(crate) use timer::Fate;
use waiting::WaitingQueue;

/// See the module.
#[derive(Debug)]
pub(crate) struct Consumer {
    /// Its number within the stream; never used again.
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) config: Arc<ConsumerConfig>,
    /// ns since 1970.
    pub(crate) created: i64,
    pub(crate) filter: Filter,
    replies: ReplyPrefix,
    retention: Retention,

    // The state.
    /// The first sequence that has not been considered for delivery.
    pub(crate) next: u64,
    /// Number of the last delivery.
    deliveries: u64,
    /// When something was last delivered, ns since 1970.
    last_delivered: Option<i64>,
    /// All up to here is acknowledged; numbers of delivery and message.
    pub(crate) ack_floor: Place,
    last_acknowledged: Option<i64>,
    /// Delivered and not acknowledged, by sequence of the message.
    unacknowledged: BTreeMap<u64, Unacknowledged>,
    /// How often messages were delivered that were delivered more than once, or will be.
    delivery_counts: HashMap<u64, u64>,
    /// What is left of the last messages of each subject; then goes on with the sequence.
    skip_list: Option<(VecDeque<u64>, u64)>,

    // Of the moment.
    /// Messages that match and were never delivered, see [`Consumer::pending`].
    pending: u64,
    /// What there was when they were counted; `None` when they must be counted anew.
    counted: Option<Extent>,
    /// To be delivered again, in order.
    redeliver: VecDeque<u64>,
    /// The same as a set.
    redeliver_set: BTreeSet<u64>,
    waiting: WaitingQueue,
    /// How often it was asked to deliver.
    turn: u64,
    push: Push,
    pin: Pin,
    /// What the log is to be told at the end of the turn.
    delivered_log: Vec<Delivered>,
    acknowledged_log: Vec<Acknowledged>,
    /// Who wants to be told that an acknowledgement is applied.
    acknowledged_replies: Vec<Box<[u8]>>,
    /// Settled in a stream that goes by acknowledgements, and not yet applied by it: until the log has it, the message stays.
    /// By sequence of the message.
    unapplied: BTreeMap<u64, Acknowledged>,
    /// While the log is replayed: the first delivery that it should have and has not.
    missing: Option<u64>,
    /// When unacknowledged messages are to be looked at again.
    ack_deadline: Option<i64>,
    /// When a client was last heard of, for the inactive threshold.
    last_active: i64,
    /// When those who wait were last looked at by a timer.
    waiting_reviewed_at: i64,
    /// The last sequence when a replay at the original pace began; up to there deliveries are paced.
    replay_until: u64,
    replayed_timestamp: i64,
    /// Nothing goes out before, for a replay or a rate limit.
    not_before: i64,
    /// Tokens of the rate limit, in bytes, as of `not_before`'s clock.
    rate_credit: (i64, f64),
}

/// What a stream had. While it has the same no message has come or gone: those that come move the end, and those that go
/// are fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    messages: u64,
    /// Sequence.
    last: u64,
}

/// A message that was delivered and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unacknowledged {
    /// Number of its first delivery.
    consumer: u64,
    /// When it was delivered last, or is treated as if, ns since 1970.
    sent_at: i64,
}

/// The pinned client of a consumer with that policy.
#[derive(Debug, Default)]
struct Pin {
    /// Its id; empty is none.
    id: String,
    since: i64,
    expires_at: i64,
}

/// What a consumer is given when it moves.
pub(crate) struct Scene<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) stream: &'a str,
    pub(crate) domain: &'a str,
    /// ns since 1970.
    pub(crate) now: i64,
    pub(crate) out: &'a mut dyn Publish,
    pub(crate) interest: &'a dyn Interest,
    pub(crate) random: &'a mut dyn FnMut() -> u64,
}

impl Extent {
    fn of(store: &Store) -> Self {
        let state = store.state();
        Self { messages: state.messages, last: state.last_sequence }
    }
}

impl Consumer {
    /// A consumer that has delivered nothing. Its configuration has been checked.
    ///
    /// # Errors
    /// When the store cannot tell where it is to start.
    pub(crate) fn new(
        id: u64,
        name: &str,
        config: ConsumerConfig,
        stream: &StreamConfig,
        store: &mut Store,
        now: i64,
    ) -> Result<Self, Error> {
        let filter = filter_of(&config, stream, store);
        let mut consumer = Self {
            id,
            name: name.into(),
            created: now,
            filter,
            replies: ReplyPrefix::v1(&stream.name, name),
            retention: stream.retention,
            next: 1,
            deliveries: 0,
            last_delivered: None,
            ack_floor: Place::default(),
            last_acknowledged: None,
            unacknowledged: BTreeMap::new(),
            delivery_counts: HashMap::default(),
            skip_list: None,
            pending: 0,
            counted: None,
            redeliver: VecDeque::new(),
            redeliver_set: BTreeSet::new(),
            waiting: WaitingQueue::default(),
            turn: 0,
            push: Push::default(),
            pin: Pin::default(),
            delivered_log: Vec::new(),
            acknowledged_log: Vec::new(),
            acknowledged_replies: Vec::new(),
            unapplied: BTreeMap::new(),
            missing: None,
            ack_deadline: None,
            last_active: now,
            waiting_reviewed_at: now,
            replay_until: 0,
            replayed_timestamp: 0,
            not_before: 0,
            rate_credit: (now, 0.0),
            config: Arc::new(config),
        };
        consumer.start(stream, store)?;
        consumer.begin(store)?;
        Ok(consumer)
    }

    /// Where the deliver policy begins.
    fn start(&mut self, stream: &StreamConfig, store: &mut Store) -> Result<(), Error> {
        let state = store.state();
        let (first, last) = (state.first_sequence, state.last_sequence);
        let start_sequence = self.config.opt_start_seq;
        self.next = match self.config.deliver_policy {
            _ if start_sequence > 0 => start_sequence,
            DeliverPolicy::All => first,
            DeliverPolicy::Last if self.filter.is_all() => last,
            DeliverPolicy::Last => store.last(&self.filter, u64::MAX)?.unwrap_or(0),
            DeliverPolicy::LastPerSubject if stream.max_msgs_per_subject == 1 => first,
            DeliverPolicy::LastPerSubject => {
                let lasts = store.last_per_subject(&self.filter, u64::MAX, usize::MAX)?.unwrap_or_default();
                let start = lasts.first().copied().unwrap_or(last);
                self.skip_list = (!lasts.is_empty()).then(|| (lasts.into(), last + 1));
                start
            }
            DeliverPolicy::ByStartTime => match self.config.opt_start_time {
                Some(time) => store.sequence_at(time.0)?,
                None => first,
            },
            DeliverPolicy::New | DeliverPolicy::ByStartSequence => last + 1,
        };
        if start_sequence == 0 {
            self.next = self.next.min(last + 1);
        }
        self.next = self.next.max(first).clamp(1, NUMBER_MAX);
        self.ack_floor = Place { consumer: 0, stream: self.next - 1 };
        Ok(())
    }

    /// What follows from the state, when it is new, restored or changed.
    pub(crate) fn begin(&mut self, store: &mut Store) -> Result<(), Error> {
        self.count_pending(store)?;
        self.push = Push::new(&self.config);
        if self.config.replay_policy == crate::config::ReplayPolicy::Original {
            self.replay_until = store.state().last_sequence;
        }
        self.plan_ack_deadline();
        Ok(())
    }

    /// Messages that match and were never delivered.
    pub(crate) fn pending(&mut self, store: &mut Store) -> u64 {
        let is_counted = match self.counted {
            Some(counted) => self.is_told() || counted == Extent::of(store),
            None => false,
        };
        if !is_counted {
            // A store that cannot count now will be asked again.
            let _ = self.count_pending(store);
        }
        self.pending
    }

    /// Whether it counts what the stream stores and removes, and must be told of all that matches. Without a filter the
    /// store counts as fast as it is told, so that nobody need be told who has nothing else to do with it.
    fn is_told(&self) -> bool {
        !self.filter.is_all() || self.skip_list.is_some()
    }

    /// Counts what was never delivered.
    pub(crate) fn count_pending(&mut self, store: &mut Store) -> Result<(), Error> {
        self.counted = None;
        self.pending = match &self.skip_list {
            None => store.pending(&self.filter, self.next)?,
            Some((lasts, resume)) => {
                let mut left = 0;
                for sequence in lasts {
                    left += u64::from(store.get(*sequence)?.is_some());
                }
                left + store.pending(&self.filter, *resume)?
            }
        };
        self.counted = Some(Extent::of(store));
        Ok(())
    }

    /// What was never delivered must be counted anew before it is used.
    pub(crate) fn forget_count(&mut self) {
        self.counted = None;
    }

    /// Whether it is the kind that keeps messages alive in a stream that goes by acknowledgements.
    pub(crate) fn is_wanted(&self, sequence: u64, subject: &[u8]) -> bool {
        if !self.filter.matches(subject) {
            return false;
        }
        let open = match self.config.ack_policy {
            AckPolicy::None => sequence >= self.next,
            AckPolicy::All | AckPolicy::FlowControl => sequence > self.ack_floor.stream,
            AckPolicy::Explicit => sequence >= self.next || self.unacknowledged.contains_key(&sequence),
        };
        open || self.is_given_up(sequence)
    }

    /// Delivered as often as it may be, and never acknowledged: somebody may still come for it, so the stream keeps it.
    fn is_given_up(&self, sequence: u64) -> bool {
        self.delivery_counts.contains_key(&sequence) && !self.unacknowledged.contains_key(&sequence)
    }

    /// Whether it has been given a message and wants it no more.
    pub(crate) fn is_done_with(&self, sequence: u64, subject: &[u8]) -> bool {
        sequence < self.next && self.filter.matches(subject) && !self.is_wanted(sequence, subject)
    }

    /// The stream has stored a message. Whether it is one to be delivered.
    pub(crate) fn on_stored(&mut self, sequence: u64, subject: &[u8]) -> bool {
        let matches = sequence >= self.next && self.filter.matches(subject);
        if self.counts_along() {
            self.pending += u64::from(matches);
        }
        matches
    }

    /// Whether a message more or less changes what it has counted.
    fn counts_along(&self) -> bool {
        self.counted.is_some() && self.is_told()
    }

    /// Whether a message that is stored concerns it although it has no filter.
    pub(crate) fn is_expectant(&self) -> bool {
        self.is_active() || self.skip_list.is_some()
    }

    /// Whether the removal of a message may concern it although it has no filter.
    pub(crate) fn is_holding(&self) -> bool {
        !self.unacknowledged.is_empty() || !self.delivery_counts.is_empty() || self.skip_list.is_some()
    }

    /// The last message that it was given and that is not settled; 0 is none.
    pub(crate) fn last_held(&self) -> u64 {
        let unacknowledged = self.unacknowledged.last_key_value().map(|(sequence, _)| *sequence);
        unacknowledged.into_iter().chain(self.delivery_counts.keys().copied()).max().unwrap_or(0)
    }

    /// Whether it was given a message up to this sequence that is not settled.
    pub(crate) fn holds_up_to(&self, sequence: u64) -> bool {
        self.unacknowledged.first_key_value().is_some_and(|(first, _)| *first <= sequence)
            || self.delivery_counts.keys().any(|held| *held <= sequence)
    }

    /// The stream has lost one message to a limit, a deletion or its age.
    pub(crate) fn on_removed(&mut self, scene: &mut Scene<'_>, sequence: u64, subject: &[u8]) {
        if self.counts_along()
            && sequence >= self.next
            && self.is_in_skip_list(sequence)
            && self.filter.matches(subject)
        {
            self.pending = self.pending.saturating_sub(1);
        }
        if let Some(unacknowledged) = self.unacknowledged.get(&sequence).copied() {
            let count = self.delivery_count(sequence);
            self.terminate(
                scene,
                sequence,
                unacknowledged.consumer,
                count,
                "Message deleted by stream limits",
            );
        } else {
            self.delivery_counts.remove(&sequence);
        }
    }

    /// Without a skip list everything counts.
    fn is_in_skip_list(&self, sequence: u64) -> bool {
        self.skip_list.as_ref().is_none_or(|(lasts, resume)| sequence >= *resume || lasts.contains(&sequence))
    }

    /// The stream has lost many messages at once: everything before `first`, and more when `wider`.
    pub(crate) fn on_cut(&mut self, store: &mut Store, first: u64, wider: bool) {
        if wider || self.next < first {
            self.forget_count();
        }
        self.next = self.next.max(first);
        let mut is_there = |sequence: u64| {
            sequence >= first
                && (!wider || store.next(&Filter::all(), sequence).is_ok_and(|next| next == Some(sequence)))
        };
        // Those that were given up are only here, and may be below the floor.
        self.delivery_counts.retain(|sequence, _| is_there(*sequence));
        if self.ack_floor.stream < first || wider {
            let mut floor = self.ack_floor.consumer;
            self.unacknowledged.retain(|sequence, entry| {
                let stays = is_there(*sequence);
                if !stays {
                    floor = floor.max(entry.consumer);
                }
                stays
            });
            let Self { redeliver, redeliver_set, unacknowledged, .. } = self;
            redeliver_set.retain(|sequence| unacknowledged.contains_key(sequence));
            redeliver.retain(|sequence| unacknowledged.contains_key(sequence));
            // Never past a delivery that is still to be answered: the answer would be taken for an old one.
            let open = self.unacknowledged.values().map(|entry| entry.consumer).min();
            self.ack_floor = match open {
                Some(open) => Place {
                    consumer: floor.min(open.saturating_sub(1)).max(self.ack_floor.consumer),
                    stream: self.ack_floor.stream.max(first.saturating_sub(1)),
                },
                None => Place { consumer: self.deliveries, stream: self.next - 1 },
            };
        }
    }

    /// Number of deliveries of a message that was delivered.
    fn delivery_count(&self, sequence: u64) -> u64 {
        self.delivery_counts.get(&sequence).copied().unwrap_or(1).max(1)
    }

    fn queue_redelivery(&mut self, sequence: u64) {
        if self.redeliver_set.insert(sequence) {
            self.redeliver.push_back(sequence);
        }
    }

    fn forget_redelivery(&mut self, sequence: u64) {
        if self.redeliver_set.remove(&sequence) {
            self.redeliver.retain(|queued| *queued != sequence);
        }
    }

    /// Whether anything could go out now, were there somebody to take it.
    pub(crate) fn has_work(&mut self, store: &mut Store) -> bool {
        self.is_active() && (!self.redeliver.is_empty() || self.pending(store) > 0)
    }

    /// Whether a message that has just been stored could go out now.
    pub(crate) fn takes_new(&self, now: i64) -> bool {
        self.is_active() && !self.is_held_up(now) && !self.is_full()
    }

    /// Whether nothing may go out before its time comes or the client answers.
    fn is_held_up(&self, now: i64) -> bool {
        self.is_paused(now) || self.not_before > now || self.push.is_stalled()
    }

    /// Whether as much waits for acknowledgements as may.
    fn is_full(&self) -> bool {
        let max = self.config.max_ack_pending;
        self.config.ack_policy != AckPolicy::None && max > 0 && self.unacknowledged.len() as i64 >= max
    }

    /// Whether it may be delivered to now.
    pub(crate) fn is_paused(&self, now: i64) -> bool {
        self.config.pause_until.is_some_and(|until| until.0 > now)
    }

    /// Whether its deliveries and acknowledgements are in the stream's log.
    pub(crate) fn is_logged(&self) -> bool {
        !self.config.mem_storage && (self.config.ack_policy != AckPolicy::None || self.config.is_durable())
    }

    /// Whether somebody is there to be served: a push consumer's listener, a pull consumer's request.
    pub(crate) fn is_active(&self) -> bool {
        self.push.is_active() || !self.waiting.is_empty()
    }

    /// Its filters, limits or times are others now.
    pub(crate) fn reconfigure(
        &mut self,
        config: ConsumerConfig,
        stream: &StreamConfig,
        store: &mut Store,
    ) -> Result<(), Error> {
        let filter = filter_of(&config, stream, store);
        let refiltered = config.filters() != self.config.filters();
        let subject = config.deliver_subject != self.config.deliver_subject;
        self.filter = filter;
        self.config = Arc::new(config);
        if refiltered {
            self.skip_list = None;
            self.count_pending(store)?;
        }
        if subject {
            self.push = Push::new(&self.config);
        }
        self.plan_ack_deadline();
        Ok(())
    }

    /// The stream's subjects are others now.
    pub(crate) fn refilter(&mut self, stream: &StreamConfig, store: &mut Store) {
        self.filter = filter_of(&self.config, stream, store);
        self.forget_count();
        self.retention = stream.retention;
        if self.retention == Retention::Limits {
            self.unapplied.clear();
        }
    }

    /// What the API shows of it.
    pub(crate) fn info(&mut self, scene: &mut Scene<'_>) -> ConsumerInfo {
        self.expire_waiting(scene, false);
        let num_pending = self.pending(scene.store);
        let remaining = self.config.pause_until.map_or(0, |until| until.0.saturating_sub(scene.now));
        let (group, pin) = (self.config.priority_groups.first(), &self.pin);
        ConsumerInfo {
            stream_name: scene.stream.to_owned(),
            name: self.name.to_string(),
            created: Timestamp(self.created),
            config: Some((*self.config).clone()),
            delivered: SequenceInfo {
                consumer_seq: self.deliveries,
                stream_seq: self.next - 1,
                last_active: self.last_delivered.map(Timestamp),
            },
            ack_floor: SequenceInfo {
                consumer_seq: self.ack_floor.consumer,
                stream_seq: self.ack_floor.stream,
                last_active: self.last_acknowledged.map(Timestamp),
            },
            num_ack_pending: self.unacknowledged.len() as u64,
            num_redelivered: if self.config.max_deliver == 1 { 0 } else { self.delivery_counts.len() as u64 },
            num_waiting: self.waiting.len() as u64,
            num_pending,
            cluster: None,
            push_bound: self.push.is_active(),
            paused: remaining > 0,
            pause_remaining: remaining.max(0),
            ts: Timestamp(scene.now),
            priority_groups: group
                .map(|group| PriorityGroupState {
                    group: group.clone(),
                    pinned_client_id: pin.id.clone(),
                    pinned_ts: if pin.id.is_empty() { Timestamp::ZERO } else { Timestamp(pin.since) },
                })
                .into_iter()
                .collect(),
        }
    }

    /// Whether it may go on from another place in the stream; 0 is its acknowledgement floor.
    ///
    /// # Errors
    /// When its deliver policy does not let it.
    pub(crate) fn check_reset(&self, sequence: u64, store: &mut Store) -> Result<(), ApiError> {
        let refuse = |text: &str| Err(ErrorCode::ConsumerInvalidReset.with(text));
        match self.config.deliver_policy {
            _ if sequence == 0 => Ok(()),
            DeliverPolicy::All => Ok(()),
            DeliverPolicy::ByStartSequence if sequence < self.config.opt_start_seq => {
                refuse("below start seq")
            }
            DeliverPolicy::ByStartSequence => Ok(()),
            DeliverPolicy::ByStartTime => {
                let start = self.config.opt_start_time.unwrap_or(Timestamp::ZERO);
                match store.sequence_at(start.0) {
                    Ok(first) if sequence < first => refuse("below start time"),
                    _ => Ok(()),
                }
            }
            _ => refuse("not allowed"),
        }
    }

    /// Goes on from another place in the stream: `sequence`, or with 0 the acknowledgement floor. Returns where.
    pub(crate) fn reset(&mut self, sequence: u64, store: &mut Store) -> Result<u64, Error> {
        let next = if sequence == 0 { self.ack_floor.stream + 1 } else { sequence };
        self.next = next.clamp(1, NUMBER_MAX);
        self.deliveries = 0;
        self.unacknowledged.clear();
        self.delivery_counts.clear();
        self.redeliver.clear();
        self.redeliver_set.clear();
        self.unapplied.clear();
        self.skip_list = None;
        self.ack_floor = Place { consumer: 0, stream: self.next - 1 };
        self.last_delivered = None;
        self.last_acknowledged = None;
        self.count_pending(store)?;
        Ok(self.next)
    }

    fn is_pinned_policy(&self) -> bool {
        self.config.priority_policy == PriorityPolicy::PinnedClient
    }
}

/// What a consumer takes. A filter that leaves out nothing that can be in the stream is none: it need not be looked at.
fn filter_of(config: &ConsumerConfig, stream: &StreamConfig, store: &mut Store) -> Filter {
    let filters = config.filters();
    // What comes from other streams may have any subject.
    let only_own = stream.mirror.is_none() && stream.sources.is_empty() && stream.subject_transform.is_none();
    let covers = |subject: &String| {
        filters.iter().any(|filter| sonata_subject::is_subset(subject.as_bytes(), filter.as_bytes()))
    };
    let filter = Filter::new(filters);
    // What was stored before the stream's subjects were changed may still be there.
    let all = only_own && !filters.is_empty() && stream.subjects.iter().all(covers);
    if all && store.pending(&filter, 0).is_ok_and(|matching| matching == store.state().messages) {
        return Filter::all();
    }
    filter
}
