//! Snapshots and restores on their way: how many there may be, their threads, and where their clients are heard.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sonata_broker::service::Service;
use sonata_broker::subscription::Subscription;

use super::{Home, JetStream};

/// Snapshots and restores at the same time: each has a thread and, at worst, a window of chunks in memory.
const TRANSFERS_MAX: usize = 16;

/// How long a client may say nothing, in all directions.
pub(super) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// A transfer that can be called off.
pub(super) trait Transfer: Send + Sync {
    /// The server stops: whoever waits shall give up.
    fn stop(&self);
}

/// See the module.
#[derive(Default)]
pub(super) struct Transfers(Mutex<State>);

#[derive(Default)]
struct State {
    running: HashMap<u64, Arc<dyn Transfer>>,
    next: u64,
    stopped: bool,
}

impl Transfers {
    /// Calls all off and begins none any more.
    pub(super) fn stop(&self) {
        let mut state = self.0.lock();
        state.stopped = true;
        for transfer in state.running.values() {
            transfer.stop();
        }
    }
}

impl JetStream {
    /// Runs a transfer on a thread of its own.
    ///
    /// # Errors
    /// Why it cannot be begun, in words for the client.
    pub(super) fn begin_transfer(
        self: &Arc<Self>,
        transfer: Arc<dyn Transfer>,
        work: impl FnOnce(&Arc<JetStream>) + Send + 'static,
    ) -> Result<(), String> {
        let mut state = self.transfers.0.lock();
        if state.stopped {
            return Err("server is shutting down".into());
        }
        if state.running.len() >= TRANSFERS_MAX {
            return Err("too many snapshots and restores at the same time".into());
        }
        state.next += 1;
        let number = state.next;
        let own = self.clone();
        let thread = std::thread::Builder::new().name("js-transfer".into()).spawn(move || {
            work(&own);
            own.transfers.0.lock().running.remove(&number);
        });
        let thread = thread.map_err(|error| error.to_string())?;
        state.running.insert(number, transfer);
        // Under the lock, so that a server that stops waits for this one as well.
        let mut threads = self.threads.lock();
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }

    /// Hears an account's messages on a subject until it is dropped.
    pub(super) fn listen(
        self: &Arc<Self>,
        home: &Arc<Home>,
        subject: &str,
        service: Arc<dyn Service>,
    ) -> Listening {
        let subscription =
            Arc::new(Subscription::of_service(self.connection.clone(), subject.as_bytes(), service, 0));
        self.shared.subscribe(&home.broker, subscription.clone());
        Listening { jetstream: self.clone(), home: home.clone(), subscription }
    }
}

/// See [`JetStream::listen`].
pub(super) struct Listening {
    jetstream: Arc<JetStream>,
    home: Arc<Home>,
    subscription: Arc<Subscription>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.jetstream.shared.unsubscribe(&self.home.broker, &self.subscription);
    }
}
