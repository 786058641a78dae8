//! A flow at a fixed rate, and how long each message takes.
//!
//! The next message is due at a fixed time whether or not earlier ones have arrived, so a server that stalls does not
//! slow the flow down, unless more than [`WINDOW_BYTES`] are undelivered. When the generator itself wakes late, all messages that are due go out in one write. The time of
//! a message begins with its write: a late generator is not the server's fault.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl::set_timerslack;
use nix::sys::time::TimeSpec;

use crate::connection::{Address, Connection, Inflow, ReadBuffer};
use crate::error::BenchError;
use crate::flow::WINDOW_BYTES;
use crate::frame::{Batch, Subjects};
use crate::percentile::Latencies;
use crate::verify::{Fault, Verifier};

const SUBJECT: &str = "bench.paced";
/// Messages written at once after a late wake-up; the rest follows in the next write.
const BURST_MESSAGES_MAX: usize = 256;
/// How long the last messages of a phase may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A publisher and a receiver with a fixed rate between them.
pub struct PacedFlow {
    publisher: Connection,
    receiver: Connection,
    frame: Batch,
    verifier: Verifier,
    control: Verifier,
    interval: Duration,
    /// When each message that has not arrived yet was written.
    under_way: VecDeque<Instant>,
    /// How many may be under way: with more, writing could block a server that waits for this thread to read.
    under_way_max: usize,
    sent: u64,
    buffer: ReadBuffer,
}

impl PacedFlow {
    /// Connects both; `rate` is in messages per second.
    pub fn open(address: &Address, payload_bytes: usize, rate: u32) -> Result<Self, BenchError> {
        let subjects = Subjects::one(SUBJECT);
        let frame = Batch::single(0, &subjects, None, payload_bytes);
        let under_way_max = (WINDOW_BYTES / frame.frame_bytes()).max(1);
        let mut flow = Self {
            publisher: Connection::open(address, None, "publisher")?,
            receiver: Connection::open(address, None, "receiver")?,
            frame,
            verifier: Verifier::every_message(0, &subjects, "1", payload_bytes),
            control: Verifier::without_messages(),
            interval: Duration::from_secs(1) / rate.max(1),
            under_way: VecDeque::new(),
            under_way_max,
            sent: 0,
            buffer: ReadBuffer::default(),
        };
        flow.receiver.send(format!("SUB {SUBJECT} 1\r\n").as_bytes())?;
        flow.receiver.settle(&mut flow.verifier, &mut flow.buffer)?;
        flow.receiver.set_nonblocking(true)?;
        Ok(flow)
    }

    /// Sends for `duration` and waits for the last message. Returns the latencies, one for each message.
    pub fn run(&mut self, duration: Duration) -> Result<Latencies, BenchError> {
        // By default Linux may delay a wake-up by 50 us to join it with others: as long as what is measured.
        set_timerslack(1).map_err(|source| BenchError::system("ask for exact timers", source))?;
        let mut latencies = Latencies::default();
        let start = Instant::now();
        let (deadline, mut due) = (start + duration, start);
        let mut bytes = Vec::new();
        loop {
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            bytes.clear();
            let before = self.sent;
            let room = (self.under_way_max - self.under_way.len()).min(BURST_MESSAGES_MAX);
            while due <= now && self.sent - before < room as u64 {
                self.frame.number_from(self.sent);
                bytes.extend_from_slice(self.frame.bytes());
                due += self.interval;
                self.sent += 1;
            }
            if !bytes.is_empty() {
                let now = Instant::now();
                self.under_way.extend((before..self.sent).map(|_| now));
                self.publisher.send(&bytes)?;
            }
            // With a full window only an arrival helps.
            let has_room = self.under_way.len() < self.under_way_max;
            let until = if has_room { due.min(deadline) } else { deadline };
            self.wait(until.saturating_duration_since(Instant::now()))?;
            self.receive(&mut latencies)?;
        }
        let drain_deadline = Instant::now() + DRAIN_TIMEOUT;
        while self.verifier.received < self.sent {
            if Instant::now() > drain_deadline {
                let fault = Fault::Lost { due: self.sent, received: self.verifier.received };
                return Err(self.receiver.fault(fault));
            }
            self.wait(Duration::from_millis(100))?;
            self.receive(&mut latencies)?;
        }
        // Answers a PING of the server, if there was one.
        self.publisher.settle(&mut self.control, &mut self.buffer)?;
        Ok(latencies)
    }

    /// Makes sure that nothing came beyond what was sent.
    pub fn finish(mut self) -> Result<(), BenchError> {
        self.receiver.set_nonblocking(false)?;
        self.receiver.settle(&mut self.verifier, &mut self.buffer)
    }

    /// Sleeps until something arrives, at most `timeout`.
    fn wait(&mut self, timeout: Duration) -> Result<(), BenchError> {
        let mut descriptors = [PollFd::new(self.receiver.descriptor(), PollFlags::POLLIN)];
        match ppoll(&mut descriptors, Some(TimeSpec::from_duration(timeout)), None) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(source) => Err(BenchError::system("wait for messages", source)),
        }
    }

    fn receive(&mut self, latencies: &mut Latencies) -> Result<(), BenchError> {
        loop {
            let first = self.verifier.received;
            let inflow = self.receiver.receive(&mut self.verifier, None, &mut self.buffer)?;
            let now = Instant::now();
            let arrived = (self.verifier.received - first) as usize;
            for written in self.under_way.drain(..arrived.min(self.under_way.len())) {
                latencies.record(now.saturating_duration_since(written));
            }
            for _ in 0..std::mem::take(&mut self.verifier.pings) {
                self.receiver.write_some(b"PONG\r\n")?;
                self.receiver.flush_some()?;
            }
            if inflow == Inflow::Drained {
                return Ok(());
            }
        }
    }
}
