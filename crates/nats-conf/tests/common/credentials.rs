//! Seeds and JWTs, made here as the `nsc` tool would.

use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

/// A key pair that is the same at every run.
pub(crate) fn pair(kind: KeyPairType, number: u8) -> KeyPair {
    KeyPair::new_from_raw(kind, [number; 32]).unwrap()
}

pub(crate) fn seed(pair: &KeyPair) -> String {
    pair.seed().unwrap()
}

/// A JWT signed by `issuer` about `subject`, with the fields of `claims` on top.
pub(crate) fn token(issuer: &KeyPair, subject: &KeyPair, nats: Value, claims: Value) -> String {
    let mut body = json!({
        "jti": "TEST", "iat": 1_500_000_000, "iss": issuer.public_key(), "name": "test",
        "sub": subject.public_key(), "nats": nats,
    });
    for (name, value) in claims.as_object().unwrap() {
        body[name] = value.clone();
    }
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", encode(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), encode(&body));
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

pub(crate) fn user_token(account: &KeyPair, user: &KeyPair, claims: Value) -> String {
    token(account, user, user_claims(), claims)
}

pub(crate) fn user_claims() -> Value {
    json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2})
}

pub(crate) fn account_token(operator: &KeyPair, account: &KeyPair) -> String {
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    let nats = json!({
        "limits": limits, "default_permissions": {"pub": {}, "sub": {}}, "type": "account", "version": 2,
    });
    token(operator, account, nats, json!({}))
}

pub(crate) fn operator_token(operator: &KeyPair) -> String {
    token(operator, operator, json!({"type": "operator", "version": 2}), json!({}))
}

/// A `.creds` file.
pub(crate) fn creds(token: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\
         NKEY Seed printed below can be used to sign and prove identity.\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}
