//! The shapes of traffic and of memory use that are measured.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use crate::jetstream::shape::JetStreamShape;

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// One publisher, nobody subscribes.
    Publish,
    /// One publisher, one subscriber.
    OneToOne,
    /// One publisher, eight subscribers that all get everything.
    OneToEight,
    /// Eight publishers with one subscriber each.
    EightToEight,
    /// One publisher, eight members of one queue group.
    Queue,
    /// One publisher on 1,000 subjects, one subscriber with a wildcard.
    Wildcard,
    /// One to one beside 10,000 subscriptions without traffic.
    IdleSubscriptions,
    /// One to one in each of many accounts.
    Accounts,
    /// One to one through a subject mapping.
    Mapping,
    /// One publisher, one subscriber in each of ten accounts that import the stream.
    Imports,
    /// One to 100, where one of the 100 does not read.
    SlowReader,
    /// Requests with a fresh inbox each, beside a busy one to one.
    Churn,
    /// One request in flight.
    RequestReply,
    /// A flow at a fixed rate.
    Paced,
    /// A server just started.
    Start,
    /// Connections without traffic.
    Idle,
    /// Many subscriptions of one connection.
    Subscriptions,
    /// Streams, consumers and buckets.
    JetStream(JetStreamShape),
}

impl Shape {
    /// All without JetStream, in the order of reports.
    pub const CORE: [Self; 17] = [
        Self::Publish,
        Self::OneToOne,
        Self::OneToEight,
        Self::EightToEight,
        Self::Queue,
        Self::Wildcard,
        Self::IdleSubscriptions,
        Self::Accounts,
        Self::Mapping,
        Self::Imports,
        Self::SlowReader,
        Self::Churn,
        Self::RequestReply,
        Self::Paced,
        Self::Start,
        Self::Idle,
        Self::Subscriptions,
    ];

    /// All, in the order of reports.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::CORE.into_iter().chain(JetStreamShape::all().map(Self::JetStream))
    }

    /// Name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "pub",
            Self::OneToOne => "1to1",
            Self::OneToEight => "1to8",
            Self::EightToEight => "8to8",
            Self::Queue => "queue",
            Self::Wildcard => "wildcard",
            Self::IdleSubscriptions => "idlesubs",
            Self::Accounts => "accounts",
            Self::Mapping => "mapping",
            Self::Imports => "imports",
            Self::SlowReader => "slowreader",
            Self::Churn => "churn",
            Self::RequestReply => "reqrep",
            Self::Paced => "paced",
            Self::Start => "start",
            Self::Idle => "idle",
            Self::Subscriptions => "subs",
            Self::JetStream(shape) => shape.name(),
        }
    }

    /// One line of help.
    pub fn help(self) -> &'static str {
        match self {
            Self::Publish => "one publisher, no subscriber; ended by PING and PONG",
            Self::OneToOne => "one publisher to one subscriber",
            Self::OneToEight => "one publisher to eight subscribers",
            Self::EightToEight => "eight publishers to one subscriber each",
            Self::Queue => "one publisher to one queue group of eight",
            Self::Wildcard => "1,000 subjects to one wildcard subscriber",
            Self::IdleSubscriptions => "1to1 beside 10,000 idle subscriptions",
            Self::Accounts => "1to1 in each of --accounts accounts",
            Self::Mapping => "1to1, published on a subject that is mapped to another",
            Self::Imports => "one publisher to ten accounts that import its stream, one subscriber each",
            Self::SlowReader => "one to 100 with one that does not read: rate kept by the other 99",
            Self::Churn => "requests with a fresh inbox each beside a busy 1to1",
            Self::RequestReply => "request and reply, one in flight: latency",
            Self::Paced => "--rate messages per second: latency",
            Self::Start => "memory and time of a fresh server",
            Self::Idle => "memory for each of --idle idle connections",
            Self::Subscriptions => "memory and CPU for each of --subs subscriptions",
            Self::JetStream(shape) => shape.help(),
        }
    }

    /// The shape of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|shape| shape.name() == name)
    }

    /// Payload sizes when none are asked for; `None` if the shape has no payload.
    pub fn default_sizes(self) -> Option<&'static [usize]> {
        match self {
            Self::Publish | Self::OneToOne | Self::OneToEight | Self::EightToEight | Self::Queue => {
                Some(&[16, 128, 1024, 8192, 65536])
            }
            Self::Wildcard | Self::IdleSubscriptions | Self::RequestReply => Some(&[16, 128, 1024]),
            Self::Accounts | Self::Mapping | Self::Imports | Self::Churn | Self::Paced => Some(&[128]),
            Self::SlowReader => Some(&[1024]),
            Self::Start | Self::Idle | Self::Subscriptions => None,
            Self::JetStream(shape) => shape.default_sizes(),
        }
    }

    /// Shortest run that shows the effect. A reader that stops must have been given 64 MiB, what a server holds for a
    /// client by default, before the server reacts.
    pub fn run_time_min(self) -> Duration {
        match self {
            Self::SlowReader => Duration::from_secs(4),
            _ => Duration::ZERO,
        }
    }

    /// Whether each run needs a server that has done nothing before.
    pub fn needs_fresh_server(self) -> bool {
        self.default_sizes().is_none()
    }
}

/// What the two servers promise of an acknowledged message. Only publishing to file streams depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sync {
    /// Each has its default: the candidate syncs before it acknowledges, the reference does not.
    #[default]
    Default,
    /// Both sync before they acknowledge.
    Always,
    /// Neither does.
    Lazy,
}

impl Sync {
    /// All, in the order of help.
    pub const ALL: [Self; 3] = [Self::Default, Self::Always, Self::Lazy];

    /// Name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Always => "always",
            Self::Lazy => "lazy",
        }
    }

    /// Configuration of candidate and reference that makes it so.
    pub fn configurations(self) -> (&'static str, &'static str) {
        match self {
            Self::Default => ("", ""),
            Self::Always => ("", "jetstream { sync_interval: always }"),
            Self::Lazy => ("jetstream { sync_interval: 2m }", ""),
        }
    }
}

/// A shape with everything that makes two figures comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What is done.
    pub shape: Shape,
    /// Payload in bytes; `None` if there is none.
    pub size: Option<usize>,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// What an acknowledgement promises.
    pub sync: Sync,
}

impl Case {
    /// Whether the payload is in `sizes`; a case without payload is in every range.
    pub fn has_size_in(&self, sizes: &Range<usize>) -> bool {
        self.size.is_none_or(|size| sizes.contains(&size))
    }

    /// Name of the shape, with encryption and promise where they are not the default.
    pub fn name(&self) -> String {
        let tls = if self.tls { "+tls" } else { "" };
        match self.sync {
            Sync::Default => format!("{}{tls}", self.shape.name()),
            sync => format!("{}{tls}+{}", self.shape.name(), sync.name()),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size {
            Some(size) => write!(f, "{} {size} B", self.name()),
            None => f.write_str(&self.name()),
        }
    }
}
