//! Where text comes from: files and environment variables, handed in by the caller.
//!
//! The real implementation lives with the process that has a file system; tests use [`MemorySource`].

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// Read access to files and the environment.
pub trait Source {
    /// The whole text of a file. A file that is not UTF-8 is an error of kind `InvalidData`.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The value of an environment variable, if it is set.
    fn env(&self, name: &str) -> Option<String>;
}

/// Files and variables held in memory.
#[derive(Clone, Debug, Default)]
pub struct MemorySource {
    files: HashMap<PathBuf, String>,
    variables: HashMap<String, String>,
}

impl MemorySource {
    /// A source with no file and no variable.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, replacing an older one of the same path.
    pub fn with_file(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.files.insert(path.into(), text.into());
        self
    }

    /// Sets an environment variable.
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }
}

impl Source for MemorySource {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.files
            .get(path)
            .cloned()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file or directory"))
    }

    fn env(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}
