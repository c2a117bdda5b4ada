//! Operators that are installed from the chart, and from the manifests that are made from it.

use tidegate_testing::{Namespace, RealKube};

use crate::stage::{CHART, Stage};

/// What the chart makes without values of its own.
const MANIFESTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/manifests/tidegate.yaml");

/// What operators were installed from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Installed {
    Chart,
    Manifests,
}

// === impl Installed ===

impl Installed {
    /// Installs operators into a namespace, for groups in that of the stage.
    pub(crate) fn install(self, stage: &Stage<'_>, place: &Namespace<'_>) {
        match self {
            Self::Chart => install_chart(stage, place),
            Self::Manifests => place.apply(&manifests_of(stage, place)),
        }
        for deployment in ["tidegate-controller", "tidegate-monitor"] {
            place.wait_for(&format!("deployment/{deployment}"), "condition=Available");
            let holder = place.get(&format!("lease/{deployment}"), "{.spec.holderIdentity}");
            assert_ne!(holder, "", "somebody holds the lease of {deployment}");
        }
    }

    /// Takes them away again.
    pub(crate) fn remove(self, stage: &Stage<'_>, place: &Namespace<'_>) {
        match self {
            Self::Chart => {
                stage.kube.helm(&["uninstall", "tidegate", "--namespace", place.name(), "--wait"]);
            }
            Self::Manifests => {
                let arguments = ["delete", "--filename=-", "--wait", "--timeout=300s"];
                let gone = stage.kube.try_kubectl(&arguments, &manifests_of(stage, place));
                assert!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
            }
        }
    }
}

fn install_chart(stage: &Stage<'_>, place: &Namespace<'_>) {
    let watched = format!("watchNamespaces={{{}}}", stage.namespace.name());
    let image = format!("image.repository=example/{}", stage.namespace.name());
    // The pods of the tests share this machine's ports.
    let values = [image.as_str(), "image.tag=1", watched.as_str(), "http.address=$(POD_IP)"];
    let mut install = vec!["install", "tidegate", CHART, "--namespace", place.name()];
    install.extend(values.iter().flat_map(|value| ["--set-string", value]));
    stage.kube.helm(&install);
}

fn manifests_of(stage: &Stage<'_>, place: &Namespace<'_>) -> String {
    let mut text = std::fs::read_to_string(MANIFESTS).unwrap();
    let image = format!("example/{}:1", stage.namespace.name());
    for (old, new) in [
        ("namespace: tidegate\n", format!("namespace: {}\n", place.name())),
        ("- \"tidegate\"\n", format!("- \"{}\"\n", place.name())),
        ("\"tidegate:0.1.0\"", format!("\"{image}\"")),
        // The pods of the tests share this machine's ports.
        ("0.0.0.0:8080", "$(POD_IP):8080".to_owned()),
    ] {
        assert!(text.contains(old), "{old} is not in the manifests");
        text = text.replace(old, &new);
    }
    text
}

#[test]
#[ignore = "needs Helm: cargo xtask kube test"]
fn the_manifests_are_the_chart_s() {
    let manifests = std::fs::read_to_string(MANIFESTS).unwrap();
    let made = ["template", "tidegate", CHART, "--namespace", "tidegate", "--include-crds"];
    let chart = RealKube::start().helm(&made);
    let body = manifests.find("---\n").map(|at| &manifests[at..]);
    let body = body.map(str::trim_end);
    assert_eq!(body, Some(chart.trim_end()), "its first lines say how it is made");
}

#[test]
#[ignore = "needs Helm: cargo xtask kube test"]
fn the_chart_makes_what_values_ask_for_and_refuses_those_that_it_does_not_know() {
    let kube = RealKube::start();
    kube.helm(&["lint", "--strict", CHART]);
    let made = |values: &[&str]| {
        let sets = values.iter().flat_map(|value| ["--set-json", value]);
        let arguments: Vec<&str> =
            ["template", "tidegate", CHART].into_iter().chain(sets).collect();
        kube.try_helm(&arguments)
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    let image =
        format!(r#"image={{"repository":"registry.example/tidegate","digest":"{digest}"}}"#);
    for (values, has, lacks) in [
        (vec![], "kind: NetworkPolicy", "kind: ServiceMonitor"),
        (vec!["metrics.serviceMonitor.enabled=true"], "kind: ServiceMonitor", "sha256"),
        (vec!["networkPolicy.enabled=false"], "kind: Lease", "kind: NetworkPolicy"),
        (vec!["rbac.create=false"], "kind: ServiceAccount", "kind: Role"),
        (vec![image.as_str()], &format!("registry.example/tidegate@{digest}"), "tidegate:0.1.0"),
        (
            vec![r#"secrets={"orders":"kafka-of-orders"}"#],
            "mountPath: /etc/tidegate/secrets/orders",
            "emptyDir",
        ),
        (vec![r#"watchNamespaces=["a","b"]"#], "\"a,b\"", "namespace: tidegate"),
    ] {
        let output = made(&values);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{values:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(has) && !text.contains(lacks), "{values:?}:\n{text}");
    }
    for (value, path) in [
        ("controller.replica=2", "controller"),
        (r#"controller.replicas="two""#, "/controller/replicas"),
        (r#"image.digest="latest""#, "/image/digest"),
        (r#"log.format="xml""#, "/log/format"),
        (r#"watchNamespaces="orders""#, "/watchNamespaces"),
        ("networkPolicies={}", "networkPolicies"),
    ] {
        let output = made(&[value]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(path), "{value}: {said}");
    }
}
