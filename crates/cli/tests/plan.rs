//! `tidegate plan`: what it explains, and what it says to files and groups that no plan can be made for.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::io::Write as _;
use std::process::Output;

use serde_json::Value;
use tempfile::NamedTempFile;

use support::{run, stderr, stdout};

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

fn plan(loads: &str, current: &str, more: &[&str]) -> Output {
    let (loads, current) = (file(loads), file(current));
    let files = ["plan", "--loads", path(&loads), "--current", path(&current)];
    run(&[&files[..], more].concat())
}

/// What is said to a plan that ends with this code.
fn refused(code: i32, loads: &str, current: &str, more: &[&str]) -> String {
    let output = plan(loads, current, more);
    assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    stderr(&output)
}

const LOADS: &str =
    "partition,bytes_per_sec\norders:0,600000\norders:1,500000\npayments:0,100000\n";
const CURRENT: &str = "partition,consumer\norders:0,1\norders:1,1\n";

#[test]
fn a_plan_is_explained() {
    let output = plan(LOADS, CURRENT, &["--capacity", "1MB/s"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("consumers: 1 before, 2 after; at least 2 for these loads"), "{text}");
    assert!(
        text.contains("orders:1 (500.0 kB/s) from consumer 1 to consumer 2: overload"),
        "{text}"
    );
    assert!(
        text.contains("payments:0 (100.0 kB/s) from nobody to consumer 1: unassigned"),
        "{text}"
    );
    assert!(text.contains("R 0.500") && text.contains("bound by: lower-bound"), "{text}");
}

#[test]
fn json_in_and_out_says_the_same_as_lines() {
    let loads = r#"{"orders:0": 600000, "orders:1": 500000, "payments:0": 100000}"#;
    let current = r#"{"orders:0": 1, "orders:1": 1, "payments:0": null}"#;
    let more = ["--capacity", "1MB/s", "--output", "json"];
    let (objects, lines) = (plan(loads, current, &more), plan(LOADS, CURRENT, &more));
    assert_eq!(stdout(&objects), stdout(&lines));
    let planned: Value = serde_json::from_str(&stdout(&lines)).unwrap();
    assert_eq!(planned["feasible"], true);
    assert_eq!(planned["consumers"], serde_json::json!([1, 2]));
    assert_eq!(planned["assignment"]["orders:1"], 2);
    assert_eq!(planned["moves"][0]["reason"], "overload");
    assert_eq!(planned["r_score_permille"], 500);
    assert_eq!(planned["loads"]["1"]["after"], 700_000);
}

#[test]
fn the_last_measurement_of_a_stream_is_taken_as_loads() {
    let more = ["--capacity", "1MB/s", "--output", "json"];
    let output =
        plan("orders:0,orders:1,payments:0\n1,2,3\n600000,500000,100000\n", CURRENT, &more);
    assert_eq!(stdout(&output), stdout(&plan(LOADS, CURRENT, &more)));
}

#[test]
fn a_specification_and_a_preset_are_obeyed() {
    let spec = file(
        "group: test\ncluster: {bootstrapServers: 'a:1'}\ncapacity: {bytesPerSecond: 1MB/s}\n\
         topics: [{name: 'orders.*', sink: 'blackhole:'}]\n",
    );
    let output = plan(LOADS, CURRENT, &["--spec", path(&spec)]);
    assert!(stdout(&output).contains("of 1.00 MB/s"), "{} {}", stdout(&output), stderr(&output));
    for preset in ["calm", "balanced", "tight"] {
        let output = plan(LOADS, CURRENT, &["--spec", path(&spec), "--preset", preset]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let missing = refused(3, LOADS, CURRENT, &["--spec", "/nowhere/at/all"]);
    assert!(missing.contains("failed to read the specification /nowhere/at/all"), "{missing}");
}

#[test]
fn what_cannot_be_planned_ends_with_4_and_the_reason() {
    let output = plan(LOADS, CURRENT, &["--capacity", "1MB/s", "--max-consumers", "1"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let said = stderr(&output);
    assert_eq!(
        said,
        "error: no feasible plan: consumer 1 would get 1.20 MB/s, above its limit of 950.0 kB/s, \
         as at most 1 may run; at least 2 are needed\n"
    );
    assert!(stdout(&output).contains("max-consumers"), "{}", stdout(&output));
    let json =
        plan(LOADS, CURRENT, &["--capacity", "1MB/s", "--max-consumers", "1", "--output", "json"]);
    let planned: Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(planned["feasible"], false);
    assert!(planned["reason"].as_str().unwrap().contains("at most 1 may run"), "{planned}");
}

#[test]
fn a_partition_above_the_capacity_stands_alone_and_is_named() {
    let output = plan("p,r\norders:0,5000000\norders:1,10\n", "p,c\n", &["--capacity", "1MB/s"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("hot: orders:0 is written faster"), "{}", stdout(&output));
}

#[test]
fn files_that_cannot_be_used_end_with_3_and_their_place() {
    for (loads, current, said) in [
        ("", CURRENT, ", line 1, column 1: the file is empty"),
        (
            "p,r\na:0,-1\n",
            "p,c\n",
            ", line 2, column 2: expected a load in bytes/s, a whole number of 0 or more, found \"-1\"",
        ),
        ("p,r\na:0,fast\n", "p,c\n", ", line 2, column 2: expected a load"),
        ("p,r\na:0,1,2\n", "p,c\n", ", line 2, column 3: expected 2 fields, found 3"),
        ("p,r\na:0,1\na:0,1\n", "p,c\n", ", line 3, column 1: partition a:0 is already in line 2"),
        ("{\"a:0\": 1,\n\"a:0\": 2}", "p,c\n", ", line 2, column 9: partition a:0 is there twice"),
        ("{\"a:0\": -1}", "p,c\n", ", line 1, column "),
        (
            LOADS,
            "p,c\norders:0,0\n",
            ", line 2, column 2: expected the number of a consumer, from 1 on, or nothing, found 0",
        ),
        (LOADS, "p,c\norders:0,one\n", ", line 2, column 2: expected the number of a consumer"),
        (LOADS, "p,c\nothers:0,1\n", ", line 2, column 2: others:0 has no load in"),
        (
            "p,r\na:0,18446744073709551615\na:1,1\n",
            "p,c\n",
            "the loads of all partitions add up to more than",
        ),
    ] {
        let error = refused(3, loads, current, &[]);
        assert!(error.contains(said), "{said}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let output = run(&["plan", "--loads", "/nowhere/at/all", "--current", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("failed to read /nowhere/at/all: No such file"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn wrong_usage_ends_with_2() {
    for (more, said) in [
        (&["--capacity", "0MB/s"][..], "expected a rate"),
        (&["--max-consumers", "0"], "--max-consumers"),
        (&["--preset", "loose"], "expected one of calm, balanced, tight"),
        (&["--capacity", "1B/s"], "no capacity to pack into"),
    ] {
        let error = refused(2, LOADS, CURRENT, more);
        assert!(error.contains(said), "{more:?}: {error}");
    }
    assert_eq!(run(&["plan"]).status.code(), Some(2));
}
