//! Subscriptions on behalf of others: how a stream import reaches the accounts that import it.
//!
//! Whoever subscribes in an importing account is given *shadows* in the exporting accounts, one per import that could
//! match. A route there finds the shadow, and leads straight to the subscriber, with its own subject in the line: publishing
//! through an import costs nothing more per message.
//!
//! A shadow stands in the exporter's interest from after its parent stands in the importer's until the parent has gone
//! from there. Both ends and a change of the imports meet under the lock of the importing account's [`Shadows`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::account::Account;
use crate::links::Links;
use crate::shared::Shared;
use crate::stamp::Stamps;
use crate::subscription::{Shadow, Subscription};

/// The shadows that an account's subscriptions cast, by parent.
#[derive(Default)]
pub(crate) struct Shadows {
    by_parent: HashMap<usize, Vec<Cast>>,
}

/// A shadow, and the account where it stands.
type Cast = (Arc<Account>, Arc<Subscription>);

impl Shared {
    /// Lets a subscription in an account hear what is published from now on. Its subject must be valid.
    pub fn subscribe(&self, account: &Arc<Account>, subscription: Arc<Subscription>) {
        account.interest.insert(subscription.clone());
        self.stamps.touch(account.id(), subscription.subject());
        if account.imports_streams.load(Ordering::SeqCst) {
            account.shadows.lock().cast(account, &account.links(), &subscription, &self.stamps);
        }
    }

    /// Ends what [`Shared::subscribe`] began; false when it was not there.
    pub fn unsubscribe(&self, account: &Account, subscription: &Arc<Subscription>) -> bool {
        let removed = account.interest.remove(subscription);
        self.stamps.touch(account.id(), subscription.subject());
        if account.imports_streams.load(Ordering::SeqCst) {
            account.shadows.lock().withdraw(subscription, &self.stamps);
        }
        removed
    }
}

impl Shadows {
    /// All shadows of all subscriptions, after the imports have changed.
    pub(crate) fn cast_anew(&mut self, account: &Arc<Account>, links: &Links, stamps: &Stamps) {
        for (exporter, shadow) in self.by_parent.drain().flat_map(|(_, shadows)| shadows) {
            exporter.interest.remove(&shadow);
            stamps.touch(exporter.id(), shadow.subject());
        }
        let mut subscriptions = Vec::new();
        account.interest.for_each(|subscription| {
            if subscription.as_shadow().is_none() {
                subscriptions.push(subscription.clone());
            }
        });
        for subscription in subscriptions {
            self.cast(account, links, &subscription, stamps);
        }
    }

    fn cast(&mut self, account: &Arc<Account>, links: &Links, parent: &Arc<Subscription>, stamps: &Stamps) {
        if parent.is_closed() || self.by_parent.contains_key(&key(parent)) {
            return;
        }
        let mut cast = Vec::new();
        for import in &links.streams {
            let Some(subject) = import.subjects.wanted(parent.subject()) else { continue };
            let shadow = Shadow { parent: parent.clone(), account: account.clone(), import: import.clone() };
            let shadow = Arc::new(Subscription::shadow(&subject, shadow));
            import.exporter.interest.insert(shadow.clone());
            stamps.touch(import.exporter.id(), &subject);
            cast.push((import.exporter.clone(), shadow));
        }
        if !cast.is_empty() {
            self.by_parent.insert(key(parent), cast);
        }
    }

    fn withdraw(&mut self, parent: &Arc<Subscription>, stamps: &Stamps) {
        for (exporter, shadow) in self.by_parent.remove(&key(parent)).into_iter().flatten() {
            exporter.interest.remove(&shadow);
            stamps.touch(exporter.id(), shadow.subject());
        }
    }
}

/// Where the parent stands in memory; it stays there while a shadow points to it.
fn key(parent: &Arc<Subscription>) -> usize {
    Arc::as_ptr(parent) as usize
}

impl fmt::Debug for Shadows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadows").field("parents", &self.by_parent.len()).finish()
    }
}
