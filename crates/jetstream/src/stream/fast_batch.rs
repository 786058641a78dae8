//! Fast batches: a stream of messages that is acknowledged now and then instead of one by one (ADR-50, since 2.14).
//!
//! Unlike an atomic batch nothing is held back: every message is stored for itself. A batch is an agreement about answers.
//! Its publisher numbers the messages and says in their reply subject what it wants; it is told after every so many stored
//! messages how far they are (*flow*), of numbers that are missing (*gap*), of messages that are refused (*err*), and at
//! the end gets one acknowledgement for all. The server chooses how many, up to what the publisher allows: fewer when many
//! publish at once.

use std::sync::Arc;

use super::admit::{Incoming, Refusal};
use super::batch::{ID_BYTES_MAX, digits, take_required_level};
use super::seats::Seat;
use super::staged::Staged;
use super::{After, Extra, Machine};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::publish::FlowMessage;
use crate::header::{self, name};
use crate::json;
use crate::map::HashMap;
use crate::outgoing::{Outgoing, Publish};

/// Open batches of one stream.
const OPEN_MAX: usize = 1000;

/// Open batches of the server.
const OPEN_IN_SERVER_MAX: usize = 50_000;

/// Messages between two acknowledgements, shared by all batches of the stream.
const FLOW_MAX: u16 = 500;

/// What is meant by a reply subject that says nothing sensible.
const FLOW_DEFAULT: u16 = 10;

/// How a reply subject of a fast batch ends.
const SUFFIX: &[u8] = b".$FI";

/// How reply subjects between accounts begin; the publisher's own is then in a header.
const SERVICE_REPLY: &[u8] = b"_R_.";

/// What a message says of its batch: `<prefix>.<id>.<flow>.<gap mode>.<sequence>.<operation>.$FI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step<'a> {
    id: &'a [u8],
    /// Messages between two acknowledgements at most.
    flow: u16,
    /// Whether the batch goes on when messages are missing or refused.
    gap_ok: bool,
    /// 1 for the first message.
    sequence: u64,
    operation: Operation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Start,
    Append,
    /// The last message.
    Commit,
    /// No message: the one before was the last.
    CommitBefore,
    /// No message: how far is it?
    Ping,
}

/// Not what a reply subject of a fast batch looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidPattern;

impl<'a> Step<'a> {
    /// Reads a reply subject; `None` when it is an ordinary one.
    pub(super) fn parse(reply: &'a [u8]) -> Option<Result<Self, InvalidPattern>> {
        let pattern = reply.strip_suffix(SUFFIX).filter(|pattern| !pattern.is_empty())?;
        Some(Self::read(pattern).ok_or(InvalidPattern))
    }

    fn read(pattern: &'a [u8]) -> Option<Self> {
        let mut parts = pattern.rsplitn(6, |byte| *byte == b'.');
        let operation = match digits(parts.next()?)? {
            0 => Operation::Start,
            1 => Operation::Append,
            2 => Operation::Commit,
            3 => Operation::CommitBefore,
            4 => Operation::Ping,
            _ => return None,
        };
        // The largest number has none after it.
        let sequence = digits(parts.next()?).filter(|sequence| (1..u64::MAX).contains(sequence))?;
        let fits = match operation {
            Operation::Start => sequence == 1,
            Operation::Append | Operation::CommitBefore => sequence > 1,
            Operation::Commit | Operation::Ping => true,
        };
        let gap_ok = match parts.next()? {
            b"ok" => true,
            b"fail" => false,
            _ => return None,
        };
        let flow = match digits(parts.next()?) {
            None | Some(0) => FLOW_DEFAULT,
            Some(flow) => u16::try_from(flow).unwrap_or(u16::MAX),
        };
        let id = parts.next()?;
        let _prefix = parts.next()?;
        fits.then_some(Self { id, flow, gap_ok, sequence, operation })
    }

    fn commits(&self) -> bool {
        matches!(self.operation, Operation::Commit | Operation::CommitBefore)
    }
}

/// The reply subject that the publisher chose, when a message comes from another account; else `None`.
pub(super) fn original_reply(reply: &[u8], headers: &[u8]) -> Option<Vec<u8>> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct RequestInfo {
        reply: String,
    }
    if !reply.starts_with(SERVICE_REPLY) || reply.ends_with(SUFFIX) {
        return None;
    }
    let info = header::get(headers, name::REQUEST_INFO)?;
    let info: RequestInfo = json::decode(info, json::Mode::Lenient).ok()?;
    (!info.reply.is_empty()).then(|| info.reply.into_bytes())
}

/// A message of a batch that is on its way into the log.
#[derive(Debug)]
pub(crate) struct Logged {
    id: Arc<[u8]>,
    /// Within the batch.
    sequence: u64,
    pub(super) reply: Box<[u8]>,
}

/// The open batches of a stream.
#[derive(Debug, Default)]
pub(crate) struct FastBatches {
    open: HashMap<Arc<[u8]>, FastBatch>,
    /// Not later than the first of them is idle for too long; ns since 1970.
    review_at: Option<i64>,
}

/// Numbers of messages are those within the batch: told <= stored <= last.
#[derive(Debug)]
struct FastBatch {
    /// The last message that came.
    last: u64,
    /// The last that is stored.
    stored: u64,
    /// The last that was acknowledged.
    told: u64,
    /// What the last one stored has in the stream.
    stream_sequence: u64,
    /// Messages on their way into the log.
    pending: u64,
    /// Messages until the next acknowledgement; 1 or more.
    flow: u16,
    /// What the publisher allows.
    flow_max: u16,
    gap_ok: bool,
    /// No more messages are taken. When all are stored the end is told here, to the one that asked for it, as it is where
    /// messages are stored at once.
    ending: Option<Box<[u8]>>,
    /// What is said before the end, and with it: another thread may tell the end, which must not come first.
    parting: Vec<FlowMessage>,
    /// When the last message came, ns since 1970.
    touched: i64,
    _seat: Seat,
}

/// What is to be done for a message.
enum Verdict {
    /// All that there was to say has been said.
    Answered,
    /// It is to be stored.
    Store,
}

/// Where the publisher is answered.
struct Answers<'a> {
    /// How acknowledgements begin.
    acknowledgement: &'a [u8],
    reply: &'a [u8],
    out: &'a mut dyn Publish,
}

impl Answers<'_> {
    fn flow(&mut self, message: &FlowMessage) {
        self.text(&json::encode(message));
    }

    fn text(&mut self, text: &[u8]) {
        if !self.reply.is_empty() {
            self.out.publish(Outgoing::plain(self.reply, text));
        }
    }

    /// The batch is over.
    fn done(&mut self, id: &[u8], batch: &FastBatch) {
        batch.parting.iter().for_each(|message| self.flow(message));
        let extra = Extra::Batch { id: String::from_utf8_lossy(id).into(), count: batch.last };
        let mut text = self.acknowledgement.to_vec();
        extra.append(&mut text, batch.stream_sequence, false);
        self.text(&text);
    }
}

impl FastBatch {
    /// Acknowledges when it is time, and adapts to how many share the stream. Whether anything was said.
    fn check_flow(&mut self, open: usize, answers: &mut Answers<'_>) -> bool {
        let flow = u64::from(self.flow);
        if self.stored < self.told + flow {
            return false;
        }
        // Only the last of several acknowledgements is said.
        self.told += (self.stored - self.told) / flow * flow;
        let share = usize::from(FLOW_MAX) / open.max(1);
        let most = u16::try_from(share).unwrap_or(FLOW_MAX).clamp(1, self.flow_max);
        self.flow = match self.flow < most {
            true => self.flow.saturating_mul(2).min(most),
            false => (self.flow / 2).max(most),
        };
        self.tell_flow(answers);
        true
    }

    fn tell_flow(&self, answers: &mut Answers<'_>) {
        answers.flow(&FlowMessage::Ack { seq: self.told, msgs: self.flow });
    }

    /// What was left out counts as stored when nothing is on its way.
    fn catch_up(&mut self) {
        if self.pending == 0 {
            self.stored = self.last;
        }
    }
}

impl FastBatches {
    /// When [`FastBatches::expire`] has something to do, ns since 1970.
    pub(super) fn next_review(&self) -> Option<i64> {
        self.review_at
    }

    /// Gives up batches whose publishers have gone quiet.
    pub(super) fn expire(&mut self, idle_max: i64, now: i64) {
        if self.review_at.is_none_or(|review_at| review_at > now) {
            return;
        }
        let since = now.saturating_sub(idle_max);
        // One that is ending goes when its last message is stored.
        self.open.retain(|_, batch| batch.touched > since || batch.ending.is_some() && batch.pending > 0);
        let touched = self.open.values().map(|batch| batch.touched).min();
        self.review_at = touched.map(|touched| touched.max(since + 1).saturating_add(idle_max));
    }

    /// Gives up all of them.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Ends a batch as soon as all its messages are stored, with what there is to say of the one that ends it.
    fn end(&mut self, id: &[u8], parting: Option<FlowMessage>, answers: &mut Answers<'_>) {
        let Some(batch) = self.open.get_mut(id) else { return };
        batch.ending = Some(answers.reply.into());
        batch.parting.extend(parting);
        if batch.last == batch.stored {
            answers.done(id, batch);
            self.open.remove(id);
        }
    }

    fn ping(&mut self, step: &Step<'_>, answers: &mut Answers<'_>) {
        let open = self.open.len();
        let Some(batch) = self.open.get_mut(step.id) else { return };
        if step.sequence > batch.last {
            let gap = FlowMessage::Gap { last_seq: batch.last + 1, seq: step.sequence + 1 };
            if !batch.gap_ok {
                self.end(step.id, Some(gap), answers);
            } else {
                answers.flow(&gap);
                batch.last = step.sequence;
                batch.catch_up();
                if batch.check_flow(open, answers) {
                    return;
                }
            }
        }
        if let Some(batch) = self.open.get(step.id) {
            batch.tell_flow(answers);
        }
    }

    /// Whether a message is the next one of its batch, and what its end means.
    fn advance(&mut self, step: &Step<'_>, answers: &mut Answers<'_>) -> Verdict {
        let Some(batch) = self.open.get_mut(step.id) else { return Verdict::Answered };
        if batch.ending.is_some() {
            // Its publisher waits for the end and will hear of it.
            return Verdict::Answered;
        }
        let expected = batch.last + 1;
        let gap = (step.sequence != expected)
            .then_some(FlowMessage::Gap { last_seq: expected, seq: step.sequence });
        if step.sequence < expected || step.sequence > expected && !batch.gap_ok {
            self.end(step.id, gap, answers);
            return Verdict::Answered;
        }
        match step.operation {
            Operation::CommitBefore => {
                batch.last = step.sequence - 1;
                batch.catch_up();
                self.end(step.id, gap, answers);
                return Verdict::Answered;
            }
            Operation::Commit => {
                batch.ending = Some(answers.reply.into());
                batch.parting.extend(gap);
            }
            Operation::Start | Operation::Append | Operation::Ping => {
                gap.iter().for_each(|gap| answers.flow(gap));
            }
        }
        batch.last = step.sequence;
        if step.sequence == 1 && !step.commits() {
            answers.flow(&FlowMessage::Ack { seq: 0, msgs: batch.flow });
        }
        Verdict::Store
    }

    /// A message is not stored: it is a duplicate, or there is an error.
    fn refuse(&mut self, step: &Step<'_>, error: Option<ApiError>, answers: &mut Answers<'_>) {
        let open = self.open.len();
        let Some(batch) = self.open.get_mut(step.id) else { return };
        let Some(error) = error else {
            if batch.pending == 0 {
                batch.stored = step.sequence;
                batch.check_flow(open, answers);
            }
            if step.commits() {
                self.end(step.id, None, answers);
            }
            return;
        };
        let error = FlowMessage::Err { seq: step.sequence, error };
        if batch.gap_ok && !step.commits() {
            return answers.flow(&error);
        }
        batch.last -= 1;
        batch.catch_up();
        self.end(step.id, Some(error), answers);
    }

    /// A message is stored.
    fn on_stored(&mut self, logged: &Logged, stream_sequence: u64, answers: &mut Answers<'_>) {
        let open = self.open.len();
        let Some(batch) = self.open.get_mut(&logged.id) else { return };
        batch.pending = batch.pending.saturating_sub(1);
        batch.stream_sequence = stream_sequence;
        batch.stored = logged.sequence;
        batch.catch_up();
        match &batch.ending {
            Some(reply) if batch.last == batch.stored => {
                let acknowledgement = answers.acknowledgement;
                let mut answers = Answers { acknowledgement, reply, out: &mut *answers.out };
                answers.done(&logged.id, batch);
                self.open.remove(&logged.id);
            }
            _ => drop(batch.check_flow(open, answers)),
        }
    }
}

impl Machine {
    /// Takes a message of a fast batch.
    pub(super) fn receive_fast(
        &mut self,
        step: Result<Step<'_>, InvalidPattern>,
        incoming: &Incoming<'_>,
        reply: &[u8],
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), Refusal> {
        self.check_open()?;
        self.check_usage(incoming)?;
        self.check_message_size(incoming.headers, incoming.payload)?;
        if !self.config.allow_batched {
            return Err(ErrorCode::BatchPublishDisabled.into());
        }
        let step = step.map_err(|InvalidPattern| ErrorCode::BatchPublishInvalidPattern)?;
        if step.id.len() > ID_BYTES_MAX {
            return Err(ErrorCode::BatchPublishInvalidBatchId.into());
        }
        self.open_fast_batch(&step, now)?;
        let mut headers = incoming.headers.to_vec();
        if let Err(error) = take_required_level(&mut headers) {
            self.fast_batches.open.remove(step.id);
            return Err(error.into());
        }
        let mut answers = Answers { acknowledgement: &self.acknowledgement, reply, out };
        if step.operation == Operation::Ping {
            self.fast_batches.ping(&step, &mut answers);
            return Ok(());
        }
        match self.fast_batches.advance(&step, &mut answers) {
            Verdict::Answered => Ok(()),
            Verdict::Store => self.store_fast(&step, incoming, &headers, reply, now, out),
        }
    }

    /// Sees to it that the message's batch is open: the first message opens it.
    fn open_fast_batch(&mut self, step: &Step<'_>, now: i64) -> Result<(), ErrorCode> {
        let batches = &mut self.fast_batches;
        if let Some(batch) = batches.open.get_mut(step.id) {
            batch.touched = now;
            return Ok(());
        }
        if step.sequence != 1 || step.operation == Operation::Ping {
            return Err(ErrorCode::BatchPublishUnknownBatchId);
        }
        let limits = self.usage.batches.limits();
        let is_full = batches.open.len() >= limits.per_stream(OPEN_MAX);
        let most = limits.in_total(OPEN_IN_SERVER_MAX);
        let seat = if is_full { None } else { self.usage.batches.fast.take(most) };
        let seat = seat.ok_or(ErrorCode::BatchPublishTooManyInflight)?;
        // Beside others it begins slowly.
        let flow = if batches.open.is_empty() { FLOW_MAX.min(step.flow) } else { 1 };
        let batch = FastBatch {
            last: 0,
            stored: 0,
            told: 0,
            stream_sequence: 0,
            pending: 0,
            flow,
            flow_max: step.flow,
            gap_ok: step.gap_ok,
            ending: None,
            parting: Vec::new(),
            touched: now,
            _seat: seat,
        };
        batches.open.insert(step.id.into(), batch);
        // Somebody must set the timer.
        self.wants_turn |= batches.review_at.is_none();
        batches.review_at.get_or_insert(now.saturating_add(limits.idle()));
        Ok(())
    }

    fn store_fast(
        &mut self,
        step: &Step<'_>,
        incoming: &Incoming<'_>,
        headers: &[u8],
        reply: &[u8],
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), Refusal> {
        let stored = self.try_store_fast(step, incoming, headers, reply, now, out);
        let Err(refusal) = stored else { return Ok(()) };
        let is_first =
            self.fast_batches.open.get(step.id).is_some_and(|batch| !batch.gap_ok && batch.last == 1);
        let goes_on = matches!(refusal, Refusal::Duplicate(..)) && !step.commits();
        if is_first && !goes_on {
            // A batch that fails at once is answered like a single message.
            self.fast_batches.open.remove(step.id);
            let id = String::from_utf8_lossy(step.id).into();
            return Err(match refusal {
                Refusal::Duplicate(sequence, _) => {
                    Refusal::Duplicate(sequence, Extra::Batch { id, count: step.sequence })
                }
                other => other,
            });
        }
        let error = match refusal {
            Refusal::Error(error) => Some(error),
            Refusal::Duplicate(..) | Refusal::Silence => None,
        };
        let mut answers = Answers { acknowledgement: &self.acknowledgement, reply, out };
        self.fast_batches.refuse(step, error, &mut answers);
        Ok(())
    }

    fn try_store_fast(
        &mut self,
        step: &Step<'_>,
        incoming: &Incoming<'_>,
        headers: &[u8],
        reply: &[u8],
        now: i64,
        out: &mut dyn Publish,
    ) -> Result<(), Refusal> {
        let transformed = self.transform.as_ref().and_then(|it| it.apply(incoming.subject, now as u32));
        let subject = transformed.as_deref().unwrap_or(incoming.subject);
        let mut staged = Staged::default();
        let terms = self.judge(&mut staged, subject, headers, incoming.payload, now)?;
        self.check_last_message_id(headers)?;
        let Some((id, _)) = self.fast_batches.open.get_key_value(step.id) else { return Ok(()) };
        let logged = Logged { id: id.clone(), sequence: step.sequence, reply: reply.into() };
        self.fast_pending(step.id, 1);
        let admission = super::admit::Admission { subject, headers, payload: incoming.payload, terms };
        let put = self.put(admission, After::Fast(Box::new(logged)), now, out);
        if put.is_err() {
            self.fast_pending(step.id, -1);
        }
        Ok(put?)
    }

    fn fast_pending(&mut self, id: &[u8], change: i64) {
        if let Some(batch) = self.fast_batches.open.get_mut(id) {
            batch.pending = batch.pending.saturating_add_signed(change);
        }
    }

    /// A message of a fast batch is applied.
    pub(super) fn finish_fast(&mut self, logged: &Logged, stream_sequence: u64, out: &mut dyn Publish) {
        let mut answers = Answers { acknowledgement: &self.acknowledgement, reply: &logged.reply, out };
        self.fast_batches.on_stored(logged, stream_sequence, &mut answers);
    }

    /// The log does not have a message of a fast batch, and never will.
    pub(super) fn refuse_fast(&mut self, logged: &Logged, error: &ApiError, out: &mut dyn Publish) {
        let mut answers = Answers { acknowledgement: &self.acknowledgement, reply: &logged.reply, out };
        answers.flow(&FlowMessage::Err { seq: logged.sequence, error: error.clone() });
        // What its publisher sends next is answered as unknown: it has to begin anew.
        self.fast_batches.open.remove(&logged.id);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reply_subjects_are_read() {
        let step = |flow, gap_ok, sequence, operation| {
            Some(Ok(Step { id: b"id", flow, gap_ok, sequence, operation }))
        };
        for (reply, read) in [
            ("_INBOX.id.20.ok.1.0.$FI", step(20, true, 1, Operation::Start)),
            ("a.b.c.id.0.fail.2.1.$FI", step(10, false, 2, Operation::Append)),
            ("p.id.x.fail.1.2.$FI", step(10, false, 1, Operation::Commit)),
            ("p.id.70000.ok.9.3.$FI", step(u16::MAX, true, 9, Operation::CommitBefore)),
            ("p.id.1.ok.5.4.$FI", step(1, true, 5, Operation::Ping)),
            ("_INBOX.id", None),
            (".$FI", None),
            ("p.id.1.ok.2.0.$FI", Some(Err(InvalidPattern))),
            ("p.id.1.ok.1.1.$FI", Some(Err(InvalidPattern))),
            ("p.id.1.ok.1.3.$FI", Some(Err(InvalidPattern))),
            ("p.id.1.ok.0.4.$FI", Some(Err(InvalidPattern))),
            ("p.id.1.ok.18446744073709551615.4.$FI", Some(Err(InvalidPattern))),
            ("p.id.1.maybe.1.0.$FI", Some(Err(InvalidPattern))),
            ("p.id.1.ok.1.5.$FI", Some(Err(InvalidPattern))),
            ("p.id.1.ok.1.+1.$FI", Some(Err(InvalidPattern))),
            ("id.1.ok.1.0.$FI", Some(Err(InvalidPattern))),
            ("0.$FI", Some(Err(InvalidPattern))),
        ] {
            assert_eq!(Step::parse(reply.as_bytes()), read, "{reply}");
        }
    }

    #[test]
    fn a_reply_between_accounts_is_in_a_header() {
        let headers =
            b"NATS/1.0\r\nNats-Request-Info: {\"acc\":\"A\",\"reply\":\"p.id.1.ok.1.0.$FI\"}\r\n\r\n";
        assert_eq!(original_reply(b"_R_.abc", headers).as_deref(), Some(&b"p.id.1.ok.1.0.$FI"[..]));
        assert_eq!(original_reply(b"_INBOX.abc", headers), None);
        assert_eq!(original_reply(b"_R_.abc", b""), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(reply in "[a-z0-4.]{0,30}(\\.\\$FI)?") {
            let _ = Step::parse(reply.as_bytes());
        }
    }
}
