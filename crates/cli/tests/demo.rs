//! The demo on the embedded broker: the whole system, at a size for tests.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::path::Path;

use serde_json::Value;

use support::{run, stderr, stdout};

/// The load of a test: a tenth of the demo's, so that other tests can run beside it.
const SMALL: [&str; 8] =
    ["--duration", "20s", "--topics", "2", "--partitions", "8", "--rate", "2MB/s"];

fn demo(more: &[&str]) -> Value {
    let arguments = [&["demo", "--output", "json", "--log", "warn"], &SMALL[..], more].concat();
    let output = run(&arguments);
    let (text, log) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{text}\n{log}");
    assert_eq!(text.lines().count(), 1, "with json nothing but the result is on standard output");
    serde_json::from_str(&text).expect("the last line is one object")
}

fn count(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or_else(|| panic!("{key} is no number in {summary}"))
}

fn assert_whole(summary: &Value) {
    for key in ["lost", "duplicated", "out_of_order"] {
        assert_eq!(count(summary, key), 0, "{key}: {summary}");
    }
    assert_eq!(count(summary, "produced"), count(summary, "delivered"), "{summary}");
    assert!(count(summary, "produced") > 10_000, "{summary}");
    assert!(count(summary, "handoffs") > 0, "{summary}");
    assert_eq!(summary["broker"], "embedded");
    assert!(count(&summary["consumers"], "max") > 1, "the group must have grown: {summary}");
}

#[test]
fn a_group_grows_with_its_load_and_delivers_every_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let summary = demo(&["--report", report.to_str().unwrap()]);
    assert_whole(&summary);
    assert!(count(&summary["handoff_ms"], "max") > 0, "planned hand-offs: {summary}");
    assert_report(&report);
}

fn assert_report(report: &Path) {
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 5, "five graphs");
    for name in ["rates.csv", "consumers.csv", "freshness.csv", "handoffs.csv"] {
        let lines = std::fs::read_to_string(report.join(name)).unwrap().lines().count();
        assert!(lines > 1, "{name} has data");
    }
}

#[test]
fn a_killed_consumer_and_a_hot_partition_lose_nothing() {
    let summary = demo(&["--profile", "hot", "--kill", "1", "--seed", "7"]);
    assert_whole(&summary);
    assert_eq!(count(&summary, "kills"), 1);
    assert_eq!(count(&summary, "seed"), 7);
    assert!(count(&summary["recovery_ms"], "max") > 0, "its partitions were taken up: {summary}");
}
