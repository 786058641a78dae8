//! A server within the service, for the first minute and for tests.

use std::path::Path;

use sonata::Server;
use sonata::options::{JetStream, Options};

use crate::Error;

/// Starts a server with JetStream on a free port of the loopback interface.
///
/// # Errors
/// The folder cannot be used, or another server uses it.
pub async fn start(store_dir: &Path) -> Result<Server, Error> {
    let options = Options {
        host: "127.0.0.1".into(),
        port: 0,
        store_dir: Some(store_dir.to_owned()),
        jetstream: Some(JetStream::default()),
        ..Options::default()
    };
    Ok(Server::start(options).await?)
}
