//! What the broker calls: messages for streams, the API, acknowledgements. On the thread of the client that publishes, so
//! nothing here waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sonata_broker::connection::Connection;
use sonata_broker::msgtrace::TracedStream;
use sonata_broker::service::{Inbound, Outbox, Service};
use sonata_broker::subscription::Subscription;
use sonata_jetstream::advisory::ClientInfo;
use sonata_jetstream::api::subject::Operation;
use sonata_jetstream::node::{Heard, Node, Request};
use sonata_jetstream::stream::{Incoming, Machine};
use sonata_jetstream::timestamp::Timestamp;

use super::{Handle, Home, Itself, JetStream, Post};

/// Messages on the subjects of one stream.
pub(super) struct StreamService {
    pub(super) jetstream: Arc<Itself>,
    pub(super) handle: Arc<Handle>,
}

impl StreamService {
    /// Lets the stream take something that a client has published, at the time of its batch; false when there is none.
    pub(super) fn take(
        &self,
        now_ns: u64,
        outbox: &mut Outbox,
        take: impl FnOnce(&mut Machine, i64, &mut Post<'_>),
    ) -> bool {
        let jetstream = self.jetstream.load();
        let Some(jetstream) = &*jetstream else { return false };
        if self.handle.stream.is_deleted() || self.handle.stream.is_resting() {
            return false;
        }
        let is_behind = {
            let mut post = jetstream.post(&self.handle.home, outbox);
            let mut machine = self.handle.stream.lock();
            take(&mut machine, jetstream.clock.unix_ns(now_ns), &mut post);
            machine.is_behind()
        };
        if is_behind {
            outbox.hold_back();
        }
        true
    }

    /// The batch is through.
    pub(super) fn settle(&self) {
        let jetstream = self.jetstream.load();
        let Some(jetstream) = &*jetstream else { return };
        jetstream.kick();
        jetstream.node.after(&self.handle.stream);
    }
}

/// Messages that are taken under one lock of their stream, so that the journal's writer is not kept out for long.
const RUN_MAX: usize = 32;

/// A message as its stream sees it.
fn incoming<'a>(message: &'a Inbound<'_>) -> Incoming<'a> {
    Incoming {
        subject: message.subject,
        reply: message.reply.unwrap_or_default(),
        headers: message.headers,
        payload: message.payload,
    }
}

impl Service for StreamService {
    fn receive(&self, message: &Inbound<'_>, outbox: &mut Outbox) -> bool {
        self.take(message.now_ns, outbox, |machine, now, post| machine.receive(incoming(message), now, post))
    }

    fn receive_run(&self, messages: &mut dyn Iterator<Item = Inbound<'_>>, outbox: &mut Outbox) -> bool {
        let mut taken = false;
        while let Some(first) = messages.next() {
            taken |= self.take(first.now_ns, outbox, |machine, now, post| {
                machine.receive(incoming(&first), now, post);
                for message in messages.take(RUN_MAX - 1) {
                    machine.receive(incoming(&message), now, post);
                }
            });
        }
        taken
    }

    fn traced(&self, message: &Inbound<'_>) -> Option<TracedStream> {
        let jetstream = self.jetstream.load_full()?;
        let now = jetstream.clock.unix_ns(message.now_ns);
        let foretold = self.handle.stream.lock().foretell(&incoming(message), now);
        Some(TracedStream {
            stream: foretold.stream,
            subject: String::from_utf8_lossy(&foretold.subject).into_owned(),
            no_interest: foretold.no_interest,
            error: foretold.error,
        })
    }

    fn settle(&self, _outbox: &mut Outbox) {
        StreamService::settle(self);
    }
}

/// The subjects of the API, of acknowledgements and of flow control in one account.
pub(super) struct AccountService {
    pub(super) jetstream: Arc<Itself>,
    pub(super) home: Arc<Home>,
    /// What the subjects of the domain begin with.
    domain: Option<String>,
}

impl AccountService {
    /// A subject of the domain as one of the account itself.
    fn without_domain(&self, subject: &[u8]) -> Option<Vec<u8>> {
        let rest = subject.strip_prefix(self.domain.as_ref()?.as_bytes())?;
        Some([b"$JS.API.", rest].concat())
    }
}

/// Which of its subscriptions a message came by.
const API: u64 = 1;
const ACKNOWLEDGEMENT: u64 = 2;
const FLOW_CONTROL: u64 = 3;

impl Service for AccountService {
    fn receive(&self, message: &Inbound<'_>, outbox: &mut Outbox) -> bool {
        let jetstream = self.jetstream.load();
        let Some(jetstream) = &*jetstream else { return false };
        let mapped = self.without_domain(message.subject);
        let request = Request {
            subject: mapped.as_deref().unwrap_or(message.subject),
            reply: message.reply.unwrap_or_default(),
            headers: message.headers,
            payload: message.payload,
            now: jetstream.clock.unix_ns(message.now_ns),
            client: None,
        };
        let account = &self.home.account;
        match message.subscription.token() {
            ACKNOWLEDGEMENT => {
                let heard =
                    jetstream.node.acknowledge(account, request, &mut jetstream.post(&self.home, outbox));
                jetstream.note(heard, outbox)
            }
            FLOW_CONTROL => {
                let heard =
                    jetstream.node.flow_control(account, request, &mut jetstream.post(&self.home, outbox));
                jetstream.note(heard, outbox)
            }
            _ => {
                // Unknown requests are heard, but not answered, as in the original.
                let Some(operation) = Operation::parse(request.subject) else { return true };
                if Node::is_quick(&operation) {
                    let mut post = jetstream.post(&self.home, outbox);
                    let heard = jetstream.node.handle_quickly(account, &operation, request, &mut post);
                    return jetstream.note(heard, outbox);
                }
                let mut post = jetstream.post(&self.home, outbox);
                if let Some(answered) =
                    jetstream.node.direct_get_quickly(account, &operation, request, &mut post)
                {
                    return answered;
                }
                let answers = jetstream.node.answers(account, &operation);
                if answers {
                    let is_told = matches!(
                        operation,
                        Operation::StreamSnapshot { .. } | Operation::StreamRestore { .. }
                    ) || jetstream.node.is_audited(account);
                    let client = is_told.then(|| jetstream.client_info(&self.home, message.publisher));
                    jetstream.requests.push(&self.home, &operation, &request, client);
                }
                answers
            }
        }
    }

    fn settle(&self, _outbox: &mut Outbox) {}
}

impl JetStream {
    /// The stream that was moved takes its turn when the batch is through. Whether anybody is there.
    fn note(&self, heard: Heard, outbox: &mut Outbox) -> bool {
        if let Some(stream) = &heard.moved {
            self.turn_after(stream, outbox);
        }
        heard.known
    }

    /// A client as advisories describe it.
    fn client_info(&self, home: &Home, client: &Connection) -> ClientInfo {
        let profile = client.profile();
        ClientInfo {
            start: Timestamp(self.clock.unix_ns(client.started_ns())),
            host: client.remote().map(|remote| remote.ip().to_string()).unwrap_or_default(),
            id: client.id(),
            acc: home.account.name.to_string(),
            user: profile.user.into(),
            name: profile.name.into(),
            lang: profile.lang.into(),
            ver: profile.version.into(),
            rtt: client.rtt_ns(),
            server: self.node.settings().server_name.to_string(),
            kind: "Client",
            client_type: "nats",
        }
    }

    /// Subscribes to what an account's clients ask of JetStream, as far as that was not done before. An account without
    /// JetStream is only to be told so.
    pub(super) fn serve(self: &Arc<Self>, home: &Arc<Home>) {
        let domain = self.options.domain.as_ref().map(|domain| format!("$JS.{domain}.API."));
        let service = Arc::new(AccountService { jetstream: self.itself.clone(), home: home.clone(), domain });
        let mut subjects = Vec::new();
        if !home.is_served.swap(true, Ordering::Relaxed) {
            subjects.push(("$JS.API.>".to_owned(), API));
            if let Some(domain) = &self.options.domain {
                subjects.push((format!("$JS.{domain}.API.>"), API));
            }
        }
        if home.account.is_enabled() && !home.is_acknowledged.swap(true, Ordering::Relaxed) {
            subjects.push(("$JS.ACK.>".to_owned(), ACKNOWLEDGEMENT));
            subjects.push(("$JS.FC.>".to_owned(), FLOW_CONTROL));
        }
        for (subject, token) in subjects {
            let subscription = Arc::new(Subscription::of_service(
                self.connection.clone(),
                subject.as_bytes(),
                service.clone(),
                token,
            ));
            home.subscriptions.lock().push(subscription.clone());
            self.shared.subscribe(&home.broker, subscription);
        }
    }
}
