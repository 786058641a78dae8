//! Values without parts: strings in their five ways of writing, bools, numbers and dates.
//!
//! What begins like a number may turn out to be an address, a duration or any other text; the rules for
//! that are the original's and files depend on them.

use super::cursor::{Cursor, is_blank, is_newline, unclosed};
use super::error::{GrammarError, GrammarErrorKind};
use super::tree::{Place, Value};

type Result<T, E = GrammarError> = std::result::Result<T, E>;

/// What a string without quotes is.
pub(super) enum Word {
    /// Text or a bool.
    Value(Value),
    /// The name of a variable.
    Variable(String),
}

impl Cursor<'_> {
    /// A double-quoted string, after its opening quote. It may span lines.
    pub(super) fn quoted_string(&mut self, begin: &Place) -> Result<Value> {
        let mut bytes = Vec::new();
        loop {
            bytes.extend_from_slice(self.eat_while(|c| c != '"' && c != '\\').as_bytes());
            match self.next() {
                Some('\\') => self.escape(&mut bytes)?,
                Some(_) => return self.decoded(bytes).map(Value::String),
                None => return Err(unclosed(begin, "a quoted string")),
            }
        }
    }

    /// A string in single quotes, after its opening quote: raw, and over several lines if it must be.
    pub(super) fn raw_string(&mut self, begin: &Place) -> Result<Value> {
        let text = self.eat_while(|c| c != '\'');
        match self.eat('\'') {
            true => Ok(Value::String(text.to_owned())),
            false => Err(unclosed(begin, "a quoted string")),
        }
    }

    /// A string without quotes that began at `start`: text, a bool or a variable.
    pub(super) fn word(&mut self, start: usize) -> Result<Word> {
        let mut bytes = self.since(start).as_bytes().to_vec();
        let mut escaped = false;
        loop {
            let ends = |c| is_newline(c) || is_blank(c) || matches!(c, ';' | ',' | ']' | '}' | '\'' | '\\');
            bytes.extend_from_slice(self.eat_while(|c| !ends(c)).as_bytes());
            match self.peek() {
                Some('\\') => {
                    escaped = true;
                    self.next();
                    self.escape(&mut bytes)?;
                }
                // A single quote ends the string and makes it one, whatever it looks like.
                Some('\'') => {
                    self.next();
                    return self.decoded(bytes).map(|text| Word::Value(Value::String(text)));
                }
                _ => break,
            }
        }
        let text = self.decoded(bytes)?;
        match text.strip_prefix('$') {
            _ if escaped => Ok(Word::Value(Value::String(text))),
            Some(name) => Ok(Word::Variable(name.to_owned())),
            None => Ok(Word::Value(bool_of(&text).map_or(Value::String(text), Value::Bool))),
        }
    }

    fn decoded(&self, bytes: Vec<u8>) -> Result<String> {
        String::from_utf8(bytes).map_err(|_| self.error(GrammarErrorKind::BadUtf8))
    }

    /// What a backslash stands for, after it.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        let byte = match self.peek() {
            Some('t') => b'\t',
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('"') => b'"',
            Some('\\') => b'\\',
            Some('x') => {
                self.next();
                return match self.rest().get(..2).and_then(|hex| {
                    let digits = hex.bytes().all(|b| b.is_ascii_hexdigit());
                    u8::from_str_radix(hex, 16).ok().filter(|_| digits)
                }) {
                    Some(byte) => {
                        self.next();
                        self.next();
                        bytes.push(byte);
                        Ok(())
                    }
                    None => Err(self
                        .error(GrammarErrorKind::BadNumber("expected two hexadecimal digits after '\\x'"))),
                };
            }
            other => return Err(self.error(GrammarErrorKind::BadEscape(other))),
        };
        self.next();
        bytes.push(byte);
        Ok(())
    }

    /// A block of raw text, after its opening parenthesis; it ends with a line that holds only `)`.
    pub(super) fn block(&mut self, begin: &Place) -> Result<Value> {
        let start = self.offset();
        loop {
            self.eat_while(|c| c != ')');
            let text = self.since(start);
            if self.next().is_none() {
                return Err(unclosed(begin, "a block"));
            }
            if text.ends_with('\n') && matches!(self.peek(), None | Some('\n')) {
                return Ok(Value::String(text.to_owned()));
            }
        }
    }

    /// What begins like a number: an integer with or without suffix, a float, a date, an address, or a
    /// string after all.
    pub(super) fn number(&mut self) -> Result<Value> {
        let start = self.offset();
        let negative = self.eat('-');
        if self.eat_while(|c| c.is_ascii_digit()).is_empty() {
            return Err(self.error(GrammarErrorKind::BadNumber("expected a digit after '-'")));
        }
        match self.peek() {
            Some('.') => self.float_or_address(start),
            Some('-') if !negative => self.date(start),
            Some(c) if is_size_suffix(c) => {
                self.next();
                self.eat_while(|c| matches!(c, 'b' | 'B' | 'i' | 'I'));
                match self.peek() {
                    Some(c) if !ends_number(c) => self.digits_in_a_string(start),
                    _ => self.integer(start),
                }
            }
            // A string after all, and the character that says so belongs to it whatever it is.
            Some(c) if !negative && !ends_number(c) => {
                self.next();
                self.digits_in_a_string(start)
            }
            _ => self.integer(start),
        }
    }

    /// A string that began with digits and so cannot be a bool or a variable.
    fn digits_in_a_string(&mut self, start: usize) -> Result<Value> {
        match self.word(start)? {
            Word::Value(value) => Ok(value),
            Word::Variable(name) => Ok(Value::String(format!("${name}"))),
        }
    }

    fn integer(&self, start: usize) -> Result<Value> {
        let text = self.since(start);
        let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (digits, suffix) = text.split_at(split);
        let Some(factor) = size_factor(suffix) else {
            return Err(self.error(GrammarErrorKind::BadNumber("unknown size suffix")));
        };
        digits
            .parse::<i64>()
            .ok()
            .and_then(|n| n.checked_mul(factor))
            .map(Value::Integer)
            .ok_or_else(|| self.error(GrammarErrorKind::OutOfRange(text.to_owned())))
    }

    fn float_or_address(&mut self, start: usize) -> Result<Value> {
        self.next();
        if self.eat_while(|c| c.is_ascii_digit()).is_empty() {
            return Err(self.error(GrammarErrorKind::BadNumber("floats must have a digit after the '.'")));
        }
        if self.peek() == Some('.') {
            self.eat_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':' | '-'));
            return Ok(Value::String(self.since(start).to_owned()));
        }
        let text = self.since(start);
        match text.parse::<f64>() {
            Ok(x) if x.is_finite() => Ok(Value::Float(x)),
            _ => Err(self.error(GrammarErrorKind::OutOfRange(text.to_owned()))),
        }
    }

    /// A date, at the dash after its year.
    fn date(&mut self, start: usize) -> Result<Value> {
        self.eat_while(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | 'T' | 'Z'));
        let text = self.since(start);
        match is_date(text) {
            true => Ok(Value::Date(text.to_owned())),
            false => Err(self.error(GrammarErrorKind::BadDate(text.to_owned()))),
        }
    }
}

fn bool_of(word: &str) -> Option<bool> {
    let is = |names: [&str; 3]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
    match word {
        _ if is(["true", "yes", "on"]) => Some(true),
        _ if is(["false", "no", "off"]) => Some(false),
        _ => None,
    }
}

/// What may follow a number directly. The original forgot `]`, so that it reads `[1]` as the string
/// `1]` and then fails; nothing can depend on that.
fn ends_number(c: char) -> bool {
    is_newline(c) || is_blank(c) || matches!(c, '}' | ']' | ';' | ',')
}

fn is_size_suffix(c: char) -> bool {
    matches!(c.to_ascii_lowercase(), 'k' | 'm' | 'g' | 't' | 'p' | 'e')
}

fn size_factor(suffix: &str) -> Option<i64> {
    let suffix = suffix.to_ascii_lowercase();
    let mut letters = suffix.chars();
    let Some(unit) = letters.next() else { return Some(1) };
    let power = match unit {
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        'p' => 5,
        'e' => 6,
        _ => return None,
    };
    match letters.as_str() {
        "" => 1000_i64.checked_pow(power),
        "b" | "i" | "ib" => 1024_i64.checked_pow(power),
        _ => None,
    }
}

/// Whether `text` is `YYYY-MM-DDTHH:MM:SSZ` and such a moment exists.
fn is_date(text: &str) -> bool {
    let pattern = b"0000-00-00T00:00:00Z";
    let fits = text.len() == pattern.len()
        && text.bytes().zip(pattern).all(|(b, &p)| if p == b'0' { b.is_ascii_digit() } else { b == p });
    let field = |range: std::ops::Range<usize>| text.get(range).and_then(|t| t.parse::<u32>().ok());
    let exists = || {
        let (year, month, day) = (field(0..4)?, field(5..7)?, field(8..10)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            1..=12 => 31,
            _ => return None,
        };
        let time = field(11..13)? < 24 && field(14..16)? < 60 && field(17..19)? < 60;
        Some((1..=days).contains(&day) && time)
    };
    fits && exists() == Some(true)
}
