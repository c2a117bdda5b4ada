//! A group whose processes are started one by one.

#[path = "looks.rs"]
mod looks;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

pub(crate) use self::looks::{Running, end, log, wait_for};
use crate::support::tidegate;

pub(crate) fn broker() -> (Running, String) {
    let mut command =
        tidegate(&["dev-broker", "--port", "0", "--output", "json", "--log", "error"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let started: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(started["keeps"], "nothing", "it says so at start");
    (Running(child), started["bootstrap"].as_str().unwrap().to_owned())
}

pub(crate) fn write_spec(folder: &Path, bootstrap: &str, more: &str) -> String {
    let path = folder.join("group.yaml");
    let sink = folder.join("sink");
    let text = format!(
        "group: by-hand\nmode: own\ncluster: {{bootstrapServers: '{bootstrap}'}}\n\
         topics: [{{name: 'example.*', sink: 'file://{}'}}]\n\
         capacity: {{bytesPerSecond: 1MB/s}}\n\
         {more}\n",
        sink.display(),
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

pub(crate) fn start(folder: &Path, spec: &str, arguments: &[&str]) -> Running {
    let log = std::fs::File::create(folder.join(format!("{}.log", arguments[0]))).unwrap();
    let mut command = tidegate(arguments);
    command.args(["--spec", spec, "--log", "info"]).stdout(Stdio::null()).stderr(log);
    Running(command.spawn().unwrap())
}
