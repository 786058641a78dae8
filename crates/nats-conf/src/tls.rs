//! The TLS side of a connection: whom to trust and what to show.
//!
//! Built here and not by the client library, since that one takes whichever cryptography the process has
//! chosen and panics if none is, and names no file in its errors.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::conf::NatsConf;
use crate::error::{Fault, Problem};
use crate::file;
use crate::host::Server;
use crate::key::Key;

/// What the files of a configuration hold, checked.
pub(crate) struct Tls {
    /// The authorities to trust; those of the platform if there are none.
    authorities: Option<RootCertStore>,
    client: Option<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    /// Reads and checks the files that a configuration names; `now` is in seconds since 1970.
    pub(crate) fn load(conf: &NatsConf, now: i64, faults: &mut Vec<Fault>) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let authorities = conf.tls_ca_cert.as_deref().and_then(|path| keep(authorities(path, now), faults));
        let client = match (&conf.tls_client_cert, &conf.tls_client_key) {
            (Some(cert), Some(key)) => client(cert, key, now, &provider, faults),
            (Some(_), None) => {
                faults.push(Fault::new(Key::TlsClientCert, Problem::Needs(Key::TlsClientKey)));
                None
            }
            (None, Some(_)) => {
                faults.push(Fault::new(Key::TlsClientKey, Problem::Needs(Key::TlsClientCert)));
                None
            }
            (None, None) => None,
        };
        Self { authorities, client, provider }
    }

    /// The configuration for the client library, to connect to these servers and those that they tell of.
    pub(crate) fn client_config(self, servers: &[Server]) -> Result<ClientConfig, rustls::Error> {
        let authorities = Arc::new(self.authorities.unwrap_or_else(platform_authorities));
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&authorities), self.provider).build();
        let builder = match verifier {
            Ok(verifier) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ClusterVerifier::new(verifier, servers))),
            // There is no authority to trust, so every certificate will be refused.
            Err(_) => builder.with_root_certificates(authorities),
        };
        Ok(match self.client {
            Some(client) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(client))),
            None => builder.with_no_client_auth(),
        })
    }
}

/// Checks the certificate of a server as always, but knows that a cluster tells of its members by IP address
/// while their certificates hold names: a member whose address is not written in the configuration may show a
/// certificate for any of the names that are. Other NATS clients do the same.
#[derive(Debug)]
struct ClusterVerifier {
    ordinary: Arc<WebPkiServerVerifier>,
    /// The names in `Hosts`.
    names: Vec<ServerName<'static>>,
    /// The addresses in `Hosts`. Who writes an address wants a certificate for it.
    addresses: Vec<ServerName<'static>>,
}

impl ClusterVerifier {
    fn new(ordinary: Arc<WebPkiServerVerifier>, servers: &[Server]) -> Self {
        let hosts =
            servers.iter().filter_map(|server| ServerName::try_from(server.address.host().to_owned()).ok());
        let (addresses, names) = hosts.partition(|host| matches!(host, ServerName::IpAddress(_)));
        Self { ordinary, names, addresses }
    }
}

impl ServerCertVerifier for ClusterVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |name: &ServerName<'_>| {
            self.ordinary.verify_server_cert(certificate, intermediates, name, ocsp, now)
        };
        let was_told = matches!(server, ServerName::IpAddress(_)) && !self.addresses.contains(server);
        match verify(server) {
            Err(rustls::Error::InvalidCertificate(
                fault @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
            )) if was_told => {
                let found = self.names.iter().find_map(|name| verify(name).ok());
                found.ok_or(rustls::Error::InvalidCertificate(fault))
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.ordinary.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.ordinary.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.ordinary.supported_verify_schemes()
    }
}

/// Whether a configuration asks for TLS whatever the addresses say.
pub(crate) fn is_wanted(conf: &NatsConf) -> bool {
    conf.tls_ca_cert.is_some() || conf.tls_client_cert.is_some()
}

fn platform_authorities() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Nothing to complain about yet: most connections never need them, and one that does says so when it
    // fails.
    for error in &found.errors {
        tracing::debug!(%error, "a certificate authority of the platform could not be read");
    }
    store.add_parsable_certificates(found.certs);
    store
}

fn authorities(path: &Path, now: i64) -> Result<RootCertStore, Fault> {
    let mut store = RootCertStore::empty();
    let mut fault = None;
    for certificate in certificates(Key::TlsCACert, path)? {
        // One that is out of date does no harm beside one that is not: bundles are full of them.
        let checked = check_period(&certificate, now).and_then(|()| {
            store.add(certificate).map_err(|error| Problem::BadCertificate(error.to_string()))
        });
        if let Err(problem) = checked {
            fault = fault.or(Some(problem));
        }
    }
    match fault {
        Some(problem) if store.is_empty() => Err(Fault::file(Key::TlsCACert, path, problem)),
        _ => Ok(store),
    }
}

fn client(
    cert_path: &Path,
    key_path: &Path,
    now: i64,
    provider: &CryptoProvider,
    faults: &mut Vec<Fault>,
) -> Option<CertifiedKey> {
    let chain = keep(
        certificates(Key::TlsClientCert, cert_path).and_then(|chain| {
            let first = chain.first().map_or(Ok(()), |first| check_period(first, now));
            first.map(|()| chain).map_err(|problem| Fault::file(Key::TlsClientCert, cert_path, problem))
        }),
        faults,
    );
    let fault = |problem| Fault::file(Key::TlsClientKey, key_path, problem);
    let key = private_key(key_path).and_then(|key| {
        provider.key_provider.load_private_key(key).map_err(|error| {
            fault(Problem::BadPrivateKey(match error {
                rustls::Error::General(text) => text,
                error => error.to_string(),
            }))
        })
    });
    let key = keep(key, faults);
    let certified = CertifiedKey::new(chain?, key?);
    let matching = match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(fault(Problem::KeyMismatch(cert_path.to_owned())))
        }
        Err(error) => Err(fault(Problem::BadPrivateKey(error.to_string()))),
        Ok(()) => Ok(certified),
    };
    keep(matching, faults)
}

/// The certificates in a PEM file, at least one.
fn certificates(key: Key, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = file::bytes(path).map_err(|problem| Fault::file(key, path, problem))?;
    let chain = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Fault::file(key, path, Problem::BadCertificate(error.to_string())))?;
    if chain.is_empty() { Err(Fault::file(key, path, Problem::NoCertificate)) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let bytes = file::bytes(path).map_err(|problem| Fault::file(Key::TlsClientKey, path, problem))?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let problem = match error {
            rustls_pki_types::pem::Error::NoItemsFound => Problem::NoPrivateKey,
            error => Problem::BadPrivateKey(error.to_string()),
        };
        Fault::file(Key::TlsClientKey, path, problem)
    })
}

fn check_period(certificate: &CertificateDer<'_>, now: i64) -> Result<(), Problem> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| Problem::BadCertificate("its content is damaged".to_owned()))?;
    let validity = parsed.validity();
    if validity.not_after.timestamp() < now {
        return Err(Problem::Expired(validity.not_after.timestamp()));
    }
    if validity.not_before.timestamp() > now {
        return Err(Problem::NotYetValid(validity.not_before.timestamp()));
    }
    Ok(())
}

fn keep<T>(result: Result<T, Fault>, faults: &mut Vec<Fault>) -> Option<T> {
    result.map_err(|fault| faults.push(fault)).ok()
}
