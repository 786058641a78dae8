//! What has been admitted and is not committed yet.
//!
//! Later messages are judged as if these were stored already: sequences go on, a message id is taken, a subject's last
//! sequence is known. When the log fails they are forgotten together and their publishers are told.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::map::HashMap;

use super::After;

/// A record in the log, and what to do when it is committed.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Its position in the log.
    pub(crate) position: u64,
    pub(crate) after: After,
    /// Of a message; None for other records.
    pub(crate) message: Option<Message>,
}

/// What of a message on its way matters to those behind it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) subject: Arc<[u8]>,
    pub(crate) id: Option<Box<[u8]>>,
    pub(crate) sequence: u64,
    pub(crate) bytes: u64,
    /// It is a schedule.
    pub(crate) is_schedule: bool,
    /// Another one goes when it is stored.
    pub(crate) replaces: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    queue: VecDeque<Waiting>,
    /// How many more will be stored then.
    messages: u64,
    bytes: u64,
    /// Number and last sequence by subject.
    subjects: HashMap<Arc<[u8]>, (u64, u64)>,
    ids: HashMap<Box<[u8]>, u64>,
}

impl InFlight {
    pub(crate) fn push(&mut self, waiting: Waiting) {
        if let Some(message) = &waiting.message {
            self.messages += u64::from(!message.replaces);
            self.bytes += message.bytes;
            match self.subjects.get_mut(&message.subject) {
                Some((count, last)) => {
                    *count += 1;
                    *last = message.sequence;
                }
                None => {
                    self.subjects.insert(message.subject.clone(), (1, message.sequence));
                }
            }
            if let Some(id) = &message.id {
                self.ids.insert(id.clone(), message.sequence);
            }
        }
        self.queue.push_back(waiting);
    }

    /// A subject to be kept: most messages on their way have few.
    pub(crate) fn share(&self, subject: &[u8]) -> Arc<[u8]> {
        self.subjects.get_key_value(subject).map_or_else(|| subject.into(), |(known, _)| known.clone())
    }

    /// The record at `position` is committed. `None` for one that was not appended here: it comes from before a restart.
    pub(crate) fn take(&mut self, position: u64) -> Option<Waiting> {
        if self.queue.front().is_none_or(|waiting| waiting.position != position) {
            return None;
        }
        let waiting = self.queue.pop_front()?;
        if let Some(message) = &waiting.message {
            self.messages -= u64::from(!message.replaces);
            self.bytes -= message.bytes;
            if let Some((count, _)) = self.subjects.get_mut(&message.subject) {
                *count -= 1;
                if *count == 0 {
                    self.subjects.remove(&message.subject);
                }
            }
            if let Some(id) = &message.id {
                self.ids.remove(id);
            }
        }
        if self.queue.is_empty() {
            self.subjects.shrink_to(1024);
            self.ids.shrink_to(1024);
        }
        Some(waiting)
    }

    /// Forgets everything, in order.
    pub(crate) fn drain(&mut self) -> VecDeque<Waiting> {
        std::mem::take(self).queue
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
        if self.subjects.is_empty() { None } else { self.subjects.get(subject).copied() }
    }

    /// Whether the last message on a subject is a schedule; `None` when none is on its way.
    pub(crate) fn is_schedule(&self, subject: &[u8]) -> Option<bool> {
        self.subject(subject)?;
        let mut messages = self.queue.iter().rev().filter_map(|waiting| waiting.message.as_ref());
        messages.find(|message| *message.subject == *subject).map(|message| message.is_schedule)
    }

    /// The last sequence of a subject that matches.
    pub(crate) fn last_matching(&self, filter: &[u8]) -> Option<u64> {
        let hits = self.subjects.iter().filter(|(subject, _)| sonata_subject::matches(filter, subject));
        hits.map(|(_, (_, last))| *last).max()
    }
}
