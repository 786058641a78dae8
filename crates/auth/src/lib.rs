//! Who may: credentials, users, permissions and certificate mapping.
//!
//! Everything here is a plain value: no socket, no clock, no source of randomness. A server hands in what a client
//! sent in its CONNECT (and, over TLS, the client's certificate) and takes out an [`Identity`](user::Identity) or
//! the [`Reason`](user::Reason) why there is none. Work that takes milliseconds on purpose (bcrypt) is never done
//! inside a call that answers at once: it comes out as a [`SlowCheck`](check::SlowCheck) to be run elsewhere.
//!
//! What is absent: where the tokens of accounts come from (a [`TokenJudge`](token::TokenJudge) knows), how a service is
//! asked (a [`Callout`](callout::Callout) knows), account limits, and everything that happens after a connection is bound to its account.

pub mod callout;
pub mod certificate;
pub mod check;
pub mod connection_type;
pub mod distinguished_name;
pub mod nkey;
pub mod password;
mod pattern;
pub mod permission;
pub mod response;
pub mod token;
pub mod user;
