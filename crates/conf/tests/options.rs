//! Configuration files in, meanings or problems out: `tests/options/<name>.conf` gives `<name>.out`.
//!
//! A meaning is shown as the fields that differ from the defaults. With `UPDATE_EXPECT=1` the expected
//! files are written anew; with `SONATA_REFERENCE` the original must accept and refuse the same files.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fmt::Write as _;
use std::path::Path;
use std::process;

use common::{Files, conf_files, directory, expect};
use sonata_conf::flags::{FlagOverrides, load, test_config};
use sonata_conf::options::Options;
use sonata_conf::problem::{ConfigError, ProblemKind};
use sonata_conf::read::read_file;
use sonata_conf::source::MemorySource;

#[test]
fn files_give_the_expected_options_and_problems() {
    let source = Files { root: directory("options") };
    let mut failures = Vec::new();
    for name in conf_files(&source.root) {
        let mut options = Options::default();
        let actual = match read_file(&name, &source, &mut options) {
            Ok(warnings) => {
                options.config_file = None;
                options.config_digest = None;
                format!("{warnings}{}", differences(&options))
            }
            Err(error) => error.to_string(),
        };
        expect(&source.root.join(name.with_extension("out")), &actual, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Files that the original takes though this server does not, and why.
const MORE_STRICT: &[(&str, &str)] = &[
    ("error_negative", "the original has no limit for negative sizes, or one that nothing can keep"),
    ("warning_resolver_unknown", "the original does not look at what it does not know in a resolver block"),
    ("error_jetstream_previous_key", "the original goes on in the clear with what was encrypted"),
];

#[test]
fn the_original_accepts_the_same_files() {
    let Some(server) = std::env::var_os("SONATA_REFERENCE") else {
        println!("skipped: SONATA_REFERENCE does not name the original server");
        return;
    };
    let source = Files { root: directory("options") };
    let mut failures = Vec::new();
    for name in conf_files(&source.root) {
        let stem = name.file_stem().unwrap().to_str().unwrap();
        let ours = test_config(&name, &source);
        if let Err(ConfigError::Problems(problems)) = &ours
            && problems.errors.iter().any(|p| matches!(p.kind, ProblemKind::NotSupported(_)))
        {
            println!("{stem}: uses what is not built yet");
            continue;
        }
        if let Some((_, reason)) = MORE_STRICT.iter().find(|(strict, _)| *strict == stem) {
            println!("{stem}: {reason}");
            continue;
        }
        let theirs = process::Command::new(&server)
            .args(["-t", "-c"])
            .arg(&name)
            .current_dir(&source.root)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&theirs.stderr);
        match (&ours, theirs.status.success()) {
            (Ok(options), true) if !text.contains(options.config_digest.as_deref().unwrap()) => {
                failures.push(format!("{stem}: other digest: {text}"));
            }
            (Ok(_), true) | (Err(_), false) => {}
            (Ok(_), false) => failures.push(format!("{stem}: only we accept; they say {text}")),
            (Err(error), true) => failures.push(format!("{stem}: only they accept; we say {error}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The fields of the options that are not as by default, in Rust's notation.
fn differences(options: &Options) -> String {
    let (default, actual) = (format!("{:#?}", Options::default()), format!("{options:#?}"));
    let default = fields(&default);
    let mut text = String::new();
    for field in fields(&actual).into_iter().filter(|field| !default.contains(field)) {
        writeln!(text, "{field}").unwrap();
    }
    text
}

fn fields(text: &str) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("    ")) {
        match fields.last_mut() {
            // Items of a list stand on a line of their own, all below them on the same.
            Some(field) if line.starts_with("     ") || line.trim_start().starts_with([']', '}', ')']) => {
                field.push(' ');
                field.push_str(line.trim());
            }
            Some(field) if line.starts_with("    ") => {
                field.push('\n');
                field.push_str(line);
            }
            _ => fields.push(line.to_owned()),
        }
    }
    fields
}

/// Rules between options hold for file and flags together, so they are only checked by `load`.
#[test]
fn options_may_not_contradict_each_other() {
    let cases = [
        (
            "lame_duck_duration: 30s\nlame_duck_grace_period: 30s",
            "lame duck grace period (30s) should be strictly lower than lame duck duration (30s)",
        ),
        (
            "max_payload: 10m\nmax_pending: 1m",
            "max_payload (10000000) cannot be higher than max_pending (1000000)",
        ),
        ("no_auth_user: x", "no_auth_user: \"x\" present, but users/nkeys are not defined"),
        (
            "no_auth_user: x\nauthorization { users: [ { user: y } ] }",
            "no_auth_user: \"x\" not present as user or nkey in authorization block or account configuration",
        ),
        ("system_account: X", "error resolving system account: account missing"),
        (
            "jetstream { domain: \"a b\" }",
            "invalid domain name: derived \"$JS.a b.API.>\" is not a valid subject",
        ),
        ("jetstream { domain: \"a.b\" }", "invalid domain name: may not contain ., * or >"),
        (
            "jetstream: enabled\nsystem_account: S\naccounts { S { jetstream: enabled } }",
            "Not allowed to enable JetStream on the system account",
        ),
        (
            "jetstream: enabled\naccounts { $SYS { jetstream {} } }",
            "Not allowed to enable JetStream on the system account",
        ),
        ("http: 8222\nhttps: 8223\ntls {}", "can't specify both HTTP (8222) and HTTPs (8223) ports"),
        ("https: 8223", "TLS cert and key required for HTTPS"),
        ("client_advertise: \"a:b:c\"", "invalid ClientAdvertise value of a:b:c"),
    ];
    for (text, message) in cases {
        let source = MemorySource::new().with_file("x.conf", text);
        let flags = FlagOverrides::with_config("x.conf");
        assert_eq!(load(&flags, &source).unwrap_err().to_string(), message, "{text}");
        assert!(test_config(Path::new("x.conf"), &source).is_ok(), "{text}");
    }
}

/// Where operators are trusted, accounts say which service decides on their users. The original passes over a callout beside
/// trusted keys.
#[test]
fn operators_leave_no_room_for_a_callout() {
    let callout = "authorization { auth_callout { auth_users: [ a ], \
                   issuer: ABJHLOVMPA4CI6R5KLNGOB4GSLNIY7IOUPAJC4YFNDLQVIOBYQGUWVLA } }";
    for name in ["operator_memory.conf", "operator_trusted.conf"] {
        let text = std::fs::read_to_string(directory("options").join(name)).unwrap();
        let source = MemorySource::new().with_file("x.conf", format!("{text}\n{callout}\n"));
        let error = load(&FlagOverrides::with_config("x.conf"), &source).unwrap_err().to_string();
        let expected = "operators do not allow authorization callouts to be configured directly";
        assert_eq!(error, expected, "{name}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = test_config(Path::new("nope.conf"), &MemorySource::new()).unwrap_err();
    assert_eq!(error.to_string(), "open nope.conf: no such file or directory");
}

#[test]
fn derived_values() {
    let read = |text: &str| {
        let mut options = Options::default();
        read_file(Path::new("f"), &MemorySource::new().with_file("f", text), &mut options).unwrap();
        options
    };
    let millis = |text: &str| read(text).auth_timeout().as_millis();
    assert_eq!(millis("port: 1"), 2000);
    assert_eq!(millis("tls { timeout: 5 }"), 6000);
    assert_eq!(millis("tls { timeout: 5 }\nauthorization { timeout: 0.5 }"), 500);

    let root = |path: &str| read(&format!("http_base_path: \"{path}\"")).http_root();
    assert_eq!(root(""), "/");
    assert_eq!(root("nats"), "/nats");
    assert_eq!(root("/a//b/./../c/"), "/a/c");

    assert_eq!(read("port: 1").system_account_name(), Some("$SYS"));
    assert_eq!(read("no_system_account: true").system_account_name(), None);

    let plain = |text: &str| read(text).has_plaintext_passwords();
    assert!(!plain("port: 1"));
    assert!(plain("authorization { user: a, pass: b }"));
    assert!(!plain("authorization { user: a, pass: $2a$11$abc }"));
    assert!(plain("authorization { user: a, pass: \"$2a$1\" }"));
    assert!(!plain("authorization { token: b }"));
    assert!(plain("authorization { users: [ { user: a } ] }"));
    assert!(!plain("authorization { users: [ { user: a } ] }\ntls { verify_and_map: true }"));
}

/// Debug must not carry passwords into logs.
#[test]
fn secrets_are_not_shown() {
    let source =
        MemorySource::new().with_file("f", "authorization { user: a, pass: $P }").with_env("P", "hunter2");
    let mut options = Options::default();
    read_file(Path::new("f"), &source, &mut options).unwrap();
    assert_eq!(options.authorization.password.as_ref().unwrap().expose(), "hunter2");
    assert!(!format!("{options:?}").contains("hunter2"));
}
