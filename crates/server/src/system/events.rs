//! Events: clients that come and go, what accounts use, how the server is doing.
//!
//! Whoever serves a client only looks whether anybody listens and, if so, leaves a note; the messages are made here, on a
//! thread of their own. Nothing is made for nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sonata_broker::account::{Account, GLOBAL_ACCOUNT};
use sonata_broker::close::CloseReason;
use sonata_broker::connection::Profile;
use sonata_broker::interest::Interest;
use sonata_broker::shared::{Level, Log};
use sonata_monitor::accstatz::Volume;
use sonata_monitor::system::event::{self, CertificateInfo, Client, Departure};
use sonata_monitor::system::request::Stamp;
use sonata_monitor::system::statsz;
use sonata_monitor::text::Timestamp;
use sonata_monitor::view::ServerView;
use sonata_subject::is_literal;

use super::System;
use super::queue::{Queue, Room, Taken};
use super::requests::Request;
use crate::connections::{Closed, Entry};
use crate::inner::Inner;
use crate::view::{self, View};

/// Notes that wait at most. A flood of connections that outruns the messages about it loses some of them, which is said
/// in the log, rather than memory.
const ROOM: Room = Room { items: 16 * 1024, bytes: 8 * 1024 * 1024 };

/// Between two reports of how the server is doing.
const STATSZ_INTERVAL: Duration = Duration::from_secs(10);
/// The same at the start, where they come faster and then slow down.
const STATSZ_INTERVAL_FIRST: Duration = Duration::from_millis(250);
/// Between two reports of an account in which nobody comes or goes.
const ACCOUNT_INTERVAL: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Events(Queue<Note>);

/// What is still to be told.
enum Note {
    Left { account: Arc<Account>, heard: Heard },
    Connected { entry: Arc<Entry>, account: Arc<Account>, heard: Heard },
    Ended { closed: Arc<Closed>, account: Arc<Account>, heard: Heard },
    Asked(Request),
    PeerRejected { peer: CertificateInfo, reason: &'static str },
    PeerLinkInvalid { peer: CertificateInfo, link: CertificateInfo, reason: String },
}

impl Note {
    /// What it holds beyond itself, where that is more than a few names.
    fn bytes(&self) -> usize {
        match self {
            Self::PeerRejected { peer, .. } => peer.raw.len(),
            Self::PeerLinkInvalid { peer, link, .. } => peer.raw.len() + link.raw.len(),
            _ => 0,
        }
    }
}

/// Which of the messages about a client somebody listens to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Heard {
    client: bool,
    account: bool,
    account_old: bool,
    refusal: bool,
    refusal_in_account: bool,
}

impl Heard {
    fn is_anything(self) -> bool {
        self != Self::default()
    }
}

/// The subject of refusals in the account that the client would have been in.
const REFUSED_IN_ACCOUNT: &str = "$SYS.ACCOUNT.CLIENT.AUTH.ERR";

impl Default for Events {
    fn default() -> Self {
        Self(Queue::new(ROOM))
    }
}

impl Events {
    pub(super) fn ask(&self, request: Request) {
        let bytes = request.body.len() + request.reply.len();
        self.0.push(Note::Asked(request), bytes);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn end(&self) {
        self.0.end();
    }
}

/// On the threads of clients.
impl System {
    /// A client was let in, and has left the account that it was in before.
    pub(crate) fn on_connected(&self, entry: &Arc<Entry>, left: Option<Arc<Account>>) {
        let Some(account) = self.account_of(&entry.connection.profile()) else { return };
        if let Some(account) = left.filter(|left| !Arc::ptr_eq(left, &account)) {
            let heard = self.who_hears(&account);
            if heard.is_anything() {
                self.note(Note::Left { account, heard });
            }
        }
        let heard = Heard { client: self.is_heard(&connect(account.name())), ..self.who_hears(&account) };
        if heard.is_anything() {
            self.note(Note::Connected { entry: entry.clone(), account, heard });
        }
    }

    /// A connection has ended.
    pub(crate) fn on_ended(&self, closed: &Arc<Closed>) {
        let own_account = closed.refusal.as_ref().and_then(|refusal| refusal.own_account.as_deref());
        let account = own_account.or(closed.profile.account.as_deref()).unwrap_or(GLOBAL_ACCOUNT);
        let Some(account) = self.shared.accounts.find(account) else { return };
        let is_refusal = matches!(
            closed.reason,
            CloseReason::AuthenticationFailure | CloseReason::ProxyNotTrusted | CloseReason::ProxyRequired
        );
        let mut heard = self.who_hears(&account);
        heard.client = self.is_heard(&disconnect(account.name()));
        if is_refusal {
            heard.refusal = self.is_heard(&self.refused());
            let told = self.told_of_refusal(closed, &account);
            heard.refusal_in_account = told.interest.has_interest(REFUSED_IN_ACCOUNT.as_bytes());
        }
        if heard.is_anything() {
            self.note(Note::Ended { closed: closed.clone(), account, heard });
        }
    }

    /// A client was sent away for what its authority says.
    pub(crate) fn on_peer_rejected(&self, peer: CertificateInfo, reason: &'static str) {
        if self.is_heard(&self.peer_rejected()) {
            self.note(Note::PeerRejected { peer, reason });
        }
    }

    /// One of a client's certificates is not good.
    pub(crate) fn on_peer_link_invalid(&self, peer: CertificateInfo, link: CertificateInfo, reason: &str) {
        if self.is_heard(&self.peer_link_invalid()) {
            self.note(Note::PeerLinkInvalid { peer, link, reason: reason.to_owned() });
        }
    }

    /// Who is told of a refusal: the account of the service that has refused, or the one the client would have been in.
    fn told_of_refusal(&self, closed: &Closed, account: &Arc<Account>) -> Arc<Account> {
        let service = closed.refusal.as_ref().and_then(|refusal| self.shared.accounts.find(&refusal.account));
        service.unwrap_or_else(|| account.clone())
    }

    /// The account of a client; the global one for those that came into none.
    fn account_of(&self, profile: &Profile) -> Option<Arc<Account>> {
        self.shared.accounts.find(profile.account.as_deref().unwrap_or(GLOBAL_ACCOUNT))
    }

    /// Who hears of the number of connections. That of the global account is not told, as in the original.
    fn who_hears(&self, account: &Account) -> Heard {
        let name = account.name();
        if **name == *GLOBAL_ACCOUNT {
            return Heard::default();
        }
        Heard {
            account: self.is_heard(&connections(name)),
            account_old: self.is_heard(&connections_old(name)),
            ..Heard::default()
        }
    }

    fn is_heard(&self, subject: &str) -> bool {
        is_heard(&self.account.interest, subject)
    }

    fn note(&self, note: Note) {
        if !self.is_stopping.load(Ordering::Relaxed) {
            let bytes = size_of::<Note>() + note.bytes();
            self.events.0.push(note, bytes);
        }
    }
}

/// On the thread of the events.
impl System {
    /// Tells what there is to tell until the server stops.
    pub(super) fn run_events(&self) {
        let mut statsz_interval = STATSZ_INTERVAL_FIRST;
        let mut statsz_due = Instant::now() + statsz_interval;
        let mut accounts_due = Instant::now() + ACCOUNT_INTERVAL;
        loop {
            match self.events.0.take(Some(statsz_due.min(accounts_due))) {
                Taken::Over => return,
                Taken::Time => {}
                Taken::Items(notes, turned_away) => {
                    self.log_turned_away("events", turned_away);
                    for note in notes {
                        self.tell(note);
                    }
                }
            }
            let Some(inner) = self.inner() else { return };
            let now = Instant::now();
            if now >= statsz_due {
                self.tell_statsz(&inner);
                statsz_interval = (statsz_interval * 2).min(STATSZ_INTERVAL);
                statsz_due = now + statsz_interval;
            }
            if now >= accounts_due {
                self.tell_accounts(&inner);
                accounts_due = now + ACCOUNT_INTERVAL;
            }
        }
    }

    fn tell(&self, note: Note) {
        let Some(inner) = self.inner() else { return };
        match note {
            Note::Asked(request) => self.answer(request),
            Note::PeerRejected { peer, reason } => {
                self.emit(&inner, &self.peer_rejected(), |stamp| {
                    event::ocsp_peer_reject(stamp.server(), stamp.occurrence(), &peer, reason)
                });
            }
            Note::PeerLinkInvalid { peer, link, reason } => {
                self.emit(&inner, &self.peer_link_invalid(), |stamp| {
                    let (server, occurrence) = (stamp.server(), stamp.occurrence());
                    event::ocsp_peer_link_invalid(server, occurrence, &link, &peer, &reason)
                });
            }
            Note::Left { account, heard } => self.tell_connections(&inner, &account, heard),
            Note::Connected { entry, account, heard } => {
                self.tell_connections(&inner, &account, heard);
                if heard.client {
                    let client = describe_open(&inner, &entry, &account);
                    self.emit(&inner, &connect(account.name()), |stamp| {
                        event::client_connect(stamp.server(), stamp.occurrence(), &client)
                    });
                }
            }
            Note::Ended { closed, account, heard } => {
                self.tell_connections(&inner, &account, heard);
                self.tell_ended(&inner, &closed, &account, heard);
            }
        }
    }

    fn tell_ended(&self, inner: &Arc<Inner>, closed: &Closed, account: &Arc<Account>, heard: Heard) {
        let client = describe_closed(inner, closed, account);
        let departure = departure(inner, closed);
        let message = |stamp: Stamp<'_>| {
            event::client_disconnect(stamp.server(), stamp.occurrence(), client.clone(), &departure)
        };
        if heard.refusal_in_account {
            let told = self.told_of_refusal(closed, account);
            let client = describe_closed(inner, closed, &told);
            let departure = match &closed.refusal {
                Some(refusal) => Departure { reason: refusal.reason.clone(), ..departure.clone() },
                None => departure.clone(),
            };
            let payload = self.stamped(inner, |stamp| {
                event::client_disconnect(stamp.server(), stamp.occurrence(), client, &departure)
            });
            self.publish(&told, REFUSED_IN_ACCOUNT.as_bytes(), b"", &payload);
        }
        if heard.refusal {
            self.emit(inner, &self.refused(), message);
        }
        if heard.client {
            self.emit(inner, &disconnect(account.name()), message);
        }
    }

    fn tell_connections(&self, inner: &Arc<Inner>, account: &Account, heard: Heard) {
        if !heard.account && !heard.account_old {
            return;
        }
        let stats = view::account_stats(inner, account);
        let name = account.name();
        // One event under two names, with the same id.
        let event_id = self.next_event_id();
        let subjects = [(heard.account_old, connections_old(name)), (heard.account, connections(name))];
        for (_, subject) in subjects.iter().filter(|(is_heard, _)| *is_heard) {
            self.emit(inner, subject, |stamp| {
                let stamp = Stamp { event_id: &event_id, ..stamp };
                event::account_connections(stamp.server(), stamp.occurrence(), &stats)
            });
        }
    }

    fn tell_accounts(&self, inner: &Arc<Inner>) {
        for account in self.shared.accounts.all() {
            if account.connections() > 0 {
                self.tell_connections(inner, &account, self.who_hears(&account));
            }
        }
    }

    /// Tells how the server is doing, if anybody listens.
    pub(super) fn tell_statsz(&self, inner: &Arc<Inner>) {
        let subject = format!("$SYS.SERVER.{}.STATSZ", self.server_id);
        if self.is_heard(&subject) {
            let statsz = View::new(inner.clone()).statsz();
            self.emit(inner, &subject, |stamp| statsz::message(stamp.server(), &statsz));
        }
    }

    /// Tells that the server is about to leave: `LAMEDUCK` or `SHUTDOWN`. On the caller's thread, since there may be no
    /// other any more.
    pub(crate) fn announce(&self, inner: &Arc<Inner>, what: &str) {
        let subject = format!("$SYS.SERVER.{}.{what}", self.server_id);
        if self.is_heard(&subject) {
            self.emit(inner, &subject, |stamp| event::farewell(stamp.server()));
        }
    }

    fn emit(&self, inner: &Arc<Inner>, subject: &str, message: impl FnOnce(Stamp<'_>) -> Vec<u8>) {
        let payload = self.stamped(inner, message);
        self.publish(&self.account, subject.as_bytes(), b"", &payload);
    }

    pub(super) fn log_turned_away(&self, what: &str, turned_away: usize) {
        if turned_away > 0
            && let Some(inner) = self.inner()
        {
            inner.logger.write(
                Level::Warning,
                format_args!("System account: {turned_away} {what} dropped, more came than could wait"),
            );
        }
    }

    fn peer_rejected(&self) -> String {
        format!("$SYS.SERVER.{}.OCSP.PEER.CONN.REJECT", self.server_id)
    }

    fn peer_link_invalid(&self) -> String {
        format!("$SYS.SERVER.{}.OCSP.PEER.LINK.INVALID", self.server_id)
    }

    /// The subject of refusals in the system account.
    fn refused(&self) -> String {
        format!("$SYS.SERVER.{}.CLIENT.AUTH.ERR", self.server_id)
    }
}

/// Whether anybody gets what is said on a subject. An account's name may be anything; where it makes no subject, nobody.
fn is_heard(interest: &Interest, subject: &str) -> bool {
    is_literal(subject.as_bytes()) && interest.has_interest(subject.as_bytes())
}

fn connect(account: &str) -> String {
    format!("$SYS.ACCOUNT.{account}.CONNECT")
}

fn disconnect(account: &str) -> String {
    format!("$SYS.ACCOUNT.{account}.DISCONNECT")
}

fn connections(account: &str) -> String {
    format!("$SYS.ACCOUNT.{account}.SERVER.CONNS")
}

/// Where older listeners expect it.
fn connections_old(account: &str) -> String {
    format!("$SYS.SERVER.ACCOUNT.{account}.CONNS")
}

fn describe_open(inner: &Inner, entry: &Entry, account: &Account) -> Client {
    let connection = &entry.connection;
    let remote = connection.remote();
    describe(inner, connection.id(), remote, connection.started_ns(), connection.profile(), account)
}

fn describe_closed(inner: &Inner, closed: &Closed, account: &Account) -> Client {
    describe(inner, closed.id, closed.remote, closed.started_ns, closed.profile.clone(), account)
}

fn describe(
    inner: &Inner,
    id: u64,
    remote: Option<std::net::SocketAddr>,
    started_ns: u64,
    profile: Profile,
    account: &Account,
) -> Client {
    let token = profile.token.as_deref();
    Client {
        jwt: token.map(|token| token.token.clone()).unwrap_or_default(),
        issuer_key: token.map(|token| token.issuer.clone()).unwrap_or_default(),
        tags: token.map(|token| token.tags.clone()).unwrap_or_default(),
        start: Timestamp(inner.clock.unix_ns(started_ns)),
        host: remote.map(|remote| remote.ip().to_canonical().to_string()).unwrap_or_default(),
        id,
        acc: account.name().to_string(),
        user: profile.user.into(),
        name: profile.name.into(),
        lang: profile.lang.into(),
        ver: profile.version.into(),
        name_tag: view::name_tag(inner, account.name()),
        kind: "Client",
        client_type: "nats",
        ..Client::default()
    }
}

/// Seen from the client: it sent what the server received.
fn departure(inner: &Inner, closed: &Closed) -> Departure {
    let counts = &closed.counts;
    Departure {
        stop: Timestamp(inner.clock.unix_ns(closed.stopped_ns)),
        rtt_ns: i64::try_from(closed.rtt_ns).unwrap_or(i64::MAX),
        sent: Volume { msgs: counts.in_messages, bytes: counts.in_bytes },
        received: Volume { msgs: counts.out_messages, bytes: counts.out_bytes },
        reason: closed.reason.to_string(),
    }
}
