//! Asking an account server: one `GET` per token, within a time and a size.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use sonata_jwt::token::TOKEN_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

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
        let uri: Uri = url.parse().map_err(io::Error::other)?;
        let host = uri.host().ok_or_else(|| io::Error::other("no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        match uri.scheme_str() {
            Some("http") => {
                let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
                self.exchange(stream, &uri).await
            }
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
                let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
                self.exchange(connector.connect(name, stream).await?, &uri).await
            }
            other => {
                Err(io::Error::other(format!("unsupported protocol scheme {:?}", other.unwrap_or_default())))
            }
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        uri: &Uri,
    ) -> io::Result<String> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let _driver = Driver(tokio::spawn(connection));
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit('@').next().unwrap_or_default();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, "nats-server")
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), TOKEN_BYTES_MAX).collect().await;
        if status != StatusCode::OK {
            return Err(io::Error::other(status.to_string()));
        }
        let bytes = body.map_err(io::Error::other)?.to_bytes();
        String::from_utf8(bytes.to_vec()).map_err(io::Error::other)
    }
}

/// What moves the bytes of a connection; it ends with the answer, or when the time for that is over.
struct Driver<T>(JoinHandle<T>);

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.0.abort();
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
