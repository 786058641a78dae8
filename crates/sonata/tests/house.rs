//! The house of `ARCHITECTURE.md`: arrows between crates only point down, and below the server nobody names a runtime,
//! a socket, a file of the host, or the wall clock.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Floors, from the ground up. A crate may use those on lower floors.
const FLOORS: &[&[&str]] = &[
    &["sonata-disk"],
    &["sonata-subject", "sonata-journal", "sonata-ocsp"],
    &["sonata-jwt"],
    &["sonata-proto", "sonata-auth", "sonata-conf", "sonata-store"],
    &["sonata-broker", "sonata-jetstream"],
    &["sonata-monitor"],
    &["sonata-server"],
    &["sonata"],
];

/// Crates that use no other of ours.
const ALONE: &[&str] = &["sonata-bench", "sonata-wire", "nats-conf"];

/// Programs that show how the others are used: they may use any, and none may use them.
const EXAMPLES: &[&str] = &["auth-callout-service", "simple-service"];

/// Pairs that must not know each other although the floors would allow it.
const NEVERS: &[(&str, &str)] = &[
    ("sonata-proto", "sonata-auth"),
    ("sonata-monitor", "sonata-broker"),
    ("sonata-store", "sonata-journal"),
    ("sonata-jetstream", "sonata-journal"),
    ("sonata-jetstream", "sonata-disk"),
];

/// Crates from elsewhere that only the server and what is above it may use.
const OUTSIDE: &[&str] = &["tokio", "hyper", "hyper-util", "mio", "socket2", "nix", "libc", "tokio-rustls"];

/// The real disk is the one place below the server that touches files of the host.
const DISK: (&str, &str) = ("sonata-disk", "disk/src/real");

/// One system call on such a file has no safe interface elsewhere.
const DISK_USES: &str = "libc";

/// Words that a pure crate's source does not hold outside its tests.
const WORLDLY: &[&str] = &[
    "std::fs",
    "std::process",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "SystemTime::now",
    "Instant::now",
    "tokio::",
    "thread::spawn",
];

#[test]
fn arrows_point_down() {
    let packages = packages();
    let floor_of = |name: &str| FLOORS.iter().position(|floor| floor.contains(&name));
    for (name, package) in &packages {
        let ours = package.dependencies.iter().filter(|dependency| packages.contains_key(*dependency));
        if ALONE.contains(&name.as_str()) {
            assert_eq!(ours.collect::<Vec<_>>(), Vec::<&String>::new(), "{name} stands alone");
            continue;
        }
        if EXAMPLES.contains(&name.as_str()) {
            continue;
        }
        let floor = floor_of(name).unwrap_or_else(|| panic!("{name} has no floor: say where it stands"));
        for dependency in ours {
            let below = floor_of(dependency).is_some_and(|other| other < floor);
            assert!(below, "{name} must not use {dependency}");
            assert!(
                !NEVERS.contains(&(name.as_str(), dependency.as_str())),
                "{name} never knows {dependency}"
            );
        }
    }
}

#[test]
fn below_the_server_nobody_names_the_world() {
    let server = FLOORS.iter().position(|floor| floor.contains(&"sonata-server")).unwrap();
    let packages = packages();
    for name in FLOORS[..server].iter().copied().flatten() {
        let package = &packages[*name];
        for outside in OUTSIDE.iter().filter(|outside| (*name, **outside) != (DISK.0, DISK_USES)) {
            assert!(!package.dependencies.contains(*outside), "{name} must not use {outside}");
        }
        for file in sources(&package.folder.join("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            if file.to_string_lossy().contains(DISK.1) {
                continue;
            }
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for word in WORLDLY {
                    assert!(!line.contains(word), "{} names {word}: {line}", file.display());
                }
            }
        }
    }
}

struct Package {
    folder: PathBuf,
    /// What it needs outside its tests.
    dependencies: BTreeSet<String>,
}

/// The packages of the workspace, from `cargo metadata`.
fn packages() -> BTreeMap<String, Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter().map(|package| {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let dependencies = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
            .collect();
        let folder = manifest.parent().unwrap().to_owned();
        (package["name"].as_str().unwrap().to_owned(), Package { folder, dependencies })
    });
    let packages: BTreeMap<_, _> = packages.collect();
    assert!(packages.len() >= FLOORS.iter().map(|floor| floor.len()).sum::<usize>());
    packages
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
