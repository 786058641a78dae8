//! What a service has answered, and what follows from it.
//!
//! Reading is bounded by the size of a token; whatever does not fit the question in every respect lets nobody in.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sonata_jwt::account::Account;
use sonata_jwt::authorization::Response;
use sonata_jwt::claims::Claims;
use sonata_jwt::source;
use sonata_jwt::token::{self, PREFIX, TOKEN_BYTES_MAX};
use sonata_jwt::user::{User, UserLimits};
use sonata_jwt::validation::Validate;
use sonata_jwt::window::{self, Window};
use sonata_jwt::xkey::SealError;

use super::error::CalloutError;
use super::{Caller, Delegation, Said, Standing, shielding};
use crate::permission::Permissions;
use crate::token::{
    Expiry, KnownAccount, Moment, TokenGrant, Trust, compile, connection_types, settle_scope,
};
use crate::user::{Identity, Name, Reason};

/// Bytes of an answer at most: a token, and what sealing it adds.
pub const ANSWER_BYTES_MAX: usize = TOKEN_BYTES_MAX + 128;

/// Any account is allowed.
const ANY_ACCOUNT: &str = "*";

/// Opens what is sealed.
pub type Open<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<u8>, SealError>;

/// What an answer must fit.
pub struct Expected<'a> {
    /// The key that was made for the question.
    pub user_nkey: &'a str,
    /// The server that asked.
    pub server_id: &'a str,
    /// Where the service listens.
    pub account: &'a str,
    /// None where the question was not sealed.
    pub open: Option<Open<'a>>,
    /// Who may sign an answer that is not sealed.
    pub signers: Signers<'a>,
}

/// Who may sign answers.
pub enum Signers<'a> {
    /// The configured issuer.
    Issuer(&'a str),
    /// The service's account, and its keys that this tells.
    Account(&'a dyn Fn(&str) -> bool),
}

impl Expected<'_> {
    /// What is sealed can only be from the service; of the rest it must be seen.
    fn check_signer(&self, response: &Claims<Response>) -> Result<(), CalloutError> {
        let signer = &response.data.issuer;
        let is_known = match self.signers {
            Signers::Issuer(issuer) => signer == issuer,
            Signers::Account(is_key) => {
                let account = &response.nats.issuer_account;
                if !account.is_empty() && account != self.account {
                    return Err(CalloutError::ResponseAccount(account.clone()));
                }
                signer == self.account || is_key(signer)
            }
        };
        if is_known { Ok(()) } else { Err(CalloutError::ResponseSignerUnknown) }
    }
}

/// What a service has said of a user, read and verified as far as the user alone shows.
#[derive(Debug)]
pub struct Answer {
    claims: Claims<User>,
    token: String,
}

impl Answer {
    /// Reads the body of an answer at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// It is not an answer to this question, or the service refuses.
    pub fn read(
        body: &[u8],
        expected: &Expected<'_>,
        caller: &Caller,
        now: i64,
    ) -> Result<Self, CalloutError> {
        let account = || expected.account.to_owned();
        if body.is_empty() {
            return Err(CalloutError::Empty(account()));
        }
        if body.len() > ANSWER_BYTES_MAX {
            return Err(CalloutError::TooLarge(body.len()));
        }
        let opened = match expected.open.filter(|_| !body.starts_with(PREFIX.as_bytes())) {
            Some(open) => Some(open(body).map_err(|why| CalloutError::Sealed(account(), why))?),
            None => None,
        };
        let text =
            std::str::from_utf8(opened.as_deref().unwrap_or(body)).map_err(|_| CalloutError::NotText)?;
        let response: Claims<Response> = token::decode(text).map_err(CalloutError::Response)?;
        if let Some(issue) = response.validate(now).all().first() {
            return Err(CalloutError::ResponseInvalid(issue.to_string()));
        }
        if response.data.subject != expected.user_nkey {
            return Err(CalloutError::NotForUser);
        }
        if response.data.audience != expected.server_id {
            return Err(CalloutError::NotForServer);
        }
        if opened.is_none() {
            expected.check_signer(&response)?;
        }
        if !response.nats.error.is_empty() {
            return Err(CalloutError::denied(&response.nats.error));
        }
        let answer = Self::of(response.nats.jwt)?;
        if caller.proxy_required && caller.standing.proxy.is_none() {
            return Err(CalloutError::ProxyRequired);
        }
        answer.check(&caller.standing, now)?;
        if answer.claims.data.subject != expected.user_nkey {
            let (wanted, found) = (expected.user_nkey.to_owned(), answer.claims.data.subject);
            return Err(CalloutError::OtherUser(wanted, found, account()));
        }
        Ok(answer)
    }

    /// What was said of somebody who is in already, as it is worth at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// It holds no longer.
    pub fn again(said: &Said, now: i64) -> Result<Self, CalloutError> {
        let answer = Self::of(said.token.clone())?;
        answer.check(&said.standing, now)?;
        Ok(answer)
    }

    fn of(token: String) -> Result<Self, CalloutError> {
        Ok(Self { claims: token::decode(&token).map_err(CalloutError::User)?, token })
    }

    fn check(&self, standing: &Standing, now: i64) -> Result<(), CalloutError> {
        if self.claims.nats.limits.proxy_required && standing.proxy.is_none() {
            return Err(CalloutError::ProxyRequired);
        }
        match self.claims.validate(now).all().first() {
            Some(issue) => Err(CalloutError::UserInvalid(issue.to_string())),
            None => Ok(()),
        }
    }

    /// Lets the user in where the service is configured. `knows` tells which accounts there are; `local` is where the
    /// hours of users are that name no place.
    ///
    /// # Errors
    /// Why not.
    pub fn admit_configured(
        self,
        delegation: &Delegation,
        standing: Standing,
        knows: impl FnOnce(&str) -> bool,
        now: Moment,
        local: &TimeZone,
    ) -> Result<Identity, CalloutError> {
        let account = || delegation.account.to_string();
        if !self.claims.nats.issuer_account.is_empty() {
            return Err(CalloutError::IssuerAccount(account()));
        }
        let issuer = &self.claims.data.issuer;
        if *issuer != delegation.issuer {
            return Err(CalloutError::Issuer(account(), delegation.issuer.clone(), issuer.clone()));
        }
        let name = self.claims.data.audience.clone();
        if !knows(&name) {
            return Err(CalloutError::AccountUnknown(name, account(), "account missing".into()));
        }
        let expiry = |claims: &Claims<User>, window| Expiry::of(claims, None, window, now);
        let target = Target { name: &name, default_permissions: None, expiry: &expiry };
        self.admit(&target, &delegation.account, standing, now, local)
    }

    /// The account that the user's token names, where operators are trusted.
    pub fn target(&self) -> &str {
        self.claims.account()
    }

    /// The same, if the service may put users there: `callout` is its account.
    ///
    /// # Errors
    /// The service may not put users there.
    pub fn account(&self, callout: &Claims<Account>) -> Result<&str, CalloutError> {
        let account = self.claims.account();
        let allowed = &callout.nats.authorization.allowed_accounts;
        let own = &callout.data.subject;
        let is_allowed = |name: &String| name == account || name == ANY_ACCOUNT;
        if account != own && !allowed.iter().any(is_allowed) {
            return Err(CalloutError::AccountNotAllowed(self.claims.data.issuer.clone(), own.clone()));
        }
        Ok(account)
    }

    /// Lets the user in where operators are trusted: into `target`, which is [`Answer::account`]. `callout` is the
    /// account of the service; `local` is where the hours of users are that name no place.
    ///
    /// # Errors
    /// Why not.
    pub fn admit_delegated(
        mut self,
        callout: &Arc<str>,
        target: &KnownAccount,
        standing: Standing,
        trust: &Trust,
        now: Moment,
        local: &TimeZone,
    ) -> Result<Identity, CalloutError> {
        let account = &target.claims;
        settle_scope(&mut self.claims, account, trust).map_err(|reason| match reason {
            Reason::SignerUnknown => CalloutError::UserSignerUnknown(self.claims.data.issuer.clone()),
            reason => CalloutError::Refused(reason),
        })?;
        if account.data.expires > 0 && account.data.expires <= now.unix() {
            return Err(CalloutError::Refused(Reason::AccountExpired));
        }
        if account.has_revoked(&self.claims) {
            return Err(CalloutError::Refused(Reason::TokenRevoked));
        }
        if self.claims.nats.limits.proxy_required && standing.proxy.is_none() {
            return Err(CalloutError::ProxyRequired);
        }
        let expiry = |claims: &Claims<User>, window| Expiry::of(claims, Some(account), window, now);
        let target = Target {
            name: &account.data.subject,
            default_permissions: target.default_permissions(),
            expiry: &expiry,
        };
        self.admit(&target, callout, standing, now, local)
    }

    fn admit(
        self,
        target: &Target<'_>,
        callout: &Arc<str>,
        standing: Standing,
        now: Moment,
        local: &TimeZone,
    ) -> Result<Identity, CalloutError> {
        let Self { claims, token } = self;
        let limits: &UserLimits = &claims.nats.limits;
        let account = || callout.to_string();
        let types = connection_types(&limits.allowed_connection_types);
        if !types.is_ok_and(|types| types.allow(standing.connection_type)) {
            return Err(CalloutError::ConnectionType(account()));
        }
        if !source::is_allowed(&limits.sources, standing.source) {
            return Err(CalloutError::Source(account()));
        }
        let timestamp = Timestamp::from_nanosecond(now.unix_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        let window = window::at(limits, timestamp, local);
        if window == Window::Closed {
            return Err(CalloutError::Time(account()));
        }
        let permissions = compile(&limits.permissions).map_err(CalloutError::Refused)?;
        let mut permissions = permissions.or_else(|| target.default_permissions.cloned());
        if *target.name == **callout {
            permissions = Some(shielding(permissions.as_deref()));
        }
        let expiry = (target.expiry)(&claims, window);
        let signed_by_key = !claims.nats.issuer_account.is_empty();
        let user = match claims.data.name.is_empty() {
            true => standing.name.clone(),
            false => Name::User(claims.data.name),
        };
        Ok(Identity {
            user,
            account: Some(target.name.into()),
            permissions,
            proxy: standing.proxy.clone(),
            token: Some(Arc::new(TokenGrant {
                token: String::new(),
                issuer: if signed_by_key { claims.data.issuer } else { target.name.into() },
                name: standing.name_tag.clone(),
                tags: standing.tags.clone(),
                subscriptions_max: limit(limits.limits.subs),
                payload_bytes_max: limit(limits.limits.payload),
                expires_ns: expiry.as_ref().map(|expiry| expiry.at_ns),
                is_account_expiry: expiry.is_some_and(|expiry| expiry.is_account),
                said: Some(Said { token, account: callout.clone(), standing }),
            })),
        })
    }
}

/// Where a user is to be.
struct Target<'a> {
    name: &'a str,
    default_permissions: Option<&'a Arc<Permissions>>,
    /// When the user must go.
    expiry: &'a dyn Fn(&Claims<User>, Window) -> Option<Expiry>,
}

/// Unlike in the token of a user who comes with it, 0 is no limit: services leave out what they do not limit.
fn limit(value: i64) -> Option<usize> {
    usize::try_from(value).ok().filter(|limit| *limit > 0)
}
