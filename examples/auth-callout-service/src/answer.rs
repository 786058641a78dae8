//! Who may come in: from a question to an answer.

use std::collections::HashMap;

use nkeys::KeyPair;
use sonata_jwt::authorization::{REQUEST_AUDIENCE, Request, Response};
use sonata_jwt::claims::Claims;
use sonata_jwt::token::{self, TokenError};
use sonata_jwt::user::{User, UserLimits};
use sonata_jwt::validation::Validate;
use subtle::ConstantTimeEq;

use crate::config::UserConf;

/// Who asks, and about whom.
pub struct Question(Claims<Request>);

impl Question {
    /// Reads a question that a server has signed. Whether it is a server of yours is for you to know: its public key is
    /// [`Question::asked_by`], and only servers of the same cluster can publish here at all.
    ///
    /// # Errors
    /// It is not a question, or its time is over; `now` is in seconds since 1970.
    pub fn read(token: &str, now: i64) -> Result<Self, String> {
        let claims: Claims<Request> = token::decode(token).map_err(|error| error.to_string())?;
        let issues = claims.validate(now);
        if issues.is_blocking() {
            return Err(issues.to_string());
        }
        if claims.data.audience != REQUEST_AUDIENCE {
            return Err(format!("not for an authorization service but for {:?}", claims.data.audience));
        }
        Ok(Self(claims))
    }

    /// The public key of the server that asks.
    pub fn asked_by(&self) -> &str {
        &self.0.data.issuer
    }

    /// The name that the client has given.
    pub fn user(&self) -> &str {
        &self.0.nats.connect.user
    }

    /// Whom the table knows by the name and the password that the client has given.
    ///
    /// # Errors
    /// What the server's log and its listeners are told; the client only hears that it is not let in.
    pub fn decide<'a>(&self, users: &'a HashMap<String, UserConf>) -> Result<&'a UserConf, &'static str> {
        let given = &self.0.nats.connect;
        let user = users.get(&given.user).ok_or("no such user")?;
        let is_right = user.password.expose().as_bytes().ct_eq(given.pass.as_bytes());
        if is_right.into() { Ok(user) } else { Err("wrong password") }
    }

    /// The answer, signed: a user's token, or why there is none. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// The key is not one of an account.
    pub fn answer(
        &self,
        decision: Result<&UserConf, &str>,
        issuer: &KeyPair,
        now: i64,
    ) -> Result<String, TokenError> {
        let request = &self.0.nats;
        let mut response = Claims::<Response>::about(request.user_nkey.clone());
        response.data.audience.clone_from(&request.server.id);
        match decision {
            Ok(user) => response.nats.jwt = token::encode(self.claims(user, now), issuer, now)?,
            Err(why) => response.nats.error = why.to_owned(),
        }
        token::encode(response, issuer, now)
    }

    fn claims(&self, user: &UserConf, now: i64) -> Claims<User> {
        let mut claims = Claims::<User>::about(self.0.nats.user_nkey.clone());
        // The account, where the service stands in the server's configuration. Where operators are trusted it is the one
        // that signs.
        claims.data.audience.clone_from(&user.account);
        claims.data.name = self.user().to_owned();
        claims.data.expires = user.seconds.map_or(0, |seconds| now + i64::from(seconds));
        let mut limits = UserLimits::unlimited();
        limits.permissions.publish.allow.clone_from(&user.publish);
        limits.permissions.subscribe.allow.clone_from(&user.subscribe);
        claims.nats.limits = limits;
        claims
    }
}
