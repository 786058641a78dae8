//! Replies to requests, told as a script: `request <reply>` and `publish <reply>` at a second of a virtual clock.

// Helpers of tests stand outside of the functions that clippy recognises as tests.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use proptest::prelude::*;
use sonata_auth::permission::ResponsePermission;
use sonata_auth::response::ResponseTracker;

const SECOND_NS: i64 = 1_000_000_000;

fn permission(max: i64, ttl_s: i64) -> ResponsePermission {
    ResponsePermission { max, ttl_ns: ttl_s * SECOND_NS }
}

#[test]
fn replies_are_counted_and_timed() {
    for (max, ttl_s, script) in [
        (1, 120, "0 publish a no, 0 request a, 0 publish a yes, 0 publish a no, 0 publish b no"),
        (2, 120, "0 request a, 1 publish a yes, 2 publish a yes, 3 publish a no"),
        (-1, 120, "0 request a, 1 publish a yes, 2 publish a yes, 120 publish a yes, 121 publish a no"),
        (1, 10, "0 request a, 10 publish a yes"),
        (1, 10, "0 request a, 11 publish a no"),
        (1, -1, "0 request a, 1000000 publish a yes"),
        // Zero means the default.
        (0, 0, "0 request a, 120 publish a yes, 120 publish a no, 0 request b, 121 publish b no"),
        // Requests that share a reply subject add up, and renew the time.
        (1, 10, "0 request a, 0 request a, 1 publish a yes, 1 publish a yes, 1 publish a no"),
        (1, 10, "0 request a, 9 request a, 15 publish a yes"),
        (-1, 10, "0 request a, 9 request a, 19 publish a yes, 20 publish a no"),
    ] {
        let mut tracker = ResponseTracker::new(permission(max, ttl_s));
        for step in script.split(", ") {
            let words: Vec<&str> = step.split(' ').collect();
            let now_ns = words[0].parse::<i64>().unwrap() * SECOND_NS;
            match words[1..] {
                ["request", reply] => tracker.track(reply.as_bytes(), now_ns),
                ["publish", reply, expected] => {
                    let allowed = tracker.check_publish(reply.as_bytes(), now_ns);
                    assert_eq!(allowed, expected == "yes", "{max} {ttl_s}: {step} in {script}");
                }
                _ => panic!("{step}"),
            }
        }
    }
}

#[test]
fn what_has_expired_is_forgotten_when_something_new_comes() {
    let mut tracker = ResponseTracker::new(permission(1, 10));
    for n in 0..1000 {
        tracker.track(format!("reply.{n}").as_bytes(), n * SECOND_NS);
        assert!(tracker.len() <= 11, "{}", tracker.len());
    }
}

#[test]
fn unanswered_requests_are_bounded_and_the_oldest_goes_first() {
    let mut tracker = ResponseTracker::new(permission(1, -1));
    let name = |n: usize| format!("reply.{n}").into_bytes();
    for n in 0..ResponseTracker::REQUESTS_MAX + 10 {
        tracker.track(&name(n), 0);
    }
    assert_eq!(tracker.len(), ResponseTracker::REQUESTS_MAX);
    assert!(!tracker.check_publish(&name(9), 0));
    assert!(tracker.check_publish(&name(10), 0));
    assert!(tracker.check_publish(&name(ResponseTracker::REQUESTS_MAX + 9), 0));
}

#[test]
fn long_reply_subjects_are_bounded_by_their_bytes() {
    let mut tracker = ResponseTracker::new(permission(1, -1));
    let name = |n: usize| format!("{n:04000}").into_bytes();
    for n in 0..3000 {
        tracker.track(&name(n), 0);
    }
    assert_eq!(tracker.len(), ResponseTracker::REPLY_BYTES_MAX / 4000);
    assert!(tracker.check_publish(&name(2999), 0));
    assert!(!tracker.check_publish(&name(0), 0));
    tracker.track(&vec![b'x'; ResponseTracker::REPLY_BYTES_MAX + 1], 0);
    assert!(tracker.is_empty());
}

#[test]
fn an_unanswered_request_does_not_pile_up_answered_ones() {
    let mut tracker = ResponseTracker::new(permission(1, -1));
    tracker.track(b"never answered", 0);
    for n in 0..300_000 {
        let reply = format!("reply.{n}").into_bytes();
        tracker.track(&reply, n);
        assert!(tracker.check_publish(&reply, n));
    }
    assert_eq!(tracker.len(), 1);
    assert!(tracker.check_publish(b"never answered", 0) && tracker.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Request(u8),
    Publish(u8),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8).prop_map(Step::Request),
        (0..5u8).prop_map(Step::Publish),
        (0..4i64).prop_map(Step::Wait)
    ]
}

proptest! {
    /// The model keeps everything for ever and looks at the clock when asked.
    #[test]
    fn a_tracker_is_the_model(
        max in -1..4i64,
        ttl_s in -1..6i64,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let permission = permission(max, ttl_s).with_defaults();
        let mut tracker = ResponseTracker::new(permission);
        let mut model: HashMap<u8, (i64, i64)> = HashMap::new();
        let mut now_ns = 0;
        for step in steps {
            match step {
                Step::Wait(seconds) => now_ns += seconds * SECOND_NS,
                Step::Request(reply) => {
                    tracker.track(&[reply], now_ns);
                    let (left, at_ns) = model.entry(reply).or_insert((0, now_ns));
                    let expired = permission.ttl_ns > 0 && now_ns - *at_ns > permission.ttl_ns;
                    *left = if expired { 0 } else { *left } + permission.max;
                    *at_ns = now_ns;
                }
                Step::Publish(reply) => {
                    let expected = model.get_mut(&reply).is_some_and(|(left, at_ns)| {
                        let alive = permission.ttl_ns < 0 || now_ns - *at_ns <= permission.ttl_ns;
                        let allowed = alive && (permission.max < 0 || *left > 0);
                        *left -= 1;
                        allowed
                    });
                    if !expected {
                        model.remove(&reply);
                    }
                    prop_assert_eq!(tracker.check_publish(&[reply], now_ns), expected);
                }
            }
        }
    }
}
