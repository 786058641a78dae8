//! JSON as the reference reads and writes it.
//!
//! Reading: field names match without regard to case, `null` leaves a field at its zero value, of a repeated field the last
//! one counts, and a field that the type does not have is an error in strict mode and skipped otherwise. Writing: `<`, `>`,
//! `&` and the two Unicode line separators are escaped, which clients that compare bytes can see.
//!
//! The one idea: a document is parsed into a small tree first, and the tree is a [`serde::Deserializer`] with these rules,
//! so that the types themselves need nothing but a derive.

mod read;
mod write;

pub use read::{Error, Mode, Tree, decode};
pub(crate) use read::{TIME, int, nanos, nanos_list};
pub use write::{append, encode};

/// Whether a value is what its type starts with; says which fields are left out when written.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
