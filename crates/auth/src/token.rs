//! Users who come with a token: an operator vouches for an account, and the account for the user.
//!
//! [`Presented`] is what a client has shown, as far as it can be judged alone; [`Presented::admit`] is the rest, once
//! the account is known. Between the two lies finding the account, which may take a disk or a network and is for
//! whoever implements [`TokenJudge`]. The order of the checks is that of the reference; a client learns of none.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sonata_jwt::account::{Account, Signer};
use sonata_jwt::claims::Claims;
use sonata_jwt::permission as claimed;
use sonata_jwt::user::{User, UserLimits};
use sonata_jwt::validation::Validate;
use sonata_jwt::window::{self, Window};
use sonata_jwt::{source, template, token};

use crate::callout::{Caller, Question, Said, shielding};
use crate::check::Check;
use crate::connection_type::{ConnectionType, ConnectionTypes};
use crate::nkey;
use crate::permission::{PermissionRules, Permissions, ResponsePermission, SubjectAccess};
use crate::user::{Credentials, Identity, Name, Reason};

/// Decides on clients that come with a token. A server with operators has one, and nobody gets in without it.
pub trait TokenJudge: fmt::Debug + Send + Sync {
    /// Decides who a client is; `proxy` is the key of the trusted proxy that it came through.
    fn judge(&self, credentials: &Credentials<'_>, proxy: Option<Arc<str>>) -> Check;

    /// Decides whether somebody stays whom the service of an account has let in.
    fn confirm(&self, said: &Said) -> Check;
}

/// Whose word counts.
#[derive(Debug, Default, Clone)]
pub struct Trust {
    /// Keys that vouch for accounts.
    pub operators: HashSet<String>,
    /// Those of them whose accounts must sign with signing keys.
    pub strict: HashSet<String>,
    /// The only accounts that may have users; none: any.
    pub pinned: Option<HashSet<String>>,
    /// The token of those who present none.
    pub sentinel: Option<String>,
}

/// An hour on two clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Nanoseconds since 1970.
    pub unix_ns: i64,
    /// On the clock that connections live by.
    pub clock_ns: u64,
}

impl Moment {
    /// Seconds since 1970.
    pub fn unix(&self) -> i64 {
        self.unix_ns.div_euclid(1_000_000_000)
    }
}

/// What a token says of an admitted user beyond permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenGrant {
    /// The token itself; empty where it alone is proof enough, since then it is a secret.
    pub token: String,
    /// The key that has signed it.
    pub issuer: String,
    /// The user's name, for people.
    pub name: String,
    /// The user's tags.
    pub tags: Vec<String>,
    /// Subscriptions per connection.
    pub subscriptions_max: Option<usize>,
    /// Bytes of a message.
    pub payload_bytes_max: Option<usize>,
    /// When the user must go, on the clock that connections live by.
    pub expires_ns: Option<u64>,
    /// It is the account's time that is over then, not the user's.
    pub is_account_expiry: bool,
    /// By whose word the user is here, if a service has let it in.
    pub said: Option<Said>,
}

/// An account whose token was verified and is from somebody trusted.
#[derive(Debug)]
pub struct KnownAccount {
    /// What the token says.
    pub claims: Claims<Account>,
    /// Permissions of users whose tokens say nothing.
    default_permissions: Option<Arc<Permissions>>,
}

impl KnownAccount {
    /// An account. The claims were validated, and their issuer is trusted.
    ///
    /// # Errors
    /// The default permissions name what is no subject.
    pub fn new(claims: Claims<Account>) -> Result<Self, Reason> {
        let default_permissions = compile(&claims.nats.default_permissions)?;
        Ok(Self { claims, default_permissions })
    }

    pub(crate) fn default_permissions(&self) -> Option<&Arc<Permissions>> {
        self.default_permissions.as_ref()
    }
}

/// What follows for a user with a good token.
#[derive(Debug)]
pub enum Admission {
    /// It may come in.
    Granted(Identity),
    /// The service of its account decides.
    Asked(Box<Question>),
}

/// A user as far as the token alone shows. Holds all that the rest of the checks needs.
pub struct Presented {
    claims: Claims<User>,
    nonce: String,
    /// Who shows it, and with the token.
    caller: Caller,
    /// Somebody who is in already.
    is_in: bool,
}

impl Presented {
    /// Reads what the client has shown: the form, the signature and the hour of its token.
    ///
    /// # Errors
    /// Why it may not come in.
    pub fn read(
        credentials: &Credentials<'_>,
        proxy: Option<Arc<str>>,
        trust: &Trust,
        now: Moment,
    ) -> Result<Self, Reason> {
        let decode = |token: &str| token::decode::<User>(token).map_err(|_| Reason::TokenInvalid);
        let (claims, token) = match (decode(credentials.jwt), &trust.sentinel) {
            (Ok(claims), _) => (claims, credentials.jwt),
            // What is no token of a user counts as none.
            (Err(_), Some(sentinel)) => (decode(sentinel)?, sentinel.as_str()),
            (Err(_), None) if credentials.jwt.is_empty() => return Err(Reason::TokenMissing),
            (Err(reason), None) => return Err(reason),
        };
        if claims.nats.limits.proxy_required && proxy.is_none() {
            return Err(Reason::ProxyRequired);
        }
        let issues = claims.validate(now.unix());
        if issues.is_blocking() {
            return Err(if issues.has_errors() { Reason::TokenInvalid } else { Reason::TokenExpired });
        }
        if trust.pinned.as_ref().is_some_and(|pinned| !pinned.contains(claims.account())) {
            return Err(Reason::AccountNotPinned);
        }
        let caller = Caller::of(credentials, proxy).with_token(
            token.into(),
            &claims.data.subject,
            &claims.data.name,
            &claims.nats.meta.tags,
        );
        Ok(Self { nonce: credentials.nonce.into(), caller, claims, is_in: credentials.is_in })
    }

    /// The key of the account that the user belongs to.
    pub fn account(&self) -> &str {
        self.claims.account()
    }

    /// Decides, now that the account is known. `local` is where the hours of users are that name no place.
    ///
    /// # Errors
    /// Why the client may not come in.
    pub fn admit(
        mut self,
        account: &KnownAccount,
        trust: &Trust,
        now: Moment,
        local: &TimeZone,
    ) -> Result<Admission, Reason> {
        let claims = &account.claims;
        settle_scope(&mut self.claims, claims, trust)?;
        let standing = &self.caller.standing;
        if self.claims.nats.limits.proxy_required && standing.proxy.is_none() {
            return Err(Reason::ProxyRequired);
        }
        let limits = &self.claims.nats.limits;
        if claims.data.expires > 0 && claims.data.expires <= now.unix() {
            return Err(Reason::AccountExpired);
        }
        if limits.bearer && claims.nats.limits.account.disallow_bearer {
            return Err(Reason::BearerNotAllowed);
        }
        if !connection_types(&limits.allowed_connection_types)?.allow(standing.connection_type) {
            return Err(Reason::ConnectionTypeNotAllowed);
        }
        if !limits.bearer {
            self.check_signature()?;
        }
        if claims.has_revoked(&self.claims) {
            return Err(Reason::TokenRevoked);
        }
        if !source::is_allowed(&limits.sources, standing.source) {
            return Err(Reason::SourceNotAllowed);
        }
        let timestamp = Timestamp::from_nanosecond(now.unix_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        let window = window::at(limits, timestamp, local);
        if window == Window::Closed {
            return Err(Reason::TimeNotAllowed);
        }
        let external = &claims.nats.authorization;
        let is_own = external.auth_users.contains(&self.claims.data.subject);
        // Who came before there was a service stays, as in the reference.
        if external.is_on() && !is_own && !self.is_in {
            let own = claims.data.subject.as_str();
            return Ok(Admission::Asked(Box::new(Question {
                account: own.into(),
                subject: own.into(),
                xkey: Some(external.xkey.clone()).filter(|xkey| !xkey.is_empty()),
                caller: self.caller,
                own_account: Some(own.into()),
                delegation: None,
            })));
        }
        let mut permissions = compile(&limits.permissions)?.or_else(|| account.default_permissions.clone());
        if external.is_on() {
            permissions = Some(shielding(permissions.as_deref()));
        }
        let expiry = Expiry::of(&self.claims, Some(claims), window, now);
        let Caller { connect, standing, .. } = self.caller;
        Ok(Admission::Granted(Identity {
            user: Name::Nkey(self.claims.data.subject.clone()),
            account: Some(claims.data.subject.as_str().into()),
            permissions,
            proxy: standing.proxy,
            token: Some(Arc::new(TokenGrant {
                token: if limits.bearer { String::new() } else { connect.jwt },
                subscriptions_max: limit(limits.limits.subs),
                payload_bytes_max: limit(limits.limits.payload),
                expires_ns: expiry.as_ref().map(|expiry| expiry.at_ns),
                is_account_expiry: expiry.is_some_and(|expiry| expiry.is_account),
                issuer: self.claims.data.issuer,
                name: self.claims.data.name,
                tags: self.claims.nats.meta.tags,
                said: None,
            })),
        }))
    }

    fn check_signature(&self) -> Result<(), Reason> {
        let signature = &self.caller.connect.sig;
        if signature.is_empty() {
            return Err(Reason::SignatureMissing);
        }
        let signed = nkey::verify(&self.claims.data.subject, &self.nonce, signature);
        if signed { Ok(()) } else { Err(Reason::SignatureWrong) }
    }
}

/// Tokens of bearers are secrets.
impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").field("user", &self.claims.data.subject).finish_non_exhaustive()
    }
}

/// Finds the key that has signed a user's token. With a scope, that says what the user may do, and the token must not.
pub(crate) fn settle_scope(
    user: &mut Claims<User>,
    account: &Claims<Account>,
    trust: &Trust,
) -> Result<(), Reason> {
    if !trust.operators.contains(&account.data.issuer) {
        return Err(Reason::AccountNotTrusted);
    }
    let strict = trust.strict.contains(&account.data.issuer);
    match account.signer(&user.data.issuer, strict) {
        Signer::Plain => Ok(()),
        Signer::Unknown => Err(Reason::SignerUnknown),
        Signer::Scoped(_) if !user.nats.has_no_limits() => Err(Reason::ScopedUserHasLimits),
        Signer::Scoped(scope) => {
            let permissions = template::expand(&scope.template.permissions, user, account)
                .map_err(|_| Reason::TemplateInvalid)?;
            user.nats.limits = UserLimits { permissions, ..scope.template.clone() };
            Ok(())
        }
    }
}

/// When a user must go.
pub(crate) struct Expiry {
    pub(crate) at_ns: u64,
    pub(crate) is_account: bool,
}

impl Expiry {
    /// The first of: the user's time, the account's, and the end of the hours of the day.
    pub(crate) fn of(
        user: &Claims<User>,
        account: Option<&Claims<Account>>,
        window: Window,
        now: Moment,
    ) -> Option<Self> {
        let after = |seconds: i64| {
            let left_ns = i128::from(seconds) * 1_000_000_000 - i128::from(now.unix_ns);
            now.clock_ns.saturating_add(u64::try_from(left_ns.max(0)).unwrap_or(u64::MAX))
        };
        let said = |expires: i64| (expires > 0).then(|| after(expires));
        let account_expires = account.map_or(0, |account| account.data.expires);
        let closes = match window {
            Window::Open(left) => {
                Some(now.clock_ns.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)))
            }
            Window::Always | Window::Closed => None,
        };
        let candidates = [(said(user.data.expires), false), (closes, false), (said(account_expires), true)];
        candidates
            .into_iter()
            .filter_map(|(at_ns, is_account)| Some(Self { at_ns: at_ns?, is_account }))
            .min_by_key(|expiry| expiry.at_ns)
    }
}

/// -1, and whatever else is negative, is no limit.
fn limit(value: i64) -> Option<usize> {
    usize::try_from(value).ok()
}

/// Names that nobody here knows are passed over, unless there is no other.
pub(crate) fn connection_types(names: &[String]) -> Result<ConnectionTypes, Reason> {
    let known: Vec<ConnectionType> = names.iter().filter_map(|name| name.parse().ok()).collect();
    if known.is_empty() && !names.is_empty() {
        return Err(Reason::ConnectionTypeNotAllowed);
    }
    Ok(known.into_iter().collect())
}

/// None where nothing is restricted.
pub(crate) fn compile(permissions: &claimed::Permissions) -> Result<Option<Arc<Permissions>>, Reason> {
    if permissions.is_empty() {
        return Ok(None);
    }
    let access = |access: &claimed::Permission| {
        let (allow, deny) = (access.allow.clone(), access.deny.clone());
        (!access.is_empty()).then_some(SubjectAccess { allow, deny })
    };
    let rules = PermissionRules {
        publish: access(&permissions.publish),
        subscribe: access(&permissions.subscribe),
        allow_responses: permissions
            .responses
            .map(|responses| ResponsePermission { max: responses.max, ttl_ns: responses.ttl }),
    };
    Permissions::new(rules).map(|compiled| Some(Arc::new(compiled))).map_err(|_| Reason::TokenInvalid)
}
