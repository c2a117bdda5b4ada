//! Real Kubernetes clusters for tests, by way of the launcher `testing/kube-testbed/kube`.
//!
//! As with Kafka, [`RealKube::start`] shares one cluster within a test run or a test process, and
//! [`RealKube::start_own`] starts one that may be broken. A test has [namespaces](RealKube::namespace) of its own. Nothing
//! is left behind: the launcher wipes a cluster once the process that owns it has ended.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use std::{env, fs, process};

use crate::ports::{PortRange, free_port_range};
use crate::tools::unique_name;

/// Of a cluster that tests share: enough to spread pods over, and to lose one.
const NODES: u8 = 3;

/// The API server's port and the four after it.
const PORTS: u16 = 5;

/// How long kubectl waits. Machines that run tests are busy, and controllers of Kubernetes back off for up to a minute.
const PATIENCE: &str = "--timeout=180s";

/// Between two looks at something that cannot be watched, and how many there are before a test gives up.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS: usize = 900;

/// A running cluster on loopback.
#[derive(Debug)]
pub struct RealKube {
    data: PathBuf,
    /// Present when the cluster is this value's own. Keeps others off its ports and its pods' addresses while it is down.
    own: Option<PortRange>,
}

impl RealKube {
    /// Joins the run's cluster of three nodes, starting it if it is the first to ask.
    ///
    /// # Panics
    ///
    /// When the cluster cannot be started, with what the launcher said.
    pub fn start() -> Self {
        let owner = env::var("TIDEGATE_TEST_OWNER").unwrap_or_else(|_| process::id().to_string());
        let data = data_of(&owner, "shared");
        up(&data, NODES, &free_port_range(PORTS), &owner);
        Self { data, own: None }
    }

    /// Starts a cluster that belongs to this value alone.
    ///
    /// # Panics
    ///
    /// When the cluster cannot be started, with what the launcher said.
    pub fn start_own(nodes: u8) -> Self {
        let ports = free_port_range(PORTS);
        let owner = process::id().to_string();
        let data = data_of(&owner, &format!("own-{}", ports.base()));
        up(&data, nodes, &ports, &owner);
        Self { data, own: Some(ports) }
    }

    /// The file that makes a client the cluster's administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
    }

    /// Makes a namespace whose name begins so, and in which pods can be created.
    ///
    /// # Panics
    ///
    /// When kubectl fails.
    pub fn namespace(&self, prefix: &str) -> Namespace<'_> {
        let name = unique_name(prefix);
        self.kubectl(&["create", "namespace", &name]);
        let namespace = Namespace { kube: self, name };
        namespace.wait_for("serviceaccount/default", "create");
        namespace
    }

    /// Makes a program the entry point of the image `REPOSITORY:TAG`.
    ///
    /// # Panics
    ///
    /// When the registry, a folder, cannot be written.
    pub fn image(&self, name: &str, program: &Path) {
        self.push(name, |file| symlink(program, file));
    }

    /// Makes a shell script the entry point of the image `REPOSITORY:TAG`.
    ///
    /// # Panics
    ///
    /// When the registry, a folder, cannot be written.
    pub fn script_image(&self, name: &str, script: &str) {
        self.push(name, |file| {
            fs::write(file, format!("#!/bin/sh\n{script}\n"))?;
            fs::set_permissions(file, fs::Permissions::from_mode(0o755))
        });
    }

    /// Puts an image into the registry at once, also over one that is there: written aside and renamed.
    fn push(&self, name: &str, write: impl FnOnce(&Path) -> std::io::Result<()>) {
        let registry = self.data.join("nodes/images");
        let (aside, file) = (registry.join(unique_name(".new")), registry.join(name));
        let folder = file.parent().expect("a file in the registry has a folder");
        fs::create_dir_all(folder).expect("the registry can be written");
        write(&aside).expect("the registry can be written");
        fs::rename(&aside, &file).expect("the registry can be written");
    }

    /// Switches a fault of the nodes on, until the value is dropped: a rule `KIND TARGET VALUE` as in
    /// `testing/process-kubelet/README.md`.
    ///
    /// # Panics
    ///
    /// When the folder of rules cannot be written.
    pub fn fault(&self, rule: &str) -> Fault {
        let (folder, name) = (self.data.join("nodes/faults"), unique_name("fault"));
        let (aside, file) = (folder.join(format!(".{name}")), folder.join(name));
        fs::write(&aside, rule).expect("the folder of faults can be written");
        fs::rename(&aside, &file).expect("the folder of faults can be written");
        Fault { file }
    }

    /// Runs kubectl as the administrator and returns what it prints.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        text(&self.try_kubectl(arguments, ""), &format!("kubectl {}", arguments.join(" ")))
    }

    /// Runs kubectl with a text on its standard input; it may fail.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Output {
        launcher(&self.data, &[&["kubectl"][..], arguments].concat(), input)
    }

    /// Runs Helm as the administrator and returns what it prints.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn helm(&self, arguments: &[&str]) -> String {
        text(&self.try_helm(arguments), &format!("helm {}", arguments.join(" ")))
    }

    /// The same, and it may fail.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn try_helm(&self, arguments: &[&str]) -> Output {
        launcher(&self.data, &[&["helm"][..], arguments].concat(), "")
    }

    /// Crashes components (SIGKILL): `etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, or
    /// `process-kubelet`, which is all nodes.
    ///
    /// # Panics
    ///
    /// When the cluster is shared.
    pub fn kill(&self, components: &[&str]) {
        self.change(&[&["kill"][..], components].concat());
    }

    /// Starts the components that are down and waits until pods can run.
    ///
    /// # Panics
    ///
    /// When the cluster is shared, or does not come up.
    pub fn restart(&self) {
        self.change(&["up"]);
    }

    fn change(&self, arguments: &[&str]) {
        assert!(self.own.is_some(), "this cluster is shared with other tests: use start_own");
        launch(&self.data, arguments);
    }
}

impl Drop for RealKube {
    /// Crashes an own cluster and deletes its data. What fails here the watcher does later.
    fn drop(&mut self) {
        if self.own.is_some() {
            drop(launcher(&self.data, &["wipe"], ""));
        }
    }
}

/// A fault that is healed when this is dropped.
#[derive(Debug)]
#[must_use = "a fault that is not kept is healed at once"]
pub struct Fault {
    file: PathBuf,
}

impl Drop for Fault {
    fn drop(&mut self) {
        // Gone already when the cluster was wiped first.
        drop(fs::remove_file(&self.file));
    }
}

/// A namespace of one test. It is deleted, and its pods with it, when dropped.
#[derive(Debug)]
pub struct Namespace<'a> {
    kube: &'a RealKube,
    name: String,
}

impl Namespace<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs kubectl in it and returns what it prints.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.kube.kubectl(&[&["--namespace", self.name.as_str()][..], arguments].concat())
    }

    /// Applies a manifest.
    ///
    /// # Panics
    ///
    /// When the API server refuses it.
    pub fn apply(&self, manifest: &str) {
        let arguments = ["--namespace", &self.name, "apply", "--filename=-"];
        text(&self.kube.try_kubectl(&arguments, manifest), &format!("kubectl apply of{manifest}"));
    }

    /// What a JSON path says of an object, `pod/app`, or of a list of objects, `pods`.
    ///
    /// # Panics
    ///
    /// When kubectl fails.
    pub fn get(&self, what: &str, path: &str) -> String {
        self.kubectl(&["get", what, &format!("--output=jsonpath={path}")])
    }

    /// Waits until a JSON path says this of an object, which has to exist.
    ///
    /// # Panics
    ///
    /// When it does not for minutes.
    pub fn wait(&self, object: &str, path: &str, value: &str) {
        self.wait_for(object, &format!("jsonpath={path}={value}"));
    }

    /// Waits for what `kubectl wait --for` can wait for: `delete`, `create`, `condition=...`, `jsonpath=...`.
    ///
    /// # Panics
    ///
    /// When it does not happen for minutes.
    pub fn wait_for(&self, object: &str, what: &str) {
        self.kubectl(&["wait", object, &format!("--for={what}"), PATIENCE]);
    }

    /// Waits until a JSON path gives a number that is not below this one.
    ///
    /// # Panics
    ///
    /// When it does not for minutes.
    pub fn wait_at_least(&self, object: &str, path: &str, least: u32) {
        look(
            &format!("{path} of at least {least} in {object}"),
            || self.get(object, path),
            |found| found.parse::<u32>().is_ok_and(|number| number >= least),
        );
    }

    /// The events about an object, a line `REASON MESSAGE` each.
    ///
    /// # Panics
    ///
    /// When kubectl fails.
    pub fn events(&self, object: &str) -> String {
        let about = format!("--field-selector=involvedObject.name={object}");
        let lines = r#"{range .items[*]}{.reason}{" "}{.message}{"\n"}{end}"#;
        self.kubectl(&["get", "events", &about, &format!("--output=jsonpath={lines}")])
    }

    /// Waits for an event about an object.
    ///
    /// # Panics
    ///
    /// When there is none for minutes.
    pub fn wait_for_event(&self, object: &str, reason: &str) {
        look(
            &format!("event {reason} of {object}"),
            || self.events(object),
            |events| events.lines().any(|line| line.split(' ').next() == Some(reason)),
        );
    }

    /// All that the containers of the pods have written whose names begin so, also of those that are gone.
    ///
    /// # Panics
    ///
    /// When the nodes' folder of logs cannot be read.
    pub fn logs(&self, pod: &str) -> String {
        let begin = format!("{}_{pod}", self.name);
        let pods = entries(&self.kube.data.join("nodes/logs")).into_iter();
        let pods = pods.filter(|folder| {
            folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begin))
        });
        let files = pods.flat_map(|pod| entries(&pod)).flat_map(|container| entries(&container));
        files.map(|file| String::from_utf8_lossy(&read(&file)).into_owned()).collect()
    }

    /// Waits until a container of the pods whose names begin so has written this.
    ///
    /// # Panics
    ///
    /// When it does not for minutes.
    pub fn wait_for_log(&self, pod: &str, wanted: &str) {
        look(
            &format!("{wanted:?} in the logs of {pod}"),
            || self.logs(pod),
            |logs| logs.contains(wanted),
        );
    }
}

impl Drop for Namespace<'_> {
    /// Not waited for: the names of tests do not collide.
    fn drop(&mut self) {
        drop(self.kube.try_kubectl(&["delete", "namespace", &self.name, "--wait=false"], ""));
    }
}

// === helpers ===

/// Looks until it is well; the test fails with what was seen last.
fn look(what: &str, see: impl Fn() -> String, is_well: impl Fn(&str) -> bool) {
    for _ in 0..LOOKS {
        if is_well(&see()) {
            return;
        }
        std::thread::park_timeout(LOOK);
    }
    panic!("no {what} after minutes, but:\n{}", see());
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the nodes' logs can be read");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn read(file: &Path) -> Vec<u8> {
    fs::read(file).expect("the nodes' logs can be read")
}

fn repository() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("this crate lies two levels below the repository's root")
}

/// Where a cluster of a test run or a test process keeps its data.
fn data_of(owner: &str, name: &str) -> PathBuf {
    repository().join(format!("target/kube-testbed/test-{owner}-{name}"))
}

fn up(data: &Path, nodes: u8, ports: &PortRange, owner: &str) {
    let (nodes, port) = (nodes.to_string(), ports.base().to_string());
    // Ranges of ports begin at multiples of a hundred, from 20,000 on: each has a network of its own, 127.100 and up.
    let network = format!("127.{}", ports.base() / 100 - 100);
    let options = ["--nodes", &nodes, "--port", &port, "--network", &network, "--owner", owner];
    launch(data, &[&["up"][..], &options].concat());
}

/// Runs the launcher and returns its standard output.
fn launch(data: &Path, arguments: &[&str]) -> String {
    text(&launcher(data, arguments, ""), &format!("the Kubernetes in {}", data.display()))
}

/// What a program has printed; the test fails if it failed.
fn text(output: &Output, what: &str) -> String {
    assert!(
        output.status.success(),
        "{what} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn launcher(data: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(repository().join("testing/kube-testbed/kube"));
    command.args(arguments).env("KUBE_DATA", data);
    if env::var_os("PROCESS_KUBELET").is_none() {
        command.env("PROCESS_KUBELET", kubelet());
    }
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the launcher is part of the repository and needs bash");
    let mut stdin = child.stdin.take().expect("the standard input is a pipe");
    // What ends without having read it says why.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("the launcher's output can be read")
}

/// The program of the nodes, from the build that made this test: that one lies in `deps` beside it.
fn kubelet() -> PathBuf {
    let test = env::current_exe().expect("a running program has a path");
    let build = test.ancestors().nth(2).expect("tests are built two levels below the target");
    build.join("process-kubelet")
}
