//! One client of a script: a socket, with TLS or without, and the frames it has received.
//!
//! Every read has a deadline and ends at a frame, at the close, or at that deadline. A reset, an end of file and a TLS
//! alert are the same to a script: the server closed. Failed writes are not reported here; the next read shows why.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::error::WireError;
use crate::frame;
use crate::normal;
use crate::script::ReceiveBuffer;

/// Size asked of the kernel for a client that does not read.
const SMALL_BUFFER_BYTES: usize = 4096;

/// How long one write may take: a stalled producer is slow, a stuck one is a finding.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// A connection from a script to the server.
pub struct Connection {
    stream: Stream,
    received: Vec<u8>,
    closed: bool,
    nonce: String,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Between the two, or closed by the script.
    Gone,
}

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A whole frame, or what was left when the connection ended.
    Frame(Vec<u8>),
    /// The server has closed.
    Closed,
    /// Neither came before the deadline.
    TimedOut,
}

/// How a TLS handshake ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Done, with the version that was agreed on.
    Secured(String),
    /// The server or the client gave up.
    Refused,
    /// The server did not answer in time.
    TimedOut,
}

impl Connection {
    /// Opens a connection to the server on this machine.
    ///
    /// # Errors
    /// [`WireError::Io`] when the server does not accept.
    pub fn dial(port: u16, buffer: ReceiveBuffer) -> Result<Connection, WireError> {
        let stream =
            open(port, buffer).map_err(|error| WireError::io(format!("connecting to port {port}"), error))?;
        Ok(Connection {
            stream: Stream::Plain(stream),
            received: Vec::new(),
            closed: false,
            nonce: String::new(),
        })
    }

    /// The nonce of the last INFO received, empty if there was none.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Writes in one piece; a failure shows itself in the next read.
    pub fn send(&mut self, bytes: &[u8]) {
        // The outcome is of no use: a server that has closed may have left frames to read first.
        let _ = match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Stream::Gone => Ok(()),
        };
    }

    /// The next frame.
    pub fn receive(&mut self, deadline: Instant) -> Received {
        loop {
            if let Some(length) = frame::first_frame(&self.received) {
                return Received::Frame(self.take(length));
            }
            if self.closed {
                let rest = self.received.len();
                return if rest == 0 { Received::Closed } else { Received::Frame(self.take(rest)) };
            }
            if !self.fill(deadline) {
                return Received::TimedOut;
            }
        }
    }

    /// Forgets everything up to the close; `false` when the close did not come before the deadline.
    pub fn drain(&mut self, deadline: Instant) -> bool {
        while !self.closed {
            if !self.fill(deadline) {
                return false;
            }
            self.received.clear();
        }
        self.received.clear();
        true
    }

    /// The client's end of the TLS handshake.
    pub fn secure(&mut self, config: Arc<ClientConfig>, deadline: Instant) -> Handshake {
        let Stream::Plain(mut socket) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Handshake::Refused;
        };
        let Ok(name) = ServerName::try_from("localhost") else { return Handshake::Refused };
        let Ok(mut tls) = ClientConnection::new(config, name) else { return Handshake::Refused };
        while tls.is_handshaking() {
            let Some(left) = time_left(deadline) else { return Handshake::TimedOut };
            let progress = socket.set_read_timeout(Some(left)).and_then(|()| tls.complete_io(&mut socket));
            match progress {
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return Handshake::TimedOut,
                Err(_) => {
                    self.closed = true;
                    return Handshake::Refused;
                }
            }
        }
        let version = tls.protocol_version().and_then(|version| version.as_str()).unwrap_or("?").to_owned();
        self.stream = Stream::Tls(Box::new(StreamOwned::new(tls, socket)));
        Handshake::Secured(version)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let frame: Vec<u8> = self.received.drain(..length).collect();
        if let Some(nonce) = normal::info_text(&frame, "nonce") {
            self.nonce = nonce;
        }
        frame
    }

    /// Reads once; `false` when nothing came before the deadline.
    fn fill(&mut self, deadline: Instant) -> bool {
        let Some(left) = time_left(deadline) else { return false };
        let mut bytes = [0; READ_BYTES];
        let read = match &mut self.stream {
            Stream::Plain(stream) => {
                stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut bytes))
            }
            Stream::Tls(stream) => {
                stream.sock.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut bytes))
            }
            Stream::Gone => Ok(0),
        };
        match read {
            Ok(0) => self.closed = true,
            Ok(count) => self.received.extend_from_slice(bytes.get(..count).unwrap_or_default()),
            Err(error) if is_timeout(&error) => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.closed = true,
        }
        true
    }
}

fn open(port: u16, buffer: ReceiveBuffer) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if buffer == ReceiveBuffer::Small {
        // Before connecting, since the window is agreed on then.
        socket.set_recv_buffer_size(SMALL_BUFFER_BYTES)?;
    }
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    Ok(stream)
}

/// Time up to the deadline, `None` when it has passed; a socket does not accept a timeout of nothing.
fn time_left(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
