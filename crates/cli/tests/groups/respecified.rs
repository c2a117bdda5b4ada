//! A group whose specification is changed by the service topic while it runs under load: what is refused, what is followed at once,
//! what is rolled out consumer by consumer, and that no record is lost or written twice by any of it.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::audited::audited;
use crate::group::{Running, broker, end, log, start, wait_for, write_spec};
use crate::support::{run, stderr, stdout, tidegate};

/// Quicker than the defaults, by the same ratios; two consumers run from the beginning.
fn settings(folder: &Path) -> String {
    format!(
        "workers: {{dataDirectory: '{}'}}\nconsumers: {{min: 2, max: 6}}\n\
         controller: {{holdScaleIn: 5s}}\n\
         ownership: {{lease: 6s, writeTimeout: 2s, heartbeat: 1s, fence: 8s, tick: 1s, electAfter: 4s}}",
        folder.join("data").display()
    )
}

fn load(folder: &Path, spec: &str, ledger: &str) -> Running {
    let log = std::fs::File::create(folder.join("load.log")).unwrap();
    let shape = ["--duration", "60s", "--rate", "300kB/s", "--topics", "2", "--partitions", "4"];
    let mut command = tidegate(&["load", "--spec", spec, "--ledger", ledger]);
    Running(command.args(shape).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

fn service(spec: &str, arguments: &[&str]) -> std::process::Output {
    run(&[&["service"], &arguments[..1], &["--spec", spec], &arguments[1..]].concat())
}

fn set(spec: &str, field: &str, value: &str) {
    let output = service(spec, &["set", field, value]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

fn active(told: &Value, topic: &str) -> usize {
    let rows = told["partitions"].as_array().into_iter().flatten();
    rows.filter(|row| row["topic"] == topic && row["state"] == "active").count()
}

fn ready(told: &Value) -> Vec<u64> {
    let rows = told["consumers"].as_array().into_iter().flatten();
    rows.filter(|row| row["ready"] == true).filter_map(|row| row["number"].as_u64()).collect()
}

fn processes(told: &Value) -> Vec<String> {
    let rows = told["consumers"].as_array().into_iter().flatten();
    rows.filter_map(|row| Some(row["process"].as_str()?.to_owned())).collect()
}

#[test]
fn what_the_service_topic_sets_is_followed_without_loss() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_broker, bootstrap) = broker();
    let spec = write_spec(folder, &bootstrap, &settings(folder));
    let text = std::fs::read_to_string(&spec).unwrap();
    std::fs::write(&spec, text.replace("example.*", "example.0")).unwrap();
    let created = run(&["topics", "create", "--spec", &spec]);
    assert_eq!(created.status.code(), Some(0), "{}", stderr(&created));

    let monitor = start(folder, &spec, &["monitor"]);
    let controller = start(folder, &spec, &["controller", "--end-workers"]);
    let ledger = folder.join("acknowledged.json");
    let ledger = ledger.to_str().unwrap();
    let mut load = load(folder, &spec, ledger);
    let begun = wait_for(folder, &spec, "two consumers that read one topic", |told| {
        active(told, "example.0") == 4 && ready(told).len() == 2
    });
    assert_eq!(active(&begun, "example.1"), 0);

    what_cannot_be_used_is_refused(&spec);

    // At once: another size of the group.
    set(&spec, "consumers.min", "3");
    let three = wait_for(folder, &spec, "three consumers", |told| ready(told).len() == 3);
    assert_eq!(three["overrides"][0]["field"], "consumers.min");

    // Consumer by consumer: another topic, of which all must know the sink.
    let entry = format!("{{sink: 'file://{}'}}", folder.join("sink").display());
    set(&spec, "topics.example.1", &entry);
    wait_for(folder, &spec, "rollout", |told| told["rollout"]["consumers"] == 3);
    let rolled = wait_for(folder, &spec, "topic that was added", |told| {
        active(told, "example.1") == 4 && told["rollout"].is_null()
    });
    let old = processes(&three);
    assert!(processes(&rolled).iter().all(|process| !old.contains(process)), "{rolled:#?}");

    // At once: a consumer that is to go, and a partition that is to be on another.
    set(&spec, "consumers.min", "2");
    set(&spec, "consumers.drain", "[1]");
    set(&spec, "consumers.pins", "{example.0/2: 3}");
    wait_for(folder, &spec, "drained consumer and a pinned partition", |told| {
        let rows = told["partitions"].as_array().into_iter().flatten();
        let mut pinned = rows.filter(|row| row["topic"] == "example.0" && row["number"] == 2);
        !ready(told).contains(&1) && pinned.any(|row| row["owner"] == 3 && row["state"] == "active")
    });
    let listed = service(&spec, &["list", "--output", "json"]);
    let fields: Vec<Value> = serde_json::from_str(&stdout(&listed)).unwrap();
    assert_eq!(fields.len(), 4, "{fields:?}");

    assert!(load.0.wait().unwrap().success(), "{}", log(folder, "load"));
    wait_for(folder, &spec, "status without lag", |told| {
        let rows = told["partitions"].as_array().unwrap();
        rows.len() == 8 && rows.iter().all(|row| row["lagRecords"] == 0 && row["state"] == "active")
    });

    // At once: a topic that is not to be read any more.
    let unset = service(&spec, &["unset", "topics.example.1"]);
    assert_eq!(unset.status.code(), Some(0), "{}", stderr(&unset));
    wait_for(folder, &spec, "topic that is left alone", |told| active(told, "example.1") == 0);

    assert_eq!(end(controller), Some(0), "{}", log(folder, "controller"));
    assert_eq!(end(monitor), Some(0), "{}", log(folder, "monitor"));
    let report = audited(folder, ledger);
    assert!(report["delivered"].as_u64().unwrap() > 1000, "{report}");
    assert_eq!((&report["lost"], &report["duplicated"]), (&0.into(), &0.into()), "{report}");
}

fn what_cannot_be_used_is_refused(spec: &str) {
    for (field, value, why) in [
        ("ownership.lease", "1h", "it cannot be set while the group runs"),
        ("consumers.maxx", "7", "did you mean max?"),
        ("consumers.min", "9", "must be at most consumers.max"),
        ("topics.other", "{sink: 'ftp://x'}", "sink"),
    ] {
        let output = service(spec, &["set", field, value]);
        assert_eq!(output.status.code(), Some(3), "{field}: {}", stdout(&output));
        assert!(stderr(&output).contains(why), "{field}: {}", stderr(&output));
    }
    let listed = service(spec, &["list"]);
    assert!(stdout(&listed).contains("nothing is set"), "{}", stdout(&listed));
}
