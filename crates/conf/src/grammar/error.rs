//! What can be wrong with the text of a file.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::tree::Place;

/// The first thing wrong with a file, and where.
#[derive(Debug)]
pub struct GrammarError {
    /// Where it stands; `None` when the main file itself could not be read.
    pub place: Option<Place>,
    /// What it is.
    pub kind: GrammarErrorKind,
}

/// What is wrong. All arms but the last three are faults of whoever wrote the file.
#[derive(Debug)]
#[non_exhaustive]
pub enum GrammarErrorKind {
    /// A separator without a key before it.
    UnexpectedSeparator(char),
    /// A key at the end of the text, of a line or of a map, and no value.
    MissingValue(String),
    /// Something else than the end of a value.
    UnexpectedAfterValue {
        /// What would have been right.
        expected: &'static str,
        /// What stood there; `None`: the end of the text.
        found: Option<char>,
    },
    /// The text ended inside this; the place is where it began.
    UnexpectedEnd(&'static str),
    /// A character that cannot begin anything here.
    Unexpected(&'static str),
    /// A `\` with something else than `xHH t n r " \` after it.
    BadEscape(Option<char>),
    /// `\xHH` escapes that together are not UTF-8.
    BadUtf8,
    /// Digits that are no number.
    BadNumber(&'static str),
    /// A number that does not fit 64 bits.
    OutOfRange(String),
    /// A date that is incomplete or does not exist.
    BadDate(String),
    /// `include` without a usable path.
    BadInclude(&'static str),
    /// A variable that is neither defined before nor in the environment.
    UnknownVariable(String),
    /// A variable of the environment that needs itself.
    VariableCycle(String),
    /// A variable of the environment whose text is not a value.
    BadVariable {
        /// Its name.
        name: String,
        /// What is wrong with it.
        error: Box<GrammarError>,
    },
    /// A NUL byte.
    Nul,
    /// A file could not be read.
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A limit of the parser was reached; the name of what there was too much of, and the limit.
    TooMuch(&'static str, usize),
}

impl fmt::Display for GrammarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        self.kind.fmt(f)
    }
}

impl fmt::Display for GrammarErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use GrammarErrorKind::*;
        match self {
            UnexpectedSeparator(c) => write!(f, "unexpected key separator '{c}'"),
            MissingValue(key) => write!(f, "key {key:?} has no value"),
            UnexpectedAfterValue { expected, found: Some(c) } => {
                write!(f, "expected {expected}, but got {c:?} instead")
            }
            UnexpectedAfterValue { expected, found: None } => {
                write!(f, "expected {expected}, but the file ends")
            }
            UnexpectedEnd(inside) => write!(f, "{inside} begins here and does not end"),
            Unexpected(what) => write!(f, "unexpected {what}"),
            BadEscape(Some(c)) => {
                write!(f, "invalid escape character {c:?}, allowed are \\xXX, \\t, \\n, \\r, \\\" and \\\\")
            }
            BadEscape(None) => f.write_str("unexpected end of file inside an escape"),
            BadUtf8 => f.write_str("\\x escapes must form valid UTF-8"),
            BadNumber(why) => f.write_str(why),
            OutOfRange(text) => write!(f, "number '{text}' is out of the range"),
            BadDate(text) => {
                write!(f, "expected a date like 2006-01-02T15:04:05Z, but got '{text}'")
            }
            BadInclude(found) => write!(f, "expected a path to include, but found {found}"),
            UnknownVariable(name) => write!(f, "variable reference for '{name}' can not be found"),
            VariableCycle(name) => write!(f, "variable reference cycle for '{name}'"),
            BadVariable { name, error } => {
                write!(f, "variable reference for '{name}' could not be parsed: {}", error.kind)
            }
            Nul => f.write_str("the file contains a NUL byte"),
            Read { path, error } => write!(f, "open {}: {error}", path.display()),
            TooMuch(what, limit) => write!(f, "too many {what}, the limit is {limit}"),
        }
    }
}

impl std::error::Error for GrammarError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            GrammarErrorKind::Read { error, .. } => Some(error),
            GrammarErrorKind::BadVariable { error, .. } => Some(error),
            _ => None,
        }
    }
}
