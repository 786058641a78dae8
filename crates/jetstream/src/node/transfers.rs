//! Snapshots and restores: what is asked, judged and told of them. The transfer itself takes as long as the client likes and
//! is the world's, on a thread of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Answered, Node, Request};
use crate::account::Account;
use crate::advisory::{
    Action, Advisory, Body, ClientInfo, RestoreComplete, RestoreCreate, SnapshotComplete, SnapshotCreate,
};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::request::{self, RestoreStream, SnapshotStream};
use crate::api::response::{Response, StreamCreateReply, StreamRestoreReply, StreamSnapshotReply};
use crate::audit::Asker;
use crate::config::{Limits, StreamConfig};
use crate::outgoing::{Outgoing, Publish};
use crate::stream::{Header, Machine, Snapshot, Stream};
use crate::timestamp::Timestamp;

/// A snapshot that was asked for.
#[derive(Debug)]
pub struct SnapshotTask {
    /// Of this stream.
    pub stream: Arc<Stream>,
    /// What was asked.
    pub request: SnapshotStream,
    /// Short and unique: part of the subjects of the transfer.
    pub id: String,
    client: Option<ClientInfo>,
    /// ns since 1970.
    began: i64,
    asker: Asker,
}

/// A restore that was asked for. Until it has [ended](Node::end_restore), its name and subjects are taken.
#[derive(Debug)]
pub struct RestoreTask {
    /// Number of the account.
    pub account: u32,
    /// What the stream will be: its number in the log, and its configuration, checked.
    pub header: Header,
    /// What the account may have.
    pub limits: Limits,
    /// Short and unique: part of the subjects of the transfer.
    pub id: String,
    client: Option<ClientInfo>,
    /// ns since 1970.
    began: i64,
    asker: Option<Asker>,
    seat: Option<Seat>,
}

/// Configurations of streams that are being restored, by name.
pub(crate) type Expected = Mutex<BTreeMap<String, StreamConfig>>;

/// The name and the subjects of a stream that is being restored; given back when dropped.
#[derive(Debug)]
struct Seat {
    expected: Arc<Expected>,
    name: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.expected.lock().remove(&self.name);
    }
}

impl Node {
    pub(super) fn snapshot_stream(&self, account: &Account, stream: &str, request: Request<'_>) -> Answered {
        if request::is_empty(request.payload) {
            return Err(ErrorCode::BadRequest.into());
        }
        let stream = account.stream(stream)?;
        let said: SnapshotStream = self.read(request.payload)?;
        if !sonata_subject::is_literal(said.deliver_subject.as_bytes()) {
            return Err(ErrorCode::SnapshotDeliverSubjectInvalid.into());
        }
        let task = SnapshotTask {
            stream,
            request: said,
            id: self.new_id(),
            client: request.client.cloned(),
            began: request.now,
            asker: self.asker(account, request),
        };
        self.world.snapshot(task).map(|()| None)
    }

    /// A snapshot begins: whoever asked is told what it will hold.
    pub fn begin_snapshot(&self, task: &mut SnapshotTask, now: i64, out: &mut dyn Publish) -> Snapshot {
        let snapshot = task.stream.lock().snapshot(!task.request.no_consumers);
        let (config, state) = (snapshot.config.clone(), snapshot.state.clone());
        let reply = StreamSnapshotReply { config: Some(config), state: Some(state.clone()) };
        std::mem::take(&mut task.asker).answer(&Response::done(reply).encode(), out);
        let body = SnapshotCreate {
            stream: task.stream.name.to_string(),
            state,
            client: task.client.clone(),
            domain: self.settings.domain.to_string(),
        };
        self.notify(task.stream.account, body, now, out);
        snapshot
    }

    /// A snapshot has ended; an empty `error` says that it is complete.
    pub fn end_snapshot(&self, task: &SnapshotTask, error: String, now: i64, out: &mut dyn Publish) {
        let body = SnapshotComplete {
            stream: task.stream.name.to_string(),
            start: Timestamp(task.began),
            end: Timestamp(now),
            client: task.client.clone(),
            domain: self.settings.domain.to_string(),
            error,
        };
        self.notify(task.stream.account, body, now, out);
    }

    pub(super) fn restore_stream(&self, account: &Account, stream: &str, request: Request<'_>) -> Answered {
        if request::is_empty(request.payload) {
            return Err(ErrorCode::BadRequest.into());
        }
        let RestoreStream { config: mut said, .. } = self.read(request.payload)?;
        if said.name.is_empty() {
            stream.clone_into(&mut said.name);
        }
        if said.name != stream {
            return Err(ErrorCode::StreamMismatch.into());
        }
        if stream.contains(['\\', '/']) {
            return Err(ErrorCode::StreamNameContainsPathSeparators.into());
        }
        let limits = account.limits(self.limits(), said.num_replicas)?;
        let config = said.create(&limits, false)?;
        account.check_beside(&config, true)?;
        if account.stream(stream).is_ok() {
            return Err(ErrorCode::StreamNameInUseRestoreFailed.into());
        }
        let seat = take_seat(account, &config)?;
        let header =
            Header { lane: self.new_lane(), account: account.name.to_string(), created: request.now, config };
        let task = RestoreTask {
            account: account.id,
            header,
            limits,
            id: self.new_id(),
            client: request.client.cloned(),
            began: request.now,
            asker: Some(self.asker(account, request)),
            seat: Some(seat),
        };
        self.world.restore(task).map(|()| None)
    }

    /// Chunks are awaited on `subject`: whoever asked is told.
    pub fn begin_restore(&self, task: &mut RestoreTask, subject: &str, now: i64, out: &mut dyn Publish) {
        let body = RestoreCreate {
            stream: task.header.config.name.clone(),
            client: task.client.clone(),
            domain: self.settings.domain.to_string(),
        };
        self.notify(task.account, body, now, out);
        if let Some(asker) = task.asker.take() {
            let reply = StreamRestoreReply { deliver_subject: subject.to_owned() };
            asker.answer(&Response::done(reply).encode(), out);
        }
    }

    /// The chunks have been made into a stream, which is put to work. From here on it is like any other one.
    ///
    /// # Errors
    /// When its name was given away meanwhile.
    pub fn adopt_restored(
        &self,
        task: &RestoreTask,
        machine: Machine,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<Arc<Stream>, ApiError> {
        let account = self.account(task.account).ok_or(ErrorCode::NotEnabledForAccount)?;
        let stream = Stream::new(account.id, machine);
        if !self.adopt(&account, stream.clone()) {
            return Err(ErrorCode::StreamNameInUseRestoreFailed.into());
        }
        stream.lock().tell_stream(Action::Create, now, out);
        Ok(stream)
    }

    /// A restore of `bytes` bytes has ended. `reply` is of the message that it ends with.
    pub fn end_restore(
        &self,
        task: &mut RestoreTask,
        bytes: u64,
        ended: Result<Arc<Stream>, ApiError>,
        reply: &[u8],
        now: i64,
        out: &mut dyn Publish,
    ) {
        // Before anybody is told: whoever hears of it may try again at once.
        task.seat = None;
        let body = RestoreComplete {
            stream: task.header.config.name.clone(),
            start: Timestamp(task.began),
            end: Timestamp(now),
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            client: task.client.clone(),
            domain: self.settings.domain.to_string(),
        };
        self.notify(task.account, body, now, out);
        let reply_body = ended.map(|stream| {
            let mut info = stream.lock().info(now);
            (info.mirror, info.sources) = (None, Vec::new());
            StreamCreateReply { info: Some(info), did_create: false }
        });
        if !reply.is_empty() {
            out.publish(Outgoing::plain(reply, &Response::from(reply_body).encode()));
        }
    }

    /// Publishes an advisory in an account when somebody listens.
    fn notify(&self, account: u32, body: impl Body, now: i64, out: &mut dyn Publish) {
        let Some(account) = self.account(account) else { return };
        let subject = body.subject();
        if account.interest.has_interest(subject.as_bytes()) {
            let text = Advisory::new(self.new_id(), Timestamp(now), body).encode();
            out.publish(Outgoing::plain(subject.as_bytes(), &text));
        }
    }
}

/// Nobody else shall have the stream's name or subjects from here on.
fn take_seat(account: &Account, config: &StreamConfig) -> Result<Seat, ApiError> {
    let mut expected = account.expected.lock();
    if expected.contains_key(&config.name) {
        return Err(ErrorCode::StreamNameInUseRestoreFailed.into());
    }
    expected.insert(config.name.clone(), config.clone());
    Ok(Seat { expected: account.expected.clone(), name: config.name.clone() })
}
