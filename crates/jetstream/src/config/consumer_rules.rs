//! What a consumer may be told to be, and what may change later.
//!
//! The rules stand in the order in which the reference looks at them, because a request that breaks two is answered with
//! the first. `tests/consumer_configs.txt` holds the reference's answers.

use std::fmt;

use super::choice::{AckPolicy, DeliverPolicy, PriorityPolicy, Retention};
use super::name::{
    DESCRIPTION_BYTES_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX, is_literal_subject, is_subject, is_subset,
    is_valid_name, metadata_bytes,
};
use super::{ConsumerConfig, Limits, StreamConfig};
use crate::api::{ApiError, ErrorCode};
use crate::duration;

const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MILLISECOND;
const ACK_WAIT: i64 = 30 * SECOND;
const PIN_LIFE: i64 = 120 * SECOND;
/// How long a consumer that is not durable outlives its clients.
const UNUSED_LIFE: i64 = 5 * SECOND;
const MAX_ACK_PENDING: i64 = 1000;
const MAX_WAITING: i64 = 512;
/// The only heartbeat of consumers that feed other streams.
const SOURCE_HEARTBEAT: i64 = SECOND;
const GROUP_NAME_BYTES_MAX: usize = 16;

type Checked = Result<(), ApiError>;

/// The error if the condition holds.
fn refuse(condition: bool, code: ErrorCode) -> Checked {
    if condition { Err(code.into()) } else { Ok(()) }
}

fn invalid(text: impl fmt::Display) -> ApiError {
    ErrorCode::StreamInvalidConfig.with(text)
}

impl ConsumerConfig {
    /// Fills in what was not said and checks all rules that need no other consumer.
    ///
    /// With `pedantic` a value that would have to be adjusted is an error. A consumer without a name gets one elsewhere.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(mut self, stream: &StreamConfig, limits: &Limits, pedantic: bool) -> Result<Self, ApiError> {
        self.fill_negatives(pedantic)?;
        self.fill_defaults(stream, limits, pedantic)?;
        self.check_names()?;
        self.check_replicas(stream)?;
        self.check_waits()?;
        self.check_flow_control_acks()?;
        self.check_backoff()?;
        if self.description.len() > DESCRIPTION_BYTES_MAX {
            return Err(ErrorCode::ConsumerDescriptionTooLong.with(DESCRIPTION_BYTES_MAX));
        }
        if self.is_push() {
            self.check_push(stream)?
        } else {
            self.check_pull(stream, limits)?
        }
        self.check_limits(stream, limits)?;
        refuse(self.direct && !self.is_push(), ErrorCode::ConsumerDirectRequiresPush)?;
        refuse(self.direct && self.is_durable(), ErrorCode::ConsumerDirectRequiresEphemeral)?;
        self.check_filters()?;
        self.check_start()?;
        self.check_sampling()?;
        refuse(
            self.flow_control && self.idle_heartbeat == 0,
            ErrorCode::ConsumerWithFlowControlNeedsHeartbeats,
        )?;
        refuse(
            !self.durable_name.is_empty() && !self.name.is_empty() && self.durable_name != self.name,
            ErrorCode::ConsumerCreateDurableAndNameMismatch,
        )?;
        if metadata_bytes(&self.metadata) > METADATA_BYTES_MAX {
            let limit = METADATA_BYTES_MAX / 1024;
            return Err(ErrorCode::ConsumerMetadataLength.with(format_args!("{limit}KB")));
        }
        self.check_priority()?;
        if !self.is_durable() && self.inactive_threshold == 0 {
            self.inactive_threshold = UNUSED_LIFE;
        }
        Ok(self)
    }

    /// The rules for a new consumer of a work queue that need no other consumer; the last ones before it is made.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_new(&self, stream: &StreamConfig) -> Result<(), ApiError> {
        if stream.retention == Retention::WorkQueue && !self.direct && !self.sourcing {
            refuse(
                !matches!(self.ack_policy, AckPolicy::Explicit | AckPolicy::FlowControl),
                ErrorCode::ConsumerWorkQueueRequiresExplicitAck,
            )?;
            refuse(self.deliver_policy != DeliverPolicy::All, ErrorCode::ConsumerWorkQueueNotDeliverAll)?;
        }
        if self.name.len().max(self.durable_name.len()) > NAME_BYTES_MAX {
            return Err(ErrorCode::ConsumerNameTooLong.with(NAME_BYTES_MAX));
        }
        Ok(())
    }

    /// Whether this consumer may become `new`, which has been [checked](ConsumerConfig::check). That nobody listens on a
    /// deliver subject that changes is for the caller to find out (`ConsumerNameInUse`).
    ///
    /// # Errors
    /// The first change that is not allowed.
    pub fn update(&self, new: Self) -> Result<Self, ApiError> {
        let changed = [
            (self.deliver_policy != new.deliver_policy, "deliver policy can not be updated"),
            (self.mem_storage != new.mem_storage, "storage type can not be updated"),
            (self.direct != new.direct, "direct can not be updated"),
            (self.sourcing != new.sourcing, "sourcing can not be updated"),
            (self.opt_start_seq != new.opt_start_seq, "start sequence can not be updated"),
            (self.opt_start_time != new.opt_start_time, "start time can not be updated"),
            (self.ack_policy != new.ack_policy, "ack policy can not be updated"),
            (self.replay_policy != new.replay_policy, "replay policy can not be updated"),
            (self.idle_heartbeat != new.idle_heartbeat, "heart beats can not be updated"),
            (self.flow_control != new.flow_control, "flow control can not be updated"),
            (!self.is_push() && new.is_push(), "can not update pull consumer to push based"),
            (self.is_push() && !new.is_push(), "can not update push consumer to pull based"),
            (self.max_waiting != new.max_waiting, "max waiting can not be updated"),
        ];
        if let Some((_, text)) = changed.into_iter().find(|(changed, _)| *changed) {
            return Err(ErrorCode::ConsumerCreate.with(text));
        }
        new.check_backoff()?;
        Ok(new)
    }

    fn fill_negatives(&mut self, pedantic: bool) -> Checked {
        if self.max_deliver < -1 {
            adjust(pedantic, "max_deliver must be set to -1")?;
        }
        if self.max_deliver == 0 || self.max_deliver < -1 {
            self.max_deliver = -1;
        }
        fill_negative(&mut self.max_waiting, pedantic, "max_waiting must not be negative")?;
        if self.max_ack_pending < -1 {
            adjust(pedantic, "max_ack_pending must be set to -1")?;
            self.max_ack_pending = -1;
        }
        fill_negative(&mut self.max_batch, pedantic, "max_batch must not be negative")?;
        fill_negative(&mut self.max_expires, pedantic, "max_expires must not be negative")?;
        fill_negative(&mut self.max_bytes, pedantic, "max_bytes must not be negative")?;
        fill_negative(&mut self.idle_heartbeat, pedantic, "idle_heartbeat must not be negative")?;
        fill_negative(&mut self.inactive_threshold, pedantic, "inactive_threshold must not be negative")?;
        fill_negative(&mut self.priority_timeout, pedantic, "priority_timeout must not be negative")
    }

    fn fill_defaults(&mut self, stream: &StreamConfig, limits: &Limits, pedantic: bool) -> Checked {
        if !self.is_push() && self.max_waiting == 0 {
            self.max_waiting = MAX_WAITING;
        }
        if self.ack_wait == 0 && matches!(self.ack_policy, AckPolicy::Explicit | AckPolicy::All) {
            self.ack_wait = ACK_WAIT;
        }
        if let Some(first) = self.backoff.first().copied() {
            if self.ack_wait != first {
                adjust(pedantic, "first backoff value has to equal batch AckWait")?;
            }
            self.ack_wait = first;
        }
        if self.max_ack_pending == 0 {
            if stream.consumer_limits.max_ack_pending > 0 {
                adjust(pedantic, "max_ack_pending must be set if it's configured in stream limits")?;
            }
            self.max_ack_pending = stream.consumer_limits.max_ack_pending;
        }
        if self.inactive_threshold == 0 {
            if stream.consumer_limits.inactive_threshold > 0 {
                adjust(pedantic, "inactive_threshold must be set if it's configured in stream limits")?;
            }
            self.inactive_threshold = stream.consumer_limits.inactive_threshold;
        }
        if self.max_ack_pending == 0 && self.ack_policy != AckPolicy::None {
            let caps = [limits.server.max_ack_pending, limits.account.max_ack_pending];
            self.max_ack_pending = caps.into_iter().filter(|cap| *cap > 0).fold(MAX_ACK_PENDING, i64::min);
        }
        if !self.is_push() && self.max_batch == 0 && limits.server.max_request_batch > 0 {
            adjust(pedantic, "max_request_batch must be set if it's JetStream limits are set")?;
            self.max_batch = limits.server.max_request_batch;
        }
        if self.priority_policy == PriorityPolicy::PinnedClient && self.priority_timeout == 0 {
            self.priority_timeout = PIN_LIFE;
        }
        if self.ack_policy == AckPolicy::FlowControl && !pedantic {
            self.flow_control = true;
            self.idle_heartbeat = SOURCE_HEARTBEAT;
        }
        Ok(())
    }

    fn check_names(&self) -> Checked {
        if !self.name.is_empty() && !is_valid_name(&self.name) {
            return Err(invalid("consumer name can not contain '.', '*', '>', '\\', '/'"));
        }
        if !self.durable_name.is_empty() && !is_valid_name(&self.durable_name) {
            return Err(invalid("consumer durable name can not contain '.', '*', '>', '\\', '/'"));
        }
        Ok(())
    }

    fn check_replicas(&self, stream: &StreamConfig) -> Checked {
        let replicas = self.num_replicas;
        refuse(replicas > 0 && replicas > stream.num_replicas, ErrorCode::ConsumerReplicasExceedsStream)?;
        refuse(replicas < 0, ErrorCode::ReplicasCountCannotBeNegative)?;
        refuse(
            stream.retention != Retention::Limits && replicas != 0 && replicas != stream.num_replicas,
            ErrorCode::ConsumerReplicasShouldMatchStream,
        )
    }

    fn check_waits(&self) -> Checked {
        refuse(self.backoff.iter().any(|wait| *wait < 0), ErrorCode::ConsumerBackOffNegative)?;
        refuse(self.ack_wait < 0, ErrorCode::ConsumerAckWaitNegative)
    }

    fn check_flow_control_acks(&self) -> Checked {
        if self.ack_policy != AckPolicy::FlowControl {
            return Ok(());
        }
        refuse(!self.is_push(), ErrorCode::ConsumerAckFlowControlRequiresPush)?;
        refuse(!self.flow_control, ErrorCode::ConsumerAckFlowControlRequiresFlowControl)?;
        if self.idle_heartbeat != SOURCE_HEARTBEAT {
            return Err(invalid("flow control ack policy heartbeat needs to be 1s"));
        }
        refuse(self.max_ack_pending <= 0, ErrorCode::ConsumerAckFlowControlRequiresMaxAckPending)?;
        refuse(
            self.ack_wait != 0 || !self.backoff.is_empty(),
            ErrorCode::ConsumerAckFlowControlRequiresNoAckWait,
        )?;
        refuse(self.max_deliver > 0, ErrorCode::ConsumerAckFlowControlRequiresNoMaxDeliver)
    }

    fn check_backoff(&self) -> Checked {
        let waits = i64::try_from(self.backoff.len()).unwrap_or(i64::MAX);
        refuse(
            waits > 0 && self.max_deliver != -1 && waits > self.max_deliver,
            ErrorCode::ConsumerMaxDeliverBackoff,
        )
    }

    fn check_push(&self, stream: &StreamConfig) -> Checked {
        let target = &self.deliver_subject;
        refuse(sonata_subject::has_wildcard(target.as_bytes()), ErrorCode::ConsumerDeliverToWildcards)?;
        refuse(!is_literal_subject(target), ErrorCode::ConsumerInvalidDeliverSubject)?;
        refuse(
            stream.subjects.iter().any(|subject| is_subset(target, subject)),
            ErrorCode::ConsumerDeliverCycle,
        )?;
        refuse(self.max_waiting != 0, ErrorCode::ConsumerPushMaxWaiting)?;
        refuse(
            self.max_ack_pending > 0 && self.ack_policy == AckPolicy::None,
            ErrorCode::ConsumerMaxPendingAckPolicyRequired,
        )?;
        refuse(
            self.idle_heartbeat > 0 && self.idle_heartbeat < 100 * MILLISECOND,
            ErrorCode::ConsumerSmallHeartbeat,
        )
    }

    fn check_pull(&self, stream: &StreamConfig, limits: &Limits) -> Checked {
        refuse(
            self.ack_policy == AckPolicy::None && stream.retention == Retention::WorkQueue,
            ErrorCode::ConsumerPullRequiresAck,
        )?;
        refuse(self.rate_limit_bps > 0, ErrorCode::ConsumerPullWithRateLimit)?;
        refuse(self.idle_heartbeat > 0, ErrorCode::ConsumerHeartbeatRequiresPush)?;
        refuse(self.flow_control, ErrorCode::ConsumerFlowControlRequiresPush)?;
        refuse(
            self.max_expires != 0 && self.max_expires < MILLISECOND,
            ErrorCode::ConsumerMaxRequestExpiresTooSmall,
        )?;
        let batch_max = limits.server.max_request_batch;
        if batch_max > 0 && self.max_batch > batch_max {
            return Err(ErrorCode::ConsumerMaxRequestBatchExceeded.with(batch_max));
        }
        Ok(())
    }

    fn check_limits(&self, stream: &StreamConfig, limits: &Limits) -> Checked {
        let caps = [
            limits.server.max_ack_pending,
            limits.account.max_ack_pending,
            stream.consumer_limits.max_ack_pending,
        ];
        if let Some(cap) = caps.into_iter().find(|cap| *cap > 0 && self.max_ack_pending > *cap) {
            return Err(ErrorCode::ConsumerMaxPendingAckExcess.with(cap));
        }
        let longest = stream.consumer_limits.inactive_threshold;
        if longest > 0 && self.inactive_threshold > longest {
            return Err(ErrorCode::ConsumerInactiveThresholdExcess.with(duration::format(longest)));
        }
        Ok(())
    }

    fn check_filters(&self) -> Checked {
        refuse(
            !self.filter_subject.is_empty() && !self.filter_subjects.is_empty(),
            ErrorCode::ConsumerDuplicateFilterSubjects,
        )?;
        refuse(self.filter_subjects.iter().any(String::is_empty), ErrorCode::ConsumerEmptyFilter)?;
        let filters = self.filters();
        for (at, filter) in filters.iter().enumerate() {
            if !is_subject(filter) {
                return Err(invalid("invalid subject"));
            }
            let others = filters.iter().enumerate().filter(|(other, _)| *other != at);
            refuse(
                others.into_iter().any(|(_, other)| is_subset(filter, other)),
                ErrorCode::ConsumerOverlappingSubjectFilters,
            )?;
        }
        Ok(())
    }

    /// Each policy has the start it needs and no other.
    fn check_start(&self) -> Checked {
        let (policy, needs_sequence, needs_time) = match self.deliver_policy {
            DeliverPolicy::All => ("all", false, false),
            DeliverPolicy::Last => ("last", false, false),
            DeliverPolicy::LastPerSubject => ("last per subject", false, false),
            DeliverPolicy::New => ("new", false, false),
            DeliverPolicy::ByStartSequence => ("by start sequence", true, false),
            DeliverPolicy::ByStartTime => ("by start time", false, true),
        };
        let wrong = |problem: fmt::Arguments<'_>| {
            let text = format!("consumer delivery policy is deliver {policy}, but optional {problem}");
            Err(ErrorCode::ConsumerInvalidPolicy.with(text))
        };
        let (has_sequence, has_time) = (self.opt_start_seq != 0, self.opt_start_time.is_some());
        if needs_sequence && !has_sequence {
            return wrong(format_args!("start sequence is not set"));
        }
        if needs_time && !has_time {
            return wrong(format_args!("start time is not set"));
        }
        if !needs_sequence && has_sequence {
            // By start time, the text has the word twice; clients may have learned it.
            let what = if needs_time { "start sequence" } else { "sequence" };
            return wrong(format_args!("start {what} is also set"));
        }
        if !needs_time && has_time {
            return wrong(format_args!("start time is also set"));
        }
        if self.deliver_policy == DeliverPolicy::LastPerSubject && self.filters().is_empty() {
            return wrong(format_args!("filter subject is not set"));
        }
        Ok(())
    }

    fn check_sampling(&self) -> Checked {
        if self.sample_freq.is_empty() {
            return Ok(());
        }
        let number = self.sample_freq.strip_suffix('%').unwrap_or(&self.sample_freq);
        let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let text = format!("strconv.Atoi: parsing {number:?}: invalid syntax");
            return Err(ErrorCode::ConsumerInvalidSampling.with(text));
        }
        match number.parse::<i64>() {
            Err(_) => {
                let text = format!("strconv.Atoi: parsing {number:?}: value out of range");
                Err(ErrorCode::ConsumerInvalidSampling.with(text))
            }
            // The reference has no error to show for a negative number.
            Ok(..0) => Err(ErrorCode::ConsumerInvalidSampling.with("<nil>")),
            Ok(_) => Ok(()),
        }
    }

    fn check_priority(&self) -> Checked {
        if self.priority_policy == PriorityPolicy::None {
            refuse(!self.priority_groups.is_empty(), ErrorCode::ConsumerPriorityGroupWithPolicyNone)?;
            return refuse(self.priority_timeout > 0, ErrorCode::ConsumerPinnedTtlWithoutPriorityPolicy);
        }
        refuse(self.is_push(), ErrorCode::ConsumerPushWithPriorityGroup)?;
        refuse(self.priority_groups.is_empty(), ErrorCode::ConsumerPriorityPolicyWithoutGroup)?;
        for group in &self.priority_groups {
            refuse(group.is_empty(), ErrorCode::ConsumerEmptyGroupName)?;
            let of_group =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'=' | b'-');
            refuse(
                group.len() > GROUP_NAME_BYTES_MAX || !group.bytes().all(of_group),
                ErrorCode::ConsumerInvalidGroupName,
            )?;
        }
        Ok(())
    }
}

/// An adjustment that only a request that is not pedantic puts up with.
fn adjust(pedantic: bool, text: &str) -> Checked {
    if pedantic { Err(ErrorCode::Pedantic.with(text)) } else { Ok(()) }
}

fn fill_negative(value: &mut i64, pedantic: bool, refusal: &str) -> Checked {
    if *value < 0 {
        adjust(pedantic, refusal)?;
        *value = 0;
    }
    Ok(())
}
