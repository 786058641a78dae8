//! A connection with an inbox: it asks the API, and reads whatever comes.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::fault::StreamFault;
use super::message::{self, Message, Operation};
use crate::connection::{Address, Connection, ReadBuffer};
use crate::error::BenchError;
use crate::verify::Fault;

/// A blocking connection that has subscribed to everything below its inbox.
pub struct Peer {
    connection: Connection,
    buffer: ReadBuffer,
    inbox: String,
    requests: u64,
    pongs: u64,
}

impl Peer {
    /// Connects and subscribes; `name` is for error texts.
    pub fn open(address: &Address, name: impl Into<String>) -> Result<Self, BenchError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let inbox = format!("_INBOX.bench{:06}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut connection = Connection::open(address, None, name)?;
        connection.send(format!("SUB {inbox}.> 1\r\n").as_bytes())?;
        let mut peer = Self { connection, buffer: ReadBuffer::default(), inbox, requests: 0, pongs: 0 };
        peer.settle()?;
        Ok(peer)
    }

    /// Subscribes to a subject of its own for push consumers and returns it. The reference starts a push consumer for an
    /// exact subscription only, so the inbox would not do.
    pub fn subscribe_push(&mut self) -> Result<String, BenchError> {
        let subject = self.inbox.replacen("_INBOX", "_PUSH", 1);
        self.send(format!("SUB {subject} 2\r\n").as_bytes())?;
        self.settle()?;
        Ok(subject)
    }

    /// Everything below this is delivered here.
    pub fn inbox(&self) -> &str {
        &self.inbox
    }

    /// The connection itself, to be waited for.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Writes all of `bytes`.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        self.connection.send(bytes)
    }

    /// Waits for bytes, reads once, and hands every message to `take`.
    pub fn receive(
        &mut self,
        mut take: impl FnMut(&Message<'_>) -> Result<(), Fault>,
    ) -> Result<(), BenchError> {
        let (mut pings, mut pongs, mut messages) = (0, 0, 0);
        let read = self.connection.receive_with(&mut self.buffer, |bytes| {
            let mut rest = bytes;
            while let Some((operation, length)) = message::operation(rest)? {
                match operation {
                    Operation::Message(message) => {
                        messages += 1;
                        take(&message)?;
                    }
                    Operation::Ping => pings += 1,
                    Operation::Pong => pongs += 1,
                    Operation::Other => {}
                }
                rest = rest.get(length..).unwrap_or_default();
            }
            Ok(bytes.len() - rest.len())
        })?;
        if read == 0 {
            return Err(self.connection.fault(Fault::Lost { due: messages + 1, received: messages }));
        }
        self.pongs += pongs;
        for _ in 0..pings {
            self.connection.send(b"PONG\r\n")?;
        }
        Ok(())
    }

    /// Waits until the server has read all that was sent before; messages that come meanwhile are a fault.
    pub fn settle(&mut self) -> Result<(), BenchError> {
        self.settle_with(|message| Err(StreamFault::Unasked { subject: message.subject.to_owned() }.into()))
    }

    /// Waits until the server has read all that was sent before.
    pub fn settle_with(
        &mut self,
        mut take: impl FnMut(&Message<'_>) -> Result<(), Fault>,
    ) -> Result<(), BenchError> {
        self.send(b"PING\r\n")?;
        let due = self.pongs + 1;
        while self.pongs < due {
            self.receive(&mut take)?;
        }
        Ok(())
    }

    /// Asks the API and waits for its answer, which must not be an error.
    pub fn request(&mut self, subject: &str, payload: &Value) -> Result<Value, BenchError> {
        let body = if payload.is_null() { String::new() } else { payload.to_string() };
        self.requests += 1;
        let reply = format!("{}.api.{}", self.inbox, self.requests);
        self.send(format!("PUB {subject} {reply} {}\r\n{body}\r\n", body.len()).as_bytes())?;
        let mut answer = None;
        while answer.is_none() {
            self.receive(|message| {
                if message.subject != reply {
                    return Err(StreamFault::Unasked { subject: message.subject.to_owned() }.into());
                }
                if let Some(status) = message.status() {
                    let (subject, answer) = (subject.to_owned(), status.to_owned());
                    return Err(StreamFault::Refused { subject, answer }.into());
                }
                answer = serde_json::from_slice::<Value>(message.payload).ok();
                match answer {
                    Some(_) => Ok(()),
                    None => Err(message.unexpected("JSON").into()),
                }
            })?;
        }
        let answer = answer.unwrap_or_default();
        match answer.get("error") {
            None => Ok(answer),
            Some(error) => {
                let (subject, answer) = (subject.to_owned(), error.to_string());
                Err(self.fault(StreamFault::Refused { subject, answer }))
            }
        }
    }

    /// `fault` with the name of this connection.
    pub fn fault(&self, fault: impl Into<Fault>) -> BenchError {
        self.connection.fault(fault.into())
    }
}
