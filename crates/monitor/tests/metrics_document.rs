//! `docs/metrics.md` names every metric. `UPDATE_TRANSCRIPTS=1 cargo test -p sonata-monitor` rewrites it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use sonata_monitor::metrics;

#[test]
fn the_document_lists_every_metric() {
    let mut text = String::from(
        "# Metrics\n\n`/metrics` on the monitoring port speaks the text format of Prometheus. Metrics of an account carry the label\n\
         `account`, those of a stream `stream` as well, and those of a consumer `consumer`. What belongs to JetStream has no\n\
         values while it is off.\n\nThe first 700 streams and the first 700 consumers, by account and name, have series of their own. All others\n\
         together are one series whose labels are `*`, so that a scrape stays below 10,000 series however many there are.\n\n\
         This list is written from the code (`crates/monitor/src/metrics.rs`).\n\n| name | type | meaning |\n|---|---|---|\n",
    );
    for metric in metrics::all() {
        writeln!(text, "| `{}` | {} | {} |", metric.name, metric.kind.name(), metric.help).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}
