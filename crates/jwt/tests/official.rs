//! Tokens made by the official library: read as they were meant, and written as they were.
//!
//! `official.txt` holds one a line, with a name. Keys are made of seeds of 32 equal bytes: operator 1, its signing key 2,
//! account 3, its signing keys 4 and (scoped) 5, another account 6, user 7, server 8.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use serde_json::Value;
use sonata_jwt::account::{Account, Signer};
use sonata_jwt::activation::Activation;
use sonata_jwt::claims::{Claims, Content};
use sonata_jwt::operator::Operator;
use sonata_jwt::share::{ResponseType, Sampling, ShareKind};
use sonata_jwt::token::{AnyClaims, TokenError, decode, decode_any, encode};
use sonata_jwt::user::User;
use sonata_jwt::validation::Validate;

const NOW: i64 = 1_790_000_000;

fn token(name: &str) -> &'static str {
    let mut lines = include_str!("official.txt").lines().filter_map(|line| line.split_once(' '));
    lines.find(|(known, _)| *known == name).unwrap().1
}

fn key(kind: KeyPairType, number: u8) -> KeyPair {
    KeyPair::new_from_raw(kind, [number; 32]).unwrap()
}

fn public(kind: KeyPairType, number: u8) -> String {
    key(kind, number).public_key()
}

fn body(token: &str) -> Value {
    serde_json::from_slice(&BASE64URL_NOPAD.decode(token.split('.').nth(1).unwrap().as_bytes()).unwrap())
        .unwrap()
}

fn written(claims: &AnyClaims) -> Value {
    match claims {
        AnyClaims::Operator(claims) => serde_json::to_value(claims),
        AnyClaims::Account(claims) => serde_json::to_value(claims),
        AnyClaims::User(claims) => serde_json::to_value(claims),
        AnyClaims::Activation(claims) => serde_json::to_value(claims),
        AnyClaims::AuthorizationRequest(claims) => serde_json::to_value(claims),
        AnyClaims::AuthorizationResponse(claims) => serde_json::to_value(claims),
        AnyClaims::Generic(claims) => serde_json::to_value(claims),
    }
    .unwrap()
}

/// What is empty may be written or not.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().map(|(name, value)| (name, without_empty(value)));
            Value::Object(
                kept.filter(|(_, value)| !matches!(value, Value::Object(map) if map.is_empty())).collect(),
            )
        }
        Value::Array(items) => items.into_iter().map(without_empty).collect(),
        other => other,
    }
}

#[test]
fn nothing_is_lost() {
    for name in [
        "operator",
        "activation",
        "account",
        "account-self",
        "user",
        "user-scoped",
        "request",
        "response",
        "generic",
    ] {
        let claims = decode_any(token(name)).unwrap();
        let (read, said) = (without_empty(written(&claims)), without_empty(body(token(name))));
        assert_eq!(read, said, "{name}");
    }
}

#[test]
fn nothing_is_wrong_with_them() {
    let issues = |name: &str| match decode_any(token(name)).unwrap() {
        AnyClaims::Operator(claims) => claims.validate(NOW),
        AnyClaims::Account(claims) => claims.validate(NOW),
        AnyClaims::User(claims) => claims.validate(NOW),
        AnyClaims::Activation(claims) => claims.validate(NOW),
        AnyClaims::AuthorizationRequest(claims) => claims.validate(NOW),
        AnyClaims::AuthorizationResponse(claims) => claims.validate(NOW),
        AnyClaims::Generic(claims) => claims.validate(NOW),
    };
    for line in include_str!("official.txt").lines().filter(|line| !line.starts_with("activation-hash")) {
        let name = line.split(' ').next().unwrap();
        // The one import of the full account that does not fit its activation is there to be found.
        let found = issues(name);
        assert!(!found.is_blocking(), "{name}: {found}");
    }
}

#[test]
fn what_the_members_mean() {
    let account: Claims<Account> = decode(token("account")).unwrap();
    let nats = &account.nats;
    assert_eq!(account.data.issuer, public(KeyPairType::Operator, 2));
    assert_eq!((nats.limits.nats.subs, nats.limits.account.connections), (10, 5));
    assert!(nats.limits.account.disallow_bearer && nats.limits.has_jetstream());
    assert_eq!(nats.limits.tiers["R1"].memory_max_stream_bytes, 6);
    let serve = nats.exports.iter().find(|export| export.subject == "serve").unwrap();
    assert_eq!(serve.kind, Some(ShareKind::Service));
    assert_eq!(ResponseType::from_name(&serve.response_type), Some(ResponseType::Chunked));
    assert_eq!(serve.latency.as_ref().unwrap().sampling, Sampling::Headers);
    assert_eq!(nats.mappings["from.*"][0].percent(), 40);
    let import = nats.imports.iter().find(|import| !import.token.is_empty()).unwrap();
    let activation = import.activation().unwrap();
    assert_eq!(activation.account(), public(KeyPairType::Account, 6));
    assert_eq!(activation.hash_id().unwrap(), token("activation-hash"));

    let scoped = account.signer(&public(KeyPairType::Account, 5), true);
    let Signer::Scoped(scope) = scoped else { panic!("{scoped:?}") };
    assert_eq!((scope.template.limits.subs, scope.template.limits.payload), (7, -1));
    assert_eq!(account.signer(&public(KeyPairType::Account, 4), true), Signer::Plain);
    assert_eq!(account.signer(&public(KeyPairType::Account, 3), true), Signer::Unknown);
    assert_eq!(account.signer(&public(KeyPairType::Account, 3), false), Signer::Plain);
    assert_eq!(account.signer(&public(KeyPairType::Account, 6), false), Signer::Unknown);

    let user: Claims<User> = decode(token("user")).unwrap();
    assert_eq!(user.account(), public(KeyPairType::Account, 3));
    assert_eq!(user.nats.limits.sources, ["10.0.0.0/8", "192.168.0.0/16"]);
    assert!(user.nats.limits.bearer && user.nats.limits.proxy_required && !user.nats.has_no_limits());
    assert!(!account.has_revoked(&user), "issued later");
    assert!(decode::<User>(token("user-scoped")).unwrap().nats.has_no_limits());

    let operator: Claims<Operator> = decode(token("operator")).unwrap();
    assert_eq!(operator.trusted_keys().collect::<Vec<_>>(), [public(KeyPairType::Operator, 2)]);
}

#[test]
fn the_first_version_is_read_as_the_second() {
    let user: Claims<User> = decode(token("user-v1")).unwrap();
    assert_eq!(user.nats.meta.version, 1);
    assert_eq!(user.account(), public(KeyPairType::Account, 3));
    assert_eq!(user.nats.limits.limits.subs, -1);
    assert_eq!(user.nats.limits.sources, ["10.0.0.0/8", "1.2.3.4/32"]);
    assert_eq!(user.nats.limits.permissions.publish.allow, ["foo"]);
    assert_eq!(user.nats.meta.tags, ["old"]);
    let activation: Claims<Activation> = decode(token("activation-v1")).unwrap();
    assert_eq!(activation.nats.import_kind, Some(ShareKind::Service));
    let account: Claims<Account> = decode(token("account-v1")).unwrap();
    assert_eq!(account.signer(&public(KeyPairType::Account, 4), false), Signer::Plain);
    assert!(!account.nats.limits.has_jetstream());
}

/// A file of the reference's own tests, with several signing keys.
#[test]
fn an_operator_between_fences() {
    let text = "-----BEGIN TEST OPERATOR JWT-----\n\
        eyJ0eXAiOiJqd3QiLCJhbGciOiJlZDI1NTE5In0.eyJhdWQiOiJURVNUUyIsImV4cCI6MTg1OTEyMTI3NSwianRpIjoiWE5MWjZYWVBIVE1ESl\
        FSTlFPSFVPSlFHV0NVN01JNVc1SlhDWk5YQllVS0VRVzY3STI1USIsImlhdCI6MTU0Mzc2MTI3NSwiaXNzIjoiT0NBVDMzTVRWVTJWVU9JTUdOR1\
        VOWEo2NkFIMlJMU0RBRjNNVUJDWUFZNVFNSUw2NU5RTTZYUUciLCJuYW1lIjoiU3luYWRpYSBDb21tdW5pY2F0aW9ucyBJbmMuIiwibmJmIjoxNT\
        QzNzYxMjc1LCJzdWIiOiJPQ0FUMzNNVFZVMlZVT0lNR05HVU5YSjY2QUgyUkxTREFGM01VQkNZQVk1UU1JTDY1TlFNNlhRRyIsInR5cGUiOiJvcG\
        VyYXRvciIsIm5hdHMiOnsic2lnbmluZ19rZXlzIjpbIk9EU0tSN01ZRlFaNU1NQUo2RlBNRUVUQ1RFM1JJSE9GTFRZUEpSTUFWVk40T0xWMllZQU\
        1IQ0FDIiwiT0RTS0FDU1JCV1A1MzdEWkRSVko2NTdKT0lHT1BPUTZLRzdUNEhONk9LNEY2SUVDR1hEQUhOUDIiLCJPRFNLSTM2TFpCNDRPWTVJVk\
        NSNlA1MkZaSlpZTVlXWlZXTlVEVExFWjVUSzJQTjNPRU1SVEFCUiJdfX0.hyfz6E39BMUh0GLzovFfk3wT4OfualftjdJ_eYkLfPvu5tZubYQ_Pn\
        9oFYGCV_6yKy3KMGhWGUCyCdHaPhalBw\n\
        ------END TEST OPERATOR JWT------";
    let token = sonata_jwt::credentials::token_in(text).unwrap();
    let operator: Claims<Operator> = decode(token).unwrap();
    assert_eq!(operator.data.name, "Synadia Communications Inc.");
    assert_eq!(operator.trusted_keys().count(), 4);
    assert!(!operator.validate(NOW).is_blocking());
    assert!(operator.validate(1_900_000_000).is_blocking());
}

#[test]
fn what_we_sign_is_read_back() {
    let account: Claims<Account> = decode(token("account")).unwrap();
    let signer = key(KeyPairType::Operator, 1);
    let again = encode(account.clone(), &signer, NOW).unwrap();
    let read: Claims<Account> = decode(&again).unwrap();
    assert_eq!(read.nats, account.nats);
    assert_eq!((read.data.issuer.as_str(), read.data.issued_at), (signer.public_key().as_str(), NOW));
    assert_eq!(read.data.id.len(), 52);
    let user = encode(Claims::<User>::about(public(KeyPairType::User, 7)), &signer, NOW);
    assert!(matches!(user, Err(TokenError::Issuer(_))), "an operator does not vouch for users");
    assert_eq!(User::KIND, "user");
}
