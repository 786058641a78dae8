//! Times and durations as monitoring writes them.

use std::fmt;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

/// A point in time: nanoseconds since the UNIX epoch, written `2026-11-23T03:04:27.26055869Z` (RFC 3339 in UTC, without
/// trailing zeros in the fraction).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Sixty-four bits of nanoseconds reach from 1677 to 2262, all of which can be written.
        let time =
            OffsetDateTime::from_unix_timestamp_nanos(self.0.into()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
        let (hour, minute, second) = time.to_hms();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match time.nanosecond() {
            0 => f.write_str("Z"),
            fraction => write!(f, ".{}Z", format!("{fraction:09}").trim_end_matches('0')),
        }
    }
}

/// A time that has passed: nanoseconds, written in whole seconds as `1y2d3h4m5s`, without leading zero units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(pub i64);

impl Uptime {
    /// The time from one point to a later one.
    pub fn between(start: Timestamp, now: Timestamp) -> Self {
        Self(now.0.saturating_sub(start.0))
    }
}

impl fmt::Display for Uptime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / NANOS_PER_SECOND;
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        let years = days / 365;
        if years > 0 {
            write!(f, "{years}y")?;
        }
        if days > 0 {
            write!(f, "{}d", days % 365)?;
        }
        if hours > 0 {
            write!(f, "{}h", hours % 24)?;
        }
        if minutes > 0 {
            write!(f, "{}m", minutes % 60)?;
        }
        write!(f, "{}s", seconds % 60)
    }
}

/// A short time such as a round trip: nanoseconds, written as Go does: `504µs`, `1.5ms`, `1m0.5s`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoundTrip(pub i64);

impl RoundTrip {
    /// A measured time, cut to microseconds if it is between one of them and a millisecond.
    pub fn measured(nanos: i64) -> Self {
        let cut = nanos > 1_000 && nanos < 1_000_000;
        Self(if cut { nanos - nanos % 1_000 } else { nanos })
    }
}

impl fmt::Display for RoundTrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}µs", decimal(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", decimal(nanos, 1_000_000)),
            _ => {
                let minutes = nanos / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                write!(f, "{}s", decimal(nanos % 60_000_000_000, 1_000_000_000))
            }
        }
    }
}

/// `value / unit` with as many decimals as it needs.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{fraction:0width$}").trim_end_matches('0'))
}

const NANOS_PER_SECOND: i64 = 1_000_000_000;

macro_rules! serialized_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

serialized_as_text!(Timestamp, Uptime, RoundTrip);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339_without_trailing_zeros() {
        for (nanos, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_403_067_260_558_690, "2026-11-23T03:04:27.26055869Z"),
            (1_795_403_067_000_000_001, "2026-11-23T03:04:27.000000001Z"),
            (1_709_164_800_500_000_000, "2024-02-29T00:00:00.5Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(Timestamp(nanos).to_string(), expected);
        }
    }

    #[test]
    fn uptimes_leave_leading_units_out() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m0s"),
            (3_599, "59m59s"),
            (3_600, "1h0m0s"),
            (86_399, "23h59m59s"),
            (86_400 + 2 * 3_600 + 3 * 60 + 4, "1d2h3m4s"),
            (365 * 86_400 - 1, "364d23h59m59s"),
            (365 * 86_400, "1y0d0h0m0s"),
            (800 * 86_400 + 61, "2y70d0h1m1s"),
        ] {
            assert_eq!(Uptime(seconds * NANOS_PER_SECOND + 999_999_999).to_string(), expected);
        }
        assert_eq!(Uptime::between(Timestamp(5), Timestamp(2_000_000_004)).to_string(), "1s");
    }

    #[test]
    fn round_trips_are_written_as_go_does() {
        for (nanos, expected) in [
            (0, "0s"),
            (999, "999ns"),
            (1_000, "1µs"),
            (124_000, "124µs"),
            (1_500_000, "1.5ms"),
            (1_000_001, "1.000001ms"),
            (1_000_000_000, "1s"),
            (60_500_000_000, "1m0.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (-1_500_000, "-1.5ms"),
        ] {
            assert_eq!(RoundTrip(nanos).to_string(), expected);
        }
        assert_eq!(RoundTrip::measured(124_999), RoundTrip(124_000));
        assert_eq!(RoundTrip::measured(999), RoundTrip(999));
        assert_eq!(RoundTrip::measured(1_000_001), RoundTrip(1_000_001));
    }
}
