//! Subject transforms: from a source filter to a destination with functions (ADR-30).
//!
//! A destination is compiled once into pieces; [`Transform::apply`] joins them. Wildcards of the source are counted from 1.

use std::fmt;

use crate::{has_wildcard, matches, tokens};

/// A compiled transform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transform {
    source: Box<[u8]>,
    destination: Box<[u8]>,
    source_tokens: usize,
    pieces: Box<[Piece]>,
    /// Both ends are open (`>`): what the source's matched goes on the destination's end.
    open: bool,
}

/// One token of the destination. Places are tokens of the subject, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Box<[u8]>),
    Token(usize),
    /// FNV-1a of the tokens, or of the whole subject, modulo the number.
    Partition(i64, Box<[usize]>),
    SplitFromLeft(usize, i64),
    SplitFromRight(usize, i64),
    SliceFromLeft(usize, i64),
    SliceFromRight(usize, i64),
    Split(usize, Box<[u8]>),
    Left(usize, i64),
    Right(usize, i64),
    Random(i64),
}

/// Why a transform is not one. The texts are the original's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransformError {
    /// Source or destination is no subject, or only one of them ends in `>`.
    BadSubject,
    /// A token of the destination is wrong.
    Destination {
        /// The token, with the number that is out of range if one is.
        token: String,
        /// What is wrong with it.
        fault: DestinationFault,
    },
}

/// See [`TransformError::Destination`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum DestinationFault {
    IndexOutOfRange,
    NotEnoughArguments,
    TooManyArguments,
    InvalidArgument,
    UnknownFunction,
}

impl fmt::Display for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadSubject => f.write_str("invalid subject"),
            Self::Destination { token, fault } => {
                let what = match fault {
                    DestinationFault::IndexOutOfRange => "wildcard index out of range",
                    DestinationFault::NotEnoughArguments => "not enough arguments passed to the function",
                    DestinationFault::TooManyArguments => "too many arguments passed to the function",
                    DestinationFault::InvalidArgument => {
                        "function argument is invalid or in the wrong format"
                    }
                    DestinationFault::UnknownFunction => "unknown function",
                };
                write!(f, "invalid mapping destination: {what} in {token}")
            }
        }
    }
}

impl std::error::Error for TransformError {}

impl Transform {
    /// Compiles a transform; an empty source is `>`.
    ///
    /// # Errors
    /// As [`TransformError`] says.
    pub fn new(source: &[u8], destination: &[u8]) -> Result<Self, TransformError> {
        let source = if source.is_empty() { b">" } else { source };
        let open = source.ends_with(b">") && is_open(source);
        let valid = has_form(source) && has_form(destination);
        let stars = tokens(destination).any(|token| token == b"*");
        if !valid || stars || open != is_open(destination) {
            return Err(TransformError::BadSubject);
        }
        let places: Vec<usize> =
            tokens(source).enumerate().filter(|(_, token)| *token == b"*").map(|(place, _)| place).collect();
        let wild = has_wildcard(source);
        let mut pieces = Vec::new();
        for token in tokens(destination) {
            if open && token == b">" {
                break;
            }
            pieces.push(compile(token, &places, wild)?);
        }
        Ok(Self {
            source: source.into(),
            destination: destination.into(),
            source_tokens: tokens(source).count(),
            pieces: pieces.into_boxed_slice(),
            open,
        })
    }

    /// The source filter.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// The destination as it was written.
    pub fn destination(&self) -> &[u8] {
        &self.destination
    }

    /// Transforms a subject that matches the source; `None` for one that does not. `random` chooses for `random(n)`.
    pub fn apply(&self, subject: &[u8], random: u32) -> Option<Vec<u8>> {
        if *self.source != *b">" && !matches(&self.source, subject) {
            return None;
        }
        let parts: Vec<&[u8]> = tokens(subject).collect();
        let part = |place: usize| parts.get(place).copied().unwrap_or_default();
        let mut out = Vec::with_capacity(subject.len() + self.destination.len());
        for (index, piece) in self.pieces.iter().enumerate() {
            if index > 0 {
                out.push(b'.');
            }
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text),
                Piece::Token(place) => out.extend_from_slice(part(*place)),
                Piece::Partition(count, places) => {
                    let hash = match places.is_empty() {
                        true => fnv_1a([subject].into_iter()),
                        false => fnv_1a(places.iter().map(|place| part(*place))),
                    };
                    let bucket = if *count == 0 { 0 } else { hash % (*count as u32).max(1) };
                    out.extend_from_slice(bucket.to_string().as_bytes());
                }
                Piece::SplitFromLeft(place, at) => split_at(&mut out, part(*place), *at, false),
                Piece::SplitFromRight(place, at) => split_at(&mut out, part(*place), *at, true),
                Piece::SliceFromLeft(place, size) => slice(&mut out, part(*place), *size, false),
                Piece::SliceFromRight(place, size) => slice(&mut out, part(*place), *size, true),
                Piece::Split(place, delimiter) => split(&mut out, part(*place), delimiter),
                Piece::Left(place, size) => {
                    let token = part(*place);
                    out.extend_from_slice(within(token, *size).map_or(token, |size| &token[..size]));
                }
                Piece::Right(place, size) => {
                    let token = part(*place);
                    out.extend_from_slice(
                        within(token, *size).map_or(token, |size| &token[token.len() - size..]),
                    );
                }
                Piece::Random(ceiling) => {
                    let number = if *ceiling <= 0 { 0 } else { i64::from(random >> 1) % ceiling };
                    out.extend_from_slice(number.to_string().as_bytes());
                }
            }
        }
        if self.open {
            for rest in parts.iter().skip(self.source_tokens - 1) {
                if !out.is_empty() {
                    out.push(b'.');
                }
                out.extend_from_slice(rest);
            }
        }
        Some(out)
    }
}

/// Blanks are allowed: arguments of functions may have them.
fn has_form(subject: &[u8]) -> bool {
    let mut open = false;
    tokens(subject).all(|token| !token.is_empty() && !std::mem::replace(&mut open, token == b">"))
}

fn is_open(subject: &[u8]) -> bool {
    tokens(subject).last() == Some(b">")
}

/// A position strictly within the token; otherwise functions leave the token as it is.
fn within(token: &[u8], size: i64) -> Option<usize> {
    usize::try_from(size).ok().filter(|size| *size > 0 && *size < token.len())
}

fn split_at(out: &mut Vec<u8>, token: &[u8], at: i64, from_right: bool) {
    let Some(at) = within(token, at) else { return out.extend_from_slice(token) };
    let (left, right) = token.split_at(if from_right { token.len() - at } else { at });
    out.extend_from_slice(left);
    out.push(b'.');
    out.extend_from_slice(right);
}

fn slice(out: &mut Vec<u8>, token: &[u8], size: i64, from_right: bool) {
    let Some(size) = within(token, size) else { return out.extend_from_slice(token) };
    let head = if from_right { token.len() % size } else { 0 };
    let (head, rest) = token.split_at(head);
    let slices = std::iter::once(head).filter(|head| !head.is_empty()).chain(rest.chunks(size));
    for (index, slice) in slices.enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(slice);
    }
}

fn split(out: &mut Vec<u8>, token: &[u8], delimiter: &[u8]) {
    if delimiter.is_empty() {
        return split_at_every_byte(out, token);
    }
    let mut rest = token;
    let mut first = true;
    loop {
        let at = rest.windows(delimiter.len()).position(|window| window == delimiter);
        let piece = &rest[..at.unwrap_or(rest.len())];
        if !piece.is_empty() {
            if !first {
                out.push(b'.');
            }
            out.extend_from_slice(piece);
            first = false;
        }
        match at {
            Some(at) => rest = &rest[at + delimiter.len()..],
            None => return,
        }
    }
}

fn split_at_every_byte(out: &mut Vec<u8>, token: &[u8]) {
    for (index, byte) in token.iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        out.push(*byte);
    }
}

fn fnv_1a<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u32 {
    parts.flatten().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// `wild`: the source has wildcards. `places` are those of its `*`.
fn compile(token: &[u8], places: &[usize], wild: bool) -> Result<Piece, TransformError> {
    let text = String::from_utf8_lossy(token);
    let fault = |fault| TransformError::Destination { token: text.clone().into_owned(), fault };
    let place = |index: i64| match usize::try_from(index) {
        // The original takes an index below 1 for the first token.
        _ if index < 1 => Ok(0),
        Ok(index) if index <= places.len() => Ok(places[index - 1]),
        _ => Err(TransformError::Destination {
            token: if wild { format!("{text}: [{index}]") } else { text.clone().into_owned() },
            fault: DestinationFault::IndexOutOfRange,
        }),
    };
    let needs_wildcards = || if wild { Ok(()) } else { Err(fault(DestinationFault::IndexOutOfRange)) };
    if let Some(number) = text.strip_prefix('$') {
        return match number.parse::<i64>() {
            Ok(index) => {
                needs_wildcards()?;
                Ok(Piece::Token(place(index)?))
            }
            Err(_) => Ok(Piece::Literal(token.into())),
        };
    }
    let Some(inner) = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) else {
        return Ok(Piece::Literal(token.into()));
    };
    if text.len() <= 4 {
        return Ok(Piece::Literal(token.into()));
    }
    let call = inner.trim().strip_suffix(')').and_then(|call| call.split_once('('));
    let Some((name, arguments)) = call else { return Err(fault(DestinationFault::UnknownFunction)) };
    let arguments: Vec<&str> = arguments.split(',').map(|argument| argument.trim_start()).collect();
    let number = |argument: &str| {
        let number = argument.trim_matches(' ').parse::<i64>().ok();
        number
            .filter(|number| i32::try_from(*number).is_ok())
            .ok_or_else(|| fault(DestinationFault::InvalidArgument))
    };
    let exactly = |count: usize| match arguments.len().cmp(&count) {
        std::cmp::Ordering::Less => Err(fault(DestinationFault::NotEnoughArguments)),
        std::cmp::Ordering::Greater => Err(fault(DestinationFault::TooManyArguments)),
        std::cmp::Ordering::Equal => Ok(()),
    };
    let two_numbers = || {
        exactly(2)?;
        let (index, size) = (number(arguments[0])?, number(arguments[1])?);
        needs_wildcards()?;
        Ok((place(index)?, size))
    };
    match name.trim_end() {
        "wildcard" | "Wildcard" => {
            if arguments == [""] {
                return Err(fault(DestinationFault::NotEnoughArguments));
            }
            exactly(1)?;
            let index = number(arguments[0])?;
            needs_wildcards()?;
            Ok(Piece::Token(place(index)?))
        }
        "partition" | "Partition" => {
            let count = number(arguments[0])?;
            let of: Vec<i64> = arguments[1..].iter().map(|one| number(one)).collect::<Result<_, _>>()?;
            let of = if wild { of.into_iter().map(place).collect::<Result<_, _>>()? } else { Vec::new() };
            Ok(Piece::Partition(count, of.into_boxed_slice()))
        }
        name if is_called(name, &["split", "from", "left"]) => {
            two_numbers().map(|(at, size)| Piece::SplitFromLeft(at, size))
        }
        name if is_called(name, &["split", "from", "right"]) => {
            two_numbers().map(|(at, size)| Piece::SplitFromRight(at, size))
        }
        name if is_called(name, &["slice", "from", "left"]) => {
            two_numbers().map(|(at, size)| Piece::SliceFromLeft(at, size))
        }
        name if is_called(name, &["slice", "from", "right"]) => {
            two_numbers().map(|(at, size)| Piece::SliceFromRight(at, size))
        }
        "left" | "Left" => two_numbers().map(|(at, size)| Piece::Left(at, size)),
        "right" | "Right" => two_numbers().map(|(at, size)| Piece::Right(at, size)),
        "split" | "Split" => {
            exactly(2)?;
            let index = number(arguments[0])?;
            if arguments[1].contains([' ', '.']) {
                return Err(fault(DestinationFault::InvalidArgument));
            }
            needs_wildcards()?;
            Ok(Piece::Split(place(index)?, arguments[1].as_bytes().into()))
        }
        "random" | "Random" => {
            if arguments.len() != 1 {
                return Err(fault(DestinationFault::NotEnoughArguments));
            }
            Ok(Piece::Random(number(arguments[0])?))
        }
        _ => Err(fault(DestinationFault::UnknownFunction)),
    }
}

/// Whether `name` is these words written together, each with a small or a capital first letter.
fn is_called(name: &str, words: &[&str]) -> bool {
    let mut rest = name;
    for word in words {
        let Some((head, tail)) = rest.split_at_checked(word.len()) else { return false };
        let (first, others) = head.split_at(1);
        if !first.eq_ignore_ascii_case(&word[..1]) || others != &word[1..] {
            return false;
        }
        rest = tail;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_do_what_the_documentation_says() {
        // source, destination, subject, result
        let table = [
            ("foo.*", "bar.$1", "foo.a", "bar.a"),
            ("foo.*.*", "bar.{{wildcard(2)}}.{{ Wildcard( 1 ) }}", "foo.a.b", "bar.b.a"),
            ("foo.>", "bar.>", "foo.a.b", "bar.a.b"),
            ("", "x.>", "a.b", "x.a.b"),
            (">", ">", "a.b", "a.b"),
            ("*.>", "$1.z.>", "q.r.s", "q.z.r.s"),
            ("foo", "bar", "foo", "bar"),
            ("foo.*.*", "foo.$1.{{partition(10,1,2)}}", "foo.baz.bar", "foo.baz.9"),
            ("*", "{{partition(10)}}", "foo", "3"),
            ("*", "{{splitfromleft(1,3)}}", "12345", "123.45"),
            ("*", "{{SplitFromRight(1,3)}}", "12345", "12.345"),
            ("*", "{{slicefromleft(1,3)}}", "1234567890", "123.456.789.0"),
            ("*", "{{slicefromright(1,3)}}", "1234567890", "1.234.567.890"),
            ("*", "{{split(1,-)}}", "-abc-def--ghi-", "abc.def.ghi"),
            ("*", "{{left(1,2)}}.{{right(1,2)}}", "abcd", "ab.cd"),
            ("*", "{{left(1,9)}}", "abcd", "abcd"),
            ("*", "$x.$", "a", "$x.$"),
        ];
        for (source, destination, subject, result) in table {
            let transform = Transform::new(source.as_bytes(), destination.as_bytes());
            let transform = transform.unwrap_or_else(|error| panic!("{source} {destination}: {error}"));
            let applied = transform.apply(subject.as_bytes(), 7);
            assert_eq!(
                applied.as_deref().map(String::from_utf8_lossy).as_deref(),
                Some(result),
                "{source} {destination}"
            );
        }
    }

    #[test]
    fn what_does_not_match_is_not_transformed() {
        let transform = Transform::new(b"foo.*", b"bar.$1").ok();
        assert_eq!(transform.and_then(|transform| transform.apply(b"foo.a.b", 0)), None);
    }

    #[test]
    fn faults_have_the_texts_of_the_original() {
        let table = [
            ("foo.*", "bar.*", "invalid subject"),
            ("foo.>", "bar", "invalid subject"),
            ("foo.*", "bar.$2", "invalid mapping destination: wildcard index out of range in $2: [2]"),
            (
                "foo",
                "bar.{{wildcard(1)}}",
                "invalid mapping destination: wildcard index out of range in {{wildcard(1)}}",
            ),
            (
                "foo.*",
                "bar.{{wildcard()}}",
                "invalid mapping destination: not enough arguments passed to the function in {{wildcard()}}",
            ),
            (
                "foo.*",
                "bar.{{wildcard(1,2)}}",
                "invalid mapping destination: too many arguments passed to the function in {{wildcard(1,2)}}",
            ),
            (
                "foo.*",
                "bar.{{split(1)}}",
                "invalid mapping destination: not enough arguments passed to the function in {{split(1)}}",
            ),
            (
                "foo.*",
                "bar.{{left(1,x)}}",
                "invalid mapping destination: function argument is invalid or in the wrong format in {{left(1,x)}}",
            ),
            (
                "foo.*",
                "bar.{{nothing(1)}}",
                "invalid mapping destination: unknown function in {{nothing(1)}}",
            ),
        ];
        for (source, destination, text) in table {
            let error = Transform::new(source.as_bytes(), destination.as_bytes()).err();
            assert_eq!(error.map(|error| error.to_string()).as_deref(), Some(text), "{source} {destination}");
        }
    }
}
