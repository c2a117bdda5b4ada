//! Groups that are resources, on a real Kubernetes with a real Kafka: two operators of which one works, what they tell in status and
//! Events, what they refuse, what they put right, and that a deleted resource leaves nothing behind and loses nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "support/audited.rs"]
mod audited;
#[path = "support/ends.rs"]
mod ends;
#[path = "support/on_kube.rs"]
mod on_kube;
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_testing::{KafkaVersion, Namespace, RealKafka, RealKube};

use audited::audited;
use ends::{Running, end, log};
use support::{run, stdout};

/// The chart, as a path.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/helm/tidegate");

/// A resource, the folder with its sink and the logs of its processes.
struct Stage<'a> {
    kube: &'a RealKube,
    namespace: &'a Namespace<'a>,
    folder: PathBuf,
    bootstrap: String,
}

impl<'a> Stage<'a> {
    fn new(kube: &'a RealKube, namespace: &'a Namespace<'a>, folder: &Path, kafka: &str) -> Self {
        std::fs::create_dir(folder.join("sink")).unwrap();
        let name = namespace.name();
        let image = format!("example/{name}:1");
        kube.image(&image, Path::new(env!("CARGO_BIN_EXE_tidegate")));
        let made = kube.try_kubectl(&["apply", "--filename=-"], &stdout(&run(&["crd"])));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let crd = "crd/consumergroups.tidegate.dev";
        kube.kubectl(&["wait", crd, "--for=condition=Established", "--timeout=180s"]);
        Self { kube, namespace, folder: folder.to_owned(), bootstrap: kafka.to_owned() }
    }

    /// A specification, as in a file but for what a resource knows itself.
    fn spec(&self) -> Value {
        let (name, sink) = (self.namespace.name(), self.folder.join("sink"));
        json!({
            "group": name,
            "mode": "own",
            "cluster": { "bootstrapServers": self.bootstrap },
            "topics": [{ "name": "example.*", "sink": format!("file://{}", sink.display()) }],
            "controlTopics": { "monitor": format!("{name}-monitor"), "controller": format!("{name}-controller"),
                               "service": format!("{name}-service") },
            "capacity": { "bytesPerSecond": "1MB/s" },
            "consumers": { "min": 2, "max": 5 },
            "controller": { "holdScaleIn": "5s" },
            "ownership": { "lease": "6s", "writeTimeout": "2s", "heartbeat": "1s", "fence": "8s", "tick": "1s", "electAfter": "4s" },
            "workers": { "kubernetes": {
                "image": format!("example/{name}:1"),
                "template": { "spec": {
                    "volumes": [{ "name": "sink", "hostPath": { "path": sink } }],
                    "containers": [{ "name": "consumer", "volumeMounts": [{ "name": "sink", "mountPath": sink }] }],
                } },
            } },
        })
    }

    fn apply(&self, name: &str, spec: &Value) {
        let resource = json!({
            "apiVersion": "tidegate.dev/v1alpha1",
            "kind": "ConsumerGroup",
            "metadata": { "name": name },
            "spec": spec,
        });
        self.namespace.apply(&resource.to_string());
    }

    fn start(&self, name: &str, arguments: &[&str]) -> Running {
        on_kube::start(self.kube, &self.folder, name, arguments)
    }

    fn operator(&self, name: &str, part: &str) -> Running {
        let namespace = self.namespace.name();
        let places = ["--namespaces", namespace, "--lease-namespace", namespace];
        let serves = [part, "--kubernetes", "--http", "127.0.0.1:0"];
        self.start(name, &[&serves[..], &places[..]].concat())
    }

    /// Looks until it is as wanted, for some minutes: each look costs a second on a busy machine.
    fn until(&self, what: &str, wanted: impl Fn() -> bool) {
        for _ in 0..240 {
            if wanted() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(200));
        }
        let logs = ["one", "two", "three", "monitor"].map(|process| log(&self.folder, process));
        let name = self.namespace.name();
        let told = self.namespace.kubectl(&["get", "cg", "--output=yaml"]);
        panic!("no {what} after minutes\n{told}\n{}\n{logs:#?}", self.namespace.events(name));
    }

    fn condition(&self, resource: &str, kind: &str, field: &str) -> String {
        let path = format!("{{.status.conditions[?(@.type=='{kind}')].{field}}}");
        self.namespace.get(&format!("cg/{resource}"), &path)
    }

    /// The resource says that so many consumers are ready, and that all is well.
    fn is_well(&self, consumers: u32) -> bool {
        let name = self.namespace.name();
        let ready = self.namespace.get(&format!("cg/{name}"), "{.status.consumers.ready}");
        ready == consumers.to_string() && self.condition(name, "Ready", "status") == "True"
    }

    fn has_event(&self, reason: &str, said: &str) -> bool {
        let events = self.namespace.events(self.namespace.name());
        events.lines().any(|line| line.starts_with(reason) && line.contains(said))
    }

    fn names(&self, kind: &str) -> String {
        self.namespace.get(kind, "{.items[*].metadata.name}")
    }

    fn holder(&self, part: &str) -> String {
        let arguments = ["get", "leases", "--ignore-not-found", &format!("tidegate-{part}")];
        self.namespace
            .kubectl(&[&arguments[..], &["--output=jsonpath={.spec.holderIdentity}"]].concat())
    }

    /// Where an operator serves its pages, once it has said so.
    fn address(&self, operator: &str) -> Option<String> {
        let log = log(&self.folder, operator);
        let (_, rest) = log.split_once("address=")?;
        rest.split_whitespace().next().map(str::to_owned)
    }

    /// What an operator serves at a path; nothing while it does not.
    fn page(&self, operator: &str, path: &str) -> Option<String> {
        let address = self.address(operator)?;
        let mut stream = std::net::TcpStream::connect(address).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).ok()?;
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    /// As `tidegate status` shows it of one of several groups.
    fn group_status(&self, operator: &str) -> Value {
        let (address, name) = (self.address(operator), self.namespace.name());
        let url = format!("http://{}/groups/{name}/{name}", address.unwrap_or_default());
        let output = run(&["status", "--url", &url, "--output", "json"]);
        serde_json::from_str(&stdout(&output)).unwrap_or_default()
    }

    fn is_drained(&self, operator: &str) -> bool {
        let told = self.group_status(operator);
        let rows: Vec<&Value> = told["partitions"].as_array().into_iter().flatten().collect();
        rows.len() == 8 && rows.iter().all(|row| row["lagRecords"] == 0 && row["state"] == "active")
    }
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn resources_are_run_by_one_of_two_operators_until_they_are_deleted() {
    let kafka = RealKafka::start(KafkaVersion::V4, 1);
    let kube = RealKube::start();
    let namespace = kube.namespace("operator");
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(&kube, &namespace, folder.path(), kafka.bootstrap());
    let name = namespace.name();

    let one = stage.operator("one", "controller");
    stage.until("holder of the lease", || !stage.holder("controller").is_empty());
    let first = stage.holder("controller");
    let two = stage.operator("two", "controller");
    let monitor = stage.operator("monitor", "monitor");
    for operator in ["one", "two", "monitor"] {
        stage.until("operator that is ready", || stage.page(operator, "/readyz").is_some());
    }
    stage.apply(name, &stage.spec());
    let file = folder.path().join("group.yaml");
    let mut spec = stage.spec();
    spec["workers"]["kind"] = json!("kubernetes");
    std::fs::write(&file, spec.to_string()).unwrap();
    let ledger = folder.path().join("acknowledged.json");
    let files = ["load", "--spec", file.to_str().unwrap(), "--ledger", ledger.to_str().unwrap()];
    let shape = ["--duration", "120s", "--rate", "400kB/s", "--topics", "1", "--partitions", "8"];
    stage.until("control topics", || {
        run(&["topics", "describe", "--spec", file.to_str().unwrap()]).status.success()
    });
    let mut load = stage.start("load", &[&files[..], &shape[..]].concat());
    stage.until("two consumers", || stage.is_well(2));
    let [consumer_one, consumer_two] = [1, 2].map(|number| format!("{name}-consumer-{number}"));
    for kind in ["deployments", "persistentvolumeclaims"] {
        assert_eq!(stage.names(kind), format!("{consumer_one} {consumer_two}"));
    }
    it_tells_numbers(&stage);

    // The holder is killed: the other one takes over, and the consumers go on.
    assert_eq!(stage.holder("controller"), first);
    drop(one);
    stage.until("other holder", || {
        let now = stage.holder("controller");
        !now.is_empty() && now != first
    });
    stage.until("group that is led by the other", || {
        stage
            .page("two", "/metrics")
            .is_some_and(|told| told.contains(&format!("group=\"{name}\"")))
            && stage.is_well(2)
    });

    what_is_refused_is_told_and_stops_nothing(&stage);
    what_is_deleted_by_hand_comes_back(&stage, &consumer_two);
    namespace.kubectl(&["scale", &format!("cg/{name}"), "--replicas=3"]);
    stage.until("three consumers", || {
        stage.is_well(3) && stage.has_event("Scaled", "2 -> 3 consumers")
    });

    assert!(load.0.wait().unwrap().success(), "{}", log(folder.path(), "load"));
    stage.until("group without lag", || stage.is_drained("two"));
    let told = stage.group_status("two");
    assert_eq!(told["role"], "leader", "{told}");
    let three = it_is_deleted_while_operators_change(&stage, two);
    for kind in ["deployments", "pods", "persistentvolumeclaims", "poddisruptionbudgets"] {
        assert_eq!(stage.names(kind), "", "{kind} are left");
    }
    assert_eq!(end(three), Some(0), "{}", log(folder.path(), "three"));
    assert_eq!(end(monitor), Some(0), "{}", log(folder.path(), "monitor"));
    assert_eq!(stage.holder("controller"), "", "the lease is released");
    let report = audited(folder.path(), ledger.to_str().unwrap());
    assert!(report["delivered"].as_u64().unwrap() > 10_000, "{report}");
    assert_eq!((&report["lost"], &report["duplicated"]), (&0.into(), &0.into()), "{report}");
}

/// A resource that cannot be read is deleted, and the operator is killed at once: the next one, which knows no specification, ends it.
fn it_is_deleted_while_operators_change(stage: &Stage<'_>, two: Running) -> Running {
    let name = stage.namespace.name();
    let mut faulty = stage.spec();
    faulty["topics"][0]["sink"] = json!("nowhere://lake");
    stage.apply(name, &faulty);
    stage.until("refusal", || stage.condition(name, "Accepted", "reason") == "Invalid");
    stage.namespace.kubectl(&["delete", "cg", name, "--wait=false"]);
    drop(two);
    let three = stage.operator("three", "controller");
    stage.until("resource that is gone", || stage.names("cg").is_empty());
    three
}

fn it_tells_numbers(stage: &Stage<'_>) {
    let name = stage.namespace.name();
    let told = |path: &str| stage.namespace.get(&format!("cg/{name}"), path);
    assert_eq!(told("{.metadata.finalizers[0]}"), "tidegate.dev/drain");
    stage.until("status with eight partitions", || told("{.status.partitions}") == "8");
    stage.until("generation that is observed", || {
        told("{.status.observedGeneration}") == told("{.metadata.generation}")
    });
    assert_eq!(stage.condition(name, "Accepted", "status"), "True");
    stage.until("decision", || !told("{.status.lastDecision.lowerBound}").is_empty());
    stage.until("Event with numbers", || stage.has_event("Scaled", "consumers, lower bound"));
    let deployment = format!("deployment/{name}-consumer-1");
    let owner = stage.namespace.get(&deployment, "{.metadata.ownerReferences[0].kind}");
    assert_eq!(owner, "ConsumerGroup");
}

fn what_is_refused_is_told_and_stops_nothing(stage: &Stage<'_>) {
    let name = stage.namespace.name();
    let mut faulty = stage.spec();
    faulty["topics"][0]["sink"] = json!("nowhere://lake");
    faulty["cluster"]["security"] = json!({ "sasl": {
        "mechanism": "SCRAM-SHA-512", "username": "t", "password": { "env": "HOME" },
    } });
    stage.apply(name, &faulty);
    stage.until("refusal", || stage.condition(name, "Accepted", "reason") == "Invalid");
    let message = stage.condition(name, "Accepted", "message");
    for path in ["topics[0].sink", "cluster.security.sasl.password"] {
        assert!(message.contains(path), "{path} is not in {message}");
    }
    assert!(stage.is_well(2), "{message}");
    // Another resource of the same group takes nothing from this one.
    stage.apply("other", &stage.spec());
    stage.until("duplicate", || stage.condition("other", "Accepted", "reason") == "Duplicate");
    stage.namespace.kubectl(&["delete", "cg", "other", "--timeout=180s"]);
    assert_eq!(stage.names("deployments").split(' ').count(), 2);
    stage.apply(name, &stage.spec());
    stage.until("acceptance", || stage.condition(name, "Accepted", "status") == "True");
    assert!(stage.is_well(2));
}

fn what_is_deleted_by_hand_comes_back(stage: &Stage<'_>, deployment: &str) {
    let uid = || {
        let arguments = ["get", "deployment", deployment, "--ignore-not-found"];
        stage.namespace.kubectl(&[&arguments[..], &["--output=jsonpath={.metadata.uid}"]].concat())
    };
    let before = uid();
    stage.namespace.kubectl(&["delete", "deployment", deployment, "--wait=false"]);
    stage.until("deployment that is there again", || {
        let now = uid();
        !now.is_empty() && now != before
    });
    stage.until("Event about it", || stage.has_event("Drift", "consumer 2"));
    stage.until("two consumers again", || stage.is_well(2));
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn the_chart_installs_operators_that_run_a_group() {
    let kafka = RealKafka::start(KafkaVersion::V4, 1);
    let kube = RealKube::start();
    let (place, namespace) = (kube.namespace("operator-chart"), kube.namespace("operator-group"));
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(&kube, &namespace, folder.path(), kafka.bootstrap());
    let watched = format!("watchNamespaces={{{}}}", namespace.name());
    let image = format!("image.repository=example/{}", namespace.name());
    // The pods of the tests share this machine's ports.
    let values = [image.as_str(), "image.tag=1", watched.as_str(), "http.address=$(POD_IP)"];
    let mut install = vec!["install", "tidegate", CHART, "--namespace", place.name()];
    install.extend(values.iter().flat_map(|value| ["--set-string", value]));
    kube.helm(&install);
    installed_operators_run_a_group(&stage, &place);
    for kind in ["cg", "deployments", "pods", "persistentvolumeclaims", "poddisruptionbudgets"] {
        assert_eq!(stage.names(kind), "", "{kind} are left");
    }
    kube.helm(&["uninstall", "tidegate", "--namespace", place.name()]);
}

fn installed_operators_run_a_group(stage: &Stage<'_>, place: &Namespace<'_>) {
    for deployment in ["tidegate-controller", "tidegate-monitor"] {
        place.wait_for(&format!("deployment/{deployment}"), "condition=Available");
        let holder = place.get(&format!("lease/{deployment}"), "{.spec.holderIdentity}");
        assert_ne!(holder, "", "somebody holds the lease of {deployment}");
    }
    let name = stage.namespace.name();
    stage.apply(name, &stage.spec());
    stage.until("group of two consumers", || stage.is_well(2));
    stage.namespace.kubectl(&["delete", "cg", name, "--timeout=180s"]);
    assert_eq!(stage.names("cg"), "");
    let logs = place.logs("tidegate-");
    assert!(!logs.contains("the right to"), "{logs}");
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn the_manifests_are_the_chart_s_and_install_the_same() {
    let kafka = RealKafka::start(KafkaVersion::V4, 1);
    let kube = RealKube::start();
    let namespace = kube.namespace("manifests");
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(&kube, &namespace, folder.path(), kafka.bootstrap());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/manifests/tidegate.yaml");
    let manifests = std::fs::read_to_string(file).unwrap();
    let chart =
        kube.helm(&["template", "tidegate", CHART, "--namespace", "tidegate", "--include-crds"]);
    let body = manifests.find("---\n").map(|at| &manifests[at..]);
    assert_eq!(
        body.map(str::trim_end),
        Some(chart.trim_end()),
        "its first lines say how it is made"
    );

    let (name, image) = (namespace.name(), format!("example/{}:1", namespace.name()));
    let mut text = manifests;
    for (old, new) in [
        ("namespace: tidegate\n", format!("namespace: {name}\n")),
        ("- \"tidegate\"\n", format!("- \"{name}\"\n")),
        ("\"tidegate:0.1.0\"", format!("\"{image}\"")),
        // The pods of the tests share this machine's ports.
        ("0.0.0.0:8080", "$(POD_IP):8080".to_owned()),
    ] {
        assert!(text.contains(old), "{old} is not in the manifests");
        text = text.replace(old, &new);
    }
    namespace.apply(&text);
    installed_operators_run_a_group(&stage, &namespace);
    let left = stage.names("deployments");
    assert_eq!(left, "tidegate-controller tidegate-monitor");
}
