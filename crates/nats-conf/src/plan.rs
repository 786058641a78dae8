//! Which server to try next, and after which pause.
//!
//! Not the connection itself: no sockets, and the time is an argument. The one idea: two attempts at the same
//! server are at least the wait apart, and a lost connection counts as an attempt at the server that was
//! lost. Servers that were not tried lately are tried at once, so a cluster that loses one member is not
//! waited for.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// The pauses and the count of the attempts since the last connection.
#[derive(Debug)]
pub(crate) struct Plan {
    wait: Duration,
    /// When a server may be tried again; a server that is not here may be tried at once.
    due: HashMap<String, Instant>,
    /// Attempts since the last connection, by server.
    attempts: HashMap<String, u32>,
}

impl Plan {
    pub(crate) fn new(wait: Duration) -> Self {
        Self { wait, due: HashMap::new(), attempts: HashMap::new() }
    }

    /// Picks the server that may be tried soonest, the first of equals, and counts the attempt.
    ///
    /// Returns its place in the list and how long to wait; `None` if there are no servers.
    pub(crate) fn next(&mut self, servers: &[String], now: Instant) -> Option<(usize, Duration)> {
        // Servers that left the pool are forgotten, so this never outgrows the pool.
        self.due.retain(|server, _| servers.contains(server));
        // Not "ready now, and first in the list": a dead server that takes long to fail would be tried for
        // ever.
        let longest_ago = |server: &String| (self.due.get(server).copied(), self.attempts(server));
        let (index, server) = servers.iter().enumerate().min_by_key(|(_, server)| longest_ago(server))?;
        let start = self.due.get(server).map_or(now, |due| now.max(*due));
        self.due.insert(server.clone(), later(start, self.wait));
        let attempts = self.attempts.entry(server.clone()).or_default();
        *attempts = attempts.saturating_add(1);
        Some((index, start.saturating_duration_since(now)))
    }

    /// Begins anew after a connection to a server was lost.
    pub(crate) fn lost(&mut self, server: &str, now: Instant) {
        self.due.clear();
        self.attempts.clear();
        self.due.insert(server.to_owned(), later(now, self.wait));
    }

    /// Attempts at one server since the last connection.
    pub(crate) fn attempts(&self, server: &str) -> u32 {
        self.attempts.get(server).copied().unwrap_or(0)
    }

    /// Attempts at all servers since the last connection.
    pub(crate) fn attempts_in_all(&self) -> u64 {
        self.attempts.values().map(|attempts| u64::from(*attempts)).sum()
    }
}

fn later(from: Instant, wait: Duration) -> Instant {
    from.checked_add(wait).unwrap_or(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("s{index}")).collect()
    }

    /// The order and the times, in seconds, of attempts that all fail at once.
    fn run(plan: &mut Plan, servers: &[String], start: Instant, attempts: usize) -> Vec<(usize, u64)> {
        let mut now = start;
        (0..attempts)
            .map(|_| {
                let (index, delay) = plan.next(servers, now).unwrap();
                now += delay;
                (index, (now - start).as_secs())
            })
            .collect()
    }

    #[test]
    fn first_every_server_and_then_in_turn() {
        let mut plan = Plan::new(Duration::from_secs(5));
        let start = Instant::now();
        assert_eq!(run(&mut plan, &names(2), start, 5), [(0, 0), (1, 0), (0, 5), (1, 5), (0, 10)]);
        assert_eq!((plan.attempts("s0"), plan.attempts("s1"), plan.attempts_in_all()), (3, 2, 5));
    }

    #[test]
    fn a_lost_server_is_waited_for_and_the_others_are_not() {
        let start = Instant::now();
        let mut plan = Plan::new(Duration::from_secs(5));
        plan.lost("s0", start);
        assert_eq!(run(&mut plan, &names(1), start, 3), [(0, 5), (0, 10), (0, 15)]);
        plan.lost("s1", start);
        assert_eq!(run(&mut plan, &names(3), start, 5), [(0, 0), (2, 0), (1, 5), (0, 5), (2, 5)]);
    }

    #[test]
    fn nothing_to_choose_from() {
        assert_eq!(Plan::new(Duration::MAX).next(&[], Instant::now()), None);
    }

    proptest::proptest! {
        /// Whatever happens, two attempts at one server are the wait apart and no server is starved.
        #[test]
        fn attempts_are_spaced_and_fair(
            count in 1_usize..6,
            wait in 0_u64..5,
            lasts in proptest::collection::vec(0_u64..4, 1..60),
        ) {
            let servers = names(count);
            let mut plan = Plan::new(Duration::from_secs(wait));
            let mut now = Instant::now();
            let mut last: Vec<Option<Instant>> = vec![None; count];
            for duration in lasts {
                let (index, delay) = plan.next(&servers, now).unwrap();
                now += delay;
                if let Some(before) = last[index] {
                    proptest::prop_assert!(now - before >= Duration::from_secs(wait));
                }
                last[index] = Some(now);
                now += Duration::from_secs(duration);
                let tries: Vec<u32> = servers.iter().map(|server| plan.attempts(server)).collect();
                proptest::prop_assert!(tries.iter().max().unwrap() - tries.iter().min().unwrap() <= 1);
            }
        }
    }
}
