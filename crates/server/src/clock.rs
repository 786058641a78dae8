//! The one place where the clocks of the host are read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A server's time: nanoseconds since shortly before it was made, never 0 and never going back, and their place in
/// the calendar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
    origin_unix_ns: i64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Instant::now(), origin_unix_ns: i64::try_from(unix.as_nanos()).unwrap_or(i64::MAX) }
    }

    /// Now, in nanoseconds.
    pub(crate) fn now_ns(&self) -> u64 {
        // 584 years fit.
        self.origin.elapsed().as_nanos() as u64 + 1
    }

    /// What the host's calendar says now, in nanoseconds since 1970. Unlike all else here it follows when somebody sets
    /// the host's clock: for what is valid by the calendar.
    pub(crate) fn calendar_unix_ns() -> i64 {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(unix.as_nanos()).unwrap_or(i64::MAX)
    }

    /// When that moment is, for tokio's timers.
    pub(crate) fn instant(&self, at_ns: u64) -> tokio::time::Instant {
        // Far enough for "never", near enough not to overflow.
        let at_ns = at_ns.min(self.now_ns().saturating_add(86_400_000_000_000 * 365));
        tokio::time::Instant::from_std(self.origin + Duration::from_nanos(at_ns))
    }

    /// When that moment is, in nanoseconds since 1970.
    pub(crate) fn unix_ns(&self, at_ns: u64) -> i64 {
        self.origin_unix_ns.saturating_add(i64::try_from(at_ns).unwrap_or(i64::MAX))
    }

    /// Now, in nanoseconds since 1970.
    pub(crate) fn now_unix_ns(&self) -> i64 {
        self.unix_ns(self.now_ns())
    }
}
