//! Messages that are only a status: `NATS/1.0 404 No Messages\r\n\r\n`.

use std::fmt::Write;

use crate::header::name;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $line:literal;)*) => {
        /// A status without more to say.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Status {
            $($(#[$doc])* $name,)*
        }

        impl Status {
            /// All of them.
            pub const ALL: &'static [Status] = &[$(Status::$name),*];

            /// The status as a header block.
            pub fn block(self) -> &'static [u8] {
                match self { $(Self::$name => concat!("NATS/1.0 ", $line, "\r\n\r\n").as_bytes(),)* }
            }
        }
    };
}

statuses! {
    /// The consumer waits for an answer before it goes on.
    FlowControl = "100 FlowControl Request";
    /// There is nothing, and the request does not wait.
    NoMessages = "404 No Messages";
    /// Others wait already for what is there.
    RequestsPending = "408 Requests Pending";
    /// Too many requests wait.
    ExceededMaxWaiting = "409 Exceeded MaxWaiting";
    /// A pull request to a push consumer.
    ConsumerIsPushBased = "409 Consumer is push based";
    /// The consumer is gone.
    ConsumerDeleted = "409 Consumer Deleted";
    /// Another server leads the consumer.
    LeadershipChange = "409 Leadership Change";
    /// The request needs a newer server.
    RequiredApiLevel = "412 Required Api Level";
    /// Another client is pinned.
    PinIdMismatch = "423 Nats-Pin-Id mismatch";
    /// The priority is not one.
    PriorityOutOfRange = "400 Bad Request - Priority must be between 0 and 9";
    /// The consumer has groups and the request names none.
    PriorityGroupMissing = "400 Bad Request - Priority Group missing";
    /// The consumer does not have the group.
    PriorityGroupInvalid = "400 Bad Request - Invalid Priority Group";
    /// Thresholds without the policy for them.
    NotOverflow = "400 Bad Request - Not a Overflow Priority consumer";
    /// A pin without the policy for it.
    NotPinnedClient = "400 Bad Request - Not a Pinned Client Priority consumer";
    /// More than half of the time that the request may wait.
    HeartbeatTooLarge = "400 Bad Request - heartbeat value too large";
    /// A direct get without a question.
    EmptyRequest = "408 Empty Request";
    /// A direct get that is no JSON.
    MalformedRequest = "408 Malformed Request";
    /// A direct get that asks for things that exclude each other.
    BadRequest = "408 Bad Request";
    /// A direct get of what is not there.
    MessageNotFound = "404 Message Not Found";
    /// A direct get of many, of which none is there.
    NoResults = "404 No Results";
    /// A direct get of more subjects than are answered.
    TooManyResults = "413 Too Many Results";
    /// The stream has too much to do.
    TooManyRequests = "429 Too Many Requests";
    /// A snapshot nobody takes.
    NoInterest = "408 No Interest";
    /// A snapshot nobody acknowledges.
    NoFlowResponse = "408 No Flow Response";
    /// A snapshot is complete.
    SnapshotComplete = "204";
}

macro_rules! ends {
    ($($(#[$doc:meta])* $name:ident = $line:literal;)*) => {
        /// Why a pull request ended before it was served in full; told together with what it still wanted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum End {
            $($(#[$doc])* $name,)*
        }

        impl End {
            /// The status as a header block, with the messages and bytes that the request still wanted.
            pub fn block(self, messages: i64, bytes: i64) -> Vec<u8> {
                let line = match self { $(Self::$name => $line,)* };
                written(format_args!(
                    "NATS/1.0 {line}\r\n{}: {messages}\r\n{}: {bytes}\r\n\r\n",
                    name::PENDING_MESSAGES,
                    name::PENDING_BYTES
                ))
            }
        }
    };
}

ends! {
    /// It waited long enough.
    RequestTimeout = "408 Request Timeout";
    /// Nobody listens any more.
    InterestExpired = "408 Interest Expired";
    /// The first message is larger than it takes.
    MessageSizeExceedsMaxBytes = "409 Message Size Exceeds MaxBytes";
    /// It has its messages, though not its bytes.
    BatchCompleted = "409 Batch Completed";
    /// The server goes.
    ServerShutdown = "409 Server Shutdown";
    /// Another client was pinned meanwhile.
    WrongPinId = "423 Nats-Wrong-Pin-Id";
}

/// A request beyond the consumer's `max_batch`.
pub fn exceeded_max_batch(max_batch: i64) -> Vec<u8> {
    written(format_args!("NATS/1.0 409 Exceeded MaxRequestBatch of {max_batch}\r\n\r\n"))
}

/// A request beyond the consumer's `max_expires`, ns.
pub fn exceeded_max_expires(max_expires: i64) -> Vec<u8> {
    let max_expires = crate::duration::format(max_expires);
    written(format_args!("NATS/1.0 409 Exceeded MaxRequestExpires of {max_expires}\r\n\r\n"))
}

/// A request beyond the consumer's `max_bytes`.
pub fn exceeded_max_bytes(max_bytes: i64) -> Vec<u8> {
    written(format_args!("NATS/1.0 409 Exceeded MaxRequestMaxBytes of {max_bytes}\r\n\r\n"))
}

/// A request that cannot be read.
pub fn bad_request(problem: &str) -> Vec<u8> {
    written(format_args!("NATS/1.0 400 Bad Request - {}\r\n\r\n", one_line(problem)))
}

/// Something that went wrong on our side.
pub fn internal_error(problem: &str) -> Vec<u8> {
    written(format_args!("NATS/1.0 500 {}\r\n\r\n", one_line(problem)))
}

/// A heartbeat: the last delivery, and the flow control subject that is not answered yet.
pub fn heartbeat(consumer_sequence: u64, stream_sequence: u64, stalled: Option<&str>) -> Vec<u8> {
    let mut text = format!(
        "NATS/1.0 100 Idle Heartbeat\r\n{}: {consumer_sequence}\r\n{}: {stream_sequence}\r\n",
        name::LAST_CONSUMER,
        name::LAST_STREAM
    );
    if let Some(subject) = stalled {
        // A string takes everything that is written to it.
        let _ = write!(text, "{}: {subject}\r\n", name::CONSUMER_STALLED);
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// The end of a batch of direct gets: what is left, and the last sequence that was sent. `up_to` is the sequence that the
/// answer holds for, with `multi_last`.
pub fn end_of_batch(pending: u64, last_sequence: u64, up_to: Option<u64>) -> Vec<u8> {
    let up_to = up_to.map(|sequence| format!("{}: {sequence}\r\n", name::UP_TO_SEQUENCE)).unwrap_or_default();
    written(format_args!(
        "NATS/1.0 204 EOB\r\n{}: {pending}\r\n{}: {last_sequence}\r\n{up_to}\r\n",
        name::NUM_PENDING,
        name::LAST_SEQUENCE
    ))
}

fn written(text: std::fmt::Arguments<'_>) -> Vec<u8> {
    text.to_string().into_bytes()
}

/// A status is one line, whatever a peer's text holds.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_header_blocks() {
        for status in Status::ALL {
            assert!(crate::header::status(status.block()).is_some(), "{status:?}");
        }
        assert_eq!(Status::NoMessages.block(), b"NATS/1.0 404 No Messages\r\n\r\n");
        assert_eq!(
            End::RequestTimeout.block(3, 0),
            b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\nNats-Pending-Bytes: 0\r\n\r\n"
        );
        assert_eq!(
            heartbeat(1, 2, Some("$JS.FC.S.C.x")),
            b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\nNats-Last-Stream: 2\r\nNats-Consumer-Stalled: $JS.FC.S.C.x\r\n\r\n"
        );
        assert_eq!(
            end_of_batch(0, 7, Some(9)),
            b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 7\r\nNats-UpTo-Sequence: 9\r\n\r\n"
        );
        assert_eq!(bad_request("a\r\nb"), b"NATS/1.0 400 Bad Request - a  b\r\n\r\n");
    }
}
