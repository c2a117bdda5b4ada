//! A group whose processes are started by hand, as the README tells: broker, topics, monitor, controller, load; and what
//! `status`, `tail` and `audit` say about it.

use std::path::Path;

use serde_json::Value;

use crate::audited::audited;
use crate::group::{broker, end, log, start, wait_for, write_spec};
use crate::support::{run, stderr, stdout};

#[test]
fn processes_started_by_hand_find_each_other_and_deliver() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_broker, bootstrap) = broker();
    let workers = format!("workers: {{dataDirectory: '{}'}}", folder.join("data").display());
    let spec = write_spec(folder, &bootstrap, &workers);
    topics_are_asked_for_and_created(&spec);

    let monitor = start(folder, &spec, &["monitor"]);
    let controller = start(folder, &spec, &["controller", "--end-workers"]);
    let ledger = folder.join("acknowledged.json");
    let ledger = ledger.to_str().unwrap();
    write_load(&spec, ledger);
    status_tells_when_all_is_durable(folder, &spec);
    tail_shows_what_was_said(&spec);

    assert_eq!(end(controller), Some(0), "{}", log(folder, "controller"));
    assert_eq!(end(monitor), Some(0), "{}", log(folder, "monitor"));
    let report = audited(folder, ledger);
    assert!(report["delivered"].as_u64().unwrap() > 1000, "{report}");
}

fn topics_are_asked_for_and_created(spec: &str) {
    let missing = run(&["topics", "describe", "--spec", spec]);
    assert_eq!(missing.status.code(), Some(1), "{}", stderr(&missing));
    let told = stdout(&missing);
    assert_eq!(
        told.matches(": does not exist; `tidegate topics create` makes it").count(),
        3,
        "{told}"
    );
    let early = run(&["monitor", "--spec", spec]);
    assert_eq!(early.status.code(), Some(1), "without topics there is nothing to publish to");
    let text = stderr(&early);
    assert!(
        text.contains("run `tidegate topics create` first") && text.contains("TG004"),
        "{text}"
    );
    for expected in ["created", "exists"] {
        let output = run(&["topics", "create", "--spec", spec]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let line = format!("data-engineering-monitor: {expected}");
        assert!(stdout(&output).contains(&line), "{}", stdout(&output));
    }
    let described = run(&["topics", "describe", "--spec", spec]);
    assert!(stdout(&described).contains("data-engineering-monitor: 1 partitions"));
}

fn write_load(spec: &str, ledger: &str) {
    let shape = ["--duration", "10s", "--rate", "500kB/s", "--topics", "1", "--partitions", "4"];
    let files = ["load", "--spec", spec, "--ledger", ledger, "--output", "json"];
    let load = run(&[&files[..], &shape[..]].concat());
    assert_eq!(load.status.code(), Some(0), "{}", stderr(&load));
}

fn status_tells_when_all_is_durable(folder: &Path, spec: &str) {
    let told =
        wait_for(folder, spec, "status that shows all partitions active and no lag", |told| {
            let done = |row: &Value| row["state"] == "active" && row["lagRecords"] == 0;
            let rows = told["partitions"].as_array();
            rows.is_some_and(|rows| rows.len() == 4 && rows.iter().all(done))
        });
    assert_eq!((&told["group"], &told["role"]), (&"by-hand".into(), &"leader".into()));
    let text = stdout(&run(&["status", "--spec", spec]));
    let expected = "group by-hand: mode own, this controller is leader";
    assert!(text.contains(expected), "{text}");
}

fn tail_shows_what_was_said(spec: &str) {
    let all = ["--spec", spec, "--from-beginning", "--until-end"];
    let text = stdout(&run(&[&["tail", "controller"], &all[..]].concat()));
    for kind in
        ["Genesis", "Hello", "Grant", "StartConsumingCommand", "StartConsumingEvent", "Progress"]
    {
        assert!(text.contains(kind), "{kind}: {text}");
    }
    let monitor = run(&[&["tail", "monitor", "--output", "json"], &all[..]].concat());
    for line in stdout(&monitor).lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        assert_eq!(message["type"], "PartitionRates");
    }
}
