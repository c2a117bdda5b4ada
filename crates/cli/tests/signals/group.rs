//! A group on the cluster: its specifications, monitor and controller, its load, and what ledger and sink hold.

#[path = "../support/running.rs"]
mod running;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tidegate_runtime::ports::Bound;
use tidegate_testing::unique_name;

pub(crate) use self::running::Running;
use crate::support::{run, stderr, stdout, tidegate};
use crate::{Case, TRIES};

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits for the end, which comes within minutes on any machine.
    pub(crate) fn code(mut self) -> Option<i32> {
        for _ in 0..1200 {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        panic!("process {} does not end", self.0.id());
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) folder: TempDir,
    pub(crate) name: String,
    pub(crate) bootstrap: String,
    /// The specification under which a state lasts, and the one under which none does.
    pub(crate) slow: String,
    pub(crate) quick: String,
    _processes: [Running; 2],
}

pub(crate) const PARTITIONS: u32 = 3;

impl Group {
    pub(crate) fn found(case: &Case, bootstrap: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = unique_name(&format!("signals-{}", case.name));
        let file = format!("file://{}", folder.path().join("sink").display());
        let sink = format!("{}{file}", case.sink);
        let write = |to: &str, sink: &str, consumer: &str| {
            let path = folder.path().join(to);
            std::fs::write(&path, spec(case, &name, (bootstrap, sink, consumer), folder.path()))
                .unwrap();
            path.to_str().unwrap().to_owned()
        };
        let slow = write("slow.yaml", &sink, case.consumer);
        let quick = write("quick.yaml", &file, "");
        let created =
            (0..TRIES).any(|_| run(&["topics", "create", "--spec", &slow]).status.success());
        assert!(created, "{name}: the topics cannot be created");
        let processes = ["monitor", "controller"].map(|process| {
            start(folder.path(), process, &[process, "--spec", &slow, "--log", "info"])
        });
        let bootstrap = bootstrap.to_owned();
        Self { folder, name, bootstrap, slow, quick, _processes: processes }
    }

    /// Starts a load and waits for the first records of each partition.
    pub(crate) fn load(&self) -> Running {
        let (ledger, prefix) = (self.acknowledged(), format!("{}.", self.name));
        let shape = ["--rate", "20kB/s", "--record-bytes", "200B", "--topics", "1"];
        let partitions = PARTITIONS.to_string();
        let files = ["load", "--spec", &self.slow, "--ledger", ledger.to_str().unwrap()];
        let rest = ["--partitions", &partitions, "--prefix", &prefix, "--log", "info"];
        let arguments = [&files[..], &shape, &rest].concat();
        // It gives a broker some seconds, as topics create above; one that is busy with tests may need more.
        let writes = (0..TRIES).find_map(|_| {
            let mut load = start(self.folder.path(), "load", &arguments);
            self.writes(&mut load).then_some(load)
        });
        writes.unwrap_or_else(|| panic!("{}: no load has begun\n{}", self.name, self.logs()))
    }

    /// Waits for the first records of a load; false when it has ended instead.
    fn writes(&self, load: &mut Running) -> bool {
        let topic = format!("{}.0", self.name);
        let all: Vec<_> = (0..PARTITIONS).map(|at| (topic.clone(), at)).collect();
        self.waits_for("records of the load", || {
            if load.0.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let ends = self.kafka(async |kafka| {
                kafka.offsets().bounds(&all, Bound::Latest).await.unwrap_or_default()
            });
            (ends.len() == all.len() && ends.values().all(|end| *end > 0)).then_some(true)
        })
    }

    pub(crate) fn end_load(&self, load: Running) {
        load.signal(Signal::TERM);
        assert_eq!(load.code(), Some(0), "{}", self.logs());
    }

    fn acknowledged(&self) -> PathBuf {
        self.folder.path().join("acknowledged.json")
    }

    /// Nothing lost and nothing doubled, of some hundred records at least.
    pub(crate) fn audit(&self) {
        let sink = format!("file://{}", self.folder.path().join("sink").display());
        let ledger = self.acknowledged();
        let ledger = ledger.to_str().unwrap();
        let audit = run(&["audit", "--sink", &sink, "--ledger", ledger, "--output", "json"]);
        let told = format!("{}{}", stdout(&audit), stderr(&audit));
        assert_eq!(audit.status.code(), Some(0), "{}: {told}", self.name);
        let report: Value = serde_json::from_str(&stdout(&audit)).unwrap();
        assert_eq!((&report["lost"], &report["duplicated"]), (&0.into(), &0.into()), "{told}");
        assert!(report["delivered"].as_u64().unwrap() > 0, "{told}");
    }

    /// All records of the ledger.
    pub(crate) fn dump(&self) -> Vec<Value> {
        let text = self.ledger(&["--output", "json"]);
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The state that follows from the ledger, as lines for people.
    pub(crate) fn state(&self) -> String {
        self.ledger(&["--state"])
    }

    /// A command gives a broker some seconds to answer; one that is busy with tests may need more.
    fn ledger(&self, more: &[&str]) -> String {
        self.waits_for("answer of the ledger", || {
            let dump = run(&[&["ledger", "dump", "--spec", &self.slow], more].concat());
            dump.status.success().then(|| stdout(&dump))
        })
    }

    /// Does something with a client of the cluster.
    pub(crate) fn kafka<T>(&self, does: impl AsyncFnOnce(tidegate_kafka::Kafka) -> T) -> T {
        let bootstrap_servers = self.bootstrap.clone();
        let cluster =
            tidegate_runtime::security::Cluster { bootstrap_servers, ..Default::default() };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime
            .block_on(async { does(tidegate_kafka::connect(&cluster, "signals").unwrap()).await })
    }

    /// Looks until there is what is waited for, for some minutes: machines that run tests are busy.
    pub(crate) fn waits_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        for _ in 0..1800 {
            if let Some(found) = look() {
                return found;
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        panic!("{}: no {what} after minutes\n{}", self.name, self.logs());
    }

    /// What all processes have logged.
    pub(crate) fn logs(&self) -> String {
        let paths =
            std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_log = |path: &PathBuf| path.extension().is_some_and(|is| is == "log");
        let text = |path: &PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let named = |path: PathBuf| [format!("=== {}\n", path.display()), text(&path)].concat();
        paths.filter(is_log).map(named).collect()
    }
}

/// Starts a process that logs to a file.
pub(crate) fn start(folder: &Path, log: &str, arguments: &[&str]) -> Running {
    let log = File::create(folder.join(format!("{log}.log"))).unwrap();
    let mut command = tidegate(arguments);
    Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

/// The fence is so long that nothing which comes in time has waited for it; but where only it can tell that a consumer is
/// dead.
fn spec(
    case: &Case,
    name: &str,
    (bootstrap, sink, consumer): (&str, &str, &str),
    folder: &Path,
) -> String {
    let clocks = if case.moves {
        "lease: 12s, writeTimeout: 8s, heartbeat: 1s, fence: 14s"
    } else {
        "lease: 20s, writeTimeout: 10s, heartbeat: 1s, fence: 10m"
    };
    format!(
        "group: {name}\nmode: own\ncluster: {{bootstrapServers: '{bootstrap}'}}\n\
         topics: [{{name: '{name}.*', sink: '{sink}'}}]\n\
         controlTopics: {{monitor: {name}-m, controller: {name}-c, service: {name}-s, \
         replication: 1, allowWeakLedger: true}}\n\
         consumers: {{max: 1}}\n\
         workers: {{kind: manual, dataDirectory: '{}'}}\n\
         ownership: {{{clocks}, tick: 1s, electAfter: 6s}}\n\
         consumer: {{{consumer}}}\n",
        folder.join("workers").display(),
    )
}
