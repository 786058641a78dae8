//! Certificates of one run: an authority, the server's certificate and clients of every shape a server can map.
//!
//! They are made anew for every run and written below the run's folder, which configurations name `$TLS_DIR`; the
//! SHA-256 of a public key is `$PIN_<name>`. Nothing recorded depends on them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PublicKeyData,
    SanType,
};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use sha2::{Digest, Sha256};

use crate::error::WireError;
use crate::script::TlsChoice;

/// The authority that servers trust, and the one they do not.
const AUTHORITIES: [&str; 2] = ["ca", "stranger"];

/// All certificates of a run.
pub struct Pki {
    folder: PathBuf,
    roots: Arc<RootCertStore>,
    clients: BTreeMap<&'static str, (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>)>,
    pins: BTreeMap<&'static str, String>,
}

/// What one certificate says about its holder.
struct Shape {
    name: &'static str,
    authority: &'static str,
    subject: &'static [(DnType, &'static str)],
    names: &'static [Name],
}

enum Name {
    Dns(&'static str),
    Email(&'static str),
    Uri(&'static str),
}

/// The server's certificate, then the clients': what each one is good for is in its name.
const SHAPES: &[Shape] = &[
    Shape {
        name: "server",
        authority: "ca",
        subject: &[(DnType::CommonName, "localhost")],
        names: &[Name::Dns("localhost")],
    },
    Shape { name: "plain", authority: "ca", subject: &[(DnType::CommonName, "plain")], names: &[] },
    Shape {
        name: "subject",
        authority: "ca",
        subject: &[
            (DnType::OrganizationName, "Acme"),
            (DnType::OrganizationalUnitName, "Ops"),
            (DnType::CommonName, "subject"),
        ],
        names: &[],
    },
    Shape {
        name: "email",
        authority: "ca",
        subject: &[(DnType::CommonName, "email")],
        names: &[Name::Email("ann@example.com")],
    },
    Shape {
        name: "dns",
        authority: "ca",
        subject: &[(DnType::CommonName, "dns")],
        names: &[Name::Dns("ann.example.com")],
    },
    Shape {
        name: "uri",
        authority: "ca",
        subject: &[(DnType::CommonName, "uri")],
        names: &[Name::Uri("spiffe://example.com/ann")],
    },
    Shape {
        name: "all",
        authority: "ca",
        subject: &[(DnType::CommonName, "all")],
        names: &[
            Name::Uri("spiffe://example.com/ann"),
            Name::Dns("ann.example.com"),
            Name::Email("ann@example.com"),
        ],
    },
    Shape { name: "foreign", authority: "stranger", subject: &[(DnType::CommonName, "plain")], names: &[] },
];

impl Pki {
    /// Makes every certificate and writes `<name>.pem` and `<name>.key` into `folder`.
    ///
    /// # Errors
    /// [`WireError::Tls`] or [`WireError::Io`].
    pub fn make(folder: &Path) -> Result<Pki, WireError> {
        fs::create_dir_all(folder).map_err(|error| WireError::file(folder, error))?;
        let mut pki = Pki {
            folder: folder.to_owned(),
            roots: Arc::new(RootCertStore::empty()),
            clients: BTreeMap::new(),
            pins: BTreeMap::new(),
        };
        for authority in AUTHORITIES {
            pki.make_authority(authority)?;
        }
        Ok(pki)
    }

    fn make_authority(&mut self, authority: &'static str) -> Result<(), WireError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, authority);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(tls)?;
        let certificate = params.self_signed(&key).map_err(tls)?;
        self.write(authority, &certificate.pem(), &key)?;
        if authority == "ca" {
            let mut roots = RootCertStore::empty();
            roots.add(certificate.der().clone()).map_err(tls)?;
            self.roots = Arc::new(roots);
        }
        let issuer = Issuer::new(params, key);
        for shape in SHAPES.iter().filter(|shape| shape.authority == authority) {
            self.make_leaf(shape, &issuer)?;
        }
        Ok(())
    }

    fn make_leaf(&mut self, shape: &Shape, issuer: &Issuer<'_, KeyPair>) -> Result<(), WireError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in shape.subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        for name in shape.names {
            params.subject_alt_names.push(match name {
                Name::Dns(name) => SanType::DnsName((*name).try_into().map_err(tls)?),
                Name::Email(name) => SanType::Rfc822Name((*name).try_into().map_err(tls)?),
                Name::Uri(name) => SanType::URI((*name).try_into().map_err(tls)?),
            });
        }
        let key = KeyPair::generate().map_err(tls)?;
        let certificate = params.signed_by(&key, issuer).map_err(tls)?;
        self.write(shape.name, &certificate.pem(), &key)?;
        self.pins.insert(shape.name, HEXLOWER.encode(&Sha256::digest(key.subject_public_key_info())));
        self.clients
            .insert(shape.name, (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der())));
        Ok(())
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) -> Result<(), WireError> {
        for (ending, text) in [("pem", certificate), ("key", &key.serialize_pem())] {
            let path = self.folder.join(format!("{name}.{ending}"));
            fs::write(&path, text).map_err(|error| WireError::file(path, error))?;
        }
        Ok(())
    }

    /// Replaces `$TLS_DIR` and `$PIN_<name>` in the text of a configuration.
    pub fn substitute(&self, text: &str) -> String {
        let mut text = text.replace("$TLS_DIR", &self.folder.display().to_string());
        for (name, pin) in &self.pins {
            text = text.replace(&format!("$PIN_{name}"), pin);
        }
        text
    }

    /// How a client shakes hands by `choice`; it trusts the run's authority only.
    ///
    /// # Errors
    /// [`WireError::Tls`] when the choice names a certificate that does not exist.
    pub fn client_config(&self, choice: &TlsChoice) -> Result<Arc<ClientConfig>, WireError> {
        let versions: &[&SupportedProtocolVersion] = match choice.version.as_deref() {
            Some("v1.2") => &[&rustls::version::TLS12],
            Some("v1.3") => &[&rustls::version::TLS13],
            _ => rustls::ALL_VERSIONS,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&provider))
                .build()
                .map_err(tls)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(tls)?
            .with_webpki_verifier(verifier);
        let config = match &choice.certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let (certificate, key) = self
                    .clients
                    .get(name.as_str())
                    .ok_or_else(|| WireError::Tls(format!("no certificate `{name}`")))?;
                let key = PrivateKeyDer::Pkcs8(key.clone_key());
                builder.with_client_auth_cert(vec![certificate.clone()], key).map_err(tls)?
            }
        };
        Ok(Arc::new(config))
    }
}

fn tls(error: impl std::fmt::Display) -> WireError {
    WireError::Tls(error.to_string())
}
