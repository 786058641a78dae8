//! A peer's certificate, as far as it says who the peer is.
//!
//! Whether a certificate is valid and trusted was decided by TLS; this module only reads it. The texts it makes
//! follow Go's standard library byte by byte, because operators have written them into their lists of users.

use std::error::Error;
use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};
use x509_parser::der_parser::asn1_rs::{BmpString, Tag};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::distinguished_name::{self, Attribute, DistinguishedName, RelativeName};

/// What a certificate says about its owner.
#[derive(Debug, Clone)]
pub struct PeerCertificate {
    emails: Vec<String>,
    dns_names: Vec<String>,
    uris: Vec<String>,
    subject: Subject,
    spki_sha256: String,
    certificate_sha256: String,
}

/// Who a certificate is about and who issued it, as events and logs name them: RFC 2253, well-known attributes only.
///
/// # Errors
///
/// The bytes are not a certificate.
pub fn subject_and_issuer(der: &[u8]) -> Result<(String, String), MalformedCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| MalformedCertificate)?;
    let name = |name: &X509Name<'_>| Subject::new(name).well_known;
    Ok((name(certificate.subject()), name(certificate.issuer())))
}

/// The subject in the forms that users are looked up by.
#[derive(Debug, Clone)]
struct Subject {
    /// All attributes, with those that Go has no name for.
    full: String,
    /// The well-known attributes in Go's fixed order.
    well_known: String,
    /// `DC=` attributes in the order of the certificate, joined by commas.
    domain_components: String,
    /// The subject as it stands; none if an attribute's type has no name or its value is not text.
    name: Option<DistinguishedName>,
}

/// A form under which the owner of a certificate may be known.
#[derive(Debug, Clone, Copy)]
pub enum Candidate<'a> {
    /// An email address from the subject alternative names, to be compared as text.
    Email(&'a str),
    /// A host name from the subject alternative names, to be compared as text; may be a wildcard.
    Dns(&'a str),
    /// A URI from the subject alternative names, to be compared as text.
    Uri(&'a str),
    /// The subject, to be compared as a name: equal first, then equal in any order.
    Name(&'a DistinguishedName),
    /// The subject as text.
    Subject(&'a str),
}

impl PeerCertificate {
    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// The bytes are not a certificate, or its alternative names are malformed.
    pub fn from_der(der: &[u8]) -> Result<Self, MalformedCertificate> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| MalformedCertificate)?;
        let mut read = Self {
            emails: Vec::new(),
            dns_names: Vec::new(),
            uris: Vec::new(),
            subject: Subject::new(certificate.subject()),
            spki_sha256: HEXLOWER.encode(&Sha256::digest(certificate.public_key().raw)),
            certificate_sha256: HEXLOWER.encode(&Sha256::digest(der)),
        };
        let alternatives = certificate.subject_alternative_name().map_err(|_| MalformedCertificate)?;
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::RFC822Name(email) => read.emails.push((*email).into()),
                GeneralName::DNSName(host) => read.dns_names.push((*host).into()),
                GeneralName::URI(uri) => read.uris.push((*uri).into()),
                _ => {}
            }
        }
        Ok(read)
    }

    /// The subject with all attributes, as `/connz` shows it: RFC 2253, the most specific attribute first.
    pub fn subject(&self) -> &str {
        &self.subject.full
    }

    /// The SHA-256 of the public key (subject public key info), 64 lower-case hexadecimal digits.
    pub fn spki_sha256(&self) -> &str {
        &self.spki_sha256
    }

    /// The SHA-256 of the whole certificate, 64 lower-case hexadecimal digits.
    pub fn certificate_sha256(&self) -> &str {
        &self.certificate_sha256
    }

    /// The host names among the subject alternative names.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// Whether the certificate says anything at all about its owner.
    pub fn names_owner(&self) -> bool {
        !(self.emails.is_empty()
            && self.dns_names.is_empty()
            && self.uris.is_empty()
            && self.subject.full.is_empty())
    }

    /// The names of the owner in the order in which users are looked up (`verify_and_map`): emails, host names, URIs,
    /// the subject as a name, and as text with and without its domain components.
    pub fn verify_and_map<T>(&self, mut lookup: impl FnMut(Candidate<'_>) -> Option<T>) -> Option<T> {
        let with_components = format!("{},{}", self.subject.well_known, self.subject.domain_components);
        let emails = self.emails.iter().map(|email| Candidate::Email(email));
        let hosts = self.dns_names.iter().map(|host| Candidate::Dns(host));
        let uris = self.uris.iter().map(|uri| Candidate::Uri(uri));
        let name = self.subject.name.iter().map(Candidate::Name);
        let with_components =
            (!self.subject.domain_components.is_empty()).then_some(with_components.as_str());
        let texts =
            with_components.into_iter().chain([self.subject.well_known.as_str()]).map(Candidate::Subject);
        emails.chain(hosts).chain(uris).chain(name).chain(texts).find_map(&mut lookup)
    }
}

impl Subject {
    fn new(subject: &X509Name<'_>) -> Self {
        let mut well_known: [Vec<Attribute>; WELL_KNOWN.len()] = Default::default();
        let mut others = Vec::new();
        let mut components = Vec::new();
        for attribute in subject.iter_attributes() {
            let oid = attribute.attr_type().to_id_string();
            let Some(value) = text(attribute) else { continue };
            if oid == DOMAIN_COMPONENT {
                components.push(format!("DC={value}"));
            }
            match WELL_KNOWN.iter().position(|known| known.oid == oid) {
                Some(place) => {
                    if WELL_KNOWN[place].single {
                        well_known[place].clear();
                    }
                    let kind = WELL_KNOWN[place].name.into();
                    well_known[place].push(Attribute { kind, value });
                }
                None => others.push(RelativeName { attributes: vec![Attribute { kind: oid, value }] }),
            }
        }
        let relative: Vec<RelativeName> = well_known
            .into_iter()
            .filter(|attributes| !attributes.iter().all(|attribute| attribute.value.is_empty()))
            .map(|attributes| RelativeName { attributes })
            .collect();
        let well_known = distinguished_name::write_reversed(&relative);
        // Attributes without a name are shown by number, at the end.
        others.extend(relative);
        let full = distinguished_name::write_reversed(&others);
        Self { full, well_known, domain_components: components.join(","), name: name(subject) }
    }
}

struct WellKnown {
    oid: &'static str,
    name: &'static str,
    /// Only the last one counts.
    single: bool,
}

/// The attributes that Go knows, in the order in which nats-server 2.15.1 prints them, last one first. (Go used another
/// order before; names in that order are still found, since a name is also compared in any order.)
const WELL_KNOWN: [WellKnown; 9] = [
    WellKnown { oid: "2.5.4.6", name: "C", single: false },
    WellKnown { oid: "2.5.4.8", name: "ST", single: false },
    WellKnown { oid: "2.5.4.7", name: "L", single: false },
    WellKnown { oid: "2.5.4.9", name: "STREET", single: false },
    WellKnown { oid: "2.5.4.17", name: "POSTALCODE", single: false },
    WellKnown { oid: "2.5.4.10", name: "O", single: false },
    WellKnown { oid: "2.5.4.11", name: "OU", single: false },
    WellKnown { oid: "2.5.4.3", name: "CN", single: true },
    WellKnown { oid: "2.5.4.5", name: "SERIALNUMBER", single: true },
];

const DOMAIN_COMPONENT: &str = "0.9.2342.19200300.100.1.25";

/// The subject as a name, the most specific relative name first.
fn name(subject: &X509Name<'_>) -> Option<DistinguishedName> {
    let mut relative = Vec::new();
    for set in subject.iter_rdn() {
        let mut attributes = Vec::new();
        for attribute in set.iter() {
            let oid = attribute.attr_type().to_id_string();
            let known = WELL_KNOWN.iter().find(|known| known.oid == oid).map(|known| known.name);
            let kind = known.or((oid == DOMAIN_COMPONENT).then_some("DC"))?.into();
            attributes.push(Attribute { kind, value: text(attribute)? });
        }
        relative.push(RelativeName { attributes });
    }
    relative.reverse();
    Some(DistinguishedName::new(relative))
}

fn text(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let value = attribute.attr_value();
    match value.tag() {
        Tag::BmpString => BmpString::try_from(value.clone()).ok().map(|text| text.string()),
        // Latin-1, whose code points are those of Unicode.
        Tag::T61String => Some(value.data.iter().map(|byte| char::from(*byte)).collect()),
        _ => attribute.as_str().ok().map(str::to_owned),
    }
}

/// The public keys that peers may have (`pinned_certs`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PinnedCertificates {
    /// Sorted, lower case.
    spki_sha256: Vec<String>,
}

impl PinnedCertificates {
    /// Reads a list of SHA-256 sums of public keys, 64 hexadecimal digits each, in any case.
    ///
    /// # Errors
    ///
    /// The first entry that is not such a sum.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidPin> {
        let mut spki_sha256 = Vec::new();
        for entry in entries {
            match HEXLOWER_PERMISSIVE.decode(entry.as_bytes()) {
                Ok(sum) if sum.len() == 32 => spki_sha256.push(HEXLOWER.encode(&sum)),
                _ => return Err(InvalidPin(entry.into())),
            }
        }
        spki_sha256.sort_unstable();
        Ok(Self { spki_sha256 })
    }

    /// Whether a peer with this certificate is accepted. No list accepts everyone.
    pub fn accept(&self, certificate: &PeerCertificate) -> bool {
        self.spki_sha256.is_empty() || self.spki_sha256.binary_search(&certificate.spki_sha256).is_ok()
    }
}

/// The peer's fault: what it sent is not a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedCertificate;

impl fmt::Display for MalformedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed certificate")
    }
}

impl Error for MalformedCertificate {}

/// The operator's mistake: an entry of `pinned_certs` is not a SHA-256 sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPin(pub String);

impl fmt::Display for InvalidPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error parsing 'pinned_certs' key {} does not match hex-encoded sha256", self.0)
    }
}

impl Error for InvalidPin {}
