//! Security advisories of the original and defects that were found in it, each as a test with its name.
//!
//! Where an advisory can be shown on the wire it is a script in `crates/wire/scripts/advisories`, which the original answers
//! as well. What concerns connections that there are none of yet (MQTT: 2026-05, 06, 07, 21, 22, 25, 26; WebSocket: 02, 03, 11,
//! 27; leaf nodes: 04, 08, 10, 19, 20; routes: 16) comes with them. Elsewhere are:
//!
//! * 2026-01 (the TLS library of Go) is of no concern here; 2026-09, 12, 15, 17, 18, 24, 28 and CVE-2025-30215 (accounts that
//!   meddle with others' streams): `crates/wire/scripts/advisories`;
//! * 2026-13 (names in certificates): `crates/auth/tests/certificates.rs`, with `multivalue.pem` and `repeated.pem`;
//! * 2026-23 (an issuer that is too short): `an_issuer_that_is_too_short` in `crates/jwt/tests/hostile.rs`;
//! * #6888 (a stream is gone after `kill -9`), #7564 (acknowledged before it was synced): `durability.rs` and `syncs.rs` here;
//! * #7594, #7676, #8042, #8447, #8456, #8475 (syncs left out, purges and compactions half done):
//!   `what_was_promised_is_so_wherever_it_stops` in `crates/server/tests/crash.rs`, `every_crash_point` in
//!   `crates/store/tests/crash.rs` and `nothing_acknowledged_is_lost_wherever_it_stops` in `crates/journal/tests/crash.rs`;
//! * #7620 (a log that does not join the snapshot): `a_missing_file_is_damage_and_the_rest_is_read` in
//!   `crates/journal/tests/crash.rs`;
//! * #7691 (a consumer whose state is zeroed): `every_file_cut_lost_or_stale` in `crates/store/tests/crash.rs` and
//!   `a_damaged_checkpoint_is_made_up_for_by_the_one_before_and_the_journal` in `crates/server/tests/crash.rs`;
//! * #7788 (input and output errors freeze a stream): `a_disk_may_fail_at_any_call` and `a_full_disk_is_got_over` in
//!   `crates/server/tests/crash.rs`;
//! * #8166, #8312, #8365, #8366 (ciphers, keys and compaction of what is encrypted): `crates/store/tests/encryption.rs` and
//!   `encryption.rs` here;
//! * #8491 (a creation that is refused destroys the consumer): `crates/wire/scripts/advisories`.
//!
//! Those of clusters (#7545, #7549 on several servers, #7556, #7567, #7853, #8265, #8321, #8332) come with clusters.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::PATIENCE;
use support::folder::Folder;
use support::process::Process;
use support::wire::Wire;

/// Messages of the stream that is damaged; more than one block of a file holds.
const MESSAGES: u64 = 1000;

/// 2026-14: the command line that `/debug/vars` shows tells nobody the password.
#[test]
fn advisory_2026_14_arguments_show_no_secrets() {
    let reference = std::env::var_os("SONATA_REFERENCE").map(PathBuf::from);
    for program in [Some(PathBuf::from(env!("CARGO_BIN_EXE_sonata"))), reference].into_iter().flatten() {
        for secret in [
            &["--user", "ann", "--pass", "hunter2"][..],
            &["-user=ann", "-pass=hunter2"],
            &["--auth", "hunter2"],
            &["-auth=hunter2"],
        ] {
            let common = ["-a", "127.0.0.1", "-p", "-1", "-m", "-1"];
            let server = Process::start(&program, &[&common, secret].concat());
            let (_, page) = get(server.monitor_port(), "/debug/vars");
            assert!(page.contains("cmdline") && !page.contains("hunter2"), "{program:?} {secret:?}: {page}");
        }
    }
}

/// #7549: one bit in the middle of a stream's file. The original cut away what was behind it without a word, and used the
/// sequences again.
#[test]
fn issue_7549_a_flipped_bit_costs_one_message_and_is_told() {
    let folder = Folder::new();
    fill(&folder);
    let (path, mut bytes) = file_with(&folder.at("store"), b"message 100.");
    let at = bytes.windows(12).position(|window| window == b"message 100.").unwrap();
    bytes[at] ^= 4;
    std::fs::write(path, bytes).unwrap();
    let server = start(&folder);
    let mut client = Wire::login(server.port(), "", "");
    client.send("SUB answers 1\r\n");
    for sequence in 1..=MESSAGES {
        let answer = message(&mut client, sequence);
        assert_eq!(answer["error"].is_null(), sequence != 100, "{sequence}: {answer}");
    }
    let state = state(&mut client);
    assert_eq!((&state["messages"], &state["last_seq"]), (&(MESSAGES - 1).into(), &MESSAGES.into()));
    assert_eq!(state["lost"]["msgs"], serde_json::json!([100]), "{state}");
    let (status, page) = get(server.monitor_port(), "/healthz");
    assert!(status.contains("503"), "{status} {page}");
    let next = request(&mut client, "s", "next");
    assert_eq!(next["seq"], MESSAGES + 1, "no sequence is used twice");
}

/// #7704: a file that ends too early. What is behind the end is lost and counted, and its sequences are not used again.
#[test]
fn issue_7704_a_truncated_file_costs_its_end_and_is_told() {
    let folder = Folder::new();
    fill(&folder);
    let (path, bytes) = file_with(&folder.at("store"), b"message 100.");
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    let server = start(&folder);
    let mut client = Wire::login(server.port(), "", "");
    client.send("SUB answers 1\r\n");
    let readable =
        (1..=MESSAGES).filter(|sequence| message(&mut client, *sequence)["error"].is_null()).count();
    let state = state(&mut client);
    let lost = state["lost"]["msgs"].as_array().map_or(0, Vec::len);
    assert!(readable > 0 && lost > 0, "{state}");
    assert_eq!(readable + lost, MESSAGES as usize, "{state}");
    assert_eq!((&state["messages"], &state["last_seq"]), (&readable.into(), &MESSAGES.into()));
    assert!(get(server.monitor_port(), "/healthz").0.contains("503"));
    assert_eq!(request(&mut client, "s", "next")["seq"], MESSAGES + 1);
}

fn start(folder: &Folder) -> Process {
    let store = folder.at("store");
    let config = format!(
        "listen: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\njetstream {{ store_dir: \"{}\" }}\n",
        store.display()
    );
    Process::with_config(&folder.write("sonata.conf", &config))
}

/// A server makes a stream, and ends.
fn fill(folder: &Folder) {
    let mut server = start(folder);
    let mut client = Wire::login(server.port(), "", "");
    client.send("SUB answers 1\r\n");
    request(&mut client, "$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    for sequence in 1..=MESSAGES {
        let acknowledged = request(&mut client, "s", &format!("message {sequence}. {}", "x".repeat(500)));
        assert_eq!(acknowledged["seq"], sequence);
    }
    drop(client);
    server.signal("term");
    server.wait();
}

/// The file of a stream that holds the text, and its bytes.
fn file_with(store: &Path, text: &[u8]) -> (PathBuf, Vec<u8>) {
    let mut folders = vec![store.join("jetstream").join("streams")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(text.len()).any(|window| window == text) {
                return (path, bytes);
            }
        }
    }
    panic!("no file has it");
}

fn message(client: &mut Wire, sequence: u64) -> Value {
    request(client, "$JS.API.STREAM.MSG.GET.S", &format!("{{\"seq\":{sequence}}}"))
}

fn state(client: &mut Wire) -> Value {
    request(client, "$JS.API.STREAM.INFO.S", "")["state"].clone()
}

/// The answer.
fn request(client: &mut Wire, subject: &str, body: &str) -> Value {
    client.send(&format!("PUB {subject} answers {}\r\n{body}\r\n", body.len()));
    let head = client.line();
    assert!(head.starts_with("MSG answers 1 "), "{head}");
    serde_json::from_str(&client.line()).unwrap()
}

/// The first line and the whole of a page.
fn get(monitor: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", monitor)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text.lines().next().unwrap_or_default().to_owned(), text)
}
