//! `/connz`: clients, now and lately closed; filtered, sorted and cut to a page.
//!
//! A server may have a million connections and a page has 1024, so this works in two steps: the server shows a
//! [`ConnectionKey`] for each connection, of which only what the order needs is kept, and hands out a full
//! [`Connection`] for those on the page.

use std::cmp::Reverse;

use serde::Serialize;

use crate::json::is_default;
use crate::query::{BadQuery, Query, SubscriptionList};
use crate::text::{RoundTrip, Timestamp, Uptime};
use crate::varz::ProxyKey;
use crate::view::ServerView;

/// The account whose name is not shown for each connection.
pub const GLOBAL_ACCOUNT: &str = "$G";

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnzOptions {
    /// The order.
    pub sort: SortBy,
    /// Whether to show who clients are.
    pub auth: bool,
    /// How to list subscriptions.
    pub subscriptions: SubscriptionList,
    /// Connections to leave out at the start.
    pub offset: usize,
    /// The most connections to show.
    pub limit: usize,
    /// Only this connection.
    pub cid: Option<u64>,
    /// Which connections.
    pub state: ConnectionState,
    /// Only connections of this user; empty is all.
    pub user: String,
    /// Only connections of this account; empty is all.
    pub account: String,
    /// Only connections of this MQTT client; empty is all.
    pub mqtt_client: String,
    /// Only connections with a subscription that overlaps this subject; empty is all. Closed ones always count.
    pub subject: String,
}

impl ConnzOptions {
    /// How many connections are shown if no limit is given.
    pub const LIMIT_DEFAULT: usize = 1024;

    /// Reads a query.
    ///
    /// # Errors
    ///
    /// The first value that cannot be read, or an order that the state does not have.
    pub fn from_query(query: &Query) -> Result<Self, BadQuery> {
        let auth = query.boolean("auth")?;
        let subscriptions = query.subscriptions()?;
        let offset = query.integer("offset")?;
        let limit = query.integer("limit")?;
        let cid = Some(query.unsigned("cid")?).filter(|cid| *cid > 0);
        let state = ConnectionState::from_query(query)?;
        let sort = SortBy::named(query.text("sort"), state)?;
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(Self::LIMIT_DEFAULT);
        Ok(Self {
            sort,
            auth,
            subscriptions,
            offset: usize::try_from(offset).unwrap_or(0),
            limit: if cid.is_some() { 1 } else { limit },
            cid,
            state,
            user: query.text("user").into(),
            account: query.text("acc").into(),
            mqtt_client: query.text("mqtt_client").into(),
            subject: String::new(),
        })
    }
}

impl Default for ConnzOptions {
    fn default() -> Self {
        Self {
            sort: SortBy::Cid,
            auth: false,
            subscriptions: SubscriptionList::None,
            offset: 0,
            limit: Self::LIMIT_DEFAULT,
            cid: None,
            state: ConnectionState::Open,
            user: String::new(),
            account: String::new(),
            mqtt_client: String::new(),
            subject: String::new(),
        }
    }
}

/// Which connections are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConnectionState {
    /// Those that are open.
    #[default]
    Open,
    /// Those that were closed lately.
    Closed,
    /// Both.
    Any,
    /// None: a state was asked for that there is not.
    Neither,
}

impl ConnectionState {
    fn from_query(query: &Query) -> Result<Self, BadQuery> {
        let text = query.text("state");
        match text.to_lowercase().as_str() {
            "" | "open" => Ok(Self::Open),
            "closed" => Ok(Self::Closed),
            "any" | "all" => Ok(Self::Any),
            _ => Err(BadQuery::State(text.into())),
        }
    }

    /// Whether open connections are asked for.
    pub fn includes_open(self) -> bool {
        matches!(self, Self::Open | Self::Any)
    }

    /// Whether closed connections are asked for.
    pub fn includes_closed(self) -> bool {
        matches!(self, Self::Closed | Self::Any)
    }
}

/// The order of connections. Numbers and times go from the highest to the lowest, unless stated otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortBy {
    /// Identifiers, lowest first.
    #[default]
    Cid,
    /// Time of connecting, which is the order of identifiers.
    Start,
    /// Subscriptions.
    Subs,
    /// Bytes that wait to be sent.
    Pending,
    /// Messages sent.
    MsgsTo,
    /// Messages received.
    MsgsFrom,
    /// Bytes sent.
    BytesTo,
    /// Bytes received.
    BytesFrom,
    /// Time of the last activity.
    Last,
    /// Time since the last activity.
    Idle,
    /// Time of being connected, shortest first.
    Uptime,
    /// Time of closing.
    Stop,
    /// Reason of closing, in alphabetical order.
    Reason,
    /// Round trip.
    Rtt,
}

impl SortBy {
    /// All orders by name.
    pub const NAMED: [(&'static str, Self); 14] = [
        ("cid", Self::Cid),
        ("start", Self::Start),
        ("subs", Self::Subs),
        ("pending", Self::Pending),
        ("msgs_to", Self::MsgsTo),
        ("msgs_from", Self::MsgsFrom),
        ("bytes_to", Self::BytesTo),
        ("bytes_from", Self::BytesFrom),
        ("last", Self::Last),
        ("idle", Self::Idle),
        ("uptime", Self::Uptime),
        ("stop", Self::Stop),
        ("reason", Self::Reason),
        ("rtt", Self::Rtt),
    ];

    /// The order of that name; empty is by identifier.
    ///
    /// # Errors
    ///
    /// There is none, or connections of the state do not have it.
    pub(crate) fn named(text: &str, state: ConnectionState) -> Result<Self, BadQuery> {
        if text.is_empty() {
            return Ok(Self::Cid);
        }
        let named = Self::NAMED.into_iter().find(|(name, _)| *name == text);
        let (name, sort) = named.ok_or_else(|| BadQuery::Sort(text.into()))?;
        match sort {
            Self::Stop | Self::Reason if state != ConnectionState::Closed => {
                Err(BadQuery::SortClosedOnly(name))
            }
            sort => Ok(sort),
        }
    }
}

/// What connections are filtered and sorted by.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectionKey<'a> {
    /// The identifier.
    pub cid: u64,
    /// The account's name, `$G` for the global one.
    pub account: &'a str,
    /// The user's name as `authorized_user` shows it.
    pub user: &'a str,
    /// The identifier of an MQTT client.
    pub mqtt_client: &'a str,
    /// When it was connected.
    pub start: Timestamp,
    /// When something was last sent or received.
    pub last_activity: Timestamp,
    /// When it was closed; none for open ones.
    pub stop: Option<Timestamp>,
    /// Why it was closed; empty for open ones.
    pub reason: &'a str,
    /// Nanoseconds to the client and back.
    pub rtt_ns: i64,
    /// Bytes that wait to be sent.
    pub pending_bytes: u64,
    /// Messages received.
    pub in_msgs: u64,
    /// Messages sent.
    pub out_msgs: u64,
    /// Bytes received.
    pub in_bytes: u64,
    /// Bytes sent.
    pub out_bytes: u64,
    /// Subscriptions.
    pub subscriptions: u64,
}

/// A connection as it is shown.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Connection {
    /// The identifier.
    pub cid: u64,
    /// `Client` or `Leafnode`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub kind: &'static str,
    /// `nats`, `websocket` or `mqtt`.
    #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
    pub client_type: &'static str,
    /// The client's address.
    pub ip: String,
    /// The client's port.
    pub port: u16,
    /// When it was connected.
    pub start: Timestamp,
    /// When something was last sent or received.
    pub last_activity: Timestamp,
    /// When it was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Timestamp>,
    /// Why it was closed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// To the client and back.
    pub rtt: RoundTrip,
    /// Since start, until now or until it was closed.
    pub uptime: Uptime,
    /// Since the last activity, until now or until it was closed.
    pub idle: Uptime,
    /// Bytes that wait to be sent.
    pub pending_bytes: u64,
    /// Messages received.
    pub in_msgs: u64,
    /// Messages sent.
    pub out_msgs: u64,
    /// Bytes received.
    pub in_bytes: u64,
    /// Bytes sent.
    pub out_bytes: u64,
    /// How often it was held back for a slow receiver, or for a stream whose disk does not keep pace.
    #[serde(skip_serializing_if = "is_default")]
    pub stalls: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// `name` of CONNECT.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `lang` of CONNECT.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lang: String,
    /// `version` of CONNECT.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The version of TLS, `1.2` or `1.3`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tls_version: String,
    /// The cipher suite by its IANA name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tls_cipher_suite: String,
    /// The client's certificates; shown with `auth` only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls_peer_certs: Vec<PeerCertificate>,
    /// Whether TLS came before INFO.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_first: bool,
    /// The user; shown with `auth` only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub authorized_user: String,
    /// The account's name, `$G` for the global one; shown with `auth` only, and not if it is the global one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// Subjects of subscriptions, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions_list: Vec<String>,
    /// Subscriptions, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions_list_detail: Vec<Subscription>,
    /// The token by which the user came, unless it alone is enough to come in; shown with `auth` only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    /// The key that has signed the token; shown with `auth` only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer_key: String,
    /// What the account calls itself; shown with `auth` only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name_tag: String,
    /// The user's tags; shown with `auth` only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The identifier of an MQTT client.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mqtt_client: String,
    /// The trusted proxy it came through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyKey>,
}

/// A certificate of a client.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct PeerCertificate {
    /// The subject.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The SHA-256 of the public key.
    pub spki_sha256: String,
    /// The SHA-256 of the certificate.
    pub cert_sha256: String,
}

/// A subscription.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Subscription {
    /// The account's name; only in `/subsz`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// What the account calls itself; only in `/subsz`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account_tag: String,
    /// The subject.
    pub subject: String,
    /// The queue group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub qgroup: String,
    /// The client's identifier of it.
    pub sid: String,
    /// Messages delivered.
    pub msgs: u64,
    /// Messages after which it ends; 0 is never.
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    /// The connection.
    pub cid: u64,
}

/// The whole of `/connz`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Connz {
    /// The server.
    pub server_id: String,
    /// When this was written.
    pub now: Timestamp,
    /// Connections on this page.
    pub num_connections: usize,
    /// Connections of the state and account, before other filters.
    pub total: usize,
    /// The first one on this page.
    pub offset: usize,
    /// The most on this page.
    pub limit: usize,
    /// The page.
    pub connections: Vec<Connection>,
}

/// Answers `/connz`. Connections that are equal in the order asked for are in the order of their identifiers.
pub fn connz(view: &dyn ServerView, options: &ConnzOptions) -> Connz {
    let now = view.now();
    let (total, mut selected) = select(view, options, now);
    if !options.subject.is_empty() {
        selected.retain(|cid| is_subscribed(view, *cid, &options.subject));
    }
    let page = selected.into_iter().skip(options.offset).take(options.limit);
    // A connection that was forgotten in between is not on the page.
    let connections: Vec<Connection> = page
        .filter_map(|cid| view.connection(cid, options.subscriptions))
        .map(
            |connection| {
                if options.auth { without_global_account(connection) } else { anonymous(connection) }
            },
        )
        .collect();
    Connz {
        server_id: view.server_id(),
        now,
        num_connections: connections.len(),
        total,
        offset: options.offset,
        limit: options.limit,
        connections,
    }
}

/// Whether a connection listens to anything that a subject, which may have wildcards, overlaps; a closed one always.
fn is_subscribed(view: &dyn ServerView, cid: u64, subject: &str) -> bool {
    let overlaps = |listed: &String| sonata_subject::overlaps(listed.as_bytes(), subject.as_bytes());
    view.connection(cid, SubscriptionList::Subjects).is_some_and(|connection| {
        connection.stop.is_some() || connection.subscriptions_list.iter().any(overlaps)
    })
}

/// How many connections there are before filters, and the identifiers of those after, in order.
fn select(view: &dyn ServerView, options: &ConnzOptions, now: Timestamp) -> (usize, Vec<u64>) {
    let mut total = 0;
    let mut selected: Vec<(Rank, u64)> = Vec::new();
    view.visit_connections(options.state, &mut |key| {
        let any_or = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        if !any_or(&options.account, key.account) {
            return;
        }
        total += 1;
        let wanted = options.cid.is_none_or(|cid| cid == key.cid)
            && any_or(&options.user, key.user)
            && any_or(&options.mqtt_client, key.mqtt_client);
        if wanted {
            selected.push((Rank::new(options.sort, key, now), key.cid));
        }
    });
    selected.sort_unstable();
    (total, selected.into_iter().map(|(_, cid)| cid).collect())
}

/// A place in an order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Nothing,
    Rising(i64),
    Falling(Reverse<u64>),
    FallingTime(Reverse<i64>),
    Text(String),
}

impl Rank {
    fn new(sort: SortBy, key: &ConnectionKey<'_>, now: Timestamp) -> Self {
        let falling = |number| Self::Falling(Reverse(number));
        let falling_time = |nanos| Self::FallingTime(Reverse(nanos));
        match sort {
            SortBy::Cid | SortBy::Start => Self::Nothing,
            SortBy::Subs => falling(key.subscriptions),
            SortBy::Pending => falling(key.pending_bytes),
            SortBy::MsgsTo => falling(key.out_msgs),
            SortBy::MsgsFrom => falling(key.in_msgs),
            SortBy::BytesTo => falling(key.out_bytes),
            SortBy::BytesFrom => falling(key.in_bytes),
            SortBy::Last => falling_time(key.last_activity.0),
            SortBy::Idle => falling_time(Uptime::between(key.last_activity, now).0),
            SortBy::Uptime => Self::Rising(Uptime::between(key.start, key.stop.unwrap_or(now)).0),
            SortBy::Stop => falling_time(key.stop.unwrap_or_default().0),
            SortBy::Reason => Self::Text(key.reason.into()),
            SortBy::Rtt => falling_time(key.rtt_ns),
        }
    }
}

fn without_global_account(mut connection: Connection) -> Connection {
    if connection.account == GLOBAL_ACCOUNT {
        connection.account = String::new();
    }
    connection
}

/// Without what says who the client is.
fn anonymous(connection: Connection) -> Connection {
    Connection {
        tls_peer_certs: Vec::new(),
        authorized_user: String::new(),
        account: String::new(),
        jwt: String::new(),
        issuer_key: String::new(),
        name_tag: String::new(),
        tags: Vec::new(),
        ..connection
    }
}
