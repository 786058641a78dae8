//! Whom a service is asked about, and that nothing but its answer lets anybody in.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use jiff::tz::TimeZone;
use nkeys::{KeyPair, KeyPairType};
use sonata_auth::callout::answer::{ANSWER_BYTES_MAX, Answer, Expected, Signers};
use sonata_auth::callout::error::CalloutError;
use sonata_auth::callout::{Caller, Callout, Delegation, Question, Said};
use sonata_auth::check::{Asking, Check, Outcome, SlowCheck};
use sonata_auth::nkey::Nonce;
use sonata_auth::password::Secret;
use sonata_auth::token::Moment;
use sonata_auth::user::{
    ClientFacts, Credentials, Grant, Identity, Login, Name, NkeyEntry, Reason, SingleLogin, UserEntry, Users,
    UsersConfig,
};
use sonata_jwt::authorization::Response;
use sonata_jwt::claims::Claims;
use sonata_jwt::token::encode;
use sonata_jwt::user::{User, UserLimits};

const NOW: i64 = 1_717_416_000;
const MOMENT: Moment = Moment { unix_ns: NOW * 1_000_000_000, clock_ns: 5_000 };

fn key(kind: KeyPairType, number: u8) -> KeyPair {
    KeyPair::new_from_raw(kind, [number; 32]).unwrap()
}

fn issuer() -> KeyPair {
    key(KeyPairType::Account, 1)
}

/// Remembers what it is asked, and never answers.
#[derive(Debug, Default)]
struct Ear {
    asked: Mutex<Vec<Question>>,
    refusals: Mutex<Vec<u64>>,
}

impl Callout for Ear {
    fn ask(&self, question: Question) -> Asking {
        self.asked.lock().unwrap().push(question);
        Box::pin(std::future::pending())
    }

    fn note_refusal(&self, _: &Delegation, connection_id: u64) {
        self.refusals.lock().unwrap().push(connection_id);
    }

    fn confirm(&self, _: &Delegation, _: &Said) -> Check {
        Check::Decided(Outcome::Refused(Reason::CalloutRefused))
    }
}

/// What becomes of somebody: `asked`, `granted <name>`, `refused <why>`; and what the service was asked.
fn outcome(users: &Users, ear: &Ear, credentials: &Credentials<'_>) -> (String, Option<Question>) {
    let mut check = users.authenticate(credentials);
    let said = loop {
        check = match check {
            Check::Slow(SlowCheck::Compute(work) | SlowCheck::Find(work)) => work(),
            Check::Slow(SlowCheck::Ask(_)) => break "asked".to_owned(),
            Check::Decided(Outcome::Refused(reason)) => break format!("refused {reason}"),
            Check::Decided(Outcome::Granted(Identity { user, .. })) => break format!("granted {user}"),
        }
    };
    (said, ear.asked.lock().unwrap().pop())
}

fn table(ear: &Arc<Ear>, allowed_accounts: &[&str], no_auth_user: Option<&str>) -> Users {
    let user = |name: &str, password: &str, account: Option<&str>, proxy_required: bool| UserEntry {
        name: name.into(),
        password: Secret::new(password),
        grant: Grant { account: account.map(Arc::from), proxy_required, ..Grant::default() },
    };
    let nkey = NkeyEntry { nkey: key(KeyPairType::User, 8).public_key(), grant: Grant::default() };
    let delegation = Delegation {
        issuer: issuer().public_key(),
        account: "AUTH".into(),
        auth_users: ["auth", "elsewhere", ""].map(str::to_owned).into(),
        xkey: None,
        allowed_accounts: allowed_accounts.iter().map(|name| (*name).to_owned()).collect(),
    };
    Users::new(UsersConfig {
        users: vec![
            user("auth", "pwd", Some("AUTH"), false),
            user("elsewhere", "pwd", Some("APP"), false),
            user("app", "pwd", Some("APP"), false),
            user("plain", "pwd", None, false),
            user("far", "pwd", Some("APP"), true),
            user("hash", "$2a$04$sU3fwEbOCAHBPO0hsXcVtOeS8eORuh6RZGDjhQj5S5zVaUlzSXPWG", Some("APP"), false),
        ],
        nkey_users: vec![nkey],
        login: Login { no_auth_user: no_auth_user.map(str::to_owned), single: None },
        callout: Some((Arc::new(delegation), ear.clone() as Arc<dyn Callout>)),
        ..UsersConfig::default()
    })
}

fn login<'a>(user: &'a str, pass: &'a str) -> Credentials<'a> {
    Credentials {
        user,
        pass,
        client: ClientFacts { id: 9, ..ClientFacts::default() },
        ..Credentials::default()
    }
}

#[test]
fn who_is_asked_about() {
    let ear = Arc::new(Ear::default());
    let cases: &[(&[&str], &str, &str, &str)] = &[
        (&[], "app", "pwd", "asked"),
        (&[], "app", "wrong", "asked"),
        (&[], "plain", "pwd", "asked"),
        (&[], "nobody", "", "asked"),
        (&[], "", "", "asked"),
        (&[], "hash", "wrong", "asked"),
        (&[], "far", "pwd", "asked"),
        (&[], "auth", "pwd", "granted User \"auth\""),
        (&[], "auth", "wrong", "refused wrong password or token"),
        (&[], "elsewhere", "pwd", "granted User \"elsewhere\""),
        (&["OTHER"], "app", "pwd", "granted User \"app\""),
        (&["OTHER"], "app", "wrong", "asked"),
        (&["OTHER"], "plain", "pwd", "asked"),
        (&["OTHER"], "nobody", "", "asked"),
        (&["OTHER"], "auth", "wrong", "refused wrong password or token"),
        (&["OTHER", "APP"], "app", "pwd", "asked"),
    ];
    for (allowed, user, pass, expected) in cases {
        let (said, question) = outcome(&table(&ear, allowed, None), &ear, &login(user, pass));
        assert_eq!(said, *expected, "{user} {pass} {allowed:?}");
        assert_eq!(question.is_some(), said == "asked", "{user} {pass}");
        if let Some(question) = question {
            assert_eq!((&*question.caller.connect.user, &*question.caller.connect.pass), (*user, *pass));
            assert_eq!(question.caller.proxy_required, *user == "far");
            let own = question.own_account.as_deref();
            assert_eq!(own, (*user == "app" && *pass == "pwd").then_some("APP"), "{user} {pass}");
        }
    }
    assert_eq!(*ear.refusals.lock().unwrap(), [9, 9], "the service hears of who claims to be it");
}

/// It is the configured user that counts, not what a client says beside it.
#[test]
fn a_name_beside_another_does_not_help() {
    let ear = Arc::new(Ear::default());
    let users = table(&ear, &[], None);
    let nonce = Nonce::from_random(*b"eleven byte");
    let nkey = key(KeyPairType::User, 8).public_key();
    let beside = Credentials { nkey: &nkey, nonce: nonce.as_str(), sig: "x", ..login("auth", "pwd") };
    let (said, question) = outcome(&users, &ear, &beside);
    assert_eq!(said, "asked");
    let client = question.unwrap().caller.client;
    assert_eq!((&client.user, &*client.nonce), (&nkey, nonce.as_str()));

    let single = Users::new(UsersConfig {
        login: Login {
            no_auth_user: None,
            single: Some(SingleLogin::User("auth".into(), Secret::new("pwd"))),
        },
        callout: Some((
            Arc::new(Delegation {
                auth_users: ["auth".to_owned()].into(),
                account: "$G".into(),
                ..Delegation::default()
            }),
            ear.clone() as Arc<dyn Callout>,
        )),
        ..UsersConfig::default()
    });
    let named = Credentials { nkey: "auth", ..login("other", "pwd") };
    assert_eq!(outcome(&single, &ear, &named).0, "asked");
    assert_eq!(outcome(&single, &ear, &login("auth", "wrong")).0, "refused wrong password or token");
    let Check::Decided(Outcome::Granted(own)) = single.authenticate(&login("auth", "pwd")) else { panic!() };
    assert!(!own.permissions.unwrap().can_publish(b"$SYS.REQ.USER.AUTH"));
}

/// Who presents nothing is asked about as the user who stands in, password and all: the service may want to see it.
#[test]
fn somebody_stands_in_for_nobody() {
    let ear = Arc::new(Ear::default());
    let (said, question) = outcome(&table(&ear, &[], Some("app")), &ear, &login("", ""));
    assert_eq!(said, "asked");
    let caller = question.unwrap().caller;
    assert_eq!((&*caller.client.user, &*caller.connect.user, &*caller.connect.pass), ("app", "app", "pwd"));
    assert_eq!(caller.standing.name, Name::User("app".into()));

    let nkey = key(KeyPairType::User, 8).public_key();
    let (said, question) = outcome(&table(&ear, &[], Some(&nkey)), &ear, &login("", ""));
    assert_eq!(said, "asked");
    assert_eq!(question.unwrap().caller.connect.nkey, nkey);
    assert_eq!(outcome(&table(&ear, &[], Some("auth")), &ear, &login("", "")).0, "granted User \"auth\"");
}

/// An answer, and the question that it is to.
struct Case {
    user: Claims<User>,
    response: Claims<Response>,
    signers: [KeyPair; 2],
    sealed: bool,
}

fn user_nkey() -> String {
    key(KeyPairType::User, 3).public_key()
}

fn server_id() -> String {
    key(KeyPairType::Server, 4).public_key()
}

impl Case {
    fn new() -> Self {
        let mut user = Claims::<User>::about(user_nkey());
        user.nats.limits = UserLimits::unlimited();
        user.data.audience = "APP".into();
        let mut response = Claims::<Response>::about(user_nkey());
        response.data.audience = server_id();
        Self { user, response, signers: [issuer(), issuer()], sealed: false }
    }

    fn body(&self) -> Vec<u8> {
        let mut response = self.response.clone();
        if response.nats.error.is_empty() {
            response.nats.jwt = encode(self.user.clone(), &self.signers[0], NOW).unwrap();
        }
        encode(response, &self.signers[1], NOW).unwrap().into_bytes()
    }

    fn admit(&self) -> Result<Identity, CalloutError> {
        admit(&self.body(), self.sealed)
    }
}

fn delegation() -> Delegation {
    Delegation { issuer: issuer().public_key(), account: "AUTH".into(), ..Delegation::default() }
}

/// Sealing is turning all bits here.
fn admit(body: &[u8], sealed: bool) -> Result<Identity, CalloutError> {
    let turned = |bytes: &[u8]| bytes.iter().map(|byte| !byte).collect::<Vec<u8>>();
    let open = |bytes: &[u8]| Ok(turned(bytes));
    let (user_nkey, server_id, delegation) = (user_nkey(), server_id(), delegation());
    let expected = Expected {
        user_nkey: &user_nkey,
        server_id: &server_id,
        account: "AUTH",
        open: sealed.then_some(&open),
        signers: Signers::Issuer(&delegation.issuer),
    };
    let caller = Caller::of(&login("bob", "pwd"), None);
    let body = if sealed { turned(body) } else { body.to_vec() };
    let answer = Answer::read(&body, &expected, &caller, NOW)?;
    answer.admit_configured(&delegation, caller.standing, |name| name == "APP", MOMENT, &TimeZone::UTC)
}

#[test]
fn a_good_answer_lets_in() {
    let mut case = Case::new();
    case.user.nats.limits.permissions.publish.allow = vec!["a".into()];
    case.user.nats.limits.limits.subs = 0;
    case.user.nats.limits.limits.payload = 7;
    case.user.data.expires = NOW + 3;
    for sealed in [false, true] {
        case.sealed = sealed;
        let identity = case.admit().unwrap();
        assert_eq!((identity.user, identity.account.as_deref()), (Name::User("bob".into()), Some("APP")));
        assert!(!identity.permissions.unwrap().can_publish(b"b"));
        let token = identity.token.unwrap();
        assert_eq!((token.subscriptions_max, token.payload_bytes_max), (None, Some(7)));
        assert_eq!(token.expires_ns, Some(5_000 + 3_000_000_000));
        assert!(token.token.is_empty(), "it is nobody's business");
        // The same word later.
        let said = token.said.clone().unwrap();
        assert!(Answer::again(&said, NOW + 3).is_ok());
        assert!(matches!(Answer::again(&said, NOW + 4), Err(CalloutError::UserInvalid(_))));
    }
    case.user.data.name = "joe".into();
    assert_eq!(case.admit().unwrap().user, Name::User("joe".into()));
    // Sealed, it can only be from the service.
    case.signers[1] = key(KeyPairType::Account, 9);
    assert!(case.admit().is_ok());
    case.sealed = false;
    assert_eq!(case.admit().unwrap_err(), CalloutError::ResponseSignerUnknown);
}

/// Whatever is cut or changed of a good answer, it lets nobody in.
#[test]
fn nothing_else_lets_in() {
    let body = Case::new().body();
    assert!(admit(&body, false).is_ok());
    for end in 0..body.len() {
        assert!(admit(&body[..end], false).is_err(), "{end}");
    }
    for at in 0..body.len() {
        let mut changed = body.clone();
        changed[at] ^= 0x20;
        assert!(admit(&changed, false).is_err(), "{at}");
    }
    for bytes in [0, 1, 3, 1000, ANSWER_BYTES_MAX, ANSWER_BYTES_MAX + 1] {
        for byte in [0, b'e', b'.', 0xFF] {
            assert!(admit(&vec![byte; bytes], false).is_err(), "{bytes} {byte}");
        }
    }
}

#[test]
fn errors_in_order() {
    type Change = fn(&mut Case);
    // Each keeps what is wrong with those before it in place, from the last to the first.
    let steps: [(&str, Change); 10] = [
        ("on account \"AUTH\" connects from a source not allowed", |case| {
            case.user.nats.limits.sources = vec!["10.0.0.0/8".into()];
        }),
        ("using invalid connection type", |case| {
            case.user.nats.limits.allowed_connection_types = vec!["MQTT".into()];
        }),
        ("No valid account \"OTHER\"", |case| case.user.data.audience = "OTHER".into()),
        ("Wrong issuer for auth callout response", |case| case.signers[0] = key(KeyPairType::Account, 9)),
        ("Expected authorized user of", |case| {
            case.user.data.subject = key(KeyPairType::User, 9).public_key();
        }),
        ("Error validating user JWT: claim is expired", |case| case.user.data.expires = NOW - 1),
        ("Proxy connection required", |case| case.user.nats.limits.proxy_required = true),
        ("Auth callout service returned an error: no", |case| case.response.nats.error = "no".into()),
        ("Auth callout signing key is unknown", |case| case.signers[1] = key(KeyPairType::Account, 9)),
        ("response is not for server", |case| {
            case.response.data.audience = key(KeyPairType::Server, 9).public_key();
        }),
    ];
    let mut case = Case::new();
    for (text, change) in steps {
        change(&mut case);
        let error = case.admit().unwrap_err();
        assert!(error.to_string().contains(text), "{text:?}: {error}");
        let proxy = text.starts_with("Proxy");
        assert_eq!(error.reason() == Reason::ProxyRequired, proxy, "{error}");
    }
}
