//! The scripts themselves: each can be read, was recorded to its end, and has a purpose that no other has.

// Helpers of tests stand outside of the functions that clippy recognises as tests.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sonata_wire::divergence::Divergences;
use sonata_wire::judge;
use sonata_wire::script::{Script, Step};

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn path(name: &str, ending: &str) -> PathBuf {
    crate_folder().join("scripts").join(format!("{name}.{ending}"))
}

fn names() -> Vec<String> {
    judge::names(&crate_folder().join("scripts")).unwrap()
}

fn read(name: &str, ending: &str) -> (String, Script) {
    let text = fs::read_to_string(path(name, ending)).unwrap();
    let script = Script::parse(name, &text).unwrap();
    (text, script)
}

#[test]
fn every_script_has_a_purpose_of_its_own() {
    let mut titles: BTreeMap<String, String> = BTreeMap::new();
    let mut contents: BTreeMap<String, String> = BTreeMap::new();
    for name in names() {
        let (_, script) = read(&name, "txt");
        let steps: Vec<&str> = script.lines.iter().map(|line| line.text.as_str()).collect();
        let (_, header) = script.header.split_once('\n').unwrap();
        let content = format!("{header}{}", steps.join("\n"));
        if let Some(other) = titles.insert(script.title, name.clone()) {
            panic!("{name} and {other} have the same title");
        }
        if let Some(other) = contents.insert(content, name.clone()) {
            panic!("{name} and {other} do the same");
        }
    }
    assert!(titles.len() >= 900, "only {} scripts", titles.len());
}

#[test]
fn every_script_is_recorded_to_its_end() {
    for name in names() {
        let (text, script) = read(&name, "txt");
        assert!(!text.contains(" timed-out"), "{name} was recorded although a client waited in vain");
        // Playing writes every line that is no answer again, so what is missing behind them are the answers.
        let kept = script.header.lines().count()
            + script.lines.iter().map(|line| line.text.lines().count()).sum::<usize>();
        assert!(text.lines().count() > kept, "{name} has no answers");
    }
}

/// A client that is left with unread frames could hide a difference.
#[test]
fn every_client_is_heard_after_it_was_last_written_to() {
    for name in names() {
        let (_, script) = read(&name, "txt");
        let mut unheard: BTreeMap<String, usize> = BTreeMap::new();
        for line in &script.lines {
            match &line.step {
                Some(Step::Send(client, _) | Step::Raw(client, _)) => {
                    unheard.insert(client.clone(), line.number);
                }
                Some(
                    Step::Sync(client, _)
                    | Step::Until(client, _, _)
                    | Step::Drain(client)
                    | Step::Request(client, _, _)
                    | Step::Connect(client, _)
                    | Step::Close(client),
                ) => {
                    unheard.remove(client);
                }
                Some(Step::Restarts) => unheard.clear(),
                Some(Step::Total(clients)) => unheard.retain(|client, _| !clients.contains(client)),
                _ => {}
            }
        }
        assert!(unheard.is_empty(), "{name}: nothing is read behind the writes {unheard:?}");
    }
}

#[test]
fn divergences_and_their_texts_belong_together() {
    let divergences = Divergences::read(&crate_folder().join("divergences.txt")).unwrap();
    let names = names();
    for listed in divergences.scripts() {
        assert!(names.iter().any(|name| name == listed), "there is no script {listed}");
        let (truth, script) = read(listed, "txt");
        let (other, other_script) = read(listed, "sonata.txt");
        assert_ne!(truth, other, "{listed} is no longer different");
        assert_eq!(script.lines.len(), other_script.lines.len(), "{listed} has other steps");
    }
    for name in &names {
        let listed = divergences.reason(name).is_some();
        assert_eq!(path(name, "sonata.txt").exists(), listed, "{name}: the list and the folder disagree");
    }
}
