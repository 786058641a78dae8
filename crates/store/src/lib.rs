//! The messages of one stream.
//!
//! A [`Store`] is told what has been decided (append, remove, purge) and answers questions (by sequence, by subject, by
//! time). It is not the journal: a change is durable because somebody else wrote it down before, and what happened since
//! the last **checkpoint** is simply told again after a crash. So nothing here syncs on the hot path, and every file
//! can be written late, in the background, in portions.
//!
//! It knows no consumers, no limits and no clock. Its owner holds it behind the stream's lock; slow work is handed out
//! as values ([`Work`], [`Load`]) that run without that lock.

mod cache;
mod error;
mod file;
mod filter;
mod form;
mod message;
mod options;
mod record;
mod segment;
mod shelf;
mod state;
mod store;
mod subjects;
mod table;

pub use error::{Damage, Error};
pub use filter::Filter;
pub use message::{Accounting, MESSAGE_BYTES_MAX, Message, NewMessage, SUBJECT_BYTES_MAX};
pub use options::{Options, Sealing};
pub use state::{Cut, Lost, Removed, State, SubjectState};
pub use store::{Done, Encryption, Finished, Load, Loaded, Opened, Store, Work};
