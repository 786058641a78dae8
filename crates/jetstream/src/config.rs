//! What a stream and a consumer are configured with: the types, what may be said, and what may change later.
//!
//! `check` and `update` are pure: they see one configuration, its limits and (for a consumer) its stream's configuration.
//! What needs other streams or consumers is decided by who owns them.

pub(crate) mod choice;
mod consumer;
mod consumer_rules;
mod level;
mod limits;
mod metadata;
pub(crate) mod name;
mod stream;
mod stream_rules;

pub use choice::{
    AckPolicy, Compression, DeliverPolicy, Discard, PersistMode, PriorityPolicy, ReplayPolicy, Retention,
    Storage,
};
pub use consumer::ConsumerConfig;
pub use level::VERSION;
pub(crate) use limits::tier;
pub use limits::{AccountLimits, Allowance, BatchLimits, Limits, ServerLimits};
pub use metadata::Metadata;
pub use name::is_valid_name;
pub use stream::{
    ConsumerLimits, ExternalStream, Placement, Republish, SourceConsumer, StreamConfig, StreamSource,
    SubjectTransform,
};
