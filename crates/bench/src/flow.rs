//! Publishers at full speed and those who receive from them.
//!
//! Each thread of the generator runs one loop over its connections: every publisher writes at most one batch, every
//! connection with something to read is read once, and when nothing is left to do the thread sleeps in epoll. A
//! publisher keeps at most [`WINDOW_BYTES`] undelivered; it learns what was delivered from counters that the receivers
//! of the same process raise, so the window costs no message.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::connection::{Address, Connection, Inflow, Login, ReadBuffer};
use crate::error::BenchError;
use crate::frame::{Batch, Subjects};
use crate::ledger::Ledger;
use crate::verify::{Fault, Verifier};

/// What a publisher may have undelivered, as bytes of frames.
pub const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// What all publishers together may have undelivered; with many of them each gets a share.
const WINDOW_BYTES_ALL: usize = 8 * WINDOW_BYTES;
/// When nothing at all moves for this long, what is missing counts as lost. Longer than a server may hold a publisher
/// back for the sake of a slow reader, 10 s.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a thread sleeps when it waits for its own connections only, and for other threads too.
const SLEEP_MS_ALONE: u8 = 100;
const SLEEP_MS_TOGETHER: u8 = 1;
const EVENTS: usize = 64;

/// One publisher and its receivers.
#[derive(Debug, Clone)]
pub struct FlowPlan {
    /// Where messages go.
    pub subjects: Subjects,
    /// What each receiver subscribes to.
    pub subscription: String,
    /// How many receivers there are; without any, the run ends with PING and PONG.
    pub receivers: usize,
    /// The queue group of all receivers, if they are one.
    pub queue: Option<&'static str>,
    /// As whom publisher and receivers log in.
    pub login: Option<Login>,
    /// As whom each receiver logs in instead, if they are of other accounts.
    pub receiver_logins: Vec<Login>,
    /// What messages are called when they arrive, if it is not what they were published as.
    pub arriving: Option<Subjects>,
}

impl FlowPlan {
    /// From one publisher to `receivers` on one subject, each getting all messages.
    pub fn fan_out(subject: &str, receivers: usize) -> Self {
        Self {
            subjects: Subjects::one(subject),
            subscription: subject.to_owned(),
            receivers,
            queue: None,
            login: None,
            receiver_logins: Vec::new(),
            arriving: None,
        }
    }
}

/// Open connections of all flows of a plan.
pub struct Flows {
    progress: Vec<Progress>,
    workers: Vec<Worker>,
}

/// What was counted in one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Messages published.
    pub published: u64,
    /// Messages delivered to all receivers together.
    pub delivered: u64,
}

/// How far one flow is; shared between the threads of its connections.
struct Progress {
    /// Messages handed to the publisher's socket.
    sent: AtomicU64,
    /// Set when the publisher has written all it will write in this phase.
    complete: AtomicBool,
    /// Messages received, for each receiver; a queue group counts as one.
    received: Vec<AtomicU64>,
    /// The union of a queue group.
    ledger: Option<Mutex<Ledger>>,
}

impl Flows {
    /// Connects everybody and waits until all subscriptions are in place. Connections are dealt out to `threads`, the
    /// receivers of a publisher to other threads than the publisher's where there are any.
    pub fn open(
        address: &Address,
        plans: &[FlowPlan],
        payload_bytes: usize,
        threads: usize,
    ) -> Result<Self, BenchError> {
        let threads = threads.max(1);
        let mut workers = (0..threads).map(|_| Worker::new(threads > 1)).collect::<Result<Vec<_>, _>>()?;
        let mut progress = Vec::new();
        let window_bytes = WINDOW_BYTES.min(WINDOW_BYTES_ALL / plans.len().max(1));
        for (flow, plan) in plans.iter().enumerate() {
            let publisher = flow as u32;
            let counters = if plan.queue.is_some() { 1 } else { plan.receivers };
            progress.push(Progress {
                sent: AtomicU64::new(0),
                complete: AtomicBool::new(false),
                received: (0..counters).map(|_| AtomicU64::new(0)).collect(),
                ledger: plan.queue.map(|_| Mutex::default()),
            });
            for index in 0..plan.receivers {
                let receiver = Receiver::open(address, plan, flow, index, payload_bytes)?;
                if let Some(worker) = workers.get_mut((flow + index + 1) % threads) {
                    worker.add_receiver(receiver)?;
                }
            }
            let name = format!("publisher {flow}");
            let sender = Sender {
                flow,
                connection: Connection::open(address, plan.login.as_ref(), name)?,
                verifier: Verifier::without_messages(),
                batch: Batch::new(publisher, &plan.subjects, payload_bytes),
                next_sequence: 0,
                unwritten: 0,
                window_bytes,
                control: Vec::new(),
                unflushed: false,
                full: false,
                readable: false,
                awaited_pongs: 0,
                state: SenderState::Complete,
            };
            if let Some(worker) = workers.get_mut(flow % threads) {
                worker.add_sender(sender)?;
            }
        }
        Ok(Self { progress, workers })
    }

    /// Publishes for `duration`, then waits until everything has arrived.
    pub fn run(&mut self, duration: Duration) -> Result<Counts, BenchError> {
        let before = self.counts();
        let deadline = Instant::now() + duration;
        for progress in &self.progress {
            progress.complete.store(false, Ordering::SeqCst);
        }
        let failed = AtomicBool::new(false);
        let (progress, failed) = (&self.progress, &failed);
        match self.workers.as_mut_slice() {
            [only] => only.run(progress, deadline, failed)?,
            workers => thread::scope(|scope| {
                let threads: Vec<_> = workers
                    .iter_mut()
                    .map(|worker| {
                        scope.spawn(move || {
                            let result = worker.run(progress, deadline, failed);
                            if result.is_err() {
                                failed.store(true, Ordering::SeqCst);
                            }
                            result
                        })
                    })
                    .collect();
                let panicked = || Err(BenchError::Server("a thread of the generator panicked".to_owned()));
                // All are joined before the first error counts.
                let results: Vec<_> =
                    threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect();
                results.into_iter().collect::<Result<(), BenchError>>()
            })?,
        }
        let after = self.counts();
        Ok(Counts {
            published: after.published - before.published,
            delivered: after.delivered - before.delivered,
        })
    }

    fn counts(&self) -> Counts {
        let published = self.progress.iter().map(|flow| flow.sent.load(Ordering::SeqCst)).sum();
        let received = self.progress.iter().flat_map(|flow| &flow.received);
        Counts { published, delivered: received.map(|count| count.load(Ordering::SeqCst)).sum() }
    }

    /// Makes sure that nothing came beyond what was sent, after a PING and PONG on every receiving connection.
    pub fn finish(self) -> Result<(), BenchError> {
        let mut buffer = ReadBuffer::default();
        for mut receiver in self.workers.into_iter().flat_map(|worker| worker.receivers) {
            receiver.connection.set_nonblocking(false)?;
            let received = receiver.verifier.received;
            receiver.connection.settle(&mut receiver.verifier, &mut buffer)?;
            if receiver.verifier.received != received {
                let fault = Fault::Surplus { due: received, received: receiver.verifier.received };
                return Err(receiver.connection.fault(fault));
            }
        }
        for (flow, progress) in self.progress.iter().enumerate() {
            let sent = progress.sent.load(Ordering::SeqCst);
            if let Some(ledger) = &progress.ledger {
                let open = ledger.lock().unwrap_or_else(PoisonError::into_inner).first_open();
                if open != sent {
                    let fault = Fault::Lost { due: sent, received: open };
                    return Err(BenchError::check(format!("queue group {flow}"), fault));
                }
            }
        }
        Ok(())
    }
}

impl Progress {
    /// What the slowest receiver has received; everything, if there are no receivers.
    fn delivered(&self) -> u64 {
        let received = self.received.iter().map(|count| count.load(Ordering::Acquire)).min();
        received.unwrap_or_else(|| self.sent.load(Ordering::Relaxed))
    }

    fn is_delivered(&self) -> bool {
        self.complete.load(Ordering::Acquire) && self.delivered() == self.sent.load(Ordering::Acquire)
    }
}

/// One thread's connections.
struct Worker {
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    epoll: Epoll,
    buffer: ReadBuffer,
    has_others: bool,
}

/// In the data of an event, marks the index of a receiver.
const RECEIVER: u64 = 1 << 32;

impl Worker {
    fn new(has_others: bool) -> Result<Self, BenchError> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|source| BenchError::system("create an epoll", source))?;
        Ok(Self {
            senders: Vec::new(),
            receivers: Vec::new(),
            epoll,
            buffer: ReadBuffer::default(),
            has_others,
        })
    }

    fn add_sender(&mut self, mut sender: Sender) -> Result<(), BenchError> {
        sender.connection.set_nonblocking(true)?;
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.watch(&sender.connection, flags, self.senders.len() as u64)?;
        // What came before the watch began gives no event.
        sender.readable = true;
        self.senders.push(sender);
        Ok(())
    }

    fn add_receiver(&mut self, mut receiver: Receiver) -> Result<(), BenchError> {
        receiver.connection.set_nonblocking(true)?;
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        self.watch(&receiver.connection, flags, RECEIVER | self.receivers.len() as u64)?;
        receiver.readable = true;
        self.receivers.push(receiver);
        Ok(())
    }

    fn watch(&self, connection: &Connection, flags: EpollFlags, data: u64) -> Result<(), BenchError> {
        self.epoll
            .add(connection.descriptor(), EpollEvent::new(flags, data))
            .map_err(|source| BenchError::system(format!("watch {}", connection.name()), source))
    }

    fn run(
        &mut self,
        progress: &[Progress],
        deadline: Instant,
        failed: &AtomicBool,
    ) -> Result<(), BenchError> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut last_move = Instant::now();
        for sender in &mut self.senders {
            sender.state = SenderState::Publishing;
        }
        while !failed.load(Ordering::Relaxed) {
            let now = Instant::now();
            let mut moved = false;
            for sender in &mut self.senders {
                if let Some(flow) = progress.get(sender.flow) {
                    moved |= sender.turn(now >= deadline, flow, &mut self.buffer)?;
                }
            }
            for receiver in &mut self.receivers {
                if let Some(flow) = progress.get(receiver.flow) {
                    moved |= receiver.turn(flow, &mut self.buffer)?;
                }
            }
            if now >= deadline && self.is_finished(progress) {
                return Ok(());
            }
            if moved {
                last_move = now;
            } else if now - last_move > STALL_TIMEOUT {
                return Err(self.stalled(progress));
            }
            let timeout = match (moved, self.has_others) {
                (true, _) => EpollTimeout::ZERO,
                (false, true) => EpollTimeout::from(SLEEP_MS_TOGETHER),
                (false, false) => EpollTimeout::from(SLEEP_MS_ALONE),
            };
            self.collect_events(&mut events, timeout)?;
        }
        Ok(())
    }

    fn collect_events(&mut self, events: &mut [EpollEvent], timeout: EpollTimeout) -> Result<(), BenchError> {
        let count = match self.epoll.wait(events, timeout) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(source) => return Err(BenchError::system("wait for connections", source)),
        };
        for event in events.iter().take(count) {
            let data = event.data();
            let index = (data & (RECEIVER - 1)) as usize;
            let readable =
                event.events().intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
            if data & RECEIVER != 0 {
                if let Some(receiver) = self.receivers.get_mut(index) {
                    receiver.readable |= readable;
                }
            } else if let Some(sender) = self.senders.get_mut(index) {
                sender.readable |= readable;
                sender.full &= !event.events().contains(EpollFlags::EPOLLOUT);
            }
        }
        Ok(())
    }

    fn is_finished(&self, progress: &[Progress]) -> bool {
        self.senders.iter().all(|sender| sender.state == SenderState::Complete)
            && self
                .receivers
                .iter()
                .all(|receiver| progress.get(receiver.flow).is_some_and(Progress::is_delivered))
    }

    /// Names the first connection that still waits.
    fn stalled(&self, progress: &[Progress]) -> BenchError {
        for receiver in &self.receivers {
            if let Some(flow) = progress.get(receiver.flow).filter(|flow| !flow.is_delivered()) {
                let due = flow.sent.load(Ordering::SeqCst);
                let received = match flow.received.get(receiver.counter) {
                    Some(count) => count.load(Ordering::SeqCst),
                    None => receiver.verifier.received,
                };
                if received < due {
                    return receiver.connection.fault(Fault::Lost { due, received });
                }
            }
        }
        BenchError::Server(format!("nothing moved for {} s", STALL_TIMEOUT.as_secs()))
    }
}

/// The publishing connection of a flow.
struct Sender {
    flow: usize,
    connection: Connection,
    verifier: Verifier,
    batch: Batch,
    next_sequence: u64,
    /// Bytes at the end of the batch that are not written yet.
    unwritten: usize,
    window_bytes: usize,
    /// PING and PONG to be written between two batches.
    control: Vec<u8>,
    /// TLS may hold something back.
    unflushed: bool,
    /// The socket takes nothing until it reports room.
    full: bool,
    readable: bool,
    awaited_pongs: u64,
    state: SenderState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SenderState {
    /// Writes batches.
    Publishing,
    /// Has written all, and waits for the server to say that it has read all.
    AwaitingPong,
    /// Has nothing to do until the next phase.
    Complete,
}

impl Sender {
    /// Writes at most one batch and reads at most once; says whether anything moved.
    fn turn(&mut self, ended: bool, flow: &Progress, buffer: &mut ReadBuffer) -> Result<bool, BenchError> {
        let mut moved = false;
        if self.readable {
            moved = true;
            self.readable = self.connection.receive(&mut self.verifier, None, buffer)? == Inflow::More;
            for _ in 0..std::mem::take(&mut self.verifier.pings) {
                self.control.extend_from_slice(b"PONG\r\n");
            }
        }
        if self.state == SenderState::AwaitingPong && self.verifier.pongs >= self.awaited_pongs {
            self.complete(flow);
        }
        if !self.full {
            moved |= self.write_turn(ended, flow)?;
        }
        Ok(moved)
    }

    fn write_turn(&mut self, ended: bool, flow: &Progress) -> Result<bool, BenchError> {
        if self.unwritten == 0 && !self.control.is_empty() {
            let written = self.connection.write_some(&self.control)?;
            self.control.drain(..written);
            (self.full, self.unflushed) = (written == 0, true);
            return Ok(true);
        }
        if self.unwritten == 0 && self.state == SenderState::Publishing {
            if ended {
                return self.end_phase(flow);
            }
            self.begin_batch(flow);
        }
        if self.unwritten > 0 {
            let bytes = self.batch.bytes();
            let rest = bytes.get(bytes.len() - self.unwritten..).unwrap_or_default();
            let written = self.connection.write_some(rest)?;
            self.unwritten -= written;
            (self.full, self.unflushed) = (written == 0, true);
            return Ok(written > 0);
        }
        if self.unflushed {
            self.unflushed = !self.connection.flush_some()?;
            self.full = self.unflushed;
        }
        Ok(false)
    }

    /// Starts the next batch if the window has room for all of it.
    fn begin_batch(&mut self, flow: &Progress) {
        let open = self.next_sequence - flow.delivered() + self.batch.messages();
        // A window smaller than a batch would never open.
        if open as usize * self.batch.frame_bytes() <= self.window_bytes || open == self.batch.messages() {
            self.batch.number_from(self.next_sequence);
            self.next_sequence += self.batch.messages();
            self.unwritten = self.batch.bytes().len();
            flow.sent.store(self.next_sequence, Ordering::Release);
        }
    }

    fn end_phase(&mut self, flow: &Progress) -> Result<bool, BenchError> {
        if flow.received.is_empty() {
            self.control.extend_from_slice(b"PING\r\n");
            self.awaited_pongs = self.verifier.pongs + 1;
            self.state = SenderState::AwaitingPong;
            return Ok(true);
        }
        if self.unflushed {
            self.unflushed = !self.connection.flush_some()?;
            self.full = self.unflushed;
        }
        if !self.unflushed {
            self.complete(flow);
        }
        Ok(!self.unflushed)
    }

    fn complete(&mut self, flow: &Progress) {
        self.state = SenderState::Complete;
        flow.complete.store(true, Ordering::Release);
    }
}

/// A receiving connection of a flow.
struct Receiver {
    flow: usize,
    /// Which counter of the flow it raises.
    counter: usize,
    connection: Connection,
    verifier: Verifier,
    readable: bool,
}

impl Receiver {
    fn open(
        address: &Address,
        plan: &FlowPlan,
        flow: usize,
        index: usize,
        payload_bytes: usize,
    ) -> Result<Self, BenchError> {
        const SID: &str = "1";
        let name = format!("receiver {index} of publisher {flow}");
        let login = plan.receiver_logins.get(index).or(plan.login.as_ref());
        let mut connection = Connection::open(address, login, name)?;
        let (publisher, subjects) = (flow as u32, plan.arriving.as_ref().unwrap_or(&plan.subjects));
        let (subscribe, mut verifier) = match plan.queue {
            Some(queue) => (
                format!("SUB {} {queue} {SID}\r\n", plan.subscription),
                Verifier::some_messages(publisher, subjects, SID, payload_bytes),
            ),
            None => (
                format!("SUB {} {SID}\r\n", plan.subscription),
                Verifier::every_message(publisher, subjects, SID, payload_bytes),
            ),
        };
        connection.send(subscribe.as_bytes())?;
        connection.settle(&mut verifier, &mut ReadBuffer::default())?;
        let counter = if plan.queue.is_some() { 0 } else { index };
        Ok(Self { flow, counter, connection, verifier, readable: false })
    }

    /// Reads at most once; says whether there was anything to read.
    fn turn(&mut self, flow: &Progress, buffer: &mut ReadBuffer) -> Result<bool, BenchError> {
        if !self.readable {
            return Ok(false);
        }
        let before = self.verifier.received;
        let inflow = match &flow.ledger {
            None => self.connection.receive(&mut self.verifier, None, buffer)?,
            Some(ledger) => {
                let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                self.connection.receive(&mut self.verifier, Some(&mut ledger), buffer)?
            }
        };
        self.readable = inflow == Inflow::More;
        let received = self.verifier.received - before;
        if let Some(count) = flow.received.get(self.counter).filter(|_| received > 0) {
            count.fetch_add(received, Ordering::Release);
        }
        // A receiver has written nothing but this for a long time: the socket has room.
        for _ in 0..std::mem::take(&mut self.verifier.pings) {
            self.connection.write_some(b"PONG\r\n")?;
            self.connection.flush_some()?;
        }
        Ok(true)
    }
}
