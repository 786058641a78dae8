//! Interest and routes against brute force: after any series of subscribing and unsubscribing, a publish reaches
//! exactly the subscriptions whose filter matches, whether its route was cached before or not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::Arc;

use proptest::prelude::*;
use sonata_broker::account::{Account, Accounts};
use sonata_broker::connection::{Connection, Port};
use sonata_broker::interest::Matches;
use sonata_broker::pool::BufferPool;
use sonata_broker::recall::{Leads, Recall};
use sonata_broker::route::{Naming, RouteCache};
use sonata_broker::stamp::Stamps;
use sonata_broker::subscription::Subscription;
use sonata_subject::matches;

struct Nowhere;

impl Port for Nowhere {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}

fn connection(id: u64) -> Arc<Connection> {
    Connection::new(id, None, 1, 1 << 20, Arc::new(BufferPool::default()), Box::new(Nowhere))
}

#[derive(Debug, Clone)]
enum Step {
    Subscribe { filter: String, queue: Option<&'static str>, connection: usize },
    Unsubscribe(usize),
    Publish(String),
}

fn token() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[ab]", 1 => Just("*".to_owned()), 1 => "[ab]\\*"]
}

fn filter() -> impl Strategy<Value = String> {
    (prop::collection::vec(token(), 0..4), any::<bool>()).prop_filter_map(
        "not empty",
        |(mut tokens, tail)| {
            if tail {
                tokens.push(">".into());
            }
            (!tokens.is_empty()).then(|| tokens.join("."))
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let queue = prop_oneof![2 => Just(None), 1 => Just(Some("q1")), 1 => Just(Some("q2"))];
    prop_oneof![
        3 => (filter(), queue, 0usize..3)
            .prop_map(|(filter, queue, connection)| Step::Subscribe { filter, queue, connection }),
        2 => (0usize..40).prop_map(Step::Unsubscribe),
        4 => prop::collection::vec("[ab]\\*?", 1..5).prop_map(|tokens| Step::Publish(tokens.join("."))),
    ]
}

/// What a route leads to, counted by what the reader of its debug form cannot mistake: its subscriptions' sids.
fn sids<'a>(subscriptions: impl IntoIterator<Item = &'a Arc<Subscription>>) -> BTreeSet<Vec<u8>> {
    subscriptions.into_iter().map(|subscription| subscription.sid().to_vec()).collect()
}

fn expected(live: &[Arc<Subscription>], subject: &str) -> BTreeSet<Vec<u8>> {
    sids(live.iter().filter(|subscription| matches(subscription.subject(), subject.as_bytes())))
}

fn searched(account: &Account, subject: &str) -> BTreeSet<Vec<u8>> {
    let mut found = Matches::default();
    account.interest.collect(subject.as_bytes(), &mut found);
    assert!(found.plain.iter().all(|subscription| subscription.queue().is_none()));
    assert!(found.queued.iter().all(|subscription| subscription.queue().is_some()));
    let both: Vec<_> = found.plain.into_iter().chain(found.queued).collect();
    let sids = sids(&both);
    assert_eq!(sids.len(), both.len(), "found twice");
    sids
}

/// The sid of the only subscription that matches, if it is in no queue group; `Some(None)` when none matches, and `None`
/// when it is not as simple as that.
fn simple(live: &[Arc<Subscription>], subject: &str) -> Option<Option<Vec<u8>>> {
    let found: Vec<_> = live.iter().filter(|one| matches(one.subject(), subject.as_bytes())).collect();
    match &found[..] {
        [] => Some(None),
        [only] if only.queue().is_none() => Some(Some(only.sid().to_vec())),
        _ => None,
    }
}

fn recalled(
    recall: &mut Recall,
    stamps: &Stamps,
    account: &Account,
    subject: &str,
) -> Option<Option<Vec<u8>>> {
    match recall.find(stamps, account, subject.as_bytes()) {
        Leads::Nowhere => Some(None),
        Leads::To(only) => Some(Some(only.sid().to_vec())),
        Leads::Elsewhere => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_publish_finds_exactly_who_matches(steps in prop::collection::vec(step(), 1..60)) {
        let accounts = Accounts::new(3);
        let (account, other) = (accounts.find_or_create("one", 0), accounts.find_or_create("two", 0));
        let stamps = Stamps::new(3);
        let mut cache = RouteCache::new(3);
        let mut recall = Recall::new(3);
        let connections = [connection(1), connection(2), connection(3)];
        let mut live: Vec<Arc<Subscription>> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Subscribe { filter, queue, connection } => {
                    let subscription = Arc::new(Subscription::new(
                        connections[connection].clone(),
                        filter.as_bytes(),
                        queue.map(str::as_bytes),
                        number.to_string().as_bytes(),
                        None,
                    ));
                    account.interest.insert(subscription.clone());
                    stamps.touch(account.id(), filter.as_bytes());
                    live.push(subscription);
                }
                Step::Unsubscribe(at) => {
                    if at < live.len() {
                        let subscription = live.swap_remove(at);
                        prop_assert!(account.interest.remove(&subscription));
                        prop_assert!(!account.interest.remove(&subscription));
                        stamps.touch(account.id(), subscription.subject());
                    }
                }
                Step::Publish(subject) => {
                    let expected = expected(&live, &subject);
                    prop_assert_eq!(searched(&account, &subject), expected.clone());
                    for _ in 0..2 {
                        prop_assert_eq!(recalled(&mut recall, &stamps, &account, &subject), simple(&live, &subject));
                        prop_assert_eq!(recalled(&mut recall, &stamps, &other, &subject), Some(None));
                    }
                    let (route, _) = cache.find(&stamps, &account, subject.as_bytes(), Naming::Mapped);
                    prop_assert_eq!(route.receivers(), expected.len());
                    let (again, cached) = cache.find(&stamps, &account, subject.as_bytes(), Naming::Mapped);
                    prop_assert!(cached && Arc::ptr_eq(&route, &again));
                    prop_assert_eq!(cache.find(&stamps, &other, subject.as_bytes(), Naming::Mapped).0.receivers(), 0);
                }
            }
            let counts = account.interest.counts();
            prop_assert_eq!(counts.literals + counts.wildcards, live.len());
        }
        let mut seen = 0;
        account.interest.for_each(|_| seen += 1);
        prop_assert_eq!(seen, live.len());
        for subscription in live.drain(..) {
            prop_assert!(account.interest.remove(&subscription));
        }
        prop_assert_eq!(account.interest.counts().literals + account.interest.counts().wildcards, 0);
    }
}

/// One wildcard has the replies of a client: of two, one listener to a whole name among them is found all the same.
#[test]
fn who_listens_to_a_reply_by_its_whole_name_has_it_too() {
    let accounts = Accounts::new(3);
    let (account, stamps, mut recall) = (accounts.find_or_create("one", 0), Stamps::new(3), Recall::new(3));
    let connection = connection(1);
    let subscribe = |filter: &str, sid: &str| {
        account.interest.insert(Arc::new(Subscription::new(
            connection.clone(),
            filter.as_bytes(),
            None,
            sid.as_bytes(),
            None,
        )));
        stamps.touch(account.id(), filter.as_bytes());
    };
    subscribe("_INBOX.a.7", "1");
    subscribe("_INBOX.a.*", "2");
    subscribe("_INBOX.b.*", "3");
    let mut find = |subject| recalled(&mut recall, &stamps, &account, subject);
    for _ in 0..2 {
        assert_eq!(find("_INBOX.a.6"), Some(Some(b"2".to_vec())));
        assert_eq!(find("_INBOX.a.7"), None);
        assert_eq!(find("_INBOX.a.8"), Some(Some(b"2".to_vec())));
        assert_eq!(find("_INBOX.a."), Some(None));
        assert_eq!(find("_INBOX.a.8.9"), Some(None));
        assert_eq!(find("_INBOX.b.8"), Some(Some(b"3".to_vec())));
        assert_eq!(find("_INBOX.c.8"), Some(None));
    }
    // Told apart by the last token from now on.
    subscribe("*.a.9", "4");
    assert_eq!(find("_INBOX.a.8"), Some(Some(b"2".to_vec())));
    assert_eq!(find("_INBOX.a.9"), None);
}

/// The original delivers `a.` and `a..b` to nobody, and clients count on it.
#[test]
fn a_subject_with_an_empty_token_reaches_nobody() {
    let accounts = Accounts::new(3);
    let account = accounts.find_or_create("one", 0);
    for filter in [">", "*", "a.*", "a.>", "*.*", "a.*.b"] {
        let subscription = Subscription::new(connection(1), filter.as_bytes(), None, filter.as_bytes(), None);
        account.interest.insert(Arc::new(subscription));
    }
    for subject in ["", ".", "a.", ".a", "a..b", "a.b."] {
        assert_eq!(searched(&account, subject), BTreeSet::new(), "{subject:?}");
    }
}

/// A cache that sees many more subjects than it holds forgets, and stays right.
#[test]
fn the_cache_is_bounded() {
    let accounts = Accounts::new(3);
    let account = accounts.find_or_create("one", 0);
    let stamps = Stamps::new(3);
    let mut cache = RouteCache::new(3);
    for number in 0..200_000 {
        cache.find(&stamps, &account, format!("subject.{number}").as_bytes(), Naming::Mapped);
    }
    assert!(cache.len() <= 50_000, "{}", cache.len());
    let long = "x".repeat(4000);
    for number in 0..20_000 {
        cache.find(&stamps, &account, format!("{long}.{number}").as_bytes(), Naming::Mapped);
    }
    // Two halves of 4 MiB.
    assert!(cache.len() <= 2200, "{}", cache.len());
    cache.clear();
    assert!(cache.is_empty());
}
