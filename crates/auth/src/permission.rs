//! What a user may publish and subscribe to.
//!
//! [`PermissionRules`] is the list as an operator writes it; [`Permissions`] is the same compiled, to be asked for
//! every publish without allocating. A subscription is decided once, at SUB; what cannot be decided then (a wildcard
//! that reaches into denied subjects) is left to a [`DeliveryFilter`], asked for each message.
//!
//! The rules are those of nats-server, with one difference: see [`Permissions::can_subscribe`].

use std::error::Error;
use std::fmt;

use sonata_subject::{has_wildcard, overlaps};

use crate::pattern::{PatternSet, Star, Verdict, is_entry};

/// Permissions as configured.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PermissionRules {
    /// Subjects to publish to; none means no restriction.
    pub publish: Option<SubjectAccess>,
    /// Subjects, or `subject queue` pairs, to subscribe to; none means no restriction.
    pub subscribe: Option<SubjectAccess>,
    /// Whether replies to received requests may be published although `publish` does not name them.
    pub allow_responses: Option<ResponsePermission>,
}

/// One direction of [`PermissionRules`].
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SubjectAccess {
    /// What is allowed; an empty list allows everything (for `publish` together with `allow_responses`: nothing).
    pub allow: Vec<String>,
    /// What is denied although it is allowed.
    pub deny: Vec<String>,
}

/// How many replies a received request entitles to, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponsePermission {
    /// Replies per request; negative means unlimited, 0 the default of [`ResponsePermission::MAX_DEFAULT`].
    pub max: i64,
    /// Nanoseconds after the request; negative means for ever, 0 the default of
    /// [`ResponsePermission::TTL_DEFAULT_NS`].
    pub ttl_ns: i64,
}

impl ResponsePermission {
    /// One reply for a request.
    pub const MAX_DEFAULT: i64 = 1;
    /// Two minutes.
    pub const TTL_DEFAULT_NS: i64 = 120 * 1_000_000_000;

    /// The same with defaults in place of zeros.
    #[must_use]
    pub fn with_defaults(self) -> Self {
        let or = |value, default| if value == 0 { default } else { value };
        Self { max: or(self.max, Self::MAX_DEFAULT), ttl_ns: or(self.ttl_ns, Self::TTL_DEFAULT_NS) }
    }
}

impl Default for ResponsePermission {
    fn default() -> Self {
        Self { max: Self::MAX_DEFAULT, ttl_ns: Self::TTL_DEFAULT_NS }
    }
}

/// [`PermissionRules`] ready to be asked. Shared by all connections of a user.
#[derive(Debug, Clone)]
pub struct Permissions {
    rules: PermissionRules,
    publish: Access,
    subscribe: Access,
}

/// One direction, compiled.
#[derive(Debug, Default, Clone)]
struct Access {
    /// None: everything is allowed.
    allow: Option<PatternSet>,
    deny: PatternSet,
}

/// The answer to a SUB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeDecision {
    /// Refuse it with a permissions violation.
    Denied,
    /// Accept it; every message may be delivered.
    Allowed,
    /// Accept it, and ask [`Permissions::can_deliver`] before each delivery.
    Filtered(DeliveryFilter),
}

/// What has to be asked for each message of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// The subscription reaches into denied subjects.
    denied: bool,
    /// The subscription reaches out of the allowed subjects.
    allowed: bool,
}

impl Permissions {
    /// Compiles rules.
    ///
    /// # Errors
    ///
    /// An entry that is not a subject, or, for subscribe, not a subject with at most one queue group.
    pub fn new(mut rules: PermissionRules) -> Result<Self, InvalidRule> {
        rules.allow_responses = rules.allow_responses.map(ResponsePermission::with_defaults);
        let publish = compile_publish(rules.publish.as_ref(), rules.allow_responses.is_some())?;
        let subscribe = compile_subscribe(rules.subscribe.as_ref())?;
        Ok(Self { rules, publish, subscribe })
    }

    /// The same, or no restrictions, without leave to publish to one more subject.
    pub fn with_publish_denied(permissions: Option<&Self>, subject: &str) -> Self {
        let mut permissions = permissions.cloned().unwrap_or_else(|| Self {
            rules: PermissionRules::default(),
            publish: Access::default(),
            subscribe: Access::default(),
        });
        permissions.rules.publish.get_or_insert_default().deny.push(subject.into());
        permissions.publish.deny.insert(subject.as_bytes(), None);
        permissions
    }

    /// The rules, with defaults filled in.
    pub fn rules(&self) -> &PermissionRules {
        &self.rules
    }

    /// How replies are allowed beyond [`Permissions::can_publish`], if they are.
    pub fn responses(&self) -> Option<ResponsePermission> {
        self.rules.allow_responses
    }

    /// Whether a publish to `subject` is allowed. Replies to requests are not considered.
    ///
    /// Wildcard tokens of `subject` are plain words: `a.*` may be published to by who may publish to `a.*` or `a.>`.
    pub fn can_publish(&self, subject: &[u8]) -> bool {
        self.publish.allow.as_ref().is_none_or(|allow| allow.matches(subject))
            && (self.publish.deny.is_empty() || !self.publish.deny.matches(subject))
    }

    /// Whether a SUB to `subject`, as a member of `queue` if there is one, is accepted.
    ///
    /// * A subscription must be covered by one allow entry and must not be covered by a deny entry. One that merely
    ///   reaches into denied subjects is accepted and filtered.
    /// * Entries with a queue group speak only about members of that group. Once an allow entry with a group
    ///   matches the subject, members of other groups are refused, even if an entry without group matches as well.
    ///
    /// nats-server accepts a SUB to `a.>` from who is allowed `a.*` only (it lets `*` stand for the token `>`) and
    /// then delivers all of `a.>`. We accept that SUB as well, but deliver only what is allowed.
    pub fn can_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> SubscribeDecision {
        let mut filter = DeliveryFilter { denied: false, allowed: false };
        if let Some(allow) = &self.subscribe.allow {
            if !allows(allow.ask(subject, queue, Star::AnyToken), queue) {
                return SubscribeDecision::Denied;
            }
            filter.allowed = !allows(allow.ask(subject, queue, Star::OneToken), queue);
        }
        if !self.subscribe.deny.is_empty() {
            if denies(self.subscribe.deny.ask(subject, queue, Star::AnyToken)) {
                return SubscribeDecision::Denied;
            }
            filter.denied = has_wildcard(subject) && self.denies_part_of(subject);
        }
        match filter {
            DeliveryFilter { denied: false, allowed: false } => SubscribeDecision::Allowed,
            filter => SubscribeDecision::Filtered(filter),
        }
    }

    /// Whether a message on `subject` may be delivered to a subscription that was accepted with `filter`.
    pub fn can_deliver(&self, filter: DeliveryFilter, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let denied = filter.denied && denies(self.subscribe.deny.ask(subject, queue, Star::AnyToken));
        !denied && (!filter.allowed || self.is_allowed_to_receive(subject, queue))
    }

    /// Whether some subject that `wildcard` matches is denied, perhaps only to some queue groups.
    fn denies_part_of(&self, wildcard: &[u8]) -> bool {
        let denied = self.rules.subscribe.as_ref().map_or(&[][..], |access| &access.deny);
        subjects(denied).any(|denied| overlaps(denied, wildcard))
    }

    /// Unlike at SUB an entry without group is enough here, so that a message is not lost to a rule about names of
    /// groups that this subscription has already passed.
    fn is_allowed_to_receive(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.subscribe.allow.as_ref().is_none_or(|allow| {
            let verdict = allow.ask(subject, queue, Star::AnyToken);
            verdict.plain || verdict.queue
        })
    }
}

/// A member of a group is allowed by the entries with groups when there are any, else by those without.
fn allows(verdict: Verdict, queue: Option<&[u8]>) -> bool {
    match queue {
        Some(_) if verdict.queued => verdict.queue,
        _ => verdict.plain,
    }
}

/// An entry without group denies to members of all groups as well.
fn denies(verdict: Verdict) -> bool {
    verdict.plain || verdict.queue
}

fn compile_publish(access: Option<&SubjectAccess>, responses: bool) -> Result<Access, InvalidRule> {
    let mut compiled = Access::default();
    let (allow, deny) = access.map_or((&[][..], &[][..]), |access| (&access.allow, &access.deny));
    if responses || !allow.is_empty() {
        compiled.allow = Some(PatternSet::default());
    }
    for text in allow {
        let subject = publish_entry(text)?;
        if let Some(set) = &mut compiled.allow {
            set.insert(subject, None);
        }
    }
    for text in deny {
        compiled.deny.insert(publish_entry(text)?, None);
    }
    Ok(compiled)
}

fn compile_subscribe(access: Option<&SubjectAccess>) -> Result<Access, InvalidRule> {
    let mut compiled = Access::default();
    let Some(access) = access else { return Ok(compiled) };
    for text in &access.allow {
        let (subject, queue) = subscribe_entry(text)?;
        compiled.allow.get_or_insert_default().insert(subject, queue);
    }
    for text in &access.deny {
        let (subject, queue) = subscribe_entry(text)?;
        compiled.deny.insert(subject, queue);
    }
    Ok(compiled)
}

/// The subjects that a list of valid subscribe entries names.
fn subjects(entries: &[String]) -> impl Iterator<Item = &[u8]> {
    entries.iter().filter_map(|text| text.split_whitespace().next()).map(str::as_bytes)
}

fn publish_entry(text: &str) -> Result<&[u8], InvalidRule> {
    if is_entry(text.as_bytes()) { Ok(text.as_bytes()) } else { Err(InvalidRule::Subject(text.into())) }
}

/// `subject` or `subject queue`.
fn subscribe_entry(text: &str) -> Result<(&[u8], Option<&[u8]>), InvalidRule> {
    let mut words = text.split_whitespace().map(str::as_bytes);
    let (subject, queue) = (words.next(), words.next());
    match subject {
        Some(subject) if words.next().is_none() && is_entry(subject) && queue.is_none_or(is_entry) => {
            Ok((subject, queue))
        }
        _ => Err(InvalidRule::SubjectQueue(text.into())),
    }
}

/// The operator's mistake in a list of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidRule {
    /// A publish entry is not a subject.
    Subject(String),
    /// A subscribe entry is not a subject, or a subject and a queue group.
    SubjectQueue(String),
}

impl fmt::Display for InvalidRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(text) => write!(f, "subject {text:?} is not a valid subject"),
            Self::SubjectQueue(text) => write!(f, "invalid subject-queue {text:?}"),
        }
    }
}

impl Error for InvalidRule {}
