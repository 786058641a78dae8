//! `PING` and `PONG`, in both directions: whether the client is still there, and how far away.
//!
//! A client that talks needs no `PING`, except to measure the round-trip time now and then.

use sonata_proto::encode::{self, ErrorText};

use super::Client;
use crate::close::CloseReason;
use crate::shared::Level;
use crate::worker::Worker;

/// The first `PING` to a client comes after this, plus up to a fifth, unless the interval is shorter.
const FIRST_PING_NS: u64 = 2_000_000_000;
/// A round-trip time older than this is measured again.
const RTT_AGE_MAX_NS: u64 = 3_600_000_000_000;

/// Where the exchange stands. All times are those of the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ping {
    /// When to look whether a `PING` is needed.
    pub(super) due_ns: u64,
    /// When the last one went out.
    sent_ns: Option<u64>,
    /// Sent since the last `PONG`.
    unanswered: u32,
    /// When the client last sent something other than `PONG`.
    pub(super) last_input_ns: u64,
    /// When the `PING` went out that measured the round-trip time.
    rtt_measured_ns: Option<u64>,
}

impl Ping {
    /// None was sent yet; the first is due after a whole interval, or earlier once `CONNECT` is there.
    pub(super) fn new(now_ns: u64, interval_ns: u64) -> Self {
        Self {
            due_ns: now_ns + interval_ns,
            sent_ns: None,
            unanswered: 0,
            last_input_ns: now_ns,
            rtt_measured_ns: None,
        }
    }
}

impl Client {
    /// Has the first `PING` follow on a `CONNECT` soon, not at the same time for all who connect at once.
    pub(super) fn schedule_first_ping(&mut self, worker: &mut Worker) {
        let first = self.settings.ping_interval_ns.min(FIRST_PING_NS);
        self.ping.due_ns = self.now_ns + first + worker.random_below((first / 5).max(1) as usize) as u64;
    }

    pub(super) fn answer_ping(&mut self, worker: &mut Worker) {
        self.send(worker, encode::PONG);
        if !self.connect_received || self.first_pong_sent {
            return;
        }
        self.first_pong_sent = true;
        self.send_connect_info(worker);
    }

    pub(super) fn count_pong(&mut self) {
        self.ping.unanswered = 0;
        if let Some(sent_ns) = self.ping.sent_ns {
            self.ping.rtt_measured_ns = Some(sent_ns);
            self.set_rtt(self.now_ns.saturating_sub(sent_ns));
        }
    }

    pub(super) fn on_ping_timer(&mut self, worker: &mut Worker) {
        let now_ns = self.now_ns;
        let interval = self.settings.ping_interval_ns;
        self.ping.due_ns = now_ns + interval;
        let needs_rtt =
            self.ping.rtt_measured_ns.is_none_or(|measured| now_ns.saturating_sub(measured) > RTT_AGE_MAX_NS);
        if now_ns.saturating_sub(self.ping.last_input_ns) < interval && !needs_rtt {
            self.log(Level::Debug, format_args!("Delaying PING due to remote client data or ping"));
            return;
        }
        if self.ping.unanswered + 1 > self.settings.pings_unanswered_max {
            self.log(Level::Debug, format_args!("Stale Client Connection - Closing"));
            self.shared.counters.stale_connections.add(1);
            return self.fail(&ErrorText::StaleConnection, CloseReason::StaleConnection);
        }
        self.ping.unanswered += 1;
        self.ping.sent_ns = Some(now_ns);
        self.send(worker, encode::PING);
    }

    pub(super) fn set_rtt(&self, rtt_ns: u64) {
        self.connection.set_rtt_ns(rtt_ns.max(1));
    }
}
