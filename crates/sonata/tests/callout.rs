//! Auth callout where it is configured: who is asked about and with what, what an answer grants, and what is no answer. Each
//! scenario runs against the program and, if `SONATA_REFERENCE` names the original server, against that as well.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};
use sonata_jwt::authorization::Response;
use sonata_jwt::claims::Claims;
use sonata_jwt::user::{TimeRange, User};
use sonata_jwt::xkey::Curve;
use support::folder::Folder;
use support::process::{Process, is_ours, programs};
use support::service::{Asked, Service};
use support::wire::Wire;
use support::{PATIENCE, now_s};

const VIOLATION: &str = "-ERR 'Authorization Violation'";

/// Where refusals are told.
const REFUSALS: &str = "$SYS.ACCOUNT.CLIENT.AUTH.ERR";

fn key(kind: KeyPairType, number: u8) -> KeyPair {
    KeyPair::new_from_raw(kind, [number; 32]).unwrap()
}

fn issuer() -> KeyPair {
    key(KeyPairType::Account, 30)
}

/// The service's own curve key.
fn curve() -> Curve {
    Curve::from_random([31; 32])
}

struct World {
    process: Process,
    port: u16,
    _folder: Folder,
}

impl World {
    /// `callout` is added to that block, `more` to the file.
    fn start(program: &Path, callout: &str, more: &str) -> Self {
        let folder = Folder::new();
        let conf = folder.write("x.conf", &conf(callout, more));
        let process = Process::start(program, &["-D", "-c", conf.to_str().unwrap()]);
        let port = process.port();
        Self { process, port, _folder: folder }
    }

    fn service(&self, respond: impl FnMut(&Asked) -> Option<Vec<u8>> + Send + 'static) -> Service {
        Service::start(Wire::login(self.port, "auth", "pwd"), None, respond)
    }

    /// Connects; what the server says to that is `PONG`, or why not.
    fn enter(&self, connect: &Value) -> (Wire, String) {
        let mut wire = Wire::connect(self.port);
        let mut all = json!({"verbose": false});
        all.as_object_mut().unwrap().extend(connect.as_object().unwrap().clone());
        wire.send(&format!("CONNECT {all}\r\nPING\r\n"));
        let said = wire.line();
        (wire, said)
    }

    fn user(&self, name: &str) -> (Wire, String) {
        self.enter(&json!({"user": name, "pass": "pwd"}))
    }

    fn member(&self, name: &str) -> Wire {
        let (wire, said) = self.user(name);
        assert_eq!(said, "PONG", "{name}");
        wire
    }

    /// Somebody in the service's account who hears of refusals.
    fn listener(&self) -> Wire {
        let mut wire = Wire::login(self.port, "auth", "pwd");
        wire.send(&format!("SUB {REFUSALS} 1\r\n"));
        wire.flush();
        wire
    }
}

fn conf(callout: &str, more: &str) -> String {
    let issuer = issuer().public_key();
    format!(
        "listen: \"127.0.0.1:-1\"
server_name: A
server_tags: [\"a:b\"]
accounts {{
  AUTH {{ users: [ {{ user: auth, password: pwd }} ] }}
  APP {{ users: [ {{ user: app, password: pwd }}, {{ user: far, password: pwd, proxy_required: true }} ] }}
  SMALL {{ users: [ {{ user: small, password: pwd }} ], limits {{ max_connections: 1 }} }}
  SYS {{ users: [ {{ user: sys, password: pwd }} ] }}
}}
system_account: SYS
authorization {{
  timeout: 2
  auth_callout {{ issuer: {issuer}, account: AUTH, auth_users: [ auth, sys ]
    {callout} }}
}}
{more}
"
    )
}

fn reason(wire: &mut Wire) -> String {
    let message = wire.message().unwrap();
    let told: Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(told["client"]["acc"], "AUTH", "{told}");
    told["reason"].as_str().unwrap().to_owned()
}

/// Lets everybody into an account.
fn into(account: &'static str) -> impl Fn(&Asked) -> Option<Vec<u8>> {
    move |asked| Some(asked.grant(&issuer(), |user| user.data.audience = account.into(), |_| {}))
}

/// What a member learns of itself.
fn user_info(wire: &mut Wire) -> Value {
    wire.send("SUB _INBOX.i 77\r\nUNSUB 77 1\r\nPUB $SYS.REQ.USER.INFO _INBOX.i 0\r\n\r\n");
    let told: Value = serde_json::from_slice(&wire.message().unwrap().payload).unwrap();
    told["data"].clone()
}

/// Who is asked about, and what the service is told.
#[test]
fn questions() {
    for program in programs() {
        let world = World::start(&program, "", "no_auth_user: app");
        let service = world.service(into("APP"));

        let everything = json!({"user": "bob", "pass": "x", "auth_token": "t", "name": "n", "lang": "l",
            "version": "1.2.3", "jwt": "eyJ", "protocol": 0});
        let (mut wire, said) = world.enter(&everything);
        assert_eq!(said, "PONG", "{program:?}");
        assert_eq!(user_info(&mut wire)["account"], "APP");
        let claims = service.asked().claims;
        let server_id = wire.info["server_id"].as_str().unwrap();
        assert_eq!((&*claims.data.issuer, &*claims.data.audience), (server_id, "nats-authorization-request"));
        assert_eq!(claims.data.subject, issuer().public_key());
        assert!((0..=2).contains(&(claims.data.expires - claims.data.issued_at)));
        let request = serde_json::to_value(&claims.nats).unwrap();
        let user_nkey = request["user_nkey"].as_str().unwrap();
        assert!(user_nkey.starts_with('U') && user_nkey.len() == 56);
        let expected = json!({
            "server_id": {"name": "A", "host": "127.0.0.1", "id": server_id, "version": "2.15.1", "tags": ["a:b"]},
            "user_nkey": user_nkey,
            "client_info": {"host": "127.0.0.1", "id": wire.info["client_id"], "user": "bob", "name": "n",
                "kind": "Client", "type": "nats"},
            "connect_opts": {"auth_token": "t", "user": "bob", "pass": "x", "name": "n", "lang": "l",
                "version": "1.2.3", "protocol": 0},
            "type": "authorization_request", "version": 2,
        });
        assert_eq!(request, expected, "{program:?}");

        // A token is for the service alone; whoever presents nothing is the user for that.
        let cases = [
            (json!({"auth_token": "t"}), json!({"user": "[REDACTED]"}), json!({"auth_token": "t"})),
            (json!({}), json!({"user": "app"}), json!({"user": "app", "pass": "pwd"})),
            (
                json!({"user": "app", "pass": "wrong"}),
                json!({"user": "app"}),
                json!({"user": "app", "pass": "wrong"}),
            ),
        ];
        for (connect, info, told) in cases {
            assert_eq!(world.enter(&connect).1, "PONG", "{connect} {program:?}");
            let request = serde_json::to_value(service.asked().claims.nats).unwrap();
            assert_eq!(request["client_info"]["user"], info["user"], "{connect} {program:?}");
            for (name, value) in told.as_object().unwrap() {
                assert_eq!(&request["connect_opts"][name], value, "{connect} {program:?}");
            }
        }

        // The same without a CONNECT.
        let mut wire = Wire::connect(world.port);
        wire.send("PING\r\n");
        assert_eq!(wire.line(), "PONG", "{program:?}");
        assert_eq!(service.asked().user(), "app");
        wire.send("PING\r\n");
        assert_eq!(wire.line(), "PONG", "{program:?}");

        // The service's own users are never asked about, also not with a wrong password; to claim their name beside
        // another does not help.
        let mut listener = world.listener();
        world.member("sys");
        assert_eq!(world.enter(&json!({"user": "auth", "pass": "x"})).1, VIOLATION);
        assert_eq!(reason(&mut listener), "Authentication Failure");
        assert_eq!(service.count(), 0, "{program:?}");
        assert_eq!(world.enter(&json!({"user": "x", "nkey": "auth"})).1, "PONG");
        assert_eq!(service.asked().user(), "x");
    }
}

/// What is signed is told with what was to be signed.
#[test]
fn a_user_with_an_nkey() {
    let nkey = key(KeyPairType::User, 40);
    for program in programs() {
        let folder = Folder::new();
        let text = format!(
            "listen: \"127.0.0.1:-1\"\nauthorization {{ timeout: 2, users: [ {{ user: auth, password: pwd }}, \
             {{ nkey: {} }} ], auth_callout {{ issuer: {}, auth_users: [ auth ] }} }}",
            nkey.public_key(),
            issuer().public_key()
        );
        let conf = folder.write("x.conf", &text);
        let process = Process::start(&program, &["-c", conf.to_str().unwrap()]);
        let world = World { port: process.port(), process, _folder: folder };
        let service = world.service(into("$G"));
        for (signer, signed) in [(&nkey, "well"), (&key(KeyPairType::User, 41), "by another")] {
            let mut wire = Wire::connect(world.port);
            let nonce = wire.info["nonce"].as_str().unwrap().to_owned();
            let sig = BASE64URL_NOPAD.encode(&signer.sign(nonce.as_bytes()).unwrap());
            let connect = json!({"verbose": false, "nkey": nkey.public_key(), "sig": sig});
            wire.send(&format!("CONNECT {connect}\r\nPING\r\n"));
            assert_eq!(wire.line(), "PONG", "{signed} {program:?}");
            let request = service.asked().claims.nats;
            assert_eq!((&request.client.nonce, &request.connect.sig), (&nonce, &sig));
            let info = user_info(&mut wire);
            assert_eq!(info["user"], nkey.public_key());
            // Those in the account of the service may not ask it.
            assert_eq!(
                info["permissions"]["publish"],
                json!({"deny": ["$SYS.REQ.USER.AUTH"]}),
                "{program:?}"
            );
        }
    }
}

/// Users of other accounts are none of the service's business; those whom nobody knows are.
#[test]
fn allowed_accounts() {
    for program in programs() {
        let world = World::start(&program, "allowed_accounts: [ SMALL ]", "");
        let service = world.service(into("SMALL"));
        let mut wire = world.member("app");
        assert_eq!(user_info(&mut wire)["account"], "APP");
        assert_eq!(service.count(), 0, "{program:?}");
        let small = world.member("small");
        assert_eq!(service.asked().user(), "small");
        // Full without having asked.
        assert_eq!(world.user("small").1, "-ERR 'maximum account active connections exceeded'");
        assert_eq!(service.count(), 0, "{program:?}");
        drop(small);
        // Unknown, or with a wrong password.
        for connect in [json!({"user": "who"}), json!({"user": "app", "pass": "x"}), json!({})] {
            let (_, said) = world.enter(&connect);
            assert!(said == "PONG" || said.contains("maximum account"), "{said} {connect} {program:?}");
            service.asked();
        }
    }
}

/// What an answer grants.
#[test]
fn answers() {
    for program in programs() {
        let world = World::start(&program, "", "");
        let service = world.service(|asked| {
            let name = asked.user().to_owned();
            Some(asked.grant(
                &issuer(),
                |user| {
                    user.data.audience = "APP".into();
                    let limits = &mut user.nats.limits;
                    match &*name {
                        "named" => user.data.name = "joe".into(),
                        "careful" => limits.permissions.publish.allow = vec!["$SYS.>".into()],
                        "brief" => user.data.expires = now_s() + 2,
                        "unlimited" => *limits = Default::default(),
                        _ => user.data.audience = "AUTH".into(),
                    }
                },
                |_| {},
            ))
        });
        let mut system = world.member("sys");
        system.send("SUB $SYS.ACCOUNT.APP.CONNECT 1\r\n");
        system.flush();

        let mut wire = world.member("named");
        let info = user_info(&mut wire);
        assert_eq!((&info["user"], &info["account"]), (&json!("joe"), &json!("APP")), "{program:?}");
        assert_eq!(info["permissions"], Value::Null, "{program:?}");
        let event: Value = serde_json::from_slice(&system.message().unwrap().payload).unwrap();
        let client = &event["client"];
        assert_eq!((&client["acc"], &client["user"]), (&json!("APP"), &json!("joe")), "{program:?}");
        assert_eq!((&client["issuer_key"], &client["jwt"]), (&json!("APP"), &Value::Null), "{program:?}");

        let mut wire = world.member("careful");
        let publish = &user_info(&mut wire)["permissions"]["publish"];
        assert_eq!(publish, &json!({"allow": ["$SYS.>"]}), "{program:?}");
        wire.send("PUB b 1\r\nx\r\n");
        assert_eq!(wire.line(), "-ERR 'Permissions Violation for Publish to \"b\"'");

        let mut wire = world.member("unlimited");
        assert_eq!(user_info(&mut wire)["account"], "APP", "no limit where there is none");

        let mut wire = world.member("inside");
        let publish = &user_info(&mut wire)["permissions"]["publish"];
        assert_eq!(publish, &json!({"deny": ["$SYS.REQ.USER.AUTH"]}), "{program:?}");
        wire.send("PUB $SYS.REQ.USER.AUTH 1\r\nx\r\n");
        assert_eq!(wire.line(), "-ERR 'Permissions Violation for Publish to \"$SYS.REQ.USER.AUTH\"'");
        // Nor may the service itself.
        let mut own = world.member("auth");
        own.send("PUB $SYS.REQ.USER.AUTH 1\r\nx\r\n");
        assert!(own.line().contains("Permissions Violation"), "{program:?}");

        let mut wire = world.member("brief");
        let expires = user_info(&mut wire)["expires"].as_u64().unwrap();
        assert!(expires <= 2_000_000_000, "{expires}");
        assert_eq!(wire.line(), "-ERR 'User Authentication Expired'", "{program:?}");
        assert_eq!(wire.end(), "");
        assert_eq!(service.count(), 5, "{program:?}");
    }
}

/// What lets nobody in, and how the service's account hears of it.
#[test]
fn refusals() {
    let stranger = || key(KeyPairType::Account, 50);
    let granted = |asked: &Asked, change: &dyn Fn(&mut Claims<User>)| {
        let change = |user: &mut Claims<User>| {
            user.data.audience = "APP".into();
            change(user);
        };
        asked.grant(&issuer(), change, |_| {})
    };
    let responded = |asked: &Asked, change: &dyn Fn(&mut Claims<Response>)| {
        asked.grant(&issuer(), |user| user.data.audience = "APP".into(), |response| change(response))
    };
    let other_user = key(KeyPairType::User, 51).public_key();
    let other_server = key(KeyPairType::Server, 52).public_key();
    let on_the_account = "on account \"AUTH\"";
    let cases: Vec<(&str, String)> = vec![
        ("empty", format!("Auth callout violation: \"no reason supplied\" {on_the_account}")),
        ("why", "Auth callout service returned an error: not today".into()),
        ("garbage", "Expected 3 chunks".into()),
        ("both", "Authorization response had validation errors: Only Error or Jwt can be set".into()),
        ("nothing", "Authorization response had validation errors: Error or Jwt is required".into()),
        ("old_response", "Authorization response had validation errors: claim is expired".into()),
        (
            "to_nobody",
            "Authorization response had validation errors: Audience must be a server public key".into(),
        ),
        ("to_another", "Auth callout violation: auth callout response is not for server".into()),
        ("about_another", "Auth callout violation: auth callout response is not for expected user".into()),
        ("by_stranger", "Auth callout signing key is unknown".into()),
        ("refused_by_stranger", "Auth callout signing key is unknown".into()),
        (
            "stranger_s_user",
            format!(
                "Wrong issuer for auth callout response {on_the_account}, expected {:?} got {:?}",
                issuer().public_key(),
                stranger().public_key()
            ),
        ),
        ("other_user", format!("but got {other_user:?} {on_the_account}")),
        ("old_user", "Error validating user JWT: claim is expired".into()),
        ("early_user", "Error validating user JWT: claim is not yet valid".into()),
        ("bad_subject", "Error validating user JWT: subject \"a..b\" cannot contain consecutive `.`".into()),
        ("proxy", "Proxy connection required".into()),
        ("far", "Proxy connection required".into()),
        (
            "nowhere",
            format!(
                "No valid account \"NOWHERE\" for auth callout response {on_the_account}: account missing"
            ),
        ),
        (
            "issuer_account",
            "Error non operator mode account \"AUTH\": attempted to use issuer_account".into(),
        ),
        ("hours", "Authorized user on account \"AUTH\" outside of valid connect times".into()),
        ("pigeon", "Authorized user on account \"AUTH\" using invalid connection type".into()),
        ("silent", String::new()),
    ];
    for program in programs() {
        let world = World::start(&program, "", "");
        let (other_user, other_server) = (other_user.clone(), other_server.clone());
        let _service = world.service(move |asked| {
            Some(match asked.user() {
                "empty" => Vec::new(),
                "why" => asked.refuse(&issuer(), "not today"),
                "garbage" => b"hello".to_vec(),
                "both" => responded(asked, &|response| response.nats.error = "x".into()),
                "nothing" => asked.respond(&issuer(), |_| {}),
                "old_response" => responded(asked, &|response| response.data.expires = now_s() - 10),
                "to_nobody" => responded(asked, &|response| response.data.audience = "A".into()),
                "to_another" => responded(asked, &|response| response.data.audience = other_server.clone()),
                "about_another" => responded(asked, &|response| response.data.subject = other_user.clone()),
                "by_stranger" => {
                    let jwt = String::from_utf8(granted(asked, &|_| {})).unwrap();
                    let jwt = sonata_jwt::token::decode::<Response>(&jwt).unwrap().nats.jwt;
                    asked.respond(&stranger(), |response| response.nats.jwt = jwt)
                }
                "refused_by_stranger" => asked.refuse(&stranger(), "no"),
                "stranger_s_user" => {
                    let jwt = asked.grant(&stranger(), |user| user.data.audience = "APP".into(), |_| {});
                    let jwt = String::from_utf8(jwt).unwrap();
                    let jwt = sonata_jwt::token::decode::<Response>(&jwt).unwrap().nats.jwt;
                    asked.respond(&issuer(), |response| response.nats.jwt = jwt)
                }
                "other_user" => granted(asked, &|user| user.data.subject = other_user.clone()),
                "old_user" => granted(asked, &|user| user.data.expires = now_s() - 10),
                "early_user" => granted(asked, &|user| user.data.not_before = now_s() + 1000),
                "bad_subject" => granted(asked, &|user| {
                    user.nats.limits.permissions.publish.allow = vec!["a..b".into()];
                }),
                "proxy" => granted(asked, &|user| user.nats.limits.proxy_required = true),
                "nowhere" => granted(asked, &|user| user.data.audience = "NOWHERE".into()),
                "issuer_account" => granted(asked, &|user| user.nats.issuer_account = issuer().public_key()),
                "hours" => granted(asked, &|user| {
                    let hour = now_s() / 3600 % 24;
                    let clock = |hour: i64| format!("{:02}:00:00", hour % 24);
                    user.nats.limits.times = vec![TimeRange { start: clock(hour + 2), end: clock(hour + 3) }];
                    user.nats.limits.location = "UTC".into();
                }),
                "pigeon" => granted(asked, &|user| {
                    user.nats.limits.allowed_connection_types = vec!["PIGEON".into()];
                }),
                "silent" => return None,
                _ => granted(asked, &|_| {}),
            })
        });
        let mut listener = world.listener();
        for (name, expected) in &cases {
            let (mut wire, said) = world.user(name);
            assert_eq!(said, VIOLATION, "{name} {program:?}");
            assert_eq!(wire.end(), "", "{name} {program:?}");
            let told = reason(&mut listener);
            let fits = if expected.is_empty() { told.is_empty() } else { told.ends_with(expected) };
            assert!(fits, "{name} {program:?}: {told}");
        }
        // After all that it goes on.
        drop(world.member("anybody"));
        world.process.wait_for("Auth callout service returned an error: not today");
    }
}

/// Whoever is refused leaves the account that it would have been in without the service.
#[test]
fn events_of_refusals() {
    for program in programs() {
        let world = World::start(&program, "", "");
        let _service = world.service(|asked| Some(asked.refuse(&issuer(), "no")));
        let mut system = world.member("sys");
        system.send("SUB $SYS.ACCOUNT.*.DISCONNECT 1\r\nSUB $SYS.SERVER.*.CLIENT.AUTH.ERR 2\r\n");
        system.flush();
        for (user, account) in [("app", "APP"), ("nobody", "$G")] {
            assert_eq!(world.user(user).1, VIOLATION, "{user} {program:?}");
            for _ in 0..2 {
                let message = system.message().unwrap();
                let told: Value = serde_json::from_slice(&message.payload).unwrap();
                let subject = &message.subject;
                assert_eq!(told["reason"], "Authentication Failure", "{subject} {user} {program:?}");
                assert_eq!(told["client"]["user"], user, "{subject} {program:?}");
                assert_eq!(told["client"]["acc"], account, "{subject} {user} {program:?}");
                let is_refusal = subject.ends_with(".CLIENT.AUTH.ERR");
                assert!(is_refusal || *subject == format!("$SYS.ACCOUNT.{account}.DISCONNECT"), "{subject}");
            }
        }
    }
}

/// Questions that only the service can read; it may answer in the same way.
#[test]
fn sealed() {
    for program in programs() {
        let world = World::start(&program, &format!("xkey: {}", curve().public_key()), "");
        let (wire, _) = world.enter(&json!({"user": "auth", "pass": "pwd", "headers": true}));
        let service = Service::start(wire, Some(curve()), |asked| {
            let user =
                |asked: &Asked| asked.grant(&issuer(), |user| user.data.audience = "APP".into(), |_| {});
            let server = asked.xkey.as_deref().unwrap();
            Some(match asked.user() {
                "open" => user(asked),
                "another" => Curve::from_random([9; 32]).seal(&user(asked), server, [1; 24]).unwrap(),
                "cut" => curve().seal(&user(asked), server, [2; 24]).unwrap()[..40].to_vec(),
                "refused" => curve().seal(&asked.refuse(&issuer(), "no"), server, [3; 24]).unwrap(),
                "nonsense" => curve().seal(b"hello", server, [4; 24]).unwrap(),
                _ => curve().seal(&user(asked), server, [5; 24]).unwrap(),
            })
        });
        let mut listener = world.listener();
        let (mut wire, said) = world.user("sealed");
        assert_eq!(said, "PONG", "{program:?}");
        assert_eq!(user_info(&mut wire)["account"], "APP");
        let asked = service.asked();
        assert_eq!(asked.xkey.as_deref(), wire.info["xkey"].as_str());
        assert_eq!(Some(&*asked.claims.nats.server.xkey), wire.info["xkey"].as_str());
        world.member("open");
        for (name, expected) in [
            ("another", "Error decrypting auth callout response on account \"AUTH\""),
            ("cut", "Error decrypting auth callout response on account \"AUTH\""),
            ("refused", "Auth callout service returned an error: no"),
            ("nonsense", "Expected 3 chunks"),
        ] {
            assert_eq!(world.user(name).1, VIOLATION, "{name} {program:?}");
            let told = reason(&mut listener);
            assert!(told.starts_with(expected), "{name} {program:?}: {told}");
        }
    }
}

/// Where nobody answers, those who wait are refused in time, and nobody else notices.
#[test]
fn nobody_answers() {
    for program in programs() {
        let world = World::start(&program, "", "");
        let mut own = world.member("auth");
        let began = Instant::now();
        let mut waiting = Wire::connect(world.port);
        waiting.send("CONNECT {\"user\":\"x\"}\r\nPING\r\n");
        own.send("SUB a 1\r\nPUB a 1\r\nx\r\n");
        assert_eq!(own.message().unwrap().payload, b"x");
        assert!(began.elapsed() < Duration::from_secs(2), "nobody waits for those who wait");
        assert_eq!(waiting.line(), VIOLATION, "{program:?}");
        let took = began.elapsed();
        assert!((1900..10_000).contains(&took.as_millis()), "{took:?} {program:?}");
        world.process.wait_for("Authorization callout response not received in time on account \"AUTH\"");
    }
}

/// A service that cannot come in is never heard; the log says so at the start.
#[test]
fn a_service_that_cannot_come_in() {
    for program in programs() {
        let folder = Folder::new();
        let text = format!(
            "listen: \"127.0.0.1:-1\"\nauthorization {{ timeout: 0.3, users: [ {{ user: a, password: b }} ], auth_callout {{ \
             issuer: {}, account: NOWHERE, auth_users: [ nobody ] }} }}",
            issuer().public_key()
        );
        let conf = folder.write("x.conf", &text);
        let process = Process::start(&program, &["-c", conf.to_str().unwrap()]);
        let world = World { port: process.port(), process, _folder: folder };
        if is_ours(&program) {
            // The original looks before it has a log.
            world.process.wait_for("Authorization callout account \"NOWHERE\" not valid");
            world.process.wait_for("Authorization callout user \"nobody\" not valid");
        }
        for user in ["a", "nobody", "x"] {
            assert_eq!(world.enter(&json!({"user": user, "pass": "b"})).1, VIOLATION, "{user} {program:?}");
        }
        world.process.wait_for("No valid account \"NOWHERE\" for auth callout request: account missing");
    }
}

/// The first answer counts, and after it, or when the time is over, nobody listens any more.
#[test]
fn nobody_listens_to_a_second_answer() {
    for program in programs() {
        let world = World::start(&program, "", "");
        let service = json!({"user": "auth", "pass": "pwd", "headers": true, "no_responders": true});
        let (mut own, _) = world.enter(&service);
        own.send("SUB $SYS.REQ.USER.AUTH 1\r\nSUB _INBOX.s 2\r\n");
        own.flush();
        for answers in [true, false] {
            let mut client = Wire::connect(world.port);
            client.send("CONNECT {\"user\":\"x\",\"verbose\":false}\r\nPING\r\n");
            let question = own.message().unwrap();
            if answers {
                own.publish(&question.reply, b"");
            }
            assert_eq!(client.line(), VIOLATION, "{program:?}");
            own.publish(&format!("{} _INBOX.s", question.reply), b"");
            let told = own.message().unwrap();
            assert!(told.headers.starts_with(b"NATS/1.0 503"), "{answers} {program:?}: {told:?}");
        }
    }
}

/// What is shown in a TLS handshake, up to the authority that vouches for it.
#[test]
fn certificates() {
    let issue = |name: &str, is_ca: bool, issuer: Option<&CertifiedIssuer<'static, rcgen::KeyPair>>| {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        match issuer {
            Some(issuer) => CertifiedIssuer::signed_by(params, key, issuer).unwrap(),
            None => CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    };
    let root = issue("root", true, None);
    let middle = issue("middle", true, Some(&root));
    let server = issue("server", false, Some(&root));
    let client = issue("client", false, Some(&middle));
    let folder = Folder::new();
    let files = [
        ("cert_file", folder.write("server.pem", &server.pem())),
        ("key_file", folder.write("server.key", &server.key().serialize_pem())),
        ("ca_file", folder.write("root.pem", &root.pem())),
    ];
    let files: String = files.iter().map(|(name, path)| format!("{name}: {path:?}, ")).collect();
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    };
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![client.der().clone(), middle.der().clone()],
            PrivatePkcs8KeyDer::from(client.key().serialize_der()).into(),
        )
        .unwrap();
    let config = Arc::new(config);
    let lines = |pem: String| pem.lines().map(str::to_owned).collect::<Vec<_>>();
    for (program, verify) in programs().iter().flat_map(|program| [(program, true), (program, false)]) {
        let tls = format!("tls {{ {files} verify: {verify}, timeout: 10 }}\nallow_non_tls: true");
        let world = World::start(program, "", &tls);
        let service = world.service(into("APP"));
        let mut stream = TcpStream::connect(("127.0.0.1", world.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        while byte != *b"\n" {
            stream.read_exact(&mut byte).unwrap();
        }
        let mut session = ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
        let mut encrypted = rustls::Stream::new(&mut session, &mut stream);
        encrypted.write_all(b"CONNECT {\"verbose\":false,\"user\":\"x\"}\r\nPING\r\n").unwrap();
        let mut said = [0; 6];
        encrypted.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"PONG\r\n", "{program:?}");
        let tls = service.asked().claims.nats.tls.unwrap();
        assert_eq!((&*tls.version, &*tls.cipher), ("1.3", "TLS_AES_128_GCM_SHA256"), "{program:?}");
        assert!(tls.certs.is_empty());
        let expected: Vec<_> = [client.pem(), middle.pem(), root.pem()].into_iter().map(lines).collect();
        let chains: Vec<Vec<_>> =
            tls.verified_chains.into_iter().map(|chain| chain.into_iter().map(lines).collect()).collect();
        assert_eq!(chains, if verify { vec![expected] } else { Vec::new() }, "{program:?}");
    }
}
