//! What is a valid subject, and what kind of subject it is.

use std::fmt;

use memchr::memchr;

/// What a valid subject can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No wildcard: names exactly one subject.
    Literal,
    /// Holds `*` or `>`: names a set of subjects; only for subscriptions and permissions.
    Wildcard,
}

/// Why bytes are not a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectError {
    /// The subject, or one of its tokens, is empty (`""`, `.a`, `a..b`, `a.`).
    EmptyToken,
    /// A space, tab, line feed or carriage return.
    Blank,
    /// `>` stands before the last token.
    TailNotLast,
}

impl fmt::Display for SubjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyToken => "subject has an empty token",
            Self::Blank => "subject holds a blank",
            Self::TailNotLast => "'>' is only allowed as the last token of a subject",
        })
    }
}

impl std::error::Error for SubjectError {}

/// Checks a subject and says whether it holds wildcards.
///
/// # Errors
/// The first rule the subject breaks, reading from the left.
pub fn classify(subject: &[u8]) -> Result<Kind, SubjectError> {
    let mut kind = Kind::Literal;
    let mut tail_seen = false;
    for token in tokens(subject) {
        if tail_seen {
            return Err(SubjectError::TailNotLast);
        }
        match token {
            [] => return Err(SubjectError::EmptyToken),
            b"*" => kind = Kind::Wildcard,
            b">" => {
                kind = Kind::Wildcard;
                tail_seen = true;
            }
            _ if token.iter().any(|b| is_blank(*b)) => return Err(SubjectError::Blank),
            _ => {}
        }
    }
    Ok(kind)
}

/// Whether this is a valid subject without wildcards.
pub fn is_literal(subject: &[u8]) -> bool {
    classify(subject) == Ok(Kind::Literal)
}

/// Whether any whole token is a wildcard. Says nothing about validity.
pub fn has_wildcard(subject: &[u8]) -> bool {
    // Nearly all subjects hold neither byte, so look for the bytes before looking at tokens.
    if memchr::memchr2(b'*', b'>', subject).is_none() {
        return false;
    }
    tokens(subject).any(|token| token == b"*" || token == b">")
}

/// The tokens of a subject, in order. An empty subject has one empty token.
pub fn tokens(subject: &[u8]) -> Tokens<'_> {
    Tokens { rest: Some(subject) }
}

/// The bytes before the first wildcard token, without the dot between: `a.b` for `a.b.*`, empty for `>`.
/// The whole subject when it has no wildcard.
pub fn literal_prefix(filter: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut start = 0;
    for token in tokens(filter) {
        if token == b"*" || token == b">" {
            return filter.get(..end).unwrap_or_default();
        }
        end = start + token.len();
        start = end + 1;
    }
    filter
}

/// See [`tokens`].
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        match memchr(b'.', rest) {
            Some(dot) => {
                self.rest = Some(&rest[dot + 1..]);
                Some(&rest[..dot])
            }
            None => {
                self.rest = None;
                Some(rest)
            }
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_classified() {
        let table: &[(&str, Result<Kind, SubjectError>)] = &[
            ("foo", Ok(Kind::Literal)),
            ("foo.bar", Ok(Kind::Literal)),
            ("foo*", Ok(Kind::Literal)),
            ("foo.*bar", Ok(Kind::Literal)),
            ("foo.>>", Ok(Kind::Literal)),
            ("*", Ok(Kind::Wildcard)),
            (">", Ok(Kind::Wildcard)),
            ("a.*.c", Ok(Kind::Wildcard)),
            ("a.>", Ok(Kind::Wildcard)),
            ("", Err(SubjectError::EmptyToken)),
            (".", Err(SubjectError::EmptyToken)),
            ("a.", Err(SubjectError::EmptyToken)),
            (".a", Err(SubjectError::EmptyToken)),
            ("a..b", Err(SubjectError::EmptyToken)),
            ("a.>.b", Err(SubjectError::TailNotLast)),
            (">.a", Err(SubjectError::TailNotLast)),
            ("a b", Err(SubjectError::Blank)),
            ("a\x0cb", Ok(Kind::Literal)),
        ];
        for (subject, expected) in table {
            assert_eq!(classify(subject.as_bytes()), *expected, "{subject:?}");
        }
    }

    #[test]
    fn literal_prefix_ends_before_the_first_wildcard_token() {
        for (filter, prefix) in
            [("a.b.*", "a.b"), ("a.*.c", "a"), (">", ""), ("*", ""), ("a.b", "a.b"), ("a*.b.>", "a*.b")]
        {
            assert_eq!(literal_prefix(filter.as_bytes()), prefix.as_bytes(), "{filter}");
        }
    }
}
