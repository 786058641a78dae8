//! What an account's token means: the same values that an `accounts` block makes.
//!
//! A token was validated by its words; what of it makes no sense here (a mapping that is none, an import that is not
//! allowed) is left out and said, and the rest holds, as in the original: one account's mistake must not keep its users
//! out.

use std::time::Duration;

use sonata_jwt::account::{Account as Said, MessageTrace};
use sonata_jwt::activation::Activation;
use sonata_jwt::claims::Claims;
use sonata_jwt::limits::{JetStreamLimits, OperatorLimits};
use sonata_jwt::share::{self, ShareKind};
use sonata_subject::mapping::Mapping;
use sonata_subject::{is_literal, is_subset};

use crate::options::{
    Account, AccountJetStream, AccountLimits, AllowedJetStream, Export, Exported, Import, Latency,
    ResponseType, Sampling, ServiceTerms, TraceDestination,
};
use crate::sharing;

/// The account, but for its imports, and what was left out of it.
pub fn account(claims: &Claims<Said>) -> (Account, Vec<String>) {
    let said = &claims.nats;
    let mut left_out = Vec::new();
    let mut mappings = Vec::new();
    for (from, destinations) in &said.mappings {
        // Those for a cluster are for servers that have one.
        let own = destinations.iter().filter(|destination| destination.cluster.is_empty());
        let own: Vec<_> =
            own.map(|destination| (destination.subject.clone(), destination.percent())).collect();
        match Mapping::new(from, &own) {
            Ok(_) if own.is_empty() => {}
            Ok(mapping) => mappings.push(mapping),
            Err(error) => left_out.push(format!("mapping of {from:?}: {error}")),
        }
    }
    let limit = |max: i64| u32::try_from(max).ok().map(|max| max.min(i32::MAX.unsigned_abs()));
    let account = Account {
        name: claims.data.subject.clone(),
        nkey: Some(claims.data.subject.clone()),
        limits: AccountLimits {
            max_connections: limit(said.limits.account.connections),
            max_subscriptions: limit(said.limits.nats.subs),
            max_payload: limit(said.limits.nats.payload),
        },
        default_permissions: None,
        jetstream: jetstream(&said.limits),
        exports: said.exports.iter().filter_map(export).collect(),
        imports: Vec::new(),
        mappings,
        trace: trace(&said.trace),
    };
    (account, left_out)
}

/// Where traces of the account's messages go.
fn trace(said: &Option<MessageTrace>) -> Option<TraceDestination> {
    let said = said.as_ref().filter(|said| is_literal(said.destination.as_bytes()))?;
    let percent =
        u8::try_from(said.sampling).ok().filter(|percent| (1..=100).contains(percent)).unwrap_or(100);
    Some(TraceDestination { subject: said.destination.clone(), percent })
}

/// A negative limit is none. Above 2^32 is as good as none.
fn jetstream(limits: &OperatorLimits) -> Option<AllowedJetStream> {
    if !limits.has_jetstream() {
        return None;
    }
    Some(match limits.tiers.is_empty() {
        true => AllowedJetStream::Whole(jetstream_limits(&limits.jetstream)),
        false => AllowedJetStream::Tiers(
            limits.tiers.iter().map(|(name, said)| (name.clone(), jetstream_limits(said))).collect(),
        ),
    })
}

fn jetstream_limits(said: &JetStreamLimits) -> AccountJetStream {
    // Here a zero is no limit.
    let or_unlimited = |value: i64| if value > 0 { value } else { -1 };
    AccountJetStream {
        max_memory: said.memory,
        max_storage: said.disk,
        max_streams: said.streams,
        max_consumers: said.consumers,
        max_ack_pending: or_unlimited(said.max_ack_pending),
        memory_max_stream_bytes: or_unlimited(said.memory_max_stream_bytes),
        storage_max_stream_bytes: or_unlimited(said.disk_max_stream_bytes),
        max_bytes_required: said.max_bytes_required,
    }
}

fn export(said: &share::Export) -> Option<Export> {
    let what = match said.kind? {
        ShareKind::Stream => Exported::Stream,
        ShareKind::Service => Exported::Service(ServiceTerms {
            response: match share::ResponseType::from_name(&said.response_type)? {
                share::ResponseType::Singleton => ResponseType::Singleton,
                share::ResponseType::Stream => ResponseType::Stream,
                share::ResponseType::Chunked => ResponseType::Chunked,
            },
            threshold: u64::try_from(said.response_threshold)
                .ok()
                .filter(|threshold| *threshold > 0)
                .map(Duration::from_nanos),
            latency: said.latency.as_ref().map(|latency| Latency {
                sampling: match latency.sampling {
                    share::Sampling::Headers => Sampling::Headers,
                    share::Sampling::Percent(percent) => {
                        Sampling::Percent(u8::try_from(percent.clamp(1, 100)).unwrap_or(100))
                    }
                },
                subject: latency.results.clone(),
            }),
            allow_trace: said.allow_trace,
        }),
    };
    Some(Export {
        subject: said.subject.clone(),
        // Who has an activation is asked for each import.
        accounts: said.token_required.then(Vec::new),
        account_token: usize::try_from(said.account_token_position).ok().filter(|position| *position > 0),
        what,
    })
}

/// An account that others import from.
#[derive(Clone, Copy, Debug)]
pub struct Exporter<'a> {
    /// Its place among the accounts.
    pub place: usize,
    /// What its token says.
    pub claims: &'a Claims<Said>,
    /// Its own key signs nothing.
    pub strict: bool,
}

/// What an account's token wants of another, if the other allows it and it leads in no circle. Accounts are as they
/// stand, with the imports that were granted before; `now` is in seconds since 1970.
///
/// # Errors
/// Why not.
pub fn import(
    accounts: &[Account],
    importer: usize,
    exporter: Exporter<'_>,
    said: &share::Import,
    now: i64,
) -> Result<Import, String> {
    let kind = said.kind.ok_or("neither a stream nor a service")?;
    let activated = match covering_export(exporter.claims, kind, said.exported_subject()) {
        Some(export) if export.token_required => {
            let activation = said.activation().ok_or_else(|| format!("{kind} import not authorized"))?;
            is_activated(&accounts[importer].name, exporter, export, &activation, said, now)
                .then_some(true)
                .ok_or_else(|| format!("{kind} import not authorized"))?
        }
        _ => false,
    };
    let wish = sharing::Wish::said(importer, said, kind, activated);
    sharing::grant(accounts, exporter.place, &wish)
}

fn is_activated(
    importer: &str,
    exporter: Exporter<'_>,
    export: &share::Export,
    activation: &Claims<Activation>,
    said: &share::Import,
    now: i64,
) -> bool {
    let signs =
        |key: &str| exporter.claims.signer(key, exporter.strict) != sonata_jwt::account::Signer::Unknown;
    activation.account() == exporter.claims.data.subject
        && activation.nats.import_kind == said.kind
        && is_subset(said.exported_subject().as_bytes(), activation.nats.import_subject.as_bytes())
        && export.is_activated_by(activation, importer, signs, now)
}

/// When activations of an account's imports are over, in seconds since 1970. Verifies them.
pub fn activation_expiries(claims: &Claims<Said>) -> Vec<i64> {
    let activations = claims.nats.imports.iter().filter_map(share::Import::activation);
    activations.map(|activation| activation.data.expires).filter(|expires| *expires > 0).collect()
}

/// The export that decides: the last of exactly that subject, or the first that covers it.
fn covering_export<'a>(
    claims: &'a Claims<Said>,
    kind: ShareKind,
    subject: &str,
) -> Option<&'a share::Export> {
    let mut exports = claims.nats.exports.iter().filter(|export| export.kind == Some(kind));
    let exact = exports.clone().rfind(|export| export.subject == subject);
    exact.or_else(|| exports.find(|export| is_subset(subject.as_bytes(), export.subject.as_bytes())))
}
