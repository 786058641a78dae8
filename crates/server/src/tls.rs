//! TLS as configured, ready for handshakes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
    SupportedCipherSuite, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sonata_auth::certificate::{PeerCertificate, PinnedCertificates};
use sonata_conf::options::{HandshakeFirst, Options, Stapling, StaplingMode, Tls, TlsVersion};
use sonata_ocsp::certificate::Certificate;

use crate::ocsp::{Decision, PeerCheck, Stapled};

use crate::chain;

/// TLS of the client listener. A reload makes another; handshakes under way keep theirs.
pub(crate) struct TlsSetup {
    config: Arc<ServerConfig>,
    monitoring: Arc<ServerConfig>,
    pinned: Option<PinnedCertificates>,
    /// Whose word counts for clients' certificates.
    authorities: Vec<CertificateDer<'static>>,
    rate: Option<Mutex<Rate>>,
    pub(crate) handshake_first: HandshakeFirst,
    pub(crate) timeout: Duration,
    /// The certificates that are presented with a response.
    pub(crate) stapled: Vec<Arc<Stapled>>,
    /// The certificates that say they are always presented with one, and are not.
    pub(crate) broken_promises: Vec<PathBuf>,
    /// How the certificates of clients are checked beyond the handshake.
    pub(crate) peer_check: Option<PeerCheck>,
    /// When the first certificate to expire expires, seconds since 1970.
    pub(crate) not_after_unix_s: Option<i64>,
}

/// Why TLS cannot be set up.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read, or does not hold what it should: which and why.
    File(PathBuf, String),
    /// Certificate and key do not belong together, or cannot be used: which certificate and why.
    Certificate(PathBuf, String),
    /// A cipher suite or curve that this TLS implementation does not have.
    NotAvailable(&'static str, String),
    /// Client certificates cannot be verified as configured.
    Verification(String),
    /// A certificate cannot be presented with the response that it should be.
    Stapling(String),
    /// The combination of versions and suites leaves nothing.
    Parameters(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, why) => write!(f, "tls: {}: {why}", path.display()),
            Self::Certificate(path, why) => {
                write!(f, "tls: error parsing X509 certificate/key pair {}: {why}", path.display())
            }
            Self::NotAvailable(what, name) => write!(f, "tls: {what} {name:?} is not available"),
            Self::Verification(why) => write!(f, "tls: client certificates cannot be verified: {why}"),
            Self::Stapling(why) => f.write_str(why),
            Self::Parameters(why) => write!(f, "tls: {why}"),
        }
    }
}

impl std::error::Error for TlsError {}

impl TlsSetup {
    /// Reads all files and checks that everything fits together. Certificates that are to be stapled have no response yet.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub(crate) fn load(tls: &Tls, stapling: &Stapling) -> Result<Self, TlsError> {
        let provider = Arc::new(provider(tls)?);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions(tls))
            .map_err(|error| TlsError::Parameters(error.to_string()))?;
        let monitoring = builder.clone().with_no_client_auth();
        let mut authorities = Vec::new();
        let builder = if tls.verify || tls.verify_and_map {
            if let Some(path) = &tls.ca_file {
                authorities = certificates(path)?;
            }
            let roots = Arc::new(roots(tls.ca_file.as_deref())?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(|error| TlsError::Verification(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let algorithms = provider.signature_verification_algorithms;
        let (mut presented, mut stapled, mut broken_promises) = (Vec::new(), Vec::new(), Vec::new());
        let mut not_after_unix_s = None;
        for files in &tls.certificates {
            let chain = certificates(&files.cert_file)?;
            let expires = chain.first().and_then(|leaf| not_after(leaf));
            not_after_unix_s = match (not_after_unix_s, expires) {
                (Some(one), Some(two)) => Some(std::cmp::min::<i64>(one, two)),
                (one, two) => one.or(two),
            };
            let key = private_key(&files.key_file)?;
            let certificate =
                |error: rustls::Error| TlsError::Certificate(files.cert_file.clone(), error.to_string());
            let leaf = chain.first().and_then(|leaf| Certificate::from_der(leaf).ok());
            let key = Arc::new(CertifiedKey::from_der(chain, key, &provider).map_err(certificate)?);
            let promises = leaf.as_ref().is_some_and(Certificate::must_staple);
            let stapled_with = match (Decision::of(stapling.mode, promises), leaf) {
                (Decision::Stapled { must_be_good }, Some(leaf)) => {
                    let path = &files.cert_file;
                    let ca_file = tls.ca_file.as_deref();
                    let (key, algorithms) = (key.clone(), algorithms.all);
                    Some(Arc::new(Stapled::new(
                        path,
                        key,
                        leaf,
                        must_be_good,
                        stapling,
                        ca_file,
                        algorithms,
                    )?))
                }
                (Decision::PlainAgainstPromise, _) => {
                    broken_promises.push(files.cert_file.clone());
                    None
                }
                (Decision::Plain | Decision::Stapled { .. }, _) => None,
            };
            stapled.extend(stapled_with.clone());
            presented.push(Presented { key, stapled: stapled_with });
        }
        if presented.is_empty() {
            return Err(TlsError::Parameters("no certificate is configured".into()));
        }
        let pinned = if tls.pinned_certs.is_empty() {
            None
        } else {
            let pins = PinnedCertificates::new(tls.pinned_certs.iter().map(String::as_str));
            Some(pins.map_err(|pin| TlsError::Verification(pin.to_string()))?)
        };
        let peer_check = match &tls.ocsp_peer {
            Some(options) => {
                let roots = roots(tls.ca_file.as_deref())?;
                Some(PeerCheck::new(options.clone(), roots, algorithms))
            }
            None => None,
        };
        let certificates = Arc::new(Certificates(presented));
        let config = Arc::new(builder.with_cert_resolver(certificates.clone()));
        let monitoring = match peer_check {
            Some(_) => config.clone(),
            None => Arc::new(monitoring.with_cert_resolver(certificates)),
        };
        Ok(Self {
            config,
            monitoring,
            pinned,
            authorities,
            rate: tls
                .connection_rate_limit
                .map(|per_second| Mutex::new(Rate { per_second, second: 0, used: 0 })),
            handshake_first: tls.handshake_first,
            timeout: tls.timeout,
            stapled,
            broken_promises,
            peer_check,
            not_after_unix_s,
        })
    }

    /// The server's side of a new handshake.
    pub(crate) fn session(&self) -> Result<ServerConnection, rustls::Error> {
        let mut session = ServerConnection::new(self.config.clone())?;
        // What waits is counted in the connection's own buffer; the session only holds what is being encrypted.
        session.set_buffer_limit(None);
        Ok(session)
    }

    /// The same for HTTPS monitoring, which asks nobody for a certificate unless those are checked with their authorities,
    /// as in the original.
    pub(crate) fn monitoring_config(&self) -> Arc<ServerConfig> {
        self.monitoring.clone()
    }

    /// Counts a handshake; false when this second has had as many as it may.
    pub(crate) fn admit(&self, now_ns: u64) -> bool {
        let Some(rate) = &self.rate else { return true };
        let mut rate = rate.lock();
        let second = now_ns / 1_000_000_000;
        if rate.second != second {
            rate.second = second;
            rate.used = 0;
        }
        rate.used += 1;
        rate.used <= rate.per_second
    }

    /// The certificate of a client and those that vouch for it, of those that it has shown and that TLS has verified.
    pub(crate) fn chain(&self, shown: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
        chain::verified(shown, &self.authorities)
    }

    /// Whether the client's certificate is one of those pinned, if any are.
    pub(crate) fn accepts(&self, certificate: Option<&PeerCertificate>) -> bool {
        match (&self.pinned, certificate) {
            (None, _) => true,
            (Some(pinned), Some(certificate)) => pinned.accept(certificate),
            (Some(_), None) => false,
        }
    }
}

/// Reads all TLS files that the options name, without using them: what `-t` checks beyond the text.
///
/// # Errors
/// See [`TlsError`].
pub fn check_tls(options: &Options) -> Result<(), TlsError> {
    let unstapled = Stapling { mode: StaplingMode::Never, urls: Vec::new() };
    options.tls.as_ref().map_or(Ok(()), |tls| TlsSetup::load(tls, &unstapled).map(drop))
}

/// TLS where this server is the client; without a block, with the authorities of the system.
///
/// # Errors
/// See [`TlsError`].
pub(crate) fn client_config(tls: Option<&Tls>) -> Result<ClientConfig, TlsError> {
    let default = Tls::default();
    let tls = tls.unwrap_or(&default);
    let provider = Arc::new(provider(tls)?);
    let roots = match &tls.ca_file {
        Some(path) => roots(Some(path))?,
        None => system_roots(),
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions(tls))
        .map_err(|error| TlsError::Parameters(error.to_string()))?;
    let builder = if tls.insecure {
        let anybody = Anybody(provider.signature_verification_algorithms);
        builder.dangerous().with_custom_certificate_verifier(Arc::new(anybody))
    } else {
        builder.with_root_certificates(roots)
    };
    let Some(files) = tls.certificates.first() else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(&files.cert_file)?;
    let key = private_key(&files.key_file)?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| TlsError::Certificate(files.cert_file.clone(), error.to_string()))
}

/// Believes every certificate (`insecure`); who presents one must still have its key.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

fn versions(tls: &Tls) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_1_2: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
    let [newest, _] = &FROM_1_2;
    match tls.min_version {
        TlsVersion::V1_2 => &FROM_1_2,
        TlsVersion::V1_3 => std::slice::from_ref(newest),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::File(path.to_owned(), error.to_string()))
}

/// Those that cannot be read are not trusted; a connection that needs them fails and says so.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Handshakes within one second.
#[derive(Debug)]
struct Rate {
    per_second: u64,
    second: u64,
    used: u64,
}

/// Several certificates: the first that fits the name the client asks for and the signatures it can check.
#[derive(Debug)]
struct Certificates(Vec<Presented>);

#[derive(Debug)]
struct Presented {
    key: Arc<CertifiedKey>,
    stapled: Option<Arc<Stapled>>,
}

impl Presented {
    /// None while it must not be presented without a response, and there is no current one.
    fn now(&self) -> Option<Arc<CertifiedKey>> {
        match &self.stapled {
            Some(stapled) => stapled.presented(),
            None => Some(self.key.clone()),
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let signs = |one: &&Presented| one.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = hello.server_name().and_then(|name| ServerName::try_from(name).ok()).and_then(|name| {
            let fits = |one: &&Presented| {
                one.key.end_entity_cert().is_ok_and(|leaf| {
                    ParsedCertificate::try_from(leaf)
                        .is_ok_and(|leaf| rustls::client::verify_server_name(&leaf, &name).is_ok())
                })
            };
            self.0.iter().filter(signs).find(fits)
        });
        named.or_else(|| self.0.iter().find(signs)).or_else(|| self.0.first())?.now()
    }
}

fn provider(tls: &Tls) -> Result<CryptoProvider, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    if !tls.cipher_suites.is_empty() {
        let mut chosen: Vec<SupportedCipherSuite> = Vec::new();
        for name in &tls.cipher_suites {
            let suite = provider
                .cipher_suites
                .iter()
                .find(|suite| suite_name(suite).eq_ignore_ascii_case(name))
                .ok_or_else(|| TlsError::NotAvailable("cipher suite", name.clone()))?;
            chosen.push(*suite);
        }
        // The suites of TLS 1.3 are not a matter of configuration in the original either.
        let fixed = provider.cipher_suites.iter().filter(|suite| suite.tls13().is_some());
        let mut suites: Vec<_> = fixed.copied().filter(|suite| !chosen.contains(suite)).collect();
        suites.extend(chosen);
        provider.cipher_suites = suites;
    }
    if !tls.curve_preferences.is_empty() {
        let mut groups: Vec<&'static dyn SupportedKxGroup> = Vec::new();
        for name in &tls.curve_preferences {
            groups.push(match name.to_ascii_uppercase().as_str() {
                "X25519" => aws_lc_rs::kx_group::X25519,
                "CURVEP256" => aws_lc_rs::kx_group::SECP256R1,
                "CURVEP384" => aws_lc_rs::kx_group::SECP384R1,
                "X25519MLKEM768" => aws_lc_rs::kx_group::X25519MLKEM768,
                _ => return Err(TlsError::NotAvailable("curve", name.clone())),
            });
        }
        provider.kx_groups = groups;
    }
    Ok(provider)
}

/// The name that configuration files use for a suite.
fn suite_name(suite: &SupportedCipherSuite) -> String {
    suite.suite().as_str().unwrap_or_default().replacen("TLS13_", "TLS_", 1)
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |error: rustls_pki_types::pem::Error| TlsError::File(path.into(), error.to_string());
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(file)?.collect::<Result<_, _>>().map_err(file)?;
    if chain.is_empty() {
        return Err(TlsError::File(path.into(), "no certificate found".into()));
    }
    Ok(chain)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let Some(path) = ca_file else {
        return Err(TlsError::Verification("ca_file is not set".into()));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::File(path.into(), error.to_string()))?;
    }
    Ok(roots)
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}
