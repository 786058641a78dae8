//! A NATS client of a few lines: operations go out as they are written in the test.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::http;

pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection. It stays until it is dropped.
pub(crate) struct Client(Box<dyn Stream>);

impl Client {
    /// Connects and reads `INFO`.
    pub(crate) fn arrive(address: SocketAddr) -> Self {
        let mut client = Self(Box::new(http::connect(address)));
        client.read_until("\r\n");
        client
    }

    /// Connects; and the nonce of `INFO`.
    pub(crate) fn arrive_challenged(address: SocketAddr) -> (Self, String) {
        let mut client = Self(Box::new(http::connect(address)));
        let info = client.read_line();
        let nonce = info.split_once("\"nonce\":\"").and_then(|(_, rest)| rest.split_once('"'));
        let nonce = nonce.unwrap_or_else(|| panic!("no nonce in {info}")).0.to_owned();
        (client, nonce)
    }

    /// Connects, sends `operations` and waits until all of them are carried out.
    pub(crate) fn connect(address: SocketAddr, operations: &str) -> Self {
        let mut client = Self::arrive(address);
        client.run(operations);
        client
    }

    /// The same with TLS after `INFO`.
    pub(crate) fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>, operations: &str) -> Self {
        let plain = Self::arrive(address);
        let mut client = Self(Box::new(tls(plain.0, config)));
        client.run(operations);
        client
    }

    /// Sends `operations` and waits until all of them are carried out.
    pub(crate) fn run(&mut self, operations: &str) {
        self.send(operations);
        self.send("PING\n");
        self.read_until("PONG\r\n");
    }

    /// Sends `operations`; line ends are made those of the protocol.
    pub(crate) fn send(&mut self, operations: &str) {
        self.0.write_all(operations.replace('\n', "\r\n").as_bytes()).unwrap();
    }

    /// Reads until `end` has come.
    pub(crate) fn read_until(&mut self, end: &str) {
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(end.as_bytes()) {
            let count = self.0.read(&mut byte).unwrap();
            assert_eq!(count, 1, "closed after {:?}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
    }

    /// Reads a line, with its end.
    pub(crate) fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend(self.read_bytes(1));
        }
        String::from_utf8(line).unwrap()
    }

    /// Reads so many bytes.
    pub(crate) fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads until the server has closed the connection.
    pub(crate) fn read_to_end(&mut self) {
        let mut seen = Vec::new();
        // A reset is an end as well.
        let _ = self.0.read_to_end(&mut seen);
    }
}

/// A TLS session over a stream, as a client of `localhost`.
pub(crate) fn tls<S: Read + Write>(stream: S, config: Arc<ClientConfig>) -> StreamOwned<ClientConnection, S> {
    let name = "localhost".try_into().unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream)
}
