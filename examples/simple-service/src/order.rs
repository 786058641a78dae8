//! An order, as it is posted and as it lies in the stream.

use serde::{Deserialize, Serialize};

/// What a customer wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Chosen by the customer: an order that is posted again under the same name is the same order.
    pub id: String,
    /// Which thing.
    pub item: String,
    /// How many of it.
    pub quantity: u32,
}
