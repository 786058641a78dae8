//! Operators, accounts and users by tokens: who comes in, what they may do, and how they go. Each scenario runs against the
//! program and, if `SONATA_REFERENCE` names the original server, against that as well.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../ocsp/tests/support/authority.rs"]
mod authority;
mod support;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use authority::{Authority, Issued, Use};
use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};
use sonata_jwt::account::{Account, UserScope};
use sonata_jwt::activation::Activation;
use sonata_jwt::claims::{Claims, Generic};
use sonata_jwt::limits::{JetStreamLimits, NatsLimits, OperatorLimits};
use sonata_jwt::operator::Operator;
use sonata_jwt::share::{Export, Import, ShareKind};
use sonata_jwt::token::encode;
use sonata_jwt::user::{TimeRange, User, UserLimits};
use support::folder::Folder;
use support::process::{Process, SONATA, is_ours, programs};
use support::wire::Wire;
use support::{PATIENCE, now_s};

const VIOLATION: &str = "-ERR 'Authorization Violation'";

fn key(kind: KeyPairType, number: u8) -> KeyPair {
    KeyPair::new_from_raw(kind, [number; 32]).unwrap()
}

fn operator() -> KeyPair {
    key(KeyPairType::Operator, 1)
}

fn account(number: u8) -> KeyPair {
    key(KeyPairType::Account, number)
}

fn user() -> KeyPair {
    key(KeyPairType::User, 9)
}

const SYSTEM: u8 = 2;
const MAIN: u8 = 3;

fn operator_token() -> String {
    let mut claims = Claims::<Operator>::about(operator().public_key());
    claims.nats.system_account = account(SYSTEM).public_key();
    encode(claims, &operator(), now_s() - 100).unwrap()
}

/// An account without limits, changed.
fn account_claims(number: u8, change: impl FnOnce(&mut Claims<Account>)) -> Claims<Account> {
    let mut claims = Claims::<Account>::about(account(number).public_key());
    claims.nats.limits = OperatorLimits::unlimited();
    change(&mut claims);
    claims
}

fn account_token(number: u8, change: impl FnOnce(&mut Claims<Account>)) -> String {
    encode(account_claims(number, change), &operator(), now_s() - 100).unwrap()
}

/// A user without limits, changed, signed by an account or one of its keys.
fn user_token(signer: &KeyPair, change: impl FnOnce(&mut Claims<User>)) -> String {
    let mut claims = Claims::<User>::about(user().public_key());
    claims.nats.limits = UserLimits::unlimited();
    change(&mut claims);
    encode(claims, signer, now_s() - 100).unwrap()
}

fn plain_user(number: u8) -> String {
    user_token(&account(number), |_| {})
}

struct World {
    process: Process,
    port: u16,
    folder: Folder,
}

impl World {
    fn start(program: &Path, more: &str) -> Self {
        let folder = Folder::new();
        let conf = folder.write(
            "x.conf",
            &format!(
                "listen: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\noperator: {}\n{more}",
                operator_token()
            ),
        );
        let process = Process::start(program, &["-D", "-c", conf.to_str().unwrap()]);
        let port = process.port();
        Self { process, port, folder }
    }

    /// With tokens of accounts in the configuration.
    fn with_accounts(program: &Path, tokens: &[(u8, String)], more: &str) -> Self {
        let preload = preload(tokens);
        Self::start(program, &format!("resolver: MEMORY\n{preload}\n{more}"))
    }

    /// With a directory for accounts, and what else is configured.
    fn with_directory(program: &Path, tokens: &[(u8, String)], more: &str) -> Self {
        let folder = Folder::new();
        let resolver = format!(
            "resolver {{ type: full, dir: {:?}, allow_delete: true, interval: \"2m\" }}",
            folder.at("accounts")
        );
        let mut world = Self::start(program, &format!("{resolver}\n{}\n{more}", preload(tokens)));
        world.folder = folder;
        world
    }

    fn enter(&self, token: &str) -> (Wire, String) {
        self.enter_as(token, Some(&user()))
    }

    /// Connects; what the server says to that is `PONG`, or why not.
    fn enter_as(&self, token: &str, signer: Option<&KeyPair>) -> (Wire, String) {
        let mut wire = Wire::connect(self.port);
        let nonce = wire.info["nonce"].as_str().unwrap_or_default().to_owned();
        let mut connect = json!({"verbose": false, "pedantic": false});
        if !token.is_empty() {
            connect["jwt"] = token.into();
        }
        if let Some(signer) = signer {
            connect["sig"] = BASE64URL_NOPAD.encode(&signer.sign(nonce.as_bytes()).unwrap()).into();
        }
        wire.send(&format!("CONNECT {connect}\r\nPING\r\n"));
        let said = wire.line();
        (wire, said)
    }

    fn member(&self, token: &str) -> Wire {
        let (wire, said) = self.enter(token);
        assert_eq!(said, "PONG");
        wire
    }

    /// Somebody in the system account.
    fn admin(&self) -> Wire {
        self.member(&plain_user(SYSTEM))
    }

    fn push(&self, token: &str) -> Value {
        answer(&request(&mut self.admin(), "$SYS.REQ.CLAIMS.UPDATE", token))
    }
}

/// A token of an account that may have so many streams, of so many bytes in files, and any number of consumers.
fn token_with_streams(number: u8, disk: i64, streams: i64) -> String {
    account_token(number, |claims| {
        claims.nats.limits.jetstream.disk = disk;
        claims.nats.limits.jetstream.streams = streams;
        claims.nats.limits.jetstream.consumers = -1;
    })
}

/// A request to delete accounts.
fn delete(signer: &KeyPair, keys: Value) -> String {
    let mut claims = Claims::<Generic>::about(signer.public_key());
    claims.nats.0.insert("accounts".into(), keys);
    encode(claims, signer, now_s()).unwrap()
}

fn preload(tokens: &[(u8, String)]) -> String {
    let system = (SYSTEM, account_token(SYSTEM, |_| {}));
    let lines = tokens.iter().chain([&system]);
    let lines: String =
        lines.map(|(number, token)| format!("  {}: {token}\n", account(*number).public_key())).collect();
    format!("resolver_preload: {{\n{lines}}}")
}

/// Asks and takes the first answer.
fn request(wire: &mut Wire, subject: &str, body: &str) -> String {
    wire.send("SUB _INBOX.a 99\r\nUNSUB 99 1\r\n");
    wire.send(&format!("PUB {subject} _INBOX.a {}\r\n{body}\r\n", body.len()));
    let line = wire.line();
    assert!(line.starts_with("MSG _INBOX.a "), "{line}");
    wire.line()
}

fn answer(text: &str) -> Value {
    let mut answer: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text:?}"));
    assert!(answer["server"]["id"].is_string(), "{text}");
    answer.as_object_mut().unwrap().remove("server");
    answer
}

#[test]
fn who_comes_in() {
    let (signing, scoped) = (account(20), account(21));
    let mut scope = UserScope { kind: "user_scope".into(), key: scoped.public_key(), ..UserScope::default() };
    scope.template = UserLimits::unlimited();
    scope.template.permissions.publish.allow = vec!["{{tag(dept)}}.{{name()}}".into()];
    let main = account_token(MAIN, |claims| {
        claims.nats.signing_keys.0.insert(signing.public_key(), None);
        claims.nats.signing_keys.0.insert(scoped.public_key(), Some(scope));
    });
    let revoking = account_token(4, |claims| {
        claims.nats.revocations.0.insert(user().public_key(), now_s() - 50);
    });
    let revoking_all = account_token(5, |claims| {
        claims.nats.revocations.0.insert("*".into(), now_s() - 50);
    });
    let no_bearer = account_token(6, |claims| claims.nats.limits.account.disallow_bearer = true);
    let foreign = encode(account_claims(7, |_| {}), &key(KeyPairType::Operator, 50), now_s()).unwrap();
    let self_signed = encode(account_claims(8, |_| {}), &account(8), now_s()).unwrap();
    let expired = account_token(10, |claims| claims.data.expires = now_s() - 10);
    let full = account_token(11, |claims| claims.nats.limits.account.connections = 0);
    let accounts = [
        (MAIN, main),
        (4, revoking),
        (5, revoking_all),
        (6, no_bearer),
        (7, foreign),
        (8, self_signed),
        (10, expired),
        (11, full),
    ];

    let main = account(MAIN);
    let of_main = |change: &dyn Fn(&mut Claims<User>)| user_token(&main, |claims| change(claims));
    let limits = |change: &dyn Fn(&mut UserLimits)| of_main(&|claims| change(&mut claims.nats.limits));
    let in_main = |signer: &KeyPair, change: &dyn Fn(&mut Claims<User>)| {
        user_token(signer, |claims| {
            claims.nats.issuer_account = account(MAIN).public_key();
            change(claims);
        })
    };
    let unrestricted_scoped = |claims: &mut Claims<User>| {
        claims.nats.limits = UserLimits::default();
        claims.nats.meta.tags = vec!["dept:a".into()];
    };
    let window = |start: &str, end: &str| {
        let range = TimeRange { start: start.into(), end: end.into() };
        limits(&move |limits| {
            limits.times = vec![range.clone()];
            limits.location = "UTC".into();
        })
    };
    let hour = now_s() / 3600 % 24;
    let clock = |hour: i64| format!("{:02}:00:00", hour.rem_euclid(24));
    let bearer = limits(&|limits| limits.bearer = true);
    let good: Vec<(&str, String)> = vec![
        ("plain", plain_user(MAIN)),
        ("with a signing key", in_main(&signing, &|_| {})),
        ("scoped", in_main(&scoped, &unrestricted_scoped)),
        ("valid for a while", of_main(&|claims| claims.data.expires = now_s() + 1000)),
        ("valid since a while", of_main(&|claims| claims.data.not_before = now_s() - 10)),
        ("from here", limits(&|limits| limits.sources = vec!["10.0.0.0/8".into(), "127.0.0.0/8".into()])),
        ("at this hour", window(&clock(hour - 1), &clock(hour + 2))),
        (
            "in this way",
            limits(&|limits| limits.allowed_connection_types = vec!["standard".into(), "X".into()]),
        ),
        ("for another audience", of_main(&|claims| claims.data.audience = "whoever".into())),
    ];
    let refused: Vec<(&str, String)> = vec![
        ("nothing", String::new()),
        ("garbage", "eyJ.eyJ.eyJ".into()),
        ("an account's token", accounts[0].1.clone()),
        ("expired", of_main(&|claims| claims.data.expires = now_s() - 10)),
        ("not valid yet", of_main(&|claims| claims.data.not_before = now_s() + 1000)),
        ("revoked", plain_user(4)),
        ("revoked with all", plain_user(5)),
        ("of nobody", plain_user(40)),
        ("of a foreign operator's account", plain_user(7)),
        ("of an account that vouches for itself", plain_user(8)),
        ("of an expired account", plain_user(10)),
        ("with somebody's key", in_main(&account(41), &|_| {})),
        ("with somebody's key, unsaid", user_token(&account(41), |_| {})),
        ("scoped with limits", in_main(&scoped, &|claims| claims.nats.meta.tags = vec!["dept:a".into()])),
        ("from elsewhere", limits(&|limits| limits.sources = vec!["10.0.0.0/8".into()])),
        ("from nonsense", limits(&|limits| limits.sources = vec!["nowhere".into()])),
        ("at another hour", window(&clock(hour + 2), &clock(hour + 3))),
        ("at no hour", window("25:00:00", "26:00:00")),
        ("in another way", limits(&|limits| limits.allowed_connection_types = vec!["MQTT".into()])),
        ("in an unknown way", limits(&|limits| limits.allowed_connection_types = vec!["PIGEON".into()])),
        ("only by proxy", limits(&|limits| limits.proxy_required = true)),
        ("with a bad subject", limits(&|limits| limits.permissions.publish.allow = vec!["a..b".into()])),
    ];
    for program in programs() {
        let world = World::with_accounts(&program, &accounts, "");
        for (name, token) in &good {
            assert_eq!(world.enter(token).1, "PONG", "{name} {program:?}");
        }
        for (name, token) in &refused {
            let (mut wire, said) = world.enter(token);
            assert_eq!(said, VIOLATION, "{name} {program:?}");
            assert_eq!(wire.end(), "", "{name} {program:?}");
        }
        let plain = plain_user(MAIN);
        assert_eq!(world.enter_as(&plain, None).1, VIOLATION, "without a signature");
        assert_eq!(world.enter_as(&plain, Some(&account(19))).1, VIOLATION, "with another's signature");
        assert_eq!(world.enter_as(&bearer, None).1, "PONG", "a bearer");
        let of_strict = user_token(&account(6), |claims| claims.nats.limits.bearer = true);
        assert_eq!(world.enter_as(&of_strict, None).1, VIOLATION, "a bearer where none may be");
        let said = world.enter(&plain_user(11)).1;
        assert_eq!(said, "-ERR 'maximum account active connections exceeded'");
        world.process.wait_for("authentication error");
    }
}

#[test]
fn what_they_may_do() {
    let scoped = account(21);
    let mut scope = UserScope { kind: "user_scope".into(), key: scoped.public_key(), ..UserScope::default() };
    scope.template =
        UserLimits { limits: NatsLimits { payload: 10, ..NatsLimits::UNLIMITED }, ..UserLimits::default() };
    scope.template.permissions.publish.allow = vec!["{{tag(dept)}}.{{name()}}".into(), "{{tag(no)}}".into()];
    scope.template.permissions.subscribe.allow = vec!["{{tag(no)}}".into()];
    let main = account_token(MAIN, |claims| {
        claims.nats.signing_keys.0.insert(scoped.public_key(), Some(scope));
        claims.nats.default_permissions.publish.deny = vec!["secret".into()];
        claims.nats.limits.nats.payload = 100;
    });
    let scoped_user = user_token(&scoped, |claims| {
        claims.nats.limits = UserLimits::default();
        claims.nats.issuer_account = account(MAIN).public_key();
        claims.nats.meta.tags = vec!["dept:a".into(), "dept:b".into()];
        claims.data.name = "joe".into();
    });
    let own = user_token(&account(MAIN), |claims| {
        claims.nats.limits.permissions.publish.allow = vec!["a".into(), "secret".into()];
        claims.nats.limits.limits.subs = 1;
    });
    let violation = |subject: &str| format!("-ERR 'Permissions Violation for Publish to \"{subject}\"'");
    for program in programs() {
        let world = World::with_accounts(&program, &[(MAIN, main.clone())], "");
        let mut wire = world.member(&scoped_user);
        for subject in ["a.joe", "b.joe"] {
            wire.send(&format!("PUB {subject} 1\r\nx\r\n"));
        }
        wire.flush();
        wire.send("PUB a.jim 1\r\nx\r\n");
        assert_eq!(wire.line(), violation("a.jim"));
        wire.send("SUB x 1\r\n");
        assert_eq!(wire.line(), "-ERR 'Permissions Violation for Subscription to \"x\"'");
        wire.send("PUB a.joe 11\r\n0123456789x\r\n");
        assert_eq!(wire.line(), "-ERR 'Maximum Payload Violation'");

        let mut wire = world.member(&plain_user(MAIN));
        wire.send("PUB secret 1\r\nx\r\n");
        assert_eq!(wire.line(), violation("secret"), "by default");
        let mut wire = world.member(&own);
        wire.send("PUB secret 1\r\nx\r\n");
        wire.flush();
        wire.send("PUB b 1\r\nx\r\n");
        assert_eq!(wire.line(), violation("b"), "with own permissions");
        wire.send("SUB x 1\r\nSUB y 2\r\n");
        assert_eq!(wire.line(), "-ERR 'maximum subscriptions exceeded'");
        assert_eq!(wire.info["auth_required"], true);
    }
}

#[test]
fn what_accounts_share() {
    let (exporter, importer, other) = (4, 5, 6);
    let key_of = |number: u8| account(number).public_key();
    let export =
        |subject: &str, kind| Export { subject: subject.into(), kind: Some(kind), ..Export::default() };
    let exporting = account_token(exporter, |claims| {
        claims.nats.exports = vec![
            export("public.>", ShareKind::Stream),
            Export { token_required: true, ..export("private.>", ShareKind::Stream) },
            export("serve", ShareKind::Service),
        ];
    });
    let activation = |to: u8, expires: i64| {
        let mut claims = Claims::<Activation>::about(key_of(to));
        claims.data.expires = expires;
        claims.nats.import_subject = "private.a".into();
        claims.nats.import_kind = Some(ShareKind::Stream);
        encode(claims, &account(exporter), now_s() - 100).unwrap()
    };
    let import = |subject: &str, local: &str, kind| Import {
        subject: subject.into(),
        local_subject: local.into(),
        account: key_of(exporter),
        kind: Some(kind),
        ..Import::default()
    };
    let importing = |number: u8, token: Option<String>| {
        account_token(number, |claims| {
            let private = import("private.a", "private.a", ShareKind::Stream);
            claims.nats.imports = vec![
                import("public.a", "theirs.a", ShareKind::Stream),
                Import { token: token.unwrap_or_default(), ..private },
                import("serve", "ask", ShareKind::Service),
            ];
        })
    };
    let accounts = [
        (exporter, exporting),
        (importer, importing(importer, Some(activation(importer, 0)))),
        (other, importing(other, None)),
    ];
    for program in programs() {
        let world = World::with_accounts(&program, &accounts, "");
        let mut listeners = [importer, other].map(|number| world.member(&plain_user(number)));
        for wire in &mut listeners {
            wire.send("SUB theirs.a 1\r\nSUB private.a 2\r\n");
            wire.flush();
        }
        let mut publisher = world.member(&plain_user(exporter));
        publisher.send("SUB serve 1\r\nPUB private.a 1\r\np\r\nPUB public.a 1\r\nx\r\n");
        publisher.flush();
        let [importing, other] = &mut listeners;
        assert_eq!((importing.line(), importing.line()), ("MSG private.a 2 1".into(), "p".into()));
        for wire in [importing, other] {
            assert_eq!((wire.line(), wire.line()), ("MSG theirs.a 1 1".into(), "x".into()));
        }
        let [importing, _] = &mut listeners;
        importing.send("SUB _INBOX.b 3\r\nPUB ask _INBOX.b 1\r\nq\r\n");
        let request = publisher.line();
        let reply = request.split(' ').nth(3).unwrap().to_owned();
        assert!(request.starts_with("MSG serve 1 "), "{request}");
        assert_eq!(publisher.line(), "q");
        publisher.send(&format!("PUB {reply} 1\r\na\r\n"));
        assert_eq!((importing.line(), importing.line()), ("MSG _INBOX.b 3 1".into(), "a".into()));
    }
}

/// What changes for those who are in.
#[test]
fn how_they_go() {
    for program in programs() {
        let world = World::with_directory(&program, &[(MAIN, account_token(MAIN, |_| {}))], "");
        let updated =
            json!({"data": {"account": account(MAIN).public_key(), "code": 200, "message": "jwt updated"}});

        let mut wire = world.member(&plain_user(MAIN));
        let revoking = account_token(MAIN, |claims| {
            claims.nats.revocations.0.insert(user().public_key(), now_s() - 50);
        });
        assert_eq!(world.push(&revoking), updated);
        assert_eq!(wire.end(), "-ERR 'User Authentication Revoked'\r\n", "{program:?}");
        assert_eq!(world.enter(&plain_user(MAIN)).1, VIOLATION);

        assert_eq!(world.push(&account_token(MAIN, |_| {})), updated);
        let (mut first, mut second) = (world.member(&plain_user(MAIN)), world.member(&plain_user(MAIN)));
        let one = account_token(MAIN, |claims| claims.nats.limits.account.connections = 1);
        assert_eq!(world.push(&one), updated);
        assert_eq!(second.end(), "-ERR 'maximum account active connections exceeded'\r\n", "{program:?}");
        first.flush();

        first.send("SUB a 1\r\n");
        first.flush();
        let quiet = account_token(MAIN, |claims| {
            claims.nats.default_permissions.subscribe.deny = vec!["a".into()];
        });
        assert_eq!(world.push(&quiet), updated);
        let told = "-ERR 'Permissions Violation for Subscription to \"a\" (sid \"1\")'";
        assert_eq!(first.line(), told, "{program:?}");
        let small = account_token(MAIN, |claims| claims.nats.limits.nats.payload = 3);
        assert_eq!(world.push(&small), updated);
        first.send("PUB a 4\r\nabcd\r\n");
        assert_eq!(first.line(), "-ERR 'Maximum Payload Violation'", "{program:?}");

        let signing = account(20);
        let with_key = account_token(MAIN, |claims| {
            claims.nats.signing_keys.0.insert(signing.public_key(), None);
        });
        assert_eq!(world.push(&with_key), updated);
        let mut wire = world.member(&user_token(&signing, |claims| {
            claims.nats.issuer_account = account(MAIN).public_key();
        }));
        assert_eq!(world.push(&account_token(MAIN, |_| {})), updated);
        assert_eq!(wire.end(), "", "a key that signs no longer, {program:?}");

        let mut wire = world.member(&user_token(&account(MAIN), |claims| claims.data.expires = now_s() + 2));
        assert_eq!(wire.end(), "-ERR 'User Authentication Expired'\r\n", "{program:?}");

        let mut wire = world.member(&plain_user(MAIN));
        assert_eq!(world.push(&account_token(MAIN, |claims| claims.data.expires = now_s() + 2)), updated);
        assert_eq!(wire.end(), "-ERR 'Account Authentication Expired'\r\n", "{program:?}");
    }
}

#[test]
fn what_tools_ask() {
    for program in programs() {
        let world = World::with_directory(&program, &[(MAIN, account_token(MAIN, |_| {}))], "");
        let mut admin = world.admin();
        let (main, system) = (account(MAIN).public_key(), account(SYSTEM).public_key());
        let lookup = |admin: &mut Wire, key: &str| {
            request(admin, &format!("$SYS.REQ.ACCOUNT.{key}.CLAIMS.LOOKUP"), "")
        };
        let first = account_token(MAIN, |claims| claims.data.name = "one".into());
        let named = format!("$SYS.REQ.ACCOUNT.{main}.CLAIMS.UPDATE");
        assert_eq!(answer(&request(&mut admin, &named, &first))["data"]["code"], 200);
        assert_eq!(lookup(&mut admin, &main), first);
        assert_eq!(lookup(&mut admin, &account(30).public_key()), "");
        let mut keys = answer(&request(&mut admin, "$SYS.REQ.CLAIMS.LIST", ""))["data"].clone();
        keys.as_array_mut().unwrap().sort_by_key(|key| key.as_str().map(str::to_owned));
        let mut expected = vec![main.clone(), system.clone()];
        expected.sort();
        assert_eq!(keys, json!(expected));

        let failed = |text: String| {
            let answer = answer(&text);
            assert_eq!(answer["error"]["code"], 500, "{text}");
            answer["error"]["description"].as_str().unwrap().to_owned()
        };
        let other = account_token(30, |_| {});
        assert_eq!(
            failed(request(&mut admin, &named, &other)),
            "jwt update resulted in error - subject does not match jwt content"
        );
        assert_eq!(
            failed(request(&mut admin, "$SYS.REQ.CLAIMS.UPDATE", "nonsense")),
            "jwt update resulted in error - expected 3 chunks"
        );
        let invalid = account_token(MAIN, |claims| claims.nats.limits.account.imports = 0);
        assert_eq!(answer(&request(&mut admin, &named, &invalid))["data"]["code"], 200, "not wrong as such");
        let invalid = account_token(MAIN, |claims| {
            claims.nats.imports = vec![Import { subject: "a".into(), ..Import::default() }];
            claims.nats.imports[0].kind = Some(ShareKind::Stream);
        });
        assert_eq!(
            failed(request(&mut admin, &named, &invalid)),
            "jwt validation failed - validation errors: [account to import from is not specified]"
        );

        let subject = "$SYS.REQ.CLAIMS.DELETE";
        let stranger = key(KeyPairType::Operator, 50);
        let by = |signer: &KeyPair| format!("delete accounts request by {} failed - ", signer.public_key());
        assert_eq!(
            failed(request(&mut admin, subject, &delete(&stranger, json!([main])))),
            by(&stranger) + "not trusted"
        );
        assert_eq!(
            failed(request(&mut admin, subject, &delete(&operator(), json!("all")))),
            by(&operator()) + "malformed request"
        );
        assert_eq!(
            failed(request(&mut admin, subject, &delete(&operator(), json!([system])))),
            by(&operator()) + "not allowed to delete system account"
        );
        let mut member = world.member(&plain_user(MAIN));
        let deleted = answer(&request(&mut admin, subject, &delete(&operator(), json!([main]))));
        assert_eq!(deleted, json!({"data": {"code": 200, "message": "deleted 1 accounts"}}));
        assert_eq!(member.end(), "-ERR 'Account Authentication Expired'\r\n", "{program:?}");
        assert_ne!(world.enter(&plain_user(MAIN)).1, "PONG");
        assert!(world.folder.at("accounts").join(format!("{main}.jwt.deleted")).exists());
        assert_eq!(answer(&request(&mut admin, "$SYS.REQ.CLAIMS.UPDATE", &first))["data"]["code"], 200);
        world.member(&plain_user(MAIN));
    }
}

/// Accounts with streams, over a restart.
#[test]
fn streams_of_accounts() {
    let with_streams = token_with_streams(MAIN, 1_000_000, 1);
    let accounts = [(MAIN, with_streams), (4, account_token(4, |_| {}))];
    for program in programs() {
        let store = Folder::new();
        let more = format!("jetstream {{ store_dir: {:?} }}", store.path());
        for turn in 0..2 {
            let world = World::with_accounts(&program, &accounts, &more);
            let mut wire = world.member(&plain_user(MAIN));
            let info = |answer: String| serde_json::from_str::<Value>(&answer).unwrap();
            if turn == 0 {
                let config = json!({"name": "S", "subjects": ["s"], "retention": "limits", "max_consumers": -1,
                    "max_msgs": -1, "max_bytes": -1, "max_age": 0, "storage": "file", "num_replicas": 1});
                let made = info(request(&mut wire, "$JS.API.STREAM.CREATE.S", &config.to_string()));
                assert_eq!(made["error"], Value::Null, "{made}");
                assert_eq!(info(request(&mut wire, "s", "hello"))["seq"], 1);
            } else {
                let found = info(request(&mut wire, "$JS.API.STREAM.INFO.S", ""));
                assert_eq!(found["state"]["messages"], 1, "{program:?}: {found}");
            }
            let shown = info(request(&mut wire, "$JS.API.INFO", ""));
            assert_eq!(
                (&shown["limits"]["max_storage"], &shown["limits"]["max_streams"]),
                (&json!(1_000_000), &json!(1))
            );
            let mut without = world.member(&plain_user(4));
            assert_eq!(info(request(&mut without, "$JS.API.INFO", ""))["error"]["err_code"], 10039);
            if turn == 0 && is_ours(&program) {
                world.process.signal("quit");
            }
        }
    }
}

/// An account that a tool deletes has streams at rest, and is told of as one whose time is over. They wake when the
/// account comes back.
#[test]
fn streams_of_a_deleted_account() {
    let token = token_with_streams(MAIN, 1_000_000, 1);
    for program in programs() {
        let store = Folder::new();
        let more = format!("jetstream {{ store_dir: {:?} }}", store.path());
        let world = World::with_directory(&program, &[(MAIN, token.clone())], &more);
        let key = account(MAIN).public_key();
        let shown = || {
            let port = world.process.monitor_port();
            let detail = get(port, &format!("/accountz?acc={key}"))["account_detail"].clone();
            let streams = get(port, "/jsz")["streams"].clone();
            (detail["expired"].clone(), detail["jetstream_enabled"].clone(), streams)
        };
        let mut wire = world.member(&plain_user(MAIN));
        request(&mut wire, "$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
        assert!(request(&mut wire, "s", "one").contains(r#""seq":1"#), "{program:?}");
        assert_eq!(shown(), (json!(false), json!(true), json!(1)), "{program:?}");
        let deleting = delete(&operator(), json!([key]));
        let deleted = answer(&request(&mut world.admin(), "$SYS.REQ.CLAIMS.DELETE", &deleting));
        assert_eq!(deleted["data"]["code"], 200, "{program:?}");
        assert_eq!(shown(), (json!(true), json!(false), json!(0)), "{program:?}");
        // The same one would do here, but not in the reference.
        let other = token_with_streams(MAIN, 2_000_000, 1);
        assert_eq!(world.push(if is_ours(&program) { &token } else { &other })["data"]["code"], 200);
        assert_eq!(shown(), (json!(false), json!(true), json!(1)), "{program:?}");
        let mut wire = world.member(&plain_user(MAIN));
        assert!(request(&mut wire, "s", "two").contains(r#""seq":2"#), "{program:?}");
    }
}

/// Limits of streams that change while the account is used: more, less, none, and some again.
#[test]
fn limits_of_streams_hold_at_once() {
    let token = |disk, streams| token_with_streams(MAIN, disk, streams);
    let stream = |name: &str| {
        json!({"name": name, "subjects": [name], "retention": "limits", "max_consumers": -1, "max_msgs": -1,
            "max_bytes": -1, "max_age": 0, "storage": "file", "num_replicas": 1})
        .to_string()
    };
    for program in programs() {
        let store = Folder::new();
        let more = format!("jetstream {{ store_dir: {:?} }}", store.path());
        let world = World::with_accounts(&program, &[(MAIN, account_token(MAIN, |_| {}))], &more);
        let conf = world.folder.at("x.conf");
        let text = std::fs::read_to_string(&conf).unwrap();
        let start = text.split("resolver_preload").next().unwrap().to_owned();
        let becomes = |token: String| {
            std::fs::write(&conf, format!("{start}{}\n{more}\n", preload(&[(MAIN, token)]))).unwrap();
            let outcome = world.process.reload();
            assert!(outcome.contains("Reloaded server config"), "{program:?} {outcome}");
        };
        let mut wire = world.member(&plain_user(MAIN));
        let mut ask = |subject: &str, body: &str| -> Value {
            serde_json::from_str(&request(&mut wire, subject, body)).unwrap()
        };
        let code = |answer: Value| answer["error"]["err_code"].as_u64();
        assert_eq!(code(ask("$JS.API.INFO", "")), Some(10039), "{program:?}");

        becomes(token(1_000_000, 1));
        assert_eq!(code(ask("$JS.API.STREAM.CREATE.S", &stream("S"))), None);
        assert_eq!(code(ask("$JS.API.STREAM.CREATE.T", &stream("T"))), Some(10027));
        assert_eq!(ask("S", &"x".repeat(1000))["seq"], 1);

        becomes(token(1500, 2));
        assert_eq!(ask("$JS.API.INFO", "")["limits"]["max_storage"], 1500);
        assert_eq!(code(ask("$JS.API.STREAM.CREATE.T", &stream("T"))), None, "{program:?}");
        assert_eq!(code(ask("S", &"x".repeat(1000))), Some(10002), "{program:?}");

        becomes(account_token(MAIN, |_| {}));
        assert_eq!(code(ask("$JS.API.STREAM.INFO.S", "")), Some(10039), "{program:?}");
        let mut listener = world.member(&plain_user(MAIN));
        listener.send("SUB S 1\r\n");
        listener.flush();
        let mut other = world.member(&plain_user(MAIN));
        other.send("SUB answer 1\r\nPUB S answer 4\r\nlost\r\n");
        // Nobody answers: the second pong comes after what was carried out with the first.
        other.flush();
        other.flush();
        assert_eq!((listener.line(), listener.line()), ("MSG S 1 answer 4".into(), "lost".into()));

        becomes(token(1_000_000, 2));
        let found = ask("$JS.API.STREAM.INFO.S", "");
        assert_eq!(found["state"]["messages"], 1, "{program:?}: {found}");
        assert_eq!(ask("S", "more")["seq"], 2);
    }
}

/// Limits by tier: streams of a lone server are of `R1`, which may be missing.
#[test]
fn tiers_of_streams() {
    let limits = |disk: i64, streams: i64| JetStreamLimits {
        disk,
        streams,
        consumers: 1,
        ..JetStreamLimits::default()
    };
    let token = |tiers: &[(&str, JetStreamLimits)]| {
        let tiers = tiers.iter().map(|(name, limits)| ((*name).to_owned(), *limits)).collect();
        account_token(MAIN, |claims| claims.nats.limits.tiers = tiers)
    };
    let (single, triple) = (("R1", limits(500, 1)), ("R3", limits(3000, 3)));
    for program in programs() {
        let store = Folder::new();
        let more = format!("jetstream {{ store_dir: {:?} }}", store.path());
        let world = World::with_accounts(&program, &[(MAIN, token(&[single, triple]))], &more);
        let conf = world.folder.at("x.conf");
        let start = std::fs::read_to_string(&conf).unwrap();
        let start = start.split("resolver_preload").next().unwrap();
        let mut wire = world.member(&plain_user(MAIN));
        let mut ask = |subject: &str, body: &str| -> Value {
            serde_json::from_str(&request(&mut wire, subject, body)).unwrap()
        };
        let code = |answer: Value| answer["error"]["err_code"].as_u64();
        let stream = |name: &str, replicas: u64| {
            json!({"name": name, "subjects": [name], "num_replicas": replicas}).to_string()
        };
        let consumer = |name: &str| {
            json!({"stream_name": "S", "config": {"name": name, "ack_policy": "explicit"}}).to_string()
        };
        assert_eq!(code(ask("$JS.API.STREAM.CREATE.S", &stream("S", 1))), None, "{program:?}");
        assert_eq!(code(ask("$JS.API.STREAM.CREATE.T", &stream("T", 1))), Some(10027), "{program:?}");
        assert_eq!(code(ask("$JS.API.STREAM.CREATE.T", &stream("T", 3))), Some(10074), "{program:?}");
        assert_eq!(code(ask("$JS.API.CONSUMER.CREATE.S.A", &consumer("A"))), None, "{program:?}");
        assert_eq!(code(ask("$JS.API.CONSUMER.CREATE.S.B", &consumer("B"))), Some(10026), "{program:?}");
        assert_eq!(ask("S", &"x".repeat(400))["seq"], 1);
        assert_eq!(code(ask("S", &"x".repeat(400))), Some(10002), "{program:?}");
        let shown = ask("$JS.API.INFO", "");
        assert_eq!((&shown["streams"], &shown["limits"]["max_storage"]), (&json!(1), &json!(0)));
        let (one, three) = (&shown["tiers"]["R1"], &shown["tiers"]["R3"]);
        assert_eq!((&one["streams"], &one["consumers"]), (&json!(1), &json!(1)), "{program:?}: {shown}");
        assert_eq!((&one["storage"], &one["limits"]["max_storage"]), (&shown["storage"], &json!(500)));
        assert_eq!((&three["streams"], &three["limits"]["max_storage"]), (&json!(0), &json!(3000)));

        let only_triple = preload(&[(MAIN, token(&[triple]))]);
        std::fs::write(&conf, format!("{start}{only_triple}\n{more}\n")).unwrap();
        let outcome = world.process.reload();
        assert!(outcome.contains("Reloaded server config"), "{program:?} {outcome}");
        assert_eq!(code(ask("$JS.API.STREAM.CREATE.T", &stream("T", 1))), Some(10120), "{program:?}");
        assert_eq!(code(ask("$JS.API.STREAM.UPDATE.S", &stream("S", 1))), Some(10120), "{program:?}");
        assert_eq!(code(ask("$JS.API.CONSUMER.CREATE.S.B", &consumer("B"))), Some(10120), "{program:?}");
        assert_eq!(code(ask("S", "x")), Some(10120), "{program:?}");
        assert_eq!(ask("$JS.API.STREAM.INFO.S", "")["state"]["messages"], 1, "{program:?}");
    }
}

/// What monitoring shows, and what a reload changes.
#[test]
fn monitoring_and_reloads() {
    let main_token = account_token(MAIN, |claims| {
        claims.data.name = "one".into();
        claims.nats.meta.tags = vec!["t:2".into()];
        claims.nats.revocations.0.insert("UREVOKED".into(), 7);
    });
    for program in programs() {
        let accounts = [(MAIN, main_token.clone()), (4, account_token(4, |_| {}))];
        let world = World::with_accounts(&program, &accounts, "");
        let user_token = user_token(&account(MAIN), |claims| claims.nats.meta.tags = vec!["t:1".into()]);
        let mut wire = world.member(&user_token);
        let mut other = world.member(&plain_user(4));
        let shown = get(world.process.monitor_port(), "/connz?auth=1&cid=0");
        let own = shown["connections"].as_array().unwrap().iter().find(|one| one["tags"].is_array()).unwrap();
        assert_eq!(own["authorized_user"], user().public_key());
        assert_eq!(own["account"], account(MAIN).public_key());
        assert_eq!(own["issuer_key"], account(MAIN).public_key());
        assert_eq!((&own["name_tag"], &own["tags"]), (&json!("one"), &json!(["t:1"])));
        assert_eq!(own["jwt"], user_token);

        let key = account(MAIN).public_key();
        let shown = get(world.process.monitor_port(), &format!("/accountz?acc={key}"));
        let own = &shown["account_detail"];
        assert_eq!((&own["account_name"], &own["expired"]), (&json!(key), &json!(false)));
        assert_eq!((&own["jwt"], &own["issuer_key"]), (&json!(main_token), &json!(operator().public_key())));
        assert_eq!((&own["name_tag"], &own["tags"]), (&json!("one"), &json!(["t:2"])));
        let said = main_token.split('.').nth(1).unwrap();
        let said = data_encoding::BASE64URL_NOPAD.decode(said.as_bytes()).unwrap();
        let said: Value = serde_json::from_slice(&said).unwrap();
        for part in ["sub", "iss", "name", "iat", "jti"] {
            assert_eq!(own["decoded_jwt"][part], said[part], "{part} {program:?}");
        }
        assert_eq!(own["decoded_jwt"]["nats"]["limits"], said["nats"]["limits"], "{program:?}");
        assert_eq!(own["revoked_user"], json!({ "UREVOKED": "1970-01-01T00:00:07Z" }), "{program:?}");

        let conf = world.folder.at("x.conf");
        let text = std::fs::read_to_string(&conf).unwrap();
        let start = text.split("resolver_preload").next().unwrap();
        let revoking = account_token(MAIN, |claims| {
            claims.nats.revocations.0.insert("*".into(), now_s());
        });
        std::fs::write(&conf, format!("{start}{}", preload(&[(MAIN, revoking)]))).unwrap();
        assert!(world.process.reload().contains("Reloaded server config"));
        assert_eq!(wire.end(), "-ERR 'User Authentication Revoked'\r\n", "{program:?}");
        if is_ours(&program) {
            assert_eq!(other.end(), "-ERR 'Account Authentication Expired'\r\n");
        }
        let shown = get(world.process.monitor_port(), "/accountz");
        let shown = shown["accounts"].as_array().unwrap();
        assert!(!shown.contains(&json!(account(4).public_key())), "{program:?}: {shown:?}");
        assert_eq!(world.enter(&plain_user(4)).1, VIOLATION);
    }
}

fn get(port: u16, path: &str) -> Value {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// An account server: where it listens. With a certificate it speaks TLS.
fn account_server(tokens: Vec<(String, String)>, certificate: Option<&Issued>) -> u16 {
    use std::io::{BufRead, BufReader, Read, Write};

    trait Both: Read + Write {}
    impl<T: Read + Write> Both for T {}

    let tls = certificate.map(|certificate| {
        let chain = vec![certificate.der.clone().into()];
        let key = certificate.key.serialize_der().try_into().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    });
    let answer = move |stream: TcpStream| -> std::io::Result<()> {
        let stream: Box<dyn Both> = match &tls {
            Some(tls) => {
                let session = rustls::ServerConnection::new(tls.clone()).unwrap();
                Box::new(rustls::StreamOwned::new(session, stream))
            }
            None => Box::new(stream),
        };
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while reader.read_line(&mut line)? > 2 {}
        let key = path.rsplit('/').next().unwrap_or_default();
        let found = tokens.iter().find(|(known, _)| known == key).map(|(_, token)| token.as_str());
        let (status, body) = match found {
            Some(token) => ("200 OK", token),
            None if key.is_empty() => ("200 OK", "here"),
            None => ("404 Not Found", ""),
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        reader.get_mut().write_all(format!("{head}{body}").as_bytes())
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Who does not trust the certificate hangs up.
            let _ = answer(stream.unwrap());
        }
    });
    port
}

/// An account server that is asked once per account.
#[test]
fn accounts_of_an_account_server() {
    let token = |number| (account(number).public_key(), account_token(number, |_| {}));
    for program in programs() {
        let port = account_server(vec![token(MAIN), token(SYSTEM)], None);
        let world =
            World::start(&program, &format!("resolver: URL(\"http://127.0.0.1:{port}/jwt/v1/accounts/\")\n"));
        assert_eq!(world.enter(&plain_user(MAIN)).1, "PONG", "{program:?}");
        assert_eq!(world.enter(&plain_user(4)).1, VIOLATION, "{program:?}");
    }
}

/// An account server that is waited for, or streams that are recovered, may take long.
#[test]
fn a_start_holds_up_no_signal() {
    for (signal, trapped) in [("term", "terminated"), ("quit", "interrupt")] {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let folder = Folder::new();
        let conf = format!(
            "listen: \"127.0.0.1:-1\"\noperator: {}\nresolver: URL(\"http://127.0.0.1:{port}/\")\n",
            operator_token()
        );
        let conf = folder.write("x.conf", &conf);
        let mut process = Process::start(Path::new(SONATA), &["-c", conf.to_str().unwrap()]);
        let _asked = silent.accept().unwrap();
        process.signal(signal);
        assert_eq!(process.wait().code(), Some(0), "{signal}");
        let last = process.lines().pop().unwrap();
        assert_eq!(last, format!("nats-server: Trapped \"{trapped}\" signal before the server was ready"));
    }
}

/// Streams of an account that nobody has asked for since the start: it is looked up for them.
#[test]
fn streams_of_accounts_of_an_account_server() {
    let token = |number| (account(number).public_key(), token_with_streams(number, 1_000_000, 1));
    let system = (account(SYSTEM).public_key(), account_token(SYSTEM, |_| {}));
    for program in programs() {
        let port = account_server(vec![token(MAIN), system.clone()], None);
        let store = Folder::new();
        let more = format!(
            "resolver: URL(\"http://127.0.0.1:{port}/jwt/v1/accounts/\")\njetstream {{ store_dir: {:?} }}\n",
            store.path()
        );
        for messages in 0..2 {
            let mut world = World::start(&program, &more);
            if messages > 0 {
                world.process.wait_for("Restored 1 messages");
            }
            let mut wire = world.member(&plain_user(MAIN));
            if messages == 0 {
                let config = json!({"name": "S", "subjects": ["s"], "retention": "limits", "max_consumers": -1,
                    "max_msgs": -1, "max_bytes": -1, "max_age": 0, "storage": "file", "num_replicas": 1});
                request(&mut wire, "$JS.API.STREAM.CREATE.S", &config.to_string());
            }
            let stored: Value = serde_json::from_str(&request(&mut wire, "s", "hello")).unwrap();
            assert_eq!(stored["seq"], messages + 1, "{program:?}: {stored}");
            world.process.signal("quit");
            world.process.wait();
        }
    }
}

/// Over TLS, from a server whose certificate is trusted, or is not looked at.
#[test]
fn an_account_server_can_be_believed_without_a_certificate() {
    let authority = Authority::new("root");
    let certificate = authority.issue("accounts", Use::Server, None, false);
    let token = |number| (account(number).public_key(), account_token(number, |_| {}));
    for program in programs() {
        let port = account_server(vec![token(MAIN), token(SYSTEM)], Some(&certificate));
        let folder = Folder::new();
        let root = folder.write("root.pem", &authority.pem);
        let resolver = format!("resolver: URL(\"https://localhost:{port}/jwt/v1/accounts/\")\n");
        let trusting = format!("{resolver}resolver_tls {{ ca_file: {root:?} }}\n");
        assert_eq!(World::start(&program, &trusting).enter(&plain_user(MAIN)).1, "PONG", "{program:?}");
        let careless = format!("{resolver}resolver_tls {{ insecure: true }}\n");
        assert_eq!(World::start(&program, &careless).enter(&plain_user(MAIN)).1, "PONG", "{program:?}");
        let conf = format!("listen: \"127.0.0.1:-1\"\noperator: {}\n{resolver}", operator_token());
        let conf = folder.write("x.conf", &conf);
        let mut process = Process::start(&program, &["-c", conf.to_str().unwrap()]);
        assert_eq!(process.wait().code(), Some(1), "nobody vouches for the certificate, {program:?}");
    }
}

/// Those who present nothing.
#[test]
fn a_sentinel_stands_in() {
    let bearer = user_token(&account(MAIN), |claims| {
        claims.nats.limits.bearer = true;
        claims.nats.limits.permissions.publish.allow = vec!["hello".into()];
    });
    for program in programs() {
        let more =
            format!("default_sentinel: {bearer}\nresolver_pinned_accounts: [{}]", account(MAIN).public_key());
        let accounts = [(MAIN, account_token(MAIN, |_| {})), (4, account_token(4, |_| {}))];
        let world = World::with_accounts(&program, &accounts, &more);
        let (mut wire, said) = world.enter_as("", None);
        assert_eq!(said, "PONG", "{program:?}");
        wire.send("PUB other 1\r\nx\r\n");
        assert_eq!(wire.line(), "-ERR 'Permissions Violation for Publish to \"other\"'");
        let mut own = world.member(&plain_user(MAIN));
        own.send("PUB other 1\r\nx\r\n");
        own.flush();
        assert_eq!(world.enter(&plain_user(4)).1, VIOLATION, "not pinned, {program:?}");
        assert_eq!(world.enter(&plain_user(SYSTEM)).1, "PONG", "the system account, {program:?}");
    }
}
