//! Subjects that streams listen on to be fed by streams elsewhere.

use std::sync::Arc;

use sonata_broker::service::{Inbound, Outbox, Service};
use sonata_broker::subscription::Subscription;
use sonata_jetstream::stream::{Ear, Ears, Heard, Stream};

use super::service::StreamService;
use super::{Handle, Home, JetStream};

/// Messages for the feeds of one stream.
struct FeedService(StreamService);

impl Service for FeedService {
    fn receive(&self, message: &Inbound<'_>, outbox: &mut Outbox) -> bool {
        let heard = Heard {
            subject: message.subject,
            reply: message.reply.unwrap_or_default(),
            headers: message.headers,
            payload: message.payload,
        };
        let token = message.subscription.token();
        self.0.take(message.now_ns, outbox, |machine, now, post| machine.hear(token, heard, now, post))
    }

    fn settle(&self, _outbox: &mut Outbox) {
        self.0.settle();
    }
}

/// What a stream listens on, and the number of the last change.
#[derive(Default)]
pub(super) struct Listening {
    number: u64,
    subscriptions: Vec<Arc<Subscription>>,
}

impl Listening {
    pub(super) fn subscriptions(&self) -> &Vec<Arc<Subscription>> {
        &self.subscriptions
    }
}

impl JetStream {
    /// A stream listens on these subjects and no others.
    pub(super) fn listen_for_feeds(self: &Arc<Self>, stream: &Arc<Stream>, home: &Arc<Home>, ears: Ears) {
        let handle = Arc::new(Handle { stream: stream.clone(), home: home.clone() });
        let service: Arc<dyn Service> =
            Arc::new(FeedService(StreamService { jetstream: self.itself.clone(), handle }));
        let subscribed = |ear: &Ear| {
            let (connection, subject) = (self.connection.clone(), ear.subject.as_bytes());
            Arc::new(Subscription::of_service(connection, subject, service.clone(), ear.token))
        };
        let is_of = |subscription: &Arc<Subscription>, ear: &Ear| {
            subscription.token() == ear.token && subscription.subject() == ear.subject.as_bytes()
        };
        let mut all = self.feeds.lock();
        let before = all.entry(stream.lane).or_default();
        if before.number > ears.number {
            return;
        }
        let old = std::mem::take(&mut before.subscriptions);
        let (kept, gone): (Vec<_>, Vec<_>) =
            old.into_iter().partition(|known| ears.list.iter().any(|ear| is_of(known, ear)));
        let unknown = ears.list.iter().filter(|ear| !kept.iter().any(|known| is_of(known, ear)));
        let new: Vec<_> = unknown.map(subscribed).collect();
        if stream.is_deleted() {
            all.remove(&stream.lane);
        } else {
            before.number = ears.number;
            before.subscriptions = kept.into_iter().chain(new.iter().cloned()).collect();
        }
        drop(all);
        for subscription in gone {
            self.shared.unsubscribe(&home.broker, &subscription);
        }
        for subscription in new {
            self.shared.subscribe(&home.broker, subscription);
        }
    }
}
