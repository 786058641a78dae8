//! The part of a client connection that others touch: its outbound buffer, its subscriptions, and what monitoring
//! shows of it. The part that only its own task touches is [`Client`](crate::client::Client).

use std::fmt;
use std::hash::BuildHasher;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Waker;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use parking_lot::Mutex;
use sonata_auth::permission::Permissions;
use sonata_auth::response::ResponseTracker;
use sonata_auth::token::TokenGrant;

use crate::close::CloseReason;
use crate::outbound::{Outbound, Writing};
use crate::pool::BufferPool;
use crate::subscription::Subscription;

/// Pieces that go into one system call.
const PIECES_PER_WRITE: usize = 64;

/// Writes that one [`Connection::flush`] does before the rest is left to the connection's own task, so that a
/// publisher does not end up writing for everybody.
const WRITES_PER_FLUSH: usize = 4;

/// How often the last writer of a connection gives way to one who is at it already.
const FINISH_YIELDS_MAX: usize = 1000;

/// How a connection's bytes leave, and how its task is woken. Implemented where sockets are.
pub trait Port: Send + Sync {
    /// Writes without blocking.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is accepted now; anything else ends the connection.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Writes what the transport itself holds back (encrypted bytes), without blocking.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it still holds something; anything else ends the connection.
    fn drain(&self) -> io::Result<()> {
        Ok(())
    }

    /// Wakes the connection's own task.
    fn wake(&self);
}

/// What a connection says of itself, for monitoring.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// Name from `CONNECT`.
    pub name: Box<str>,
    /// Library language from `CONNECT`.
    pub lang: Box<str>,
    /// Library version from `CONNECT`.
    pub version: Box<str>,
    /// User as `/connz` shows it.
    pub user: Box<str>,
    /// Account.
    pub account: Option<Arc<str>>,
    /// What the user's token says, if there is one.
    pub token: Option<Arc<TokenGrant>>,
    /// The public key of the trusted proxy that it came through.
    pub proxy: Option<Arc<str>>,
}

/// Counters of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Messages received from it.
    pub in_messages: u64,
    /// Their bytes.
    pub in_bytes: u64,
    /// Messages appended for it.
    pub out_messages: u64,
    /// Their bytes.
    pub out_bytes: u64,
    /// Bytes that wait.
    pub pending_bytes: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Times that it was held back for a slow receiver, or for a stream whose disk does not keep pace.
    pub stalls: u64,
}

/// See the module. Shared by its task, its subscriptions and the server's table of connections.
pub struct Connection {
    id: u64,
    remote: Mutex<Option<SocketAddr>>,
    started_ns: u64,
    port: Box<dyn Port>,
    pool: Arc<BufferPool>,
    outbound: Mutex<Outbound>,
    /// Replies this connection may publish because it was asked; only for users with `allow_responses`.
    responses: Mutex<Option<Box<ResponseTracker>>>,
    tracks_responses: AtomicBool,
    subscriptions: Mutex<SubscriptionTable>,
    profile: Mutex<Profile>,
    /// What its user may do, to be told; the client itself asks its own copy.
    permissions: Mutex<Option<Arc<Permissions>>>,
    /// Number of the [`CloseReason`]; 0 is open.
    close_reason: AtomicU8,
    headers: AtomicBool,
    in_messages: AtomicU64,
    in_bytes: AtomicU64,
    stalls: AtomicU64,
    last_activity_ns: AtomicU64,
    rtt_ns: AtomicU64,
    /// When the socket stopped accepting; 0 when it accepts.
    blocked_since_ns: AtomicU64,
}

/// See [`Connection::label`].
#[derive(Debug, Clone, Copy)]
pub struct Label {
    remote: Option<SocketAddr>,
    id: u64,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.remote {
            Some(remote) => write!(f, "{remote} - cid:{}", self.id),
            None => write!(f, "cid:{}", self.id),
        }
    }
}

/// What became of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is written, or another writer sees to it.
    Done,
    /// The socket accepts no more; the connection's own task goes on when it does.
    Blocked,
    /// There is more, and the socket may accept it.
    More,
    /// The connection is closed.
    Closed,
}

impl Connection {
    /// An open connection.
    pub fn new(
        id: u64,
        remote: Option<SocketAddr>,
        started_ns: u64,
        pending_bytes_max: usize,
        pool: Arc<BufferPool>,
        port: Box<dyn Port>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            remote: Mutex::new(remote),
            started_ns,
            port,
            pool,
            outbound: Mutex::new(Outbound::new(pending_bytes_max)),
            responses: Mutex::default(),
            tracks_responses: AtomicBool::new(false),
            subscriptions: Mutex::default(),
            profile: Mutex::default(),
            permissions: Mutex::default(),
            close_reason: AtomicU8::new(0),
            headers: AtomicBool::new(false),
            in_messages: AtomicU64::new(0),
            in_bytes: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            last_activity_ns: AtomicU64::new(started_ns),
            rtt_ns: AtomicU64::new(0),
            blocked_since_ns: AtomicU64::new(0),
        })
    }

    /// Its number within the server.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where it comes from; `None` for a connection within the process.
    pub fn remote(&self) -> Option<SocketAddr> {
        *self.remote.lock()
    }

    /// A proxy has told where it really comes from.
    pub fn set_remote(&self, remote: SocketAddr) {
        *self.remote.lock() = Some(remote);
    }

    /// What log lines about it begin with: `127.0.0.1:50000 - cid:7`.
    pub fn label(&self) -> Label {
        Label { remote: self.remote(), id: self.id }
    }

    /// When it was accepted, on the server's clock.
    pub fn started_ns(&self) -> u64 {
        self.started_ns
    }

    /// When it last sent messages or changed its interest.
    pub fn last_activity_ns(&self) -> u64 {
        self.last_activity_ns.load(Ordering::Relaxed)
    }

    /// Round-trip time of the last answered `PING`; 0 when none was.
    pub fn rtt_ns(&self) -> u64 {
        self.rtt_ns.load(Ordering::Relaxed)
    }

    /// When its socket stopped accepting bytes that still wait; `None` when it accepts.
    pub fn blocked_since_ns(&self) -> Option<u64> {
        Some(self.blocked_since_ns.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }

    /// What it says of itself.
    pub fn profile(&self) -> Profile {
        self.profile.lock().clone()
    }

    /// What its user may do; `None` is everything.
    pub fn permissions(&self) -> Option<Arc<Permissions>> {
        self.permissions.lock().clone()
    }

    /// Its counters.
    pub fn counts(&self) -> ConnectionCounts {
        let (out_messages, out_bytes, pending_bytes) = {
            let outbound = self.outbound.lock();
            (outbound.messages, outbound.message_bytes, outbound.pending_bytes())
        };
        ConnectionCounts {
            in_messages: self.in_messages.load(Ordering::Relaxed),
            in_bytes: self.in_bytes.load(Ordering::Relaxed),
            out_messages,
            out_bytes,
            pending_bytes,
            subscriptions: self.subscriptions.lock().table.len(),
            stalls: self.stalls.load(Ordering::Relaxed),
        }
    }

    /// Messages appended for it so far.
    pub fn out_messages(&self) -> u64 {
        self.outbound.lock().messages
    }

    /// Its subscriptions, in no order.
    pub fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        self.subscriptions.lock().table.iter().cloned().collect()
    }

    /// Why it is closed; `None` while it is open.
    pub fn close_reason(&self) -> Option<CloseReason> {
        CloseReason::from_number(self.close_reason.load(Ordering::Acquire))
    }

    /// Closes the connection: nothing more is accepted for it, and its task is woken to take it down. The first
    /// reason stays; true when it was this one.
    pub fn close(&self, reason: CloseReason) -> bool {
        let closed =
            self.close_reason.compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if closed {
            let mut outbound = self.outbound.lock();
            outbound.closed = true;
            drop(outbound);
            self.port.wake();
        }
        closed
    }

    /// Appends protocol text and says whether the caller must see to it that it is written. A connection that has no
    /// room for it is closed: whoever asks much must read the answers.
    pub fn send(&self, bytes: &[u8]) -> bool {
        let mut outbound = self.outbound.lock();
        if outbound.closed {
            return false;
        }
        if outbound.append(&self.pool, bytes, b"").is_err() {
            drop(outbound);
            self.close(CloseReason::SlowConsumerPendingBytes);
            return false;
        }
        promise(&mut outbound)
    }

    /// Appends the reason why the connection is about to be closed, and closes it.
    pub fn send_last(&self, bytes: &[u8], reason: CloseReason) {
        {
            let mut outbound = self.outbound.lock();
            if !outbound.closed {
                outbound.append_last_words(&self.pool, bytes);
            }
        }
        self.close(reason);
    }

    /// Appends protocol text and writes it if the socket accepts it, or wakes the task that will.
    pub fn send_now(&self, bytes: &[u8], now_ns: u64) {
        if self.send(bytes) && self.flush(&mut Writing::default(), now_ns) == Flushed::More {
            self.hand_over();
        }
    }

    /// Writes what waits, as far as the socket accepts it and this is not left to somebody else.
    pub fn flush(&self, writing: &mut Writing, now_ns: u64) -> Flushed {
        for _ in 0..WRITES_PER_FLUSH {
            {
                let mut outbound = self.outbound.lock();
                if outbound.closed {
                    return Flushed::Closed;
                }
                if outbound.blocked {
                    outbound.promised = false;
                    return Flushed::Blocked;
                }
                outbound.take(PIECES_PER_WRITE, &mut writing.pieces);
            }
            if writing.pieces.is_empty() {
                return Flushed::Done;
            }
            match self.write(writing, now_ns) {
                Flushed::More => {}
                flushed => return flushed,
            }
        }
        Flushed::More
    }

    /// Wakes its task, to notice what has changed.
    pub fn wake(&self) {
        self.port.wake();
    }

    /// Leaves the rest of the writing to the connection's own task.
    pub fn hand_over(&self) {
        self.outbound.lock().blocked = true;
        self.port.wake();
    }

    /// The socket accepts bytes again: the connection's own task goes on writing.
    pub fn resume(&self, writing: &mut Writing, now_ns: u64) -> Flushed {
        match self.port.drain() {
            Ok(()) => {
                let mut outbound = self.outbound.lock();
                outbound.blocked = false;
                self.blocked_since_ns.store(0, Ordering::Relaxed);
                drop(outbound);
                self.flush(writing, now_ns)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Flushed::Blocked,
            Err(_) => {
                self.close(CloseReason::WriteError);
                Flushed::Closed
            }
        }
    }

    /// The last attempt to write what waits, without regard to the connection being closed; then everything that
    /// it held is released.
    pub fn finish(&self, writing: &mut Writing, attempt: bool) {
        if attempt {
            // Somebody else may be in the middle of a write that does not block: a matter of microseconds.
            for _ in 0..FINISH_YIELDS_MAX {
                if !self.outbound.lock().writing {
                    break;
                }
                std::thread::yield_now();
            }
            self.outbound.lock().take(PIECES_PER_WRITE, &mut writing.pieces);
            let mut slices = [IoSlice::new(b""); PIECES_PER_WRITE];
            let count = writing.slices(&mut slices);
            if count > 0 {
                // Whoever does not read now is not waited for.
                let _ = self.port.try_write(&slices[..count]);
                let _ = self.port.drain();
            }
            for piece in writing.pieces.drain(..) {
                crate::outbound::give_back(&self.pool, piece);
            }
        }
        self.outbound.lock().close(&self.pool);
        *self.responses.lock() = None;
    }

    fn write(&self, writing: &mut Writing, now_ns: u64) -> Flushed {
        let mut slices = [IoSlice::new(b""); PIECES_PER_WRITE];
        let count = writing.slices(&mut slices);
        let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        let result = self.port.try_write(&slices[..count]);
        let drained = if result.is_ok() { self.port.drain() } else { Ok(()) };
        let written = match &result {
            Ok(written) => *written,
            Err(_) => 0,
        };
        writing.advance(&self.pool, written);
        let mut outbound = self.outbound.lock();
        outbound.put_back(written, &mut writing.pieces);
        match drained.and(result) {
            Ok(written) if written == offered => {
                if self.blocked_since_ns.load(Ordering::Relaxed) > 0 {
                    self.blocked_since_ns.store(0, Ordering::Relaxed);
                }
                if outbound.has_pieces() { Flushed::More } else { Flushed::Done }
            }
            Ok(_) => self.mark_blocked(outbound, now_ns),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.mark_blocked(outbound, now_ns),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Flushed::More,
            Err(_) => {
                drop(outbound);
                self.close(CloseReason::WriteError);
                Flushed::Closed
            }
        }
    }

    fn mark_blocked(&self, mut outbound: parking_lot::MutexGuard<'_, Outbound>, now_ns: u64) -> Flushed {
        outbound.blocked = true;
        // The deadline counts from the first refusal of what is now at the front. Noted under the lock: whoever
        // unblocks must not be overtaken.
        if self.blocked_since_ns.load(Ordering::Relaxed) == 0 {
            self.blocked_since_ns.store(now_ns.max(1), Ordering::Relaxed);
        }
        drop(outbound);
        self.port.wake();
        Flushed::Blocked
    }

    /// See [`Outbound::wait_for_room`].
    pub fn wait_for_room(&self, waker: &Waker) -> bool {
        self.outbound.lock().wait_for_room(waker)
    }

    /// Counts that it was held back for a slow receiver, or for a stream whose disk does not keep pace.
    pub fn count_stall(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether bytes wait for the socket to accept them.
    pub fn is_blocked(&self) -> bool {
        self.outbound.lock().blocked
    }

    /// Whether it understands message headers.
    pub fn headers(&self) -> bool {
        self.headers.load(Ordering::Relaxed)
    }

    /// Where its buffers come from.
    pub fn pool(&self) -> &Arc<BufferPool> {
        &self.pool
    }

    pub(crate) fn outbound(&self) -> &Mutex<Outbound> {
        &self.outbound
    }

    pub(crate) fn set_headers(&self, headers: bool) {
        self.headers.store(headers, Ordering::Relaxed);
    }

    pub(crate) fn set_profile(&self, profile: Profile) {
        *self.profile.lock() = profile;
    }

    pub(crate) fn set_permissions(&self, permissions: Option<Arc<Permissions>>) {
        *self.permissions.lock() = permissions;
    }

    pub(crate) fn set_rtt_ns(&self, rtt_ns: u64) {
        self.rtt_ns.store(rtt_ns, Ordering::Relaxed);
    }

    pub(crate) fn set_responses(&self, tracker: Option<Box<ResponseTracker>>) {
        self.tracks_responses.store(tracker.is_some(), Ordering::Relaxed);
        *self.responses.lock() = tracker;
    }

    pub(crate) fn tracks_responses(&self) -> bool {
        self.tracks_responses.load(Ordering::Relaxed)
    }

    pub(crate) fn track_response(&self, reply: &[u8], now_ns: u64) {
        if let Some(tracker) = self.responses.lock().as_deref_mut() {
            tracker.track(reply, now_ns as i64);
        }
    }

    pub(crate) fn may_respond(&self, subject: &[u8], now_ns: u64) -> bool {
        self.responses
            .lock()
            .as_deref_mut()
            .is_some_and(|tracker| tracker.check_publish(subject, now_ns as i64))
    }

    pub(crate) fn count_received(&self, messages: u64, bytes: u64) {
        // Only its own task writes these.
        self.in_messages.store(self.in_messages.load(Ordering::Relaxed) + messages, Ordering::Relaxed);
        self.in_bytes.store(self.in_bytes.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }

    pub(crate) fn mark_active(&self, now_ns: u64) {
        self.last_activity_ns.store(now_ns, Ordering::Relaxed);
    }

    pub(crate) fn subscription_table(&self) -> &Mutex<SubscriptionTable> {
        &self.subscriptions
    }
}

/// Marks the buffer as one that somebody will flush; true when that somebody is the caller.
pub(crate) fn promise(outbound: &mut Outbound) -> bool {
    !std::mem::replace(&mut outbound.promised, true)
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("remote", &self.remote())
            .finish_non_exhaustive()
    }
}

/// The subscriptions of one connection by sid.
#[derive(Default)]
pub(crate) struct SubscriptionTable {
    table: HashTable<Arc<Subscription>>,
}

impl SubscriptionTable {
    pub(crate) fn find(&self, sid: &[u8]) -> Option<&Arc<Subscription>> {
        self.table.find(hash(sid), |subscription| subscription.sid() == sid)
    }

    pub(crate) fn insert(&mut self, subscription: Arc<Subscription>) {
        self.table.insert_unique(hash(subscription.sid()), subscription, |listed| hash(listed.sid()));
    }

    /// Removes this very subscription, not another one with its sid.
    pub(crate) fn remove(&mut self, subscription: &Arc<Subscription>) {
        let same = |listed: &Arc<Subscription>| Arc::ptr_eq(listed, subscription);
        if let Ok(entry) = self.table.find_entry(hash(subscription.sid()), same) {
            entry.remove();
        }
        if self.table.len() * 8 < self.table.capacity() {
            self.table.shrink_to(0, |listed| hash(listed.sid()));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn drain(&mut self) -> Vec<Arc<Subscription>> {
        std::mem::take(&mut self.table).into_iter().collect()
    }
}

/// Sids are chosen by the client whose table it is: it can only slow itself down.
fn hash(sid: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(sid)
}
