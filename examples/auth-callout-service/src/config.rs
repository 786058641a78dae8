//! What `etc/service.yaml` says.

use std::collections::HashMap;
use std::path::Path;

use nats_conf::{NatsConf, Secret};
use nkeys::KeyPair;
use serde::Deserialize;
use sonata_jwt::xkey::Curve;

use crate::Error;

/// Variables with this prefix win over the `Nats` block of the file: `CALLOUT_NATS_HOSTS` and so on.
const ENVIRONMENT_PREFIX: &str = "CALLOUT_NATS";

/// The file.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CalloutConf {
    /// How to reach NATS: as one of the `auth_users` of the server's `auth_callout` block.
    pub nats: NatsConf,
    /// The seed of the account key (`SA…`) whose public half is the server's `issuer`.
    pub issuer_seed: Secret,
    /// The seed of the curve key (`SX…`) whose public half is the server's `xkey`, if it has one.
    #[serde(default)]
    pub xkey_seed: Option<Secret>,
    /// The table, by name.
    pub users: HashMap<String, UserConf>,
}

/// Somebody who may come in.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct UserConf {
    /// What to prove it by.
    pub password: Secret,
    /// Where to be.
    pub account: String,
    /// Subjects to publish to; none: all.
    #[serde(default)]
    pub publish: Vec<String>,
    /// Subjects to subscribe to; none: all.
    #[serde(default)]
    pub subscribe: Vec<String>,
    /// Seconds until the server sends the user away, to be asked about again; none: never.
    #[serde(default)]
    pub seconds: Option<u32>,
}

/// The service's own keys.
pub struct Keys {
    /// Signs answers and users.
    pub issuer: KeyPair,
    /// Opens questions and seals answers.
    pub curve: Option<Curve>,
}

impl CalloutConf {
    /// Reads the file, and then the environment over its `Nats` block.
    ///
    /// # Errors
    /// The file cannot be read, or a key or variable is wrong; the error names it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let mut conf: Self = nats_conf::load_yaml(path)?;
        conf.nats.overlay_env(ENVIRONMENT_PREFIX)?;
        Ok(conf)
    }

    /// The keys of the seeds.
    ///
    /// # Errors
    /// A seed is none.
    pub fn keys(&self) -> Result<Keys, Error> {
        let issuer =
            KeyPair::from_seed(self.issuer_seed.expose()).map_err(|error| format!("IssuerSeed: {error}"))?;
        let curve = self.xkey_seed.as_ref().map(|seed| Curve::from_seed(seed.expose())).transpose();
        Ok(Keys { issuer, curve: curve.map_err(|error| format!("XkeySeed: {error}"))? })
    }
}
