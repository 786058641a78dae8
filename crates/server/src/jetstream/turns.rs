//! Deliveries and timers: streams that have something to do wait here for a thread.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use sonata_broker::service::{Errand, Outbox};
use sonata_broker::worker::Worker;
use sonata_jetstream::outgoing::Haste;
use sonata_jetstream::stream::{Next, Stream, Work};

use super::{Handle, Itself, JetStream};

/// Threads that deliver. Two, so that one stream that reads from a slow disk does not hold up all others.
pub(super) const THREADS: usize = 2;

/// A stream whose receivers are slow has its next turn after so long.
const SLOW_RECEIVERS: Duration = Duration::from_millis(2);

/// Records that nobody waits for are written after so long, unless others take them along. What a crash may lose of them,
/// deliveries and acknowledgements, is delivered again.
const SOON: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    ready: Condvar,
    due: Condvar,
    /// Something was appended to the journal since it was last kicked, and somebody waits for it.
    appended: AtomicBool,
    /// The journal is to be kicked soon, and somebody will.
    kick_planned: AtomicBool,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// When which lane's timer is due.
    timers: BTreeSet<(Instant, u64)>,
    timer_of: HashMap<u64, (Instant, Arc<Handle>)>,
    /// When the journal is to be kicked.
    kick_at: Option<Instant>,
    /// Until when the thread of the timers sleeps; `None` while it does not, or sleeps for ever.
    sleeps_until: Option<Instant>,
    stopped: bool,
}

/// What streams wait for.
enum Job {
    Turn(Arc<Handle>),
    /// What its consumers will want before long is read.
    ReadAhead(Arc<Handle>, Work),
}

/// What time has brought.
enum Due {
    Timer(Arc<Handle>),
    Kick,
}

impl Turns {
    pub(super) fn push(&self, handle: Arc<Handle>) {
        self.push_job(Job::Turn(handle));
    }

    fn push_job(&self, job: Job) {
        self.state.lock().queue.push_back(job);
        self.ready.notify_one();
    }

    /// Something was appended to the journal: who has done that kicks it when its batch is through, or somebody else does
    /// before long.
    pub(super) fn note_appended(&self, haste: Haste) {
        match haste {
            Haste::Now => self.appended.store(true, Ordering::Release),
            Haste::Soon => self.kick_soon(),
        }
    }

    /// Whether the journal is to be kicked.
    pub(super) fn take_appended(&self) -> bool {
        // A read first: most batches append nothing, and a swap would move the line between cores.
        self.appended.load(Ordering::Relaxed) && self.appended.swap(false, Ordering::AcqRel)
    }

    fn kick_soon(&self) {
        // A read first: it is planned nearly always.
        if self.kick_planned.load(Ordering::Acquire) || self.kick_planned.swap(true, Ordering::AcqRel) {
            return;
        }
        let at = Instant::now() + SOON;
        let mut state = self.state.lock();
        state.kick_at = Some(at);
        self.wake_timers(&state, at);
    }

    /// There is something to do at `at`.
    fn wake_timers(&self, state: &State, at: Instant) {
        if state.sleeps_until.is_none_or(|until| at < until) {
            self.due.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.ready.notify_all();
        self.due.notify_all();
    }

    /// What is next to be done; `None` when it is over.
    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            self.ready.wait(&mut state);
        }
    }

    /// Sets or clears a stream's timer. One that is set for earlier stays: most are put off again and again, by the
    /// acknowledgements that they are to miss, and whoever is called too early plans anew.
    fn set_timer(&self, handle: &Arc<Handle>, at: Option<Instant>) {
        let lane = handle.stream.lane;
        let mut state = self.state.lock();
        match (state.timer_of.get(&lane), at) {
            (None, None) => return,
            (Some((set, _)), Some(at)) if *set <= at => return,
            _ => {}
        }
        if let Some((old, _)) = state.timer_of.remove(&lane) {
            state.timers.remove(&(old, lane));
        }
        if let Some(at) = at {
            state.timers.insert((at, lane));
            state.timer_of.insert(lane, (at, handle.clone()));
            self.wake_timers(&state, at);
        }
    }

    /// What is due next; `None` when it is over.
    fn next_due(&self) -> Option<Due> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            let now = Instant::now();
            if state.kick_at.is_some_and(|at| at <= now) {
                state.kick_at = None;
                return Some(Due::Kick);
            }
            let timer = state.timers.first().copied();
            if let Some((at, lane)) = timer.filter(|(at, _)| *at <= now) {
                state.timers.remove(&(at, lane));
                if let Some((_, handle)) = state.timer_of.remove(&lane) {
                    return Some(Due::Timer(handle));
                }
                continue;
            }
            let until = [timer.map(|(at, _)| at), state.kick_at].into_iter().flatten().min();
            state.sleeps_until = until;
            match until {
                Some(until) => drop(self.due.wait_until(&mut state, until)),
                None => self.due.wait(&mut state),
            }
            state.sleeps_until = None;
        }
    }

    /// Streams that wait for a turn, or for what is read.
    pub(super) fn len(&self) -> usize {
        self.state.lock().queue.len()
    }
}

/// A stream's turn on the thread of a client that has moved it, by an acknowledgement or a pull request: what it delivers
/// is most often for that very client.
struct Turn {
    jetstream: Arc<Itself>,
    handle: Arc<Handle>,
}

impl Errand for Turn {
    fn run(&self, worker: &mut Worker) {
        let Some(jetstream) = self.jetstream.load_full() else { return };
        let stream = &self.handle.stream;
        if jetstream.node.after_but_turn(stream) && !stream.is_deleted() && stream.ask_turn() {
            let stalling = worker.stalling();
            let next = jetstream.turn(&self.handle, worker, false);
            // The client is not held back for what it is sent, as it would be for what it sends.
            let slow = worker.forget_stalling(stalling);
            jetstream.end_turn(&self.handle, !matches!(next, Next::Idle), slow);
        }
    }

    fn postpone(&self) {
        if let Some(jetstream) = self.jetstream.load_full() {
            jetstream.node.after(&self.handle.stream);
        }
    }
}

impl JetStream {
    /// Has a stream take its turn once the batch is through that has moved it.
    pub(super) fn turn_after(&self, stream: &Stream, outbox: &mut Outbox) {
        outbox.errand(stream.lane, || {
            let turn = Turn { jetstream: self.itself.clone(), handle: self.handle(stream.lane)? };
            Some(Arc::new(turn) as Arc<dyn Errand>)
        });
    }

    /// Runs turns until the server stops.
    pub(super) fn run_turns(&self) {
        while let Some(job) = self.turns.next() {
            let handle = match job {
                Job::Turn(handle) => handle,
                Job::ReadAhead(handle, work) => {
                    let done = work.run();
                    handle.stream.lock().warm_ahead(done);
                    continue;
                }
            };
            if handle.stream.is_deleted() {
                continue;
            }
            if handle.stream.is_resting() {
                handle.stream.cancel_turn();
                // Who has woken it meanwhile has found a turn that was asked for.
                if !handle.stream.is_resting() {
                    self.again(&handle);
                }
                continue;
            }
            let (next, slow) = self.with_worker(|worker| {
                let next = self.turn(&handle, worker, true);
                let receivers = worker.receivers();
                worker.flush(self.clock.now_ns());
                (next, worker.take_stalling(receivers).is_some())
            });
            let more = match next {
                Next::Idle => false,
                Next::More | Next::Disk => true,
                Next::Read(work) => {
                    let done = work.run();
                    handle.stream.lock().warm(done);
                    true
                }
            };
            self.end_turn(&handle, more, slow);
        }
    }

    /// One turn of a stream that has asked for it: what it delivers is with its receivers when this returns, though not yet
    /// written to them. [`JetStream::end_turn`] comes next. `disk` says whether the caller may read from the disk.
    fn turn(&self, handle: &Arc<Handle>, worker: &mut Worker, disk: bool) -> Next {
        handle.stream.begin_turn();
        let now = self.clock.now_unix_ns();
        let following = self.node.follow(&handle.stream, now, &mut self.post(&handle.home, worker.outbox()));
        let (next, ahead) = {
            let mut post = self.post(&handle.home, worker.outbox());
            let mut machine = handle.stream.lock();
            if handle.stream.take_review() {
                machine.review_interest(now, &mut post);
            }
            (machine.turn(disk, now, &mut post), machine.take_ahead())
        };
        if let Some(work) = ahead {
            self.turns.push_job(Job::ReadAhead(handle.clone(), work));
        }
        worker.publish_items(&self.shared, self.clock.now_ns());
        if following && matches!(next, Next::Idle) { Next::More } else { next }
    }

    /// Sees to what a turn has led to. `more`: it was not through; `slow`: its receivers have enough to read.
    fn end_turn(&self, handle: &Arc<Handle>, more: bool, slow: bool) {
        self.kick();
        self.node.after(&handle.stream);
        let asked = handle.stream.end_turn();
        if more && slow {
            // The timer asks again.
            handle.stream.cancel_turn();
            self.turns.set_timer(handle, Some(Instant::now() + SLOW_RECEIVERS));
            return;
        }
        if asked {
            self.turns.push(handle.clone());
        } else if more {
            self.again(handle);
        }
        self.plan_timer(handle);
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
        while let Some(due) = self.turns.next_due() {
            let handle = match due {
                Due::Timer(handle) => handle,
                Due::Kick => {
                    // Before the kick: who appends after it plans another.
                    self.turns.kick_planned.store(false, Ordering::Release);
                    self.journal.kick();
                    continue;
                }
            };
            if handle.stream.is_deleted() || handle.stream.is_resting() {
                continue;
            }
            let now = self.clock.now_unix_ns();
            self.post_for(&handle.home, |out| handle.stream.lock().on_timer(now, out));
            self.kick();
            self.node.after(&handle.stream);
        }
    }
}
