//! What JetStream may do wrong under load.

use std::fmt;

use crate::ledger::LedgerFault;

/// Why an answer or a delivery is not the one that was due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamFault {
    /// An answer that says no.
    Refused {
        /// The subject that was asked.
        subject: String,
        /// What it said.
        answer: String,
    },
    /// Not the kind of answer that was expected.
    Answer {
        /// What was asked for, in words.
        expected: String,
        /// What came.
        found: String,
    },
    /// An answer to a request that is not under way: it came twice, or nobody asked.
    Unasked {
        /// The subject on which it came.
        subject: String,
    },
    /// Two messages were acknowledged with one sequence.
    AcknowledgedTwice {
        /// Which sequence.
        sequence: u64,
    },
    /// A sequence was left out, and millions after it were acknowledged.
    NeverAcknowledged {
        /// Which sequence.
        sequence: u64,
    },
    /// A number is not what it must be by what was published.
    Number {
        /// Of what, in words.
        what: &'static str,
        /// What it must be.
        expected: u64,
        /// What the server says.
        found: u64,
    },
}

impl fmt::Display for StreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { subject, answer } => write!(f, "{subject} was refused: {answer}"),
            Self::Answer { expected, found } => write!(f, "expected {expected}, but {found:?} came"),
            Self::Unasked { subject } => write!(f, "an answer that is not due came on {subject}"),
            Self::AcknowledgedTwice { sequence } => write!(f, "sequence {sequence} was acknowledged twice"),
            Self::NeverAcknowledged { sequence } => write!(f, "sequence {sequence} was never acknowledged"),
            Self::Number { what, expected, found } => {
                write!(f, "{what} must be {expected}, but the server says {found}")
            }
        }
    }
}

/// The ledger of acknowledgements counts from 0, sequences count from 1.
impl From<LedgerFault> for StreamFault {
    fn from(fault: LedgerFault) -> Self {
        match fault {
            LedgerFault::Repeated { sequence } => Self::AcknowledgedTwice { sequence: sequence + 1 },
            LedgerFault::Missing { sequence } => Self::NeverAcknowledged { sequence: sequence + 1 },
        }
    }
}

/// A fault unless the number is the one that must be.
pub fn expect_number(what: &'static str, expected: u64, found: u64) -> Result<(), StreamFault> {
    if expected == found { Ok(()) } else { Err(StreamFault::Number { what, expected, found }) }
}
