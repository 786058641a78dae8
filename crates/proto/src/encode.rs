//! What a server says to a client, as bytes.

use std::fmt;

/// `+OK`.
pub const OK: &[u8] = b"+OK\r\n";
/// `PING`.
pub const PING: &[u8] = b"PING\r\n";
/// `PONG`.
pub const PONG: &[u8] = b"PONG\r\n";

/// An error as the client sees it: the text between the quotes of `-ERR '<text>'`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each arm is its text, below")]
pub enum ErrorText<'a> {
    UnknownProtocolOperation,
    AuthorizationViolation,
    AuthenticationTimeout,
    UserAuthenticationExpired,
    AccountAuthenticationExpired,
    UserAuthenticationRevoked,
    InvalidClientProtocol,
    NoRespondersRequiresHeaders,
    MaximumConnectionsExceeded,
    MaximumAccountConnectionsExceeded,
    MaximumSubscriptionsExceeded,
    MaximumPayloadViolation,
    MaximumControlLineExceeded,
    InvalidPublishSubject,
    InvalidSubject,
    PublishPermission { subject: &'a [u8] },
    ReplyPermission { reply: &'a [u8] },
    SubscribePermission { subject: &'a [u8], queue: Option<&'a [u8]> },
    SubscriptionRemoved { subject: &'a [u8], queue: Option<&'a [u8]>, sid: &'a [u8] },
    SubscriptionTokens { subject: &'a [u8] },
    ConnectionThrottling,
    StaleConnection,
}

impl fmt::Display for ErrorText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::UnknownProtocolOperation => "Unknown Protocol Operation",
            Self::AuthorizationViolation => "Authorization Violation",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::UserAuthenticationExpired => "User Authentication Expired",
            Self::AccountAuthenticationExpired => "Account Authentication Expired",
            Self::UserAuthenticationRevoked => "User Authentication Revoked",
            Self::InvalidClientProtocol => "invalid client protocol",
            Self::NoRespondersRequiresHeaders => "no responders requires headers support",
            Self::MaximumConnectionsExceeded => "maximum connections exceeded",
            Self::MaximumAccountConnectionsExceeded => "maximum account active connections exceeded",
            Self::MaximumSubscriptionsExceeded => "maximum subscriptions exceeded",
            Self::MaximumPayloadViolation => "Maximum Payload Violation",
            Self::MaximumControlLineExceeded => "maximum control line exceeded",
            Self::InvalidPublishSubject => "Invalid Publish Subject",
            Self::InvalidSubject => "Invalid Subject",
            Self::PublishPermission { subject } => {
                return write!(f, "Permissions Violation for Publish to {}", Quoted(subject));
            }
            Self::ReplyPermission { reply } => {
                return write!(f, "Permissions Violation for Publish with Reply of {}", Quoted(reply));
            }
            Self::SubscribePermission { subject, queue } => {
                write!(f, "Permissions Violation for Subscription to {}", Quoted(subject))?;
                return match queue {
                    Some(queue) => write!(f, " using queue {}", Quoted(queue)),
                    None => Ok(()),
                };
            }
            Self::SubscriptionRemoved { subject, queue, sid } => {
                write!(f, "{} ", Self::SubscribePermission { subject, queue: *queue })?;
                return write!(f, "(sid {})", Quoted(sid));
            }
            Self::SubscriptionTokens { subject } => {
                return write!(
                    f,
                    "Permissions Violation for Subscription to {}, too many tokens",
                    Quoted(subject)
                );
            }
            Self::ConnectionThrottling => "Connection throttling is active. Please try again later.",
            Self::StaleConnection => "Stale Connection",
        };
        f.write_str(text)
    }
}

impl ErrorText<'_> {
    /// The whole `-ERR` line.
    pub fn line(&self) -> Vec<u8> {
        format!("-ERR '{self}'\r\n").into_bytes()
    }
}

/// Bytes in double quotes, escaped as Go's `%q` escapes a string: the form that clients look for.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '"' => f.write_str("\\\"")?,
                    '\\' => f.write_str("\\\\")?,
                    '\x07' => f.write_str("\\a")?,
                    '\x08' => f.write_str("\\b")?,
                    '\x0c' => f.write_str("\\f")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    '\x0b' => f.write_str("\\v")?,
                    c if (c as u32) < 0x20 || c as u32 == 0x7f => write!(f, "\\x{:02x}", c as u32)?,
                    c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                    c => write!(f, "{c}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_str("\"")
    }
}

/// The message that tells a requester that nobody is listening (ADR-4 of NATS): status 503 with the subject
/// that was asked, to subscription `sid` on `reply`.
pub fn no_responders(reply: &[u8], sid: &[u8], subject: &[u8], out: &mut Vec<u8>) {
    const STATUS: &[u8] = b"NATS/1.0 503\r\nNats-Subject: ";
    let header_bytes = STATUS.len() + subject.len() + 4;
    out.extend_from_slice(b"HMSG ");
    out.extend_from_slice(reply);
    out.push(b' ');
    out.extend_from_slice(sid);
    out.extend_from_slice(format!(" {header_bytes} {header_bytes}\r\n").as_bytes());
    out.extend_from_slice(STATUS);
    out.extend_from_slice(subject);
    out.extend_from_slice(b"\r\n\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_lines_are_the_reference_texts() {
        let cases: &[(ErrorText<'_>, &str)] = &[
            (ErrorText::StaleConnection, "-ERR 'Stale Connection'\r\n"),
            (
                ErrorText::PublishPermission { subject: b"a.\"b" },
                "-ERR 'Permissions Violation for Publish to \"a.\\\"b\"'\r\n",
            ),
            (
                ErrorText::SubscriptionRemoved { subject: b"a", queue: Some(b"q"), sid: b"7" },
                "-ERR 'Permissions Violation for Subscription to \"a\" using queue \"q\" (sid \"7\")'\r\n",
            ),
        ];
        for (text, line) in cases {
            assert_eq!(text.line(), line.as_bytes());
        }
        assert_eq!(Quoted(b"\x00\x7f\xff\xc3\xa9\xc2\x85\n").to_string(), "\"\\x00\\x7f\\xffé\\u0085\\n\"");
    }

    #[test]
    fn no_responders_counts_its_own_header() {
        let mut out = Vec::new();
        no_responders(b"r", b"1", b"x", &mut out);
        assert_eq!(out, b"HMSG r 1 33 33\r\nNATS/1.0 503\r\nNats-Subject: x\r\n\r\n\r\n");
    }
}
