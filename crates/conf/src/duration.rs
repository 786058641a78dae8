//! Durations as operators write them: `1h30m`, `250ms`, `-1s`.
//!
//! The notation is Go's, in both directions, since logs and monitoring print what files say.

use std::fmt;
use std::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// Not even nearly one, or too long for 64 bits of nanoseconds.
    Invalid(String),
    /// A number without a unit.
    MissingUnit(String),
    /// A unit that does not exist.
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DurationError::Invalid(text) => write!(f, "invalid duration {text:?}"),
            DurationError::MissingUnit(text) => write!(f, "missing unit in duration {text:?}"),
            DurationError::UnknownUnit { unit, text } => {
                write!(f, "unknown unit {unit:?} in duration {text:?}")
            }
        }
    }
}

impl std::error::Error for DurationError {}

/// Nanoseconds of a text such as `1m30s`, `1.5h`, `-2ms` or `0`.
pub fn parse_nanos(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let unit_nanos = nanos_of(unit)
            .ok_or_else(|| DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() })?;
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let part = whole
            .checked_mul(unit_nanos)
            .and_then(|nanos| nanos.checked_add(fraction_of(fraction, unit_nanos)))
            .ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = after;
    }
    Ok(if negative { -total } else { total })
}

/// A duration that cannot be negative; `None` for one that is.
pub fn parse(text: &str) -> Result<Option<Duration>, DurationError> {
    parse_nanos(text).map(|nanos| u64::try_from(nanos).ok().map(Duration::from_nanos))
}

/// A duration in Go's notation: `2m0s`, `1.5s`, `50ms`, `0s`.
pub fn show(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn nanos_of(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Nanoseconds of the digits after a point. Digits too small to count are dropped.
fn fraction_of(digits: &str, unit_nanos: i64) -> i64 {
    let mut nanos = 0_i128;
    let mut scale = i128::from(unit_nanos) * 1_000_000_000;
    for digit in digits.bytes().take(18) {
        scale /= 10;
        nanos += i128::from(digit - b'0') * scale;
    }
    i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX)
}

/// `nanos / unit` with as many digits as needed.
fn decimal(nanos: u128, unit: u128) -> String {
    let (whole, part) = (nanos / unit, nanos % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{part:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_shows() {
        let cases = [
            ("0", 0, "0s"),
            ("5s", 5_000_000_000, "5s"),
            ("2m", 120_000_000_000, "2m0s"),
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            (".5s", 500_000_000, "500ms"),
            ("1.s", 1_000_000_000, "1s"),
            ("250us", 250_000, "250µs"),
            ("1.25ms", 1_250_000, "1.25ms"),
            ("7ns", 7, "7ns"),
            ("+1m0.005s", 60_005_000_000, "1m0.005s"),
            ("0.3333333333333333333h", 1_200_000_000_000, "20m0s"),
        ];
        for (text, nanos, shown) in cases {
            let parsed = parse_nanos(text).unwrap();
            assert!((parsed - nanos).abs() <= 1, "{text}: {parsed}");
            assert_eq!(show(Duration::from_nanos(nanos as u64)), shown, "{text}");
        }
        assert_eq!(parse_nanos("-1.5h").unwrap(), -5_400_000_000_000);
        assert_eq!(parse("-1s").unwrap(), None);
    }

    #[test]
    fn refuses_what_is_no_duration() {
        let cases = [
            ("", "invalid duration \"\""),
            ("5", "missing unit in duration \"5\""),
            ("5x", "unknown unit \"x\" in duration \"5x\""),
            ("s", "invalid duration \"s\""),
            (".s", "invalid duration \".s\""),
            ("1 s", "unknown unit \" s\" in duration \"1 s\""),
            ("9999999999h", "invalid duration \"9999999999h\""),
            ("--1s", "invalid duration \"--1s\""),
        ];
        for (text, message) in cases {
            assert_eq!(parse_nanos(text).unwrap_err().to_string(), message);
        }
    }
}
