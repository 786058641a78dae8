//! The body of a request, read as the original reads it: an absent one asks for nothing in particular, names match
//! without regard to case, unknown ones are skipped, and what is wrong is told in the original's words.

use std::error::Error;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, de};
use sonata_jetstream::json::{Mode, Tree, decode};

/// Why a body cannot be read. The text goes to whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadBody(String);

impl fmt::Display for BadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for BadBody {}

impl BadBody {
    pub(super) fn not_base64() -> Self {
        Self("illegal base64 data".into())
    }
}

/// A body that is JSON, or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Body(Tree);

impl Body {
    /// Reads a body. JSON is nested at most 128 deep.
    ///
    /// # Errors
    ///
    /// Text that is no JSON.
    pub fn parse(text: &[u8]) -> Result<Self, BadBody> {
        if text.is_empty() {
            return Ok(Self(Tree::Null));
        }
        if text.trim_ascii().is_empty() {
            return Err(BadBody("unexpected end of JSON input".into()));
        }
        decode(text, Mode::Lenient).map(Self).map_err(|error| {
            // Only the readers of JetStream's own API tell where.
            let told = error.to_string();
            BadBody(told.rsplit_once(" at offset ").map_or(told.as_str(), |(what, _)| what).into())
        })
    }

    /// What the body asks for, read as the type that errors call `name`.
    ///
    /// # Errors
    ///
    /// A value of the wrong kind.
    pub fn read<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, BadBody> {
        self.0.read_as(name, Mode::Lenient).map_err(|error| BadBody(error.to_string()))
    }
}

/// Reads a whole number that is called `int` in errors; for `deserialize_with`.
pub(super) fn int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_newtype_struct("int", Named)
}

/// Reads the state of connections; for `deserialize_with`.
pub(super) fn state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_newtype_struct("server.ConnState", Named)
}

/// Reads nanoseconds; for `deserialize_with`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_newtype_struct("time.Duration", Named)
}

struct Named;

impl<'de> Visitor<'de> for Named {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<i64, D::Error> {
        i64::deserialize(deserializer)
    }
}
