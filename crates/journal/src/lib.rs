//! The node's durable order of records.
//!
//! All streams of a node write into one journal, each under a number of its own (a *lane*), so that one sync serves
//! all of them. The journal knows nothing of what the records mean, and it is no store: an owner keeps what it needs
//! elsewhere, [releases](Journal::release) what it has kept, and finds the rest again at [`Journal::open`].
//!
//! The one idea: [`Journal::append`] only copies into memory, under a short lock. A single writer takes all that has
//! gathered while it was busy, writes it with one call, syncs once, and hands the whole batch to [`Committed`]. Nobody
//! waits for a timer, and the busier it is, the more records share a sync.
//!
//! What holds: a record that was handed to [`Committed::committed`] (in [`Mode::Always`]) is replayed after any crash,
//! once, in order and unchanged, until its lane releases it; what is damaged is reported, not passed over; a
//! [`Position`] never stands for two different records. After a failed write or sync nothing is acknowledged that was
//! on its way, the file is never written again, and [`Journal::retry`] goes on in another one.
//!
//! The bytes are described in `FORMAT.md`.
//!
//! Reading order: [`record`] and [`options`] are the vocabulary, `gather` is where appended records wait, `tail` the
//! file that is being written, `ahead` the one after it, `row` which files are still needed and by whom, `format` the
//! bytes, `scan` and `recover` the way back.

mod ahead;
pub mod error;
mod format;
mod gather;
mod journal;
pub mod options;
pub mod record;
mod recover;
mod row;
mod scan;
pub mod stats;
mod tail;
mod writer;

pub use error::{Error, Refused};
pub use journal::{Committed, Journal};
pub use options::{Mode, Options, Sealing};
pub use record::{Batch, Position, Record};
pub use recover::{Damage, Recovered, TornTail};
pub use row::{Pinned, PinnedLane};
pub use stats::Stats;
pub use writer::Writer;
