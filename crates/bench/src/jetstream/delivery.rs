//! What a consumer delivers, told by the reply subject of a message.

use super::fault::StreamFault;

/// The numbers in the subject to which a delivered message is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// How often the message was delivered, this time included.
    pub times: u64,
    /// Its sequence in the stream.
    pub stream_sequence: u64,
    /// Its sequence in the consumer.
    pub consumer_sequence: u64,
}

impl Delivered {
    /// Reads `$JS.ACK.<stream>.<consumer>.<times>.<stream seq>.<consumer seq>.<time>.<pending>`, or the form with domain
    /// and account in front of the stream.
    pub fn parse(reply: Option<&str>) -> Result<Self, StreamFault> {
        let parse = || -> Option<Self> {
            let tokens = reply?.strip_prefix("$JS.ACK.")?;
            let skipped = if tokens.bytes().filter(|byte| *byte == b'.').count() >= 8 { 4 } else { 2 };
            let mut numbers = tokens.split('.').skip(skipped).map(str::parse::<u64>);
            let mut next = || numbers.next()?.ok();
            Some(Self { times: next()?, stream_sequence: next()?, consumer_sequence: next()? })
        };
        parse().ok_or_else(|| StreamFault::Answer {
            expected: "a reply subject below $JS.ACK".to_owned(),
            found: reply.unwrap_or_default().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let expected = Delivered { times: 1, stream_sequence: 22, consumer_sequence: 3 };
        for reply in
            ["$JS.ACK.S.C.1.22.3.1700000000000000000.5", "$JS.ACK._.HASH.S.C.1.22.3.1700000000000000000.5"]
        {
            assert_eq!(Delivered::parse(Some(reply)), Ok(expected));
        }
        for reply in [None, Some("$JS.ACK.S.C.1.22"), Some("$JS.FC.S.C.abcd"), Some("$JS.ACK.S.C.x.1.1.1.1")]
        {
            assert!(Delivered::parse(reply).is_err(), "{reply:?}");
        }
    }
}
