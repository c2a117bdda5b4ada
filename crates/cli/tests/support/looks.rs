//! What a group that runs shows.

#[path = "ends.rs"]
mod ends;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

pub(crate) use self::ends::{Running, end, log};
use crate::support::{run, stdout};

/// Asks for the status until it is as wanted, for some minutes: machines that run tests are busy. Else the test fails with
/// the last answer, and with what every process has logged.
pub(crate) fn wait_for(
    folder: &Path,
    spec: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let mut last = None;
    for _ in 0..900 {
        last = status(spec).or(last);
        if let Some(told) = last.take_if(|told| wanted(told)) {
            return told;
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
    panic!("no {what} after minutes; the last status: {last:#?}\n{}", logs(folder));
}

fn logs(folder: &Path) -> String {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let logs = paths.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let text = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    logs.flat_map(|path| [format!("=== {}\n", path.display()), text(&path)]).collect()
}

fn status(spec: &str) -> Option<Value> {
    let output = run(&["status", "--spec", spec, "--output", "json"]);
    serde_json::from_str(&stdout(&output)).ok()
}
