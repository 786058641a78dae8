//! `cargo run -p auth-callout-service -- examples/auth-callout-service/etc/service.yaml`

use auth_callout_service::Error;
use auth_callout_service::config::CalloutConf;
use auth_callout_service::service::Service;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().init();
    let path = std::env::args().nth(1).unwrap_or_else(|| "etc/service.yaml".to_owned());
    let service = Service::start(CalloutConf::load(path)?).await?;
    tracing::info!("questions are answered");

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    service.stop().await
}
