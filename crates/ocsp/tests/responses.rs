//! Which responses are believed: those of the issuer and of its delegates, about the certificate that was asked for, and
//! no others, whatever the bytes are.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/authority.rs"]
mod authority;

use authority::{Answer, Authority, Issued, State, Use, response};
use proptest::prelude::*;
use sonata_ocsp::Algorithms;
use sonata_ocsp::certificate::Certificate;
use sonata_ocsp::request::request;
use sonata_ocsp::response::{Response, ResponseError, Status};

const NOW: i64 = 1_900_000_000;
const GOOD: Answer = Answer { status: State::Good, this_update_s: NOW - 10, next_update_s: Some(NOW + 90) };

fn algorithms() -> Algorithms<'static> {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all
}

struct World {
    authority: Authority,
    leaf: Issued,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new("root");
        let leaf = authority.issue("leaf", Use::Server, Some("http://127.0.0.1:1/"), true);
        Self { authority, leaf }
    }

    fn request(&self) -> Vec<u8> {
        request(&self.certificate(), self.issuer().key())
    }

    fn certificate(&self) -> Certificate {
        Certificate::from_der(&self.leaf.der).unwrap()
    }

    fn issuer(&self) -> Certificate {
        Certificate::from_der(&self.authority.der).unwrap()
    }

    fn verify(&self, bytes: &[u8]) -> Result<Response, ResponseError> {
        Response::verify(bytes, &self.certificate(), self.issuer().key(), algorithms(), NOW, 0)
    }
}

#[test]
fn a_certificate_says_where_to_ask_and_what_it_promises() {
    let world = World::new();
    let (leaf, issuer) = (world.certificate(), world.issuer());
    assert_eq!(leaf.responders(), ["http://127.0.0.1:1/"]);
    assert!(leaf.must_staple() && !leaf.is_authority());
    assert!(leaf.is_issued_by(issuer.key(), algorithms()));
    assert!(issuer.is_authority() && !issuer.must_staple() && issuer.responders().is_empty());
    let other = Certificate::from_der(&Authority::new("root").der).unwrap();
    assert!(!leaf.is_issued_by(other.key(), algorithms()), "the same name with another key");
}

#[test]
fn the_issuer_is_believed_whatever_it_says() {
    let world = World::new();
    for (state, status) in
        [(State::Good, Status::Good), (State::Revoked, Status::Revoked), (State::Unknown, Status::Unknown)]
    {
        for next_update_s in [Some(NOW + 90), None] {
            let answer = Answer { status: state, next_update_s, ..GOOD };
            let bytes = response(&world.request(), answer, &world.authority.key, &[]);
            let read = Response { status, this_update_s: NOW - 10, next_update_s };
            assert_eq!(world.verify(&bytes), Ok(read));
        }
    }
    // With its own certificate beside the answer it is still the issuer itself.
    let bytes = response(&world.request(), GOOD, &world.authority.key, &[&world.authority.der]);
    assert!(world.verify(&bytes).is_ok());
}

#[test]
fn a_delegate_is_believed_if_the_issuer_made_it_one() {
    let world = World::new();
    let signer = world.authority.issue("signer", Use::Responses, None, false);
    let bytes = response(&world.request(), GOOD, &signer.key, &[&signer.der]);
    assert!(world.verify(&bytes).is_ok());

    let without_certificate = response(&world.request(), GOOD, &signer.key, &[]);
    assert_eq!(world.verify(&without_certificate), Err(ResponseError::Signature));

    let server = world.authority.issue("server", Use::Server, None, false);
    let not_made_one = response(&world.request(), GOOD, &server.key, &[&server.der]);
    assert_eq!(world.verify(&not_made_one), Err(ResponseError::Delegation));

    let stranger = Authority::new("root").issue("signer", Use::Responses, None, false);
    let of_another = response(&world.request(), GOOD, &stranger.key, &[&stranger.der]);
    assert_eq!(world.verify(&of_another), Err(ResponseError::Signature));

    // rcgen's certificates hold from 1975 to 4096.
    let late = 70_000_000_000;
    let verified =
        Response::verify(&bytes, &world.certificate(), world.issuer().key(), algorithms(), late, 0);
    assert_eq!(verified, Err(ResponseError::Delegation), "its certificate has expired");
}

#[test]
fn an_answer_about_another_certificate_says_nothing_of_this_one() {
    let world = World::new();
    let other = Certificate::from_der(&world.authority.issue("other", Use::Server, None, false).der).unwrap();
    let about_other = request(&other, world.issuer().key());
    let bytes = response(&about_other, GOOD, &world.authority.key, &[]);
    assert_eq!(world.verify(&bytes), Err(ResponseError::OtherCertificate));

    // The same serial number of another issuer, even of one that has the same name.
    for name in ["impostor", "root"] {
        let other = Certificate::from_der(&Authority::new(name).der).unwrap();
        let about_namesake = request(&world.certificate(), other.key());
        let bytes = response(&about_namesake, GOOD, &world.authority.key, &[]);
        assert_eq!(world.verify(&bytes), Err(ResponseError::OtherCertificate), "{name}");
    }
}

#[test]
fn what_the_responder_refuses_is_told() {
    let world = World::new();
    let refusal = [0x30, 3, 0x0a, 1, 6];
    assert_eq!(world.verify(&refusal), Err(ResponseError::Refused(6)));
    assert_eq!(ResponseError::Refused(6).to_string(), "error from OCSP responder: unauthorized");
}

#[test]
fn no_byte_of_an_answer_can_be_changed() {
    let world = World::new();
    let signer = world.authority.issue("signer", Use::Responses, None, false);
    let bytes = response(&world.request(), GOOD, &signer.key, &[&signer.der]);
    let believed = world.verify(&bytes);
    assert!(believed.is_ok());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x01;
        // The signer's own name and dates are covered by its certificate's signature, so nothing is left to play with.
        assert!(world.verify(&changed).is_err(), "byte {at} of {}", bytes.len());
    }
    for length in 0..bytes.len() {
        assert!(world.verify(&bytes[..length]).is_err(), "cut at {length}");
    }
    let longer = [&bytes[..], b"\x05\x00"].concat();
    assert_eq!(world.verify(&longer), Err(ResponseError::Malformed));
    assert_eq!(world.verify(&vec![0x30; 1 << 20]), Err(ResponseError::Malformed));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(noise in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..1200) {
        thread_local! {
            static WORLD: (World, Vec<u8>) = {
                let world = World::new();
                let signer = world.authority.issue("signer", Use::Responses, None, false);
                let bytes = response(&world.request(), GOOD, &signer.key, &[&signer.der]);
                (world, bytes)
            };
        }
        WORLD.with(|(world, bytes)| {
            prop_assert!(world.verify(&noise).is_err());
            let cut = cut.min(bytes.len());
            let over = (cut + noise.len()).min(bytes.len());
            let patched = [&bytes[..cut], &noise, &bytes[over..]].concat();
            if patched != *bytes {
                prop_assert!(world.verify(&patched).is_err());
            }
            let _ = Certificate::from_der(&noise);
            Ok(())
        })?;
    }
}
