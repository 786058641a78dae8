//! Requests of the system account and their whole answers, in `transcripts/requests.txt`.
//!
//! A line `ASK <topic> <body>` is a request, `ASK <topic> OF <account> <body>` one about an account; what follows up to
//! the next one is the answer, `(silence)` where there is none. `UPDATE_TRANSCRIPTS=1` writes the file anew. Which members
//! there are and in which order was compared with nats-server 2.15.1.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fmt::Write;
use std::path::Path;

use common::{NOON, Server, recorded, streaming};
use proptest::prelude::*;
use sonata_monitor::system::request::{
    AccountTopic, Answer, Stamp, Topic, about_account, about_accounts, about_server, count_subscriptions,
    debug_subscribers, order, order_for_connection,
};
use sonata_monitor::text::Timestamp;
use sonata_monitor::view::ServerView;

/// The answer, or why there is none.
fn ask(server: &Server, request: &str) -> String {
    let identity = server.identity();
    let stamp = Stamp { identity: &identity, sequence: 7, event_id: "E", time: Timestamp(NOON) };
    let (topic, rest) = request.split_once(' ').unwrap_or((request, ""));
    let answer = if let Some(rest) = rest.strip_prefix("OF ") {
        let (account, body) = rest.split_once(' ').unwrap_or((rest, ""));
        let (_, topic) = AccountTopic::NAMED.into_iter().find(|(name, _)| *name == topic).unwrap();
        about_account(server, topic, account, body.as_bytes(), stamp)
    } else if let Some((_, topic)) = Topic::NAMED.into_iter().find(|(name, _)| *name == topic) {
        Ok(about_server(server, topic, rest.as_bytes(), stamp))
    } else {
        match topic {
            "STATZ" => Ok(about_accounts(server, rest.as_bytes(), stamp)),
            "NSUBS" => count_subscriptions(server, rest.as_bytes()),
            "SUBSCRIBERS" => Ok(Some(debug_subscribers(server, "A", rest.as_bytes()))),
            "RELOAD" => Ok(order(rest.as_bytes(), stamp, || Ok(()))),
            "KICK" => order_for_connection(rest.as_bytes(), "KickClientReq", stamp, |cid| match cid {
                6 => Ok(()),
                _ => Err("no such client or leafnode id".into()),
            }),
            other => panic!("{other}"),
        }
    };
    match answer {
        Ok(None) => "(silence)".into(),
        Ok(Some(Answer { body, is_compressible })) => {
            let mark = if is_compressible { "(compressible) " } else { "" };
            format!("{mark}{}", String::from_utf8(body).unwrap())
        }
        Err(unheard) => format!("(log) {}", unheard.0),
    }
}

fn check(name: &str, server: &Server) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&path).unwrap();
    let mut actual = String::new();
    for request in expected.lines().filter_map(|line| line.strip_prefix("ASK ")) {
        writeln!(actual, "ASK {request}\n{}\n", ask(server, request)).unwrap();
    }
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        std::fs::write(&path, &actual).unwrap();
    } else {
        assert!(actual == expected, "{name}: answer differs, expected\n{expected}\ngot\n{actual}");
    }
}

#[test]
fn answers_are_as_recorded() {
    check("requests", &recorded());
    check("requests_jetstream", &streaming());
}

fn topics() -> impl Strategy<Value = String> {
    let server = Topic::NAMED.into_iter().map(|(name, _)| name.to_owned());
    let account = AccountTopic::NAMED.into_iter().map(|(name, _)| format!("{name} OF A"));
    let others = ["STATZ", "NSUBS", "SUBSCRIBERS", "RELOAD", "KICK"].map(str::to_owned);
    prop::sample::select(server.chain(account).chain(others).collect::<Vec<_>>())
}

/// A body that is nearly right: members that exist, with values of any type.
fn bodies() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "server_name",
        "cluster",
        "host",
        "exact_match",
        "tags",
        "domain",
        "sort",
        "auth",
        "subscriptions",
        "subscriptions_detail",
        "offset",
        "limit",
        "cid",
        "mqtt_client",
        "state",
        "user",
        "acc",
        "filter_subject",
        "account",
        "test",
        "accounts",
        "streams",
        "consumer",
        "direct_consumer",
        "config",
        "raft",
        "stream",
        "details",
        "name",
        "duration",
        "all",
        "filter",
        "include_unused",
        "subject",
        "queue",
    ]);
    let value = prop::sample::select(vec![
        "true",
        "false",
        "0",
        "1",
        "2",
        "-1",
        "1.5",
        "18446744073709551615",
        "1e999",
        "null",
        "\"\"",
        "\"A\"",
        "\"S\"",
        "\"uptime\"",
        "\">\"",
        "\"a.*\"",
        "[]",
        "[\"A\"]",
        "{}",
        "\"cQ==\"",
        "[[[[",
        "\"\\ud800\"",
    ]);
    let member = (name, value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let object = prop::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(",")));
    prop_oneof![4 => object, 1 => "[ -~]{0,20}"]
}

proptest! {
    #[test]
    fn no_body_panics_and_every_answer_is_json(topic in topics(), body in bodies()) {
        let answer = ask(&streaming(), &format!("{topic} {body}"));
        let json = answer.strip_prefix("(compressible) ").unwrap_or(&answer);
        if !json.starts_with('(') {
            prop_assert!(serde_json::from_str::<serde_json::Value>(json).is_ok(), "{}", json);
        }
    }
}
