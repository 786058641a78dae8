//! Tokens of decentralised authentication: what operators, accounts and users say, and who signed it.
//!
//! A token is text: header, claims and signature. [`token::decode`] turns it into typed [`Claims`](claims::Claims) whose
//! issuer has signed them and is of a kind that may; [`Validate`](validation::Validate) then says what is wrong with
//! their content. Whether the issuer is *trusted* is for whoever keeps the chain: operator, account, user.
//!
//! Everything here is a plain value: the hour, keys and places of the client are arguments, and the work that a hostile
//! token can cause is bounded ([`token::TOKEN_BYTES_MAX`], [`account::SHARES_MAX`], [`template::SUBJECTS_MAX`]).

pub mod account;
pub mod activation;
pub mod authorization;
pub mod claims;
pub mod credentials;
pub mod key;
pub mod limits;
pub mod operator;
pub mod permission;
pub mod revocation;
pub mod share;
pub mod source;
pub mod template;
pub mod token;
pub mod user;
pub mod validation;
pub mod window;
pub mod xkey;

mod subject;
