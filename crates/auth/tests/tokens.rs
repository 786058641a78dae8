//! Users with tokens: every reason to refuse one, in the order in which they are found, and what a good one grants.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::net::IpAddr;

use data_encoding::BASE64URL_NOPAD;
use jiff::tz::TimeZone;
use nkeys::{KeyPair, KeyPairType};
use sonata_auth::connection_type::ConnectionType;
use sonata_auth::permission::SubscribeDecision;
use sonata_auth::token::{Admission, KnownAccount, Moment, Presented, Trust};
use sonata_auth::user::{Credentials, Identity, Name, Reason};
use sonata_jwt::account::{Account, UserScope};
use sonata_jwt::claims::Claims;
use sonata_jwt::limits::OperatorLimits;
use sonata_jwt::token::encode;
use sonata_jwt::user::{TimeRange, User, UserLimits};

/// Monday, 2024-06-03 12:00:00 UTC.
const NOW: i64 = 1_717_416_000;
const MOMENT: Moment = Moment { unix_ns: NOW * 1_000_000_000, clock_ns: 5_000 };
const NONCE: &str = "a nonce";

fn key(kind: KeyPairType, number: u8) -> KeyPair {
    KeyPair::new_from_raw(kind, [number; 32]).unwrap()
}

fn account_key() -> KeyPair {
    key(KeyPairType::Account, 2)
}

fn scoped_key() -> KeyPair {
    key(KeyPairType::Account, 3)
}

fn user_key() -> KeyPair {
    key(KeyPairType::User, 4)
}

/// A user, an account, and whose word counts; each test changes what it is about.
struct Case {
    user: Claims<User>,
    signer: KeyPair,
    account: Claims<Account>,
    operator: KeyPair,
    trust: Trust,
    token: Option<String>,
    signature: Option<String>,
    source: Option<IpAddr>,
    proxy: bool,
}

impl Case {
    fn new() -> Self {
        let operator = key(KeyPairType::Operator, 1);
        let mut user = Claims::<User>::about(user_key().public_key());
        user.nats.limits = UserLimits::unlimited();
        let mut account = Claims::<Account>::about(account_key().public_key());
        account.nats.limits = OperatorLimits::unlimited();
        let mut scope =
            UserScope { kind: "user_scope".into(), key: scoped_key().public_key(), ..UserScope::default() };
        scope.template = UserLimits::unlimited();
        scope.template.permissions.publish.allow = vec!["{{name()}}".into()];
        account.nats.signing_keys.0.insert(scoped_key().public_key(), Some(scope));
        let trust = Trust { operators: HashSet::from([operator.public_key()]), ..Trust::default() };
        let (signer, token, signature) = (account_key(), None, None);
        let source = Some("127.0.0.1".parse().unwrap());
        Self { user, signer, account, operator, trust, token, signature, source, proxy: false }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut case = Self::new();
        change(&mut case);
        case
    }

    fn scoped(&mut self) {
        self.signer = scoped_key();
        self.user.nats.limits = UserLimits::default();
        self.user.nats.issuer_account = account_key().public_key();
        self.user.data.name = "joe".into();
    }

    fn judge(self) -> Result<Identity, Reason> {
        self.admit().map(|admission| match admission {
            Admission::Granted(identity) => identity,
            Admission::Asked(question) => panic!("{question:?}"),
        })
    }

    fn admit(self) -> Result<Admission, Reason> {
        let token = self.token.unwrap_or_else(|| encode(self.user, &self.signer, NOW - 100).unwrap());
        let signed = || BASE64URL_NOPAD.encode(&user_key().sign(NONCE.as_bytes()).unwrap());
        let sig = self.signature.unwrap_or_else(signed);
        let credentials = Credentials {
            jwt: &token,
            sig: &sig,
            nonce: NONCE,
            source: self.source,
            ..Credentials::default()
        };
        let proxy = self.proxy.then(|| "proxy".into());
        let user = Presented::read(&credentials, proxy, &self.trust, MOMENT)?;
        assert_eq!(user.account(), account_key().public_key());
        let account = encode(self.account, &self.operator, NOW - 200).unwrap();
        let account = KnownAccount::new(sonata_jwt::token::decode(&account).unwrap()).unwrap();
        user.admit(&account, &self.trust, MOMENT, &TimeZone::UTC)
    }
}

fn times(start: &str, end: &str) -> Vec<TimeRange> {
    vec![TimeRange { start: start.into(), end: end.into() }]
}

/// Whom a service is to decide on must be good without it as well; the service itself may not ask itself.
#[test]
fn an_account_with_auth_callout_lets_in_its_auth_users_only() {
    let external = |user: String, more: fn(&mut Case)| {
        move |case: &mut Case| {
            case.account.nats.authorization.auth_users = vec![user];
            case.account.nats.authorization.xkey = "X".into();
            case.user.data.name = "joe".into();
            case.user.nats.meta.tags = vec!["a:b".into()];
            more(case);
        }
    };
    let other = || key(KeyPairType::User, 77).public_key();
    let Admission::Asked(question) = Case::with(external(other(), |_| {})).admit().unwrap() else {
        panic!("not asked")
    };
    let account = account_key().public_key();
    assert_eq!((&*question.account, &question.subject), (&*account, &account));
    assert_eq!(question.xkey.as_deref(), Some("X"));
    let client = &question.caller.client;
    assert_eq!((&client.user, &*client.name_tag), (&user_key().public_key(), "joe"));
    assert_eq!((&*client.nonce, &client.tags[..]), (NONCE, &["a:b".to_owned()][..]));
    assert!(question.caller.connect.jwt.starts_with("eyJ"));

    let refused = |more: fn(&mut Case)| Case::with(external(other(), more)).admit().unwrap_err();
    assert_eq!(refused(|case| case.signature = Some("x".into())), Reason::SignatureWrong);
    assert_eq!(refused(|case| case.user.data.expires = NOW - 1), Reason::TokenExpired);
    assert_eq!(refused(|case| case.account.data.expires = NOW - 1), Reason::AccountExpired);
    assert_eq!(
        refused(|case| case.user.nats.limits.sources = vec!["10.0.0.0/8".into()]),
        Reason::SourceNotAllowed
    );

    let own = Case::with(external(user_key().public_key(), |_| {})).judge().unwrap();
    let permissions = own.permissions.unwrap();
    assert!(!permissions.can_publish(b"$SYS.REQ.USER.AUTH"));
    assert!(permissions.can_publish(b"$SYS.REQ.USER.INFO"));
}

/// Each case has everything wrong that is found later as well, so that the order shows.
#[test]
fn reasons_in_order() {
    type Change = fn(&mut Case);
    let steps: [(Reason, Change); 14] = [
        (Reason::TokenInvalid, |case| case.token = Some("eyJ".into())),
        (Reason::ProxyRequired, |case| case.user.nats.limits.proxy_required = true),
        (Reason::TokenExpired, |case| case.user.data.expires = NOW - 1),
        (Reason::AccountNotPinned, |case| case.trust.pinned = Some(HashSet::new())),
        (Reason::AccountNotTrusted, |case| case.operator = key(KeyPairType::Operator, 9)),
        (Reason::SignerUnknown, |case| {
            case.signer = key(KeyPairType::Account, 9);
            case.user.nats.issuer_account = account_key().public_key();
        }),
        (Reason::AccountExpired, |case| case.account.data.expires = NOW),
        (Reason::BearerNotAllowed, |case| {
            case.user.nats.limits.bearer = true;
            case.account.nats.limits.account.disallow_bearer = true;
        }),
        (Reason::ConnectionTypeNotAllowed, |case| {
            case.user.nats.limits.allowed_connection_types = vec!["MQTT".into()];
        }),
        (Reason::SignatureMissing, |case| case.signature = Some(String::new())),
        (Reason::SignatureWrong, |case| case.signature = Some("AAAA".into())),
        (Reason::TokenRevoked, |case| {
            case.account.nats.revocations.0.insert(user_key().public_key(), NOW - 100);
        }),
        (Reason::SourceNotAllowed, |case| case.user.nats.limits.sources = vec!["10.0.0.0/8".into()]),
        (Reason::TimeNotAllowed, |case| case.user.nats.limits.times = times("13:00:00", "14:00:00")),
    ];
    // Some steps undo one another: a bearer needs no signature, and a missing one is not a wrong one.
    for (at, (reason, change)) in steps.iter().enumerate() {
        let case = Case::with(|case| {
            for (later, change) in steps[at + 1..].iter().rev() {
                if !matches!(later, Reason::BearerNotAllowed | Reason::SignatureWrong) {
                    change(case);
                }
            }
            change(case);
        });
        assert_eq!(case.judge().unwrap_err(), *reason);
        assert_eq!(Case::with(change).judge().unwrap_err(), *reason, "alone");
    }
    assert!(Case::new().judge().is_ok());
}

#[test]
fn scopes() {
    let identity = Case::with(Case::scoped).judge().unwrap();
    let permissions = identity.permissions.unwrap();
    assert!(permissions.can_publish(b"joe") && !permissions.can_publish(b"jim"));
    assert_eq!(permissions.can_subscribe(b"any", None), SubscribeDecision::Allowed);
    let limited = Case::with(|case| {
        case.scoped();
        case.user.nats.limits = UserLimits::unlimited();
    });
    assert_eq!(limited.judge().unwrap_err(), Reason::ScopedUserHasLimits);
    let undefined = Case::with(|case| {
        case.scoped();
        if let Some(scope) = case.account.nats.signing_keys.0.values_mut().flatten().next() {
            scope.template.permissions.publish.deny = vec!["{{tag(x)}}".into()];
        }
    });
    assert_eq!(undefined.judge().unwrap_err(), Reason::TemplateInvalid);
    let strict = Case::with(|case| case.trust.strict = case.trust.operators.clone());
    assert_eq!(strict.judge().unwrap_err(), Reason::SignerUnknown, "its own key signs nothing");
    let strict = Case::with(|case| {
        case.scoped();
        case.trust.strict = case.trust.operators.clone();
    });
    assert!(strict.judge().is_ok());
}

#[test]
fn what_is_granted() {
    let identity = Case::with(|case| {
        case.user.nats.limits.limits.subs = 0;
        case.user.nats.limits.limits.payload = 7;
        case.user.nats.meta.tags = vec!["t".into()];
        case.user.data.name = "joe".into();
        case.account.nats.default_permissions.publish.deny = vec!["secret".into()];
    })
    .judge()
    .unwrap();
    assert_eq!(identity.user, Name::Nkey(user_key().public_key()));
    assert_eq!(identity.account.as_deref(), Some(account_key().public_key().as_str()));
    assert!(!identity.permissions.unwrap().can_publish(b"secret"));
    let token = identity.token.unwrap();
    assert_eq!((token.subscriptions_max, token.payload_bytes_max), (Some(0), Some(7)));
    assert_eq!((token.name.as_str(), token.tags.as_slice()), ("joe", &["t".to_owned()][..]));
    assert_eq!((token.issuer.clone(), token.expires_ns), (account_key().public_key(), None));
    assert!(token.token.starts_with("eyJ"));
    let bearer = Case::with(|case| {
        case.user.nats.limits.bearer = true;
        case.signature = Some(String::new());
    });
    assert_eq!(bearer.judge().unwrap().token.unwrap().token, "", "a secret");
}

#[test]
fn the_first_end_counts() {
    let at = |user: i64, account: i64, window: bool| {
        let case = Case::with(|case| {
            case.user.data.expires = user;
            case.account.data.expires = account;
            if window {
                case.user.nats.limits.times = times("11:00:00", "12:00:30");
            }
        });
        let token = case.judge().unwrap().token.unwrap();
        (token.expires_ns.map(|at_ns| (at_ns - MOMENT.clock_ns) / 1_000_000_000), token.is_account_expiry)
    };
    assert_eq!(at(0, 0, false), (None, false));
    assert_eq!(at(NOW + 10, 0, false), (Some(10), false));
    assert_eq!(at(NOW + 10, NOW + 5, false), (Some(5), true));
    assert_eq!(at(NOW + 60, NOW + 60, true), (Some(30), false));
    assert_eq!(at(NOW, 0, false), (Some(0), false), "in its last second");
    assert!(!at(i64::MAX, 0, false).1, "no overflow");
}

#[test]
fn a_sentinel_stands_in_for_what_is_no_token() {
    let sentinel = Case::with(|case| case.user.nats.limits.bearer = true);
    let sentinel = encode(sentinel.user, &sentinel.signer, NOW - 100).unwrap();
    for token in ["", "password", "eyJ.eyJ.eyJ"] {
        let case = Case::with(|case| {
            case.token = Some(token.into());
            case.signature = Some(String::new());
            case.trust.sentinel = Some(sentinel.clone());
        });
        assert!(case.judge().is_ok(), "{token}");
    }
    let case = Case::with(|case| case.token = Some(String::new()));
    assert_eq!(case.judge().unwrap_err(), Reason::TokenMissing);
    let case = Case::with(|case| {
        case.trust.sentinel = Some(sentinel.clone());
        case.user.data.expires = NOW - 1;
    });
    assert_eq!(case.judge().unwrap_err(), Reason::TokenExpired, "an own token counts, however bad");
    assert_eq!(Credentials::default().connection_type, ConnectionType::Standard);
}
