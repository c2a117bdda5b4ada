//! Operators that were installed from the chart, and from the manifests that are made from it.

use tidegate_testing::{KafkaVersion, Namespace, RealKafka, RealKube};

use crate::stage::{CHART, Stage};

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn the_chart_installs_operators_that_run_a_group() {
    let kafka = RealKafka::start(KafkaVersion::V4, 1);
    let kube = RealKube::start();
    let (place, namespace) = (kube.namespace("operator-chart"), kube.namespace("operator-group"));
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(&kube, &namespace, folder.path(), kafka.bootstrap());
    install_chart(&stage, &place);
    installed_operators_run_a_group(&stage, &place);
    for kind in ["cg", "deployments", "pods", "persistentvolumeclaims", "poddisruptionbudgets"] {
        assert_eq!(stage.names(kind), "", "{kind} are left");
    }
    kube.helm(&["uninstall", "tidegate", "--namespace", place.name()]);
}

/// Installs the chart into a namespace, for the one of the stage.
pub(crate) fn install_chart(stage: &Stage<'_>, place: &Namespace<'_>) {
    let watched = format!("watchNamespaces={{{}}}", stage.namespace.name());
    let image = format!("image.repository=example/{}", stage.namespace.name());
    // The pods of the tests share this machine's ports.
    let values = [image.as_str(), "image.tag=1", watched.as_str(), "http.address=$(POD_IP)"];
    let mut install = vec!["install", "tidegate", CHART, "--namespace", place.name()];
    install.extend(values.iter().flat_map(|value| ["--set-string", value]));
    stage.kube.helm(&install);
    for deployment in ["tidegate-controller", "tidegate-monitor"] {
        place.wait_for(&format!("deployment/{deployment}"), "condition=Available");
    }
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
