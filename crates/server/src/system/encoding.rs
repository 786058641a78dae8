//! Answers in fewer bytes, for those who say that they understand it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// The header by which a request says what it understands; its case counts, as in the original.
pub(crate) const ACCEPT_ENCODING: &str = "Accept-Encoding";

/// What a stream of Snappy frames begins with.
const SNAPPY_STREAM: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// Bytes of one Snappy frame before compression; no more are allowed.
const SNAPPY_FRAME_BYTES: usize = 64 * 1024;

const SNAPPY_COMPRESSED: u8 = 0;
const SNAPPY_PLAIN: u8 = 1;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Plainly: nobody asked for anything else.
    Plain,
    /// Plainly, and saying so: something else was asked for that there is not.
    Identity,
    /// Compressed by gzip.
    Gzip,
    /// In Snappy frames, which whoever reads S2 reads too.
    Snappy,
}

impl Encoding {
    /// What a request asks for.
    pub(super) fn accepted(headers: &[u8]) -> Self {
        let text = String::from_utf8_lossy(headers);
        let value = |line: &'_ str| line.strip_prefix(ACCEPT_ENCODING)?.strip_prefix(':').map(str::to_owned);
        Self::of(&text.split("\r\n").find_map(value).unwrap_or_default())
    }

    /// What a value of that header asks for.
    pub(crate) fn of(accepted: &str) -> Self {
        match accepted.trim().to_ascii_lowercase() {
            none if none.is_empty() => Self::Plain,
            some if some.contains("snappy") || some.contains("s2") => Self::Snappy,
            some if some.contains("gzip") => Self::Gzip,
            _ => Self::Identity,
        }
    }

    /// The headers of an answer; empty for none.
    pub(crate) fn headers(self) -> &'static [u8] {
        match self {
            Self::Plain => b"",
            Self::Identity => b"NATS/1.0\r\nContent-Encoding: identity\r\n\r\n",
            Self::Gzip => b"NATS/1.0\r\nContent-Encoding: gzip\r\n\r\n",
            Self::Snappy => b"NATS/1.0\r\nContent-Encoding: snappy\r\n\r\n",
        }
    }

    /// The answer as it is written.
    pub(crate) fn encode(self, body: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Plain | Self::Identity => body,
            Self::Gzip => gzip(&body),
            Self::Snappy => snappy(&body),
        }
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

/// In Snappy frames.
pub(crate) fn snappy(body: &[u8]) -> Vec<u8> {
    let mut stream = SNAPPY_STREAM.to_vec();
    for frame in body.chunks(SNAPPY_FRAME_BYTES) {
        let compressed = minlz::encode_snappy(frame);
        let (kind, data) = match compressed.len() < frame.len() {
            true => (SNAPPY_COMPRESSED, compressed.as_slice()),
            false => (SNAPPY_PLAIN, frame),
        };
        // Fits in the three bytes that there are for it: no frame is longer than 64 KiB and a little.
        let length = (data.len() + 4) as u32;
        stream.push(kind);
        stream.extend_from_slice(&length.to_le_bytes()[..3]);
        stream.extend_from_slice(&minlz::crc::crc(frame).to_le_bytes());
        stream.extend_from_slice(data);
    }
    stream
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_asked_for_decides() {
        for (headers, encoding) in [
            ("", Encoding::Plain),
            ("NATS/1.0\r\nX: gzip\r\n\r\n", Encoding::Plain),
            ("NATS/1.0\r\naccept-encoding: gzip\r\n\r\n", Encoding::Plain),
            ("NATS/1.0\r\nAccept-Encoding: \r\n\r\n", Encoding::Plain),
            ("NATS/1.0\r\nAccept-Encoding: GZIP\r\n\r\n", Encoding::Gzip),
            ("NATS/1.0\r\nA: b\r\nAccept-Encoding:gzip, s2\r\n\r\n", Encoding::Snappy),
            ("NATS/1.0\r\nAccept-Encoding: snappy\r\n\r\n", Encoding::Snappy),
            ("NATS/1.0\r\nAccept-Encoding: br\r\n\r\n", Encoding::Identity),
        ] {
            assert_eq!(Encoding::accepted(headers.as_bytes()), encoding, "{headers:?}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let noise: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for body in [b"".to_vec(), b"{}".to_vec(), b"{\"a\":1}".repeat(30_000), noise] {
            let mut read = Vec::new();
            let gzip = Encoding::Gzip.encode(body.clone());
            flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut read).unwrap();
            assert!(read == body);
            read.clear();
            let snappy = Encoding::Snappy.encode(body.clone());
            minlz::Reader::new(&snappy[..]).read_to_end(&mut read).unwrap();
            assert!(read == body);
        }
    }
}
