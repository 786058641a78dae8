//! Requests that change the stream or its consumers: judged, logged, and answered when they are applied.

use sonata_store::Filter;

use super::apply::Outcome;
use super::{After, Machine};
use crate::advisory::{Action, Advisory, Body, ConsumerAction, ConsumerPause, StreamAction};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::request::{ConsumerAction as Mode, DeleteMessage, GetMessage, Purge};
use crate::api::response::{
    ConsumerCreateReply, ConsumerDeleteReply, ConsumerPauseReply, ConsumerResetReply, ConsumerUnpinReply,
    MessageDeleteReply, Response, StoredMessage, StreamPurgeReply, StreamUpdateReply,
};
use crate::audit::Asker;
use crate::config::{AckPolicy, ConsumerConfig, Limits, Retention, StreamConfig};
use crate::consumer::Consumer;
use crate::json;
use crate::nuid::Nuid;
use crate::outgoing::{Outgoing, Publish};
use crate::record::{NUMBER_MAX, Record};
use crate::timestamp::Timestamp;

/// What a request is answered with when its record is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    StreamUpdated,
    Purged,
    MessageDeleted,
    ConsumerCreated { new: bool },
    ConsumerDeleted,
    ConsumerPaused,
    ConsumerReset { sequence: u64 },
}

impl Answer {
    /// The request could not be carried out after all.
    pub(crate) fn refuse(self, asker: Asker, error: ApiError, out: &mut dyn Publish) {
        let text = match self {
            Self::StreamUpdated => Response::<StreamUpdateReply>::refused(error).encode(),
            Self::Purged => Response::<StreamPurgeReply>::refused(error).encode(),
            Self::MessageDeleted => Response::<MessageDeleteReply>::refused(error).encode(),
            Self::ConsumerCreated { .. } => Response::<ConsumerCreateReply>::refused(error).encode(),
            Self::ConsumerDeleted => Response::<ConsumerDeleteReply>::refused(error).encode(),
            Self::ConsumerPaused => Response::<ConsumerPauseReply>::refused(error).encode(),
            Self::ConsumerReset { .. } => Response::<ConsumerResetReply>::refused(error).encode(),
        };
        asker.answer(&text, out);
    }
}

impl GetMessage {
    /// Whether a `STREAM.MSG.GET` asks for one message, and for one only.
    ///
    /// # Errors
    /// When it asks for none, or in two ways.
    pub fn check(&self) -> Result<(), ApiError> {
        let (last, next) = (!self.last_by_subj.is_empty(), !self.next_by_subj.is_empty());
        let timed = self.start_time.is_some();
        if self.batch > 0
            || self.max_bytes > 0
            || self.seq > 0 && (last || timed)
            || self.seq == 0 && !last && !next && !timed
            || timed && last
            || last && next
        {
            return Err(ErrorCode::BadRequest.into());
        }
        Ok(())
    }
}

impl Machine {
    /// Changes the configuration; `config` has been checked against the account's other streams.
    ///
    /// # Errors
    /// When the log takes no record.
    pub fn update(
        &mut self,
        config: &StreamConfig,
        asker: impl Into<Asker>,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        let text = json::encode(config);
        self.request(&Record::Configure { config: &text }, asker.into(), Answer::StreamUpdated, now, out)
    }

    /// Removes messages.
    ///
    /// # Errors
    /// When the stream forbids it or the request contradicts itself.
    pub fn request_purge(
        &mut self,
        request: &Purge,
        asker: impl Into<Asker>,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        if self.config.sealed {
            return Err(ErrorCode::StreamSealed.into());
        }
        if self.config.deny_purge {
            return Err(ErrorCode::StreamPurgeFailed.with("stream purge not permitted"));
        }
        if request.seq > 0 && request.keep > 0 || request.seq > NUMBER_MAX {
            return Err(ErrorCode::BadRequest.into());
        }
        let record =
            Record::Purge { filter: request.filter.as_bytes(), before: request.seq, keep: request.keep };
        self.request(&record, asker.into(), Answer::Purged, now, out)
    }

    /// Removes one message.
    ///
    /// # Errors
    /// When the stream forbids it or the message is not there.
    pub fn request_delete(
        &mut self,
        request: &DeleteMessage,
        asker: impl Into<Asker>,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        if self.config.sealed {
            return Err(ErrorCode::StreamSealed.into());
        }
        if self.config.deny_delete {
            return Err(ErrorCode::StreamMsgDeleteFailed.with("message delete not permitted"));
        }
        match self.store.get(request.seq) {
            Ok(Some(_)) | Err(sonata_store::Error::Damaged { .. }) => {}
            Ok(None) if request.seq > 0 && self.store.state().last_sequence == 0 => {
                return Err(ErrorCode::StreamMsgDeleteFailed.with("stream store EOF"));
            }
            Ok(None) if request.seq > self.store.state().last_sequence || request.seq == 0 => {
                return Err(ErrorCode::StreamMsgDeleteFailed.with("no message found"));
            }
            Ok(None) => return Err(ErrorCode::SequenceNotFound.with(request.seq)),
            Err(error) => return Err(ErrorCode::StreamMsgDeleteFailed.with(error)),
        }
        let sequence = request.seq;
        let record = if request.no_erase { Record::Remove { sequence } } else { Record::Erase { sequence } };
        self.request(&record, asker.into(), Answer::MessageDeleted, now, out)
    }

    /// A message, by sequence or subject.
    ///
    /// # Errors
    /// When the request is none or there is no such message.
    pub fn get_message(&mut self, request: &GetMessage) -> Result<StoredMessage, ApiError> {
        let next = !request.next_by_subj.is_empty();
        let failed = |error| ErrorCode::NoMessageFound.with(error);
        let from = match request.start_time {
            Some(time) => self.store.sequence_at(time.0).map_err(failed)?,
            None => request.seq,
        };
        let message = if from > 0 && !next {
            self.store.get(from)
        } else if next {
            self.store.next_message(&Filter::new([request.next_by_subj.as_bytes()]), from)
        } else {
            let filter = Filter::new([request.last_by_subj.as_bytes()]);
            match self.store.last(&filter, u64::MAX).map_err(failed)? {
                Some(sequence) => self.store.get(sequence),
                None => Ok(None),
            }
        };
        let message = message.map_err(failed)?.ok_or(ErrorCode::NoMessageFound)?;
        Ok(StoredMessage {
            subject: String::from_utf8_lossy(&message.subject).into_owned(),
            seq: message.sequence,
            hdrs: if request.no_hdr { Vec::new() } else { message.headers.to_vec() },
            data: message.payload.to_vec(),
            time: Timestamp(message.timestamp),
        })
    }

    /// Makes or changes a consumer. `name` is its name, generated if it was given none; `config` is as it was said.
    ///
    /// # Errors
    /// The first rule that is broken.
    #[allow(clippy::too_many_arguments, reason = "they are the request")]
    pub fn request_consumer(
        &mut self,
        mut config: ConsumerConfig,
        mode: Mode,
        pedantic: bool,
        limits: &Limits,
        asker: impl Into<Asker>,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        let stream = self.config.clone();
        config = config.check(&stream, limits, pedantic)?;
        // One that was given no name has one, but its configuration does not say it.
        let name = match (&*config.durable_name, &*config.name) {
            ("", "") => self.new_consumer_name(),
            ("", name) => name.to_owned(),
            (durable, _) => durable.to_owned(),
        };
        config.stamp();
        let mut state = Vec::new();
        let (id, new) = match self.consumers.get(name.as_str()) {
            Some(known) => {
                let same = *known.config == config;
                if mode == Mode::Create && !same {
                    return Err(ErrorCode::ConsumerAlreadyExists.into());
                }
                let subject = known.config.deliver_subject != config.deliver_subject;
                if !same && subject && known.is_active() && known.config.is_push() {
                    return Err(ErrorCode::ConsumerNameInUse.into());
                }
                let config = known.config.update(config)?;
                self.check_workqueue(&config, Some(&name))?;
                let id = known.id;
                if config.sourcing {
                    // Whoever is fed by it says by flow control what it has; the rest is delivered again.
                    let reset = self.consumers.change(id, |known| known.reset(0, &mut self.store));
                    reset.transpose().map_err(|error| ErrorCode::ConsumerStoreFailed.with(error))?;
                }
                // The state as it is, with the new configuration.
                if let Some(known) = self.consumers.by_number(id) {
                    known.save_with(&config, &mut state);
                }
                (id, false)
            }
            None => {
                if mode == Mode::Update {
                    return Err(ErrorCode::ConsumerDoesNotExist.into());
                }
                let most = match (stream.max_consumers, limits.account.max_consumers) {
                    (one, other) if one > 0 && other > 0 => one.min(other),
                    (one, other) => one.max(other),
                };
                if most > 0 && self.consumers.shown_count() as i64 >= most && !config.direct {
                    return Err(ErrorCode::MaximumConsumersLimit.into());
                }
                config.check_new(&stream)?;
                self.check_workqueue(&config, None)?;
                let id = self.next_consumer;
                self.next_consumer += 1;
                let consumer = Consumer::new(id, &name, config, &stream, &mut self.store, now)
                    .map_err(|error| ErrorCode::ConsumerStoreFailed.with(error))?;
                consumer.save(&mut state);
                (id, true)
            }
        };
        self.request(
            &Record::Consumer { id, state: &state },
            asker.into(),
            Answer::ConsumerCreated { new },
            now,
            out,
        )
    }

    /// A consumer that a server makes to feed one of its streams. Where messages stay until they are acknowledged, it stays
    /// as well and is acknowledged to; elsewhere there is a new one every time.
    pub(crate) fn fit_feeding(&mut self, config: &mut ConsumerConfig, now: i64, out: &mut dyn Publish) {
        if !config.direct || !config.sourcing || config.name.is_empty() {
            return;
        }
        if self.config.retention == Retention::Limits {
            config.name = format!("{}-{}", config.name, self.new_consumer_name());
            return;
        }
        config.direct = false;
        config.durable_name.clone_from(&config.name);
        config.ack_policy = AckPolicy::FlowControl;
        (config.ack_wait, config.max_deliver, config.inactive_threshold) = (0, 0, 0);
        if let Some(known) = self.consumers.get(config.name.as_str()) {
            config.pause_until = known.config.pause_until;
            config.deliver_policy = known.config.deliver_policy;
            config.opt_start_seq = known.config.opt_start_seq;
            config.opt_start_time = known.config.opt_start_time;
        }
        // Whoever asks has ceased to listen where it was delivered to before.
        let name = config.name.clone();
        self.with_consumer(&name, now, out, |consumer, scene| consumer.review_interest(scene));
    }

    /// Consumers of a work queue share no message.
    pub(super) fn check_workqueue(&self, config: &ConsumerConfig, own: Option<&str>) -> Result<(), ApiError> {
        if self.config.retention != Retention::WorkQueue || config.direct || config.sourcing {
            return Ok(());
        }
        let others: Vec<&Consumer> =
            self.consumers.iter().filter(|other| Some(&*other.name) != own && !other.config.direct).collect();
        if others.is_empty() {
            return Ok(());
        }
        if config.filters().is_empty() {
            return Err(ErrorCode::ConsumerWorkQueueMultipleUnfiltered.into());
        }
        let collides = others.iter().any(|other| {
            other.config.filters().is_empty()
                || other.config.filters().iter().any(|theirs| {
                    let ours = config.filters().iter();
                    ours.clone().any(|ours| sonata_subject::overlaps(ours.as_bytes(), theirs.as_bytes()))
                })
        });
        if collides { Err(ErrorCode::ConsumerWorkQueueNotUnique.into()) } else { Ok(()) }
    }

    /// Removes a consumer.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn delete_consumer(
        &mut self,
        name: &str,
        asker: impl Into<Asker>,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        let id = self.consumers.get(name).ok_or(ErrorCode::ConsumerNotFound)?.id;
        self.request(&Record::ConsumerGone { id }, asker.into(), Answer::ConsumerDeleted, now, out)
    }

    /// Stops deliveries until a time; one that is past, or none, resumes them.
    ///
    /// # Errors
    /// When there is no consumer of that name.
    pub fn pause_consumer(
        &mut self,
        name: &str,
        until: Timestamp,
        asker: impl Into<Asker>,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        let consumer = self.consumers.get(name).ok_or(ErrorCode::ConsumerNotFound)?;
        let mut config = (*consumer.config).clone();
        config.pause_until = (!until.is_zero()).then_some(until);
        config.stamp();
        let id = consumer.id;
        let mut state = Vec::new();
        consumer.save_with(&config, &mut state);
        self.request(&Record::Consumer { id, state: &state }, asker.into(), Answer::ConsumerPaused, now, out)
    }

    /// Lets the pinned client of a priority group go.
    ///
    /// # Errors
    /// When there is no such consumer or group.
    pub fn unpin_consumer(
        &mut self,
        name: &str,
        group: &str,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<Vec<u8>, ApiError> {
        let consumer = self.consumers.get(name).ok_or(ErrorCode::ConsumerNotFound)?;
        if !consumer.config.priority_groups.iter().any(|known| known == group) {
            return Err(ErrorCode::ConsumerInvalidPriorityGroup.into());
        }
        self.with_consumer(name, now, out, |consumer, scene| consumer.unpin(scene, group, "admin"));
        self.wants_turn = true;
        Ok(Response::done(ConsumerUnpinReply::default()).encode())
    }

    /// Sends a consumer back, or forth; 0 is to its acknowledgement floor.
    ///
    /// # Errors
    /// When there is no such consumer, or its policy does not let it go there.
    pub fn reset_consumer(
        &mut self,
        name: &str,
        sequence: u64,
        asker: impl Into<Asker>,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        let id = self.consumers.number(name).ok_or(ErrorCode::ConsumerNotFound)?;
        let mut state = Vec::new();
        let reset = self.consumers.change(id, |consumer| -> Result<u64, ApiError> {
            consumer.check_reset(sequence, &mut self.store)?;
            let sequence = consumer
                .reset(sequence, &mut self.store)
                .map_err(|error| ErrorCode::ConsumerStoreFailed.with(error))?;
            consumer.save(&mut state);
            Ok(sequence)
        });
        let sequence = reset.ok_or(ErrorCode::ConsumerNotFound)??;
        self.wants_turn = true;
        self.request(
            &Record::Consumer { id, state: &state },
            asker.into(),
            Answer::ConsumerReset { sequence },
            now,
            out,
        )
    }

    fn request(
        &mut self,
        record: &Record<'_>,
        asker: Asker,
        answer: Answer,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), ApiError> {
        self.commit(record, None, After::Request { asker, answer }, now, out)
    }

    /// A request has been carried out.
    pub(super) fn answer(
        &mut self,
        asker: Asker,
        answer: Answer,
        outcome: &Outcome,
        now: i64,
        out: &mut dyn Publish,
    ) {
        let name = outcome.consumer.clone().unwrap_or_default();
        let text = match answer {
            Answer::StreamUpdated => {
                self.tell_stream(Action::Modify, now, out);
                Response::done(StreamUpdateReply { info: Some(self.info(now)) }).encode()
            }
            Answer::Purged => {
                Response::done(StreamPurgeReply { success: true, purged: outcome.removed }).encode()
            }
            Answer::MessageDeleted => Response::done(MessageDeleteReply { success: true }).encode(),
            Answer::ConsumerCreated { new } => {
                if new {
                    self.tell_consumer(&name, Action::Create, now, out);
                }
                let info = self.consumer_info(&name, now, out);
                Response::from(info.map(|info| ConsumerCreateReply { info: Some(info) })).encode()
            }
            Answer::ConsumerDeleted => {
                self.tell_consumer(&name, Action::Delete, now, out);
                Response::done(ConsumerDeleteReply { success: true }).encode()
            }
            Answer::ConsumerPaused => self.paused(&name, now, out),
            Answer::ConsumerReset { sequence } => {
                let info = self.consumer_info(&name, now, out);
                let body = info.map(|info| ConsumerResetReply { info: Some(info), reset_seq: sequence });
                Response::from(body).encode()
            }
        };
        asker.answer(&text, out);
    }

    fn paused(&mut self, name: &str, now: i64, out: &mut dyn Publish) -> Vec<u8> {
        let until = self.consumers.get(name).and_then(|consumer| consumer.config.pause_until);
        let until = until.unwrap_or(Timestamp::ZERO);
        let remaining = if until.is_zero() { 0 } else { until.0.saturating_sub(now).max(0) };
        let paused = remaining > 0;
        self.notify(
            ConsumerPause {
                stream: self.name.to_string(),
                consumer: name.to_owned(),
                paused,
                pause_until: until,
                domain: self.domain.to_string(),
            },
            now,
            out,
        );
        Response::done(ConsumerPauseReply { paused, pause_until: until, pause_remaining: remaining }).encode()
    }

    /// Publishes an advisory when somebody listens.
    pub(crate) fn notify(&mut self, body: impl Body, now: i64, out: &mut dyn Publish) {
        let subject = body.subject();
        if !self.interest.has_interest(subject.as_bytes()) {
            return;
        }
        let text = Advisory::new(self.nuid().next_id(), Timestamp(now), body).encode();
        out.publish(Outgoing::plain(subject.as_bytes(), &text));
    }

    /// The stream was made, changed or removed.
    pub fn tell_stream(&mut self, action: Action, now: i64, out: &mut dyn Publish) {
        let body = StreamAction { stream: self.name.to_string(), action, domain: self.domain.to_string() };
        self.notify(body, now, out);
    }

    pub(super) fn tell_consumer(&mut self, name: &str, action: Action, now: i64, out: &mut dyn Publish) {
        let body = ConsumerAction {
            stream: self.name.to_string(),
            consumer: name.to_owned(),
            action,
            domain: self.domain.to_string(),
        };
        self.notify(body, now, out);
    }

    fn nuid(&mut self) -> Nuid {
        let mut bytes = [0; 24];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.random().to_le_bytes());
        }
        Nuid::new(bytes)
    }

    fn new_consumer_name(&mut self) -> String {
        loop {
            let name = self.nuid().next_consumer_name();
            if !self.consumers.contains(&name) {
                return name;
            }
        }
    }
}
