//! The list of metrics is what is written, no more and no less.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;

use common::jetstream::Stream;
use common::{recorded, streaming};
use sonata_jetstream::api::response::{ConsumerInfo, SequenceInfo};
use sonata_monitor::metrics::{Kind, all, metrics};

#[test]
fn every_metric_is_written_once_with_its_type_and_values() {
    let text = metrics(&streaming());
    let mut lines = text.lines().peekable();
    for metric in all() {
        assert_eq!(lines.next(), Some(format!("# HELP {} {}", metric.name, metric.help).as_str()));
        assert_eq!(lines.next(), Some(format!("# TYPE {} {}", metric.name, metric.kind.name()).as_str()));
        let mut values = 0;
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = name.split('{').next().unwrap();
            let part = name.strip_prefix(metric.name).unwrap();
            match metric.kind {
                Kind::Histogram => assert!(matches!(part, "_bucket" | "_sum" | "_count"), "{line}"),
                Kind::Counter | Kind::Gauge => assert_eq!(part, ""),
            }
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            values += 1;
        }
        assert!(values > 0, "{} has no value", metric.name);
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn names_are_unique_and_tell_the_type() {
    let names: HashSet<&str> = all().map(|metric| metric.name).collect();
    assert_eq!(names.len(), all().count());
    for metric in all() {
        assert!(metric.name.starts_with("sonata_") && metric.help.ends_with('.'), "{}", metric.name);
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
    }
}

#[test]
fn what_is_off_has_no_values() {
    let text = metrics(&recorded());
    let values = text.lines().filter(|line| !line.starts_with('#'));
    let mut of_jetstream = values.filter(|line| {
        ["sonata_jetstream", "sonata_journal", "sonata_stream", "sonata_consumer"]
            .iter()
            .any(|prefix| line.starts_with(prefix))
    });
    assert_eq!(of_jetstream.next(), None);
}

#[test]
fn many_streams_and_consumers_are_summed() {
    let mut server = streaming();
    let accounts = &mut server.jetstream.as_mut().unwrap().accounts;
    let account = accounts.get_mut("B").unwrap();
    account.streams = (0..5_000).map(stream).collect();
    let text = metrics(&server);
    // Two streams and two consumers of account A come first.
    for line in [
        "sonata_stream_messages{account=\"B\",stream=\"0697\"} 697",
        "sonata_stream_consumers{account=\"*\",stream=\"*\"} 4302",
        "sonata_stream_bytes{account=\"*\",stream=\"*\"} 8604",
        "sonata_consumer_lag{account=\"B\",stream=\"0697\",consumer=\"c\"} 7",
        "sonata_consumer_lag{account=\"*\",stream=\"*\",consumer=\"*\"} 30114",
        "sonata_consumer_pending{account=\"*\",stream=\"*\",consumer=\"*\"} 12906",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line}");
    }
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 10_000, "{series}");
}

/// One with 2 bytes, and a consumer that has 3 messages to come and is 7 sequences behind.
fn stream(number: u64) -> Stream {
    let mut stream = Stream::default();
    stream.info.config.name = format!("{number:04}");
    stream.info.state.messages = number;
    stream.info.state.bytes = 2;
    stream.info.state.last_seq = 17;
    stream.consumers = vec![ConsumerInfo {
        name: "c".into(),
        num_pending: 3,
        delivered: SequenceInfo { stream_seq: 10, ..SequenceInfo::default() },
        ..ConsumerInfo::default()
    }];
    stream
}

#[test]
fn names_of_accounts_are_escaped() {
    let mut server = recorded();
    server.account_stats[1].acc = "a\"b\\c\nd".into();
    assert!(metrics(&server).contains("sonata_account_connections{account=\"a\\\"b\\\\c\\nd\"} 1\n"));
}
