//! Plays one script against one fresh server and writes down what came back, as the script's text anew.
//!
//! Playing never fails because of an answer: a wrong one stands in the transcript. It stops early only when a client
//! waits in vain, for then nothing behind that line can be trusted.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::{Connection, Handshake, Received};
use crate::error::WireError;
use crate::escape;
use crate::frame;
use crate::identity;
use crate::message::{self, MadeUp};
use crate::normal;
use crate::pki::Pki;
use crate::script::{Client, Greeting, JetStream, Order, ReceiveBuffer, Script, Step};
use crate::server::{Reload, Server};

/// How long a client waits for a frame or a close. Larger than every interval a script configures, and than the first
/// ping of a server, which comes up to 2.4 s after CONNECT.
const STEP_PATIENCE: Duration = Duration::from_secs(8);

/// What playing a script came to.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// The script with the answers of this server.
    pub text: String,
    /// Whether a client waited in vain; such a transcript is never recorded.
    pub timed_out: bool,
}

/// Plays `script` against a fresh process of `program`; `folder` is for this script alone.
///
/// # Errors
/// [`WireError`] when the server does not start or the script uses a client before it is connected.
pub fn play(script: &Script, program: &Path, pki: &Pki, folder: &Path) -> Result<Transcript, WireError> {
    let config = substitute(&script.config, pki)?;
    let mut args: Vec<String> = script.args.iter().map(|arg| pki.substitute(arg)).collect();
    if script.jetstream == JetStream::On {
        args.push("-js".to_owned());
    }
    if script.jetstream != JetStream::Unsaid {
        args.extend(["-sd".to_owned(), folder.join("store").display().to_string()]);
    }
    let start = || Server::start(program, &args, &config, folder);
    let mut stage = Stage {
        script,
        pki,
        server: start()?,
        start: &start,
        clients: BTreeMap::new(),
        made_up: MadeUp::new(script),
        text: script.header.clone(),
        timed_out: false,
    };
    for line in &script.lines {
        stage.text.push_str(&line.text);
        stage.text.push('\n');
        if let Some(step) = &line.step {
            stage.perform(step, line.number)?;
        }
        if stage.timed_out {
            break;
        }
    }
    Ok(Transcript { text: stage.text, timed_out: stage.timed_out })
}

fn substitute(config: &str, pki: &Pki) -> Result<String, WireError> {
    identity::substitute(&pki.substitute(config), "")
}

struct Stage<'a> {
    script: &'a Script,
    pki: &'a Pki,
    server: Server,
    start: &'a dyn Fn() -> Result<Server, WireError>,
    clients: BTreeMap<Client, Connection>,
    made_up: MadeUp,
    text: String,
    timed_out: bool,
}

/// Where a read ends.
enum End<'a> {
    /// So many frames that begin so.
    Frames(u32, &'a [u8]),
    /// So many messages for the answers of requests.
    Answers(u32),
    Close,
}

impl End<'_> {
    /// How many frames of which kind end the reading, if any do.
    fn is_met_by(&self, frame: &[u8]) -> Option<u32> {
        match self {
            End::Frames(times, prefix) => frame.starts_with(prefix).then_some(*times),
            End::Answers(times) => {
                (frame::subscription(frame) == Some(ANSWERS_SID.as_bytes())).then_some(*times)
            }
            End::Close => None,
        }
    }
}

/// The subscription for answers to requests; its subject is `_R.` with the client's name.
const ANSWERS_SID: &str = "R";

/// What client libraries say: headers, and no word about every line that was right.
const USUAL_CONNECT: &str =
    r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#;

impl Stage<'_> {
    fn perform(&mut self, step: &Step, line: usize) -> Result<(), WireError> {
        match step {
            Step::Connect(name, greeting) => {
                if self.dial(name, ReceiveBuffer::Usual) {
                    self.read_and_write_down(name, &End::Frames(1, b"INFO "), Order::AsReceived, line)?;
                    if *greeting == Greeting::Usual {
                        let text = format!("{USUAL_CONNECT}\r\nSUB _R.{name} {ANSWERS_SID}\r\n");
                        self.client(name, line)?.send(text.as_bytes());
                    }
                }
                Ok(())
            }
            Step::Dial(name, buffer) => {
                self.dial(name, *buffer);
                Ok(())
            }
            Step::Secure(name, choice) => {
                let config = self.pki.client_config(choice)?;
                match self.client(name, line)?.secure(config, deadline()) {
                    Handshake::Secured(version) => self.answer(&format!("{name} secured {version}")),
                    Handshake::Refused => self.answer(&format!("{name} refused")),
                    Handshake::TimedOut => self.time_out(name),
                }
                Ok(())
            }
            Step::Send(name, text) => {
                let text = identity::substitute(text, self.client(name, line)?.nonce())?;
                let bytes = self.decode(&text, line)?;
                self.client(name, line)?.send(&bytes);
                Ok(())
            }
            Step::Request(name, times, text) => {
                let (subject, payload) = text.split_once(' ').unwrap_or((text, ""));
                let (subject, payload) = (self.decode(subject, line)?, self.decode(payload, line)?);
                let bytes = request(&subject, &format!("_R.{name}"), &payload);
                self.client(name, line)?.send(&bytes);
                self.read_and_write_down(name, &End::Answers(*times), Order::AsReceived, line)
            }
            Step::Raw(name, bytes) => {
                self.client(name, line)?.send(bytes);
                Ok(())
            }
            Step::Sync(name, order) => {
                self.client(name, line)?.send(b"PING\r\n");
                self.read_and_write_down(name, &End::Frames(1, b"PONG"), *order, line)
            }
            Step::Until(name, _, prefix) if prefix == "closed" => {
                self.read_and_write_down(name, &End::Close, Order::AsReceived, line)
            }
            Step::Until(name, times, prefix) => self.read_and_write_down(
                name,
                &End::Frames(*times, prefix.as_bytes()),
                Order::AsReceived,
                line,
            ),
            Step::Drain(name) => {
                if self.client(name, line)?.drain(deadline()) {
                    self.answer(&format!("{name} closed"));
                } else {
                    self.time_out(name);
                }
                Ok(())
            }
            Step::Close(name) => {
                self.clients.remove(name);
                Ok(())
            }
            Step::Total(names) => self.total(names, line),
            Step::Signal(name) => self.server.signal(name),
            Step::Reload(config) => {
                let outcome = self.server.reload(&substitute(config, self.pki)?)?;
                self.answer(match outcome {
                    Reload::Applied => "server reloaded",
                    Reload::Kept => "server kept its configuration",
                });
                Ok(())
            }
            Step::Ends => {
                match self.server.wait_for_end() {
                    Some(status) => self.answer(&format!("server ended {}", status.code().unwrap_or(-1))),
                    None => self.time_out("server"),
                }
                Ok(())
            }
            Step::Restarts => {
                self.clients.clear();
                self.server.signal("TERM")?;
                match self.server.wait_for_end() {
                    Some(_) => self.server = (self.start)()?,
                    None => self.time_out("server"),
                }
                Ok(())
            }
        }
    }

    /// The bytes of a text in a script, with the names that servers made up in place of theirs.
    fn decode(&self, text: &str, line: usize) -> Result<Vec<u8>, WireError> {
        escape::decode(&self.made_up.restore(text)).map_err(|reason| self.broken(line, reason))
    }

    /// Whether the server accepted.
    fn dial(&mut self, name: &str, buffer: ReceiveBuffer) -> bool {
        match Connection::dial(self.server.port(), buffer) {
            Ok(connection) => {
                self.clients.insert(name.to_owned(), connection);
                true
            }
            Err(_) => {
                self.answer(&format!("{name} refused"));
                false
            }
        }
    }

    fn client(&mut self, name: &str, line: usize) -> Result<&mut Connection, WireError> {
        let script = &self.script.name;
        self.clients.get_mut(name).ok_or_else(|| WireError::Script {
            script: script.clone(),
            line,
            reason: format!("{name} is not connected"),
        })
    }

    fn read_and_write_down(
        &mut self,
        name: &str,
        end: &End<'_>,
        order: Order,
        line: usize,
    ) -> Result<(), WireError> {
        let (mut frames, last) = self.read(name, end, line)?;
        if order == Order::Sorted {
            sort_messages(&mut frames);
        }
        for frame in &frames {
            self.frame(name, frame);
        }
        match last {
            Received::Frame(frame) => self.frame(name, &frame),
            Received::Closed => self.answer(&format!("{name} closed")),
            Received::TimedOut => self.time_out(name),
        }
        Ok(())
    }

    /// Reads up to `end`: the frames before it, and the one that ended the reading.
    ///
    /// A PING of the server is passed over unless it is waited for, or the close is: it may come between any two
    /// frames of a script that a busy machine plays slowly.
    fn read(
        &mut self,
        name: &str,
        end: &End<'_>,
        line: usize,
    ) -> Result<(Vec<Vec<u8>>, Received), WireError> {
        let deadline = deadline();
        let client = self.client(name, line)?;
        let mut frames = Vec::new();
        let mut met = 0;
        loop {
            match client.receive(deadline) {
                Received::Frame(frame) => {
                    if let Some(times) = end.is_met_by(&frame) {
                        met += 1;
                        if met == times {
                            return Ok((frames, Received::Frame(frame)));
                        }
                    }
                    if matches!(end, End::Close) || frame != b"PING\r\n" {
                        frames.push(frame);
                    }
                }
                other => return Ok((frames, other)),
            }
        }
    }

    fn total(&mut self, names: &[Client], line: usize) -> Result<(), WireError> {
        let mut messages = 0;
        for name in names {
            self.client(name, line)?.send(b"PING\r\n");
            let (frames, last) = self.read(name, &End::Frames(1, b"PONG"), line)?;
            messages += frames.iter().filter(|frame| frame::is_message(frame)).count();
            for frame in frames.iter().filter(|frame| !frame::is_message(frame)) {
                self.frame(name, frame);
            }
            match last {
                Received::Frame(_) => {}
                Received::Closed => self.answer(&format!("{name} closed")),
                Received::TimedOut => self.time_out(name),
            }
        }
        self.answer(&format!("{} received {messages}", names.join("+")));
        Ok(())
    }

    fn frame(&mut self, name: &str, frame: &[u8]) {
        let frame = match frame::is_message(frame) {
            true => message::normal(frame, &mut self.made_up),
            false => normal::normal(frame, self.server.port(), self.script.whole_info),
        };
        self.answer(&format!("{name}< {}", escape::encode(&frame)));
    }

    fn answer(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn time_out(&mut self, who: &str) {
        self.answer(&format!("{who} timed-out"));
        self.timed_out = true;
    }

    fn broken(&self, line: usize, reason: String) -> WireError {
        WireError::Script { script: self.script.name.clone(), line, reason }
    }
}

/// A message to `subject` that asks for answers, with headers if it begins with some.
fn request(subject: &[u8], reply: &str, message: &[u8]) -> Vec<u8> {
    let (verb, sizes) = match header_length(message) {
        Some(headers) => ("HPUB", format!("{headers} {}", message.len())),
        None => ("PUB", message.len().to_string()),
    };
    let line_end = format!(" {reply} {sizes}\r\n");
    [verb.as_bytes(), b" ", subject, line_end.as_bytes(), message, b"\r\n"].concat()
}

/// Bytes of the headers that a message begins with, their last empty line included.
fn header_length(message: &[u8]) -> Option<usize> {
    let end = message.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    message.starts_with(b"NATS/1.0").then_some(end)
}

/// Sorts every run of messages; other frames keep their places.
fn sort_messages(frames: &mut [Vec<u8>]) {
    for run in frames.chunk_by_mut(|a, b| frame::is_message(a) && frame::is_message(b)) {
        run.sort();
    }
}

fn deadline() -> Instant {
    Instant::now() + STEP_PATIENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_say_the_sizes_of_headers_and_payload() {
        for (message, expected) in [
            ("", "PUB a _R.A 0\r\n\r\n"),
            ("hi", "PUB a _R.A 2\r\nhi\r\n"),
            ("NATS/1.0", "PUB a _R.A 8\r\nNATS/1.0\r\n"),
            ("NATS/1.0\r\nA: b\r\n\r\nhi", "HPUB a _R.A 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n"),
        ] {
            let bytes = request(b"a", "_R.A", message.as_bytes());
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }
}
