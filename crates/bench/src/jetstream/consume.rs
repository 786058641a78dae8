//! Reading a stream to its end, every message once and in order.
//!
//! The stream is filled before; a run is new consumers that read all of it, one after the other. The timed part ends when
//! the last message has come and, with acknowledgements, when the server says that all of them have been counted.

use serde_json::{Value, json};

use super::delivery::Delivered;
use super::fault::{StreamFault, expect_number};
use super::message::Message;
use super::peer::Peer;
use super::publish::{PublishPlan, Publishers};
use super::shape::{Delivery, Storage};
use super::stream;
use crate::connection::Address;
use crate::error::BenchError;
use crate::frame::Subjects;
use crate::meter::Meter;
use crate::metric::{Metric, Sample};
use crate::payload;
use crate::server::Server;
use crate::verify::Fault;

const STREAM: &str = "CONSUMED";
const SUBJECT: &str = "bench.consumed";
/// Messages read in one run, in one or several passes through the stream.
const MESSAGES: u64 = 200_000;
/// What the stream may hold.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What it may hold if a server pushes all of it at once, with nothing that holds it back: beyond 64 MiB it would close
/// the connection as a slow one.
const PUSHED_BYTES_MAX: u64 = 40 * 1024 * 1024;
/// What a message costs on the wire beside its payload, roughly.
const OVERHEAD_BYTES: u64 = 100;
/// Messages of one fetch.
const FETCH_MESSAGES: u64 = 500;
/// How many are under way while the stream is filled.
const FILL_IN_FLIGHT: usize = 1000;
/// How often the server is asked whether all acknowledgements were counted. Each question is answered behind them, so
/// only acknowledgements that are applied apart from the connection need more than one.
const ASKED_MAX: usize = 10_000;

/// A filled stream and the connection that reads it.
pub struct Consumption {
    peer: Peer,
    /// Where pushed messages go.
    push_subject: String,
    admin: Peer,
    delivery: Delivery,
    explicit_ack: bool,
    blank: Vec<u8>,
    /// In the stream.
    messages: u64,
    consumers: u64,
}

impl Consumption {
    /// Creates the stream, fills it, and checks it.
    pub fn open(
        address: &Address,
        delivery: Delivery,
        explicit_ack: bool,
        payload_bytes: usize,
    ) -> Result<Self, BenchError> {
        let bytes_max = match (delivery, explicit_ack) {
            (Delivery::Push, false) => PUSHED_BYTES_MAX,
            _ => BYTES_MAX,
        };
        let messages = MESSAGES.min(bytes_max / (payload_bytes as u64 + OVERHEAD_BYTES)).max(1);
        let plan = PublishPlan {
            streams: vec![STREAM.to_owned()],
            subjects: Subjects::one(SUBJECT),
            in_flight: FILL_IN_FLIGHT,
            connections: 1,
            payload_bytes,
        };
        let mut publishers = Publishers::create(address, plan, Storage::File)?;
        publishers.publish(messages, None)?;
        publishers.check()?;
        let mut peer = Peer::open(address, "consumer")?;
        Ok(Self {
            push_subject: peer.subscribe_push()?,
            peer,
            admin: Peer::open(address, "administrator")?,
            delivery,
            explicit_ack,
            blank: payload::blank(payload_bytes),
            messages,
            consumers: 0,
        })
    }

    /// Reads the whole stream with a new consumer, as often as makes up a run.
    pub fn measure(&mut self, server: &Server) -> Result<Sample, BenchError> {
        let passes = MESSAGES.div_ceil(self.messages);
        let meter = Meter::start(server)?;
        for _ in 0..passes {
            self.read_all()?;
        }
        let usage = meter.stop()?;
        let messages = passes * self.messages;
        Ok(usage
            .cores()
            .with(Metric::MessagesOut, usage.rate(messages))
            .with(Metric::Payload, usage.rate(messages) * self.blank.len() as f64 / 1e6)
            .with(Metric::CpuPerOut, usage.server_cpu_per_ns(messages)))
    }

    /// One pass: a new consumer, all messages, all acknowledgements, and the consumer's end.
    fn read_all(&mut self) -> Result<(), BenchError> {
        self.consumers += 1;
        let name = format!("c{}", self.consumers);
        let configuration = self.configuration(&name);
        stream::create_consumer(&mut self.admin, STREAM, &name, &configuration)?;
        let mut reading = Reading::new(&self.blank, self.explicit_ack);
        while reading.received < self.messages {
            if self.delivery == Delivery::Fetch && reading.received == reading.asked {
                reading.ask(&name, self.peer.inbox(), self.messages);
            } else {
                self.peer.receive(|message| reading.take(message))?;
            }
            if !reading.out.is_empty() {
                self.peer.send(&reading.out)?;
                reading.out.clear();
            }
        }
        if self.explicit_ack {
            self.await_acks(&name)?;
        }
        let mut late = Vec::new();
        self.peer.settle_with(|message| answer_control(message, &mut late))?;
        stream::delete_consumer(&mut self.admin, STREAM, &name)
    }

    fn configuration(&self, name: &str) -> Value {
        let mut configuration = json!({
            "name": name, "deliver_policy": "all", "replay_policy": "instant",
            "ack_policy": if self.explicit_ack { "explicit" } else { "none" },
        });
        if self.delivery != Delivery::Fetch {
            configuration["deliver_subject"] = self.push_subject.as_str().into();
        }
        match self.delivery {
            // As an application has it that wants to go on where it was.
            Delivery::Fetch | Delivery::Push => configuration["durable_name"] = name.into(),
            Delivery::Ordered => ordered(&mut configuration),
        }
        configuration
    }

    /// Waits until everything is acknowledged, in the books of the server.
    fn await_acks(&mut self, name: &str) -> Result<(), BenchError> {
        // Behind the last acknowledgement: they are read in order.
        self.peer.settle()?;
        let mut floor = 0;
        for _ in 0..ASKED_MAX {
            let info = self.admin.request(&format!("$JS.API.CONSUMER.INFO.{STREAM}.{name}"), &Value::Null)?;
            let number = |key: &str| info.pointer(key).and_then(Value::as_u64);
            floor = number("/ack_floor/stream_seq").unwrap_or_default();
            if floor == self.messages && number("/num_ack_pending") == Some(0) {
                return expect_number("redeliveries", 0, number("/num_redelivered").unwrap_or_default())
                    .map_err(|fault| self.admin.fault(fault));
            }
        }
        let what = "the sequence up to which all is acknowledged";
        Err(self.admin.fault(StreamFault::Number { what, expected: self.messages, found: floor }))
    }
}

/// What makes a push consumer the ordered one of client libraries.
pub fn ordered(configuration: &mut Value) {
    configuration["flow_control"] = true.into();
    configuration["idle_heartbeat"] = 5_000_000_000_u64.into();
    configuration["max_deliver"] = 1.into();
    configuration["mem_storage"] = true.into();
    configuration["num_replicas"] = 1.into();
}

/// One pass through the stream.
struct Reading<'a> {
    blank: &'a [u8],
    explicit_ack: bool,
    received: u64,
    /// Messages that fetches have asked for.
    asked: u64,
    /// To be written: acknowledgements, answers to flow control, the next fetch.
    out: Vec<u8>,
}

impl<'a> Reading<'a> {
    fn new(blank: &'a [u8], explicit_ack: bool) -> Self {
        Self { blank, explicit_ack, received: 0, asked: 0, out: Vec::new() }
    }

    fn ask(&mut self, consumer: &str, inbox: &str, messages: u64) {
        let batch = FETCH_MESSAGES.min(messages - self.received);
        self.asked = self.received + batch;
        let request = format!(r#"{{"batch":{batch},"expires":30000000000}}"#);
        let line = format!(
            "PUB $JS.API.CONSUMER.MSG.NEXT.{STREAM}.{consumer} {inbox}.fetch {}\r\n{request}\r\n",
            request.len()
        );
        self.out.extend_from_slice(line.as_bytes());
    }

    fn take(&mut self, message: &Message<'_>) -> Result<(), Fault> {
        if message.status().is_some() {
            return answer_control(message, &mut self.out);
        }
        let delivered = Delivered::parse(message.reply)?;
        expect_number("the sequence delivered", self.received + 1, delivered.stream_sequence)?;
        expect_number("the consumer's sequence", self.received + 1, delivered.consumer_sequence)?;
        expect_number("the number of deliveries", 1, delivered.times)?;
        if message.subject != SUBJECT {
            return Err(StreamFault::Answer {
                expected: SUBJECT.to_owned(),
                found: message.subject.to_owned(),
            }
            .into());
        }
        payload::check(message.payload, self.blank, 0, self.received)?;
        self.received += 1;
        if let Some(reply) = message.reply.filter(|_| self.explicit_ack) {
            self.out.extend_from_slice(b"PUB ");
            self.out.extend_from_slice(reply.as_bytes());
            self.out.extend_from_slice(b" 4\r\n+ACK\r\n");
        }
        Ok(())
    }
}

/// A heartbeat or a question of flow control; any other status is a fault.
pub fn answer_control(message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    if !message.status().is_some_and(|status| status.starts_with("100")) {
        return Err(message.unexpected("a message").into());
    }
    if let Some(subject) = message.reply.or_else(|| message.header_value("Nats-Consumer-Stalled")) {
        out.extend_from_slice(format!("PUB {subject} 0\r\n\r\n").as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_are_answered_and_other_statuses_are_faults() {
        let with = |header, reply| Message { subject: "in", reply, header, payload: b"" };
        let mut out = Vec::new();
        answer_control(&with(b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", None), &mut out).unwrap();
        assert!(out.is_empty());
        answer_control(&with(b"NATS/1.0 100 FlowControl Request\r\n\r\n", Some("$JS.FC.S.C.x")), &mut out)
            .unwrap();
        assert_eq!(out, b"PUB $JS.FC.S.C.x 0\r\n\r\n");
        assert!(answer_control(&with(b"NATS/1.0 409 Consumer Deleted\r\n\r\n", None), &mut out).is_err());
    }

    #[test]
    fn a_reading_takes_each_message_once_and_in_order() {
        let blank = payload::blank(16);
        let mut reading = Reading::new(&blank, true);
        let mut payload = blank.clone();
        payload::stamp(&mut payload, 0, 0);
        let message = Message {
            subject: SUBJECT,
            reply: Some("$JS.ACK.S.C.1.1.1.9.0"),
            header: b"",
            payload: &payload,
        };
        reading.take(&message).unwrap();
        assert_eq!(reading.out, b"PUB $JS.ACK.S.C.1.1.1.9.0 4\r\n+ACK\r\n");
        assert!(reading.take(&message).is_err());
        let redelivered = Message { reply: Some("$JS.ACK.S.C.2.1.1.9.0"), ..message };
        assert!(Reading::new(&blank, true).take(&redelivered).is_err());
    }
}
