//! Durations as people write them in headers and acks: `1h30m`, `250ms`; the notation of Go, in both directions.
//!
//! Nanoseconds in an `i64`; negative ones are read and written too.

use std::fmt;

/// A text that is no duration. Displayed as the reference does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError(String);

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DurationError {}

/// Nanoseconds of a text such as `1m30s`, `1.5h`, `-2ms` or `0`.
///
/// # Errors
/// Anything else, and what does not fit into 64 bits.
pub fn parse(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError(format!("time: invalid duration {text:?}"));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let (unit, after) =
            after.split_at(after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len()));
        if unit.is_empty() {
            return Err(DurationError(format!("time: missing unit in duration {text:?}")));
        }
        let unit_nanos = nanos_of(unit)
            .ok_or_else(|| DurationError(format!("time: unknown unit {unit:?} in duration {text:?}")))?;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        total += i128::from(whole) * i128::from(unit_nanos) + i128::from(fraction_of(fraction, unit_nanos));
        // Each turn adds less than 2^106, and none begins above this bound, so the sum cannot run over.
        if total > i128::from(i64::MAX) + 1 {
            return Err(invalid());
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// A duration as it is printed: `2m0s`, `1.5s`, `50ms`, `0s`.
pub fn format(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{nanos}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
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
fn decimal(nanos: u64, unit: u64) -> String {
    let (whole, part) = (nanos / unit, nanos % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{part:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, nanos, written) in [
            ("0", 0, "0s"),
            ("5s", 5_000_000_000, "5s"),
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            (".5s", 500_000_000, "500ms"),
            ("250us", 250_000, "250µs"),
            ("7ns", 7, "7ns"),
            ("-1.5h", -5_400_000_000_000, "-1h30m0s"),
            ("-9223372036854775808ns", i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
            assert_eq!(format(nanos), written);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for (text, refusal) in [
            ("", "time: invalid duration \"\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("s", "time: invalid duration \"s\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
        ] {
            assert_eq!(parse(text).expect_err(text).to_string(), refusal);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanos in any::<i64>()) {
            prop_assert_eq!(parse(&format(nanos)), Ok(nanos));
        }

        #[test]
        fn nothing_panics(text in "[-+0-9.a-zµ]{0,30}") {
            let _ = parse(&text);
        }
    }
}
