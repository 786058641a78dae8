//! The accounts that streams are recovered into.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sonata_broker::shared::Shared;
use sonata_conf::options::{Account as Meant, Options as ServerOptions};
use sonata_jetstream::config::Allowance;
use sonata_jetstream::node::Node;

use super::{Home, folder, world};

/// Finds what an account means that nobody has asked for yet, and has the broker know it. Blocks.
pub(crate) type LookUp<'a> = dyn Fn(&str) -> Option<Meant> + 'a;

/// See the module.
pub(super) struct Homes<'a> {
    known: HashMap<u32, Arc<Home>>,
    /// Looked up in vain.
    missing: HashSet<String>,
    shared: &'a Shared,
    node: &'a Node,
    world: &'a world::ServerWorld,
    look_up: &'a LookUp<'a>,
}

impl<'a> Homes<'a> {
    /// Those that the broker knows; the ones without JetStream are told so when they ask.
    pub(super) fn new(
        server: &ServerOptions,
        shared: &'a Shared,
        node: &'a Node,
        world: &'a world::ServerWorld,
        look_up: &'a LookUp<'a>,
    ) -> Self {
        let mut homes = Self { known: HashMap::new(), missing: HashSet::new(), shared, node, world, look_up };
        let enabled: HashMap<String, Allowance> = folder::accounts(server).into_iter().collect();
        for broker in shared.accounts.all() {
            let allowance = enabled.get(&**broker.name()).cloned();
            homes.add(broker, allowance);
        }
        homes
    }

    /// The account of a stream. One that is not known is looked up, once.
    pub(super) fn find(&mut self, name: &str) -> Option<Arc<Home>> {
        if let Some(home) = self.known.values().find(|home| *home.account.name == *name) {
            return Some(home.clone());
        }
        if self.missing.contains(name) {
            return None;
        }
        let found = (self.look_up)(name).and_then(|meant| {
            let broker = self.shared.accounts.find(name)?;
            Some(self.add(broker, meant.jetstream.as_ref().map(folder::allowance)))
        });
        if found.is_none() {
            self.missing.insert(name.to_owned());
        }
        found
    }

    pub(super) fn into_known(self) -> HashMap<u32, Arc<Home>> {
        self.known
    }

    fn add(
        &mut self,
        broker: Arc<sonata_broker::account::Account>,
        allowance: Option<Allowance>,
    ) -> Arc<Home> {
        let interest = Arc::new(world::AccountInterest(broker.clone()));
        let account = self.node.enable(broker.name(), broker.id(), interest, allowance);
        self.world.note(broker.id(), broker.clone());
        let home = Home::new(broker, account);
        self.known.insert(home.broker.id(), home.clone());
        home
    }
}
