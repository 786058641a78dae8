//! Requests about streams.

use std::sync::Arc;

use super::{Answered, Node, Request};
use crate::account::Account;
use crate::advisory::Action;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::request::{
    self, ConfigureStream, DeleteMessage, GetMessage, ListStreams, Purge, StreamInfoRequest,
};
use crate::api::response::{
    ClusterInfo, LIST_MAX, MessageGetReply, NAMES_MAX, Page, Response, StreamCreateReply, StreamDeleteReply,
    StreamInfoReply, StreamListReply, StreamNamesReply,
};
use crate::config::{Storage, StreamConfig};
use crate::outgoing::Publish;
use crate::stream::{Ears, Header, Machine, Parts, Stream, Watched};

impl Node {
    pub(super) fn create_stream(
        &self,
        account: &Account,
        stream: &str,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Answered {
        let said = ConfigureStream::parse(request.payload, self.mode())
            .map_err(|error| ErrorCode::InvalidJson.with(error))?;
        if said.config.name != stream {
            return Err(ErrorCode::StreamMismatch.into());
        }
        if stream.contains(['\\', '/']) {
            return Err(ErrorCode::StreamNameContainsPathSeparators.into());
        }
        let limits = account.limits(self.limits(), said.config.num_replicas)?;
        let mut config = said.config.create(&limits, said.pedantic)?;
        self.check_origins(account, &mut config, said.pedantic)?;
        config.stamp();
        if let Ok(known) = account.stream(stream) {
            let machine = known.lock();
            if **machine.config() != config {
                return Err(ErrorCode::StreamNameInUse.into());
            }
            let info = machine.info(request.now);
            return Ok(Some(
                Response::done(StreamCreateReply { info: Some(info), did_create: true }).encode(),
            ));
        }
        if account.expected.lock().contains_key(stream) {
            return Err(ErrorCode::StreamNameInUse.into());
        }
        account.check_beside(&config, true)?;
        self.check_reserved(&config, None)?;
        let header =
            Header { lane: self.new_lane(), account: account.name.to_string(), created: request.now, config };
        let (store, commit) = self.world.create_store(&header)?;
        let machine = Machine::new(Parts {
            lane: header.lane,
            domain: self.settings().domain.clone(),
            account: account.name.clone(),
            config: header.config,
            created: header.created,
            store,
            commit,
            interest: account.interest.clone(),
            seed: self.world.random(),
            usage: account.usage.clone(),
        })?;
        // As it is before anything has been heard of its origins.
        let mut info = machine.info(request.now);
        if let Some(origin) = &mut info.mirror {
            origin.filter_subject.clear();
        }
        let stream = Stream::new(account.id, machine);
        if !self.adopt(account, stream.clone()) {
            return Err(ErrorCode::StreamNameInUse.into());
        }
        stream.lock().tell_stream(Action::Create, request.now, out);
        Ok(Some(Response::done(StreamCreateReply { info: Some(info), did_create: true }).encode()))
    }

    /// Whether what a stream reserves by its `max_bytes` is there, beside what those of all accounts do.
    fn check_reserved(&self, config: &StreamConfig, own: Option<u64>) -> Result<(), ApiError> {
        let room = self.usage.room(config.storage);
        if config.max_bytes <= 0 || room < 0 {
            return Ok(());
        }
        let others = self.streams().into_iter().filter(|stream| Some(stream.lane) != own);
        let configs = others.map(|stream| stream.lock().config().clone());
        let reserved = configs
            .filter(|other| other.storage == config.storage)
            .fold(config.max_bytes, |sum, other| sum.saturating_add(other.max_bytes.max(0)));
        match config.storage {
            _ if reserved <= room => Ok(()),
            Storage::Memory => Err(ErrorCode::MemoryResourcesExceeded.into()),
            Storage::File => Err(ErrorCode::StorageResourcesExceeded.into()),
        }
    }

    /// A number that no stream has; 0 is the server's own.
    pub(super) fn new_lane(&self) -> u64 {
        loop {
            let lane = self.world.random();
            if lane != 0 && self.lane(lane).is_none() {
                return lane;
            }
        }
    }

    pub(super) fn update_stream(
        &self,
        account: &Account,
        stream: &str,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Answered {
        let said = ConfigureStream::parse(request.payload, self.mode())
            .map_err(|error| ErrorCode::InvalidJson.with(error))?;
        if said.config.name != stream {
            return Err(ErrorCode::StreamMismatch.into());
        }
        let found = account.stream(stream)?;
        let limits = account.limits(self.limits(), said.config.num_replicas)?;
        let old = found.lock().config().clone();
        let mut new = old.update(said.config, &limits, said.pedantic)?;
        self.check_origins(account, &mut new, said.pedantic)?;
        new.stamp();
        check_consumer_limits(&old, &new, &found)?;
        account.check_beside(&new, false)?;
        self.check_reserved(&new, Some(found.lane))?;
        for subject in new.subjects.iter().filter(|subject| !old.subjects.contains(subject)) {
            self.world.subscribe(account.id, subject, found.lane);
        }
        let logged = found.lock().update(&new, self.asker(account, request), request.now, out);
        let (kept, dropped) = if logged.is_ok() { (&new, &*old) } else { (&*old, &new) };
        for subject in dropped.subjects.iter().filter(|subject| !kept.subjects.contains(subject)) {
            self.world.unsubscribe(account.id, subject, found.lane);
        }
        self.after(&found);
        logged.map(|()| None)
    }

    pub(super) fn delete_stream(
        &self,
        account: &Account,
        stream: &str,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Answered {
        if !request::is_empty(request.payload) {
            return Err(ErrorCode::NotEmptyRequest.into());
        }
        let found = account.stream(stream)?;
        self.world.delete_store(&found)?;
        found.mark_deleted();
        account.remove(stream);
        self.lanes.write().remove(&found.lane);
        let config = found.lock().config().clone();
        for subject in &config.subjects {
            self.world.unsubscribe(account.id, subject, found.lane);
        }
        self.world.watch(&found, Watched::nothing());
        self.world.listen(&found, Ears::of_nobody());
        let mut machine = found.lock();
        machine.on_deleted(request.now, out);
        machine.tell_stream(Action::Delete, request.now, out);
        Ok(Some(Response::done(StreamDeleteReply { success: true }).encode()))
    }

    /// Streams that have a subject in common with the filter; all with an empty one.
    fn filtered(&self, account: &Account, filter: &str) -> Vec<Arc<Stream>> {
        let mut streams = account.streams();
        if !filter.is_empty() {
            streams.retain(|stream| {
                let config = stream.lock().config().clone();
                config
                    .subjects
                    .iter()
                    .any(|subject| sonata_subject::overlaps(subject.as_bytes(), filter.as_bytes()))
            });
        }
        streams
    }

    pub(super) fn stream_names(&self, account: &Account, request: Request<'_>) -> Answered {
        let said: ListStreams = self.read_optional(request.payload)?;
        let streams = self.filtered(account, &said.subject);
        let offset = usize::try_from(said.offset).unwrap_or(0).min(streams.len());
        let body = StreamNamesReply {
            page: Page { total: streams.len(), offset, limit: NAMES_MAX },
            streams: streams
                .iter()
                .skip(offset)
                .take(NAMES_MAX)
                .map(|stream| stream.name.to_string())
                .collect(),
        };
        Ok(Some(Response::done(body).encode()))
    }

    pub(super) fn stream_list(&self, account: &Account, request: Request<'_>) -> Answered {
        let said: ListStreams = self.read_optional(request.payload)?;
        let streams = self.filtered(account, &said.subject);
        let offset = usize::try_from(said.offset).unwrap_or(0).min(streams.len());
        let infos = streams.iter().skip(offset).take(LIST_MAX).map(|stream| {
            let machine = stream.lock();
            let mut info = machine.info(request.now);
            // Lists show what is stored, without who shows it.
            info.config = (**machine.config()).clone();
            info
        });
        let body = StreamListReply {
            page: Page { total: streams.len(), offset, limit: LIST_MAX },
            streams: infos.collect(),
            ..StreamListReply::default()
        };
        Ok(Some(Response::done(body).encode()))
    }

    pub(super) fn stream_info(&self, account: &Account, stream: &str, request: Request<'_>) -> Answered {
        let said: StreamInfoRequest = self.read_optional(request.payload)?;
        let found = account.stream(stream)?;
        let (mut info, page) = found.lock().detailed_info(&said, request.now)?;
        info.domain = self.settings().domain.to_string();
        info.cluster =
            Some(ClusterInfo { leader: self.settings().server_name.to_string(), ..ClusterInfo::default() });
        Ok(Some(Response::done(StreamInfoReply { page, info: Some(info) }).encode()))
    }

    pub(super) fn purge_stream(
        &self,
        account: &Account,
        stream: &str,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Answered {
        let said: Purge = self.read_optional(request.payload)?;
        if said.seq > 0 && said.keep > 0 {
            return Err(ErrorCode::BadRequest.into());
        }
        let found = account.stream(stream)?;
        found.lock().request_purge(&said, self.asker(account, request), request.now, out)?;
        self.after(&found);
        Ok(None)
    }

    pub(super) fn get_message(&self, account: &Account, stream: &str, request: Request<'_>) -> Answered {
        if request::is_empty(request.payload) {
            return Err(ErrorCode::BadRequest.into());
        }
        let said: GetMessage = self.read(request.payload)?;
        GetMessage::check(&said)?;
        let found = account.stream(stream)?;
        let message = found.lock().get_message(&said)?;
        Ok(Some(Response::done(MessageGetReply { message: Some(message) }).encode()))
    }

    pub(super) fn delete_message(
        &self,
        account: &Account,
        stream: &str,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Answered {
        if request::is_empty(request.payload) {
            return Err(ErrorCode::BadRequest.into());
        }
        let said: DeleteMessage = self.read(request.payload)?;
        let found = account.stream(stream)?;
        found.lock().request_delete(&said, self.asker(account, request), request.now, out)?;
        self.after(&found);
        Ok(None)
    }
}

/// Limits for consumers may not be lowered below what consumers already say.
fn check_consumer_limits(old: &StreamConfig, new: &StreamConfig, stream: &Stream) -> Result<(), ApiError> {
    let (was, is) = (old.consumer_limits, new.consumer_limits);
    let threshold = is.inactive_threshold > 0 && is.inactive_threshold != was.inactive_threshold;
    let pending = is.max_ack_pending > 0 && is.max_ack_pending != was.max_ack_pending;
    if !threshold && !pending {
        return Ok(());
    }
    let machine = stream.lock();
    let beyond: Vec<&str> = machine
        .consumers
        .by_name()
        .filter(|consumer| {
            is.inactive_threshold > 0 && consumer.config.inactive_threshold > is.inactive_threshold
                || is.max_ack_pending > 0 && consumer.config.max_ack_pending > is.max_ack_pending
        })
        .map(|consumer| &*consumer.name)
        .collect();
    match beyond.is_empty() {
        true => Ok(()),
        false => Err(ErrorCode::StreamUpdate
            .with(format_args!("change to limits violates consumers: {}", beyond.join(", ")))),
    }
}
