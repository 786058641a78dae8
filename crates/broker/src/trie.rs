//! Filters with wildcards, by token.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sonata_subject::{ANY_TAIL, ANY_TOKEN};

use crate::interest::Matches;
use crate::subscription::Subscription;

/// A level of the trie: what can follow the tokens so far.
#[derive(Debug)]
pub(crate) struct Node {
    literal: HashMap<Box<[u8]>, Node, FixedState>,
    any: Option<Box<Node>>,
    /// Filters that end here.
    here: Vec<Arc<Subscription>>,
    /// Filters that end here with `>`.
    tail: Vec<Arc<Subscription>>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            literal: HashMap::with_hasher(FixedState::with_seed(0)),
            any: None,
            here: Vec::new(),
            tail: Vec::new(),
        }
    }
}

impl Node {
    pub(crate) fn insert<'a>(
        &mut self,
        filter: impl Iterator<Item = &'a [u8]>,
        subscription: Arc<Subscription>,
    ) {
        let mut node = self;
        for token in filter {
            if token == ANY_TAIL {
                add_to(&mut node.tail, subscription);
                return;
            }
            node = if token == ANY_TOKEN {
                node.any.get_or_insert_default()
            } else {
                node.literal.entry(token.into()).or_default()
            };
        }
        add_to(&mut node.here, subscription);
    }

    /// Removes the subscription and the levels that nothing needs any more. False when it is not there.
    pub(crate) fn remove<'a>(
        &mut self,
        mut filter: impl Iterator<Item = &'a [u8]>,
        subscription: &Arc<Subscription>,
    ) -> bool {
        match filter.next() {
            None => remove_from(&mut self.here, subscription),
            Some(ANY_TAIL) => remove_from(&mut self.tail, subscription),
            Some(ANY_TOKEN) => {
                let Some(child) = &mut self.any else { return false };
                let removed = child.remove(filter, subscription);
                if child.is_empty() {
                    self.any = None;
                }
                removed
            }
            Some(token) => {
                let Some(child) = self.literal.get_mut(token) else { return false };
                let removed = child.remove(filter, subscription);
                if child.is_empty() {
                    self.literal.remove(token);
                    if self.literal.is_empty() {
                        self.literal.shrink_to_fit();
                    }
                }
                removed
            }
        }
    }

    /// Adds every subscription whose filter matches the tokens. Returns how many of them, counted from this level's, it
    /// takes to tell: subjects that have the same ones, and as many in all, have the same subscriptions. The depth of the
    /// recursion is the number of tokens of the deepest filter, which a control line bounds.
    pub(crate) fn collect<'a>(
        &self,
        mut subject: impl Iterator<Item = &'a [u8]> + Clone,
        matches: &mut Matches,
    ) -> usize {
        let Some(token) = subject.next() else {
            self.here.iter().for_each(|subscription| matches.push(subscription));
            return 0;
        };
        self.tail.iter().for_each(|subscription| matches.push(subscription));
        let mut telling = usize::from(!self.literal.is_empty());
        if let Some(child) = &self.any {
            telling = telling.max(behind(child.collect(subject.clone(), matches)));
        }
        if let Some(child) = self.literal.get(token) {
            telling = telling.max(behind(child.collect(subject, matches)));
        }
        telling
    }

    pub(crate) fn for_each(&self, visit: &mut dyn FnMut(&Arc<Subscription>)) {
        self.here.iter().chain(&self.tail).for_each(&mut *visit);
        self.any.iter().for_each(|child| child.for_each(visit));
        self.literal.values().for_each(|child| child.for_each(visit));
    }

    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.any.is_none() && self.here.is_empty() && self.tail.is_empty()
    }
}

/// How many tokens tell where the level below needs so many.
fn behind(telling: usize) -> usize {
    if telling > 0 { telling + 1 } else { 0 }
}

/// Adds a subscription to a list that is in no particular order.
pub(crate) fn add_to(list: &mut Vec<Arc<Subscription>>, subscription: Arc<Subscription>) {
    subscription.set_position(list.len());
    list.push(subscription);
}

/// Removes one subscription from such a list, without searching it: a client with 100,000 subscriptions to one subject
/// may leave.
pub(crate) fn remove_from(list: &mut Vec<Arc<Subscription>>, subscription: &Arc<Subscription>) -> bool {
    let at = subscription.position();
    if !list.get(at).is_some_and(|listed| Arc::ptr_eq(listed, subscription)) {
        return false;
    }
    list.swap_remove(at);
    if let Some(moved) = list.get(at) {
        moved.set_position(at);
    }
    if list.len() * 4 < list.capacity() {
        list.shrink_to_fit();
    }
    true
}
