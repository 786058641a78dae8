//! Who a client is: the table of users and the ways to prove to be one of them.
//!
//! [`Users`] is built once from plain data and never changes; a reload builds another. [`Users::authenticate`] takes
//! what a client presented and answers with an [`Identity`] or a [`Reason`]. Ways of proof, in order: a trusted
//! proxy's signature (which only adds to the others), nkey and signature, a certificate mapped to a user, user and
//! password, and the single token or user of servers without a table. Where operators are trusted there is one way
//! only: a user's token, of which a [`TokenJudge`] decides. Where a service is configured ([`Delegation`]) it has the
//! last word.
//!
//! A leaf node listener with users of its own is another `Users`.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::callout::{Caller, Callout, Delegation, Said};
use crate::certificate::{Candidate, PeerCertificate};
use crate::check::{Check, Outcome, SlowCheck};
use crate::connection_type::{ConnectionType, ConnectionTypes};
use crate::distinguished_name::DistinguishedName;
use crate::nkey;
use crate::password::{Comparison, Secret};
use crate::permission::Permissions;
use crate::token::{TokenGrant, TokenJudge};

/// Everything [`Users`] are made of.
#[derive(Debug, Default, Clone)]
pub struct UsersConfig {
    /// Users with a name; the last of several with the same name counts.
    pub users: Vec<UserEntry>,
    /// Users with an nkey; the last of several with the same key counts.
    pub nkey_users: Vec<NkeyEntry>,
    /// How to get in on listeners that say nothing else.
    pub login: Login,
    /// What the WebSocket listener says instead (its `authorization` or `no_auth_user`).
    pub websocket_login: Option<Login>,
    /// What the MQTT listener says instead, over TCP and WebSocket.
    pub mqtt_login: Option<Login>,
    /// Connection types whose listener maps certificates to users (`verify_and_map`).
    pub certificate_mapping: ConnectionTypes,
    /// Public keys of trusted proxies.
    pub trusted_proxies: Vec<String>,
    /// Whether clients without a user in the table must come through a trusted proxy.
    pub proxy_required: bool,
    /// Who decides on tokens; none where no operator is trusted.
    pub judge: Option<Arc<dyn TokenJudge>>,
    /// The service that decides on users, and how it is asked; none where an operator is trusted.
    pub callout: Option<(Arc<Delegation>, Arc<dyn Callout>)>,
}

/// A user with a name.
#[derive(Debug, Clone)]
pub struct UserEntry {
    /// The name, or what a certificate says in place of one.
    pub name: String,
    /// The password; may be empty for users known by certificate.
    pub password: Secret,
    /// What applies to the user.
    pub grant: Grant,
}

/// A user with an nkey.
#[derive(Debug, Clone)]
pub struct NkeyEntry {
    /// The public user key.
    pub nkey: String,
    /// What applies to the user.
    pub grant: Grant,
}

/// What applies to a user once proven.
#[derive(Debug, Default, Clone)]
pub struct Grant {
    /// The account's name; none is the global account.
    pub account: Option<Arc<str>>,
    /// None: no restriction.
    pub permissions: Option<Arc<Permissions>>,
    /// How the user may connect.
    pub connection_types: ConnectionTypes,
    /// Whether the user must come through a trusted proxy.
    pub proxy_required: bool,
}

/// How to get in without a table of users, and as whom if nothing is presented.
#[derive(Debug, Default, Clone)]
pub struct Login {
    /// A user's name or nkey, for clients that present nothing.
    pub no_auth_user: Option<String>,
    /// The one secret of a server without users.
    pub single: Option<SingleLogin>,
}

/// The one secret of a server without users.
#[derive(Debug, Clone)]
pub enum SingleLogin {
    /// A token.
    Token(Secret),
    /// A user's name and password.
    User(String, Secret),
}

/// What a client presented. An empty text is one that was not sent.
#[derive(Debug, Default, Clone, Copy)]
pub struct Credentials<'a> {
    /// `user` of CONNECT.
    pub user: &'a str,
    /// `pass` of CONNECT.
    pub pass: &'a str,
    /// `auth_token` of CONNECT.
    pub token: &'a str,
    /// `nkey` of CONNECT, a public user key.
    pub nkey: &'a str,
    /// `sig` of CONNECT: the nonce signed with the nkey.
    pub sig: &'a str,
    /// `jwt` of CONNECT: a user's token.
    pub jwt: &'a str,
    /// `proxy_sig` of CONNECT: the nonce signed by a proxy.
    pub proxy_sig: &'a str,
    /// The nonce that was sent in INFO.
    pub nonce: &'a str,
    /// The certificate that TLS has verified.
    pub certificate: Option<&'a PeerCertificate>,
    /// How the client is connected.
    pub connection_type: ConnectionType,
    /// Where from; none from within the process.
    pub source: Option<IpAddr>,
    /// What is no proof of anything.
    pub client: ClientFacts<'a>,
    /// The client is in already and only its right to stay is in question: no service is asked about it.
    pub is_in: bool,
}

/// What is known of a client, and what it says of itself in CONNECT.
#[derive(Debug, Default, Clone, Copy)]
pub struct ClientFacts<'a> {
    /// The number of the connection.
    pub id: u64,
    /// Name of the connection.
    pub name: &'a str,
    /// Library language.
    pub lang: &'a str,
    /// Library version.
    pub version: &'a str,
    /// Protocol version.
    pub protocol: i64,
}

/// The table of users of a server, and the other ways in.
#[derive(Debug)]
pub struct Users {
    named: HashMap<String, User>,
    /// Names of users that are distinguished names, sorted by text.
    distinguished: Vec<(DistinguishedName, String)>,
    nkeys: HashMap<String, Grant>,
    login: Login,
    websocket_login: Option<Login>,
    mqtt_login: Option<Login>,
    certificate_mapping: ConnectionTypes,
    trusted_proxies: Vec<Arc<str>>,
    proxy_required: bool,
    judge: Option<Arc<dyn TokenJudge>>,
    callout: Option<(Arc<Delegation>, Arc<dyn Callout>)>,
    /// A bcrypt hash to compare with when there is no such user, so that the time taken does not tell.
    decoy: Option<Secret>,
}

#[derive(Debug)]
struct User {
    password: Secret,
    grant: Grant,
}

/// Who a client has proven to be.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user.
    pub user: Name,
    /// The account's name; none is the global account.
    pub account: Option<Arc<str>>,
    /// None: no restriction.
    pub permissions: Option<Arc<Permissions>>,
    /// The public key of the trusted proxy that the client came through.
    pub proxy: Option<Arc<str>>,
    /// What the user's token says, if there is one.
    pub token: Option<Arc<TokenGrant>>,
}

/// The name of a user, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A public nkey.
    Nkey(String),
    /// A user's name.
    User(String),
    /// Whoever knows the token.
    Token,
    /// Nobody in particular.
    Unknown,
}

impl Name {
    /// The text of `authorized_user` in `/connz` and of `user` in events; a token is never shown.
    pub fn authorized_user(&self) -> &str {
        match self {
            Self::Nkey(text) | Self::User(text) => text,
            Self::Token => "[REDACTED]",
            Self::Unknown => "",
        }
    }

    /// What a client says to be, whether true or not.
    pub fn presented(credentials: &Credentials<'_>) -> Self {
        match credentials {
            Credentials { nkey, .. } if !nkey.is_empty() => Self::Nkey((*nkey).into()),
            Credentials { user, .. } if !user.is_empty() => Self::User((*user).into()),
            Credentials { token, .. } if !token.is_empty() => Self::Token,
            _ => Self::Unknown,
        }
    }
}

/// The form of log lines: `User "alice"`.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nkey(key) => write!(f, "Nkey {key:?}"),
            Self::User(name) => write!(f, "User {name:?}"),
            Self::Token => f.write_str("Token \"[REDACTED]\""),
            Self::Unknown => f.write_str("User \"N/A\""),
        }
    }
}

/// Why a client may not come in. For logs: a client is never told more than `Authorization Violation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing was presented that this server takes.
    NothingPresented,
    /// No user has this name.
    UnknownUser,
    /// No user has this nkey.
    UnknownNkey,
    /// The user may not connect in this way.
    ConnectionTypeNotAllowed,
    /// The password or token is wrong.
    WrongPassword,
    /// There is an nkey but no signature.
    SignatureMissing,
    /// The signature is not by the owner of the nkey over this connection's nonce.
    SignatureWrong,
    /// A certificate is needed, and the client has none or one that names nobody.
    CertificateMissing,
    /// No user has a name that stands in the certificate.
    CertificateUnknown,
    /// The user is known by certificate only and came without.
    CertificateRequired,
    /// The signature of the proxy is not by a trusted one.
    ProxyNotTrusted,
    /// The user must come through a trusted proxy.
    ProxyRequired,
    /// A token is needed.
    TokenMissing,
    /// The token is not one of a user, its issuer has not signed it, or what it says makes no sense.
    TokenInvalid,
    /// The token holds no longer, or not yet.
    TokenExpired,
    /// The account of the user may have no users here.
    AccountNotPinned,
    /// The account of the user cannot be found.
    AccountUnknown,
    /// The account's token is not from somebody who is trusted, or holds no longer.
    AccountNotTrusted,
    /// The user's token is signed by somebody who may not sign for the account.
    SignerUnknown,
    /// The signing key says what its users may do, and the token says it too.
    ScopedUserHasLimits,
    /// What the signing key says cannot be filled in for this user.
    TemplateInvalid,
    /// The account's time is over.
    AccountExpired,
    /// The account's users must prove to have their keys.
    BearerNotAllowed,
    /// The account has revoked the token.
    TokenRevoked,
    /// The user may not come from there.
    SourceNotAllowed,
    /// The user may not come at this hour.
    TimeNotAllowed,
    /// The service does not let the user in, or its answer is not one to be taken.
    CalloutRefused,
    /// The account that the user has without the service is full.
    AccountFull,
    /// The service did not answer in time, or could not be asked.
    CalloutUnanswered,
}

impl Reason {
    /// The reason with which the connection is closed, as `/connz` shows it.
    pub fn closed_reason(self) -> &'static str {
        match self {
            Self::ProxyNotTrusted => "Proxy Not Trusted",
            Self::ProxyRequired => "Proxy Required",
            Self::AccountFull => "Maximum Account Connections Exceeded",
            _ => "Authentication Failure",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingPresented => "no credentials that this server takes",
            Self::UnknownUser => "unknown user",
            Self::UnknownNkey => "unknown nkey",
            Self::ConnectionTypeNotAllowed => "connection type not allowed",
            Self::WrongPassword => "wrong password or token",
            Self::SignatureMissing => "signature missing",
            Self::SignatureWrong => "signature not verified",
            Self::CertificateMissing => "user required in cert, none found",
            Self::CertificateUnknown => "user in cert not found",
            Self::CertificateRequired => "user requires a client certificate",
            Self::ProxyNotTrusted => "proxy is not trusted",
            Self::ProxyRequired => "proxy connection required",
            Self::TokenMissing => "authentication requires a user JWT",
            Self::TokenInvalid => "user JWT not valid",
            Self::TokenExpired => "user JWT no longer valid, or not yet",
            Self::AccountNotPinned => "account not listed as operator pinned account",
            Self::AccountUnknown => "account JWT lookup error",
            Self::AccountNotTrusted => "account JWT not signed by trusted operator",
            Self::SignerUnknown => "user JWT issuer is not known",
            Self::ScopedUserHasLimits => "scoped users require no permissions or limits set",
            Self::TemplateInvalid => "user JWT generated invalid permissions",
            Self::AccountExpired => "account JWT has expired",
            Self::BearerNotAllowed => "account does not allow bearer tokens",
            Self::TokenRevoked => "user authentication revoked",
            Self::SourceNotAllowed => "bad source address",
            Self::TimeNotAllowed => "outside connect times",
            Self::CalloutRefused => "refused by auth callout",
            Self::AccountFull => "maximum account active connections exceeded",
            Self::CalloutUnanswered => "no answer to auth callout",
        })
    }
}

impl Users {
    /// Builds the table.
    pub fn new(config: UsersConfig) -> Self {
        let entry = |user: UserEntry| (user.name, User { password: user.password, grant: user.grant });
        let named: HashMap<String, User> = config.users.into_iter().map(entry).collect();
        let mut distinguished: Vec<_> =
            named.keys().filter_map(|name| Some((DistinguishedName::parse(name)?, name.clone()))).collect();
        distinguished.sort_by(|(_, one), (_, two)| one.cmp(two));
        let decoy = named.values().map(|user| &user.password).find(|password| password.is_bcrypt()).cloned();
        Self {
            named,
            distinguished,
            nkeys: config.nkey_users.into_iter().map(|user| (user.nkey, user.grant)).collect(),
            login: config.login,
            websocket_login: config.websocket_login,
            mqtt_login: config.mqtt_login,
            certificate_mapping: config.certificate_mapping,
            trusted_proxies: config.trusted_proxies.into_iter().map(Arc::from).collect(),
            proxy_required: config.proxy_required,
            judge: config.judge,
            callout: config.callout,
            decoy,
        }
    }

    /// Whether a client that connects in this way must present anything (or be the `no_auth_user`).
    pub fn is_required(&self, connection_type: ConnectionType) -> bool {
        let overridden = self.own_login(connection_type).is_some();
        overridden
            || self.judge.is_some()
            || self.callout.is_some()
            || !self.named.is_empty()
            || !self.nkeys.is_empty()
            || self.login.single.is_some()
    }

    /// Who a client is that presents nothing.
    pub fn no_auth_user(&self, connection_type: ConnectionType) -> Option<&str> {
        // A leaf node over WebSocket uses that listener's user, but the other ways in are those of the server.
        let websocket = self.websocket_login.as_ref().and_then(|login| login.no_auth_user.as_deref());
        match connection_type {
            ConnectionType::LeafnodeWs if websocket.is_some() => websocket,
            _ => self.login(connection_type).no_auth_user.as_deref(),
        }
    }

    /// Whether INFO must hold a nonce, since something that clients may present is a signature of it.
    pub fn needs_nonce(&self) -> bool {
        self.judge.is_some() || !self.nkeys.is_empty() || !self.trusted_proxies.is_empty()
    }

    /// Whether a password is configured in plain text, which deserves a warning.
    pub fn has_plaintext_password(&self) -> bool {
        let single = match &self.login.single {
            Some(SingleLogin::User(_, password)) => !password.is_empty() && !password.is_bcrypt(),
            Some(SingleLogin::Token(_)) | None => false,
        };
        single
            || self.named.values().any(|user| !user.password.is_bcrypt() && !self.is_certificate_only(user))
    }

    /// Decides who a client is.
    ///
    /// The answer comes at once unless a bcrypt hash is involved. If any user has one, then a name that is unknown
    /// takes as long to refuse as a wrong password does.
    pub fn authenticate(&self, credentials: &Credentials<'_>) -> Check {
        let proxy = match self.check_proxy(credentials) {
            Ok(proxy) => proxy,
            Err(reason) => return Check::refused(reason),
        };
        if !self.is_required(credentials.connection_type) {
            return Check::granted(Identity {
                user: Name::presented(credentials),
                account: None,
                permissions: None,
                proxy,
                token: None,
            });
        }
        if let Some(judge) = &self.judge {
            return judge.judge(credentials, proxy);
        }
        let found = self.find(credentials);
        let consider = self.consider(credentials, &found, proxy.clone());
        self.check_found(credentials, found, proxy).then(consider)
    }

    /// What follows from what the table says: that itself, or a question to the service.
    fn consider(
        &self,
        credentials: &Credentials<'_>,
        found: &Result<Found<'_>, Reason>,
        proxy: Option<Arc<str>>,
    ) -> impl FnOnce(Outcome) -> Check + Send + use<> {
        let is_in = credentials.is_in;
        let asked = self.callout.clone().map(|callout| {
            let caller = Caller::of(credentials, proxy);
            let caller = match found {
                Ok(Found::NoAuthUser(name, _)) => {
                    let user = self.named.get(name.authorized_user());
                    caller.stand_in(name, user.map_or("", |user| user.password.expose()))
                }
                _ => caller,
            };
            (callout, self.claimed(credentials, found), caller)
        });
        move |outcome| match asked {
            // Who stays is decided by the table alone; a service has its say when somebody comes.
            Some(((delegation, _), ..)) if is_in => Check::Decided(delegation.shielded(outcome)),
            Some(((delegation, callout), claimed, caller)) => {
                delegation.decide(outcome, &claimed, caller, &callout)
            }
            None => Check::Decided(outcome),
        }
    }

    /// The configured user whom a client claims to be.
    fn claimed(&self, credentials: &Credentials<'_>, found: &Result<Found<'_>, Reason>) -> Name {
        match found {
            Ok(Found::Nkey(nkey, _)) => Name::Nkey((*nkey).into()),
            Ok(Found::User(name, _)) => Name::User((*name).into()),
            Ok(Found::NoAuthUser(name, _)) => name.clone(),
            Ok(Found::Nobody) => match &self.login(credentials.connection_type).single {
                Some(SingleLogin::User(name, _)) if name == credentials.user => Name::User(name.clone()),
                _ => Name::Unknown,
            },
            // Whoever it is, it is somebody: only not in this way.
            Err(Reason::ConnectionTypeNotAllowed) => Name::presented(credentials),
            Err(_) => Name::Unknown,
        }
    }

    /// What the table says, whoever else has a word.
    fn check_found(
        &self,
        credentials: &Credentials<'_>,
        found: Result<Found<'_>, Reason>,
        proxy: Option<Arc<str>>,
    ) -> Check {
        match found {
            Ok(Found::Nkey(nkey, grant)) => self.check_nkey(credentials, nkey, grant, proxy),
            Ok(Found::User(name, user)) => self.check_user(credentials, name, user, proxy),
            Ok(Found::NoAuthUser(name, grant)) => grant.admit(name, proxy),
            Ok(Found::Nobody) => self.check_single(credentials, proxy),
            Err(Reason::UnknownUser) => self.refuse_slowly(credentials),
            Err(reason) => Check::refused(reason),
        }
    }

    /// Whether it may take as long as a service takes to decide who a client is.
    pub fn may_ask(&self) -> bool {
        self.judge.is_some() || self.callout.is_some()
    }

    /// Decides whether somebody stays whom a service has let in. It is not asked again: its word holds until the time
    /// that it has said, unless the account goes or says otherwise.
    pub fn confirm(&self, said: &Said) -> Check {
        match (&self.judge, &self.callout) {
            (Some(judge), _) => judge.confirm(said),
            (None, Some((delegation, callout))) => callout.confirm(delegation, said),
            (None, None) => Check::refused(Reason::CalloutRefused),
        }
    }

    /// Decides who a client is that `previous` has let in with these credentials. A password is not compared again
    /// with a hash that is configured as it was; anything else is decided as by [`Users::authenticate`].
    pub fn readmit(&self, previous: &Self, credentials: &Credentials<'_>) -> Check {
        let found = self.find(credentials);
        if self.judge.is_none()
            && let (Ok(Found::User(name, user)), Ok(Found::User(_, before))) =
                (&found, previous.find(credentials))
            && user.password.is_bcrypt()
            && user.password.is_configured_as(&before.password)
            && let Ok(proxy) = self.check_proxy(credentials)
        {
            let consider = self.consider(credentials, &found, proxy.clone());
            return consider(user.grant.outcome(Name::User((*name).into()), proxy));
        }
        self.authenticate(credentials)
    }

    /// The key of the trusted proxy that signed the nonce, if one is configured and there is a signature.
    fn check_proxy(&self, credentials: &Credentials<'_>) -> Result<Option<Arc<str>>, Reason> {
        if credentials.proxy_sig.is_empty() || self.trusted_proxies.is_empty() {
            return Ok(None);
        }
        let signed = |key: &&Arc<str>| nkey::verify(key, credentials.nonce, credentials.proxy_sig);
        self.trusted_proxies.iter().find(signed).cloned().map(Some).ok_or(Reason::ProxyNotTrusted)
    }

    /// Whom the client claims to be.
    fn find<'a>(&'a self, credentials: &Credentials<'a>) -> Result<Found<'a>, Reason> {
        let how = credentials.connection_type;
        let nothing =
            credentials.user.is_empty() && credentials.pass.is_empty() && credentials.token.is_empty();
        let no_auth_user = self.no_auth_user(how).filter(|_| nothing);

        if let Some((key, grant)) = no_auth_user
            .filter(|_| credentials.nkey.is_empty())
            .and_then(|name| self.nkeys.get_key_value(name))
        {
            return grant.checked_for(how).map(|grant| Found::NoAuthUser(Name::Nkey(key.clone()), grant));
        }
        if !self.nkeys.is_empty() && !credentials.nkey.is_empty() {
            let (key, grant) = self.nkeys.get_key_value(credentials.nkey).ok_or(Reason::UnknownNkey)?;
            return grant.checked_for(how).map(|grant| Found::Nkey(key, grant));
        }
        if self.named.is_empty() {
            return Ok(Found::Nobody);
        }
        if self.certificate_mapping.contains(how) {
            return self.find_by_certificate(credentials);
        }
        if let Some((name, user)) = no_auth_user.and_then(|name| self.named.get_key_value(name)) {
            return user
                .grant
                .checked_for(how)
                .map(|grant| Found::NoAuthUser(Name::User(name.clone()), grant));
        }
        if credentials.user.is_empty() {
            return Ok(Found::Nobody);
        }
        let (name, user) = self.named.get_key_value(credentials.user).ok_or(Reason::UnknownUser)?;
        user.grant.checked_for(how).map(|_| Found::User(name, user))
    }

    fn find_by_certificate<'a>(&'a self, credentials: &Credentials<'a>) -> Result<Found<'a>, Reason> {
        let certificate = credentials.certificate.filter(|certificate| certificate.names_owner());
        let certificate = certificate.ok_or(Reason::CertificateMissing)?;
        let named = |name: &str| {
            let (name, user) = self.named.get_key_value(name)?;
            let allowed = user.grant.connection_types.allow(credentials.connection_type);
            (allowed && !name.is_empty()).then_some(Found::User(name, user))
        };
        let found = certificate.verify_and_map(|candidate| match candidate {
            Candidate::Email(text)
            | Candidate::Dns(text)
            | Candidate::Uri(text)
            | Candidate::Subject(text) => named(text),
            Candidate::Name(subject) => {
                let same = self.distinguished.iter().filter(|(name, _)| name.equals(subject));
                let reordered =
                    self.distinguished.iter().filter(|(name, _)| name.equals_in_any_order(subject));
                same.chain(reordered).find_map(|(_, name)| named(name))
            }
        });
        found.ok_or(Reason::CertificateUnknown)
    }

    fn check_nkey(
        &self,
        credentials: &Credentials<'_>,
        nkey: &str,
        grant: &Grant,
        proxy: Option<Arc<str>>,
    ) -> Check {
        if self.no_auth_user(credentials.connection_type) != Some(nkey) {
            if credentials.sig.is_empty() {
                return Check::refused(Reason::SignatureMissing);
            }
            if !nkey::verify(nkey, credentials.nonce, credentials.sig) {
                return Check::refused(Reason::SignatureWrong);
            }
        }
        grant.admit(Name::Nkey(nkey.into()), proxy)
    }

    fn check_user(
        &self,
        credentials: &Credentials<'_>,
        name: &str,
        user: &User,
        proxy: Option<Arc<str>>,
    ) -> Check {
        let mapped = self.certificate_mapping.contains(credentials.connection_type);
        let no_auth_user = self.no_auth_user(credentials.connection_type) == Some(name);
        if !mapped && !no_auth_user && user.password.is_empty() && self.is_certificate_only(user) {
            return Check::refused(Reason::CertificateRequired);
        }
        let outcome = user.grant.outcome(Name::User(name.into()), proxy);
        compare(&user.password, credentials.pass, outcome)
    }

    /// Whether a user has no password but may be known by certificate on some listener.
    fn is_certificate_only(&self, user: &User) -> bool {
        let mapped = |one: &ConnectionType| {
            self.certificate_mapping.contains(*one) && user.grant.connection_types.allow(*one)
        };
        user.password.is_empty() && ConnectionType::ALL.iter().any(mapped)
    }

    /// The ways in that do not need a table.
    fn check_single(&self, credentials: &Credentials<'_>, proxy: Option<Arc<str>>) -> Check {
        if self.proxy_required && proxy.is_none() {
            return Check::refused(Reason::ProxyRequired);
        }
        let identity = |user| Identity { user, account: None, permissions: None, proxy, token: None };
        match &self.login(credentials.connection_type).single {
            Some(SingleLogin::Token(token)) => {
                compare(token, credentials.token, Outcome::Granted(identity(Name::Token)))
            }
            Some(SingleLogin::User(name, password)) => {
                let outcome = if name == credentials.user {
                    Outcome::Granted(identity(Name::User(name.clone())))
                } else {
                    Outcome::Refused(Reason::UnknownUser)
                };
                compare(password, credentials.pass, outcome)
            }
            None => Check::refused(Reason::NothingPresented),
        }
    }

    fn refuse_slowly(&self, credentials: &Credentials<'_>) -> Check {
        let refused = Outcome::Refused(Reason::UnknownUser);
        match &self.decoy {
            Some(decoy) => compare(decoy, credentials.pass, refused),
            None => Check::Decided(refused),
        }
    }

    fn login(&self, connection_type: ConnectionType) -> &Login {
        self.own_login(connection_type).unwrap_or(&self.login)
    }

    /// The login of a listener that has its own.
    fn own_login(&self, connection_type: ConnectionType) -> Option<&Login> {
        match connection_type {
            ConnectionType::Websocket => self.websocket_login.as_ref(),
            ConnectionType::Mqtt | ConnectionType::MqttWs => self.mqtt_login.as_ref(),
            ConnectionType::Standard
            | ConnectionType::InProcess
            | ConnectionType::Leafnode
            | ConnectionType::LeafnodeWs => None,
        }
    }
}

/// Whom a client claims to be, and how the claim is to be proven.
enum Found<'a> {
    /// By signature.
    Nkey(&'a str, &'a Grant),
    /// By password.
    User(&'a str, &'a User),
    /// Not at all: nothing was presented.
    NoAuthUser(Name, &'a Grant),
    /// No user of the table; perhaps the single one.
    Nobody,
}

impl Grant {
    fn checked_for(&self, how: ConnectionType) -> Result<&Self, Reason> {
        if self.connection_types.allow(how) { Ok(self) } else { Err(Reason::ConnectionTypeNotAllowed) }
    }

    fn admit(&self, user: Name, proxy: Option<Arc<str>>) -> Check {
        Check::Decided(self.outcome(user, proxy))
    }

    /// What a proven user gets: refusal only for want of a proxy.
    fn outcome(&self, user: Name, proxy: Option<Arc<str>>) -> Outcome {
        if self.proxy_required && proxy.is_none() {
            return Outcome::Refused(Reason::ProxyRequired);
        }
        let (account, permissions) = (self.account.clone(), self.permissions.clone());
        Outcome::Granted(Identity { user, account, permissions, proxy, token: None })
    }
}

/// `outcome` if the password is right.
fn compare(configured: &Secret, presented: &str, outcome: Outcome) -> Check {
    match configured.compare(presented) {
        Comparison::Equal(true) => Check::Decided(outcome),
        Comparison::Equal(false) => Check::refused(Reason::WrongPassword),
        Comparison::Slow(comparison) => Check::Slow(SlowCheck::Compute(Box::new(move || {
            if comparison.run() { Check::Decided(outcome) } else { Check::refused(Reason::WrongPassword) }
        }))),
    }
}
