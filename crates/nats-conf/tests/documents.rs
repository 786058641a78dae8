//! Reading configurations in all formats, as transcripts: a document in, the configuration or the error out.
//!
//! A case in `documents/` is a `.yaml`, `.json`, `.toml` or `.env` file and, with the ending `.out` added,
//! what it is read as. An `.env` file is laid over a configuration with one host, with the prefix `APP_NATS`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::PathBuf;

use nats_conf::{Key, NatsConf};
use serde::Deserialize;

use common::{data, expect};

/// A configuration as a part of a larger one.
#[derive(Debug, Deserialize)]
struct Service {
    listen: String,
    nats: NatsConf,
}

#[test]
fn transcripts() {
    let mut cases: Vec<PathBuf> =
        fs::read_dir(data("documents")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension != "out"));
    cases.sort();
    assert!(cases.len() > 10);
    for case in cases {
        let text = fs::read_to_string(&case).unwrap();
        let kind = case.extension().unwrap().to_str().unwrap().to_owned();
        let read: Result<NatsConf, String> = match kind.as_str() {
            "yaml" => nats_conf::parse_yaml(&text).map(nats).map_err(|error| error.to_string()),
            "json" => serde_json::from_str(&text).map(nats).map_err(|error| error.to_string()),
            "toml" => {
                toml::from_str(&text).map(nats).map_err(|error: toml::de::Error| error.message().to_owned())
            }
            "env" => overlaid(&text),
            other => panic!("{other}"),
        };
        let said = match read {
            Ok(conf) => format!("{conf:#?}\n"),
            Err(error) => format!("error: {}\n", error.trim_end()),
        };
        for secret in ["s3cr3t", "SUACSSL3", "77123"] {
            assert!(!said.contains(secret), "{said}");
        }
        expect(&case.with_extension(kind + ".out"), &said);
    }
}

fn nats(service: Service) -> NatsConf {
    assert_eq!(service.listen, ":80");
    service.nats
}

fn overlaid(text: &str) -> Result<NatsConf, String> {
    let mut conf = NatsConf::new(["nats://one.example"]);
    conf.max_reconnect = nats_conf::MaxReconnect::Forever;
    conf.token = Some("t".into());
    let before = conf.clone();
    let variables = text.lines().filter_map(|line| line.split_once('='));
    match conf.overlay("APP_NATS", variables) {
        Ok(()) => Ok(conf),
        Err(error) => {
            assert_eq!(conf, before, "a failed overlay changes nothing");
            Err(error.to_string())
        }
    }
}

/// The process's own environment: what the other tests give as a list.
#[test]
fn the_own_environment() {
    let conf = NatsConf::from_env("NATS_CONF_TEST_THAT_NOBODY_SETS").unwrap();
    assert_eq!(conf, NatsConf::default());
    assert_eq!(conf.validate().unwrap_err().to_string(), "invalid configuration: Hosts: required");
}

#[test]
fn both_spellings_of_every_key_are_read() {
    let value = |key: Key| match key {
        Key::Hosts => "[a]".to_owned(),
        Key::ReconnectWait
        | Key::MaxReconnect
        | Key::ConnectTimeout
        | Key::PingInterval
        | Key::JetStreamTimeout => "7".to_owned(),
        _ => format!("\"{key}\""),
    };
    let document = |name: fn(Key) -> &'static str| -> String {
        KEYS.iter().map(|key| format!("{}: {}\n", name(*key), value(*key))).collect()
    };
    let one: NatsConf = nats_conf::parse_yaml(&document(Key::name)).unwrap();
    let two: NatsConf = nats_conf::parse_yaml(&document(Key::snake_case)).unwrap();
    assert_eq!(one, two);
    expect(&data("documents/every_key.out"), &format!("{one:#?}\n"));
}

const KEYS: &[Key] = &[
    Key::Hosts,
    Key::ReconnectWait,
    Key::MaxReconnect,
    Key::UserCred,
    Key::NkeyFile,
    Key::UserJwt,
    Key::TlsClientCert,
    Key::TlsClientKey,
    Key::TlsCACert,
    Key::User,
    Key::Password,
    Key::Token,
    Key::Name,
    Key::ConnectTimeout,
    Key::PingInterval,
    Key::InboxPrefix,
    Key::JetStreamDomain,
    Key::JetStreamTimeout,
];
