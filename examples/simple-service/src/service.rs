//! The life of the service: started part by part, stopped in the opposite order.

use std::net::SocketAddr;

use sonata::Server;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::ServiceConf;
use crate::context::ServiceContext;
use crate::{Error, embedded, endpoint, worker};

/// A running service.
pub struct Service {
    address: SocketAddr,
    context: ServiceContext,
    stop: watch::Sender<bool>,
    endpoint: JoinHandle<()>,
    worker: JoinHandle<Result<(), Error>>,
    /// Set if the configuration names no hosts.
    server: Option<Server>,
}

impl Service {
    /// Starts a server if none is named, connects, and then lets customers and orders in.
    ///
    /// # Errors
    /// A part cannot start; what was started before it is stopped.
    pub async fn start(mut conf: ServiceConf) -> Result<Self, Error> {
        let server = match conf.nats.hosts.is_empty() {
            true => Some(embedded::start(&conf.store_dir).await?),
            false => None,
        };
        conf.nats.hosts.extend(server.as_ref().map(|server| server.client_url().into()));
        match Self::start_parts(&conf).await {
            Ok((listener, context)) => Self::run(listener, context, server),
            Err(error) => {
                if let Some(server) = server {
                    server.shutdown().await;
                }
                Err(error)
            }
        }
    }

    async fn start_parts(conf: &ServiceConf) -> Result<(TcpListener, ServiceContext), Error> {
        let listener = TcpListener::bind(conf.listen).await?;
        let context = ServiceContext::connect(&conf.nats, &conf.orders).await?;
        Ok((listener, context))
    }

    fn run(listener: TcpListener, context: ServiceContext, server: Option<Server>) -> Result<Self, Error> {
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        Ok(Self {
            address,
            endpoint: tokio::spawn(endpoint::run(listener, context.clone(), stopped.clone())),
            worker: tokio::spawn(worker::run(context.clone(), stopped)),
            context,
            stop,
            server,
        })
    }

    /// Where the endpoint listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the parts share.
    pub fn context(&self) -> &ServiceContext {
        &self.context
    }

    /// Waits until the worker ends by itself, which it does only when the connection is closed for good.
    pub async fn failed(&mut self) -> Error {
        match (&mut self.worker).await {
            Ok(Ok(())) => "the worker has ended".into(),
            Ok(Err(error)) => error,
            Err(panic) => panic.into(),
        }
    }

    /// Stops gracefully: no new customers, the requests and the orders at hand are finished, the connection is drained,
    /// and the server, if it is ours, goes last.
    ///
    /// # Errors
    /// The connection was already closed.
    pub async fn stop(self) -> Result<(), Error> {
        self.stop.send_replace(true);
        let _ = self.endpoint.await;
        if !self.worker.is_finished() {
            let _ = self.worker.await;
        }
        let drained = self.context.nats.drain().await;
        if let Some(server) = self.server {
            server.shutdown().await;
        }
        Ok(drained?)
    }
}
