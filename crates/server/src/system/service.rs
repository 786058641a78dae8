//! What the broker calls: requests, on the thread of the client that asks. They are only put into a queue here, except for
//! the one about the client itself, which asks nothing but the client.

use std::sync::{Arc, Weak};

use sonata_auth::permission::{PermissionRules, SubjectAccess};
use sonata_broker::account::Account;
use sonata_broker::service::{Inbound, Outbox, Outgoing, Service};
use sonata_broker::subscription::Subscription;
use sonata_monitor::system::reply;
use sonata_monitor::system::request::Topic;
use sonata_monitor::system::user_info::{Permissions, Responses, Subjects, UserInfo};

use super::System;
use super::encoding::Encoding;
use super::requests::Request;
use super::subjects::{self, Operation};
use crate::inner::Inner;
use crate::view;

/// The subjects of one account.
pub(super) struct AccountService {
    system: Weak<System>,
    /// The subscription's token is the place in this list.
    operations: Vec<Operation>,
    /// The only account that can be asked about; none in the system account, from which all can.
    bound_to: Option<Arc<str>>,
}

impl Service for AccountService {
    fn receive(&self, message: &Inbound<'_>, outbox: &mut Outbox) -> bool {
        let Some(system) = self.system.upgrade() else { return false };
        let place = usize::try_from(message.subscription.token()).unwrap_or(usize::MAX);
        let Some(operation) = self.operations.get(place).copied() else { return false };
        let is_statsz = operation == Operation::Server(Topic::Statsz);
        match message.reply {
            // Without one it is told to all who listen.
            None if !is_statsz => {}
            None => system.ask(self.request(operation, message, b"")),
            Some(reply) => match operation {
                Operation::UserInfo => system.tell_user(message, reply, user_info, outbox),
                Operation::UserInfoOfAccount => {
                    system.tell_user(message, reply, |_, _| UserInfo::default(), outbox);
                }
                operation => system.ask(self.request(operation, message, reply)),
            },
        }
        true
    }

    fn settle(&self, _outbox: &mut Outbox) {}
}

impl AccountService {
    fn request(&self, operation: Operation, message: &Inbound<'_>, reply: &[u8]) -> Request {
        let about = match &self.bound_to {
            Some(account) => account.to_string(),
            None => subjects::named_account(message.subject),
        };
        Request {
            operation,
            account: message.account.clone(),
            about,
            reply: reply.into(),
            body: message.payload.into(),
            encoding: Encoding::accepted(message.headers),
        }
    }
}

impl System {
    /// Subscribes to what the clients of an account may ask.
    pub(super) fn serve(self: &Arc<Self>, account: &Arc<Account>) {
        let is_system = Arc::ptr_eq(account, &self.account);
        let subjects = match is_system {
            true => subjects::in_system_account(&self.server_id),
            false => subjects::in_other_accounts(),
        };
        let service = Arc::new(AccountService {
            system: Arc::downgrade(self),
            operations: subjects.iter().map(|(_, operation)| *operation).collect(),
            bound_to: (!is_system).then(|| account.name().clone()),
        });
        for (token, (subject, _)) in subjects.iter().enumerate() {
            let connection = self.connection.clone();
            let subscription =
                Subscription::of_service(connection, subject.as_bytes(), service.clone(), token as u64);
            self.shared.subscribe(account, Arc::new(subscription));
        }
    }

    fn tell_user(
        &self,
        message: &Inbound<'_>,
        reply: &[u8],
        info: impl FnOnce(&Inner, &Inbound<'_>) -> UserInfo,
        outbox: &mut Outbox,
    ) {
        let Some(inner) = self.inner() else { return };
        let info = info(&inner, message);
        let payload = self.stamped(&inner, |stamp| reply::data(stamp.server(), &info));
        let answer = Outgoing { route: b"", subject: reply, reply: b"", headers: b"", payload: &payload };
        outbox.push(message.account, &self.connection, answer);
    }
}

fn user_info(inner: &Inner, message: &Inbound<'_>) -> UserInfo {
    let (account, client) = (message.account.name(), message.publisher);
    let profile = client.profile();
    let token = profile.token.as_deref();
    let expires_ns = token.and_then(|token| token.expires_ns);
    UserInfo {
        user: profile.user.into(),
        account: account.to_string(),
        account_name: view::name_tag(inner, account),
        user_name: token.map(|token| token.name.clone()).unwrap_or_default(),
        permissions: client.permissions().map(|permissions| shown(permissions.rules())),
        expires: expires_ns.map_or(0, |at_ns| at_ns.saturating_sub(message.now_ns)),
    }
}

fn shown(rules: &PermissionRules) -> Permissions {
    let subjects = |access: &Option<SubjectAccess>| {
        let SubjectAccess { allow, deny } = access.clone().unwrap_or_default();
        Subjects { allow, deny }
    };
    Permissions {
        publish: subjects(&rules.publish),
        subscribe: subjects(&rules.subscribe),
        responses: rules
            .allow_responses
            .map(|responses| Responses { max: responses.max, ttl: responses.ttl_ns }),
    }
}
