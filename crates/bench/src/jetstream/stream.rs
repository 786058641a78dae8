//! A stream of the API: made, asked, read back, purged.

use serde_json::{Value, json};

use super::delivery::Delivered;
use super::fault::{StreamFault, expect_number};
use super::message::Message;
use super::peer::Peer;
use super::shape::Storage;
use crate::error::BenchError;
use crate::payload;
use crate::verify::Fault;

/// What STREAM.INFO says of a stream's messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    /// How many there are.
    pub messages: u64,
    /// Sequence of the last one that was ever there.
    pub last_sequence: u64,
}

/// Creates a stream of unlimited size on `subjects`.
pub fn create(peer: &mut Peer, name: &str, subjects: &[&str], storage: Storage) -> Result<(), BenchError> {
    let storage = match storage {
        Storage::File => "file",
        Storage::Memory => "memory",
    };
    let configuration = json!({
        "name": name, "subjects": subjects, "storage": storage, "retention": "limits", "num_replicas": 1,
    });
    peer.request(&format!("$JS.API.STREAM.CREATE.{name}"), &configuration).map(drop)
}

/// The state of a stream now.
pub fn state(peer: &mut Peer, name: &str) -> Result<State, BenchError> {
    let info = peer.request(&format!("$JS.API.STREAM.INFO.{name}"), &Value::Null)?;
    let number = |key: &str| info.pointer(key).and_then(Value::as_u64).unwrap_or_default();
    Ok(State { messages: number("/state/messages"), last_sequence: number("/state/last_seq") })
}

/// Removes all messages; sequences go on where they were.
pub fn purge(peer: &mut Peer, name: &str) -> Result<(), BenchError> {
    peer.request(&format!("$JS.API.STREAM.PURGE.{name}"), &Value::Null).map(drop)
}

/// Creates a consumer and says how many messages wait for it.
pub fn create_consumer(
    peer: &mut Peer,
    stream: &str,
    name: &str,
    configuration: &Value,
) -> Result<u64, BenchError> {
    let request = json!({ "stream_name": stream, "config": configuration, "action": "create" });
    let info = peer.request(&format!("$JS.API.CONSUMER.CREATE.{stream}.{name}"), &request)?;
    Ok(info.get("num_pending").and_then(Value::as_u64).unwrap_or_default())
}

/// Removes a consumer.
pub fn delete_consumer(peer: &mut Peer, stream: &str, name: &str) -> Result<(), BenchError> {
    peer.request(&format!("$JS.API.CONSUMER.DELETE.{stream}.{name}"), &Value::Null).map(drop)
}

/// Compares the state with the numbers that follow from what was published.
pub fn check_state(peer: &mut Peer, name: &str, expected: State) -> Result<(), BenchError> {
    let found = state(peer, name)?;
    expect_number("the number of messages", expected.messages, found.messages)
        .and_then(|()| expect_number("the last sequence", expected.last_sequence, found.last_sequence))
        .map_err(|fault| peer.fault(fault))
}

/// Reads messages `from..=to` back and hands each with its sequence to `judge`, in order.
pub fn read_back(
    peer: &mut Peer,
    stream: &str,
    (from, to): (u64, u64),
    mut judge: impl FnMut(u64, &Message<'_>) -> Result<(), Fault>,
) -> Result<(), BenchError> {
    const CONSUMER: &str = "readback";
    let batch = to.saturating_sub(from) + 1;
    let configuration = json!({
        "name": CONSUMER, "deliver_policy": "by_start_sequence", "opt_start_seq": from, "ack_policy": "none",
        "replay_policy": "instant", "mem_storage": true, "num_replicas": 1,
    });
    create_consumer(peer, stream, CONSUMER, &configuration)?;
    let reply = format!("{}.back", peer.inbox());
    let request = format!(r#"{{"batch":{batch},"expires":30000000000}}"#);
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{CONSUMER}");
    peer.send(format!("PUB {subject} {reply} {}\r\n{request}\r\n", request.len()).as_bytes())?;
    let mut next = from;
    while next <= to {
        peer.receive(|message| {
            if message.status().is_some() {
                return Err(message.unexpected(format!("message {next} of {stream}")).into());
            }
            let delivered = Delivered::parse(message.reply)?;
            expect_number("the sequence read back", next, delivered.stream_sequence)?;
            judge(next, message)?;
            next += 1;
            Ok(())
        })?;
    }
    delete_consumer(peer, stream, CONSUMER)
}

/// Checks that a payload is a whole message of `publisher`, or of any publisher if several share a stream.
pub fn check_whole(payload: &[u8], blank: &[u8], publisher: Option<u32>) -> Result<u64, Fault> {
    let claimed = payload::claimed_publisher(payload).zip(payload::claimed_sequence(payload));
    let Some((claimed_publisher, number)) = claimed else {
        return Err(Fault::Payload(payload::PayloadFault::Length));
    };
    payload::check(payload, blank, publisher.unwrap_or(claimed_publisher), number)?;
    Ok(number)
}

/// Sequence and stream of a publish acknowledgement, `{"stream":"S","seq":7}`.
///
/// The two fields stand in this order in every answer of either server, so they are read where they stand. Any other
/// answer, an error or a duplicate among them, is a fault.
pub fn acknowledged<'a>(message: &Message<'a>) -> Result<(&'a str, u64), StreamFault> {
    let parse = || -> Option<(&'a str, u64)> {
        let text = std::str::from_utf8(message.payload).ok()?;
        let (stream, rest) = text.strip_prefix(r#"{"stream":""#)?.split_once('"')?;
        let number = rest.strip_prefix(",")?.trim_start().strip_prefix(r#""seq":"#)?.strip_suffix('}')?;
        Some((stream, number.trim_start().parse().ok()?))
    };
    parse().ok_or_else(|| message.unexpected("an acknowledgement"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &[u8]) -> Message<'_> {
        Message { subject: "in", reply: None, header: b"", payload }
    }

    #[test]
    fn acknowledgements() {
        assert_eq!(acknowledged(&message(br#"{"stream":"S","seq":7}"#)), Ok(("S", 7)));
        assert_eq!(
            acknowledged(&message(br#"{"stream":"S", "seq":18446744073709551615}"#)),
            Ok(("S", u64::MAX))
        );
        for wrong in [
            r#"{"stream":"S","seq":7,"duplicate": true}"#,
            r#"{"error":{"code":503},"stream":"S","seq":0}"#,
            "",
        ] {
            assert!(acknowledged(&message(wrong.as_bytes())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_payload_of_any_publisher_must_be_whole() {
        let blank = payload::blank(128);
        let mut payload = blank.clone();
        payload::stamp(&mut payload, 7, 41);
        assert_eq!(check_whole(&payload, &blank, None), Ok(41));
        assert!(check_whole(&payload, &blank, Some(6)).is_err());
        payload[60] ^= 1;
        assert!(check_whole(&payload, &blank, None).is_err());
    }
}
