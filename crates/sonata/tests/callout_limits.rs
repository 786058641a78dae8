//! Auth callout and hostile or slow company: floods of clients, answers of every kind, reloads; and where this server keeps
//! what a user's token says though the original does not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};
use support::folder::Folder;
use support::process::Process;
use support::service::{Asked, Service};
use support::wire::Wire;

const VIOLATION: &str = "-ERR 'Authorization Violation'";

/// As many as the server asks about at a time.
const QUESTIONS_MAX: usize = 1024;

fn issuer() -> KeyPair {
    KeyPair::new_from_raw(KeyPairType::Account, [30; 32]).unwrap()
}

struct World {
    process: Process,
    port: u16,
    folder: Folder,
}

fn conf(timeout: u32, users: &str) -> String {
    format!(
        "listen: \"127.0.0.1:-1\"
accounts {{
  AUTH {{ users: [ {{ user: auth, password: pwd }} ] }}
  APP {{ users: [ {users} ] }}
}}
authorization {{
  timeout: {timeout}
  auth_callout {{ issuer: {}, account: AUTH, auth_users: [ auth ] }}
}}
",
        issuer().public_key()
    )
}

impl World {
    fn start(timeout: u32) -> Self {
        let folder = Folder::new();
        let path = folder.write("x.conf", &conf(timeout, ""));
        let process = Process::with_config(&path);
        Self { port: process.port(), process, folder }
    }

    fn service(&self, respond: impl FnMut(&Asked) -> Option<Vec<u8>> + Send + 'static) -> Service {
        Service::start(Wire::login(self.port, "auth", "pwd"), None, respond)
    }

    fn begin(&self, user: &str) -> Wire {
        let mut wire = Wire::connect(self.port);
        wire.send(&format!("CONNECT {}\r\nPING\r\n", json!({"verbose": false, "user": user})));
        wire
    }
}

fn grant(asked: &Asked) -> Vec<u8> {
    asked.grant(&issuer(), |user| user.data.audience = "APP".into(), |_| {})
}

/// A service that is silent, and more clients than may be asked about at a time: the others wait their turn, and have it as
/// soon as those who wait are gone.
#[test]
fn a_flood_waits_its_turn() {
    let world = World::start(60);
    let service = world.service(|asked| (asked.user() == "last").then(|| grant(asked)));
    let waiting: Vec<Wire> = (0..QUESTIONS_MAX + 100).map(|_| world.begin("silent")).collect();
    for _ in 0..QUESTIONS_MAX {
        assert_eq!(service.asked().user(), "silent");
    }
    let mut last = world.begin("last");
    // Whoever is in already notices nothing.
    let mut own = Wire::login(world.port, "auth", "pwd");
    own.send("SUB a 1\r\nPUB a 1\r\nx\r\n");
    assert_eq!(own.message().unwrap().payload, b"x");
    assert_eq!(service.count(), 0, "no more than may be");
    let began = Instant::now();
    drop(waiting);
    assert_eq!(last.line(), "PONG");
    assert!(began.elapsed() < Duration::from_secs(30), "not only when the time is over");
}

/// Who sends something and closes at once has said it: it counts as soon as the service has let the sender in.
#[test]
fn last_words_count() {
    let world = World::start(60);
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let service = world.service(move |asked| {
        if asked.user() == "late" {
            told.recv().unwrap();
        }
        Some(grant(asked))
    });
    let mut listener = world.begin("listener");
    listener.send("SUB a 1\r\nPING\r\n");
    assert_eq!((listener.line(), listener.line()), ("PONG".into(), "PONG".into()));
    service.asked();
    let mut late = world.begin("late");
    late.send("PUB a 4\r\nlast\r\n");
    drop(late);
    tell.send(()).unwrap();
    assert_eq!(listener.message().unwrap().payload, b"last");
}

/// Whatever comes as an answer, nobody is let in by it, and the server goes on.
#[test]
fn hostile_answers() {
    let world = World::start(5);
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let token = |claims: &str| {
        let part = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
        let head = part(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
        format!("{head}.{}.{}", part(claims), part(&"s".repeat(64))).into_bytes()
    };
    let of_depth = move |depth: usize| {
        token(&format!(r#"{{"nats":{{"type":"authorization_response","x":{}}}}}"#, deep(depth)))
    };
    let _service = world.service(move |asked| {
        Some(match asked.user() {
            "bytes" => vec![0xFF; 100],
            "large" => vec![b'e'; 1024 * 1024],
            "dots" => vec![b'.'; 1_000_000],
            "deep" => of_depth(100),
            "deeper" => of_depth(100_000),
            "cut" => grant(asked)[..200].to_vec(),
            "twice" => [grant(asked), grant(asked)].concat(),
            "long" => asked.refuse(&issuer(), &"Ä".repeat(100_000)),
            "changed" => {
                let mut answer = grant(asked);
                let middle = answer.len() / 2;
                answer[middle] ^= 1;
                answer
            }
            _ => grant(asked),
        })
    });
    let mut listener = Wire::login(world.port, "auth", "pwd");
    listener.send("SUB $SYS.ACCOUNT.CLIENT.AUTH.ERR 1\r\n");
    listener.flush();
    for name in ["bytes", "large", "dots", "deep", "deeper", "cut", "twice", "long", "changed"] {
        let mut wire = world.begin(name);
        assert_eq!(wire.line(), VIOLATION, "{name}");
        assert_eq!(wire.end(), "", "{name}");
        let told = listener.message().unwrap().payload;
        assert!(told.len() < 10_000, "{name}: {}", told.len());
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert!(!told["reason"].as_str().unwrap().is_empty(), "{name}");
    }
    assert_eq!(world.begin("good").line(), "PONG");
}

/// What the user's token limits is limited, though the original passes over it.
#[test]
fn limits_of_a_token_hold() {
    let world = World::start(5);
    let _service = world.service(|asked| {
        let name = asked.user().to_owned();
        let change = |user: &mut sonata_jwt::claims::Claims<sonata_jwt::user::User>| {
            user.data.audience = "APP".into();
            let limits = &mut user.nats.limits;
            match &*name {
                "few" => limits.limits.subs = 1,
                "small" => limits.limits.payload = 5,
                "none" => (limits.limits.subs, limits.limits.payload) = (0, 0),
                "elsewhere" => limits.sources = vec!["10.0.0.0/8".into()],
                "here" => limits.sources = vec!["127.0.0.0/8".into()],
                _ => limits.allowed_connection_types = vec!["MQTT".into()],
            }
        };
        Some(asked.grant(&issuer(), change, |_| {}))
    });
    let cases = [
        ("few", "SUB a 1\r\nSUB b 2\r\n", "-ERR 'maximum subscriptions exceeded'"),
        ("small", "PUB a 6\r\n123456\r\n", "-ERR 'Maximum Payload Violation'"),
        ("none", "SUB a 1\r\nSUB b 2\r\nPUB c 6\r\n123456\r\nPING\r\n", "PONG"),
        ("here", "PING\r\n", "PONG"),
    ];
    for (name, sent, expected) in cases {
        let mut wire = world.begin(name);
        assert_eq!(wire.line(), "PONG", "{name}");
        wire.send(sent);
        assert_eq!(wire.line(), expected, "{name}");
    }
    for name in ["elsewhere", "otherwise"] {
        assert_eq!(world.begin(name).line(), VIOLATION, "{name}");
    }
}

/// A reload does not ask again: what the service has said holds until the time it has said, as long as there is the account.
#[test]
fn reloads_keep_whom_the_service_let_in() {
    let world = World::start(5);
    let service = world.service(|asked| Some(grant(asked)));
    let mut own = Wire::login(world.port, "auth", "pwd");
    let mut wire = world.begin("bob");
    assert_eq!(wire.line(), "PONG");
    service.asked();
    let take = |text: &str| {
        world.folder.write("x.conf", text);
        world.process.reload()
    };
    let outcome = take(&conf(5, "{ user: app, password: pwd }"));
    assert!(outcome.contains("Reloaded server config"), "{outcome}");
    wire.flush();
    assert_eq!(service.count(), 0);
    assert_eq!(world.begin("app").line(), "PONG");
    // The service's own user may still not ask the service.
    own.send("PUB $SYS.REQ.USER.AUTH 1\r\nx\r\n");
    assert!(own.line().contains("Permissions Violation"));

    let other = conf(5, "").replace("auth_users: [ auth ]", "auth_users: [ auth, app ]");
    assert!(take(&other).contains("config reload not supported for AuthCallout"));
    let without = conf(5, "").replace("APP", "OTHER");
    assert!(take(&without).contains("Reloaded server config"));
    assert_eq!(wire.line(), "", "its account is gone");
}
