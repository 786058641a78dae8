//! The states of certificates: those of this server, which it staples to its handshakes, and those of its clients, which it
//! checks before it lets them in. What is asked and how answers are judged is in `sonata_ocsp`; here are the asking, the
//! keeping and the consequences.

mod cache;
mod fetch;
mod peer;
mod staple;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use sonata_broker::shared::{Level, Log as _};
use sonata_conf::options::{OcspCache, Options};
use sonata_monitor::text::Timestamp;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub(crate) use self::cache::{CacheStats, ResponseCache};
pub(crate) use self::peer::{PeerCheck, REJECTED};
pub(crate) use self::staple::{Decision, Stapled};
use crate::clock::Clock;
use crate::inner::Inner;
use crate::logger::Logger;
use crate::tls::{TlsError, TlsSetup};
use fetch::Responders;

/// See the module.
pub(crate) struct Ocsp {
    runtime: Handle,
    responders: Responders,
    /// Answers about clients; only while clients are checked, and unless nothing is to be kept.
    cache: ArcSwapOption<ResponseCache>,
    /// What renews staples and writes the cache's file.
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Ocsp {
    /// Of a server in the current runtime.
    pub(crate) fn new() -> Self {
        Self {
            runtime: Handle::current(),
            responders: Responders::default(),
            cache: ArcSwapOption::empty(),
            tasks: Mutex::default(),
        }
    }

    /// Gets a response for each certificate that is to be stapled: those that `old` presents, from files, or from the
    /// responders.
    ///
    /// # Errors
    /// There is none to be had, or it says what the configuration does not put up with.
    pub(crate) async fn staple(
        &self,
        setup: &TlsSetup,
        old: Option<&TlsSetup>,
        options: &Options,
        logger: &Logger,
    ) -> Result<(), TlsError> {
        for path in &setup.broken_promises {
            let path = path.display();
            logger.write(
                Level::Warning,
                format_args!("Certificate at '{path}' has MustStaple but OCSP is disabled"),
            );
        }
        for stapled in &setup.stapled {
            if let Some(before) = old.and_then(|old| old.stapled.iter().find(|one| one.is_same_as(stapled))) {
                stapled.inherit(before);
            }
            stapled.obtain(&self.responders, options.store_dir.as_deref(), logger).await?;
        }
        Ok(())
    }

    /// The same from a thread that is not in the runtime, or is and must wait. It runs on its own, so that it ends even when
    /// the runtime has no other thread.
    ///
    /// # Errors
    /// See [`Ocsp::staple`].
    pub(crate) fn staple_blocking(
        &self,
        setup: &TlsSetup,
        old: Option<&TlsSetup>,
        options: &Options,
        logger: &Logger,
    ) -> Result<(), TlsError> {
        if setup.stapled.is_empty() && setup.broken_promises.is_empty() {
            return Ok(());
        }
        let failed = |error: std::io::Error| TlsError::Stapling(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        std::thread::scope(|scope| {
            let own = scope.spawn(move || runtime.block_on(self.staple(setup, old, options, logger)));
            own.join().unwrap_or_else(|_| Err(TlsError::Stapling("the thread that asks has ended".into())))
        })
    }

    /// Begins to keep staples fresh and to keep answers, as `inner` is set up now; whatever was begun before ends.
    pub(crate) fn begin(&self, inner: &Arc<Inner>) {
        let _in_runtime = self.runtime.enter();
        let mut tasks = self.tasks.lock();
        tasks.drain(..).for_each(|task| task.abort());
        let setup = inner.tls.load_full();
        let options = inner.options.load_full();
        for stapled in setup.iter().flat_map(|setup| &setup.stapled) {
            inner.logger.write(Level::Info, format_args!("OCSP Stapling enabled for Client connections"));
            let keeping = staple::keep_fresh(stapled.clone(), Arc::downgrade(inner));
            tasks.push(tokio::spawn(keeping).abort_handle());
        }
        let checks_peers = setup.is_some_and(|setup| setup.peer_check.is_some());
        self.renew_cache(checks_peers.then_some(&options.ocsp_cache), &inner.logger);
        if let Some(cache) = self.cache.load_full() {
            tasks.push(tokio::spawn(cache::keep_saved(cache, inner.logger.clone())).abort_handle());
        }
    }

    /// Another cache if it is to be another; the one that goes is saved first.
    fn renew_cache(&self, wanted: Option<&OcspCache>, logger: &Logger) {
        let current = self.cache.load_full();
        let wanted_local = wanted.filter(|wanted| wanted.is_local);
        if current.as_ref().map(|current| current.options()) == wanted_local {
            return;
        }
        if let Some(current) = current {
            current.save(logger);
        }
        let new = wanted_local.map(|options| Arc::new(ResponseCache::load(options.clone(), logger)));
        self.cache.store(new);
        if let Some(wanted) = wanted {
            let kind = if wanted.is_local { "local" } else { "none" };
            logger.write(Level::Info, format_args!("OCSP peer cache online, type [{kind}]"));
        }
    }

    /// Stops keeping. Blocks while the file is written.
    pub(crate) fn end(&self, logger: &Logger) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        if let Some(cache) = self.cache.swap(None) {
            cache.save(logger);
        }
    }

    /// What the cache of clients' answers holds and did; none without one.
    pub(crate) fn cache_stats(&self) -> Option<CacheStats> {
        self.cache.load().as_ref().map(|cache| cache.stats())
    }
}

/// Seconds since 1970 by the host's calendar, as certificates count.
fn now_s() -> i64 {
    Clock::calendar_unix_ns().div_euclid(1_000_000_000)
}

/// A time of a response, for the log.
fn shown(unix_s: i64) -> Timestamp {
    Timestamp(unix_s.saturating_mul(1_000_000_000))
}

/// Writes a file so that it is either as it was or as it should be. The folder is there.
fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("tmp");
    std::fs::write(&unfinished, bytes)?;
    std::fs::File::open(&unfinished)?.sync_all()?;
    std::fs::rename(&unfinished, path)
}
