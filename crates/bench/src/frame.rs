//! Frames a publisher sends: built once, then only the numbers in them are changed.
//!
//! A batch is a run of equally long `PUB` frames in one buffer. To send the next batch, subject (if there are several),
//! publisher, sequence and stamps are written over the old ones, so a message costs a few stores and no formatting.

use crate::payload;

/// Bytes a batch holds at least, if one message is not larger already.
pub const BATCH_BYTES: usize = 64 * 1024;

/// Names of the subjects of one publisher. All are equally long, so that frames are too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    names: Vec<String>,
}

impl Subjects {
    /// One subject for all messages.
    pub fn one(name: impl Into<String>) -> Self {
        Self { names: vec![name.into()] }
    }

    /// Message `n` goes to subject `n % count`; `name` gets a number of fixed width.
    pub fn cycle(count: usize, name: impl Fn(&str) -> String) -> Self {
        let width = count.saturating_sub(1).to_string().len();
        let names: Vec<String> = (0..count.max(1)).map(|index| name(&format!("{index:0width$}"))).collect();
        debug_assert!(names.iter().all(|other| Some(other.len()) == names.first().map(String::len)));
        Self { names }
    }

    /// All names, in the order of the cycle.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// The frames a publisher writes at once.
pub struct Batch {
    bytes: Vec<u8>,
    frame_bytes: usize,
    subject_bytes: usize,
    payload_start: usize,
    payload_bytes: usize,
    /// Empty if there is only one subject: it stands in the frames already.
    subjects: Vec<String>,
    publisher: u32,
}

const VERB: &str = "PUB ";

impl Batch {
    /// As many frames of `payload_bytes` as fill [`BATCH_BYTES`], at least one.
    pub fn new(publisher: u32, subjects: &Subjects, payload_bytes: usize) -> Self {
        Self::with_bytes(publisher, subjects, None, payload_bytes, BATCH_BYTES)
    }

    /// A single frame, with a reply subject if there is one.
    pub fn single(publisher: u32, subjects: &Subjects, reply: Option<&str>, payload_bytes: usize) -> Self {
        Self::with_bytes(publisher, subjects, reply, payload_bytes, 1)
    }

    fn with_bytes(
        publisher: u32,
        subjects: &Subjects,
        reply: Option<&str>,
        payload_bytes: usize,
        batch_bytes: usize,
    ) -> Self {
        let subject = subjects.names().first().map(String::as_str).unwrap_or_default();
        let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
        let mut frame = format!("{VERB}{subject} {reply}{payload_bytes}\r\n").into_bytes();
        let payload_start = frame.len();
        frame.extend_from_slice(&payload::blank(payload_bytes));
        frame.extend_from_slice(b"\r\n");
        let subjects = if subjects.names().len() > 1 { subjects.names().to_vec() } else { Vec::new() };
        let count = batch_bytes.div_ceil(frame.len()).max(1);
        Self {
            bytes: frame.repeat(count),
            frame_bytes: frame.len(),
            subject_bytes: subject.len(),
            payload_start,
            payload_bytes,
            subjects,
            publisher,
        }
    }

    /// Messages in a full batch; at least one.
    pub fn messages(&self) -> u64 {
        (self.bytes.len() / self.frame_bytes) as u64
    }

    /// Bytes of one frame, CRLFs included.
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Bytes of the batch as it was last numbered.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Sends a [`Batch::single`] to another subject, with another reply subject. Both must be as long as before, or they
    /// stay as they are.
    pub fn redirect(&mut self, subject: &str, reply: Option<&str>) {
        let reply = reply.map(|reply| format!(" {reply}")).unwrap_or_default();
        let names = VERB.len()..VERB.len() + subject.len() + reply.len();
        let next_is_size = self.bytes.get(names.end) == Some(&b' ');
        if let Some(place) =
            self.bytes.get_mut(names).filter(|_| next_is_size && subject.len() == self.subject_bytes)
        {
            let (first, second) = place.split_at_mut(subject.len());
            first.copy_from_slice(subject.as_bytes());
            second.copy_from_slice(reply.as_bytes());
        }
    }

    /// Makes this the batch whose first message is `sequence`.
    pub fn number_from(&mut self, sequence: u64) {
        let payload = self.payload_start..self.payload_start + self.payload_bytes;
        let subject = VERB.len()..VERB.len() + self.subject_bytes;
        let subjects = self.subjects.len() as u64;
        for (frame, sequence) in self.bytes.chunks_exact_mut(self.frame_bytes).zip(sequence..) {
            if let Some(name) = sequence.checked_rem(subjects).and_then(|at| self.subjects.get(at as usize))
                && let Some(place) = frame.get_mut(subject.clone())
            {
                place.copy_from_slice(name.as_bytes());
            }
            if let Some(payload) = frame.get_mut(payload.clone()) {
                payload::stamp(payload, self.publisher, sequence);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_what_the_protocol_wants() {
        let mut batch = Batch::single(1, &Subjects::one("a.b"), None, 16);
        batch.number_from(0x0102);
        assert_eq!(batch.bytes()[..12], *b"PUB a.b 16\r\n");
        assert_eq!(batch.bytes()[12..24], [1, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(batch.bytes()[28..], *b"\r\n");
        let batch = Batch::single(1, &Subjects::one("a.b"), Some("in.box"), 100);
        assert_eq!(batch.bytes()[..20], *b"PUB a.b in.box 100\r\n");
    }

    #[test]
    fn a_single_frame_can_be_redirected() {
        let mut batch = Batch::single(1, &Subjects::one("a.b"), Some("in.1"), 16);
        batch.redirect("a.c", Some("in.2"));
        assert_eq!(batch.bytes()[..17], *b"PUB a.c in.2 16\r\n");
        batch.redirect("a.long", Some("in.2"));
        assert_eq!(batch.bytes()[..17], *b"PUB a.c in.2 16\r\n");
    }

    #[test]
    fn subjects_go_round() {
        let subjects = Subjects::cycle(11, |index| format!("a.{index}.x"));
        assert_eq!(subjects.names()[10], "a.10.x");
        let mut batch = Batch::new(1, &subjects, 16);
        batch.number_from(21);
        let frames: Vec<_> = batch.bytes().chunks(batch.frame_bytes()).collect();
        assert_eq!(frames[0][..14], *b"PUB a.10.x 16\r");
        assert_eq!(frames[1][..14], *b"PUB a.00.x 16\r");
        assert_eq!(payload::claimed_sequence(&frames[1][15..31]), Some(22));
    }

    #[test]
    fn a_batch_has_64_kib_or_one_message() {
        for (size, messages) in [(16, 2185), (1024, 64), (8192, 8), (65536, 1)] {
            let batch = Batch::new(1, &Subjects::one("abc"), size);
            assert_eq!(batch.messages(), messages, "{size}");
            assert!(batch.bytes().len() >= BATCH_BYTES);
        }
    }
}
