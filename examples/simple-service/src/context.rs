//! What every part of the service shares: built once at the start, cloned wherever it is needed.

use async_nats::Client;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{self, consumer, stream};
use nats_conf::NatsConf;

use crate::Error;
use crate::config::OrdersConf;
use crate::warehouse::Warehouse;

/// The connection and what stands on it. Clones share everything.
#[derive(Clone)]
pub struct ServiceContext {
    /// The connection itself, for what needs no JetStream.
    pub nats: Client,
    /// The JetStream context on it.
    pub jetstream: jetstream::Context,
    /// The subject of orders.
    pub subject: String,
    /// The durable consumer of orders.
    pub orders: PullConsumer,
    /// What was shipped.
    pub warehouse: Warehouse,
}

impl ServiceContext {
    /// Connects and makes sure that stream and consumer exist; those that exist already stay as they are.
    ///
    /// # Errors
    /// The block does not make sense, no server can be reached, or the server refuses stream or consumer.
    pub async fn connect(nats: &NatsConf, orders: &OrdersConf) -> Result<Self, Error> {
        let jetstream = nats.new_jetstream().await?;
        let stream = jetstream
            .get_or_create_stream(stream::Config {
                name: orders.stream.clone(),
                subjects: vec![orders.subject.clone()],
                ..Default::default()
            })
            .await?;
        let consumer = stream
            .get_or_create_consumer(
                &orders.worker,
                consumer::pull::Config { durable_name: Some(orders.worker.clone()), ..Default::default() },
            )
            .await?;
        Ok(Self {
            nats: jetstream.client(),
            jetstream,
            subject: orders.subject.clone(),
            orders: consumer,
            warehouse: Warehouse::default(),
        })
    }
}
