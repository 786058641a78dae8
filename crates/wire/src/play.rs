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
use crate::normal;
use crate::pki::Pki;
use crate::script::{Client, Order, ReceiveBuffer, Script, Step};
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
    let args: Vec<String> = script.args.iter().map(|arg| pki.substitute(arg)).collect();
    let server = Server::start(program, &args, &config, folder)?;
    let mut stage = Stage {
        script,
        pki,
        server,
        clients: BTreeMap::new(),
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
    clients: BTreeMap<Client, Connection>,
    text: String,
    timed_out: bool,
}

/// Where a read ends.
enum End<'a> {
    Frames(u32, &'a [u8]),
    Close,
}

impl Stage<'_> {
    fn perform(&mut self, step: &Step, line: usize) -> Result<(), WireError> {
        match step {
            Step::Connect(name) => {
                if self.dial(name, ReceiveBuffer::Usual) {
                    self.read_and_write_down(name, &End::Frames(1, b"INFO "), Order::AsReceived, line)?;
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
                let bytes = escape::decode(&text).map_err(|reason| self.broken(line, reason))?;
                self.client(name, line)?.send(&bytes);
                Ok(())
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
        }
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
                    if let End::Frames(times, prefix) = end
                        && frame.starts_with(prefix)
                    {
                        met += 1;
                        if met == *times {
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
        let frame = normal::normal(frame, self.server.port(), self.script.whole_info);
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

/// Sorts every run of messages; other frames keep their places.
fn sort_messages(frames: &mut [Vec<u8>]) {
    for run in frames.chunk_by_mut(|a, b| frame::is_message(a) && frame::is_message(b)) {
        run.sort();
    }
}

fn deadline() -> Instant {
    Instant::now() + STEP_PATIENCE
}
