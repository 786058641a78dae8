//! One request in flight: a requester, a responder, and the time between question and answer.
//!
//! Both ends are connections of one thread, which always waits for the one message that is under way. No other thread
//! has to be woken, so the time is that of the server and the sockets.

use std::time::{Duration, Instant};

use crate::connection::{Address, Connection, ReadBuffer};
use crate::error::BenchError;
use crate::frame::{Batch, Subjects};
use crate::percentile::Latencies;
use crate::verify::Verifier;

const SERVICE: &str = "bench.service";
const REQUESTER: u32 = 1000;
const RESPONDER: u32 = 1001;
/// Subscription of the responder.
const SERVICE_SID: &str = "1";

/// Where replies go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbox {
    /// To one subject, subscribed once.
    Kept,
    /// To a new subject for each request, subscribed before and unsubscribed after it.
    Fresh,
}

/// A requester and a responder.
pub struct Exchange {
    requester: Connection,
    responder: Connection,
    request: Batch,
    reply: Batch,
    requests: Verifier,
    replies: Verifier,
    inbox: Inbox,
    sequence: u64,
    buffer: ReadBuffer,
}

impl Exchange {
    /// Connects both and subscribes.
    pub fn open(address: &Address, payload_bytes: usize, inbox: Inbox) -> Result<Self, BenchError> {
        let service = Subjects::one(SERVICE);
        let first_inbox = inbox_name(0);
        let inbox_subject = Subjects::one(first_inbox.as_str());
        let mut exchange = Self {
            requester: Connection::open(address, None, "requester")?,
            responder: Connection::open(address, None, "responder")?,
            request: Batch::single(REQUESTER, &service, Some(&first_inbox), payload_bytes),
            reply: Batch::single(RESPONDER, &inbox_subject, None, payload_bytes),
            requests: Verifier::every_message(REQUESTER, &service, SERVICE_SID, payload_bytes),
            replies: Verifier::every_message(RESPONDER, &inbox_subject, "0", payload_bytes),
            inbox,
            sequence: 0,
            buffer: ReadBuffer::default(),
        };
        exchange.requests.expect_head(SERVICE, SERVICE_SID, Some(&first_inbox));
        exchange.responder.send(format!("SUB {SERVICE} {SERVICE_SID}\r\n").as_bytes())?;
        exchange.responder.settle(&mut exchange.requests, &mut exchange.buffer)?;
        if inbox == Inbox::Kept {
            exchange.requester.send(format!("SUB {first_inbox} 0\r\n").as_bytes())?;
            exchange.requester.settle(&mut exchange.replies, &mut exchange.buffer)?;
        }
        Ok(exchange)
    }

    /// Asks and answers until `deadline`.
    pub fn run_until(&mut self, deadline: Instant) -> Result<Latencies, BenchError> {
        let mut latencies = Latencies::default();
        while Instant::now() < deadline {
            let latency = match self.inbox {
                Inbox::Kept => self.exchange_kept()?,
                Inbox::Fresh => self.exchange_fresh()?,
            };
            latencies.record(latency);
        }
        Ok(latencies)
    }

    fn exchange_kept(&mut self) -> Result<Duration, BenchError> {
        self.request.number_from(self.sequence);
        let start = Instant::now();
        self.requester.send(self.request.bytes())?;
        self.answer()?;
        Ok(start.elapsed())
    }

    fn exchange_fresh(&mut self) -> Result<Duration, BenchError> {
        let sid = self.sequence;
        let inbox = inbox_name(sid);
        self.request.number_from(self.sequence);
        self.request.redirect(SERVICE, Some(&inbox));
        self.reply.redirect(&inbox, None);
        self.requests.expect_head(SERVICE, SERVICE_SID, Some(&inbox));
        self.replies.expect_head(&inbox, &sid.to_string(), None);
        let mut bytes = format!("SUB {inbox} {sid}\r\n").into_bytes();
        bytes.extend_from_slice(self.request.bytes());
        let start = Instant::now();
        self.requester.send(&bytes)?;
        self.answer()?;
        let latency = start.elapsed();
        self.requester.send(format!("UNSUB {sid}\r\n").as_bytes())?;
        Ok(latency)
    }

    /// Lets the request arrive, answers it, and lets the answer arrive.
    fn answer(&mut self) -> Result<(), BenchError> {
        let arrived = self.sequence + 1;
        self.responder
            .receive_until(&mut self.requests, &mut self.buffer, |messages| messages.received >= arrived)?;
        self.reply.number_from(self.sequence);
        self.responder.send(self.reply.bytes())?;
        self.requester
            .receive_until(&mut self.replies, &mut self.buffer, |messages| messages.received >= arrived)?;
        self.sequence = arrived;
        Ok(())
    }

    /// Makes sure that nothing came beyond the answers.
    pub fn finish(mut self) -> Result<(), BenchError> {
        self.responder.settle(&mut self.requests, &mut self.buffer)?;
        self.requester.settle(&mut self.replies, &mut self.buffer)
    }
}

/// All names are equally long.
fn inbox_name(number: u64) -> String {
    format!("_INBOX.bench.{number:012}")
}
