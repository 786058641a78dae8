//! Why the word of a service lets nobody in.

use std::fmt;

use sonata_jwt::token::TokenError;
use sonata_jwt::xkey::SealError;

use crate::user::Reason;

/// Bytes of a service's own words that are repeated. They go into logs and events.
const WORDS_BYTES_MAX: usize = 1024;

/// See the module. The sentences are those of the reference, which listeners of `$SYS.ACCOUNT.CLIENT.AUTH.ERR` read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CalloutError {
    /// Nobody answered in time.
    Unanswered,
    /// The answer is empty; where the service listens.
    Empty(String),
    /// The answer cannot be opened; where the service listens.
    Sealed(String, SealError),
    /// The answer is not text.
    NotText,
    /// The answer is larger than any token; its bytes.
    TooLarge(usize),
    /// The answer is no token of the kind.
    Response(TokenError),
    /// What the answer says makes no sense.
    ResponseInvalid(String),
    /// The answer is about somebody else.
    NotForUser,
    /// The answer is for another server.
    NotForServer,
    /// The service refuses; its words.
    Denied(String),
    /// Somebody has signed the answer who may not.
    ResponseSignerUnknown,
    /// The answer is in the name of an account that is not the service's; which.
    ResponseAccount(String),
    /// What the service says of the user is no user's token.
    User(TokenError),
    /// The user must come through a trusted proxy.
    ProxyRequired,
    /// What the user's token says makes no sense, or holds no longer.
    UserInvalid(String),
    /// The user's token is about another: wanted, found, and where the service listens.
    OtherUser(String, String, String),
    /// The user may not come at this hour.
    Time(String),
    /// The user may not come in this way.
    ConnectionType(String),
    /// The user may not come from there.
    Source(String),
    /// The user's token names an account, which only operators' users do.
    IssuerAccount(String),
    /// Somebody has signed the user's token who may not: where the service listens, wanted, found.
    Issuer(String, String, String),
    /// The service may not put users into that account: the account, and where the service listens.
    AccountNotAllowed(String, String),
    /// The user's account cannot be found: which, where the service listens, why.
    AccountUnknown(String, String, String),
    /// Somebody has signed the user's token whom its account does not know.
    UserSignerUnknown(String),
    /// The user's token is not as its signing key wants it, or its account is not one to be in.
    Refused(Reason),
    /// The account that the user has without the service is full.
    AccountFull,
    /// The server cannot ask: it stops, or there is no account where a service could listen.
    CannotAsk(String),
}

impl CalloutError {
    /// The service's refusal, in so many of its words as are worth repeating.
    pub(crate) fn denied(words: &str) -> Self {
        Self::Denied(words[..words.floor_char_boundary(WORDS_BYTES_MAX)].to_owned())
    }

    /// What follows for the client.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unanswered | Self::CannotAsk(_) => Reason::CalloutUnanswered,
            Self::ProxyRequired => Reason::ProxyRequired,
            Self::AccountFull => Reason::AccountFull,
            // What was let in once goes for these reasons later, and is told so.
            Self::Time(_) => Reason::TimeNotAllowed,
            Self::Refused(reason) => *reason,
            _ => Reason::CalloutRefused,
        }
    }

    /// The text of `reason` in the event. The reference has none where nobody answers.
    pub fn told(&self) -> String {
        if *self == Self::Unanswered { String::new() } else { self.to_string() }
    }
}

impl fmt::Display for CalloutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered => f.write_str("Authorization callout response not received in time"),
            Self::Empty(account) => {
                write!(f, "Auth callout violation: \"no reason supplied\" on account {account:?}")
            }
            Self::Sealed(account, why) => {
                write!(f, "Error decrypting auth callout response on account {account:?}: {why}")
            }
            Self::NotText => f.write_str("Auth callout response is not text"),
            Self::TooLarge(bytes) => write!(f, "Auth callout response of {bytes} bytes is too large"),
            Self::Response(error) | Self::User(error) => capitalised(f, &error.to_string()),
            Self::ResponseInvalid(why) => {
                write!(f, "Authorization response had validation errors: {why}")
            }
            Self::NotForUser => {
                f.write_str("Auth callout violation: auth callout response is not for expected user")
            }
            Self::NotForServer => {
                f.write_str("Auth callout violation: auth callout response is not for server")
            }
            Self::Denied(words) => write!(f, "Auth callout service returned an error: {words}"),
            Self::ResponseAccount(account) => {
                write!(f, "Auth callout response issuer account {account:?} is not the callout account")
            }
            Self::ResponseSignerUnknown => f.write_str("Auth callout signing key is unknown"),
            Self::ProxyRequired => f.write_str("Proxy connection required"),
            Self::UserInvalid(why) => write!(f, "Error validating user JWT: {why}"),
            Self::OtherUser(wanted, found, account) => {
                write!(f, "Expected authorized user of {wanted:?} but got {found:?} on account {account:?}")
            }
            Self::Time(account) => {
                write!(f, "Authorized user on account {account:?} outside of valid connect times")
            }
            Self::ConnectionType(account) => {
                write!(f, "Authorized user on account {account:?} using invalid connection type")
            }
            Self::Source(account) => {
                write!(f, "Authorized user on account {account:?} connects from a source not allowed")
            }
            Self::IssuerAccount(account) => {
                write!(f, "Error non operator mode account {account:?}: attempted to use issuer_account")
            }
            Self::Issuer(account, wanted, found) => write!(
                f,
                "Wrong issuer for auth callout response on account {account:?}, expected {wanted:?} got {found:?}"
            ),
            Self::AccountNotAllowed(account, callout) => write!(
                f,
                "Account {account:?} not permitted as valid account option for auth callout for account {callout:?}"
            ),
            Self::AccountUnknown(account, callout, why) => write!(
                f,
                "No valid account {account:?} for auth callout response on account {callout:?}: {why}"
            ),
            Self::UserSignerUnknown(key) => write!(f, "User JWT issuer {key:?} is not known"),
            Self::Refused(reason @ Reason::ScopedUserHasLimits) => {
                write!(f, "User JWT is not valid: {reason}")
            }
            Self::Refused(reason) => capitalised(f, &reason.to_string()),
            Self::AccountFull => f.write_str("Maximum account active connections exceeded"),
            Self::CannotAsk(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for CalloutError {}

fn capitalised(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => write!(f, "{}{}", first.to_uppercase(), letters.as_str()),
        None => Ok(()),
    }
}
