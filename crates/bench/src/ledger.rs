//! Which messages of a publisher have arrived anywhere in a queue group.
//!
//! Each member sees only a part, so loss and repetition show only in the union. The union is a bitmap above the first
//! sequence that is still open; it stays short because the publisher holds back when too much is under way.

use std::collections::VecDeque;
use std::fmt;

/// Sequences that may be open at once. Only a lost message lets the bitmap grow that far: the publishing window of
/// 4 MiB holds fewer than 160,000 of the smallest messages.
const OPEN_SPAN_MAX: u64 = 1 << 22;

/// The union of what the members of a queue group received.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Every sequence below has arrived. A multiple of 64.
    floor: u64,
    words: VecDeque<u64>,
    arrived: u64,
}

impl Ledger {
    /// Marks `sequence` as arrived.
    pub fn mark(&mut self, sequence: u64) -> Result<(), LedgerFault> {
        let Some(offset) = sequence.checked_sub(self.floor) else {
            return Err(LedgerFault::Repeated { sequence });
        };
        if offset >= OPEN_SPAN_MAX {
            return Err(LedgerFault::Missing { sequence: self.first_open() });
        }
        let index = (offset / 64) as usize;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        if let Some(word) = self.words.get_mut(index) {
            let bit = 1 << (offset % 64);
            if *word & bit != 0 {
                return Err(LedgerFault::Repeated { sequence });
            }
            *word |= bit;
        }
        self.arrived += 1;
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.floor += 64;
        }
        Ok(())
    }

    /// How many have arrived.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// The lowest sequence that has not arrived.
    pub fn first_open(&self) -> u64 {
        self.floor + self.words.front().map_or(0, |word| u64::from(word.trailing_ones()))
    }
}

/// What is wrong with the union.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerFault {
    /// Two members got the message, or one twice.
    Repeated {
        /// Which message.
        sequence: u64,
    },
    /// No member got the message, and millions after it have arrived.
    Missing {
        /// Which message.
        sequence: u64,
    },
}

impl fmt::Display for LedgerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated { sequence } => write!(f, "the queue group got message {sequence} twice"),
            Self::Missing { sequence } => write!(f, "no member of the queue group got message {sequence}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_loss_is_found_at_the_latest_when_the_span_ends() {
        let mut ledger = Ledger::default();
        ledger.mark(0).unwrap();
        for sequence in 2..OPEN_SPAN_MAX {
            ledger.mark(sequence).unwrap();
        }
        assert_eq!(ledger.mark(OPEN_SPAN_MAX), Err(LedgerFault::Missing { sequence: 1 }));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(sequences in proptest::collection::vec(0u64..300, 0..600)) {
            let mut ledger = Ledger::default();
            let mut model = BTreeSet::new();
            for sequence in sequences {
                let expected = if model.insert(sequence) { Ok(()) } else { Err(LedgerFault::Repeated { sequence }) };
                prop_assert_eq!(ledger.mark(sequence), expected);
                prop_assert_eq!(ledger.arrived(), model.len() as u64);
                prop_assert_eq!(Some(ledger.first_open()), (0..).find(|open| !model.contains(open)));
            }
        }
    }
}
