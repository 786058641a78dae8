//! Requests and full responses, in files under `transcripts`.
//!
//! A line `GET <path>` is a request, what follows up to the next one is the response. `UPDATE_TRANSCRIPTS=1` writes the
//! files anew. The bodies were compared with those of nats-server 2.15.1 in the same state; they differ in what is
//! our own (`memory_pools`, `/metrics`, damage and failures of storage, the index page, and which members of `memstats`
//! there are).

#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write;
use std::path::Path;

use common::{Server, connected, damaged, failing, recorded, streaming};
use sonata_monitor::response::respond;

#[test]
fn responses_are_as_recorded() {
    check("index", &recorded(), "");
    check("base_path", &recorded(), "mon/x/");
    check("varz", &recorded(), "");
    check("connz", &recorded(), "");
    check("connz_errors", &recorded(), "/");
    check("subsz", &recorded(), "");
    check("accountz", &recorded(), "");
    check("accstatz", &recorded(), "");
    check("stand_alone", &recorded(), "");
    check("healthz", &recorded(), "");
    check("unready", &connected(), "");
    check("cluster", &connected(), "");
    check("internal", &recorded(), "");
    check("metrics", &recorded(), "");
    check("jetstream", &streaming(), "");
    check("jetstream_health", &streaming(), "");
    check("jetstream_damaged", &damaged(), "");
    check("jetstream_failing", &failing(), "");
    check("jetstream_metrics", &streaming(), "");
}

fn check(name: &str, server: &Server, base_path: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&path).unwrap();
    let mut actual = String::new();
    for request in expected.lines().filter_map(|line| line.strip_prefix("GET ")) {
        let (path, query) = request.split_once('?').unwrap_or((request, ""));
        let response = respond(server, path, query, base_path);
        writeln!(actual, "GET {request}\n{} {}", response.status, response.content_type).unwrap();
        for (header, value) in response.headers {
            writeln!(actual, "{header}: {value}").unwrap();
        }
        writeln!(actual, "\n{}\n", String::from_utf8(response.body).unwrap()).unwrap();
    }
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        std::fs::write(&path, &actual).unwrap();
    } else {
        assert!(actual == expected, "{name}: response differs, expected\n{expected}\ngot\n{actual}");
    }
}
