//! The language of the configuration file: from text to a tree of values, each with its place.
//!
//! Not here: what keys mean. This module knows maps, lists, strings, numbers, variables and includes,
//! and copies the habits of the original's reader that existing files depend on, odd ones included.
//! Reading is one pass of recursive descent; variables and includes are resolved on the way.

mod cursor;
mod digest;
mod error;
mod parser;
mod scalar;
mod tree;

pub use digest::digest;
pub use error::{GrammarError, GrammarErrorKind};
pub use parser::{MAX_INCLUDE_DEPTH, MAX_INCLUDES, MAX_NESTING, MAX_VALUES, parse, parse_file};
pub use tree::{Entry, Map, Place, Value};
