//! What was shipped. It stands for the database of a real service.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::order::Order;

/// Shipped orders by their names.
pub type Shipped = BTreeMap<String, Order>;

/// A shared book of what was shipped.
#[derive(Debug, Clone)]
pub struct Warehouse(Arc<watch::Sender<Shipped>>);

impl Default for Warehouse {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Shipped::new())))
    }
}

impl Warehouse {
    /// Ships an order; `false` if that has been done before. A stream delivers at least once, so whatever a worker does
    /// must be done only once by itself, here by the name of the order.
    pub fn ship(&self, order: Order) -> bool {
        self.0.send_if_modified(|shipped| match shipped.contains_key(&order.id) {
            true => false,
            false => shipped.insert(order.id.clone(), order).is_none(),
        })
    }

    /// The order of that name, if it was shipped.
    pub fn shipped(&self, id: &str) -> Option<Order> {
        self.0.borrow().get(id).cloned()
    }

    /// Tells of everything that is shipped from now on.
    pub fn watch(&self) -> watch::Receiver<Shipped> {
        self.0.subscribe()
    }
}
