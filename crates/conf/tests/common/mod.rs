//! What the tests share: files from disk with a fixed environment, and comparing with a file.

#![allow(dead_code, reason = "not every test file uses all of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sonata_conf::source::Source;

/// Variables that test files refer to.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    ("CONF_NUMBER", "10k"),
    ("CONF_TEXT", "some-text"),
    ("CONF_QUOTED", "\"two words\""),
    ("CONF_LIST", "[a, {b: 1}]"),
    ("CONF_NESTED", "$CONF_NUMBER"),
    ("CONF_EMPTY", ""),
    ("CONF_CYCLE_A", "$CONF_CYCLE_B"),
    ("CONF_CYCLE_B", "$CONF_CYCLE_A"),
    ("CONF_BAD", "[1"),
];

/// Files below a directory and the fixed environment.
pub(crate) struct Files {
    pub(crate) root: PathBuf,
}

impl Source for Files {
    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(self.root.join(path))
            .map_err(|error| io::Error::new(error.kind(), "no such file or directory"))
    }

    fn env(&self, name: &str) -> Option<String> {
        ENVIRONMENT.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }
}

/// The directory of a group of test files.
pub(crate) fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The `.conf` files of a directory, sorted, by name.
pub(crate) fn conf_files(root: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| PathBuf::from(entry.unwrap().file_name()))
        .filter(|name| name.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

/// Compares with the expected text beside a file; writes it instead with `UPDATE_EXPECT=1`.
pub(crate) fn expect(path: &Path, actual: &str, failures: &mut Vec<String>) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected != actual {
        failures.push(format!("{}\n--- expected\n{expected}--- got\n{actual}", path.display()));
    }
}
