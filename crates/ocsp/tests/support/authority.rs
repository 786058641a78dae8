//! An authority that issues certificates and answers for them, as it is told to.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SigningKey,
};
use sonata_ocsp::der::{Reader, element, sequence, tag};

/// One that issues certificates.
pub(crate) struct Authority {
    params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) der: Vec<u8>,
    pub(crate) pem: String,
}

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) key: KeyPair,
    pub(crate) der: Vec<u8>,
    pub(crate) pem: String,
}

/// What a certificate is for.
#[derive(Clone, Copy)]
pub(crate) enum Use {
    Server,
    Client,
    Responses,
}

/// What is said of a certificate. Times are seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: State,
    pub(crate) this_update_s: i64,
    pub(crate) next_update_s: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum State {
    Good,
    Revoked,
    Unknown,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority_params(name);
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().to_vec(), pem: certificate.pem(), params, key }
    }

    /// An authority below this one, which can be asked about it at `responder`.
    pub(crate) fn intermediate(&self, name: &str, responder: Option<&str>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = authority_params(name);
        params.custom_extensions.extend(responder.map(at_responder));
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Self { der: certificate.der().to_vec(), pem: certificate.pem(), params, key }
    }

    pub(crate) fn issue(
        &self,
        name: &str,
        what_for: Use,
        responder: Option<&str>,
        must_staple: bool,
    ) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf_params(name, what_for, responder);
        if must_staple {
            let status_request = sequence(&[&element(tag::INTEGER, &[5])]);
            let feature = [1, 3, 6, 1, 5, 5, 7, 1, 24];
            params.custom_extensions.push(CustomExtension::from_oid_content(&feature, status_request));
        }
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Issued { der: certificate.der().to_vec(), pem: certificate.pem(), key }
    }
}

/// A client's certificate that nobody else vouches for.
pub(crate) fn self_signed(name: &str, responder: &str) -> Issued {
    let key = KeyPair::generate().unwrap();
    let certificate = leaf_params(name, Use::Client, Some(responder)).self_signed(&key).unwrap();
    Issued { der: certificate.der().to_vec(), pem: certificate.pem(), key }
}

fn leaf_params(name: &str, what_for: Use, responder: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::OrganizationName, "Testers");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![match what_for {
        Use::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Use::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Use::Responses => ExtendedKeyUsagePurpose::OcspSigning,
    }];
    params.custom_extensions.extend(responder.map(at_responder));
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn at_responder(url: &str) -> CustomExtension {
    let ocsp = element(tag::OID, b"\x2b\x06\x01\x05\x05\x07\x30\x01");
    let place = element(tag::primitive(6), url.as_bytes());
    let content = sequence(&[&sequence(&[&ocsp, &place])]);
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content)
}

/// The `CertID` that a request is about.
pub(crate) fn asked(request: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(request);
    let mut reader = reader.enter(tag::SEQUENCE).unwrap();
    let mut reader = reader.enter(tag::SEQUENCE).unwrap();
    let mut reader = reader.enter(tag::SEQUENCE).unwrap();
    let mut reader = reader.enter(tag::SEQUENCE).unwrap();
    reader.expect(tag::SEQUENCE).unwrap().whole.to_vec()
}

/// A response about what a request asks for, signed with a key, with certificates of its signer.
pub(crate) fn response(request: &[u8], answer: Answer, signer: &KeyPair, certificates: &[&[u8]]) -> Vec<u8> {
    let single = single(&asked(request), answer);
    let key_sum = element(tag::OCTET_STRING, &[0; 20]);
    let produced = time(answer.this_update_s);
    let data = sequence(&[&element(tag::constructed(2), &key_sum), &produced, &sequence(&[&single])]);
    signed(&data, signer, certificates)
}

/// What is said of one certificate.
pub(crate) fn single(id: &[u8], answer: Answer) -> Vec<u8> {
    let status = match answer.status {
        State::Good => element(tag::primitive(0), b""),
        State::Revoked => element(tag::constructed(1), &time(answer.this_update_s)),
        State::Unknown => element(tag::primitive(2), b""),
    };
    let next = answer.next_update_s.map(|next| element(tag::constructed(0), &time(next)));
    sequence(&[id, &status, &time(answer.this_update_s), &next.unwrap_or_default()])
}

/// A response with these `ResponseData`.
pub(crate) fn signed(data: &[u8], signer: &KeyPair, certificates: &[&[u8]]) -> Vec<u8> {
    let ecdsa_with_sha256 = sequence(&[&element(tag::OID, b"\x2a\x86\x48\xce\x3d\x04\x03\x02")]);
    let signature = element(tag::BIT_STRING, &[&[0], &*signer.sign(data).unwrap()].concat());
    let certificates = match certificates {
        [] => Vec::new(),
        certificates => element(tag::constructed(0), &sequence(certificates)),
    };
    let basic = sequence(&[data, &ecdsa_with_sha256, &signature, &certificates]);
    let kind = element(tag::OID, b"\x2b\x06\x01\x05\x05\x07\x30\x01\x01");
    let typed = sequence(&[&kind, &element(tag::OCTET_STRING, &basic)]);
    sequence(&[&element(tag::ENUMERATED, &[0]), &element(tag::constructed(0), &typed)])
}

fn time(unix_s: i64) -> Vec<u8> {
    let time = jiff::Timestamp::from_second(unix_s).unwrap().strftime("%Y%m%d%H%M%SZ").to_string();
    element(tag::GENERALIZED_TIME, time.as_bytes())
}
