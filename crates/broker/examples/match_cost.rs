//! What finding the receivers of a subject costs with a million subscriptions, 10,000 of them wildcards:
//! `cargo run --release -p sonata-broker --example match_cost`.
//!
//! *cached*: the route stands in a worker's cache. *uncached*: the interest is searched and a route is built, for
//! subjects with no, one literal, and one hundred wildcard subscriptions that match. *raced*: as cached, while another
//! thread subscribes and unsubscribes fresh inboxes all the time.

use std::hint::black_box;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sonata_broker::account::Accounts;
use sonata_broker::connection::{Connection, Port};
use sonata_broker::pool::BufferPool;
use sonata_broker::route::{Naming, Route, RouteCache};
use sonata_broker::stamp::Stamps;
use sonata_broker::subscription::Subscription;

const SUBSCRIPTIONS: usize = 1_000_000;
const WILDCARDS: usize = 10_000;
const ROUNDS: usize = 200_000;

struct Nowhere;

impl Port for Nowhere {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}

#[allow(clippy::print_stdout, reason = "this is what was asked for")]
fn main() {
    let accounts = Accounts::new(1);
    let account = accounts.find_or_create("$G", 0);
    let stamps = Stamps::new(1);
    let connection = Connection::new(1, None, 1, 1 << 20, Arc::new(BufferPool::default()), Box::new(Nowhere));
    let subscribe = |filter: &str, sid: usize| {
        let sid = sid.to_string();
        let subscription =
            Arc::new(Subscription::new(connection.clone(), filter.as_bytes(), None, sid.as_bytes(), None));
        account.interest.insert(subscription.clone());
        stamps.touch(account.id(), filter.as_bytes());
        subscription
    };
    let start = Instant::now();
    for number in 0..SUBSCRIPTIONS - WILDCARDS {
        subscribe(&format!("telemetry.site{}.device{number}.temp", number % 1000), number);
    }
    for number in 0..WILDCARDS {
        // A hundred of them for each of a hundred sites.
        subscribe(&format!("alarm.site{}.*.level{}.>", number % 100, number / 100), number);
    }
    println!("{SUBSCRIPTIONS} subscriptions made in {:.2} s", start.elapsed().as_secs_f64());

    let mut cache = RouteCache::new(1);
    let mut cached = |name: &str, subjects: &[String]| {
        for subject in subjects {
            cache.find(&stamps, &account, subject.as_bytes(), Naming::AsIs);
        }
        let start = Instant::now();
        let mut receivers = 0;
        for round in 0..ROUNDS {
            let subject = &subjects[round % subjects.len()];
            receivers +=
                black_box(cache.find(&stamps, &account, subject.as_bytes(), Naming::AsIs)).0.receivers();
        }
        let cost = start.elapsed().as_nanos() as f64 / ROUNDS as f64;
        println!("{name}: {cost:.0} ns, {:.1} receivers", receivers as f64 / ROUNDS as f64);
    };
    let literal = |number: usize| format!("telemetry.site{}.device{number}.temp", number % 1000);
    let hot: Vec<String> = (0..1000).map(|number| literal(number * 97)).collect();
    cached("cached, 1,000 subjects", &hot);

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let inbox = subscribe(&format!("_INBOX.{number}.*"), number);
                account.interest.remove(&inbox);
                stamps.touch(account.id(), inbox.subject());
            }
        });
        cached("raced, 1,000 subjects beside fresh inboxes", &hot);
        stop.store(true, Ordering::Relaxed);
    });

    let uncached = |name: &str, subject: &dyn Fn(usize) -> String| {
        let subjects: Vec<String> = (0..10_000).map(subject).collect();
        let start = Instant::now();
        let mut receivers = 0;
        for subject in &subjects {
            receivers +=
                black_box(Route::build(&stamps, &account, subject.as_bytes(), Naming::AsIs)).receivers();
        }
        let cost = start.elapsed().as_nanos() as f64 / subjects.len() as f64;
        println!(
            "{name}: {:.2} us, {:.1} receivers",
            cost / 1000.0,
            receivers as f64 / subjects.len() as f64
        );
    };
    uncached("uncached, nobody", &|number| format!("telemetry.site1.nobody{number}.temp"));
    uncached("uncached, one literal", &|number| literal(number * 89));
    uncached("uncached, one of 10,000 wildcards", &|number| {
        format!("alarm.site{}.x.level{}.now", number % 100, number / 100 % 100)
    });
    for number in 0..100 {
        subscribe(&format!("busy.*.{}.>", if number % 2 == 0 { "*" } else { "a" }), number);
    }
    uncached("uncached, a hundred wildcards", &|number| format!("busy.{number}.a.b"));
}
