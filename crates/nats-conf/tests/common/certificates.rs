//! A private certificate authority and what it signs.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::Scratch;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, as PEM.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for `127.0.0.1`, valid from 2020 to the end of a year.
    pub(crate) fn sign(&self, last_year: i32) -> Pair {
        self.sign_for("127.0.0.1", last_year)
    }

    /// The same for another name or address.
    pub(crate) fn sign_for(&self, host: &str, last_year: i32) -> Pair {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    /// Writes both to files and returns their paths.
    pub(crate) fn write(&self, directory: &Scratch, name: &str) -> (PathBuf, PathBuf) {
        let cert = directory.file(&format!("{name}.pem"), &self.cert);
        (cert, directory.file(&format!("{name}-key.pem"), &self.key))
    }
}
