//! Mirrors and sources across streams: who is told when an origin has something new, and how it is carried over.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::Node;
use crate::account::Account;
use crate::api::error::{ApiError, ErrorCode};
use crate::config::{StreamConfig, StreamSource};
use crate::outgoing::Publish;
use crate::stream::Stream;

impl Node {
    /// Notes whom a stream follows.
    pub(super) fn note_followed(&self, account: &Account, stream: &Arc<Stream>) {
        let origins = stream.lock().origins();
        let mut followers = account.followers.write();
        for listed in followers.values_mut() {
            listed.retain(|known| known.upgrade().is_some_and(|known| known.lane != stream.lane));
        }
        for origin in &origins {
            followers.entry(origin.clone()).or_default().push(Arc::downgrade(stream));
        }
        followers.retain(|_, listed| !listed.is_empty());
        for stream in account.streams() {
            stream.set_followed(followers.contains_key(&*stream.name));
        }
        drop(followers);
        self.note_direct_mirror(account, stream);
        if !origins.is_empty() {
            self.world.wake(stream);
        }
        // It may be an origin that others have waited for.
        self.wake_followers(stream);
    }

    fn note_direct_mirror(&self, account: &Account, stream: &Arc<Stream>) {
        let config = stream.lock().config().clone();
        let mut mirrors = account.direct_mirrors.write();
        for listed in mirrors.values_mut() {
            listed.retain(|known| known.upgrade().is_some_and(|known| known.lane != stream.lane));
        }
        if let Some(origin) = config.mirror.as_ref().filter(|_| config.mirror_direct) {
            mirrors.entry(origin.name.clone()).or_default().push(Arc::downgrade(stream));
        }
        mirrors.retain(|_, listed| !listed.is_empty());
    }

    /// Who answers a direct get: the stream of that name, or one of the mirrors that answer for it and have nearly all that
    /// it has, each as likely. `None` when there is nobody.
    pub(super) fn direct_stream(&self, account: &Account, name: &str) -> Option<Arc<Stream>> {
        if !account.is_enabled() {
            return None;
        }
        let own = account.stream(name).ok().filter(|stream| stream.lock().config().allow_direct);
        let mirrors = account.direct_mirrors.read().get(name).cloned().unwrap_or_default();
        if mirrors.is_empty() {
            return own;
        }
        let mirrors = mirrors.iter().filter_map(std::sync::Weak::upgrade);
        let ready = mirrors.filter(|mirror| !mirror.is_deleted() && mirror.lock().has_caught_up());
        let mut all: Vec<Arc<Stream>> = own.into_iter().chain(ready).collect();
        if all.is_empty() {
            return None;
        }
        let picked = usize::try_from(self.world.random() % all.len() as u64).unwrap_or(0);
        Some(all.swap_remove(picked))
    }

    /// An origin has something new.
    pub(super) fn wake_followers(&self, origin: &Arc<Stream>) {
        let Some(account) = self.account(origin.account) else { return };
        let followers = account.followers.read().get(&*origin.name).cloned().unwrap_or_default();
        for follower in followers.iter().filter_map(std::sync::Weak::upgrade) {
            self.world.wake(&follower);
        }
    }

    /// Carries over what a stream's origins have for it, one portion of each. True when there is more. No two streams are
    /// locked at the same time.
    pub fn follow(&self, stream: &Arc<Stream>, now: i64, out: &mut dyn Publish) -> bool {
        let wants = stream.lock().wants();
        if wants.is_empty() {
            return false;
        }
        let Some(account) = self.account(stream.account) else { return false };
        let mut more = false;
        for want in wants {
            let portion = account.stream(&want.name).and_then(|origin| {
                origin
                    .lock()
                    .read_for(&want)
                    .map_err(|error| ErrorCode::SourceConsumerSetupFailed.with(error))
            });
            let mut machine = stream.lock();
            match portion {
                Ok(portion) => more |= machine.take(&want, portion, now, out),
                Err(error) => machine.note_origin_error(&want, error),
            }
        }
        more
    }

    /// Whether the streams that a stream follows fit it, as far as they are here, and what it takes over from them.
    pub(super) fn check_origins(
        &self,
        account: &Account,
        config: &mut StreamConfig,
        pedantic: bool,
    ) -> Result<(), ApiError> {
        let found = |source: &StreamSource| match &source.external {
            Some(_) => None,
            None => account.stream(&source.name).ok().map(|stream| stream.lock().config().clone()),
        };
        let fits = |ours: i32, theirs: i32| ours <= 0 || theirs <= 0 || ours >= theirs;
        let mut subjects = Vec::new();
        if let Some(origin) = config.mirror.as_ref().and_then(found) {
            if !fits(config.max_msg_size, origin.max_msg_size) {
                return Err(ErrorCode::MirrorMaxMessageSizeTooBig.into());
            }
            if pedantic && config.mirror_direct != origin.allow_direct {
                let text = "origin stream has direct get set, mirror has it disabled";
                return Err(ErrorCode::Pedantic.with(text));
            }
            config.mirror_direct = origin.allow_direct;
            subjects.extend(origin.subjects.iter().cloned());
        }
        for origin in config.sources.iter().filter_map(found) {
            if !fits(config.max_msg_size, origin.max_msg_size) {
                return Err(ErrorCode::SourceMaxMessageSizeTooBig.into());
            }
            subjects.extend(origin.subjects.iter().cloned());
        }
        for source in config.mirror.iter().chain(&config.sources) {
            source.check_delivery(&subjects)?;
        }
        match takes_from_itself(account, config) {
            true => Err(ErrorCode::StreamInvalidConfig.with("detected cycle")),
            false => Ok(()),
        }
    }
}

/// Whether a stream would take its own messages, through whatever streams of the account.
fn takes_from_itself(account: &Account, config: &StreamConfig) -> bool {
    let mut visited = HashSet::new();
    let mut to_visit = VecDeque::from([Arc::new(config.clone())]);
    while let Some(stream) = to_visit.pop_front() {
        visited.insert(stream.name.clone());
        let takes = |source: &StreamSource| {
            let filter = source.filter_subject.as_bytes();
            let overlaps = |subject: &String| sonata_subject::overlaps(subject.as_bytes(), filter);
            filter.is_empty() || stream.subjects.iter().any(overlaps)
        };
        let sources = stream.sources.iter().map(|source| (source, takes(source)));
        let mirror = stream.mirror.iter().map(|source| (source, true));
        for (source, takes) in sources.chain(mirror).filter(|(source, _)| source.external.is_none()) {
            if visited.contains(&source.name) {
                if takes {
                    return true;
                }
            } else if let Ok(origin) = account.stream(&source.name) {
                to_visit.push_back(origin.lock().config().clone());
            }
        }
    }
    false
}
