//! Scheduled messages: which subjects hold one, when it is due, and what is published then (ADR-51).
//!
//! A schedule is a stored message, the only one of its subject. When it fires, a message goes to its target that says who
//! sent it (`Nats-Scheduler`) and how it goes on (`Nats-Schedule-Next`): with a time, or with `purge`, which ends the
//! schedule. Applying that message moves or ends the schedule, so firing needs no record of its own and happens once,
//! whatever the log loses.
//!
//! When a schedule is due next is counted from its message's own time, not from when it was applied: a restart finds it
//! overdue, fires it once and goes on from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use sonata_store::{Filter, Message};

use super::admit::{Admission, Terms};
use super::staged::Staged;
use super::{After, Machine};
use crate::api::error::{ApiError, ErrorCode};
use crate::header::{self, name};
use crate::map::HashMap;
use crate::outgoing::Publish;
use crate::record::{self, Malformed, Reader, publish_flag, put_bytes, put_number, put_signed};
use crate::schedule::{Schedule, ScheduleError};
use crate::timestamp::Timestamp;
use crate::ttl;

/// How the names of all headers begin that have to do with schedules.
const PREFIX: &str = "Nats-Schedule";

/// How a schedule ends.
const PURGE: &[u8] = b"purge";

/// Schedules that one firing of the timer serves, so that others get their turn.
const FIRED_MAX: usize = 1000;

/// A schedule whose message is refused (a limit of the account, a log that fails) tries again after so long, ns.
const RETRY: i64 = 1_000_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    by_subject: HashMap<Arc<[u8]>, Entry>,
    /// Those that are not firing, by when they are due and their sequence.
    by_due: BTreeMap<(i64, u64), Arc<[u8]>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of the schedule's message.
    sequence: u64,
    /// ns since 1970.
    due: i64,
    /// Its message is on its way into the log.
    is_firing: bool,
}

/// A schedule that is due.
#[derive(Debug)]
struct Due {
    subject: Arc<[u8]>,
    sequence: u64,
    /// ns since 1970.
    due: i64,
}

impl Schedules {
    pub(super) fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }

    /// A schedule's message is stored, in place of the one before.
    fn insert(&mut self, subject: &[u8], sequence: u64, due: i64) {
        self.remove(subject);
        let subject: Arc<[u8]> = subject.into();
        self.by_subject.insert(subject.clone(), Entry { sequence, due, is_firing: false });
        self.by_due.insert((due, sequence), subject);
    }

    /// A schedule has fired, or will try again.
    fn set_due(&mut self, subject: &[u8], due: i64) {
        if let Some(entry) = self.by_subject.get(subject) {
            let sequence = entry.sequence;
            self.insert(subject, sequence, due);
        }
    }

    /// The subject holds no schedule any more.
    fn remove(&mut self, subject: &[u8]) {
        if let Some(entry) = self.by_subject.remove(subject) {
            self.by_due.remove(&(entry.due, entry.sequence));
        }
    }

    /// A message is gone; it may have been a schedule.
    pub(super) fn on_removed(&mut self, subject: &[u8], sequence: u64) {
        if self.by_subject.get(subject).is_some_and(|entry| entry.sequence == sequence) {
            self.remove(subject);
        }
    }

    /// Keeps those whose messages are still there.
    pub(super) fn retain(&mut self, mut is_stored: impl FnMut(u64) -> bool) {
        let by_due = &mut self.by_due;
        self.by_subject.retain(|_, entry| {
            let stays = is_stored(entry.sequence);
            if !stays {
                by_due.remove(&(entry.due, entry.sequence));
            }
            stays
        });
    }

    /// When the next schedule fires, ns since 1970.
    pub(super) fn next_due(&self) -> Option<i64> {
        self.by_due.first_key_value().map(|((due, _), _)| *due)
    }

    /// The first schedule that is due; it is not due again until its message is stored.
    fn take_due(&mut self, now: i64) -> Option<Due> {
        let first = self.by_due.first_entry().filter(|first| first.key().0 <= now)?;
        let ((due, sequence), subject) = first.remove_entry();
        if let Some(entry) = self.by_subject.get_mut(&subject) {
            entry.is_firing = true;
        }
        Some(Due { subject, sequence, due })
    }

    /// What was on its way into the log is not: it is due again.
    pub(super) fn on_log_failed(&mut self) {
        for (subject, entry) in self.by_subject.iter_mut().filter(|(_, entry)| entry.is_firing) {
            entry.is_firing = false;
            self.by_due.insert((entry.due, entry.sequence), subject.clone());
        }
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        put_number(out, self.by_subject.len() as u64);
        for (subject, entry) in &self.by_subject {
            put_bytes(out, subject);
            put_number(out, entry.sequence);
            put_signed(out, entry.due);
        }
    }

    pub(super) fn load(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut schedules = Self::default();
        for _ in 0..reader.count(3)? {
            let (subject, sequence) = (reader.bytes()?, reader.sequence()?);
            schedules.insert(subject, sequence, reader.signed()?);
        }
        Ok(schedules)
    }
}

impl Machine {
    /// Checks what the headers of a client's message have to do with schedules; `staged` is what stands before it in its
    /// batch.
    pub(super) fn check_schedules(
        &mut self,
        subject: &[u8],
        headers: &[u8],
        staged: Option<&Staged>,
        terms: &mut Terms,
        now: i64,
    ) -> Result<(), ErrorCode> {
        // All of them begin alike, and nearly no message has any: one look instead of four.
        if memchr::memmem::find(headers, PREFIX.as_bytes()).is_none() {
            return Ok(());
        }
        self.check_schedule(subject, headers, terms, now)?;
        self.check_scheduler(subject, headers, staged, terms)
    }

    /// Checks a message that may be a schedule. One that is gets a `Nats-Rollup: sub`, so that it stays the only one of its
    /// subject.
    fn check_schedule(
        &self,
        subject: &[u8],
        headers: &[u8],
        terms: &mut Terms,
        now: i64,
    ) -> Result<(), ErrorCode> {
        let said = |name| header::get(headers, name).filter(|value| !value.is_empty());
        let allowed = self.config.allow_msg_schedules;
        match pattern_of(headers, now) {
            Ok(false) => return Ok(()),
            Ok(true) if allowed => {}
            Err(error) if allowed => return Err(error),
            Ok(true) | Err(_) => return Err(ErrorCode::MessageSchedulesDisabled),
        }
        let lifetime = said(name::SCHEDULE_TTL);
        if lifetime.is_some_and(|text| ttl::parse(text).is_none()) {
            return Err(ErrorCode::MessageSchedulesTtlInvalid);
        }
        if said(name::SCHEDULE_ROLLUP).is_some_and(|rollup| rollup != b"sub") {
            return Err(ErrorCode::MessageSchedulesRollupInvalid);
        }
        if lifetime.is_some() && !self.config.allow_msg_ttl {
            return Err(ErrorCode::MessageTtlDisabled);
        }
        let target = said(name::SCHEDULE_TARGET).unwrap_or_default();
        if !sonata_subject::is_literal(target) || target == subject {
            return Err(ErrorCode::MessageSchedulesTargetInvalid);
        }
        let source = said(name::SCHEDULE_SOURCE);
        if source.is_some_and(|it| it == target || it == subject || !sonata_subject::is_literal(it)) {
            return Err(ErrorCode::MessageSchedulesSourceInvalid);
        }
        if !self.is_on_stream(target) {
            return Err(ErrorCode::MessageSchedulesTargetInvalid);
        }
        if source.is_some_and(|source| !self.is_on_stream(source)) {
            return Err(ErrorCode::MessageSchedulesSourceInvalid);
        }
        match said(name::ROLLUP) {
            None => {
                let headers = terms.headers.get_or_insert_with(|| headers.to_vec());
                header::set(headers, name::ROLLUP, b"sub");
            }
            Some(b"sub") => {}
            Some(_) => return Err(ErrorCode::MessageSchedulesRollupInvalid),
        }
        terms.flags |= publish_flag::SCHEDULE;
        terms.is_schedule = true;
        Ok(())
    }

    fn is_on_stream(&self, subject: &[u8]) -> bool {
        self.config.subjects.iter().any(|filter| sonata_subject::matches(filter.as_bytes(), subject))
    }

    /// Checks a message that may end a schedule.
    fn check_scheduler(
        &mut self,
        subject: &[u8],
        headers: &[u8],
        staged: Option<&Staged>,
        terms: &mut Terms,
    ) -> Result<(), ErrorCode> {
        let said = |name| header::get(headers, name).filter(|value| !value.is_empty());
        let scheduler = said(name::SCHEDULER);
        let Some(next) = said(name::SCHEDULE_NEXT) else {
            return if scheduler.is_some() {
                Err(ErrorCode::MessageSchedulesSchedulerInvalid)
            } else {
                Ok(())
            };
        };
        let scheduler = scheduler
            .filter(|it| next == PURGE && *it != subject && sonata_subject::is_literal(it))
            .ok_or(ErrorCode::MessageSchedulesSchedulerInvalid)?;
        if !self.config.allow_msg_schedules {
            return Err(ErrorCode::MessageSchedulesDisabled);
        }
        // A subject without messages is not refused: whoever ends a schedule may come late.
        let on_its_way = staged
            .and_then(|staged| staged.is_schedule(scheduler))
            .or_else(|| self.in_flight.is_schedule(scheduler));
        let is_schedule = on_its_way.or_else(|| {
            let last = self.last_message(scheduler)?;
            Some(header::get(&last.headers, name::SCHEDULE).is_some_and(|value| !value.is_empty()))
        });
        if is_schedule == Some(false) {
            return Err(ErrorCode::MessageSchedulesSchedulerInvalid);
        }
        terms.flags |= publish_flag::SCHEDULE;
        Ok(())
    }

    /// The last stored message of a literal subject; `None` also when it cannot be read.
    fn last_message(&mut self, subject: &[u8]) -> Option<Message> {
        let last = self.store.subject(subject).ok()??.last;
        self.store.get(last).ok()?
    }

    /// A message was stored, or only counted because nobody is interested: schedules begin, go on or end with it.
    pub(super) fn apply_schedule(&mut self, publish: &record::Publish<'_>, is_stored: bool) {
        let record::Publish { flags, sequence, timestamp, subject, headers, .. } = *publish;
        if flags & publish_flag::SCHEDULE == 0 {
            // Whatever else is stored on a schedule's subject takes its place.
            if is_stored && !self.schedules.is_empty() {
                self.schedules.remove(subject);
            }
            return;
        }
        let scheduler = header::get(headers, name::SCHEDULER).filter(|value| !value.is_empty());
        if is_stored {
            match next_of(headers, timestamp, timestamp) {
                Some(due) => self.schedules.insert(subject, sequence, due.0),
                None if scheduler.is_none() => self.schedules.remove(subject),
                None => {}
            }
            self.wants_turn = true;
        }
        let (Some(scheduler), Some(next)) = (scheduler, header::get(headers, name::SCHEDULE_NEXT)) else {
            return;
        };
        if next == PURGE {
            if self.config.allow_rollup_hdrs && !self.config.deny_purge {
                self.purge(scheduler, 0, 0);
            }
            self.schedules.remove(scheduler);
        } else if let Some(next) = std::str::from_utf8(next).ok().and_then(Timestamp::parse) {
            self.schedules.set_due(scheduler, next.0);
            self.wants_turn = true;
        }
    }

    /// Keeps those schedules whose messages are still there.
    pub(super) fn review_schedules(&mut self) {
        if self.schedules.is_empty() {
            return;
        }
        let store = &mut self.store;
        let all = Filter::all();
        // What cannot be read now is looked at again when it fires.
        self.schedules
            .retain(|sequence| store.next(&all, sequence).map_or(true, |next| next == Some(sequence)));
    }

    /// Publishes what is due.
    pub(super) fn fire_schedules(&mut self, now: i64, out: &mut dyn Publish) {
        for _ in 0..FIRED_MAX {
            let Some(due) = self.schedules.take_due(now) else { return };
            match self.fired(&due, now) {
                None => self.schedules.remove(&due.subject),
                Some(fired) => {
                    if self.put_fired(&fired, now, out).is_err() {
                        self.schedules.set_due(&due.subject, now.saturating_add(RETRY));
                    }
                }
            }
        }
    }

    /// What a schedule publishes; `None` when it is none any more.
    fn fired(&mut self, due: &Due, now: i64) -> Option<Fired> {
        let message = match self.store.get(due.sequence) {
            Ok(message) => message?,
            Err(_) => return None,
        };
        let said = |name| header::get(&message.headers, name).filter(|value| !value.is_empty());
        let schedule = schedule_of(&message.headers).ok()??;
        let next = schedule.next(Timestamp(due.due), Timestamp(now))?;
        let target = said(name::SCHEDULE_TARGET).filter(|target| sonata_subject::is_literal(target))?;
        // Without a message to copy the schedule's own is sent.
        let source = said(name::SCHEDULE_SOURCE).and_then(|source| self.last_message(source));
        let content = source.as_ref().unwrap_or(&message);
        let mut headers = content.headers.to_vec();
        for prefix in [PREFIX, name::EXPECTED_PREFIX] {
            header::remove_prefix(&mut headers, prefix);
        }
        for name in [name::MSG_ID, name::TTL, name::ROLLUP] {
            header::remove(&mut headers, name);
        }
        header::append(&mut headers, name::SCHEDULER, &message.subject);
        match schedule.is_repeating() {
            true => header::append(&mut headers, name::SCHEDULE_NEXT, schedule.written(next).as_bytes()),
            false => header::append(&mut headers, name::SCHEDULE_NEXT, PURGE),
        }
        let mut flags = publish_flag::SCHEDULE;
        if let Some(lifetime) = said(name::SCHEDULE_TTL) {
            header::append(&mut headers, name::TTL, lifetime);
            flags |= publish_flag::TTL;
        }
        if let Some(rollup) = said(name::SCHEDULE_ROLLUP) {
            header::append(&mut headers, name::ROLLUP, rollup);
            flags |= publish_flag::ROLLUP_SUBJECT;
        }
        Some(Fired { subject: target.to_vec(), headers, payload: content.payload.clone(), flags })
    }

    fn put_fired(&mut self, fired: &Fired, now: i64, out: &mut dyn Publish) -> Result<(), ApiError> {
        let transformed = self.transform.as_ref().and_then(|it| it.apply(&fired.subject, now as u32));
        let admission = Admission {
            subject: transformed.as_deref().unwrap_or(&fired.subject),
            headers: &fired.headers,
            payload: &fired.payload,
            terms: Terms { flags: fired.flags, ..Terms::default() },
        };
        self.check_size(admission.headers, admission.payload)?;
        self.put(admission, After::Nothing, now, out)
    }
}

/// What a schedule publishes.
#[derive(Debug)]
struct Fired {
    subject: Vec<u8>,
    headers: Vec<u8>,
    payload: bytes::Bytes,
    flags: u8,
}

/// Whether the headers make a schedule, and one that fires.
fn pattern_of(headers: &[u8], now: i64) -> Result<bool, ErrorCode> {
    match schedule_of(headers)? {
        None => Ok(false),
        Some(schedule) if schedule.next(Timestamp(now), Timestamp(now)).is_some() => Ok(true),
        Some(_) => Err(ErrorCode::MessageSchedulesPatternInvalid),
    }
}

/// The schedule of a message, if it is one.
fn schedule_of(headers: &[u8]) -> Result<Option<Schedule>, ErrorCode> {
    let zone = header::get(headers, name::SCHEDULE_TIME_ZONE);
    let pattern = header::get(headers, name::SCHEDULE).filter(|pattern| !pattern.is_empty());
    let code = |error| match error {
        ScheduleError::Pattern => ErrorCode::MessageSchedulesPatternInvalid,
        ScheduleError::TimeZone => ErrorCode::MessageSchedulesTimeZoneInvalid,
    };
    match (pattern, zone) {
        (None, None) => Ok(None),
        // A zone alone is checked, too.
        (None, zone) => Schedule::parse(b"@daily", zone).map(|_| None).map_err(code),
        (Some(pattern), zone) => Schedule::parse(pattern, zone).map(Some).map_err(code),
    }
}

/// When a schedule that was stored or fired at `last` is due.
fn next_of(headers: &[u8], last: i64, now: i64) -> Option<Timestamp> {
    schedule_of(headers).ok()??.next(Timestamp(last), Timestamp(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_due_in_order_and_come_back_from_bytes() {
        let mut schedules = Schedules::default();
        schedules.insert(b"b", 2, 20);
        schedules.insert(b"a", 1, 20);
        schedules.insert(b"c", 3, 10);
        let mut bytes = Vec::new();
        schedules.save(&mut bytes);
        let mut schedules = Schedules::load(&mut Reader::new(&bytes)).expect("what was saved");
        assert_eq!(schedules.next_due(), Some(10));
        let mut order = Vec::new();
        while let Some(due) = schedules.take_due(20) {
            order.push(due.sequence);
        }
        assert_eq!((order, schedules.next_due()), (vec![3, 1, 2], None));
        schedules.on_log_failed();
        schedules.on_removed(b"c", 9);
        schedules.on_removed(b"c", 3);
        schedules.set_due(b"a", 30);
        schedules.retain(|sequence| sequence != 2);
        assert_eq!(schedules.next_due(), Some(30));
        for end in 0..bytes.len() {
            assert!(Schedules::load(&mut Reader::new(&bytes[..end])).is_err(), "cut at {end}");
        }
    }
}
