//! Who waits for answers of an account's services.
//!
//! A request that came in through a service import carries a reply subject of its own, `_R_.<number>.<proof>`, which means
//! something in the service's account only; here stands where an answer to it goes. The proof keeps services from
//! answering requests that they were not asked.
//!
//! What is kept is bounded twice: by the time that an export gives its responses, and by [`RESPONSES_MAX`]; beyond that the
//! oldest request is given up.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::account::Account;
use crate::latency::Tracking;
use crate::links::{ResponseType, ServiceImport};

/// Requests of one account's services that can wait for an answer at a time.
pub const RESPONSES_MAX: usize = 1 << 18;

/// What reply subjects of requests through service imports begin with. Clients may not choose such replies.
pub const RESPONSE_PREFIX: &[u8] = b"_R_.";

/// A request that waits.
#[derive(Clone)]
pub(crate) struct Waiting {
    /// Whose request it is.
    pub(crate) requester: Arc<Account>,
    /// Where the answer goes there.
    pub(crate) reply: Box<[u8]>,
    /// The way the request took.
    pub(crate) import: Arc<ServiceImport>,
    /// Set if it is measured and nothing has come of it yet.
    pub(crate) tracking: Option<Box<Tracking>>,
    deadline_ns: u64,
}

/// See the module.
pub struct Responses {
    secret: u64,
    table: Mutex<Table>,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Table {
    next: u64,
    waiting: HashMap<u64, Waiting>,
    /// For each time that exports give, the requests in the order of their deadlines; some may have been answered.
    queues: Vec<(u64, VecDeque<(u64, u64)>)>,
    /// Given up, and still to be told of.
    overdue: Vec<(Box<Tracking>, Arc<ServiceImport>)>,
}

impl Responses {
    /// None wait. The secret is what proofs are made with.
    pub(crate) fn new(secret: u64) -> Self {
        Self { secret, table: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    /// Requests that wait now, or are still to be told of.
    pub fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether no request waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the reply subject of a new request to `subject`.
    pub(crate) fn expect(
        &self,
        requester: &Arc<Account>,
        reply: &[u8],
        import: &Arc<ServiceImport>,
        tracking: Option<Tracking>,
        now_ns: u64,
        subject: &mut Vec<u8>,
    ) -> u64 {
        let threshold_ns = import.export.threshold_ns;
        let deadline_ns = now_ns.saturating_add(threshold_ns);
        let (requester, import) = (requester.clone(), import.clone());
        let tracking = tracking.map(Box::new);
        let waiting = Waiting { requester, reply: reply.into(), import, tracking, deadline_ns };
        let mut table = self.table.lock();
        let number = table.next;
        table.next += 1;
        table.expire(now_ns);
        if table.waiting.len() >= RESPONSES_MAX {
            table.give_up_oldest();
        }
        table.waiting.insert(number, waiting);
        table.queue(threshold_ns).push_back((deadline_ns, number));
        self.waiting.store(table.len(), Ordering::Relaxed);
        drop(table);
        subject.extend_from_slice(RESPONSE_PREFIX);
        push_base62(subject, number);
        subject.push(b'.');
        push_base62(subject, self.proof(number));
        number
    }

    /// The request that an answer on `subject` is for. `ends` tells that the answer is the last, whatever the service's
    /// kind.
    pub(crate) fn answer(&self, subject: &[u8], ends: bool, now_ns: u64) -> Option<Waiting> {
        let number = self.number(subject)?;
        let mut table = self.table.lock();
        let waiting = table.waiting.get_mut(&number)?;
        if ends || waiting.import.export.response == ResponseType::Singleton {
            let waiting = table.waiting.remove(&number);
            self.waiting.store(table.len(), Ordering::Relaxed);
            return waiting;
        }
        let threshold_ns = waiting.import.export.threshold_ns;
        waiting.deadline_ns = now_ns.saturating_add(threshold_ns);
        Some(waiting.clone())
    }

    /// Nobody got the request, or nobody wants the answer.
    pub(crate) fn forget(&self, number: u64) {
        let mut table = self.table.lock();
        table.waiting.remove(&number);
        self.waiting.store(table.len(), Ordering::Relaxed);
    }

    /// Gives up requests whose time is over; those of them that were measured are returned.
    pub fn expire(&self, now_ns: u64) -> Vec<(Box<Tracking>, Arc<ServiceImport>)> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut table = self.table.lock();
        table.expire(now_ns);
        let overdue = std::mem::take(&mut table.overdue);
        self.waiting.store(table.len(), Ordering::Relaxed);
        overdue
    }

    /// The number in a reply subject that was made here.
    pub(crate) fn number(&self, subject: &[u8]) -> Option<u64> {
        let (number, proof) =
            std::str::from_utf8(subject.strip_prefix(RESPONSE_PREFIX)?).ok()?.split_once('.')?;
        let number = parse_base62(number)?;
        (parse_base62(proof)? == self.proof(number)).then_some(number)
    }

    fn proof(&self, number: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.secret);
        hasher.write_u64(number);
        hasher.finish()
    }
}

impl Table {
    fn queue(&mut self, threshold_ns: u64) -> &mut VecDeque<(u64, u64)> {
        let at = match self.queues.iter().position(|(known, _)| *known == threshold_ns) {
            Some(at) => at,
            None => {
                self.queues.push((threshold_ns, VecDeque::new()));
                self.queues.len() - 1
            }
        };
        &mut self.queues[at].1
    }

    fn expire(&mut self, now_ns: u64) {
        for at in 0..self.queues.len() {
            while let Some((deadline_ns, number)) = self.queues[at].1.front().copied() {
                // What was answered leaves at once, so that the queue stays as short as the table.
                match self.waiting.get(&number).map(|waiting| waiting.deadline_ns) {
                    Some(later_ns) if later_ns > deadline_ns => {
                        self.queues[at].1.pop_front();
                        self.queues[at].1.push_back((later_ns, number));
                    }
                    Some(_) if deadline_ns > now_ns => break,
                    _ => {
                        self.queues[at].1.pop_front();
                        self.give_up(number);
                    }
                }
            }
        }
        if self.queues.iter().map(|(_, queue)| queue.len()).sum::<usize>() > 2 * self.waiting.len() + 1024 {
            self.tidy();
        }
    }

    /// Drops what was answered from the middle of the queues.
    fn tidy(&mut self) {
        for (_, queue) in &mut self.queues {
            queue.retain(|(_, number)| self.waiting.contains_key(number));
            queue.shrink_to(queue.len() * 2);
        }
        self.queues.retain(|(_, queue)| !queue.is_empty());
        self.waiting.shrink_to(self.waiting.len() * 2);
    }

    fn give_up(&mut self, number: u64) {
        let Some(waiting) = self.waiting.remove(&number) else { return };
        if let Some(tracking) = waiting.tracking {
            self.overdue.push((tracking, waiting.import));
        }
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.overdue.len()
    }

    fn give_up_oldest(&mut self) {
        let oldest = self.queues.iter().filter_map(|(_, queue)| queue.front()).min().copied();
        if let Some((_, number)) = oldest {
            self.give_up(number);
        }
    }
}

impl fmt::Debug for Responses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responses").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn push_base62(text: &mut Vec<u8>, mut number: u64) {
    loop {
        text.push(DIGITS[(number % 62) as usize]);
        number /= 62;
        if number == 0 {
            return;
        }
    }
}

fn parse_base62(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.bytes().rev().try_fold(0_u64, |number, digit| {
        let value = DIGITS.iter().position(|known| *known == digit)? as u64;
        number.checked_mul(62)?.checked_add(value)
    })
}
