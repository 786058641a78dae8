//! Being delivered to without asking: who listens, heartbeats, flow control.

use super::{Consumer, Scene, Settled};
use crate::ack::ReplyPrefix;
use crate::config::{AckPolicy, ConsumerConfig};
use crate::header::{self, name};
use crate::outgoing::Outgoing;
use crate::status::{self, Status};

/// The largest window of flow control, bytes that may be on their way.
const WINDOW_MAX: usize = 32 * 1024 * 1024;
/// What it begins with.
const WINDOW_START: usize = WINDOW_MAX / 16;

/// What there is of a push consumer besides its state; a pull consumer's stays empty.
#[derive(Debug, Default)]
pub(crate) struct Push {
    active: bool,
    /// None without flow control.
    flow: Option<Flow>,
    /// When a heartbeat is due; None without heartbeats.
    heartbeat_at: Option<i64>,
}

/// Flow control: what is on its way, and the question that waits for an answer.
#[derive(Debug)]
struct Flow {
    window: usize,
    sent: usize,
    /// The subject that the client is to answer on; empty when no question is open.
    question: Vec<u8>,
    /// Bytes that the answer will settle.
    asked: usize,
}

impl Push {
    pub(super) fn new(config: &ConsumerConfig) -> Self {
        let flow = || Flow { window: WINDOW_START, sent: 0, question: Vec::new(), asked: 0 };
        Self { active: false, flow: config.flow_control.then(flow), heartbeat_at: None }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// Too much is on its way.
    pub(super) fn is_stalled(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.sent > flow.window)
    }

    pub(super) fn heartbeat_at(&self) -> Option<i64> {
        self.heartbeat_at.filter(|_| self.active)
    }

    /// A message of so many bytes has gone out.
    pub(super) fn on_sent(
        &mut self,
        scene: &mut Scene<'_>,
        config: &ConsumerConfig,
        name: &str,
        bytes: usize,
        unacknowledged: usize,
    ) {
        if config.idle_heartbeat > 0 {
            self.heartbeat_at = Some(scene.now.saturating_add(config.idle_heartbeat));
        }
        let Some(flow) = &mut self.flow else { return };
        flow.sent += bytes;
        if flow.question.is_empty() {
            let full = config.ack_policy == AckPolicy::FlowControl
                && config.max_ack_pending > 0
                && unacknowledged as i64 >= config.max_ack_pending;
            if flow.sent > flow.window / 2 || full {
                flow.ask(scene, config, name);
            }
        } else if flow.sent.saturating_sub(flow.asked) >= flow.window {
            flow.asked += bytes;
        }
    }
}

impl Flow {
    fn ask(&mut self, scene: &mut Scene<'_>, config: &ConsumerConfig, name: &str) {
        self.question = ReplyPrefix::v1(scene.stream, name).flow_control((scene.random)());
        self.asked = self.sent;
        scene.out.publish(Outgoing {
            route: b"",
            subject: config.deliver_subject.as_bytes(),
            reply: &self.question,
            headers: Status::FlowControl.block(),
            payload: b"",
        });
    }
}

impl Consumer {
    /// Somebody may have begun or ceased to listen. True when there may be something to deliver now.
    pub(crate) fn review_interest(&mut self, scene: &mut Scene<'_>) -> bool {
        if !self.config.is_push() {
            return false;
        }
        let (subject, group) = (self.config.deliver_subject.as_bytes(), self.config.deliver_group.as_bytes());
        let active = scene.interest.has_group_interest(subject, group);
        let was = std::mem::replace(&mut self.push.active, active);
        if was != active {
            self.last_active = scene.now;
            let heartbeat = self.config.idle_heartbeat;
            self.push.heartbeat_at = (heartbeat > 0).then(|| scene.now.saturating_add(heartbeat));
        }
        active && !was
    }

    /// The answer to the question of flow control; with acknowledgements by flow control its headers say how far the client
    /// is.
    pub(crate) fn handle_flow_control(&mut self, scene: &mut Scene<'_>, subject: &[u8], headers: &[u8]) {
        let Some(flow) = &mut self.push.flow else { return };
        if flow.question.is_empty() || flow.question != subject {
            return;
        }
        flow.window = (flow.window * 2).min(WINDOW_MAX);
        flow.sent = flow.sent.saturating_sub(flow.asked);
        flow.asked = 0;
        flow.question.clear();
        if self.config.ack_policy != AckPolicy::FlowControl || headers.is_empty() {
            return;
        }
        let number = |name| header::get_str(headers, name).and_then(|text| text.parse().ok()).unwrap_or(0);
        let (consumer, stream) = (number(name::LAST_CONSUMER), number(name::LAST_STREAM));
        if stream > 0 {
            self.handle_ack(scene, b"", Settled { stream, consumer, count: 1 }, None);
        }
    }

    pub(super) fn send_heartbeat(&mut self, scene: &mut Scene<'_>) {
        let stalled = self.push.flow.as_ref().map(|flow| String::from_utf8_lossy(&flow.question));
        let stalled = stalled.as_deref().filter(|question| !question.is_empty());
        let status = status::heartbeat(self.deliveries, self.next - 1, stalled);
        scene.out.publish(Outgoing::status(self.config.deliver_subject.as_bytes(), &status));
        self.push.heartbeat_at = Some(scene.now.saturating_add(self.config.idle_heartbeat));
        // With acknowledgements by flow control a quiet client must be asked as well.
        if self.config.ack_policy == AckPolicy::FlowControl
            && !self.unacknowledged.is_empty()
            && let Some(flow) = self.push.flow.as_mut().filter(|flow| flow.question.is_empty())
        {
            flow.ask(scene, &self.config, &self.name);
        }
    }
}
