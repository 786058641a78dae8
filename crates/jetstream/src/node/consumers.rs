//! Requests about consumers.

use super::{Answered, Node, Request};
use crate::account::Account;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::request::{self, CreateConsumer, ListConsumers, PauseConsumer, ResetConsumer, UnpinConsumer};
use crate::api::response::{
    ConsumerInfoReply, ConsumerListReply, ConsumerNamesReply, LIST_MAX, NAMES_MAX, Page, Response,
};
use crate::api::subject::CreateSubject;
use crate::header::{self, name};
use crate::json;
use crate::outgoing::Publish;

impl Node {
    pub(super) fn create_consumer(
        &self,
        account: &Account,
        subject: CreateSubject<'_>,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Answered {
        let mut said: CreateConsumer = self.read(request.payload)?;
        if said.stream_name != subject.stream() {
            return Err(ErrorCode::StreamMismatch.into());
        }
        if subject.consumer().is_some_and(|name| name.contains(['\\', '/'])) {
            return Err(ErrorCode::ConsumerNameContainsPathSeparators.into());
        }
        let config = &mut said.config;
        match subject {
            CreateSubject::Unnamed { .. } => {
                if config.is_durable() {
                    return Err(ErrorCode::ConsumerEphemeralWithDurableName.into());
                }
            }
            CreateSubject::Durable { consumer, .. } => {
                if !config.is_durable() {
                    return Err(ErrorCode::ConsumerDurableNameNotSet.into());
                }
                if config.durable_name != consumer {
                    return Err(ErrorCode::ConsumerDurableNameNotMatchSubject.into());
                }
                consumer.clone_into(&mut config.name);
            }
            CreateSubject::Named { consumer, filter, .. } => {
                if config.is_durable() && config.durable_name != consumer {
                    return Err(ErrorCode::ConsumerDurableNameNotMatchSubject.into());
                }
                consumer.clone_into(&mut config.name);
                if let Some(filter) = filter {
                    if !config.filter_subjects.is_empty() {
                        return Err(ErrorCode::ConsumerMultipleFiltersNotAllowed.into());
                    }
                    if config.filter_subject != filter {
                        return Err(ErrorCode::ConsumerCreateFilterSubjectMismatch.into());
                    }
                }
            }
        }
        if said.config.num_replicas > 1 {
            return Err(ErrorCode::StreamReplicasNotSupported.into());
        }
        let found = account.stream(subject.stream())?;
        let limits = account.limits(self.limits(), found.lock().config().num_replicas)?;
        let mut asker = self.asker(account, request);
        let mut machine = found.lock();
        if said.config.direct || said.config.sourcing {
            let identity = machine.identity();
            let expected = header::get_str(request.headers, name::STREAM_IDENTITY).unwrap_or_default();
            if !expected.is_empty() && expected != identity {
                return Err(ErrorCode::ConsumerStreamIdentityMismatch.with(identity));
            }
            asker.headers = identity_header(&identity);
            machine.fit_feeding(&mut said.config, request.now, out);
        }
        let made = machine.request_consumer(
            said.config,
            said.action,
            said.pedantic,
            &limits,
            asker,
            request.now,
            out,
        );
        drop(machine);
        self.after(&found);
        made.map(|()| None)
    }

    pub(super) fn consumer_names(&self, account: &Account, stream: &str, request: Request<'_>) -> Answered {
        let said: ListConsumers = self.read_optional(request.payload)?;
        let names = account.stream(stream)?.lock().consumer_names();
        let offset = usize::try_from(said.offset).unwrap_or(0).min(names.len());
        let body = ConsumerNamesReply {
            page: Page { total: names.len(), offset, limit: NAMES_MAX },
            consumers: names.into_iter().skip(offset).take(NAMES_MAX).collect(),
        };
        Ok(Some(Response::done(body).encode()))
    }

    pub(super) fn consumer_list(
        &self,
        account: &Account,
        stream: &str,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Answered {
        let said: ListConsumers = self.read_optional(request.payload)?;
        let found = account.stream(stream)?;
        let mut machine = found.lock();
        let names = machine.consumer_names();
        let offset = usize::try_from(said.offset).unwrap_or(0).min(names.len());
        let page = Page { total: names.len(), offset, limit: LIST_MAX };
        let infos = names.into_iter().skip(offset).take(LIST_MAX).filter_map(|name| {
            let mut info = machine.consumer_info(&name, request.now, out).ok()?;
            // Lists show what is stored, without who shows it.
            info.config = machine.consumers.get(&name).map(|consumer| (*consumer.config).clone());
            Some(info)
        });
        let body = ConsumerListReply { page, consumers: infos.collect(), ..ConsumerListReply::default() };
        Ok(Some(Response::done(body).encode()))
    }

    pub(super) fn consumer_info(
        &self,
        account: &Account,
        stream: &str,
        consumer: &str,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Answered {
        if !request::is_empty(request.payload) {
            return Err(ErrorCode::NotEmptyRequest.into());
        }
        let found = account.stream(stream)?;
        let info = found.lock().consumer_info(consumer, request.now, out)?;
        Ok(Some(Response::done(ConsumerInfoReply { info: Some(info) }).encode()))
    }

    pub(super) fn delete_consumer(
        &self,
        account: &Account,
        stream: &str,
        consumer: &str,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Answered {
        if !request::is_empty(request.payload) {
            return Err(ErrorCode::NotEmptyRequest.into());
        }
        let found = account.stream(stream)?;
        found.lock().delete_consumer(consumer, self.asker(account, request), request.now, out)?;
        self.after(&found);
        Ok(None)
    }

    pub(super) fn pause_consumer(
        &self,
        account: &Account,
        stream: &str,
        consumer: &str,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Answered {
        let said: PauseConsumer = self.read_optional(request.payload)?;
        let found = account.stream(stream)?;
        found.lock().pause_consumer(
            consumer,
            said.pause_until,
            self.asker(account, request),
            request.now,
            out,
        )?;
        self.after(&found);
        Ok(None)
    }

    pub(super) fn unpin_consumer(
        &self,
        account: &Account,
        stream: &str,
        consumer: &str,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Answered {
        if request.payload.trim_ascii().is_empty() {
            return Err(ErrorCode::InvalidJson.with("unexpected end of JSON input"));
        }
        let said: UnpinConsumer = read_loosely(request.payload)?;
        if said.group.is_empty() {
            return Err(ErrorCode::InvalidJson.with("consumer group not specified"));
        }
        let found = account.stream(stream)?;
        let answer = found.lock().unpin_consumer(consumer, &said.group, request.now, out)?;
        self.after(&found);
        Ok(Some(answer))
    }

    pub(super) fn reset_consumer(
        &self,
        account: &Account,
        stream: &str,
        consumer: &str,
        request: Request<'_>,
        out: &mut dyn Publish,
    ) -> Answered {
        let said: ResetConsumer = read_loosely(request.payload)?;
        let found = account.stream(stream)?;
        let mut asker = self.asker(account, request);
        let mut machine = found.lock();
        if header::has(request.headers, name::STREAM_IDENTITY) {
            asker.headers = identity_header(&machine.identity());
        }
        let reset = machine.reset_consumer(consumer, said.seq, asker, request.now, out);
        drop(machine);
        reset?;
        self.after(&found);
        Ok(None)
    }
}

/// Tells which stream of its name has answered.
fn identity_header(identity: &str) -> Box<[u8]> {
    let mut headers = Vec::new();
    header::append(&mut headers, name::STREAM_IDENTITY, identity.as_bytes());
    headers.into()
}

/// Reads a body whose unknown fields never matter, as the reference does for the younger requests.
fn read_loosely<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, ApiError> {
    json::decode(payload, json::Mode::Lenient).map_err(|error| ErrorCode::InvalidJson.with(error))
}
