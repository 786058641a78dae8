//! The online certificate status protocol (RFC 6960), as values: what to ask an authority about a certificate, what its
//! answer says, and whether the answer is to be believed. No socket and no clock; whoever fetches lives elsewhere.
//!
//! An answer is only ever read together with the certificate it was asked for and that certificate's issuer, so there is
//! no value here that says "good" without having been verified.

pub mod certificate;
pub mod der;
pub mod request;
pub mod response;
mod signature;

/// The signature algorithms that are accepted, as the TLS library lists them.
pub type Algorithms<'a> = &'a [&'a dyn rustls_pki_types::SignatureVerificationAlgorithm];
