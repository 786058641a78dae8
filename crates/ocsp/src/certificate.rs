//! A certificate, as far as its state can be asked for: who issued it, where to ask, what it says about stapling.

use std::fmt;

use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Algorithms;
use crate::der::{self, Malformed, tag};
use crate::signature::{self, Signature};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub(crate) serial: Vec<u8>,
    pub(crate) key: Key,
    issuer: Vec<u8>,
    signed: Vec<u8>,
    signature: Signature,
    responders: Vec<String>,
    must_staple: bool,
    is_authority: bool,
    signs_responses: bool,
    not_before_s: i64,
    not_after_s: i64,
}

/// A name with its public key: all that counts of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The DER of the name.
    pub(crate) name: Vec<u8>,
    /// The DER of the `SubjectPublicKeyInfo`.
    pub(crate) info: Vec<u8>,
    /// The bits of the key alone.
    pub(crate) bits: Vec<u8>,
}

impl Key {
    /// A name and a `SubjectPublicKeyInfo`, in DER.
    ///
    /// # Errors
    /// The key is not one.
    pub fn new(name: Vec<u8>, info: Vec<u8>) -> Result<Self, MalformedCertificate> {
        let bits = signature::public_key(&info)?.1.to_vec();
        Ok(Self { name, info, bits })
    }
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// The bytes are not one.
    pub fn from_der(bytes: &[u8]) -> Result<Self, MalformedCertificate> {
        let (_, parsed) = X509Certificate::from_der(bytes).map_err(|_| MalformedCertificate)?;
        let mut outer = der::only(bytes, tag::SEQUENCE)?;
        let signed = outer.expect(tag::SEQUENCE)?.whole.to_vec();
        let signature = Signature::read(&mut outer)?;
        outer.end()?;
        let mut read = Self {
            serial: parsed.tbs_certificate.raw_serial().to_vec(),
            key: Key::new(parsed.subject().as_raw().to_vec(), parsed.public_key().raw.to_vec())?,
            issuer: parsed.issuer().as_raw().to_vec(),
            signed,
            signature,
            responders: Vec::new(),
            must_staple: false,
            is_authority: parsed.is_ca(),
            signs_responses: false,
            not_before_s: parsed.validity().not_before.timestamp(),
            not_after_s: parsed.validity().not_after.timestamp(),
        };
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::AuthorityInfoAccess(access) => {
                    let at_responder =
                        access.iter().filter(|place| place.access_method.to_id_string() == OCSP);
                    read.responders.extend(at_responder.filter_map(|place| match &place.access_location {
                        GeneralName::URI(uri) => Some((*uri).to_owned()),
                        _ => None,
                    }));
                }
                ParsedExtension::ExtendedKeyUsage(usage) => read.signs_responses = usage.ocsp_signing,
                _ if extension.oid.to_id_string() == TLS_FEATURE => {
                    read.must_staple = lists_status_request(extension.value);
                }
                _ => {}
            }
        }
        Ok(read)
    }

    /// Where its issuer can be asked about it, in the order of the certificate; any kind of URL.
    pub fn responders(&self) -> &[String] {
        &self.responders
    }

    /// Whether a server that presents it has promised to staple a response (`status_request`, RFC 7633).
    pub fn must_staple(&self) -> bool {
        self.must_staple
    }

    /// Whether it may issue others, as it says itself.
    pub fn is_authority(&self) -> bool {
        self.is_authority
    }

    /// Its subject and public key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Whether the key's owner issued it: the names fit and so does the signature.
    pub fn is_issued_by(&self, key: &Key, algorithms: Algorithms<'_>) -> bool {
        self.issuer == key.name && self.signature.is_by(&key.info, &self.signed, algorithms)
    }

    /// Whether its issuer lets it sign responses (`id-kp-OCSPSigning`), and lets it now: seconds since 1970.
    pub(crate) fn may_sign_responses(&self, now_s: i64, skew_s: i64) -> bool {
        let begun = self.not_before_s <= now_s.saturating_add(skew_s);
        let is_over = self.not_after_s < now_s.saturating_sub(skew_s);
        self.signs_responses && begun && !is_over
    }
}

const OCSP: &str = "1.3.6.1.5.5.7.48.1";
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";

/// The number of the TLS extension by which a client asks for a staple (RFC 6066).
const STATUS_REQUEST: [u8; 1] = [5];

/// Whether a list of TLS features has that one.
fn lists_status_request(value: &[u8]) -> bool {
    let Ok(mut features) = der::only(value, tag::SEQUENCE) else { return false };
    let mut listed = false;
    while !features.is_empty() {
        match features.expect(tag::INTEGER) {
            Ok(feature) => listed |= feature.contents == STATUS_REQUEST,
            Err(Malformed) => return false,
        }
    }
    listed
}

/// The bytes are not a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedCertificate;

impl fmt::Display for MalformedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed certificate")
    }
}

impl std::error::Error for MalformedCertificate {}

impl From<Malformed> for MalformedCertificate {
    fn from(Malformed: Malformed) -> Self {
        Self
    }
}
