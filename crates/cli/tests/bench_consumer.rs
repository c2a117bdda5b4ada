//! `tidegate bench consumer` on the embedded broker: everything is read, and all figures are there. How fast is not judged.

mod support;

use serde_json::Value;

use support::{run, stderr, stdout};

#[test]
fn a_consumer_is_timed_over_topics_and_partitions_and_its_grants_are() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let arguments = [
        &["bench", "consumer", "--output", "json", "--report", report.to_str().unwrap()][..],
        &["--record-bytes", "100B,1KiB", "--partitions", "1,3", "--topics", "1,2"],
        &["--bytes", "1MB", "--repeat", "1", "--grants", "2", "--idle", "100ms"],
    ];
    let output = run(&arguments.concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let runs = found["runs"].as_array().unwrap();
    let of = |run: &Value, name: &str| run[name].as_u64().unwrap();
    let cells: Vec<_> = runs
        .iter()
        .map(|run| (of(run, "record_bytes"), of(run, "topics"), of(run, "partitions")))
        .collect();
    let wanted = [(1, 1), (1, 3), (2, 2), (2, 6)];
    let all = [100, 1024].map(|bytes| wanted.map(|(topics, all)| (bytes, topics, all)));
    assert_eq!(cells, all.concat());
    for run in runs {
        assert_eq!((run["who"].as_str(), of(run, "brokers")), (Some("tidegate"), 1));
        for figure in ["records_per_s", "mb_per_s", "cpu_ns_per_record"] {
            assert!(run[figure].as_f64().unwrap() > 0.0, "{figure} of {run}");
        }
        assert!(of(run, "rss_mib") > 1, "{run}");
    }
    let grants = found["grants"].as_array().unwrap();
    assert_eq!(grants.len(), runs.len());
    for grant in grants {
        let p50 = |what: &str| grant[what]["p50"].as_f64().unwrap();
        assert!(p50("first_read_ms") > 0.0 && p50("first_durable_ms") >= p50("first_read_ms"));
    }
    let csv = std::fs::read_to_string(report.join("figures.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + runs.len());
    for chart in ["speed-100.svg", "cost-1024.svg"] {
        assert!(std::fs::read_to_string(report.join(chart)).unwrap().contains("<svg"), "{chart}");
    }
}

#[test]
fn a_peer_that_is_not_there_is_named_with_what_to_do() {
    let arguments = ["bench", "consumer", "--record-bytes", "100B", "--partitions", "1"];
    let peer = ["--bytes", "100kB", "--repeat", "1", "--peer", "kcat=/nowhere/kcat"];
    let output = run(&[&arguments[..], &peer].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("/nowhere/kcat") && said.contains("--peer kcat=PATH"), "{said}");
}
