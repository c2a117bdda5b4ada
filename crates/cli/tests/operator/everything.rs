//! A group of what was installed from the chart, and again one of the manifests,
//! from its first consumer to its end, through all that can happen to it. Load that goes on all the time is
//! audited at the end, and load that comes and goes beside it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tidegate_testing::{KafkaVersion, Namespace, RealKafka, RealKube};

use crate::audited::audited;
use crate::ends::{Running, end, log};
use crate::installed::Installed;
use crate::stage::Stage;
use crate::support::{run, stderr, stdout};

/// Partitions of the load that goes on.
const PARTITIONS: usize = 8;

/// What nothing may be left of.
const KINDS: [&str; 11] = [
    "deployments",
    "statefulsets",
    "replicasets",
    "pods",
    "persistentvolumeclaims",
    "poddisruptionbudgets",
    "services",
    "networkpolicies",
    "leases",
    "roles",
    "rolebindings",
];

/// A group on a cluster of its own.
struct Group<'a> {
    stage: &'a Stage<'a>,
    place: &'a Namespace<'a>,
    file: PathBuf,
}

/// One of the two loads.
struct Load {
    running: Running,
    folder: PathBuf,
    name: &'static str,
}

/// The process that runs the group. A pod may get the address of one before it, and never its name.
struct Leader {
    pod: String,
    address: String,
    told: Value,
}

impl Group<'_> {
    fn name(&self) -> &str {
        self.stage.namespace.name()
    }

    fn folder(&self, load: &str) -> PathBuf {
        self.stage.folder.join(load)
    }

    /// The specification, with a topic and a sink for each load.
    fn spec(&self) -> Value {
        let mut spec = self.stage.spec();
        let topic = |load: &str| {
            let sink = self.folder(load).join("sink");
            json!({ "name": format!("{}-{load}.*", self.name()), "sink": format!("file://{}", sink.display()) })
        };
        spec["topics"] = json!([topic("steady"), topic("surge")]);
        spec["consumers"] = json!({ "min": 1, "max": 5 });
        let folder = &self.stage.folder;
        let template = &mut spec["workers"]["kubernetes"]["template"]["spec"];
        template["volumes"] = json!([{ "name": "sink", "hostPath": { "path": folder } }]);
        template["containers"][0]["volumeMounts"] =
            json!([{ "name": "sink", "mountPath": folder }]);
        spec
    }

    fn load(&self, name: &'static str, rate: &str, shape: &[&str]) -> Load {
        let folder = self.folder(name);
        let (file, ledger) = (self.file.to_str().unwrap(), folder.join("ledger.json"));
        let prefix = format!("{}-{name}.", self.name());
        let what =
            ["load", "--spec", file, "--ledger", ledger.to_str().unwrap(), "--prefix", &prefix];
        let partitions = PARTITIONS.to_string();
        let usual = ["--rate", rate, "--topics", "1", "--partitions", &partitions];
        let running = self.stage.start(name, &[&what[..], &usual, shape].concat());
        Load { running, folder, name }
    }

    fn service(&self, field: &str, value: &str) {
        let file = self.file.to_str().unwrap();
        let set = run(&["service", "set", "--spec", file, field, value]);
        assert!(set.status.success(), "{}", stderr(&set));
    }

    /// What the process says that runs the group; nothing while none does.
    fn status(&self) -> Option<Value> {
        self.leader().map(|leader| leader.told)
    }

    fn leader(&self) -> Option<Leader> {
        let controllers = "?(@.metadata.labels.app\\.kubernetes\\.io/component=='controller')";
        let line = "{.metadata.name}={.status.podIP} ";
        let path = format!("{{range .items[{controllers}]}}{line}{{end}}");
        let found = |line: &str| {
            let (pod, address) = line.split_once('=')?;
            let told = self.status_of(address)?;
            Some(Leader { pod: pod.to_owned(), address: address.to_owned(), told })
        };
        self.place.get("pods", &path).split_whitespace().find_map(found)
    }

    /// The same of one process, without the API server.
    fn status_of(&self, address: &str) -> Option<Value> {
        let url = format!("http://{address}:8080/groups/{0}/{0}", self.name());
        let output = run(&["status", "--url", &url, "--output", "json"]);
        let told: Value = serde_json::from_str(&stdout(&output)).ok()?;
        (told["role"] == "leader").then_some(told)
    }

    fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = RefCell::new(None);
        self.stage.until(what, || {
            let Some(status) = self.status() else { return false };
            let is = wanted(&status);
            found.replace(Some(status));
            is
        });
        found.into_inner().unwrap()
    }

    /// What a process of the group shows and has logged, for who looks for a fault.
    fn said(&self, address: &str) -> String {
        format!("{:#?}\n{}", self.status_of(address), self.place.logs("tidegate-controller"))
    }

    /// Bytes in the sink of the load that goes on.
    fn delivered(&self) -> u64 {
        fn size(folder: &Path) -> u64 {
            let entries = std::fs::read_dir(folder).unwrap().filter_map(Result::ok);
            let of = |entry: std::fs::DirEntry| match entry.file_type() {
                Ok(kind) if kind.is_dir() => size(&entry.path()),
                _ => entry.metadata().map_or(0, |found| found.len()),
            };
            entries.map(of).sum()
        }
        size(&self.folder("steady").join("sink"))
    }

    /// Looks until more is delivered, by some seconds of load.
    fn delivers(&self, during: &str) {
        let before = self.delivered();
        self.stage.until(&format!("delivery {during}"), || self.delivered() > before + 500_000);
    }

    /// How often a partition was taken up after its owner's end, as all controllers have logged.
    fn unplanned_moves(&self) -> usize {
        let logs = self.place.logs("tidegate-controller");
        let moves = logs.lines().filter(|line| line.contains("a partition has a new owner"));
        let unplanned =
            moves.filter(|line| line.contains("from") && !line.contains("planned=true"));
        unplanned.filter(|line| !line.contains("\"planned\":true")).count()
    }

    /// Its objects of a kind that are consumers', as `NAME=FIELD`.
    fn consumers_of(&self, kind: &str, field: &str) -> Vec<String> {
        let path = format!("{{range .items[*]}}{{.metadata.name}}={{{field}}} {{end}}");
        let all = self.stage.namespace.get(kind, &path);
        let consumers = all.split_whitespace().filter(|it| it.contains("-consumer-"));
        consumers.map(str::to_owned).collect()
    }

    fn pod_of(&self, consumer: u64, path: &str) -> String {
        let found = self.all_of("pods", consumer, path);
        found.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// What a path says of all objects of a consumer.
    fn all_of(&self, kind: &str, consumer: u64, path: &str) -> String {
        let of =
            format!("{{.items[?(@.metadata.labels.tidegate\\.dev/consumer=='{consumer}')]{path}}}");
        self.stage.namespace.get(kind, &of)
    }
}

fn ready(told: &Value) -> Vec<u64> {
    let rows = told["consumers"].as_array().into_iter().flatten();
    rows.filter(|row| row["ready"] == true).filter_map(|row| row["number"].as_u64()).collect()
}

/// All partitions of the load that goes on are read, by consumers that are ready.
fn is_read(told: &Value) -> bool {
    let (rows, ready) = (told["partitions"].as_array(), ready(told));
    let steady = rows
        .into_iter()
        .flatten()
        .filter(|row| row["topic"].as_str().is_some_and(|topic| topic.contains("-steady.")));
    let steady: Vec<&Value> = steady.collect();
    let is_active = |row: &&&Value| {
        row["state"] == "active" && row["owner"].as_u64().is_some_and(|it| ready.contains(&it))
    };
    steady.len() == PARTITIONS && steady.iter().filter(is_active).count() == PARTITIONS
}

#[expect(clippy::disallowed_methods, reason = "no Clock port here: what it took is only shown")]
fn moment() -> Instant {
    Instant::now()
}

/// Sends SIGKILL to the first process of a pod.
fn kill_pod(uid: &str) {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let variable = format!("TIDEGATE_POD_UID={uid}");
    let is_of = |pid: &i32| {
        let read = |file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let has = |text: Vec<u8>, part: &str| String::from_utf8_lossy(&text).contains(part);
        has(read("environ"), &variable) && has(read("comm"), "tidegate")
    };
    let found: Vec<i32> = pids.filter(is_of).collect();
    assert_eq!(found.len(), 1, "processes of {uid}");
    kill_process(Pid::from_raw(found[0]).unwrap(), Signal::KILL).unwrap();
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn groups_of_chart_and_manifests_lose_nothing_through_everything_and_leave_nothing_behind() {
    let kafka = RealKafka::start(KafkaVersion::V4, 1);
    let kube = RealKube::start_own(3);
    let (place, namespace) = (kube.namespace("chart"), kube.namespace("chart-group"));
    goes_through_everything(&kafka, &kube, Installed::Chart, (&place, &namespace));
    // The manifests are for groups beside their operators.
    let place = kube.namespace("manifests");
    goes_through_everything(&kafka, &kube, Installed::Manifests, (&place, &place));
}

fn goes_through_everything(
    kafka: &RealKafka,
    kube: &RealKube,
    installed: Installed,
    (place, namespace): (&Namespace<'_>, &Namespace<'_>),
) {
    println!("installed from {installed:?}");
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(kube, namespace, folder.path(), kafka.bootstrap());
    installed.install(&stage, place);
    let group = Group { stage: &stage, place, file: folder.path().join("group.yaml") };
    let steady = begin(&group);

    let surge = consumers_follow_the_load(&group);
    a_killed_process_is_replaced(&group);
    a_lost_node_is_survived(&group);
    moves_go_on_without_the_api_server(&group);
    a_killed_controller_is_replaced(&group);
    images_are_rolled_out_and_taken_back(&group);
    controllers_are_replaced_in_order(&group);
    a_node_is_drained(&group);

    assert_eq!(end(steady.running), Some(0), "{}", log(folder.path(), steady.name));
    group.until("group without lag", |told| {
        told["partitions"].as_array().unwrap().iter().all(|row| row["lagRecords"] == 0)
    });
    namespace.kubectl(&["delete", "cg", group.name(), "--timeout=300s"]);
    assert_eq!(stage.names("cg"), "");
    installed.remove(&stage, place);
    for kind in KINDS {
        let left = || stage.names(kind) + &place.get(kind, "{.items[*].metadata.name}");
        // What belonged to what was deleted goes a little later.
        look_until(&format!("end of all {kind}"), || left().is_empty(), left);
    }
    for (load, least) in [(steady.folder, 10_000), (surge, 1_000)] {
        let report = audited(&load, load.join("ledger.json").to_str().unwrap());
        assert!(report["delivered"].as_u64().unwrap() > least, "{report}");
        assert_eq!((&report["lost"], &report["duplicated"]), (&0.into(), &0.into()), "{report}");
    }
}

/// Makes the resource, and waits until one consumer reads the load that goes on.
fn begin(group: &Group<'_>) -> Load {
    for load in ["steady", "surge"] {
        std::fs::create_dir_all(group.folder(load).join("sink")).unwrap();
    }
    assert_eq!(group.stage.begin(&group.spec()), group.file);
    let steady = group.load("steady", "300kB/s", &[]);
    group.until("one consumer that reads everything", |told| {
        is_read(told) && ready(told).len() == 1
    });
    let logs = group.place.logs("tidegate-");
    assert!(!logs.contains("the right to"), "{logs}");
    steady
}

/// Consumers come for more load, and leave with their volumes when it is over.
fn consumers_follow_the_load(group: &Group<'_>) -> PathBuf {
    let mut surge = group.load("surge", "1.8MB/s", &["--duration", "40s"]);
    group.until("three consumers", |told| ready(told).len() >= 3);
    for kind in ["deployments", "persistentvolumeclaims"] {
        assert!(group.consumers_of(kind, ".metadata.uid").len() >= 3, "{kind}");
    }
    assert!(surge.running.0.wait().unwrap().success(), "{}", log(&group.stage.folder, surge.name));
    group.until("one consumer again", |told| ready(told).len() == 1 && is_read(told));
    for kind in ["deployments", "persistentvolumeclaims"] {
        group.stage.until(kind, || group.consumers_of(kind, ".metadata.uid").len() == 1);
    }
    surge.folder
}

fn a_killed_process_is_replaced(group: &Group<'_>) {
    let consumer = ready(&group.until("consumer", is_read))[0];
    let uid = group.pod_of(consumer, ".metadata.uid");
    let incarnation = |told: &Value| {
        let rows = told["consumers"].as_array().into_iter().flatten();
        rows.filter(|row| row["ready"] == true)
            .map(|row| row["incarnation"].clone())
            .max_by_key(Value::as_u64)
    };
    let before = incarnation(&group.until("consumer", is_read));
    kill_pod(&uid);
    group.until("consumer after SIGKILL", |told| incarnation(told) != before && is_read(told));
    group.delivers("after SIGKILL");
}

fn a_lost_node_is_survived(group: &Group<'_>) {
    let consumer = ready(&group.until("consumer", is_read))[0];
    let node = group.pod_of(consumer, ".spec.nodeName");
    let claim = || group.all_of("persistentvolumeclaims", consumer, ".metadata.uid");
    let kept = claim();
    let pod = group.pod_of(consumer, ".metadata.uid");
    let fault = group.stage.kube.fault(&format!("node {node} crash"));
    group.until("other consumer than that of the lost node", |told| {
        is_read(told) && !ready(told).contains(&consumer)
    });
    group.delivers("without a node");
    // Nobody knows whether its process has ended: neither its claim nor its pod is forced.
    assert_eq!(claim(), kept);
    assert!(group.all_of("pods", consumer, ".metadata.uid").contains(&pod));
    drop(fault);
    let node = format!("node/{node}");
    group.stage.kube.kubectl(&["wait", &node, "--for=condition=Ready", "--timeout=180s"]);
    group.until("group after the loss of a node", is_read);
}

/// Consumers go on without the API server, and partitions move between those that live. Once it is back, more are made.
fn moves_go_on_without_the_api_server(group: &Group<'_>) {
    group.service("consumers.min", "2");
    let told = group.until("two consumers", |told| ready(told).len() == 2 && is_read(told));
    let holder = group.leader().unwrap().address;
    let rows = told["partitions"].as_array().unwrap();
    let row = rows.iter().find(|row| row["topic"].as_str().unwrap().contains("-steady.")).unwrap();
    let other = ready(&told).into_iter().find(|it| Some(*it) != row["owner"].as_u64()).unwrap();
    let number = row["number"].as_u64().unwrap();

    // Those that work by it go too: without it they lose their leases and end.
    let control_plane = ["kube-scheduler", "kube-controller-manager", "kube-apiserver"];
    group.stage.kube.kill(&control_plane);
    let away = moment();
    let pin = format!("{{{}/{number}: {other}}}", row["topic"].as_str().unwrap());
    group.service("consumers.pins", &pin);
    let is_moved = |told: &Value| {
        let rows = told["partitions"].as_array().unwrap();
        let is = |now: &&Value| now["topic"] == row["topic"] && now["number"] == row["number"];
        rows.iter().find(is).is_some_and(|now| now["owner"] == other && now["state"] == "active")
    };
    let moved = || group.status_of(&holder).is_some_and(|told| is_moved(&told));
    look_until("a move without the API server", moved, || group.said(&holder));
    // Longer than the lease would hold.
    let before = group.delivered();
    let delivered =
        || away.elapsed() > Duration::from_secs(25) && group.delivered() > before + 500_000;
    look_until("delivery without the API server", delivered, || group.said(&holder));
    assert!(moved(), "it leads on");
    group.stage.kube.restart();
    let back = moment();
    group.service("consumers.min", "3");
    let seconds = || back.elapsed().as_secs_f64();
    group.stage.until("third Deployment", || {
        group.consumers_of("deployments", ".metadata.uid").len() == 3
    });
    let asked = seconds();
    assert!(asked < 10.0, "a third Deployment {asked:.1} s after the API server was back");
    println!("a third Deployment {asked:.1} s after the API server was back");
    group.until("three consumers after the outage", |told| ready(told).len() == 3 && is_read(told));
    println!("three consumers {:.1} s after the API server was back", seconds());
    let file = group.file.to_str().unwrap();
    for field in ["consumers.pins", "consumers.min"] {
        assert!(run(&["service", "unset", "--spec", file, field]).status.success());
    }
}

/// Without kubectl, which needs what is away.
fn look_until(what: &str, wanted: impl Fn() -> bool, said: impl Fn() -> String) {
    for _ in 0..900 {
        if wanted() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
    panic!("no {what} after minutes\n{}", said());
}

fn a_killed_controller_is_replaced(group: &Group<'_>) {
    let before = group.leader().unwrap().pod;
    let killed = moment();
    group.place.kubectl(&["delete", "pod", &before, "--grace-period=0", "--force"]);
    group.stage.until("another controller", || {
        group.leader().is_some_and(|now| now.pod != before && is_read(&now.told))
    });
    println!("another controller {:.1} s after SIGKILL", killed.elapsed().as_secs_f64());
}

fn images_are_rolled_out_and_taken_back(group: &Group<'_>) {
    let kube = group.stage.kube;
    let [bad, other] = [3, 2].map(|tag| format!("example/{}:{tag}", group.name()));
    let good = by_digest(group);
    for image in [&good, &other] {
        kube.image(image, Path::new(env!("CARGO_BIN_EXE_tidegate")));
    }
    kube.script_image(&bad, "exit 1");
    let image = ".spec.template.spec.containers[0].image";
    let images = || group.consumers_of("deployments", image);
    let are = |wanted: &str| {
        !images().is_empty() && images().iter().all(|it| it.ends_with(&format!("={wanted}")))
    };
    group.service("workers.kubernetes.image", &good);
    group.until("rollout", |told| told["rollout"].is_null() && is_read(told) && are(&good));
    group.service("workers.kubernetes.image", &bad);
    group.until("rollout that is taken back", |told| {
        let alarms = told["alarms"].as_array().into_iter().flatten();
        alarms.filter(|alarm| alarm["code"] == "rollout-taken-back").count() == 1
            && told["rollout"]["consumer"].is_null()
            && is_read(told)
    });
    assert!(are(&good), "{:?}", images());
    assert!(group.stage.has_event("RolloutTakenBack", "updated"));
    let stage = group.stage;
    assert!(stage.has_event("ConsumerTrouble", ""), "the consumer that did not start is told");
    // Where both speak the service topic wins, and the resource says so.
    group.service("workers.kubernetes.image", &good);
    group.until("end of the alarm", |told| told["rollout"].is_null() && is_read(told));
    let overridden = stage.condition(group.name(), "Overridden", "message");
    assert!(overridden.contains("workers.kubernetes.image"), "{overridden}");

    // An image that nobody can pull strands nothing either.
    let before = group.unplanned_moves();
    group.service("workers.kubernetes.image", &format!("example/{}:none", group.name()));
    group.until("rollout of no image that is taken back", |told| {
        told["rollout"]["refused"].is_string()
            && told["rollout"]["consumer"].is_null()
            && is_read(told)
    });
    assert_eq!(group.unplanned_moves(), before, "no partition has lost its owner");
}

/// Controllers that are started anew, as by another version, leave the consumers alone; and while a group is paused nothing moves.
fn controllers_are_replaced_in_order(group: &Group<'_>) {
    let pods = || group.consumers_of("pods", ".metadata.uid");
    group.service("paused", "true");
    group.until("pause", |told| told["spec"]["paused"] == true && is_read(told));
    let (before, leader) = (pods(), group.leader().unwrap().pod);
    for verb in ["restart", "status"] {
        group.place.kubectl(&["rollout", verb, "deployment/tidegate-controller"]);
    }
    group.stage.until("controller of another pod", || {
        group.leader().is_some_and(|now| now.pod != leader && is_read(&now.told))
    });
    let told = group.until("controller that knows what was taken back", |told| {
        told["rollout"]["refused"].is_string() && is_read(told)
    });
    assert!(told["rollout"]["consumer"].is_null(), "it is not tried again: {told}");
    assert_eq!(pods(), before, "consumers go on");
    group.service("paused", "false");
    group.service("workers.kubernetes.image", &by_digest(group));
    group.until("end of the rollout", |told| told["rollout"].is_null() && is_read(told));

    // What the resource says takes the same road, once nothing is said over it.
    let image = format!("example/{}:2", group.name());
    let patch = json!({ "spec": { "workers": { "kubernetes": { "image": image } } } });
    let patch = format!("--patch={patch}");
    group.stage.namespace.kubectl(&["patch", "cg", group.name(), "--type=merge", &patch]);
    let file = group.file.to_str().unwrap();
    assert!(
        run(&["service", "unset", "--spec", file, "workers.kubernetes.image"]).status.success()
    );
    let images = || group.consumers_of("deployments", ".spec.template.spec.containers[0].image");
    group.until("rollout of what the resource says", |told| {
        told["rollout"].is_null()
            && is_read(told)
            && images().iter().all(|it| it.ends_with(&format!("={image}")))
    });
}

/// An image that is named by its digest.
fn by_digest(group: &Group<'_>) -> String {
    format!("example/{}@sha256:{}", group.name(), "2".repeat(64))
}

/// Partitions are moved before the pods of a node are ended.
fn a_node_is_drained(group: &Group<'_>) {
    let told = group.until("group", is_read);
    let before = group.unplanned_moves();
    let node = group.pod_of(ready(&told)[0], ".spec.nodeName");
    let arguments =
        ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s"];
    group.stage.kube.kubectl(&arguments);
    let told = group.until("group beside the node", is_read);
    for consumer in ready(&told) {
        assert_ne!(group.pod_of(consumer, ".spec.nodeName"), node);
    }
    assert_eq!(group.unplanned_moves(), before, "partitions were moved before their pods ended");
    group.stage.kube.kubectl(&["uncordon", &node]);
}
