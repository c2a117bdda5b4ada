//! A group whose consumers are Deployments, on a real Kubernetes with a real Kafka: they come and go with their volumes, survive
//! what happens to pods, are rolled out and taken back, and no record is lost or written twice by any of it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "support/audited.rs"]
mod audited;
#[path = "support/looks.rs"]
mod looks;
#[path = "support/on_kube.rs"]
mod on_kube;
mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tidegate_testing::{KafkaVersion, Namespace, RealKafka, RealKube};

use audited::audited;
use looks::{Running, end, log, wait_for};
use support::{run, stderr, stdout};

/// A group, the folder with its specification, logs and sink, and where its consumers run.
struct Group<'a> {
    kube: &'a RealKube,
    namespace: &'a Namespace<'a>,
    folder: PathBuf,
    spec: String,
}

impl<'a> Group<'a> {
    fn new(
        kube: &'a RealKube,
        namespace: &'a Namespace<'a>,
        folder: &Path,
        bootstrap: &str,
    ) -> Self {
        let (name, sink) = (namespace.name(), folder.join("sink"));
        std::fs::create_dir(&sink).unwrap();
        let (sink, data) = (sink.display(), folder.join("data"));
        let text = format!(
            "group: {name}
mode: own
cluster: {{bootstrapServers: '{bootstrap}'}}
topics: [{{name: '{name}.*', sink: 'file://{sink}'}}]
controlTopics: {{monitor: {name}-monitor, controller: {name}-controller, service: {name}-service}}
capacity: {{bytesPerSecond: 1MB/s}}
consumers: {{min: 2, max: 5}}
controller: {{holdScaleIn: 5s}}
ownership: {{lease: 6s, writeTimeout: 2s, heartbeat: 1s, fence: 8s, tick: 1s, electAfter: 4s}}
workers:
  kind: kubernetes
  dataDirectory: '{}'
  kubernetes:
    image: example/{name}:1
    namespace: {name}
    template:
      spec:
        volumes: [{{name: sink, hostPath: {{path: '{sink}'}}}}]
        containers: [{{name: consumer, volumeMounts: [{{name: sink, mountPath: '{sink}'}}]}}]
",
            data.display()
        );
        let spec = folder.join("group.yaml");
        std::fs::write(&spec, text).unwrap();
        let (folder, spec) = (folder.to_owned(), spec.to_str().unwrap().to_owned());
        Self { kube, namespace, folder, spec }
    }

    /// Makes an image of this tag that is the program of this build.
    fn image(&self, tag: &str) -> String {
        let image = format!("example/{}:{tag}", self.namespace.name());
        self.kube.image(&image, Path::new(env!("CARGO_BIN_EXE_tidegate")));
        image
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let arguments = [arguments, &["--spec", &self.spec]].concat();
        on_kube::start(self.kube, &self.folder, arguments[0], &arguments)
    }

    fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(&self.folder, &self.spec, what, wanted)
    }

    fn set(&self, field: &str, value: &str) {
        let output = run(&["service", "set", "--spec", &self.spec, field, value]);
        done(&output);
    }

    /// The names of all objects of a kind.
    fn names(&self, kind: &str) -> String {
        self.namespace.get(kind, "{.items[*].metadata.name}")
    }

    /// The images of all consumers.
    fn images(&self) -> Vec<String> {
        let path = "{.items[*].spec.template.spec.containers[0].image}";
        self.namespace.get("deployments", path).split(' ').map(str::to_owned).collect()
    }
}

fn done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(output), stderr(output));
}

fn ready(told: &Value) -> Vec<u64> {
    let rows = told["consumers"].as_array().into_iter().flatten();
    rows.filter(|row| row["ready"] == true).filter_map(|row| row["number"].as_u64()).collect()
}

fn all_active(told: &Value) -> bool {
    let rows = told["partitions"].as_array();
    rows.is_some_and(|rows| rows.len() == 8 && rows.iter().all(|row| row["state"] == "active"))
}

fn has_alarm(told: &Value, code: &str) -> bool {
    told["alarms"].as_array().into_iter().flatten().any(|alarm| alarm["code"] == code)
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_group_of_deployments_delivers_through_everything() {
    let kafka = RealKafka::start(KafkaVersion::V4, 1);
    let kube = RealKube::start();
    let namespace = kube.namespace("group");
    let folder = tempfile::tempdir().unwrap();
    let group = Group::new(&kube, &namespace, folder.path(), kafka.bootstrap());
    let name = namespace.name();
    group.image("1");
    done(&run(&["topics", "create", "--spec", &group.spec]));
    let monitor = group.start(&["monitor"]);
    let controller = group.start(&["controller"]);
    let ledger = folder.path().join("acknowledged.json");
    let shape = ["--duration", "200s", "--rate", "400kB/s", "--topics", "1", "--partitions", "8"];
    // Other tests write to the same cluster.
    let prefix = format!("{name}.");
    let files = ["load", "--ledger", ledger.to_str().unwrap(), "--prefix", &prefix];
    let mut load = group.start(&[&files[..], &shape[..]].concat());

    group.until("two consumers that read everything", |told| {
        ready(told).len() == 2 && all_active(told)
    });
    let [one, two] = [1, 2].map(|number| format!("{name}-consumer-{number}"));
    for kind in ["deployments", "persistentvolumeclaims"] {
        assert_eq!(group.names(kind), format!("{one} {two}"));
    }
    assert_eq!(group.names("poddisruptionbudgets"), format!("{name}-consumers"));

    a_pod_that_is_deleted_is_left_and_replaced(&group);

    // The controller is killed: the consumers go on, and the next one finds them.
    let mut controller = controller;
    controller.0.kill().unwrap();
    controller.0.wait().unwrap();
    let controller = group.start(&["controller", "--end-workers"]);
    group.until("another controller that leads", |told| {
        told["role"] == "leader" && ready(told).len() == 2 && all_active(told)
    });

    images_are_rolled_out_and_taken_back(&group);

    // A consumer that is to go leaves with its volume.
    group.set("consumers.min", "1");
    group.set("consumers.drain", "[2]");
    group.until("group without consumer 2", |told| !ready(told).contains(&2) && all_active(told));
    namespace.wait_for(&format!("deployment/{two}"), "delete");
    namespace.wait_for(&format!("persistentvolumeclaim/{two}"), "delete");

    assert!(load.0.wait().unwrap().success(), "{}", log(folder.path(), "load"));
    group.until("status without lag", |told| {
        let rows = told["partitions"].as_array().unwrap();
        rows.iter().all(|row| row["lagRecords"] == 0)
    });
    assert_eq!(end(controller), Some(0), "{}", log(folder.path(), "controller"));
    assert_eq!(end(monitor), Some(0), "{}", log(folder.path(), "monitor"));
    for kind in ["deployments", "pods"] {
        assert_eq!(group.names(kind), "", "{kind} are left");
    }
    audit(folder.path(), &ledger);
}

fn a_pod_that_is_deleted_is_left_and_replaced(group: &Group<'_>) {
    let process = |told: &Value| {
        let rows = told["consumers"].as_array().into_iter().flatten();
        let mut of = rows.filter(|row| row["number"] == 1 && row["ready"] == true);
        of.next().and_then(|row| row["process"].as_str().map(str::to_owned))
    };
    let old = process(&group.until("consumer 1", |told| ready(told).contains(&1)));
    let label = "tidegate.dev/consumer=1";
    group.namespace.kubectl(&["delete", "pod", "--selector", label, "--wait=false"]);
    group.until("another pod of consumer 1", |told| {
        process(told).is_some_and(|now| Some(now) != old) && all_active(told)
    });
    // Its partitions were moved before it was told to end.
    let log = log(&group.folder, "controller");
    let moves = log.lines().filter(|line| line.contains("a partition has a new owner"));
    let moves: Vec<&str> = moves.filter(|line| line.contains("from=1")).collect();
    assert!(!moves.is_empty() && moves.iter().all(|line| line.contains("planned=true")), "{log}");
}

fn images_are_rolled_out_and_taken_back(group: &Group<'_>) {
    let image = group.image("2");
    group.set("workers.kubernetes.image", &image);
    group.until("rollout", |told| told["rollout"]["consumers"].as_u64() >= Some(2));
    group.until("end of the rollout", |told| told["rollout"].is_null() && all_active(told));
    assert!(group.images().iter().all(|running| *running == image), "{:?}", group.images());

    let broken = format!("example/{}:3", group.namespace.name());
    group.kube.script_image(&broken, "exit 1");
    group.set("workers.kubernetes.image", &broken);
    let told = group.until("rollout that is taken back", |told| {
        has_alarm(told, "rollout-taken-back") && told["rollout"]["consumer"].is_null()
    });
    assert!(all_active(&told) && ready(&told).len() >= 2, "{told:#?}");
    assert!(group.images().iter().all(|running| *running == image), "{:?}", group.images());
    group.set("workers.kubernetes.image", &image);
}

fn audit(folder: &Path, ledger: &Path) {
    let report = audited(folder, ledger.to_str().unwrap());
    assert!(report["delivered"].as_u64().unwrap() > 10_000, "{report}");
    assert_eq!((&report["lost"], &report["duplicated"]), (&0.into(), &0.into()), "{report}");
}

/// The example of the documentation with the names of a test in it.
fn example(namespace: &Namespace<'_>, image: &str, bootstrap: &str, sink: &Path) -> String {
    let (name, sink) = (namespace.name(), sink.display());
    let volume = format!("volumes: [{{name: sink, hostPath: {{path: '{sink}'}}}}]");
    let mount = format!("volumeMounts: [{{name: sink, mountPath: '{sink}'}}]");
    let address = "env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]";
    let topics = format!(
        "{{monitor: {name}-monitor, controller: {name}-controller, service: {name}-service}}"
    );
    let mut text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/kubernetes.yaml"
    ))
    .unwrap();
    for (old, new) in [
        ("example/tidegate:1", image.to_owned()),
        ("kafka:9092", bootstrap.to_owned()),
        // The pods of the tests share this machine's ports.
        ("0.0.0.0:8080", "$(POD_IP):8080".to_owned()),
        ("          ports:", format!("          {address}\n          ports:")),
        ("group: orders", format!("group: {name}\n    controlTopics: {topics}")),
        ("orders.*", format!("{name}.*")),
        ("s3://lake/orders", format!("file://{sink}")),
        (
            "          spec:\n            containers:\n",
            format!("          spec:\n            {volume}\n            containers:\n"),
        ),
        ("- name: consumer\n", format!("- name: consumer\n                {mount}\n")),
    ] {
        assert!(text.contains(old), "{old} is not in the example");
        text = text.replace(old, &new);
    }
    text
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn the_example_runs_a_group_by_its_service_account() {
    let kafka = RealKafka::start(KafkaVersion::V4, 1);
    let kube = RealKube::start();
    let namespace = kube.namespace("example");
    let folder = tempfile::tempdir().unwrap();
    let sink = folder.path().join("sink");
    std::fs::create_dir(&sink).unwrap();
    let image = format!("example/{}:1", namespace.name());
    kube.image(&image, Path::new(env!("CARGO_BIN_EXE_tidegate")));
    namespace.apply(&example(&namespace, &image, kafka.bootstrap(), &sink));
    for deployment in ["tidegate-controller", "tidegate-monitor"] {
        namespace.wait_for(&format!("deployment/{deployment}"), "condition=Available");
    }
    let spec = folder.path().join("group.yaml");
    let group = namespace.get("configmap/tidegate-group", "{.data.group\\.yaml}");
    std::fs::write(&spec, group).unwrap();
    let ledger = folder.path().join("acknowledged.json");
    let files = ["load", "--spec", spec.to_str().unwrap(), "--ledger", ledger.to_str().unwrap()];
    let prefix = format!("{}.", namespace.name());
    let shape = ["--duration", "30s", "--rate", "400kB/s", "--topics", "1", "--partitions", "4"];
    done(&run(&[&files[..], &["--prefix", &prefix], &shape[..]].concat()));
    namespace
        .wait_for(&format!("deployment/{}-consumer-1", namespace.name()), "condition=Available");

    // Until all is durable, as the controller in its pod says.
    let pod = "app.kubernetes.io/component=controller";
    let address =
        namespace.kubectl(&["get", "pods", "-l", pod, "-o", "jsonpath={.items[0].status.podIP}"]);
    let url = format!("http://{address}:8080");
    let is_drained = |told: &Value| {
        let rows = told["partitions"].as_array().into_iter().flatten();
        let rows: Vec<&Value> = rows.collect();
        rows.len() == 4 && rows.iter().all(|row| row["lagRecords"] == 0 && row["state"] == "active")
    };
    let status = || {
        let output = run(&["status", "--url", &url, "--output", "json"]);
        serde_json::from_str::<Value>(&stdout(&output)).unwrap_or_default()
    };
    let mut looks = 0;
    while !is_drained(&status()) {
        looks += 1;
        assert!(looks < 900, "{:#?}\n{}", status(), namespace.logs(""));
        std::thread::park_timeout(std::time::Duration::from_millis(200));
    }
    audit(folder.path(), &ledger);
}
