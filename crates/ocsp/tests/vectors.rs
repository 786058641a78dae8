//! What OpenSSL asks and answers. Made with `openssl ocsp` of 3.0: an RSA root, a leaf that must staple, and answers signed
//! by the root (`direct`, with its certificate and without a next update; `bare`, named by its key and without any) and by
//! a delegate with SHA-512 (`delegated`, revoked).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sonata_ocsp::certificate::Certificate;
use sonata_ocsp::request::request;
use sonata_ocsp::response::{Response, Status};

const LEAF: &[u8] = include_bytes!("vectors/leaf.der");
const ROOT: &[u8] = include_bytes!("vectors/ca.der");

#[test]
fn the_same_question_is_asked() {
    let (leaf, root) = (Certificate::from_der(LEAF).unwrap(), Certificate::from_der(ROOT).unwrap());
    assert_eq!(leaf.responders(), ["http://ocsp.example.org:8888/"]);
    assert!(leaf.must_staple());
    assert_eq!(request(&leaf, root.key()), include_bytes!("vectors/request.der"));
}

#[test]
fn its_answers_are_understood() {
    let (leaf, root) = (Certificate::from_der(LEAF).unwrap(), Certificate::from_der(ROOT).unwrap());
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let now_s = 1_795_435_602;
    let cases: [(&[u8], Status, Option<i64>); 3] = [
        (include_bytes!("vectors/direct.der"), Status::Good, Some(now_s + 7 * 86_400)),
        (include_bytes!("vectors/bare.der"), Status::Good, None),
        (include_bytes!("vectors/delegated.der"), Status::Revoked, Some(now_s + 7 * 86_400)),
    ];
    for (bytes, status, next_update_s) in cases {
        let read = Response::verify(bytes, &leaf, root.key(), algorithms, now_s, 0).unwrap();
        assert_eq!(read, Response { status, this_update_s: now_s, next_update_s });
    }
}
