//! Cuts what a server sends into frames: one line, or a message line with its payload.
//!
//! The cutter trusts nothing: a message line whose size cannot be read is a frame of its own, so that a broken server
//! shows up in the transcript instead of stopping the judge.

/// A message larger than this is not waited for; its line stands alone in the transcript.
const PAYLOAD_BYTES_MAX: usize = 128 << 20;

/// Length of the first whole frame in `received`, `None` while it is not there yet.
pub fn first_frame(received: &[u8]) -> Option<usize> {
    let line = received.iter().position(|&byte| byte == b'\n')? + 1;
    let total = line + payload_bytes(received.get(..line).unwrap_or_default());
    (received.len() >= total).then_some(total)
}

/// Bytes that belong to the frame behind its line: payload and final CR LF of MSG and HMSG, otherwise nothing.
fn payload_bytes(line: &[u8]) -> usize {
    if !is_message(line) {
        return 0;
    }
    // Only the last word has to be text; a subject may hold any byte.
    let size = line.trim_ascii_end().rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    match std::str::from_utf8(size).ok().and_then(|digits| digits.parse::<usize>().ok()) {
        Some(size) if size <= PAYLOAD_BYTES_MAX => size + 2,
        _ => 0,
    }
}

/// Whether the frame delivers a message.
pub fn is_message(frame: &[u8]) -> bool {
    frame.starts_with(b"MSG ") || frame.starts_with(b"HMSG ")
}

/// The id of the subscription that a message is delivered to; `None` for other frames.
pub fn subscription(frame: &[u8]) -> Option<&[u8]> {
    is_message(frame).then(|| frame.split(|&byte| byte == b' ').nth(2)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_end_where_the_protocol_says() {
        for (received, frame) in [
            (b"".as_slice(), None),
            (b"PON", None),
            (b"PONG\r\nPING\r\n", Some(6)),
            (b"MSG a 1 2\r\nhi\r", None),
            (b"MSG a 1 2\r\nhi\r\nPONG\r\n", Some(15)),
            (b"MSG a 1 2\r\n\r\n\r\nPONG\r\n", Some(15)),
            (b"HMSG a 1  12 12\r\nNATS/1.0\r\n\r\n\r\n+OK\r\n", Some(31)),
            (b"MSG \xff 1 2\r\nhi\r\nPONG\r\n", Some(15)),
            (b"MSG a 1 many\r\n+OK\r\n", Some(14)),
        ] {
            assert_eq!(first_frame(received), frame, "{}", String::from_utf8_lossy(received));
        }
    }
}
