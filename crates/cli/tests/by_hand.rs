//! A group whose processes are started by hand, as the README tells: broker, topics, monitor, controller, load; and what
//! `status`, `tail` and `audit` say about it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use support::{run, stderr, stdout, tidegate};

/// A process that is killed when the test ends, however it ends.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn broker() -> (Running, String) {
    let mut command =
        tidegate(&["dev-broker", "--port", "0", "--output", "json", "--log", "error"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let started: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(started["keeps"], "nothing", "it says so at start");
    (Running(child), started["bootstrap"].as_str().unwrap().to_owned())
}

fn write_spec(folder: &Path, bootstrap: &str) -> String {
    let path = folder.join("group.yaml");
    let (sink, data) = (folder.join("sink"), folder.join("data"));
    let text = format!(
        "group: by-hand\nmode: own\ncluster: {{bootstrapServers: '{bootstrap}'}}\n\
         topics: [{{name: 'example.*', sink: 'file://{}'}}]\n\
         capacity: {{bytesPerSecond: 1MB/s}}\n\
         workers: {{dataDirectory: '{}'}}\n",
        sink.display(),
        data.display()
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn start(folder: &Path, spec: &str, arguments: &[&str]) -> Running {
    let log = std::fs::File::create(folder.join(format!("{}.log", arguments[0]))).unwrap();
    let mut command = tidegate(arguments);
    command.args(["--spec", spec, "--log", "info"]).stdout(Stdio::null()).stderr(log);
    Running(command.spawn().unwrap())
}

/// Asks until the answer is as wanted, for a minute: machines that run tests are busy.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let found = (0..300).find_map(|_| {
        let found = ask();
        if found.is_none() {
            std::thread::park_timeout(Duration::from_millis(200));
        }
        found
    });
    found.unwrap_or_else(|| panic!("no {what} after a minute"))
}

fn status(spec: &str) -> Option<Value> {
    let output = run(&["status", "--spec", spec, "--output", "json"]);
    serde_json::from_str(&stdout(&output)).ok()
}

fn end(mut process: Running) -> Option<i32> {
    let pid = Pid::from_child(&process.0);
    kill_process(pid, Signal::TERM).unwrap();
    process.0.wait().unwrap().code()
}

#[test]
fn processes_started_by_hand_find_each_other_and_deliver() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_broker, bootstrap) = broker();
    let spec = write_spec(folder, &bootstrap);
    topics_are_asked_for_and_created(&spec);

    let monitor = start(folder, &spec, &["monitor"]);
    let controller = start(folder, &spec, &["controller", "--end-workers"]);
    let ledger = folder.join("acknowledged.json");
    let ledger = ledger.to_str().unwrap();
    write_load(&spec, ledger);
    status_tells_when_all_is_durable(&spec);
    tail_shows_what_was_said(&spec);

    assert_eq!(end(controller), Some(0), "{}", log(folder, "controller"));
    assert_eq!(end(monitor), Some(0), "{}", log(folder, "monitor"));
    let sink = format!("file://{}", folder.join("sink").display());
    let audit = run(&["audit", "--sink", &sink, "--ledger", ledger, "--output", "json"]);
    assert_eq!(audit.status.code(), Some(0), "{}{}", stdout(&audit), stderr(&audit));
    let report: Value = serde_json::from_str(&stdout(&audit)).unwrap();
    assert!(report["delivered"].as_u64().unwrap() > 1000, "{report}");
}

fn topics_are_asked_for_and_created(spec: &str) {
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

fn status_tells_when_all_is_durable(spec: &str) {
    let told = wait_for("status that shows all partitions active and no lag", || {
        let told = status(spec)?;
        let rows = told["partitions"].as_array()?;
        let done = |row: &Value| row["state"] == "active" && row["lagRecords"] == 0;
        (rows.len() == 4 && rows.iter().all(done)).then_some(told)
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

fn log(folder: &Path, process: &str) -> String {
    std::fs::read_to_string(folder.join(format!("{process}.log"))).unwrap_or_default()
}
