//! The model: lists, and nothing clever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sonata_jetstream::api::response::ConsumerInfo;
use sonata_jetstream::config::{Discard, Retention, StreamConfig};

pub const SECOND: i64 = 1_000_000_000;
/// Never at the same moment as another time of the tests.
pub const ACK_WAIT: i64 = 7_300_000_007;
pub const MAX_AGE: i64 = 20_100_000_000;
pub const WINDOW: i64 = 15_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckPolicy {
    None,
    All,
    Explicit,
}

impl AckPolicy {
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::All => "all",
            Self::Explicit => "explicit",
        }
    }
}

/// Where a consumer starts.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    All,
    New,
    Last,
    LastPerSubject,
    Sequence(u64),
    /// ns since 1970.
    Time(i64),
}

pub struct Model {
    retention: Retention,
    discards_new: bool,
    max_messages: i64,
    max_bytes: i64,
    max_per_subject: i64,
    max_age: i64,
    now: i64,
    pub last: u64,
    messages: Vec<Message>,
    /// Id, sequence, and when it was used.
    ids: Vec<(u8, u64, i64)>,
    pub consumers: BTreeMap<String, Consumer>,
}

struct Message {
    sequence: u64,
    subject: &'static str,
    payload: String,
    bytes: u64,
    stored_at: i64,
    ends_at: Option<i64>,
}

pub struct Consumer {
    filters: Vec<String>,
    policy: AckPolicy,
    max_deliver: i64,
    max_ack_pending: i64,
    /// Somebody always listens.
    is_push: bool,
    deliveries: u64,
    /// Never delivered.
    todo: BTreeSet<u64>,
    unacknowledged: BTreeMap<u64, Unacknowledged>,
    /// To come again, in order.
    again: VecDeque<u64>,
    /// Of messages that were delivered more than once.
    counts: BTreeMap<u64, u64>,
    given_up: BTreeSet<u64>,
    /// Answers up to here are too old with the policy `all`: numbers of delivery and message, as the machine says.
    floor: (u64, u64),
    /// What those want who wait.
    waiting: Vec<usize>,
    paused_until: i64,
    delivered: Vec<(u64, u64)>,
}

struct Unacknowledged {
    first: u64,
    due: i64,
    /// As it is in the log.
    due_after_restart: i64,
}

impl Model {
    pub fn new(config: &StreamConfig, now: i64) -> Self {
        Self {
            retention: config.retention,
            discards_new: config.discard == Discard::New,
            max_messages: config.max_msgs,
            max_bytes: config.max_bytes,
            max_per_subject: config.max_msgs_per_subject,
            max_age: config.max_age,
            now,
            last: 0,
            messages: Vec::new(),
            ids: Vec::new(),
            consumers: BTreeMap::new(),
        }
    }

    /// Whether messages stay for those who want them.
    pub fn is_interest(&self) -> bool {
        self.retention == Retention::Interest
    }

    pub fn is_work_queue(&self) -> bool {
        self.retention == Retention::WorkQueue
    }

    /// The sequence, and whether it is a duplicate; an error is a refusal.
    #[expect(clippy::too_many_arguments, reason = "what a publish may say")]
    pub fn publish(
        &mut self,
        subject: &'static str,
        number: u64,
        headers: usize,
        id: Option<u8>,
        ttl: Option<u8>,
        rolls_up: bool,
        expected: Option<u8>,
    ) -> Result<(u64, bool), ()> {
        let on_subject = |message: &&Message| message.subject == subject;
        let last_on_subject = self.messages.iter().rfind(on_subject).map_or(0, |message| message.sequence);
        if expected.is_some_and(|expected| u64::from(expected) != last_on_subject) {
            return Err(());
        }
        let known = self.ids.iter().rfind(|known| Some(known.0) == id && known.2 >= self.now - WINDOW);
        if let Some(known) = known {
            return Ok((known.1, true));
        }
        let payload = format!("message {number}");
        let header_bytes = if headers > 0 { headers + 4 } else { 0 };
        let bytes = (22 + subject.len() + header_bytes + payload.len() + 8) as u64;
        let wanted = self.consumers.values().any(|consumer| consumer.matches(subject));
        let is_kept = self.retention != Retention::Interest || wanted;
        if self.discards_new && is_kept {
            let full = self.max_messages > 0 && self.messages.len() as i64 >= self.max_messages;
            let fat = self.max_bytes > 0 && self.bytes() + bytes > self.max_bytes as u64;
            let replaces = self.max_per_subject > 0
                && self.messages.iter().filter(on_subject).count() as i64 >= self.max_per_subject;
            if (full || fat) && !replaces {
                return Err(());
            }
        }
        self.last += 1;
        let sequence = self.last;
        self.ids.extend(id.map(|id| (id, sequence, self.now)));
        if is_kept {
            let ends_at = ttl.map(|ttl| self.now + i64::from(ttl) * SECOND);
            self.messages.push(Message { sequence, subject, payload, bytes, stored_at: self.now, ends_at });
            for consumer in self.consumers.values_mut().filter(|consumer| consumer.matches(subject)) {
                consumer.todo.insert(sequence);
            }
        }
        if rolls_up {
            self.remove_where(|message| message.subject == subject && message.sequence < sequence);
        }
        self.make_room();
        Ok((sequence, false))
    }

    pub fn remove(&mut self, sequence: u64) {
        self.remove_where(|message| message.sequence == sequence);
    }

    pub fn purge(&mut self, subject: &str, keep: usize) {
        let matching =
            self.messages.iter().filter(|message| subject.is_empty() || message.subject == subject);
        let mut gone: Vec<u64> = matching.map(|message| message.sequence).collect();
        gone.truncate(gone.len().saturating_sub(keep));
        self.remove_where(|message| gone.contains(&message.sequence));
    }

    pub fn purge_before(&mut self, subject: &str, before: u64) {
        self.remove_where(|message| {
            message.sequence < before && (subject.is_empty() || message.subject == subject)
        });
        if subject.is_empty() {
            self.last = self.last.max(before - 1);
        }
    }

    pub fn limit(&mut self, messages: usize, per_subject: usize) {
        (self.max_messages, self.max_per_subject) = (messages as i64, per_subject as i64);
        let discards_new = std::mem::replace(&mut self.discards_new, false);
        self.make_room();
        self.discards_new = discards_new;
        self.sweep();
    }

    fn make_room(&mut self) {
        if self.max_per_subject > 0 {
            let subjects: BTreeSet<&str> = self.messages.iter().map(|message| message.subject).collect();
            for subject in subjects {
                self.purge(subject, self.max_per_subject as usize);
            }
        }
        while !self.discards_new
            && (self.max_messages > 0 && self.messages.len() as i64 > self.max_messages
                || self.max_bytes > 0 && self.bytes() > self.max_bytes as u64)
        {
            let first = self.messages[0].sequence;
            self.remove(first);
        }
    }

    fn bytes(&self) -> u64 {
        self.messages.iter().map(|message| message.bytes).sum()
    }

    fn remove_where(&mut self, goes: impl Fn(&Message) -> bool) {
        let gone: Vec<u64> =
            self.messages.iter().filter(|message| goes(message)).map(|message| message.sequence).collect();
        self.messages.retain(|message| !gone.contains(&message.sequence));
        for consumer in self.consumers.values_mut() {
            for sequence in &gone {
                consumer.todo.remove(sequence);
                consumer.settle(*sequence);
            }
        }
    }

    pub fn add_consumer(&mut self, name: &str, mut consumer: Consumer, start: Start) {
        let matching = |message: &&Message| consumer.matches(message.subject);
        let all: Vec<u64> = self.messages.iter().filter(matching).map(|message| message.sequence).collect();
        let from = match start {
            Start::All | Start::LastPerSubject => 0,
            Start::New => u64::MAX,
            Start::Last if consumer.filters == [">"] => self.last,
            Start::Last => all.last().copied().unwrap_or(0),
            Start::Sequence(sequence) => sequence,
            Start::Time(time) => {
                let later = self.messages.iter().find(|message| message.stored_at >= time);
                later.map_or(u64::MAX, |message| message.sequence)
            }
        };
        consumer.todo = all.into_iter().filter(|sequence| *sequence >= from).collect();
        if matches!(start, Start::LastPerSubject) {
            let subject_of =
                |sequence: &u64| self.messages.iter().find(|it| it.sequence == *sequence).unwrap().subject;
            let lasts: BTreeMap<&str, u64> = consumer.todo.iter().map(|it| (subject_of(it), *it)).collect();
            consumer.todo = lasts.into_values().collect();
        }
        self.consumers.insert(name.to_owned(), consumer);
    }

    /// `next` is the first sequence that it has not considered.
    pub fn change_consumer(&mut self, name: &str, new: Consumer, next: u64) {
        let consumer = self.consumers.get_mut(name).unwrap();
        if consumer.filters != new.filters {
            let matching = self.messages.iter().filter(|message| new.matches(message.subject));
            consumer.todo = matching.map(|it| it.sequence).filter(|sequence| *sequence >= next).collect();
        }
        let refiltered = consumer.filters != new.filters;
        consumer.filters = new.filters;
        consumer.max_deliver = new.max_deliver;
        consumer.max_ack_pending = new.max_ack_pending;
        consumer.paused_until = new.paused_until;
        consumer.is_logged();
        if refiltered {
            self.sweep();
        }
    }

    pub fn drop_consumer(&mut self, name: &str) {
        if self.consumers.remove(name).is_some() && self.retention == Retention::Interest {
            self.sweep();
        }
    }

    /// What somebody wants; a consumer whose filters were changed does not want what it was delivered before.
    fn wanted(&self) -> BTreeSet<u64> {
        let is_wanted = |message: &&Message| {
            let sequence = message.sequence;
            self.consumers.values().any(|it| it.matches(message.subject) && it.wants(sequence))
        };
        self.messages.iter().filter(is_wanted).map(|message| message.sequence).collect()
    }

    /// What nobody wants goes, where messages are kept for those who want them.
    fn sweep(&mut self) {
        if self.retention != Retention::Interest {
            return;
        }
        let wanted = self.wanted();
        self.remove_where(|message| !wanted.contains(&message.sequence));
    }

    pub fn pause(&mut self, name: &str, until: i64) {
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.paused_until = until;
            consumer.is_logged();
        }
    }

    pub fn pull(&mut self, name: &str, batch: usize) {
        let Some(consumer) = self.consumers.get_mut(name).filter(|it| !it.is_push) else { return };
        let available = consumer.todo.len() + consumer.again.len();
        if available > 0 && available >= consumer.waiting.iter().sum() {
            consumer.waiting.push(batch);
        }
    }

    pub fn answer(&mut self, name: &str, sequence: u64, number: u64, answer: &str) {
        let now = self.now;
        let Some(consumer) = self.consumers.get_mut(name) else { return };
        let is_known = consumer.unacknowledged.contains_key(&sequence);
        let is_below = consumer.policy == AckPolicy::All && number <= consumer.floor.0;
        match answer {
            _ if consumer.policy == AckPolicy::None => {}
            "-NAK" if is_known && !is_below => consumer.queue(sequence),
            "-NAK {\"delay\":3000000000}" if is_known && !is_below => {
                consumer.again.retain(|queued| *queued != sequence);
                consumer.unacknowledged.get_mut(&sequence).unwrap().due = now + 3 * SECOND;
            }
            "+WPI" if is_known => consumer.unacknowledged.get_mut(&sequence).unwrap().due = now + ACK_WAIT,
            "+ACK" | "+TERM" if consumer.policy == AckPolicy::All => {
                if sequence <= consumer.floor.1 || is_below {
                    return;
                }
                consumer.floor = (consumer.floor.0.max(number), sequence);
                let below: Vec<u64> =
                    consumer.unacknowledged.range(..=sequence).map(|(sequence, _)| *sequence).collect();
                below.iter().for_each(|sequence| consumer.settle(*sequence));
                self.settle(&[&below[..], &[sequence]].concat());
            }
            "+ACK" | "+TERM" => {
                consumer.settle(sequence);
                self.settle(&[sequence]);
            }
            _ => {}
        }
    }

    /// Messages have been acknowledged: they go where acknowledged messages go, unless others want them.
    fn settle(&mut self, settled: &[u64]) {
        if self.retention == Retention::Limits {
            return;
        }
        let wanted = self.wanted();
        self.remove_where(|message| {
            settled.contains(&message.sequence) && !wanted.contains(&message.sequence)
        });
    }

    pub fn wait(&mut self, nanos: i64) {
        let until = self.now + nanos;
        while let Some(due) = self.next_due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let (now, max_age) = (self.now, self.max_age);
            self.remove_where(|message| message.end(max_age).is_some_and(|end| end <= now));
            self.consumers.values_mut().for_each(|consumer| consumer.on_time(now));
            self.deliver();
        }
        self.now = until;
    }

    fn next_due(&self) -> Option<i64> {
        let ends = self.messages.iter().filter_map(|message| message.end(self.max_age));
        let acks = self.consumers.values().filter_map(Consumer::next_due);
        let pauses = self.consumers.values().map(|consumer| consumer.paused_until);
        ends.chain(acks).chain(pauses.filter(|until| *until > self.now)).min()
    }

    pub fn restart(&mut self) {
        for consumer in self.consumers.values_mut() {
            consumer.waiting.clear();
            consumer.again.clear();
            for entry in consumer.unacknowledged.values_mut() {
                entry.due = entry.due_after_restart;
            }
        }
        // What was due meanwhile.
        self.wait(0);
    }

    /// All that is known of consumers is written down.
    pub fn log_consumers(&mut self) {
        self.consumers.values_mut().for_each(Consumer::is_logged);
    }

    /// Delivers what can be delivered.
    pub fn deliver(&mut self) {
        let now = self.now;
        let mut settled = Vec::new();
        for consumer in self.consumers.values_mut() {
            let before = consumer.delivered.len();
            consumer.deliver(now);
            if consumer.policy == AckPolicy::None {
                settled.extend(consumer.delivered[before..].iter().map(|(sequence, _)| *sequence));
            }
        }
        self.settle(&settled);
    }

    pub fn take_delivered(&mut self) -> BTreeMap<String, Vec<(u64, u64)>> {
        let all = self.consumers.iter_mut();
        let taken = all.map(|(name, consumer)| (name.clone(), std::mem::take(&mut consumer.delivered)));
        taken.filter(|(_, delivered)| !delivered.is_empty()).collect()
    }

    pub fn stored(&self) -> Vec<(u64, String, String)> {
        let stored = self.messages.iter();
        stored
            .map(|message| (message.sequence, message.subject.to_owned(), message.payload.clone()))
            .collect()
    }

    pub fn state(&self) -> (u64, u64, u64, u64, u64) {
        let subjects: BTreeSet<&str> = self.messages.iter().map(|message| message.subject).collect();
        let empty = if self.last == 0 { 0 } else { self.last + 1 };
        let first = self.messages.first().map_or(empty, |message| message.sequence);
        (self.messages.len() as u64, self.bytes(), first, self.last, subjects.len() as u64)
    }

    pub fn check_consumer(&mut self, name: &str, info: &ConsumerInfo) {
        let consumer = self.consumers.get_mut(name).unwrap();
        assert_eq!(
            info.num_pending,
            consumer.todo.len() as u64,
            "{name}: never delivered: {:?}",
            consumer.todo
        );
        let unacknowledged: Vec<&u64> = consumer.unacknowledged.keys().collect();
        assert_eq!(info.num_ack_pending, unacknowledged.len() as u64, "{name}: {unacknowledged:?}");
        let redelivered = if consumer.max_deliver == 1 { 0 } else { consumer.counts.len() as u64 };
        assert_eq!(info.num_redelivered, redelivered, "{name}: redelivered {:?}", consumer.counts);
        assert_eq!(info.delivered.consumer_seq, consumer.deliveries, "{name}");
        assert_eq!(info.num_waiting, consumer.waiting.len() as u64, "{name}");
        let floor = (info.ack_floor.consumer_seq, info.ack_floor.stream_seq);
        assert!(
            floor.0 <= info.delivered.consumer_seq && floor.1 <= info.delivered.stream_seq,
            "{name}: {floor:?}"
        );
        if let Some((sequence, first)) = consumer.unacknowledged.first_key_value() {
            assert!(floor.1 < *sequence, "{name}: {sequence} is unacknowledged, and the floor is {floor:?}");
            let explicit = consumer.policy == AckPolicy::Explicit;
            assert!(!explicit || floor.0 < first.first, "{name}: so is delivery {}, {floor:?}", first.first);
        }
        // It rises when messages are removed, too.
        consumer.floor = floor;
    }
}

impl Message {
    /// When it is too old.
    fn end(&self, max_age: i64) -> Option<i64> {
        let age = (max_age > 0).then_some(self.stored_at + max_age + 1);
        [age, self.ends_at].into_iter().flatten().min()
    }
}

impl Consumer {
    pub fn new(
        filters: &[&str],
        policy: AckPolicy,
        max_deliver: i64,
        max_ack_pending: i64,
        is_push: bool,
    ) -> Self {
        Self {
            filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
            policy,
            max_deliver,
            max_ack_pending,
            is_push,
            deliveries: 0,
            todo: BTreeSet::new(),
            unacknowledged: BTreeMap::new(),
            again: VecDeque::new(),
            counts: BTreeMap::new(),
            given_up: BTreeSet::new(),
            floor: (0, 0),
            waiting: Vec::new(),
            paused_until: 0,
            delivered: Vec::new(),
        }
    }

    fn matches(&self, subject: &str) -> bool {
        self.filters.iter().any(|filter| match filter.strip_suffix('*') {
            Some(start) => subject.starts_with(start),
            None => filter == ">" || filter == subject,
        })
    }

    /// What was given up may still be acknowledged.
    fn wants(&self, sequence: u64) -> bool {
        let open = match self.policy {
            AckPolicy::All => sequence > self.floor.1,
            _ => self.todo.contains(&sequence) || self.unacknowledged.contains_key(&sequence),
        };
        open || self.given_up.contains(&sequence)
    }

    fn is_logged(&mut self) {
        for entry in self.unacknowledged.values_mut() {
            entry.due_after_restart = entry.due;
        }
    }

    fn queue(&mut self, sequence: u64) {
        if !self.again.contains(&sequence) {
            self.again.push_back(sequence);
        }
    }

    /// It is done with.
    fn settle(&mut self, sequence: u64) {
        self.unacknowledged.remove(&sequence);
        self.again.retain(|queued| *queued != sequence);
        self.counts.remove(&sequence);
        self.given_up.remove(&sequence);
    }

    fn give_up(&mut self, sequence: u64) {
        let count = self.counts.get(&sequence).copied().unwrap_or(1);
        self.settle(sequence);
        self.counts.insert(sequence, count);
        self.given_up.insert(sequence);
    }

    fn is_worn_out(&self, sequence: u64) -> bool {
        let count = self.counts.get(&sequence).copied().unwrap_or(1);
        self.max_deliver > 0 && count as i64 >= self.max_deliver
    }

    fn next_due(&self) -> Option<i64> {
        let waits = self.unacknowledged.iter().filter(|(sequence, _)| !self.again.contains(sequence));
        waits.map(|(_, entry)| entry.due).min()
    }

    fn on_time(&mut self, now: i64) {
        let late = self.unacknowledged.iter().filter(|(_, entry)| entry.due <= now);
        let late: Vec<u64> = late.map(|(sequence, _)| *sequence).collect();
        for sequence in late {
            if self.again.contains(&sequence) {
                continue;
            }
            if self.is_worn_out(sequence) {
                self.give_up(sequence);
                continue;
            }
            self.unacknowledged.get_mut(&sequence).unwrap().due = now + ACK_WAIT;
            self.queue(sequence);
        }
    }

    /// Where its floor is must be asked of the machine.
    pub fn goes_by_floor(&self) -> bool {
        self.policy == AckPolicy::All
    }

    fn deliver(&mut self, now: i64) {
        if self.paused_until > now {
            return;
        }
        while (self.is_push || !self.waiting.is_empty()) && !(self.todo.is_empty() && self.again.is_empty()) {
            if let Some(sequence) = self.again.front().copied() {
                if self.is_worn_out(sequence) {
                    self.give_up(sequence);
                    if self.todo.is_empty() && self.again.is_empty() {
                        self.waiting.clear();
                    }
                    continue;
                }
                self.again.pop_front();
                let count = self.counts.get(&sequence).copied().unwrap_or(1) + 1;
                self.counts.insert(sequence, count);
                let first = self.unacknowledged[&sequence].first;
                self.hand_out(sequence, count, first, now);
                continue;
            }
            let blocked =
                self.policy != AckPolicy::None && self.unacknowledged.len() as i64 >= self.max_ack_pending;
            if blocked {
                return;
            }
            let sequence = self.todo.pop_first().unwrap();
            self.hand_out(sequence, 1, self.deliveries + 1, now);
        }
    }

    fn hand_out(&mut self, sequence: u64, count: u64, first: u64, now: i64) {
        self.deliveries += 1;
        self.delivered.push((sequence, count));
        if self.policy != AckPolicy::None {
            let due = now + ACK_WAIT;
            self.unacknowledged.insert(sequence, Unacknowledged { first, due, due_after_restart: due });
        }
        if self.is_push {
            return;
        }
        // In turn.
        let wanted = self.waiting.remove(0) - 1;
        if wanted > 0 {
            self.waiting.push(wanted);
        }
        let blocked =
            self.policy != AckPolicy::None && self.unacknowledged.len() as i64 >= self.max_ack_pending;
        if self.todo.is_empty() && self.again.is_empty() && !blocked {
            // Nobody waits at the end of the stream who said so.
            self.waiting.clear();
        }
    }
}
