//! Calendar rules of six fields: second, minute, hour, day of month, month, day of week.
//!
//! A field is a set of numbers, kept as bits. The next time is found by going from the largest unit to the smallest: a unit
//! that does not fit is advanced and all smaller ones begin anew.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp as Instant, ToSpan, Zoned};

use crate::timestamp::Timestamp;

/// How far ahead is looked.
const YEARS_AHEAD: i16 = 5;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    seconds: Field,
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

/// The numbers that a field allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    /// Whether a `*` was said, so that the field says nothing by itself.
    is_any: bool,
}

impl Rule {
    pub(super) fn parse(pattern: &str) -> Option<Self> {
        let fields: Vec<&str> = pattern.split_whitespace().collect();
        let [seconds, minutes, hours, days, months, weekdays] = fields[..] else { return None };
        Some(Self {
            seconds: Field::parse(seconds, 0, 59, &[])?,
            minutes: Field::parse(minutes, 0, 59, &[])?,
            hours: Field::parse(hours, 0, 23, &[])?,
            days: Field::parse(days, 1, 31, &[])?,
            months: Field::parse(
                months,
                1,
                12,
                &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
            )?,
            weekdays: Field::parse(weekdays, 0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"])?,
        })
    }

    /// The first time after `last` that fits, within five years.
    pub(super) fn next(&self, zone: &TimeZone, last: Timestamp) -> Option<Timestamp> {
        let last = Instant::from_nanosecond(i128::from(last.0)).ok()?;
        let second = last.as_second().checked_sub(i64::from(last.subsec_nanosecond() < 0))?.checked_add(1)?;
        let mut time = Instant::from_second(second).ok()?.to_zoned(zone.clone());
        let last_year = time.year().checked_add(YEARS_AHEAD)?;
        // Every turn advances: months and days at most 5 * 372 times, hours and less at most as often as a day has them.
        loop {
            if time.year() > last_year {
                return None;
            }
            if !self.months.has(time.month()) {
                time = midnight(time.date().first_of_month().checked_add(1.month()).ok()?, zone)?;
            } else if !self.has_day(time.date()) {
                time = midnight(time.date().checked_add(1.day()).ok()?, zone)?;
            } else if !self.hours.has(time.hour()) {
                let into_hour = i64::from(time.minute()) * 60 + i64::from(time.second());
                time = later(time, 3600 - into_hour)?;
            } else if !self.minutes.has(time.minute()) {
                let into_minute = i64::from(time.second());
                time = later(time, 60 - into_minute)?;
            } else if !self.seconds.has(time.second()) {
                time = later(time, 1)?;
            } else {
                return i64::try_from(time.timestamp().as_nanosecond()).ok().map(Timestamp);
            }
        }
    }

    /// With a `*` in either field both must fit; otherwise either is enough.
    fn has_day(&self, date: Date) -> bool {
        let by_month = self.days.has(date.day());
        let by_week = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        if self.days.is_any || self.weekdays.is_any { by_month && by_week } else { by_month || by_week }
    }
}

impl Field {
    fn parse(text: &str, least: u32, most: u32, names: &[&str]) -> Option<Self> {
        let mut field = Field { bits: 0, is_any: false };
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let part = Field::parse_range(range, least, most, names)?;
            field.bits |= part.bits;
            field.is_any |= part.is_any;
        }
        // A field of nothing but commas never comes true, and must not be searched for second by second.
        (field.bits != 0).then_some(field)
    }

    /// `*`, `n`, `n-m`, each with `/step`; `n/step` goes on to the largest number.
    fn parse_range(text: &str, least: u32, most: u32, names: &[&str]) -> Option<Self> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (text, None),
        };
        let named = |text: &str| match names.iter().position(|name| text.eq_ignore_ascii_case(name)) {
            Some(at) => u32::try_from(at).ok()?.checked_add(least),
            None => number(text),
        };
        let (first, last, is_star) = match range.split_once('-') {
            // What stands after a star is not looked at.
            Some(("*" | "?", _)) => (least, most, true),
            Some((first, last)) => (named(first)?, named(last)?, false),
            None if matches!(range, "*" | "?") => (least, most, true),
            None => {
                let first = named(range)?;
                (first, if step.is_some() { most } else { first }, false)
            }
        };
        let step = step.unwrap_or(1);
        if first < least || last > most || first > last || step == 0 {
            return None;
        }
        let numbers = (first..=last).step_by(usize::try_from(step).ok()?);
        Some(Field { bits: numbers.fold(0, |bits, number| bits | 1 << number), is_any: is_star && step == 1 })
    }

    fn has(self, number: i8) -> bool {
        self.bits >> number & 1 == 1
    }
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// The first moment of a day, which is not midnight everywhere.
fn midnight(date: Date, zone: &TimeZone) -> Option<Zoned> {
    DateTime::from(date).to_zoned(zone.clone()).ok()
}

fn later(time: Zoned, seconds: i64) -> Option<Zoned> {
    time.checked_add(SignedDuration::from_secs(seconds)).ok()
}
