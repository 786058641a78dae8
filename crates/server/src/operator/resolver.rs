//! Where accounts' tokens come from.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;
use sonata_conf::options::{self, Options};
use tokio::runtime::Handle;

use super::directory::Directory;
use super::fetch::AccountServer;
use crate::tls;

/// See the module. Finding may block on a disk or a network.
pub(crate) enum Resolver {
    /// Tokens of the configuration, and those that were stored since.
    Memory(RwLock<HashMap<String, String>>),
    /// A directory; the flag says whether it is only a cache.
    Directory(Directory, Kind),
    /// A server that is asked.
    Url(AccountServer, Handle),
    /// Nowhere: operators are trusted by their keys alone and nobody has said where accounts are.
    Nowhere,
}

/// What a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All accounts.
    Full,
    /// Those that were needed.
    Cache,
}

impl Resolver {
    /// The resolver of a configuration, with the tokens that it brings.
    ///
    /// # Errors
    /// The sentence for the operator.
    pub(crate) fn new(options: &Options, runtime: &Handle) -> Result<Self, String> {
        let failed = |error: io::Error| error.to_string();
        let resolver = match &options.resolver {
            None => Self::Nowhere,
            Some(options::Resolver::Memory) => Self::Memory(RwLock::default()),
            Some(options::Resolver::Full(directory)) => {
                Self::Directory(Directory::open(directory, false).map_err(failed)?, Kind::Full)
            }
            Some(options::Resolver::Cache(directory)) => {
                Self::Directory(Directory::open(directory, true).map_err(failed)?, Kind::Cache)
            }
            Some(options::Resolver::Url(url)) => {
                let tls =
                    tls::client_config(options.resolver_tls.as_ref()).map_err(|error| error.to_string())?;
                Self::Url(AccountServer::new(url.clone(), Arc::new(tls)), runtime.clone())
            }
        };
        for (key, token) in &options.resolver_preload {
            resolver.store(key, token).map_err(failed)?;
        }
        Ok(resolver)
    }

    /// An account's token. Blocks.
    ///
    /// # Errors
    /// Why there is none, for the log.
    pub(crate) fn fetch(&self, key: &str) -> Result<String, String> {
        let missing = || "account missing".to_owned();
        match self {
            Self::Nowhere => Err("no account resolver".into()),
            Self::Memory(tokens) => tokens.read().get(key).cloned().ok_or_else(missing),
            Self::Directory(directory, _) => {
                directory.load(key).map_err(|error| error.to_string())?.ok_or_else(missing)
            }
            Self::Url(server, runtime) => runtime.block_on(server.get(key)),
        }
    }

    /// Keeps a token of the configuration, unless a later one is there.
    fn store(&self, key: &str, token: &str) -> io::Result<()> {
        match self {
            Self::Memory(tokens) => {
                tokens.write().insert(key.to_owned(), token.to_owned());
                Ok(())
            }
            Self::Directory(directory, _) => directory.save_if_newer(key, token).map(drop),
            Self::Url(..) | Self::Nowhere => Ok(()),
        }
    }

    /// Accounts that are known to be there.
    pub(crate) fn keys(&self) -> Vec<String> {
        match self {
            Self::Memory(tokens) => tokens.read().keys().cloned().collect(),
            Self::Directory(directory, _) => directory.keys(),
            Self::Url(..) | Self::Nowhere => Vec::new(),
        }
    }

    pub(crate) fn directory(&self) -> Option<(&Directory, Kind)> {
        match self {
            Self::Directory(directory, kind) => Some((directory, *kind)),
            _ => None,
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory(_) => "Memory",
            Self::Directory(_, Kind::Full) => "Full",
            Self::Directory(_, Kind::Cache) => "Cache",
            Self::Url(..) => "Url",
            Self::Nowhere => "Nowhere",
        })
    }
}
