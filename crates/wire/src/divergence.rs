//! The list of differences on purpose: which scripts Sonata answers otherwise, and why.
//!
//! A line is `area/name: reason`; the other text stands beside the script as `<name>.sonata.txt`. The list belongs to
//! Sonata: a check of the reference does not read it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::WireError;

/// Reasons by script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Divergences {
    reasons: BTreeMap<String, String>,
}

impl Divergences {
    /// Reads the list.
    ///
    /// # Errors
    /// [`WireError::Divergence`] for a line without a reason or a script named twice.
    pub fn read(path: &Path) -> Result<Divergences, WireError> {
        let text = fs::read_to_string(path).map_err(|error| WireError::file(path, error))?;
        Divergences::parse(&text)
    }

    fn parse(text: &str) -> Result<Divergences, WireError> {
        let mut reasons = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (script, reason) = line
                .split_once(": ")
                .filter(|(_, reason)| !reason.trim().is_empty())
                .ok_or_else(|| WireError::Divergence(format!("`{line}` has no reason")))?;
            if reasons.insert(script.to_owned(), reason.to_owned()).is_some() {
                return Err(WireError::Divergence(format!("`{script}` is listed twice")));
            }
        }
        Ok(Divergences { reasons })
    }

    /// Why the script is answered otherwise, `None` when it is not.
    pub fn reason(&self, script: &str) -> Option<&str> {
        self.reasons.get(script).map(String::as_str)
    }

    /// The scripts listed.
    pub fn scripts(&self) -> impl Iterator<Item = &str> {
        self.reasons.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_script_and_a_reason() {
        let list = Divergences::parse("# why\n\nverbs/a: better: so\nb/c: other\n").unwrap();
        assert_eq!(list.reason("verbs/a"), Some("better: so"));
        assert_eq!(list.reason("verbs/b"), None);
        assert_eq!(list.scripts().collect::<Vec<_>>(), ["b/c", "verbs/a"]);
        for wrong in ["verbs/a\n", "verbs/a: \n", "a/b: x\na/b: y\n"] {
            assert!(Divergences::parse(wrong).is_err(), "{wrong}");
        }
    }
}
