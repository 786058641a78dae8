//! Two configurations in, log lines or refusals out: `tests/reload/<name>.case` holds both, parted by
//! `--- after`, and gives `<name>.out`.
//!
//! With `UPDATE_EXPECT=1` the expected files are written anew; with `SONATA_REFERENCE` the original is
//! started, told to reload, and must log the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use common::{directory, expect};
use sonata_conf::flags::{self, FlagOverrides, load};
use sonata_conf::options::Options;
use sonata_conf::reload::{Apply, compare};
use sonata_conf::source::MemorySource;
use sonata_conf::table;

fn options(text: &str) -> Options {
    let source = MemorySource::new().with_file("x.conf", text);
    load(&FlagOverrides::with_config("x.conf"), &source).unwrap().options
}

/// The cases by name, with the text before and after.
fn cases() -> Vec<(PathBuf, String, String)> {
    let mut cases: Vec<_> = fs::read_dir(directory("reload"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let (before, after) = text.split_once("--- after\n").unwrap();
            (path, before.to_owned(), after.to_owned())
        })
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// What a reload says, one line each.
fn lines(before: &str, after: &str) -> Vec<String> {
    match compare(&options(before), &options(after)) {
        Ok(changes) => changes.into_iter().map(|change| change.log).collect(),
        Err(refusals) => refusals.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn reloads_say_what_is_expected() {
    let mut failures = Vec::new();
    for (path, before, after) in cases() {
        let text: String = lines(&before, &after).iter().map(|line| format!("{line}\n")).collect();
        expect(&path.with_extension("out"), &text, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Cases in which the original says something else on purpose, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("operator_sentinel", "the original shows the token"),
    ("refused_operator", "the original shows all that the tokens say"),
    ("refused_jetstream_key", "the original shows both keys"),
    ("refused_jetstream_sync_always", "the original shows its default interval for always"),
];

#[test]
fn the_original_says_the_same() {
    let Some(server) = std::env::var_os("SONATA_REFERENCE") else {
        println!("skipped: SONATA_REFERENCE does not name the original server");
        return;
    };
    let scratch = std::env::temp_dir().join(format!("sonata-reload-{}", std::process::id()));
    fs::create_dir_all(&scratch).unwrap();
    let mut failures = Vec::new();
    for (path, before, after) in cases() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        if let Some((_, reason)) = DIFFERENT.iter().find(|(different, _)| *different == name) {
            println!("{name}: {reason}");
            continue;
        }
        let mut ours: Vec<_> = lines(&before, &after).iter().map(|line| line.trim_end().to_owned()).collect();
        let refused = ours.first().is_some_and(|line| line.starts_with("config reload"));
        let mut theirs = reload_original(Path::new(&server), &scratch, &before, &after);
        if refused {
            // The original stops at the first.
            ours.truncate(1);
        } else {
            // The original says these whenever there are any, changed or not.
            for always in ["Reloaded: accounts", "Reloaded: authorization users", "Reloaded: tls = enabled"] {
                theirs.retain(|line| line != always || ours.iter().any(|our| our == always));
                ours.retain(|line| line != always || theirs.iter().any(|their| their == always));
            }
        }
        theirs.sort();
        // One line for each option that touches accounts.
        theirs.dedup();
        ours.sort();
        if ours != theirs {
            failures.push(format!("{name}: we say {ours:#?}, they say {theirs:#?}"));
        }
    }
    fs::remove_dir_all(&scratch).unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Starts the original, lets it reload, and returns what it said about that.
fn reload_original(server: &Path, scratch: &Path, before: &str, after: &str) -> Vec<String> {
    let conf = scratch.join("x.conf");
    fs::write(&conf, before).unwrap();
    let mut child = Command::new(server)
        .args(["-c", "x.conf"])
        .current_dir(scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    wait_for(&mut log, "Server is ready");
    fs::write(&conf, after).unwrap();
    assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    let said = wait_for(&mut log, "eload");
    end(&mut child);
    said
}

/// Reads lines up to one that ends the phase; returns those about reloading.
fn wait_for(log: &mut BufReader<ChildStderr>, phase: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    while log.read_line(&mut line).unwrap() > 0 {
        let text = line.trim_end();
        if text.contains(phase) && phase == "Server is ready" {
            return lines;
        }
        if text.contains("Reloaded server configuration") {
            return lines;
        }
        if let Some((_, reason)) = text.split_once("Failed to reload server configuration: ") {
            return vec![reason.to_owned()];
        }
        let starts = ["Reload: ", "Reloaded: ", "Reloaded OCSP"];
        if let Some(at) = starts.iter().find_map(|start| text.find(start)) {
            lines.push(text[at..].to_owned());
        }
        line.clear();
    }
    panic!("the original ended before it said {phase:?}: {lines:?}");
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_has_to_follow() {
    let apply = |before: &str, after: &str| {
        let changes = compare(&options(before), &options(after)).unwrap();
        changes.into_iter().map(|change| (change.option, change.apply)).collect::<Vec<_>>()
    };
    assert_eq!(apply("port: 1", "port: -1"), []);
    assert_eq!(apply("", "trace: true"), [("trace", Apply::Logging)]);
    assert_eq!(apply("", "max_conn: 1"), [("max_connections", Apply::MaxConnections)]);
    assert_eq!(apply("", "ping_max: 1"), [("ping_max", Apply::ClientLimits)]);
    assert_eq!(apply("", "accounts: [A]"), [("accounts", Apply::Authorization)]);
    assert_eq!(apply("tls {}", "tls {}"), [("tls", Apply::Tls)]);
}

#[test]
fn all_refusals_are_listed() {
    let refusals = compare(&options(""), &options("port: 5000\nmax_subs: 1")).unwrap_err();
    let texts: Vec<_> = refusals.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "config reload not supported for Port: old=4222, new=5000",
            "config reload not supported for MaxSubs: old=0, new=1",
        ]
    );
}

/// A flag stays in force, whatever the file says later.
#[test]
fn flags_still_win_after_a_reload() {
    let load_with = |text: &str| {
        let flags::Command::Run(flags) =
            flags::parse(&["-c", "x.conf", "-D", "--logtime=false", "-p", "5000"]).unwrap()
        else {
            panic!("not a command to run")
        };
        load(&flags, &MemorySource::new().with_file("x.conf", text)).unwrap().options
    };
    let before = load_with("port: 4000");
    let after = load_with("port: 4001\ndebug: false\nlogtime: true\nping_max: 3");
    assert!(after.debug && !after.logtime);
    let changes = compare(&before, &after).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].log, "Reloaded: ping_max = 3");
}

/// Every row that can be reloaded has a case above, and so has every row that cannot.
#[test]
fn every_row_has_a_case() {
    let texts: String = cases().iter().map(|(_, before, after)| format!("{before}{after}")).collect();
    let without_case =
        ["log_file", "syslog", "remote_syslog", "port", "host", "net", "https", "https_port", "http_port"];
    for row in table::ROWS.iter().filter(|row| row.is_built() && !without_case.contains(&row.name)) {
        let names = std::iter::once(&row.name).chain(row.aliases);
        assert!(names.into_iter().any(|name| texts.contains(name)), "{} has no case", row.name);
    }
}
