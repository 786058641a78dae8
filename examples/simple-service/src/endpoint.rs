//! The HTTP endpoint: `POST /orders` takes an order, `GET /orders/{id}` says whether it was shipped.

use std::convert::Infallible;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::context::ServiceContext;
use crate::order::Order;

/// Largest order.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take as a whole, and requests at hand when the service stops.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long is waited after an accept that failed, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` becomes true, then finishes the requests at hand.
pub async fn run(listener: TcpListener, context: ServiceContext, mut stop: watch::Receiver<bool>) {
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let context = context.clone();
        let service = service_fn(move |request| answer(context.clone(), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(REQUEST_TIMEOUT, connections.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
}

async fn answer(
    context: ServiceContext,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let work = async {
        match (request.method().clone(), request.uri().path()) {
            (Method::POST, "/orders") => take_order(&context, request).await,
            (Method::GET, path) => match path.strip_prefix("/orders/") {
                Some(id) => tell_order(&context, id),
                None => not_found(),
            },
            _ => not_found(),
        }
    };
    let late = (StatusCode::GATEWAY_TIMEOUT, json!({ "error": "took too long" }));
    let (status, body) = tokio::time::timeout(REQUEST_TIMEOUT, work).await.unwrap_or(late);
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Answers when the server has stored the order: from then on it is not lost.
async fn take_order(context: &ServiceContext, request: Request<Incoming>) -> (StatusCode, Value) {
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, json!({ "error": "no order, or too large a one" }));
    };
    let body = body.to_bytes();
    let order = match serde_json::from_slice::<Order>(&body) {
        Ok(order) => order,
        Err(error) => return (StatusCode::BAD_REQUEST, json!({ "error": error.to_string() })),
    };
    // The stream drops a message with an id that it has seen lately, so a customer may safely post again.
    let message = PublishMessage::build().payload(body).message_id(&order.id);
    let stored = async {
        let acknowledgement = context.jetstream.send_publish(context.subject.clone(), message).await?;
        acknowledgement.await
    };
    match stored.await {
        Ok(stored) => (
            StatusCode::ACCEPTED,
            json!({ "id": order.id, "sequence": stored.sequence, "duplicate": stored.duplicate }),
        ),
        Err(error) => {
            tracing::error!(%error, "an order was not stored");
            (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": "the order was not stored, post it again" }))
        }
    }
}

fn tell_order(context: &ServiceContext, id: &str) -> (StatusCode, Value) {
    match context.warehouse.shipped(id) {
        Some(order) => (StatusCode::OK, json!({ "shipped": order })),
        None => not_found(),
    }
}

fn not_found() -> (StatusCode, Value) {
    (StatusCode::NOT_FOUND, json!({ "error": "not found" }))
}
