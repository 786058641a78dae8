//! Accounts that come, or change, while the server runs, as operators' accounts do.

use std::sync::Arc;

use sonata_broker::account::Account as BrokerAccount;
use sonata_conf::options;

use super::{Home, JetStream, folder, world};

impl JetStream {
    /// Serves an account, within the limits that it has now.
    pub(crate) fn welcome(&self, broker: &Arc<BrokerAccount>, meant: &options::Account) {
        let limits = meant.jetstream.map(folder::limits);
        let mut homes = self.accounts.write();
        let known = homes.get(&broker.id()).cloned();
        let home = known.clone().unwrap_or_else(|| {
            let interest = Arc::new(world::AccountInterest(broker.clone()));
            let account = self.node.enable(broker.name(), broker.id(), interest, limits);
            self.world.note(broker.id(), broker.clone());
            let home = Home::new(broker.clone(), account);
            homes.insert(broker.id(), home.clone());
            home
        });
        drop(homes);
        if known.is_some() {
            self.node.limit(&home.account, limits);
        }
        if let Some(own) = self.itself() {
            own.serve(&home);
        }
    }
}
