//! The NATS client protocol as bytes and operations.
//!
//! [`parse`] turns received bytes into operations that borrow from them; [`encode`] writes what a server
//! answers; [`connect`] and [`info`] are the two JSON documents of the greeting; [`proxy`]
//! reads the PROXY protocol header that may precede everything.
//!
//! Nothing here owns a socket, keeps a clock, or knows who may do what. The byte rules are those of
//! nats-server 2.15, quirks included: each quirk is named where it is imitated.

pub mod connect;
pub mod encode;
pub mod info;
pub mod parse;
pub mod proxy;

/// The longest control line (the arguments of one operation) that is accepted unless configured
/// otherwise, in bytes.
pub const MAX_CONTROL_LINE: usize = 4096;

/// The largest message (headers and payload) that is accepted unless configured otherwise, in bytes.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// The end of every line.
pub const CRLF: &[u8] = b"\r\n";
