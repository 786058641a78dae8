//! A position in a text that knows its line and column.

use std::path::Path;
use std::sync::Arc;

use super::error::{GrammarError, GrammarErrorKind};
use super::tree::Place;

/// A reader of characters, one ahead.
pub(super) struct Cursor<'a> {
    text: &'a str,
    file: Arc<Path>,
    /// Byte offset of the next character; always on a character boundary.
    at: usize,
    line: u32,
    /// Offset from which columns are counted: the line feed before the line, or 0 on the first line.
    line_origin: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str, file: Arc<Path>) -> Self {
        Cursor { text, file, at: 0, line: 1, line_origin: 0 }
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        if c == '\n' {
            self.line += 1;
            self.line_origin = self.at;
        }
        self.at += c.len_utf8();
        Some(c)
    }

    /// Consumes `c` if it is next.
    pub(super) fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.next();
        }
        found
    }

    /// Consumes characters as long as they fit.
    pub(super) fn eat_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&fits) {
            self.next();
        }
        self.since(start)
    }

    /// Skips a comment if one is next; false when there is none.
    pub(super) fn eat_comment(&mut self) -> bool {
        let begins = self.rest().starts_with('#') || self.rest().starts_with("//");
        if begins {
            self.eat_while(|c| !is_newline(c));
        }
        begins
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// The text from an earlier [`Cursor::offset`] to here.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    pub(super) fn place(&self) -> Place {
        let column = u32::try_from(self.at - self.line_origin).unwrap_or(u32::MAX);
        Place { file: self.file.clone(), line: self.line, column }
    }

    /// An error at this place.
    pub(super) fn error(&self, kind: GrammarErrorKind) -> GrammarError {
        GrammarError { place: Some(self.place()), kind }
    }

    pub(super) fn file(&self) -> &Arc<Path> {
        &self.file
    }
}

/// Blank within a line.
pub(super) fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// End of a line.
pub(super) fn is_newline(c: char) -> bool {
    c == '\n' || c == '\r'
}

/// The text ended before something did that began here.
pub(super) fn unclosed(begin: &Place, what: &'static str) -> GrammarError {
    GrammarError { place: Some(begin.clone()), kind: GrammarErrorKind::UnexpectedEnd(what) }
}
