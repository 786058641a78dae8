//! Points in time: nanoseconds since 1970 inside, RFC 3339 with a `Z` outside.
//!
//! Not a clock: nobody here knows what time it is. Years that do not fit (before 1678, after 2262) are moved to the
//! nearest one that does, except for the reference's zero time, the start of year 1, which is a value of its own.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::json::TIME;

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

const SECOND: i64 = 1_000_000_000;

impl Timestamp {
    /// No time: written as `0001-01-01T00:00:00Z`, earlier than every other.
    pub const ZERO: Timestamp = Timestamp(i64::MIN);

    /// Whether this is no time at all.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Reads RFC 3339: `2006-01-02T15:04:05.999999999Z` or with an offset such as `+02:00`.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text.as_bytes())
    }

    /// Appends the time as [`fmt::Display`] writes it, without allocating.
    pub fn append(self, text: &mut Vec<u8>) {
        use std::io::Write;
        let written = write!(text, "{self}");
        debug_assert!(written.is_ok(), "a vector takes every byte");
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ZERO
    }
}

/// UTC, with as many digits after the second as needed.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0001-01-01T00:00:00Z");
        }
        let (seconds, mut fraction) = (self.0.div_euclid(SECOND), self.0.rem_euclid(SECOND));
        let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = date_of(days);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if fraction != 0 {
            let mut width = 9;
            while fraction % 10 == 0 {
                fraction /= 10;
                width -= 1;
            }
            write!(f, ".{fraction:0width$}")?;
        }
        f.write_str("Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(TIME, TimestampVisitor)
    }
}

/// RFC 3339 as the reference names it.
const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";

struct TimestampVisitor;

impl<'de> Visitor<'de> for TimestampVisitor {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time")
    }

    fn visit_unit<E>(self) -> Result<Timestamp, E> {
        Ok(Timestamp::ZERO)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
        Timestamp::parse(text).ok_or_else(|| {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            match digits < 4 {
                true => E::custom(format_args!(
                    "parsing time {text:?} as {LAYOUT:?}: cannot parse {text:?} as \"2006\""
                )),
                false => E::custom(format_args!("parsing time {text:?} as {LAYOUT:?}")),
            }
        })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Timestamp, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn parse(text: &[u8]) -> Option<Timestamp> {
    let (date_time, rest) = text.split_at_checked(19)?;
    for (at, separator) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        if date_time[at] != separator {
            return None;
        }
    }
    let year = digits(&date_time[0..4])?;
    let month = digits(&date_time[5..7])?;
    let day = digits(&date_time[8..10])?;
    let hour = digits(&date_time[11..13])?;
    let minute = digits(&date_time[14..16])?;
    let second = digits(&date_time[17..19])?;
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let (fraction, rest) = fraction(rest)?;
    let offset = match rest {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    if seconds == START_OF_YEAR_ONE && fraction == 0 {
        return Some(Timestamp::ZERO);
    }
    let nanos = i128::from(seconds) * i128::from(SECOND) + i128::from(fraction);
    let nearest = nanos.clamp(i128::from(i64::MIN) + 1, i128::from(i64::MAX));
    Some(Timestamp(i64::try_from(nearest).unwrap_or(i64::MAX)))
}

const START_OF_YEAR_ONE: i64 = -62_135_596_800;

/// The nanoseconds after a second, and what stands behind them. Digits from the tenth on are dropped.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    // A comma is as good as a point, as the reference's parser has it.
    let Some((b'.' | b',', after)) = text.split_first() else { return Some((0, text)) };
    let count = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let nanos = (0..9).fold(0, |nanos, at| {
        let digit = if at < count { i64::from(after[at] - b'0') } else { 0 };
        nanos * 10 + digit
    });
    Some((nanos, &after[count..]))
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March so that the leap day is
/// the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The reverse of [`days_since_1970`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, nanos, written) in [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            ("2026-11-23T05:46:02.123Z", 1_795_412_762_123_000_000, "2026-11-23T05:46:02.123Z"),
            ("2026-11-23T07:46:02+02:00", 1_795_412_762_000_000_000, "2026-11-23T05:46:02Z"),
            ("2000-02-29T23:59:59.000000001Z", 951_868_799_000_000_001, "2000-02-29T23:59:59.000000001Z"),
            ("1969-12-31T23:59:59.5Z", -500_000_000, "1969-12-31T23:59:59.5Z"),
            ("2026-01-01T00:00:00.1234567899Z", 1_767_225_600_123_456_789, "2026-01-01T00:00:00.123456789Z"),
            ("0001-01-01T00:00:00Z", i64::MIN, "0001-01-01T00:00:00Z"),
        ] {
            let time = Timestamp::parse(text);
            assert_eq!(time, Some(Timestamp(nanos)), "{text}");
            assert_eq!(Timestamp(nanos).to_string(), written);
        }
        assert_eq!(Timestamp::parse("9999-01-01T00:00:00Z"), Some(Timestamp(i64::MAX)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026",
            "2026-11-23",
            "2026-11-23 05:46:02Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+2:00",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00ZZ",
            "é026-01-01T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanos in any::<i64>()) {
            prop_assert_eq!(Timestamp::parse(&Timestamp(nanos).to_string()), Some(Timestamp(nanos)));
        }

        #[test]
        fn nothing_panics(text in ".{0,40}") {
            let _ = Timestamp::parse(&text);
        }
    }
}
