//! From the tree of a file to options: walks the keys and lets the table read each.
//!
//! The small readers below turn one entry into one typed value and note a problem when they cannot;
//! reading goes on, so that an operator sees everything at once.

use std::path::Path;
use std::time::Duration;

use crate::authorization;
use crate::duration;
use crate::grammar::{self, Entry, Map, Place, Value};
use crate::operator;
use crate::options::Options;
use crate::problem::{ConfigError, ProblemKind, Problems};
use crate::source::Source;
use crate::table;

/// Reads a file into `options`, on top of what is there. The result holds warnings only.
///
/// This is what a test of the configuration (`-t`) does, which fails on warnings too. Rules between
/// options are not checked here, since flags may still change them; see [`crate::flags::load`].
///
/// # Errors
/// The file or an include cannot be read or parsed, or a key or value is wrong.
pub fn read_file(path: &Path, source: &dyn Source, options: &mut Options) -> Result<Problems, ConfigError> {
    let map = grammar::parse_file(path, source).map_err(ConfigError::Grammar)?;
    options.config_file = Some(path.to_owned());
    options.config_digest = Some(grammar::digest(&map));
    read_map(&map, path, source, options)
}

/// Reads a parsed file into `options`, as [`read_file`] does.
pub fn read_map(
    map: &Map,
    file: &Path,
    source: &dyn Source,
    options: &mut Options,
) -> Result<Problems, ConfigError> {
    let mut problems = Problems::default();
    if map.is_empty() {
        problems.warn(&Place::start_of(file), ProblemKind::EmptyConfig);
    }
    for entry in map {
        match table::find(&entry.key) {
            Some(row) => row.read_entry(options, entry, &mut problems),
            None => unknown(entry, &mut problems),
        }
    }
    operator::read_operators(options, map, source, &mut problems);
    authorization::check_together(options, map, &mut problems);
    match problems.errors.is_empty() {
        true => Ok(problems),
        false => Err(ConfigError::Problems(problems)),
    }
}

/// Notes a key that no option has, unless it is a variable that something refers to.
pub(crate) fn unknown(entry: &Entry, problems: &mut Problems) {
    if !entry.referenced {
        problems.error(&entry.place, ProblemKind::UnknownField(entry.key.clone()));
    }
}

/// The same in blocks that say what was being read.
pub(crate) fn unknown_in(parsing: &'static str, entry: &Entry, problems: &mut Problems) {
    if !entry.referenced {
        let field = entry.key.clone();
        problems.error(&entry.place, ProblemKind::UnknownFieldIn { field, parsing });
    }
}

/// Notes an option that is not built yet, unless it is turned off.
pub(crate) fn not_supported(entry: &Entry, problems: &mut Problems) {
    if !says_off(&entry.value) {
        problems.error(&entry.place, ProblemKind::NotSupported(entry.key.clone()));
    }
}

/// Whether a value plainly asks for nothing.
fn says_off(value: &Value) -> bool {
    match value {
        Value::Bool(on) => !on,
        Value::Integer(n) => *n == 0,
        Value::String(s) => s.is_empty() || s.eq_ignore_ascii_case("disabled"),
        Value::List(items) => items.is_empty(),
        Value::Map(map) => {
            let is_switch = |e: &&Entry| matches!(e.key.to_ascii_lowercase().as_str(), "enabled" | "enable");
            match map.iter().find(is_switch) {
                Some(switch) => says_off(&switch.value),
                None => map.iter().all(|e| e.referenced || says_off(&e.value)),
            }
        }
        Value::Float(_) | Value::Date(_) => false,
    }
}

pub(crate) fn wrong_type(entry: &Entry, expected: &'static str, problems: &mut Problems) {
    let found = entry.value.kind();
    problems.error(&entry.place, ProblemKind::WrongType { field: entry.key.clone(), expected, found });
}

fn out_of_range(entry: &Entry, reason: &'static str, problems: &mut Problems) {
    problems.error(&entry.place, ProblemKind::OutOfRange { field: entry.key.clone(), reason });
}

pub(crate) fn invalid(entry: &Entry, sentence: impl Into<String>, problems: &mut Problems) {
    problems.error(&entry.place, ProblemKind::Invalid(sentence.into()));
}

pub(crate) fn boolean(entry: &Entry, problems: &mut Problems) -> Option<bool> {
    match entry.value {
        Value::Bool(b) => Some(b),
        _ => {
            wrong_type(entry, "a bool", problems);
            None
        }
    }
}

pub(crate) fn text<'a>(entry: &'a Entry, problems: &mut Problems) -> Option<&'a str> {
    match &entry.value {
        Value::String(s) => Some(s),
        _ => {
            wrong_type(entry, "a string", problems);
            None
        }
    }
}

/// A string, where an empty one is as good as none.
pub(crate) fn optional_text(entry: &Entry, problems: &mut Problems) -> Option<Option<String>> {
    text(entry, problems).map(|s| Some(s.to_owned()).filter(|s| !s.is_empty()))
}

pub(crate) fn integer(entry: &Entry, problems: &mut Problems) -> Option<i64> {
    match entry.value {
        Value::Integer(n) => Some(n),
        _ => {
            wrong_type(entry, "an integer", problems);
            None
        }
    }
}

/// A whole number that is not negative.
pub(crate) fn count(entry: &Entry, problems: &mut Problems) -> Option<u64> {
    let n = u64::try_from(integer(entry, problems)?).ok();
    if n.is_none() {
        out_of_range(entry, "can not be negative", problems);
    }
    n
}

/// A size of at most 2 GiB, as the protocol's headers can say.
pub(crate) fn size_32(entry: &Entry, problems: &mut Problems) -> Option<u32> {
    let n = count(entry, problems)?;
    match u32::try_from(n) {
        Ok(n) if n <= i32::MAX.unsigned_abs() => Some(n),
        _ => {
            out_of_range(entry, "is too big", problems);
            None
        }
    }
}

/// A limit: zero and negative numbers mean there is none.
pub(crate) fn limit_32(entry: &Entry, problems: &mut Problems) -> Option<Option<u32>> {
    let n = integer(entry, problems)?;
    if n <= 0 {
        return Some(None);
    }
    match u32::try_from(n) {
        Ok(n) => Some(Some(n)),
        Err(_) => {
            out_of_range(entry, "is too big", problems);
            None
        }
    }
}

/// The limit of tokens: 1 to 255.
pub(crate) fn token_limit(entry: &Entry, problems: &mut Problems) -> Option<Option<u8>> {
    let n = integer(entry, problems)?;
    match u8::try_from(n) {
        Ok(n) if n > 0 => Some(Some(n)),
        _ if n > 0 => {
            out_of_range(entry, "is too big", problems);
            None
        }
        _ => {
            out_of_range(entry, "can not be negative", problems);
            None
        }
    }
}

/// What a port number in a file asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Port {
    /// 0: the default, or nothing where there is none.
    Unset,
    /// -1: any free one.
    Any,
    Fixed(u16),
}

impl Port {
    pub(crate) fn from_number(n: i64) -> Option<Self> {
        match n {
            0 => Some(Port::Unset),
            -1 => Some(Port::Any),
            _ => u16::try_from(n).ok().map(Port::Fixed),
        }
    }

    /// The port to bind, 0 for any; `None` if it is not set.
    pub(crate) fn to_bind(self) -> Option<u16> {
        match self {
            Port::Unset => None,
            Port::Any => Some(0),
            Port::Fixed(port) => Some(port),
        }
    }
}

pub(crate) fn port(entry: &Entry, problems: &mut Problems) -> Option<Port> {
    let port = Port::from_number(integer(entry, problems)?);
    if port.is_none() {
        out_of_range(entry, "is not a port", problems);
    }
    port
}

/// A port, or `host:port`. An empty host is the default one.
pub(crate) fn listen(entry: &Entry, problems: &mut Problems) -> Option<(Option<String>, Port)> {
    let address = match &entry.value {
        Value::Integer(_) => return port(entry, problems).map(|port| (None, port)),
        Value::String(s) => s,
        _ => {
            wrong_type(entry, "port or host:port", problems);
            return None;
        }
    };
    let Some((host, number)) = split_host_port(address) else {
        invalid(entry, format!("could not parse address string {address:?}"), problems);
        return None;
    };
    let Some(port) = number.parse().ok().and_then(Port::from_number) else {
        invalid(entry, format!("could not parse port {number:?}"), problems);
        return None;
    };
    Some((Some(host.to_owned()).filter(|h| !h.is_empty()), port))
}

/// Splits `host:port`, `[v6]:port` or `:port`.
pub(crate) fn split_host_port(address: &str) -> Option<(&str, &str)> {
    if let Some(bracketed) = address.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        let port = rest.strip_prefix(':')?;
        return (!port.contains([':', '[', ']']) && !host.contains('[')).then_some((host, port));
    }
    let (host, port) = address.rsplit_once(':')?;
    (!host.contains([':', '[', ']']) && !port.contains(['[', ']'])).then_some((host, port))
}

/// A duration as a string; a bare number is taken as seconds, with a warning. Negative ones are refused.
pub(crate) fn duration_or_seconds(entry: &Entry, problems: &mut Problems) -> Option<Duration> {
    match &entry.value {
        Value::Integer(n) => {
            let reason = format!("{} should be converted to a duration", entry.key);
            problems.warn(&entry.place, ProblemKind::Questionable { field: entry.key.clone(), reason });
            match u64::try_from(*n) {
                Ok(seconds) => Some(Duration::from_secs(seconds)),
                Err(_) => {
                    out_of_range(entry, "can not be negative", problems);
                    None
                }
            }
        }
        _ => duration(entry, &entry.key, problems),
    }
}

/// A duration as a string, named `field` in messages. Negative ones are refused.
pub(crate) fn duration(entry: &Entry, field: &str, problems: &mut Problems) -> Option<Duration> {
    let text = match &entry.value {
        Value::String(s) => s,
        _ => {
            wrong_type(entry, "a duration", problems);
            return None;
        }
    };
    match duration::parse(text) {
        Ok(Some(duration)) => Some(duration),
        Ok(None) => {
            invalid(entry, format!("invalid {field}, needs to be positive"), problems);
            None
        }
        Err(error) => {
            problems.error(&entry.place, ProblemKind::Duration { field: field.to_owned(), error });
            None
        }
    }
}

/// Seconds as a number, whole or not, or a duration as a string. Zero means the default.
pub(crate) fn seconds(entry: &Entry, block: &str, problems: &mut Problems) -> Option<Option<Duration>> {
    let duration = match &entry.value {
        Value::Integer(n) => u64::try_from(*n).ok().map(Duration::from_secs),
        Value::Float(x) => Duration::try_from_secs_f64(*x).ok(),
        Value::String(text) => match duration::parse(text) {
            Ok(duration) => duration,
            Err(error) => {
                let field = format!("{block} config, '{}'", entry.key);
                problems.error(&entry.place, ProblemKind::Duration { field, error });
                return None;
            }
        },
        _ => {
            invalid(entry, format!("error parsing {block} config, '{}' wrong type", entry.key), problems);
            return None;
        }
    };
    if duration.is_none() {
        out_of_range(entry, "can not be negative", problems);
        return None;
    }
    Some(duration.filter(|d| !d.is_zero()))
}

pub(crate) fn map<'a>(entry: &'a Entry, problems: &mut Problems) -> Option<&'a Map> {
    match &entry.value {
        Value::Map(map) => Some(map),
        _ => {
            wrong_type(entry, "a map", problems);
            None
        }
    }
}

pub(crate) fn list<'a>(entry: &'a Entry, problems: &mut Problems) -> Option<&'a [Entry]> {
    match &entry.value {
        Value::List(items) => Some(items),
        _ => {
            wrong_type(entry, "a list", problems);
            None
        }
    }
}

/// A string or a list of strings.
pub(crate) fn texts(entry: &Entry, problems: &mut Problems) -> Option<Vec<String>> {
    let items = match &entry.value {
        Value::String(s) => return Some(vec![s.clone()]),
        Value::List(items) => items,
        _ => {
            wrong_type(entry, "a string or a list of strings", problems);
            return None;
        }
    };
    let mut texts = Vec::with_capacity(items.len());
    for item in items {
        match &item.value {
            Value::String(s) => texts.push(s.clone()),
            other => {
                let (expected, found) = ("only strings in the list", other.kind());
                let field = entry.key.clone();
                problems.error(&item.place, ProblemKind::WrongType { field, expected, found });
                return None;
            }
        }
    }
    Some(texts)
}
