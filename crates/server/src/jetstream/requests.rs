//! Requests to the API: answered in order by threads of their own, so that no client's traffic waits for another's request.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use sonata_broker::shared::Level;
use sonata_jetstream::advisory::ClientInfo;
use sonata_jetstream::api::subject::Operation;
use sonata_jetstream::node::Request;

use super::{Home, JetStream};

/// One for what changes something or tells of it, and one for direct gets, which are many and may wait for the disk. Only
/// the first [catches up](JetStream::catch_up): direct gets are answered from what is there.
pub(super) const QUEUES: usize = 2;

/// Requests that wait at most; when there are more, all that wait are dropped, as in the original.
const WAITING_MAX: usize = 10_000;

/// See the module.
#[derive(Default)]
pub(super) struct Requests {
    queues: [Queue; QUEUES],
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    dropped: usize,
    stopped: bool,
}

struct Waiting {
    home: Arc<Home>,
    text: Box<[u8]>,
    subject_bytes: usize,
    reply_bytes: usize,
    header_bytes: usize,
    /// Who asks, when somebody wants to know.
    client: Option<Box<ClientInfo>>,
}

impl Requests {
    pub(super) fn push(
        &self,
        home: &Arc<Home>,
        operation: &Operation<'_>,
        request: &Request<'_>,
        client: Option<ClientInfo>,
    ) {
        let queue = &self.queues[usize::from(matches!(operation, Operation::DirectGet { .. }))];
        let waiting = Waiting {
            home: home.clone(),
            text: [request.subject, request.reply, request.headers, request.payload]
                .concat()
                .into_boxed_slice(),
            subject_bytes: request.subject.len(),
            reply_bytes: request.reply.len(),
            header_bytes: request.headers.len(),
            client: client.map(Box::new),
        };
        let mut state = queue.state.lock();
        if state.waiting.len() >= WAITING_MAX {
            state.dropped += state.waiting.len();
            state.waiting.clear();
        }
        state.waiting.push_back(waiting);
        drop(state);
        queue.ready.notify_one();
    }

    pub(super) fn stop(&self) {
        for queue in &self.queues {
            queue.state.lock().stopped = true;
            queue.ready.notify_all();
        }
    }

    /// Requests that wait.
    pub(super) fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.state.lock().waiting.len()).sum()
    }

    /// All that wait, and how many were dropped before; `None` when it is over.
    fn take(&self, queue: usize) -> Option<(VecDeque<Waiting>, usize)> {
        let queue = &self.queues[queue];
        let mut state = queue.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if !state.waiting.is_empty() {
                let dropped = std::mem::take(&mut state.dropped);
                return Some((std::mem::take(&mut state.waiting), dropped));
            }
            queue.ready.wait(&mut state);
        }
    }
}

impl JetStream {
    /// Answers requests until the server stops.
    pub(super) fn run_requests(&self, queue: usize) {
        while let Some((waiting, dropped)) = self.requests.take(queue) {
            if dropped > 0 {
                self.log(
                    Level::Warning,
                    format_args!("JetStream API queue limit reached, dropping {dropped} requests"),
                );
                for home in self.homes() {
                    let now = self.clock.now_unix_ns();
                    self.post_for(&home, |out| {
                        self.node.tell_dropped(&home.account, dropped as i64, now, out)
                    });
                }
            }
            if queue == 0 {
                self.catch_up();
            }
            for one in waiting {
                self.with_worker(|worker| {
                    let (subject, rest) = one.text.split_at(one.subject_bytes);
                    let (reply, rest) = rest.split_at(one.reply_bytes);
                    let (headers, payload) = rest.split_at(one.header_bytes);
                    let now = self.clock.now_unix_ns();
                    let request =
                        Request { subject, reply, headers, payload, now, client: one.client.as_deref() };
                    self.node.handle(&one.home.account, request, &mut self.post(&one.home, worker.outbox()));
                });
                self.kick();
            }
        }
    }
}
