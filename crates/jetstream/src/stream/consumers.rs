//! The consumers of a stream, and who of them is concerned by what happens.
//!
//! A stream may have thousands, of which nearly all have nothing to do with a message and nothing to do at a time. So they
//! are changed only through [`Consumers::change`], which keeps books: who may be told of a message by its subject, who may
//! have something to deliver, who has something for the log, whose timer is due when. The books only propose; the
//! consumer decides. They are in the order of the consumers' numbers, which are the same wherever the log is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::filters::FilterIndex;
use crate::config::ConsumerConfig;
use crate::consumer::Consumer;

/// See the module.
#[derive(Default)]
pub(crate) struct Consumers {
    /// By name.
    numbers: BTreeMap<Arc<str>, u64>,
    /// How many are not the servers' own, which are not shown.
    shown: usize,
    /// Boxed: a map keeps its places half empty when numbers ascend.
    entries: BTreeMap<u64, Box<Entry>>,
    /// Those with a filter, by its subjects. They count what is stored and removed.
    filtered: FilterIndex,
    /// Those without. They count when they are asked, so most of them need not be told.
    unfiltered: BTreeSet<u64>,
    /// Those of them that a stored message may concern. Who it turns out not to concern goes.
    expectant: BTreeSet<u64>,
    /// Those of them that a removed message may concern, likewise.
    holding: BTreeSet<u64>,
    /// Those that may hold messages which their filter does not match, likewise.
    astray: BTreeSet<u64>,
    /// Whoever may have something to deliver.
    ready: BTreeSet<u64>,
    /// Whoever has something for the log.
    unlogged: Vec<u64>,
    /// Those whose timer may be another one than `timers` has.
    unplanned: Vec<u64>,
    /// ns since 1970, and whose; at most one of each.
    timers: BTreeSet<(i64, u64)>,
    /// Kept for its memory.
    concerned: Vec<u64>,
}

/// A consumer, and what the books have of it.
struct Entry {
    consumer: Consumer,
    /// What its filters are filed by; `None` while it is among those without.
    filed: Option<Arc<ConsumerConfig>>,
    timer: Option<i64>,
    /// The last message that it held when its filters were filed, which may have been others when it was given that; 0 is
    /// none.
    astray_until: u64,
    /// Whether it is counted as shown.
    is_shown: bool,
    /// Whether it is in `unlogged`.
    is_unlogged: bool,
    /// Whether it is in `unplanned`.
    is_unplanned: bool,
}

impl Consumers {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.numbers.contains_key(name)
    }

    /// The number of the consumer with this name.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.numbers.get(name).copied()
    }

    /// All numbers, ascending.
    pub(crate) fn all(&self) -> Vec<u64> {
        self.entries.keys().copied().collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Consumer> {
        self.number(name).and_then(|id| self.by_number(id))
    }

    pub(crate) fn by_number(&self, id: u64) -> Option<&Consumer> {
        self.entries.get(&id).map(|entry| &entry.consumer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.entries.values().map(|entry| &entry.consumer)
    }

    /// All, sorted by name.
    pub(crate) fn by_name(&self) -> impl Iterator<Item = &Consumer> {
        self.numbers.values().filter_map(|id| self.by_number(*id))
    }

    /// How many are not the servers' own.
    pub(crate) fn shown_count(&self) -> usize {
        self.shown
    }

    /// Adds a consumer, in the place of one that has its name or number.
    pub(crate) fn insert(&mut self, consumer: Consumer) {
        let id = consumer.id;
        self.remove(id);
        if let Some(other) = self.number(&consumer.name) {
            self.remove(other);
        }
        self.numbers.insert(consumer.name.clone(), id);
        let is_shown = !consumer.config.direct;
        self.shown += usize::from(is_shown);
        let entry = Entry {
            consumer,
            filed: None,
            timer: None,
            astray_until: 0,
            is_shown,
            is_unlogged: false,
            is_unplanned: false,
        };
        self.unfiltered.insert(id);
        self.entries.insert(id, Box::new(entry));
        self.update(id);
    }

    pub(crate) fn remove(&mut self, id: u64) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.numbers.remove(&entry.consumer.name);
        self.shown -= usize::from(entry.is_shown);
        if let Some(config) = &entry.filed {
            self.filtered.remove(config.filters(), id);
        }
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, id));
        }
        for book in
            [&mut self.unfiltered, &mut self.expectant, &mut self.holding, &mut self.astray, &mut self.ready]
        {
            book.remove(&id);
        }
    }

    /// Calls a consumer that may be another one afterwards. `None` when there is none of that number.
    pub(crate) fn change<T>(&mut self, id: u64, call: impl FnOnce(&mut Consumer) -> T) -> Option<T> {
        let entry = self.entries.get_mut(&id)?;
        let result = call(&mut entry.consumer);
        self.update(id);
        Some(result)
    }

    /// Calls every consumer.
    pub(crate) fn change_all(&mut self, mut call: impl FnMut(&mut Consumer)) {
        for id in self.all() {
            self.change(id, &mut call);
        }
    }

    /// Brings the books up to date.
    fn update(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let consumer = &entry.consumer;
        let is_filtered = !consumer.filter.is_all();
        let is_filed = match &entry.filed {
            Some(config) => is_filtered && Arc::ptr_eq(config, &consumer.config),
            None => !is_filtered,
        };
        if !is_filed {
            let before = entry.filed.take();
            entry.filed = is_filtered.then(|| consumer.config.clone());
            if let Some(config) = before {
                self.filtered.remove(config.filters(), id);
            }
            if let Some(config) = &entry.filed {
                self.filtered.insert(config.filters(), id);
            }
            if is_filtered {
                self.unfiltered.remove(&id);
                entry.astray_until = consumer.last_held();
                if entry.astray_until > 0 {
                    self.astray.insert(id);
                }
            } else {
                self.unfiltered.insert(id);
            }
        }
        if entry.expects() {
            self.expectant.insert(id);
        }
        if entry.holds() {
            self.holding.insert(id);
        }
        if entry.consumer.is_active() {
            self.ready.insert(id);
        }
        if entry.consumer.has_unlogged() && !std::mem::replace(&mut entry.is_unlogged, true) {
            self.unlogged.push(id);
        }
        if !std::mem::replace(&mut entry.is_unplanned, true) {
            self.unplanned.push(id);
        }
    }

    /// A message is stored. Whether there is something to deliver now.
    pub(crate) fn on_stored(&mut self, sequence: u64, subject: &[u8], now: i64) -> bool {
        let entries = &mut self.entries;
        self.expectant.retain(|id| entries.get(id).is_some_and(|entry| entry.expects()));
        self.filtered.find(subject, &mut self.concerned);
        let mut wanted = false;
        for id in self.concerned.iter().chain(&self.expectant) {
            let Some(entry) = entries.get_mut(id) else { continue };
            if entry.consumer.on_stored(sequence, subject) && entry.consumer.takes_new(now) {
                self.ready.insert(*id);
                wanted = true;
            }
        }
        wanted
    }

    /// Those whom the removal of a message may concern, ascending.
    pub(crate) fn concerned_by_removal(&mut self, sequence: u64, subject: &[u8]) -> Vec<u64> {
        let mut concerned = Vec::new();
        self.filtered.find(subject, &mut concerned);
        let entries = &self.entries;
        self.holding.retain(|id| entries.get(id).is_some_and(|entry| entry.holds()));
        concerned.extend(&self.holding);
        self.astray.retain(|id| {
            let Some(entry) = entries.get(id).filter(|entry| entry.is_astray()) else { return false };
            concerned.extend((sequence <= entry.astray_until).then_some(id));
            true
        });
        concerned.sort_unstable();
        concerned.dedup();
        concerned
    }

    /// Whether this holds for any whose filter matches the subject.
    pub(crate) fn any_matching(&self, subject: &[u8], holds: impl Fn(&Consumer) -> bool) -> bool {
        let mut matching = Vec::new();
        self.filtered.find(subject, &mut matching);
        matching.iter().chain(&self.unfiltered).filter_map(|id| self.by_number(*id)).any(holds)
    }

    /// Those that have something to deliver, ascending. They are asked again until [`Consumers::rest`].
    pub(crate) fn ready(&mut self, mut has_work: impl FnMut(&mut Consumer) -> bool) -> Vec<u64> {
        let entries = &mut self.entries;
        self.ready.retain(|id| entries.get_mut(id).is_some_and(|entry| has_work(&mut entry.consumer)));
        self.ready.iter().copied().collect()
    }

    /// A consumer has delivered what it can: it has nothing to do before it is changed or a message is stored for it.
    pub(crate) fn rest(&mut self, id: u64) {
        self.ready.remove(&id);
    }

    /// Calls those that have something for the log, which takes it.
    pub(crate) fn change_unlogged(&mut self, mut call: impl FnMut(&mut Consumer)) {
        for id in self.unlogged.drain(..) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.is_unlogged = false;
            call(&mut entry.consumer);
        }
    }

    /// Plans the timers of those that have been changed: what is due later than `now`, ns since 1970. To be called at the
    /// end of a turn with the time of that turn, so that what became due meanwhile is not passed over.
    pub(crate) fn plan_timers(&mut self, now: i64) {
        while let Some(id) = self.unplanned.pop() {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.is_unplanned = false;
            let timer = entry.consumer.next_timer(now);
            if timer == entry.timer {
                continue;
            }
            if let Some(at) = entry.timer {
                self.timers.remove(&(at, id));
            }
            if let Some(at) = timer {
                self.timers.insert((at, id));
            }
            entry.timer = timer;
        }
    }

    /// When the first timer is due, as planned.
    pub(crate) fn next_timer(&self) -> Option<i64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whose timers are due, as planned.
    pub(crate) fn due(&self, now: i64) -> Vec<u64> {
        self.timers.range(..=(now, u64::MAX)).map(|(_, id)| *id).collect()
    }
}

impl Entry {
    /// Whether it must be told of what is stored, without being found by a filter.
    fn expects(&self) -> bool {
        self.filed.is_none() && self.consumer.is_expectant()
    }

    /// Whether it must be told of what is removed, likewise.
    fn holds(&self) -> bool {
        self.filed.is_none() && self.consumer.is_holding()
    }

    /// Whether it holds messages from before its filters were filed.
    fn is_astray(&self) -> bool {
        self.filed.is_some() && self.consumer.holds_up_to(self.astray_until)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use sonata_store::{NewMessage, Store};

    use super::*;
    use crate::config::{AckPolicy, StreamConfig};
    use crate::consumer::Scene;
    use crate::outgoing::Uniform;
    use crate::stream::apply::Silence;

    fn consumer(id: u64, filter: &str, store: &mut Store) -> Consumer {
        let config = ConsumerConfig {
            filter_subject: filter.to_owned(),
            deliver_subject: "d".to_owned(),
            ack_policy: AckPolicy::Explicit,
            ..ConsumerConfig::default()
        };
        let stream = StreamConfig { subjects: vec!["a.*".to_owned()], ..StreamConfig::default() };
        Consumer::new(id, &format!("c{id}"), config, &stream, store, 0).unwrap()
    }

    /// Somebody listens to the consumer.
    fn activate(consumers: &mut Consumers, id: u64, store: &mut Store) {
        consumers.change(id, |consumer| {
            consumer.review_interest(&mut Scene {
                store,
                stream: "S",
                domain: "",
                now: 0,
                out: &mut Silence,
                interest: &Uniform(true),
                random: &mut || 1,
            })
        });
    }

    /// What the books are for: a message concerns nobody who does not take it, and a turn nobody who has nothing to do.
    #[test]
    fn nobody_is_looked_at_in_vain() {
        let mut store = Store::memory(1);
        let mut consumers = Consumers::default();
        for (id, filter) in [(1, ""), (2, "a.1"), (3, "a.2"), (4, "")] {
            consumers.insert(consumer(id, filter, &mut store));
        }
        let subject = b"a.2".as_slice();
        store.append(NewMessage { sequence: 1, timestamp: 0, subject, headers: b"", payload: b"" }).unwrap();
        assert!(!consumers.on_stored(1, subject, 0), "nobody listens");
        assert_eq!(consumers.concerned, [3]);
        assert!(consumers.expectant.is_empty() && consumers.ready.is_empty());
        assert_eq!(consumers.concerned_by_removal(1, subject), [3]);

        [1, 2, 3].into_iter().for_each(|id| activate(&mut consumers, id, &mut store));
        assert_eq!(consumers.ready(|consumer| consumer.has_work(&mut store)), [1, 3]);
        [1, 3].into_iter().for_each(|id| consumers.rest(id));
        assert!(consumers.ready(|_| true).is_empty(), "they have delivered what they can");
        store.append(NewMessage { sequence: 2, timestamp: 0, subject, headers: b"", payload: b"" }).unwrap();
        assert!(consumers.on_stored(2, subject, 0));
        assert_eq!(consumers.ready(|consumer| consumer.has_work(&mut store)), [1, 3]);

        consumers.plan_timers(0);
        assert!(consumers.unplanned.is_empty() && consumers.timers.is_empty());
    }
}
