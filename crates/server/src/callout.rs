//! Asking a service who somebody is (ADR-26): the request goes out in the service's account, the answer comes back to
//! a subject of its own, and what it means is decided in `sonata_auth::callout`.
//!
//! A question is a future without a thread. It ends with the authentication timeout; dropping it, as happens when the
//! client goes, leaves nothing behind. Those beyond [`QUESTIONS_MAX`] wait their turn within the same time, so that a
//! flood of clients does not become a flood of requests in memory.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use data_encoding::BASE64;
use jiff::tz::TimeZone;
use nkeys::KeyPair;
use parking_lot::Mutex;
use rand::RngExt as _;
use rand::distr::Alphanumeric;
use sonata_auth::callout::answer::{ANSWER_BYTES_MAX, Answer, Expected, Signers};
use sonata_auth::callout::error::CalloutError;
use sonata_auth::callout::{Callout, Delegation, Question, SUBJECT, Said, Standing, XKEY_HEADER};
use sonata_auth::check::{Asking, Check, Outcome};
use sonata_auth::token::Moment;
use sonata_auth::user::Identity;
use sonata_broker::account::Account;
use sonata_broker::close::CloseReason;
use sonata_broker::connection::Connection;
use sonata_broker::service::{Inbound, Outbox, Outgoing, Service};
use sonata_broker::shared::{Level, Log};
use sonata_broker::subscription::Subscription;
use sonata_jwt::authorization::{Server, Tls};
use sonata_jwt::token;
use tokio::sync::{Semaphore, oneshot};

use crate::clock::Clock;
use crate::connections::Refusal;
use crate::identity::NATS_VERSION;
use crate::inner::Inner;
use crate::logger::Logger;
use crate::nowhere::own_connection;
use crate::settings::server_name;

/// Questions under way at the same time. Each holds a request of a few KiB, here or in the service's outbound buffer;
/// a service that takes 100 ms still lets in ten thousand clients per second.
const QUESTIONS_MAX: usize = 1024;

/// Letters and digits that nobody guesses.
const INBOX_LETTERS: usize = 22;

/// See the module. Every server has it; where no service is configured and no operator is trusted it does nothing.
pub(crate) struct Callouts {
    clock: Clock,
    logger: Arc<Logger>,
    /// Where the hours of users are that name no place.
    local: TimeZone,
    turns: Semaphore,
    /// The server has this, so this does not have the server.
    inner: OnceLock<Weak<Inner>>,
    itself: Weak<Self>,
}

impl Callouts {
    pub(crate) fn new(clock: Clock, logger: Arc<Logger>) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            clock,
            logger,
            local: TimeZone::system(),
            turns: Semaphore::new(QUESTIONS_MAX),
            inner: OnceLock::new(),
            itself: itself.clone(),
        })
    }

    /// From now on there is a server that can ask.
    pub(crate) fn attach(&self, inner: &Arc<Inner>) {
        let _ = self.inner.set(Arc::downgrade(inner));
    }

    /// Says what in the configuration cannot work: a service that cannot come in is never heard.
    pub(crate) fn check(&self, options: &sonata_conf::options::Options) {
        let Some(callout) = &options.authorization.callout else { return };
        let is_account = |name: &str| {
            name == sonata_broker::account::GLOBAL_ACCOUNT
                || options.system_account_name() == Some(name)
                || options.accounts.iter().any(|account| account.name == name)
        };
        if !is_account(&callout.account) {
            let line = format_args!("Authorization callout account {:?} not valid", callout.account);
            self.logger.write(Level::Error, line);
        }
        for user in &callout.auth_users {
            let named = options.users.iter().any(|known| known.name == *user);
            let keyed = options.nkeys.iter().any(|known| known.nkey == *user);
            let single = options.authorization.user.as_ref() == Some(user);
            if !named && !keyed && !single {
                let line = format_args!("Authorization callout user {user:?} not valid");
                self.logger.write(Level::Error, line);
            }
        }
    }

    fn moment(&self) -> Moment {
        Moment { unix_ns: Clock::calendar_unix_ns(), clock_ns: self.clock.now_ns() }
    }

    fn inner(&self) -> Option<Arc<Inner>> {
        self.inner.get().and_then(Weak::upgrade)
    }

    async fn decide(&self, question: Question) -> Result<Identity, CalloutError> {
        let inner = self.inner().ok_or_else(|| CalloutError::CannotAsk("the server stops".into()))?;
        let own = question.own_account.as_ref().and_then(|name| inner.shared.accounts.find(name));
        if own.is_some_and(|account| account.is_full()) {
            return Err(CalloutError::AccountFull);
        }
        let timeout = inner.options.load().auth_timeout();
        let exchange = async {
            // Never closed, so there is always a turn.
            let _turn = self.turns.acquire().await;
            self.exchange(&inner, &question, timeout).await
        };
        let answered = tokio::time::timeout(timeout, exchange).await;
        let answer = answered.map_err(|_| CalloutError::Unanswered)??;
        let standing = question.caller.standing;
        match (&question.delegation, inner.operators.get()) {
            (Some(delegation), _) => self.admit(&inner, answer, delegation, standing),
            (None, Some(operators)) => {
                operators.settle(&inner.slow_checks, &question.account, answer, standing).await
            }
            (None, None) => Err(CalloutError::CannotAsk("no operator is trusted".into())),
        }
    }

    fn admit(
        &self,
        inner: &Inner,
        answer: Answer,
        delegation: &Delegation,
        standing: Standing,
    ) -> Result<Identity, CalloutError> {
        let knows = |name: &str| inner.shared.accounts.find(name).is_some();
        answer.admit_configured(delegation, standing, knows, self.moment(), &self.local)
    }

    /// Asks, and waits for the first answer.
    async fn exchange(
        &self,
        inner: &Arc<Inner>,
        question: &Question,
        timeout: Duration,
    ) -> Result<Answer, CalloutError> {
        let name = &question.account;
        let account = inner.shared.accounts.find(name).ok_or_else(|| {
            let text = format!("No valid account {name:?} for auth callout request: account missing");
            CalloutError::CannotAsk(text)
        })?;
        let user_nkey = KeyPair::new_user().public_key();
        let request = sealed(inner, question, &user_nkey, self.moment().unix(), timeout)?;
        let (listening, answered) = Listening::start(inner, account);
        listening.publish(&request);
        let body = answered.await.map_err(|_| CalloutError::Unanswered)?;
        drop(listening);
        let body = body.map_err(CalloutError::TooLarge)?;
        let open = |sealed: &[u8]| {
            inner.identity.keys.curve.open(sealed, question.xkey.as_deref().unwrap_or_default())
        };
        let is_key = |key: &str| inner.operators.get().is_some_and(|own| own.signs_for(name, key));
        let expected = Expected {
            user_nkey: &user_nkey,
            server_id: &inner.identity.id,
            account: name,
            open: question.xkey.is_some().then_some(&open),
            signers: match &question.delegation {
                Some(delegation) => Signers::Issuer(&delegation.issuer),
                None => Signers::Account(&is_key),
            },
        };
        Answer::read(&body, &expected, &question.caller, self.moment().unix())
    }

    /// Says why somebody was not let in.
    fn refuse(
        &self,
        connection_id: u64,
        account: Arc<str>,
        own_account: Option<Arc<str>>,
        error: &CalloutError,
    ) -> Outcome {
        match error {
            CalloutError::AccountFull => return Outcome::Refused(error.reason()),
            CalloutError::Unanswered => {
                self.logger.write(Level::Debug, format_args!("{error} on account {account:?}"));
            }
            error => self.logger.write(Level::Warning, format_args!("{error}")),
        }
        self.note(connection_id, Refusal { account, own_account, reason: error.told() });
        Outcome::Refused(error.reason())
    }

    /// Has the account of a service hear of a refusal once the client is gone.
    fn note(&self, connection_id: u64, refusal: Refusal) {
        if let Some(entry) = self.inner().and_then(|inner| inner.connections.find(connection_id)) {
            entry.set_refusal(refusal);
        }
    }
}

impl Callout for Callouts {
    fn ask(&self, question: Question) -> Asking {
        let own = self.itself.upgrade();
        Box::pin(async move {
            let (id, account) = (question.caller.connection_id, question.account.clone());
            let own_account = question.own_account.clone();
            let Some(own) = own else {
                return Check::Decided(Outcome::Refused(CalloutError::Unanswered.reason()));
            };
            Check::Decided(match own.decide(question).await {
                Ok(identity) => Outcome::Granted(identity),
                Err(error) => own.refuse(id, account, own_account, &error),
            })
        })
    }

    fn note_refusal(&self, delegation: &Delegation, connection_id: u64) {
        let reason = CloseReason::AuthenticationFailure.to_string();
        let account = delegation.account.clone();
        self.note(connection_id, Refusal { account, own_account: None, reason });
    }

    fn confirm(&self, delegation: &Delegation, said: &Said) -> Check {
        let identity = match self.inner() {
            Some(inner) => Answer::again(said, self.moment().unix())
                .and_then(|answer| self.admit(&inner, answer, delegation, said.standing.clone())),
            None => Err(CalloutError::CannotAsk("the server stops".into())),
        };
        Check::Decided(match identity {
            Ok(identity) => Outcome::Granted(identity),
            Err(error) => Outcome::Refused(error.reason()),
        })
    }
}

impl fmt::Debug for Callouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callouts").field("turns", &self.turns.available_permits()).finish_non_exhaustive()
    }
}

/// A request as it is sent.
struct Sealed {
    headers: Vec<u8>,
    body: Vec<u8>,
}

/// Signs the request, and seals it where the service has a curve key. `now` is in seconds since 1970.
fn sealed(
    inner: &Inner,
    question: &Question,
    user_nkey: &str,
    now: i64,
    timeout: Duration,
) -> Result<Sealed, CalloutError> {
    let (identity, options) = (&inner.identity, inner.options.load());
    let failed = |what: &str, error: &dyn fmt::Display| {
        let account = &question.account;
        CalloutError::CannotAsk(format!("Error {what} auth request claim on account {account:?}: {error}"))
    };
    let server = Server {
        name: server_name(&options, identity),
        host: inner.shared.settings().info.host.clone(),
        id: identity.id.clone(),
        version: NATS_VERSION.into(),
        tags: options.server_tags.clone(),
        xkey: question.xkey.as_ref().map(|_| identity.curve_key.clone()).unwrap_or_default(),
        ..Server::default()
    };
    let expires = now.saturating_add(i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX));
    let request = question.request(server, user_nkey, tls(inner, question), expires);
    let token =
        token::encode(request, &identity.keys.signing, now).map_err(|error| failed("encoding", &error))?;
    let Some(xkey) = &question.xkey else {
        return Ok(Sealed { headers: Vec::new(), body: token.into_bytes() });
    };
    let body = identity.keys.curve.seal(token.as_bytes(), xkey, rand::random());
    let body = body.map_err(|error| failed("encrypting", &error))?;
    let headers = format!("NATS/1.0\r\n{XKEY_HEADER}: {}\r\n\r\n", identity.curve_key).into_bytes();
    Ok(Sealed { headers, body })
}

/// What the service is told of the client's TLS.
fn tls(inner: &Inner, question: &Question) -> Option<Tls> {
    let entry = inner.connections.find(question.caller.connection_id)?;
    let facts = entry.tls()?;
    let chain = facts.chain.as_deref().filter(|chain| !chain.is_empty());
    Some(Tls {
        version: facts.version.into(),
        cipher: facts.cipher_suite.clone(),
        certs: Vec::new(),
        verified_chains: chain.map(|chain| chain.iter().map(|one| pem(one)).collect()).into_iter().collect(),
    })
}

/// A certificate as text (RFC 7468).
fn pem(der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(PEM_LINE_LETTERS) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// Letters in a line of PEM.
const PEM_LINE_LETTERS: usize = 64;

/// Listening for the answer to one question; no longer once this is dropped.
struct Listening {
    inner: Arc<Inner>,
    account: Arc<Account>,
    subscription: Arc<Subscription>,
    connection: Arc<Connection>,
}

/// The body of an answer, or how many bytes it would have had.
type Body = Result<Box<[u8]>, usize>;

impl Listening {
    fn start(inner: &Arc<Inner>, account: Arc<Account>) -> (Self, oneshot::Receiver<Body>) {
        let (tell, answered) = oneshot::channel();
        let inbox: String =
            rand::rng().sample_iter(Alphanumeric).take(INBOX_LETTERS).map(char::from).collect();
        let inbox = format!("$SYS._INBOX.{}.{inbox}", &inner.identity.id[..INBOX_ID_LETTERS]);
        let connection = own_connection(&inner.shared, inner.clock);
        let first = Arc::new(First(Mutex::new(Some(tell))));
        let subscription = Subscription::of_service(connection.clone(), inbox.as_bytes(), first, 0);
        let subscription = Arc::new(subscription);
        inner.shared.subscribe(&account, subscription.clone());
        (Self { inner: inner.clone(), account, subscription, connection }, answered)
    }

    fn publish(&self, request: &Sealed) {
        let message = Outgoing {
            route: b"",
            subject: SUBJECT.as_bytes(),
            reply: self.subscription.subject(),
            headers: &request.headers,
            payload: &request.body,
        };
        self.inner.speak(|outbox| outbox.push(&self.account, &self.connection, message));
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.inner.shared.unsubscribe(&self.account, &self.subscription);
    }
}

/// Letters of the server's id in reply subjects, for people.
const INBOX_ID_LETTERS: usize = 8;

/// Takes the first answer.
struct First(Mutex<Option<oneshot::Sender<Body>>>);

impl Service for First {
    fn receive(&self, message: &Inbound<'_>, _outbox: &mut Outbox) -> bool {
        let Some(tell) = self.0.lock().take() else { return false };
        let bytes = message.payload.len();
        let body = if bytes > ANSWER_BYTES_MAX { Err(bytes) } else { Ok(message.payload.into()) };
        // Whoever asked may just have given up.
        tell.send(body).is_ok()
    }

    fn settle(&self, _outbox: &mut Outbox) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;
    use sonata_broker::account::GLOBAL_ACCOUNT;
    use sonata_conf::options::Options;

    #[tokio::test]
    async fn nothing_is_left_of_a_question() {
        let options = Options { host: "127.0.0.1".into(), port: 0, ..Options::default() };
        let server = Server::start(options).await.expect("a server");
        let account = server.inner().shared.accounts.find(GLOBAL_ACCOUNT).expect("an account");
        let (listening, answered) = Listening::start(server.inner(), account.clone());
        let inbox = listening.subscription.subject().to_vec();
        assert!(account.interest.has_interest(&inbox));
        drop(listening);
        assert!(!account.interest.has_interest(&inbox));
        assert!(answered.await.is_err(), "nobody answers any more");
        server.shutdown().await;
    }

    #[test]
    fn certificates_as_text() {
        let lines = |bytes: usize| pem(&vec![0; bytes]).lines().count();
        assert_eq!(pem(b"abc"), "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n");
        assert_eq!((lines(48), lines(49), lines(96)), (3, 4, 4));
    }
}
