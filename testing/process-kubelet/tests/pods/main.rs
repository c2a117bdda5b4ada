//! Pods on a cluster that all these tests share: images, starts, volumes and ends, well and with faults.

mod ends;
mod images;
mod starts;
mod volumes;

use std::sync::LazyLock;

use tidegate_testing::{Namespace, RealKube};

/// Waits until it is told to end.
const SERVE: &str = "trap 'exit 0' TERM; echo serving; while :; do sleep 1000 & wait; done";

fn kube() -> &'static RealKube {
    static KUBE: LazyLock<RealKube> = LazyLock::new(RealKube::start);
    &KUBE
}

/// An image of a script under a name that no other test has.
fn image(namespace: &Namespace<'_>, tag: &str, script: &str) -> String {
    let name = format!("example/{}:{tag}", namespace.name());
    kube().script_image(&name, script);
    name
}

/// A pod of one container, with a restart policy.
fn pod_with(name: &str, image: &str, policy: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 5
  restartPolicy: {policy}
  containers: [{{name: main, image: {image}}}]
"
    )
}

fn pod(name: &str, image: &str) -> String {
    pod_with(name, image, "Always")
}

/// A deployment of one container.
fn deployment(name: &str, image: &str, replicas: u8) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers: [{{name: main, image: {image}}}]
"
    )
}
