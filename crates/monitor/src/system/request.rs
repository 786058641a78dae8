//! Requests and what is answered to them.
//!
//! None is answered twice, and some not at all: those for other servers, and those about accounts that nobody uses here.

use serde::Serialize;

use super::body::{BadBody, Body};
use super::event::{self, Occurrence};
use super::filter::Filter;
use super::options;
use super::reply::{self, Fault};
use super::server_info::{Identity, ServerInfo};
use super::statsz;
use crate::connz::connz;
use crate::healthz::{Healthz, healthz};
use crate::query::BadQuery;
use crate::text::{RoundTrip, Timestamp};
use crate::view::ServerView;
use crate::{accountz, accstatz, expvar, gatewayz, ipqueuesz, json, jsz, leafz, query, routez, subsz};

/// How long a profile may take, in nanoseconds.
const PROFILE_NS_MAX: i64 = 15_000_000_000;

/// What a server can be asked about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Who it is.
    Idz,
    /// How it is doing.
    Statsz,
    /// The server.
    Varz,
    /// Subscriptions.
    Subsz,
    /// Clients.
    Connz,
    /// Routes.
    Routez,
    /// Gateways.
    Gatewayz,
    /// Leaf nodes.
    Leafz,
    /// Accounts.
    Accountz,
    /// JetStream.
    Jsz,
    /// Health.
    Healthz,
    /// Profiles, of which there are none.
    Profilez,
    /// The command line and memory.
    Expvarz,
    /// Queues inside the server.
    Ipqueuesz,
    /// Raft groups.
    Raftz,
}

/// What a server can be asked about an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountTopic {
    /// Subscriptions.
    Subsz,
    /// Clients.
    Connz,
    /// Leaf nodes.
    Leafz,
    /// JetStream.
    Jsz,
    /// All about it.
    Info,
    /// Connections and traffic.
    Statz,
    /// The same, as an event.
    Conns,
}

impl Topic {
    /// All by the last token of their subjects.
    pub const NAMED: [(&'static str, Self); 15] = [
        ("IDZ", Self::Idz),
        ("STATSZ", Self::Statsz),
        ("VARZ", Self::Varz),
        ("SUBSZ", Self::Subsz),
        ("CONNZ", Self::Connz),
        ("ROUTEZ", Self::Routez),
        ("GATEWAYZ", Self::Gatewayz),
        ("LEAFZ", Self::Leafz),
        ("ACCOUNTZ", Self::Accountz),
        ("JSZ", Self::Jsz),
        ("HEALTHZ", Self::Healthz),
        ("PROFILEZ", Self::Profilez),
        ("EXPVARZ", Self::Expvarz),
        ("IPQUEUESZ", Self::Ipqueuesz),
        ("RAFTZ", Self::Raftz),
    ];
}

impl AccountTopic {
    /// All by the last token of their subjects.
    pub const NAMED: [(&'static str, Self); 7] = [
        ("SUBSZ", Self::Subsz),
        ("CONNZ", Self::Connz),
        ("LEAFZ", Self::Leafz),
        ("JSZ", Self::Jsz),
        ("INFO", Self::Info),
        ("STATZ", Self::Statz),
        ("CONNS", Self::Conns),
    ];
}

/// What makes one message of a server differ from all its others.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// The server.
    pub identity: &'a Identity,
    /// Higher than in all messages before.
    pub sequence: u64,
    /// Unique among all events.
    pub event_id: &'a str,
    /// The time.
    pub time: Timestamp,
}

impl<'a> Stamp<'a> {
    /// The `server` of the message.
    pub fn server(&self) -> ServerInfo<'a> {
        self.identity.at(self.sequence, self.time)
    }

    /// What sets the event apart, if the message is one.
    pub fn occurrence(&self) -> Occurrence<'a> {
        Occurrence { id: self.event_id, time: self.time }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// JSON.
    pub body: Vec<u8>,
    /// Whether it is compressed for whoever understands that.
    pub is_compressible: bool,
}

impl Answer {
    fn plain(body: Vec<u8>) -> Self {
        Self { body, is_compressible: false }
    }
}

/// Answers a request about the server itself.
pub fn about_server(view: &dyn ServerView, topic: Topic, body: &[u8], stamp: Stamp<'_>) -> Option<Answer> {
    let request = Request { view, body, stamp };
    match topic {
        Topic::Idz => Some(Answer::plain(idz(stamp.identity))),
        Topic::Statsz => request.statsz(),
        Topic::Varz => request.answer("VarzEventOptions", |(): ()| Ok(view.varz())),
        Topic::Subsz => request.answer(options::Subsz::NAME, |asked: options::Subsz| {
            Ok(subsz::subsz(view, &asked.options(None)?))
        }),
        Topic::Connz => request
            .answer(options::Connz::NAME, |asked: options::Connz| Ok(connz(view, &asked.options(None)?))),
        Topic::Routez => request
            .answer(options::Routez::NAME, |asked: options::Routez| Ok(routez::routez(view, asked.list()))),
        Topic::Gatewayz => {
            request.answer(options::Gatewayz::NAME, |_: options::Gatewayz| Ok(gatewayz::gatewayz(view)))
        }
        Topic::Leafz => request.answer(options::Leafz::NAME, |asked: options::Leafz| {
            Ok(leafz::leafz(view, asked.subscriptions, &asked.account))
        }),
        Topic::Accountz => request.answer(options::Accountz::NAME, |asked: options::Accountz| {
            Ok(accountz::accountz(view, &asked.account)?)
        }),
        Topic::Jsz => {
            request.answer(options::Jsz::NAME, |asked: options::Jsz| Ok(jsz::jsz(view, &asked.options())?))
        }
        Topic::Healthz => request.answer(options::Healthz::NAME, |asked: options::Healthz| {
            let health = healthz(view, &asked.options());
            Ok(Healthz { status_code: health.http_status, ..health })
        }),
        Topic::Profilez => {
            request.answer(options::Profilez::NAME, |asked: options::Profilez| Ok(profilez(&asked)))
        }
        Topic::Expvarz => request.answer("ExpvarzEventOptions", |(): ()| Ok(Expvarz::of(view))),
        Topic::Ipqueuesz => request.answer(options::Ipqueuesz::NAME, |asked: options::Ipqueuesz| {
            Ok(ipqueuesz::ipqueuesz(view, &asked.options()))
        }),
        Topic::Raftz => request.answer(options::Raftz::NAME, |_: options::Raftz| Ok(NoGroups {})),
    }
}

/// Answers a request about one account.
///
/// # Errors
///
/// A request whose fault the original only tells its log.
pub fn about_account(
    view: &dyn ServerView,
    topic: AccountTopic,
    account: &str,
    body: &[u8],
    stamp: Stamp<'_>,
) -> Result<Option<Answer>, Unheard> {
    let request = Request { view, body, stamp };
    let one = Some(account);
    Ok(match topic {
        AccountTopic::Subsz => request.answer(options::Subsz::NAME, |asked: options::Subsz| {
            Ok(subsz::subsz(view, &asked.options(one)?))
        }),
        AccountTopic::Connz => request
            .answer(options::Connz::NAME, |asked: options::Connz| Ok(connz(view, &asked.options(one)?))),
        AccountTopic::Leafz => request.answer(options::Leafz::NAME, |asked: options::Leafz| {
            Ok(leafz::leafz(view, asked.subscriptions, account))
        }),
        AccountTopic::Jsz => request.answer(options::Jsz::NAME, |asked: options::Jsz| {
            jsz::account_detail(view, account, &asked.options()).ok_or_else(|| no_jetstream(view, account))
        }),
        AccountTopic::Info => request.answer("AccInfoEventOptions", |(): ()| {
            Ok(view.account(account).ok_or_else(|| BadQuery::Account(account.into()))?)
        }),
        AccountTopic::Statz => request.account_statz(one),
        AccountTopic::Conns => request.conns(account)?,
    })
}

/// Answers a request about connections and traffic of all accounts.
pub fn about_accounts(view: &dyn ServerView, body: &[u8], stamp: Stamp<'_>) -> Option<Answer> {
    Request { view, body, stamp }.account_statz(None)
}

/// Answers a request that something be done with the server, once it is tried.
pub fn order(
    body: &[u8],
    stamp: Stamp<'_>,
    carry_out: impl FnOnce() -> Result<(), String>,
) -> Option<Answer> {
    let filter = match Body::parse(body).and_then(|body| body.read::<Filter>("EventFilterOptions")) {
        Ok(filter) => filter,
        Err(bad) => {
            return Some(Answer::plain(reply::failed(stamp.server(), Fault::Request, bad.to_string())));
        }
    };
    filter.admits(stamp.identity).then(|| {
        Answer::plain(match carry_out() {
            Ok(()) => reply::done(stamp.server()),
            Err(description) => reply::failed(stamp.server(), Fault::Answer, description),
        })
    })
}

/// Answers a request that something be done with the connection whose number the body tells.
///
/// # Errors
///
/// A request whose fault the original only tells its log.
pub fn order_for_connection(
    body: &[u8],
    name: &'static str,
    stamp: Stamp<'_>,
    carry_out: impl FnOnce(u64) -> Result<(), String>,
) -> Result<Option<Answer>, Unheard> {
    let cid = options::cid(body, name)
        .map_err(|bad| Unheard(format!("Error unmarshalling kick client request: {bad}")))?;
    Ok(order(body, stamp, || carry_out(cid)))
}

/// Answers the request of another server, or of a person, for the number of subscriptions in an account; none if nobody
/// is in the account here.
///
/// # Errors
///
/// A request whose fault the original only tells its log.
pub fn count_subscriptions(view: &dyn ServerView, body: &[u8]) -> Result<Option<Answer>, Unheard> {
    if body.is_empty() {
        return Err(Unheard("request requires a body".into()));
    }
    let unheard = |bad: BadBody| Unheard(format!("Error unmarshalling account nsubs request message: {bad}"));
    let asked: options::CountSubscriptions =
        Body::parse(body).and_then(|body| body.read("accNumSubsReq")).map_err(unheard)?;
    let group = asked.group().map_err(unheard)?;
    let known = view.account(&asked.acc).filter(|account| account.client_connections > 0);
    Ok(known.map(|_| Answer::plain(subscribers(view, &asked.acc, &asked.subject, group.as_deref()))))
}

/// Answers a request, in words, for the number of subscriptions in an account: a subject, and a queue group behind a blank.
pub fn debug_subscribers(view: &dyn ServerView, account: &str, body: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(body);
    let mut words = text.trim().split(' ');
    let (subject, group) = (words.next().unwrap_or_default(), words.next());
    Answer::plain(subscribers(view, account, subject, group.map(str::as_bytes)))
}

/// A request that gets no answer although it was for this server; the log is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheard(pub String);

/// The same for all requests.
#[derive(Clone, Copy)]
struct Request<'a> {
    view: &'a dyn ServerView,
    body: &'a [u8],
    stamp: Stamp<'a>,
}

/// Why there is no data.
enum NoData {
    /// Told to whoever asks.
    Because(String),
    /// The question was for another server.
    NotAsked,
}

impl From<BadQuery> for NoData {
    fn from(bad: BadQuery) -> Self {
        match bad {
            BadQuery::NotLeader => Self::NotAsked,
            bad => Self::Because(bad.to_string()),
        }
    }
}

impl Request<'_> {
    /// The way of nearly all: read, filter, look, answer.
    fn answer<O: Asked, T: Serialize>(
        self,
        name: &'static str,
        look: impl FnOnce(O) -> Result<T, NoData>,
    ) -> Option<Answer> {
        let server = self.stamp.server();
        let (filter, asked) = match self.read::<O>(name) {
            Ok(read) => read,
            Err(bad) => return Some(Answer::plain(reply::failed(server, Fault::Request, bad.to_string()))),
        };
        if !filter.admits(self.stamp.identity) {
            return None;
        }
        match look(asked) {
            Ok(data) => Some(Answer { body: reply::data(server, &data), is_compressible: true }),
            Err(NoData::Because(description)) => Some(Answer::plain(reply::unanswered(server, description))),
            Err(NoData::NotAsked) => None,
        }
    }

    fn read<O: Asked>(&self, name: &'static str) -> Result<(Filter, O), BadBody> {
        let body = Body::parse(self.body)?;
        Ok((body.read(name)?, O::read(&body, name)?))
    }

    fn statsz(self) -> Option<Answer> {
        let server = self.stamp.server();
        match self.read::<()>("StatszEventOptions") {
            Ok((filter, ())) => filter
                .admits(self.stamp.identity)
                .then(|| Answer::plain(statsz::message(server, &self.view.statsz()))),
            Err(bad) => Some(Answer::plain(reply::failed(server, Fault::Request, bad.to_string()))),
        }
    }

    fn account_statz(self, account: Option<&str>) -> Option<Answer> {
        self.answer(options::AccountStatz::NAME, |asked: options::AccountStatz| {
            let options = asked.options(account);
            let answer = accstatz::accstatz(self.view, &options);
            // Nobody uses the accounts here: another server may know more.
            let says_nothing = answer.account_statz.is_empty() && !options.unused;
            if says_nothing || account == Some("PING") { Err(NoData::NotAsked) } else { Ok(answer) }
        })
    }

    fn conns(self, account: &str) -> Result<Option<Answer>, Unheard> {
        if !self.body.is_empty() {
            let unheard = |bad: BadBody| {
                Unheard(format!("Error unmarshalling account connections request message: {bad}"))
            };
            let asked: options::ByAccount =
                Body::parse(self.body).and_then(|body| body.read("accNumConnsReq")).map_err(unheard)?;
            if asked.acc.is_some_and(|asked| asked != account) {
                return Err(Unheard("Error unmarshalled account does not match subject".into()));
            }
        }
        let stats = self.view.account_stats().into_iter().find(|stats| stats.acc == account);
        let used = stats.filter(|stats| stats.total_conns > 0);
        let (server, occurrence) = (self.stamp.server(), self.stamp.occurrence());
        Ok(used.map(|stats| Answer::plain(event::account_connections(server, occurrence, &stats))))
    }
}

/// What a body can be read as, beyond the filter.
trait Asked: Sized {
    fn read(body: &Body, name: &'static str) -> Result<Self, BadBody>;
}

/// Nothing.
impl Asked for () {
    fn read(_: &Body, _: &'static str) -> Result<Self, BadBody> {
        Ok(())
    }
}

macro_rules! asked {
    ($($name:ident),*) => {$(
        impl Asked for options::$name {
            fn read(body: &Body, name: &'static str) -> Result<Self, BadBody> {
                body.read(name)
            }
        }
    )*};
}

asked!(
    Connz,
    Subsz,
    Routez,
    Gatewayz,
    Leafz,
    Accountz,
    Jsz,
    Healthz,
    Profilez,
    Ipqueuesz,
    Raftz,
    AccountStatz
);

fn idz(identity: &Identity) -> Vec<u8> {
    #[derive(Serialize)]
    struct Idz<'a> {
        name: &'a str,
        host: &'a str,
        id: &'a str,
    }
    json::compact(&Idz { name: &identity.name, host: &identity.host, id: &identity.id })
}

fn no_jetstream(view: &dyn ServerView, account: &str) -> NoData {
    let quoted = query::quoted(account);
    NoData::Because(if view.jetstream().is_none() {
        "jetstream not enabled".into()
    } else if view.account(account).is_none() {
        format!("account {quoted} not found")
    } else {
        format!("account {quoted} not jetstream enabled")
    })
}

/// A profile, or why there is none. This server takes none: there are tools of the system for that.
#[derive(Serialize)]
struct Profile {
    profile: Option<()>,
    error: String,
}

fn profilez(asked: &options::Profilez) -> Profile {
    let error = match asked.name.as_str() {
        "" => "Profile name not specified".into(),
        "cpu" if asked.duration <= 0 || asked.duration > PROFILE_NS_MAX => {
            format!("Duration {} should be between 0s and 15s", RoundTrip(asked.duration))
        }
        "cpu" => "Failed to start CPU profile: this server takes no profiles".into(),
        name => format!("Profile {} not found", query::quoted(name)),
    };
    Profile { profile: None, error }
}

/// `/debug/vars` in the order of the original here.
#[derive(Serialize)]
struct Expvarz {
    memstats: expvar::MemStats,
    cmdline: Vec<String>,
}

impl Expvarz {
    fn of(view: &dyn ServerView) -> Self {
        Self { memstats: expvar::MemStats::of(view), cmdline: view.command_line() }
    }
}

/// No Raft groups, by account.
#[derive(Serialize)]
struct NoGroups {}

/// How many subscriptions of clients a message on `subject` reaches; with wildcards, how many lie within it. With a group,
/// only its members.
fn subscribers(view: &dyn ServerView, account: &str, subject: &str, group: Option<&[u8]>) -> Vec<u8> {
    let subject = subject.as_bytes();
    let has_wildcard = sonata_subject::has_wildcard(subject);
    if !has_wildcard && !sonata_subject::is_literal(subject) {
        // A subject with an empty token reaches nobody, not even `>`.
        return b"0".to_vec();
    }
    let mut count = 0_u64;
    view.visit_subscriptions(Some(account), &mut |listed| {
        let filter = listed.subject.as_bytes();
        let reached = match has_wildcard {
            true => sonata_subject::is_subset(filter, subject),
            false => sonata_subject::matches(filter, subject),
        };
        let is_member = group.is_none_or(|group| group == listed.qgroup.as_bytes());
        count += u64::from(reached && is_member);
    });
    count.to_string().into_bytes()
}
