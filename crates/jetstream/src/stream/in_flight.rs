//! What has been admitted and is not committed yet.
//!
//! Later messages are judged as if these were stored already: sequences go on, a message id is taken, a subject's last
//! sequence is known. When the log fails they are forgotten together and their publishers are told.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::After;
use crate::map::HashMap;

/// Subjects, ids and places for them that are kept allocated while nothing is on its way.
const KEPT_MAX: usize = 1024;

/// Subjects without messages on their way that are remembered, at least.
const IDLE_MIN: usize = 16;

/// A record in the log, and what to do when it is committed.
#[derive(Debug)]
struct Waiting {
    /// Its position in the log.
    position: u64,
    after: After,
    /// Of a message; None for other records.
    message: Option<Flying>,
}

/// What of a message on its way matters to those behind it.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) subject: &'a [u8],
    pub(crate) id: Option<Box<[u8]>>,
    pub(crate) sequence: u64,
    pub(crate) bytes: u64,
    /// It is a schedule.
    pub(crate) is_schedule: bool,
    /// Another one goes when it is stored.
    pub(crate) replaces: bool,
}

/// The same, with its subject's place instead of the subject.
#[derive(Debug)]
struct Flying {
    subject: usize,
    id: Option<Box<[u8]>>,
    bytes: u64,
    is_schedule: bool,
    replaces: bool,
}

/// A subject that messages on their way have, or one that is to be overwritten.
#[derive(Debug, Default)]
struct Subject {
    name: Vec<u8>,
    /// The name's.
    hash: u64,
    messages: u64,
    /// Sequence of the last message.
    last: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    queue: VecDeque<Waiting>,
    /// How many more will be stored then.
    messages: u64,
    bytes: u64,
    subjects: Subjects,
    ids: HashMap<Box<[u8]>, u64>,
}

/// Subjects by name, in places that are used again: most streams have few at a time, or another one with every message.
///
/// One that has no message on its way stays for a while: what the table has is read by the next message, on another thread
/// most often, and is not written for each.
#[derive(Debug, Default)]
struct Subjects {
    places: Vec<Subject>,
    free: Vec<usize>,
    /// Places that have a name and no messages.
    idle: usize,
    /// Places by name.
    table: HashTable<usize>,
    hasher: RandomState,
}

impl Subjects {
    /// Where a subject is that messages on their way have.
    fn find(&self, name: &[u8]) -> Option<usize> {
        if self.table.len() == self.idle {
            return None;
        }
        self.find_hashed(name, self.hasher.hash_one(name)).filter(|place| self.places[*place].messages > 0)
    }

    fn find_hashed(&self, name: &[u8], hash: u64) -> Option<usize> {
        self.table.find(hash, |place| self.places[*place].name == name).copied()
    }

    /// Notes a message; where its subject is.
    fn add(&mut self, name: &[u8], sequence: u64) -> usize {
        let hash = self.hasher.hash_one(name);
        let place = self.find_hashed(name, hash).unwrap_or_else(|| self.insert(name, hash));
        let subject = &mut self.places[place];
        self.idle -= usize::from(subject.messages == 0);
        subject.messages += 1;
        subject.last = sequence;
        place
    }

    /// A place for a subject that has none, idle.
    fn insert(&mut self, name: &[u8], hash: u64) -> usize {
        if self.free.is_empty() && self.idle >= IDLE_MIN.max(self.places.len() / 2) {
            self.forget_idle();
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Subject::default());
            self.places.len() - 1
        });
        let subject = &mut self.places[place];
        subject.name.extend_from_slice(name);
        subject.hash = hash;
        let places = &self.places;
        self.table.insert_unique(hash, place, |place| places[*place].hash);
        self.idle += 1;
        place
    }

    /// A message is not on its way any more.
    fn remove(&mut self, place: usize) {
        let subject = &mut self.places[place];
        subject.messages -= 1;
        self.idle += usize::from(subject.messages == 0);
    }

    fn forget_idle(&mut self) {
        let Self { places, free, table, .. } = self;
        table.retain(|place| {
            let subject = &mut places[*place];
            let stays = subject.messages > 0;
            if !stays {
                subject.name.clear();
                free.push(*place);
            }
            stays
        });
        self.idle = 0;
    }

    fn iter(&self) -> impl Iterator<Item = &Subject> {
        self.places.iter().filter(|subject| subject.messages > 0)
    }

    /// Gives back what a burst has taken. There is no subject.
    fn shrink(&mut self) {
        if self.places.len() > KEPT_MAX {
            *self = Self::default();
        }
    }
}

impl InFlight {
    pub(crate) fn push(&mut self, position: u64, after: After, message: Option<Message<'_>>) {
        let message = message.map(|message| {
            let Message { subject, id, sequence, bytes, is_schedule, replaces } = message;
            self.messages += u64::from(!replaces);
            self.bytes += bytes;
            if let Some(id) = &id {
                self.ids.insert(id.clone(), sequence);
            }
            Flying { subject: self.subjects.add(subject, sequence), id, bytes, is_schedule, replaces }
        });
        self.queue.push_back(Waiting { position, after, message });
    }

    /// The record at `position` is committed: what to do for it. `None` for one that was not appended here: it comes from
    /// before a restart.
    pub(crate) fn take(&mut self, position: u64) -> Option<After> {
        if self.queue.front().is_none_or(|waiting| waiting.position != position) {
            return None;
        }
        let waiting = self.queue.pop_front()?;
        if let Some(message) = &waiting.message {
            self.messages -= u64::from(!message.replaces);
            self.bytes -= message.bytes;
            self.subjects.remove(message.subject);
            if let Some(id) = &message.id {
                self.ids.remove(id);
            }
        }
        if self.queue.is_empty() {
            self.subjects.shrink();
            self.ids.shrink_to(KEPT_MAX);
        }
        Some(waiting.after)
    }

    /// Forgets everything; what was to be done, in order.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = After> + use<> {
        std::mem::take(self).queue.into_iter().map(|waiting| waiting.after)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Position of the last record.
    pub(crate) fn last_position(&self) -> Option<u64> {
        self.queue.back().map(|waiting| waiting.position)
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sequence of the message that has the id.
    pub(crate) fn find_id(&self, id: &[u8]) -> Option<u64> {
        if self.ids.is_empty() { None } else { self.ids.get(id).copied() }
    }

    /// The id of the last message, empty when it has none; `None` when no message is on its way.
    pub(crate) fn last_id(&self) -> Option<&[u8]> {
        let last = self.queue.iter().rev().find_map(|waiting| waiting.message.as_ref())?;
        Some(last.id.as_deref().unwrap_or_default())
    }

    /// Number and last sequence of the messages on a subject.
    pub(crate) fn subject(&self, subject: &[u8]) -> Option<(u64, u64)> {
        let subject = &self.subjects.places[self.subjects.find(subject)?];
        Some((subject.messages, subject.last))
    }

    /// Whether the last message on a subject is a schedule; `None` when none is on its way.
    pub(crate) fn is_schedule(&self, subject: &[u8]) -> Option<bool> {
        let subject = self.subjects.find(subject)?;
        let mut messages = self.queue.iter().rev().filter_map(|waiting| waiting.message.as_ref());
        messages.find(|message| message.subject == subject).map(|message| message.is_schedule)
    }

    /// The last sequence of a subject that matches.
    pub(crate) fn last_matching(&self, filter: &[u8]) -> Option<u64> {
        let hits = self.subjects.iter().filter(|subject| sonata_subject::matches(filter, &subject.name));
        hits.map(|subject| subject.last).max()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Places of subjects are used again; what is said of a subject is what a look at all messages says.
        #[test]
        fn what_is_on_its_way_is_known(steps in prop::collection::vec(prop::option::of(0_u8..40), 1..400)) {
            let mut in_flight = InFlight::default();
            let mut naive: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
            for (at, step) in (1..).zip(steps) {
                match step {
                    Some(subject) => {
                        let subject = format!("s.{subject}").into_bytes();
                        let message = Message {
                            subject: &subject,
                            id: Some(at.to_string().into_bytes().into()),
                            sequence: at,
                            bytes: at,
                            is_schedule: at % 2 == 0,
                            replaces: at % 3 == 0,
                        };
                        in_flight.push(at, After::Nothing, Some(message));
                        naive.push_back((at, subject));
                    }
                    None => {
                        let position = naive.pop_front().map_or(0, |(position, _)| position);
                        prop_assert_eq!(in_flight.take(position).is_some(), position > 0);
                        prop_assert_eq!(in_flight.find_id(position.to_string().as_bytes()), None);
                    }
                }
                for subject in (0..40).map(|subject| format!("s.{subject}").into_bytes()) {
                    let messages = naive.iter().filter(|(_, other)| *other == subject);
                    let last = messages.clone().map(|(sequence, _)| *sequence).next_back();
                    let count = messages.count() as u64;
                    prop_assert_eq!(in_flight.subject(&subject), last.map(|last| (count, last)));
                    prop_assert_eq!(in_flight.is_schedule(&subject), last.map(|last| last % 2 == 0));
                }
                let last = naive.back().map(|(sequence, _)| *sequence);
                prop_assert_eq!(in_flight.last_position(), last);
                prop_assert_eq!(in_flight.last_matching(b"s.*"), last);
                let last_id = last.map(|last| last.to_string().into_bytes());
                prop_assert_eq!(in_flight.last_id(), last_id.as_deref());
                prop_assert_eq!(in_flight.bytes(), naive.iter().map(|(sequence, _)| *sequence).sum::<u64>());
                let more = naive.iter().filter(|(sequence, _)| sequence % 3 != 0).count() as u64;
                prop_assert_eq!(in_flight.messages(), more);
            }
            prop_assert_eq!(in_flight.drain().count(), naive.len());
            prop_assert!(in_flight.is_empty());
        }
    }
}
