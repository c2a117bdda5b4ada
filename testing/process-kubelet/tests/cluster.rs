//! Nodes and the control plane under faults, each on a cluster of its own; and Helm.

use std::path::Path;

use tidegate_testing::{Namespace, RealKube};

const SERVE: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

fn deployment(replicas: u8) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: main, image: 'example/app:1'}}]
"
    )
}

/// Processes that name a folder in their arguments.
fn processes_of(folder: &Path) -> usize {
    let folder = folder.to_str().expect("paths of tests are text");
    let processes = std::fs::read_dir("/proc").expect("Linux has it").flatten();
    let arguments = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    arguments.filter(|it| String::from_utf8_lossy(it).contains(folder)).count()
}

fn deployed(kube: &RealKube, replicas: u8) -> Namespace<'_> {
    let namespace = kube.namespace("app");
    kube.script_image("example/app:1", SERVE);
    namespace.apply(&deployment(replicas));
    namespace.wait("deployment/app", "{.status.readyReplicas}", &replicas.to_string());
    namespace
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn pods_of_a_node_that_fails_are_rescheduled_and_the_node_comes_back() {
    let kube = RealKube::start_own(2);
    let namespace = deployed(&kube, 2);
    let lost = namespace.get("pods", "{.items[0].metadata.name}");
    let node = namespace.get("pods", "{.items[0].spec.nodeName}");
    let crash = kube.fault(&format!("node {node} crash"));
    let ready = "{.status.conditions[?(@.type==\"Ready\")].status}";
    namespace.wait(&format!("node/{node}"), ready, "Unknown");
    namespace.wait_for(&format!("pod/{lost}"), "jsonpath={.metadata.deletionTimestamp}");
    namespace.wait("deployment/app", "{.status.readyReplicas}", "2");
    let others = format!("{{.items[?(@.spec.nodeName!=\"{node}\")].metadata.name}}");
    assert_eq!(namespace.get("pods", &others).split(' ').count(), 2);
    drop(crash);
    namespace.wait(&format!("node/{node}"), ready, "True");
    namespace.wait_for(&format!("pod/{lost}"), "delete");
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn an_own_cluster_is_gone_when_dropped_and_tests_share_the_other() {
    let kube = RealKube::start_own(1);
    let (shared, same) = (RealKube::start(), RealKube::start());
    assert_eq!(shared.kubeconfig(), same.kubeconfig());
    assert_ne!(shared.kubeconfig(), kube.kubeconfig());
    let kubeconfig = kube.kubeconfig();
    let data = kubeconfig.parent().expect("it is in the folder of its data").to_owned();
    assert!(processes_of(&data) > 0, "its parts are started with the folder of its data");
    drop(kube);
    assert_eq!(
        processes_of(&data),
        0,
        "its ports may be another test's already, its processes cannot"
    );
    assert!(!kubeconfig.exists());
    assert_eq!(shared.kubectl(&["get", "--raw=/readyz"]), "ok");
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn pods_outlive_a_crash_of_the_whole_control_plane() {
    let kube = RealKube::start_own(1);
    let namespace = deployed(&kube, 1);
    let state = "{.items[*].metadata.uid} {.items[*].status.containerStatuses[0].containerID}";
    let before = namespace.get("pods", state);
    kube.kill(&["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]);
    kube.restart();
    assert_eq!(namespace.get("pods", state), before);
    namespace.kubectl(&["scale", "deployment/app", "--replicas=2"]);
    namespace.wait("deployment/app", "{.status.readyReplicas}", "2");
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn helm_runs_against_the_cluster() {
    let kube = RealKube::start();
    assert!(kube.helm(&["version", "--short"]).starts_with("v4."));
    assert_eq!(kube.helm(&["list", "--all-namespaces", "--short"]), "");
}
