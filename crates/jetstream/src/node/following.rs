//! Mirrors and sources across streams: who is told when an origin has something new, and how it is carried over.

use std::sync::Arc;

use super::Node;
use crate::account::Account;
use crate::api::error::{ApiError, ErrorCode};
use crate::config::StreamConfig;
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
        if !origins.is_empty() {
            self.world.wake(stream);
        }
        // It may be an origin that others have waited for.
        self.wake_followers(stream);
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

    /// What a new stream takes over from its origin, if that is here, and whether it fits it.
    pub(super) fn inherit(&self, account: &Account, config: &mut StreamConfig) -> Result<(), ApiError> {
        let fits = |ours: i32, theirs: i32| ours < 0 || theirs > 0 && ours >= theirs;
        if let Some(mirror) = &config.mirror
            && let Ok(origin) = account.stream(&mirror.name)
        {
            let origin = origin.lock().config().clone();
            if !fits(config.max_msg_size, origin.max_msg_size) {
                return Err(ErrorCode::MirrorMaxMessageSizeTooBig.into());
            }
            config.mirror_direct = origin.allow_direct;
        }
        for source in &config.sources {
            if let Ok(origin) = account.stream(&source.name) {
                let theirs = origin.lock().config().max_msg_size;
                if !fits(config.max_msg_size, theirs) {
                    return Err(ErrorCode::SourceMaxMessageSizeTooBig.into());
                }
            }
        }
        Ok(())
    }
}
