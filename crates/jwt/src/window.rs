//! The hours of the day at which a user may be connected.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use crate::user::{TimeRange, UserLimits};
use crate::validation::Issues;

/// Whether a user may be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// At any hour.
    Always,
    /// Now, and still for so long.
    Open(Duration),
    /// Not now.
    Closed,
}

/// What the user's hours say at `now`; `local` is where the hours of users are that name no place.
///
/// Both ends are outside, as in the reference. Where ranges overlap the one that lasts longest counts.
pub fn at(limits: &UserLimits, now: Timestamp, local: &TimeZone) -> Window {
    if limits.times.is_empty() {
        return Window::Always;
    }
    let Some(place) = zone(&limits.location, local) else { return Window::Closed };
    let mut left: Option<Duration> = None;
    for range in &limits.times {
        let Some((start, end)) = parse(range) else { return Window::Closed };
        left = left.max(remaining(start, end, now, &place));
    }
    left.map_or(Window::Closed, Window::Open)
}

/// How long a range still lasts; none when the hour is not in it.
fn remaining(start: Time, end: Time, now: Timestamp, place: &TimeZone) -> Option<Duration> {
    let today = now.to_zoned(place.clone()).date();
    let on = |date: jiff::civil::Date, time: Time| date.to_datetime(time).to_zoned(place.clone()).ok();
    let until = |end: &jiff::Zoned| Duration::try_from(end.timestamp().duration_since(now)).ok();
    let starts = on(today, start)?;
    let ends = on(today, end)?;
    let started = starts.timestamp() < now;
    if started && ends.timestamp() > now {
        return until(&ends);
    }
    if start <= end {
        return None;
    }
    // Over midnight: still from yesterday, or begun today.
    if ends.timestamp() > now {
        return until(&ends);
    }
    let ends = on(today.tomorrow().ok()?, end)?;
    if started { until(&ends) } else { None }
}

pub(crate) fn check(limits: &UserLimits, issues: &mut Issues) {
    for TimeRange { start, end } in &limits.times {
        for (what, text) in [("start", start), ("end", end)] {
            if text.is_empty() {
                issues.error(format!("time ranges {what} must contain {}", article(what)));
            } else if time(text).is_none() {
                issues.error(format!("{what} in time range is invalid {text:?}"));
            }
        }
    }
    if zone(&limits.location, &TimeZone::UTC).is_none() {
        issues
            .error(format!("could not parse iana time zone by name: unknown time zone {}", limits.location));
    }
}

fn article(what: &str) -> &'static str {
    if what == "start" { "a start" } else { "an end" }
}

fn zone(name: &str, local: &TimeZone) -> Option<TimeZone> {
    match name {
        "" | "Local" => Some(local.clone()),
        name => TimeZone::get(name).ok(),
    }
}

fn parse(range: &TimeRange) -> Option<(Time, Time)> {
    Some((time(&range.start)?, time(&range.end)?))
}

/// `15:04:05`; the hour may have one digit.
fn time(text: &str) -> Option<Time> {
    let mut parts = text.split(':');
    let mut number = |digits: std::ops::RangeInclusive<usize>| {
        let part = parts.next()?;
        let fits = digits.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<i8>().ok().filter(|_| fits)
    };
    let (hour, minute, second) = (number(1..=2)?, number(2..=2)?, number(2..=2)?);
    if parts.next().is_some() {
        return None;
    }
    Time::new(hour, minute, second, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(ranges: &[(&str, &str)], location: &str) -> UserLimits {
        let range = |(start, end): &(&str, &str)| TimeRange { start: (*start).into(), end: (*end).into() };
        UserLimits {
            times: ranges.iter().map(range).collect(),
            location: location.into(),
            ..UserLimits::default()
        }
    }

    #[test]
    fn hours_of_the_day() {
        let hour = |hours: u64| Window::Open(Duration::from_secs(hours * 3600));
        type Ranges = &'static [(&'static str, &'static str)];
        let cases: &[(Ranges, &str, &str, Window)] = &[
            (&[], "", "2024-06-01T12:00:00Z", Window::Always),
            (&[("11:00:00", "22:00:00")], "", "2024-06-01T12:00:00Z", hour(10)),
            (&[("12:00:00", "22:00:00")], "", "2024-06-01T12:00:00Z", Window::Closed),
            (&[("11:00:00", "12:00:00")], "", "2024-06-01T12:00:00Z", Window::Closed),
            (&[("22:00:00", "06:00:00")], "", "2024-06-01T05:00:00Z", hour(1)),
            (&[("22:00:00", "06:00:00")], "", "2024-06-01T23:00:00Z", hour(7)),
            (&[("22:00:00", "06:00:00")], "", "2024-06-01T12:00:00Z", Window::Closed),
            (&[("11:00:00", "14:00:00"), ("11:30:00", "15:00:00")], "", "2024-06-01T12:00:00Z", hour(3)),
            // 14:00 in Berlin in summer, 13:00 in winter.
            (&[("13:30:00", "15:00:00")], "Europe/Berlin", "2024-06-01T12:00:00Z", hour(1)),
            (&[("13:30:00", "15:00:00")], "Europe/Berlin", "2024-01-01T12:00:00Z", Window::Closed),
            // The night in which summer begins is an hour shorter.
            (&[("22:00:00", "06:00:00")], "Europe/Berlin", "2024-03-30T22:00:00Z", hour(6)),
            (&[("11:00:00", "22:00:00")], "Nowhere/Land", "2024-06-01T12:00:00Z", Window::Closed),
            (&[("11:00", "22:00:00")], "", "2024-06-01T12:00:00Z", Window::Closed),
        ];
        for (ranges, location, now, expected) in cases {
            let window = at(&limits(ranges, location), now.parse().unwrap(), &TimeZone::UTC);
            assert_eq!(window, *expected, "{ranges:?} {location} {now}");
        }
    }

    #[test]
    fn forms_of_times() {
        for good in ["00:00:00", "9:05:59", "23:59:59"] {
            assert!(time(good).is_some(), "{good}");
        }
        for bad in ["", "24:00:00", "12:60:00", "12:00", "12:0:0", "-1:00:00", "+1:00:00", "12:00:00:00", "a"]
        {
            assert!(time(bad).is_none(), "{bad}");
        }
    }
}
