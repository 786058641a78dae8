//! The tree of a parsed file.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where something stands: `file:line:column`.
///
/// Columns count characters' bytes from 1, but on the first line of a file from 0. That is how the
/// original counts, and tools that read its messages expect it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named; empty for text without a file.
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: u32,
    /// Column, see above.
    pub column: u32,
}

impl Place {
    /// The begin of a file, for messages about the whole of it.
    pub fn start_of(file: &Path) -> Self {
        Place { file: Arc::from(PathBuf::from(file)), line: 1, column: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A value without its place.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// A whole number, its size suffix already multiplied in.
    Integer(i64),
    /// A number with a point.
    Float(f64),
    /// Any string, however quoted.
    String(String),
    /// `YYYY-MM-DDTHH:MM:SSZ`, a date that exists.
    Date(String),
    /// `[ … ]`. The keys of these entries are empty.
    List(Vec<Entry>),
    /// `{ … }`.
    Map(Map),
}

impl Value {
    /// What kind of value this is, with its article, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Bool(_) => "a bool",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::String(_) => "a string",
            Value::Date(_) => "a date",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// How many values this holds, itself included.
    pub(super) fn weight(&self) -> usize {
        match self {
            Value::List(items) => 1 + items.iter().map(|e| e.value.weight()).sum::<usize>(),
            Value::Map(map) => 1 + map.iter().map(|e| e.value.weight()).sum::<usize>(),
            _ => 1,
        }
    }

    /// How many maps and lists stand in one another here.
    pub(super) fn depth(&self) -> usize {
        match self {
            Value::List(items) => 1 + items.iter().map(|e| e.value.depth()).max().unwrap_or(0),
            Value::Map(map) => 1 + map.iter().map(|e| e.value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// A key with its value, or an item of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key as written; empty in a list.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Where the key stands; in a list, where the item begins.
    pub place: Place,
    /// A variable referred to this entry, so it may have a name no option has.
    pub referenced: bool,
}

/// A map whose keys are unique, in the order in which they first appeared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

impl Map {
    /// A map without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entry of exactly this key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).and_then(|&at| self.entries.get(at))
    }

    /// All entries, in the order in which their keys first appeared.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an entry; of two with one key, the later replaces the earlier.
    pub(super) fn insert(&mut self, entry: Entry) {
        match self.index.get(&entry.key).and_then(|&at| self.entries.get_mut(at)) {
            Some(old) => *old = entry,
            None => {
                self.index.insert(entry.key.clone(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// The value of a variable, which is marked as used.
    pub(super) fn refer(&mut self, name: &str) -> Option<&Value> {
        let entry = self.index.get(name).and_then(|&at| self.entries.get_mut(at))?;
        entry.referenced = true;
        Some(&entry.value)
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
