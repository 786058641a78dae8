//! From what the configuration means to what the broker lives by.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sonata_auth::callout::{Callout, Delegation};
use sonata_auth::connection_type::{ConnectionType, ConnectionTypes};
use sonata_auth::password::Secret;
use sonata_auth::permission::{PermissionRules, Permissions, ResponsePermission, SubjectAccess};
use sonata_auth::token::TokenJudge;
use sonata_auth::user::{Grant, Login, NkeyEntry, SingleLogin, UserEntry, Users, UsersConfig};
use sonata_broker::account::{Account, AccountLimits, Accounts, GLOBAL_ACCOUNT};
use sonata_broker::links::Links;
use sonata_broker::msgtrace::TraceDestination;
use sonata_broker::shared::Settings;
use sonata_broker::stamp::Stamps;
use sonata_conf::options::{self, Options};
use sonata_proto::info::ServerInfo;
use sonata_proto::parse::ParseLimits;

use crate::callout::Callouts;
use crate::identity::{API_LEVEL, Identity, NATS_VERSION};
use crate::jetstream::JetStream;
use crate::operator::Operators;
use crate::server::StartError;

/// The settings that the options mean.
pub(crate) fn settings(
    options: &Options,
    identity: &Identity,
    port: u16,
    lame_duck: bool,
    authorization_version: u64,
    operators: Option<&Arc<Operators>>,
    callouts: &Arc<Callouts>,
) -> Result<Settings, StartError> {
    let users = users(options, operators, callouts)?;
    Ok(Settings {
        info: ServerInfo { lame_duck, ..info(options, identity, &users, port)? },
        users,
        parse: ParseLimits {
            control_line_bytes_max: options.max_control_line as usize,
            payload_bytes_max: Some(options.max_payload as usize),
            headers: !options.no_header_support,
        },
        pending_bytes_max: usize::try_from(options.max_pending).unwrap_or(usize::MAX),
        subscriptions_max: options.max_subscriptions.map(|max| max as usize),
        subject_tokens_max: options.max_sub_tokens.map(usize::from),
        ping_interval_ns: nanoseconds(options.ping_interval),
        pings_unanswered_max: options.ping_max,
        auth_timeout_ns: nanoseconds(options.auth_timeout()),
        stall_producers: !options.no_fast_producer_stall,
        system_account: options.system_account_name().unwrap_or_default().into(),
        traced_bytes_max: usize::try_from(options.max_traced_msg_len).unwrap_or(usize::MAX),
        trace_headers: options.trace_headers,
        authorization_version,
    })
}

/// Makes the configured accounts, and forgets those that are no longer, unless operators have them or they have streams,
/// which wait for them to come back.
pub(crate) fn update_accounts(
    options: &Options,
    operators: Option<&Arc<Operators>>,
    jetstream: Option<&JetStream>,
    accounts: &Accounts,
    stamps: &Stamps,
    now_unix_ns: i64,
) {
    let known = KnownAccounts::new(options, operators);
    for name in named_accounts(options) {
        accounts.find_or_create(name, now_unix_ns);
    }
    for configured in &options.accounts {
        let limit = |max: Option<u32>| max.map(|max| max as usize);
        if let Some(account) = accounts.find(&configured.name) {
            account.set_trace_destination(trace_destination(configured));
            account.set_limits(AccountLimits {
                connections_max: limit(configured.limits.max_connections),
                subscriptions_max: limit(configured.limits.max_subscriptions),
                payload_bytes_max: limit(configured.limits.max_payload),
            });
        }
    }
    let awaited = |account: &Account| jetstream.is_some_and(|jetstream| jetstream.has_streams_of(account));
    for account in accounts.all().iter().filter(|account| !known.holds(account) && awaited(account)) {
        account.set_links(Links::default(), stamps);
    }
    accounts.retain(|account| known.holds(account) || awaited(account), stamps);
    crate::links::update(options, accounts, stamps);
}

/// Names of the accounts that are configured, and of those that every server has.
fn named_accounts(options: &Options) -> impl Iterator<Item = &str> {
    let configured = options.accounts.iter().map(|account| account.name.as_str());
    configured.chain([GLOBAL_ACCOUNT]).chain(options.system_account_name())
}

/// The accounts that are configured, an operator's, or every server's. Others are removed: they have streams, which wait
/// for them to come back.
pub(crate) struct KnownAccounts<'a> {
    names: HashSet<&'a str>,
    operators: Option<&'a Arc<Operators>>,
}

impl<'a> KnownAccounts<'a> {
    pub(crate) fn new(options: &'a Options, operators: Option<&'a Arc<Operators>>) -> Self {
        Self { names: named_accounts(options).collect(), operators }
    }

    pub(crate) fn holds(&self, account: &Account) -> bool {
        let name = &**account.name();
        self.names.contains(name) || self.operators.is_some_and(|operators| operators.keeps(name))
    }
}

/// Where the traces of an account's messages go.
pub(crate) fn trace_destination(configured: &options::Account) -> Option<TraceDestination> {
    configured
        .trace
        .as_ref()
        .map(|trace| TraceDestination { subject: trace.subject.as_bytes().into(), percent: trace.percent })
}

fn info(options: &Options, identity: &Identity, users: &Users, port: u16) -> Result<ServerInfo, StartError> {
    let advertised = options.client_advertise.as_deref().map(|text| host_and_port(text, port)).transpose()?;
    let (host, port) = advertised.unwrap_or_else(|| (options.host.clone(), port));
    let requires = users.is_required(ConnectionType::Standard);
    // Only one that was asked for makes credentials optional in `INFO`, not the one that the server adds itself.
    let nobody = options.no_auth_user.is_some();
    let tls = options.tls.as_ref();
    Ok(ServerInfo {
        server_id: identity.id.clone(),
        server_name: server_name(options, identity),
        version: NATS_VERSION.into(),
        proto: 1,
        git_commit: String::new(),
        toolchain: concat!("rust sonata-", env!("CARGO_PKG_VERSION")).into(),
        host,
        port,
        headers: !options.no_header_support,
        auth_required: requires && !nobody,
        tls_required: tls.is_some() && !options.allow_non_tls,
        tls_verify: tls.is_some_and(|tls| tls.verify || tls.verify_and_map),
        tls_available: tls.is_some() && options.allow_non_tls,
        max_payload: i64::from(options.max_payload),
        jetstream: options.jetstream.is_some(),
        domain: options.jetstream.as_ref().and_then(|jetstream| jetstream.domain.clone()).unwrap_or_default(),
        api_level: API_LEVEL,
        curve_key: identity.curve_key.clone(),
        ..ServerInfo::default()
    })
}

/// The configured name, or the id.
pub(crate) fn server_name(options: &Options, identity: &Identity) -> String {
    options.server_name.clone().unwrap_or_else(|| identity.id.clone())
}

/// `host`, `host:port` or `[v6]:port`; a missing or zero port is `default`.
fn host_and_port(text: &str, default: u16) -> Result<(String, u16), StartError> {
    let invalid = || StartError::Advertise(text.into());
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.trim().parse::<u16>().map_err(|_| invalid())?)
        }
        _ => (text, 0),
    };
    let host = host.trim().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(invalid());
    }
    Ok((host.into(), if port == 0 { default } else { port }))
}

fn users(
    options: &Options,
    operators: Option<&Arc<Operators>>,
    callouts: &Arc<Callouts>,
) -> Result<Users, StartError> {
    let delegation = options.authorization.callout.as_ref().map(delegation).filter(|_| operators.is_none());
    let mut config = UsersConfig {
        judge: operators.map(|operators| operators.clone() as Arc<dyn TokenJudge>),
        callout: delegation.map(|delegation| (Arc::new(delegation), callouts.clone() as Arc<dyn Callout>)),
        login: Login {
            no_auth_user: options.no_auth_user.clone(),
            single: match (&options.authorization.token, &options.authorization.user) {
                (Some(token), _) => Some(SingleLogin::Token(Secret::new(token.expose()))),
                (None, Some(user)) => {
                    let password = options.authorization.password.as_ref().map_or("", |p| p.expose());
                    Some(SingleLogin::User(user.clone(), Secret::new(password)))
                }
                (None, None) => None,
            },
        },
        trusted_proxies: options.trusted_proxies.clone(),
        proxy_required: options.authorization.proxy_required,
        ..UsersConfig::default()
    };
    if config.login.no_auth_user.is_none() && only_system_users(options) {
        let name = format!("global-{:016x}", rand::random::<u64>());
        // Nobody can present this password; whoever presents nothing gets the user without it.
        let password = Secret::new(format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()));
        config.users.push(UserEntry { name: name.clone(), password, grant: Grant::default() });
        config.login.no_auth_user = Some(name);
    }
    if options.tls.as_ref().is_some_and(|tls| tls.verify_and_map) {
        config.certificate_mapping = [ConnectionType::Standard].into_iter().collect();
    }
    for user in &options.users {
        config.users.push(UserEntry {
            name: user.name.clone(),
            password: Secret::new(user.password.expose()),
            grant: Grant {
                proxy_required: user.proxy_required,
                ..grant(user.account.as_deref(), user.permissions.as_ref(), user.connection_types.as_ref())?
            },
        });
    }
    for user in &options.nkeys {
        config.nkey_users.push(NkeyEntry {
            nkey: user.nkey.clone(),
            grant: Grant {
                proxy_required: user.proxy_required,
                ..grant(user.account.as_deref(), user.permissions.as_ref(), user.connection_types.as_ref())?
            },
        });
    }
    Ok(Users::new(config))
}

fn delegation(callout: &options::AuthCallout) -> Delegation {
    Delegation {
        issuer: callout.issuer.clone(),
        account: callout.account.as_str().into(),
        auth_users: callout.auth_users.iter().cloned().collect(),
        xkey: callout.xkey.clone(),
        allowed_accounts: callout.allowed_accounts.iter().cloned().collect(),
    }
}

/// Whether the only users there are belong to the system account: then they administrate a server that is otherwise
/// open, and everybody else goes to the global account.
fn only_system_users(options: &Options) -> bool {
    let Some(system) = options.system_account_name() else { return false };
    let mut accounts = options
        .users
        .iter()
        .map(|user| user.account.as_deref())
        .chain(options.nkeys.iter().map(|user| user.account.as_deref()))
        .peekable();
    accounts.peek().is_some() && accounts.all(|account| account == Some(system))
}

fn grant(
    account: Option<&str>,
    permissions: Option<&options::Permissions>,
    types: Option<&std::collections::BTreeSet<options::ConnectionType>>,
) -> Result<Grant, StartError> {
    let permissions = match permissions {
        Some(permissions) => {
            let compiled = Permissions::new(rules(permissions));
            Some(Arc::new(compiled.map_err(|rule| StartError::Permission(rule.to_string()))?))
        }
        None => None,
    };
    Ok(Grant {
        account: account.map(Arc::from),
        permissions,
        connection_types: connection_types(types),
        proxy_required: false,
    })
}

fn rules(permissions: &options::Permissions) -> PermissionRules {
    let access = |permission: &options::SubjectPermission| {
        let entry = |entry: &options::PermissionEntry| match &entry.queue {
            Some(queue) => format!("{} {queue}", entry.subject),
            None => entry.subject.clone(),
        };
        let allow = permission.allow.iter().flatten().map(entry).collect::<Vec<_>>();
        let deny = permission.deny.iter().map(entry).collect::<Vec<_>>();
        (!allow.is_empty() || !deny.is_empty()).then_some(SubjectAccess { allow, deny })
    };
    PermissionRules {
        publish: access(&permissions.publish),
        subscribe: access(&permissions.subscribe),
        allow_responses: permissions.responses.map(|responses| ResponsePermission {
            max: responses.max_msgs.map_or(-1, |max| i64::try_from(max).unwrap_or(i64::MAX)),
            ttl_ns: responses.expires.map_or(-1, |ttl| i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX)),
        }),
    }
}

fn connection_types(types: Option<&std::collections::BTreeSet<options::ConnectionType>>) -> ConnectionTypes {
    types
        .into_iter()
        .flatten()
        .map(|one| match one {
            options::ConnectionType::Standard => ConnectionType::Standard,
            options::ConnectionType::Websocket => ConnectionType::Websocket,
            options::ConnectionType::Leafnode => ConnectionType::Leafnode,
            options::ConnectionType::LeafnodeWs => ConnectionType::LeafnodeWs,
            options::ConnectionType::Mqtt => ConnectionType::Mqtt,
            options::ConnectionType::MqttWs => ConnectionType::MqttWs,
            options::ConnectionType::InProcess => ConnectionType::InProcess,
        })
        .collect()
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
