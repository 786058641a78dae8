//! What a store is supposed to be, written down as simply as possible: a sorted map.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "for tests, of which not every one uses all"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use sonata_disk::Disk;
use sonata_store::{
    Accounting, Cut, Error, Filter, Finished, Lost, Message, NewMessage, Options, Removed, State, Store,
    SubjectState,
};

#[derive(Clone, Debug)]
pub struct Model {
    accounting: Accounting,
    messages: BTreeMap<u64, Message>,
    last: u64,
    last_timestamp: i64,
}

impl Model {
    pub fn new(accounting: Accounting) -> Self {
        Self { accounting, messages: BTreeMap::new(), last: 0, last_timestamp: 0 }
    }

    pub fn append(&mut self, message: NewMessage<'_>) {
        assert!(message.sequence > self.last);
        self.last = message.sequence;
        self.last_timestamp = message.timestamp;
        self.messages.insert(
            message.sequence,
            Message {
                sequence: message.sequence,
                timestamp: message.timestamp,
                subject: Bytes::copy_from_slice(message.subject),
                headers: Bytes::copy_from_slice(message.headers),
                payload: Bytes::copy_from_slice(message.payload),
            },
        );
    }

    pub fn remove(&mut self, sequence: u64) -> Option<Removed> {
        self.messages.remove(&sequence).map(|message| Removed {
            bytes: self.bytes(&message),
            subject: message.subject,
            timestamp: message.timestamp,
        })
    }

    pub fn remove_before(&mut self, first: u64) -> Cut {
        let kept = self.messages.split_off(&first);
        let gone = std::mem::replace(&mut self.messages, kept);
        self.advance(first.saturating_sub(1));
        Cut { messages: gone.len() as u64, bytes: gone.values().map(|m| self.bytes(m)).sum() }
    }

    pub fn purge(&mut self, filter: &Filter, before: Option<u64>, keep: u64) -> Cut {
        let matching: Vec<u64> = self
            .messages
            .range(..before.unwrap_or(u64::MAX))
            .filter(|(_, message)| filter.matches(&message.subject))
            .map(|(sequence, _)| *sequence)
            .collect();
        let mut cut = Cut::default();
        let go = matching.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
        for sequence in &matching[..go] {
            if let Some(removed) = self.remove(*sequence) {
                cut.messages += 1;
                cut.bytes += removed.bytes;
            }
        }
        cut
    }

    pub fn advance(&mut self, last: u64) {
        self.last = self.last.max(last);
    }

    pub fn state(&self) -> State {
        let first = self.messages.first_key_value();
        let first_sequence = first.map_or(self.last + 1, |(sequence, _)| *sequence);
        let mut subjects: Vec<&Bytes> = self.messages.values().map(|message| &message.subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        State {
            messages: self.messages.len() as u64,
            bytes: self.messages.values().map(|message| self.bytes(message)).sum(),
            first_sequence,
            first_timestamp: first.map_or(0, |(_, message)| message.timestamp),
            last_sequence: self.last,
            last_timestamp: self.last_timestamp,
            subjects: subjects.len() as u64,
            deleted: self.last + 1 - first_sequence - self.messages.len() as u64,
            lost: Lost::default(),
        }
    }

    pub fn get(&self, sequence: u64) -> Option<Message> {
        self.messages.get(&sequence).cloned()
    }

    pub fn next(&self, filter: &Filter, from: u64) -> Option<u64> {
        self.messages.range(from..).find(|(_, m)| filter.matches(&m.subject)).map(|(s, _)| *s)
    }

    pub fn last(&self, filter: &Filter, at_most: u64) -> Option<u64> {
        self.messages.range(..=at_most).rev().find(|(_, m)| filter.matches(&m.subject)).map(|(s, _)| *s)
    }

    pub fn subject(&self, name: &[u8]) -> Option<SubjectState> {
        let all: Vec<u64> =
            self.messages.values().filter(|m| m.subject == name).map(|m| m.sequence).collect();
        match (all.first(), all.last()) {
            (Some(first), Some(last)) => {
                Some(SubjectState { messages: all.len() as u64, first: *first, last: *last })
            }
            _ => None,
        }
    }

    pub fn subjects(&self, filter: &Filter, offset: usize, limit: usize) -> (Vec<(Bytes, u64)>, usize) {
        let mut counts: BTreeMap<Bytes, u64> = BTreeMap::new();
        for message in self.messages.values().filter(|message| filter.matches(&message.subject)) {
            *counts.entry(message.subject.clone()).or_default() += 1;
        }
        let total = counts.len();
        (counts.into_iter().skip(offset).take(limit).collect(), total)
    }

    pub fn pending(&self, filter: &Filter, from: u64) -> u64 {
        self.messages.range(from..).filter(|(_, m)| filter.matches(&m.subject)).count() as u64
    }

    pub fn last_per_subject(&self, filter: &Filter, up_to: u64, max: usize) -> Option<Vec<u64>> {
        let mut lasts: BTreeMap<&Bytes, u64> = BTreeMap::new();
        for (sequence, message) in self.messages.range(..=up_to) {
            if filter.matches(&message.subject) {
                lasts.insert(&message.subject, *sequence);
            }
        }
        let mut sequences: Vec<u64> = lasts.into_values().collect();
        sequences.sort_unstable();
        (sequences.len() <= max).then_some(sequences)
    }

    pub fn sequence_at(&self, timestamp: i64) -> u64 {
        let found = self.messages.values().find(|message| message.timestamp >= timestamp);
        found.map_or(self.last + 1, |message| message.sequence)
    }

    pub fn deleted(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        let mut expected = self.state().first_sequence;
        self.messages.keys().copied().chain([self.last + 1]).filter_map(move |sequence| {
            let gap = expected..=sequence.saturating_sub(1);
            expected = sequence + 1;
            (!gap.is_empty()).then_some(gap)
        })
    }

    pub fn oldest(&self) -> Option<(u64, i64)> {
        self.messages.first_key_value().map(|(sequence, message)| (*sequence, message.timestamp))
    }

    fn bytes(&self, message: &Message) -> u64 {
        self.accounting.bytes(message.subject.len(), message.headers.len(), message.payload.len())
    }
}

/// A change, as a journal would tell it.
#[derive(Clone, Debug)]
pub enum Change {
    Append { gap: u64, subject: usize, headers: usize, payload: usize, tick: i64 },
    Remove(u64),
    Erase(u64),
    RemoveBefore(u64),
    Purge { filter: usize, before: Option<u64>, keep: u64 },
    Advance(u64),
}

pub const SUBJECTS: [&str; 8] =
    ["a", "a.b", "a.b.c", "a.c", "b.b", "b.c.d", "c", "b.b.long-token-that-is-alone"];

pub fn filters() -> Vec<Filter> {
    let texts: [&[&str]; 9] = [
        &[],
        &["a.b"],
        &["a.*"],
        &["*.b", "a.*"],
        &["a.>", "b.c.d"],
        &["c", "a"],
        &["nothing.here"],
        &["*.*.*"],
        &["b.>", "*.b.>", "a"],
    ];
    texts.iter().map(|texts| Filter::new(texts.iter())).collect()
}

/// Where a change points, as a part of what the stream has used, so that random numbers mean something.
fn scaled(part: u64, last: u64) -> u64 {
    part * (last + 2) / 1000
}

pub fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => (prop_oneof![20 => Just(0u64), 1 => 1..50u64], 0..SUBJECTS.len(), 0..3usize, prop_oneof![10 => 0..300usize, 1 => 2000..9000usize], -1..9i64)
            .prop_map(|(gap, subject, headers, payload, tick)| Change::Append { gap, subject, headers: headers * 10, payload, tick }),
        3 => (0..1000u64).prop_map(Change::Remove),
        1 => (0..1000u64).prop_map(Change::Erase),
        1 => (0..700u64).prop_map(Change::RemoveBefore),
        1 => (0..9usize, proptest::option::of(0..1000u64), 0..4u64)
            .prop_map(|(filter, before, keep)| Change::Purge { filter, before, keep }),
        1 => (0..1100u64).prop_map(Change::Advance),
    ]
}

/// Applies a change to both and compares what they answer.
pub fn apply(store: &mut Store, model: &mut Model, change: &Change) -> Result<(), Error> {
    let last = model.state().last_sequence;
    match change {
        Change::Append { .. } => {
            let message = model.change(change).unwrap();
            store.append(NewMessage {
                sequence: message.sequence,
                timestamp: message.timestamp,
                subject: &message.subject,
                headers: &message.headers,
                payload: &message.payload,
            })?;
        }
        Change::Remove(part) => {
            let sequence = scaled(*part, last);
            assert_eq!(store.remove(sequence)?, model.remove(sequence));
        }
        Change::Erase(part) => {
            let sequence = scaled(*part, last);
            assert_eq!(store.erase(sequence)?, model.remove(sequence));
        }
        Change::RemoveBefore(part) => {
            let first = scaled(*part, last);
            assert_eq!(store.remove_before(first)?, model.remove_before(first));
        }
        Change::Purge { filter, before, keep } => {
            let filter = &filters()[*filter];
            let before = before.map(|part| scaled(part, last));
            assert_eq!(store.purge(filter, before, *keep)?, model.purge(filter, before, *keep));
        }
        Change::Advance(part) => {
            store.advance(scaled(*part, last));
            model.advance(scaled(*part, last));
        }
    }
    Ok(())
}

impl Model {
    /// Applies a change; the message if it was one.
    pub fn change(&mut self, change: &Change) -> Option<Message> {
        let last = self.last;
        match change {
            Change::Append { gap, subject, headers, payload, tick } => {
                let sequence = last + 1 + gap;
                self.append(NewMessage {
                    sequence,
                    timestamp: self.last_timestamp + tick,
                    subject: SUBJECTS[*subject].as_bytes(),
                    headers: &vec![b'h'; *headers],
                    payload: &vec![sequence as u8; *payload],
                });
                return self.get(sequence);
            }
            Change::Remove(part) | Change::Erase(part) => drop(self.remove(scaled(*part, last))),
            Change::RemoveBefore(part) => {
                self.remove_before(scaled(*part, last));
            }
            Change::Purge { filter, before, keep } => {
                self.purge(&filters()[*filter], before.map(|part| scaled(part, last)), *keep);
            }
            Change::Advance(part) => self.advance(scaled(*part, last)),
        }
        None
    }
}

/// The models before and after each change.
pub fn models(script: &[Change]) -> Vec<Model> {
    let mut models = vec![Model::new(Accounting::File)];
    for change in script {
        let mut model = models.last().unwrap().clone();
        model.change(change);
        models.push(model);
    }
    models
}

/// Asks both everything.
pub fn compare(store: &mut Store, model: &Model) {
    let state = model.state();
    assert_eq!(State { lost: Lost::default(), ..store.state() }, state);
    assert_eq!(store.oldest(), model.oldest());
    assert_eq!(store.deleted().collect::<Vec<_>>(), model.deleted().collect::<Vec<_>>());
    for sequence in 0..=state.last_sequence + 1 {
        assert_eq!(store.get(sequence).unwrap(), model.get(sequence), "get {sequence}");
    }
    for subject in SUBJECTS {
        let name = subject.as_bytes();
        assert_eq!(store.subject(name).unwrap(), model.subject(name), "subject {subject}");
    }
    let points: BTreeSet<u64> = (0..8).map(|part| scaled(part * 143, state.last_sequence)).collect();
    for filter in filters() {
        assert_eq!(store.subjects(&filter, 1, 3), model.subjects(&filter, 1, 3), "subjects {filter:?}");
        for point in &points {
            let point = *point;
            assert_eq!(
                store.next(&filter, point).unwrap(),
                model.next(&filter, point),
                "next {point} {filter:?}"
            );
            // What is answered from nearby is the same answer.
            if let Some(message) = store.next_message_nearby(&filter, point) {
                let next = model.next(&filter, point).and_then(|sequence| model.get(sequence));
                assert_eq!(Some(message), next, "next nearby {point} {filter:?}");
            }
            assert_eq!(
                store.last(&filter, point).unwrap(),
                model.last(&filter, point),
                "last {point} {filter:?}"
            );
            assert_eq!(
                store.pending(&filter, point).unwrap(),
                model.pending(&filter, point),
                "pending {point} {filter:?}"
            );
            for max in [3, 100] {
                assert_eq!(
                    store.last_per_subject(&filter, point, max).unwrap(),
                    model.last_per_subject(&filter, point, max),
                    "last per subject {point} {filter:?}"
                );
            }
        }
    }
    for timestamp in [-5, 0, state.first_timestamp, state.last_timestamp / 2, state.last_timestamp, i64::MAX]
    {
        assert_eq!(store.sequence_at(timestamp).unwrap(), model.sequence_at(timestamp), "at {timestamp}");
    }
}

/// Small segments and caches, so that little data does a lot.
pub fn options() -> Options {
    Options {
        id: 7,
        segment_bytes: 4096,
        cache_bytes_max: 4096,
        unwritten_bytes_max: 20_000,
        ..Options::default()
    }
}

/// Runs all work there is.
pub fn work(store: &mut Store) -> Result<(), Error> {
    while let Some(work) = store.work() {
        store.finish(work.run())?;
    }
    Ok(())
}

/// Makes a checkpoint durable and returns how far the journal may be released.
pub fn checkpoint(store: &mut Store, position: u64) -> Result<u64, Error> {
    let state = position.to_le_bytes().to_vec();
    loop {
        let Some(work) = store.checkpoint(position, state.clone()) else { panic!("no work is out") };
        if let Finished::Checkpoint { position: done, release } = store.finish(work.run())? {
            assert_eq!(done, position);
            return Ok(release);
        }
    }
}

/// Opens a store and tells it again what the journal holds: all `changes` after its position. `models[n]` is the model
/// after `n` changes.
pub fn recover(disk: Arc<dyn Disk>, changes: &[Change], models: &[Model]) -> Store {
    recover_with(disk, options(), changes, models)
}

/// As [`recover`], with options of one's own.
pub fn recover_with(disk: Arc<dyn Disk>, options: Options, changes: &[Change], models: &[Model]) -> Store {
    let opened = Store::open(disk, "s", options).unwrap();
    let position = opened.position as usize;
    if position > 0 {
        assert_eq!(opened.state, opened.position.to_le_bytes());
    }
    assert_eq!(opened.damage, []);
    let mut store = opened.store;
    let mut model = models[position].clone();
    for change in &changes[position..] {
        apply(&mut store, &mut model, change).unwrap();
    }
    store
}
