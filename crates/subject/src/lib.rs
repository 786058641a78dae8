//! Subjects: names, wildcards and matching.
//!
//! A subject is a list of tokens joined by `.`. A *literal* subject names one thing; a *filter* may hold
//! the wildcards `*` (exactly one token) and `>` (one token or more, only at the end). A wildcard is one
//! only when it is the whole token: `foo*` is an ordinary name.
//!
//! Subjects arrive as bytes from the network and stay bytes: nothing here asks for UTF-8, allocates, or
//! knows what a subscription is.

mod filter;
pub mod import;
pub mod mapping;
mod name;
pub mod transform;

pub use filter::{intersect, is_subset, matches, overlaps};
pub use name::{Kind, SubjectError, Tokens, classify, has_wildcard, is_literal, literal_prefix, tokens};

/// The token that stands for exactly one token.
pub const ANY_TOKEN: &[u8] = b"*";

/// The token that stands for one token or more; only valid as the last one.
pub const ANY_TAIL: &[u8] = b">";
