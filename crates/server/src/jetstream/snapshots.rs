//! Sending a snapshot: read in portions, written as chunks, at the pace of the client's acknowledgements.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use sonata_broker::interest::Watch;
use sonata_broker::service::{Inbound, Outbox, Service};
use sonata_broker::shared::Level;
use sonata_jetstream::api::error::{ApiError, ErrorCode};
use sonata_jetstream::archive::Writer;
use sonata_jetstream::node::SnapshotTask;
use sonata_jetstream::outgoing::{Outgoing, Publish};
use sonata_jetstream::stream::{Reading, Snapshot, Stream};

use super::transfers::{PATIENCE, Transfer};
use super::{Home, JetStream};

/// How long a client that has asked may take to listen.
const INTEREST_PATIENCE: Duration = Duration::from_secs(2);

/// What the client has acknowledged, and whether it is still there.
#[derive(Default)]
struct Flow {
    state: Mutex<FlowState>,
    changed: Condvar,
}

#[derive(Default)]
struct FlowState {
    /// Chunks; acknowledged <= sent.
    sent: u64,
    acknowledged: u64,
    stopped: bool,
}

impl Service for Flow {
    fn receive(&self, _message: &Inbound<'_>, _outbox: &mut Outbox) -> bool {
        let mut state = self.state.lock();
        state.acknowledged = state.sent.min(state.acknowledged + 1);
        drop(state);
        self.changed.notify_one();
        true
    }

    fn settle(&self, _outbox: &mut Outbox) {}
}

impl Watch for Flow {
    fn changed(&self) {
        // With the lock held once, nobody is between looking and waiting.
        drop(self.state.lock());
        self.changed.notify_one();
    }
}

impl Transfer for Flow {
    fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }
}

/// Why a snapshot ended early.
#[derive(Debug)]
enum Ended {
    NoInterest,
    NoFlow,
    /// The server stops.
    Stopped,
    /// Something is wrong here.
    Failed(String),
}

impl Ended {
    /// The header block of the last message.
    fn header(&self) -> String {
        match self {
            Self::NoInterest => "NATS/1.0 408 No Interest\r\n\r\n".into(),
            Self::NoFlow => "NATS/1.0 408 No Flow Response\r\n\r\n".into(),
            Self::Stopped | Self::Failed(_) => {
                format!("NATS/1.0 500 {}\r\n\r\n", self.to_string().replace(['\r', '\n'], " "))
            }
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoInterest => "no interest",
            Self::NoFlow => "no flow response",
            Self::Stopped => "server is shutting down",
            Self::Failed(cause) => cause,
        })
    }
}

/// The snapshot's bytes, cut into chunks.
struct Chunks<'a> {
    jetstream: &'a JetStream,
    home: &'a Home,
    flow: &'a Flow,
    deliver_subject: &'a [u8],
    /// `$JS.SNAPSHOT.ACK.<stream>.<id>`
    ack_subject: &'a str,
    chunk: Vec<u8>,
    chunk_bytes: usize,
    /// Chunks that may be unacknowledged, at least one.
    window: u64,
    bytes: u64,
    ended: Option<Ended>,
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.chunk_bytes - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == self.chunk_bytes {
            self.send_full().map_err(|ended| {
                let error = io::Error::other(ended.to_string());
                self.ended = Some(ended);
                error
            })?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Chunks<'_> {
    /// Sends a chunk that is to be acknowledged, when there is room in the window.
    fn send_full(&mut self) -> Result<(), Ended> {
        let number = self.wait_for_room()?;
        let reply = format!("{}.{}.{number}", self.ack_subject, self.chunk.len());
        self.send(reply.as_bytes());
        Ok(())
    }

    fn wait_for_room(&self) -> Result<u64, Ended> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Not under the lock: interest has locks of its own.
            if !self.home.account.interest.has_interest(self.deliver_subject) {
                return Err(Ended::NoInterest);
            }
            let mut state = self.flow.state.lock();
            if state.stopped {
                return Err(Ended::Stopped);
            }
            if state.sent - state.acknowledged < self.window {
                state.sent += 1;
                return Ok(state.sent);
            }
            if self.flow.changed.wait_until(&mut state, deadline).timed_out() {
                return Err(Ended::NoFlow);
            }
        }
    }

    /// The last chunk, which nobody acknowledges.
    fn send_rest(&mut self) {
        if !self.chunk.is_empty() {
            self.send(b"");
        }
    }

    fn send(&mut self, reply: &[u8]) {
        let (subject, payload) = (self.deliver_subject, &*self.chunk);
        self.jetstream.post_for(self.home, |out| {
            out.publish(Outgoing { route: b"", subject, reply, headers: b"", payload });
        });
        self.bytes += self.chunk.len() as u64;
        self.chunk.clear();
    }

    /// Tells that this was all, or why not. As in the original, only a snapshot with a full chunk has a status at its end.
    fn end(&self, ended: Option<&Ended>) {
        let sent = self.flow.state.lock().sent;
        let header = match ended {
            Some(ended) => ended.header(),
            None if sent > 0 => "NATS/1.0 204\r\n\r\n".into(),
            None => String::new(),
        };
        self.jetstream.post_for(self.home, |out| {
            out.publish(Outgoing::status(self.deliver_subject, header.as_bytes()))
        });
    }
}

impl JetStream {
    /// Sends a snapshot, on a thread of its own.
    pub(super) fn send_snapshot(self: &Arc<Self>, task: SnapshotTask) -> Result<(), ApiError> {
        let home = self.home(task.stream.account).ok_or(ErrorCode::NotEnabledForAccount)?;
        let flow = Arc::new(Flow::default());
        let own = flow.clone();
        self.begin_transfer(flow, move |jetstream| jetstream.run_snapshot(&home, task, &own))
            .map_err(|cause| ErrorCode::StreamSnapshot.with(cause))
    }

    fn run_snapshot(self: &Arc<Self>, home: &Arc<Home>, mut task: SnapshotTask, flow: &Arc<Flow>) {
        let stream = task.stream.clone();
        let name = format!("'{} > {}'", home.account.name, stream.name);
        self.log(Level::Info, format_args!("Starting snapshot for stream {name}"));
        let began = Instant::now();
        let ack_subject = format!("$JS.SNAPSHOT.ACK.{}.{}", stream.name, task.id);
        let _acknowledgements = self.listen(home, &format!("{ack_subject}.>"), flow.clone());
        let deliver_subject = task.request.deliver_subject.clone();
        let chunk_bytes = task.request.chunk_bytes();
        let mut chunks = Chunks {
            jetstream: self,
            home,
            flow,
            deliver_subject: deliver_subject.as_bytes(),
            ack_subject: &ack_subject,
            chunk: Vec::with_capacity(chunk_bytes),
            chunk_bytes,
            window: (task.request.window_bytes() / chunk_bytes).max(1) as u64,
            bytes: 0,
            ended: None,
        };
        let now = self.clock.now_unix_ns();
        let snapshot = self.post_for(home, |out| self.node.begin_snapshot(&mut task, now, out));
        let key = rand::random();
        home.broker.interest.watch(deliver_subject.as_bytes(), key, flow.clone());
        self.wait_for_interest(home, &deliver_subject, flow);
        let written = write_archive(&mut chunks, &stream, &snapshot, now);
        home.broker.interest.unwatch(deliver_subject.as_bytes(), key);
        let ended = match (written, chunks.ended.take()) {
            (Ok(()), _) => {
                chunks.send_rest();
                None
            }
            (Err(_), Some(ended)) => Some(ended),
            (Err(cause), None) => Some(Ended::Failed(cause)),
        };
        chunks.end(ended.as_ref());
        let bytes = chunks.bytes;
        let error = ended.map(|ended| ended.to_string()).unwrap_or_default();
        match &*error {
            "" => self.log(
                Level::Info,
                format_args!(
                    "Completed snapshot of {bytes} bytes for stream {name} in {:?}",
                    began.elapsed()
                ),
            ),
            error => self.log(
                Level::Warning,
                format_args!("Snapshot for stream {name} failed after {:?}: {error}", began.elapsed()),
            ),
        }
        let now = self.clock.now_unix_ns();
        self.post_for(home, |out| self.node.end_snapshot(&task, error, now, out));
    }

    /// A subscription may come a moment after the request.
    fn wait_for_interest(&self, home: &Home, subject: &str, flow: &Flow) {
        let deadline = Instant::now() + INTEREST_PATIENCE;
        let mut state = flow.state.lock();
        while !state.stopped && Instant::now() < deadline {
            drop(state);
            if home.account.interest.has_interest(subject.as_bytes()) {
                return;
            }
            state = flow.state.lock();
            flow.changed.wait_until(&mut state, deadline.min(Instant::now() + INTEREST_PATIENCE / 20));
        }
    }
}

/// The whole archive. The stream is locked for a portion at a time.
fn write_archive(
    chunks: &mut Chunks<'_>,
    stream: &Stream,
    snapshot: &Snapshot,
    now: i64,
) -> Result<(), String> {
    let mut state = snapshot.state.clone();
    state.consumer_count = snapshot.consumers.len() as u64;
    let (first, last) = (state.first_seq, state.last_seq);
    let failed = |error: io::Error| error.to_string();
    let mut writer = Writer::new(chunks, now, &state).map_err(failed)?;
    for consumer in &snapshot.consumers {
        writer.consumer(now, consumer).map_err(failed)?;
    }
    let (mut next, mut warmed) = (first, false);
    loop {
        if stream.is_deleted() {
            return Err("stream was deleted".into());
        }
        let reading = stream.lock().read_on(next, last, warmed);
        match reading.map_err(|error| error.to_string())? {
            Reading::Messages(messages, after) => {
                for message in messages {
                    let (subject, headers, payload) = (&message.subject, &message.headers, &message.payload);
                    writer
                        .message(message.sequence, message.timestamp, subject, headers, payload)
                        .map_err(failed)?;
                }
                (next, warmed) = (after, false);
            }
            Reading::Disk(work) => {
                let done = work.run();
                stream.lock().warm(done);
                warmed = true;
            }
            Reading::End => break,
        }
    }
    writer.finish().map_err(failed)
}
