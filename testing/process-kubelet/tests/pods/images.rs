//! Images: tags, pulls, and pulls that fail.

use super::{SERVE, deployment, image, kube, pod};

const WAITING: &str = "{.status.containerStatuses[0].state.waiting.reason}";

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_rollout_to_another_tag_runs_another_program() {
    let namespace = kube().namespace("rollout");
    let first = image(&namespace, "1", &format!("echo the first; {SERVE}"));
    let second = image(&namespace, "2", &format!("echo the second; {SERVE}"));
    namespace.apply(&deployment("app", &first, 2));
    namespace.kubectl(&["rollout", "status", "deployment/app", "--timeout=120s"]);
    namespace.wait_for_log("app-", "the first");
    namespace.kubectl(&["set", "image", "deployment/app", &format!("main={second}")]);
    namespace.kubectl(&["rollout", "status", "deployment/app", "--timeout=120s"]);
    let new = namespace.get(
        "pods",
        &format!("{{.items[?(@.spec.containers[0].image==\"{second}\")].metadata.name}}"),
    );
    let new: Vec<&str> = new.split(' ').collect();
    assert_eq!(new.len(), 2, "{new:?}");
    for pod in new {
        namespace.wait_for_log(pod, "the second");
        assert!(!namespace.logs(pod).contains("the first"));
    }
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_pull_that_fails_is_image_pull_back_off_until_it_succeeds() {
    let namespace = kube().namespace("pull");
    let image = image(&namespace, "1", SERVE);
    let fault = kube().fault(&format!("pull {image} fail"));
    namespace.apply(&pod("app", &image));
    namespace.wait("pod/app", WAITING, "ImagePullBackOff");
    assert!(namespace.events("app").contains("the registry is away"));
    drop(fault);
    namespace.wait_for("pod/app", "condition=Ready");
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn an_image_that_nobody_made_is_not_found() {
    let namespace = kube().namespace("unknown");
    namespace.apply(&pod("app", "example/unknown:1"));
    namespace.wait("pod/app", WAITING, "ImagePullBackOff");
    assert!(namespace.events("app").contains("example/unknown:1: not found"));
}
