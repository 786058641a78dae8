//! Deliveries and timers: streams that have something to do wait here for a thread.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use sonata_jetstream::stream::Next;

use super::{Handle, JetStream};

/// Threads that deliver. Two, so that one stream that reads from a slow disk does not hold up all others.
pub(super) const THREADS: usize = 2;

/// A stream whose receivers are slow has its next turn after so long.
const SLOW_RECEIVERS: Duration = Duration::from_millis(2);

/// See the module.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    ready: Condvar,
    due: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<Handle>>,
    /// When which lane's timer is due.
    timers: BTreeSet<(Instant, u64)>,
    timer_of: HashMap<u64, (Instant, Arc<Handle>)>,
    stopped: bool,
}

impl Turns {
    pub(super) fn push(&self, handle: Arc<Handle>) {
        self.state.lock().queue.push_back(handle);
        self.ready.notify_one();
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.ready.notify_all();
        self.due.notify_all();
    }

    /// The next stream that has something to do; `None` when it is over.
    fn next(&self) -> Option<Arc<Handle>> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(handle) = state.queue.pop_front() {
                return Some(handle);
            }
            self.ready.wait(&mut state);
        }
    }

    /// Sets, moves or clears a stream's timer.
    fn set_timer(&self, handle: &Arc<Handle>, at: Option<Instant>) {
        let lane = handle.stream.lane;
        let mut state = self.state.lock();
        if let Some((old, _)) = state.timer_of.remove(&lane) {
            state.timers.remove(&(old, lane));
        }
        if let Some(at) = at {
            let first = state.timers.first().is_none_or(|(first, _)| at < *first);
            state.timers.insert((at, lane));
            state.timer_of.insert(lane, (at, handle.clone()));
            if first {
                self.due.notify_one();
            }
        }
    }

    /// The next stream whose timer is due; `None` when it is over.
    fn next_due(&self) -> Option<Arc<Handle>> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            match state.timers.first().copied() {
                Some((at, lane)) if at <= Instant::now() => {
                    state.timers.remove(&(at, lane));
                    if let Some((_, handle)) = state.timer_of.remove(&lane) {
                        return Some(handle);
                    }
                }
                Some((at, _)) => {
                    self.due.wait_until(&mut state, at);
                }
                None => self.due.wait(&mut state),
            }
        }
    }

    /// Streams that wait for a turn.
    pub(super) fn len(&self) -> usize {
        self.state.lock().queue.len()
    }
}

impl JetStream {
    /// Runs turns until the server stops.
    pub(super) fn run_turns(&self) {
        while let Some(handle) = self.turns.next() {
            if handle.stream.is_deleted() {
                continue;
            }
            handle.stream.begin_turn();
            let mut slow = false;
            let mut following = false;
            let next = self.with_worker(|worker| {
                let now = self.clock.now_unix_ns();
                following =
                    self.node.follow(&handle.stream, now, &mut self.post(&handle.home, worker.outbox()));
                let next = {
                    let mut post = self.post(&handle.home, worker.outbox());
                    let mut machine = handle.stream.lock();
                    if handle.stream.take_review() {
                        machine.review_interest(now, &mut post);
                    }
                    machine.turn(true, now, &mut post)
                };
                let at = self.clock.now_ns();
                worker.publish_outbox(&self.shared, at);
                let receivers = worker.receivers();
                worker.flush(at);
                slow = worker.take_stalling(receivers).is_some();
                next
            });
            self.kick();
            let more = match next {
                Next::Idle => following,
                Next::More | Next::Disk => true,
                Next::Read(work) => {
                    let done = work.run();
                    handle.stream.lock().warm(done);
                    true
                }
            };
            self.node.after(&handle.stream);
            let asked = handle.stream.end_turn();
            if more && slow {
                // Its receivers have enough to read; the timer asks again.
                handle.stream.cancel_turn();
                self.turns.set_timer(&handle, Some(Instant::now() + SLOW_RECEIVERS));
                continue;
            }
            if asked {
                self.turns.push(handle.clone());
            } else if more {
                self.again(&handle);
            }
            self.plan_timer(&handle);
        }
    }

    fn again(&self, handle: &Arc<Handle>) {
        if handle.stream.ask_turn() {
            self.turns.push(handle.clone());
        }
    }

    fn plan_timer(&self, handle: &Arc<Handle>) {
        let now = self.clock.now_unix_ns();
        let next = handle.stream.lock().next_timer(now);
        let at = next.map(|at| {
            let wait = u64::try_from(at.saturating_sub(now)).unwrap_or(0);
            // Longer than anybody waits, short enough for the clock.
            Instant::now() + Duration::from_nanos(wait).min(Duration::from_secs(86_400 * 365))
        });
        self.turns.set_timer(handle, at);
    }

    /// Runs timers until the server stops.
    pub(super) fn run_timers(&self) {
        while let Some(handle) = self.turns.next_due() {
            if handle.stream.is_deleted() {
                continue;
            }
            let now = self.clock.now_unix_ns();
            self.post_for(&handle.home, |out| handle.stream.lock().on_timer(now, out));
            self.kick();
            self.node.after(&handle.stream);
        }
    }
}
