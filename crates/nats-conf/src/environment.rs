//! The configuration in environment variables: `PREFIX_FIELD`, laid over what a file said.

use std::env;
use std::ffi::OsString;

use crate::conf::NatsConf;
use crate::error::{Error, Fault, Problem};
use crate::key::{KEYS, Key};
use crate::value::{self, Value};

impl NatsConf {
    /// Replaces values by those of environment variables: with the prefix `NATS`, `NATS_MAX_RECONNECT`
    /// replaces `MaxReconnect`. `HOSTS` takes addresses with commas between them. An empty variable takes a
    /// value away, back to the default.
    ///
    /// A variable that is almost one of these is an error, as a key would be in a file; any other with the
    /// same prefix is left alone, since it may belong to somebody else.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with every variable that is misspelled or has no fitting value. The configuration
    /// is then unchanged.
    pub fn overlay_env(&mut self, prefix: &str) -> Result<(), Error> {
        self.overlay(prefix, env::vars_os())
    }

    /// The same as [`overlay_env`](Self::overlay_env) with the given variables instead of the process's own.
    ///
    /// ```
    /// let mut conf = nats_conf::NatsConf::new(["nats://one.example"]);
    /// conf.overlay("NATS", [("NATS_HOSTS", "two.example,three.example"), ("NATS_RECONNECT_WAIT", "0.5")])?;
    /// assert_eq!(conf.hosts.len(), 2);
    /// assert_eq!(conf.reconnect_wait.as_millis(), 500);
    /// # Ok::<(), nats_conf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`overlay_env`](Self::overlay_env).
    pub fn overlay<K, V>(
        &mut self,
        prefix: &str,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let mut changed = self.clone();
        let mut faults = Vec::new();
        for (name, value) in variables {
            let Ok(name) = name.into().into_string() else { continue };
            let Some(field) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')) else {
                continue;
            };
            match variable(field) {
                Some((key, true)) => match value.into().into_string() {
                    Ok(value) => {
                        if let Err(problem) = value::put(&mut changed, key, Value::text(value)) {
                            faults.push(Fault::new(key, problem));
                        }
                    }
                    Err(_) => faults.push(Fault::new(key, Problem::Wanted("text in UTF-8"))),
                },
                Some((key, false)) => {
                    let nearest = format!("{prefix}_{}", key.snake_case().to_uppercase());
                    faults.push(Fault::new(key, Problem::Misspelled { variable: name, nearest }));
                }
                None => {}
            }
        }
        if faults.is_empty() {
            *self = changed;
            Ok(())
        } else {
            // The order of an environment is arbitrary; that of an error should not be.
            faults.sort_by_key(|fault| fault.key);
            Err(Error::Invalid(faults))
        }
    }

    /// The configuration from environment variables alone; see [`overlay_env`](Self::overlay_env).
    ///
    /// # Errors
    ///
    /// As [`overlay_env`](Self::overlay_env).
    pub fn from_env(prefix: &str) -> Result<Self, Error> {
        let mut conf = Self::default();
        conf.overlay_env(prefix)?;
        Ok(conf)
    }
}

/// The key of a variable, and whether it is spelled right; `None` for a variable of somebody else.
fn variable(field: &str) -> Option<(Key, bool)> {
    if let Some((key, ..)) = KEYS.iter().find(|(_, _, snake)| snake.to_uppercase() == field) {
        return Some((*key, true));
    }
    // Short words are near to many others: `HOME` is not a misspelled `NAME`.
    let near = if field.len() < 6 { 1 } else { 2 };
    let (key, distance) = Key::nearest(field);
    (distance <= near).then_some((key, false))
}
