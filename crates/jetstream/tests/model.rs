//! A stream and its consumers beside a model that is as simple as can be: a list of messages, and for each consumer what it
//! has still to deliver, what is unacknowledged and what is to come again.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test fails by panicking")]

#[path = "model/naive.rs"]
mod naive;
mod world;

use std::collections::BTreeMap;

use naive::{AckPolicy, Consumer, Model, SECOND, Start};
use proptest::prelude::*;
use sonata_jetstream::ack;
use sonata_jetstream::api::request::{CreateConsumer, DeleteMessage, Purge};
use sonata_jetstream::config::{Limits, StreamConfig};
use sonata_jetstream::json::{self, Mode};
use sonata_jetstream::timestamp::Timestamp;

use world::World;

/// What happens.
#[derive(Clone, Debug)]
enum Event {
    Publish {
        subject: u8,
        id: Option<u8>,
        ttl: Option<u8>,
        rolls_up: bool,
        expected: Option<u8>,
    },
    Delete(u8),
    Purge {
        subject: Option<u8>,
        keep: u8,
        before: u8,
    },
    Limit {
        messages: u8,
        per_subject: u8,
    },
    Create {
        name: u8,
        filters: Vec<u8>,
        policy: AckPolicy,
        start: u8,
        max_deliver: i64,
        max_ack_pending: i64,
        is_push: bool,
    },
    Drop(u8),
    /// For so many seconds; with 0 it goes on.
    Pause(u8, u8),
    Pull {
        name: u8,
        batch: u8,
    },
    Answer {
        which: u8,
        how: u8,
    },
    Wait(u8),
    /// Publishes that are not committed before the server dies, and how many of them are in the log nevertheless.
    Die {
        publishes: Vec<u8>,
        kept: usize,
    },
    /// Publishes that the log loses.
    Fail(Vec<u8>),
    /// Acknowledgements that the log loses.
    FailAnswers(Vec<(u8, u8)>),
    Checkpoint,
}

const SUBJECTS: [&str; 4] = ["a.1", "a.2", "b.1", "b.2"];
const CONSUMERS: u8 = 5;
const FILTERS: [&str; 6] = [">", "a.*", "b.*", "a.1", "b.2", "a.2"];

fn event() -> impl Strategy<Value = Event> {
    let subject = 0..4_u8;
    let policy = prop_oneof![
        3 => Just(AckPolicy::Explicit), 1 => Just(AckPolicy::All), 1 => Just(AckPolicy::None),
    ];
    let filters = prop_oneof![
        2 => Just(vec![0]),
        2 => (1..6_u8).prop_map(|filter| vec![filter]),
        1 => Just(vec![1, 4]),
        1 => Just(vec![5, 3, 4]),
    ];
    let limits = (prop_oneof![Just(-1_i64), 1..4_i64], prop_oneof![Just(1000_i64), 1..6_i64]);
    prop_oneof![
        12 => (subject.clone(), prop::option::of(0..6_u8), prop::option::weighted(0.1, 1..30_u8),
            prop::bool::weighted(0.05), prop::option::weighted(0.1, 0..40_u8))
            .prop_map(|(subject, id, ttl, rolls_up, expected)| Event::Publish { subject, id, ttl, rolls_up, expected }),
        1 => (0..40_u8).prop_map(Event::Delete),
        1 => (prop::option::of(subject), 0..3_u8, prop_oneof![2 => Just(0_u8), 1 => 0..60_u8])
            .prop_map(|(subject, keep, before)| Event::Purge { subject, keep, before }),
        1 => (2..20_u8, 1..8_u8).prop_map(|(messages, per_subject)| Event::Limit { messages, per_subject }),
        3 => (0..CONSUMERS, filters, policy, 0..6_u8, limits, prop::bool::weighted(0.3)).prop_map(
            |(name, filters, policy, start, (max_deliver, max_ack_pending), is_push)| {
                Event::Create { name, filters, policy, start, max_deliver, max_ack_pending, is_push }
            }
        ),
        1 => (0..CONSUMERS).prop_map(Event::Drop),
        1 => (0..CONSUMERS, 0..20_u8).prop_map(|(name, seconds)| Event::Pause(name, seconds)),
        8 => (0..CONSUMERS, 1..10_u8).prop_map(|(name, batch)| Event::Pull { name, batch }),
        10 => (any::<u8>(), 0..8_u8).prop_map(|(which, how)| Event::Answer { which, how }),
        4 => (1..12_u8).prop_map(Event::Wait),
        2 => (prop::collection::vec(0..4_u8, 0..4), 0..4_usize)
            .prop_map(|(publishes, kept)| Event::Die { publishes, kept }),
        1 => prop::collection::vec(0..4_u8, 0..4).prop_map(Event::Fail),
        1 => prop::collection::vec((any::<u8>(), 2..8_u8), 0..4).prop_map(Event::FailAnswers),
        1 => Just(Event::Checkpoint),
    ]
}

/// The machine and the model, side by side.
struct Pair {
    world: World,
    model: Model,
    /// The last deliveries: consumer and reply subject.
    inbox: Vec<(String, String)>,
    number: u64,
}

impl Pair {
    fn new(config: &str) -> Self {
        let world = World::new(config);
        let model = Model::new(world.machine.config(), world.now);
        Self { world, model, inbox: Vec::new(), number: 0 }
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Publish { subject, id, ttl, rolls_up, expected } => {
                let mut headers = Vec::new();
                headers.extend(id.map(|id| format!("Nats-Msg-Id: {id}")));
                headers.extend(ttl.map(|ttl| format!("Nats-TTL: {ttl}")));
                headers.extend(rolls_up.then(|| "Nats-Rollup: sub".to_owned()));
                headers.extend(expected.map(|last| format!("Nats-Expected-Last-Subject-Sequence: {last}")));
                self.publish(*subject, &headers);
                self.world.settle();
                let subject = SUBJECTS[usize::from(*subject)];
                let bytes: usize = headers.iter().map(|line| line.len() + 2).sum();
                let headers = if bytes > 0 { bytes + "NATS/1.0\r\n\r\n".len() } else { 0 };
                let answer =
                    self.model.publish(subject, self.number, headers, *id, *ttl, *rolls_up, *expected);
                let said = self.said("reply");
                match answer {
                    Ok((sequence, duplicate)) => {
                        let duplicate = if duplicate { ",\"duplicate\": true" } else { "" };
                        assert_eq!(said, [format!("{{\"stream\":\"S\",\"seq\":{sequence}{duplicate}}}")]);
                    }
                    Err(()) => assert!(said.len() == 1 && said[0].contains("error"), "{said:?}"),
                }
            }
            Event::Delete(sequence) => {
                let request = DeleteMessage { seq: u64::from(*sequence), ..DeleteMessage::default() };
                let World { machine, now, said, .. } = &mut self.world;
                let _ = machine.request_delete(&request, b"", *now, said);
                self.world.settle();
                self.model.remove(u64::from(*sequence));
            }
            Event::Purge { subject, keep, before } => {
                let filter = subject.map_or("", |subject| SUBJECTS[usize::from(subject)]);
                // Only one of them may be said.
                let (seq, keep) = (u64::from(*before), if *before > 0 { 0 } else { *keep });
                let request = Purge { filter: filter.to_owned(), keep: u64::from(keep), seq };
                let World { machine, now, said, .. } = &mut self.world;
                machine.request_purge(&request, b"", *now, said).unwrap();
                self.world.settle();
                match seq {
                    0 => self.model.purge(filter, usize::from(keep)),
                    _ => self.model.purge_before(filter, seq),
                }
            }
            Event::Limit { messages, per_subject } => {
                let mut config = StreamConfig::clone(self.world.machine.config());
                config.max_msgs = i64::from(*messages);
                config.max_msgs_per_subject = i64::from(*per_subject);
                let World { machine, now, said, .. } = &mut self.world;
                machine.update(&config, b"", *now, said).unwrap();
                self.world.settle();
                self.model.limit(usize::from(*messages), usize::from(*per_subject));
            }
            Event::Create { .. } => self.create(event),
            Event::Drop(name) => {
                let name = format!("c{name}");
                let World { machine, now, said, .. } = &mut self.world;
                let known = machine.delete_consumer(&name, b"", *now, said).is_ok();
                self.world.settle();
                assert_eq!(known, self.model.consumers.contains_key(&name));
                self.model.drop_consumer(&name);
                self.inbox.retain(|(consumer, _)| *consumer != name);
            }
            Event::Pause(name, seconds) => {
                let name = format!("c{name}");
                // Never at the same moment as another time of the tests.
                let until = self.world.now + i64::from(*seconds) * SECOND + 1009;
                let until = if *seconds > 0 { until } else { 0 };
                let World { machine, now, said, .. } = &mut self.world;
                let ends = if until > 0 { Timestamp(until) } else { Timestamp::ZERO };
                let known = machine.pause_consumer(&name, ends, b"", *now, said).is_ok();
                self.world.settle();
                assert_eq!(known, self.model.consumers.contains_key(&name));
                self.model.pause(&name, until);
            }
            Event::Pull { name, batch } => {
                let (name, payload) = (format!("c{name}"), format!("{{\"batch\":{batch},\"no_wait\":true}}"));
                let World { machine, now, said, .. } = &mut self.world;
                machine.pull(&name, b"inbox", payload.as_bytes(), *now, said);
                self.world.settle();
                self.model.pull(&name, usize::from(*batch));
            }
            Event::Answer { which, how } => {
                self.answer(*which, *how);
                self.world.settle();
            }
            Event::Wait(seconds) => {
                let nanos = i64::from(*seconds) * SECOND;
                self.world.wait(nanos);
                self.model.wait(nanos);
            }
            Event::Die { publishes, kept } => {
                let committed = self.world.committed();
                self.publish_all(publishes);
                let kept = (*kept).min(self.world.log.len() - committed);
                self.world.restart(committed + kept);
                let (mut left, first) = (kept, self.number + 1 - publishes.len() as u64);
                for (number, subject) in (first..).zip(publishes) {
                    let subject = SUBJECTS[usize::from(*subject)];
                    // What is refused is not in the log.
                    let stores =
                        left > 0 && self.model.publish(subject, number, 0, None, None, false, None).is_ok();
                    left -= usize::from(stores);
                }
                self.model.restart();
                // What was due meanwhile.
                self.world.wait(0);
                self.world.settle();
            }
            Event::Fail(publishes) => {
                self.publish_all(publishes);
                self.world.fail();
                self.world.resume();
                self.world.settle();
                self.model.log_consumers();
                let refused = self.said("reply");
                assert_eq!(refused.len(), publishes.len());
                assert!(refused.iter().all(|answer| answer.contains("error")), "{refused:?}");
            }
            Event::FailAnswers(answers) => {
                answers.iter().for_each(|(which, how)| self.answer(*which, *how));
                let World { machine, now, said, .. } = &mut self.world;
                machine.log_consumers(*now, said);
                self.world.fail();
                self.world.resume();
                self.world.settle();
                self.model.log_consumers();
            }
            Event::Checkpoint => {
                self.world.checkpoint();
                self.model.log_consumers();
            }
        }
        self.model.deliver();
    }

    fn create(&mut self, event: &Event) {
        let Event::Create { name, filters, policy, start, max_deliver, max_ack_pending, is_push } = event
        else {
            return;
        };
        let name = format!("c{name}");
        let filters: Vec<&str> = filters.iter().map(|filter| FILTERS[usize::from(*filter)]).collect();
        let sequence = self.model.last.max(2) / 2;
        let (start, policy_text) = match start {
            0 => (Start::All, "\"all\"".to_owned()),
            1 => (Start::New, "\"new\"".to_owned()),
            2 => (Start::Last, "\"last\"".to_owned()),
            // Where messages stay for those who want them, they stay for those who will pass over them, too, as in the
            // original; the model does not know where a consumer is.
            3 if !self.model.is_interest() => (Start::LastPerSubject, "\"last_per_subject\"".to_owned()),
            4 => {
                let time = self.world.now - 6 * SECOND;
                let text = format!("\"by_start_time\",\"opt_start_time\":\"{}\"", Timestamp(time));
                (Start::Time(time), text)
            }
            _ => (Start::Sequence(sequence), format!("\"by_start_sequence\",\"opt_start_seq\":{sequence}")),
        };
        let deliver = if *is_push { format!(r#""deliver_subject":"push.{name}","#) } else { String::new() };
        let config = format!(
            r#"{{"stream_name":"S","config":{{{deliver}"durable_name":"{name}","filter_subjects":{filters:?},"ack_policy":"{}","deliver_policy":{policy_text},"max_deliver":{max_deliver},"max_ack_pending":{max_ack_pending},"ack_wait":{}}}}}"#,
            policy.word(),
            naive::ACK_WAIT,
        );
        let said_by: CreateConsumer = json::decode(config.as_bytes(), Mode::Strict).unwrap();
        if self.model.is_work_queue() && self.model.consumers.contains_key(&name) {
            return;
        }
        let World { machine, now, said, .. } = &mut self.world;
        let known = machine.consumer_info(&name, *now, said).ok();
        let limits = Limits::default();
        let taken =
            machine.request_consumer(said_by.config, said_by.action, false, &limits, b"", *now, said).is_ok();
        self.world.settle();
        let consumer = Consumer::new(&filters, *policy, *max_deliver, *max_ack_pending, *is_push);
        match (taken, known) {
            (true, None) => self.model.add_consumer(&name, consumer, start),
            (true, Some(info)) => self.model.change_consumer(&name, consumer, info.delivered.stream_seq + 1),
            (false, _) => {}
        }
    }

    fn publish(&mut self, subject: u8, headers: &[String]) {
        self.number += 1;
        let payload = format!("message {}", self.number);
        self.world.publish(SUBJECTS[usize::from(subject)], "reply", headers, &payload);
    }

    fn publish_all(&mut self, subjects: &[u8]) {
        subjects.iter().for_each(|subject| self.publish(*subject, &[]));
    }

    /// Answers one of the last deliveries, to both.
    fn answer(&mut self, which: u8, how: u8) {
        if self.inbox.is_empty() {
            return;
        }
        let at = usize::from(which) % self.inbox.len();
        let (name, reply) = self.inbox[at].clone();
        let delivery = ack::parse(reply.as_bytes()).unwrap();
        let payload = match how {
            0 => "-NAK",
            1 => "-NAK {\"delay\":3000000000}",
            2 => "+TERM",
            3 => "+WPI",
            _ => "+ACK",
        };
        let World { machine, now, said, .. } = &mut self.world;
        machine.acknowledge(&name, &delivery, payload.as_bytes(), None, *now, said);
        self.model.answer(&name, delivery.stream_sequence, delivery.consumer_sequence, payload);
        let info = machine.consumer_info(&name, *now, said).unwrap();
        self.model.check_consumer(&name, &info);
    }

    /// What was said on a subject, and takes everything; deliveries are put into the inbox.
    fn said(&mut self, subject: &str) -> Vec<String> {
        let (these, others): (Vec<_>, Vec<_>) =
            self.world.take_said().into_iter().partition(|message| message.subject == subject);
        self.world.said.0 = others;
        these.into_iter().map(|message| message.payload).collect()
    }

    /// Compares everything; what consumers say of themselves only when it `asks`, since who is asked counts.
    fn compare(&mut self, asks: bool) {
        let mut delivered: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        for message in self.world.take_said() {
            let Some(delivery) = ack::parse(message.reply.as_bytes()) else { continue };
            let name = String::from_utf8(delivery.consumer.to_vec()).unwrap();
            delivered.entry(name.clone()).or_default().push((delivery.stream_sequence, delivery.deliveries));
            self.inbox.retain(|(consumer, reply)| {
                let known = ack::parse(reply.as_bytes()).unwrap().stream_sequence;
                *consumer != name || known != delivery.stream_sequence
            });
            self.inbox.push((name, message.reply));
        }
        let expected = self.model.take_delivered();
        assert_eq!(delivered, expected, "what is delivered, and how often");
        let stored: Vec<(u64, String, String)> = self
            .world
            .messages()
            .into_iter()
            .map(|message| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                (message.sequence, text(&message.subject), text(&message.payload))
            })
            .collect();
        assert_eq!(stored, self.model.stored(), "the content of every sequence");
        let state = self.world.machine.state();
        let is = (state.messages, state.bytes, state.first_seq, state.last_seq, state.num_subjects);
        assert_eq!(is, self.model.state(), "messages, bytes, first, last, subjects");
        let names: Vec<String> = self.model.consumers.keys().cloned().collect();
        assert_eq!(self.world.machine.consumer_names(), names);
        for name in names {
            if !asks && !self.model.consumers[&name].goes_by_floor() {
                continue;
            }
            let World { machine, now, said, .. } = &mut self.world;
            let info = machine.consumer_info(&name, *now, said).unwrap();
            self.model.check_consumer(&name, &info);
        }
    }
}

/// The streams that are tried.
const CONFIGS: [&str; 5] = [
    r#""max_msgs":12"#,
    r#""max_bytes":500,"max_msgs_per_subject":3"#,
    r#""max_msgs":8,"discard":"new""#,
    r#""retention":"interest","max_msgs":30"#,
    r#""retention":"workqueue""#,
];

/// `asking`: after how many events consumers are asked.
fn play(config: &str, ages: bool, asking: usize, events: &[Event]) {
    let (age, window) = (if ages { naive::MAX_AGE } else { 0 }, naive::WINDOW);
    let mut pair = Pair::new(&format!(
        r#"{{"name":"S","subjects":["a.*","b.*"],"allow_msg_ttl":true,"allow_rollup_hdrs":true,"max_age":{age},"duplicate_window":{window},{config}}}"#,
    ));
    for (at, event) in events.iter().enumerate() {
        pair.happens(event);
        pair.compare(at % asking == 0 || at + 1 == events.len());
    }
}

/// How many streams are tried: `PROPTEST_CASES`, or as many as take some seconds.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_is_as_its_model(
        config in 0..CONFIGS.len(),
        ages in any::<bool>(),
        asking in 1..8_usize,
        events in prop::collection::vec(event(), 1..100),
    ) {
        play(CONFIGS[config], ages, asking, &events);
    }
}

/// What was found once.
mod found {
    use super::*;

    const LIMITS: &str = CONFIGS[0];
    const DISCARDS_NEW: &str = CONFIGS[2];
    const INTEREST: &str = CONFIGS[3];

    fn publish(subject: u8) -> Event {
        Event::Publish { subject, id: None, ttl: None, rolls_up: false, expected: None }
    }

    fn create(name: u8, filters: &[u8], policy: AckPolicy, start: u8) -> Event {
        let filters = filters.to_vec();
        let (max_deliver, max_ack_pending) = (-1, 1000);
        Event::Create { name, filters, policy, start, max_deliver, max_ack_pending, is_push: false }
    }

    /// The last of those, with other limits.
    fn limited(event: Event, deliveries: i64, pending: i64) -> Event {
        let Event::Create { name, filters, policy, start, is_push, .. } = event else { return event };
        let (max_deliver, max_ack_pending) = (deliveries, pending);
        Event::Create { name, filters, policy, start, max_deliver, max_ack_pending, is_push }
    }

    fn pull(name: u8, batch: u8) -> Event {
        Event::Pull { name, batch }
    }

    fn answer(which: u8, how: u8) -> Event {
        Event::Answer { which, how }
    }

    fn die(publishes: &[u8]) -> Event {
        Event::Die { publishes: publishes.to_vec(), kept: publishes.len() }
    }

    /// Whose acknowledgement was missing when the server died is delivered again.
    #[test]
    fn what_is_due_after_a_restart_comes_again() {
        let events = [
            publish(0),
            create(1, &[0], AckPolicy::All, 0),
            publish(0),
            pull(1, 4),
            Event::Wait(8),
            die(&[]),
            pull(1, 1),
        ];
        play(LIMITS, false, 1, &events);
    }

    /// The record of a change carried the last of each subject by the filters before: after a restart those came.
    #[test]
    fn other_filters_have_other_last_messages() {
        let events = [
            publish(1),
            publish(0),
            create(2, &[1, 4], AckPolicy::Explicit, 3),
            create(2, &[2], AckPolicy::Explicit, 3),
            die(&[]),
            pull(2, 4),
        ];
        play(LIMITS, false, 1, &events);
    }

    /// What a change of filters swept stayed unacknowledged.
    #[test]
    fn a_consumer_does_not_wait_for_what_its_change_removed() {
        let events = [
            create(0, &[0], AckPolicy::Explicit, 0),
            publish(2),
            publish(0),
            pull(0, 1),
            create(0, &[1], AckPolicy::Explicit, 0),
            pull(0, 1),
        ];
        play(INTEREST, false, 1, &events);
    }

    /// The counts of messages that were given up stayed when those were too old.
    #[test]
    fn what_was_given_up_is_forgotten_with_the_message() {
        let events = [
            limited(create(2, &[2], AckPolicy::Explicit, 0), 2, 1000),
            publish(2),
            pull(2, 1),
            Event::Wait(8),
            // It looks for more up to here.
            publish(0),
            pull(2, 2),
            Event::Wait(11),
            Event::Wait(2),
        ];
        play(LIMITS, true, 1, &events);
    }

    /// A message on its way that takes another one's place was counted as one more.
    #[test]
    fn what_replaces_a_message_needs_no_room() {
        let limit = Event::Limit { messages: 4, per_subject: 1 };
        let events = [limit, publish(0), publish(1), publish(2), die(&[0, 3, 0])];
        play(DISCARDS_NEW, false, 1, &events);
    }

    /// After the acknowledgement of a redelivery the floor rose above what was still open when a later message was deleted.
    #[test]
    fn a_deletion_lifts_no_floor_above_an_open_delivery() {
        let events = [
            limited(create(1, &[0], AckPolicy::All, 0), -1, 2),
            publish(0),
            publish(0),
            publish(0),
            pull(1, 5),
            // 1; then 2 again, after 3.
            answer(0, 4),
            answer(1, 0),
            publish(0),
            answer(2, 4),
            Event::Delete(4),
            Event::Wait(8),
            pull(1, 5),
            answer(0, 4),
        ];
        play(LIMITS, false, 1, &events);
    }

    /// A consumer with as many unacknowledged messages as it may have got no turn when one of them was too old.
    #[test]
    fn a_removed_message_makes_room_for_a_delivery() {
        let events = [
            limited(create(2, &[0], AckPolicy::Explicit, 0), -1, 1),
            publish(0),
            Event::Wait(10),
            publish(0),
            pull(2, 1),
            pull(2, 2),
            Event::Wait(11),
        ];
        play(LIMITS, true, 1, &events);
    }
}
