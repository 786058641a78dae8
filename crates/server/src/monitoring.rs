//! Monitoring over HTTP and HTTPS: listeners, connections, and the limits that keep strangers from wearing the
//! server out through them. What is answered is up to [`sonata_monitor::response`], over the server's [`View`].
//!
//! It stays up in lame duck mode, when load balancers want to know, and ends when the server stops.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use sonata_broker::shared::{Level, Log};
use sonata_monitor::response::{self, Endpoint, respond};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::inner::{Inner, Stage};
use crate::listener;
use crate::ocsp::REJECTED;
use crate::server::StartError;
use crate::tls::TlsError;
use crate::view::View;

/// Connections of one listener at a time; more wait to be accepted. Far more than probes and scrapers need.
const CONNECTIONS_MAX: usize = 256;

/// Answers that are being made at a time. A large `/connz` takes a processor for tens of milliseconds; those who
/// publish are to keep theirs.
const ANSWERS_MAX: usize = 2;

/// How long the head of a request may take, and how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of the head of a request. The longest that makes sense are a query and a browser's cookies.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a connection may last. This, rather than a limit on writing, is what ends a client that never reads its
/// answer, so that a large answer over a slow line comes through.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

/// How long an answer that is under way at that time may still take.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long is waited after an accept that failed, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Requests by endpoint, as `http_req_stats` of `/varz` shows them.
#[derive(Default)]
pub(crate) struct RequestCounts(Mutex<BTreeMap<&'static str, u64>>);

impl RequestCounts {
    fn count(&self, endpoint: Endpoint) {
        if let Some(key) = endpoint.counted_as() {
            *self.0.lock().entry(key).or_default() += 1;
        }
    }

    /// Those that have been asked for at all.
    pub(crate) fn by_path(&self) -> BTreeMap<String, u64> {
        self.0.lock().iter().map(|(path, count)| ((*path).into(), *count)).collect()
    }
}

/// Starts the listeners that the options ask for.
///
/// # Errors
/// An address cannot be bound, or there is no certificate for HTTPS; no listener stays behind.
pub(crate) async fn start(inner: &Arc<Inner>) -> Result<(), StartError> {
    let options = inner.options.load_full();
    if options.https_port.is_some() && options.tls.is_none() {
        return Err(StartError::Tls(TlsError::Parameters("TLS cert and key required for HTTPS".into())));
    }
    let host = &options.http_host;
    let mut listeners = Vec::new();
    for (scheme, port) in [(Scheme::Http, options.http_port), (Scheme::Https, options.https_port)] {
        let Some(port) = port else { continue };
        let failed = |error| StartError::Listen("the monitor port", host_and_port(host, port), error);
        let listener = listener::bind(host, port).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        listeners.push((scheme, listener, address));
    }
    let answers = Arc::new(Semaphore::new(ANSWERS_MAX));
    for (scheme, listener, address) in listeners {
        let at = host_and_port(host, address.port());
        inner.logger.write(Level::Info, format_args!("Starting {} monitor on {at}", scheme.name()));
        {
            let mut bound = inner.bound.lock();
            match scheme {
                Scheme::Http => bound.http = Some(address),
                Scheme::Https => bound.https = Some(address),
            }
        }
        let monitor = Arc::new(Monitor { inner: inner.clone(), scheme, answers: answers.clone() });
        tokio::spawn(monitor.accept(listener));
    }
    Ok(())
}

/// One listener and what its connections share.
struct Monitor {
    inner: Arc<Inner>,
    scheme: Scheme,
    answers: Arc<Semaphore>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Monitor {
    /// Accepts until the server stops.
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut stage = self.inner.stage.subscribe();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = accept_one(&listener, &places) => accepted,
                _ = stage.wait_for(|stage| *stage >= Stage::Stopping) => return,
            };
            match accepted {
                Ok((stream, place)) => {
                    tokio::spawn(self.clone().serve(stream, place));
                }
                Err(error) => {
                    let name = self.scheme.name();
                    self.inner.logger.write(
                        Level::Error,
                        format_args!("Error accepting {name} monitor connection: {error}"),
                    );
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection until it ends or the server stops.
    async fn serve(self: Arc<Self>, stream: TcpStream, _place: OwnedSemaphorePermit) {
        let mut stage = self.inner.stage.subscribe();
        let conversation = async {
            match self.scheme {
                Scheme::Http => self.converse(stream).await,
                Scheme::Https => self.converse_encrypted(stream).await,
            }
        };
        tokio::select! {
            () = conversation => {}
            _ = stage.wait_for(|stage| *stage >= Stage::Stopping) => {}
        }
    }

    /// The configuration is that of the moment: a reload may have brought another certificate.
    async fn converse_encrypted(&self, stream: TcpStream) {
        let Some(setup) = self.inner.tls.load_full() else { return };
        let handshake = TlsAcceptor::from(setup.monitoring_config()).accept(stream);
        match tokio::time::timeout(setup.timeout, handshake).await {
            Ok(Ok(stream)) => {
                if let Some(check) = &setup.peer_check {
                    let presented = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
                    if !check.admits(&self.inner, &presented).await {
                        return self.log_handshake(&io::Error::other(REJECTED));
                    }
                }
                self.converse(stream).await;
            }
            Ok(Err(error)) => self.log_handshake(&error),
            Err(timeout) => self.log_handshake(&timeout),
        }
    }

    fn log_handshake(&self, error: &dyn std::error::Error) {
        self.inner.logger.write(Level::Debug, format_args!("monitoring: TLS handshake error: {error}"));
    }

    async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .title_case_headers(true)
            .serve_connection(TokioIo::new(stream), service_fn(|request| self.answer(request)));
        let mut connection = pin!(connection);
        // Errors are the client's: it went away, was too slow, or did not speak HTTP and was told so.
        if tokio::time::timeout(CONNECTION_TIMEOUT, connection.as_mut()).await.is_err() {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(LAST_ANSWER_TIMEOUT, connection).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let inner = self.inner.clone();
        let base_path = inner.options.load().http_root();
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let endpoint = Endpoint::at(&path, &base_path);
        if let Some(endpoint) = endpoint {
            inner.http_requests.count(endpoint);
        }
        // Everything looks at all connections, accounts or streams, which takes as long as there are many, and is done
        // where no traffic waits for it. Probes do not wait for the others.
        let answer = match endpoint {
            None => Some(respond(&View::new(inner), &path, &query, &base_path)),
            Some(endpoint) => {
                let permit = match endpoint {
                    Endpoint::Healthz => None,
                    _ => self.answers.clone().acquire_owned().await.ok(),
                };
                let answering = tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    respond(&View::new(inner), &path, &query, &base_path)
                });
                answering.await.ok()
            }
        };
        Ok(answer.map_or_else(failure, whole))
    }
}

/// Accepts one connection once there is room for it.
async fn accept_one(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// The response as the transport takes it.
fn whole(answer: response::Response) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        if let Ok(name) = HeaderName::try_from(*name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}

/// For an answer whose thread was lost, which only happens when the runtime ends.
fn failure() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
