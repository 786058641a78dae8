//! From what accounts share by the configuration to what the broker routes by.

use std::collections::HashMap;
use std::sync::Arc;

use sonata_broker::account::{Account, Accounts, GLOBAL_ACCOUNT};
use sonata_broker::links::{
    Latency, Links, RESPONSE_THRESHOLD_NS, ResponseType, Sampling, ServiceExport, ServiceImport, StreamImport,
};
use sonata_broker::stamp::Stamps;
use sonata_conf::options::{self, Exported, Imported, Options};
use sonata_subject::is_subset;
use sonata_subject::mapping::Mapping;

/// Puts the links of all configured accounts in force. The accounts exist.
pub(crate) fn update(options: &Options, accounts: &Accounts, stamps: &Stamps) {
    let system = options.system_account_name();
    let offers = Offers::of(&options.accounts);
    for configured in &options.accounts {
        let Some(account) = accounts.find(&configured.name) else { continue };
        let links = links(configured, &offers, accounts, system);
        put(&account, links, stamps);
    }
    if let Some(global) = accounts.find(GLOBAL_ACCOUNT) {
        put(&global, Links { mappings: shared(&options.mappings), ..Links::default() }, stamps);
    }
}

/// Puts the links of one account in force. `exporters` are all that it imports from.
pub(crate) fn update_one<'a>(
    meant: &options::Account,
    exporters: impl IntoIterator<Item = &'a options::Account>,
    system: Option<&str>,
    accounts: &Accounts,
    stamps: &Stamps,
) {
    let Some(account) = accounts.find(&meant.name) else { return };
    let links = links(meant, &Offers::of(exporters), accounts, system);
    put(&account, links, stamps);
}

fn links(
    configured: &options::Account,
    offers: &Offers<'_>,
    accounts: &Accounts,
    system: Option<&str>,
) -> Links {
    let mut links = Links { mappings: shared(&configured.mappings), ..Links::default() };
    for import in &configured.imports {
        let Some(exporter) = accounts.find(&import.account) else { continue };
        match &import.what {
            Imported::Stream { subjects, allow_trace } => links.streams.push(Arc::new(StreamImport {
                exporter,
                subjects: subjects.clone(),
                allow_trace: *allow_trace,
            })),
            Imported::Service { subjects, share } => links.services.push(Arc::new(ServiceImport {
                export: offers.service(&import.account, subjects.exported()),
                is_system: system == Some(&*import.account),
                exporter,
                subjects: subjects.clone(),
                share: *share,
            })),
        }
    }
    links
}

/// Nothing is touched where there was nothing and is nothing.
fn put(account: &Arc<Account>, links: Links, stamps: &Stamps) {
    if !links.is_empty() || !account.links().is_empty() {
        account.set_links(links, stamps);
    }
}

fn shared(mappings: &[Mapping]) -> Vec<Arc<Mapping>> {
    mappings.iter().cloned().map(Arc::new).collect()
}

/// The services that accounts offer.
struct Offers<'a>(HashMap<&'a str, Vec<(&'a str, Arc<ServiceExport>)>>);

impl<'a> Offers<'a> {
    fn of(accounts: impl IntoIterator<Item = &'a options::Account>) -> Self {
        let services = |account: &'a options::Account| {
            account.exports.iter().filter_map(|export| match &export.what {
                Exported::Service(terms) => Some((&*export.subject, Arc::new(service(terms)))),
                Exported::Stream => None,
            })
        };
        Self(accounts.into_iter().map(|account| (&*account.name, services(account).collect())).collect())
    }

    /// The terms under which an account offers a subject: the last of exactly that subject, or the first that covers it.
    fn service(&self, account: &str, subject: &str) -> Arc<ServiceExport> {
        let offered = self.0.get(account).map_or(&[][..], Vec::as_slice);
        let exact = offered.iter().rfind(|(exported, _)| *exported == subject);
        let covering =
            || offered.iter().find(|(exported, _)| is_subset(subject.as_bytes(), exported.as_bytes()));
        exact
            .or_else(covering)
            .map_or_else(|| Arc::new(service(&options::ServiceTerms::default())), |(_, it)| it.clone())
    }
}

fn service(terms: &options::ServiceTerms) -> ServiceExport {
    ServiceExport {
        response: match terms.response {
            options::ResponseType::Singleton => ResponseType::Singleton,
            options::ResponseType::Stream => ResponseType::Stream,
            options::ResponseType::Chunked => ResponseType::Chunked,
        },
        threshold_ns: terms.threshold.map_or(RESPONSE_THRESHOLD_NS, |threshold| {
            u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX)
        }),
        latency: terms.latency.as_ref().map(|latency| Latency {
            sampling: match latency.sampling {
                options::Sampling::Percent(percent) => Sampling::Percent(percent),
                options::Sampling::Headers => Sampling::Headers,
            },
            subject: latency.subject.as_bytes().into(),
        }),
        allow_trace: terms.allow_trace,
    }
}
