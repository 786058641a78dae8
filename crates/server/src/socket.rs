//! A connection's transport: plain TCP, TLS over it, or a pipe within the process. Read by its own task, written by
//! whoever has something for it.

use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use atomic_waker::AtomicWaker;
use parking_lot::{Mutex, RwLock};
use rustls::ServerConnection;
use sonata_broker::connection::Port;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::pipe::ServerPipe;

/// Plaintext that is encrypted before the socket is tried again.
const ENCRYPT_BYTES_MAX: usize = 128 * 1024;

/// The first byte of a TLS handshake; no operation of the protocol begins with it.
pub(crate) const HANDSHAKE_RECORD: u8 = 0x16;

/// The writing side, shared. See the module.
pub(crate) struct Socket {
    /// Gone once the connection has ended: others may hold on to the connection a little longer, but the descriptor
    /// must not wait for them. Written through by one thread at a time nearly always, so the lock is never in dispute.
    transport: RwLock<Option<Transport>>,
    /// Set once the handshake is done; from then on everything is encrypted.
    tls: OnceLock<Box<Mutex<ServerConnection>>>,
    task: AtomicWaker,
    /// Somebody called; kept so that a call between two polls is not lost.
    called: AtomicBool,
}

enum Transport {
    Tcp(OwnedWriteHalf),
    Pipe(Arc<ServerPipe>),
}

/// The reading side, of the connection's own task.
pub(crate) enum Reader {
    Tcp(OwnedReadHalf),
    Pipe(Arc<ServerPipe>),
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// That many bytes.
    Bytes(usize),
    /// Nothing ever again.
    End,
}

/// Both sides of a TCP connection.
pub(crate) fn tcp(stream: TcpStream) -> (Arc<Socket>, Reader) {
    let (read, write) = stream.into_split();
    (Socket::new(Transport::Tcp(write)), Reader::Tcp(read))
}

/// Both sides of a connection within the process.
pub(crate) fn in_process(pipe: ServerPipe) -> (Arc<Socket>, Reader) {
    let pipe = Arc::new(pipe);
    (Socket::new(Transport::Pipe(pipe.clone())), Reader::Pipe(pipe))
}

impl Reader {
    /// Reads what comes over the wire, encrypted or not.
    pub(crate) fn poll_raw(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Input>> {
        let count = match self {
            Self::Tcp(read) => {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(read).poll_read(context, &mut buffer))?;
                buffer.filled().len()
            }
            Self::Pipe(pipe) => loop {
                ready!(pipe.poll_read_ready(context));
                match pipe.try_read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => break result?,
                }
            },
        };
        Poll::Ready(Ok(if count == 0 { Input::End } else { Input::Bytes(count) }))
    }

    /// Reads into `input`, decrypted; `encrypted` is where ciphertext is kept meanwhile.
    pub(crate) fn poll_input(
        &mut self,
        context: &mut Context<'_>,
        socket: &Socket,
        input: &mut [u8],
        encrypted: &mut Box<[u8]>,
    ) -> Poll<io::Result<Input>> {
        let Some(session) = socket.tls.get() else { return self.poll_raw(context, input) };
        if encrypted.len() < input.len() {
            *encrypted = vec![0; input.len()].into_boxed_slice();
        }
        // Plaintext is never longer than what it came from, so one wire read fits into `input`.
        let room = input.len().min(encrypted.len());
        loop {
            let mut filled = match read_plaintext(&mut session.lock(), input)? {
                Some(0) => 0,
                Some(count) => return Poll::Ready(Ok(Input::Bytes(count))),
                None => return Poll::Ready(Ok(Input::End)),
            };
            let Input::Bytes(count) = ready!(self.poll_raw(context, &mut encrypted[..room]))? else {
                return Poll::Ready(Ok(Input::End));
            };
            let mut session = session.lock();
            let mut wire = &encrypted[..count];
            while !wire.is_empty() {
                // After the peer's close_notify nothing more is taken, however much is there.
                if session.read_tls(&mut wire)? == 0 {
                    break;
                }
                if let Err(error) = session.process_new_packets() {
                    // Tell the peer why, if it still listens.
                    let _ = socket.write_tls(&mut session);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                filled += read_plaintext(&mut session, &mut input[filled..])?.unwrap_or(0);
            }
            // Key updates; if the socket does not take them now, the next write does.
            socket.write_tls(&mut session).or_else(ignore_would_block)?;
            if filled > 0 {
                return Poll::Ready(Ok(Input::Bytes(filled)));
            }
            if !wire.is_empty() {
                return Poll::Ready(Ok(Input::End));
            }
        }
    }

    /// Whether the first byte to come starts a TLS record; waits for it. False at the end of the stream.
    pub(crate) async fn starts_tls(&mut self) -> io::Result<bool> {
        match self {
            Self::Tcp(read) => {
                let mut first = [0];
                let count = read.peek(&mut first).await?;
                Ok(count == 1 && first[0] == HANDSHAKE_RECORD)
            }
            Self::Pipe(_) => Ok(false),
        }
    }
}

impl Socket {
    fn new(transport: Transport) -> Arc<Self> {
        Arc::new(Self {
            transport: RwLock::new(Some(transport)),
            tls: OnceLock::new(),
            task: AtomicWaker::new(),
            // What changed while the connection was being made is looked at once.
            called: AtomicBool::new(true),
        })
    }

    /// Registers the connection's task; true when somebody has called since the last time.
    pub(crate) fn poll_called(&self, context: &mut Context<'_>) -> bool {
        self.task.register(context.waker());
        self.called.load(Ordering::Relaxed) && self.called.swap(false, Ordering::AcqRel)
    }

    /// Wakes the connection's task.
    pub(crate) fn call(&self) {
        self.called.store(true, Ordering::Release);
        self.task.wake();
    }

    /// From now on bytes are encrypted.
    pub(crate) fn start_tls(&self, session: ServerConnection) {
        // Only called once per connection; a second session would be refused here and dropped.
        let _ = self.tls.set(Box::new(Mutex::new(session)));
    }

    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        match &*self.transport.read() {
            // An error shows itself in the write that follows.
            Some(Transport::Tcp(write)) => write.as_ref().poll_write_ready(context).map(drop),
            Some(Transport::Pipe(pipe)) => pipe.poll_write_ready(context),
            None => Poll::Ready(()),
        }
    }

    /// Writes what is encrypted already. An error of the kind `WouldBlock` when something is left.
    pub(crate) fn write_tls(&self, session: &mut ServerConnection) -> io::Result<()> {
        while session.wants_write() {
            session.write_tls(&mut Raw(self))?;
        }
        Ok(())
    }

    fn try_write_raw(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (&*self.transport.read(), slices) {
            (Some(Transport::Tcp(write)), [one]) => write.try_write(one),
            (Some(Transport::Tcp(write)), several) => write.try_write_vectored(several),
            (Some(Transport::Pipe(pipe)), slices) => pipe.try_write(slices),
            (None, _) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Ends the transport: says good-bye when encrypted, and what is in flight still arrives. Nothing is read or
    /// written any more.
    pub(crate) fn shut_down(&self) {
        if let Some(session) = self.tls.get() {
            let mut session = session.lock();
            session.send_close_notify();
            let _ = self.write_tls(&mut session);
        }
        match self.transport.write().take() {
            // Dropping the writing side sends what is in flight and then the end of the stream.
            Some(Transport::Tcp(write)) => drop(write),
            Some(Transport::Pipe(pipe)) => pipe.close(),
            None => {}
        }
    }
}

/// Reads decrypted bytes until there are no more; `None` at their end.
fn read_plaintext(session: &mut ServerConnection, input: &mut [u8]) -> io::Result<Option<usize>> {
    let mut filled = 0;
    while filled < input.len() {
        match session.reader().read(&mut input[filled..]) {
            Ok(0) => return Ok((filled > 0).then_some(filled)),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok((filled > 0).then_some(filled));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(filled))
}

fn ignore_would_block(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
}

/// The wire as rustls wants it.
struct Raw<'a>(&'a Socket);

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write_raw(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_raw(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The face that a [`Socket`] shows to the broker.
pub(crate) struct SocketPort(pub(crate) Arc<Socket>);

impl Port for SocketPort {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(session) = self.0.tls.get() else { return self.0.try_write_raw(slices) };
        let mut session = session.lock();
        self.0.write_tls(&mut session)?;
        let mut written = 0;
        for slice in slices {
            let count = session.writer().write(&slice[..slice.len().min(ENCRYPT_BYTES_MAX - written)])?;
            written += count;
            if count < slice.len() {
                break;
            }
        }
        match self.0.write_tls(&mut session) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(written),
        }
    }

    fn drain(&self) -> io::Result<()> {
        match self.0.tls.get() {
            Some(session) => self.0.write_tls(&mut session.lock()),
            None => Ok(()),
        }
    }

    fn wake(&self) {
        self.0.call();
    }
}

/// The handshake of one connection, over a socket that is not encrypted yet.
pub(crate) struct Handshake<'a> {
    pub(crate) socket: &'a Socket,
    pub(crate) reader: &'a mut Reader,
    pub(crate) session: ServerConnection,
}

impl Handshake<'_> {
    /// Goes through with it; `ahead` was read already. The session may hold first bytes of the client afterwards.
    pub(crate) async fn run(mut self, ahead: &[u8]) -> io::Result<ServerConnection> {
        self.take(ahead)?;
        // Small, so that what a client sends along with its last handshake message fits into the session.
        let mut buffer = vec![0; 8 * 1024];
        std::future::poll_fn(|context| self.poll(context, &mut buffer)).await?;
        Ok(self.session)
    }

    /// Goes on as far as the wire allows.
    fn poll(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<()>> {
        loop {
            match self.socket.write_tls(&mut self.session) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(context));
                    continue;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            let Input::Bytes(count) = ready!(self.reader.poll_raw(context, buffer))? else {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            };
            if let Err(error) = self.take(&buffer[..count]) {
                let _ = self.socket.write_tls(&mut self.session);
                return Poll::Ready(Err(error));
            }
        }
    }

    fn take(&mut self, mut wire: &[u8]) -> io::Result<()> {
        while !wire.is_empty() {
            if self.session.read_tls(&mut wire)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.session
                .process_new_packets()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Ok(())
    }
}
