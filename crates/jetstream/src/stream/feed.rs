//! Feeds: origins that are reached through the API, as any client would reach them.
//!
//! A stream of another account or domain is not read. A consumer of that stream delivers to a subject of this account, through
//! whatever lies between: imports today. Without an answer, after silence and after a gap the consumer is asked for anew, from
//! the first message that is missing; so nothing between the two need be reliable. A consumer that somebody has made for
//! this purpose is not made but reset.
//!
//! The origin is told how far this stream has come (flow control) only when that much is in this stream's log for good: where
//! messages stay until they are acknowledged, they go no earlier.
//!
//! Subjects and fields are those of the reference's servers, so either side may be one (ADR-60 for the consumers).

use serde::Deserialize;
use sonata_store::Message;

use super::following::{Following, Place};
use super::{After, Machine};
use crate::ack;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::request::CreateConsumer;
use crate::config::{AckPolicy, ConsumerConfig, DeliverPolicy, Metadata, StreamSource, is_valid_name};
use crate::header::{self, name};
use crate::json;
use crate::outgoing::{Outgoing, Publish};
use crate::record::{NUMBER_MAX, Record};

const SECOND: i64 = 1_000_000_000;

/// How long an answer to a request is awaited.
const ANSWER_WITHIN: i64 = 10 * SECOND;
/// The consumer says something at least this often.
const HEARTBEAT: i64 = SECOND;
/// After so long without a word it is asked for anew; it goes by itself then.
const SILENCE: i64 = 10 * SECOND;
/// Between two requests.
const REST: i64 = 2 * SECOND;
/// The same when requests keep failing; the time doubles from [`REST`] up to this.
const REST_MAX: i64 = 60 * SECOND;
/// What an acknowledgement may take where none is expected; the reference's number.
const ACK_WAIT: i64 = 22 * 3600 * SECOND;

/// The API of the account itself.
const API_PREFIX: &str = "$JS.API";
/// Answers come to a subject that begins with this.
const ANSWER_PREFIX: &str = "$JSC.R";

/// A subject that a feed listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ear {
    /// What it is known by: messages are handed in with it.
    pub token: u64,
    /// The subject.
    pub subject: String,
}

/// All subjects that a stream's feeds listen on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ears {
    /// Grows with every change.
    pub number: u64,
    /// The subjects.
    pub list: Vec<Ear>,
}

/// A message on a subject that a feed listens on.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// Subject of the message, which is the origin's for what it has stored.
    pub subject: &'a [u8],
    /// Reply subject; empty for none.
    pub reply: &'a [u8],
    /// Header block; empty for none.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

/// How one origin is reached.
#[derive(Debug)]
pub(super) struct Feed {
    phase: Phase,
    /// Requests in a row that came to nothing.
    failures: u32,
    /// When it was last asked, ns since 1970.
    asked_at: i64,
    /// The API level that is asked for: what came with it is made use of. It falls when the origin's server has a lower one.
    level: u32,
}

/// Streams that are made anew are recognised.
const LEVEL_OF_IDENTITY: u32 = 5;
/// Consumers are made for this purpose, and may be reset.
const LEVEL_OF_SOURCING: u32 = 4;
/// Any consumer does.
const LEVEL_OF_ALL: u32 = 0;

#[derive(Debug)]
enum Phase {
    /// Nothing happens before `until`, ns since 1970.
    Resting { until: i64 },
    /// The world is told to listen for the answer.
    Opening(Ear),
    /// It does.
    Open(Ear),
    /// The request has gone out; messages will come to `deliver`.
    Asking { answer: Ear, deliver: String, until: i64 },
    /// The consumer delivers.
    Fed(Fed),
}

#[derive(Debug)]
struct Fed {
    ear: Ear,
    /// The consumer's name.
    consumer: String,
    /// It goes by itself when nobody listens.
    is_temporary: bool,
    /// Number of its last delivery.
    delivered: u64,
    /// When it was last heard of, ns since 1970.
    heard_at: i64,
    /// It asks how far this stream is.
    question: Option<Question>,
}

/// A question of flow control that is answered when what was delivered before it is in the log for good.
#[derive(Debug)]
struct Question {
    reply: Box<[u8]>,
    /// Position in the log of the last record that was on its way.
    after: u64,
    delivered: u64,
    sequence: u64,
}

/// What of the answers to a creation and to a reset counts here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    error: Option<ApiError>,
    name: String,
    config: Option<ConsumerConfig>,
    delivered: Delivered,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delivered {
    stream_seq: u64,
}

impl Ears {
    /// The last change: nothing is listened to any more.
    pub fn of_nobody() -> Self {
        Self { number: u64::MAX, list: Vec::new() }
    }
}

impl Feed {
    pub(super) fn new(is_mirror: bool) -> Self {
        // What a mirror has tells by itself where it goes on.
        let level = if is_mirror { LEVEL_OF_SOURCING } else { LEVEL_OF_IDENTITY };
        Self { phase: Phase::Resting { until: 0 }, failures: 0, asked_at: 0, level }
    }

    fn ear(&self) -> Option<&Ear> {
        match &self.phase {
            Phase::Resting { .. } => None,
            Phase::Opening(ear) | Phase::Open(ear) | Phase::Asking { answer: ear, .. } => Some(ear),
            Phase::Fed(fed) => Some(&fed.ear),
        }
    }

    /// When it has something to do.
    fn due_at(&self) -> Option<i64> {
        match &self.phase {
            Phase::Resting { until } | Phase::Asking { until, .. } => Some(*until),
            Phase::Opening(_) | Phase::Open(_) => None,
            Phase::Fed(fed) => Some(fed.heard_at.saturating_add(SILENCE)),
        }
    }
}

impl Machine {
    /// The subjects that feeds listen on, when they have changed.
    pub fn take_ears(&mut self) -> Option<Ears> {
        self.ears.take()
    }

    /// What [`Machine::take_ears`] said under this number is listened to. True when a turn is wanted for that.
    pub fn on_listening(&mut self, number: u64) -> bool {
        if number != self.ears_number {
            return false;
        }
        let mut wanted = false;
        for feed in self.following.iter_mut().filter_map(|following| following.feed.as_mut()) {
            if let Phase::Opening(ear) = &feed.phase {
                feed.phase = Phase::Open(ear.clone());
                wanted = true;
            }
        }
        wanted
    }

    /// Takes a message on a subject that a feed listens on.
    pub fn hear(&mut self, token: u64, heard: Heard<'_>, now: i64, out: &mut dyn Publish) {
        let listens = |following: &Following| {
            following.feed.as_ref().and_then(Feed::ear).is_some_and(|ear| ear.token == token)
        };
        let Some(index) = self.following.iter().position(listens) else { return };
        match self.following[index].feed.as_ref().map(|feed| &feed.phase) {
            Some(Phase::Asking { .. }) => self.on_answer(index, heard, now, out),
            Some(Phase::Fed(_)) => self.on_delivery(index, heard, now, out),
            _ => {}
        }
    }

    /// Feeds have come, gone or changed.
    pub(super) fn note_feeds(&mut self) {
        let feeds: Vec<&Feed> =
            self.following.iter().filter_map(|following| following.feed.as_ref()).collect();
        self.wants_turn |= !feeds.is_empty() || !self.parting.is_empty();
        let list: Vec<Ear> = feeds.into_iter().filter_map(Feed::ear).cloned().collect();
        if self.ears_number == 0 && list.is_empty() {
            return;
        }
        self.ears_number += 1;
        self.ears = Some(Ears { number: self.ears_number, list });
    }

    /// All begin anew, with what was applied.
    pub(super) fn rest_feeds(&mut self) {
        for feed in self.following.iter_mut().filter_map(|following| following.feed.as_mut()) {
            feed.phase = Phase::Resting { until: 0 };
        }
        self.note_feeds();
    }

    /// When [`Machine::drive_feeds`] has something to do. A stream that cannot store waits until it can.
    pub(super) fn next_feed_timer(&self) -> Option<i64> {
        let feeds = self.following.iter().filter_map(|following| following.feed.as_ref());
        feeds.filter_map(Feed::due_at).min().filter(|_| self.failed.is_none())
    }

    /// Does what is due.
    pub(super) fn drive_feeds(&mut self, now: i64, out: &mut dyn Publish) {
        if self.failed.is_some() {
            return;
        }
        for gone in std::mem::take(&mut self.parting) {
            // What was fed by the same consumer with another filter goes on with it.
            let goes_on = (0..self.following.len()).any(|index| {
                let (is, was) = (&self.following[index].source, &gone.source);
                is.name == was.name
                    && is.external == was.external
                    && gone.is_fed_by(&self.feeding_name(index))
            });
            if !goes_on {
                gone.dismiss(out);
            }
        }
        for index in 0..self.following.len() {
            let Some(feed) = &self.following[index].feed else { continue };
            let due = feed.due_at().is_some_and(|at| at <= now);
            match &feed.phase {
                Phase::Resting { .. } if due => self.open(index),
                Phase::Open(_) => self.ask(index, now, out),
                Phase::Asking { .. } if due => self.rest(index, None, true, now),
                Phase::Fed(_) if due => self.rest(index, None, false, now),
                _ => {}
            }
        }
    }

    fn open(&mut self, index: usize) {
        let ear = self.new_ear(ANSWER_PREFIX);
        if let Some(feed) = &mut self.following[index].feed {
            feed.phase = Phase::Opening(ear);
        }
        self.note_feeds();
    }

    fn new_ear(&mut self, prefix: &str) -> Ear {
        let (token, random) = (self.random(), self.random());
        Ear { token, subject: unique(prefix, random) }
    }

    /// Gives up what there is of a feed, and tries again after a while.
    fn rest(&mut self, index: usize, error: Option<ApiError>, failed: bool, now: i64) {
        let jitter = i64::try_from(self.random() % (SECOND as u64 / 10)).unwrap_or_default();
        let following = &mut self.following[index];
        let Some(feed) = &mut following.feed else { return };
        feed.failures = if failed { feed.failures.saturating_add(1) } else { 0 };
        let doubled = feed.failures.saturating_sub(1).min(5);
        let rest = (REST << doubled).min(REST_MAX);
        feed.phase = Phase::Resting { until: feed.asked_at.max(now - rest).saturating_add(rest) + jitter };
        if error.is_some() {
            following.error = error;
        }
        self.note_feeds();
    }

    /// Asks for a consumer from where this stream is, or sends the one that there is back to there.
    fn ask(&mut self, index: usize, now: i64, out: &mut dyn Publish) {
        let random = self.random();
        let place = self.place_in(&self.following[index]);
        let name = self.feeding_name(index);
        let metadata = self.feed_metadata(index);
        let following = &mut self.following[index];
        let Some(feed) = &mut following.feed else { return };
        let Phase::Open(answer) = &feed.phase else { return };
        let answer = answer.clone();
        let source = &following.source;
        let mut headers = Vec::new();
        if feed.level > LEVEL_OF_ALL && !(following.is_mirror && source.consumer.is_some()) {
            header::append(&mut headers, name::REQUIRED_API_LEVEL, feed.level.to_string().as_bytes());
        }
        if feed.level >= LEVEL_OF_IDENTITY {
            header::append(&mut headers, name::STREAM_IDENTITY, place.identity.as_bytes());
        }
        let (request, deliver, body) = match &source.consumer {
            Some(consumer) => {
                let request = format!("CONSUMER.RESET.{}.{}", source.name, consumer.name);
                (request, consumer.deliver_subject.clone(), Vec::new())
            }
            None => {
                let kind = if following.is_mirror { "M" } else { "S" };
                let prefix = source.external.as_ref().map_or("", |external| &*external.deliver);
                let prefix = if prefix.is_empty() { "$JS" } else { prefix };
                let deliver = unique(&format!("{prefix}.{kind}"), random);
                let mut config = feeding_consumer(source, &place, name, deliver.clone(), metadata);
                if feed.level < LEVEL_OF_SOURCING {
                    // Nobody there sees to it that the name is free.
                    config.name = unique(&config.name, random).replace('.', "_");
                    config.sourcing = false;
                }
                let mut request = format!("CONSUMER.CREATE.{}", source.name);
                if !config.filter_subject.is_empty() {
                    request = format!("{request}.{}.{}", config.name, config.filter_subject);
                }
                let body =
                    CreateConsumer { stream_name: source.name.clone(), config, ..CreateConsumer::default() };
                (request, deliver, json::encode(&body))
            }
        };
        feed.asked_at = now;
        let subject = api_subject(source, &request);
        if !is_valid_name(&source.name) {
            // The name of what is elsewhere is not checked when it is configured, as in the original.
            let error = setup_failed(following.is_mirror, "the name of the stream is none");
            return self.rest(index, Some(error), true, now);
        }
        out.publish(Outgoing {
            route: b"",
            subject: subject.as_bytes(),
            reply: answer.subject.as_bytes(),
            headers: &headers,
            payload: &body,
        });
        feed.phase = Phase::Asking { answer, deliver, until: now.saturating_add(ANSWER_WITHIN) };
    }

    /// The name of the consumer: the same whenever this stream asks, and another one for each of its sources in a stream.
    fn feeding_name(&self, index: usize) -> String {
        let following = &self.following[index];
        let mut id = format!("{} {}", self.name, self.account_name);
        if !self.domain.is_empty() {
            id = format!("{id} {}", self.domain);
        }
        id = crate::nuid::hash(&id);
        if following.is_mirror {
            return format!("JS_MIRROR_{id}");
        }
        let of_it = self.following.iter().filter(|other| other.source.name == following.source.name);
        if of_it.count() > 1 {
            id = format!("{id} {}", following.index_name());
        }
        format!("JS_SRC_{}", crate::nuid::hash(&id))
    }

    /// What the origin's operators see of who is fed.
    fn feed_metadata(&self, index: usize) -> Metadata {
        let kind = if self.following[index].is_mirror { "mirror" } else { "src" };
        let said = [("stream", &self.name), ("acc", &self.account_name), ("domain", &self.domain)];
        let said = said.into_iter().filter(|(_, value)| !value.is_empty());
        said.map(|(key, value)| (format!("_nats.{kind}.{key}"), value.to_string())).collect()
    }

    fn on_answer(&mut self, index: usize, heard: Heard<'_>, now: i64, out: &mut dyn Publish) {
        let answer: Answer = match json::decode(heard.payload, json::Mode::Lenient) {
            Ok(answer) => answer,
            Err(error) => return self.rest(index, Some(ErrorCode::InvalidJson.with(error)), true, now),
        };
        let is_mirror = self.following[index].is_mirror;
        let config = match (answer.error, answer.config) {
            (None, Some(config)) if sonata_subject::is_literal(config.deliver_subject.as_bytes()) => config,
            (None, _) => {
                let error = setup_failed(is_mirror, "invalid consumer create response");
                return self.rest(index, Some(error), true, now);
            }
            (Some(error), _) => return self.on_refusal(index, error, now, out),
        };
        let has_own = self.following[index].source.consumer.is_some();
        if has_own && config.ack_policy != AckPolicy::FlowControl {
            let code = match is_mirror {
                true => ErrorCode::MirrorConsumerRequiresAckFlowControl,
                false => ErrorCode::SourceConsumerRequiresAckFlowControl,
            };
            return self.rest(index, Some(code.into()), true, now);
        }
        let token = self.random();
        let identity = header::get_str(heard.headers, name::STREAM_IDENTITY).unwrap_or_default();
        let following = &mut self.following[index];
        let Some(feed) = &mut following.feed else { return };
        let Phase::Asking { deliver, .. } = &feed.phase else { return };
        feed.failures = 0;
        // The origin may have renamed it.
        let subject = if has_own { deliver.clone() } else { config.deliver_subject.clone() };
        feed.phase = Phase::Fed(Fed {
            ear: Ear { token, subject },
            consumer: answer.name,
            is_temporary: config.direct,
            delivered: 0,
            heard_at: now,
            question: None,
        });
        let before = &mut following.next;
        if !identity.is_empty() && before.identity != identity {
            if !before.identity.is_empty() {
                // Another stream of the name: it begins with its own first message.
                before.sequence = 0;
                following.last = 0;
            }
            identity.clone_into(&mut before.identity);
        }
        let reached = answer.delivered.stream_seq.min(NUMBER_MAX);
        before.sequence = before.sequence.max(reached.saturating_add(1));
        following.last = following.last.max(reached);
        following.heard_at = Some(now);
        following.error = None;
        self.note_feeds();
        if is_mirror && reached > self.assigned {
            // What was not there any more when it was asked for counts here as well.
            let record = Record::Advance { last: reached };
            if self.commit(&record, None, After::Nothing, now, out).is_ok() {
                self.assigned = reached;
            }
        }
    }

    /// The origin refuses. What can be asked otherwise is asked again at once.
    fn on_refusal(&mut self, index: usize, error: ApiError, now: i64, out: &mut dyn Publish) {
        let following = &mut self.following[index];
        let Some(feed) = &mut following.feed else { return };
        let Phase::Asking { answer, .. } = &feed.phase else { return };
        let open = Phase::Open(answer.clone());
        match error.kind() {
            // It was made anew meanwhile: from its beginning.
            Some(ErrorCode::ConsumerStreamIdentityMismatch) if following.next != Place::default() => {
                following.next = Place::default();
                following.last = 0;
                feed.phase = open;
                self.ask(index, now, out);
            }
            Some(ErrorCode::RequiredApiLevel | ErrorCode::InvalidJson) if feed.level > LEVEL_OF_ALL => {
                feed.level = if feed.level > LEVEL_OF_SOURCING { LEVEL_OF_SOURCING } else { LEVEL_OF_ALL };
                feed.phase = open;
                self.ask(index, now, out);
            }
            _ => self.rest(index, Some(error), true, now),
        }
    }

    fn on_delivery(&mut self, index: usize, heard: Heard<'_>, now: i64, out: &mut dyn Publish) {
        let last = self.following[index].last;
        self.following[index].heard_at = Some(now);
        let Some(Feed { phase: Phase::Fed(fed), .. }) = &mut self.following[index].feed else { return };
        fed.heard_at = now;
        if is_control(&heard) {
            return self.on_control(index, heard, now, out);
        }
        let Some(delivery) = ack::parse(heard.reply) else { return };
        if delivery.consumer != fed.consumer.as_bytes() || delivery.deliveries > 1 {
            return;
        }
        let (number, sequence) = (delivery.consumer_sequence, delivery.stream_sequence);
        let follows = number == fed.delivered.saturating_add(1);
        if sequence <= last {
            fed.delivered += u64::from(follows);
            return;
        }
        if !follows || sequence > NUMBER_MAX {
            return self.rest(index, None, false, now);
        }
        fed.delivered = number;
        self.following[index].lag = delivery.pending.saturating_sub(1);
        let message = Message {
            sequence,
            timestamp: delivery.timestamp,
            subject: heard.subject.to_vec().into(),
            headers: heard.headers.to_vec().into(),
            payload: heard.payload.to_vec().into(),
        };
        match self.take_message(index, &message, now, out) {
            Ok(()) => self.following[index].next.sequence = sequence + 1,
            Err(error) => self.rest(index, Some(error), false, now),
        }
    }

    /// Heartbeats and questions of flow control.
    fn on_control(&mut self, index: usize, heard: Heard<'_>, now: i64, out: &mut dyn Publish) {
        let after = self.in_flight.last_position();
        let following = &mut self.following[index];
        let Some(Feed { phase: Phase::Fed(fed), .. }) = &mut following.feed else { return };
        if !heard.reply.is_empty() {
            fed.question = Some(Question {
                reply: heard.reply.into(),
                after: after.unwrap_or(0),
                delivered: fed.delivered,
                sequence: following.last,
            });
            return self.answer_feeds(out);
        }
        let delivered =
            header::get_str(heard.headers, name::LAST_CONSUMER).and_then(|text| text.parse().ok());
        if delivered.is_some_and(|delivered: u64| delivered > 0 && delivered != fed.delivered) {
            return self.rest(index, None, false, now);
        }
        // It waits for an answer that was lost, unless it is still to be given.
        if fed.question.is_none()
            && let Some(reply) = header::get(heard.headers, name::CONSUMER_STALLED)
            && sonata_subject::is_literal(reply)
        {
            out.publish(Outgoing::plain(reply, b""));
        }
    }

    /// Answers the questions of flow control whose time has come.
    pub(super) fn answer_feeds(&mut self, out: &mut dyn Publish) {
        let settled = self.in_flight.is_empty();
        for following in &mut self.following {
            let Some(Feed { phase: Phase::Fed(fed), .. }) = &mut following.feed else { continue };
            let Some(question) = fed.question.take_if(|question| settled || question.after <= self.applied)
            else {
                continue;
            };
            let mut headers = Vec::new();
            header::append(&mut headers, name::LAST_CONSUMER, question.delivered.to_string().as_bytes());
            header::append(&mut headers, name::LAST_STREAM, question.sequence.to_string().as_bytes());
            out.publish(Outgoing::status(&question.reply, &headers));
        }
    }

    /// The stream is gone, and so is what feeds it.
    pub(super) fn end_feeds(&mut self, out: &mut dyn Publish) {
        for following in std::mem::take(&mut self.following) {
            following.dismiss(out);
        }
        self.note_feeds();
    }
}

impl Following {
    fn is_fed_by(&self, consumer: &str) -> bool {
        matches!(&self.feed, Some(Feed { phase: Phase::Fed(fed), .. }) if fed.consumer == consumer)
    }

    /// It is not followed any more: a consumer that would stay is removed, unless somebody else has made it. Nobody waits for
    /// the outcome.
    pub(super) fn dismiss(self, out: &mut dyn Publish) {
        let Some(Feed { phase: Phase::Fed(fed), .. }) = &self.feed else { return };
        if self.source.consumer.is_none() && !fed.is_temporary {
            let request = format!("CONSUMER.DELETE.{}.{}", self.source.name, fed.consumer);
            let subject = api_subject(&self.source, &request);
            if sonata_subject::is_literal(subject.as_bytes()) {
                out.publish(Outgoing::plain(subject.as_bytes(), b""));
            }
        }
    }
}

fn setup_failed(is_mirror: bool, text: &str) -> ApiError {
    match is_mirror {
        true => ErrorCode::MirrorConsumerSetupFailed.with(text),
        false => ErrorCode::SourceConsumerSetupFailed.with(text),
    }
}

/// What a consumer that feeds is told to be.
fn feeding_consumer(
    source: &StreamSource,
    place: &Place,
    name: String,
    deliver_subject: String,
    metadata: Metadata,
) -> ConsumerConfig {
    let mut config = ConsumerConfig {
        name,
        deliver_subject,
        ack_policy: AckPolicy::None,
        ack_wait: ACK_WAIT,
        max_deliver: 1,
        idle_heartbeat: HEARTBEAT,
        flow_control: true,
        direct: true,
        sourcing: true,
        inactive_threshold: SILENCE,
        metadata,
        ..ConsumerConfig::default()
    };
    match (place.sequence, source.opt_start_seq, source.opt_start_time) {
        (0, 0, Some(time)) => {
            config.deliver_policy = DeliverPolicy::ByStartTime;
            config.opt_start_time = Some(time);
        }
        (0 | 1, 0, None) => config.deliver_policy = DeliverPolicy::All,
        (0, start, _) | (start, _, _) => {
            config.deliver_policy = DeliverPolicy::ByStartSequence;
            config.opt_start_seq = start;
        }
    }
    // A single filter stands in the subject of the request, where permissions can tell it.
    match &source.subject_transforms[..] {
        [] => config.filter_subject.clone_from(&source.filter_subject),
        [only] => config.filter_subject.clone_from(&only.src),
        several => config.filter_subjects = several.iter().map(|transform| transform.src.clone()).collect(),
    }
    config
}

/// A request to the API that the source's stream belongs to.
fn api_subject(source: &StreamSource, request: &str) -> String {
    let prefix = source.external.as_ref().map_or(API_PREFIX, |external| &external.api);
    joined(&[prefix, request])
}

/// A subject below `prefix` that nobody else uses.
fn unique(prefix: &str, random: u64) -> String {
    let letters = crate::nuid::letters::<8>(random);
    joined(&[prefix, &String::from_utf8_lossy(&letters)])
}

/// Parts of a subject, the dots at their ends left out.
fn joined(parts: &[&str]) -> String {
    let parts: Vec<&str> =
        parts.iter().map(|part| part.trim_matches('.')).filter(|part| !part.is_empty()).collect();
    parts.join(".")
}

/// Whether the consumer says something of itself.
fn is_control(heard: &Heard<'_>) -> bool {
    heard.payload.is_empty() && heard.headers.starts_with(b"NATS/1.0 100 ")
}
