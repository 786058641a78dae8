//! Asking the authorities about a client's certificate, and about those between it and the root, after the handshake has
//! verified them and before the client may say anything.
//!
//! Every way from the certificate to a root is looked at, as the original does; one without a fault is enough. On a way,
//! every certificate that says where to ask must be good; those that do not say are taken.

use std::cell::RefCell;

use data_encoding::BASE64;
use rustls::RootCertStore;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use sonata_auth::certificate::subject_and_issuer;
use sonata_broker::shared::{Level, Log as _};
use sonata_conf::options::OcspPeer;
use sonata_monitor::system::event::CertificateInfo;
use sonata_ocsp::certificate::{Certificate, Key};
use sonata_ocsp::der::{element, tag};
use sonata_ocsp::request::request;
use sonata_ocsp::response::{Allowance, Response, ResponseError, Status};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::{Ocsp, now_s};
use crate::inner::Inner;

/// Ways to a root that are looked at. There is one, unless authorities have certified one another.
const CHAINS_MAX: usize = 4;

/// Why a client is sent away.
pub(crate) const REJECTED: &str = "client not OCSP valid";

/// How clients are checked.
pub(crate) struct PeerCheck {
    options: OcspPeer,
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A certificate on the way, which is not the root, and who issued it.
struct Link {
    der: Vec<u8>,
    certificate: Certificate,
    issuer: Key,
}

impl PeerCheck {
    pub(crate) fn new(
        options: OcspPeer,
        roots: RootCertStore,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { options, roots, algorithms }
    }

    /// Whether a client with these certificates, which the handshake has verified, may come in. Tells the system account if
    /// not.
    pub(crate) async fn admits(&self, inner: &Inner, presented: &[CertificateDer<'static>]) -> bool {
        let chains = self.chains(presented);
        for chain in &chains {
            if self.is_valid(inner, presented, chain).await {
                return true;
            }
        }
        if let (Some(system), Some(peer)) = (inner.system.get(), presented.first()) {
            system.on_peer_rejected(describe(peer), REJECTED);
        }
        false
    }

    async fn is_valid(&self, inner: &Inner, presented: &[CertificateDer<'_>], chain: &[Link]) -> bool {
        for link in chain.iter().filter(|link| !urls(&link.certificate).is_empty()) {
            if let Err(reason) = self.check(inner, link).await {
                inner.logger.write(Level::Debug, format_args!("{reason}"));
                if let (Some(system), Some(peer)) = (inner.system.get(), presented.first()) {
                    system.on_peer_link_invalid(describe(peer), describe(&link.der), &reason);
                }
                return false;
            }
        }
        true
    }

    /// The ways from the client's certificate to a root. One that is a root itself has no links.
    fn chains(&self, presented: &[CertificateDer<'_>]) -> Vec<Vec<Link>> {
        let Some((leaf, intermediates)) = presented.split_first() else { return Vec::new() };
        let Ok(end_entity) = EndEntityCert::try_from(leaf) else { return Vec::new() };
        let chains = RefCell::new(Vec::new());
        let note = |path: &VerifiedPath<'_>| {
            let mut chains = chains.borrow_mut();
            chains.extend(links(leaf, path));
            // An error makes it look for another way.
            if chains.len() < CHAINS_MAX { Err(webpki::Error::UnknownIssuer) } else { Ok(()) }
        };
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_s().unsigned_abs()));
        let usage = KeyUsage::client_auth();
        let (algorithms, roots) = (self.algorithms.all, &self.roots.roots);
        // Whatever it says, what there is has been noted.
        let _ = end_entity.verify_for_usage(algorithms, roots, intermediates, now, usage, None, Some(&note));
        chains.into_inner()
    }

    /// # Errors
    /// Why the certificate is not good, for the event.
    async fn check(&self, inner: &Inner, link: &Link) -> Result<(), String> {
        let subject = subject_and_issuer(&link.der).map(|names| names.0).unwrap_or_default();
        let log = |level: Level, line: std::fmt::Arguments<'_>| inner.logger.write(level, line);
        let warn_only = |reason: String| {
            if !self.options.warn_only {
                return Err(reason);
            }
            log(
                Level::Warning,
                format_args!("OCSP verify fail for [{subject}] but WarnOnly is true so allowing"),
            );
            Ok(())
        };
        let fingerprint = fingerprint(&link.der);
        let (known, known_revoked) = self.remembered(&inner.ocsp, link, &fingerprint);
        let response = match known {
            Some(response) => response,
            None => {
                let question = request(&link.certificate, &link.issuer);
                let (urls, timeout) = (urls(&link.certificate), self.options.ca_timeout);
                let bytes = match inner.ocsp.responders.ask_about_peer(&urls, &question, timeout).await {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        log(
                            Level::Warning,
                            format_args!(
                                "Attempt to obtain OCSP response from CA responder for [{subject}] failed: {error}"
                            ),
                        );
                        let lets_in = self.options.allow_when_ca_unreachable && !known_revoked;
                        if self.options.warn_only || !lets_in {
                            return warn_only("Failed OCSP response fetch".into());
                        }
                        log(
                            Level::Warning,
                            format_args!(
                                "Failed to obtain OCSP CA response for [{subject}] but AllowWhenCAUnreachable set; no cached revocation so allowing"
                            ),
                        );
                        return Ok(());
                    }
                };
                let response = match self.read(&bytes, link) {
                    Ok(response) => response,
                    Err(ResponseError::Delegation) => {
                        let reason = format!("Invalid OCSP response delegation: {subject}");
                        log(Level::Warning, format_args!("{reason}"));
                        return warn_only(reason);
                    }
                    Err(error) => {
                        log(
                            Level::Error,
                            format_args!("Could not parse OCSP CA response for [{subject}]: {error}"),
                        );
                        return warn_only("Failed OCSP response parse".into());
                    }
                };
                if response.check_current(now_s(), self.allowance()).is_err() {
                    log(
                        Level::Warning,
                        format_args!("New OCSP CA response obtained for [{subject}] but not current"),
                    );
                    return warn_only("OCSP response not in effectivity window".into());
                }
                if let Some(cache) = &*inner.ocsp.cache.load() {
                    cache.put(&fingerprint, &subject, &response, bytes);
                }
                response
            }
        };
        match response.status {
            Status::Good => Ok(()),
            Status::Unknown if self.options.unknown_is_good => Ok(()),
            status => {
                log(
                    Level::Warning,
                    format_args!("OCSP verify fail for [{subject}] with CA status [{status}]"),
                );
                warn_only(format!("Invalid OCSP response status: {status}"))
            }
        }
    }

    /// The answer that is remembered, if it still holds; and whether one is remembered, current or not, that said revoked.
    fn remembered(&self, ocsp: &Ocsp, link: &Link, fingerprint: &str) -> (Option<Response>, bool) {
        let cache = ocsp.cache.load();
        let Some((cache, bytes)) = cache.as_ref().and_then(|cache| Some((cache, cache.get(fingerprint)?)))
        else {
            return (None, false);
        };
        let response = self.read(&bytes, link).ok();
        let known_revoked = response.is_some_and(|response| response.status == Status::Revoked);
        let current = response.filter(|response| response.check_current(now_s(), self.allowance()).is_ok());
        if current.is_none() {
            cache.reject(fingerprint);
        }
        (current, known_revoked)
    }

    fn read(&self, bytes: &[u8], link: &Link) -> Result<Response, ResponseError> {
        let (algorithms, skew_s) = (self.algorithms.all, self.allowance().skew_s);
        Response::verify(bytes, &link.certificate, &link.issuer, algorithms, now_s(), skew_s)
    }

    fn allowance(&self) -> Allowance {
        let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Allowance {
            skew_s: seconds(self.options.allowed_clockskew),
            unset_next_update_s: Some(seconds(self.options.cache_ttl_when_next_update_unset)),
        }
    }
}

/// The certificates of a verified way, from the leaf up to the last one before the root.
fn links(leaf: &CertificateDer<'_>, path: &VerifiedPath<'_>) -> Option<Vec<Link>> {
    let mut ders = vec![leaf.to_vec()];
    ders.extend(path.intermediate_certificates().map(|certificate| certificate.der().to_vec()));
    let certificates: Option<Vec<Certificate>> =
        ders.iter().map(|der| Certificate::from_der(der).ok()).collect();
    let certificates = certificates?;
    let anchor = path.anchor();
    // Kept without the headers of their sequences.
    let whole = |contents: &[u8]| element(tag::SEQUENCE, contents);
    let root =
        Key::new(whole(anchor.subject.as_ref()), whole(anchor.subject_public_key_info.as_ref())).ok()?;
    if certificates.len() == 1 && *certificates[0].key() == root {
        return Some(Vec::new());
    }
    let mut issuers: Vec<Key> =
        certificates.iter().skip(1).map(|certificate| certificate.key().clone()).collect();
    issuers.push(root);
    let links = ders.into_iter().zip(certificates).zip(issuers);
    Some(links.map(|((der, certificate), issuer)| Link { der, certificate, issuer }).collect())
}

/// Where a certificate says that can be asked about it, by protocols that there are.
fn urls(certificate: &Certificate) -> Vec<&str> {
    let is_web = |url: &&str| url.starts_with("http://") || url.starts_with("https://");
    certificate.responders().iter().map(String::as_str).filter(is_web).collect()
}

fn fingerprint(der: &[u8]) -> String {
    BASE64.encode(&Sha256::digest(der))
}

fn describe(der: &[u8]) -> CertificateInfo {
    let (subject, issuer) = subject_and_issuer(der).unwrap_or_default();
    CertificateInfo { subject, issuer, fingerprint: fingerprint(der), raw: BASE64.encode(der) }
}
