//! A group whose processes are started by hand, as the README tells: broker, topics, monitor, controller, load; and what
//! `status`, `tail` and `audit` say about it.

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{run, stderr, stdout, tidegate};

/// How long a process may take to do what is waited for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Asks until the answer is as wanted.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "no {what} after {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(200));
    }
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

    let early = run(&["monitor", "--spec", &spec]);
    assert_eq!(early.status.code(), Some(1), "without topics there is nothing to publish to");
    assert!(stderr(&early).contains("run `tidegate topics create` first"), "{}", stderr(&early));

    for expected in ["created", "exists"] {
        let output = run(&["topics", "create", "--spec", &spec]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let line = format!("data-engineering-monitor: {expected}");
        assert!(stdout(&output).contains(&line), "{}", stdout(&output));
    }
    let described = run(&["topics", "describe", "--spec", &spec]);
    assert!(stdout(&described).contains("data-engineering-monitor: 1 partitions"));

    let monitor = start(folder, &spec, &["monitor"]);
    let controller = start(folder, &spec, &["controller", "--end-workers"]);
    let ledger = folder.join("acknowledged.json");
    let load = run(&[
        "load",
        "--spec",
        &spec,
        "--duration",
        "10s",
        "--rate",
        "500kB/s",
        "--topics",
        "1",
        "--partitions",
        "4",
        "--ledger",
        ledger.to_str().unwrap(),
        "--output",
        "json",
    ]);
    assert_eq!(load.status.code(), Some(0), "{}", stderr(&load));

    let told = wait_for("status that shows all partitions active and no lag", || {
        let told = status(&spec)?;
        let rows = told["partitions"].as_array()?;
        let done = |row: &Value| row["state"] == "active" && row["lagRecords"] == 0;
        (rows.len() == 4 && rows.iter().all(done)).then_some(told)
    });
    assert_eq!(told["group"], "by-hand");
    assert_eq!(told["role"], "leader");
    let text = stdout(&run(&["status", "--spec", &spec]));
    assert!(text.contains("group by-hand: mode own, this controller is leader"), "{text}");

    let tail = run(&["tail", "controller", "--spec", &spec, "--from-beginning", "--until-end"]);
    let text = stdout(&tail);
    for kind in
        ["Genesis", "Hello", "Grant", "StartConsumingCommand", "StartConsumingEvent", "Progress"]
    {
        assert!(text.contains(kind), "{kind}: {text}");
    }
    let tail = run(&[
        "tail",
        "monitor",
        "--spec",
        &spec,
        "--from-beginning",
        "--until-end",
        "--output",
        "json",
    ]);
    for line in stdout(&tail).lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        assert_eq!(message["type"], "PartitionRates");
    }

    assert_eq!(end(controller), Some(0), "{}", log(folder, "controller"));
    assert_eq!(end(monitor), Some(0), "{}", log(folder, "monitor"));
    let sink = format!("file://{}", folder.join("sink").display());
    let audit =
        run(&["audit", "--sink", &sink, "--ledger", ledger.to_str().unwrap(), "--output", "json"]);
    assert_eq!(audit.status.code(), Some(0), "{}{}", stdout(&audit), stderr(&audit));
    let report: Value = serde_json::from_str(&stdout(&audit)).unwrap();
    assert!(report["delivered"].as_u64().unwrap() > 1000, "{report}");
}

fn log(folder: &Path, process: &str) -> String {
    std::fs::read_to_string(folder.join(format!("{process}.log"))).unwrap_or_default()
}
