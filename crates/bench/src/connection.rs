//! One client connection to the server under test: greeting, TLS, reading and writing.
//!
//! Reads go into one large buffer that all connections of a thread share; a connection keeps only the part of a frame
//! that was cut off. Sockets block until [`Connection::set_nonblocking`].

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::error::BenchError;
use crate::ledger::Ledger;
use crate::verify::{Fault, Verifier};

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// How long a blocking read or write waits. Longer than a server takes to load a million subscriptions on a busy machine.
const BLOCKED_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest first line of a server.
const INFO_BYTES_MAX: usize = 64 * 1024;

/// Where a server listens, and how to speak to it.
#[derive(Clone)]
pub struct Address {
    /// Its client port.
    pub socket: SocketAddr,
    /// Set if the connection is encrypted after INFO.
    pub tls: Option<Arc<ClientConfig>>,
}

/// User and password; both must be plain words, they are put in JSON as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

/// The read buffer of a thread.
#[derive(Default)]
pub struct ReadBuffer(Vec<u8>);

/// An open connection that has said CONNECT and got its first PONG.
pub struct Connection {
    name: String,
    wire: Wire,
    /// Bytes that were read but are not a complete operation yet.
    carry: Vec<u8>,
}

/// Whether a read left something behind in the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inflow {
    /// All that had arrived was read.
    Drained,
    /// There may be more.
    More,
}

impl Connection {
    /// Connects and exchanges greetings; `name` is for error texts.
    pub fn open(
        address: &Address,
        login: Option<&Login>,
        name: impl Into<String>,
    ) -> Result<Self, BenchError> {
        let name = name.into();
        let greet = || -> io::Result<Wire> {
            let mut stream = TcpStream::connect(address.socket)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(BLOCKED_TIMEOUT))?;
            stream.set_write_timeout(Some(BLOCKED_TIMEOUT))?;
            read_info(&mut stream)?;
            Ok(match &address.tls {
                None => Wire::Plain(stream),
                Some(config) => Wire::Tls(Box::new(encrypt(stream, address.socket, config)?)),
            })
        };
        let wire = greet().map_err(|source| BenchError::system(format!("connect {name}"), source))?;
        let mut connection = Self { name, wire, carry: Vec::new() };
        let login = login
            .map(|login| format!(r#","user":"{}","pass":"{}""#, login.user, login.password))
            .unwrap_or_default();
        let tls = address.tls.is_some();
        connection.send(
            format!(
                "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":{tls},\"lang\":\"rust\",\
                 \"version\":\"{}\",\"name\":\"sonata-bench\",\"protocol\":1,\"headers\":true,\
                 \"no_responders\":true{login}}}\r\n",
                env!("CARGO_PKG_VERSION")
            )
            .as_bytes(),
        )?;
        connection.settle(&mut Verifier::without_messages(), &mut ReadBuffer::default())?;
        Ok(connection)
    }

    /// For error texts.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes all of `bytes` on a blocking connection.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        let sent = self.wire.write_all(bytes).and_then(|()| self.wire.flush());
        sent.map_err(|source| self.broken("write to", source))
    }

    /// Waits until the server has done all that was sent before: PING, and reading until its PONG.
    pub fn settle(&mut self, verifier: &mut Verifier, buffer: &mut ReadBuffer) -> Result<(), BenchError> {
        self.send(b"PING\r\n")?;
        let pongs = verifier.pongs + 1;
        self.receive_until(verifier, buffer, |verifier| verifier.pongs >= pongs)
    }

    /// Reads on a blocking connection until `done`.
    pub fn receive_until(
        &mut self,
        verifier: &mut Verifier,
        buffer: &mut ReadBuffer,
        done: impl Fn(&Verifier) -> bool,
    ) -> Result<(), BenchError> {
        while !done(verifier) {
            let read = self.read(verifier, None, buffer)?;
            if read == 0 {
                return Err(
                    self.fault(Fault::Lost { due: verifier.received + 1, received: verifier.received })
                );
            }
            if verifier.pings > 0 {
                verifier.pings = 0;
                self.send(b"PONG\r\n")?;
            }
        }
        Ok(())
    }

    /// Reads once and checks what came.
    pub fn receive(
        &mut self,
        verifier: &mut Verifier,
        ledger: Option<&mut Ledger>,
        buffer: &mut ReadBuffer,
    ) -> Result<Inflow, BenchError> {
        let read = self.read(verifier, ledger, buffer)?;
        // A short read from a socket means that it was empty then; of TLS only the end of the stream of records is sure.
        let drained = if matches!(self.wire, Wire::Plain(_)) { read < READ_BYTES } else { read == 0 };
        Ok(if drained { Inflow::Drained } else { Inflow::More })
    }

    /// Reads once and checks what came; 0 if nothing was there.
    fn read(
        &mut self,
        verifier: &mut Verifier,
        ledger: Option<&mut Ledger>,
        buffer: &mut ReadBuffer,
    ) -> Result<usize, BenchError> {
        self.receive_with(buffer, |arrived| verifier.consume(arrived, ledger))
    }

    /// Reads once and hands to `consume` what has come and was not consumed before; it says how much it has consumed.
    /// Returns how many bytes were read, 0 if nothing was there.
    pub fn receive_with(
        &mut self,
        buffer: &mut ReadBuffer,
        consume: impl FnOnce(&[u8]) -> Result<usize, Fault>,
    ) -> Result<usize, BenchError> {
        let kept = self.carry.len();
        if buffer.0.len() < kept + READ_BYTES {
            buffer.0.resize(kept + READ_BYTES, 0);
        }
        let (carried, free) = buffer.0.split_at_mut(kept);
        carried.copy_from_slice(&self.carry);
        let free = free.get_mut(..READ_BYTES).unwrap_or_default();
        let read = loop {
            match self.wire.read(free) {
                Ok(0) => return Err(self.fault(Fault::Closed)),
                Ok(read) => break read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken("read from", error)),
            }
        };
        let arrived = buffer.0.get(..kept + read).unwrap_or_default();
        let consumed = consume(arrived).map_err(|fault| self.fault(fault))?;
        self.carry.clear();
        self.carry.extend_from_slice(arrived.get(consumed..).unwrap_or_default());
        Ok(read)
    }

    /// Writes what the socket takes of `bytes`; 0 if it takes nothing now.
    pub fn write_some(&mut self, bytes: &[u8]) -> Result<usize, BenchError> {
        self.unless_full(|wire| wire.write(bytes))
    }

    /// Passes on what TLS holds back; `false` if the socket does not take it now.
    pub fn flush_some(&mut self) -> Result<bool, BenchError> {
        Ok(self.unless_full(|wire| wire.flush().map(|()| 1))? == 1)
    }

    fn unless_full(
        &mut self,
        write: impl FnOnce(&mut Wire) -> io::Result<usize>,
    ) -> Result<usize, BenchError> {
        match write(&mut self.wire) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            result => result.map_err(|source| self.broken("write to", source)),
        }
    }

    /// From now on reads and writes return at once.
    pub fn set_nonblocking(&mut self, nonblocking: bool) -> Result<(), BenchError> {
        self.wire
            .stream()
            .set_nonblocking(nonblocking)
            .map_err(|source| BenchError::system(format!("prepare {}", self.name), source))
    }

    /// The socket, for waiting.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.wire.stream().as_fd()
    }

    /// The socket, to be read outside of any check.
    pub fn stream(&self) -> &TcpStream {
        self.wire.stream()
    }

    /// A server that hangs up is at fault, anything else is the machine.
    fn broken(&self, action: &str, error: io::Error) -> BenchError {
        match error.kind() {
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => self.fault(Fault::Closed),
            _ => BenchError::system(format!("{action} {}", self.name), error),
        }
    }

    /// `fault` with the name of this connection.
    pub fn fault(&self, fault: Fault) -> BenchError {
        BenchError::check(self.name.clone(), fault)
    }
}

/// The server speaks first, and before TLS nothing may be read beyond its line: what follows belongs to the handshake.
fn read_info(stream: &mut TcpStream) -> io::Result<()> {
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
        line.extend_from_slice(&byte);
        if line.len() > INFO_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "the first line has no end"));
        }
    }
    match line.starts_with(b"INFO ") {
        true => Ok(()),
        false => Err(io::Error::new(ErrorKind::InvalidData, "the first line is not INFO")),
    }
}

fn encrypt(
    stream: TcpStream,
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, BufferedSocket>> {
    let session = ClientConnection::new(Arc::clone(config), ServerName::IpAddress(address.ip().into()));
    let session = session.map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    let mut stream = StreamOwned::new(session, BufferedSocket::new(stream));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, BufferedSocket>>),
}

impl Wire {
    fn stream(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &tls.sock.stream,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// A socket under TLS. rustls asks for 4 KiB at a time, which would cost a system call each.
struct BufferedSocket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// `buffer[start..end]` was read from the socket and not yet taken.
    start: usize,
    end: usize,
}

impl BufferedSocket {
    fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: vec![0; READ_BYTES], start: 0, end: 0 }
    }
}

impl Read for BufferedSocket {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.end = self.stream.read(&mut self.buffer)?;
        }
        let mut rest = self.buffer.get(self.start..self.end).unwrap_or_default();
        let taken = rest.read(target)?;
        self.start += taken;
        Ok(taken)
    }
}

impl Write for BufferedSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
