//! Asking responders, within a time and a size.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use data_encoding::BASE64;
use hyper::StatusCode;
use rustls::ClientConfig;
use sonata_ocsp::response::RESPONSE_BYTES_MAX;
use tokio::sync::Semaphore;

use crate::http_client::{self, Posted};
use crate::tls;

/// Responders of one certificate that are tried.
const RESPONDERS_MAX: usize = 4;

/// Questions about clients that are under way at a time. Whoever comes later waits within the time for its own question, so
/// that a slow authority costs neither sockets nor memory.
const QUESTIONS_MAX: usize = 256;

/// The authorities' answering machines.
pub(super) struct Responders {
    asking: Semaphore,
    /// For those that are asked over TLS. Made when it is needed: reading the system's authorities takes long.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Default for Responders {
    fn default() -> Self {
        Self { asking: Semaphore::new(QUESTIONS_MAX), tls: OnceLock::new() }
    }
}

impl Responders {
    /// Asks about a certificate of this server: one responder after the other, each by `POST` and then by `GET`.
    ///
    /// # Errors
    /// The sentence for the log.
    pub(super) async fn ask_for_staple(
        &self,
        urls: &[String],
        request: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, String> {
        let mut errors = Vec::new();
        for url in urls.iter().take(RESPONDERS_MAX) {
            let url = url.trim_end_matches('/');
            let posted = Posted {
                body: request.to_vec(),
                content_type: "application/ocsp-request",
                accept: "application/ocsp-response",
            };
            match self.ask(url, Some(posted), timeout).await {
                Ok(answer) => return Ok(answer),
                Err(error) => errors.push(format!("POST {url}: {error}")),
            }
            match self.ask(&format!("{url}/{}", escaped(request)), None, timeout).await {
                Ok(answer) => return Ok(answer),
                Err(error) => errors.push(format!("GET {url}: {error}")),
            }
        }
        match errors.is_empty() {
            true => Err("no available ocsp servers".into()),
            false => Err(format!("exhausted ocsp servers: {}", errors.join("; "))),
        }
    }

    /// Asks about a client's certificate: one responder after the other, by `GET`.
    ///
    /// # Errors
    /// The sentence for the log.
    pub(super) async fn ask_about_peer(
        &self,
        urls: &[&str],
        request: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, String> {
        let mut last = String::from("no available OCSP servers");
        for url in urls.iter().take(RESPONDERS_MAX) {
            let url = format!("{}/{}", url.trim_end_matches('/'), escaped(request));
            let answer = tokio::time::timeout(timeout, async {
                // Never closed.
                let _place = self.asking.acquire().await;
                self.ask(&url, None, timeout).await
            });
            match answer.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = format!("exhausted OCSP responders: {error}"),
                Err(_) => last = "exhausted OCSP responders: no answer in time".into(),
            }
        }
        Err(last)
    }

    async fn ask(&self, url: &str, posted: Option<Posted>, timeout: Duration) -> io::Result<Vec<u8>> {
        let answer = http_client::ask(url, posted, RESPONSE_BYTES_MAX, || self.tls());
        let (status, body) = tokio::time::timeout(timeout, answer)
            .await
            .map_err(|_| io::Error::other("no answer in time"))??;
        match status {
            StatusCode::OK if body.is_empty() => Err(io::Error::other("empty answer")),
            StatusCode::OK => Ok(body.to_vec()),
            status => Err(io::Error::other(format!("bad OCSP responder http status: [{}]", status.as_u16()))),
        }
    }

    fn tls(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let config = Arc::new(tls::client_config(None).map_err(io::Error::other)?);
        Ok(self.tls.get_or_init(|| config).clone())
    }
}

/// A request as a part of a URL's path (RFC 6960, appendix A.1).
fn escaped(request: &[u8]) -> String {
    BASE64.encode(request).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}
