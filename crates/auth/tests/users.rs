//! Who gets in, told as tables: a configuration, what is presented, and who that is or why not. The answers are those
//! of nats-server 2.15.1 except where a comment says so.

// Helpers of tests stand outside of the functions that clippy recognises as tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use sonata_auth::check::{Check, Outcome, SlowCheck};
use sonata_auth::connection_type::{ConnectionType, ConnectionTypes};
use sonata_auth::nkey::Nonce;
use sonata_auth::password::Secret;
use sonata_auth::permission::{PermissionRules, Permissions};
use sonata_auth::user::{
    Credentials, Grant, Login, Name, NkeyEntry, Reason, SingleLogin, UserEntry, Users, UsersConfig,
};

const NONCE: [u8; Nonce::RANDOM_BYTES] = *b"eleven byte";

/// What is presented, as `key=value` words, and `granted <Name> [@account]`, `refused <reason>`, either after `slow:` if
/// it took a comparison with bcrypt. `sig=<n>` and `proxy_sig=<n>` sign with key `n`, `nkey=<n>` names it.
fn check(config: UsersConfig, transcript: &str) {
    let users = Users::new(config);
    for line in transcript.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (question, _) = line.split_once("->").unwrap();
        let answer = ask(&users, question.trim());
        assert_eq!(format!("{question}-> {answer}"), line);
    }
}

fn ask(users: &Users, question: &str) -> String {
    let nonce = Nonce::from_random(NONCE);
    let sign = |seed: &str| match seed.parse() {
        Ok(seed) => BASE64URL_NOPAD.encode(&key(seed).sign(nonce.as_str().as_bytes()).unwrap()),
        Err(_) => seed.to_owned(),
    };
    let (mut sig, mut proxy_sig, mut nkey) = (String::new(), String::new(), String::new());
    let mut credentials = Credentials { nonce: nonce.as_str(), ..Credentials::default() };
    for word in question.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap();
        match name {
            "user" => credentials.user = value,
            "pass" => credentials.pass = value,
            "token" => credentials.token = value,
            "by" => credentials.connection_type = value.parse().unwrap(),
            "sig" => sig = sign(value),
            "proxy_sig" => proxy_sig = sign(value),
            "nkey" => nkey = value.parse().map_or(value.to_owned(), |seed| key(seed).public_key()),
            _ => panic!("{word}"),
        }
    }
    credentials = Credentials { sig: &sig, proxy_sig: &proxy_sig, nkey: &nkey, ..credentials };
    let (how, outcome) = match users.authenticate(&credentials) {
        Check::Decided(outcome) => ("", outcome),
        Check::Slow(SlowCheck::Compute(work)) => match work() {
            Check::Decided(outcome) => ("slow: ", outcome),
            Check::Slow(slow) => panic!("{slow:?}"),
        },
        Check::Slow(slow) => panic!("{slow:?}"),
    };
    let text = match outcome {
        Outcome::Refused(reason) => format!("refused {reason}"),
        Outcome::Granted(identity) => {
            let account = identity.account.map(|account| format!(" @{account}")).unwrap_or_default();
            let proxy = if identity.proxy.is_some() { " by proxy" } else { "" };
            let who = match identity.user {
                Name::Nkey(public) if public == key(1).public_key() => "Nkey 1".to_owned(),
                name => name.to_string(),
            };
            format!("granted {who}{account}{proxy}")
        }
    };
    format!("{how}{text}")
}

fn key(seed: u8) -> KeyPair {
    KeyPair::new_from_raw(KeyPairType::User, [seed; 32]).unwrap()
}

fn user(name: &str, password: &str) -> UserEntry {
    UserEntry { name: name.into(), password: password.into(), grant: Grant::default() }
}

fn granting(entry: UserEntry, grant: Grant) -> UserEntry {
    UserEntry { grant, ..entry }
}

fn bcrypt_of(password: &str) -> String {
    bcrypt::hash_with_salt(password, 4, *b"sixteen bytes ok").unwrap().to_string()
}

fn only(types: &[ConnectionType]) -> Grant {
    Grant { connection_types: types.iter().copied().collect(), ..Grant::default() }
}

#[test]
fn an_open_server_lets_everyone_in_by_the_name_they_give() {
    check(
        UsersConfig::default(),
        "user=bob pass=x -> granted User \"bob\"
         token=tok -> granted Token \"[REDACTED]\"
         user=z nkey=1 -> granted Nkey 1
         -> granted User \"N/A\"",
    );
}

#[test]
fn one_token_or_one_user() {
    for token in ["tok".into(), bcrypt_of("tok")] {
        let slow = if token == "tok" { "" } else { "slow: " };
        let single = Some(SingleLogin::Token(Secret::new(token)));
        check(
            UsersConfig { login: Login { single, no_auth_user: None }, ..UsersConfig::default() },
            &format!(
                "token=tok -> {slow}granted Token \"[REDACTED]\"
                 token=x -> {slow}refused wrong password or token
                 user=tok -> {slow}refused wrong password or token
                 -> {slow}refused wrong password or token"
            ),
        );
    }
    let single = Some(SingleLogin::User("u".into(), "p".into()));
    check(
        UsersConfig { login: Login { single, no_auth_user: None }, ..UsersConfig::default() },
        "user=u pass=p -> granted User \"u\"
         user=u -> refused wrong password or token
         user=x pass=p -> refused unknown user
         token=p -> refused wrong password or token",
    );
}

#[test]
fn no_auth_user_is_for_those_who_present_nothing() {
    let login = Login { no_auth_user: Some("n".into()), single: None };
    check(
        UsersConfig {
            users: vec![user("u", "p"), user("n", "q")],
            login: login.clone(),
            ..UsersConfig::default()
        },
        "user=u pass=p -> granted User \"u\"
         -> granted User \"n\"
         token=t -> refused no credentials that this server takes
         pass=q -> refused no credentials that this server takes
         user=n -> refused wrong password or token
         user=n pass=q -> granted User \"n\"",
    );
    // The reference compares the hash with itself and so refuses who presents nothing. The name alone says what the
    // operator wants.
    let users = vec![user("n", &bcrypt_of("q"))];
    check(
        UsersConfig { users, login: login.clone(), ..UsersConfig::default() },
        "-> granted User \"n\"
         user=n -> slow: refused wrong password or token
         user=n pass=q -> slow: granted User \"n\"",
    );
    let users = vec![granting(user("n", "q"), only(&[ConnectionType::Websocket]))];
    check(
        UsersConfig { users, login, ..UsersConfig::default() },
        "-> refused connection type not allowed
         by=websocket -> granted User \"n\"",
    );
}

#[test]
fn nkeys_are_proven_by_signature_and_come_before_passwords() {
    let account = |name: &str| Grant { account: Some(Arc::from(name)), ..Grant::default() };
    let config = UsersConfig {
        users: vec![granting(user("a", "p"), account("A"))],
        nkey_users: vec![NkeyEntry { nkey: key(1).public_key(), grant: account("B") }],
        ..UsersConfig::default()
    };
    check(
        config.clone(),
        "user=a pass=p -> granted User \"a\" @A
         nkey=1 sig=1 -> granted Nkey 1 @B
         nkey=1 sig=2 -> refused signature not verified
         nkey=1 sig=AAAA -> refused signature not verified
         nkey=1 -> refused signature missing
         nkey=2 sig=2 -> refused unknown nkey
         nkey=UXX user=a pass=p -> refused unknown nkey
         -> refused no credentials that this server takes",
    );
    let login = Login { no_auth_user: Some(key(1).public_key()), single: None };
    check(
        UsersConfig { login, ..config },
        "user=a pass=p -> granted User \"a\" @A
         -> granted Nkey 1 @B
         nkey=1 -> granted Nkey 1 @B
         nkey=UXX -> refused unknown nkey",
    );
    // Without nkey users an nkey means nothing. (The reference lets the client in and then shows the nkey as its user.)
    check(
        UsersConfig { users: vec![user("a", "p")], ..UsersConfig::default() },
        "nkey=UXX user=a pass=p -> granted User \"a\"",
    );
}

#[test]
fn unknown_users_take_as_long_as_wrong_passwords() {
    check(
        UsersConfig {
            users: vec![user("plain", "p"), user("hashed", &bcrypt_of("q"))],
            ..UsersConfig::default()
        },
        "user=hashed pass=q -> slow: granted User \"hashed\"
         user=hashed pass=p -> slow: refused wrong password or token
         user=nobody pass=p -> slow: refused wrong password or token
         user=nobody pass=q -> slow: refused unknown user
         user=plain pass=p -> granted User \"plain\"",
    );
}

#[test]
fn users_are_bound_to_connection_types() {
    let users = vec![
        granting(user("w", "p"), only(&[ConnectionType::Websocket])),
        granting(user("s", "p"), only(&[ConnectionType::Standard, ConnectionType::Mqtt])),
    ];
    check(
        UsersConfig { users, ..UsersConfig::default() },
        "user=w pass=p -> refused connection type not allowed
         user=w pass=p by=websocket -> granted User \"w\"
         user=s pass=p -> granted User \"s\"
         user=s pass=p by=mqtt -> granted User \"s\"
         user=s pass=p by=mqtt_ws -> refused connection type not allowed
         user=s pass=p by=in_process -> refused connection type not allowed",
    );
}

#[test]
fn listeners_may_have_a_login_of_their_own() {
    let single = |text: &str| Some(SingleLogin::Token(text.into()));
    let config = UsersConfig {
        websocket_login: Some(Login { no_auth_user: None, single: single("web") }),
        mqtt_login: Some(Login { no_auth_user: None, single: single("things") }),
        ..UsersConfig::default()
    };
    check(
        config,
        "-> granted User \"N/A\"
         by=leafnode_ws -> granted User \"N/A\"
         by=websocket -> refused wrong password or token
         by=websocket token=web -> granted Token \"[REDACTED]\"
         by=mqtt token=web -> refused wrong password or token
         by=mqtt_ws token=things -> granted Token \"[REDACTED]\"",
    );
    let config = UsersConfig {
        users: vec![user("u", "p"), user("web", "q")],
        websocket_login: Some(Login { no_auth_user: Some("web".into()), single: None }),
        ..UsersConfig::default()
    };
    check(
        config,
        "-> refused no credentials that this server takes
         by=websocket -> granted User \"web\"
         by=leafnode_ws -> granted User \"web\"
         by=leafnode -> refused no credentials that this server takes",
    );
}

#[test]
fn users_without_password_are_known_by_certificate_only() {
    let users = vec![
        user("CN=alice", ""),
        granting(user("CN=bob", ""), only(&[ConnectionType::Standard])),
        user("carol", "p"),
    ];
    let certificate_mapping: ConnectionTypes = [ConnectionType::Websocket].into_iter().collect();
    check(
        UsersConfig { users, certificate_mapping, ..UsersConfig::default() },
        "user=CN=alice -> refused user requires a client certificate
         user=CN=bob -> granted User \"CN=bob\"
         user=carol pass=p -> granted User \"carol\"
         user=carol pass=p by=websocket -> refused user required in cert, none found",
    );
}

#[test]
fn proxies_sign_the_nonce_as_well() {
    let config = UsersConfig {
        users: vec![
            granting(user("p", "p"), Grant { proxy_required: true, ..Grant::default() }),
            user("u", "p"),
        ],
        trusted_proxies: vec![key(8).public_key(), key(9).public_key()],
        ..UsersConfig::default()
    };
    assert!(Users::new(config.clone()).needs_nonce());
    check(
        config,
        "user=u pass=p -> granted User \"u\"
         user=u pass=p proxy_sig=9 -> granted User \"u\" by proxy
         user=u pass=p proxy_sig=7 -> refused proxy is not trusted
         user=p pass=p -> refused proxy connection required
         user=p pass=p proxy_sig=8 -> granted User \"p\" by proxy",
    );
    let config = UsersConfig {
        login: Login { no_auth_user: None, single: Some(SingleLogin::Token("t".into())) },
        trusted_proxies: vec![key(8).public_key()],
        proxy_required: true,
        ..UsersConfig::default()
    };
    check(
        config,
        "token=t -> refused proxy connection required
         token=t proxy_sig=8 -> granted Token \"[REDACTED]\" by proxy
         token=x proxy_sig=8 -> refused wrong password or token",
    );
    assert_eq!(Reason::ProxyRequired.closed_reason(), "Proxy Required");
    assert_eq!(Reason::ProxyNotTrusted.closed_reason(), "Proxy Not Trusted");
    assert_eq!(Reason::UnknownUser.closed_reason(), "Authentication Failure");
}

#[test]
fn an_identity_carries_what_was_granted() {
    let permissions = Arc::new(Permissions::new(PermissionRules::default()).unwrap());
    let grant =
        Grant { account: Some("A".into()), permissions: Some(permissions.clone()), ..Grant::default() };
    let users =
        Users::new(UsersConfig { users: vec![granting(user("a", "p"), grant)], ..UsersConfig::default() });
    let check = users.authenticate(&Credentials { user: "a", pass: "p", ..Credentials::default() });
    let Check::Decided(Outcome::Granted(identity)) = check else { panic!("{check:?}") };
    assert!(identity.permissions.is_some_and(|granted| Arc::ptr_eq(&granted, &permissions)));
}

#[test]
fn plain_text_passwords_are_worth_a_warning() {
    let by_certificate: ConnectionTypes = [ConnectionType::Standard].into_iter().collect();
    for (users, certificate_mapping, expected) in [
        (vec![], ConnectionTypes::default(), false),
        (vec![user("a", "p")], ConnectionTypes::default(), true),
        (vec![user("a", &bcrypt_of("p"))], ConnectionTypes::default(), false),
        (vec![user("CN=a", "")], ConnectionTypes::default(), true),
        (vec![user("CN=a", "")], by_certificate, false),
        (vec![user("CN=a", "p")], by_certificate, true),
    ] {
        let users = Users::new(UsersConfig { users, certificate_mapping, ..UsersConfig::default() });
        assert_eq!(users.has_plaintext_password(), expected, "{users:?}");
    }
}

#[test]
fn nothing_prints_a_password() {
    let single = Some(SingleLogin::User("u".into(), "hunter2".into()));
    let login = Login { no_auth_user: None, single };
    let config = UsersConfig { users: vec![user("a", "hunter2")], login, ..UsersConfig::default() };
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!format!("{:?}", Users::new(config)).contains("hunter2"));
}
