//! A group with short leases and one consumer that the test starts, and a load that takes its time.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::group::{Running, start};
use crate::support::tidegate;

/// Quicker than the defaults, by the same ratios. Consumers are started by the test, as by somebody else's tools.
pub(crate) fn quick(folder: &Path) -> String {
    format!(
        "workers: {{kind: manual, dataDirectory: '{}'}}\n\
         ownership: {{lease: 6s, writeTimeout: 2s, heartbeat: 1s, fence: 8s, tick: 1s, electAfter: 4s}}",
        folder.join("data").display()
    )
}

pub(crate) fn consumer(folder: &Path, spec: &str) -> Running {
    let data = folder.join("consumer-1");
    start(folder, spec, &["consumer", "--id", "1", "--data", data.to_str().unwrap()])
}

pub(crate) fn load(folder: &Path, spec: &str, (ledger, duration): (&str, &str)) -> Running {
    let log = std::fs::File::create(folder.join("load.log")).unwrap();
    let shape = ["--duration", duration, "--rate", "200kB/s", "--topics", "1", "--partitions", "4"];
    let mut command = tidegate(&["load", "--spec", spec, "--ledger", ledger]);
    Running(command.args(shape).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

pub(crate) fn all_active(told: &Value) -> bool {
    let rows = told["partitions"].as_array();
    rows.is_some_and(|rows| rows.len() == 4 && rows.iter().all(|row| row["state"] == "active"))
}
