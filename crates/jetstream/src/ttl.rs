//! `Nats-TTL`: how long a message lives.

use crate::duration;

const SECOND: i64 = 1_000_000_000;

/// How long a message lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// As long as the stream keeps it, whatever `max_age` says.
    Never,
    /// So many seconds; 0 is as if nothing had been said.
    Seconds(i64),
}

/// Reads a TTL: `never`, a duration of at least a second, or a number of seconds. Parts of a second are dropped.
/// `None` is a text that is none of these.
pub fn parse(text: &[u8]) -> Option<Ttl> {
    let text = std::str::from_utf8(text).ok()?;
    if text.eq_ignore_ascii_case("never") {
        return Some(Ttl::Never);
    }
    if let Ok(nanos) = duration::parse(text) {
        return (nanos >= SECOND).then_some(Ttl::Seconds(nanos / SECOND));
    }
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).map(Ttl::Seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_read() {
        for (text, ttl) in [
            ("never", Some(Ttl::Never)),
            ("NEVER", Some(Ttl::Never)),
            ("1s", Some(Ttl::Seconds(1))),
            ("1500ms", Some(Ttl::Seconds(1))),
            ("999ms", None),
            ("-5s", None),
            ("60", Some(Ttl::Seconds(60))),
            // A duration without a unit is only allowed to be 0, and then it is too short.
            ("0", None),
            ("00", Some(Ttl::Seconds(0))),
            ("-1", None),
            ("", None),
            ("soon", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse(text.as_bytes()), ttl, "{text}");
        }
    }
}
