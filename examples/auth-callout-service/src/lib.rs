//! An authorization service (ADR-26), complete enough to be copied: a server asks it who somebody is, and it answers from a
//! table.
//!
//! What to look at: [`answer`] is all that is decided, a function from a question to an answer; [`service`] brings
//! questions to it and answers back, sealed if the server wants that; [`config`] is the table.
//!
//! What a real service would do differently: ask a directory or a database instead of a table, and keep seeds and
//! passwords in a vault instead of a file.

pub mod answer;
pub mod config;
pub mod service;

/// Whatever ends the service, told to the operator.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
