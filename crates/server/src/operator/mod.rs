//! Accounts that operators vouch for: found when somebody comes for them, and changed when their tokens are.
//!
//! [`resolver`] knows where tokens are. Here they are verified, made into the plain values that a configuration makes
//! (`sonata_conf::claimed`), and put in force: limits, imports and exports, JetStream, and the users who are connected,
//! who are all judged again when their account changes. [`requests`] are the subjects by which tools change accounts.
//!
//! Known accounts are a table in memory; clients of theirs are decided on at once. For the others a lookup runs on the
//! pool for slow checks. One lock orders all changes; nothing waits for a disk or a network while it is held.

mod directory;
mod fetch;
mod requests;
mod resolver;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::{Mutex, RwLock};
use sonata_auth::callout::answer::Answer;
use sonata_auth::callout::error::CalloutError;
use sonata_auth::callout::{Callout, Said, Standing};
use sonata_auth::check::{Check, Outcome, SlowCheck};
use sonata_auth::token::{Admission, KnownAccount, Moment, Presented, TokenJudge, Trust};
use sonata_auth::user::{Credentials, Identity, Reason};
use sonata_broker::account::AccountLimits;
use sonata_broker::close::CloseReason;
use sonata_broker::shared::{Level, Log};
use sonata_conf::claimed::{self, Exporter};
use sonata_conf::options::{self, Options};
use sonata_jwt::account::Account;
use sonata_jwt::account::Signer;
use sonata_jwt::claims::Claims;
use sonata_jwt::key::KeyKind;
use sonata_jwt::token;
use sonata_jwt::validation::{Severity, Validate};
use sonata_proto::encode::ErrorText;
use tokio::runtime::Handle;

use self::resolver::Resolver;
use crate::clock::Clock;
use crate::inner::Inner;
use crate::logger::Logger;
use crate::server::StartError;
use crate::slow::SlowChecks;

/// An account that is expired or gone is not looked for again sooner than this.
const LOOKUP_PAUSE_NS: u64 = 1_000_000_000;

/// Accounts that one lookup may bring in by way of imports. Those beyond come when they are looked for themselves.
const IMPORTED_ACCOUNTS_MAX: usize = 1024;

/// See the module. There is one on servers that trust an operator.
pub(crate) struct Operators {
    clock: Clock,
    logger: Arc<Logger>,
    /// Where account servers are asked.
    runtime: Handle,
    /// Where the hours of users are that name no place.
    local: TimeZone,
    trust: ArcSwap<Trust>,
    resolver: ArcSwap<Resolver>,
    /// By public key.
    known: RwLock<HashMap<Arc<str>, Arc<Known>>>,
    /// Those in the table, and those that are about to be: a reload does not forget them.
    kept: RwLock<HashSet<Arc<str>>>,
    /// Held while accounts are changed.
    table: Mutex<Table>,
    /// When the first activation of an import is over, seconds since 1970.
    next_expiry: AtomicI64,
    /// Goes up with every answer.
    sequence: AtomicU64,
    /// The server has this, so this does not have the server.
    inner: OnceLock<Weak<Inner>>,
    itself: Weak<Operators>,
}

/// An account that was looked up.
struct Known {
    account: KnownAccount,
    token: String,
    /// When activations of its imports are over, seconds since 1970.
    activation_expiries: Vec<i64>,
    looked_up_ns: u64,
    /// Its token is gone, if it is; its users go, and no others come.
    withdrawal: Option<Withdrawal>,
}

/// Who took an account's token away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Withdrawal {
    /// A tool: the account is told of as one whose time is over.
    Requested,
    /// A reload: the account is not told of any more.
    Reloaded,
}

/// An account that is not in force yet.
struct Fresh {
    meant: options::Account,
    known: Arc<Known>,
}

impl Fresh {
    fn key(&self) -> Arc<str> {
        self.meant.name.as_str().into()
    }
}

/// What accounts mean, each at the same place in both lists.
#[derive(Default)]
struct Table {
    places: HashMap<Arc<str>, usize>,
    meant: Vec<options::Account>,
    known: Vec<Arc<Known>>,
}

/// Why an account's token is not taken.
#[derive(Debug)]
enum Refused {
    /// There is none, or it cannot be had.
    Missing(String),
    /// It is not a token of that account by somebody trusted, or holds no longer.
    Invalid(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(text) | Self::Invalid(text) => f.write_str(text),
        }
    }
}

impl Operators {
    /// Those of a configuration, if it trusts any. To be called on the runtime.
    ///
    /// # Errors
    /// The resolver cannot be used.
    pub(crate) fn new(
        options: &Options,
        clock: Clock,
        logger: Arc<Logger>,
    ) -> Result<Option<Arc<Self>>, StartError> {
        if !options.has_operators() {
            return Ok(None);
        }
        let runtime = Handle::current();
        let resolver = Resolver::new(options, &runtime).map_err(StartError::Resolver)?;
        let operators = Arc::new_cyclic(|itself| Self {
            clock,
            logger,
            runtime,
            local: TimeZone::system(),
            trust: ArcSwap::from_pointee(trust(options)),
            resolver: ArcSwap::from_pointee(resolver),
            known: RwLock::default(),
            kept: RwLock::default(),
            table: Mutex::default(),
            next_expiry: AtomicI64::new(i64::MAX),
            sequence: AtomicU64::new(0),
            inner: OnceLock::new(),
            itself: itself.clone(),
        });
        operators.log_start(options);
        Ok(Some(operators))
    }

    /// Looks up the accounts that must be there before the first client: the system account, and with JetStream all that
    /// have streams to recover. Blocks.
    ///
    /// # Errors
    /// The system account is not to be found, or the account server is not there.
    pub(crate) fn start(&self, inner: &Arc<Inner>) -> Result<(), StartError> {
        let _ = self.inner.set(Arc::downgrade(inner));
        let options = inner.options.load();
        let resolver = self.resolver.load();
        if let Resolver::Url(server, runtime) = &**resolver {
            runtime.block_on(server.get("")).map_err(StartError::Resolver)?;
        }
        if let Some(system) = &options.system_account {
            let failed =
                |why: Refused| StartError::Resolver(format!("error resolving system account: {why}"));
            self.look_up(system).map_err(failed)?;
        }
        if let Some((directory, kind)) = resolver.directory() {
            let some = if kind == resolver::Kind::Full { "all" } else { "some" };
            let folder = directory.folder().display();
            self.log(Level::Info, format_args!("Managing {some} jwt in exclusive directory {folder}"));
        }
        if options.jetstream.is_some() {
            for key in resolver.keys() {
                if let Err(why) = self.look_up(&key) {
                    self.log(Level::Warning, format_args!("Account fetch failed: {key}: {why}"));
                }
            }
        }
        Ok(())
    }

    /// Begins to answer the requests of tools. The system account is there.
    pub(crate) fn serve(self: &Arc<Self>, inner: &Arc<Inner>) {
        requests::serve(self, inner);
    }

    /// Reads what another configuration wants.
    ///
    /// # Errors
    /// The resolver cannot be used; nothing has changed then.
    pub(crate) fn prepare(&self, options: &Options) -> Result<Change, StartError> {
        let resolver = Resolver::new(options, &self.runtime).map_err(StartError::Resolver)?;
        Ok(Change { trust: trust(options), resolver })
    }

    /// Puts a prepared configuration in force, and the tokens that it brings. Those that a list of tokens no longer has
    /// are gone.
    pub(crate) fn apply(&self, change: Change) {
        self.trust.store(Arc::new(change.trust));
        let is_memory = matches!(change.resolver, Resolver::Memory(_));
        let is_near = is_memory || change.resolver.directory().is_some();
        self.resolver.store(Arc::new(change.resolver));
        if !is_near {
            // An account server is asked when an account is over.
            return;
        }
        for key in self.keys() {
            match self.resolver.load().fetch(&key) {
                Ok(token) => {
                    if let Err(why) = self.take(&key, token, self.clock.now_ns()) {
                        let line = format_args!("Reloaded: deleting account [bad claims]: {key:?}: {why}");
                        self.log(Level::Info, line);
                        self.remove(&key, Withdrawal::Reloaded);
                    }
                }
                Err(_) if is_memory => {
                    self.log(Level::Info, format_args!("Reloaded: deleting account [removed]: {key:?}"));
                    self.remove(&key, Withdrawal::Reloaded);
                }
                // What a directory or a server has lost may come back.
                Err(_) => {}
            }
        }
    }

    /// Whether an account has been looked up, or is being.
    pub(crate) fn keeps(&self, key: &str) -> bool {
        self.kept.read().contains(key)
    }

    /// Whether an account was looked up.
    fn knows(&self, key: &str) -> bool {
        self.known.read().contains_key(key)
    }

    /// What the known accounts mean.
    pub(crate) fn meant(&self) -> Vec<options::Account> {
        self.table.lock().meant.clone()
    }

    /// What an account means that has something to be recovered. Blocks when it was not looked up yet.
    pub(crate) fn meaning(&self, key: &str) -> Option<options::Account> {
        if !self.knows(key)
            && let Err(why) = self.look_up(key)
        {
            self.log(Level::Warning, format_args!("Account fetch failed: {key}: {why}"));
        }
        self.meant_by(key)
    }

    /// Gives all known accounts what they are to have from the server: those that were there before it had it.
    pub(crate) fn welcome_all(&self, inner: &Inner) {
        for meant in self.meant() {
            welcome(inner, &meant);
        }
    }

    /// What an account means, if it is known.
    pub(crate) fn meant_by(&self, key: &str) -> Option<options::Account> {
        let table = self.table.lock();
        table.find(key).map(|place| table.meant[place].clone())
    }

    /// The token of an account, if it was looked up, and what it says.
    pub(crate) fn token_of(&self, key: &str) -> Option<(String, Claims<Account>)> {
        let known = self.known.read();
        known.get(key).map(|known| (known.token.clone(), known.account.claims.clone()))
    }

    /// Whether a reload has taken an account away that was known.
    pub(crate) fn has_forgotten(&self, key: &str) -> bool {
        self.known.read().get(key).is_some_and(|known| known.withdrawal == Some(Withdrawal::Reloaded))
    }

    /// Whether an account's token is gone.
    pub(crate) fn is_removed(&self, key: &str) -> bool {
        self.known.read().get(key).is_some_and(|known| known.is_removed())
    }

    /// What an account calls itself, if it was looked up and has a name.
    pub(crate) fn name_tag(&self, key: &str) -> Option<String> {
        let known = self.known.read();
        let name = known.get(key).map(|known| known.account.claims.data.name.clone());
        name.filter(|name| !name.is_empty())
    }

    /// Now and then: imports whose activation is over end.
    pub(crate) fn tidy(&self) {
        if self.moment().unix() < self.next_expiry.load(Ordering::Relaxed) {
            return;
        }
        let known = self.known.read();
        let limited = known.iter().filter(|(_, known)| !known.activation_expiries.is_empty());
        let keys: HashSet<Arc<str>> = limited.map(|(key, _)| key.clone()).collect();
        drop(known);
        self.link(&mut self.table.lock(), &keys);
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn keys(&self) -> Vec<Arc<str>> {
        self.known.read().keys().cloned().collect()
    }

    fn moment(&self) -> Moment {
        Moment { unix_ns: Clock::calendar_unix_ns(), clock_ns: self.clock.now_ns() }
    }

    /// A known account that need not be looked up now.
    fn current(&self, key: &str, now: Moment) -> Option<Arc<Known>> {
        let known = self.known.read().get(key).cloned()?;
        let expires = known.account.claims.data.expires;
        let is_over = known.is_removed() || (expires > 0 && expires <= now.unix());
        let is_fresh = now.clock_ns.saturating_sub(known.looked_up_ns) < LOOKUP_PAUSE_NS;
        (!is_over || is_fresh).then_some(known)
    }

    fn admit(&self, user: Presented, known: &Known, now: Moment) -> Check {
        if known.is_removed() {
            return Check::Decided(Outcome::Refused(Reason::AccountExpired));
        }
        match user.admit(&known.account, &self.trust.load(), now, &self.local) {
            Ok(Admission::Granted(identity)) => Check::Decided(Outcome::Granted(identity)),
            Ok(Admission::Asked(question)) => match self.inner() {
                Some(inner) => Check::Slow(SlowCheck::Ask(inner.callouts.ask(*question))),
                None => Check::Decided(Outcome::Refused(Reason::CalloutUnanswered)),
            },
            Err(reason) => Check::Decided(Outcome::Refused(reason)),
        }
    }

    /// Whether answers of the service of an account may be signed with a key.
    pub(crate) fn signs_for(&self, account: &str, key: &str) -> bool {
        let known = self.known.read().get(account).cloned();
        known.is_some_and(|known| {
            let claims = &known.account.claims;
            let strict = self.trust.load().strict.contains(&claims.data.issuer);
            !matches!(claims.signer(key, strict), Signer::Unknown)
        })
    }

    /// Puts a user where the service of an account wants it.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        slow_checks: &SlowChecks,
        callout: &Arc<str>,
        answer: Answer,
        standing: Standing,
    ) -> Result<Identity, CalloutError> {
        let missing = |account: &str, why: &str| {
            CalloutError::AccountUnknown(account.into(), callout.to_string(), why.into())
        };
        let known = self.known.read().get(callout).cloned();
        let known = known.ok_or_else(|| missing(callout, "account missing"))?;
        let target = answer.account(&known.account.claims)?.to_owned();
        let known = match self.current(&target, self.moment()) {
            Some(known) => known,
            None => {
                let (own, key) = (self.clone(), target.clone());
                let found = slow_checks.find(move || own.look_up(&key)).await;
                let found = found.ok_or_else(|| missing(&target, "the lookup was lost"))?;
                found.map_err(|why| missing(&target, &why.to_string()))?
            }
        };
        self.admit_answered(&known, callout, answer, standing)
    }

    fn admit_answered(
        &self,
        known: &Known,
        callout: &Arc<str>,
        answer: Answer,
        standing: Standing,
    ) -> Result<Identity, CalloutError> {
        if known.is_removed() {
            return Err(CalloutError::Refused(Reason::AccountExpired));
        }
        let (trust, now) = (self.trust.load(), self.moment());
        answer.admit_delegated(callout, &known.account, standing, &trust, now, &self.local)
    }

    /// Finds an account, and those that it imports from. Blocks.
    fn look_up(&self, key: &str) -> Result<Arc<Known>, Refused> {
        let began_ns = self.clock.now_ns();
        let token = self.fetch(key)?;
        self.take(key, token, began_ns)
    }

    fn fetch(&self, key: &str) -> Result<String, Refused> {
        if !KeyKind::Account.owns(key) {
            return Err(Refused::Missing("will only fetch valid account keys".into()));
        }
        let began_ns = self.clock.now_ns();
        let fetched = self.resolver.load().fetch(key);
        let took = std::time::Duration::from_nanos(self.clock.now_ns() - began_ns);
        let level = if took.as_secs() > 0 { Level::Warning } else { Level::Debug };
        self.log(level, format_args!("Account [{key}] fetch took {took:?}"));
        fetched.map_err(Refused::Missing)
    }

    fn verify(&self, key: &str, token: &str) -> Result<Claims<Account>, Refused> {
        let invalid = |why: &str| Refused::Invalid(why.to_owned());
        let claims: Claims<Account> =
            token::decode(token).map_err(|error| Refused::Invalid(error.to_string()))?;
        if !self.trust.load().operators.contains(&claims.data.issuer) || claims.data.subject != key {
            return Err(invalid("account validation failed"));
        }
        if claims.validate(self.moment().unix()).is_blocking() {
            return Err(invalid("account validation failed"));
        }
        Ok(claims)
    }

    /// Puts a token in force, with the accounts that it imports from, as they were at `began_ns`. Blocks.
    fn take(&self, key: &str, token: String, began_ns: u64) -> Result<Arc<Known>, Refused> {
        let fresh = self.gather(key, token, began_ns)?;
        let inner = self.inner().ok_or_else(|| Refused::Missing("the server stops".into()))?;
        self.kept.write().extend(fresh.iter().map(Fresh::key));
        let (mut changed, mut to_judge) = (HashSet::new(), Vec::new());
        let mut table = self.table.lock();
        let mut installed = Vec::with_capacity(fresh.len());
        for fresh in fresh {
            let key = fresh.key();
            let before = table.find(&key).map(|place| table.known[place].clone());
            let known = self.install(&inner, &mut table, fresh, before.as_ref());
            if before.as_ref().is_none_or(|before| before.shares_otherwise_than(&known)) {
                changed.insert(key.clone());
            }
            if before.is_some_and(|before| before.token != known.token || before.is_removed()) {
                to_judge.push(key.clone());
            }
            installed.push((key, known));
        }
        if !changed.is_empty() {
            self.link(&mut table, &changed);
        }
        // Only now do users come in without a lookup: everything is in its place.
        self.known.write().extend(installed.iter().cloned());
        drop(table);
        for key in to_judge {
            self.judge_again(&inner, &key);
        }
        let own = installed.into_iter().next();
        own.map(|(_, known)| known).ok_or_else(|| Refused::Missing("account missing".into()))
    }

    /// The account of a token, verified, and before others those that it imports from and that nobody has looked up.
    fn gather(&self, key: &str, token: String, began_ns: u64) -> Result<Vec<Fresh>, Refused> {
        let mut fresh = vec![self.read(key, token, began_ns)?];
        let mut next = 0;
        while let Some(importer) = fresh.get(next) {
            next += 1;
            let imports = importer.known.account.claims.nats.imports.iter();
            let exporters: HashSet<String> = imports.map(|import| import.account.clone()).collect();
            for exporter in exporters {
                let is_there = self.keeps(&exporter) || fresh.iter().any(|fresh| *fresh.key() == *exporter);
                if is_there || fresh.len() > IMPORTED_ACCOUNTS_MAX {
                    continue;
                }
                match self.fetch(&exporter).and_then(|token| self.read(&exporter, token, began_ns)) {
                    Ok(account) => fresh.push(account),
                    Err(why) => {
                        let line = format_args!("Can't locate account [{exporter}] for import: {why}");
                        self.log(Level::Error, line);
                    }
                }
            }
        }
        Ok(fresh)
    }

    /// Makes an account of a token, without anything that others see.
    fn read(&self, key: &str, token: String, began_ns: u64) -> Result<Fresh, Refused> {
        let claims = self.verify(key, &token)?;
        let (meant, left_out) = claimed::account(&claims);
        for what in left_out {
            self.log(Level::Debug, format_args!("Account [{key}]: left out: {what}"));
        }
        let activation_expiries = claimed::activation_expiries(&claims);
        let account = KnownAccount::new(claims).map_err(|why| Refused::Invalid(why.to_string()))?;
        let known = Known { account, token, activation_expiries, looked_up_ns: began_ns, withdrawal: None };
        Ok(Fresh { meant, known: Arc::new(known) })
    }

    /// Puts one account into the table, and its limits in force. One that came in meanwhile stays.
    fn install(
        &self,
        inner: &Inner,
        table: &mut Table,
        fresh: Fresh,
        before: Option<&Arc<Known>>,
    ) -> Arc<Known> {
        let Fresh { meant, known } = fresh;
        if let Some(newer) = before.filter(|before| before.looked_up_ns > known.looked_up_ns) {
            return newer.clone();
        }
        let name = &known.account.claims.data.name;
        self.log(Level::Debug, format_args!("Updating account claims: {}/{name}", meant.name));
        inner.shared.accounts.find_or_create(&meant.name, inner.clock.now_unix_ns());
        set_limits(inner, &meant);
        welcome(inner, &meant);
        table.insert(meant, known.clone());
        known
    }

    /// Decides anew what accounts import: those whose tokens changed, and those that import from them.
    fn link(&self, table: &mut Table, changed: &HashSet<Arc<str>>) {
        let Some(inner) = self.inner() else { return };
        let now = self.moment().unix();
        let options = inner.options.load();
        let importers: Vec<usize> = (0..table.meant.len())
            .filter(|place| {
                let imports = &table.known[*place].account.claims.nats.imports;
                changed.contains(table.meant[*place].name.as_str())
                    || imports.iter().any(|import| changed.contains(import.account.as_str()))
            })
            .collect();
        for place in &importers {
            table.meant[*place].imports.clear();
        }
        for place in importers {
            let known = table.known[place].clone();
            let imports = if known.is_removed() { &[][..] } else { &known.account.claims.nats.imports };
            for import in imports {
                match self.grant(table, place, import, now) {
                    Ok(granted) => table.meant[place].imports.push(granted),
                    Err(why) => self.log(
                        Level::Debug,
                        format_args!(
                            "Error adding import of {:?} from {} to account [{}]: {why}",
                            import.subject, import.account, table.meant[place].name
                        ),
                    ),
                }
            }
            let meant = &table.meant[place];
            let names: HashSet<&str> = meant.imports.iter().map(|import| import.account.as_str()).collect();
            let exporters = names.iter().filter_map(|name| table.find(name)).map(|place| &table.meant[place]);
            let (accounts, stamps) = (&inner.shared.accounts, &inner.shared.stamps);
            crate::links::update_one(meant, exporters, options.system_account_name(), accounts, stamps);
        }
        let expiries = table.known.iter().flat_map(|known| &known.activation_expiries);
        let next = expiries.filter(|expires| **expires > now).min();
        self.next_expiry.store(next.copied().unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn grant(
        &self,
        table: &Table,
        importer: usize,
        import: &sonata_jwt::share::Import,
        now: i64,
    ) -> Result<options::Import, String> {
        let place = table.find(&import.account).filter(|place| !table.known[*place].is_removed());
        let place = place.ok_or("no such account")?;
        let claims = &table.known[place].account.claims;
        let strict = self.trust.load().strict.contains(&claims.data.issuer);
        claimed::import(&table.meant, importer, Exporter { place, claims, strict }, import, now)
    }

    /// Takes an account out of force: its users go, as if its time were over.
    fn remove(&self, key: &str, withdrawal: Withdrawal) {
        let Some(inner) = self.inner() else { return };
        let mut table = self.table.lock();
        let Some(place) = table.find(key) else { return };
        let Ok(account) = KnownAccount::new(table.known[place].account.claims.clone()) else { return };
        let known = Arc::new(Known {
            account,
            token: table.known[place].token.clone(),
            activation_expiries: Vec::new(),
            looked_up_ns: self.clock.now_ns(),
            withdrawal: Some(withdrawal),
        });
        let key: Arc<str> = key.into();
        table.known[place] = known.clone();
        table.meant[place].limits = options::AccountLimits {
            max_connections: Some(0),
            max_subscriptions: Some(0),
            max_payload: Some(0),
        };
        table.meant[place].jetstream = None;
        self.known.write().insert(key.clone(), known);
        set_limits(&inner, &table.meant[place]);
        // Its streams rest until there is a token again.
        welcome(&inner, &table.meant[place]);
        self.link(&mut table, &HashSet::from([key.clone()]));
        drop(table);
        self.log(Level::Debug, format_args!("Disable account {key} due to remove"));
        self.judge_again(&inner, &key);
    }

    /// Has the users of an account judged again, each by its own task, and sends away those beyond a lower limit.
    fn judge_again(&self, inner: &Inner, key: &str) {
        let mut members = Vec::new();
        for entry in inner.connections.open() {
            match entry.connection.profile().account {
                Some(account) if *account == *key => members.push(entry),
                Some(_) => {}
                // It may just have been judged by what was, and not be bound yet.
                None => {
                    entry.ask_for_judgement();
                    entry.connection.wake();
                }
            }
        }
        members.sort_by_key(|entry| entry.connection.id());
        let removed = self.is_removed(key);
        let max = inner.shared.accounts.find(key).and_then(|account| account.limits().connections_max);
        for (place, entry) in members.iter().enumerate() {
            if !removed && max.is_some_and(|max| place >= max) {
                let text = ErrorText::MaximumAccountConnectionsExceeded.line();
                entry.connection.send_last(&text, CloseReason::MaxAccountConnectionsExceeded);
            } else {
                entry.ask_for_judgement();
                entry.connection.wake();
            }
        }
    }

    fn inner(&self) -> Option<Arc<Inner>> {
        self.inner.get().and_then(Weak::upgrade)
    }

    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        self.logger.write(level, line);
    }

    fn log_start(&self, options: &Options) {
        if options.operators.is_empty() {
            return;
        }
        self.log(Level::Info, format_args!("Trusted Operators"));
        let time = |seconds: i64| match Timestamp::from_second(seconds) {
            Ok(time) if seconds > 0 => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
            _ => "Never".into(),
        };
        for operator in &options.operators {
            let data = &operator.claims.data;
            self.log(Level::Info, format_args!("  System  : {:?}", data.audience));
            self.log(Level::Info, format_args!("  Operator: {:?}", data.name));
            self.log(Level::Info, format_args!("  Issued  : {}", time(data.issued_at)));
            self.log(Level::Info, format_args!("  Expires : {}", time(data.expires)));
        }
        if options.system_account.is_none() {
            self.log(Level::Warning, format_args!("Trusted Operators should utilize a System Account"));
        }
        let now = self.moment().unix();
        for (key, token) in &options.resolver_preload {
            let Ok(claims) = token::decode::<Account>(token) else { continue };
            let issues = claims.validate(now);
            if issues.is_blocking() {
                self.log(Level::Warning, format_args!("Account [{key}] has validation issues:"));
                for issue in issues.all().iter().filter(|issue| issue.severity != Severity::Warning) {
                    self.log(Level::Warning, format_args!("  - {issue}"));
                }
            }
        }
    }
}

impl TokenJudge for Operators {
    fn judge(&self, credentials: &Credentials<'_>, proxy: Option<Arc<str>>) -> Check {
        let now = self.moment();
        let user = match Presented::read(credentials, proxy, &self.trust.load(), now) {
            Ok(user) => user,
            Err(reason) => return Check::Decided(Outcome::Refused(reason)),
        };
        if let Some(known) = self.current(user.account(), now) {
            return self.admit(user, &known, now);
        }
        let Some(own) = self.itself.upgrade() else {
            return Check::Decided(Outcome::Refused(Reason::AccountUnknown));
        };
        Check::Slow(SlowCheck::Find(Box::new(move || match own.look_up(user.account()) {
            Ok(known) => own.admit(user, &known, own.moment()),
            Err(why) => {
                own.log(Level::Warning, format_args!("Account fetch failed: {why}"));
                Check::Decided(Outcome::Refused(Reason::AccountUnknown))
            }
        })))
    }

    /// The account is known: somebody is in it. One that is over is not looked up here; its users go.
    fn confirm(&self, said: &Said) -> Check {
        let identity = Answer::again(said, self.moment().unix()).and_then(|answer| {
            let known = self.known.read().get(answer.target()).cloned();
            let known = known.ok_or(CalloutError::Refused(Reason::AccountUnknown))?;
            self.admit_answered(&known, &said.account, answer, said.standing.clone())
        });
        Check::Decided(match identity {
            Ok(identity) => Outcome::Granted(identity),
            Err(error) => Outcome::Refused(error.reason()),
        })
    }
}

impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operators").field("resolver", &**self.resolver.load()).finish_non_exhaustive()
    }
}

/// Another configuration, ready to be put in force.
pub(crate) struct Change {
    trust: Trust,
    resolver: Resolver,
}

impl Known {
    fn is_removed(&self) -> bool {
        self.withdrawal.is_some()
    }

    /// Whether imports of this account, or of others from it, may be decided otherwise.
    fn shares_otherwise_than(&self, other: &Self) -> bool {
        let (own, others) = (&self.account.claims.nats, &other.account.claims.nats);
        self.is_removed() != other.is_removed()
            || self.account.claims.data.issuer != other.account.claims.data.issuer
            || own.imports != others.imports
            || own.exports != others.exports
            || own.mappings != others.mappings
            || own.signing_keys != others.signing_keys
    }
}

fn set_limits(inner: &Inner, meant: &options::Account) {
    let Some(account) = inner.shared.accounts.find(&meant.name) else { return };
    let limit = |max: Option<u32>| max.map(|max| max as usize);
    account.set_trace_destination(crate::settings::trace_destination(meant));
    account.set_limits(AccountLimits {
        connections_max: limit(meant.limits.max_connections),
        subscriptions_max: limit(meant.limits.max_subscriptions),
        payload_bytes_max: limit(meant.limits.max_payload),
    });
}

/// An account gets what it is to have from the server.
fn welcome(inner: &Inner, meant: &options::Account) {
    let Some(account) = inner.shared.accounts.find(&meant.name) else { return };
    if let Some(jetstream) = &*inner.jetstream.load() {
        jetstream.welcome(&account, meant);
    }
    if let Some(system) = inner.system.get() {
        system.welcome(&account);
    }
}

impl Table {
    fn find(&self, key: &str) -> Option<usize> {
        self.places.get(key).copied()
    }

    /// Imports stay until they are decided on anew.
    fn insert(&mut self, meant: options::Account, known: Arc<Known>) {
        match self.find(&meant.name) {
            Some(place) => {
                let imports = std::mem::take(&mut self.meant[place].imports);
                self.meant[place] = options::Account { imports, ..meant };
                self.known[place] = known;
            }
            None => {
                self.places.insert(meant.name.as_str().into(), self.meant.len());
                self.meant.push(meant);
                self.known.push(known);
            }
        }
    }
}

fn trust(options: &Options) -> Trust {
    let (operators, strict) = options.trusted();
    let pinned = options.resolver_pinned_accounts.as_ref().filter(|pinned| !pinned.is_empty());
    Trust {
        operators: operators.into_iter().collect(),
        strict: strict.into_iter().collect(),
        // The operator's own account is always let in.
        pinned: pinned.map(|pinned| pinned.iter().chain(&options.system_account).cloned().collect()),
        sentinel: options.default_sentinel.as_ref().map(|sentinel| sentinel.expose().to_owned()),
    }
}
