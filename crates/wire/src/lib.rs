//! The judge: scripts of what clients write and what the server answered, played against any NATS server.
//!
//! A script is a readable text: what each client sends, and between it every frame it received when the script was
//! recorded from the reference server. Playing a script gives the same text again with the frames of today's server,
//! so a check is a comparison of two texts, and a recording is a file written.
//!
//! This crate knows nothing of Sonata: it starts a program, speaks over sockets and reads the program's log. What is
//! absent on purpose: no NATS client library (a library would hide what is odd) and no sleeping (every step ends at an
//! expected frame, at the close of the connection, or fails after a bounded time).

pub mod arguments;
pub mod client;
pub mod divergence;
pub mod error;
pub mod escape;
pub mod frame;
pub mod identity;
pub mod judge;
pub mod message;
pub mod normal;
pub mod pki;
pub mod play;
pub mod script;
pub mod server;
