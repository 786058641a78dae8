//! One request to an HTTP server elsewhere: HTTP/1.1, one connection each, bodies within a size. How long it may take is up
//! to whoever waits. Redirections are not followed.

use std::io;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// What is sent along with a question that does not fit into a URL.
pub(crate) struct Posted {
    pub(crate) body: Vec<u8>,
    pub(crate) content_type: &'static str,
    pub(crate) accept: &'static str,
}

/// Asks `url` (`http` or `https`, the latter with what `tls` gives), with a `POST` if something is posted. The status, and a
/// body of at most so many bytes.
///
/// # Errors
/// No such server, no such protocol, or more bytes.
pub(crate) async fn ask(
    url: &str,
    posted: Option<Posted>,
    body_bytes_max: usize,
    tls: impl FnOnce() -> io::Result<Arc<ClientConfig>>,
) -> io::Result<(StatusCode, Bytes)> {
    let uri: Uri = url.parse().map_err(io::Error::other)?;
    let host = uri.host().ok_or_else(|| io::Error::other("no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    match uri.scheme_str() {
        Some("http") => {
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
            exchange(stream, &uri, posted, body_bytes_max).await
        }
        Some("https") => {
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let connector = tokio_rustls::TlsConnector::from(tls()?);
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
            exchange(connector.connect(name, stream).await?, &uri, posted, body_bytes_max).await
        }
        other => {
            Err(io::Error::other(format!("unsupported protocol scheme {:?}", other.unwrap_or_default())))
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
    posted: Option<Posted>,
    body_bytes_max: usize,
) -> io::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let _driver = Driver(tokio::spawn(connection));
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request =
        Request::builder().uri(path).header(header::HOST, host).header(header::USER_AGENT, "nats-server");
    let request = match posted {
        None => request.body(Full::<Bytes>::default()),
        Some(Posted { body, content_type, accept }) => request
            .method(Method::POST)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT, accept)
            .body(body.into()),
    };
    let answer = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), body_bytes_max).collect().await.map_err(io::Error::other)?;
    Ok((status, body.to_bytes()))
}

/// What moves the bytes of a connection; it ends with the answer, or when the time for that is over.
struct Driver<T>(JoinHandle<T>);

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
