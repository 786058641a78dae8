//! Asking an account server: one `GET` per token, within a time and a size.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use rustls::ClientConfig;
use sonata_jwt::token::TOKEN_BYTES_MAX;

use crate::http_client;

/// How long one answer may take, connecting included. Less than the time in which a client must authenticate.
pub(super) const TIMEOUT: Duration = Duration::from_millis(1900);

/// An account server.
pub(super) struct AccountServer {
    /// Ends in a slash.
    url: String,
    tls: Arc<ClientConfig>,
}

impl AccountServer {
    pub(super) fn new(url: String, tls: Arc<ClientConfig>) -> Self {
        Self { url, tls }
    }

    /// The token of an account, or for an empty name whether the server is there.
    ///
    /// # Errors
    /// The sentence for the log, without passwords.
    pub(super) async fn get(&self, name: &str) -> Result<String, String> {
        let url = format!("{}{name}", self.url);
        let shown = redacted(&url);
        let failed = |why: String| format!("could not fetch <{shown:?}>: {why}");
        match tokio::time::timeout(TIMEOUT, self.request(&url)).await {
            Ok(answer) => answer.map_err(|error| failed(error.to_string())),
            Err(_) => Err(failed("no answer in time".into())),
        }
    }

    async fn request(&self, url: &str) -> io::Result<String> {
        let tls = || Ok(self.tls.clone());
        let (status, body) = http_client::ask(url, None, TOKEN_BYTES_MAX, tls).await?;
        if status != StatusCode::OK {
            return Err(io::Error::other(status.to_string()));
        }
        String::from_utf8(body.to_vec()).map_err(io::Error::other)
    }
}

/// A URL without the password in it.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:xxxxx@{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(redacted("https://a:b@c:1/d@e"), "https://a:xxxxx@c:1/d@e");
        assert_eq!(redacted("http://c/d"), "http://c/d");
    }
}
