//! Accounts that come while the server runs, as operators' accounts do.

use std::sync::Arc;

use sonata_broker::account::Account as BrokerAccount;
use sonata_broker::shared::Level;
use sonata_conf::options;

use super::{Home, JetStream, folder, world};

impl JetStream {
    /// Serves an account that is not served yet. One that is keeps the limits that it came with until a restart.
    pub(crate) fn welcome(&self, broker: &Arc<BrokerAccount>, meant: &options::Account) {
        let limits = meant.jetstream.map(folder::limits);
        let mut homes = self.accounts.write();
        if let Some(home) = homes.get(&broker.id()) {
            if home.account.enabled != limits.is_some() {
                self.log(
                    Level::Warning,
                    format_args!("JetStream of account {} changes with the next start", broker.name()),
                );
            }
            return;
        }
        let interest = Arc::new(world::AccountInterest(broker.clone()));
        let account = self.node.enable(broker.name(), broker.id(), interest, limits);
        self.world.note(broker.id(), broker.clone());
        let home = Arc::new(Home { broker: broker.clone(), account });
        homes.insert(broker.id(), home.clone());
        drop(homes);
        if let Some(own) = self.itself() {
            own.serve(&home);
        }
    }
}
