//! A NATS server inside the program that uses it: `cargo run --release -p sonata --example embedded`.
//!
//! Starts a server on a free port, connects to it with the official client, asks it something, and stops it again.

use futures_util::StreamExt;
use sonata::Server;
use sonata::options::Options;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let server = Server::start(Options { host: "127.0.0.1".into(), port: 0, ..Options::default() }).await?;

    let client = async_nats::connect(server.client_url()).await?;
    let mut requests = client.subscribe("greet.*").await?;
    client.flush().await?;
    let answering = {
        let client = client.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let name = request.subject.strip_prefix("greet.").unwrap_or("stranger").to_owned();
                if let Some(reply) = request.reply {
                    client.publish(reply, format!("hello, {name}").into()).await?;
                }
            }
            Ok::<_, async_nats::PublishError>(())
        })
    };

    let answer = client.request("greet.joe", "".into()).await?;
    eprintln!("{} answered: {}", server.id(), String::from_utf8_lossy(&answer.payload));

    client.drain().await?;
    answering.await??;
    server.shutdown().await;
    Ok(())
}
