//! Every fault that can be found without a network, as a transcript: a configuration in, the error's text
//! out.
//!
//! A case in `faults/` is a YAML file and, with the ending `.out`, what `validate` says. `$DIR` stands for a
//! directory with the files that [`write_files`] makes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::PathBuf;

use nats_conf::{Error, NatsConf};
use nkeys::KeyPairType;
use serde_json::json;

use common::certificates::Authority;
use common::credentials::{account_token, creds, pair, seed, token, user_claims, user_token};
use common::{Scratch, data, expect};

#[test]
fn transcripts() {
    let directory = write_files();
    let place = directory.0.display().to_string();
    let mut cases: Vec<PathBuf> =
        fs::read_dir(data("faults")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    cases.sort();
    assert!(cases.len() > 20);
    for case in cases {
        let text = fs::read_to_string(&case).unwrap().replace("$DIR", &place);
        let conf: NatsConf = nats_conf::parse_yaml(&text).unwrap();
        let said = match conf.validate() {
            Ok(()) => "valid\n".to_owned(),
            Err(Error::Invalid(faults)) => faults.iter().map(|fault| format!("{fault}\n")).collect(),
            Err(error) => panic!("{error}"),
        };
        expect(&case.with_extension("out"), &said.replace(&place, "$DIR"));
    }
}

/// Connecting says the same, in one line, and never begins.
#[tokio::test]
async fn connecting_checks_first() {
    let mut conf = NatsConf::new(["one", "http://two"]);
    conf.user_cred = Some("no/such.creds".into());
    let error = conf.new_jetstream().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid configuration: Hosts: entry 2: unknown scheme http://, use nats://, tls://, ws:// or wss://; \
         UserCred: no/such.creds: no such file"
    );
}

fn write_files() -> Scratch {
    let directory = Scratch::new();
    let account = pair(KeyPairType::Account, 1);
    let user = pair(KeyPairType::User, 2);
    let good = user_token(&account, &user, json!({}));
    let mut bearer = user_claims();
    bearer["bearer_token"] = json!(true);
    let (front, _) = good.rsplit_once('.').unwrap();
    let other = user_token(&account, &user, json!({"name": "other"}));
    let (_, other_signature) = other.rsplit_once('.').unwrap();
    let text = |name: &str, content: &str| drop(directory.file(name, content));

    text("user.nk", &seed(&user));
    text("other.nk", &seed(&pair(KeyPairType::User, 3)));
    text("account.nk", &seed(&account));
    let mut damaged = seed(&user);
    let other_letter = if damaged.as_bytes()[20] == b'A' { "B" } else { "A" };
    damaged.replace_range(20..21, other_letter);
    text("damaged.nk", &damaged);
    text("short.nk", "SUAB\n");
    text("empty", "");
    fs::write(directory.0.join("binary"), [0xff_u8, 0xfe, 0x00]).unwrap();
    fs::write(directory.0.join("large"), vec![b' '; (1 << 20) + 1]).unwrap();
    text("user.jwt", &good);
    text("user.creds", &creds(&good, &seed(&user)));
    text("no-seed.creds", &format!("-----BEGIN NATS USER JWT-----\n{good}\n------END NATS USER JWT------\n"));
    text("mixed.creds", &creds(&good, &seed(&pair(KeyPairType::User, 3))));
    text("account-seed.creds", &creds(&good, &seed(&account)));
    text("expired.creds", &creds(&user_token(&account, &user, json!({"exp": 1_600_000_000})), &seed(&user)));
    text(
        "future.creds",
        &creds(&user_token(&account, &user, json!({"nbf": 32_503_680_000_i64})), &seed(&user)),
    );
    text("forged.creds", &creds(&format!("{front}.{other_signature}"), &seed(&user)));
    text("account.creds", &creds(&account_token(&pair(KeyPairType::Operator, 1), &account), &seed(&user)));
    text("two-parts.creds", &creds(front, &seed(&user)));
    text("no-base64.creds", &creds("eyJ!.eyJ!.x", &seed(&user)));
    text("bearer.jwt", &token(&account, &user, bearer, json!({})));

    let authority = Authority::new("faults");
    text("ca.pem", &authority.pem);
    authority.sign(4096).write(&directory, "client");
    authority.sign(4096).write(&directory, "second");
    authority.sign(2021).write(&directory, "expired");
    text("damaged.pem", "-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n");
    text("damaged-key.pem", "-----BEGIN PRIVATE KEY-----\nMIIBAAAA\n-----END PRIVATE KEY-----\n");
    directory
}
