//! What a client listens to: `SUB`, `UNSUB`, and what a change of permissions does to both.
//!
//! A subscription stands in the connection's table (by its number) and in the account's interest (by its subject). One
//! who takes it out of the interest must have closed it first, so that it is taken out once.

use std::sync::Arc;

use sonata_auth::permission::SubscribeDecision;
use sonata_proto::encode::{ErrorText, Quoted};
use sonata_subject::{classify, tokens};

use super::{Client, Membership, lower};
use crate::shared::Level;
use crate::subscription::Subscription;
use crate::worker::Worker;

/// The queue group of the server's own services.
const SYSTEM_QUEUE: &[u8] = b"_sys_";

/// Tokens of a subscription's subject, whatever is configured: interest is searched by recursion over them. No default
/// control line is long enough to reach it.
const SUBJECT_TOKENS_MAX: usize = 2048;

impl Client {
    pub(super) fn subscribe(
        &mut self,
        worker: &mut Worker,
        subject: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
    ) {
        let Some(member) = &self.member else { return };
        let decision = match &member.permissions {
            Some(permissions) => permissions.can_subscribe(subject, queue),
            None => SubscribeDecision::Allowed,
        };
        if decision == SubscribeDecision::Denied || queue == Some(SYSTEM_QUEUE) {
            return self.refuse_subscribe(
                worker,
                &ErrorText::SubscribePermission { subject, queue },
                subject,
                sid,
            );
        }
        let tokens_max =
            self.settings.subject_tokens_max.unwrap_or(SUBJECT_TOKENS_MAX).min(SUBJECT_TOKENS_MAX);
        if tokens(subject).count() > tokens_max {
            return self.refuse_subscribe(worker, &ErrorText::SubscriptionTokens { subject }, subject, sid);
        }
        let limit = self.subscriptions_max();
        let filter = match decision {
            SubscribeDecision::Filtered(filter) => {
                member.permissions.as_ref().map(|permissions| (permissions.clone(), filter))
            }
            _ => None,
        };
        {
            let mut table = self.connection.subscription_table().lock();
            if limit.is_some_and(|max| table.len() >= max) {
                drop(table);
                self.log(Level::Error, format_args!("maximum subscriptions exceeded"));
                return self.send_error(worker, &ErrorText::MaximumSubscriptionsExceeded);
            }
            // One that has had its last message is as good as gone, whoever removes it.
            let ended = table.find(sid).filter(|subscription| subscription.is_closed()).cloned();
            if let Some(ended) = ended {
                table.remove(&ended);
            }
            if table.find(sid).is_none() {
                if classify(subject).is_err() {
                    drop(table);
                    return self.send_error(worker, &ErrorText::InvalidSubject);
                }
                let subscription =
                    Arc::new(Subscription::new(self.connection.clone(), subject, queue, sid, filter));
                table.insert(subscription.clone());
                drop(table);
                self.shared.subscribe(&member.account, subscription);
            }
        }
        self.acknowledge(worker);
    }

    fn refuse_subscribe(&mut self, worker: &mut Worker, text: &ErrorText<'_>, subject: &[u8], sid: &[u8]) {
        self.send_error(worker, text);
        let user = self.user();
        let sid = String::from_utf8_lossy(sid);
        self.log(
            Level::Error,
            format_args!("Subscription Violation - {user}, Subject {}, SID {sid}", Quoted(subject)),
        );
    }

    pub(super) fn unsubscribe(&mut self, worker: &mut Worker, sid: &[u8], max: Option<u64>) {
        let subscription = self.connection.subscription_table().lock().find(sid).cloned();
        if let Some(subscription) = subscription {
            let ends_now = {
                // The counters change under this lock only.
                let _outbound = self.connection.outbound().lock();
                let later = max.filter(|max| *max > subscription.delivered());
                subscription.set_max(later.unwrap_or(0));
                later.is_none() && subscription.close()
            };
            if ends_now {
                self.connection.subscription_table().lock().remove(&subscription);
                self.remove_interest(&subscription);
            }
        }
        self.acknowledge(worker);
    }

    /// Holds the subscriptions to the user's permissions as they are now: what is no longer allowed is removed, and
    /// the client is told; what reaches into something denied is filtered from now on.
    pub(super) fn review_subscriptions(&mut self, worker: &mut Worker) {
        let Some(member) = &self.member else { return };
        let permissions = member.permissions.clone();
        for subscription in self.connection.subscriptions() {
            let (subject, queue) = (subscription.subject(), subscription.queue());
            match permissions
                .as_ref()
                .map(|permissions| (permissions, permissions.can_subscribe(subject, queue)))
            {
                Some((_, SubscribeDecision::Denied)) => {
                    if subscription.close() {
                        self.connection.subscription_table().lock().remove(&subscription);
                        self.remove_interest(&subscription);
                        let text = ErrorText::SubscriptionRemoved { subject, queue, sid: subscription.sid() };
                        self.send_error(worker, &text);
                        let (subject, sid) = (Quoted(subject), Quoted(subscription.sid()));
                        self.log(
                            Level::Info,
                            format_args!("Removed sub {subject} (sid {sid}) - not authorized"),
                        );
                    }
                }
                Some((permissions, SubscribeDecision::Filtered(filter))) => {
                    subscription.set_filter(Some((permissions.clone(), filter)));
                }
                Some((_, SubscribeDecision::Allowed)) | None => subscription.set_filter(None),
            }
            if let Some(member) = &self.member {
                self.shared.stamps.touch(member.account.id(), subject);
            }
        }
    }

    pub(super) fn drop_subscriptions(&mut self) -> Vec<Arc<Subscription>> {
        let subscriptions = self.connection.subscription_table().lock().drain();
        for subscription in &subscriptions {
            if subscription.close() {
                self.remove_interest(subscription);
            }
        }
        subscriptions
    }

    fn remove_interest(&self, subscription: &Arc<Subscription>) {
        if let Some(member) = &self.member {
            self.shared.unsubscribe(&member.account, subscription);
        }
    }

    pub(super) fn subscriptions_max(&self) -> Option<usize> {
        let member = self.member.as_ref().and_then(Membership::subscriptions_max);
        lower(self.settings.subscriptions_max, member)
    }
}
