//! Connections within the process: two byte queues and the wakers of those who wait for them.
//!
//! The embedder's end is an ordinary `AsyncRead + AsyncWrite`; the server's end is read and written without blocking
//! from several threads, like a socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that one direction holds.
const PIPE_BYTES: usize = 256 * 1024;

/// One direction.
#[derive(Default)]
struct Lane {
    state: Mutex<LaneState>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

#[derive(Default)]
struct LaneState {
    bytes: VecDeque<u8>,
    closed: bool,
}

impl Lane {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        if state.bytes.is_empty() {
            return if state.closed { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = state.bytes.read(buffer)?;
        drop(state);
        self.writer.wake();
        Ok(count)
    }

    fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = buffer.len().min(PIPE_BYTES - state.bytes.len().min(PIPE_BYTES));
        if count == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.bytes.write_all(&buffer[..count])?;
        drop(state);
        self.reader.wake();
        Ok(count)
    }

    fn close(&self) {
        self.state.lock().closed = true;
        self.reader.wake();
        self.writer.wake();
    }
}

/// The embedder's end of a connection within the process. Closed when dropped.
pub struct InProcessConnection {
    from_server: Arc<Lane>,
    to_server: Arc<Lane>,
}

/// The server's end.
pub(crate) struct ServerPipe {
    from_client: Arc<Lane>,
    to_client: Arc<Lane>,
}

/// Both ends of a new connection.
pub(crate) fn pipe() -> (InProcessConnection, ServerPipe) {
    let (up, down) = (Arc::new(Lane::default()), Arc::new(Lane::default()));
    (
        InProcessConnection { from_server: down.clone(), to_server: up.clone() },
        ServerPipe { from_client: up, to_client: down },
    )
}

impl ServerPipe {
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from_client.read(buffer)
    }

    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut written = 0;
        for slice in slices {
            match self.to_client.write(slice) {
                Ok(count) => {
                    written += count;
                    if count < slice.len() {
                        break;
                    }
                }
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(written)
    }

    pub(crate) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        self.from_client.reader.register(context.waker());
        let state = self.from_client.state.lock();
        if state.closed || !state.bytes.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        self.to_client.writer.register(context.waker());
        let state = self.to_client.state.lock();
        if state.closed || state.bytes.len() < PIPE_BYTES { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(crate) fn close(&self) {
        self.from_client.close();
        self.to_client.close();
    }
}

impl AsyncRead for InProcessConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.from_server.reader.register(context.waker());
        match self.from_server.read(buffer.initialize_unfilled()) {
            Ok(count) => {
                buffer.advance(count);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for InProcessConnection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.to_server.writer.register(context.waker());
        match self.to_server.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to_server.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for InProcessConnection {
    fn drop(&mut self) {
        self.to_server.close();
        self.from_server.close();
    }
}
