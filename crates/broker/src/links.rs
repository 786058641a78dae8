//! What an account shares with others, and what it calls things: imports of services and streams, and mappings.
//!
//! [`Links`] are plain values, built by whoever reads the configuration or an account's claims, and replaced as a whole.
//! Nothing of them is asked per message where it can be asked once: a mapping to one place and an import of a stream are
//! worked into the [route](crate::route), so that a publish through them costs what any other does. Only a weighted
//! mapping picks per message, and only a request through a service import needs a [reply of its
//! own](crate::responses).

use std::sync::Arc;

use sonata_subject::import::{ServiceSubjects, StreamSubjects};
use sonata_subject::mapping::Mapping;
use sonata_subject::matches;

use crate::account::Account;

/// Everything that leads out of an account, or renames within it.
#[derive(Debug, Default)]
pub struct Links {
    /// In the order of the configuration; the first whose source matches decides, a literal before all.
    pub mappings: Vec<Arc<Mapping>>,
    /// Services of other accounts, each under its local subject. All that match are asked.
    pub services: Vec<Arc<ServiceImport>>,
    /// Streams of other accounts.
    pub streams: Vec<Arc<StreamImport>>,
}

impl Links {
    /// Whether the account keeps to itself and calls things by their names.
    pub fn is_empty(&self) -> bool {
        self.mappings.is_empty() && self.services.is_empty() && self.streams.is_empty()
    }

    /// The mapping for a published subject.
    pub(crate) fn mapping(&self, subject: &[u8]) -> Option<&Arc<Mapping>> {
        let literal = self.mappings.iter().find(|mapping| mapping.source() == subject);
        literal.or_else(|| self.mappings.iter().find(|mapping| matches(mapping.source(), subject)))
    }
}

/// How a service answers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ResponseType {
    /// With one message.
    #[default]
    Singleton,
    /// With any number, until an empty one.
    Stream,
    /// With one in several pieces, until an empty one.
    Chunked,
}

/// After that a response is no longer waited for, unless the export says otherwise. Nanoseconds.
pub const RESPONSE_THRESHOLD_NS: u64 = 120_000_000_000;

/// A service that an account offers, as its importers know it.
#[derive(Debug)]
pub struct ServiceExport {
    /// How it answers.
    pub response: ResponseType,
    /// How long a response, or the next one, is waited for.
    pub threshold_ns: u64,
    /// Where measurements go, and of which requests.
    pub latency: Option<Latency>,
    /// Whether traces may go on into the account.
    pub allow_trace: bool,
}

/// Measuring of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    /// Of how many requests.
    pub sampling: Sampling,
    /// Where results are published, in the exporting account.
    pub subject: Box<[u8]>,
}

/// Which requests are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// So many of a hundred.
    Percent(u8),
    /// Those whose headers ask for it.
    Headers,
}

/// A service of another account under a local subject.
#[derive(Debug)]
pub struct ServiceImport {
    /// Who answers.
    pub exporter: Arc<Account>,
    /// The terms.
    pub export: Arc<ServiceExport>,
    /// What requests are called here and there.
    pub subjects: ServiceSubjects,
    /// Whether the service learns who asks in full.
    pub share: bool,
    /// The exporter is the system account, which always learns from which server a request comes.
    pub is_system: bool,
}

/// A stream of another account under local subjects.
#[derive(Debug)]
pub struct StreamImport {
    /// Who publishes.
    pub exporter: Arc<Account>,
    /// What messages are called there and here.
    pub subjects: StreamSubjects,
    /// Whether traces may go on into the importing account.
    pub allow_trace: bool,
}
