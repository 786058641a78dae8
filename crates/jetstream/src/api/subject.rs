//! Subjects of the API: what is asked, of which stream and consumer.
//!
//! Subjects that are not listed here get no answer at all. The prefix of a domain (`$JS.<domain>.API.`) is taken off by the
//! caller; an account's own subjects begin with `$JS.API.`.

use std::str;

/// What all subjects of the API begin with.
pub const PREFIX: &[u8] = b"$JS.API.";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the arms are the subjects; `stream` and `consumer` are their tokens")]
pub enum Operation<'a> {
    Info,
    StreamCreate {
        stream: &'a str,
    },
    StreamUpdate {
        stream: &'a str,
    },
    StreamNames,
    StreamList,
    StreamInfo {
        stream: &'a str,
    },
    StreamDelete {
        stream: &'a str,
    },
    StreamPurge {
        stream: &'a str,
    },
    StreamSnapshot {
        stream: &'a str,
    },
    StreamRestore {
        stream: &'a str,
    },
    StreamMessageGet {
        stream: &'a str,
    },
    StreamMessageDelete {
        stream: &'a str,
    },
    StreamStepDown {
        stream: &'a str,
    },
    StreamPeerRemove {
        stream: &'a str,
    },
    StreamPeerEvacuate {
        stream: &'a str,
    },
    StreamCancelMove {
        stream: &'a str,
    },
    /// Answered with the message itself. `subject` asks for its last message; its bytes need not be text.
    DirectGet {
        stream: &'a str,
        subject: Option<&'a [u8]>,
    },
    ConsumerCreate(CreateSubject<'a>),
    ConsumerNames {
        stream: &'a str,
    },
    ConsumerList {
        stream: &'a str,
    },
    ConsumerInfo {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerDelete {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerPause {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerUnpin {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerReset {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerNext {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerStepDown {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerPeerRemove {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerPeerEvacuate {
        stream: &'a str,
        consumer: &'a str,
    },
    /// Of the system account.
    MetaStepDown,
    /// Of the system account.
    MetaRescue,
    /// Of the system account.
    ServerRemove,
    /// Of the system account.
    ServerEvacuate,
    /// Of the system account.
    AccountPurge {
        account: &'a str,
    },
    /// Of the system account.
    AccountStreamMove {
        account: &'a str,
        stream: &'a str,
    },
    /// Of the system account.
    AccountStreamCancelMove {
        account: &'a str,
        stream: &'a str,
    },
}

/// What the subject of a request to make a consumer says; the body must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateSubject<'a> {
    /// `CONSUMER.CREATE.<stream>`: the name, if any, stands in the body only.
    Unnamed {
        /// The stream.
        stream: &'a str,
    },
    /// `CONSUMER.CREATE.<stream>.<consumer>[.<filter>]`
    Named {
        /// The stream.
        stream: &'a str,
        /// The consumer.
        consumer: &'a str,
        /// The filter subject; permissions can be given by it.
        filter: Option<&'a str>,
    },
    /// `CONSUMER.DURABLE.CREATE.<stream>.<consumer>`
    Durable {
        /// The stream.
        stream: &'a str,
        /// The consumer.
        consumer: &'a str,
    },
}

impl<'a> CreateSubject<'a> {
    /// The stream.
    pub fn stream(&self) -> &'a str {
        match *self {
            Self::Unnamed { stream } | Self::Named { stream, .. } | Self::Durable { stream, .. } => stream,
        }
    }

    /// The consumer, if the subject names one.
    pub fn consumer(&self) -> Option<&'a str> {
        match *self {
            Self::Unnamed { .. } => None,
            Self::Named { consumer, .. } | Self::Durable { consumer, .. } => Some(consumer),
        }
    }
}

impl<'a> Operation<'a> {
    /// What a subject asks for; `None` gets no answer.
    pub fn parse(subject: &'a [u8]) -> Option<Self> {
        let rest = subject.strip_prefix(PREFIX)?;
        // Direct gets come first, since they are many; a key may be any bytes.
        if let Some(rest) = rest.strip_prefix(b"DIRECT.GET.") {
            let (stream, subject) = match memchr::memchr(b'.', rest) {
                Some(dot) => (&rest[..dot], Some(&rest[dot + 1..])),
                None => (rest, None),
            };
            let stream = str::from_utf8(stream).ok().filter(|stream| !stream.is_empty())?;
            return Some(Self::DirectGet { stream, subject });
        }
        let rest = str::from_utf8(rest).ok()?;
        // Eight tokens hold the longest subject; what a filter adds stays in the last one.
        let mut tokens = [""; 8];
        let mut count = 0;
        for token in rest.splitn(tokens.len(), '.') {
            tokens[count] = token;
            count += 1;
        }
        let tokens = &tokens[..count];
        if tokens.iter().any(|token| token.is_empty()) {
            return None;
        }
        match tokens {
            ["STREAM", tokens @ ..] => stream_operation(tokens),
            ["CONSUMER", tokens @ ..] => consumer_operation(rest, tokens),
            tokens => other_operation(tokens),
        }
    }

    /// Whether only the system account is answered.
    pub fn is_of_system(&self) -> bool {
        matches!(
            self,
            Self::MetaStepDown
                | Self::MetaRescue
                | Self::ServerRemove
                | Self::ServerEvacuate
                | Self::AccountPurge { .. }
                | Self::AccountStreamMove { .. }
                | Self::AccountStreamCancelMove { .. }
        )
    }
}

fn stream_operation<'a>(tokens: &[&'a str]) -> Option<Operation<'a>> {
    Some(match *tokens {
        ["NAMES"] => Operation::StreamNames,
        ["LIST"] => Operation::StreamList,
        ["CREATE", stream] => Operation::StreamCreate { stream },
        ["UPDATE", stream] => Operation::StreamUpdate { stream },
        ["INFO", stream] => Operation::StreamInfo { stream },
        ["DELETE", stream] => Operation::StreamDelete { stream },
        ["PURGE", stream] => Operation::StreamPurge { stream },
        ["SNAPSHOT", stream] => Operation::StreamSnapshot { stream },
        ["RESTORE", stream] => Operation::StreamRestore { stream },
        ["CANCEL_MOVE", stream] => Operation::StreamCancelMove { stream },
        ["MSG", "GET", stream] => Operation::StreamMessageGet { stream },
        ["MSG", "DELETE", stream] => Operation::StreamMessageDelete { stream },
        ["LEADER", "STEPDOWN", stream] => Operation::StreamStepDown { stream },
        ["PEER", "REMOVE", stream] => Operation::StreamPeerRemove { stream },
        ["PEER", "EVACUATE", stream] => Operation::StreamPeerEvacuate { stream },
        _ => return None,
    })
}

/// `rest` is the whole subject after the prefix, for the filter that may be its tail.
fn consumer_operation<'a>(rest: &'a str, tokens: &[&'a str]) -> Option<Operation<'a>> {
    Some(match *tokens {
        ["CREATE", stream] => Operation::ConsumerCreate(CreateSubject::Unnamed { stream }),
        ["CREATE", stream, consumer, ..] => {
            let filter = rest.splitn(5, '.').nth(4);
            Operation::ConsumerCreate(CreateSubject::Named { stream, consumer, filter })
        }
        ["DURABLE", "CREATE", stream, consumer] => {
            Operation::ConsumerCreate(CreateSubject::Durable { stream, consumer })
        }
        ["NAMES", stream] => Operation::ConsumerNames { stream },
        ["LIST", stream] => Operation::ConsumerList { stream },
        ["INFO", stream, consumer] => Operation::ConsumerInfo { stream, consumer },
        ["DELETE", stream, consumer] => Operation::ConsumerDelete { stream, consumer },
        ["PAUSE", stream, consumer] => Operation::ConsumerPause { stream, consumer },
        ["UNPIN", stream, consumer] => Operation::ConsumerUnpin { stream, consumer },
        ["RESET", stream, consumer] => Operation::ConsumerReset { stream, consumer },
        ["MSG", "NEXT", stream, consumer] => Operation::ConsumerNext { stream, consumer },
        ["LEADER", "STEPDOWN", stream, consumer] => Operation::ConsumerStepDown { stream, consumer },
        ["PEER", "REMOVE", stream, consumer] => Operation::ConsumerPeerRemove { stream, consumer },
        ["PEER", "EVACUATE", stream, consumer] => Operation::ConsumerPeerEvacuate { stream, consumer },
        _ => return None,
    })
}

fn other_operation<'a>(tokens: &[&'a str]) -> Option<Operation<'a>> {
    Some(match *tokens {
        ["INFO"] => Operation::Info,
        ["META", "LEADER", "STEPDOWN"] => Operation::MetaStepDown,
        ["META", "RESCUE"] => Operation::MetaRescue,
        ["SERVER", "REMOVE"] => Operation::ServerRemove,
        ["SERVER", "EVACUATE"] => Operation::ServerEvacuate,
        ["ACCOUNT", "PURGE", account] => Operation::AccountPurge { account },
        ["ACCOUNT", "STREAM", "MOVE", account, stream] => Operation::AccountStreamMove { account, stream },
        ["ACCOUNT", "STREAM", "CANCEL_MOVE", account, stream] => {
            Operation::AccountStreamCancelMove { account, stream }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subjects_are_understood() {
        use Operation as O;
        let (stream, consumer) = ("S", "C");
        for (subject, operation) in [
            ("INFO", Some(O::Info)),
            ("STREAM.NAMES", Some(O::StreamNames)),
            ("STREAM.CREATE.S", Some(O::StreamCreate { stream })),
            ("STREAM.CREATE.S.T", None),
            ("STREAM.CREATE", None),
            ("STREAM.MSG.GET.S", Some(O::StreamMessageGet { stream })),
            ("STREAM.TEMPLATE.CREATE.S", None),
            ("DIRECT.GET.S", Some(O::DirectGet { stream, subject: None })),
            ("DIRECT.GET.S.a..b", Some(O::DirectGet { stream, subject: Some(b"a..b") })),
            ("DIRECT.GET.", None),
            ("CONSUMER.CREATE.S", Some(O::ConsumerCreate(CreateSubject::Unnamed { stream }))),
            (
                "CONSUMER.CREATE.S.C",
                Some(O::ConsumerCreate(CreateSubject::Named { stream, consumer, filter: None })),
            ),
            (
                "CONSUMER.CREATE.S.C.a.b.c.d.e.f.>",
                Some(O::ConsumerCreate(CreateSubject::Named {
                    stream,
                    consumer,
                    filter: Some("a.b.c.d.e.f.>"),
                })),
            ),
            (
                "CONSUMER.DURABLE.CREATE.S.C",
                Some(O::ConsumerCreate(CreateSubject::Durable { stream, consumer })),
            ),
            ("CONSUMER.MSG.NEXT.S.C", Some(O::ConsumerNext { stream, consumer })),
            ("CONSUMER.INFO.S", None),
            ("CONSUMER.INFO.S.C.D", None),
            ("ACCOUNT.STREAM.MOVE.A.S", Some(O::AccountStreamMove { account: "A", stream })),
            ("stream.names", None),
            ("", None),
        ] {
            let subject = format!("$JS.API.{subject}");
            assert_eq!(O::parse(subject.as_bytes()), operation, "{subject}");
        }
        assert_eq!(O::parse(b"$JS.hub.API.INFO"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..40), words in "[A-Z.]{0,40}") {
            let _ = Operation::parse(&[b"$JS.API.", &bytes[..]].concat());
            let _ = Operation::parse(format!("$JS.API.CONSUMER.CREATE.{words}").as_bytes());
        }
    }
}
