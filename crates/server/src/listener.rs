//! Listening for clients.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sonata_broker::shared::Level;
use tokio::net::{TcpListener, TcpSocket};

use crate::inner::{Inner, Stage};
use crate::serve::serve;
use crate::socket;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Waits after an accept that failed for want of files or memory: first and longest.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Binds the first address of `host` that can be bound. Port 0 is any free one.
pub(crate) async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "host has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Accepts clients until the server leaves its running stage.
pub(crate) async fn accept(inner: Arc<Inner>, listener: TcpListener) {
    let mut stage = inner.stage.subscribe();
    let mut pause = ACCEPT_PAUSE;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stage.wait_for(|stage| *stage > Stage::Running) => return,
        };
        match accepted {
            Ok((stream, remote)) => {
                pause = ACCEPT_PAUSE;
                // Without it small answers wait for the peer's acknowledgements; with an error the peer is gone.
                if stream.set_nodelay(true).is_ok() {
                    let (socket, reader) = socket::tcp(stream);
                    tokio::spawn(serve(inner.clone(), socket, reader, Some(remote)));
                }
            }
            Err(error) => {
                use sonata_broker::shared::Log;
                inner
                    .logger
                    .write(Level::Error, format_args!("Client Accept Error: {error}, sleeping {pause:?}"));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}
