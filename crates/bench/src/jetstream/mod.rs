//! JetStream under load: publishing, consuming, key-value, restarts and what a server holds in memory for it.
//!
//! Requests to the API are plain JSON over one [`peer::Peer`]. The loops at full speed are two: [`windowed`], in which
//! each request has an answer of its own (a publish and its acknowledgement, a direct get and its message), and
//! [`consume`], in which a stream that was filled before is read to its end. As everywhere in this crate nothing counts
//! that was not checked: acknowledged sequences, payloads, and what the server says of the stream afterwards.

pub mod shape;
pub mod workload;

pub mod bucket;
pub mod consume;
pub mod footprint;
pub mod publish;
pub mod purge;
pub mod restart;

pub mod delivery;
pub mod message;
pub mod peer;
pub mod stream;
pub mod windowed;

pub mod fault;
