//! The unfinished rest of a connection's input between turns.
//!
//! Input is read into the buffer of the thread that happens to serve the connection; only what could not be carried
//! out yet stays with the connection. An idle connection keeps nothing.

use std::io;
use std::task::{Poll, ready};

use crate::socket::Input;

/// Bytes that are read while nothing can be carried out. They are read to learn of the end of the input that comes behind
/// them; more than a client's first few operations is not worth memory before it is known who sends them.
const AHEAD_BYTES_MAX: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbound {
    kept: Vec<u8>,
    /// How long the input must be before it is worth a turn; 0 is at once, without reading.
    bytes_needed: usize,
}

/// Where the input of a turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the thread's buffer, from its start.
    Buffer(usize),
    /// With the connection: an operation longer than the buffer, or one that had to wait.
    Kept,
}

impl Inbound {
    /// No input; `first` was read ahead.
    pub(crate) fn new(first: Vec<u8>) -> Self {
        let bytes_needed = usize::from(first.is_empty());
        Self { kept: first, bytes_needed }
    }

    /// Gives up what was read ahead.
    pub(crate) fn take_kept(&mut self) -> Vec<u8> {
        self.bytes_needed = 1;
        std::mem::take(&mut self.kept)
    }

    /// Bytes that are kept.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// Whether a turn needs nothing to be read.
    pub(crate) fn is_ready(&self) -> bool {
        self.bytes_needed == 0
    }

    /// Reads, and says where the input for a turn is; `None` when it is not enough for one yet.
    pub(crate) fn poll(
        &mut self,
        buffer: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<Input>>,
    ) -> Poll<io::Result<Result<Source, InputEnd>>> {
        if self.bytes_needed == 0 {
            return Poll::Ready(Ok(Ok(Source::Kept)));
        }
        let kept = self.kept.len();
        if self.bytes_needed > buffer.len() || kept >= buffer.len() {
            let Input::Bytes(count) = ready!(read(buffer))? else {
                return Poll::Ready(Ok(Err(InputEnd::Ended)));
            };
            self.kept.extend_from_slice(&buffer[..count]);
            let enough = self.kept.len() >= self.bytes_needed;
            return Poll::Ready(Ok(if enough { Ok(Source::Kept) } else { Err(InputEnd::TooShort) }));
        }
        let Input::Bytes(count) = ready!(read(&mut buffer[kept..]))? else {
            return Poll::Ready(Ok(Err(InputEnd::Ended)));
        };
        let total = kept + count;
        if total < self.bytes_needed {
            self.kept.extend_from_slice(&buffer[kept..total]);
            return Poll::Ready(Ok(Err(InputEnd::TooShort)));
        }
        buffer[..kept].copy_from_slice(&self.kept);
        Poll::Ready(Ok(Ok(Source::Buffer(total))))
    }

    /// Reads while no turn can be had, within a bound, and says when nothing will come any more.
    pub(crate) fn poll_end(
        &mut self,
        buffer: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> Poll<io::Result<Input>>,
    ) -> Poll<io::Result<InputEnd>> {
        while let room @ 1.. = AHEAD_BYTES_MAX.saturating_sub(self.kept.len()).min(buffer.len()) {
            match ready!(read(&mut buffer[..room]))? {
                Input::Bytes(count) => {
                    self.kept.extend_from_slice(&buffer[..count]);
                    // The next turn looks at what there is before it waits for more.
                    self.bytes_needed = 0;
                }
                Input::End => return Poll::Ready(Ok(InputEnd::Ended)),
            }
        }
        Poll::Pending
    }

    /// Whether all that is kept asks for nothing but an answer.
    pub(crate) fn holds_pings_only(&self) -> bool {
        let mut rest = &self.kept[..];
        while let Some(next) = rest.strip_prefix(b"PING\r\n") {
            rest = next;
        }
        rest.is_empty()
    }

    /// The input of a turn.
    pub(crate) fn input<'a>(&'a self, buffer: &'a [u8], source: Source) -> &'a [u8] {
        match source {
            Source::Buffer(total) => &buffer[..total],
            Source::Kept => &self.kept,
        }
    }

    /// Ends a turn: `consumed` bytes are done with, and the rest waits until there are `bytes_needed`.
    pub(crate) fn settle(&mut self, buffer: &[u8], source: Source, consumed: usize, bytes_needed: usize) {
        match source {
            Source::Buffer(total) if consumed == total => self.kept = Vec::new(),
            Source::Buffer(total) => {
                self.kept.clear();
                self.kept.extend_from_slice(&buffer[consumed..total]);
            }
            Source::Kept if consumed == self.kept.len() => self.kept = Vec::new(),
            Source::Kept => {
                self.kept.drain(..consumed);
                self.kept.shrink_to(buffer.len());
            }
        }
        self.bytes_needed = bytes_needed;
    }
}

/// Why there is no input for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputEnd {
    /// More must come first.
    TooShort,
    /// Nothing will come any more.
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays reads of the given sizes over consecutive bytes; each turn consumes all whole frames of `frame` bytes.
    fn play(buffer_bytes: usize, frame: usize, reads: &[usize]) -> Vec<u8> {
        let mut buffer = vec![0; buffer_bytes];
        let mut inbound = Inbound::new(Vec::new());
        let (mut next, mut seen) = (0u8, Vec::new());
        for read in reads {
            let polled = inbound.poll(&mut buffer, |space| {
                let count = (*read).min(space.len());
                for byte in &mut space[..count] {
                    *byte = next;
                    next = next.wrapping_add(1);
                }
                Poll::Ready(Ok(Input::Bytes(count)))
            });
            let Poll::Ready(Ok(Ok(source))) = polled else { continue };
            let input = inbound.input(&buffer, source);
            let consumed = input.len() / frame * frame;
            seen.extend_from_slice(&input[..consumed]);
            let rest = input.len() - consumed;
            inbound.settle(&buffer, source, consumed, if rest == 0 { 1 } else { frame });
        }
        seen
    }

    #[test]
    fn frames_come_out_whole_and_in_order_whatever_the_reads() {
        for frame in [1, 3, 8, 20, 50] {
            for reads in [vec![1; 200], vec![7; 60], vec![8, 1, 3, 64, 2, 30, 30, 30], vec![100; 9]] {
                let seen = play(16, frame, &reads);
                let expected: Vec<u8> = (0..seen.len()).map(|at| at as u8).collect();
                assert_eq!(seen, expected, "frame {frame}, reads {reads:?}");
                assert!(
                    seen.len() + frame + 16 > reads.iter().map(|read| (*read).min(16)).sum::<usize>() / 2
                );
            }
        }
    }

    #[test]
    fn reading_ahead_is_bounded_and_notices_the_end() {
        let mut buffer = [7; 1000];
        let mut inbound = Inbound::new(Vec::new());
        let mut endless = |space: &mut [u8]| Poll::Ready(Ok(Input::Bytes(space.len())));
        assert!(inbound.poll_end(&mut buffer, &mut endless).is_pending());
        assert_eq!(inbound.take_kept(), [7; AHEAD_BYTES_MAX]);

        let mut left = Some(Input::Bytes(3));
        let mut ending = |_: &mut [u8]| Poll::Ready(Ok(left.take().unwrap_or(Input::End)));
        let end = inbound.poll_end(&mut buffer, &mut ending);
        assert!(matches!(end, Poll::Ready(Ok(InputEnd::Ended))));
        assert!(inbound.is_ready(), "what was read is looked at before more is waited for");
        assert!(!inbound.holds_pings_only());
        for (kept, is_so) in [("", true), ("PING\r\nPING\r\n", true), ("PING\r\nPUB", false)] {
            assert_eq!(Inbound::new(kept.into()).holds_pings_only(), is_so, "{kept:?}");
        }
    }

    #[test]
    fn nothing_is_kept_when_all_is_done() {
        let mut buffer = [0; 16];
        let mut inbound = Inbound::new(b"abc".to_vec());
        assert!(inbound.is_ready());
        let polled = inbound.poll(&mut buffer, |_| Poll::Pending);
        assert!(matches!(polled, Poll::Ready(Ok(Ok(Source::Kept)))));
        inbound.settle(&buffer, Source::Kept, 3, 1);
        assert_eq!(inbound.kept_bytes(), 0);
    }
}
