//! A load generator for NATS servers and a side-by-side comparison of two: the insides of the program `sonata-bench`.
//!
//! It speaks the protocol itself, with frames that are built once and checked in the read buffer, so that it costs far
//! less per message than the server does. Every message is counted and checked; a figure is only worth something if the
//! server did the work, and in order. It is no client library and no functional test.
//!
//! To read the code, begin with [`session`] (what is run when), then [`workload`] (what a shape does) and [`flow`] (the
//! loop at full speed), with [`frame`], [`payload`] and [`verify`] for what is on the wire. [`jetstream`] is a part of its
//! own with the same order: shape, workload, loops.

pub mod arguments;
pub mod session;
pub mod shape;
pub mod workload;

pub mod flow;
pub mod jetstream;
pub mod memory;
pub mod paced;
pub mod request;
pub mod slow_reader;

pub mod connection;
pub mod frame;
pub mod ledger;
pub mod payload;
pub mod verify;

pub mod certificate;
pub mod process;
pub mod server;

pub mod error;
pub mod meter;
pub mod metric;
pub mod percentile;
pub mod report;
pub mod target;
