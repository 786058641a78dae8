//! The question: how is this certificate (RFC 6960, section 4.1)?

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY};

use crate::certificate::{Certificate, Key};
use crate::der::{element, sequence, tag};

/// `id-sha1`, with the absent parameters as null. It only names the certificate; nothing rests on its strength, and not all
/// responders know others.
const SHA1: &[u8] = b"\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00";

/// Asks about one certificate, without a nonce (responders that answer from a store refuse them), not signed.
pub fn request(certificate: &Certificate, issuer: &Key) -> Vec<u8> {
    let sum =
        |bytes: &[u8]| element(tag::OCTET_STRING, digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
    let serial = element(tag::INTEGER, &certificate.serial);
    let id = sequence(&[SHA1, &sum(&issuer.name), &sum(&issuer.bits), &serial]);
    let list = sequence(&[&sequence(&[&id])]);
    sequence(&[&sequence(&[&list])])
}
