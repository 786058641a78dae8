//! Mirrors and sources: a stream that takes its messages from others.
//!
//! A follower reads its origins' messages by itself, in portions, when it has a turn; an origin only says that it has stored
//! something. One that is elsewhere, or that somebody has made a consumer for, is reached by a [feed](super::feed) instead.
//! What is taken goes through the follower's own log like everything else. How far a source has come stands in the
//! `Nats-Stream-Source` header of each message and in the checkpoint; a mirror has its origin's sequences.

use std::borrow::Cow;

use sonata_store::{Error, Filter, Message};
use sonata_subject::transform::Transform;

use super::counter::Count;
use super::feed::Feed;
use super::{After, Extra, Machine, Reply, in_flight};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::response::SourceInfo;
use crate::config::{StreamConfig, StreamSource, SubjectTransform};
use crate::header::{self, name};
use crate::map::HashMap;
use crate::outgoing::Publish;
use crate::record::{self, Malformed, Reader, Record, publish_flag, put_bytes, put_number};

/// Messages that are taken in one portion, and their bytes.
const PORTION_MESSAGES: usize = 256;
const PORTION_BYTES: usize = 1024 * 1024;

/// A mirror that misses fewer messages than that answers for its origin.
const CAUGHT_UP_LAG: u64 = 10;

/// Records on their way into the log beyond which nothing more is taken.
const IN_FLIGHT_MAX: u64 = 4096;

/// A message that this stream has no place for now is tried again after so long, ns, unless a turn comes before.
const HELD_BACK_FOR: i64 = 1_000_000_000;

/// One origin of a stream.
#[derive(Debug)]
pub(crate) struct Following {
    pub(super) source: StreamSource,
    pub(super) is_mirror: bool,
    key: Key,
    transforms: Vec<Transform>,
    filter: Filter,
    /// Where it goes on.
    pub(super) next: Place,
    /// The same for what has been applied: nothing before it will be needed again.
    applied: Place,
    /// The origin's last message that was taken, or the one before the first that is wanted; 0 is none.
    pub(super) last: u64,
    /// Messages that the origin has and this stream does not.
    pub(super) lag: u64,
    /// When something was last heard of the origin, ns since 1970.
    pub(super) heard_at: Option<i64>,
    pub(super) error: Option<ApiError>,
    /// The next message was refused by this stream, which may take it later.
    held_back: bool,
    /// How the origin is reached, when it cannot be read here.
    pub(super) feed: Option<Feed>,
}

/// A place in an origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The sequence that is looked at next; 0 when that is still to be found out.
    pub(super) sequence: u64,
    /// Which origin of that name is meant, see [`Machine::identity`]; empty when it has not said.
    pub(super) identity: String,
}

/// What tells one source from another: the header of its messages begins with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Key {
    /// The origin, and how it is reached.
    name: String,
    filters: String,
    destinations: String,
}

/// What a follower wants to read of an origin.
#[derive(Debug, Clone)]
pub struct Want {
    index: usize,
    /// The origin's name.
    pub name: String,
    next: Place,
    filter: Filter,
    start_sequence: u64,
    start_time: Option<i64>,
    messages_max: usize,
}

/// What was read of an origin.
#[derive(Debug)]
pub struct Portion {
    messages: Vec<Message>,
    /// The first sequence that was looked at.
    first: u64,
    /// The first that has not been looked at.
    next: Place,
    /// The origin's last sequence.
    last: u64,
    /// Messages beyond this portion.
    lag: u64,
}

impl Following {
    fn new(source: &StreamSource, is_mirror: bool) -> Result<Self, ApiError> {
        let transforms = source.subject_transforms.iter().map(|transform| {
            let destination = if transform.dest.is_empty() { &transform.src } else { &transform.dest };
            Transform::parse(&transform.src, destination)
                .map_err(|error| ErrorCode::SourceInvalidTransformDestination.with(error))
        });
        let transforms = transforms.collect::<Result<Vec<_>, _>>()?;
        let filter = match (&*source.filter_subject, source.subject_transforms.is_empty()) {
            ("", true) => Filter::all(),
            ("", false) => {
                Filter::new(source.subject_transforms.iter().map(|transform| match &*transform.src {
                    "" => ">",
                    src => src,
                }))
            }
            (filter, _) => Filter::new([filter]),
        };
        Ok(Self {
            source: source.clone(),
            is_mirror,
            key: Key::of(source),
            transforms,
            filter,
            next: Place::default(),
            applied: Place::default(),
            last: 0,
            lag: 0,
            heard_at: None,
            error: None,
            held_back: false,
            feed: (source.external.is_some() || source.consumer.is_some()).then(|| Feed::new(is_mirror)),
        })
    }

    /// What the source is called beside others of the same stream.
    pub(super) fn index_name(&self) -> String {
        let Key { name, filters, destinations } = &self.key;
        format!("{name} {filters} {destinations}")
    }

    fn subject(&self, subject: &[u8], random: u32) -> Vec<u8> {
        let transformed = self.transforms.iter().find_map(|transform| transform.apply(subject, random));
        transformed.unwrap_or_else(|| subject.to_vec())
    }
}

impl Key {
    fn of(source: &StreamSource) -> Self {
        let mut name = source.name.clone();
        if let Some(external) = &source.external {
            name = format!("{name}:{}", crate::nuid::hash(&external.api));
        }
        if let Some(consumer) = &source.consumer {
            name = format!("{name}:C={}", crate::nuid::hash(&consumer.name));
        }
        let or_all = |text: &str| if text.is_empty() { ">".to_owned() } else { text.to_owned() };
        let joined = |pick: fn(&SubjectTransform) -> &str| {
            let parts: Vec<_> = source.subject_transforms.iter().map(pick).map(or_all).collect();
            parts.join("\u{c}")
        };
        let (filters, destinations) = match source.subject_transforms.is_empty() {
            true => (or_all(&source.filter_subject), ">".to_owned()),
            false => (joined(|transform| &transform.src), joined(|transform| &transform.dest)),
        };
        Self { name, filters, destinations }
    }
}

impl Machine {
    /// Takes over the origins of the configuration; those that are as before go on where they are.
    pub(super) fn compile_following(&mut self, config: &StreamConfig) -> Result<(), ApiError> {
        let mirror = config.mirror.iter().map(|source| Following::new(source, true));
        let sources = config.sources.iter().map(|source| Following::new(source, false));
        let mut following = mirror.chain(sources).collect::<Result<Vec<_>, _>>()?;
        for new in &mut following {
            let same = |old: &&mut Following| old.is_mirror == new.is_mirror && old.key == new.key;
            if let Some(old) = self.following.iter_mut().find(same) {
                (new.next, new.applied) = (old.next.clone(), old.applied.clone());
                (new.last, new.lag, new.heard_at) = (old.last, old.lag, old.heard_at);
                if new.source == old.source {
                    (new.feed, new.error) = (old.feed.take(), old.error.take());
                }
            }
        }
        let known = |old: &Following| {
            following.iter().any(|new| new.is_mirror == old.is_mirror && new.key == old.key)
        };
        self.parting = std::mem::take(&mut self.following);
        self.parting.retain(|old| old.feed.is_some() && !known(old));
        self.following = following;
        self.note_feeds();
        Ok(())
    }

    /// What the stream wants to read of others; nothing when it has enough to write down.
    pub fn wants(&self) -> Vec<Want> {
        if self.in_flight.messages() > IN_FLIGHT_MAX || self.failed.is_some() {
            return Vec::new();
        }
        let want = |(index, following): (usize, &Following)| Want {
            index,
            name: following.source.name.clone(),
            next: self.place_in(following),
            filter: following.filter.clone(),
            start_sequence: following.source.opt_start_seq,
            start_time: following.source.opt_start_time.map(|time| time.0),
            messages_max: if following.held_back { 1 } else { PORTION_MESSAGES },
        };
        let read = self.following.iter().enumerate().filter(|(_, following)| following.feed.is_none());
        read.map(want).collect()
    }

    /// Where a follower goes on: a mirror behind its last message.
    pub(super) fn place_in(&self, following: &Following) -> Place {
        let mut place = following.next.clone();
        if following.is_mirror && self.assigned > 0 {
            place.sequence = place.sequence.max(self.assigned + 1);
        }
        place
    }

    /// Eight letters that tell this stream from another one of its name: a hash of when it was created.
    pub(crate) fn identity(&self) -> String {
        crate::nuid::hash(&crate::timestamp::Timestamp(self.created).to_string())
    }

    /// Names of the streams of the account that this one reads.
    pub fn origins(&self) -> Vec<String> {
        let read = self.following.iter().filter(|following| following.feed.is_none());
        read.map(|following| following.source.name.clone()).collect()
    }

    /// Reads what a follower wants. Called on the origin.
    ///
    /// # Errors
    /// When the store cannot read.
    pub fn read_for(&mut self, want: &Want) -> Result<Portion, Error> {
        let state = self.store.state();
        let identity = self.identity();
        let same = want.next.identity.is_empty() || want.next.identity == identity;
        let mut next = match want.start_time {
            _ if same && want.next.sequence > 0 => want.next.sequence,
            Some(time) => self.store.sequence_at(time)?,
            None => want.start_sequence,
        };
        next = next.max(state.first_sequence).max(1);
        let mut portion = Portion {
            messages: Vec::new(),
            first: next,
            next: Place { sequence: next, identity },
            last: state.last_sequence,
            lag: 0,
        };
        let mut bytes = 0;
        while portion.messages.len() < want.messages_max && bytes < PORTION_BYTES {
            match self.store.next_message(&want.filter, portion.next.sequence) {
                Ok(Some(message)) => {
                    bytes += message.payload.len() + message.headers.len();
                    portion.next.sequence = message.sequence + 1;
                    portion.messages.push(message);
                }
                Ok(None) => {
                    portion.next.sequence = portion.next.sequence.max(state.last_sequence + 1);
                    return Ok(portion);
                }
                // Counted as lost where it was; the follower has a gap.
                Err(Error::Damaged { sequence }) => {
                    portion.next.sequence = portion.next.sequence.max(sequence + 1);
                }
                Err(error) => return Err(error),
            }
        }
        portion.lag = self.store.pending(&want.filter, portion.next.sequence)?;
        Ok(portion)
    }

    /// Takes what was read. True when there is more to read at once.
    pub fn take(&mut self, want: &Want, portion: Portion, now: i64, out: &mut dyn Publish) -> bool {
        let Some(following) = self.following.get_mut(want.index) else { return false };
        if following.source.name != want.name {
            // The configuration has changed meanwhile.
            return true;
        }
        following.heard_at = Some(now);
        following.error = None;
        following.held_back = false;
        following.lag = portion.lag;
        if following.next.sequence == 0 || following.next.identity != portion.next.identity {
            following.last = portion.first - 1;
        }
        following.next.identity.clone_from(&portion.next.identity);
        let is_mirror = following.is_mirror;
        for (place, message) in portion.messages.iter().enumerate() {
            if let Err(error) = self.take_message(want.index, message, now, out) {
                let following = &mut self.following[want.index];
                following.next.sequence = message.sequence;
                following.lag = portion.lag + (portion.messages.len() - place) as u64;
                (following.error, following.held_back) = (Some(error), true);
                return false;
            }
        }
        let settled = self.in_flight.is_empty();
        if let Some(following) = self.following.get_mut(want.index) {
            if settled {
                following.applied = portion.next.clone();
            }
            following.next = portion.next;
        }
        if is_mirror && portion.lag == 0 && self.assigned < portion.last {
            // What the origin has deleted at its end counts here as well.
            let last = portion.last;
            if self.commit(&Record::Advance { last }, None, After::Nothing, now, out).is_ok() {
                self.assigned = last;
            }
        }
        portion.lag > 0
    }

    /// The origin cannot be read now.
    pub fn note_origin_error(&mut self, want: &Want, error: ApiError) {
        if let Some(following) = self.following.get_mut(want.index) {
            following.error = Some(error);
        }
    }

    /// When messages that were held back are tried again, if there are any.
    pub(super) fn next_retry(&self, now: i64) -> Option<i64> {
        self.following.iter().any(|following| following.held_back).then_some(now + HELD_BACK_FOR)
    }

    /// Takes one message of an origin.
    ///
    /// # Errors
    /// The log refuses it, or the stream does: sealed, full where it discards what is new, or without room in the account,
    /// or the message is too large. As in the original it is held back then, and all that comes behind it.
    pub(super) fn take_message(
        &mut self,
        index: usize,
        message: &Message,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        match self.following[index].is_mirror {
            true => self.take_mirrored(index, message, now, out),
            false => self.take_sourced(index, message, now, out),
        }?;
        self.following[index].last = message.sequence;
        Ok(())
    }

    fn take_mirrored(
        &mut self,
        index: usize,
        message: &Message,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        if message.sequence <= self.assigned {
            return Ok(());
        }
        let subject = self.following[index].subject(&message.subject, message.sequence as u32);
        let headers = without_conditions(&message.headers);
        let ttl = self.config.allow_msg_ttl && header::has(&headers, name::TTL);
        let flags = publish_flag::MIRRORED | if ttl { publish_flag::TTL } else { 0 };
        let record = record::Publish {
            flags,
            sequence: message.sequence,
            timestamp: message.timestamp,
            subject: &subject,
            headers: &headers,
            payload: &message.payload,
        };
        self.log_taken(record, None, now, out)
    }

    fn take_sourced(
        &mut self,
        index: usize,
        message: &Message,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        let following = &self.following[index];
        let subject = following.subject(&message.subject, message.sequence as u32);
        let Key { name: stream, filters, destinations } = following.key.clone();
        let mut headers = without_conditions(&message.headers).into_owned();
        header::remove(&mut headers, name::STREAM_SOURCE);
        let original = String::from_utf8_lossy(&message.subject);
        let identity = &following.next.identity;
        let source = format!("{stream} {} {filters} {destinations} {original} {identity}", message.sequence);
        let source = source.trim_end();
        header::append(&mut headers, name::STREAM_SOURCE, source.as_bytes());
        let id = header::get(&headers, name::MSG_ID).map(Box::<[u8]>::from);
        if let Some(id) = &id {
            self.dedupe.expire(now.saturating_sub(self.config.duplicate_window));
            if self.dedupe.find(id).or_else(|| self.in_flight.find_id(id)).is_some() {
                return Ok(());
            }
        }
        let mut flags = publish_flag::SOURCED;
        if id.is_some() {
            flags |= publish_flag::MESSAGE_ID;
        }
        if self.config.allow_msg_ttl && header::has(&headers, name::TTL) {
            flags |= publish_flag::TTL;
        }
        if self.config.allow_rollup_hdrs && !self.config.deny_purge {
            flags |= match header::get(&headers, name::ROLLUP) {
                Some(b"sub") => publish_flag::ROLLUP_SUBJECT,
                Some(b"all") => publish_flag::ROLLUP_ALL,
                _ => 0,
            };
        }
        let count = match self.config.allow_msg_counter {
            true => {
                let origin = (stream.as_str(), &*original);
                match self.count_sourced(&subject, origin, &mut headers, &message.payload) {
                    Ok(count) => Some(count),
                    // What does not count has no place among counters.
                    Err(_) => return Ok(()),
                }
            }
            false => None,
        };
        let counted = count.as_ref().map(Count::payload);
        let sequence = self.assigned + 1;
        let record = record::Publish {
            flags,
            sequence,
            timestamp: now,
            subject: &subject,
            headers: &headers,
            payload: counted.as_deref().unwrap_or(&message.payload),
        };
        self.log_taken(record, id, now, out)?;
        if let Some(count) = count {
            self.note_count(&subject, sequence, count);
        }
        Ok(())
    }

    fn log_taken(
        &mut self,
        record: record::Publish<'_>,
        id: Option<Box<[u8]>>,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        self.check_unsealed()?;
        self.check_written()?;
        self.check_message_size(record.headers, record.payload)?;
        let before = self.assigned;
        let bytes = self.accounting().bytes(record.subject.len(), record.headers.len(), record.payload.len());
        let replaces = self.replaces(record.subject);
        self.check_limits(record.subject, bytes, replaces)?;
        let message = in_flight::Message {
            subject: record.subject,
            id,
            sequence: record.sequence,
            bytes,
            is_schedule: false,
            replaces,
        };
        self.assigned = record.sequence;
        let after = After::Published { reply: Reply::default(), extra: Extra::None };
        let logged = self.commit(&Record::Publish(record), Some(message), after, now, out);
        if logged.is_err() {
            self.assigned = before;
        }
        logged
    }

    /// A message of a source was applied: that source goes on behind it, also after a restart.
    pub(super) fn note_sourced(&mut self, headers: &[u8], live: bool) {
        let Some(text) = header::get_str(headers, name::STREAM_SOURCE) else { return };
        let mut fields = text.split(' ');
        let (Some(stream), Some(sequence)) = (fields.next(), fields.next()) else { return };
        let (filters, destinations) = (fields.next().unwrap_or(">"), fields.next().unwrap_or(">"));
        let identity = fields.nth(1).unwrap_or_default();
        let Ok(sequence) = sequence.parse::<u64>() else { return };
        let found = self.following.iter_mut().find(|following| {
            let key = &following.key;
            !following.is_mirror
                && key.name == stream
                && key.filters == filters
                && key.destinations == destinations
        });
        let Some(following) = found else { return };
        following.applied.pass(sequence, identity);
        if !live {
            following.next = following.applied.clone();
            following.last = sequence;
        }
    }

    /// The log has lost what was on its way: it is taken again.
    pub(super) fn rewind_following(&mut self) {
        for following in &mut self.following {
            following.next = following.applied.clone();
            following.last = following.next.sequence.saturating_sub(1);
        }
        self.rest_feeds();
    }

    /// Whether a mirror has nearly all that its origin has. One that is written to may always be a little behind.
    pub(crate) fn has_caught_up(&self) -> bool {
        let mirror = self.following.iter().find(|following| following.is_mirror);
        mirror
            .is_some_and(|mirror| mirror.last > 0 && mirror.heard_at.is_some() && mirror.lag < CAUGHT_UP_LAG)
    }

    pub(super) fn mirror_info(&self, now: i64) -> Option<SourceInfo> {
        self.following.iter().find(|following| following.is_mirror).map(|following| info(following, now))
    }

    pub(super) fn source_infos(&self, now: i64) -> Vec<SourceInfo> {
        self.following
            .iter()
            .filter(|following| !following.is_mirror)
            .map(|following| info(following, now))
            .collect()
    }

    pub(super) fn save_following(&self, out: &mut Vec<u8>) {
        put_number(out, self.following.len() as u64);
        for following in &self.following {
            let Key { name, filters, destinations } = &following.key;
            put_bytes(out, name.as_bytes());
            put_bytes(out, filters.as_bytes());
            put_bytes(out, destinations.as_bytes());
            put_bytes(out, following.applied.identity.as_bytes());
            put_number(out, following.applied.sequence);
        }
    }

    pub(super) fn load_following(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let mut known: HashMap<Key, Place> = HashMap::default();
        for _ in 0..reader.count(5)? {
            let mut text = || {
                let bytes = reader.bytes()?;
                std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed)
            };
            let key = Key { name: text()?, filters: text()?, destinations: text()? };
            let identity = text()?;
            known.insert(key, Place { identity, sequence: reader.sequence()? });
        }
        for following in &mut self.following {
            if let Some(place) = known.get(&following.key) {
                (following.next, following.applied) = (place.clone(), place.clone());
                following.last = place.sequence.saturating_sub(1);
            }
        }
        Ok(())
    }
}

impl Place {
    /// A message of this origin has been passed.
    fn pass(&mut self, sequence: u64, identity: &str) {
        if self.identity != identity {
            // Another origin of the name, whose sequences have nothing to do with the former one's.
            *self = Self { sequence: 0, identity: identity.to_owned() };
        }
        self.sequence = self.sequence.max(sequence.saturating_add(1));
    }
}

/// The headers without the conditions under which the message was stored where it comes from.
fn without_conditions(headers: &[u8]) -> Cow<'_, [u8]> {
    let conditions = [name::EXPECTED_PREFIX, name::BATCH_PREFIX];
    let begins = |field: &[u8], prefix: &str| field.starts_with(prefix.as_bytes());
    if !header::fields(headers).any(|(field, _)| conditions.iter().any(|prefix| begins(field, prefix))) {
        return Cow::Borrowed(headers);
    }
    let mut headers = headers.to_vec();
    conditions.iter().for_each(|prefix| header::remove_prefix(&mut headers, prefix));
    Cow::Owned(headers)
}

fn info(following: &Following, now: i64) -> SourceInfo {
    SourceInfo {
        name: following.source.name.clone(),
        external: following.source.external.clone(),
        lag: following.lag,
        seq: if following.is_mirror { 0 } else { following.last },
        active: following.heard_at.map_or(-1, |at| now.saturating_sub(at).max(0)),
        error: following.error.clone(),
        filter_subject: following.source.filter_subject.clone(),
        subject_transforms: following.source.subject_transforms.clone(),
    }
}
