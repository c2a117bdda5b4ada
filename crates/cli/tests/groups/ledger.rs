//! The ledger in the hands of an operator, while a group works: looked into, a life ended in it, begun anew.

use std::path::Path;

use serde_json::Value;

use crate::audited::audited;
use crate::group::{broker, end, log, start, wait_for, write_spec};
use crate::quick::{all_active, consumer, load, quick};
use crate::support::{run, stderr, stdout};

/// The last line of `ledger dump`: the state.
fn state(spec: &str) -> Value {
    let dump = run(&["ledger", "dump", "--spec", spec, "--output", "json"]);
    assert_eq!(dump.status.code(), Some(0), "{}", stderr(&dump));
    let text = stdout(&dump);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["type"], "Genesis");
    assert!(lines.len() > 5, "{text}");
    lines.last().unwrap().clone()
}

#[test]
fn an_operator_looks_into_the_ledger_ends_a_life_and_begins_it_anew_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_broker, bootstrap) = broker();
    let spec = write_spec(folder, &bootstrap, &quick(folder));
    let created = run(&["topics", "create", "--spec", &spec]);
    assert_eq!(created.status.code(), Some(0), "{}", stderr(&created));
    let monitor = start(folder, &spec, &["monitor"]);
    let controller = start(folder, &spec, &["controller"]);
    let first = consumer(folder, &spec);
    let acknowledged = folder.join("acknowledged.json");
    let acknowledged = acknowledged.to_str().unwrap();
    let mut writing = load(folder, &spec, (acknowledged, "40s"));
    wait_for(folder, &spec, "owner of all partitions", all_active);
    let before = state(&spec);
    assert_eq!(before["lives"].as_array().unwrap().len(), 1, "{before}");

    drop(first); // SIGKILL
    fence_wants_to_be_told_that_the_process_is_dead(&spec);
    let second = consumer(folder, &spec);
    wait_for(folder, &spec, "owner again", all_active);

    let generation = before["generation"].as_u64().unwrap();
    reset_begins_another_generation(folder, &spec, generation);

    assert_eq!(writing.0.wait().unwrap().code(), Some(0), "{}", log(folder, "load"));
    wait_for(folder, &spec, "durability of all", |told| {
        let rows = told["partitions"].as_array().unwrap();
        all_active(told) && rows.iter().all(|row| row["lagRecords"] == 0)
    });
    for (process, name) in [(second, "consumer"), (controller, "controller"), (monitor, "monitor")]
    {
        assert_eq!(end(process), Some(0), "{}", log(folder, name));
    }
    audited(folder, acknowledged);
}

fn fence_wants_to_be_told_that_the_process_is_dead(spec: &str) {
    let refused = run(&["ledger", "fence", "--spec", spec, "--consumer", "1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--dead"), "{}", stderr(&refused));
    let fence = ["ledger", "fence", "--spec", spec, "--consumer", "1", "--dead"];
    let fenced = run(&[&fence[..], &["--output", "json"]].concat());
    assert_eq!(fenced.status.code(), Some(0), "{}", stderr(&fenced));
    let told: Value = serde_json::from_str(stdout(&fenced).trim()).unwrap();
    assert_eq!((&told["consumer"], &told["partitions"]), (&1.into(), &4.into()));
    let again = run(&fence);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("consumer 1 has no living incarnation"), "{}", stderr(&again));
}

fn reset_begins_another_generation(folder: &Path, spec: &str, generation: u64) {
    let refused = run(&["ledger", "reset", "--spec", spec]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--yes"), "{}", stderr(&refused));
    let reset = run(&["ledger", "reset", "--spec", spec, "--yes"]);
    assert_eq!(reset.status.code(), Some(0), "{}", stderr(&reset));
    let renewed = |told: &Value| told["generation"].as_u64().is_some_and(|now| now > generation);
    wait_for(folder, spec, "owners in another generation", |told| {
        all_active(told) && renewed(told)
    });
}
