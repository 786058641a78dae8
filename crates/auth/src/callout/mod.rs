//! Who is decided on by a service of the operator's own (ADR-26): when it is asked, with what, and whose word counts.
//!
//! The service listens in an account of its own. What a client has shown is put to it as a signed request; its
//! [`Answer`](answer::Answer) holds a user's token, from which all else follows. Here is what can be said without a
//! network: [`Delegation`] says who is asked about, [`Caller`] is what the service is told. How the question gets
//! there and the answer back is for whoever implements [`Callout`].

pub mod answer;
pub mod error;

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use sonata_jwt::authorization::{self, Connect, REQUEST_AUDIENCE, Request, Server, Tls};
use sonata_jwt::claims::Claims;

use crate::check::{Asking, Check, Outcome, SlowCheck};
use crate::connection_type::ConnectionType;
use crate::permission::Permissions;
use crate::user::{Credentials, Identity, Name, Reason};

/// Where services listen. Nobody else in their account may publish there.
pub const SUBJECT: &str = "$SYS.REQ.USER.AUTH";

/// The header that names the curve key of a server that speaks in secret.
pub const XKEY_HEADER: &str = "Nats-Server-Xkey";

/// The account of users whom the configuration does not know.
const GLOBAL_ACCOUNT: &str = "$G";

/// Asks the service. A server where one is configured has this, and so has one that trusts operators.
pub trait Callout: fmt::Debug + Send + Sync {
    /// Asks who a client is. Ends within a time of its own, whether or not anybody answers.
    fn ask(&self, question: Question) -> Asking;

    /// One of the service's own users was refused: those who listen for refusals in its account hear of that.
    fn note_refusal(&self, delegation: &Delegation, connection_id: u64);

    /// Decides whether somebody stays whom the configured service has let in.
    fn confirm(&self, delegation: &Delegation, said: &Said) -> Check;
}

/// What the configuration says of the service (`auth_callout`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delegation {
    /// The key that vouches for users.
    pub issuer: String,
    /// Where the service listens.
    pub account: Arc<str>,
    /// Users who are let in without asking: the service itself. Names and nkeys.
    pub auth_users: HashSet<String>,
    /// The service's curve key, to speak with it in secret.
    pub xkey: Option<String>,
    /// The accounts whose configured users the service decides on; empty: all. It always decides on those of the
    /// global account and on those whom the configuration does not let in.
    pub allowed_accounts: HashSet<String>,
}

impl Delegation {
    /// Whether the service decides on somebody of whom the configuration says `outcome`.
    ///
    /// `claimed` is the configured user whom the client claims to be, proven or not: one of the service's own with a wrong
    /// password is refused.
    pub fn asks(&self, outcome: &Outcome, claimed: &Name) -> bool {
        let concerned = match outcome {
            Outcome::Refused(_) => true,
            Outcome::Granted(identity) => self.concerns(account(identity)),
        };
        concerned && !self.exempts(claimed)
    }

    /// Whether the service decides on the users of an account.
    fn concerns(&self, account: &str) -> bool {
        account == GLOBAL_ACCOUNT
            || self.allowed_accounts.is_empty()
            || self.allowed_accounts.contains(account)
    }

    fn exempts(&self, name: &Name) -> bool {
        match name {
            Name::Nkey(name) | Name::User(name) => self.auth_users.contains(name),
            Name::Token | Name::Unknown => false,
        }
    }

    /// What follows from what the configuration says of a client.
    pub(crate) fn decide(
        self: Arc<Self>,
        outcome: Outcome,
        claimed: &Name,
        mut caller: Caller,
        callout: &Arc<dyn Callout>,
    ) -> Check {
        if !self.asks(&outcome, claimed) {
            if matches!(outcome, Outcome::Refused(_)) {
                callout.note_refusal(&self, caller.connection_id);
            }
            return Check::Decided(self.shielded(outcome));
        }
        let own_account = match outcome {
            Outcome::Refused(reason) => {
                caller.proxy_required = reason == Reason::ProxyRequired;
                None
            }
            Outcome::Granted(identity) => identity.account,
        };
        let question = Question {
            account: self.account.clone(),
            subject: self.issuer.clone(),
            xkey: self.xkey.clone(),
            caller,
            own_account,
            delegation: Some(self),
        };
        Check::Slow(SlowCheck::Ask(callout.ask(question)))
    }

    /// The service's own users may not ask the service. As in the reference that holds only where it decides on the users
    /// of its own account (`auth/callout_own_user_apart` pins it).
    pub(crate) fn shielded(&self, outcome: Outcome) -> Outcome {
        let is_shielded = |identity: &Identity| {
            let account = account(identity);
            account == &*self.account && self.concerns(account) && self.exempts(&identity.user)
        };
        match outcome {
            Outcome::Granted(identity) if is_shielded(&identity) => {
                let permissions = Some(shielding(identity.permissions.as_deref()));
                Outcome::Granted(Identity { permissions, ..identity })
            }
            outcome => outcome,
        }
    }
}

/// The account that a user is in.
fn account(identity: &Identity) -> &str {
    identity.account.as_deref().unwrap_or(GLOBAL_ACCOUNT)
}

/// The permissions of somebody in the service's account.
pub(crate) fn shielding(permissions: Option<&Permissions>) -> Arc<Permissions> {
    Arc::new(Permissions::with_publish_denied(permissions, SUBJECT))
}

/// Who wants to come in, as the service is told.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The number of the connection.
    pub connection_id: u64,
    /// What the server knows.
    pub client: authorization::Client,
    /// What the client has said.
    pub connect: Connect,
    /// What the answer is judged by.
    pub standing: Standing,
    /// The user must come through a proxy, whatever the service says.
    pub proxy_required: bool,
}

/// What the word of a service is judged by, at first and whenever something changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// As whom the client came.
    pub name: Name,
    /// Where from; none from within the process.
    pub source: Option<IpAddr>,
    /// How it is connected.
    pub connection_type: ConnectionType,
    /// The key of the trusted proxy that it came through.
    pub proxy: Option<Arc<str>>,
    /// The name in the token that it came with, where operators are trusted.
    pub name_tag: String,
    /// The tags in that token.
    pub tags: Vec<String>,
}

impl Caller {
    /// Whoever has shown these credentials. A token is not among them: it counts only where operators are trusted.
    pub fn of(credentials: &Credentials<'_>, proxy: Option<Arc<str>>) -> Self {
        let (kind, client_type) = kind(credentials.connection_type);
        let nonce = if credentials.sig.is_empty() { "" } else { credentials.nonce };
        let connect = Connect {
            jwt: String::new(),
            nkey: credentials.nkey.into(),
            sig: credentials.sig.into(),
            auth_token: credentials.token.into(),
            user: credentials.user.into(),
            pass: credentials.pass.into(),
            name: credentials.client.name.into(),
            lang: credentials.client.lang.into(),
            version: credentials.client.version.into(),
            protocol: credentials.client.protocol,
        };
        let client = authorization::Client {
            host: credentials.source.map(|source| source.to_canonical().to_string()).unwrap_or_default(),
            id: credentials.client.id,
            name: credentials.client.name.into(),
            kind: kind.into(),
            client_type: client_type.into(),
            nonce: nonce.into(),
            ..authorization::Client::default()
        };
        let mut caller = Self {
            connection_id: credentials.client.id,
            client,
            connect,
            standing: Standing {
                name: Name::Unknown,
                source: credentials.source,
                connection_type: credentials.connection_type,
                proxy,
                name_tag: String::new(),
                tags: Vec::new(),
            },
            proxy_required: false,
        };
        caller.name();
        caller
    }

    /// Whoever has shown these credentials, in the place of somebody who presents nothing.
    pub(crate) fn stand_in(mut self, name: &Name, password: &str) -> Self {
        match name {
            Name::Nkey(key) => self.connect.nkey.clone_from(key),
            Name::User(name) => {
                self.connect.user.clone_from(name);
                self.connect.pass = password.into();
            }
            Name::Token | Name::Unknown => {}
        }
        self.name();
        self
    }

    /// The same with the token that it came with.
    pub(crate) fn with_token(mut self, token: String, subject: &str, name: &str, tags: &[String]) -> Self {
        self.connect.jwt = token;
        if self.connect.nkey.is_empty() && self.connect.user.is_empty() {
            self.client.user = subject.into();
        }
        self.client.name_tag = name.into();
        self.client.tags = tags.to_vec();
        self.standing.name_tag = name.into();
        self.standing.tags = tags.to_vec();
        self
    }

    /// As whom the client came, by what it has said.
    fn name(&mut self) {
        self.standing.name = Name::presented(&Credentials {
            nkey: &self.connect.nkey,
            user: &self.connect.user,
            token: &self.connect.auth_token,
            ..Credentials::default()
        });
        self.client.user = self.standing.name.authorized_user().into();
    }
}

/// What monitoring calls a connection, and its protocol.
fn kind(how: ConnectionType) -> (&'static str, &'static str) {
    match how {
        ConnectionType::Standard | ConnectionType::InProcess => ("Client", "nats"),
        ConnectionType::Websocket => ("Client", "websocket"),
        ConnectionType::Mqtt | ConnectionType::MqttWs => ("Client", "mqtt"),
        ConnectionType::Leafnode | ConnectionType::LeafnodeWs => ("Leafnode", ""),
    }
}

/// What is asked of a service.
#[derive(Debug)]
pub struct Question {
    /// Where the service listens.
    pub account: Arc<str>,
    /// In whose name: the configured issuer, or the account itself.
    pub subject: String,
    /// The service's curve key, to speak with it in secret.
    pub xkey: Option<String>,
    /// Who wants to come in.
    pub caller: Caller,
    /// The account that the client would be in without the service, if it has shown enough for one.
    pub own_account: Option<Arc<str>>,
    /// What the configuration says; none where operators are trusted, and the account's token says it.
    pub delegation: Option<Arc<Delegation>>,
}

impl Question {
    /// The request, to be signed by the server. `user_nkey` is a key made for it; `expires` is in seconds since 1970.
    pub fn request(
        &self,
        server: Server,
        user_nkey: &str,
        tls: Option<Tls>,
        expires: i64,
    ) -> Claims<Request> {
        let mut claims = Claims::<Request>::about(self.subject.clone());
        claims.data.audience = REQUEST_AUDIENCE.into();
        claims.data.expires = expires;
        claims.nats.server = server;
        claims.nats.user_nkey = user_nkey.into();
        claims.nats.client = self.caller.client.clone();
        claims.nats.connect = self.caller.connect.clone();
        claims.nats.tls = tls;
        claims
    }
}

/// What a service has said of somebody who was let in, and what that is judged by.
#[derive(Clone, PartialEq, Eq)]
pub struct Said {
    /// The user's token.
    pub token: String,
    /// Where the service listens.
    pub account: Arc<str>,
    /// As the client came.
    pub standing: Standing,
}

/// Who has the token need not be the user, but it is nobody's business.
impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").field("account", &self.account).finish_non_exhaustive()
    }
}
