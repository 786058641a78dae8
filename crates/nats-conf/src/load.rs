//! Reading a service's configuration from YAML with errors that can be logged.
//!
//! The YAML parser shows the lines around a fault, and the line beside a misspelled key may hold a password.
//! Read through here, an error has the place and the reason but no lines.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::Problem;
use crate::file;

/// Reads a YAML file into the configuration of a service, of which [`NatsConf`](crate::NatsConf) is a part.
///
/// ```no_run
/// #[derive(serde::Deserialize)]
/// struct ServiceConf {
///     listen: String,
///     nats: nats_conf::NatsConf,
/// }
///
/// let conf: ServiceConf = nats_conf::load_yaml("etc/service.yaml")?;
/// # Ok::<(), nats_conf::LoadError>(())
/// ```
///
/// # Errors
///
/// [`LoadError::File`] if the file cannot be read or is larger than 1 MiB, [`LoadError::Document`] if it does
/// not hold such a configuration.
pub fn load_yaml<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T, LoadError> {
    let path = path.as_ref();
    let text = file::text(path).map_err(|problem| LoadError::File { path: path.to_owned(), problem })?;
    parse_yaml(&text).map_err(|error| match error {
        LoadError::Document { message, .. } => LoadError::Document { path: Some(path.to_owned()), message },
        error => error,
    })
}

/// Reads a YAML text into the configuration of a service; see [`load_yaml`].
///
/// ```
/// #[derive(Debug, serde::Deserialize)]
/// struct ServiceConf {
///     nats: nats_conf::NatsConf,
/// }
///
/// let text = "nats:\n  Hosts: [127.0.0.1]\n  Pasword: s3cr3t\n";
/// let error = nats_conf::parse_yaml::<ServiceConf>(text).unwrap_err();
/// assert_eq!(error.to_string(), "unknown key Pasword, the nearest known one is Password at line 3, column 3");
/// ```
///
/// # Errors
///
/// [`LoadError::Document`] if the text does not hold such a configuration.
pub fn parse_yaml<T: DeserializeOwned>(text: &str) -> Result<T, LoadError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| LoadError::Document { path: None, message: error.to_string() })
}

/// Why a configuration could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: Problem,
    },
    /// The text is not the configuration that was expected.
    Document {
        /// The file that holds it, if it came from one.
        path: Option<PathBuf>,
        /// Where and why, without the text itself.
        message: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, problem } => write!(f, "{}: {problem}", path.display()),
            Self::Document { path: Some(path), message } => write!(f, "{}: {message}", path.display()),
            Self::Document { path: None, message } => f.write_str(message),
        }
    }
}

impl std::error::Error for LoadError {}
