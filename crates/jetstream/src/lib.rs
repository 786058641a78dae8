//! Streams and consumers.

pub mod ack;
pub mod advisory;
pub mod api;
pub mod archive;
pub mod config;
pub mod duration;
pub mod header;
pub mod json;
pub mod nuid;
pub mod schedule;
pub mod status;
pub mod timestamp;
pub mod ttl;

pub mod account;
pub mod audit;
mod consumer;
mod map;
pub mod node;
pub mod outgoing;
pub mod record;
pub mod stream;
