//! Requests to services of other accounts, and the way of their answers back.
//!
//! A request leaves its account under the subject that the service has in its own, with a reply that means something
//! there ([`crate::responses`]) and with a header that says who asks. Whether anybody got it is known at once, through any
//! number of accounts, so that a requester is told when there are no responders.

use std::sync::Arc;

use crate::account::Account;
use crate::connection::Connection;
use crate::delivery::{Run, Span};
use crate::latency::{Outcome, Tracking};
use crate::links::{Latency, ServiceImport};
use crate::msgtrace::{self, Trace, Tracing};
use crate::responses::RESPONSE_PREFIX;
use crate::route::{ImportLeg, Naming, Route};
use crate::shared::Shared;
use crate::worker::Worker;

/// The header that tells a service who asks.
pub const REQUEST_INFO_HEADER: &str = "Nats-Request-Info";

/// Accounts that a request or an answer may pass through.
const HOPS_MAX: usize = 32;

/// Acknowledgement subjects stay as they are: they mean the same wherever they are seen.
const ACK_PREFIX: &[u8] = b"$JS.ACK.";

/// The imports that a message has come through, the last one first.
pub(crate) struct Path<'a> {
    import: &'a Arc<ServiceImport>,
    before: Option<&'a Path<'a>>,
}

impl Path<'_> {
    fn imports(&self) -> impl Iterator<Item = &Arc<ServiceImport>> {
        std::iter::successors(Some(self), |path| path.before).map(|path| path.import)
    }
}

/// What a service learns of a client that asks.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Who asks.
    pub connection: &'a Connection,
    /// In which account; the server's own connections ask in several.
    pub account: &'a str,
    /// Everything that is known of it, and not only account and round-trip time.
    pub in_full: bool,
    /// From which server it asks.
    pub with_server: bool,
    /// What was said of it before, when the request comes through several accounts, and the account that it comes from
    /// now.
    pub through: Option<(&'a [u8], &'a str)>,
}

/// Says who asks, as the JSON of [`REQUEST_INFO_HEADER`].
pub trait Introduce: Send + Sync {
    /// The JSON; empty to say nothing.
    fn introduce(&self, asking: &Asking<'_>) -> String;

    /// What became of a message that is traced, as the headers and the payload of a message.
    fn traced(&self, trace: &Trace) -> (Vec<u8>, Vec<u8>);

    /// What came of a request that was measured, as the JSON of a metric.
    fn measured(&self, tracking: &Tracking, outcome: &Outcome) -> String;
}

impl Run<'_> {
    /// Asks a service of another account with each message. True when somebody got one.
    pub(crate) fn request(
        &self,
        worker: &mut Worker,
        leg: &ImportLeg,
        spans: &[Span],
        scratch: &[u8],
        tracing: Tracing,
    ) -> bool {
        let import = &leg.import;
        let path = Path { import, before: self.path };
        let repeats = path.imports().skip(1).any(|passed| Arc::ptr_eq(&passed.export, &import.export));
        if repeats || path.imports().count() > HOPS_MAX {
            return false;
        }
        let (spans_before, scratch_before) = worker.spare.pop().unwrap_or_default();
        let (mut kept_spans, mut kept_scratch) = (
            std::mem::replace(&mut worker.spans, spans_before),
            std::mem::replace(&mut worker.scratch, scratch_before),
        );
        let mut delivered = false;
        for span in spans {
            let text = if span.scratch { scratch } else { self.input };
            delivered |= self.ask(worker, (leg, &path), span, text, tracing);
        }
        std::mem::swap(&mut worker.spans, &mut kept_spans);
        std::mem::swap(&mut worker.scratch, &mut kept_scratch);
        worker.spare.push((kept_spans, kept_scratch));
        delivered
    }

    fn ask(
        &self,
        worker: &mut Worker,
        (leg, path): (&ImportLeg, &Path<'_>),
        span: &Span,
        text: &[u8],
        tracing: Tracing,
    ) -> bool {
        let import = &leg.import;
        let tail = &text[span.tail.clone()];
        let (reply, message) =
            (&tail[..span.reply_bytes], &tail[tail.len() - span.message_bytes - 2..tail.len() - 2]);
        let (headers, payload) = message.split_at(span.header_bytes);
        let exporter = &import.exporter;

        let latency = import.export.latency.as_ref();
        let in_full = path.before.map_or(import.share, |before| before.import.share);
        let tracking = latency
            .and_then(|latency| Tracking::of(latency, headers, self.publisher, in_full, self.now_ns, worker));
        worker.scratch.clear();
        let mut number = None;
        if reply.starts_with(ACK_PREFIX) {
            worker.scratch.extend_from_slice(reply);
        } else if !reply.is_empty() {
            number = Some(exporter.responses.expect(
                self.account,
                reply,
                import,
                tracking.clone(),
                self.now_ns,
                &mut worker.scratch,
            ));
        }
        let reply_bytes = worker.scratch.len();
        let info = self.introduction(import, path, headers);
        let mut with_info = set_header(headers, REQUEST_INFO_HEADER, info.as_bytes());
        match (tracing, &worker.msgtrace) {
            (Tracing::GoesOn, Some(trace)) => {
                // What the service traces in its turn comes back to where this trace goes.
                let mut destination = Vec::new();
                let (account, there) = (&trace.account, &trace.destination);
                exporter.responses.expect(account, there, import, None, self.now_ns, &mut destination);
                with_info = set_header(&with_info, msgtrace::DESTINATION, &destination);
            }
            (Tracing::Ends, _) => {
                with_info = set_header(&with_info, msgtrace::DESTINATION, msgtrace::DISABLED.as_bytes());
            }
            _ => {}
        }
        let span = compose(&mut worker.scratch, reply_bytes, &with_info, payload);
        worker.spans.push(span);
        let found = worker.route(self.shared, exporter, &leg.target);
        let delivered = found.is_some_and(|route| {
            Run {
                account: exporter,
                route: &route,
                shown_subject: None,
                input: b"",
                path: Some(path),
                echo: true,
                ..*self
            }
            .deliver(worker)
        });
        worker.spans.clear();
        if let Some(number) = number
            && !delivered
        {
            exporter.responses.forget(number);
        }
        let outcome = match number {
            None => Some(Outcome::BadRequest),
            Some(_) if !delivered => Some(Outcome::Unavailable),
            Some(_) => None,
        };
        if let (Some(tracking), Some(latency), Some(outcome)) = (tracking, latency, outcome) {
            tracking.tell(self.shared, exporter, latency, &outcome, &mut worker.outbox);
        }
        delivered
    }

    fn introduction(&self, import: &ServiceImport, path: &Path<'_>, headers: &[u8]) -> String {
        let Some(introduce) = self.shared.introduce() else { return String::new() };
        let before = path.before.map(|before| before.import);
        let in_full = before.map_or(import.share, |before| before.share);
        let told = header(headers, REQUEST_INFO_HEADER);
        introduce.introduce(&Asking {
            connection: self.publisher,
            account: self.account.name(),
            in_full,
            with_server: !in_full && (import.is_system || (before.is_some() && import.share)),
            through: before.and(told).map(|told| (told, &**self.account.name())),
        })
    }
}

/// An answer on its way back.
pub(crate) struct Answer<'a> {
    pub(crate) shared: &'a Shared,
    /// The account of the service.
    pub(crate) account: &'a Arc<Account>,
    pub(crate) subject: &'a [u8],
    pub(crate) publisher: &'a Arc<Connection>,
    pub(crate) now_ns: u64,
}

impl Answer<'_> {
    /// Whether the subject is that of an answer, at first sight.
    #[inline]
    pub(crate) fn is_one(subject: &[u8]) -> bool {
        subject.starts_with(RESPONSE_PREFIX)
    }

    /// Delivers the message, which `span` tells of in the worker's scratch space, to whoever waits for it. True when
    /// somebody got it.
    pub(crate) fn deliver(&self, worker: &mut Worker, span: &Span) -> bool {
        let (mut account, mut subject) = (self.account.clone(), self.subject.to_vec());
        let mut measured = Vec::new();
        for _ in 0..HOPS_MAX {
            let ends = span.message_bytes == 0;
            let Some(waiting) = account.responses.answer(&subject, ends, self.now_ns) else { return false };
            let exporter = std::mem::replace(&mut account, waiting.requester);
            subject = waiting.reply.into_vec();
            if let (Some(tracking), Some(latency)) =
                (waiting.tracking, waiting.import.export.latency.as_ref())
            {
                measured.push((exporter, tracking, latency.clone()));
            }
            if !Self::is_one(&subject) {
                let delivered = self.deliver_in(worker, &account, &subject, span);
                self.tell(worker, &measured, delivered);
                return delivered;
            }
        }
        false
    }

    fn tell(
        &self,
        worker: &mut Worker,
        measured: &[(Arc<Account>, Box<Tracking>, Latency)],
        delivered: bool,
    ) {
        let outcome = match delivered {
            true => Outcome::Answered(self.now_ns, self.publisher.clone()),
            false => Outcome::RequesterGone,
        };
        for (exporter, tracking, latency) in measured {
            tracking.tell(self.shared, exporter, latency, &outcome, &mut worker.outbox);
        }
    }

    fn deliver_in(&self, worker: &mut Worker, account: &Arc<Account>, subject: &[u8], span: &Span) -> bool {
        let before = worker.batch.out_messages;
        if worker.deliver_once(&self.shared.stamps, account, subject, span) {
            return worker.batch.out_messages > before;
        }
        // Such a subject is used once: its route is not worth remembering.
        let route = Route::build(&self.shared.stamps, account, subject, Naming::AsIs);
        let kept_scratch = worker.scratch.clone();
        worker.spans.push(span.clone());
        let delivered = Run {
            shared: self.shared,
            account,
            route: &route,
            shown_subject: None,
            input: b"",
            publisher: self.publisher,
            path: None,
            echo: true,
            stall_producers: true,
            trace: self.shared.is_tracing(),
            now_ns: self.now_ns,
        }
        .deliver(worker);
        worker.scratch = kept_scratch;
        delivered
    }
}

impl Worker {
    /// The route for a message that was published on `subject`; `None` when a mapping loses it.
    pub(crate) fn route(
        &mut self,
        shared: &Shared,
        account: &Arc<Account>,
        subject: &[u8],
    ) -> Option<Arc<Route>> {
        let (route, cached) = self.routes.find(&shared.stamps, account, subject, Naming::Mapped);
        if cached {
            self.batch.route_hits += 1;
        } else {
            self.batch.route_misses += 1;
        }
        let Some(mapping) = route.picks() else { return Some(route) };
        let random = self.random_below(1 << 30) as u32;
        let subject = mapping.pick(subject, random)?;
        Some(self.routes.find(&shared.stamps, account, &subject, Naming::AsIs).0)
    }
}

/// Appends what receivers get after a reply that stands at the end of `scratch` already.
pub(crate) fn compose(scratch: &mut Vec<u8>, reply_bytes: usize, headers: &[u8], payload: &[u8]) -> Span {
    let start = scratch.len() - reply_bytes;
    if reply_bytes > 0 {
        scratch.push(b' ');
    }
    if !headers.is_empty() {
        push_number(scratch, headers.len());
        scratch.push(b' ');
    }
    push_number(scratch, headers.len() + payload.len());
    scratch.extend_from_slice(b"\r\n");
    scratch.extend_from_slice(headers);
    scratch.extend_from_slice(payload);
    scratch.extend_from_slice(b"\r\n");
    Span {
        tail: start..scratch.len(),
        scratch: true,
        reply_bytes,
        header_bytes: headers.len(),
        message_bytes: headers.len() + payload.len(),
    }
}

pub(crate) fn push_number(out: &mut Vec<u8>, number: usize) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

const HEADER_LINE: &[u8] = b"NATS/1.0\r\n";

/// The lines of a header block behind the first, the empty one left out.
pub(crate) fn lines(headers: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = headers.len().saturating_sub(2);
    let start = headers.windows(2).position(|pair| pair == b"\r\n").map_or(end, |at| (at + 2).min(end));
    headers[start..end].split_inclusive(|byte| *byte == b'\n')
}

fn is_of(line: &[u8], key: &str) -> bool {
    line.len() > key.len()
        && line[key.len()] == b':'
        && line[..key.len()].eq_ignore_ascii_case(key.as_bytes())
}

/// A header's value.
pub(crate) fn header<'a>(headers: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let line = lines(headers).find(|line| is_of(line, key))?;
    Some(line[key.len() + 1..].trim_ascii())
}

/// The header block with a header added, in place of one of that name. Nothing is added without a value.
pub(crate) fn set_header(headers: &[u8], key: &str, value: &[u8]) -> Vec<u8> {
    if value.is_empty() {
        return headers.to_vec();
    }
    let mut block = Vec::with_capacity(headers.len() + key.len() + value.len() + 16);
    let first =
        headers.windows(2).position(|pair| pair == b"\r\n").map_or(HEADER_LINE, |at| &headers[..at + 2]);
    block.extend_from_slice(first);
    lines(headers).filter(|line| !is_of(line, key)).for_each(|line| block.extend_from_slice(line));
    block.extend_from_slice(key.as_bytes());
    block.extend_from_slice(b": ");
    block.extend_from_slice(value);
    block.extend_from_slice(b"\r\n\r\n");
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_set_in_any_block() {
        for (block, expected) in [
            ("", "NATS/1.0\r\nK: v\r\n\r\n"),
            ("NATS/1.0\r\n\r\n", "NATS/1.0\r\nK: v\r\n\r\n"),
            ("NATS/1.0\r\nA: b\r\n\r\n", "NATS/1.0\r\nA: b\r\nK: v\r\n\r\n"),
            ("NATS/1.0\r\nk: old\r\nA: b\r\n\r\n", "NATS/1.0\r\nA: b\r\nK: v\r\n\r\n"),
            ("NATS/1.0 503\r\n\r\n", "NATS/1.0 503\r\nK: v\r\n\r\n"),
            // What clients send is not always a header block.
            ("\r\n", "\r\nK: v\r\n\r\n"),
            ("x", "NATS/1.0\r\nK: v\r\n\r\n"),
        ] {
            let set = set_header(block.as_bytes(), "K", b"v");
            assert_eq!(String::from_utf8_lossy(&set), expected, "{block:?}");
            assert_eq!(header(&set, "k"), Some(&b"v"[..]));
        }
    }
}
