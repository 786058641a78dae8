//! `/connz` and `/subsz` as functions: order, filters and pages, told as tables.

#![allow(clippy::unwrap_used)]

mod common;

use proptest::prelude::*;

use common::{NOON, Server, recorded, streaming};
use sonata_monitor::connz::{Connection, Connz, ConnzOptions, SortBy, Subscription, connz};
use sonata_monitor::query::Query;
use sonata_monitor::response::respond;
use sonata_monitor::subsz::{SubszOptions, subsz};
use sonata_monitor::text::{RoundTrip, Timestamp};

/// Four open connections (1 to 4) and three closed ones (5 to 7).
fn server() -> Server {
    let second = |seconds: i64| Timestamp(NOON + seconds * 1_000_000_000);
    // Each number has an order of its own: cid, then start, last, rtt, pending, msgs and bytes in and out, subs.
    let open = |cid, start, last, rtt, numbers: [u64; 6]| Connection {
        cid,
        start: second(start),
        last_activity: second(last),
        rtt: RoundTrip(rtt),
        pending_bytes: numbers[0],
        in_msgs: numbers[1],
        out_msgs: numbers[2],
        in_bytes: numbers[3],
        out_bytes: numbers[4],
        subscriptions: numbers[5],
        account: if cid % 2 == 0 { "$G".into() } else { "A".into() },
        authorized_user: if cid < 3 { "alice".into() } else { "bob".into() },
        mqtt_client: if cid == 4 { "m4".into() } else { String::new() },
        name_tag: "tag".into(),
        ..Connection::default()
    };
    let closed = |cid, start, stop, reason: &str| Connection {
        cid,
        start: second(start),
        last_activity: second(start),
        stop: Some(second(stop)),
        reason: reason.into(),
        account: "A".into(),
        authorized_user: "alice".into(),
        ..Connection::default()
    };
    let mut server = recorded();
    server.varz.now = second(100);
    server.subscriptions.clear();
    server.connections = vec![
        open(3, 3, 30, 300, [1, 2, 3, 4, 1, 2]),
        open(1, 1, 40, 100, [2, 3, 4, 1, 2, 2]),
        open(4, 4, 10, 200, [3, 4, 1, 2, 3, 9]),
        open(2, 2, 20, 400, [4, 1, 2, 3, 4, 1]),
        closed(6, 50, 60, "Stale Connection"),
        closed(5, 40, 90, "Client Closed"),
        closed(7, 55, 70, "Client Closed"),
    ];
    server
}

fn ask(server: &Server, query: &str) -> Connz {
    connz(server, &ConnzOptions::from_query(&Query::parse(query)).unwrap())
}

fn cids(answer: &Connz) -> Vec<u64> {
    answer.connections.iter().map(|connection| connection.cid).collect()
}

#[test]
fn every_order() {
    for (sort, expected) in [
        ("", [1, 2, 3, 4]),
        ("cid", [1, 2, 3, 4]),
        ("start", [1, 2, 3, 4]),
        ("subs", [4, 1, 3, 2]),
        ("pending", [2, 4, 1, 3]),
        ("msgs_from", [4, 1, 3, 2]),
        ("msgs_to", [1, 3, 2, 4]),
        ("bytes_from", [3, 2, 4, 1]),
        ("bytes_to", [2, 4, 1, 3]),
        ("last", [1, 3, 2, 4]),
        ("idle", [4, 2, 3, 1]),
        ("uptime", [4, 3, 2, 1]),
        ("rtt", [2, 3, 4, 1]),
    ] {
        assert_eq!(cids(&ask(&server(), &format!("sort={sort}"))), expected, "{sort}");
    }
    for (sort, expected) in
        [("cid", [5, 6, 7]), ("stop", [5, 7, 6]), ("reason", [5, 7, 6]), ("uptime", [6, 7, 5])]
    {
        assert_eq!(cids(&ask(&server(), &format!("state=closed&sort={sort}"))), expected, "{sort}");
    }
    let asked = ["cid", "start", "subs", "pending", "msgs_from", "msgs_to", "bytes_from", "bytes_to"];
    let asked = asked.iter().chain(&["last", "idle", "uptime", "rtt", "stop", "reason"]);
    assert_eq!(asked.count(), SortBy::NAMED.len(), "an order without a test");
}

#[test]
fn every_filter_and_page() {
    for (query, total, expected) in [
        ("state=open", 4, vec![1, 2, 3, 4]),
        ("state=CLOSED", 3, vec![5, 6, 7]),
        ("state=any", 7, vec![1, 2, 3, 4, 5, 6, 7]),
        ("state=all", 7, vec![1, 2, 3, 4, 5, 6, 7]),
        ("cid=2", 4, vec![2]),
        ("cid=5", 4, vec![]),
        ("cid=5&state=all", 7, vec![5]),
        ("cid=2&offset=1", 4, vec![]),
        ("user=bob", 4, vec![3, 4]),
        ("user=nobody", 4, vec![]),
        ("acc=A", 2, vec![1, 3]),
        ("acc=$G", 2, vec![2, 4]),
        ("acc=A&state=all&user=alice", 5, vec![1, 5, 6, 7]),
        ("acc=nope", 0, vec![]),
        ("mqtt_client=m4", 4, vec![4]),
        ("limit=2", 4, vec![1, 2]),
        ("limit=2&offset=1", 4, vec![2, 3]),
        ("limit=2&offset=3", 4, vec![4]),
        ("offset=4", 4, vec![]),
        ("offset=9223372036854775807", 4, vec![]),
        ("limit=9223372036854775807", 4, vec![1, 2, 3, 4]),
        ("limit=-1&offset=-1", 4, vec![1, 2, 3, 4]),
        ("limit=1&sort=subs", 4, vec![4]),
    ] {
        let answer = ask(&server(), query);
        assert_eq!((answer.total, cids(&answer)), (total, expected), "{query}");
        assert_eq!(answer.num_connections, answer.connections.len());
    }
}

#[test]
fn who_a_client_is_shows_only_with_auth() {
    let shown = |query: &str| {
        let answer = ask(&server(), query);
        let first = &answer.connections[0];
        (first.authorized_user.clone(), first.account.clone(), first.name_tag.clone())
    };
    assert_eq!(shown("cid=1"), (String::new(), String::new(), String::new()));
    assert_eq!(shown("cid=1&auth=1"), ("alice".into(), "A".into(), "tag".into()));
    assert_eq!(shown("cid=2&auth=1"), ("alice".into(), String::new(), "tag".into()));
}

#[test]
fn subscriptions_are_tested_and_paged() {
    let mut server = recorded();
    let subscription = |(cid, subject): (usize, &&str)| Subscription {
        account: if cid % 2 == 0 { "A".into() } else { "B".into() },
        subject: (*subject).into(),
        cid: cid as u64,
        ..Subscription::default()
    };
    let subjects = ["a", "a.b", "a.*", "a.>", "*.b", ">", "a.b.c", "b"];
    server.subscriptions = subjects.iter().enumerate().map(subscription).collect();
    for (query, total, expected) in [
        ("", 0, vec![]),
        ("test=a.b", 0, vec![]),
        ("subs=1", 8, vec!["a", "a.b", "a.*", "a.>", "*.b", ">", "a.b.c", "b"]),
        ("subs=1&test=a.b", 5, vec!["a.b", "a.*", "a.>", "*.b", ">"]),
        ("subs=1&test=a", 2, vec!["a", ">"]),
        ("subs=1&test=a.b.c", 3, vec!["a.>", ">", "a.b.c"]),
        ("subs=1&acc=A", 4, vec!["a", "a.*", "*.b", "a.b.c"]),
        ("subs=1&acc=nope", 0, vec![]),
        ("subs=1&test=a.b&limit=2&offset=1", 5, vec!["a.*", "a.>"]),
        ("subs=1&offset=8", 8, vec![]),
    ] {
        let answer = subsz(&server, &SubszOptions::from_query(&Query::parse(query)).unwrap());
        let list: Vec<&str> =
            answer.subscriptions_list.iter().map(|subscription| subscription.subject.as_str()).collect();
        assert_eq!((answer.total, list), (total, expected), "{query}");
    }
}

proptest! {
    #[test]
    fn a_page_is_a_part_of_the_whole(
        sort in prop::sample::select(SortBy::NAMED.map(|(name, _)| name).to_vec()),
        offset in 0..9usize,
        limit in 1..9usize,
    ) {
        let server = server();
        // These orders exist for closed connections only.
        let state = if matches!(sort, "stop" | "reason") { "closed" } else { "any" };
        let whole = cids(&ask(&server, &format!("state={state}&sort={sort}")));
        let page = cids(&ask(&server, &format!("state={state}&sort={sort}&offset={offset}&limit={limit}")));
        let expected: Vec<u64> = whole.into_iter().skip(offset).take(limit).collect();
        prop_assert_eq!(page, expected);
    }

    #[test]
    fn no_request_panics(
        path in prop::sample::select(vec!["connz", "subsz", "healthz", "jsz", "leafz", "accountz", "gatewayz", ""]),
        query in "((sort|limit|offset|cid|subs|acc|test|state|accounts|consumers|account|stream|raft|%[0-9a-z]{0,2})(=[a-z0-9%+.>*\u{fc}-]{0,4})?[&;]?){0,4}",
        base in "[/a]{0,3}",
    ) {
        let server = streaming();
        let response = respond(&server, &format!("/{path}"), &query, &base);
        prop_assert!(matches!(response.status, 200 | 400 | 404));
        // Health is that of something that may not be there.
        prop_assert!(response.status != 404 || base.contains('a') || path == "healthz");
    }
}
