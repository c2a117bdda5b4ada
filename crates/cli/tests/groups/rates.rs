//! What is written is looked at without a group: `monitor --once`, and `topics retain`, which mends what it warns of.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::group::{Running, broker, write_spec};
use crate::support::{run, stderr, stdout, tidegate};

/// The topic that the load makes.
const TOPIC: &str = "example.0";

fn json(args: &[&str]) -> Value {
    let output = run(&[args, &["--output", "json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn rates_are_shown_without_a_group_and_retention_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_broker, bootstrap) = broker();
    let spec = write_spec(folder, &bootstrap, "monitor: {logSizesOnly: true}");
    let _load = load(folder, &spec);
    wait_for_topic(&spec);
    rates_are_shown(&spec);
    retention_is_changed(&spec);
}

/// Goes on until it is dropped.
fn load(folder: &Path, spec: &str) -> Running {
    let ledger = folder.join("acknowledged.json");
    let mut command = tidegate(&["load", "--spec", spec, "--ledger", ledger.to_str().unwrap()]);
    command.args(["--duration", "1h", "--rate", "200kB/s", "--topics", "1", "--partitions", "4"]);
    Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Without control topics: nothing is published.
fn wait_for_topic(spec: &str) {
    let seen = (0..60).any(|_| {
        let output = run(&["monitor", "--once", "--for", "1s", "--spec", spec]);
        output.status.code() == Some(0) || {
            let text = stderr(&output);
            assert!(text.contains("no topic of the specification exists"), "{text}");
            false
        }
    });
    assert!(seen, "the load has made no topic");
}

fn rates_are_shown(spec: &str) {
    let output = run(&["monitor", "--once", "--for", "4s", "--spec", spec]);
    let (text, told) = (stdout(&output), stderr(&output));
    assert!(text.contains("write rate") && text.contains("in all"), "{text}");
    assert!(told.contains("retention.ms is") && told.contains("topics retain --forever"), "{told}");
    let seen = json(&["monitor", "--once", "--for", "3s", "--spec", spec]);
    let rows = seen["partitions"].as_array().unwrap();
    let rates: Vec<u64> = rows.iter().map(|row| row["writeRate"].as_u64().unwrap()).collect();
    assert!(!rates.is_empty() && rates.is_sorted_by(|a, b| a >= b), "{seen}");
    assert!(rates.iter().sum::<u64>() > 0, "the load is running: {seen}");
    assert!(rows.iter().all(|row| row["source"] == "log-size"), "{seen}");
}

fn retention_is_changed(spec: &str) {
    let week = json(&["topics", "retain", "--time", "7d", "--spec", spec, TOPIC]);
    assert_eq!(week["topics"][0]["after"]["retention.ms"], "604800000", "{week}");
    let forever = json(&["topics", "retain", "--forever", "--spec", spec, TOPIC]);
    let changed = &forever["topics"][0];
    assert_eq!(changed["before"]["retention.ms"], "604800000", "{forever}");
    assert_eq!(
        (&changed["after"]["retention.ms"], &changed["shrinks"]),
        (&"-1".into(), &Value::Null)
    );
    let quiet = run(&["monitor", "--once", "--for", "1s", "--spec", spec]);
    assert!(!stderr(&quiet).contains("retention"), "{}", stderr(&quiet));
    for (topics, told) in [
        (vec![TOPIC, "example.nowhere"], "topic example.nowhere does not exist"),
        (vec![TOPIC, "nowhere"], "topic nowhere is no data topic of group"),
        (vec!["data-engineering-monitor"], "is a control topic of group"),
    ] {
        let refused =
            run(&[&["topics", "retain", "--time", "1h", "--spec", spec], &topics[..]].concat());
        assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(told), "{}", stderr(&refused));
    }
    let unchanged = json(&["topics", "retain", "--forever", "--spec", spec, TOPIC]);
    assert_eq!(unchanged["topics"][0]["before"]["retention.ms"], "-1", "all or none: {unchanged}");
}
