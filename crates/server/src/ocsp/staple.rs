//! Presenting this server's own certificate together with what its authority says of it.
//!
//! A response is had before the server begins, kept in a file, and renewed halfway to the moment when there should be
//! something newer. Handshakes only take what is there. When it has run out they fail, since a client was promised one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use sonata_broker::shared::{Level, Log as _};
use sonata_conf::duration;
use sonata_conf::options::{Stapling, StaplingMode};
use sonata_ocsp::Algorithms;
use sonata_ocsp::certificate::Certificate;
use sonata_ocsp::request::request;
use sonata_ocsp::response::{Allowance, NotCurrent, Response, Status};

use super::fetch::Responders;
use super::{now_s, replace_file, shown};
use crate::inner::Inner;
use crate::logger::Logger;
use crate::server::Server;
use crate::tls::{self, TlsError};

/// Of the store's folder.
const FOLDER: &str = "ocsp";

/// How long one responder may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// When a response does not say when there will be another.
const INTERVAL_UNSET: Duration = Duration::from_secs(24 * 3600);

/// However soon a response runs out, responders are not asked more often.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// While there is no response to present, and every handshake fails for it.
const INTERVAL_WITHOUT: Duration = Duration::from_secs(5);

/// Clients compare a staple's times with their own clocks, so none that is nearly current is presented.
const EXACT: Allowance = Allowance { skew_s: 0, unset_next_update_s: None };

/// What is to be done with a certificate.
pub(crate) enum Decision {
    /// To be presented alone.
    Plain,
    /// To be presented alone although it says that it never is.
    PlainAgainstPromise,
    /// To be presented with a response; the server stops when that is not good.
    Stapled {
        /// Whether the server stops.
        must_be_good: bool,
    },
}

impl Decision {
    /// As the configuration says, for a certificate that has promised or not.
    pub(crate) fn of(mode: StaplingMode, must_staple: bool) -> Self {
        match (mode, must_staple) {
            (StaplingMode::Never, true) => Self::PlainAgainstPromise,
            (StaplingMode::Always, _) | (StaplingMode::Must, true) => Self::Stapled { must_be_good: true },
            (StaplingMode::Auto, true) => Self::Stapled { must_be_good: false },
            (StaplingMode::Never | StaplingMode::Auto | StaplingMode::Must, false) => Self::Plain,
        }
    }
}

/// A certificate that is presented with a response.
pub(crate) struct Stapled {
    path: PathBuf,
    key: Arc<CertifiedKey>,
    leaf: Certificate,
    /// SHA-256 of the leaf, lower-case hexadecimal: the name of the response's file.
    fingerprint: String,
    issuer: Certificate,
    urls: Vec<String>,
    must_be_good: bool,
    algorithms: Algorithms<'static>,
    current: ArcSwapOption<Current>,
}

/// A response, ready to be presented.
struct Current {
    response: Response,
    key: Arc<CertifiedKey>,
}

impl Stapled {
    /// # Errors
    /// The leaf cannot be read, or its issuer is neither the second certificate of the file nor among the authorities.
    pub(crate) fn new(
        path: &Path,
        key: Arc<CertifiedKey>,
        leaf: Certificate,
        must_be_good: bool,
        stapling: &Stapling,
        ca_file: Option<&Path>,
        algorithms: Algorithms<'static>,
    ) -> Result<Self, TlsError> {
        let issuer = issuer(&leaf, &key.cert, ca_file, algorithms)?;
        let urls = if stapling.urls.is_empty() { leaf.responders().to_vec() } else { stapling.urls.clone() };
        let der = key.cert.first().map(|leaf| leaf.as_ref()).unwrap_or_default();
        let fingerprint = Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            path: path.to_owned(),
            leaf,
            fingerprint,
            issuer,
            urls,
            must_be_good,
            algorithms,
            current: ArcSwapOption::empty(),
            key,
        })
    }

    /// What is presented; none while there is no current response.
    pub(crate) fn presented(&self) -> Option<Arc<CertifiedKey>> {
        let current = self.current.load();
        let current = current.as_ref()?;
        current.response.check_current(now_s(), EXACT).ok()?;
        Some(current.key.clone())
    }

    /// Whether it is the same certificate.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.issuer == other.issuer
    }

    /// Takes the response of the same certificate in another setup.
    pub(super) fn inherit(&self, before: &Self) {
        let current = before.current.load();
        let ocsp = current.as_ref().and_then(|current| Some((current.response, current.key.ocsp.clone()?)));
        if let Some((response, ocsp)) = ocsp {
            self.present(response, ocsp);
        }
    }

    /// A response from memory, from a file, or from a responder.
    ///
    /// # Errors
    /// See [`super::Ocsp::staple`].
    pub(super) async fn obtain(
        &self,
        responders: &Responders,
        store: Option<&Path>,
        logger: &Logger,
    ) -> Result<(), TlsError> {
        if let Some(store) = store {
            make_folder(&store.join(FOLDER))?;
        }
        let path = self.path.display();
        if self.presented().is_none() {
            match store.map(|store| self.stored(store)) {
                Some(Ok((response, ocsp))) => self.present(response, ocsp),
                _ => self.renew(responders, store, logger).await.map_err(|error| {
                    TlsError::Stapling(format!("bad OCSP status update for certificate at '{path}': {error}"))
                })?,
            }
        }
        match self.response().map(|response| response.status) {
            Some(status) if status != Status::Good && self.must_be_good => Err(TlsError::Stapling(format!(
                "found existing OCSP status for certificate at '{path}': {status}"
            ))),
            _ => Ok(()),
        }
    }

    /// Another response from a responder.
    async fn renew(
        &self,
        responders: &Responders,
        store: Option<&Path>,
        logger: &Logger,
    ) -> Result<(), String> {
        let question = request(&self.leaf, self.issuer.key());
        let ocsp = responders.ask_for_staple(&self.urls, &question, TIMEOUT).await?;
        let response = self.verify(&ocsp).map_err(|error| format!("failed to get remote status: {error}"))?;
        if let Some(store) = store
            && let Err(error) = replace_file(&self.file(store), &ocsp)
        {
            // Only the next start misses it.
            logger.write(Level::Warning, format_args!("failed to write ocsp status: {error}"));
        }
        self.present(response, ocsp);
        Ok(())
    }

    /// The response that an earlier run has left.
    fn stored(&self, store: &Path) -> Result<(Response, Vec<u8>), String> {
        let ocsp = std::fs::read(self.file(store)).map_err(|error| error.to_string())?;
        self.verify(&ocsp).map(|response| (response, ocsp))
    }

    fn file(&self, store: &Path) -> PathBuf {
        store.join(FOLDER).join(&self.fingerprint)
    }

    /// # Errors
    /// The sentence for the log.
    fn verify(&self, ocsp: &[u8]) -> Result<Response, String> {
        let now_s = now_s();
        let response =
            Response::verify(ocsp, &self.leaf, self.issuer.key(), self.algorithms, now_s, EXACT.skew_s);
        let response = response.map_err(|error| error.to_string())?;
        response.check_current(now_s, EXACT).map_err(|error| match error {
            NotCurrent::Past(at_s) => format!("invalid ocsp NextUpdate, is past time: {}", shown(at_s)),
            NotCurrent::Future(at_s) => format!("invalid ocsp ThisUpdate, is future time: {}", shown(at_s)),
        })?;
        Ok(response)
    }

    fn present(&self, response: Response, ocsp: Vec<u8>) {
        let key = CertifiedKey { ocsp: Some(ocsp), ..CertifiedKey::clone(&self.key) };
        self.current.store(Some(Arc::new(Current { response, key: Arc::new(key) })));
    }

    fn response(&self) -> Option<Response> {
        self.current.load().as_ref().map(|current| current.response)
    }

    /// When to ask again.
    fn interval(&self) -> Duration {
        let Some(response) = self.response() else { return INTERVAL_WITHOUT };
        let Some(next_update_s) = response.next_update_s else { return INTERVAL_UNSET };
        match u64::try_from(next_update_s.saturating_sub(now_s())) {
            Ok(left) => (Duration::from_secs(left) / 2).max(INTERVAL_MIN),
            Err(_) => INTERVAL_WITHOUT,
        }
    }

    fn next_update(&self) -> String {
        let next_update_s = self.response().and_then(|response| response.next_update_s);
        next_update_s.map_or("unknown".to_owned(), |at_s| shown(at_s).to_string())
    }
}

impl fmt::Debug for Stapled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stapled").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Renews a certificate's response again and again, and stops the server when it must not go on.
pub(super) async fn keep_fresh(stapled: Arc<Stapled>, inner: Weak<Inner>) {
    let path = stapled.path.display();
    let mut found = "Found OCSP status for Client certificate at";
    loop {
        let interval = stapled.interval();
        {
            let Some(inner) = inner.upgrade() else { return };
            let log = |level: Level, line: fmt::Arguments<'_>| inner.logger.write(level, line);
            match stapled.response().map_or(Status::Unknown, |response| response.status) {
                Status::Good => log(
                    Level::Info,
                    format_args!(
                        "{found} '{path}': good, next update {}, checking again in {}",
                        stapled.next_update(),
                        duration::show(interval)
                    ),
                ),
                status => {
                    log(Level::Error, format_args!("{found} '{path}': {status}"));
                    if stapled.must_be_good {
                        return Server::of(inner, None).shutdown().await;
                    }
                }
            }
        }
        found = "Received OCSP status for Client certificate";
        let mut interval = interval;
        loop {
            tokio::time::sleep(interval).await;
            let Some(inner) = inner.upgrade() else { return };
            let store = inner.options.load().store_dir.clone();
            match stapled.renew(&inner.ocsp.responders, store.as_deref(), &inner.logger).await {
                Ok(()) => break,
                Err(error) => {
                    interval = stapled.interval();
                    let again = duration::show(interval);
                    inner.logger.write(
                        Level::Error,
                        format_args!(
                            "Bad OCSP status update for certificate '{path}': {error}, trying again in {again}"
                        ),
                    );
                }
            }
        }
    }
}

/// The second certificate of the chain if there is one, else an authority that issued the leaf.
fn issuer(
    leaf: &Certificate,
    chain: &[CertificateDer<'_>],
    ca_file: Option<&Path>,
    algorithms: Algorithms<'_>,
) -> Result<Certificate, TlsError> {
    let nobody = || TlsError::Stapling("no issuers found".into());
    let candidates = match (chain.get(1), ca_file) {
        (Some(issuer), _) => vec![issuer.clone().into_owned()],
        (None, Some(path)) => tls::certificates(path)?,
        (None, None) => rustls_native_certs::load_native_certs().certs,
    };
    let issued = |candidate: &Certificate| leaf.is_issued_by(candidate.key(), algorithms);
    let issuer = candidates.iter().filter_map(|der| Certificate::from_der(der).ok()).find(issued);
    match issuer.ok_or_else(nobody)? {
        issuer if issuer.is_authority() => Ok(issuer),
        _ => Err(TlsError::Stapling("the certificate's issuer is not an authority".into())),
    }
}

fn make_folder(folder: &Path) -> Result<(), TlsError> {
    std::fs::create_dir_all(folder).map_err(|error| {
        TlsError::Stapling(format!("could not create OCSP storage directory - {}: {error}", folder.display()))
    })
}
