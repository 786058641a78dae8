//! The subjects of the system account by which tools look at accounts' tokens and change them.
//!
//! Requests wait in a bounded queue for one thread, since they read and write files. [`Operators::answer`] is all that is
//! decided; the rest is bringing questions to it and answers back.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use serde_json::{Value, json};
use sonata_broker::account::Account as BrokerAccount;
use sonata_broker::connection::Connection;
use sonata_broker::service::{Inbound, Outbox, Outgoing, Service};
use sonata_broker::shared::Level;
use sonata_broker::subscription::Subscription;
use sonata_conf::options::Removal;
use sonata_jwt::account::Account;
use sonata_jwt::claims::{Claims, Generic};
use sonata_jwt::key::KeyKind;
use sonata_jwt::token;
use sonata_jwt::validation::Validate;
use sonata_monitor::json::compact;
use sonata_monitor::text::Timestamp;

use super::directory::Directory;
use super::resolver::Kind;
use super::{Operators, Refused, Withdrawal};
use crate::inner::Inner;
use crate::nowhere::own_connection;
use crate::view;

/// Requests that wait at most. Tools send one at a time; those beyond get no answer.
const WAITING_MAX: usize = 64;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// The token of the account that the subject names.
    LookUp,
    /// A new token for the account that the subject names.
    UpdateNamed,
    /// A new token for the account that it is about.
    Update,
    /// The keys of all accounts.
    List,
    /// All accounts with their tokens, unless the asker has the same.
    Pack,
    /// That accounts go.
    Delete,
}

/// Where the account stands in a subject that names one.
const ACCOUNT_TOKENS: [(&str, usize); 2] = [("$SYS.REQ.ACCOUNT.", 3), ("$SYS.ACCOUNT.", 2)];

/// What is asked by which subjects: without a directory only what can be done without one.
fn subjects(kind: Option<Kind>) -> Vec<(&'static str, Operation)> {
    let mut subjects = vec![
        ("$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE", Operation::UpdateNamed),
        ("$SYS.ACCOUNT.*.CLAIMS.UPDATE", Operation::UpdateNamed),
    ];
    if kind.is_some() {
        subjects.extend([
            ("$SYS.REQ.CLAIMS.UPDATE", Operation::Update),
            ("$SYS.REQ.CLAIMS.LIST", Operation::List),
            ("$SYS.REQ.CLAIMS.DELETE", Operation::Delete),
        ]);
    }
    if kind == Some(Kind::Full) {
        subjects.extend([
            ("$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP", Operation::LookUp),
            ("$SYS.REQ.CLAIMS.PACK", Operation::Pack),
        ]);
    }
    subjects
}

/// Subscribes in the system account, if there is one.
pub(super) fn serve(operators: &Arc<Operators>, inner: &Arc<Inner>) {
    let options = inner.options.load();
    let Some(account) = options.system_account_name().and_then(|name| inner.shared.accounts.find(name))
    else {
        return;
    };
    let kind = operators.resolver.load().directory().map(|(_, kind)| kind);
    let (sender, receiver) = sync_channel(WAITING_MAX);
    let own = Arc::downgrade(operators);
    let connection = own_connection(&inner.shared, inner.clock);
    let answering = connection.clone();
    let thread = std::thread::Builder::new()
        .name("accounts".into())
        .spawn(move || run(&receiver, &answering, || own.upgrade()));
    if let Err(error) = thread {
        return operators.log(Level::Error, format_args!("no thread for requests about accounts: {error}"));
    }
    let subjects = subjects(kind);
    let operations = subjects.iter().map(|(_, operation)| *operation).collect();
    let service = Arc::new(Claimed { operations, sender });
    for (token, (subject, _)) in subjects.iter().enumerate() {
        let bytes = subject.as_bytes();
        let subscription = Subscription::of_service(connection.clone(), bytes, service.clone(), token as u64);
        inner.shared.subscribe(&account, Arc::new(subscription));
    }
}

/// A request, as it waits.
struct Request {
    operation: Operation,
    account: Arc<BrokerAccount>,
    subject: Box<[u8]>,
    reply: Box<[u8]>,
    body: Box<[u8]>,
}

/// What the broker calls.
struct Claimed {
    /// The subscription's token is the place in this list.
    operations: Vec<Operation>,
    sender: SyncSender<Request>,
}

impl Service for Claimed {
    fn receive(&self, message: &Inbound<'_>, _outbox: &mut Outbox) -> bool {
        let place = usize::try_from(message.subscription.token()).unwrap_or(usize::MAX);
        let Some(operation) = self.operations.get(place).copied() else { return false };
        let request = Request {
            operation,
            account: message.account.clone(),
            subject: message.subject.into(),
            reply: message.reply.unwrap_or_default().into(),
            body: message.payload.into(),
        };
        !matches!(self.sender.try_send(request), Err(TrySendError::Disconnected(_)))
    }

    fn settle(&self, _outbox: &mut Outbox) {}
}

/// Answers until nobody can ask any more.
fn run(
    requests: &Receiver<Request>,
    connection: &Arc<Connection>,
    operators: impl Fn() -> Option<Arc<Operators>>,
) {
    while let Ok(request) = requests.recv() {
        let Some(operators) = operators() else { return };
        let Some(inner) = operators.inner() else { return };
        let subject = String::from_utf8_lossy(&request.subject);
        let body = String::from_utf8_lossy(&request.body);
        let answers = operators.answer(&inner, request.operation, &subject, &request.body, body.trim());
        if request.reply.is_empty() || answers.is_empty() {
            continue;
        }
        inner.speak(|outbox| {
            for payload in &answers {
                let message =
                    Outgoing { route: b"", subject: &request.reply, reply: b"", headers: b"", payload };
                outbox.push(&request.account, connection, message);
            }
        });
    }
}

/// What became of an update, in the original's words.
struct Done {
    account: String,
    message: String,
    error: Option<String>,
}

impl Done {
    fn well(account: &str, message: impl Into<String>) -> Self {
        Self { account: account.into(), message: message.into(), error: None }
    }

    fn failed(account: &str, message: impl Into<String>, error: impl Into<String>) -> Self {
        Self { account: account.into(), message: message.into(), error: Some(error.into()) }
    }
}

impl Operators {
    /// The messages that answer a request; none where there is no answer.
    fn answer(
        &self,
        inner: &Inner,
        operation: Operation,
        subject: &str,
        raw: &[u8],
        body: &str,
    ) -> Vec<Vec<u8>> {
        let resolver = self.resolver.load();
        let directory = resolver.directory();
        match (operation, directory) {
            (Operation::UpdateNamed, _) => {
                let done = self.update_named(named_account(subject), body, directory);
                vec![self.told(inner, done)]
            }
            (Operation::Update, Some(directory)) => {
                let done = match decode(body) {
                    Ok(claims) => self.update(&claims, body, directory),
                    Err(error) => Done::failed("n/a", words(directory.1).error, error),
                };
                vec![self.told(inner, done)]
            }
            (Operation::LookUp, Some((directory, _))) => match directory.load(named_account(subject)) {
                Ok(token) => vec![token.unwrap_or_default().into_bytes()],
                Err(error) => {
                    self.log(Level::Error, format_args!("Error looking up account: {error}"));
                    Vec::new()
                }
            },
            (Operation::List, Some((directory, _))) => {
                vec![self.envelope(inner, "data", &json!(directory.keys()))]
            }
            (Operation::Pack, Some((directory, _))) => pack(directory, raw),
            (Operation::Delete, Some((directory, _))) => {
                let done = self.delete(inner, body, directory);
                vec![self.told(inner, done)]
            }
            // The resolver has changed since.
            _ => Vec::new(),
        }
    }

    fn update_named(&self, key: &str, body: &str, directory: Option<(&Directory, Kind)>) -> Done {
        let words = directory.map_or(words(Kind::Full), |(_, kind)| words(kind));
        if body.is_empty() && directory.is_none() {
            return Done::failed(key, "jwt update error", "request body is empty");
        }
        let claims = match decode(body) {
            Ok(claims) => claims,
            Err(error) => {
                let account = if directory.is_some_and(|(_, kind)| kind == Kind::Full) { "n/a" } else { key };
                return Done::failed(account, words.error, error);
            }
        };
        let fits = claims.data.subject == key;
        match directory {
            _ if !fits => Done::failed(key, words.error, "subject does not match jwt content"),
            Some(directory) => self.update(&claims, body, directory),
            None if !self.knows(key) => Done::well(key, "jwt update skipped"),
            None => match self.take(key, body.to_owned(), self.clock.now_ns()) {
                Ok(_) => Done::well(key, "jwt updated"),
                Err(why) => Done::failed(key, words.error, why.to_string()),
            },
        }
    }

    /// Keeps a token in the directory, and puts it in force if the account is in use.
    fn update(&self, claims: &Claims<Account>, token: &str, (directory, kind): (&Directory, Kind)) -> Done {
        let (key, words) = (claims.data.subject.as_str(), words(kind));
        if self.is_strict_operator(&claims.data.issuer) {
            return Done::failed(key, words.error, "operator requires issuer to be a signing key");
        }
        if !self.trust.load().operators.contains(&claims.data.issuer) {
            // The original keeps it, and has no such account after the next start.
            return Done::failed(key, words.error, "account validation failed");
        }
        if kind == Kind::Cache && !self.knows(key) {
            return Done::well(key, "jwt update cache skipped");
        }
        let issues = claims.validate(self.moment().unix());
        if issues.has_errors() {
            return Done::failed(key, words.invalid, format!("validation errors: {issues}"));
        }
        match directory.save(key, token) {
            Ok(changed) => {
                if (changed || self.is_removed(key))
                    && self.knows(key)
                    && let Err(why) = self.take(key, token.to_owned(), self.clock.now_ns())
                {
                    let line = format_args!("Update for account {key:?} resulted in error {why}");
                    self.log(Level::Error, line);
                }
                Done::well(key, words.updated)
            }
            Err(error) => Done::failed(key, words.error, error.to_string()),
        }
    }

    fn delete(&self, inner: &Inner, body: &str, directory: &Directory) -> Done {
        let claims = token::decode::<Generic>(body);
        let issuer = claims.as_ref().map(|claims| claims.data.subject.clone()).unwrap_or_default();
        let listed = match claims {
            Ok(claims) => self.deletable(inner, &claims, directory),
            Err(error) => Err(error.to_string()),
        };
        let keys = match listed {
            Ok(keys) => keys,
            Err(error) => {
                return Done::failed("", format!("delete accounts request by {issuer} failed"), error);
            }
        };
        let mut failures = Vec::new();
        let mut deleted = 0;
        for key in &keys {
            match directory.remove(key) {
                Ok(()) => {
                    deleted += 1;
                    self.remove(key, Withdrawal::Requested);
                }
                Err(error) => failures.push(error.to_string()),
            }
        }
        if failures.is_empty() {
            return Done::well("", format!("deleted {deleted} accounts"));
        }
        let message = format!("deleted {deleted} accounts, failed for {}", failures.len());
        Done::failed("", message, failures.join("\n"))
    }

    fn deletable(
        &self,
        inner: &Inner,
        claims: &Claims<Generic>,
        directory: &Directory,
    ) -> Result<Vec<String>, String> {
        if directory.removal() == Removal::Refused {
            return Err("delete must be enabled in server config".into());
        }
        if !claims.is_self_signed() {
            return Err("not self signed".into());
        }
        if !self.trust.load().operators.contains(&claims.data.issuer) {
            return Err("not trusted".into());
        }
        let malformed = || "malformed request".to_owned();
        let keys = claims.nats.0.get("accounts").and_then(Value::as_array).ok_or_else(malformed)?;
        let options = inner.options.load();
        let mut listed = Vec::with_capacity(keys.len());
        for key in keys {
            let key = key.as_str().filter(|key| KeyKind::Account.owns(key)).ok_or_else(malformed)?;
            if options.system_account_name() == Some(key) {
                return Err("not allowed to delete system account".into());
            }
            listed.push(key.to_owned());
        }
        Ok(listed)
    }

    /// Whether the key is an operator's own, which wants its signing keys to be used.
    fn is_strict_operator(&self, issuer: &str) -> bool {
        let Some(inner) = self.inner() else { return false };
        let options = inner.options.load();
        options.operators.iter().any(|operator| {
            operator.claims.nats.strict_signing_key_usage && operator.claims.data.subject == issuer
        })
    }

    fn told(&self, inner: &Inner, done: Done) -> Vec<u8> {
        let Done { account, message, error } = done;
        let account = Some(account).filter(|account| !account.is_empty());
        match &error {
            None => {
                self.log(Level::Debug, format_args!("{message} - {}", account.as_deref().unwrap_or_default()))
            }
            Some(error) => {
                let account = account.as_deref().unwrap_or_default();
                self.log(Level::Error, format_args!("{message} - {account} - {error}"));
            }
        }
        let (member, mut told) = match error {
            None => ("data", json!({"code": 200, "message": message})),
            Some(error) => ("error", json!({"code": 500, "description": format!("{message} - {error}")})),
        };
        if let (Some(account), Some(told)) = (account, told.as_object_mut()) {
            told.insert("account".into(), account.into());
        }
        self.envelope(inner, member, &told)
    }

    fn envelope(&self, inner: &Inner, member: &str, told: &Value) -> Vec<u8> {
        let identity = view::identity(inner);
        let server = identity.at(self.next_sequence(), Timestamp(inner.clock.now_unix_ns()));
        let members = [
            &b"{\"server\":"[..],
            &compact(&server),
            b",\"",
            member.as_bytes(),
            b"\":",
            &compact(told),
            b"}",
        ];
        members.concat()
    }
}

/// What an update is told by.
struct Words {
    updated: &'static str,
    error: &'static str,
    invalid: &'static str,
}

fn words(kind: Kind) -> Words {
    match kind {
        Kind::Full => Words {
            updated: "jwt updated",
            error: "jwt update resulted in error",
            invalid: "jwt validation failed",
        },
        Kind::Cache => Words {
            updated: "jwt updated cache",
            error: "jwt update cache resulted in error",
            invalid: "jwt update cache validation failed",
        },
    }
}

fn decode(body: &str) -> Result<Claims<Account>, String> {
    token::decode(body).map_err(|error| Refused::Invalid(error.to_string()).to_string())
}

/// One `<account>|<token>` each, and an empty message at the end.
fn pack(directory: &Directory, their_hash: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    if their_hash != directory.hash() {
        for key in directory.keys() {
            if let Ok(Some(token)) = directory.load(&key) {
                messages.push(format!("{key}|{token}").into_bytes());
            }
        }
    }
    messages.push(Vec::new());
    messages
}

fn named_account(subject: &str) -> &str {
    let place = ACCOUNT_TOKENS.iter().find(|(start, _)| subject.starts_with(start));
    place.and_then(|(_, place)| subject.split('.').nth(*place)).unwrap_or_default()
}
