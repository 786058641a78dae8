//! Subject transforms: how a subject that matches a source becomes another one.
//!
//! A destination is a subject whose tokens may be placeholders for what the source's `*` stood for: `$1`,
//! `{{wildcard(1)}}`, `{{partition(10,1,2)}}` and so on. It is taken apart once; applying it is a walk over its parts.

use std::fmt;

use crate::classify;

/// Why a pair of subjects is no transform; displayed as the reference does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformError {
    problem: &'static str,
    token: String,
}

impl TransformError {
    fn new(problem: &'static str, token: &str) -> Self {
        Self { problem, token: token.to_owned() }
    }
}

impl fmt::Display for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem)?;
        if !self.token.is_empty() {
            write!(f, " in {}", self.token)?;
        }
        Ok(())
    }
}

impl std::error::Error for TransformError {}

const BAD_SUBJECT: &str = "invalid subject";
const INVALID: &str = "invalid mapping destination: invalid transform";
const UNKNOWN_FUNCTION: &str = "invalid mapping destination: unknown function";
const OUT_OF_RANGE: &str = "invalid mapping destination: wildcard index out of range";
const NOT_ENOUGH: &str = "invalid mapping destination: not enough arguments passed to the function";
const TOO_MANY: &str = "invalid mapping destination: too many arguments passed to the function";
const BAD_ARGUMENT: &str = "invalid mapping destination: function argument is invalid or in the wrong format";

const NOT_ALL_WILDCARDS: &str = "invalid mapping destination: not using all of the token wildcard(s)";
const NOT_FOR_IMPORTS: &str =
    "invalid mapping destination: the only mapping function allowed for import transforms is {{Wildcard()}}";

/// A source and what its subjects become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    source: String,
    parts: Vec<Part>,
    /// `>` to `>`, or no destination: nothing changes.
    is_identity: bool,
}

/// A token of the destination; positions are tokens of the subject, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// What `>` stood for, which begins at this token.
    Tail(usize),
    Token(usize),
    /// A number below `count` from the hash of tokens; of the whole subject if there are none.
    Partition {
        count: u32,
        tokens: Vec<usize>,
    },
    SplitFromLeft(usize, usize),
    SplitFromRight(usize, usize),
    SliceFromLeft(usize, usize),
    SliceFromRight(usize, usize),
    Left(usize, usize),
    Right(usize, usize),
    Split(usize, String),
    Random(u32),
}

impl Transform {
    /// Takes a pair of subjects apart. An empty source is `>`, an empty destination leaves subjects as they are.
    ///
    /// # Errors
    /// Subjects that are none, a `>` on one side only, placeholders for what the source does not have.
    pub fn parse(source: &str, destination: &str) -> Result<Self, TransformError> {
        let source = if source.is_empty() { ">" } else { source };
        let is_identity = destination.is_empty() || (source == ">" && destination == ">");
        if destination.is_empty() {
            return Ok(Self { source: source.to_owned(), parts: Vec::new(), is_identity });
        }
        let has_tail = |subject: &str| subject.split('.').any(|token| token == ">");
        if !is_subject(source)
            || !is_destination(destination)
            || destination.split('.').any(|token| token == "*")
            || has_tail(source) != has_tail(destination)
        {
            return Err(TransformError::new(BAD_SUBJECT, ""));
        }
        let wildcards: Vec<usize> =
            source.split('.').enumerate().filter(|(_, token)| *token == "*").map(|(at, _)| at).collect();
        let tail_at = source.split('.').count() - 1;
        let context =
            Context { has_wildcards: !wildcards.is_empty() || has_tail(source), wildcards, tail_at };
        let parts = destination.split('.').map(|token| context.part(token)).collect::<Result<_, _>>()?;
        Ok(Self { source: source.to_owned(), parts, is_identity })
    }

    /// The subjects that are transformed.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the same subject may become different ones.
    pub fn is_random(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Random(_)))
    }

    /// A filter that names everything that subjects can become.
    pub fn destination_filter(&self) -> String {
        if self.parts.is_empty() {
            return self.source.clone();
        }
        let tokens = self.parts.iter().map(|part| match part {
            Part::Literal(text) => text.as_str(),
            Part::Tail(_) => ">",
            // These may be several tokens.
            Part::SplitFromLeft(..)
            | Part::SplitFromRight(..)
            | Part::SliceFromLeft(..)
            | Part::SliceFromRight(..)
            | Part::Split(..) => ">",
            _ => "*",
        });
        let mut filter = String::new();
        for token in tokens {
            filter.push_str(if filter.is_empty() { "" } else { "." });
            filter.push_str(token);
            if token == ">" {
                break;
            }
        }
        filter
    }

    /// A transform and the way back, as imports need it.
    ///
    /// # Errors
    /// As [`Transform::parse`]; a wildcard of the source that is not in the destination; a function other than `wildcard`.
    pub fn reversible(source: &str, destination: &str) -> Result<(Self, Self), TransformError> {
        let there = Self::parse(source, destination)?;
        let placed = |part: &Part| matches!(part, Part::Literal(_) | Part::Tail(_) | Part::Token(_));
        if let Some((token, _)) = destination.split('.').zip(&there.parts).find(|(_, part)| !placed(part)) {
            return Err(TransformError::new(NOT_FOR_IMPORTS, token));
        }
        match there.inverse() {
            Some(back) => Ok((there, back)),
            None => Err(TransformError::new(NOT_ALL_WILDCARDS, destination)),
        }
    }

    /// The way back: from what subjects become to the subjects. `None` when something is lost on the way there, or computed.
    pub fn inverse(&self) -> Option<Self> {
        if self.parts.is_empty() {
            return Some(self.clone());
        }
        let mut wildcards = 0;
        // For each token of the source that is a wildcard: its number among those of the destination.
        let mut numbers: Vec<(usize, usize)> = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(_) | Part::Tail(_) => {}
                Part::Token(at) => {
                    wildcards += 1;
                    // What stands twice is taken from its first place.
                    numbers.push((*at, wildcards));
                }
                _ => return None,
            }
        }
        let back = self.source.split('.').enumerate().map(|(at, token)| match token {
            "*" => numbers.iter().find(|(known, _)| *known == at).map(|(_, number)| format!("${number}")),
            token => Some(token.to_owned()),
        });
        let back = back.collect::<Option<Vec<_>>>()?.join(".");
        Self::parse(&self.destination_filter(), &back).ok()
    }

    /// What a literal subject becomes; `None` if it is not one of the source's. `random` is for `{{random(n)}}`.
    pub fn apply(&self, subject: &[u8], random: u32) -> Option<Vec<u8>> {
        if !crate::matches(self.source.as_bytes(), subject) {
            return None;
        }
        if self.is_identity {
            return Some(subject.to_vec());
        }
        let tokens: Vec<&[u8]> = crate::tokens(subject).collect();
        let mut result = Vec::with_capacity(subject.len() + 16);
        for (at, part) in self.parts.iter().enumerate() {
            if at > 0 {
                result.push(b'.');
            }
            part.append(&mut result, subject, &tokens, random);
        }
        Some(result)
    }
}

/// Checks the pair of subjects of a configuration, token by token first, so that the error names the token.
///
/// # Errors
/// The first token that is wrong.
pub fn validate_mapping(source: &str, destination: &str) -> Result<(), TransformError> {
    if destination.is_empty() {
        return Ok(());
    }
    let mut tail_seen = false;
    for token in destination.split('.') {
        if token.is_empty() || tail_seen {
            return Err(TransformError::new(INVALID, token));
        }
        if let Some(inner) = braces(token) {
            if call(inner).is_none() {
                return Err(TransformError::new(UNKNOWN_FUNCTION, token));
            }
            continue;
        }
        tail_seen = token == ">";
        if token.contains(['\t', '\n', '\x0c', '\r', ' ']) {
            return Err(TransformError::new(INVALID, ""));
        }
    }
    Transform::parse(source, destination).map(|_| ())
}

/// A destination may hold blanks inside its functions.
/// A form feed is a blank here, though not on the wire.
fn is_subject(subject: &str) -> bool {
    classify(subject.as_bytes()).is_ok() && !subject.contains('\x0c')
}

fn is_destination(subject: &str) -> bool {
    let mut tail_seen = false;
    subject.split('.').all(|token| {
        let fits = !token.is_empty() && !tail_seen;
        tail_seen = token == ">";
        fits
    })
}

/// What a destination's placeholders may refer to.
struct Context {
    has_wildcards: bool,
    /// The position of each `*` of the source.
    wildcards: Vec<usize>,
    /// The position of the source's last token.
    tail_at: usize,
}

impl Context {
    fn part(&self, token: &str) -> Result<Part, TransformError> {
        if token == ">" {
            return Ok(Part::Tail(self.tail_at));
        }
        // Other things begin with `$` as well; those are left alone.
        if let Some(number) = token.strip_prefix('$').and_then(|digits| digits.parse::<i64>().ok()) {
            return Ok(Part::Token(self.position(number, token)?));
        }
        let Some(inner) = braces(token) else { return Ok(Part::Literal(token.to_owned())) };
        let Some((function, arguments)) = call(inner) else {
            return Err(TransformError::new(UNKNOWN_FUNCTION, token));
        };
        self.function(function, &arguments, token)
    }

    fn function(&self, function: Function, arguments: &[&str], token: &str) -> Result<Part, TransformError> {
        let refuse = |problem| TransformError::new(problem, token);
        let integer = |text: &str| text.trim_matches(' ').parse::<i64>().map_err(|_| refuse(BAD_ARGUMENT));
        let count = |text: &str| {
            let count = integer(text)?;
            if count > i64::from(i32::MAX) {
                Err(refuse(BAD_ARGUMENT))
            } else {
                Ok(u32::try_from(count).unwrap_or(0))
            }
        };
        let token_and_size = || match arguments {
            [at, size] => {
                let at = integer(at)?;
                let size = size.trim_matches(' ').parse::<i32>().map_err(|_| refuse(BAD_ARGUMENT))?;
                Ok((self.position(at, token)?, usize::try_from(size).unwrap_or(0)))
            }
            [] | [_] => Err(refuse(NOT_ENOUGH)),
            _ => Err(refuse(TOO_MANY)),
        };
        Ok(match function {
            Function::Wildcard => match arguments {
                [] | [""] => return Err(refuse(NOT_ENOUGH)),
                [at] => Part::Token(self.position(integer(at)?, token)?),
                _ => return Err(refuse(TOO_MANY)),
            },
            Function::Partition => match arguments {
                [] => return Err(refuse(NOT_ENOUGH)),
                [number, positions @ ..] => {
                    let number = count(number)?;
                    let positions = positions
                        .iter()
                        .map(|at| integer(at).and_then(|at| self.position_of_any(at, token)))
                        .collect::<Result<Vec<_>, _>>()?;
                    // Without wildcards there is nothing to pick from, and the whole subject counts.
                    let tokens = if self.has_wildcards { positions } else { Vec::new() };
                    Part::Partition { count: number, tokens }
                }
            },
            Function::Random => match arguments {
                [number] => Part::Random(count(number)?),
                _ => return Err(refuse(NOT_ENOUGH)),
            },
            Function::Split => match arguments {
                [at, delimiter] => {
                    let at = integer(at)?;
                    if delimiter.contains([' ', '.']) {
                        return Err(refuse(BAD_ARGUMENT));
                    }
                    Part::Split(self.position(at, token)?, (*delimiter).to_owned())
                }
                [] | [_] => return Err(refuse(NOT_ENOUGH)),
                _ => return Err(refuse(TOO_MANY)),
            },
            Function::SplitFromLeft => token_and_size().map(|(at, size)| Part::SplitFromLeft(at, size))?,
            Function::SplitFromRight => token_and_size().map(|(at, size)| Part::SplitFromRight(at, size))?,
            Function::SliceFromLeft => token_and_size().map(|(at, size)| Part::SliceFromLeft(at, size))?,
            Function::SliceFromRight => token_and_size().map(|(at, size)| Part::SliceFromRight(at, size))?,
            Function::Left => token_and_size().map(|(at, size)| Part::Left(at, size))?,
            Function::Right => token_and_size().map(|(at, size)| Part::Right(at, size))?,
        })
    }

    /// The token that the source's wildcard number `number` stands for; numbers below 1 mean the first token.
    fn position(&self, number: i64, token: &str) -> Result<usize, TransformError> {
        if !self.has_wildcards {
            return Err(TransformError::new(OUT_OF_RANGE, token));
        }
        self.position_of_any(number, token)
    }

    fn position_of_any(&self, number: i64, token: &str) -> Result<usize, TransformError> {
        let Ok(number_from_one) = usize::try_from(number) else { return Ok(0) };
        match number_from_one.checked_sub(1) {
            None => Ok(0),
            Some(at) => match self.wildcards.get(at) {
                Some(position) => Ok(*position),
                None if !self.has_wildcards => Ok(0),
                None => Err(TransformError::new(OUT_OF_RANGE, &format!("{token}: [{number}]"))),
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Wildcard,
    Partition,
    SplitFromLeft,
    SplitFromRight,
    SliceFromLeft,
    SliceFromRight,
    Split,
    Left,
    Right,
    Random,
}

/// Names as they may be written: where there is a capital, a small letter does as well.
const FUNCTIONS: [(&str, Function); 10] = [
    ("Wildcard", Function::Wildcard),
    ("Partition", Function::Partition),
    ("SplitFromLeft", Function::SplitFromLeft),
    ("SplitFromRight", Function::SplitFromRight),
    ("SliceFromLeft", Function::SliceFromLeft),
    ("SliceFromRight", Function::SliceFromRight),
    ("Split", Function::Split),
    ("Left", Function::Left),
    ("Right", Function::Right),
    ("Random", Function::Random),
];

/// What stands between double braces.
fn braces(token: &str) -> Option<&str> {
    token.strip_prefix("{{")?.strip_suffix("}}").filter(|inner| !inner.is_empty())
}

/// A function's name and its arguments.
fn call(inner: &str) -> Option<(Function, Vec<&str>)> {
    let (name, rest) = inner.split_once('(')?;
    let (arguments, after) = rest.rsplit_once(')')?;
    if !after.trim().is_empty() {
        return None;
    }
    let name = name.trim();
    let (_, function) = FUNCTIONS.iter().find(|(known, _)| {
        known.len() == name.len()
            && known.bytes().zip(name.bytes()).all(|(known, given)| {
                known == given || (known.is_ascii_uppercase() && known == given.to_ascii_uppercase())
            })
    })?;
    let mut parts = arguments.split(',');
    let first = parts.next().into_iter();
    Some((*function, first.chain(parts.map(str::trim_start)).collect()))
}

impl Part {
    fn append(&self, result: &mut Vec<u8>, subject: &[u8], tokens: &[&[u8]], random: u32) {
        // A subject that matches the source has all tokens that the source has.
        let token = |at: &usize| tokens.get(*at).copied().unwrap_or_default();
        match self {
            Part::Literal(text) => result.extend_from_slice(text.as_bytes()),
            Part::Tail(from) => join(result, tokens.get(*from..).unwrap_or_default().iter().copied()),
            Part::Token(at) => result.extend_from_slice(token(at)),
            Part::Partition { count, tokens: chosen } => {
                let hash = if chosen.is_empty() { fnv1a([subject]) } else { fnv1a(chosen.iter().map(token)) };
                append_number(result, hash.checked_rem(*count).unwrap_or(0));
            }
            Part::Random(count) => append_number(result, random.checked_rem(*count).unwrap_or(0)),
            Part::SplitFromLeft(at, size) => match split_at(token(at), *size) {
                Some((left, right)) => join(result, [left, right]),
                None => result.extend_from_slice(token(at)),
            },
            Part::SplitFromRight(at, size) => {
                let token = token(at);
                match split_at(token, token.len().saturating_sub(*size)) {
                    Some((left, right)) if *size > 0 => join(result, [left, right]),
                    _ => result.extend_from_slice(token),
                }
            }
            Part::SliceFromLeft(at, size) => match split_at(token(at), *size) {
                Some(_) => join(result, token(at).chunks(*size)),
                None => result.extend_from_slice(token(at)),
            },
            Part::SliceFromRight(at, size) => match split_at(token(at), *size) {
                Some(_) => {
                    let (odd, even) = token(at).split_at(token(at).len() % size);
                    let odd = Some(odd).filter(|odd| !odd.is_empty());
                    join(result, odd.into_iter().chain(even.chunks(*size)));
                }
                None => result.extend_from_slice(token(at)),
            },
            Part::Left(at, size) => {
                result.extend_from_slice(split_at(token(at), *size).map_or(token(at), |(left, _)| left));
            }
            Part::Right(at, size) => {
                let token = token(at);
                match split_at(token, token.len().saturating_sub(*size)) {
                    Some((_, right)) if *size > 0 => result.extend_from_slice(right),
                    _ => result.extend_from_slice(token),
                }
            }
            Part::Split(at, delimiter) => append_split(result, token(at), delimiter.as_bytes()),
        }
    }
}

/// Both sides of a place inside the text; `None` at its ends and beyond.
fn split_at(text: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    (at > 0 && at < text.len()).then(|| text.split_at(at))
}

fn join<'a>(result: &mut Vec<u8>, pieces: impl IntoIterator<Item = &'a [u8]>) {
    for (at, piece) in pieces.into_iter().enumerate() {
        if at > 0 {
            result.push(b'.');
        }
        result.extend_from_slice(piece);
    }
}

/// The pieces between delimiters, empty ones left out so that no token is empty.
fn append_split(result: &mut Vec<u8>, token: &[u8], delimiter: &[u8]) {
    let mut rest = token;
    let mut is_first = true;
    while !rest.is_empty() {
        let found = if delimiter.is_empty() {
            // Between all characters.
            let next = (1..rest.len()).find(|at| rest[*at] & 0xC0 != 0x80);
            next.map(|at| (at, at))
        } else {
            rest.windows(delimiter.len())
                .position(|window| window == delimiter)
                .map(|at| (at, at + delimiter.len()))
        };
        let (piece, after) = match found {
            Some((end, next)) => (&rest[..end], &rest[next..]),
            None => (rest, &rest[rest.len()..]),
        };
        if !piece.is_empty() {
            if !is_first {
                result.push(b'.');
            }
            result.extend_from_slice(piece);
            is_first = false;
        }
        rest = after;
    }
}

fn append_number(result: &mut Vec<u8>, number: u32) {
    result.extend_from_slice(number.to_string().as_bytes());
}

fn fnv1a<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    pieces
        .into_iter()
        .flatten()
        .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subjects_are_transformed() {
        for (source, destination, subject, result) in [
            ("foo.*.*", "req.$2.$1", "foo.A.B", Some("req.B.A")),
            ("foo.*", "bar.{{wildcard(1)}}", "foo.x", Some("bar.x")),
            ("foo.*", "bar.{{ Wildcard( 1 ) }}", "foo.x", Some("bar.x")),
            ("foo.*", "bar.$1", "baz.x", None),
            ("foo.>", "bar.>", "foo.a.b", Some("bar.a.b")),
            ("", "foo.>", "a.b", Some("foo.a.b")),
            (">", ">", "a.b", Some("a.b")),
            ("a", "b", "a", Some("b")),
            ("a", "$JS.x", "a", Some("$JS.x")),
            ("*", "{{splitfromleft(1,3)}}", "12345", Some("123.45")),
            ("*", "{{SplitFromRight(1,3)}}", "12345", Some("12.345")),
            ("*", "{{SliceFromLeft(1,2)}}", "12345", Some("12.34.5")),
            ("*", "{{SliceFromRight(1,2)}}", "12345", Some("1.23.45")),
            ("*", "{{SliceFromLeft(1,9)}}", "12345", Some("12345")),
            ("*", "{{split(1,-)}}", "-a--b-c-", Some("a.b.c")),
            ("*", "{{left(1,2)}}", "12345", Some("12")),
            ("*", "{{right(1,2)}}", "12345", Some("45")),
            ("*", "{{right(1,0)}}", "12345", Some("12345")),
            ("*", "x.{{random(10)}}", "a", Some("x.7")),
            ("*.*", "{{partition(10,1,2)}}", "foo.bar", Some("0")),
            ("*", "{{partition(0,1)}}", "foo", Some("0")),
        ] {
            let transform = Transform::parse(source, destination)
                .unwrap_or_else(|error| panic!("{destination}: {error}"));
            let given = transform
                .apply(subject.as_bytes(), 17)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            assert_eq!(given.as_deref(), result, "{source} -> {destination}");
        }
    }

    #[test]
    fn what_is_no_transform_is_refused() {
        for (source, destination, refusal) in [
            ("foo.*", "bar.*", "invalid subject"),
            ("foo.>", "bar", "invalid subject"),
            ("foo..a", "bar", "invalid subject"),
            ("foo", "bar.$1", "invalid mapping destination: wildcard index out of range in $1"),
            ("foo.*", "bar.$2", "invalid mapping destination: wildcard index out of range in $2: [2]"),
            ("*", "{{bogus(1)}}", "invalid mapping destination: unknown function in {{bogus(1)}}"),
            (
                "*",
                "{{wildcard()}}",
                "invalid mapping destination: not enough arguments passed to the function in {{wildcard()}}",
            ),
            (
                "*",
                "{{wildcard(1,2)}}",
                "invalid mapping destination: too many arguments passed to the function in {{wildcard(1,2)}}",
            ),
            (
                "*",
                "{{wildcard(x)}}",
                "invalid mapping destination: function argument is invalid or in the wrong format in {{wildcard(x)}}",
            ),
            (
                "*",
                "{{split(1)}}",
                "invalid mapping destination: not enough arguments passed to the function in {{split(1)}}",
            ),
        ] {
            assert_eq!(
                Transform::parse(source, destination).map(|_| ()).map_err(|e| e.to_string()),
                Err(refusal.to_owned())
            );
        }
    }

    #[test]
    fn a_transform_that_loses_nothing_has_a_way_back() {
        for (source, destination, subject) in [
            ("foo.*.*", "bar.$2.x.$1", "foo.a.b"),
            ("foo.>", "imp.foo.>", "foo.a.b"),
            ("a.b", "c", "a.b"),
            (">", "x.>", "foo"),
            ("foo.*.>", "$1.>", "foo.a.b.c"),
            ("a.*", "b.$1.$1", "a.x"),
        ] {
            let there = Transform::parse(source, destination).unwrap();
            let back = there.inverse().unwrap();
            let named = there.apply(subject.as_bytes(), 0).unwrap();
            assert_eq!(
                back.apply(&named, 0).as_deref(),
                Some(subject.as_bytes()),
                "{source} -> {destination}"
            );
        }
        for (source, destination) in [("foo.*.*", "bar.$1"), ("a.*", "{{partition(3,1)}}")] {
            assert_eq!(
                Transform::parse(source, destination).unwrap().inverse(),
                None,
                "{source} -> {destination}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(source in "[a*>.]{0,8}", destination in "[a*>.${}()1-9,wildcrpton ]{0,24}", subject in "[a-cé.]{1,10}") {
            if let Ok(transform) = Transform::parse(&source, &destination) {
                let _ = transform.apply(subject.as_bytes(), 5);
            }
            let _ = validate_mapping(&source, &destination);
        }
    }
}
