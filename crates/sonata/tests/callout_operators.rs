//! Auth callout where operators are trusted: the account of the service says in its token who is asked. Each scenario runs
//! against the program and, if `SONATA_REFERENCE` names the original server, against that as well.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};
use sonata_jwt::account::{Account, UserScope};
use sonata_jwt::claims::Claims;
use sonata_jwt::limits::OperatorLimits;
use sonata_jwt::operator::Operator;
use sonata_jwt::token::encode;
use sonata_jwt::user::{User, UserLimits};
use sonata_jwt::xkey::Curve;
use support::folder::Folder;
use support::now_s;
use support::process::{Process, is_ours, programs};
use support::service::{Asked, Service};
use support::wire::Wire;

const VIOLATION: &str = "-ERR 'Authorization Violation'";
const REFUSALS: &str = "$SYS.ACCOUNT.CLIENT.AUTH.ERR";

const SYSTEM: u8 = 2;
/// Where the service listens.
const AUTH: u8 = 3;
/// Where it may put users.
const APP: u8 = 4;
/// Where it may not.
const OTHER: u8 = 5;
/// A signing key of APP, and one with a scope.
const SIGNING: u8 = 20;
const SCOPED: u8 = 21;
/// A signing key of AUTH.
const AUTH_SIGNING: u8 = 22;

fn key(kind: KeyPairType, number: u8) -> KeyPair {
    KeyPair::new_from_raw(kind, [number; 32]).unwrap()
}

fn account(number: u8) -> KeyPair {
    key(KeyPairType::Account, number)
}

fn operator() -> KeyPair {
    key(KeyPairType::Operator, 1)
}

/// The service's own user.
fn service_user() -> KeyPair {
    key(KeyPairType::User, 8)
}

/// The user that everybody comes as.
fn sentinel_user() -> KeyPair {
    key(KeyPairType::User, 9)
}

fn curve() -> Curve {
    Curve::from_random([31; 32])
}

fn account_token(number: u8, change: impl FnOnce(&mut Claims<Account>)) -> String {
    let mut claims = Claims::<Account>::about(account(number).public_key());
    claims.nats.limits = OperatorLimits::unlimited();
    change(&mut claims);
    encode(claims, &operator(), now_s() - 100).unwrap()
}

/// The account of the service, which may put users into APP.
fn auth_token(change: impl FnOnce(&mut Claims<Account>)) -> String {
    account_token(AUTH, |claims| {
        claims.data.name = "auth".into();
        claims.nats.authorization.auth_users = vec![service_user().public_key()];
        claims.nats.authorization.allowed_accounts = vec![account(APP).public_key()];
        claims.nats.signing_keys.0.insert(account(AUTH_SIGNING).public_key(), None);
        change(claims);
    })
}

fn app_token(change: impl FnOnce(&mut Claims<Account>)) -> String {
    account_token(APP, |claims| {
        let scoped = account(SCOPED).public_key();
        let mut scope = UserScope { kind: "user_scope".into(), key: scoped.clone(), ..UserScope::default() };
        scope.template = UserLimits::unlimited();
        scope.template.permissions.publish.allow = vec!["{{name()}}.>".into(), "$SYS.>".into()];
        claims.nats.signing_keys.0.insert(scoped, Some(scope));
        claims.nats.signing_keys.0.insert(account(SIGNING).public_key(), None);
        claims.nats.default_permissions.publish.deny = vec!["secret".into()];
        change(claims);
    })
}

fn user_token(number: u8, user: &KeyPair, change: impl FnOnce(&mut Claims<User>)) -> String {
    let mut claims = Claims::<User>::about(user.public_key());
    claims.nats.limits = UserLimits::unlimited();
    change(&mut claims);
    encode(claims, &account(number), now_s() - 100).unwrap()
}

/// A user who may nothing, and whose token alone is proof enough.
fn sentinel() -> String {
    user_token(AUTH, &sentinel_user(), |claims| {
        claims.data.name = "sentinel".into();
        claims.nats.meta.tags = vec!["t:1".into()];
        claims.nats.limits.bearer = true;
        claims.nats.limits.permissions.publish.deny = vec![">".into()];
        claims.nats.limits.permissions.subscribe.deny = vec![">".into()];
    })
}

struct World {
    process: Process,
    port: u16,
    _folder: Folder,
}

impl World {
    fn start(program: &Path, auth: String, more: &str) -> Self {
        let mut claims = Claims::<Operator>::about(operator().public_key());
        claims.nats.system_account = account(SYSTEM).public_key();
        let trusted = encode(claims, &operator(), now_s() - 100).unwrap();
        let tokens = [
            (SYSTEM, account_token(SYSTEM, |_| {})),
            (AUTH, auth),
            (APP, app_token(|_| {})),
            (OTHER, account_token(OTHER, |_| {})),
        ];
        let preload: String = tokens
            .iter()
            .map(|(number, token)| format!("  {}: {token}\n", account(*number).public_key()))
            .collect();
        let folder = Folder::new();
        let text = format!(
            "listen: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\noperator: {trusted}\nresolver {{ type: full, dir: {:?}, interval: \"2m\" }}\n\
             authorization {{ timeout: 2 }}\nresolver_preload {{\n{preload}}}\n{more}",
            folder.at("accounts")
        );
        let conf = folder.write("x.conf", &text);
        let process = Process::start(program, &["-D", "-c", conf.to_str().unwrap()]);
        Self { port: process.port(), process, _folder: folder }
    }

    /// Connects with a token, signed by its user where that is needed, and more; what the server says to that.
    fn enter(&self, token: &str, signer: Option<&KeyPair>, more: &Value) -> (Wire, String) {
        let mut wire = Wire::connect(self.port);
        let nonce = wire.info["nonce"].as_str().unwrap_or_default().to_owned();
        let mut connect = json!({"verbose": false, "headers": true});
        connect.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
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

    /// Comes as everybody does, with a word for the service.
    fn come(&self, word: &str) -> (Wire, String) {
        self.come_with(&sentinel(), word)
    }

    fn come_with(&self, sentinel: &str, word: &str) -> (Wire, String) {
        self.enter(sentinel, None, &json!({"auth_token": word}))
    }

    fn service_wire(&self) -> Wire {
        let token = user_token(AUTH, &service_user(), |_| {});
        let (wire, said) = self.enter(&token, Some(&service_user()), &json!({}));
        assert_eq!(said, "PONG");
        wire
    }

    fn listener(&self) -> Wire {
        let mut wire = self.service_wire();
        wire.send(&format!("SUB {REFUSALS} 1\r\n"));
        wire.flush();
        wire
    }

    /// Gives an account another token.
    fn update(&self, token: &str) {
        let admin = key(KeyPairType::User, 7);
        let (mut wire, said) = self.enter(&user_token(SYSTEM, &admin, |_| {}), Some(&admin), &json!({}));
        assert_eq!(said, "PONG");
        wire.send(&format!("SUB _INBOX.a 1\r\nPUB $SYS.REQ.CLAIMS.UPDATE _INBOX.a {}\r\n", token.len()));
        wire.send(&format!("{token}\r\n"));
        let told: Value = serde_json::from_slice(&wire.message().unwrap().payload).unwrap();
        assert_eq!(told["data"]["code"], 200, "{told}");
    }
}

fn reason(wire: &mut Wire) -> String {
    let told: Value = serde_json::from_slice(&wire.message().unwrap().payload).unwrap();
    told["reason"].as_str().unwrap().to_owned()
}

fn user_info(wire: &mut Wire) -> Value {
    wire.send("SUB _INBOX.i 77\r\nUNSUB 77 1\r\nPUB $SYS.REQ.USER.INFO _INBOX.i 0\r\n\r\n");
    let mut told: Value = serde_json::from_slice(&wire.message().unwrap().payload).unwrap();
    // The original has them in any order.
    if let Some(allowed) = told.pointer_mut("/data/permissions/publish/allow").and_then(Value::as_array_mut) {
        allowed.sort_by_key(ToString::to_string);
    }
    told["data"].clone()
}

fn get(port: u16, path: &str) -> Value {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// What the service makes of a word.
fn answer(asked: &Asked) -> Option<Vec<u8>> {
    let by = |signer: u8, change: &dyn Fn(&mut Claims<User>)| {
        let granted = asked.grant(&account(signer), |user| change(user), |_| {});
        let jwt = String::from_utf8(granted).unwrap();
        let jwt = sonata_jwt::token::decode::<sonata_jwt::authorization::Response>(&jwt).unwrap().nats.jwt;
        move |answerer: u8, issuer_account: &str| {
            asked.respond(&account(answerer), |response| {
                response.nats.jwt = jwt.clone();
                response.nats.issuer_account = issuer_account.into();
            })
        }
    };
    let of_app = |user: &mut Claims<User>| {
        user.nats.issuer_account = account(APP).public_key();
        user.data.name = "joe".into();
    };
    let scoped = |user: &mut Claims<User>| {
        of_app(user);
        user.nats.limits = UserLimits::default();
    };
    let auth = account(AUTH).public_key();
    Some(match &*asked.claims.nats.connect.auth_token {
        "app" => by(APP, &|_| {})(AUTH, ""),
        "own" => by(AUTH, &|_| {})(AUTH, ""),
        "signing key" => by(SIGNING, &of_app)(AUTH, ""),
        "scoped" => by(SCOPED, &scoped)(AUTH, ""),
        "answered by a signing key" => by(APP, &|_| {})(AUTH_SIGNING, ""),
        "answered by a signing key for the account" => by(APP, &|_| {})(AUTH_SIGNING, &auth),
        "audience" => by(APP, &|user| user.data.audience = account(OTHER).public_key())(AUTH, ""),
        "not allowed" => by(OTHER, &|_| {})(AUTH, ""),
        "unknown account" => by(60, &|_| {})(AUTH, ""),
        "unknown key" => by(61, &of_app)(AUTH, ""),
        "scoped with limits" => by(SCOPED, &of_app)(AUTH, ""),
        "answered by a stranger" => by(APP, &|_| {})(62, ""),
        "answered by the account" => by(APP, &|_| {})(APP, ""),
        "in another's name" => by(APP, &|_| {})(AUTH, &account(APP).public_key()),
        "expired" => by(APP, &|user| user.data.expires = now_s() - 10)(AUTH, ""),
        "brief" => by(APP, &|user| user.data.expires = now_s() + 2)(AUTH, ""),
        "why" => asked.refuse(&account(AUTH), "not today"),
        _ => return None,
    })
}

/// What the service is told, and what follows from what it says.
#[test]
fn answers() {
    for program in programs() {
        let world = World::start(&program, auth_token(|_| {}), "");
        let service = Service::start(world.service_wire(), None, answer);
        let (app, auth) = (account(APP).public_key(), account(AUTH).public_key());

        let sentinel = sentinel();
        let (mut wire, said) = world.come_with(&sentinel, "app");
        assert_eq!(said, "PONG", "{program:?}");
        let claims = service.asked().claims;
        assert_eq!(claims.data.subject, auth, "{program:?}");
        let request = serde_json::to_value(&claims.nats).unwrap();
        assert_eq!(
            request["client_info"],
            json!({"host": "127.0.0.1", "id": wire.info["client_id"], "user": sentinel_user().public_key(),
                "tags": ["t:1"], "name_tag": "sentinel", "kind": "Client", "type": "nats"}),
            "{program:?}"
        );
        assert_eq!(
            request["connect_opts"],
            json!({"jwt": sentinel, "auth_token": "app", "protocol": 0}),
            "{program:?}"
        );
        let info = user_info(&mut wire);
        assert_eq!((&info["user"], &info["account"]), (&json!("[REDACTED]"), &json!(app)), "{program:?}");
        assert_eq!(info["permissions"]["publish"], json!({"deny": ["secret"]}), "by default, {program:?}");

        let shown =
            get(world.process.monitor_port(), &format!("/connz?auth=1&cid={}", wire.info["client_id"]));
        let shown = &shown["connections"][0];
        let of = |name: &str| shown[name].clone();
        assert_eq!((of("account"), of("issuer_key")), (json!(app), json!(app)), "{program:?}");
        assert_eq!((of("authorized_user"), of("jwt")), (json!("[REDACTED]"), Value::Null), "{program:?}");
        // As whom it came is still told, but the account is the one that it was put into.
        assert_eq!((of("tags"), &info["user_name"]), (json!(["t:1"]), &json!("sentinel")), "{program:?}");
        assert_eq!((of("name_tag"), &info["account_name"]), (json!(app), &json!(app)), "{program:?}");
        let ask_service = json!({"deny": ["$SYS.REQ.USER.AUTH"]});
        let by_name = json!({"allow": ["$SYS.>", "joe.>"]});
        let by_default = json!({"deny": ["secret"]});
        for (word, account, name, publish) in [
            ("own", &auth, "[REDACTED]", &ask_service),
            ("signing key", &app, "joe", &by_default),
            ("scoped", &app, "joe", &by_name),
            ("answered by a signing key", &app, "[REDACTED]", &by_default),
            ("answered by a signing key for the account", &app, "[REDACTED]", &by_default),
            ("audience", &app, "[REDACTED]", &by_default),
        ] {
            let (mut wire, said) = world.come(word);
            assert_eq!(said, "PONG", "{word} {program:?}");
            let info = user_info(&mut wire);
            assert_eq!(info["account"], *account, "{word} {program:?}");
            assert_eq!(info["user"], name, "{word} {program:?}");
            assert_eq!(info["permissions"]["publish"], *publish, "{word} {program:?}");
        }

        let mut listener = world.listener();
        let on_account = format!("auth callout response on account {auth:?}");
        for (word, expected) in [
            ("not allowed", "not permitted as valid account option for auth callout"),
            ("unknown account", "not permitted as valid account option for auth callout"),
            ("unknown key", "User JWT issuer"),
            ("scoped with limits", "User JWT is not valid"),
            ("answered by a stranger", "Auth callout signing key is unknown"),
            ("answered by the account", "Auth callout signing key is unknown"),
            ("in another's name", "is not the callout account"),
            ("expired", "claim is expired"),
            ("why", "not today"),
        ] {
            assert_eq!(world.come(word).1, VIOLATION, "{word} {program:?}");
            let told = reason(&mut listener);
            assert!(told.contains(expected), "{word} {program:?}: {told} {on_account}");
        }
        assert_eq!(world.come("silence").1, VIOLATION, "{program:?}");
        assert_eq!(reason(&mut listener), "", "{program:?}");

        let (mut wire, said) = world.come("brief");
        assert_eq!(said, "PONG", "{program:?}");
        assert_eq!(wire.line(), "-ERR 'User Authentication Expired'", "{program:?}");
    }
}

/// Whoever is not let in by what it has shown is not asked about; the service's user is known by its key alone.
#[test]
fn who_is_asked_about() {
    for program in programs() {
        let world = World::start(&program, auth_token(|_| {}), "");
        let service = Service::start(world.service_wire(), None, answer);
        // Users of other accounts come in as ever.
        let user = sentinel_user();
        let of_app = user_token(APP, &user, |_| {});
        assert_eq!(world.enter(&of_app, Some(&user), &json!({"auth_token": "why"})).1, "PONG");
        // Without the signature that its token wants.
        let signing = user_token(AUTH, &user, |_| {});
        let expired = user_token(AUTH, &user, |claims| claims.data.expires = now_s() - 1);
        for token in [&*signing, &expired, ""] {
            let said = world.enter(token, None, &json!({"auth_token": "app"})).1;
            assert_eq!(said, VIOLATION, "{program:?}");
        }
        assert_eq!(service.count(), 0, "{program:?}");
        let name = json!({"auth_token": "app", "nkey": service_user().public_key()});
        let (mut wire, said) = world.enter(&signing, Some(&user), &name);
        assert_eq!(said, "PONG", "{program:?}");
        assert_eq!(user_info(&mut wire)["account"], account(APP).public_key(), "{program:?}");
        assert_eq!(service.asked().claims.nats.connect.nkey, service_user().public_key());
    }
}

/// Those who present nothing come as the sentinel; the service may put them anywhere, and is asked in secret.
#[test]
fn sealed_sentinels() {
    let any = auth_token(|claims| {
        claims.nats.authorization.allowed_accounts = vec!["*".into()];
        claims.nats.authorization.xkey = curve().public_key();
    });
    for program in programs() {
        let sentinel = sentinel();
        let world = World::start(&program, any.clone(), &format!("default_sentinel: {sentinel}"));
        let service = Service::start(world.service_wire(), Some(curve()), |asked| {
            let body = match &*asked.claims.nats.connect.auth_token {
                // Sealed, it can only be from the service, whoever has signed it.
                "sealed by a stranger" => asked.grant(&account(OTHER), |_| {}, |_| {}),
                "other" => answer(&Asked {
                    claims: {
                        let mut claims = asked.claims.clone();
                        claims.nats.connect.auth_token = "not allowed".into();
                        claims
                    },
                    xkey: None,
                })?,
                _ => return answer(asked),
            };
            Some(curve().seal(&body, asked.xkey.as_deref()?, [7; 24]).unwrap())
        });
        for (word, number) in [("app", APP), ("other", OTHER), ("sealed by a stranger", OTHER)] {
            let (mut wire, said) = world.enter("", None, &json!({"auth_token": word}));
            assert_eq!(said, "PONG", "{word} {program:?}");
            assert_eq!(user_info(&mut wire)["account"], account(number).public_key(), "{word} {program:?}");
            let asked = service.asked();
            assert_eq!(asked.claims.nats.connect.jwt, sentinel, "{word} {program:?}");
            assert_eq!(asked.xkey.as_deref(), wire.info["xkey"].as_str());
        }
    }
}

/// Users that the service has let in go when their account revokes them.
#[test]
fn revocations() {
    for program in programs() {
        let world = World::start(&program, auth_token(|_| {}), "");
        let service = Service::start(world.service_wire(), None, answer);
        let (mut one, said) = world.come("app");
        assert_eq!(said, "PONG", "{program:?}");
        let nkey = service.asked().claims.nats.user_nkey;
        let (mut two, _) = world.come("app");
        let revoking = |user: String| {
            app_token(|claims| {
                claims.nats.revocations.0.insert(user, now_s() + 60);
            })
        };
        world.update(&revoking(nkey));
        assert_eq!(one.line(), "-ERR 'User Authentication Revoked'", "{program:?}");
        two.flush();
        world.update(&revoking("*".into()));
        assert_eq!(two.line(), "-ERR 'User Authentication Revoked'", "{program:?}");
        // The original lets in whom the account has revoked, until that changes again.
        assert_eq!(world.come("app").1, if is_ours(&program) { VIOLATION } else { "PONG" });
        drop(world.process);
    }
}

/// An account that begins to ask a service does so for those who come from then on.
#[test]
fn a_service_that_begins() {
    let before = account_token(AUTH, |_| {});
    for program in programs() {
        let world = World::start(&program, before.clone(), "");
        let user = sentinel_user();
        let token = user_token(AUTH, &user, |_| {});
        let (mut wire, said) = world.enter(&token, Some(&user), &json!({}));
        assert_eq!(said, "PONG", "{program:?}");
        let (mut own, _) =
            world.enter(&user_token(AUTH, &service_user(), |_| {}), Some(&service_user()), &json!({}));
        own.flush();
        world.update(&auth_token(|_| {}));
        wire.flush();
        let _service = Service::start(own, None, answer);
        let (mut later, said) = world.enter(&token, Some(&user), &json!({"auth_token": "app"}));
        assert_eq!(said, "PONG", "{program:?}");
        assert_eq!(user_info(&mut later)["account"], account(APP).public_key(), "{program:?}");
        wire.flush();
    }
}

/// A signing key that goes takes its users with it.
#[test]
fn signing_keys_that_go() {
    for program in programs() {
        let world = World::start(&program, auth_token(|_| {}), "");
        let _service = Service::start(world.service_wire(), None, answer);
        let (mut by_key, _) = world.come("signing key");
        let (mut by_account, _) = world.come("app");
        by_key.flush();
        by_account.flush();
        world.update(&app_token(|claims| {
            claims.nats.signing_keys.0.remove(&account(SIGNING).public_key());
        }));
        assert_eq!(by_key.end(), "", "{program:?}");
        by_account.flush();
    }
}
