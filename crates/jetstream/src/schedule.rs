//! When a scheduled message fires.
//!
//! A pattern is one time (`@at`), an interval (`@every`), or a calendar rule of six fields (second, minute, hour, day of
//! month, month, day of week) with names for the common ones. Only calendar rules know time zones. A repeating schedule that
//! was missed, however often, fires once and goes on from now.

mod cron;

use jiff::tz::TimeZone;

use crate::duration;
use crate::timestamp::Timestamp;

const SECOND: i64 = 1_000_000_000;

/// A pattern that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Once.
    At(Timestamp),
    /// Again and again after this time, ns; at least a second.
    Every(i64),
    /// By the calendar.
    Calendar(Box<Calendar>),
}

/// A calendar rule and the zone it is meant in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    rule: cron::Rule,
    zone: TimeZone,
}

/// Why a pattern or its zone was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleError {
    /// The pattern (`MessageSchedulesPatternInvalid`).
    Pattern,
    /// The time zone (`MessageSchedulesTimeZoneInvalid`).
    TimeZone,
}

impl Schedule {
    /// Reads a pattern and, where the header is there, its time zone.
    ///
    /// # Errors
    /// A pattern of no known kind, a zone that does not exist, and a zone where there is no calendar.
    pub fn parse(pattern: &[u8], zone: Option<&[u8]>) -> Result<Self, ScheduleError> {
        let named_zone = zone.map(time_zone).transpose()?;
        let pattern = std::str::from_utf8(pattern).map_err(|_| ScheduleError::Pattern)?;
        if let Some(time) = pattern.strip_prefix("@at ") {
            let time =
                Timestamp::parse(time).filter(|_| named_zone.is_none()).ok_or(ScheduleError::Pattern)?;
            return Ok(Self::At(time));
        }
        if let Some(interval) = pattern.strip_prefix("@every ") {
            let interval =
                duration::parse(interval).ok().filter(|nanos| *nanos >= SECOND && named_zone.is_none());
            return interval.map(Self::Every).ok_or(ScheduleError::Pattern);
        }
        let fields = match pattern {
            "@yearly" | "@annually" => "0 0 0 1 1 *",
            "@monthly" => "0 0 0 1 * *",
            "@weekly" => "0 0 0 * * 0",
            "@daily" | "@midnight" => "0 0 0 * * *",
            "@hourly" => "0 0 * * * *",
            fields => fields,
        };
        let rule = cron::Rule::parse(fields).ok_or(ScheduleError::Pattern)?;
        Ok(Self::Calendar(Box::new(Calendar { rule, zone: named_zone.unwrap_or(TimeZone::UTC) })))
    }

    /// Whether it fires again and again.
    pub fn is_repeating(&self) -> bool {
        !matches!(self, Self::At(_))
    }

    /// When it fires next, after `last` (when it fired before, or was stored). What was missed until `now` is fired once:
    /// the time after that is counted from `now`. `None` is a rule that never comes true within five years.
    pub fn next(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::At(time) => Some(*time),
            Self::Every(interval) => {
                let next = rounded(last).0.checked_add(*interval)?;
                if next >= now.0 {
                    return Some(Timestamp(next));
                }
                rounded(now).0.checked_add(*interval).map(Timestamp)
            }
            Self::Calendar(calendar) => {
                let next = calendar.rule.next(&calendar.zone, last)?;
                if next >= now { Some(next) } else { calendar.rule.next(&calendar.zone, rounded(now)) }
            }
        }
    }
}

impl Schedule {
    /// The time at which it fires as `Nats-Schedule-Next` says it: RFC 3339, with the offset of the schedule's own zone.
    pub fn written(&self, time: Timestamp) -> String {
        let Self::Calendar(calendar) = self else { return time.to_string() };
        let Ok(instant) = jiff::Timestamp::from_nanosecond(i128::from(time.0)) else {
            return time.to_string();
        };
        let local = instant.to_zoned(calendar.zone.clone());
        if local.offset().is_zero() {
            return time.to_string();
        }
        // Calendar rules fire at whole seconds.
        local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

/// The zone with a name of the IANA database; `Local` is the machine's and does not exist here.
fn time_zone(name: &[u8]) -> Result<TimeZone, ScheduleError> {
    let name = std::str::from_utf8(name).map_err(|_| ScheduleError::TimeZone)?;
    match name {
        "" => Err(ScheduleError::TimeZone),
        "UTC" => Ok(TimeZone::UTC),
        name => TimeZone::get(name).map_err(|_| ScheduleError::TimeZone),
    }
}

/// To the nearest second.
fn rounded(time: Timestamp) -> Timestamp {
    let up = time.0.saturating_add(SECOND / 2);
    Timestamp(up.saturating_sub(up.rem_euclid(SECOND)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    #[test]
    fn schedules_fire() {
        for (pattern, zone, last, next) in [
            ("@at 2026-05-01T12:00:00Z", None, "2026-01-01T00:00:00Z", "2026-05-01T12:00:00Z"),
            ("@every 5m", None, "2026-01-01T00:00:00.4Z", "2026-01-01T00:05:00Z"),
            ("@every 1.5s", None, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01.5Z"),
            ("@yearly", None, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@monthly", None, "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"),
            ("@weekly", None, "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("@daily", None, "2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z"),
            ("@hourly", None, "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("30 * * * * *", None, "2026-01-01T00:00:30Z", "2026-01-01T00:01:30Z"),
            ("*/15 * * * * *", None, "2026-01-01T00:00:16Z", "2026-01-01T00:00:30Z"),
            ("0 30 9-17/4 * * mon-fri", None, "2026-01-03T00:00:00Z", "2026-01-05T09:30:00Z"),
            ("0 0 12 29 feb *", None, "2026-01-01T00:00:00Z", "2028-02-29T12:00:00Z"),
            // A day of month or a day of week, when both are said.
            ("0 0 0 15 * sun", None, "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("0 0 9 * * *", Some("America/New_York"), "2026-01-01T00:00:00Z", "2026-01-01T14:00:00Z"),
            ("0 0 9 * * *", Some("America/New_York"), "2026-07-01T00:00:00Z", "2026-07-01T13:00:00Z"),
            // 02:30 does not exist on the day that clocks go forward.
            ("0 30 2 * * *", Some("America/New_York"), "2026-03-08T05:00:00Z", "2026-03-09T06:30:00Z"),
        ] {
            let schedule = Schedule::parse(pattern.as_bytes(), zone.map(str::as_bytes)).expect(pattern);
            assert_eq!(schedule.next(time(last), time(last)), Some(time(next)), "{pattern}");
        }
    }

    #[test]
    fn times_are_written_in_the_zone_of_the_schedule() {
        for (pattern, zone, written) in [
            ("@every 5m", None, "2026-07-01T12:00:00Z"),
            ("@daily", None, "2026-07-01T12:00:00Z"),
            ("@daily", Some("UTC"), "2026-07-01T12:00:00Z"),
            ("@daily", Some("America/New_York"), "2026-07-01T08:00:00-04:00"),
            ("@daily", Some("Asia/Kathmandu"), "2026-07-01T17:45:00+05:45"),
        ] {
            let schedule = Schedule::parse(pattern.as_bytes(), zone.map(str::as_bytes)).expect(pattern);
            let text = schedule.written(time("2026-07-01T12:00:00Z"));
            assert_eq!((text.as_str(), time(&text)), (written, time("2026-07-01T12:00:00Z")));
        }
    }

    #[test]
    fn what_was_missed_fires_once() {
        let (last, now) = (time("2026-01-01T00:00:00Z"), time("2026-01-01T10:00:10Z"));
        for (pattern, next) in
            [("@every 1m", "2026-01-01T10:01:10Z"), ("0 * * * * *", "2026-01-01T10:01:00Z")]
        {
            let schedule = Schedule::parse(pattern.as_bytes(), None).expect(pattern);
            assert_eq!(schedule.next(last, now), Some(time(next)), "{pattern}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for (pattern, zone, error) in [
            ("", None, ScheduleError::Pattern),
            ("@at tomorrow", None, ScheduleError::Pattern),
            ("@at 2026-05-01T12:00:00Z", Some("UTC"), ScheduleError::Pattern),
            ("@every 999ms", None, ScheduleError::Pattern),
            ("@every 5s", Some("Europe/Zurich"), ScheduleError::Pattern),
            ("@sometimes", None, ScheduleError::Pattern),
            ("* * * * *", None, ScheduleError::Pattern),
            ("60 * * * * *", None, ScheduleError::Pattern),
            ("5-1 * * * * *", None, ScheduleError::Pattern),
            ("*/0 * * * * *", None, ScheduleError::Pattern),
            ("1-2-3 * * * * *", None, ScheduleError::Pattern),
            ("1/2/3 * * * * *", None, ScheduleError::Pattern),
            ("x * * * * *", None, ScheduleError::Pattern),
            (", * * * * *", None, ScheduleError::Pattern),
            ("* * * 0 * *", None, ScheduleError::Pattern),
            ("* * * * * 7", None, ScheduleError::Pattern),
            ("@daily", Some("Moon/Crater"), ScheduleError::TimeZone),
            ("@daily", Some(""), ScheduleError::TimeZone),
        ] {
            assert_eq!(Schedule::parse(pattern.as_bytes(), zone.map(str::as_bytes)), Err(error), "{pattern}");
        }
        let never = Schedule::parse(b"0 0 0 31 feb *", None).expect("a pattern");
        assert_eq!(never.next(Timestamp(0), Timestamp(0)), None);
    }

    proptest! {
        #[test]
        fn a_schedule_never_fires_before_it_was_made(
            pattern in "[0-9*/?,-]{1,5} [0-9*/,-]{1,5} [0-9*/-]{1,4} [0-9*]{1,2} [0-9*]{1,2} [0-6*]", last in any::<i64>(),
        ) {
            if let Ok(schedule) = Schedule::parse(pattern.as_bytes(), None)
                && let Some(next) = schedule.next(Timestamp(last), Timestamp(last)) {
                prop_assert!(next > Timestamp(last));
            }
        }

        #[test]
        fn nothing_panics(pattern in "(@at |@every )?[-0-9a-zA-Z*/,?: ]{0,30}", zone in prop::option::of("[A-Za-z/]{0,12}"), last in any::<i64>()) {
            if let Ok(schedule) = Schedule::parse(pattern.as_bytes(), zone.as_deref().map(str::as_bytes)) {
                let _ = schedule.next(Timestamp(last), Timestamp(last));
            }
        }
    }
}
