//! A client that speaks the protocol line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

pub(crate) struct Wire {
    /// The greeting.
    pub(crate) info: serde_json::Value,
    reader: BufReader<TcpStream>,
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) subject: String,
    /// Empty for none.
    pub(crate) reply: String,
    /// Empty for none.
    pub(crate) headers: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Wire {
    /// Connects and reads the greeting.
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut wire = Self { info: serde_json::Value::Null, reader: BufReader::new(stream) };
        wire.info = wire.info();
        wire
    }

    /// Connects and logs in; with empty names as nobody. Such a client is told nothing that it has not asked for.
    pub(crate) fn login(port: u16, user: &str, password: &str) -> Self {
        let mut wire = Self::connect(port);
        wire.send(&format!("CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\n"));
        wire.flush();
        wire
    }

    /// Connects as a client that is told when the server changes, of which it hears first that it is connected.
    pub(crate) fn informed(port: u16) -> Self {
        let mut wire = Self::connect(port);
        wire.send("CONNECT {\"verbose\":false,\"protocol\":1}\r\n");
        wire.flush();
        assert_eq!(wire.info()["connect_info"], true);
        wire
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line without its end; empty when the server has closed the connection. Pings are answered, as every
    /// client does: the first comes after seconds, which a slow machine takes.
    pub(crate) fn line(&mut self) -> String {
        loop {
            let line = self.line_as_it_is();
            if line != "PING" {
                return line;
            }
            self.send("PONG\r\n");
        }
    }

    /// The next line without its end, pings included.
    pub(crate) fn line_as_it_is(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end_matches("\r\n").to_owned()
    }

    /// The next message; none when the connection is over or nothing comes. Everything else is passed over.
    pub(crate) fn message(&mut self) -> Option<Message> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |word: &str| word.parse::<usize>().unwrap();
            let (reply, header_bytes, bytes) = match words[..] {
                ["PING"] => {
                    self.send("PONG\r\n");
                    continue;
                }
                ["MSG", _, _, bytes] => ("", 0, number(bytes)),
                ["MSG", _, _, reply, bytes] => (reply, 0, number(bytes)),
                ["HMSG", _, _, header_bytes, bytes] => ("", number(header_bytes), number(bytes)),
                ["HMSG", _, _, reply, header_bytes, bytes] => (reply, number(header_bytes), number(bytes)),
                _ => continue,
            };
            let mut headers = vec![0; bytes + 2];
            self.reader.read_exact(&mut headers).ok()?;
            headers.truncate(bytes);
            let payload = headers.split_off(header_bytes);
            return Some(Message { subject: words[1].into(), reply: reply.into(), headers, payload });
        }
    }

    /// Publishes.
    pub(crate) fn publish(&mut self, subject: &str, payload: &[u8]) {
        let start = format!("PUB {subject} {}\r\n", payload.len());
        let bytes = [start.as_bytes(), payload, b"\r\n"].concat();
        self.reader.get_mut().write_all(&bytes).unwrap();
    }

    /// The JSON of the next line, an `INFO`.
    pub(crate) fn info(&mut self) -> serde_json::Value {
        let line = self.line();
        serde_json::from_str(line.strip_prefix("INFO ").unwrap_or_else(|| panic!("no INFO: {line:?}")))
            .unwrap()
    }

    /// A round trip: everything sent before has been carried out.
    pub(crate) fn flush(&mut self) {
        self.send("PING\r\n");
        assert_eq!(self.line(), "PONG");
    }

    /// Waits for the end of the connection; the lines that came before it, each with its end. Answers no pings.
    pub(crate) fn end(&mut self) -> String {
        let mut rest = String::new();
        self.reader.read_to_string(&mut rest).unwrap();
        rest
    }
}
