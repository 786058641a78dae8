//! What is wrong with the content of claims that were signed by the right kind of key.

use std::fmt;

/// How grave an issue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Worth saying; nothing follows.
    Warning,
    /// The claims are refused.
    Error,
    /// The claims are not valid now.
    Time,
}

/// One thing wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// How grave.
    pub severity: Severity,
    /// The sentence for operators, in the words of the official tools.
    pub text: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Everything that was found, in order. Only the first [`Issues::KEPT_MAX`] keep their texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issues {
    kept: Vec<Issue>,
    errors: bool,
    times: bool,
}

impl Issues {
    /// Issues whose texts are kept: more help nobody, and a hostile token has a hundred thousand.
    pub const KEPT_MAX: usize = 64;

    /// What was kept.
    pub fn all(&self) -> &[Issue] {
        &self.kept
    }

    /// Whether nothing at all was found.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether the claims are refused because of their content, the hour aside.
    pub fn has_errors(&self) -> bool {
        self.errors
    }

    /// Whether the claims are refused now.
    pub fn is_blocking(&self) -> bool {
        self.errors || self.times
    }

    pub(crate) fn warning(&mut self, text: impl Into<String>) {
        self.push(Severity::Warning, text.into());
    }

    pub(crate) fn error(&mut self, text: impl Into<String>) {
        self.errors = true;
        self.push(Severity::Error, text.into());
    }

    pub(crate) fn time(&mut self, text: impl Into<String>) {
        self.times = true;
        self.push(Severity::Time, text.into());
    }

    fn push(&mut self, severity: Severity, text: String) {
        if self.kept.len() < Self::KEPT_MAX {
            self.kept.push(Issue { severity, text });
        }
    }
}

/// The errors, as the official tools list them: `[one two]`.
impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.kept.iter().filter(|issue| issue.severity != Severity::Warning);
        let texts: Vec<&str> = errors.map(|issue| issue.text.as_str()).collect();
        write!(f, "[{}]", texts.join(" "))
    }
}

/// Claims that can be looked through.
pub trait Validate {
    /// Everything that is wrong at `now`, in seconds since 1970.
    fn validate(&self, now: i64) -> Issues;
}
