//! A small service on NATS, complete enough to be copied.
//!
//! `POST /orders` publishes an order to a stream; a worker takes orders from the stream, ships them and acknowledges
//! them. What to look at: [`config`] holds a `NatsConf` block beside other fields, [`context`] is built once at the
//! start and holds the JetStream context, [`service`] starts the parts and stops them in order.
//!
//! What a real service would do differently: keep what was shipped in a database instead of [`warehouse`].

pub mod config;
pub mod context;
pub mod embedded;
pub mod endpoint;
pub mod order;
pub mod service;
pub mod warehouse;
pub mod worker;

/// Whatever ends the service, told to the operator.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
