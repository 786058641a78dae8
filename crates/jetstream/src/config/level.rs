//! The marks in the metadata of streams and consumers that say which level of the API they need and who shows them.
//!
//! Only `_nats.req.level` is stored; the two others are added to replies and dropped from requests.

use super::choice::{AckPolicy, PersistMode, PriorityPolicy};
use super::{ConsumerConfig, Metadata, StreamConfig};
use crate::api::response::API_LEVEL;

const REQUIRED_LEVEL: &str = "_nats.req.level";
const SERVER_VERSION: &str = "_nats.ver";
const SERVER_LEVEL: &str = "_nats.level";

/// The version shown in replies.
pub const VERSION: &str = "2.15.1";

impl StreamConfig {
    /// The lowest level of the API that knows all that this configuration uses.
    pub fn required_level(&self) -> u32 {
        if self.allow_batched {
            4
        } else if self.allow_msg_counter
            || self.allow_atomic
            || self.allow_msg_schedules
            || self.persist_mode == PersistMode::Async
        {
            2
        } else if self.allow_msg_ttl || self.subject_delete_marker_ttl > 0 {
            1
        } else {
            0
        }
    }

    /// Notes the level in the metadata, as it is stored.
    pub fn stamp(&mut self) {
        let level = self.required_level();
        stamp(&mut self.metadata, level);
    }

    /// The configuration as it stands in replies.
    pub fn shown(&self) -> Self {
        let mut shown = self.clone();
        show(&mut shown.metadata);
        shown
    }

    /// Whether this server knows all that a stored configuration uses.
    pub fn is_supported(&self) -> bool {
        is_supported(&self.metadata)
    }
}

impl ConsumerConfig {
    /// The lowest level of the API that knows all that this configuration uses.
    pub fn required_level(&self) -> u32 {
        if self.ack_policy == AckPolicy::FlowControl {
            4
        } else if self.pause_until.is_some_and(|time| !time.is_zero())
            || self.priority_policy != PriorityPolicy::None
            || self.priority_timeout != 0
            || !self.priority_groups.is_empty()
        {
            1
        } else {
            0
        }
    }

    /// Notes the level in the metadata, as it is stored.
    pub fn stamp(&mut self) {
        let level = self.required_level();
        stamp(&mut self.metadata, level);
    }

    /// The configuration as it stands in replies.
    pub fn shown(&self) -> Self {
        let mut shown = self.clone();
        show(&mut shown.metadata);
        shown
    }

    /// Whether this server knows all that a stored configuration uses.
    pub fn is_supported(&self) -> bool {
        is_supported(&self.metadata)
    }
}

fn stamp(metadata: &mut Metadata, level: u32) {
    metadata.remove(SERVER_VERSION);
    metadata.remove(SERVER_LEVEL);
    metadata.insert(REQUIRED_LEVEL, &level.to_string());
}

fn show(metadata: &mut Metadata) {
    metadata.insert(SERVER_VERSION, VERSION);
    metadata.insert(SERVER_LEVEL, &API_LEVEL.to_string());
}

fn is_supported(metadata: &Metadata) -> bool {
    match metadata.get(REQUIRED_LEVEL) {
        None => true,
        Some("") => true,
        Some(level) => level.parse::<i64>().is_ok_and(|level| level <= i64::from(API_LEVEL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_required_level_is_stored() {
        let mut config = StreamConfig { allow_msg_ttl: true, ..StreamConfig::default() };
        config.metadata.insert(SERVER_VERSION, "9");
        config.stamp();
        assert_eq!(config.metadata.len(), 1);
        assert_eq!(config.metadata.get(REQUIRED_LEVEL), Some("1"));
        assert!(config.is_supported());
        assert_eq!(config.shown().metadata.len(), 3);
        config.metadata.insert(REQUIRED_LEVEL, "6");
        assert!(!config.is_supported());
        config.metadata.insert(REQUIRED_LEVEL, "x");
        assert!(!config.is_supported());
    }
}
