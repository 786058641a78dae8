//! Reading: the tree and its deserializer.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// What happens to a field that the type does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is an error.
    Strict,
    /// It is skipped.
    Lenient,
}

/// Why a document is not what was expected; the text is what follows `invalid JSON: ` in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Reads a document.
///
/// # Errors
/// Text that is no JSON, a value of the wrong kind, and in strict mode a field that `T` does not have.
pub fn decode<T: DeserializeOwned>(text: &[u8], mode: Mode) -> Result<T, Error> {
    let tree = Tree::parse(text).map_err(|error| match mode {
        // The reference has two readers, with a text of its own each.
        Mode::Lenient if error.0 == UNEXPECTED_EOF => Error("unexpected end of JSON input".to_owned()),
        _ => error,
    });
    tree?.read(mode)
}

const UNEXPECTED_EOF: &str = "unexpected EOF";

/// Reads a whole number that is called `int` in errors; for `deserialize_with`.
pub(crate) fn int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_newtype_struct(INT, Named)
}

/// Reads nanoseconds that are called a duration in errors; for `deserialize_with`.
pub(crate) fn nanos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_newtype_struct(DURATION, Named)
}

/// Reads a list of such nanoseconds; for `deserialize_with`.
pub(crate) fn nanos_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i64>, D::Error> {
    #[derive(Deserialize)]
    struct Nanos(#[serde(deserialize_with = "nanos")] i64);
    let list = Vec::<Nanos>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|Nanos(nanos)| nanos).collect())
}

const INT: &str = "int";
const DURATION: &str = "time.Duration";
/// The name of types that are read from a text in a form of its own.
pub(crate) const TIME: &str = "time.Time";

struct Named;

impl<'de> Visitor<'de> for Named {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<i64, D::Error> {
        i64::deserialize(deserializer)
    }
}

/// A document, its fields in the order in which they stand.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// An object. A name may stand in it more than once.
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// Parses a document; it is nested at most 128 deep. Nothing but blanks is an object without fields.
    ///
    /// # Errors
    /// Text that is no JSON.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        if text.trim_ascii().is_empty() {
            return Ok(Tree::Object(Vec::new()));
        }
        serde_json::from_slice(text).map_err(|error| Error(syntax_error(text, &error)))
    }

    /// Makes a value of a document.
    ///
    /// # Errors
    /// A value of the wrong kind, and in strict mode a field that `T` does not have.
    pub fn read<T: DeserializeOwned>(&self, mode: Mode) -> Result<T, Error> {
        T::deserialize(Reader { tree: self, mode, place: &Place::default(), number: None })
    }

    /// Like [`Tree::read`], with another name for the outermost type in errors.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn read_as<T: DeserializeOwned>(&self, name: &'static str, mode: Mode) -> Result<T, Error> {
        let place = Place { root: Cell::new(Some(name)), ..Place::default() };
        T::deserialize(Reader { tree: self, mode, place: &place, number: None })
    }

    /// Takes a field out of an object; of a repeated one the last. `None` for anything but an object.
    pub fn take(&mut self, name: &str) -> Option<Tree> {
        let Tree::Object(fields) = self else { return None };
        let mut last = None;
        fields.retain_mut(|(field, value)| {
            if !same_name(field, name) {
                return true;
            }
            last = Some(std::mem::replace(value, Tree::Null));
            false
        });
        last
    }

    fn kind(&self) -> String {
        match self {
            Tree::Null => "null".to_owned(),
            Tree::Bool(_) => "bool".to_owned(),
            Tree::Number(_) => "number".to_owned(),
            Tree::Text(_) => "string".to_owned(),
            Tree::List(_) => "array".to_owned(),
            Tree::Object(_) => "object".to_owned(),
        }
    }
}

/// The JSON text of a scalar.
impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Bool(value) => write!(f, "{value}"),
            Tree::Number(value) => write!(f, "{value}"),
            Tree::Text(value) => write!(f, "{}", serde_json::Value::from(value.as_str())),
            other => f.write_str(&other.kind()),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Tree::Null, Tree::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Tree::Object(fields))
    }
}

/// Where the reader stands: the outermost type and the way from there, for the text of an error.
#[derive(Default)]
struct Place<'a> {
    root: Cell<Option<&'static str>>,
    path: RefCell<Vec<Step<'a>>>,
}

enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Field(name) => f.write_str(name),
            Step::Item(at) => write!(f, "{at}"),
        }
    }
}

impl Place<'_> {
    fn mismatch(&self, found: &Tree, wanted: &str) -> Error {
        let found = match found {
            // A number that is a number of the wrong size is shown, since its kind says nothing.
            Tree::Number(number) if is_number_type(wanted) => format!("number {number}"),
            other => other.kind(),
        };
        let path = self.path.borrow();
        let (Some(root), Some(last)) = (self.root.get(), path.last()) else {
            return Error(format!("json: cannot unmarshal {found} into Go value of type {wanted}"));
        };
        let what = if matches!(last, Step::Field(_)) { "Go struct field " } else { "" };
        let way: String = path.iter().map(|step| format!(".{step}")).collect();
        Error(format!("json: cannot unmarshal {found} into {what}{root}{way} of type {wanted}"))
    }
}

fn is_number_type(wanted: &str) -> bool {
    wanted.starts_with("int") || wanted.starts_with("uint") || wanted == DURATION
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    tree: &'a Tree,
    mode: Mode,
    place: &'a Place<'a>,
    /// What a number is called here, if not by its Rust type.
    number: Option<&'static str>,
}

impl<'a> Reader<'a> {
    fn at(self, tree: &'a Tree) -> Self {
        Self { tree, number: None, ..self }
    }

    /// Reads what lies one step further.
    fn step<S: DeserializeSeed<'a>>(
        self,
        step: Step<'a>,
        tree: &'a Tree,
        seed: S,
    ) -> Result<S::Value, Error> {
        self.place.path.borrow_mut().push(step);
        let read = seed.deserialize(self.at(tree));
        self.place.path.borrow_mut().pop();
        read
    }

    fn signed(self, wanted: &str) -> Result<i64, Error> {
        let wanted = self.number.unwrap_or(wanted);
        match self.tree {
            Tree::Null => Ok(0),
            Tree::Number(number) => number.as_i64().ok_or_else(|| self.place.mismatch(self.tree, wanted)),
            other => Err(self.place.mismatch(other, wanted)),
        }
    }

    fn unsigned(self, wanted: &str) -> Result<u64, Error> {
        match self.tree {
            Tree::Null => Ok(0),
            Tree::Number(number) => number.as_u64().ok_or_else(|| self.place.mismatch(self.tree, wanted)),
            other => Err(self.place.mismatch(other, wanted)),
        }
    }
}

macro_rules! integers {
    ($($method:ident $read:ident $visit:ident $type:ty, $name:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let value = self.$read($name)?;
            let value = <$type>::try_from(value).map_err(|_| self.place.mismatch(self.tree, $name))?;
            visitor.$visit(value)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Error;

    integers! {
        deserialize_i8 signed visit_i8 i8, "int8";
        deserialize_i16 signed visit_i16 i16, "int16";
        deserialize_i32 signed visit_i32 i32, "int32";
        deserialize_i64 signed visit_i64 i64, "int64";
        deserialize_u8 unsigned visit_u8 u8, "uint8";
        deserialize_u16 unsigned visit_u16 u16, "uint16";
        deserialize_u32 unsigned visit_u32 u32, "uint32";
        deserialize_u64 unsigned visit_u64 u64, "uint64";
    }

    /// For types that read themselves: they see what stands there, `null` as the unit.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tree {
            Tree::Null => visitor.visit_unit(),
            Tree::Bool(value) => visitor.visit_bool(*value),
            Tree::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, value) => visitor.visit_f64(value.unwrap_or_default()),
            },
            Tree::Text(value) => visitor.visit_borrowed_str(value),
            Tree::List(items) => visitor.visit_seq(List { reader: self, rest: items.iter().enumerate() }),
            Tree::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tree {
            Tree::Null => visitor.visit_bool(false),
            Tree::Bool(value) => visitor.visit_bool(*value),
            other => Err(self.place.mismatch(other, "bool")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tree {
            Tree::Null => visitor.visit_borrowed_str(""),
            Tree::Text(value) => visitor.visit_borrowed_str(value),
            other => Err(self.place.mismatch(other, "string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tree {
            Tree::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tree {
            Tree::Null => visitor.visit_seq(List { reader: self, rest: [].iter().enumerate() }),
            Tree::List(items) => visitor.visit_seq(List { reader: self, rest: items.iter().enumerate() }),
            other => Err(self.place.mismatch(other, "[]string")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tree {
            Tree::Null => visitor.visit_map(Fields::new(self, &[], None)?),
            Tree::Object(fields) => visitor.visit_map(Fields::new(self, fields, None)?),
            other => Err(self.place.mismatch(other, "map[string]string")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.place.root.get().is_none() {
            self.place.root.set(Some(name));
        }
        match self.tree {
            Tree::Null => visitor.visit_map(Fields::new(self, &[], Some(names))?),
            Tree::Object(fields) => visitor.visit_map(Fields::new(self, fields, Some(names))?),
            other => {
                // The outermost type goes by the name it was given.
                let is_root = self.place.path.borrow().is_empty();
                let name = self.place.root.get().filter(|_| is_root).unwrap_or(name);
                Err(self.place.mismatch(other, &format!("server.{name}")))
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.tree {
            Tree::Null | Tree::Text(_) if name == TIME => visitor.visit_newtype_struct(self),
            other if name == TIME => Err(self.place.mismatch(other, TIME)),
            _ => visitor.visit_newtype_struct(Self { number: Some(name), ..self }),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

/// The items of a list.
struct List<'a> {
    reader: Reader<'a>,
    rest: std::iter::Enumerate<std::slice::Iter<'a, Tree>>,
}

impl<'de> de::SeqAccess<'de> for List<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.rest.next().map(|(at, item)| self.reader.step(Step::Item(at), item, seed)).transpose()
    }
}

/// The fields of an object under the names that the type knows, each once.
struct Fields<'a> {
    reader: Reader<'a>,
    fields: Vec<(&'a str, &'a Tree)>,
    next: usize,
}

impl<'a> Fields<'a> {
    fn new(
        reader: Reader<'a>,
        fields: &'a [(String, Tree)],
        names: Option<&'static [&'static str]>,
    ) -> Result<Self, Error> {
        let mut known: Vec<(&'a str, &'a Tree)> = Vec::with_capacity(fields.len());
        for (field, value) in fields {
            let name = match names {
                None => field.as_str(),
                Some(names) => match known_name(names, field) {
                    Some(name) => name,
                    None if reader.mode == Mode::Lenient => continue,
                    None => return Err(Error(format!("json: unknown field {field:?}"))),
                },
            };
            // A type has few fields; a map of the peer's making is bounded by the request and must not cost a square.
            match names.and_then(|_| known.iter_mut().find(|(seen, _)| *seen == name)) {
                Some((_, earlier)) => *earlier = value,
                None => known.push((name, value)),
            }
        }
        Ok(Self { reader, fields: known, next: 0 })
    }
}

impl<'de> de::MapAccess<'de> for Fields<'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some((name, _)) = self.fields.get(self.next) else { return Ok(None) };
        let key: StrDeserializer<'_, Error> = (*name).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some((name, value)) = self.fields.get(self.next).copied() else {
            return Err(Error("a value without a field".to_owned()));
        };
        self.next += 1;
        self.reader.step(Step::Field(name), value, seed)
    }
}

fn known_name(names: &'static [&'static str], field: &str) -> Option<&'static str> {
    names
        .iter()
        .find(|name| **name == field)
        .or_else(|| names.iter().find(|name| same_name(name, field)))
        .copied()
}

fn same_name(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
}

/// The text of the reference for a document that cannot be parsed.
fn syntax_error(text: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return UNEXPECTED_EOF.to_owned();
    }
    let at = offset_of(text, error.line(), error.column());
    match std::str::from_utf8(text).ok().and_then(|text| text.get(at..)?.chars().next()) {
        Some(character) => {
            let told = error.to_string();
            let place = [
                ("expected value", "looking for beginning of value"),
                ("key must be a string", "looking for beginning of object key string"),
                ("expected `:`", "after object key"),
                ("expected `,` or `}`", "after object key:value pair"),
                ("expected `,` or `]`", "after array element"),
                ("trailing characters", "after top-level value"),
            ];
            let place =
                place.iter().find(|(start, _)| told.starts_with(start)).map(|(_, place)| format!(" {place}"));
            format!("invalid character {character:?}{} at offset {}", place.unwrap_or_default(), at + 1)
        }
        None => "invalid JSON input".to_owned(),
    }
}

/// The place of a line and column (both from 1) as an offset; columns count bytes up to and with the offending one.
fn offset_of(text: &[u8], line: usize, column: usize) -> usize {
    let start: usize =
        text.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    start.saturating_add(column.saturating_sub(1)).min(text.len())
}
