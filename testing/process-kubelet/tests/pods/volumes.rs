//! Claims: exclusive ones, and those that cannot be provisioned or mounted.

use super::{SERVE, image, kube};

fn claim(name: &str, mode: &str) -> String {
    format!(
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec: {{accessModes: [{mode}], resources: {{requests: {{storage: 1Gi}}}}}}
"
    )
}

/// A pod that mounts the claim `data`. The mount point exists on every host.
fn pod(name: &str, image: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - {{name: main, image: {image}, volumeMounts: [{{name: data, mountPath: /mnt}}]}}
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
"
    )
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_volume_that_cannot_be_mounted_leaves_the_pod_creating_with_an_event() {
    let namespace = kube().namespace("mount");
    let image = image(&namespace, "1", SERVE);
    let fault = kube().fault(&format!("mount {}/data fail", namespace.name()));
    namespace.apply(&claim("data", "ReadWriteOnce"));
    namespace.wait("persistentvolumeclaim/data", "{.status.phase}", "Bound");
    namespace.apply(&pod("app", &image));
    namespace.wait_for_event("app", "FailedMount");
    let state = "{.status.phase} {.status.containerStatuses[0].state.waiting.reason}";
    assert_eq!(namespace.get("pod/app", state), "Pending ContainerCreating");
    drop(fault);
    namespace.wait_for("pod/app", "condition=Ready");
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_claim_that_gets_no_volume_stays_pending_with_an_event() {
    let namespace = kube().namespace("provision");
    let fault = kube().fault(&format!("provision {}/* fail", namespace.name()));
    namespace.apply(&claim("data", "ReadWriteOnce"));
    namespace.wait_for_event("data", "ProvisioningFailed");
    assert_eq!(namespace.get("persistentvolumeclaim/data", "{.status.phase}"), "Pending");
    drop(fault);
    namespace.wait("persistentvolumeclaim/data", "{.status.phase}", "Bound");
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_read_write_once_pod_claim_holds_one_pod_and_keeps_its_data_for_the_next() {
    let namespace = kube().namespace("exclusive");
    let image =
        image(&namespace, "1", &format!("cat /mnt/name; echo $HOSTNAME >/mnt/name; {SERVE}"));
    namespace.apply(&claim("data", "ReadWriteOncePod"));
    namespace.apply(&pod("first", &image));
    namespace.wait_for_log("first", "serving");
    namespace.apply(&pod("second", &image));
    let scheduled = "{.status.conditions[?(@.type==\"PodScheduled\")].reason}";
    namespace.wait("pod/second", scheduled, "Unschedulable");
    namespace.kubectl(&["delete", "pod", "first"]);
    namespace.wait_for("pod/second", "condition=Ready");
    namespace.wait_for_log("second", "first");
}
