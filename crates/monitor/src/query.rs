//! The query part of a URL: `sort=cid&limit=10`.
//!
//! Values are read as Go reads them, and the errors are Go's texts, since they are the answer to the client.

use std::error::Error;
use std::fmt;
use std::num::IntErrorKind;

/// A query, decoded.
#[derive(Debug, Default, Clone)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads a query, without its question mark. Pairs that are not properly encoded are left out.
    pub fn parse(text: &str) -> Self {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key)?, decode(value)?))
        };
        let pairs =
            text.split('&').filter(|part| !part.is_empty() && !part.contains(';')).filter_map(pair).collect();
        Self { pairs }
    }

    /// The first value of a key; empty if there is none.
    pub fn text(&self, key: &str) -> &str {
        self.pairs.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    /// A truth value: `1`, `t`, `true` or `0`, `f`, `false`, small, capital or capitalised; false if absent.
    ///
    /// # Errors
    ///
    /// Anything else.
    pub fn boolean(&self, key: &'static str) -> Result<bool, BadQuery> {
        match self.text(key) {
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            text => Err(BadQuery::Boolean { key, text: text.into() }),
        }
    }

    /// A whole number that may be negative; 0 if absent.
    ///
    /// # Errors
    ///
    /// Not a number, or not one of 64 bits.
    pub fn integer(&self, key: &'static str) -> Result<i64, BadQuery> {
        match self.text(key) {
            "" => Ok(0),
            text => text.parse().map_err(|error: std::num::ParseIntError| BadQuery::Integer {
                key,
                text: text.into(),
                fault: fault(error.kind()),
            }),
        }
    }

    /// A whole number without sign; 0 if absent.
    ///
    /// # Errors
    ///
    /// Not a number, or not one of 64 bits.
    pub fn unsigned(&self, key: &'static str) -> Result<u64, BadQuery> {
        let text = self.text(key);
        if text.is_empty() {
            return Ok(0);
        }
        let bad = |fault| BadQuery::Unsigned { key, text: text.into(), fault };
        if text.starts_with('+') {
            return Err(bad(Fault::Syntax));
        }
        text.parse().map_err(|error: std::num::ParseIntError| bad(fault(error.kind())))
    }

    /// Whether and how to list subscriptions: a truth value or `detail`.
    ///
    /// # Errors
    ///
    /// Anything else.
    pub fn subscriptions(&self) -> Result<SubscriptionList, BadQuery> {
        if self.text("subs").eq_ignore_ascii_case("detail") {
            return Ok(SubscriptionList::Detail);
        }
        Ok(if self.boolean("subs")? { SubscriptionList::Subjects } else { SubscriptionList::None })
    }
}

/// How the subscriptions of a connection are to be listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SubscriptionList {
    /// Not at all.
    #[default]
    None,
    /// Their subjects.
    Subjects,
    /// All about them.
    Detail,
}

/// The client's fault in a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadQuery {
    /// Not a truth value.
    Boolean {
        /// The key.
        key: &'static str,
        /// Its value.
        text: String,
    },
    /// Not a whole number.
    Integer {
        /// The key.
        key: &'static str,
        /// Its value.
        text: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// Not a whole number without sign.
    Unsigned {
        /// The key.
        key: &'static str,
        /// Its value.
        text: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// No such state of connections.
    State(String),
    /// No such order of connections.
    Sort(String),
    /// An order that only closed connections have.
    SortClosedOnly(&'static str),
    /// Not a subject that can be published to.
    TestSubject(String),
    /// No such account.
    Account(String),
    /// A subject to filter connections by, without an account in which it means something.
    SubjectWithoutAccount,
    /// Only the leader was to answer.
    NotLeader,
}

/// What is wrong with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is none.
    Syntax,
    /// It does not fit.
    Range,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "invalid syntax",
            Self::Range => "value out of range",
        })
    }
}

impl fmt::Display for BadQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean { key, text } => {
                let (text, fault) = (quoted(text), Fault::Syntax);
                write!(f, "Error decoding boolean for '{key}': strconv.ParseBool: parsing {text}: {fault}")
            }
            Self::Integer { key, text, fault } => {
                write!(f, "Error decoding int for '{key}': strconv.Atoi: parsing {}: {fault}", quoted(text))
            }
            Self::Unsigned { key, text, fault } => {
                write!(
                    f,
                    "Error decoding uint64 for '{key}': strconv.ParseUint: parsing {}: {fault}",
                    quoted(text)
                )
            }
            Self::State(text) => write!(f, "Error decoding state for {text}"),
            Self::Sort(text) => write!(f, "invalid sorting option: {text}"),
            Self::SortClosedOnly(key) => write!(f, "sort by {key} only valid on closed connections"),
            Self::TestSubject(text) => {
                write!(f, "invalid test subject, must be valid publish subject: {text}")
            }
            Self::Account(name) => write!(f, "Account {name} does not exist"),
            Self::SubjectWithoutAccount => f.write_str("filter by subject only valid with account filtering"),
            Self::NotLeader => f.write_str("filtered response: not leader"),
        }
    }
}

impl Error for BadQuery {}

fn fault(kind: &IntErrorKind) -> Fault {
    match kind {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => Fault::Range,
        _ => Fault::Syntax,
    }
}

/// In double quotes, with Go's escapes.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\0'..' ' | '\x7f' => quoted.push_str(&format!("\\x{:02x}", u32::from(char))),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// Resolves `%41` and `+`; none if a percent sign is not followed by two hexadecimal digits.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&plain).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_the_first_one_counts() {
        let query = Query::parse("a=1&a=2&b=x+y%2Bz&c&%zz=1&d=%4&e=1;f=2&&=g&%63%64=h");
        for (key, expected) in
            [("a", "1"), ("b", "x y+z"), ("c", ""), ("d", ""), ("e", ""), ("f", ""), ("", "g"), ("cd", "h")]
        {
            assert_eq!(query.text(key), expected, "{key:?}");
        }
    }

    #[test]
    fn values_are_read_and_refused_as_the_reference_does() {
        let show = |result: Result<String, BadQuery>| result.unwrap_or_else(|error| error.to_string());
        let boolean = |text: &str| show(Query::parse(text).boolean("k").map(|value| value.to_string()));
        let integer = |text: &str| show(Query::parse(text).integer("k").map(|value| value.to_string()));
        let unsigned = |text: &str| show(Query::parse(text).unsigned("k").map(|value| value.to_string()));
        for (answer, expected) in [
            (boolean(""), "false"),
            (boolean("k=T"), "true"),
            (
                boolean("k=tRUE"),
                "Error decoding boolean for 'k': strconv.ParseBool: parsing \"tRUE\": invalid syntax",
            ),
            (integer("k=%2B3"), "3"),
            (integer("k=-3"), "-3"),
            (integer("k=+3"), "Error decoding int for 'k': strconv.Atoi: parsing \" 3\": invalid syntax"),
            (integer("k=-"), "Error decoding int for 'k': strconv.Atoi: parsing \"-\": invalid syntax"),
            (
                integer("k=99999999999999999999"),
                "Error decoding int for 'k': strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
            (unsigned("k=18446744073709551615"), "18446744073709551615"),
            (
                unsigned("k=%2B3"),
                "Error decoding uint64 for 'k': strconv.ParseUint: parsing \"+3\": invalid syntax",
            ),
            (
                unsigned("k=-1"),
                "Error decoding uint64 for 'k': strconv.ParseUint: parsing \"-1\": invalid syntax",
            ),
            (
                unsigned("k=a\"b%0a%c3%bc"),
                "Error decoding uint64 for 'k': strconv.ParseUint: parsing \"a\\\"b\\nü\": invalid syntax",
            ),
            (
                unsigned("k=99999999999999999999"),
                "Error decoding uint64 for 'k': strconv.ParseUint: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            assert_eq!(answer, expected);
        }
    }

    #[test]
    fn subscriptions_are_a_truth_value_or_detail() {
        for (text, expected) in [
            ("", Ok(SubscriptionList::None)),
            ("subs=0", Ok(SubscriptionList::None)),
            ("subs=1", Ok(SubscriptionList::Subjects)),
            ("subs=Detail", Ok(SubscriptionList::Detail)),
            ("subs=2", Err(BadQuery::Boolean { key: "subs", text: "2".into() })),
        ] {
            assert_eq!(Query::parse(text).subscriptions(), expected);
        }
    }
}
