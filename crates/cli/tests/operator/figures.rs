//! Figures: how fast consumers are made, what a rollout costs the partitions, and what a large group costs that does nothing. They judge
//! nothing: `cargo xtask kube bench` prints them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_testing::{KafkaVersion, RealKafka, RealKube};

use crate::audited::audited;
use crate::ends::{end, log};
use crate::stage::Stage;

/// Clock ticks in a second, as Linux counts the time of processes.
const TICKS: f64 = 100.0;

/// A line of an operator's log, with the time of the day.
struct Line<'a> {
    ms: i64,
    text: &'a str,
}

/// The lines that have this in them.
fn lines<'a>(log: &'a str, what: &str) -> Vec<Line<'a>> {
    let found = log.lines().filter(|line| line.contains(what));
    let timed = |text: &'a str| {
        let (_, time) = text.split_whitespace().next()?.split_once('T')?;
        let (seconds, fraction) = time.split_once('.')?;
        let add = |all: i64, part: &str| Some(all * 60 + part.parse::<i64>().ok()?);
        let seconds = seconds.split(':').try_fold(0, add)?;
        Some(Line { ms: seconds * 1000 + fraction.get(..3)?.parse::<i64>().ok()?, text })
    };
    found.filter_map(timed).collect()
}

/// The number behind `NAME=`.
fn field(line: &str, name: &str) -> Option<u64> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The first time of each consumer in the log, after a moment.
fn firsts(log: &str, what: &str, after: i64) -> BTreeMap<u64, i64> {
    let mut first = BTreeMap::new();
    for line in lines(log, what).into_iter().filter(|line| line.ms >= after) {
        if let Some(consumer) = field(line.text, "consumer") {
            first.entry(consumer).or_insert(line.ms);
        }
    }
    first
}

fn spread(mut ms: Vec<i64>) -> String {
    ms.sort_unstable();
    let at = |part: usize| ms.get((ms.len().saturating_sub(1)) * part / 100).copied();
    format!("{} of them, median {:?} ms, most {:?} ms", ms.len(), at(50), at(100))
}

/// Time on processors of a process, in seconds, and its memory in MiB.
fn spent(pid: u32) -> (f64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    let pages: u64 = fields[21].parse().unwrap();
    ((ticks(11) + ticks(12)) / TICKS, pages / 256)
}

/// Requests that an operator may have made, but for watches and leases: those about kinds of objects that hardly anybody else touches in
/// a group that is at rest.
fn requests(kube: &RealKube) -> f64 {
    let kinds = [
        "deployments",
        "persistentvolumeclaims",
        "poddisruptionbudgets",
        "consumergroups",
        "pods",
        "events",
    ];
    let metrics = kube.kubectl(&["get", "--raw", "/metrics"]);
    let counted = metrics.lines().filter(|line| {
        line.starts_with("apiserver_request_total{")
            && ["APPLY", "PATCH", "POST", "DELETE", "LIST"]
                .iter()
                .any(|it| line.contains(&format!("verb=\"{it}\"")))
            && kinds.iter().any(|kind| line.contains(&format!("resource=\"{kind}\"")))
    });
    counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// What the machine is at meanwhile.
fn machine() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap().trim().to_owned()
}

fn patiently(stage: &Stage<'_>, consumers: u32) {
    for _ in 0..20 {
        let name = stage.namespace.name();
        let path = "{.status.consumers.ready}";
        if stage.namespace.get(&format!("cg/{name}"), path) == consumers.to_string() {
            return;
        }
        std::thread::park_timeout(Duration::from_secs(10));
    }
    stage.until(&format!("group of {consumers}"), || stage.is_well(consumers));
}

#[test]
#[ignore = "measures: cargo xtask kube bench"]
fn figures_of_a_group_that_grows_is_rolled_out_and_rests_with_a_hundred_consumers() {
    let kafka = RealKafka::start(KafkaVersion::V4, 1);
    let kube = RealKube::start_own(3);
    let namespace = kube.namespace("figures");
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(&kube, &namespace, folder.path(), kafka.bootstrap());
    let name = namespace.name();
    let operator = stage.operator("one", "controller");
    let monitor = stage.operator("monitor", "monitor");
    let pid = operator.0.id();
    let mut spec = stage.spec();
    spec["topics"] = json!([{ "name": format!("{name}.*"), "sink": "blackhole:" }]);
    spec["capacity"] = json!({ "bytesPerSecond": "100kB/s" });
    spec["consumers"] = json!({ "min": 1, "max": 20 });
    spec["ownership"] = json!({});
    // All are made by one decision, once it is known what there is to read.
    spec["mode"] = json!("observe");
    // A hundred processes are started on this machine: what they cost themselves is not asked here.
    let probe = |path: &str| json!({ "httpGet": { "path": path, "port": 8080 }, "periodSeconds": 60, "timeoutSeconds": 10 });
    let container = &mut spec["workers"]["kubernetes"]["template"]["spec"]["containers"][0];
    container["readinessProbe"] = probe("/readyz");
    container["livenessProbe"] = probe("/livez");
    let path = stage.begin(&spec);
    let prefix = format!("{name}.");
    let load = ["load", "--spec", path.to_str().unwrap(), "--prefix", &prefix, "--topics", "1"];
    // Far more than twenty can read, so that the rates do not matter.
    let shape = ["--partitions", "80", "--rate", "6MB/s", "--profile", "steps", "--seed", "1"];
    let load = stage.start("load", &[&load[..], &shape].concat());
    stage.until("decision for all", || {
        namespace.get(&format!("cg/{name}"), "{.status.lastDecision.consumersAfter}") == "20"
    });
    spec["mode"] = json!("own");
    // Twenty processes that start on this machine, and on no other, would take it from who makes their objects.
    let pulled = kube
        .fault(&format!("pull {} 3s", spec["workers"]["kubernetes"]["image"].as_str().unwrap()));
    stage.apply(name, &spec);
    patiently(&stage, 20);
    drop(pulled);
    growth(&log(folder.path(), "one"));

    rollout(&stage, &mut spec, 20);
    drop(load);

    spec["consumers"] = json!({ "min": 100, "max": 100 });
    stage.apply(name, &spec);
    patiently(&stage, 100);
    std::thread::park_timeout(Duration::from_secs(60));
    let before = (spent(pid).0, requests(&kube));
    std::thread::park_timeout(Duration::from_secs(60));
    let (after, memory) = spent(pid);
    println!(
        "a hundred consumers at rest for 60 s: {:.2} % of a core, {:.2} requests a second beyond watches and leases, {memory} MiB; load {}",
        (after - before.0) / 60.0 * 100.0,
        (requests(&kube) - before.1) / 60.0,
        machine()
    );
    namespace.kubectl(&["delete", "cg", name, "--timeout=300s"]);
    assert_eq!((end(operator), end(monitor)), (Some(0), Some(0)));
}

#[test]
#[ignore = "measures: cargo xtask kube bench"]
fn figures_of_a_rollout_that_is_audited() {
    let kafka = RealKafka::start(KafkaVersion::V4, 1);
    let kube = RealKube::start_own(3);
    let namespace = kube.namespace("rollout");
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(&kube, &namespace, folder.path(), kafka.bootstrap());
    let name = namespace.name();
    let (operator, monitor) =
        (stage.operator("one", "controller"), stage.operator("monitor", "monitor"));
    let mut spec = stage.spec();
    spec["consumers"] = json!({ "min": 10, "max": 10 });
    spec["ownership"] = json!({});
    let path = stage.begin(&spec);
    let ledger = folder.path().join("acknowledged.json");
    let files = ["load", "--spec", path.to_str().unwrap(), "--ledger", ledger.to_str().unwrap()];
    let shape = ["--rate", "500kB/s", "--topics", "1", "--partitions", "20"];
    let load = stage.start("load", &[&files[..], &shape].concat());
    patiently(&stage, 10);
    let rows = || stage.group_status("one")["partitions"].as_array().cloned().unwrap_or_default();
    stage.until("owners", || {
        let rows = rows();
        rows.len() == 20 && rows.iter().all(|row| row["state"] == "active")
    });
    rollout(&stage, &mut spec, 10);
    assert_eq!(end(load), Some(0));
    stage.until("end of the lag", || rows().iter().all(|row| row["lagRecords"] == 0));
    namespace.kubectl(&["delete", "cg", name, "--timeout=300s"]);
    assert_eq!((end(operator), end(monitor)), (Some(0), Some(0)));
    let report = audited(folder.path(), ledger.to_str().unwrap());
    let [delivered, lost, doubled] = ["delivered", "lost", "duplicated"].map(|it| &report[it]);
    println!("  of {delivered} records {lost} lost, {doubled} doubled");
}

/// The decision after which the first workloads were made, and what followed. Those before it were observed.
fn growth(log: &str) {
    let first = firsts(log, "its workload is there", 0).into_values().min();
    let first = first.expect("workloads were made");
    let mut decisions = lines(log, "a decision was made").into_iter();
    let last = decisions.rfind(|line| line.ms <= first).expect("a decision made them");
    let at = last.ms;
    let wanted = field(last.text, "consumers").unwrap_or_default();
    let made = firsts(log, "its workload is there", at);
    let ms = |first: &BTreeMap<u64, i64>| first.values().map(|ms| ms - at).collect::<Vec<_>>();
    println!("a decision for {wanted} consumers; load {}", machine());
    println!("  from the decision until its workload was seen: {}", spread(ms(&made)));
    let joined = firsts(log, "a consumer has joined", at);
    let owners = firsts(log, "a partition has a new owner", at);
    println!("  from the decision to its Hello: {}", spread(ms(&joined)));
    let share = made.iter().filter_map(|(consumer, made)| {
        let (joined, owns) = (joined.get(consumer)?, owners.get(consumer)?);
        Some((made - at) + (owns - joined))
    });
    println!(
        "  of the time to the first partition the controller's own share: {}",
        spread(share.collect())
    );
}

fn rollout(stage: &Stage<'_>, spec: &mut Value, consumers: u32) {
    let name = stage.namespace.name();
    let image = format!("example/{name}:2");
    stage.kube.image(&image, Path::new(env!("CARGO_BIN_EXE_tidegate")));
    spec["workers"]["kubernetes"]["image"] = json!(image);
    let began = lines(&log(&stage.folder, "one"), "").last().map_or(0, |line| line.ms);
    stage.apply(name, spec);
    stage.until("begin of the rollout", || stage.has_event("RolloutStarted", "updated"));
    let done = |log: &str| {
        let lines = lines(log, "all consumers run the same").into_iter();
        lines.map(|line| line.ms).find(|ms| *ms >= began)
    };
    for _ in 0..60 {
        if done(&log(&stage.folder, "one")).is_some() {
            break;
        }
        std::thread::park_timeout(Duration::from_secs(10));
    }
    let log = log(&stage.folder, "one");
    let done = done(&log).expect("the rollout has ended");
    let moves =
        lines(&log, "a partition has a new owner").into_iter().filter(|line| line.ms >= began);
    let pauses = moves.filter_map(|line| field(line.text, "pause_ms")?.try_into().ok());
    println!(
        "a rollout of {consumers} consumers: {} s; pauses of partitions: {}; load {}",
        (done - began) / 1000,
        spread(pauses.collect()),
        machine()
    );
}
