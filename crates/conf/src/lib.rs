//! Configuration: the language of the file, the flags, what they say and what they mean.
//!
//! Three things follow one another here. What a file *says* is a tree of values with places
//! ([`grammar`]); what it *means* together with the command line ([`flags`]) is one [`options::Options`],
//! built once and never changed; a reload builds a second one and compares the two ([`reload`]).
//! Every option stands in one row of [`table`], from which reading, help and comparison work.
//!
//! The crate is pure: files and environment come through [`source::Source`], and nothing here opens a
//! certificate, a socket or a clock.

pub mod claimed;
pub mod duration;
pub mod flags;
pub mod grammar;
pub mod operator;
pub mod options;
pub mod problem;
pub mod read;
pub mod reload;
pub mod source;
pub mod table;

mod accounts;
mod authorization;
mod ciphers;
mod jetstream;
mod nkey;
mod ocsp;
mod sharing;
mod tls;
mod validate;
