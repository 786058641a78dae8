//! Header blocks as bytes: `NATS/1.0\r\nName: value\r\n…\r\n\r\n`.
//!
//! A block is what a publisher sent and is handed on unchanged; nothing here copies or checks it as a whole. Names are
//! compared with regard to case, and of several fields with one name the first counts, as in the reference. A block without
//! fields is no block: removing the last field leaves nothing.

/// The first line of a block.
pub const VERSION_LINE: &[u8] = b"NATS/1.0\r\n";
/// The longest block, bytes.
pub const BYTES_MAX: usize = 64 * 1024;

/// Names of fields.
pub mod name {
    #![allow(missing_docs, reason = "the names say what NATS documents")]
    pub const MSG_ID: &str = "Nats-Msg-Id";
    pub const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
    pub const EXPECTED_LAST_SEQUENCE: &str = "Nats-Expected-Last-Sequence";
    pub const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
    pub const EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
    pub const EXPECTED_LAST_MSG_ID: &str = "Nats-Expected-Last-Msg-Id";
    pub const EXPECTED_PREFIX: &str = "Nats-Expected-";
    pub const STREAM_SOURCE: &str = "Nats-Stream-Source";
    pub const LAST_CONSUMER: &str = "Nats-Last-Consumer";
    pub const LAST_STREAM: &str = "Nats-Last-Stream";
    pub const CONSUMER_STALLED: &str = "Nats-Consumer-Stalled";
    pub const ROLLUP: &str = "Nats-Rollup";
    pub const MSG_SIZE: &str = "Nats-Msg-Size";
    pub const RESPONSE_TYPE: &str = "Nats-Response-Type";
    pub const TTL: &str = "Nats-TTL";
    pub const MARKER_REASON: &str = "Nats-Marker-Reason";
    pub const INCREMENT: &str = "Nats-Incr";
    pub const COUNTER_SOURCES: &str = "Nats-Counter-Sources";
    pub const BATCH_PREFIX: &str = "Nats-Batch-";
    pub const BATCH_ID: &str = "Nats-Batch-Id";
    pub const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
    pub const BATCH_COMMIT: &str = "Nats-Batch-Commit";
    pub const SCHEDULE: &str = "Nats-Schedule";
    pub const SCHEDULE_TIME_ZONE: &str = "Nats-Schedule-Time-Zone";
    pub const SCHEDULE_TTL: &str = "Nats-Schedule-TTL";
    pub const SCHEDULE_ROLLUP: &str = "Nats-Schedule-Rollup";
    pub const SCHEDULE_TARGET: &str = "Nats-Schedule-Target";
    pub const SCHEDULE_SOURCE: &str = "Nats-Schedule-Source";
    pub const SCHEDULE_NEXT: &str = "Nats-Schedule-Next";
    pub const SCHEDULER: &str = "Nats-Scheduler";
    pub const KV_OPERATION: &str = "KV-Operation";
    pub const STREAM: &str = "Nats-Stream";
    pub const SUBJECT: &str = "Nats-Subject";
    pub const SEQUENCE: &str = "Nats-Sequence";
    pub const TIME_STAMP: &str = "Nats-Time-Stamp";
    pub const LAST_SEQUENCE: &str = "Nats-Last-Sequence";
    pub const NUM_PENDING: &str = "Nats-Num-Pending";
    pub const UP_TO_SEQUENCE: &str = "Nats-UpTo-Sequence";
    pub const PENDING_MESSAGES: &str = "Nats-Pending-Messages";
    pub const PENDING_BYTES: &str = "Nats-Pending-Bytes";
    pub const PIN_ID: &str = "Nats-Pin-Id";
    pub const REQUIRED_API_LEVEL: &str = "Nats-Required-Api-Level";
    pub const STREAM_IDENTITY: &str = "Nats-Stream-Identity";
    pub const REQUEST_INFO: &str = "Nats-Request-Info";
}

/// The value of the first field called `name`, without the blanks before it; what stands after it is kept.
pub fn get<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let start = find(block, name)?;
    let rest = block.get(start + name.len() + 1..)?;
    let blanks = rest.iter().take_while(|byte| **byte == b' ').count();
    let value = &rest[blanks..];
    Some(line_end(value).map_or(value, |end| &value[..end - 2]))
}

/// Like [`get`], for a value that must be text.
pub fn get_str<'a>(block: &'a [u8], name: &str) -> Option<&'a str> {
    get(block, name).and_then(|value| std::str::from_utf8(value).ok())
}

/// Whether there is a field called `name`.
pub fn has(block: &[u8], name: &str) -> bool {
    find(block, name).is_some()
}

/// All fields in their order, values without the blanks before them. Lines without a colon are passed over.
pub fn fields(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = line_end(block).and_then(|end| block.get(end..)).unwrap_or_default();
    std::iter::from_fn(move || {
        loop {
            let end = line_end(rest)?;
            let line = &rest[..end - 2];
            rest = &rest[end..];
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let value = &line[colon + 1..];
            let blanks = value.iter().take_while(|byte| **byte == b' ').count();
            return Some((&line[..colon], &value[blanks..]));
        }
    })
}

/// Adds a field at the end, beginning a block if there is none. The value must not hold a line's end.
pub fn append(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    if block.len() > VERSION_LINE.len() {
        block.truncate(block.len() - 2);
    } else {
        block.clear();
        block.extend_from_slice(VERSION_LINE);
    }
    block.reserve(name.len() + value.len() + 6);
    block.extend_from_slice(name.as_bytes());
    block.extend_from_slice(b": ");
    // A line's end inside a value would let one field forge others.
    block.extend(value.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    block.extend_from_slice(b"\r\n\r\n");
}

/// Replaces all fields called `name` by one at the end.
pub fn set(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    remove(block, name);
    append(block, name, value);
}

/// Gives the first field called `name` another value where it stands, or adds one at the end.
pub fn replace(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    let Some(start) = find(block, name) else { return append(block, name, value) };
    let end = line_end(&block[start..]).map_or(block.len(), |length| start + length);
    let value = value.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte });
    let line: Vec<u8> = name.bytes().chain(*b": ").chain(value).chain(*b"\r\n").collect();
    block.splice(start..end, line);
}

/// Removes all fields called `name`.
pub fn remove(block: &mut Vec<u8>, name: &str) {
    remove_where(block, |field| field == name.as_bytes());
}

/// Removes all fields whose name begins with `prefix`.
pub fn remove_prefix(block: &mut Vec<u8>, prefix: &str) {
    remove_where(block, |field| field.starts_with(prefix.as_bytes()));
}

/// The status of a block such as `NATS/1.0 100 Idle Heartbeat`: what follows the version.
pub fn status(block: &[u8]) -> Option<&[u8]> {
    let line = &block[..line_end(block)? - 2];
    line.strip_prefix(b"NATS/1.0 ").map(<[u8]>::trim_ascii).filter(|status| !status.is_empty())
}

/// Where the line of the first field called `name` begins. The first line has no field.
fn find(block: &[u8], name: &str) -> Option<usize> {
    let mut start = line_end(block)?;
    loop {
        let line = block.get(start..)?;
        if line.get(name.len()) == Some(&b':') && line.starts_with(name.as_bytes()) {
            return Some(start);
        }
        start += line_end(line)?;
    }
}

fn remove_where(block: &mut Vec<u8>, unwanted: impl Fn(&[u8]) -> bool) {
    let mut at = line_end(block).unwrap_or(block.len());
    while let Some(length) = block.get(at..).and_then(line_end) {
        let line = &block[at..at + length];
        match memchr::memchr(b':', line) {
            Some(colon) if unwanted(&line[..colon]) => {
                block.drain(at..at + length);
            }
            _ => at += length,
        }
    }
    if block.len() <= VERSION_LINE.len() + 2 {
        block.clear();
    }
}

/// The length of the first line with its end.
fn line_end(text: &[u8]) -> Option<usize> {
    // Lines are short: looking for one byte and at the one before it is faster than looking for both.
    memchr::memchr_iter(b'\n', text).find(|at| *at > 0 && text[at - 1] == b'\r').map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_found() {
        let block = b"NATS/1.0\r\nNats-Msg-Idx: no\r\nX: Nats-Msg-Id: no\r\nNats-Msg-Id:  a b \r\nNats-Msg-Id: second\r\n\r\n";
        assert_eq!(get(block, name::MSG_ID), Some(&b"a b "[..]));
        assert_eq!(get(block, "nats-msg-id"), None);
        assert_eq!(get(block, "X"), Some(&b"Nats-Msg-Id: no"[..]));
        assert_eq!(fields(block).count(), 4);
        assert_eq!(get(b"", "X"), None);
        assert_eq!(get(b"NATS/1.0\r\nX:", "X"), Some(&b""[..]));
        assert!(!has(block, ""));
    }

    #[test]
    fn fields_come_and_go() {
        let mut block = Vec::new();
        append(&mut block, "A", b"1");
        append(&mut block, "B", b"2\r\nC: 3");
        assert_eq!(block, b"NATS/1.0\r\nA: 1\r\nB: 2  C: 3\r\n\r\n");
        set(&mut block, "A", b"9");
        assert_eq!(block, b"NATS/1.0\r\nB: 2  C: 3\r\nA: 9\r\n\r\n");
        replace(&mut block, "B", b"4\r\n");
        replace(&mut block, "D", b"5");
        assert_eq!(block, b"NATS/1.0\r\nB: 4  \r\nA: 9\r\nD: 5\r\n\r\n");
        remove(&mut block, "D");
        append(&mut block, "Nats-Schedule", b"x");
        append(&mut block, "Nats-Schedule-TTL", b"y");
        append(&mut block, "Nats-Scheduler", b"z");
        remove_prefix(&mut block, "Nats-Schedule");
        remove(&mut block, "B");
        assert_eq!(block, b"NATS/1.0\r\nA: 9\r\n\r\n");
        remove(&mut block, "A");
        assert!(block.is_empty());
    }

    #[test]
    fn the_status_follows_the_version() {
        assert_eq!(status(b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"), Some(&b"100 Idle Heartbeat"[..]));
        assert_eq!(status(b"NATS/1.0\r\nA: 1\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn what_was_added_is_found(values in prop::collection::vec("[a-z ]{0,5}", 1..6)) {
            let mut block = Vec::new();
            for (at, value) in values.iter().enumerate() {
                append(&mut block, &format!("F{at}"), value.as_bytes());
            }
            for (at, value) in values.iter().enumerate() {
                prop_assert_eq!(get_str(&block, &format!("F{at}")), Some(value.trim_start_matches(' ')));
            }
            prop_assert_eq!(fields(&block).count(), values.len());
            for at in 0..values.len() {
                remove(&mut block, &format!("F{at}"));
            }
            prop_assert!(block.is_empty());
        }

        #[test]
        fn nothing_panics(block in "[A:\r\n ]{0,40}") {
            let bytes = block.as_bytes();
            let _ = (get(bytes, "A"), status(bytes), fields(bytes).count());
            let mut bytes = bytes.to_vec();
            remove(&mut bytes, "A");
            set(&mut bytes, "A", b"x");
        }
    }
}
