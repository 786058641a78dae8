//! Requests that are answered one by one, with a bounded number under way.
//!
//! Each request carries its number in its reply subject, so each answer is matched exactly, whatever the order. A
//! single connection is served by blocking reads: with one request under way nothing but the server and the sockets is
//! in the measured time. Several connections are waited for together.

use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::fault::StreamFault;
use super::message::Message;
use super::peer::Peer;
use crate::connection::Address;
use crate::error::BenchError;
use crate::frame::Subjects;
use crate::payload;
use crate::percentile::Latencies;
use crate::verify::Fault;

/// Written at once at most, so that answers begin while later requests are still being built.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Digits of a request's number.
const NUMBER_DIGITS: usize = 12;
/// Answers that may arrive between two waits.
const EVENTS: usize = 64;
/// When no connection has an answer for this long, they count as lost.
const STALL_TIMEOUT_MS: u16 = 30_000;

/// What the requests of one connection say.
pub struct Frames {
    subjects: Vec<String>,
    /// With the pattern filled in; empty for requests without payload.
    blank: Vec<u8>,
    publisher: u32,
}

impl Frames {
    /// Request `n` goes to subject `n % count` and carries message `n` of `publisher`.
    pub fn messages(subjects: &Subjects, publisher: u32, payload_bytes: usize) -> Self {
        Self { subjects: subjects.names().to_vec(), blank: payload::blank(payload_bytes), publisher }
    }

    /// Request `n` goes to subject `n % count` and carries nothing.
    pub fn empty(subjects: &Subjects) -> Self {
        Self { subjects: subjects.names().to_vec(), blank: Vec::new(), publisher: 0 }
    }

    fn append(&self, out: &mut Vec<u8>, inbox: &str, number: u64) {
        let turn = number.checked_rem(self.subjects.len() as u64).unwrap_or_default();
        let subject = self.subjects.get(turn as usize).map(String::as_str).unwrap_or_default();
        out.extend_from_slice(b"PUB ");
        out.extend_from_slice(subject.as_bytes());
        out.push(b' ');
        out.extend_from_slice(inbox.as_bytes());
        out.push(b'.');
        out.extend_from_slice(&digits(number));
        out.push(b' ');
        let size = digits(self.blank.len() as u64);
        let zeros = size.iter().take(NUMBER_DIGITS - 1).take_while(|digit| **digit == b'0').count();
        out.extend_from_slice(size.get(zeros..).unwrap_or_default());
        out.extend_from_slice(b"\r\n");
        let start = out.len();
        out.extend_from_slice(&self.blank);
        if let Some(place) = out.get_mut(start..).filter(|place| !place.is_empty()) {
            payload::stamp(place, self.publisher, number);
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn digits(mut number: u64) -> [u8; NUMBER_DIGITS] {
    let mut digits = [b'0'; NUMBER_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// One connection and its requests under way.
pub struct Windowed {
    peer: Peer,
    frames: Frames,
    /// `{inbox}.n`; numbers are below it.
    replies: String,
    /// The number of the next request.
    next: u64,
    /// Every request below is answered; `next - first_open <= window`.
    first_open: u64,
    /// When request `n` was written, at `n % window`; `None` once it is answered.
    written: Vec<Option<Instant>>,
    out: Vec<u8>,
}

impl Windowed {
    /// Connects; `in_flight` is the window.
    pub fn open(
        address: &Address,
        name: impl Into<String>,
        frames: Frames,
        in_flight: usize,
    ) -> Result<Self, BenchError> {
        let peer = Peer::open(address, name)?;
        let replies = format!("{}.n", peer.inbox());
        let written = vec![None; in_flight.max(1)];
        Ok(Self { peer, frames, replies, next: 0, first_open: 0, written, out: Vec::new() })
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.first_open
    }

    /// The connection, while nothing is under way.
    pub fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }

    fn is_idle(&self) -> bool {
        self.first_open == self.next
    }

    /// Writes what the window has room for, up to the request `end`.
    fn write(&mut self, end: u64) -> Result<(), BenchError> {
        let end = end.min(self.first_open + self.written.len() as u64);
        while self.next < end {
            self.out.clear();
            let from = self.next;
            while self.next < end && self.out.len() < WRITE_BYTES_MAX {
                self.frames.append(&mut self.out, &self.replies, self.next);
                self.next += 1;
            }
            let now = Instant::now();
            for number in from..self.next {
                if let Some(slot) = slot(&mut self.written, number) {
                    *slot = Some(now);
                }
            }
            self.peer.send(&self.out)?;
        }
        Ok(())
    }

    /// Reads once and passes every answer to `judge`.
    fn read(
        &mut self,
        latencies: &mut Latencies,
        mut judge: impl FnMut(u64, &Message<'_>) -> Result<(), Fault>,
    ) -> Result<(), BenchError> {
        let (replies, next, first_open, written) =
            (&self.replies, self.next, &mut self.first_open, &mut self.written);
        let mut now = None;
        self.peer.receive(|message| {
            let now = *now.get_or_insert_with(Instant::now);
            let number = message
                .subject
                .strip_prefix(replies.as_str())
                .and_then(|rest| rest.strip_prefix('.'))
                .and_then(|number| number.parse::<u64>().ok())
                .filter(|number| (*first_open..next).contains(number));
            let open = number.and_then(|number| Some((number, slot(written, number)?.take()?)));
            let Some((number, written_at)) = open else {
                return Err(StreamFault::Unasked { subject: message.subject.to_owned() }.into());
            };
            judge(number, message)?;
            latencies.record(now.saturating_duration_since(written_at));
            while *first_open < next && slot(written, *first_open).is_some_and(|slot| slot.is_none()) {
                *first_open += 1;
            }
            Ok(())
        })
    }
}

fn slot(written: &mut [Option<Instant>], number: u64) -> Option<&mut Option<Instant>> {
    let index = number.checked_rem(written.len() as u64)?;
    written.get_mut(index as usize)
}

/// When no more requests are written.
#[derive(Debug, Clone, Copy)]
pub struct Until {
    /// From then on.
    pub deadline: Option<Instant>,
    /// From that number on, on each connection.
    pub number: u64,
}

impl Until {
    /// The number before which requests are written now.
    fn end(self) -> u64 {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => 0,
            _ => self.number,
        }
    }
}

/// Requests on all connections, until everything is answered. `judge` gets the connection, the number, and the answer.
pub fn run(
    connections: &mut [Windowed],
    until: Until,
    mut judge: impl FnMut(usize, u64, &Message<'_>) -> Result<(), Fault>,
) -> Result<Latencies, BenchError> {
    let mut latencies = Latencies::default();
    if let [only] = connections {
        only.write(until.end())?;
        while !only.is_idle() {
            only.read(&mut latencies, |number, message| judge(0, number, message))?;
            only.write(until.end())?;
        }
        return Ok(latencies);
    }
    let epoll = watch(connections)?;
    for connection in connections.iter_mut() {
        connection.write(until.end())?;
    }
    let mut events = [EpollEvent::empty(); EVENTS];
    while connections.iter().any(|connection| !connection.is_idle()) {
        let count = match epoll.wait(&mut events, EpollTimeout::from(STALL_TIMEOUT_MS)) {
            Ok(0) => return Err(stalled(connections)),
            Ok(count) => count,
            Err(nix::Error::EINTR) => continue,
            Err(source) => return Err(BenchError::system("wait for connections", source)),
        };
        for event in events.iter().take(count) {
            let index = event.data() as usize;
            if let Some(connection) = connections.get_mut(index) {
                connection.read(&mut latencies, |number, message| judge(index, number, message))?;
                connection.write(until.end())?;
            }
        }
    }
    Ok(latencies)
}

fn watch(connections: &[Windowed]) -> Result<Epoll, BenchError> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
        .map_err(|source| BenchError::system("create an epoll", source))?;
    for (index, connection) in connections.iter().enumerate() {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        epoll
            .add(connection.peer.connection().descriptor(), event)
            .map_err(|source| BenchError::system("watch a connection", source))?;
    }
    Ok(epoll)
}

/// Names the first connection that still waits.
fn stalled(connections: &[Windowed]) -> BenchError {
    match connections.iter().find(|connection| !connection.is_idle()) {
        Some(waiting) => waiting.peer.fault(Fault::Lost { due: waiting.next, received: waiting.first_open }),
        None => BenchError::Server("nothing moved for a long time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        let frames = Frames::messages(&Subjects::cycle(2, |index| format!("s.{index}")), 3, 16);
        let mut out = Vec::new();
        frames.append(&mut out, "in.n", 41);
        assert_eq!(out[..29], *b"PUB s.1 in.n.000000000041 16\r");
        let mut payload = payload::blank(16);
        payload::stamp(&mut payload, 3, 41);
        assert_eq!(out[30..46], payload[..]);
        assert_eq!(out[46..], *b"\r\n");
        out.clear();
        Frames::empty(&Subjects::one("get.me")).append(&mut out, "in.n", 0);
        assert_eq!(out, *b"PUB get.me in.n.000000000000 0\r\n\r\n");
    }
}
