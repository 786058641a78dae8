//! What the candidate must reach against the reference, as data.
//!
//! The numbers come from the prototype's measurements, with an allowance for what it did not do.

use std::fmt;
use std::ops::Range;

use crate::jetstream::shape::{Delivery, Ending, JetStreamShape, Storage};
use crate::metric::Metric;
use crate::shape::{Case, Shape, Sync};

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Target {
    shapes: &'static [Shape],
    sizes: Range<usize>,
    /// `None` for both encrypted and plain traffic.
    tls: Option<bool>,
    /// `None` for both pinned and free runs.
    pinned: Option<bool>,
    /// `None` for whatever an acknowledgement promises.
    sync: Option<Sync>,
    /// What is limited.
    pub metric: Metric,
    /// How.
    pub limit: Limit,
    /// A missed hint is shown and is not a failure: the figure is too noisy on a busy machine.
    pub hint: bool,
}

/// A bound on a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Candidate divided by reference is at most this.
    RatioMax(f64),
    /// Candidate divided by reference is at least this.
    RatioMin(f64),
    /// The candidate's value is at most this.
    ValueMax(f64),
    /// The candidate's value is at least this.
    ValueMin(f64),
}

impl Limit {
    fn holds(self, value: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::RatioMax(limit) => ratio.map(|ratio| ratio <= limit),
            Self::RatioMin(limit) => ratio.map(|ratio| ratio >= limit),
            Self::ValueMax(limit) => Some(value <= limit),
            Self::ValueMin(limit) => Some(value >= limit),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioMax(limit) => write!(f, "A/B <= {limit:.2}"),
            Self::RatioMin(limit) => write!(f, "A/B >= {limit:.2}"),
            Self::ValueMax(limit) if *limit < 1.0 => write!(f, "A <= {limit:.2}"),
            Self::ValueMax(limit) => write!(f, "A <= {limit:.0}"),
            Self::ValueMin(limit) => write!(f, "A >= {limit:.2}"),
        }
    }
}

/// How a figure stands to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is reached.
    Met,
    /// It is missed, but the generator was the limit: the true ratio is higher.
    ClientBound,
    /// A hint is missed.
    Noted,
    /// It is missed.
    Missed,
}

impl Verdict {
    /// In tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::ClientBound => "client bound",
            Self::Noted => "noted",
            Self::Missed => "MISSED",
        }
    }
}

const PAIRED: &[Shape] = &[Shape::OneToOne, Shape::OneToEight, Shape::EightToEight];
const FLOWS: &[Shape] = &[
    Shape::Publish,
    Shape::OneToOne,
    Shape::OneToEight,
    Shape::EightToEight,
    Shape::Queue,
    Shape::Wildcard,
    Shape::IdleSubscriptions,
    Shape::Accounts,
];

/// Through what accounts share.
const SHARED: &[Shape] = &[Shape::Mapping, Shape::Imports];

const fn published(storage: Storage, in_flight: usize, connections: usize) -> Shape {
    Shape::JetStream(JetStreamShape::Publish { storage, in_flight, connections })
}

const fn many(in_flight: usize) -> Shape {
    Shape::JetStream(JetStreamShape::PublishMany { in_flight })
}

const fn consumed(delivery: Delivery, explicit_ack: bool) -> Shape {
    Shape::JetStream(JetStreamShape::Consume { delivery, explicit_ack })
}

const fn put(in_flight: usize) -> Shape {
    Shape::JetStream(JetStreamShape::Put { in_flight })
}

const fn get(in_flight: usize) -> Shape {
    Shape::JetStream(JetStreamShape::Get { in_flight })
}

const FILE_WINDOWED: &[Shape] =
    &[published(Storage::File, 256, 1), published(Storage::File, 1000, 1), many(256), many(1000)];
const FILE_WAITING: &[Shape] = &[published(Storage::File, 1, 1), many(1)];
const FILE_SHARED: &[Shape] = &[published(Storage::File, 1, 64)];
const MEMORY_WINDOWED: &[Shape] = &[published(Storage::Memory, 256, 1), published(Storage::Memory, 1000, 1)];
const MEMORY_WAITING: &[Shape] = &[published(Storage::Memory, 1, 1)];
const MANY_WINDOWED: &[Shape] = &[many(256), many(1000)];
const CONSUMED: &[Shape] = &[
    consumed(Delivery::Fetch, true),
    consumed(Delivery::Fetch, false),
    consumed(Delivery::Push, true),
    consumed(Delivery::Push, false),
    consumed(Delivery::Ordered, false),
    Shape::JetStream(JetStreamShape::Watch),
];
const PUTS: &[Shape] = &[put(1), put(256)];
const PUT_WAITING: &[Shape] = &[put(1)];
const PUT_WINDOWED: &[Shape] = &[put(256)];
const GETS: &[Shape] = &[get(1), get(256)];
const CLEAN_RESTART: &[Shape] = &[Shape::JetStream(JetStreamShape::Restart(Ending::Clean))];
const KILLED_RESTART: &[Shape] = &[Shape::JetStream(JetStreamShape::Restart(Ending::Killed))];
const MANY_SUBJECTS: &[Shape] = &[Shape::JetStream(JetStreamShape::Subjects)];
const MANY_DURABLES: &[Shape] = &[Shape::JetStream(JetStreamShape::Durables)];

const TO_16: Range<usize> = 0..17;
const TO_128: Range<usize> = 17..129;
const SMALL: Range<usize> = 0..129;
const TO_1_KIB: Range<usize> = 129..1025;
const TO_8_KIB: Range<usize> = 1025..8193;
const ABOVE_8_KIB: Range<usize> = 8193..usize::MAX;
const ANY: Range<usize> = 0..usize::MAX;

/// Every target, in the order of reports.
pub fn targets() -> Vec<Target> {
    use Limit::{RatioMax, RatioMin, ValueMax};
    use Metric as M;
    let plain = |shapes, sizes, metric, limit| Target {
        shapes,
        sizes,
        tls: Some(false),
        pinned: None,
        sync: None,
        metric,
        limit,
        hint: false,
    };
    let when = |pinned, target| Target { pinned: Some(pinned), ..target };
    let encrypted = |target| Target { tls: Some(true), ..target };
    let hint = |target| Target { hint: true, ..target };
    const REQUESTS: &[Shape] = &[Shape::RequestReply];
    const CHURN: &[Shape] = &[Shape::Churn];
    let mut targets = vec![
        plain(PAIRED, TO_16, M::CpuPerIn, RatioMax(0.15)),
        plain(PAIRED, TO_128, M::CpuPerIn, RatioMax(0.25)),
        plain(&[Shape::Publish], SMALL, M::CpuPerIn, RatioMax(0.20)),
        plain(&[Shape::Queue, Shape::IdleSubscriptions], SMALL, M::CpuPerIn, RatioMax(0.25)),
        plain(FLOWS, TO_1_KIB, M::CpuPerIn, RatioMax(0.55)),
        plain(SHARED, ANY, M::CpuPerIn, RatioMax(0.4)),
        plain(FLOWS, TO_8_KIB, M::CpuPerIn, RatioMax(0.95)),
        plain(FLOWS, ABOVE_8_KIB, M::CpuPerIn, RatioMax(0.85)),
        plain(FLOWS, SMALL, M::MessagesIn, RatioMin(4.0)),
        plain(FLOWS, TO_1_KIB, M::MessagesIn, RatioMin(1.5)),
        plain(FLOWS, ANY, M::MessagesIn, RatioMin(1.0)),
        plain(CHURN, ANY, M::MessagesIn, RatioMin(1.0)),
        plain(CHURN, ANY, M::Requests, RatioMin(1.0)),
        plain(&[Shape::SlowReader], ANY, M::MessagesIn, RatioMin(1.0)),
        when(true, plain(REQUESTS, ANY, M::LatencyP50, RatioMax(0.85))),
        when(false, plain(REQUESTS, ANY, M::LatencyP50, RatioMax(0.65))),
        when(false, hint(plain(REQUESTS, ANY, M::LatencyP99, RatioMax(0.80)))),
        when(true, plain(REQUESTS, ANY, M::CpuPerRequest, RatioMax(0.75))),
        when(false, plain(REQUESTS, ANY, M::CpuPerRequest, RatioMax(0.50))),
        hint(plain(&[Shape::Paced], ANY, M::LatencyP99, RatioMax(1.0))),
        plain(&[Shape::Start], ANY, M::ResidentAtStart, ValueMax(10.0)),
        plain(&[Shape::Start], ANY, M::ResidentAtStart, RatioMax(0.4)),
        plain(&[Shape::Idle], ANY, M::ResidentPerConnection, ValueMax(4096.0)),
        plain(&[Shape::Idle], ANY, M::ResidentPerConnection, RatioMax(0.1)),
        plain(&[Shape::Subscriptions], ANY, M::ResidentPerSubscription, RatioMax(0.5)),
        encrypted(plain(FLOWS, ANY, M::CpuPerIn, RatioMax(1.0))),
        encrypted(plain(FLOWS, ANY, M::MessagesIn, RatioMin(1.0))),
        encrypted(plain(REQUESTS, ANY, M::LatencyP50, RatioMax(1.0))),
    ];
    targets.extend(jetstream_targets(plain));
    targets
}

/// Those of JetStream; `plain` makes a target of shapes, sizes, metric and limit.
fn jetstream_targets(plain: impl Fn(&'static [Shape], Range<usize>, Metric, Limit) -> Target) -> Vec<Target> {
    use Limit::{RatioMax, RatioMin, ValueMax, ValueMin};
    use Metric as M;
    let when = |sync, target| Target { sync: Some(sync), ..target };
    let default = |target| when(Sync::Default, target);
    let always = |target| when(Sync::Always, target);
    let lazy = |target| when(Sync::Lazy, target);
    vec![
        default(plain(FILE_WINDOWED, SMALL, M::MessagesIn, RatioMin(2.0))),
        default(plain(FILE_WINDOWED, TO_1_KIB, M::MessagesIn, RatioMin(1.2))),
        default(plain(FILE_SHARED, ANY, M::MessagesIn, RatioMin(0.9))),
        default(plain(FILE_WAITING, ANY, M::MessagesIn, RatioMin(0.2))),
        always(plain(FILE_WINDOWED, ANY, M::MessagesIn, RatioMin(50.0))),
        always(plain(FILE_WAITING, ANY, M::MessagesIn, RatioMin(1.5))),
        lazy(plain(FILE_WINDOWED, ANY, M::MessagesIn, RatioMin(3.0))),
        lazy(plain(FILE_WAITING, ANY, M::MessagesIn, RatioMin(2.0))),
        plain(MEMORY_WINDOWED, ANY, M::MessagesIn, RatioMin(3.0)),
        plain(MEMORY_WAITING, ANY, M::MessagesIn, RatioMin(2.0)),
        plain(FILE_WINDOWED, ANY, M::CpuPerIn, RatioMax(0.3)),
        plain(MEMORY_WINDOWED, ANY, M::CpuPerIn, RatioMax(0.3)),
        // The two rates are a second apart: on a shared machine equal ones differ by this much.
        plain(MANY_WINDOWED, ANY, M::ManyStreamsShare, ValueMin(0.85)),
        plain(CONSUMED, ANY, M::MessagesOut, RatioMin(2.0)),
        plain(CONSUMED, ANY, M::CpuPerOut, RatioMax(0.4)),
        default(plain(PUT_WINDOWED, ANY, M::MessagesIn, RatioMin(2.0))),
        default(plain(PUT_WAITING, ANY, M::MessagesIn, RatioMin(0.2))),
        lazy(plain(PUTS, ANY, M::MessagesIn, RatioMin(2.0))),
        plain(PUT_WINDOWED, ANY, M::CpuPerIn, RatioMax(0.4)),
        plain(GETS, ANY, M::Requests, RatioMin(2.0)),
        plain(GETS, ANY, M::CpuPerRequest, RatioMax(0.4)),
        plain(CLEAN_RESTART, ANY, M::RestartTime, RatioMax(0.3)),
        plain(KILLED_RESTART, ANY, M::RestartTime, RatioMax(0.5)),
        plain(CLEAN_RESTART, ANY, M::Resident, RatioMax(0.4)),
        plain(KILLED_RESTART, ANY, M::Resident, RatioMax(0.4)),
        plain(MANY_SUBJECTS, ANY, M::ResidentGrown, ValueMax(60.0)),
        plain(MANY_DURABLES, ANY, M::ResidentGrown, ValueMax(20.0)),
        plain(MANY_DURABLES, ANY, M::ServerCores, ValueMax(0.01)),
    ]
}

/// The targets of one figure.
pub fn targets_of(case: &Case, pinned: bool, metric: Metric) -> impl Iterator<Item = Target> {
    let case = *case;
    targets().into_iter().filter(move |target| {
        target.metric == metric
            && target.shapes.contains(&case.shape)
            && case.has_size_in(&target.sizes)
            && target.tls.is_none_or(|tls| tls == case.tls)
            && target.pinned.is_none_or(|only| only == pinned)
            && target.sync.is_none_or(|only| only == case.sync)
    })
}

/// Lowest ratio that two equal rates show by chance.
const BOUND_RATIO_MIN: f64 = 0.9;

impl Target {
    /// How the candidate's `value` and its `ratio` to the reference stand; `None` if there is no ratio to judge.
    pub fn judge(&self, value: f64, ratio: Option<f64>, client_bound: bool) -> Option<Verdict> {
        let met = self.limit.holds(value, ratio)?;
        // A bound generator hides how much faster the candidate is. If it is bound with both servers the rates are
        // equal but for the noise; a candidate that is slower beyond that is not what keeps the generator busy.
        let hidden = client_bound
            && matches!(self.limit, Limit::RatioMin(_))
            && ratio.is_some_and(|ratio| ratio >= BOUND_RATIO_MIN);
        Some(match (met, self.hint) {
            (true, _) => Verdict::Met,
            (false, _) if hidden => Verdict::ClientBound,
            (false, true) => Verdict::Noted,
            (false, false) => Verdict::Missed,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes: Vec<_> = self.shapes.iter().map(|shape| shape.name()).collect();
        let sizes = match (self.sizes.start, self.sizes.end) {
            (0, usize::MAX) => "any size".to_owned(),
            (0, end) => format!("up to {} B", end - 1),
            (start, usize::MAX) => format!("from {start} B"),
            (start, end) => format!("{start} to {} B", end - 1),
        };
        let pinned = match self.pinned {
            Some(true) => ", pinned",
            Some(false) => ", not pinned",
            None => "",
        };
        let sync = self.sync.map(|sync| format!(", sync {}", sync.name())).unwrap_or_default();
        let tls = if self.tls == Some(true) { ", TLS" } else { "" };
        let hint = if self.hint { " (hint)" } else { "" };
        let metric = self.metric.key();
        write!(
            f,
            "{metric:<32} {:<12}{hint} for {}; {sizes}{pinned}{sync}{tls}",
            self.limit.to_string(),
            shapes.join(" ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(shape: Shape, size: Option<usize>, tls: bool, pinned: bool, metric: Metric) -> Vec<Limit> {
        targets_of(&Case { shape, size, tls, sync: Sync::Default }, pinned, metric)
            .map(|target| target.limit)
            .collect()
    }

    #[test]
    fn each_size_has_its_own_cpu_limit() {
        for shape in PAIRED {
            for (size, limit) in [(16, 0.15), (128, 0.25), (1024, 0.55), (8192, 0.95), (65536, 0.85)] {
                let found = limits(*shape, Some(size), false, true, Metric::CpuPerIn);
                assert_eq!(found, [Limit::RatioMax(limit)], "{shape:?} {size}");
            }
        }
    }

    #[test]
    fn throughput_never_falls_below_the_reference() {
        for shape in FLOWS {
            let found = |size| limits(*shape, Some(size), false, false, Metric::MessagesIn);
            assert_eq!(found(128), [Limit::RatioMin(4.0), Limit::RatioMin(1.0)]);
            assert_eq!(found(1024), [Limit::RatioMin(1.5), Limit::RatioMin(1.0)]);
            assert_eq!(found(65536), [Limit::RatioMin(1.0)]);
        }
    }

    #[test]
    fn pinned_and_encrypted_runs_have_their_own() {
        let p50 = |tls, pinned| limits(Shape::RequestReply, Some(16), tls, pinned, Metric::LatencyP50);
        assert_eq!(p50(false, true), [Limit::RatioMax(0.85)]);
        assert_eq!(p50(false, false), [Limit::RatioMax(0.65)]);
        assert_eq!(p50(true, true), [Limit::RatioMax(1.0)]);
        assert_eq!(limits(Shape::OneToOne, Some(16), true, true, Metric::CpuPerIn), [Limit::RatioMax(1.0)]);
    }

    #[test]
    fn what_an_acknowledgement_promises_decides_its_price() {
        let rate = |shape, size, sync| {
            let case = Case { shape, size: Some(size), tls: false, sync };
            targets_of(&case, false, Metric::MessagesIn).map(|target| target.limit).collect::<Vec<_>>()
        };
        let windowed = published(Storage::File, 256, 1);
        assert_eq!(rate(windowed, 128, Sync::Default), [Limit::RatioMin(2.0)]);
        assert_eq!(rate(windowed, 1024, Sync::Default), [Limit::RatioMin(1.2)]);
        assert_eq!(rate(windowed, 1024, Sync::Always), [Limit::RatioMin(50.0)]);
        assert_eq!(rate(windowed, 128, Sync::Lazy), [Limit::RatioMin(3.0)]);
        assert_eq!(rate(published(Storage::File, 1, 1), 128, Sync::Always), [Limit::RatioMin(1.5)]);
        for sync in Sync::ALL {
            assert_eq!(rate(published(Storage::Memory, 1, 1), 128, sync), [Limit::RatioMin(2.0)]);
        }
    }

    #[test]
    fn verdicts() {
        let judge = |limit, hint, value, ratio, bound| {
            let target = Target { limit, hint, ..targets().swap_remove(0) };
            target.judge(value, ratio, bound)
        };
        assert_eq!(judge(Limit::RatioMax(0.5), false, 1.0, Some(0.5), false), Some(Verdict::Met));
        assert_eq!(judge(Limit::RatioMax(0.5), false, 1.0, Some(0.6), true), Some(Verdict::Missed));
        assert_eq!(judge(Limit::RatioMax(0.5), true, 1.0, Some(0.6), false), Some(Verdict::Noted));
        assert_eq!(judge(Limit::RatioMin(4.0), false, 1.0, Some(3.0), false), Some(Verdict::Missed));
        assert_eq!(judge(Limit::RatioMin(4.0), false, 1.0, Some(3.0), true), Some(Verdict::ClientBound));
        assert_eq!(judge(Limit::RatioMin(4.0), false, 1.0, Some(0.85), true), Some(Verdict::Missed));
        assert_eq!(judge(Limit::ValueMax(10.0), false, 10.5, None, false), Some(Verdict::Missed));
        assert_eq!(judge(Limit::ValueMin(0.85), false, 0.9, None, true), Some(Verdict::Met));
        assert_eq!(judge(Limit::RatioMax(0.5), false, 1.0, None, false), None);
    }
}
