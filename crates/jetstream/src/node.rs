//! JetStream of one server: its accounts and streams, and where messages of the API go.
//!
//! The node knows no socket, no file and no thread. What it needs of the world (stores, subscriptions, somebody who runs a
//! turn) it asks of [`World`]; what it has to say it gives to [`Publish`]. The time is an argument.

mod consumers;
mod following;
mod limits;
mod streams;
mod transfers;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::map::HashMap;
use parking_lot::RwLock;
use sonata_store::Store;

use crate::account::{Account, Usage};
use crate::ack;
use crate::advisory::ClientInfo;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::response::{
    API_LEVEL, AccountInfoReply, Body, ConsumerPeerEvacuateReply, ConsumerPeerRemoveReply,
    ConsumerStepDownReply, Response, StreamCancelMoveReply, StreamPeerEvacuateReply, StreamPeerRemoveReply,
    StreamRestoreReply, StreamSnapshotReply, StreamStepDownReply,
};
use crate::api::subject::Operation;
use crate::audit::{self, Asker, Audit};
use crate::config::{Allowance, ServerLimits};
use crate::header::{self, name};
use crate::json::{self, Mode};
use crate::outgoing::{Interest, Outgoing, Publish};
use crate::stream::{Commit, DirectGet, Ears, Header, Stream, Watched};

pub(crate) use transfers::Expected;
pub use transfers::{RestoreTask, SnapshotTask};

/// What the node needs of the world around it. Calls are made without any stream's lock.
pub trait World: Send + Sync {
    /// The stream is put to work: its log, its turns and its timers are the world's from now on.
    fn begin(&self, stream: &Arc<Stream>);
    /// Messages on `subject` are the stream's from now on.
    fn subscribe(&self, account: u32, subject: &str, lane: u64);
    /// They are not any more.
    fn unsubscribe(&self, account: u32, subject: &str, lane: u64);
    /// A place for a new stream's messages, durable when this returns, and how its records become durable.
    ///
    /// # Errors
    /// What the client is told.
    fn create_store(&self, header: &Header) -> Result<(Store, Commit), ApiError>;
    /// A stream is gone: so are its files, from the moment this returns, even if they are removed later.
    ///
    /// # Errors
    /// What the client is told; the stream stays.
    fn delete_store(&self, stream: &Stream) -> Result<(), ApiError>;
    /// Somebody shall run a turn for the stream.
    fn wake(&self, stream: &Arc<Stream>);
    /// The stream's deliver subjects have changed: it wants to know of interest in these and no others. What was said later
    /// counts, whoever comes first.
    fn watch(&self, stream: &Arc<Stream>, watched: Watched);
    /// The stream listens on these subjects of its account and no others: messages are handed to
    /// [`Machine::hear`](crate::stream::Machine::hear). They are listened to when this returns. What was said later counts,
    /// whoever comes first.
    fn listen(&self, stream: &Arc<Stream>, ears: Ears);
    /// A snapshot is to be sent, on a thread of its own.
    ///
    /// # Errors
    /// What the client is told, when it cannot be begun.
    fn snapshot(&self, task: SnapshotTask) -> Result<(), ApiError>;
    /// A stream is to be made from chunks, on a thread of its own.
    ///
    /// # Errors
    /// What the client is told, when it cannot be begun.
    fn restore(&self, task: RestoreTask) -> Result<(), ApiError>;
    /// Something random.
    fn random(&self) -> u64;
}

/// A request to the API.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The subject it came on, `$JS.API.…`.
    pub subject: &'a [u8],
    /// Where the answer goes.
    pub reply: &'a [u8],
    /// Header block; empty when there is none.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
    /// ns since 1970.
    pub now: i64,
    /// Who asks, for advisories; may be missing when [nobody listens](Node::is_audited).
    pub client: Option<&'a ClientInfo>,
}

/// What became of a message for a consumer or a stream.
#[derive(Debug)]
pub struct Heard {
    /// Whether it concerns anything that there is; a requester is told otherwise.
    pub known: bool,
    /// The stream that it has moved: the caller sees to [`Node::after`] when its batch is through.
    pub moved: Option<Arc<Stream>>,
}

impl Heard {
    const KNOWN: Self = Self { known: true, moved: None };
    const UNKNOWN: Self = Self { known: false, moved: None };
}

/// What holds for all accounts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the server.
    pub server_name: Arc<str>,
    /// The domain; empty is none.
    pub domain: Arc<str>,
    /// Bytes in memory for all accounts; -1 is no limit.
    pub max_memory: i64,
    /// Bytes in files for all accounts; -1 is no limit.
    pub max_storage: i64,
    /// Other limits.
    pub limits: ServerLimits,
    /// Unknown fields in requests are errors.
    pub strict: bool,
    /// Bytes after which a batch of direct gets ends when the request says nothing (the server's `max_pending`).
    pub batch_bytes_max: usize,
}

/// See the module.
pub struct Node {
    settings: Settings,
    /// Those of the settings until they are [changed](Node::set_limits).
    limits: RwLock<ServerLimits>,
    world: Arc<dyn World>,
    usage: Arc<Usage>,
    accounts: RwLock<HashMap<u32, Arc<Account>>>,
    lanes: RwLock<HashMap<u64, Arc<Stream>>>,
}

/// How a handler answers: itself later, or with this text now.
type Answered = Result<Option<Vec<u8>>, ApiError>;

impl Node {
    /// A node without accounts.
    pub fn new(settings: Settings, world: Arc<dyn World>) -> Arc<Self> {
        let usage = Usage::new(settings.max_memory, settings.max_storage, None);
        usage.set_batch_limits(settings.limits.batch);
        let limits = RwLock::new(settings.limits);
        Arc::new(Self {
            usage,
            settings,
            limits,
            world,
            accounts: RwLock::default(),
            lanes: RwLock::default(),
        })
    }

    /// Settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What holds for every account now.
    pub fn limits(&self) -> ServerLimits {
        *self.limits.read()
    }

    /// What holds for every account from now on, and the bytes in memory and in files for all of them. What exists stays.
    pub fn set_limits(&self, limits: ServerLimits, max_memory: i64, max_storage: i64) {
        *self.limits.write() = limits;
        self.usage.set_batch_limits(limits.batch);
        self.usage.set_room(max_memory, max_storage);
    }

    /// What all accounts use.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Adds an account, if it is not there; without limits it has no JetStream, and is told so.
    pub fn enable(
        &self,
        name: &str,
        id: u32,
        interest: Arc<dyn Interest>,
        allowance: Option<Allowance>,
    ) -> Arc<Account> {
        self.accounts
            .write()
            .entry(id)
            .or_insert_with(|| Account::new(name, id, interest, allowance, self.usage.clone()))
            .clone()
    }

    /// The account of this number.
    pub fn account(&self, id: u32) -> Option<Arc<Account>> {
        self.accounts.read().get(&id).cloned()
    }

    /// All accounts, by name.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        let mut accounts: Vec<_> = self.accounts.read().values().cloned().collect();
        accounts.sort_by(|one, two| one.name.cmp(&two.name));
        accounts
    }

    /// The stream with this number in the log.
    pub fn lane(&self, lane: u64) -> Option<Arc<Stream>> {
        self.lanes.read().get(&lane).cloned()
    }

    /// All streams, in no order.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.lanes.read().values().cloned().collect()
    }

    /// Puts a stream that exists (it was just made, or recovered) to work. False when its account has one of its name.
    pub fn adopt(&self, account: &Account, stream: Arc<Stream>) -> bool {
        if !account.insert(stream.clone()) {
            return false;
        }
        stream.set_resting(!account.is_enabled());
        self.lanes.write().insert(stream.lane, stream.clone());
        self.world.begin(&stream);
        let config = stream.lock().config().clone();
        for subject in config.subjects.iter().filter(|_| account.is_enabled()) {
            self.world.subscribe(account.id, subject, stream.lane);
        }
        self.note_followed(account, &stream);
        self.after(&stream);
        true
    }

    /// Sees to what the stream wishes after its lock was held.
    pub fn after(&self, stream: &Arc<Stream>) {
        if self.after_but_turn(stream) {
            self.world.wake(stream);
        }
    }

    /// As [`Node::after`], but a turn that is wanted is left to the caller: true then.
    pub fn after_but_turn(&self, stream: &Arc<Stream>) -> bool {
        let (mut wishes, watched, stored, ears, relinked) = {
            let mut machine = stream.lock();
            let (ears, relinked) = (machine.take_ears(), machine.take_relinked());
            (machine.take_turn_wish(), machine.take_watched(), machine.take_stored(), ears, relinked)
        };
        if relinked && let Some(account) = self.account(stream.account) {
            self.note_followed(&account, stream);
        }
        if let Some(ears) = ears {
            let number = ears.number;
            self.world.listen(stream, ears);
            wishes |= stream.lock().on_listening(number);
        }
        if stored && stream.is_followed() {
            self.wake_followers(stream);
        }
        if let Some(watched) = watched {
            self.world.watch(stream, watched);
        }
        wishes
    }

    /// Answers a request that may take long or change something. What may be answered at once, on the thread of the client
    /// that asks, is for [`Node::handle_quickly`].
    pub fn handle(&self, account: &Account, request: Request<'_>, out: &mut dyn Publish) {
        let Some(operation) = Operation::parse(request.subject) else { return };
        let level = header::get_str(request.headers, name::REQUIRED_API_LEVEL).map(str::parse::<u32>);
        let level_is_too_high = level.is_some_and(|level| !level.is_ok_and(|level| level <= API_LEVEL));
        let refusal = match account.is_enabled() {
            _ if level_is_too_high => Some(ApiError::from(ErrorCode::RequiredApiLevel)),
            true => None,
            false => Some(ErrorCode::NotEnabledForAccount.into()),
        };
        let answered = match operation {
            Operation::ConsumerNext { .. } | Operation::DirectGet { .. } => {
                if let Some(stream) = self.handle_quickly(account, &operation, request, out).moved {
                    self.after(&stream);
                }
                return;
            }
            _ if operation.is_of_system() => return,
            Operation::Info => self.answer(
                refusal,
                account,
                out,
                request,
                |_| {
                    let info = account.info(&self.settings.domain);
                    Ok(Some(Response::done(AccountInfoReply { info: Some(info) }).encode()))
                },
                error::<AccountInfoReply>,
            ),
            operation => self.handle_asset(refusal, account, operation, request, out),
        };
        // After the answer: what it says of requests is about those before.
        account.api_total.fetch_add(1, Ordering::Relaxed);
        if !answered {
            account.api_errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn handle_asset(
        &self,
        refusal: Option<ApiError>,
        account: &Account,
        operation: Operation<'_>,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> bool {
        use crate::api::response as of;
        macro_rules! answer {
            ($body:ty, |$out:ident| $work:expr) => {
                self.answer(refusal, account, out, request, |$out| $work, error::<$body>)
            };
        }
        match operation {
            Operation::StreamCreate { stream } => {
                answer!(of::StreamCreateReply, |out| self.create_stream(account, stream, request, out))
            }
            Operation::StreamUpdate { stream } => {
                answer!(of::StreamUpdateReply, |out| self.update_stream(account, stream, request, out))
            }
            Operation::StreamNames => {
                answer!(of::StreamNamesReply, |_out| self.stream_names(account, request))
            }
            Operation::StreamList => {
                answer!(of::StreamListReply, |_out| self.stream_list(account, request))
            }
            Operation::StreamInfo { stream } => {
                answer!(of::StreamInfoReply, |_out| self.stream_info(account, stream, request))
            }
            Operation::StreamDelete { stream } => {
                answer!(of::StreamDeleteReply, |out| self.delete_stream(account, stream, request, out))
            }
            Operation::StreamPurge { stream } => {
                answer!(of::StreamPurgeReply, |out| self.purge_stream(account, stream, request, out))
            }
            Operation::StreamMessageGet { stream } => {
                answer!(of::MessageGetReply, |_out| self.get_message(account, stream, request))
            }
            Operation::StreamMessageDelete { stream } => {
                answer!(of::MessageDeleteReply, |out| self.delete_message(account, stream, request, out))
            }
            Operation::ConsumerCreate(subject) => {
                answer!(of::ConsumerCreateReply, |out| self.create_consumer(account, subject, request, out))
            }
            Operation::ConsumerNames { stream } => {
                answer!(of::ConsumerNamesReply, |_out| self.consumer_names(account, stream, request))
            }
            Operation::ConsumerList { stream } => {
                answer!(of::ConsumerListReply, |out| self.consumer_list(account, stream, request, out))
            }
            Operation::ConsumerInfo { stream, consumer } => {
                answer!(of::ConsumerInfoReply, |out| self
                    .consumer_info(account, stream, consumer, request, out))
            }
            Operation::ConsumerDelete { stream, consumer } => {
                answer!(of::ConsumerDeleteReply, |out| self
                    .delete_consumer(account, stream, consumer, request, out))
            }
            Operation::ConsumerPause { stream, consumer } => {
                answer!(of::ConsumerPauseReply, |out| self
                    .pause_consumer(account, stream, consumer, request, out))
            }
            Operation::ConsumerUnpin { stream, consumer } => {
                answer!(of::ConsumerUnpinReply, |out| self
                    .unpin_consumer(account, stream, consumer, request, out))
            }
            Operation::ConsumerReset { stream, consumer } => {
                answer!(of::ConsumerResetReply, |out| self
                    .reset_consumer(account, stream, consumer, request, out))
            }
            Operation::StreamSnapshot { stream } => {
                answer!(StreamSnapshotReply, |_out| self.snapshot_stream(account, stream, request))
            }
            Operation::StreamRestore { stream } => {
                answer!(StreamRestoreReply, |_out| self.restore_stream(account, stream, request))
            }
            Operation::StreamStepDown { .. } => answer!(StreamStepDownReply, |_out| not_clustered()),
            Operation::StreamPeerRemove { .. } => answer!(StreamPeerRemoveReply, |_out| not_clustered()),
            Operation::StreamPeerEvacuate { .. } => answer!(StreamPeerEvacuateReply, |_out| not_clustered()),
            Operation::StreamCancelMove { .. } => answer!(StreamCancelMoveReply, |_out| not_clustered()),
            Operation::ConsumerStepDown { .. } => answer!(ConsumerStepDownReply, |_out| not_clustered()),
            Operation::ConsumerPeerRemove { .. } => answer!(ConsumerPeerRemoveReply, |_out| not_clustered()),
            Operation::ConsumerPeerEvacuate { .. } => {
                answer!(ConsumerPeerEvacuateReply, |_out| not_clustered())
            }
            // Handled, or not answered, by the caller.
            _ => true,
        }
    }

    /// Publishes what a handler came to; false for an error.
    fn answer(
        &self,
        refusal: Option<ApiError>,
        account: &Account,
        out: &mut dyn Publish,
        request: Request<'_>,
        handler: impl FnOnce(&mut dyn Publish) -> Answered,
        refused: fn(ApiError) -> Vec<u8>,
    ) -> bool {
        let answered = match refusal {
            Some(error) => Err(error),
            None => handler(out),
        };
        let (text, done) = match answered {
            Ok(Some(text)) => (text, true),
            // It is answered when it is carried out.
            Ok(None) => return true,
            Err(error) => (refused(error), false),
        };
        self.asker(account, request).answer(&text, out);
        done
    }

    /// Who waits for the answer to a request.
    fn asker(&self, account: &Account, request: Request<'_>) -> Asker {
        let audit = self.is_audited(account).then(|| {
            Box::new(Audit {
                id: self.new_id(),
                server: self.settings.server_name.clone(),
                domain: self.settings.domain.clone(),
                client: request.client.cloned(),
                subject: String::from_utf8_lossy(request.subject).into_owned(),
                request: String::from_utf8_lossy(request.payload).into_owned(),
                at: request.now,
            })
        });
        Asker { reply: request.reply.into(), audit, ..Asker::default() }
    }

    /// Whether somebody listens to what is asked of the API in an account.
    pub fn is_audited(&self, account: &Account) -> bool {
        account.interest.has_interest(audit::SUBJECT.as_bytes())
    }

    /// A short unique name.
    fn new_id(&self) -> String {
        let mut bytes = [0; 24];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.world.random().to_le_bytes());
        }
        crate::nuid::Nuid::new(bytes).next_id()
    }

    /// Whether a request is answered on the thread of the client that asks.
    pub fn is_quick(operation: &Operation<'_>) -> bool {
        matches!(operation, Operation::ConsumerNext { .. })
    }

    /// Answers a direct get there and then, if that needs no disk. `None` when it has to be done elsewhere; otherwise whether
    /// there was somebody to ask.
    pub fn direct_get_quickly(
        &self,
        account: &Account,
        operation: &Operation<'_>,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Option<bool> {
        let Operation::DirectGet { stream, subject } = operation else { return None };
        let Some(found) = self.direct_stream(account, stream) else { return Some(false) };
        let mut machine = found.lock();
        if request.reply.is_empty() {
            return Some(true);
        }
        let bytes_max = self.settings.batch_bytes_max;
        match DirectGet::parse(*subject, request.headers, request.payload, bytes_max) {
            Ok(get) => machine.direct_get_from_memory(&get, request.reply, out).then_some(true),
            Err(status) => {
                out.publish(Outgoing::status(request.reply, status.block()));
                Some(true)
            }
        }
    }

    /// Whether there is somebody to answer: direct gets are asked of the stream itself.
    pub fn answers(&self, account: &Account, operation: &Operation<'_>) -> bool {
        match operation {
            Operation::DirectGet { stream, .. } => self.direct_stream(account, stream).is_some(),
            _ => true,
        }
    }

    /// Answers pull requests and direct gets.
    pub fn handle_quickly(
        &self,
        account: &Account,
        operation: &Operation<'_>,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Heard {
        match operation {
            Operation::ConsumerNext { stream, consumer } => {
                let Ok(found) = account.stream(stream) else { return Heard::UNKNOWN };
                if request.reply.is_empty() {
                    return Heard::KNOWN;
                }
                let level = header::get_str(request.headers, name::REQUIRED_API_LEVEL).map(str::parse::<u32>);
                if level.is_some_and(|level| !level.is_ok_and(|level| level <= API_LEVEL)) {
                    let status = crate::status::Status::RequiredApiLevel.block();
                    out.publish(Outgoing::status(request.reply, status));
                    return Heard::KNOWN;
                }
                let known = found.lock().pull(consumer, request.reply, request.payload, request.now, out);
                Heard { known, moved: Some(found) }
            }
            Operation::DirectGet { stream, subject } => {
                let Some(found) = self.direct_stream(account, stream) else { return Heard::UNKNOWN };
                if request.reply.is_empty() {
                    return Heard::KNOWN;
                }
                let get = DirectGet::parse(
                    *subject,
                    request.headers,
                    request.payload,
                    self.settings.batch_bytes_max,
                );
                let mut machine = found.lock();
                match get {
                    Ok(get) => machine.direct_get(&get, request.reply, out),
                    Err(status) => out.publish(Outgoing::status(request.reply, status.block())),
                }
                Heard::KNOWN
            }
            _ => Heard::KNOWN,
        }
    }

    /// Takes an acknowledgement, from its subject.
    pub fn acknowledge(&self, account: &Account, request: Request<'_>, out: &mut dyn Publish) -> Heard {
        let Some(delivery) = ack::parse_of(request.subject, &account.name) else { return Heard::UNKNOWN };
        let (Ok(stream), Ok(consumer)) =
            (std::str::from_utf8(delivery.stream), std::str::from_utf8(delivery.consumer))
        else {
            return Heard::UNKNOWN;
        };
        let Ok(found) = account.stream(stream) else { return Heard::UNKNOWN };
        let reply = (!request.reply.is_empty()).then_some(request.reply);
        let known = found.lock().acknowledge(consumer, &delivery, request.payload, reply, request.now, out);
        Heard { known, moved: Some(found) }
    }

    /// Takes an answer of flow control, from its subject.
    pub fn flow_control(&self, account: &Account, request: Request<'_>, out: &mut dyn Publish) -> Heard {
        let Some((stream, consumer)) = ack::parse_flow_control(request.subject) else {
            return Heard::UNKNOWN;
        };
        let (Ok(stream), Ok(consumer)) = (std::str::from_utf8(stream), std::str::from_utf8(consumer)) else {
            return Heard::UNKNOWN;
        };
        let Ok(found) = account.stream(stream) else { return Heard::UNKNOWN };
        let known = found.lock().flow_control(consumer, request.subject, request.headers, request.now, out);
        Heard { known, moved: Some(found) }
    }

    /// Tells that requests were dropped because too many waited.
    pub fn tell_dropped(&self, account: &Account, dropped: i64, now: i64, out: &mut dyn Publish) {
        let body = crate::advisory::ApiLimitReached {
            server: self.settings.server_name.to_string(),
            domain: self.settings.domain.to_string(),
            dropped,
        };
        let subject = crate::advisory::Body::subject(&body);
        if !account.interest.has_interest(subject.as_bytes()) {
            return;
        }
        let text =
            crate::advisory::Advisory::new(self.new_id(), crate::timestamp::Timestamp(now), body).encode();
        out.publish(Outgoing::plain(subject.as_bytes(), &text));
    }

    fn mode(&self) -> Mode {
        if self.settings.strict { Mode::Strict } else { Mode::Lenient }
    }

    /// Reads a body that must be one.
    fn read<T: serde::de::DeserializeOwned>(&self, payload: &[u8]) -> Result<T, ApiError> {
        json::decode(payload, self.mode()).map_err(|error| ErrorCode::InvalidJson.with(error))
    }

    /// Reads a body that may be missing: whatever does not begin like JSON counts as missing.
    fn read_optional<T: serde::de::DeserializeOwned + Default>(&self, payload: &[u8]) -> Result<T, ApiError> {
        match payload.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
            Some(b'{' | b'[') => self.read(payload),
            _ => Ok(T::default()),
        }
    }
}

fn error<B: Body>(error: ApiError) -> Vec<u8> {
    Response::<B>::refused(error).encode()
}

/// What only a cluster can do.
fn not_clustered() -> Answered {
    Err(ErrorCode::ClusterRequired.into())
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("accounts", &self.accounts.read().len()).finish_non_exhaustive()
    }
}
