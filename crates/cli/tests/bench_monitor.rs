//! `tidegate bench monitor`: a short experiment and a few rounds, on the embedded broker. How long anything takes is not
//! judged.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::collections::BTreeSet;

use serde_json::Value;

use support::{run, stderr, stdout};

fn bench(arguments: &[&str]) -> Value {
    let arguments = [&["bench", "monitor", "--output", "json"], arguments].concat();
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// Steps of six seconds and a window of two: what was stored is measured although retention deletes most of it.
#[test]
fn the_experiment_measures_what_was_stored_and_writes_all_series() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let found = bench(&[
        "--duration",
        "18s",
        "--window",
        "2s",
        "--rates",
        "400kB/s,800kB/s,200kB/s",
        "--report",
        report.to_str().unwrap(),
    ]);
    let steps = found["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 9, "three partitions with three steps");
    for step in steps {
        assert!(step["steady_error_percent"].as_f64().unwrap() < 25.0, "{step}");
        assert!(step["stored_per_sec"].as_u64().unwrap() > 100_000, "{step}");
    }
    assert!(found["deletions"].as_u64().unwrap() > 0, "{found}");
    let (stored, kept) = (&found["stored_bytes"], &found["kept_bytes"]);
    assert!(stored.as_u64().unwrap() > kept.as_u64().unwrap(), "{found}");

    let csv = std::fs::read_to_string(report.join("samples.csv")).unwrap();
    let (heads, lines) = csv.split_once('\n').unwrap();
    let wanted = ["producer_stored_bytes", "window_bytes_per_sec", "filtered_bytes_per_sec"];
    for head in wanted {
        let column = heads.split(',').position(|name| name == head).unwrap();
        let values: Vec<u64> = lines.lines().map(|line| cell(line, column)).collect();
        assert!(values.iter().any(|value| *value > 0), "{head}");
    }
    let partitions: BTreeSet<u64> = lines.lines().map(|line| cell(line, 0)).collect();
    assert_eq!(partitions, [0, 1, 2].into());

    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 4, "three partitions and the sizes");
    assert!(std::fs::read_to_string(report.join("partition-2.svg")).unwrap().contains("xmlns"));
}

fn cell(line: &str, column: usize) -> u64 {
    line.split(',').nth(column).unwrap().parse().unwrap()
}

#[test]
fn rounds_over_many_partitions_are_counted_and_miss_none() {
    let found = bench(&[
        "--partitions",
        "600",
        "--brokers",
        "3",
        "--topics",
        "3",
        "--busy",
        "50",
        "--duration",
        "3s",
    ]);
    assert_eq!(found["partitions"], 600);
    assert_eq!(found["rounds"], 3);
    assert_eq!(found["missing"], 0, "{found}");
    for figure in ["cpu_ms", "list_offsets_ms", "bare_loop_ms", "bytes_in", "bytes_out"] {
        assert!(found[figure].as_f64().unwrap() > 0.0, "{figure}: {found}");
    }
    assert!(found["round_ms"]["p99"].as_f64() >= found["round_ms"]["p50"].as_f64(), "{found}");
    assert!(found["bytes_published"].as_u64().unwrap() > 0, "{found}");
}

#[test]
fn what_is_said_of_one_kind_does_not_go_with_the_other() {
    for wrong in [
        &["--partitions", "10", "--report", "/nowhere"][..],
        &["--partitions", "10", "--bootstrap", "127.0.0.1:1"],
        &["--topics", "5"],
        &["--partitions", "100001"],
    ] {
        let output = run(&[&["bench", "monitor"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", stderr(&output));
    }
}
