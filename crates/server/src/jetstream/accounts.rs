//! Accounts that come, or change, while the server runs.

use std::collections::HashMap;
use std::sync::Arc;

use sonata_broker::account::Account as BrokerAccount;
use sonata_conf::options;
use sonata_jetstream::config::Allowance;

use super::{Home, JetStream, folder, world};

impl JetStream {
    /// Serves an account, within the limits that it has now.
    pub(crate) fn welcome(&self, broker: &Arc<BrokerAccount>, meant: &options::Account) {
        self.limit(broker, meant.jetstream.as_ref().map(folder::allowance));
    }

    /// Serves the configured accounts within the limits that they have now. Streams of one that is not configured any more
    /// rest until it is again.
    pub(crate) fn change_accounts(&self, server: &options::Options) {
        let enabled: HashMap<String, Allowance> = folder::accounts(server).into_iter().collect();
        for broker in self.shared.accounts.all() {
            self.limit(&broker, enabled.get(&**broker.name()).cloned());
        }
    }

    /// Whether an account has streams, which rest while it has no JetStream.
    pub(crate) fn has_streams_of(&self, account: &BrokerAccount) -> bool {
        self.home(account.id()).is_some_and(|home| !home.account.streams().is_empty())
    }

    fn limit(&self, broker: &Arc<BrokerAccount>, allowance: Option<Allowance>) {
        let mut homes = self.accounts.write();
        let known = homes.get(&broker.id()).cloned();
        let home = known.clone().unwrap_or_else(|| {
            let interest = Arc::new(world::AccountInterest(broker.clone()));
            let account = self.node.enable(broker.name(), broker.id(), interest, allowance.clone());
            self.world.note(broker.id(), broker.clone());
            let home = Home::new(broker.clone(), account);
            homes.insert(broker.id(), home.clone());
            home
        });
        drop(homes);
        if known.is_some() {
            let now = self.clock.now_unix_ns();
            self.post_for(&home, |out| self.node.limit(&home.account, allowance, now, out));
        }
        if let Some(own) = self.itself() {
            own.serve(&home);
        }
    }
}
