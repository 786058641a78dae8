//! What a stream may be told to be, and what may change later.
//!
//! The rules stand in the order in which the reference looks at them, because a request that breaks two is answered with
//! the first. `tests/stream_configs.txt` holds the reference's answers.

use std::collections::HashSet;

use super::choice::{Discard, PersistMode, Retention, Storage};
use super::name::{
    DESCRIPTION_BYTES_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX, is_literal_subject, is_subject, is_subset,
    is_valid_name, metadata_bytes, overlap,
};
use super::{Limits, Placement, StreamConfig, StreamSource, SubjectTransform};
use crate::api::{ApiError, ErrorCode};
use crate::duration;
use sonata_subject::transform::{Transform, validate_mapping};

const SECOND: i64 = 1_000_000_000;
const SHORTEST: i64 = 100_000_000;
const DUPLICATE_WINDOW: i64 = 120 * SECOND;
const REPLICAS_MAX: i64 = 5;
const API_PREFIX: &str = "$JS.API";

type Checked = Result<(), ApiError>;

fn invalid(text: impl std::fmt::Display) -> ApiError {
    ErrorCode::StreamInvalidConfig.with(text)
}

fn pedantic_refusal(text: &str) -> ApiError {
    ErrorCode::Pedantic.with(text)
}

/// An error if the condition holds.
fn refuse(condition: bool, text: &str) -> Checked {
    if condition { Err(invalid(text)) } else { Ok(()) }
}

/// An adjustment that only a request that is not pedantic puts up with.
fn adjust(pedantic: bool, text: &str) -> Checked {
    if pedantic { Err(pedantic_refusal(text)) } else { Ok(()) }
}

impl StreamConfig {
    /// What `STREAM.CREATE` makes of this: [`StreamConfig::check`] and the rules that hold only for a new stream.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn create(self, limits: &Limits, pedantic: bool) -> Result<Self, ApiError> {
        if self.name.contains(['/', '\\']) {
            return Err(ErrorCode::StreamNameContainsPathSeparators.into());
        }
        refuse(self.sealed, "stream configuration for create can not be sealed")?;
        refuse(
            self.mirror_direct && self.mirror.is_none(),
            "stream has no mirror but does have mirror direct",
        )?;
        refuse(self.first_seq > crate::record::NUMBER_MAX, "first sequence out of range")?;
        let config = self.check(limits, pedantic)?;
        config.check_replicas(limits)?;
        config.check_filters()?;
        Ok(config)
    }

    /// Fills in what was not said and checks all rules that need no other stream.
    ///
    /// With `pedantic` a value that would have to be adjusted is an error.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(mut self, limits: &Limits, pedantic: bool) -> Result<Self, ApiError> {
        self.check_texts()?;
        self.fill_limits(pedantic)?;
        self.fill_duplicate_window(limits, pedantic)?;
        refuse(self.deny_purge && self.allow_rollup_hdrs, "roll-ups require the purge permission")?;
        self.check_counter()?;
        self.check_discard_new_per_subject()?;
        self.fill_delete_markers(pedantic)?;
        self.fill_schedules(pedantic)?;
        self.check_persist_mode()?;
        self.check_mirror()?;
        self.check_sources()?;
        self.check_external()?;
        self.check_cycle()?;
        self.fill_subjects()?;
        self.check_account(limits)?;
        self.check_subject_transform()?;
        self.fill_republish(pedantic)?;
        self.fill_placement()?;
        Ok(self)
    }

    /// What becomes of this stream when it is told to be `new`.
    ///
    /// # Errors
    /// A rule of [`StreamConfig::check`] that `new` breaks, or a change that is not allowed.
    pub fn update(&self, new: Self, limits: &Limits, pedantic: bool) -> Result<Self, ApiError> {
        let mut new = new.check(limits, pedantic)?;
        refuse(new.name != self.name, "stream configuration name must match original")?;
        new.check_replicas(limits)?;
        refuse(new.storage != self.storage, "stream configuration update can not change storage type")?;
        refuse(
            new.retention != self.retention
                && (new.retention == Retention::WorkQueue || self.retention == Retention::WorkQueue),
            "stream configuration update can not change retention policy to/from workqueue",
        )?;
        refuse(self.sealed && !new.sealed, "stream configuration update can not unseal a sealed stream")?;
        refuse(
            self.deny_delete && !new.deny_delete,
            "stream configuration update can not cancel deny message deletes",
        )?;
        refuse(self.deny_purge && !new.deny_purge, "stream configuration update can not cancel deny purge")?;
        if new.mirror.is_some() && new.mirror != self.mirror {
            return Err(ErrorCode::StreamMirrorNotUpdatable.into());
        }
        refuse(self.allow_msg_ttl && !new.allow_msg_ttl, "message TTL status can not be disabled")?;
        refuse(
            self.allow_msg_counter != new.allow_msg_counter,
            "stream configuration update can not change message counter setting",
        )?;
        refuse(
            self.allow_msg_schedules && !new.allow_msg_schedules,
            "message schedules can not be disabled",
        )?;
        refuse(
            self.persist_mode != new.persist_mode,
            "stream configuration update can not change persist mode",
        )?;
        if new.sealed {
            new.max_age = 0;
            new.discard = Discard::New;
            new.deny_delete = true;
            new.deny_purge = true;
            new.allow_rollup_hdrs = false;
        }
        Ok(new)
    }

    fn check_texts(&self) -> Checked {
        refuse(
            !is_valid_name(&self.name),
            "stream name is required and can not contain '.', '*', '>', '\\', '/'",
        )?;
        if self.name.len() > NAME_BYTES_MAX {
            return Err(invalid(format_args!(
                "stream name is too long, maximum allowed is {NAME_BYTES_MAX}"
            )));
        }
        if self.description.len() > DESCRIPTION_BYTES_MAX {
            return Err(invalid(format_args!(
                "stream description is too long, maximum allowed is {DESCRIPTION_BYTES_MAX}"
            )));
        }
        if metadata_bytes(&self.metadata) > METADATA_BYTES_MAX {
            return Err(invalid(format_args!(
                "stream metadata exceeds maximum size of {METADATA_BYTES_MAX} bytes"
            )));
        }
        Ok(())
    }

    fn fill_limits(&mut self, pedantic: bool) -> Checked {
        if self.num_replicas == 0 {
            self.num_replicas = 1;
        }
        if self.num_replicas > REPLICAS_MAX {
            return Err(invalid(format_args!("maximum replicas is {REPLICAS_MAX}")));
        }
        if self.num_replicas < 0 {
            return Err(ErrorCode::ReplicasCountCannotBeNegative.into());
        }
        fill_limit(&mut self.max_msgs, pedantic, "max_msgs must be set to -1")?;
        fill_limit(&mut self.max_msgs_per_subject, pedantic, "max_msgs_per_subject must be set to -1")?;
        fill_limit(&mut self.max_bytes, pedantic, "max_bytes must be set to -1")?;
        let mut max_msg_size = i64::from(self.max_msg_size);
        fill_limit(&mut max_msg_size, pedantic, "max_msg_size must be set to -1")?;
        if max_msg_size < 0 {
            self.max_msg_size = -1;
        }
        fill_limit(&mut self.max_consumers, pedantic, "max_consumers must be set to -1")?;
        refuse(self.max_age < 0, "max age can not be negative")?;
        refuse(self.max_age != 0 && self.max_age < SHORTEST, "max age needs to be >= 100ms")
    }

    fn fill_duplicate_window(&mut self, limits: &Limits, pedantic: bool) -> Checked {
        let most = limits.server.duplicate_window;
        if self.duplicate_window == 0 && self.mirror.is_none() && self.sources.is_empty() {
            let mut window = DUPLICATE_WINDOW;
            if most > 0 && window > most {
                adjust(pedantic, "duplicate window limits are higher than current limits")?;
                window = most;
            }
            if self.max_age != 0 && self.max_age < window {
                adjust(pedantic, "duplicate window cannot be bigger than max age")?;
                window = self.max_age;
            }
            self.duplicate_window = window;
        }
        let window = self.duplicate_window;
        refuse(window < 0, "duplicates window can not be negative")?;
        refuse(
            self.max_age != 0 && window > self.max_age,
            "duplicates window can not be larger then max age",
        )?;
        if most > 0 && window > most {
            let most = duration::format(most);
            return Err(invalid(format_args!(
                "duplicates window can not be larger then server limit of {most}"
            )));
        }
        refuse(window > 0 && window < SHORTEST, "duplicates window needs to be >= 100ms")
    }

    fn check_counter(&self) -> Checked {
        if !self.allow_msg_counter {
            return Ok(());
        }
        refuse(self.discard == Discard::New, "counter stream cannot use discard new")?;
        refuse(self.allow_msg_ttl, "counter stream cannot use message TTLs")?;
        refuse(self.allow_msg_schedules, "counter stream cannot use message schedules")?;
        refuse(self.retention != Retention::Limits, "counter stream can only use limits retention")
    }

    fn check_discard_new_per_subject(&self) -> Checked {
        if !self.discard_new_per_subject {
            return Ok(());
        }
        refuse(
            self.discard != Discard::New,
            "discard new per subject requires discard new policy to be set",
        )?;
        refuse(self.max_msgs_per_subject <= 0, "discard new per subject requires max msgs per subject > 0")
    }

    fn fill_delete_markers(&mut self, pedantic: bool) -> Checked {
        let life = self.subject_delete_marker_ttl;
        refuse(life < 0, "subject delete marker TTL must not be negative")?;
        if life == 0 {
            return Ok(());
        }
        refuse(life < SECOND, "subject delete marker TTL must be at least 1 second")?;
        if !self.allow_msg_ttl {
            refuse(pedantic, "subject delete marker cannot be set if message TTLs are disabled")?;
            self.allow_msg_ttl = true;
        }
        if !self.allow_rollup_hdrs {
            refuse(pedantic, "subject delete marker cannot be set if roll-ups are disabled")?;
            self.allow_rollup_hdrs = true;
            self.deny_purge = false;
        }
        Ok(())
    }

    fn fill_schedules(&mut self, pedantic: bool) -> Checked {
        if !self.allow_msg_schedules {
            return Ok(());
        }
        refuse(self.discard == Discard::New, "message scheduling cannot use discard new")?;
        if !self.allow_rollup_hdrs {
            refuse(pedantic, "message scheduling cannot be set if roll-ups are disabled")?;
            self.allow_rollup_hdrs = true;
            self.deny_purge = false;
        }
        Ok(())
    }

    fn check_persist_mode(&self) -> Checked {
        if self.persist_mode != PersistMode::Async {
            return Ok(());
        }
        refuse(self.storage != Storage::File, "async persist mode is only supported on file storage")?;
        refuse(self.num_replicas > 1, "async persist mode is not supported on replicated streams")?;
        refuse(self.allow_atomic, "async persist mode is not supported with atomic batch publish")
    }

    fn check_mirror(&self) -> Checked {
        let Some(mirror) = &self.mirror else { return Ok(()) };
        let broken = [
            (self.first_seq > 0, ErrorCode::MirrorWithFirstSeq),
            (!self.subjects.is_empty(), ErrorCode::MirrorWithSubjects),
            (!self.sources.is_empty(), ErrorCode::MirrorWithSources),
            (self.allow_msg_counter, ErrorCode::MirrorWithCounters),
            (self.allow_atomic, ErrorCode::MirrorWithAtomicPublish),
            (self.allow_batched, ErrorCode::MirrorWithBatchPublish),
            (self.allow_msg_schedules, ErrorCode::MirrorWithMsgSchedules),
            (!mirror.has_valid_consumer(), ErrorCode::MirrorDurableConsumerConfigInvalid),
            (mirror.has_two_filters(), ErrorCode::MirrorMultipleFiltersNotAllowed),
        ];
        if let Some((_, code)) = broken.into_iter().find(|(broken, _)| *broken) {
            return Err(code.into());
        }
        refuse(self.subject_delete_marker_ttl > 0, "subject delete markers forbidden on mirrors")?;
        for (at, transform) in mirror.subject_transforms.iter().enumerate() {
            check_transform(
                transform,
                ErrorCode::MirrorInvalidSubjectFilter,
                ErrorCode::MirrorInvalidTransformDestination,
            )?;
            let others = mirror.subject_transforms.iter().enumerate().filter(|(other, _)| *other != at);
            if others.into_iter().any(|(_, other)| overlap(&transform.src, &other.src)) {
                return Err(ErrorCode::MirrorOverlappingSubjectFilters.into());
            }
        }
        if mirror.external.is_none() && !is_valid_name(&mirror.name) {
            return Err(ErrorCode::MirrorInvalidStreamName.into());
        }
        Ok(())
    }

    fn check_sources(&self) -> Checked {
        if !self.sources.is_empty() && self.allow_msg_schedules {
            return Err(ErrorCode::SourceWithMsgSchedules.into());
        }
        let mut seen = HashSet::new();
        let mut consumers = HashSet::new();
        for source in &self.sources {
            if !is_valid_name(&source.name) {
                return Err(ErrorCode::SourceInvalidStreamName.into());
            }
            if !seen.insert(source.identity()) {
                return Err(ErrorCode::SourceDuplicateDetected.into());
            }
            if source.has_two_filters() {
                return Err(ErrorCode::SourceMultipleFiltersNotAllowed.into());
            }
            for transform in &source.subject_transforms {
                check_transform(
                    transform,
                    ErrorCode::SourceInvalidSubjectFilter,
                    ErrorCode::SourceInvalidTransformDestination,
                )?;
            }
            if one_contains_another(&source.subject_transforms) {
                return Err(ErrorCode::SourceOverlappingSubjectFilters.into());
            }
            if !source.has_valid_consumer() {
                return Err(ErrorCode::SourceDurableConsumerConfigInvalid.into());
            }
            if let Some(consumer) = &source.consumer
                && !consumers.insert((&source.name, source.api_prefix(), &consumer.name))
            {
                return Err(ErrorCode::SourceDurableConsumerDuplicateDetected.into());
            }
        }
        Ok(())
    }

    /// Prefixes of streams elsewhere. That a delivery prefix stays clear of the origin's subjects is decided by who knows
    /// them, with [`StreamSource::check_delivery`].
    fn check_external(&self) -> Checked {
        let externals =
            || self.mirror.iter().chain(&self.sources).filter_map(|source| source.external.as_ref());
        for external in externals() {
            if !external.deliver.is_empty() && !is_literal_subject(&external.deliver) {
                return Err(ErrorCode::StreamInvalidExternalDeliverySubject.with(&external.deliver));
            }
        }
        for external in externals().filter(|external| !external.api.is_empty()) {
            if !is_literal_subject(&external.api) {
                return Err(invalid(format_args!(
                    "stream external api prefix {} must be a valid subject without wildcards",
                    go_quoted(&external.api)
                )));
            }
            if overlap(&external.api, API_PREFIX) {
                return Err(ErrorCode::StreamExternalApiOverlap.with_all(&[&external.api, &API_PREFIX]));
            }
        }
        Ok(())
    }

    /// The shortest cycle: a stream that takes from itself. Longer ones need the other streams.
    fn check_cycle(&self) -> Checked {
        let takes_own = |source: &StreamSource| {
            source.external.is_none()
                && source.name == self.name
                && (source.filter_subject.is_empty()
                    || self.subjects.iter().any(|subject| overlap(subject, &source.filter_subject)))
        };
        let mirrors_itself =
            self.mirror.as_ref().is_some_and(|mirror| mirror.external.is_none() && mirror.name == self.name);
        refuse(mirrors_itself || self.sources.iter().any(takes_own), "detected cycle")
    }

    fn fill_subjects(&mut self) -> Checked {
        if self.subjects.is_empty() {
            if self.mirror.is_none() && self.sources.is_empty() {
                self.subjects.push(self.name.clone());
            }
            return Ok(());
        }
        let mut seen = HashSet::new();
        for (at, subject) in self.subjects.iter().enumerate() {
            refuse(!is_subject(subject), "invalid subject")?;
            refuse(!seen.insert(subject), "duplicate subjects detected")?;
            if subject == ">" {
                refuse(!self.no_ack, "capturing all subjects requires no-ack to be true")?;
                refuse(self.num_replicas != 1, "capturing all subjects requires replicas of 1")?;
            }
            if !self.no_ack {
                let of_server = ["$JS.>", "$JSC.>", "$NRG.>"].iter().any(|space| overlap(subject, space));
                refuse(
                    of_server && !is_subset(subject, "$JS.EVENT.>"),
                    "subjects that overlap with jetstream api require no-ack to be true",
                )?;
                refuse(
                    overlap(subject, "$SYS.>") && !is_subset(subject, "$SYS.ACCOUNT.>"),
                    "subjects that overlap with system api require no-ack to be true",
                )?;
            }
            if let Some(other) = self.subjects[at + 1..].iter().find(|other| overlap(subject, other)) {
                return Err(invalid(format_args!(
                    "subject {} overlaps with {}",
                    go_quoted(subject),
                    go_quoted(other)
                )));
            }
        }
        Ok(())
    }

    fn check_account(&self, limits: &Limits) -> Checked {
        let account = &limits.account;
        if account.max_bytes_required && self.max_bytes <= 0 {
            return Err(ErrorCode::StreamMaxBytesRequired.into());
        }
        let most = match self.storage {
            Storage::Memory => account.memory_max_stream_bytes,
            Storage::File => account.storage_max_stream_bytes,
        };
        if most > 0 && self.max_bytes > most {
            return Err(ErrorCode::StreamMaxStreamBytesExceeded.into());
        }
        Ok(())
    }

    fn check_subject_transform(&self) -> Checked {
        let Some(transform) = &self.subject_transform else { return Ok(()) };
        check_transform(
            transform,
            ErrorCode::StreamTransformInvalidSource,
            ErrorCode::StreamTransformInvalidDestination,
        )
    }

    fn fill_republish(&mut self, pedantic: bool) -> Checked {
        let Some(republish) = &mut self.republish else { return Ok(()) };
        if republish.src.is_empty() {
            adjust(pedantic, "republish source can not be empty")?;
            ">".clone_into(&mut republish.src);
        }
        // Everything to everything would form a cycle, unless the stream's own transform leads elsewhere.
        if let (">", ">", Some(transform), [subject]) =
            (&*republish.src, &*republish.dest, &self.subject_transform, &*self.subjects)
            && transform.src == *subject
        {
            adjust(pedantic, "implicit republish based on subject transform")?;
            republish.src.clone_from(&transform.dest);
            republish.dest.clone_from(&transform.dest);
        }
        refuse(
            self.subjects.iter().any(|subject| overlap(&republish.dest, subject)),
            "stream configuration for republish destination forms a cycle",
        )?;
        Transform::parse(&republish.src, &republish.dest).map_err(|_| {
            invalid(format_args!(
                "stream configuration for republish with transform from '{}' to '{}' not valid",
                republish.src, republish.dest
            ))
        })?;
        Ok(())
    }

    fn fill_placement(&mut self) -> Checked {
        self.placement.take_if(|placement| *placement == Placement::default());
        refuse(
            self.placement.as_ref().is_some_and(|placement| !placement.preferred.is_empty()),
            "preferred server not permitted in placement",
        )
    }

    fn check_replicas(&self, limits: &Limits) -> Checked {
        if self.num_replicas > 1 && !limits.server.clustered {
            return Err(ErrorCode::StreamReplicasNotSupported.into());
        }
        Ok(())
    }

    /// Filters of mirror and sources, which the reference looks at late and answers under another number.
    fn check_filters(&self) -> Checked {
        let sides = self.mirror.iter().map(|mirror| (mirror, "mirror"));
        for (source, what) in sides.chain(self.sources.iter().map(|source| (source, "source"))) {
            let filter = &source.filter_subject;
            if source.subject_transforms.is_empty() && !filter.is_empty() && !is_subject(filter) {
                // The two sides differ by a colon.
                let colon = if what == "source" { ":" } else { "" };
                return Err(ErrorCode::StreamCreate
                    .with(format_args!("subject filter '{filter}' for the {what}{colon} invalid subject")));
            }
        }
        Ok(())
    }
}

impl StreamSource {
    /// Checks that what is delivered from elsewhere stays clear of the origin's subjects, where those are known.
    ///
    /// # Errors
    /// The first subject that does not.
    pub fn check_delivery(&self, origin_subjects: &[String]) -> Result<(), ApiError> {
        let Some(external) = self.external.as_ref().filter(|external| !external.deliver.is_empty()) else {
            return Ok(());
        };
        match origin_subjects
            .iter()
            .find(|subject| overlap(subject, &format!("{}.{subject}", external.deliver)))
        {
            Some(subject) => {
                Err(ErrorCode::StreamExternalDeliverPrefixOverlaps.with_all(&[&external.deliver, subject]))
            }
            None => Ok(()),
        }
    }

    fn has_two_filters(&self) -> bool {
        !self.filter_subject.is_empty() && !self.subject_transforms.is_empty()
    }

    /// A consumer made beforehand knows by itself where it starts and what it takes.
    fn has_valid_consumer(&self) -> bool {
        self.consumer.as_ref().is_none_or(|consumer| {
            is_valid_name(&consumer.name)
                && is_literal_subject(&consumer.deliver_subject)
                && self.opt_start_seq == 0
                && self.opt_start_time.is_none()
                && self.filter_subject.is_empty()
        })
    }

    fn api_prefix(&self) -> Option<&str> {
        self.external.as_ref().map(|external| &*external.api)
    }

    /// What makes two sources the same: where the stream is, and what is taken of it.
    fn identity(&self) -> SourceIdentity<'_> {
        let taken = if self.subject_transforms.is_empty() {
            vec![(all_unless_said(&self.filter_subject), ">")]
        } else {
            let parts = self.subject_transforms.iter();
            parts.map(|part| (all_unless_said(&part.src), all_unless_said(&part.dest))).collect()
        };
        SourceIdentity {
            name: &self.name,
            api_prefix: self.api_prefix(),
            consumer: self.consumer.as_ref().map(|consumer| &*consumer.name),
            taken,
        }
    }
}

/// See [`StreamSource::identity`].
#[derive(PartialEq, Eq, Hash)]
struct SourceIdentity<'a> {
    name: &'a str,
    api_prefix: Option<&'a str>,
    consumer: Option<&'a str>,
    /// Filters and what their subjects become.
    taken: Vec<(&'a str, &'a str)>,
}

fn all_unless_said(filter: &str) -> &str {
    if filter.is_empty() { ">" } else { filter }
}

fn fill_limit(limit: &mut i64, pedantic: bool, refusal: &str) -> Checked {
    if *limit < -1 {
        adjust(pedantic, refusal)?;
    }
    if *limit == 0 || *limit < -1 {
        *limit = -1;
    }
    Ok(())
}

fn check_transform(
    transform: &SubjectTransform,
    bad_source: ErrorCode,
    bad_destination: ErrorCode,
) -> Checked {
    if !transform.src.is_empty() && !is_subject(&transform.src) {
        return Err(bad_source.with(format_args!("invalid subject {}", transform.src)));
    }
    validate_mapping(&transform.src, &transform.dest).map_err(|error| bad_destination.with(error))
}

fn one_contains_another(transforms: &[SubjectTransform]) -> bool {
    transforms.iter().enumerate().any(|(at, inner)| {
        transforms.iter().enumerate().any(|(other, outer)| other != at && is_subset(&inner.src, &outer.src))
    })
}

/// A text in quotes, as the reference prints one.
fn go_quoted(text: &str) -> String {
    format!("{text:?}")
}
