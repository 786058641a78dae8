//! An authority, certificates of a server and a client, and how a client uses them.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::subject::Folder;

/// When the certificates expire, as monitoring writes it.
pub(crate) const NOT_AFTER: &str = "2040-01-02T00:00:00Z";

/// Everything a test with TLS needs.
pub(crate) struct Pki {
    pub(crate) authority: PathBuf,
    pub(crate) server: Files,
    /// Another certificate of the same server.
    pub(crate) renewed: Files,
    client: Files,
}

/// A certificate and its key.
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pki {
    pub(crate) fn new(folder: &Folder) -> Self {
        let mut params = params("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let certificate: Certificate = self::params(name).signed_by(&key, &authority).unwrap();
            Files {
                certificate: folder.write(&format!("{name}.pem"), &certificate.pem()),
                key: folder.write(&format!("{name}.key"), &key.serialize_pem()),
            }
        };
        Self {
            server: issue("server"),
            renewed: issue("renewed"),
            client: issue("client"),
            authority: folder.write("authority.pem", &authority.pem()),
        }
    }

    /// A client with a certificate.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        let chain = vec![CertificateDer::from_pem_file(&self.client.certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&self.client.key).unwrap();
        Arc::new(self.builder().with_client_auth_cert(chain, key).unwrap())
    }

    /// A client without.
    pub(crate) fn anonymous_config(&self) -> Arc<ClientConfig> {
        Arc::new(self.builder().with_no_client_auth())
    }

    /// With one cipher suite, so that it does not depend on the server which one is shown.
    fn builder(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            ..aws_lc_rs::default_provider()
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.authority).unwrap()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_after = date_time_ymd(2040, 1, 2);
    params
}
