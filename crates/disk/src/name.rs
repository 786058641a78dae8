//! What a name may look like, the same for every disk.

use std::io;

/// Checks the name of a file or of a folder below the disk's own.
pub(crate) fn check(name: &str) -> io::Result<()> {
    let fine = name.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\\']));
    if fine {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no name for a file: {name:?}")))
    }
}

/// As [`check`]; the empty name is the disk's own folder.
pub(crate) fn check_folder(name: &str) -> io::Result<()> {
    if name.is_empty() { Ok(()) } else { check(name) }
}

/// The folder that a name stands in; empty for the disk's own.
pub(crate) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_disk() {
        for name in ["a", "a/b", "a/b.log", "...", "a..b"] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\\b", "a\0"] {
            assert!(check(name).is_err(), "{name}");
        }
        assert!(check_folder("").is_ok());
        assert_eq!((parent("a/b/c"), parent("a")), ("a/b", ""));
    }
}
