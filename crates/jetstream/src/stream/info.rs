//! What a stream says of itself.

use std::collections::BTreeMap;

use sonata_store::Filter;

use super::Machine;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::request::StreamInfoRequest;
use crate::api::response::{
    ConsumerInfo, LostMessages, Page, SUBJECTS_MAX, StreamAlternate, StreamInfo, StreamState,
};
use crate::outgoing::Publish;
use crate::timestamp::Timestamp;

/// Lost sequences that are listed; how many there are is not said otherwise, so it is enough for any damage but of whole
/// files, whose sequences are in the log.
const LOST_LISTED_MAX: usize = 4096;

impl Machine {
    /// What the stream holds.
    pub fn state(&self) -> StreamState {
        let state = self.store.state();
        let time = |time: i64| if time == 0 { Timestamp::ZERO } else { Timestamp(time) };
        StreamState {
            messages: state.messages,
            bytes: state.bytes,
            first_seq: if state.last_sequence == 0 { 0 } else { state.first_sequence },
            first_ts: time(state.first_timestamp),
            last_seq: state.last_sequence,
            last_ts: time(state.last_timestamp),
            num_subjects: state.subjects,
            subjects: BTreeMap::new(),
            num_deleted: state.deleted,
            deleted: Vec::new(),
            lost: (state.lost.messages > 0).then(|| LostMessages {
                msgs: self.store.lost_sequences().take(LOST_LISTED_MAX).collect(),
                bytes: state.lost.bytes,
            }),
            consumer_count: self.consumers.shown_count() as u64,
        }
    }

    /// What the API shows of the stream.
    pub fn info(&self, now: i64) -> StreamInfo {
        StreamInfo {
            config: self.config.shown(),
            created: Timestamp(self.created),
            state: self.state(),
            domain: String::new(),
            cluster: None,
            mirror: self.mirror_info(now),
            sources: self.source_infos(now),
            alternates: Vec::<StreamAlternate>::new(),
            ts: Timestamp(now),
        }
    }

    /// The same with the details that a request asks for.
    ///
    /// # Errors
    /// When there are more subjects than a reply may hold.
    pub fn detailed_info(
        &mut self,
        request: &StreamInfoRequest,
        now: i64,
    ) -> Result<(StreamInfo, Page), ApiError> {
        let mut info = self.info(now);
        let mut page = Page::default();
        if request.deleted_details {
            info.state.deleted = self.store.deleted().flatten().collect();
        }
        if !request.subjects_filter.is_empty() {
            let filter = Filter::new([request.subjects_filter.as_bytes()]);
            let offset = usize::try_from(request.offset).unwrap_or(0);
            let (subjects, total) = self.store.subjects(&filter, offset, SUBJECTS_MAX);
            page = Page { total, offset, limit: if total > 0 { SUBJECTS_MAX } else { 0 } };
            info.state.subjects = subjects
                .into_iter()
                .map(|(subject, count)| (String::from_utf8_lossy(&subject).into_owned(), count))
                .collect();
        }
        Ok((info, page))
    }

    /// What the API shows of a consumer.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn consumer_info(
        &mut self,
        name: &str,
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<ConsumerInfo, ApiError> {
        let mut info = self.stored_consumer_info(name, now, out).ok_or(ErrorCode::ConsumerNotFound)?;
        info.config = info.config.map(|config| config.shown());
        Ok(info)
    }

    /// The same with the configuration as it is stored; `None` when there is no consumer of that name.
    pub fn stored_consumer_info(
        &mut self,
        name: &str,
        now: i64,
        out: &mut dyn Publish,
    ) -> Option<ConsumerInfo> {
        self.with_consumer(name, now, out, |consumer, scene| consumer.info(scene))
    }

    /// Names of the servers' own consumers, sorted.
    pub fn direct_consumer_names(&self) -> Vec<String> {
        let direct = self.consumers.by_name().filter(|consumer| consumer.config.direct);
        direct.map(|consumer| consumer.name.to_string()).collect()
    }

    /// Messages that were stored and can no longer be read, and their bytes.
    pub fn lost(&self) -> (u64, u64) {
        let lost = self.store.state().lost;
        (lost.messages, lost.bytes)
    }

    /// Names of the consumers, sorted; without those of the servers' own.
    pub fn consumer_names(&self) -> Vec<String> {
        let shown = self.consumers.by_name().filter(|consumer| !consumer.config.direct);
        shown.map(|consumer| consumer.name.to_string()).collect()
    }
}
