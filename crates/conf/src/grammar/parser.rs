//! From text to tree, by recursive descent.
//!
//! Three surroundings have slightly different manners, which existing files rely on: the *top* of a
//! file, the *wrapped* top (`{` … `}` around everything, as in JSON), and *maps*. Their differences
//! stand in [`Parser::top`], [`Parser::wrapped`] and [`Parser::map`]; keys and values are shared.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::cursor::{Cursor, is_blank, is_newline, unclosed};
use super::error::{GrammarError, GrammarErrorKind};
use super::scalar::Word;
use super::tree::{Entry, Map, Place, Value};
use crate::source::Source;

/// How deep maps and lists may stand in one another. Real files need about ten.
pub const MAX_NESTING: usize = 100;
/// How deep files may include one another, and variables of the environment refer to one another. A file
/// that includes itself ends here.
pub const MAX_INCLUDE_DEPTH: usize = 20;
/// How many files one configuration may read, so that includes cannot multiply without end.
pub const MAX_INCLUDES: usize = 1000;
/// How many values a configuration may hold, so that variables cannot multiply without end. It is
/// larger than any file with a user for each of ten thousand devices.
pub const MAX_VALUES: usize = 2_000_000;

/// Parses a file and all it includes.
pub fn parse_file(path: &Path, source: &dyn Source) -> Result<Map, GrammarError> {
    let mut budget = Budget::new();
    let text = source.read(path).map_err(|error| GrammarError {
        place: None,
        kind: GrammarErrorKind::Read { path: path.into(), error },
    })?;
    Parser::new(&text, path, source, &mut budget).top()
}

/// Parses text that stands in no file; `name` is used in places and to find includes.
pub fn parse(text: &str, name: &Path, source: &dyn Source) -> Result<Map, GrammarError> {
    Parser::new(text, name, source, &mut Budget::new()).top()
}

type Result<T, E = GrammarError> = std::result::Result<T, E>;

/// What all files of one configuration share.
struct Budget {
    values: usize,
    includes: usize,
    include_depth: usize,
    /// Maps and lists that are open in all files together.
    nesting: usize,
    /// Variables of the environment that are being read just now.
    environment: HashSet<String>,
}

impl Budget {
    fn new() -> Self {
        Budget { values: 0, includes: 0, include_depth: 0, nesting: 0, environment: HashSet::new() }
    }
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    source: &'a dyn Source,
    budget: &'a mut Budget,
    /// The maps that are open, outermost first: where entries go and variables are looked up.
    scopes: Vec<Map>,
}

/// Who reads a value, for the few manners that differ.
#[derive(Clone, Copy, PartialEq)]
enum Around {
    Top,
    Map,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, file: &Path, source: &'a dyn Source, budget: &'a mut Budget) -> Self {
        let cursor = Cursor::new(text, Arc::from(file));
        Parser { cursor, source, budget, scopes: vec![Map::new()] }
    }

    /// A whole file.
    fn top(mut self) -> Result<Map> {
        if self.cursor.rest().contains('\0') {
            return Err(self.error(GrammarErrorKind::Nul));
        }
        loop {
            self.cursor.eat_while(char::is_whitespace);
            if self.cursor.eat_comment() {
                continue;
            }
            match self.cursor.peek() {
                None => break,
                Some('{') => {
                    self.cursor.next();
                    self.wrapped()?;
                }
                Some('/') => return Err(self.unexpected("'/'")),
                Some(_) => {
                    if self.entry(Around::Top)? {
                        self.end_of_top_value()?;
                    }
                }
            }
        }
        Ok(self.scopes.pop().unwrap_or_default())
    }

    /// After a value at the top. A lone `/` and a stray `}` are let pass.
    fn end_of_top_value(&mut self) -> Result<()> {
        loop {
            if self.cursor.eat_comment() {
                continue;
            }
            match self.cursor.peek() {
                Some('/') => drop(self.cursor.next()),
                Some(c) if is_blank(c) => drop(self.cursor.next()),
                Some(c) if is_newline(c) || matches!(c, ';' | ',' | '}') => {
                    self.cursor.next();
                    return Ok(());
                }
                None => return Ok(()),
                found => {
                    let expected = "a top-level value to end with a new line, comment or end of file";
                    return Err(self.error(GrammarErrorKind::UnexpectedAfterValue { expected, found }));
                }
            }
        }
    }

    /// The top of a file within braces, after the opening one. Braces may be doubled, and at the end of
    /// the file they need not be closed.
    fn wrapped(&mut self) -> Result<()> {
        let mut open = 1_usize;
        while open > 0 {
            self.cursor.eat_while(char::is_whitespace);
            if self.cursor.eat_comment() {
                continue;
            }
            match self.cursor.peek() {
                None => return Ok(()),
                Some('/') => return Err(self.unexpected("'/'")),
                Some('{') => {
                    self.cursor.next();
                    open += 1;
                }
                Some('}') => {
                    self.cursor.next();
                    open -= 1;
                    if open > 0 {
                        open = self.after_inner_brace(open)?;
                    }
                }
                Some(_) => {
                    self.entry(Around::Top)?;
                    self.end_of_wrapped_value()?;
                }
            }
        }
        Ok(())
    }

    /// After a value in a wrapped file. A lone `/` is let pass; a closing brace is left to the caller.
    fn end_of_wrapped_value(&mut self) -> Result<()> {
        loop {
            if self.cursor.eat_comment() {
                continue;
            }
            match self.cursor.peek() {
                Some('/') => drop(self.cursor.next()),
                Some(c) if is_blank(c) => drop(self.cursor.next()),
                Some(c) if is_newline(c) || matches!(c, ';' | ',') => {
                    self.cursor.next();
                    return Ok(());
                }
                Some('}') => return Ok(()),
                found => {
                    let expected = "a value to end with a new line, comment or '}'";
                    return Err(self.error(GrammarErrorKind::UnexpectedAfterValue { expected, found }));
                }
            }
        }
    }

    /// After a doubled brace was closed: another closing one, or a separator or comment after which
    /// entries may go on. Returns how many braces are open.
    fn after_inner_brace(&mut self, mut open: usize) -> Result<usize> {
        while open > 0 {
            self.cursor.eat_while(|c| is_blank(c) || is_newline(c));
            if self.cursor.eat_comment() {
                break;
            }
            match self.cursor.peek() {
                Some('/') => drop(self.cursor.next()),
                Some(';' | ',') => {
                    self.cursor.next();
                    break;
                }
                Some('}') => {
                    self.cursor.next();
                    open -= 1;
                }
                found => {
                    let expected = "a block to end with '}'";
                    return Err(self.error(GrammarErrorKind::UnexpectedAfterValue { expected, found }));
                }
            }
        }
        Ok(open)
    }

    /// A map, after its opening brace.
    fn map(&mut self, begin: &Place) -> Result<Value> {
        self.enter()?;
        self.scopes.push(Map::new());
        loop {
            self.cursor.eat_while(char::is_whitespace);
            if self.cursor.eat_comment() {
                continue;
            }
            match self.cursor.peek() {
                None => return Err(unclosed(begin, "a map")),
                Some('}') => break,
                Some(']') => return Err(self.unexpected("']' in a map")),
                found => {
                    // A lone `/` before a key is dropped.
                    if found == Some('/') {
                        self.cursor.next();
                    }
                    self.entry(Around::Map)?;
                    self.end_of_map_value()?;
                }
            }
        }
        self.cursor.next();
        self.budget.nesting -= 1;
        Ok(Value::Map(self.scopes.pop().unwrap_or_default()))
    }

    /// After a value in a map. A lone `/` separates like a comma; a closing brace is left to the caller.
    fn end_of_map_value(&mut self) -> Result<()> {
        loop {
            self.cursor.eat_while(is_blank);
            if self.cursor.eat_comment() {
                continue;
            }
            match self.cursor.peek() {
                Some(c) if is_newline(c) || matches!(c, ';' | ',' | '/') => {
                    self.cursor.next();
                    return Ok(());
                }
                Some('}') => return Ok(()),
                found => {
                    let expected = "a map value to end with ',', a new line or '}'";
                    return Err(self.error(GrammarErrorKind::UnexpectedAfterValue { expected, found }));
                }
            }
        }
    }

    /// A list, after its opening bracket.
    fn list(&mut self, begin: &Place) -> Result<Value> {
        self.enter()?;
        let mut items = Vec::new();
        'items: loop {
            self.cursor.eat_while(char::is_whitespace);
            if self.cursor.eat_comment() {
                continue;
            }
            match self.cursor.peek() {
                None => return Err(unclosed(begin, "a list")),
                Some(',' | '/') => return Err(self.unexpected("separator in a list")),
                Some(']') => break,
                Some(_) => {}
            }
            let place = self.cursor.place();
            let value = self.value()?;
            items.push(Entry { key: String::new(), value, place, referenced: false });
            loop {
                self.cursor.eat_while(is_blank);
                if self.cursor.eat_comment() {
                    continue;
                }
                match self.cursor.peek() {
                    Some(c) if is_newline(c) || matches!(c, ',' | '/') => {
                        self.cursor.next();
                        continue 'items;
                    }
                    Some(']') => break 'items,
                    found => {
                        let expected = "a list item to end with ',', a new line or ']'";
                        return Err(self.error(GrammarErrorKind::UnexpectedAfterValue { expected, found }));
                    }
                }
            }
        }
        self.cursor.next();
        self.budget.nesting -= 1;
        Ok(Value::List(items))
    }

    /// A key with its value, or an include. False when a closing brace at the end of the file was
    /// mistaken for a key, which is forgiven.
    fn entry(&mut self, around: Around) -> Result<bool> {
        let (key, place) = match self.cursor.peek() {
            Some(c @ (':' | '=')) => return Err(self.error(GrammarErrorKind::UnexpectedSeparator(c))),
            Some(quote @ ('"' | '\'')) => {
                self.cursor.next();
                let place = self.cursor.place();
                let key = self.cursor.eat_while(|c| c != quote);
                if !self.cursor.eat(quote) {
                    return Err(unclosed(&place, "a quoted key"));
                }
                (key, place)
            }
            _ => {
                let place = self.cursor.place();
                let start = self.cursor.offset();
                // The first character belongs to the key whatever it is.
                self.cursor.next();
                self.cursor.eat_while(|c| !c.is_whitespace() && c != ':' && c != '=');
                let key = self.cursor.since(start);
                if key.eq_ignore_ascii_case("include") && self.cursor.peek().is_some_and(char::is_whitespace)
                {
                    self.include()?;
                    return Ok(true);
                }
                (key, place)
            }
        };

        self.cursor.eat_while(char::is_whitespace);
        let separated = matches!(self.cursor.peek(), Some(':' | '='));
        if separated {
            self.cursor.next();
            let map = around == Around::Map;
            self.cursor.eat_while(|c| if map { c.is_whitespace() } else { is_blank(c) });
        }
        let missing = match (around, self.cursor.peek()) {
            (Around::Top, None) if !separated && key == "}" => return Ok(false),
            (Around::Top, None) => !separated,
            (Around::Top, Some(c)) => is_newline(c),
            (Around::Map, next) => matches!(next, None | Some(',' | '}')),
        };
        if missing {
            let kind = GrammarErrorKind::MissingValue(key.to_owned());
            return Err(GrammarError { place: Some(place), kind });
        }
        let value = self.value()?;
        self.insert(Entry { key: key.to_owned(), value, place, referenced: false });
        Ok(true)
    }

    fn insert(&mut self, entry: Entry) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(entry);
        }
    }

    /// The rest of an include, after the word.
    fn include(&mut self) -> Result<()> {
        self.cursor.eat_while(is_blank);
        let place = self.cursor.place();
        let name = match self.cursor.peek() {
            Some(quote @ ('"' | '\'')) => {
                self.cursor.next();
                let name = self.cursor.eat_while(|c| c != quote);
                if !self.cursor.eat(quote) {
                    return Err(unclosed(&place, "a quoted include"));
                }
                name
            }
            Some('[') => return Err(self.error(GrammarErrorKind::BadInclude("the start of a list"))),
            Some('{') => return Err(self.error(GrammarErrorKind::BadInclude("the start of a map"))),
            Some('(') => return Err(self.error(GrammarErrorKind::BadInclude("the start of a block"))),
            Some('\\') => return Err(self.error(GrammarErrorKind::BadInclude("an escape sequence"))),
            Some('-' | '0'..='9') => return Err(self.error(GrammarErrorKind::BadInclude("a number"))),
            None => return Err(self.error(GrammarErrorKind::BadInclude("the end of the file"))),
            Some(c) if is_newline(c) => return Err(self.error(GrammarErrorKind::BadInclude("a new line"))),
            Some(_) => {
                let name = self
                    .cursor
                    .eat_while(|c| !is_newline(c) && !is_blank(c) && !matches!(c, ';' | '}' | '\''));
                self.cursor.eat('\'');
                name
            }
        };

        let at = |kind| GrammarError { place: Some(place.clone()), kind };
        if self.budget.include_depth >= MAX_INCLUDE_DEPTH {
            return Err(at(GrammarErrorKind::TooMuch("nested includes", MAX_INCLUDE_DEPTH)));
        }
        if self.budget.includes >= MAX_INCLUDES {
            return Err(at(GrammarErrorKind::TooMuch("includes", MAX_INCLUDES)));
        }
        let path = included_path(self.cursor.file(), name);
        let text = self
            .source
            .read(&path)
            .map_err(|error| at(GrammarErrorKind::Read { path: path.clone(), error }))?;
        self.budget.includes += 1;
        self.budget.include_depth += 1;
        let included = Parser::new(&text, &path, self.source, self.budget).top()?;
        self.budget.include_depth -= 1;
        for entry in included.into_entries() {
            self.insert(entry);
        }
        Ok(())
    }

    /// Any value. The caller has skipped what may stand before it.
    fn value(&mut self) -> Result<Value> {
        self.charge(1)?;
        self.cursor.eat_while(is_blank);
        let begin = self.cursor.place();
        match self.cursor.peek() {
            Some('[') => {
                self.cursor.next();
                self.list(&begin)
            }
            Some('{') => {
                self.cursor.next();
                self.map(&begin)
            }
            Some('\'') => {
                self.cursor.next();
                self.cursor.raw_string(&begin)
            }
            Some('"') => {
                self.cursor.next();
                self.cursor.quoted_string(&begin)
            }
            Some('(') => {
                self.cursor.next();
                self.cursor.block(&begin)
            }
            Some('-' | '0'..='9') => self.cursor.number(),
            Some('.') => Err(self.error(GrammarErrorKind::BadNumber("floats must start with a digit"))),
            Some(c) if is_newline(c) => Err(self.unexpected("new line instead of a value")),
            _ => match self.cursor.word(self.cursor.offset())? {
                Word::Value(value) => Ok(value),
                Word::Variable(name) => self.variable(&name, begin),
            },
        }
    }

    /// The value of a variable: of the innermost map that has it, else of the environment.
    fn variable(&mut self, name: &str, place: Place) -> Result<Value> {
        // A bcrypt hash is the one string with a dollar that needs no quotes.
        if name.starts_with("2a$") {
            return Ok(Value::String(format!("${name}")));
        }
        if let Some(value) = self.scopes.iter_mut().rev().find_map(|scope| scope.refer(name)).cloned() {
            self.charge(value.weight())?;
            self.check_depth(value.depth())?;
            return Ok(value);
        }
        let at = |kind| GrammarError { place: Some(place.clone()), kind };
        let Some(text) = self.source.env(name) else {
            return Err(at(GrammarErrorKind::UnknownVariable(name.to_owned())));
        };
        if self.budget.environment.len() >= MAX_INCLUDE_DEPTH {
            return Err(at(GrammarErrorKind::TooMuch("nested variables", MAX_INCLUDE_DEPTH)));
        }
        if !self.budget.environment.insert(name.to_owned()) {
            return Err(at(GrammarErrorKind::VariableCycle(name.to_owned())));
        }
        let text = format!("{ENVIRONMENT_KEY}={text}");
        let parsed = Parser::new(&text, place.file.as_ref(), self.source, self.budget).top();
        self.budget.environment.remove(name);
        match parsed {
            Ok(map) => match map.entry(ENVIRONMENT_KEY) {
                Some(entry) => Ok(placed(entry.value.clone(), &place)),
                None => Err(at(GrammarErrorKind::UnknownVariable(name.to_owned()))),
            },
            Err(error) => {
                let name = name.to_owned();
                Err(at(GrammarErrorKind::BadVariable { name, error: Box::new(error) }))
            }
        }
    }

    fn enter(&mut self) -> Result<()> {
        self.budget.nesting += 1;
        self.check_depth(0)
    }

    /// Checks that something this deep may stand here.
    fn check_depth(&self, depth: usize) -> Result<()> {
        match self.budget.nesting + depth > MAX_NESTING {
            true => Err(self.error(GrammarErrorKind::TooMuch("nested values", MAX_NESTING))),
            false => Ok(()),
        }
    }

    fn charge(&mut self, values: usize) -> Result<()> {
        self.budget.values = self.budget.values.saturating_add(values);
        match self.budget.values > MAX_VALUES {
            true => Err(self.error(GrammarErrorKind::TooMuch("values", MAX_VALUES))),
            false => Ok(()),
        }
    }

    fn unexpected(&self, what: &'static str) -> GrammarError {
        self.error(GrammarErrorKind::Unexpected(what))
    }

    fn error(&self, kind: GrammarErrorKind) -> GrammarError {
        self.cursor.error(kind)
    }
}

/// The key under which a variable of the environment is parsed; it can be referred to from its value.
const ENVIRONMENT_KEY: &str = "pk";

/// Gives everything inside a value one place, that of the reference it came through.
fn placed(value: Value, place: &Place) -> Value {
    let moved = |entry: &Entry| Entry {
        key: entry.key.clone(),
        value: placed(entry.value.clone(), place),
        place: place.clone(),
        referenced: entry.referenced,
    };
    match value {
        Value::List(items) => Value::List(items.iter().map(moved).collect()),
        Value::Map(map) => {
            let mut there = Map::new();
            map.iter().map(moved).for_each(|entry| there.insert(entry));
            Value::Map(there)
        }
        scalar => scalar,
    }
}

/// The path an include names: always below the directory of the file that includes, even with a slash
/// in front.
fn included_path(including: &Path, name: &str) -> PathBuf {
    let directory = including.parent().unwrap_or(Path::new(""));
    let mut path: PathBuf = directory.components().filter(|part| *part != Component::CurDir).collect();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => match path.components().next_back() {
                Some(Component::Normal(_)) => drop(path.pop()),
                Some(Component::RootDir) => {}
                _ => path.push(".."),
            },
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    path
}
