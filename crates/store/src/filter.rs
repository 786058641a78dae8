//! Which subjects a question is about.
//!
//! A filter is built once, by a consumer or a request, and asked often. It is a set: patterns may overlap, and a subject
//! that several of them name is still one subject.

use std::sync::Arc;

use sonata_subject::{has_wildcard, is_subset, literal_prefix, matches};

/// Subjects with or without wildcards (`*`, `>`), or simply all. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Filter {
    /// `None` is everything. Otherwise no pattern is a subset of another. May be empty: then nothing matches.
    patterns: Option<Arc<[Pattern]>>,
}

impl Filter {
    /// Every subject.
    pub fn all() -> Self {
        Self { patterns: None }
    }

    /// Exactly the subjects that at least one of `subjects` names. **None at all is [`Filter::all`]**, as a consumer
    /// without a filter subject is one for every subject.
    pub fn new<S: AsRef<[u8]>>(subjects: impl IntoIterator<Item = S>) -> Self {
        let mut kept: Vec<Pattern> = Vec::new();
        let mut any = false;
        for subject in subjects {
            any = true;
            let subject = subject.as_ref();
            if subject == b">" {
                return Self::all();
            }
            if kept.iter().any(|pattern| is_subset(subject, &pattern.text)) {
                continue;
            }
            kept.retain(|pattern| !is_subset(&pattern.text, subject));
            kept.push(Pattern::new(subject));
        }
        Self { patterns: any.then(|| kept.into()) }
    }

    /// Whether every subject matches.
    pub fn is_all(&self) -> bool {
        self.patterns.is_none()
    }

    /// Whether a subject without wildcards matches.
    pub fn matches(&self, subject: &[u8]) -> bool {
        match &self.patterns {
            None => true,
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(subject)),
        }
    }

    /// The patterns, none a subset of another; `None` for [`Filter::all`].
    pub(crate) fn patterns(&self) -> Option<&[Pattern]> {
        self.patterns.as_deref()
    }

    /// The one subject this filter names, if it has no wildcard and is only one.
    pub(crate) fn literal(&self) -> Option<&[u8]> {
        match self.patterns() {
            Some([only]) if only.literal => Some(&only.text),
            _ => None,
        }
    }

    /// Whether both were written with the same patterns in the same order: enough to recognise a filter that was asked
    /// before, while two different texts may still mean the same set.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (&self.patterns, &other.patterns) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                Arc::ptr_eq(a, b)
                    || (a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.text == b.text))
            }
            _ => false,
        }
    }
}

/// One subject of a filter.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) text: Box<[u8]>,
    /// Whether it has no wildcard.
    pub(crate) literal: bool,
    /// Bytes that every matching subject starts with.
    pub(crate) prefix: usize,
}

impl Pattern {
    fn new(text: &[u8]) -> Self {
        let literal = !has_wildcard(text);
        Self { literal, prefix: literal_prefix(text).len(), text: text.into() }
    }

    /// Whether a subject without wildcards matches.
    pub(crate) fn matches(&self, subject: &[u8]) -> bool {
        if self.literal { *self.text == *subject } else { matches(&self.text, subject) }
    }

    /// Bytes that every matching subject starts with.
    pub(crate) fn prefix(&self) -> &[u8] {
        self.text.get(..self.prefix).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_others_cover_are_dropped() {
        let filter = Filter::new(["a.b", "a.*", "a.c", "b.>", "b.c"]);
        let texts: Vec<_> = filter.patterns().unwrap_or_default().iter().map(|p| p.text.to_vec()).collect();
        assert_eq!(texts, [b"a.*".to_vec(), b"b.>".to_vec()]);
    }

    #[test]
    fn nothing_given_is_everything() {
        assert!(Filter::new(Vec::<&str>::new()).is_all());
        assert!(Filter::new(["a", ">"]).is_all());
    }

    #[test]
    fn a_subject_matches_once_or_not() {
        let filter = Filter::new(["a.*", "*.b"]);
        for (subject, expected) in [("a.b", true), ("a.c", true), ("c.b", true), ("c.c", false), ("a", false)]
        {
            assert_eq!(filter.matches(subject.as_bytes()), expected, "{subject}");
        }
    }
}
