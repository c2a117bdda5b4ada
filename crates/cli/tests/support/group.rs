//! A group whose processes are started one by one.

#[path = "running.rs"]
mod running;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(crate) use self::running::Running;
use crate::support::{run, stdout, tidegate};

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

pub(crate) fn end(mut process: Running) -> Option<i32> {
    let pid = Pid::from_child(&process.0);
    kill_process(pid, Signal::TERM).unwrap();
    process.0.wait().unwrap().code()
}

pub(crate) fn log(folder: &Path, process: &str) -> String {
    std::fs::read_to_string(folder.join(format!("{process}.log"))).unwrap_or_default()
}
