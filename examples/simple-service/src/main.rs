//! `cargo run -p simple-service -- examples/simple-service/etc/service.yaml`

use simple_service::Error;
use simple_service::config::ServiceConf;
use simple_service::service::Service;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().init();
    let path = std::env::args().nth(1).unwrap_or_else(|| "etc/service.yaml".to_owned());
    let mut service = Service::start(ServiceConf::load(path)?).await?;
    tracing::info!("orders are taken at http://{}/orders", service.address());

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let fault = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        fault = service.failed() => Some(fault),
    };
    tracing::info!("stopping");
    let stopped = service.stop().await;
    fault.map_or(stopped, Err)
}
