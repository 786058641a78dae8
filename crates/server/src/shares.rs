//! What an account shares and maps, as `/accountz` shows it: what it was told to, and what every account has of the system
//! account.

use std::collections::BTreeMap;

use sonata_conf::options::{self, Exported, Imported, ResponseType, ServiceTerms};
use sonata_monitor::accountz::{Export, Import, MappingDestination, SamplingRate, ServiceLatency};
use sonata_subject::is_subset;
use sonata_subject::mapping::Mapping;

const STREAM: &str = "stream";
const SERVICE: &str = "service";

/// What the server gives to every account.
pub(crate) struct Given<'a> {
    /// The system account's name; empty if there is none.
    pub(crate) system: &'a str,
    /// Whether there is JetStream.
    pub(crate) has_jetstream: bool,
    /// Its domain.
    pub(crate) domain: Option<&'a str>,
}

/// All of JetStream's API, which the original has every account import from the system account.
const JETSTREAM: &str = "$JS.API.>";

/// What in it is asked for to learn whether there is JetStream.
const JETSTREAM_INFO: &str = "$JS.API.INFO";

/// What of a domain's API leads where.
const DOMAIN_MAPPINGS: [(&str, &str); 9] = [
    ("$KV.>", "$KV.>"),
    ("$OBJ.>", "$OBJ.>"),
    ("ACCOUNT.>", "$JS.API.ACCOUNT.>"),
    ("CONSUMER.>", "$JS.API.CONSUMER.>"),
    ("DIRECT.>", "$JS.API.DIRECT.>"),
    ("INFO", JETSTREAM_INFO),
    ("META.>", "$JS.API.META.>"),
    ("SERVER.>", "$JS.API.SERVER.>"),
    ("STREAM.>", "$JS.API.STREAM.>"),
];

/// What the system account offers to all others.
const SYSTEM_EXPORTS: [(&str, &str); 4] = [
    ("$SYS.REQ.USER.*.INFO", "Singleton"),
    ("$SYS.REQ.ACCOUNT.*.CONNZ", "Streamed"),
    ("$SYS.REQ.ACCOUNT.*.STATZ", "Streamed"),
    ("$SYS.DEBUG.SUBSCRIBERS", "Singleton"),
];

/// What every other account has of it under another name: kind, topic and the local subject.
const SYSTEM_IMPORTS: [(&str, &str, &str); 3] = [
    ("ACCOUNT", "CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ"),
    ("ACCOUNT", "CONNZ", "$SYS.REQ.SERVER.PING.CONNZ"),
    ("ACCOUNT", "STATZ", "$SYS.REQ.ACCOUNT.PING.STATZ"),
];

/// Subjects that are published under another name. Weights are shown added up, as in the original.
pub(crate) fn mappings(
    name: &str,
    account: Option<&options::Account>,
    mappings: &[Mapping],
    given: &Given<'_>,
) -> BTreeMap<String, Vec<MappingDestination>> {
    let whole = |subject: &str| {
        vec![MappingDestination { subject: subject.to_owned(), weight: 100, cluster: String::new() }]
    };
    let of_domain = |domain: &str| -> Vec<_> {
        if name == given.system {
            return vec![(format!("$JS.{domain}.API.>"), whole(JETSTREAM))];
        }
        DOMAIN_MAPPINGS.map(|(from, to)| (format!("$JS.{domain}.API.{from}"), whole(to))).into()
    };
    let shown = |mapping: &Mapping| {
        let destinations = mapping.destinations().map(|(subject, bound)| MappingDestination {
            subject: subject.to_owned(),
            weight: u8::try_from(bound).unwrap_or(u8::MAX),
            cluster: String::new(),
        });
        (String::from_utf8_lossy(mapping.source()).into_owned(), destinations.collect())
    };
    let domain = given.domain.filter(|_| name == given.system || reaches_jetstream(account));
    let given = domain.map(of_domain).unwrap_or_default();
    given.into_iter().chain(mappings.iter().map(shown)).collect()
}

/// What an account offers.
pub(crate) fn exports(name: &str, account: Option<&options::Account>, given: &Given<'_>) -> Vec<Export> {
    let configured = account.iter().flat_map(|account| &account.exports).map(|export| {
        let (kind, response_type, service_latency) = match &export.what {
            Exported::Stream => (STREAM, "", None),
            Exported::Service(terms) => (SERVICE, response_type(terms.response), latency(terms)),
        };
        Export {
            subject: export.subject.clone(),
            kind,
            // By tokens, nobody in particular is approved.
            token_req: export.accounts.as_ref().is_some_and(Vec::is_empty),
            response_type,
            service_latency,
            approved_accounts: export.accounts.clone().unwrap_or_default(),
        }
    });
    let jetstream = given.has_jetstream.then_some((JETSTREAM, "Singleton"));
    let offered = SYSTEM_EXPORTS.into_iter().chain(jetstream).filter(|_| name == given.system);
    let offered = offered.map(|(subject, response_type)| Export {
        subject: subject.to_owned(),
        kind: SERVICE,
        response_type,
        ..Export::default()
    });
    configured.chain(offered).collect()
}

/// What an account has from others. `exporter` finds those.
pub(crate) fn imports(
    name: &str,
    account: Option<&options::Account>,
    exporter: impl Fn(&str) -> Option<options::Account>,
    given: &Given<'_>,
) -> Vec<Import> {
    let system = given.system;
    let mut shown = Vec::new();
    for import in account.iter().flat_map(|account| &account.imports) {
        shown.push(match &import.what {
            Imported::Stream { subjects, .. } => Import {
                subject: subjects.exported().into(),
                account: import.account.clone(),
                local_subject: subjects.local().into(),
                kind: STREAM,
                ..Import::default()
            },
            Imported::Service { subjects, share } => Import {
                share: *share,
                latency: exporter(&import.account).and_then(|from| latency_of(&from, subjects.exported())),
                ..service(subjects.exported().into(), &import.account, subjects.local())
            },
        });
    }
    if system.is_empty() {
        return shown;
    }
    let info = format!("$SYS.REQ.USER.{name}.INFO");
    shown.push(Import { share: true, ..service(info, system, "$SYS.REQ.USER.INFO") });
    if name != system {
        let of_account = |(kind, topic, local): (&str, &str, &str)| {
            service(format!("$SYS.REQ.{kind}.{name}.{topic}"), system, local)
        };
        if given.has_jetstream && reaches_jetstream(account) {
            shown.push(Import { share: true, ..service(JETSTREAM.into(), system, JETSTREAM) });
        }
        shown.extend(SYSTEM_IMPORTS.map(of_account));
    }
    shown
}

/// Whether an account asks this server's JetStream, unlike one that imports another account's.
fn reaches_jetstream(account: Option<&options::Account>) -> bool {
    let Some(account) = account else { return true };
    let shadows = |import: &options::Import| match &import.what {
        Imported::Service { subjects, .. } => {
            is_subset(JETSTREAM_INFO.as_bytes(), subjects.local().as_bytes())
        }
        Imported::Stream { .. } => false,
    };
    account.jetstream.is_some() || !account.imports.iter().any(shadows)
}

fn service(subject: String, account: &str, local: &str) -> Import {
    Import {
        subject,
        account: account.into(),
        to: local.into(),
        local_subject: local.into(),
        kind: SERVICE,
        ..Import::default()
    }
}

/// How requests for a subject are measured.
fn latency_of(exporter: &options::Account, subject: &str) -> Option<ServiceLatency> {
    let covering = exporter.exports.iter().find_map(|export| match &export.what {
        Exported::Service(terms) if is_subset(subject.as_bytes(), export.subject.as_bytes()) => Some(terms),
        _ => None,
    });
    covering.and_then(latency)
}

fn latency(terms: &ServiceTerms) -> Option<ServiceLatency> {
    terms.latency.as_ref().map(|latency| ServiceLatency {
        sampling: match latency.sampling {
            options::Sampling::Percent(percent) => SamplingRate::Percent(percent),
            options::Sampling::Headers => SamplingRate::Headers("headers"),
        },
        results: latency.subject.clone(),
    })
}

fn response_type(response: ResponseType) -> &'static str {
    match response {
        ResponseType::Singleton => "Singleton",
        ResponseType::Stream => "Streamed",
        ResponseType::Chunked => "Chunked",
    }
}
