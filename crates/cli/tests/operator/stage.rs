//! A resource on its way through a test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_testing::{Namespace, RealKube};

use crate::ends::{Running, log};
use crate::on_kube;
use crate::support::{run, stdout};

/// The chart, as a path.
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/helm/tidegate");

/// A resource, the folder with its sink and the logs of its processes.
pub(crate) struct Stage<'a> {
    pub(crate) kube: &'a RealKube,
    pub(crate) namespace: &'a Namespace<'a>,
    pub(crate) folder: PathBuf,
    pub(crate) bootstrap: String,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(
        kube: &'a RealKube,
        namespace: &'a Namespace<'a>,
        folder: &Path,
        kafka: &str,
    ) -> Self {
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
    pub(crate) fn spec(&self) -> Value {
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

    /// The same with a topic that the API server accepts and the operator does not.
    pub(crate) fn faulty(&self) -> Value {
        let mut spec = self.spec();
        let topics = spec["topics"].as_array_mut().unwrap();
        topics.push(json!({ "name": "other", "sink": "nowhere://lake" }));
        spec
    }

    pub(crate) fn apply(&self, name: &str, spec: &Value) {
        let resource = json!({
            "apiVersion": "tidegate.dev/v1alpha1",
            "kind": "ConsumerGroup",
            "metadata": { "name": name },
            "spec": spec,
        });
        self.namespace.apply(&resource.to_string());
    }

    /// Makes the resource of the group, and the same as a file for the commands that want one; waits until the control topics are there.
    pub(crate) fn begin(&self, spec: &Value) -> PathBuf {
        let path = self.folder.join("group.yaml");
        let mut file = spec.clone();
        file["workers"]["kind"] = json!("kubernetes");
        std::fs::write(&path, file.to_string()).unwrap();
        self.apply(self.namespace.name(), spec);
        self.until("control topics", || {
            run(&["topics", "describe", "--spec", path.to_str().unwrap()]).status.success()
        });
        path
    }

    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Running {
        on_kube::start(self.kube, &self.folder, name, arguments)
    }

    pub(crate) fn operator(&self, name: &str, part: &str) -> Running {
        let namespace = self.namespace.name();
        let places = ["--namespaces", namespace, "--lease-namespace", namespace];
        let serves = [part, "--kubernetes", "--http", "127.0.0.1:0"];
        self.start(name, &[&serves[..], &places[..]].concat())
    }

    /// Looks until it is as wanted, for some minutes: each look costs a second on a busy machine.
    pub(crate) fn until(&self, what: &str, wanted: impl Fn() -> bool) {
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

    pub(crate) fn condition(&self, resource: &str, kind: &str, field: &str) -> String {
        let path = format!("{{.status.conditions[?(@.type=='{kind}')].{field}}}");
        self.namespace.get(&format!("cg/{resource}"), &path)
    }

    /// The resource says that so many consumers are ready, and that all is well.
    pub(crate) fn is_well(&self, consumers: u32) -> bool {
        let name = self.namespace.name();
        let ready = self.namespace.get(&format!("cg/{name}"), "{.status.consumers.ready}");
        ready == consumers.to_string() && self.condition(name, "Ready", "status") == "True"
    }

    pub(crate) fn has_event(&self, reason: &str, said: &str) -> bool {
        let events = self.namespace.events(self.namespace.name());
        events.lines().any(|line| line.starts_with(reason) && line.contains(said))
    }

    pub(crate) fn names(&self, kind: &str) -> String {
        self.namespace.get(kind, "{.items[*].metadata.name}")
    }

    pub(crate) fn holder(&self, part: &str) -> String {
        let arguments = ["get", "leases", "--ignore-not-found", &format!("tidegate-{part}")];
        self.namespace
            .kubectl(&[&arguments[..], &["--output=jsonpath={.spec.holderIdentity}"]].concat())
    }

    /// Where an operator serves its pages, once it has said so.
    pub(crate) fn address(&self, operator: &str) -> Option<String> {
        let log = log(&self.folder, operator);
        let (_, rest) = log.split_once("address=")?;
        rest.split_whitespace().next().map(str::to_owned)
    }

    /// What an operator serves at a path; nothing while it does not.
    pub(crate) fn page(&self, operator: &str, path: &str) -> Option<String> {
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
    pub(crate) fn group_status(&self, operator: &str) -> Value {
        let (address, name) = (self.address(operator), self.namespace.name());
        let url = format!("http://{}/groups/{name}/{name}", address.unwrap_or_default());
        let output = run(&["status", "--url", &url, "--output", "json"]);
        serde_json::from_str(&stdout(&output)).unwrap_or_default()
    }

    pub(crate) fn is_drained(&self, operator: &str) -> bool {
        let told = self.group_status(operator);
        let rows: Vec<&Value> = told["partitions"].as_array().into_iter().flatten().collect();
        rows.len() == 8 && rows.iter().all(|row| row["lagRecords"] == 0 && row["state"] == "active")
    }
}
