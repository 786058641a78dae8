//! Who a client is and whether it may come in: from its `CONNECT` into an account, and out again.
//!
//! The credentials are judged by `sonata-auth`; here the answer gets its consequences. A judgement that takes long goes
//! out as a [`SlowCheck`] and comes back to [`Client::finish_check`] or, after a reload, [`Client::finish_recheck`].

use std::sync::Arc;

use sonata_auth::check::{Check, Outcome, SlowCheck};
use sonata_auth::response::ResponseTracker;
use sonata_auth::user::{ClientFacts, Credentials, Identity, Name, Reason};
use sonata_proto::encode::ErrorText;

use super::{Client, Membership, Phase};
use crate::account::GLOBAL_ACCOUNT;
use crate::close::CloseReason;
use crate::connection::Profile;
use crate::shared::Level;
use crate::subscription::Subscription;
use crate::worker::Worker;

/// Whether an operation may be carried out.
pub(super) enum Gate {
    /// It may.
    Open,
    /// It may not, and nothing else either.
    Shut,
    /// First it must be found out who the client is.
    Checking(SlowCheck),
}

impl Client {
    /// Starts the time in which the client must authenticate, once TLS is established.
    pub fn restart_auth_timer(&mut self, now_ns: u64) {
        if let Phase::Connecting { deadline_ns } = &mut self.phase {
            *deadline_ns = now_ns + self.settings.auth_timeout_ns;
        }
    }

    /// Whether the next operation may be carried out: before authentication only `CONNECT`, unless there is a user
    /// for those who present nothing.
    pub(super) fn gate(&mut self, rest: &[u8]) -> Gate {
        match self.phase {
            Phase::Serving => Gate::Open,
            Phase::Closed | Phase::Checking { .. } => Gate::Shut,
            Phase::Connecting { .. } if matches!(rest.first(), Some(b'C' | b'c')) => Gate::Open,
            Phase::Connecting { .. } => {
                if self.settings.users.no_auth_user(self.connection_type).is_none() {
                    self.deny(Reason::NothingPresented);
                    return Gate::Shut;
                }
                match self.authenticate() {
                    Check::Decided(outcome) => {
                        self.admit_unasked(outcome);
                        if self.phase == Phase::Serving && !self.is_closed() {
                            Gate::Open
                        } else {
                            Gate::Shut
                        }
                    }
                    Check::Slow(slow) => {
                        self.await_check();
                        Gate::Checking(slow)
                    }
                }
            }
        }
    }

    /// Lets somebody in who began without a `CONNECT`: as that would, but its defaults stay.
    fn admit_unasked(&mut self, outcome: Outcome) {
        let identity = match outcome {
            Outcome::Granted(identity) => identity,
            Outcome::Refused(reason) => return self.deny(reason),
        };
        self.connect_received = true;
        self.phase = Phase::Serving;
        self.bind(identity);
        self.is_admission_new = !self.is_closed();
    }

    /// Nothing more is taken until there is an outcome. A service that is asked has the whole time for itself, however
    /// much of it has gone by; it says itself when that is over.
    fn await_check(&mut self) {
        let Phase::Connecting { deadline_ns } = self.phase else { return };
        let asked_until_ns = self.now_ns.saturating_add(self.settings.auth_timeout_ns.saturating_mul(2));
        let deadline_ns = if self.settings.users.may_ask() { asked_until_ns } else { deadline_ns };
        self.phase = Phase::Checking { deadline_ns };
    }

    pub(super) fn connect(&mut self, worker: &mut Worker, json: &[u8]) -> Option<SlowCheck> {
        let now_ns = self.now_ns;
        if let Err(error) = self.options.apply(json) {
            self.log(Level::Error, format_args!("{error}"));
            self.close(CloseReason::ProtocolViolation);
            return None;
        }
        // The time since the greeting is the first estimate, as in the reference.
        self.set_rtt(now_ns.saturating_sub(self.connection.started_ns()));
        self.schedule_first_ping(worker);
        if self.connect_received {
            // A second `CONNECT` may lead into another account; nothing of the first may stay behind.
            self.drop_subscriptions();
        }
        self.connect_received = true;
        self.hot = None;
        let deadline_ns = match self.phase {
            Phase::Connecting { deadline_ns } => deadline_ns,
            _ => now_ns + self.settings.auth_timeout_ns,
        };
        self.phase = Phase::Connecting { deadline_ns };
        match self.authenticate() {
            Check::Decided(outcome) => {
                self.admit(worker, outcome);
                None
            }
            Check::Slow(slow) => {
                self.await_check();
                Some(slow)
            }
        }
    }

    /// The outcome of a [`SlowCheck`].
    pub fn finish_check(&mut self, worker: &mut Worker, outcome: Outcome, now_ns: u64) {
        self.now_ns = now_ns;
        if let Phase::Checking { deadline_ns } = self.phase {
            self.phase = Phase::Connecting { deadline_ns };
            self.conclude(worker, outcome);
        }
        self.settle(worker);
    }

    fn conclude(&mut self, worker: &mut Worker, outcome: Outcome) {
        if self.connect_received {
            self.admit(worker, outcome);
        } else {
            self.admit_unasked(outcome);
        }
    }

    /// Checks anew what was being checked when a reload changed who may connect.
    pub fn check_again(&mut self, worker: &mut Worker, now_ns: u64) -> Option<SlowCheck> {
        self.now_ns = now_ns;
        self.notice_settings();
        let Phase::Checking { deadline_ns } = self.phase else { return None };
        let slow = match self.authenticate() {
            Check::Decided(outcome) => {
                self.phase = Phase::Connecting { deadline_ns };
                self.conclude(worker, outcome);
                None
            }
            Check::Slow(slow) => Some(slow),
        };
        self.settle(worker);
        slow
    }

    /// Applies what a reload changed; `Some` when the client must prove again who it is and that takes long.
    pub fn recheck(&mut self, worker: &mut Worker, now_ns: u64) -> Option<SlowCheck> {
        self.now_ns = now_ns;
        self.notice_settings();
        if self.phase != Phase::Serving {
            return None;
        }
        let users = &self.settings.users;
        let said = self.member.as_ref().and_then(|member| member.token.as_ref()?.said.as_ref());
        let check = match said {
            Some(said) => users.confirm(said),
            None => {
                let credentials = Credentials { is_in: true, ..self.credentials() };
                users.readmit(&self.admitted_by.users, &credentials)
            }
        };
        let slow = match check {
            Check::Decided(outcome) => {
                self.admit_again(worker, outcome);
                None
            }
            Check::Slow(slow) => Some(slow),
        };
        self.settle(worker);
        slow
    }

    /// The outcome of a slow [`Client::recheck`].
    pub fn finish_recheck(&mut self, worker: &mut Worker, outcome: Outcome) {
        if self.phase == Phase::Serving {
            self.admit_again(worker, outcome);
        }
        self.settle(worker);
    }

    /// Takes the client out of its account. The connection must be closed already.
    pub fn leave(&mut self, worker: &mut Worker) -> Vec<Arc<Subscription>> {
        self.phase = Phase::Closed;
        self.hot = None;
        let subscriptions = self.drop_subscriptions();
        if let Some(member) = self.member.take() {
            member.account.leave();
        }
        self.settle(worker);
        subscriptions
    }

    fn authenticate(&self) -> Check {
        self.settings.users.authenticate(&self.credentials())
    }

    fn credentials(&self) -> Credentials<'_> {
        Credentials {
            user: &self.options.user,
            pass: &self.options.pass,
            token: &self.options.auth_token,
            nkey: &self.options.nkey,
            sig: &self.options.signature,
            jwt: &self.options.jwt,
            proxy_sig: &self.options.proxy_signature,
            nonce: &self.nonce,
            certificate: self.certificate.as_deref(),
            connection_type: self.connection_type,
            source: self.connection.remote().map(|remote| remote.ip()),
            client: ClientFacts {
                id: self.connection.id(),
                name: &self.options.name,
                lang: &self.options.lang,
                version: &self.options.version,
                protocol: self.options.protocol,
            },
            is_in: false,
        }
    }

    fn admit(&mut self, worker: &mut Worker, outcome: Outcome) {
        let identity = match outcome {
            Outcome::Granted(identity) => identity,
            Outcome::Refused(reason) => return self.deny(reason),
        };
        if self.options.new_account || !self.options.account.is_empty() {
            return self.deny(Reason::NothingPresented);
        }
        if let Some(member) = self.member.take() {
            member.account.leave();
            self.left = Some(member.account);
        }
        self.bind(identity);
        if self.is_closed() {
            return;
        }
        self.phase = Phase::Serving;
        self.is_admission_new = true;
        let headers = self.settings.parse.headers && self.options.headers;
        self.connection.set_headers(headers);
        self.update_parser();
        if !(0..=1).contains(&self.options.protocol) {
            return self.fail(&ErrorText::InvalidClientProtocol, CloseReason::BadClientProtocolVersion);
        }
        if self.options.no_responders && !headers {
            return self
                .fail(&ErrorText::NoRespondersRequiresHeaders, CloseReason::NoRespondersRequiresHeaders);
        }
        self.acknowledge(worker);
    }

    /// Who a client was found to be after a reload. A user who is gone, or in another account now, is sent away
    /// without a word, as by the reference: its client connects again and learns the rest.
    fn admit_again(&mut self, worker: &mut Worker, outcome: Outcome) {
        let identity = match outcome {
            Outcome::Granted(identity) => identity,
            Outcome::Refused(reason) => return self.send_away(reason),
        };
        let account = identity.account.as_deref().unwrap_or(GLOBAL_ACCOUNT);
        // The very account, not another one of its name: it may have been removed and configured again meanwhile.
        let account = self.shared.accounts.find(account);
        let same =
            |member: &&mut Membership| account.is_some_and(|account| Arc::ptr_eq(&account, &member.account));
        let Some(member) = self.member.as_mut().filter(same) else {
            return self.close(CloseReason::Revocation);
        };
        self.admitted_by = self.settings.clone();
        self.connection.set_permissions(identity.permissions.clone());
        member.permissions = identity.permissions;
        member.token = identity.token;
        self.hot = None;
        self.update_parser();
        self.update_responses();
        self.review_subscriptions(worker);
        let subscriptions = self.connection.subscription_table().lock().len();
        if self.subscriptions_max().is_some_and(|max| subscriptions > max) {
            self.fail(&ErrorText::MaximumSubscriptionsExceeded, CloseReason::MaxSubscriptionsExceeded);
        }
    }

    /// Somebody who was let in may not stay.
    fn send_away(&mut self, reason: Reason) {
        let member = self.member.as_ref();
        match (reason, member.map(|member| &member.user)) {
            (Reason::TokenRevoked, _) => {
                self.fail(&ErrorText::UserAuthenticationRevoked, CloseReason::Revocation);
            }
            (Reason::TokenExpired | Reason::TimeNotAllowed, _) => {
                self.fail(&ErrorText::UserAuthenticationExpired, CloseReason::AuthenticationExpired);
            }
            (Reason::AccountExpired, _) => {
                self.fail(&ErrorText::AccountAuthenticationExpired, CloseReason::AuthenticationExpired);
            }
            (Reason::BearerNotAllowed, _) => self.deny(reason),
            _ if member.is_some_and(|member| member.token.is_some()) => {
                self.close(CloseReason::AuthenticationFailure);
            }
            (_, Some(Name::User(_) | Name::Nkey(_))) => self.close(CloseReason::Revocation),
            _ => self.deny(reason),
        }
    }

    /// The time of the user, or of its account, is over.
    pub(super) fn expire(&mut self) {
        let token = self.member.as_ref().and_then(|member| member.token.as_ref());
        let account = token.is_some_and(|token| token.is_account_expiry);
        self.send_away(if account { Reason::AccountExpired } else { Reason::TokenExpired });
    }

    /// Puts the client into its account, or closes it when the account is full.
    pub(super) fn bind(&mut self, identity: Identity) {
        let name = identity.account.as_deref().unwrap_or(GLOBAL_ACCOUNT);
        let Some(account) = self.shared.accounts.find(name) else {
            self.log(Level::Error, format_args!("account {name:?} of the user is not configured"));
            return self.fail(&ErrorText::AuthorizationViolation, CloseReason::MissingAccount);
        };
        if !account.enter() {
            return self.fail(
                &ErrorText::MaximumAccountConnectionsExceeded,
                CloseReason::MaxAccountConnectionsExceeded,
            );
        }
        self.show_profile(Profile {
            user: identity.user.authorized_user().into(),
            account: Some(account.name().clone()),
            token: identity.token.clone(),
            proxy: identity.proxy,
            ..Profile::default()
        });
        self.connection.set_permissions(identity.permissions.clone());
        self.admitted_by = self.settings.clone();
        let Identity { user, permissions, token, .. } = identity;
        self.member = Some(Membership { account, permissions, user, token });
        self.hot = None;
        self.update_responses();
        self.update_parser();
    }

    fn update_responses(&self) {
        let permission =
            self.member.as_ref().and_then(|member| member.permissions.as_ref()).and_then(|p| p.responses());
        self.connection
            .set_responses(permission.map(|permission| Box::new(ResponseTracker::new(permission))));
    }

    /// Not let in. The client learns nothing but that; the log says why.
    fn deny(&mut self, reason: Reason) {
        if reason == Reason::AccountFull {
            return self.fail(
                &ErrorText::MaximumAccountConnectionsExceeded,
                CloseReason::MaxAccountConnectionsExceeded,
            );
        }
        let presented = Name::presented(&Credentials {
            user: &self.options.user,
            token: &self.options.auth_token,
            nkey: &self.options.nkey,
            ..Credentials::default()
        });
        // Monitoring shows as who somebody tried to get in.
        let account = self.member.as_ref().map(|member| member.account.name().clone());
        let user = presented.authorized_user().into();
        self.show_profile(Profile { user, account, ..Profile::default() });
        match presented {
            Name::Unknown => self.log(Level::Error, format_args!("authentication error")),
            name => self.log(Level::Error, format_args!("authentication error - {name}")),
        }
        self.log(Level::Debug, format_args!("authentication refused: {reason}"));
        let closed = match reason {
            Reason::ProxyNotTrusted => CloseReason::ProxyNotTrusted,
            Reason::ProxyRequired => CloseReason::ProxyRequired,
            _ => CloseReason::AuthenticationFailure,
        };
        self.fail(&ErrorText::AuthorizationViolation, closed);
    }

    /// What monitoring shows of the client: as whom it came and where it is, and what it says of itself in `CONNECT`.
    fn show_profile(&self, known: Profile) {
        self.connection.set_profile(Profile {
            name: self.options.name.as_str().into(),
            lang: self.options.lang.as_str().into(),
            version: self.options.version.as_str().into(),
            ..known
        });
    }
}
