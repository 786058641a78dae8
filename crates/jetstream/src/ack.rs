//! Acknowledgements and flow control: the subjects a message is answered to, and what the answers mean.
//!
//! A delivered message's reply subject says which delivery it is, so that an ack needs no table to be understood. There are
//! two forms; both are read, the shorter is written unless the longer was asked for.

use crate::api::request::PullRequest;
use crate::duration;

/// What a reply subject says about its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The stream.
    pub stream: &'a [u8],
    /// The consumer.
    pub consumer: &'a [u8],
    /// How often the message was delivered, this time included.
    pub deliveries: u64,
    /// The message.
    pub stream_sequence: u64,
    /// The number of the delivery.
    pub consumer_sequence: u64,
    /// When the message was stored, ns since 1970.
    pub timestamp: i64,
    /// How many messages were still to come.
    pub pending: u64,
}

/// The part of reply subjects that is the same for all deliveries of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyPrefix {
    /// `$JS.ACK.…<stream>.<consumer>.`
    ack: Vec<u8>,
    /// `$JS.FC.…<stream>.<consumer>.`
    flow_control: Vec<u8>,
}

impl ReplyPrefix {
    /// The short form.
    pub fn v1(stream: &str, consumer: &str) -> Self {
        Self {
            ack: format!("$JS.ACK.{stream}.{consumer}.").into_bytes(),
            flow_control: format!("$JS.FC.{stream}.{consumer}.").into_bytes(),
        }
    }

    /// The form that also tells domain and account, so that acks find their way between accounts. An empty domain is
    /// written `_`; `account_hash` is [`crate::nuid::hash`] of the account's name.
    pub fn v2(domain: &str, account_hash: &str, stream: &str, consumer: &str) -> Self {
        let domain = if domain.is_empty() { "_" } else { domain };
        Self {
            ack: format!("$JS.ACK.{domain}.{account_hash}.{stream}.{consumer}.").into_bytes(),
            flow_control: format!("$JS.FC.{domain}.{account_hash}.{stream}.{consumer}.").into_bytes(),
        }
    }

    /// Appends the reply subject of a delivery; the names in `delivery` are not looked at.
    pub fn append_ack(&self, subject: &mut Vec<u8>, delivery: &Delivery<'_>) {
        // Five numbers of at most 20 digits and the dots between them.
        subject.reserve(self.ack.len() + 104);
        subject.extend_from_slice(&self.ack);
        append_number(subject, delivery.deliveries);
        subject.push(b'.');
        append_number(subject, delivery.stream_sequence);
        subject.push(b'.');
        append_number(subject, delivery.consumer_sequence);
        subject.push(b'.');
        if delivery.timestamp < 0 {
            subject.push(b'-');
        }
        append_number(subject, delivery.timestamp.unsigned_abs());
        subject.push(b'.');
        append_number(subject, delivery.pending);
    }

    /// The subject a flow control request is answered to; `random` makes it one of many.
    pub fn flow_control(&self, random: u64) -> Vec<u8> {
        let mut subject = Vec::with_capacity(self.flow_control.len() + 4);
        subject.extend_from_slice(&self.flow_control);
        subject.extend_from_slice(&crate::nuid::letters::<4>(random));
        subject
    }
}

/// Reads a reply subject of either form. A number that is none is read as the reference reads it: the largest.
pub fn parse(subject: &[u8]) -> Option<Delivery<'_>> {
    split(subject).map(|(_, delivery)| delivery)
}

/// As [`parse`], if the subject is one of the account's: the long form has a word made of the account's name.
pub fn parse_of<'a>(subject: &'a [u8], account: &str) -> Option<Delivery<'a>> {
    let (word, delivery) = split(subject)?;
    word.is_none_or(|word| word == crate::nuid::hash(account).as_bytes()).then_some(delivery)
}

/// The account's word, if the form has one, and the rest.
fn split(subject: &[u8]) -> Option<(Option<&[u8]>, Delivery<'_>)> {
    let rest = subject.strip_prefix(b"$JS.ACK.")?;
    let mut tokens = [&b""[..]; 9];
    let mut count = 0;
    for token in sonata_subject::tokens(rest) {
        // There may be more tokens than the long form has; they mean nothing yet.
        if let Some(slot) = tokens.get_mut(count) {
            *slot = token;
        }
        count += 1;
    }
    let (word, fields) = match count {
        7 => (None, &tokens[..7]),
        9.. => (Some(tokens[1]), &tokens[2..]),
        _ => return None,
    };
    let &[stream, consumer, deliveries, stream_sequence, consumer_sequence, timestamp, pending] = fields
    else {
        return None;
    };
    let delivery = Delivery {
        stream,
        consumer,
        deliveries: number(deliveries),
        stream_sequence: number(stream_sequence),
        consumer_sequence: number(consumer_sequence),
        timestamp: i64::try_from(number(timestamp)).unwrap_or(-1),
        pending: number(pending),
    };
    Some((word, delivery))
}

/// Whose flow control answer a subject is: stream and consumer.
pub fn parse_flow_control(subject: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = subject.strip_prefix(b"$JS.FC.")?;
    let mut tokens = [&b""[..]; 5];
    let mut count = 0;
    for token in sonata_subject::tokens(rest) {
        *tokens.get_mut(count)? = token;
        count += 1;
    }
    match count {
        3 => Some((tokens[0], tokens[1])),
        5 => Some((tokens[2], tokens[3])),
        _ => None,
    }
}

/// What a client says about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    /// It is done.
    Ack,
    /// It shall be delivered again: at once, or after this time, ns.
    Nak(Option<i64>),
    /// It is being worked on.
    Progress,
    /// It is done, and the next is wanted. An error is a request that cannot be read.
    Next(Result<PullRequest, crate::json::Error>),
    /// It shall not be delivered again, for a reason that may be empty.
    Terminate(Vec<u8>),
}

impl Ack {
    /// Reads the payload of an ack. `None` is a payload that means nothing.
    pub fn parse(payload: &[u8]) -> Option<Ack> {
        if let Some(request) = payload.strip_prefix(b"+NXT") {
            return Some(Ack::Next(PullRequest::parse(request)));
        }
        if let Some(delay) = payload.strip_prefix(b"-NAK") {
            return Some(Ack::Nak(nak_delay(delay.trim_ascii())));
        }
        if let Some(reason) = payload.strip_prefix(b"+TERM") {
            return Some(Ack::Terminate(reason.trim_ascii().to_vec()));
        }
        match payload {
            b"" | b"+ACK" | b"+OK" => Some(Ack::Ack),
            b"+WPI" => Some(Ack::Progress),
            _ => None,
        }
    }
}

/// A delay that cannot be read is none.
fn nak_delay(text: &[u8]) -> Option<i64> {
    #[derive(serde::Deserialize, Default)]
    #[serde(default, rename = "ConsumerNakOptions")]
    struct NakOptions {
        delay: i64,
    }
    match text.first()? {
        b'{' => crate::json::decode::<NakOptions>(text, crate::json::Mode::Lenient)
            .ok()
            .map(|options| options.delay),
        _ => std::str::from_utf8(text).ok().and_then(|text| duration::parse(text).ok()),
    }
}

/// Appends a number without allocating.
pub(crate) fn append_number(text: &mut Vec<u8>, number: u64) {
    let mut digits = [0_u8; 20];
    let mut rest = number;
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

fn number(digits: &[u8]) -> u64 {
    /// No number of so many digits is too large.
    const SAFE: usize = 19;

    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return u64::MAX;
    }
    let (safe, more) = digits.split_at(digits.len().min(SAFE));
    let value = safe.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    let append = |value: u64, digit: &u8| value.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    more.iter().try_fold(value, append).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn payloads_are_understood() {
        for (payload, ack) in [
            ("", Some(Ack::Ack)),
            ("+ACK", Some(Ack::Ack)),
            ("+OK", Some(Ack::Ack)),
            ("+ACKx", None),
            ("-NAK", Some(Ack::Nak(None))),
            ("-NAK 2s", Some(Ack::Nak(Some(2_000_000_000)))),
            ("-NAK  {\"delay\": 5}", Some(Ack::Nak(Some(5)))),
            ("-NAK {}", Some(Ack::Nak(Some(0)))),
            ("-NAK soon", Some(Ack::Nak(None))),
            ("+WPI", Some(Ack::Progress)),
            ("+WPI ", None),
            ("+TERM", Some(Ack::Terminate(Vec::new()))),
            ("+TERM no good ", Some(Ack::Terminate(b"no good".to_vec()))),
            ("+NXT", Some(Ack::Next(Ok(PullRequest { batch: 1, ..PullRequest::default() })))),
            ("+NXT 5", Some(Ack::Next(Ok(PullRequest { batch: 5, ..PullRequest::default() })))),
            ("hello", None),
        ] {
            assert_eq!(Ack::parse(payload.as_bytes()), ack, "{payload}");
        }
    }

    #[test]
    fn both_forms_are_read() {
        let short = b"$JS.ACK.S.C.1.2.3.4.5";
        let long = b"$JS.ACK._.hash.S.C.1.2.3.4.5";
        let longer = b"$JS.ACK._.hash.S.C.1.2.3.4.5.random.more";
        let delivery = parse(short).expect("nine tokens");
        assert_eq!((delivery.stream, delivery.consumer, delivery.stream_sequence), (&b"S"[..], &b"C"[..], 2));
        assert_eq!(parse(long), Some(delivery));
        assert_eq!(parse(longer), Some(delivery));
        assert_eq!(parse(b"$JS.ACK.S.C.1.2.3.4.5.6"), None);
        assert_eq!(parse(b"$JS.ACK.S.C.1.2"), None);
        let number = |digits: &str| {
            parse(format!("$JS.ACK.S.C.1.{digits}.3.4.5").as_bytes()).map(|delivery| delivery.stream_sequence)
        };
        for (digits, expected) in [
            ("0", 0),
            ("007", 7),
            ("9999999999999999999", 9_999_999_999_999_999_999),
            ("18446744073709551614", u64::MAX - 1),
            ("18446744073709551616", u64::MAX),
            ("00000000000000000000018", 18),
            ("-1", u64::MAX),
            ("12a", u64::MAX),
        ] {
            assert_eq!(number(digits), Some(expected), "{digits}");
        }
        assert_eq!(parse(b"$JS.ACK.S.C.1.x.3.4.5").map(|delivery| delivery.stream_sequence), Some(u64::MAX));
    }

    #[test]
    fn the_long_form_is_of_one_account() {
        let hash = crate::nuid::hash("A");
        let long = [b"$JS.ACK._.", hash.as_bytes(), b".S.C.1.2.3.4.5"].concat();
        assert!(parse_of(&long, "A").is_some() && parse_of(&long, "B").is_none());
        assert!(parse_of(b"$JS.ACK.S.C.1.2.3.4.5", "B").is_some());
    }

    #[test]
    fn flow_control_subjects_are_written_and_read() {
        let subject = ReplyPrefix::v2("", "h", "S", "C").flow_control(7);
        assert!(subject.starts_with(b"$JS.FC._.h.S.C."));
        assert_eq!(parse_flow_control(&subject), Some((&b"S"[..], &b"C"[..])));
        assert_eq!(parse_flow_control(b"$JS.FC.S.C.abcd"), Some((&b"S"[..], &b"C"[..])));
        assert_eq!(parse_flow_control(b"$JS.FC.S.C"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            numbers in prop::array::uniform4(any::<u64>()), timestamp in 0..i64::MAX, long in any::<bool>(),
        ) {
            let delivery = Delivery {
                stream: b"ORDERS", consumer: b"c-1", deliveries: numbers[0], stream_sequence: numbers[1],
                consumer_sequence: numbers[2], timestamp, pending: numbers[3],
            };
            let prefix = if long { ReplyPrefix::v2("hub", "abc", "ORDERS", "c-1") } else { ReplyPrefix::v1("ORDERS", "c-1") };
            let mut subject = Vec::new();
            prefix.append_ack(&mut subject, &delivery);
            prop_assert_eq!(parse(&subject), Some(delivery));
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (parse(&bytes), Ack::parse(&bytes), parse_flow_control(&bytes));
            let _ = Ack::parse(&[b"-NAK ", &bytes[..]].concat());
            let _ = Ack::parse(&[b"+NXT ", &bytes[..]].concat());
        }
    }
}
