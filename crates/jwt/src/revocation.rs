//! Tokens that no longer hold although they have not expired.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Stands for every key.
pub const EVERYBODY: &str = "*";

/// By public key, or [`EVERYBODY`]: what was issued until then, in seconds since 1970, is revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revocations(pub BTreeMap<String, i64>);

impl Revocations {
    /// Whether what was issued at that hour about `subject` is revoked.
    pub fn cover(&self, subject: &str, issued_at: i64) -> bool {
        [EVERYBODY, subject].iter().any(|key| self.0.get(*key).is_some_and(|until| *until >= issued_at))
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_itself_is_covered() {
        let revocations = Revocations([("U1".into(), 10), ("*".into(), 5)].into());
        for (subject, issued_at, covered) in
            [("U1", 10, true), ("U1", 11, false), ("U2", 5, true), ("U2", 6, false), ("U2", 10, false)]
        {
            assert_eq!(revocations.cover(subject, issued_at), covered, "{subject} {issued_at}");
        }
    }
}
