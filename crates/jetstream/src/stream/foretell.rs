//! What would become of a message: for those who trace it.

use super::Machine;
use super::admit::{Incoming, Refusal};
use crate::config::Retention;

/// See [`Machine::foretell`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foretold {
    /// The stream.
    pub stream: String,
    /// What it calls the message; empty if it is not stored.
    pub subject: Vec<u8>,
    /// It goes by interest, and nobody is interested: the message is counted and not stored.
    pub no_interest: bool,
    /// Why the message is not stored.
    pub error: Option<String>,
}

impl Machine {
    /// What would become of a message if it were published now. Batches are not looked into.
    pub fn foretell(&mut self, incoming: &Incoming<'_>, now: i64) -> Foretold {
        let transformed = self.transformed(incoming.subject, now);
        let subject = transformed.unwrap_or_else(|| incoming.subject.to_vec());
        let error = match self.judge_one(incoming, &subject, now) {
            Ok(_) | Err(Refusal::Silence) => None,
            Err(Refusal::Error(error)) => Some(error.to_string()),
            Err(Refusal::Duplicate(..)) => Some("msgid is duplicate".into()),
        };
        let subject = if error.is_some() { Vec::new() } else { subject };
        let no_interest =
            error.is_none() && self.config.retention == Retention::Interest && !self.has_interest(&subject);
        Foretold { stream: self.config.name.clone(), subject, no_interest, error }
    }
}
