//! The list of metrics is what is written, no more and no less.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;

use common::recorded;
use sonata_monitor::metrics::{Kind, METRICS, metrics};

#[test]
fn every_metric_is_written_once_with_its_type_and_values() {
    let text = metrics(&recorded());
    let mut lines = text.lines().peekable();
    for metric in METRICS {
        let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
        assert_eq!(lines.next(), Some(format!("# HELP {} {}", metric.name, metric.help).as_str()));
        assert_eq!(lines.next(), Some(format!("# TYPE {} {kind}", metric.name).as_str()));
        let mut values = 0;
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = name.split('{').next().unwrap();
            assert_eq!(name, metric.name);
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            values += 1;
        }
        assert!(values > 0, "{} has no value", metric.name);
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn names_are_unique_and_tell_the_type() {
    let names: HashSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
    for metric in METRICS {
        assert!(metric.name.starts_with("sonata_") && metric.help.ends_with('.'), "{}", metric.name);
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
    }
}

#[test]
fn names_of_accounts_are_escaped() {
    let mut server = recorded();
    server.account_stats[1].acc = "a\"b\\c\nd".into();
    assert!(metrics(&server).contains("sonata_account_connections{account=\"a\\\"b\\\\c\\nd\"} 1\n"));
}
