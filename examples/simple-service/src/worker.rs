//! Takes orders from the stream in small batches until it is told to stop.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::Batch;
use async_nats::jetstream::{AckKind, Message};
use futures_util::StreamExt;
use tokio::sync::watch;

use crate::Error;
use crate::context::ServiceContext;
use crate::order::Order;

/// Orders of one batch.
const BATCH_ORDERS: usize = 10;
/// How long a batch waits for orders; so long may a stop take when there are none.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Between a batch that ended early and the next one.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Works until `stop` becomes true. A batch that was asked for is finished first: an order that was delivered and not
/// acknowledged would be delivered again only after the consumer's ack wait.
///
/// # Errors
/// The connection is closed for good.
pub async fn run(context: ServiceContext, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
    while !*stop.borrow() {
        let orders = context.orders.batch().max_messages(BATCH_ORDERS).expires(BATCH_WAIT).messages().await?;
        if let Err(error) = work_off(&context, orders).await {
            // The server restarts, or somebody deleted the consumer: orders are safe in the stream meanwhile.
            tracing::warn!(%error, "a batch ended early");
            let _ = tokio::time::timeout(RETRY_PAUSE, stop.wait_for(|stop| *stop)).await;
        }
    }
    Ok(())
}

async fn work_off(context: &ServiceContext, mut orders: Batch) -> Result<(), Error> {
    while let Some(message) = orders.next().await {
        handle(context, &message?).await?;
    }
    Ok(())
}

async fn handle(context: &ServiceContext, message: &Message) -> Result<(), Error> {
    match serde_json::from_slice::<Order>(&message.payload) {
        Ok(order) => {
            let id = order.id.clone();
            match context.warehouse.ship(order) {
                true => tracing::info!(id, "shipped"),
                false => tracing::info!(id, "was shipped before"),
            }
            // Asks the server to confirm: after this the order never comes again, not even if we crash now.
            message.double_ack().await
        }
        Err(error) => {
            // It will not become an order by being delivered again.
            tracing::warn!(%error, "not an order");
            message.double_ack_with(AckKind::Term).await
        }
    }
}
