//! Measuring services: which requests, and what came of them.

use std::sync::Arc;

use crate::account::Account;
use crate::connection::Connection;
use crate::importing::{header, lines};
use crate::links::{Latency, Sampling};
use crate::service::{Outbox, Outgoing};
use crate::shared::Shared;
use crate::worker::Worker;

/// A request that is measured.
#[derive(Debug, Clone)]
pub struct Tracking {
    /// Who asks.
    pub requester: Arc<Connection>,
    /// Whether everything that is known of it is told.
    pub in_full: bool,
    /// When it asked, on the server's clock.
    pub asked_ns: u64,
    /// The headers that asked for the measuring, as name and value.
    pub headers: Vec<(String, String)>,
}

/// What came of a request.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// An answer, at a time, from somebody.
    Answered(u64, Arc<Connection>),
    /// The request had no reply subject.
    BadRequest,
    /// Whoever asked listens no more.
    RequesterGone,
    /// Nobody was there to answer.
    Unavailable,
    /// Nobody answered in time.
    TimedOut,
}

impl Tracking {
    /// Whether a request is measured: by chance, or because its headers ask for it.
    pub(crate) fn of(
        latency: &Latency,
        headers: &[u8],
        requester: &Arc<Connection>,
        in_full: bool,
        asked_ns: u64,
        worker: &mut Worker,
    ) -> Option<Self> {
        let by_chance = match latency.sampling {
            Sampling::Percent(percent) => worker.random_below(100) < usize::from(percent),
            Sampling::Headers => false,
        };
        let headers = if by_chance { Vec::new() } else { asking_headers(headers)? };
        Some(Self { requester: requester.clone(), in_full, asked_ns, headers })
    }

    /// Tells the exporter's account what came of the request.
    pub fn tell(
        &self,
        shared: &Shared,
        exporter: &Arc<Account>,
        latency: &Latency,
        outcome: &Outcome,
        outbox: &mut Outbox,
    ) {
        let Some(introduce) = shared.introduce() else { return };
        if !exporter.interest.has_interest(&latency.subject) && !exporter.imports_services() {
            return;
        }
        let payload = introduce.measured(self, outcome);
        let subject = &*latency.subject;
        let message = Outgoing { route: b"", subject, reply: b"", headers: b"", payload: payload.as_bytes() };
        outbox.push(exporter, &self.requester, message);
    }
}

/// The headers by which tracers (Jaeger, Zipkin's B3, W3C Trace Context) say that a request is to be sampled; `None` if
/// they do not.
fn asking_headers(block: &[u8]) -> Option<Vec<(String, String)>> {
    let value = |name: &str| header(block, name).map(|value| String::from_utf8_lossy(value).into_owned());
    let named = |names: &[&str]| {
        let pairs = names.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?)));
        pairs.collect::<Vec<_>>()
    };
    if block.is_empty() {
        return None;
    }
    if let Some(id) = value("Uber-Trace-Id") {
        let flags = id.split(':').collect::<Vec<_>>();
        let sampled = match flags[..] {
            [_, _, _, flags] if flags.len() <= 2 => {
                u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1)
            }
            _ => false,
        };
        let baggage = lines(block).filter_map(|line| {
            let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
            let is_baggage = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("uberctx-"));
            is_baggage.then(|| (format!("Uberctx-{}", canonical(&name[8..])), value.trim().to_owned()))
        });
        return sampled.then(|| named(&["Uber-Trace-Id"]).into_iter().chain(baggage).collect());
    }
    let b3 = ["X-B3-Sampled", "X-B3-TraceId", "X-B3-ParentSpanId", "X-B3-SpanId"];
    let b3_names = |pairs: Vec<(String, String)>| {
        // As Go spells them.
        pairs.into_iter().map(|(name, value)| (canonical(&name), value)).collect()
    };
    match value("X-B3-Sampled").as_deref() {
        Some("1") => return Some(b3_names(named(&b3))),
        Some("0") => return None,
        _ => {}
    }
    if value("X-B3-TraceId").is_some() {
        return Some(b3_names(named(&b3)));
    }
    if let Some(b3) = value("B3") {
        let tokens: Vec<&str> = b3.split('-').collect();
        let denied = tokens.get(2) == Some(&"0") || tokens == ["0"];
        return (!denied).then(|| named(&["B3"]));
    }
    let context = value("Traceparent")?;
    let sampled = match context.split('-').collect::<Vec<_>>()[..] {
        [_, _, _, flags] if flags.len() == 2 => {
            u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1)
        }
        _ => false,
    };
    sampled.then(|| named(&["Traceparent", "Tracestate"]))
}

/// The first letter of each word large, the others small.
fn canonical(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters.map(|letter| letter.to_ascii_lowercase())).collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_ask_for_a_sample() {
        for (said, expected) in [
            ("", None),
            ("Other: 1", None),
            ("Uber-Trace-Id: 479fefe9525eddb:5adb976bfc1f95c1:479fefe9525eddb:1", Some("Uber-Trace-Id")),
            ("uber-trace-id: a:b:c:1\r\nuberctx-x-y: z", Some("Uber-Trace-Id Uberctx-X-Y")),
            ("Uber-Trace-Id: a:b:c:0\r\nX-B3-Sampled: 1", None),
            ("Uber-Trace-Id: a:b:c:é", None),
            ("X-B3-Sampled: 1", Some("X-B3-Sampled")),
            ("X-B3-Sampled: 0\r\nX-B3-TraceId: a", None),
            ("X-B3-TraceId: a\r\nX-B3-SpanId: b", Some("X-B3-Traceid X-B3-Spanid")),
            ("B3: a-b-1-c", Some("B3")),
            ("B3: a-b-0-c", None),
            ("B3: 0", None),
            ("Traceparent: 00-a-b-01\r\nTracestate: s", Some("Traceparent Tracestate")),
            ("Traceparent: 00-a-b-00", None),
            ("Traceparent: 00-a-b-1", None),
        ] {
            let block = format!("NATS/1.0\r\n{said}\r\n\r\n");
            let names = asking_headers(block.as_bytes())
                .map(|pairs| pairs.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" "));
            assert_eq!(names.as_deref(), expected, "{said:?}");
        }
    }
}
