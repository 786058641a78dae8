//! Tokens that nobody honest makes: an error each, in bounded time, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::{KeyPair, KeyPairType};
use proptest::prelude::*;
use serde_json::{Value, json};
use sonata_jwt::account::{Account, SHARES_MAX};
use sonata_jwt::operator::Operator;
use sonata_jwt::token::{TOKEN_BYTES_MAX, TokenError, decode, decode_any};
use sonata_jwt::user::User;
use sonata_jwt::validation::{Issues, Validate};

fn pair(kind: KeyPairType) -> KeyPair {
    let seed = [kind.clone() as u8; 32];
    KeyPair::new_from_raw(kind, seed).unwrap()
}

fn signed(header: &str, body: &str, issuer: &KeyPair) -> String {
    let signed =
        format!("{}.{}", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(body.as_bytes()));
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&issuer.sign(signed.as_bytes()).unwrap()))
}

const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;

fn account(nats: Value) -> String {
    let issuer = pair(KeyPairType::Operator);
    let subject = pair(KeyPairType::Account).public_key();
    signed(HEADER, &json!({"iss": issuer.public_key(), "sub": subject, "nats": nats}).to_string(), &issuer)
}

fn limited(mut nats: Value) -> Value {
    nats["type"] = "account".into();
    nats["version"] = 2.into();
    nats["limits"] = json!({"imports": -1, "exports": -1, "wildcards": true});
    nats
}

#[test]
fn forms() {
    let operator = pair(KeyPairType::Operator);
    let key = operator.public_key();
    let body = |kind: &str, version: i64| {
        json!({"iss": key, "nats": {"type": kind, "version": version}}).to_string()
    };
    let good = signed(HEADER, &body("operator", 2), &operator);
    assert!(decode::<Operator>(&good).is_ok());
    assert!(decode::<Operator>(&format!(" {good}\r\n")).is_ok());
    assert_eq!(decode::<User>(&good).unwrap_err(), TokenError::Kind("user", "operator".into()));

    let error = |header: &str, body: &str| decode::<Operator>(&signed(header, body, &operator)).unwrap_err();
    let ours = body("operator", 2);
    assert!(matches!(error(r#"{"typ":"JWT","alg":"none"}"#, &ours), TokenError::Algorithm(_)));
    assert!(matches!(error(r#"{"typ":"JWT","alg":"HS256"}"#, &ours), TokenError::Algorithm(_)));
    assert!(matches!(error(r#"{"alg":"ed25519-nkey"}"#, &ours), TokenError::Type(_)));
    assert!(matches!(error("[]", &ours), TokenError::Json(_)));
    assert!(matches!(error(HEADER, "[1]"), TokenError::Json(_)));
    assert!(matches!(error(HEADER, "{"), TokenError::Json(_)));
    assert!(matches!(error(HEADER, &"[".repeat(100_000)), TokenError::Json(_)));
    assert!(matches!(
        error(HEADER, &format!("{{\"nats\":{}", "{\"a\":".repeat(100_000))),
        TokenError::Json(_)
    ));
    assert_eq!(error(HEADER, &body("operator", 3)), TokenError::Newer(3));
    assert_eq!(error(HEADER, &body("operator", 0)), TokenError::Version(0));
    assert_eq!(error(HEADER, &body("operator", -1)), TokenError::Version(-1));

    let user = pair(KeyPairType::User);
    let own = ours.replace(&key, &user.public_key());
    let issuer = decode::<Operator>(&signed(HEADER, &own, &user)).unwrap_err();
    assert!(matches!(issuer, TokenError::Issuer(_)), "{issuer:?}");
    assert_eq!(decode::<Operator>(&signed(HEADER, &ours, &user)).unwrap_err(), TokenError::Signature(2));
    assert!(matches!(decode_any(&"a".repeat(TOKEN_BYTES_MAX + 1)), Err(TokenError::TooLarge(_))));
    for text in ["", ".", "..", "...", "a.b", "a.b.c.d", "ä.ö.ü"] {
        assert!(decode_any(text).is_err(), "{text}");
    }
}

/// What version 1 signed is less than what version 2 signs: its rules must not open a way around those of version 2.
#[test]
fn a_header_is_signed_with_the_claims() {
    let operator = pair(KeyPairType::Operator);
    let body = json!({"iss": operator.public_key(), "nats": {"type": "operator", "version": 2}}).to_string();
    let body = BASE64URL_NOPAD.encode(body.as_bytes());
    let signature = BASE64URL_NOPAD.encode(&operator.sign(body.as_bytes()).unwrap());
    let header = BASE64URL_NOPAD.encode(br#"{"typ":"jwt","alg":"ed25519"}"#);
    let token = format!("{header}.{body}.{signature}");
    assert_eq!(decode::<Operator>(&token).unwrap_err(), TokenError::Signature(2));
}

#[test]
fn wrong_types_are_errors_and_null_is_nothing() {
    for (member, value) in [
        ("limits", json!(1)),
        ("limits", json!({"subs": "1"})),
        ("limits", json!({"subs": 1.5})),
        ("limits", json!({"subs": 1e300})),
        ("limits", json!({"tiered_limits": []})),
        ("imports", json!({})),
        ("imports", json!([null])),
        ("imports", json!([{"type": "river"}])),
        ("exports", json!([[]])),
        ("exports", json!([{"service_latency": {"sampling": "sometimes"}}])),
        ("signing_keys", json!("A")),
        ("signing_keys", json!([{"kind": "god_scope"}])),
        ("signing_keys", json!([{"kind": "user_scope", "template": 3}])),
        ("revocations", json!({"*": "now"})),
        ("mappings", json!({"a": {}})),
        ("mappings", json!({"a": [{"weight": 256}]})),
        ("default_permissions", json!({"pub": {"allow": [1]}})),
        ("tags", json!("one")),
    ] {
        let nats = json!({"type": "account", "version": 2, member: value.clone()});
        let read = decode::<Account>(&account(nats));
        assert!(matches!(read, Err(TokenError::Json(_))), "{member} {value}");
        let nats = json!({"type": "account", "version": 2, member: null});
        assert!(decode::<Account>(&account(nats)).is_ok(), "{member}");
    }
}

#[test]
fn long_lists_take_bounded_work() {
    let many = SHARES_MAX + 1;
    let import = |n: usize| json!({"subject": format!("a.{n}.*"), "account": "A", "type": "service"});
    let imports: Vec<Value> = (0..many).map(import).collect();
    let claims = decode::<Account>(&account(limited(json!({"imports": imports})))).unwrap();
    assert_eq!(claims.validate(0).all().len(), 1, "not looked at one by one");

    let exports: Vec<Value> = (0..SHARES_MAX).map(|_| json!({"subject": ">", "type": "stream"})).collect();
    let claims = decode::<Account>(&account(limited(json!({"exports": exports})))).unwrap();
    let issues = claims.validate(0);
    assert!(issues.has_errors() && issues.all().len() == Issues::KEPT_MAX);

    let keys: Vec<Value> = (0..10_000).map(|n| json!(n.to_string())).collect();
    let claims = decode::<Account>(&account(limited(json!({"signing_keys": keys})))).unwrap();
    assert!(claims.validate(0).has_errors());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = decode_any(&text);
    }

    #[test]
    fn any_signed_json_is_read_or_refused(kind in "operator|account|user|activation|authorization_request|x", name in
        "signing_keys|limits|imports|exports|src|times|pub|resp|tags|subject|client_info|times_location", value in json_value())
    {
        let issuer = pair(KeyPairType::Account);
        let body = json!({"iss": issuer.public_key(), "sub": "x", "nats": {"type": kind, "version": 2, name: value}});
        let token = signed(HEADER, &body.to_string(), &issuer);
        let _ = decode_any(&token);
        if let Ok(claims) = decode::<Account>(&token) {
            let _ = claims.validate(0);
        }
        if let Ok(claims) = decode::<User>(&token) {
            let _ = claims.validate(0);
        }
    }

    #[test]
    fn a_changed_token_is_refused(at in 0usize..4096, to in "[A-Za-z0-9_-]") {
        let token = include_str!("official.txt").lines().find_map(|line| line.strip_prefix("user ")).unwrap();
        let at = at % token.len();
        let mut changed = token.to_owned();
        changed.replace_range(at..=at, &to);
        if changed != token {
            prop_assert!(decode::<User>(&changed).is_err());
        }
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z.*> {}()/:0-9]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let names = "subs|subject|type|account|allow|deny|start|end|max|ttl|kind|key|template|[a-z]{1,3}";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(names, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Advisory 2026-23: the key of an issuer that is right in all but its length ended the original before anybody had logged in.
#[test]
fn an_issuer_that_is_too_short() {
    let account = pair(KeyPairType::Account);
    let raw = BASE32_NOPAD.decode(account.public_key().as_bytes()).unwrap();
    for length in 0..raw.len() - 2 {
        let mut short = raw[..length].to_vec();
        short.extend_from_slice(&crc16(&short).to_le_bytes());
        let key = BASE32_NOPAD.encode(&short);
        let body = json!({"iss": key, "sub": account.public_key(), "nats": {"type": "user", "version": 2}});
        let refused = decode::<User>(&signed(HEADER, &body.to_string(), &account)).unwrap_err();
        assert!(matches!(refused, TokenError::Issuer(_) | TokenError::Signature(_)), "{length}: {refused:?}");
    }
}

/// CRC-16/XMODEM, the check of keys in text.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc: u16, _| {
                if crc & 0x8000 > 0 { crc << 1 ^ 0x1021 } else { crc << 1 }
            },
        )
    })
}
