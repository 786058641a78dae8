//! The client machine against scripts: clients named by letters send lines, the hour is moved by hand, and everything
//! that each client receives is recorded. `SONATA_REWRITE=1 cargo test -p sonata-broker` rewrites the records.
//!
//! ```text
//! # comment
//! set max_payload 10        settings before the first client
//! A connect                 a client arrives and gets its INFO (shown as `INFO`)
//! A> PUB foo 5\r\nhello\r\n   bytes from a client, in one piece
//! A>| PU|B foo 0\r\n\r\n      the same, cut at each bar
//! time 5s                   the hour moves on and timers run
//! A stop                    A's socket accepts nothing from now on
//! A go                      and again everything
//! ```
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use sonata_auth::check::{Check, Outcome, SlowCheck};
use sonata_auth::connection_type::ConnectionType;
use sonata_auth::password::Secret;
use sonata_auth::permission::{PermissionRules, Permissions, ResponsePermission, SubjectAccess};
use sonata_auth::user::{Grant, Login, SingleLogin, UserEntry, Users, UsersConfig};
use sonata_broker::client::{Arrival, Client, TlsState};
use sonata_broker::close::CloseReason;
use sonata_broker::connection::{Connection, Port};
use sonata_broker::outbound::Writing;
use sonata_broker::shared::{Level, Log, Settings, Shared};
use sonata_broker::worker::Worker;
use sonata_proto::info::ServerInfo;
use sonata_proto::parse::ParseLimits;

const SECOND: u64 = 1_000_000_000;

#[test]
fn scripts_give_the_recorded_answers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut played_scripts = 0;
    for path in paths {
        let recorded = std::fs::read_to_string(&path).unwrap();
        let mut played = String::new();
        for scenario in recorded.split("\n---\n") {
            if !played.is_empty() {
                played.push_str("---\n");
            }
            played.push_str(&World::default().play(scenario));
            played_scripts += 1;
        }
        if std::env::var_os("SONATA_REWRITE").is_some() {
            std::fs::write(&path, &played).unwrap();
            continue;
        }
        assert_eq!(played, recorded, "{}", path.display());
    }
    assert!(played_scripts >= 20, "only {played_scripts} scripts");
}

/// A redelivery to a consumer that was just leaving failed to be written, and the naks that it had sent before were
/// forgotten: what they were about came again only after the wait for an acknowledgement.
#[test]
fn what_was_said_before_a_failed_write_is_carried_out() {
    let mut world = World::default();
    let mut told = String::new();
    for step in [
        "A connect",
        "B connect",
        r#"A> CONNECT {"verbose":false}\r\n"#,
        r#"B> CONNECT {"verbose":false}\r\nSUB foo 1\r\n"#,
    ] {
        world.step(step);
        world.tell(&mut told);
    }
    told.clear();
    world.peers["A"].client.connection().close(CloseReason::WriteError);
    world.step(r"A> PUB foo 2\r\nhi\r\nPUB foo 2\r\nho\r\n");
    world.tell(&mut told);
    assert!(told.contains("hi") && told.contains("ho"), "{told}");
}

/// A socket that accepts everything, or nothing.
#[derive(Default)]
struct Wire {
    received: Mutex<Vec<u8>>,
    stopped: AtomicBool,
}

struct WirePort(Arc<Wire>);

impl Port for WirePort {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.0.stopped.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut received = self.0.received.lock();
        slices.iter().for_each(|slice| received.extend_from_slice(slice));
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}

struct Quiet;

impl Log for Quiet {
    fn enabled(&self, _: Level) -> bool {
        false
    }

    fn write(&self, _: Level, _: std::fmt::Arguments<'_>) {}
}

struct Peer {
    client: Client,
    wire: Arc<Wire>,
    /// Input that the machine has left over.
    rest: Vec<u8>,
    told_closed: bool,
}

#[derive(Default)]
struct World {
    settings: BTreeMap<String, String>,
    shared: Option<Arc<Shared>>,
    peers: BTreeMap<String, Peer>,
    now_ns: u64,
    worker: Option<Worker>,
}

impl World {
    fn play(mut self, scenario: &str) -> String {
        self.now_ns = SECOND;
        let mut told = String::new();
        for line in scenario.lines() {
            if line.starts_with("  ") {
                continue;
            }
            writeln!(told, "{line}").unwrap();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            self.step(line);
            self.tell(&mut told);
        }
        told
    }

    fn step(&mut self, line: &str) {
        let (head, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(name) = head.strip_suffix(">|") {
            rest.split('|').for_each(|piece| self.send(name, &unescape(piece)));
        } else if let Some(name) = head.strip_suffix('>') {
            self.send(name, &unescape(rest));
        } else if head == "set" {
            let (key, value) = rest.split_once(' ').unwrap_or((rest, "yes"));
            self.settings.insert(key.into(), value.into());
        } else if head == "time" {
            self.now_ns += rest.strip_suffix('s').unwrap().parse::<u64>().unwrap() * SECOND;
            let worker = self.worker.as_mut().unwrap();
            for peer in self.peers.values_mut() {
                while peer.client.next_timer_ns() <= self.now_ns && !peer.client.is_closed() {
                    peer.client.on_timer(worker, self.now_ns);
                }
            }
            worker.flush(self.now_ns);
        } else {
            match rest {
                "connect" => self.connect(head),
                "stop" => self.peers[head].wire.stopped.store(true, Ordering::Relaxed),
                "go" => {
                    self.peers[head].wire.stopped.store(false, Ordering::Relaxed);
                    self.peers[head].client.connection().resume(&mut Writing::default(), self.now_ns);
                }
                other => panic!("unknown step {other:?}"),
            }
        }
    }

    fn connect(&mut self, name: &str) {
        let shared = self.shared.get_or_insert_with(|| {
            let shared = Shared::new(settings(&self.settings), Box::new(Quiet), 1);
            for account in ["$G", "$SYS", "one", "two"] {
                shared.accounts.find_or_create(account, 0);
            }
            shared
        });
        self.worker.get_or_insert_with(|| Worker::new(1));
        let wire = Arc::new(Wire::default());
        let connection = Connection::new(
            self.peers.len() as u64 + 1,
            Some("10.0.0.1:1234".parse().unwrap()),
            self.now_ns,
            shared.settings().pending_bytes_max,
            shared.pool.clone(),
            Box::new(WirePort(wire.clone())),
        );
        let arrival = Arrival {
            connection_type: ConnectionType::Standard,
            nonce: "".into(),
            certificate: None,
            tls: TlsState::AsConfigured,
        };
        let client = Client::new(shared.clone(), connection.clone(), arrival, self.now_ns);
        connection.send_now(&client.greeting(true), self.now_ns);
        self.peers.insert(name.into(), Peer { client, wire, rest: Vec::new(), told_closed: false });
    }

    /// What a server's task does with bytes that arrive.
    fn send(&mut self, name: &str, bytes: &[u8]) {
        let worker = self.worker.as_mut().unwrap();
        let peer = self.peers.get_mut(name).unwrap();
        peer.rest.extend_from_slice(bytes);
        loop {
            let received = peer.client.receive(worker, &peer.rest, self.now_ns);
            worker.flush(self.now_ns);
            peer.rest.drain(..received.consumed);
            if let Some(check) = received.slow_check {
                peer.client.finish_check(worker, outcome(check), self.now_ns);
                worker.flush(self.now_ns);
            }
            if received.bytes_needed > 0 || peer.client.is_closed() {
                return;
            }
        }
    }

    fn tell(&mut self, told: &mut String) {
        let worker = self.worker.as_mut();
        let Some(worker) = worker else { return };
        for (name, peer) in &mut self.peers {
            let reason = peer.client.connection().close_reason().filter(|_| !peer.told_closed);
            if let Some(reason) = reason {
                peer.client.connection().finish(&mut Writing::default(), reason.flushes());
                peer.client.leave(worker);
            }
            let received = std::mem::take(&mut *peer.wire.received.lock());
            for line in received.split_inclusive(|byte| *byte == b'\n') {
                if line.starts_with(b"INFO ") {
                    let interesting = ["connect_info", "remote_account", "acc_is_sys", "ldm"];
                    let text = String::from_utf8_lossy(line);
                    let fields: Vec<&str> = interesting
                        .into_iter()
                        .filter(|field| text.contains(&format!("\"{field}\"")))
                        .collect();
                    writeln!(
                        told,
                        "  {name}< {}",
                        ["INFO"].into_iter().chain(fields).collect::<Vec<_>>().join(" ")
                    )
                    .unwrap();
                } else {
                    writeln!(told, "  {name}< {}", line.escape_ascii()).unwrap();
                }
            }
            if let Some(reason) = reason {
                writeln!(told, "  {name} closed: {reason}").unwrap();
                peer.told_closed = true;
            }
        }
    }
}

fn settings(said: &BTreeMap<String, String>) -> Settings {
    let number = |key: &str| said.get(key).map(|value| value.parse::<usize>().unwrap());
    let mut config = UsersConfig {
        login: Login { no_auth_user: said.get("no_auth_user").cloned(), single: None },
        ..UsersConfig::default()
    };
    if let Some(token) = said.get("token") {
        config.login.single = Some(SingleLogin::Token(Secret::new(token.as_str())));
    }
    // `user.<name> <password> [account]`, `publish.<name> a,-b`, `subscribe.<name> a,-b`, `responses.<name> max`
    for (key, value) in said {
        let Some(name) = key.strip_prefix("user.") else { continue };
        let (password, account) = value.split_once(' ').map_or((value.as_str(), None), |(p, a)| (p, Some(a)));
        let access = |kind: &str| {
            said.get(&format!("{kind}.{name}")).map(|list| {
                let (deny, allow): (Vec<&str>, Vec<&str>) = list.split(',').partition(|s| s.starts_with('-'));
                SubjectAccess {
                    allow: allow.iter().map(|subject| (*subject).into()).collect(),
                    deny: deny.iter().map(|subject| subject[1..].into()).collect(),
                }
            })
        };
        let responses = said
            .get(&format!("responses.{name}"))
            .map(|max| ResponsePermission { max: max.parse().unwrap(), ttl_ns: 0 });
        let rules = PermissionRules {
            publish: access("publish"),
            subscribe: access("subscribe"),
            allow_responses: responses,
        };
        config.users.push(UserEntry {
            name: name.into(),
            password: Secret::new(password),
            grant: Grant {
                account: account.map(Arc::from),
                permissions: Some(Arc::new(Permissions::new(rules).unwrap())),
                ..Grant::default()
            },
        });
    }
    Settings {
        info: ServerInfo::default(),
        users: Users::new(config),
        parse: ParseLimits {
            control_line_bytes_max: number("max_control_line").unwrap_or(4096),
            payload_bytes_max: Some(number("max_payload").unwrap_or(1024 * 1024)),
            headers: !said.contains_key("no_header_support"),
        },
        pending_bytes_max: number("max_pending").unwrap_or(64 * 1024 * 1024),
        subscriptions_max: number("max_subscriptions"),
        subject_tokens_max: number("max_sub_tokens"),
        ping_interval_ns: number("ping_interval").unwrap_or(120) as u64 * SECOND,
        pings_unanswered_max: number("ping_max").unwrap_or(2) as u32,
        auth_timeout_ns: 2 * SECOND,
        stall_producers: !said.contains_key("no_fast_producer_stall"),
        system_account: "$SYS".into(),
        traced_bytes_max: 0,
        trace_headers: false,
        authorization_version: 0,
    }
}

/// Does the work of a check. Nobody is asked here.
fn outcome(check: SlowCheck) -> Outcome {
    let (SlowCheck::Compute(work) | SlowCheck::Find(work)) = check else { panic!("{check:?}") };
    match work() {
        Check::Decided(outcome) => outcome,
        Check::Slow(check) => outcome(check),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (_, false) => byte,
            _ => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                other => panic!("unknown escape {other}"),
            },
        });
    }
    bytes
}
