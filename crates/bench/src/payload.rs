//! What is inside a message, and how a reader knows that it arrived whole.
//!
//! A payload says who sent it and which one it is, ends with a word computed from that number, and carries such a word
//! at every [`STAMP_STRIDE`] bytes between. All other bytes are a fixed pattern that depends on the position only. So a
//! message that was cut, shifted, or mixed with parts of another one cannot look right, and both writing and checking
//! touch only a few words per message.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | publisher, little endian |
//! | 4..12 | sequence, little endian, from 0 |
//! | `k * STAMP_STRIDE` .. + 8 (k ≥ 1, before the tail) | stamp of the sequence and `k` |
//! | last 4 | tail of the sequence |
//! | others | pattern of the position |

use std::fmt;

/// The smallest payload: publisher, sequence and tail.
pub const PAYLOAD_BYTES_MIN: usize = 16;
/// Distance between stamps. A block of another message that is at least this long always covers a stamp.
const STAMP_STRIDE: usize = 1024;
const HEAD_BYTES: usize = 12;
const TAIL_BYTES: usize = 4;
/// Above this size the pattern is checked through a window that moves with the sequence, not as a whole: a full
/// comparison of large payloads would cost the generator a good part of what the server spends on copying them.
const PATTERN_CHECKED_WHOLE_MAX: usize = 1024;
const PATTERN_WINDOW: usize = 64;

/// A payload with the pattern filled in and no message in it yet.
pub fn blank(size: usize) -> Vec<u8> {
    debug_assert!(size >= PAYLOAD_BYTES_MIN);
    (0..size).map(pattern).collect()
}

/// Any byte may occur, CR and LF among them: a server that looks for line ends inside payloads fails the check.
fn pattern(position: usize) -> u8 {
    (position.wrapping_mul(7).wrapping_add(position >> 8).wrapping_add(13) & 0xff) as u8
}

/// Makes `payload`, which came from [`blank`], the message `sequence` of `publisher`.
#[inline]
pub fn stamp(payload: &mut [u8], publisher: u32, sequence: u64) {
    if let Some(head) = payload.first_chunk_mut::<HEAD_BYTES>() {
        *head = head_of(publisher, sequence);
    }
    if let Some(tail) = payload.last_chunk_mut::<TAIL_BYTES>() {
        *tail = tail_of(sequence);
    }
    if payload.len() > STAMP_STRIDE {
        for (block, place) in stamps(payload.len()) {
            if let Some(word) = payload.get_mut(place..).and_then(|rest| rest.first_chunk_mut::<8>()) {
                *word = stamp_of(sequence, block);
            }
        }
    }
}

/// The sequence that a payload claims to have; `None` if it is too short to have one.
#[inline]
pub fn claimed_sequence(payload: &[u8]) -> Option<u64> {
    payload.get(4..).and_then(|rest| rest.first_chunk::<8>()).map(|bytes| u64::from_le_bytes(*bytes))
}

/// The publisher that a payload claims to be of; `None` if it is too short to have one.
#[inline]
pub fn claimed_publisher(payload: &[u8]) -> Option<u32> {
    payload.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Checks that `payload` is the message `sequence` of `publisher`; `blank` is the blank payload of that size.
#[inline]
pub fn check(payload: &[u8], blank: &[u8], publisher: u32, sequence: u64) -> Result<(), PayloadFault> {
    if payload.len() != blank.len() {
        return Err(PayloadFault::Length);
    }
    if payload.first_chunk::<HEAD_BYTES>() != Some(&head_of(publisher, sequence)) {
        return Err(match claimed_sequence(payload) {
            Some(found) if found != sequence => PayloadFault::Sequence { expected: sequence, found },
            _ => PayloadFault::Publisher,
        });
    }
    if payload.last_chunk::<TAIL_BYTES>() != Some(&tail_of(sequence)) {
        return Err(PayloadFault::Tail { sequence });
    }
    if payload.len() > PAYLOAD_BYTES_MIN {
        check_middle(payload, blank, sequence)?;
    }
    Ok(())
}

fn check_middle(payload: &[u8], blank: &[u8], sequence: u64) -> Result<(), PayloadFault> {
    let size = payload.len();
    if size <= PATTERN_CHECKED_WHOLE_MAX {
        let middle = HEAD_BYTES..size - TAIL_BYTES;
        return match payload.get(middle.clone()) == blank.get(middle) {
            true => Ok(()),
            false => Err(PayloadFault::Pattern { sequence }),
        };
    }
    for (block, place) in stamps(size) {
        let word = payload.get(place..).and_then(|rest| rest.first_chunk::<8>());
        if word != Some(&stamp_of(sequence, block)) {
            return Err(PayloadFault::Stamp { sequence, position: place });
        }
    }
    // The window stays between two stamps: it starts after one, and ends before the next or before the tail.
    let blocks = size.div_ceil(STAMP_STRIDE) as u64;
    let block = (sequence % blocks) as usize * STAMP_STRIDE;
    let end = (block + STAMP_STRIDE).min(size - TAIL_BYTES);
    let start = block + HEAD_BYTES;
    if start + PATTERN_WINDOW <= end {
        let steps = (end - start - PATTERN_WINDOW) as u64 + 1;
        let from = start + (sequence.wrapping_mul(61) % steps) as usize;
        let window = from..from + PATTERN_WINDOW;
        if payload.get(window.clone()) != blank.get(window) {
            return Err(PayloadFault::Pattern { sequence });
        }
    }
    Ok(())
}

/// Number and position of every stamp of a payload of `size` bytes.
fn stamps(size: usize) -> impl Iterator<Item = (u64, usize)> {
    let end = size.saturating_sub(8 + TAIL_BYTES);
    (1..).map(|block: u64| (block, block as usize * STAMP_STRIDE)).take_while(move |(_, place)| *place <= end)
}

fn head_of(publisher: u32, sequence: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let (who, which) = head.split_at_mut(4);
    who.copy_from_slice(&publisher.to_le_bytes());
    which.copy_from_slice(&sequence.to_le_bytes());
    head
}

fn tail_of(sequence: u64) -> [u8; TAIL_BYTES] {
    ((sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32).to_le_bytes()
}

fn stamp_of(sequence: u64, block: u64) -> [u8; 8] {
    (sequence ^ (block << 40)).wrapping_mul(0xd6e8_feb8_6659_fd93).to_le_bytes()
}

/// Why a payload is not the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadFault {
    /// It is shorter or longer.
    Length,
    /// It is of another publisher.
    Publisher,
    /// It is another message of the same publisher: one was lost, repeated or overtaken.
    Sequence {
        /// The next sequence in order.
        expected: u64,
        /// The sequence in the payload.
        found: u64,
    },
    /// The last bytes do not belong to the sequence at the front.
    Tail {
        /// The sequence in the payload.
        sequence: u64,
    },
    /// A word in the middle does not belong to the sequence at the front.
    Stamp {
        /// The sequence in the payload.
        sequence: u64,
        /// Position of the word.
        position: usize,
    },
    /// A byte of the fixed pattern differs.
    Pattern {
        /// The sequence in the payload.
        sequence: u64,
    },
}

impl fmt::Display for PayloadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "payload has a wrong length"),
            Self::Publisher => write!(f, "payload is of another publisher"),
            Self::Sequence { expected, found } if found > expected => {
                write!(f, "message {expected} is missing (lost or overtaken): {found} came instead")
            }
            Self::Sequence { expected, found } => {
                write!(f, "message {found} came again or late, where {expected} was due")
            }
            Self::Tail { sequence } => write!(f, "end of message {sequence} is not its own"),
            Self::Stamp { sequence, position } => {
                write!(f, "byte {position} of message {sequence} is of another message")
            }
            Self::Pattern { sequence } => write!(f, "message {sequence} has changed bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(size: usize, publisher: u32, sequence: u64) -> Vec<u8> {
        let mut payload = blank(size);
        stamp(&mut payload, publisher, sequence);
        payload
    }

    #[test]
    fn a_stamped_payload_is_accepted_at_every_size() {
        for size in (16..1100).chain([2047, 2048, 2052, 2060, 8192, 65536]) {
            let blank = blank(size);
            for sequence in [0, 1, 63, u64::from(u32::MAX) + 5] {
                assert_eq!(
                    check(&message(size, 3, sequence), &blank, 3, sequence),
                    Ok(()),
                    "{size} {sequence}"
                );
            }
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        let blank_16 = blank(16);
        let good = message(16, 1, 7);
        assert_eq!(check(&good, &blank_16, 2, 7), Err(PayloadFault::Publisher));
        assert_eq!(check(&good, &blank_16, 1, 6), Err(PayloadFault::Sequence { expected: 6, found: 7 }));
        assert_eq!(check(&good[..15], &blank_16, 1, 7), Err(PayloadFault::Length));
        let mut tail = good.clone();
        tail[15] ^= 1;
        assert_eq!(check(&tail, &blank_16, 1, 7), Err(PayloadFault::Tail { sequence: 7 }));
        let mut middle = message(100, 1, 7);
        middle[50] ^= 1;
        assert_eq!(check(&middle, &blank(100), 1, 7), Err(PayloadFault::Pattern { sequence: 7 }));
    }

    #[test]
    fn a_block_of_another_message_is_seen() {
        // The story: a server that reused its read buffer too early delivered whole messages of the right length
        // whose middle was of a later message.
        let blank = blank(8192);
        let mut mixed = message(8192, 1, 7);
        mixed[3000..4200].copy_from_slice(&message(8192, 1, 9)[3000..4200]);
        assert_eq!(check(&mixed, &blank, 1, 7), Err(PayloadFault::Stamp { sequence: 7, position: 3072 }));
    }

    proptest! {
        #[test]
        fn any_changed_byte_of_a_small_payload_is_seen(size in 16usize..=1024, at in 0usize..1024, with in 1u8..) {
            let mut payload = message(size, 1, 42);
            payload[at % size] ^= with;
            prop_assert!(check(&payload, &blank(size), 1, 42).is_err());
        }

        #[test]
        fn a_shifted_payload_is_seen(size in 16usize..5000, shift in 1usize..16) {
            let mut stream = message(size, 1, 42);
            stream.extend_from_slice(&message(size, 1, 43));
            prop_assert!(check(&stream[shift..shift + size], &blank(size), 1, 42).is_err());
        }
    }
}
