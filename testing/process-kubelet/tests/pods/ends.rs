//! How pods end: asked to, killed, crashing, evicted.

use super::{SERVE, deployment, image, kube, pod};

const EXIT_CODE: &str = "{.status.containerStatuses[0].state.terminated.exitCode}";
/// Keeps the object of a pod that has ended, so that its status can be read.
const KEEP: &str = r#"{"metadata": {"finalizers": ["example.org/keep"]}}"#;
const RELEASE: &str = r#"{"metadata": {"finalizers": null}}"#;

/// Deletes a pod that serves, and returns its exit code.
fn exit_code_of_deleted(script: &str) -> String {
    let namespace = kube().namespace("end");
    let image = image(&namespace, "1", script);
    namespace.apply(&pod("app", &image));
    namespace.wait_for_log("app", "serving");
    namespace.kubectl(&["patch", "pod", "app", "--patch", KEEP]);
    namespace.kubectl(&["delete", "pod", "app", "--wait=false"]);
    namespace.wait_for("pod/app", &format!("jsonpath={EXIT_CODE}"));
    let code = namespace.get("pod/app", EXIT_CODE);
    namespace.kubectl(&["patch", "pod", "app", "--patch", RELEASE]);
    namespace.wait_for("pod/app", "delete");
    code
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_pod_that_is_deleted_gets_sigterm_and_its_exit_code_is_in_its_status() {
    assert_eq!(exit_code_of_deleted(&SERVE.replace("exit 0", "sleep 1; exit 7")), "7");
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_pod_that_ignores_sigterm_is_killed_at_the_end_of_its_grace_period() {
    assert_eq!(exit_code_of_deleted(&SERVE.replace("exit 0", ":")), "137");
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_container_that_keeps_crashing_is_in_crash_loop_back_off() {
    let namespace = kube().namespace("crash");
    let image = image(&namespace, "1", "echo a run; exit 3");
    namespace.apply(&pod("app", &image));
    let container = |path: &str| format!("{{.status.containerStatuses[0].{path}}}");
    // The count goes on while the test looks.
    namespace.wait_at_least("pod/app", &container("restartCount"), 2);
    namespace.wait("pod/app", &container("state.waiting.reason"), "CrashLoopBackOff");
    assert_eq!(namespace.get("pod/app", &container("lastState.terminated.exitCode")), "3");
    assert!(namespace.logs("app").matches("a run").count() >= 2);
    namespace.wait_for_event("app", "BackOff");
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn an_eviction_respects_the_disruption_budget() {
    let namespace = kube().namespace("budget");
    let image = image(&namespace, "1", SERVE);
    namespace.apply(&deployment("app", &image, 2));
    namespace.apply(
        "
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: app}
spec: {minAvailable: 2, selector: {matchLabels: {app: app}}}
",
    );
    namespace.wait("poddisruptionbudget/app", "{.status.currentHealthy}", "2");
    let pod = namespace.get("pods", "{.items[0].metadata.name}");
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", namespace.name());
    let eviction = format!(
        r#"{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {{"name": "{pod}"}}}}"#
    );
    let evict = || kube().try_kubectl(&["create", "--raw", &path, "--filename=-"], &eviction);
    let refused = String::from_utf8_lossy(&evict().stderr).into_owned();
    assert!(refused.contains("disruption budget"), "{refused}");
    let fewer = r#"{"spec": {"minAvailable": 1}}"#;
    namespace.kubectl(&["patch", "poddisruptionbudget", "app", "--type=merge", "--patch", fewer]);
    namespace.wait("poddisruptionbudget/app", "{.status.disruptionsAllowed}", "1");
    assert!(evict().status.success());
    namespace.wait_for(&format!("pod/{pod}"), "delete");
}
