//! A subscriber that does not read, or reads slowly.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::connection::{Address, Connection, ReadBuffer};
use crate::error::BenchError;
use crate::verify::Verifier;

/// Room for unread bytes in the kernel. Without a bound it grows to tens of MiB, and the server notices nothing for long.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// How often a slow reader reads.
const READ_INTERVAL: Duration = Duration::from_millis(10);

/// The subscriber; it leaves when dropped. What it gets is not checked, and the server may close it.
pub struct SlowReader {
    connection: Connection,
    reading: Option<JoinHandle<()>>,
}

impl SlowReader {
    /// Subscribes to `subject` and then reads `bytes_per_second`, or nothing at all if that is 0.
    pub fn open(address: &Address, subject: &str, bytes_per_second: usize) -> Result<Self, BenchError> {
        let mut connection = Connection::open(address, None, "slow reader")?;
        setsockopt(&connection.descriptor(), sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)
            .map_err(|source| BenchError::system("bound a receive buffer", source))?;
        connection.send(format!("SUB {subject} 1\r\n").as_bytes())?;
        connection.settle(&mut Verifier::without_messages(), &mut ReadBuffer::default())?;
        let mut reading = None;
        if bytes_per_second > 0 {
            let stream = connection
                .stream()
                .try_clone()
                .map_err(|source| BenchError::system("share a connection", source))?;
            let bytes = (bytes_per_second as f64 * READ_INTERVAL.as_secs_f64()).ceil() as usize;
            reading = Some(thread::spawn(move || read_slowly(stream, bytes)));
        }
        Ok(Self { connection, reading })
    }
}

fn read_slowly(mut stream: TcpStream, bytes: usize) {
    let mut buffer = vec![0; bytes];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
        thread::sleep(READ_INTERVAL);
    }
}

impl Drop for SlowReader {
    fn drop(&mut self) {
        // Wakes the reading thread.
        let _ = self.connection.stream().shutdown(Shutdown::Both);
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}
