//! One subscription of one connection.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use sonata_auth::permission::{DeliveryFilter, Permissions};

use crate::account::Account;
use crate::connection::Connection;
use crate::links::StreamImport;
use crate::service::Service;

/// What each message must pass: the permissions, and what of them to ask.
pub type Filter = (Arc<Permissions>, DeliveryFilter);

/// A subscription, shared by its connection, the interest of its account, and the routes that lead to it.
///
/// The counters are written only under the lock of the connection's outbound buffer.
pub struct Subscription {
    connection: Arc<Connection>,
    names: Names,
    /// What it is, if it is not a client's own.
    role: Option<Box<Role>>,
    /// What each message must pass before it is delivered. Asked when a route is built, not per message.
    filter: Mutex<Option<Box<Filter>>>,
    delivered: AtomicU64,
    /// Messages after which the subscription ends; 0 is never.
    max: AtomicU64,
    closed: AtomicBool,
    /// Where it stands in the list of the interest that holds it; changes under that list's lock.
    position: AtomicU32,
}

/// What a subscription that no client has made stands for.
enum Role {
    /// Is called instead of the connection being written to.
    Service(Arc<dyn Service>, u64),
    Shadow(Shadow),
}

/// A subscription in an exporter's account on behalf of one in an account that imports the stream.
pub struct Shadow {
    /// On whose behalf.
    pub parent: Arc<Subscription>,
    /// Its account.
    pub account: Arc<Account>,
    /// What leads there.
    pub import: Arc<StreamImport>,
}

/// What a subscription is called: subject, queue group and sid, one after the other in one allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Names {
    text: Box<[u8]>,
    subject_bytes: u32,
    queue_bytes: u32,
}

/// What is worth remembering of a subscription whose connection has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRecord {
    names: Names,
    /// Messages delivered.
    pub delivered: u64,
    /// Messages after which it would have ended; 0 is never.
    pub max: u64,
}

impl Names {
    fn subject(&self) -> &[u8] {
        &self.text[..self.subject_bytes as usize]
    }

    fn queue(&self) -> Option<&[u8]> {
        let start = self.subject_bytes as usize;
        (self.queue_bytes > 0).then(|| &self.text[start..start + self.queue_bytes as usize])
    }

    fn sid(&self) -> &[u8] {
        &self.text[(self.subject_bytes + self.queue_bytes) as usize..]
    }
}

impl SubscriptionRecord {
    /// Subject or filter.
    pub fn subject(&self) -> &[u8] {
        self.names.subject()
    }

    /// Queue group.
    pub fn queue(&self) -> Option<&[u8]> {
        self.names.queue()
    }

    /// The client's name for it.
    pub fn sid(&self) -> &[u8] {
        self.names.sid()
    }
}

impl Subscription {
    /// A subscription that has received nothing.
    pub fn new(
        connection: Arc<Connection>,
        subject: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
        filter: Option<Filter>,
    ) -> Self {
        let queue = queue.unwrap_or_default();
        Self {
            connection,
            names: Names {
                text: [subject, queue, sid].concat().into_boxed_slice(),
                subject_bytes: subject.len() as u32,
                queue_bytes: queue.len() as u32,
            },
            role: None,
            filter: Mutex::new(filter.map(Box::new)),
            delivered: AtomicU64::new(0),
            max: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            position: AtomicU32::new(0),
        }
    }

    /// A subscription of a service within the server; `connection` is the one it publishes by. The service knows its
    /// subscriptions apart by `token`.
    pub fn of_service(
        connection: Arc<Connection>,
        subject: &[u8],
        service: Arc<dyn Service>,
        token: u64,
    ) -> Self {
        Self {
            role: Some(Box::new(Role::Service(service, token))),
            ..Self::new(connection, subject, None, b"", None)
        }
    }

    /// What listens to `subject` in the exporter's account for another subscription. It has no life of its own: the
    /// parent counts, ends and is written to.
    pub fn shadow(subject: &[u8], shadow: Shadow) -> Self {
        let (connection, queue) =
            (shadow.parent.connection.clone(), shadow.parent.queue().map(<[u8]>::to_vec));
        let sid = shadow.parent.sid().to_vec();
        Self {
            role: Some(Box::new(Role::Shadow(shadow))),
            ..Self::new(connection, subject, queue.as_deref(), &sid, None)
        }
    }

    /// The service that is called, if it is one's.
    pub fn service(&self) -> Option<&Arc<dyn Service>> {
        match self.role.as_deref() {
            Some(Role::Service(service, _)) => Some(service),
            _ => None,
        }
    }

    /// Whether a client has made it.
    pub(crate) fn is_plain(&self) -> bool {
        self.role.is_none()
    }

    /// What the service knows the subscription by; 0 for clients.
    pub fn token(&self) -> u64 {
        match self.role.as_deref() {
            Some(Role::Service(_, token)) => *token,
            _ => 0,
        }
    }

    /// On whose behalf it listens, if it is a shadow.
    pub fn as_shadow(&self) -> Option<&Shadow> {
        match self.role.as_deref() {
            Some(Role::Shadow(shadow)) => Some(shadow),
            _ => None,
        }
    }

    /// Whose it is.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Subject or filter.
    pub fn subject(&self) -> &[u8] {
        self.names.subject()
    }

    /// Queue group.
    pub fn queue(&self) -> Option<&[u8]> {
        self.names.queue()
    }

    /// The client's name for it.
    pub fn sid(&self) -> &[u8] {
        self.names.sid()
    }

    /// What to remember of it, without its connection.
    pub fn record(&self) -> SubscriptionRecord {
        SubscriptionRecord { names: self.names.clone(), delivered: self.delivered(), max: self.max() }
    }

    /// Whether the permissions of its user let it receive messages on `subject`.
    pub fn may_receive(&self, subject: &[u8]) -> bool {
        match self.filter.lock().as_deref() {
            Some((permissions, filter)) => permissions.can_deliver(*filter, subject, self.queue()),
            None => true,
        }
    }

    /// Its user's permissions have changed. Routes that lead to it must be made stale.
    pub(crate) fn set_filter(&self, filter: Option<Filter>) {
        *self.filter.lock() = filter.map(Box::new);
    }

    /// Messages delivered so far.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Messages after which it ends; 0 is never.
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn position(&self) -> usize {
        self.position.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn set_position(&self, position: usize) {
        self.position.store(position as u32, Ordering::Relaxed);
    }

    pub(crate) fn set_delivered(&self, delivered: u64) {
        self.delivered.store(delivered, Ordering::Relaxed);
    }

    pub(crate) fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Ends it; true for the one caller who did.
    pub(crate) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::Relaxed)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("subject", &self.subject().escape_ascii().to_string())
            .field("queue", &self.queue().map(|queue| queue.escape_ascii().to_string()))
            .field("sid", &self.sid().escape_ascii().to_string())
            .finish_non_exhaustive()
    }
}
