//! What a run has promised, and since which call of the disk: checked against what is found after any of them.
//!
//! It knows nothing of how things are stored: it hears what clients hear.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "for the test beside it, which fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use sonata_jetstream::{ack, header};

use super::node::{Heard, Node};

/// Keeps the newest of each subject.
pub const LIMITED: u64 = 1;
/// A work queue.
pub const QUEUE: u64 = 2;
/// Goes by the interest of two consumers.
pub const INTEREST: u64 = 3;

pub const LANES: [u64; 3] = [LIMITED, QUEUE, INTEREST];

/// Messages that each subject of the limited stream keeps.
pub const PER_SUBJECT: usize = 20;

/// ns; longer than any test's time.
pub const ACK_WAIT: i64 = 30_000_000_000;

/// The consumers: their stream, name and filter.
pub const CONSUMERS: [(u64, &str, &str); 5] = [
    (LIMITED, "all", ">"),
    (LIMITED, "one", "s1.1"),
    (QUEUE, "worker", ">"),
    (INTEREST, "left", ">"),
    (INTEREST, "right", "s3.*"),
];

/// See the module.
#[derive(Default)]
pub struct History {
    /// By number: the number is in the payload and in the reply subject.
    published: Vec<Published>,
    /// Which number has a sequence.
    numbers: BTreeMap<(u64, u64), usize>,
    /// Since when the removal of a message may have happened, asked for by a request.
    removals: BTreeMap<(u64, u64), usize>,
    settled: BTreeMap<(&'static str, u64), Settled>,
}

struct Published {
    lane: u64,
    subject: String,
    id: Option<String>,
    asked: usize,
    /// Since when it is promised, and as what.
    acknowledged: Option<(usize, u64)>,
    /// Somebody has been told that it was not stored.
    refused: bool,
}

/// An acknowledgement by a consumer.
struct Settled {
    asked: usize,
    confirmed: Option<usize>,
}

impl History {
    /// A message is about to be published; its number.
    pub fn publishes(&mut self, lane: u64, subject: &str, id: Option<String>, asked: usize) -> usize {
        let subject = subject.to_owned();
        self.published.push(Published { lane, subject, id, asked, acknowledged: None, refused: false });
        self.published.len() - 1
    }

    /// The id of a message that was acknowledged.
    pub fn known_id(&self, number: usize) -> Option<(u64, String, String)> {
        let published = self.published.get(number)?;
        published.acknowledged?;
        Some((published.lane, published.subject.clone(), published.id.clone()?))
    }

    /// A request to remove a message is about to be made.
    pub fn removes(&mut self, lane: u64, sequence: u64, asked: usize) {
        self.removals.entry((lane, sequence)).or_insert(asked);
    }

    /// A consumer's client is about to acknowledge a message.
    pub fn settles(&mut self, consumer: &'static str, sequence: u64, asked: usize) {
        self.settled.entry((consumer, sequence)).or_insert(Settled { asked, confirmed: None });
    }

    /// How many publishes were acknowledged, and how many refused.
    pub fn outcomes(&self) -> (usize, usize) {
        let acknowledged = self.published.iter().filter(|published| published.acknowledged.is_some()).count();
        (acknowledged, self.published.iter().filter(|published| published.refused).count())
    }

    /// Takes what was said to clients; returns deliveries.
    pub fn hear(&mut self, heard: Vec<Heard>) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for heard in heard {
            let mut words = heard.subject.split('.');
            match (words.next(), words.next(), words.next()) {
                (Some("pub"), Some(number), _) => self.hear_publish(number.parse().unwrap(), &heard),
                (Some("ack"), Some(consumer), Some(sequence)) => {
                    let consumer = CONSUMERS.iter().find(|known| known.1 == consumer).unwrap().1;
                    let settled = self.settled.get_mut(&(consumer, sequence.parse().unwrap())).unwrap();
                    settled.confirmed.get_or_insert(heard.calls);
                }
                _ => deliveries.extend(Delivery::parse(&heard)),
            }
        }
        deliveries
    }

    fn hear_publish(&mut self, number: usize, heard: &Heard) {
        let text = std::str::from_utf8(&heard.payload).unwrap();
        if text.contains("\"error\"") {
            self.published[number].refused = true;
            return;
        }
        let sequence = sequence(text);
        let published = &mut self.published[number];
        published.acknowledged.get_or_insert((heard.calls, sequence));
        if text.contains("\"duplicate\"") {
            let original = &self.published[self.numbers[&(self.published[number].lane, sequence)]];
            assert_eq!(original.id, self.published[number].id, "a duplicate of something else");
            return;
        }
        let before = self.numbers.insert((published.lane, sequence), number);
        assert!(before.is_none_or(|before| before == number), "sequence {sequence} is used twice");
    }

    /// Checks a node that was found when the disk had done so many calls. With `forgiving`, where damage was reported, what
    /// is there must be right, but not all must be there.
    pub fn check(&self, node: &mut Node, calls: usize, forgiving: bool, context: &str) {
        for lane in LANES {
            self.check_messages(node, lane, calls, forgiving, context);
        }
        if forgiving {
            return;
        }
        for (lane, consumer, filter) in CONSUMERS {
            self.check_consumer(node, lane, consumer, filter, calls, context);
        }
        for lane in LANES {
            self.check_goes_on(node, lane, calls, context);
        }
    }

    fn check_messages(&self, node: &mut Node, lane: u64, calls: usize, forgiving: bool, context: &str) {
        let mut there = BTreeSet::new();
        for message in node.messages(lane) {
            let number: usize = number_in(&message.payload);
            let published = &self.published[number];
            let payload = payload(number);
            assert_eq!(*message.payload, *payload, "{context}: {lane}:{} is mangled", message.sequence);
            assert_eq!(*message.subject, *published.subject.as_bytes(), "{context}");
            assert_eq!(published.lane, lane, "{context}: of another stream");
            assert!(published.asked <= calls, "{context}: {number} is from the future");
            // Nothing else was ever promised as this sequence.
            if let Some(other) = self.numbers.get(&(lane, message.sequence)) {
                let promised = self.published[*other].acknowledged.is_some_and(|(since, _)| since <= calls);
                assert!(*other == number || !promised, "{context}: {lane}:{} is another", message.sequence);
            }
            there.insert(message.sequence);
        }
        if forgiving {
            return;
        }
        for (number, published) in self.published.iter().enumerate() {
            let Some((since, sequence)) = published.acknowledged else { continue };
            if published.lane != lane || since > calls || there.contains(&sequence) {
                continue;
            }
            let removable = self.may_be_gone(number, sequence, calls);
            assert!(removable, "{context}: acknowledged message {lane}:{sequence} (number {number}) is lost");
        }
        let state = node.with(lane, |machine, _, _| machine.state());
        assert_eq!(state.messages, there.len() as u64, "{context}");
        let subjects: BTreeSet<_> = node.messages(lane).into_iter().map(|message| message.subject).collect();
        assert_eq!(state.num_subjects, subjects.len() as u64, "{context}");
        if let Some(first) = there.first() {
            assert_eq!(state.first_seq, *first, "{context}");
        }
    }

    fn may_be_gone(&self, number: usize, sequence: u64, calls: usize) -> bool {
        let published = &self.published[number];
        if self.removals.get(&(published.lane, sequence)).is_some_and(|asked| *asked <= calls) {
            return true;
        }
        let is_settled =
            |consumer| self.settled.get(&(consumer, sequence)).is_some_and(|settled| settled.asked <= calls);
        match published.lane {
            LIMITED => {
                let newer = self.published.iter().filter(|other| {
                    let later = other.acknowledged.is_none_or(|(_, other)| other > sequence);
                    other.lane == LIMITED
                        && later
                        && other.asked <= calls
                        && other.subject == published.subject
                });
                newer.count() >= PER_SUBJECT
            }
            QUEUE => is_settled("worker"),
            _ => is_settled("left") && is_settled("right"),
        }
    }

    fn check_consumer(
        &self,
        node: &mut Node,
        lane: u64,
        consumer: &'static str,
        filter: &str,
        calls: usize,
        context: &str,
    ) {
        let context = format!("{context}: consumer {consumer}");
        let info = node.with(lane, |machine, now, said| machine.consumer_info(consumer, now, said).unwrap());
        let stored = self.wanted(node, lane, filter);
        let pending = stored.iter().filter(|sequence| **sequence > info.delivered.stream_seq).count();
        assert_eq!(info.num_pending, pending as u64, "{context}: pending is not what is there");
        let delivered = self.check_deliveries(node, lane, consumer, calls, &context);
        for sequence in &delivered {
            let settled = self.settled.get(&(consumer, *sequence)).and_then(|settled| settled.confirmed);
            assert!(settled.is_none_or(|since| since > calls), "{context}: {sequence} comes again");
        }
    }

    /// Whatever is stored and was not acknowledged comes. Returns what came.
    pub fn check_deliveries(
        &self,
        node: &mut Node,
        lane: u64,
        consumer: &'static str,
        calls: usize,
        context: &str,
    ) -> BTreeSet<u64> {
        let filter = CONSUMERS.iter().find(|known| known.1 == consumer).unwrap().2;
        let stored = self.wanted(node, lane, filter);
        node.take_said();
        node.wait(2 * ACK_WAIT);
        let request = br#"{"batch":100000,"no_wait":true}"#;
        node.with(lane, |machine, now, said| machine.pull(consumer, b"inbox", request, now, said));
        node.settle();
        let delivered: BTreeSet<u64> = node
            .take_said()
            .iter()
            .filter_map(Delivery::parse)
            .filter(|delivery| delivery.consumer == consumer)
            .map(|delivery| delivery.sequence)
            .collect();
        for sequence in &stored {
            let settled =
                self.settled.get(&(consumer, *sequence)).is_some_and(|settled| settled.asked <= calls);
            // One whose removal was lost is gone for the consumer, and not for the stream.
            let number = self.numbers.get(&(lane, *sequence));
            let removed = number.is_some_and(|number| self.may_be_gone(*number, *sequence, calls));
            let came = settled || removed || delivered.contains(sequence);
            assert!(came, "{context}: {lane}:{sequence} never comes to {consumer}");
        }
        delivered
    }

    fn wanted(&self, node: &Node, lane: u64, filter: &str) -> Vec<u64> {
        let messages = node.messages(lane);
        let wanted = messages.iter().filter(|message| {
            // All filters but one are wider than any subject.
            filter.contains(['>', '*']) || *message.subject == *filter.as_bytes()
        });
        wanted.map(|message| message.sequence).collect()
    }

    /// What was acknowledged, may not be gone, and is not there.
    pub fn missing(&self, node: &mut Node, calls: usize) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        for lane in LANES {
            let there: BTreeSet<u64> =
                node.messages(lane).into_iter().map(|message| message.sequence).collect();
            for (number, published) in self.published.iter().enumerate() {
                let Some((since, sequence)) = published.acknowledged else { continue };
                if published.lane == lane
                    && since <= calls
                    && !there.contains(&sequence)
                    && !self.may_be_gone(number, sequence, calls)
                {
                    missing.push((lane, sequence));
                }
            }
        }
        missing
    }

    /// The stream takes messages, under new sequences, and knows the ids of those it had.
    fn check_goes_on(&self, node: &mut Node, lane: u64, calls: usize, context: &str) {
        let promised = |published: &&Published| {
            published.lane == lane && published.acknowledged.is_some_and(|(since, _)| since <= calls)
        };
        let highest =
            self.published.iter().filter(promised).filter_map(|it| it.acknowledged).map(|it| it.1).max();
        node.take_said();
        node.publish(lane, &format!("s{lane}.new"), "new", b"", b"new");
        node.settle();
        let said = node.take_said();
        let answer = said.iter().find(|heard| heard.subject == "new").expect("an answer");
        let new = sequence(std::str::from_utf8(&answer.payload).unwrap());
        assert!(highest.is_none_or(|highest| new > highest), "{context}: {lane}:{new} is used twice");
        for published in self.published.iter().rev().filter(promised).filter(|it| it.id.is_some()).take(3) {
            let headers = id_header(published.id.as_deref());
            node.publish(lane, &published.subject, "again", &headers, b"again");
            node.settle();
            let said = node.take_said();
            let answer = said.iter().find(|heard| heard.subject == "again").expect("an answer");
            let text = std::str::from_utf8(&answer.payload).unwrap();
            let known = text.contains("\"duplicate\": true").then(|| sequence(text));
            assert_eq!(known, published.acknowledged.map(|it| it.1), "{context}: an id is forgotten");
        }
    }
}

/// A message for a consumer's client.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub consumer: &'static str,
    pub lane: u64,
    pub sequence: u64,
    pub reply: Vec<u8>,
}

impl Delivery {
    fn parse(heard: &Heard) -> Option<Self> {
        let parsed = ack::parse(&heard.reply)?;
        let known = CONSUMERS.iter().find(|known| known.1.as_bytes() == parsed.consumer)?;
        let (lane, consumer) = (known.0, known.1);
        Some(Self { consumer, lane, sequence: parsed.stream_sequence, reply: heard.reply.clone() })
    }

    /// Answers it.
    pub fn answer(&self, node: &Node, payload: &[u8], reply: Option<&str>) {
        let delivery = ack::parse(&self.reply).unwrap();
        node.with(self.lane, |machine, now, said| {
            machine.acknowledge(self.consumer, &delivery, payload, reply.map(str::as_bytes), now, said)
        });
    }
}

/// The payload of a message, of different lengths.
pub fn payload(number: usize) -> Vec<u8> {
    let mut payload = format!("{number} ").into_bytes();
    payload.resize(payload.len() + number * 37 % 200, b'a' + (number % 26) as u8);
    payload
}

fn number_in(payload: &[u8]) -> usize {
    let text = std::str::from_utf8(payload).unwrap();
    text.split_once(' ').unwrap().0.parse().unwrap()
}

pub fn id_header(id: Option<&str>) -> Vec<u8> {
    let mut headers = Vec::new();
    if let Some(id) = id {
        header::append(&mut headers, "Nats-Msg-Id", id.as_bytes());
    }
    headers
}

fn sequence(text: &str) -> u64 {
    let rest = text.split("\"seq\":").nth(1).unwrap_or_else(|| panic!("{text}"));
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}
